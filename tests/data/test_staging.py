"""Rows of the host on a GPU, piece by piece: in the simulator, and with what stands for CuPy."""

import contextlib
import sys
import types

import numpy as np
import pytest

import kernels.sum_squares
from kernels.sum_squares import BLOCK
from rankwise.data import staging
from rankwise.node import device, variants
from rankwise.node.rank import Rank
from rankwise.ranks.clock import PHASES
from tests.data.pretended import running_clock

SIZES = [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 1, 7 * BLOCK + 5]


def reference(x):
    out = np.full(-(-x.size // BLOCK), np.nan)
    variants.load(kernels.sum_squares, "numpy").block_sums(x, out)
    return out


@pytest.mark.mpi
@pytest.mark.cudasim
@pytest.mark.parametrize("pieces", [1, 2, 100])
@pytest.mark.parametrize("n", SIZES)
def test_pieces_have_the_bits_of_the_whole(comm, monkeypatch, n, pieces):
    monkeypatch.setattr(staging, "PIECE_BYTES", pieces * BLOCK * 4)
    place = device.choose(comm, "cuda")
    x = np.random.default_rng(n).normal(size=n).astype("f4")
    out, clock = place.empty(-(-n // BLOCK)), running_clock()
    for _ in range(2):
        staging.run(
            Rank(comm, clock, place),
            variants.load(kernels.sum_squares, "cuda").block_sums,
            x,
            out,
            BLOCK,
        )
        assert place.to_host(out).tobytes() == reference(x).tobytes()
    ran = {PHASES[column] for column in np.flatnonzero(~np.isnan(clock.seconds[0]))}
    assert ran - {"import", "init"} == {"kernel", "to_device"}


@pytest.mark.mpi
@pytest.mark.sizes
def test_rows_of_the_host_need_no_copy(comm):
    place, clock, x = device.choose(comm, "numpy"), running_clock(), np.ones(3 * BLOCK)
    out = np.empty(3)
    staging.run(
        Rank(comm, clock, place),
        lambda *arrays: np.copyto(arrays[1], arrays[0] is x),
        x,
        out,
        BLOCK,
    )
    assert out.tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(clock.seconds[0, PHASES.index("to_device")])


class Stream:
    """What CuPy's stream does, in its order: a copy happens when the stream is waited for."""

    current = None

    def __init__(self, non_blocking):
        assert non_blocking
        self.todo = []

    def synchronize(self):
        while self.todo:
            self.todo.pop(0)()

    def __enter__(self):
        Stream.current = self

    def __exit__(self, *_):
        Stream.current = None


class Array(np.ndarray):
    def set(self, host, stream):
        stream.todo.append(lambda: np.copyto(self, host))


class Event:
    def record(self):
        assert Stream.current is not None


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("pieces", [1, 2, 100])
@pytest.mark.parametrize("n", SIZES)
def test_cupy_is_asked_for_all_that_is_needed(comm, monkeypatch, n, pieces):
    # Not how fast: whether a buffer is filled anew before its copy has left, or summed before it
    # has arrived.
    cuda = types.SimpleNamespace(
        Stream=Stream, Event=Event, get_elapsed_time=lambda *_: 1.0, Device=lambda _: contextlib
    )
    fake = types.SimpleNamespace(cuda=cuda, empty=lambda *a: np.empty(*a).view(Array))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    pinned = types.SimpleNamespace(empty_pinned=np.empty)
    monkeypatch.setitem(sys.modules, "cupyx", pinned)
    monkeypatch.setattr(staging, "PIECE_BYTES", pieces * BLOCK * 8)
    staging._slots.cache_clear()
    # In all a second, of which the kernel has a millisecond a piece.
    times = iter([10.0, 11.0])
    monkeypatch.setattr(staging, "time", types.SimpleNamespace(perf_counter=lambda: next(times)))
    place = device._CuPy("cupy", "A GPU", 1, (0,), comm, 1)
    x, clock = np.random.default_rng(n).normal(size=n), running_clock()
    out, before = np.full(-(-n // BLOCK), np.nan), clock.moves

    def call(rows, values):
        stream = Stream.current
        block_sums = variants.load(kernels.sum_squares, "numpy").block_sums
        stream.todo.append(lambda: block_sums(np.asarray(rows), values))

    staging.run(Rank(comm, clock, place), call, x, out, BLOCK)
    assert out.tobytes() == reference(x).tobytes()
    parts = -(-n // (pieces * BLOCK))
    assert clock.seconds[0, PHASES.index("kernel")] == pytest.approx(parts * 1e-3, abs=1e-8)
    assert clock.moves - before == parts
    rest = clock.seconds[0, PHASES.index("to_device")]
    assert rest == pytest.approx(1 - parts * 1e-3, abs=1e-8)
    staging._slots.cache_clear()
