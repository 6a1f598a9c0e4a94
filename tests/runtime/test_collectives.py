from itertools import pairwise

import numpy as np
import pytest

from runtime import partition
from runtime.clock import Clock
from runtime.collectives import gather, scatter
from runtime.program import Stop
from tests.runtime.pretended import DeviceArray

pytestmark = pytest.mark.mpi

SHAPES = [(0,), (1,), (1000,), (7, 5), (64, 3, 2)]
# Of a message: one row at a time, several messages, all at once.
LIMITS = [1, 100, 2**26]


def array(shape, dtype):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_scatter_then_gather_is_the_identity(comm, shape, dtype, limit):
    whole = array(shape, dtype)
    counts = partition.counts(shape[0], comm.size)
    mine = np.empty((counts[comm.rank], *shape[1:]), dtype)
    scatter(comm, whole if comm.rank == 0 else None, counts, mine, Clock(1), limit)
    first = partition.displs(counts)[comm.rank]
    np.testing.assert_array_equal(mine, whole[first : first + len(mine)])

    back = np.empty(shape, dtype) if comm.rank == 0 else None
    gather(comm, mine, counts, back, Clock(1), limit)
    if comm.rank == 0:
        np.testing.assert_array_equal(back, whole)


@pytest.mark.parametrize("limit", LIMITS)
def test_source_is_asked_for_pieces_in_order_and_within_the_limit(comm, limit):
    counts = partition.counts(500, comm.size, block=16)
    mine = np.empty(counts[comm.rank])
    asked = []

    def source(start, rows):
        asked.append((start, len(rows)))
        rows[:] = np.arange(start, start + len(rows))

    scatter(comm, source, counts, mine, Clock(1), limit)
    first = partition.displs(counts)[comm.rank]
    np.testing.assert_array_equal(mine, np.arange(first, first + len(mine)))
    if comm.rank == 0:
        assert [start for start, _ in asked] == partition.displs([rows for _, rows in asked])
        assert sum(rows for _, rows in asked) == 500
        assert max(rows for _, rows in asked) <= max(1, limit // 8)


@pytest.mark.parametrize("limit", LIMITS)
def test_device_arrays_go_to_mpi_by_their_address(comm, limit):
    counts = partition.counts(200, comm.size)
    mine = DeviceArray(np.zeros((counts[comm.rank], 3)))
    whole = array((200, 3), "float64")

    def source(start, rows):
        rows[:] = whole[start : start + len(rows)]

    scatter(comm, source, counts, mine, Clock(1), limit)
    first = partition.displs(counts)[comm.rank]
    np.testing.assert_array_equal(mine.array, whole[first : first + len(mine)])
    back = np.empty((200, 3)) if comm.rank == 0 else None
    gather(comm, mine, counts, back, Clock(1), limit)
    if comm.rank == 0:
        np.testing.assert_array_equal(back, whole)


@pytest.mark.parametrize("fails_at", [0, 60, 99])
def test_a_source_that_fails_stops_every_rank(comm, fails_at):
    def source(start, rows):
        if start + len(rows) > fails_at:
            raise Stop("the file ends here")
        rows[:] = start

    counts = partition.counts(100, comm.size)
    with pytest.raises(Stop, match="ends here"):
        scatter(comm, source, counts, np.empty(counts[comm.rank]), Clock(1), 64)
    # No message is left over to disturb what follows.
    comm.Barrier()
    assert not comm.Iprobe()
    comm.Barrier()


@pytest.mark.parametrize("limit", [2**31 - 8, 2**31 + 8, 2**35])
def test_counts_beyond_2_to_the_31_are_divided_exactly(limit):
    from runtime.collectives import _pieces

    huge = np.lib.stride_tricks.as_strided(np.zeros(1), (2**33 + 5,), (0,))
    pieces = list(_pieces(len(huge), huge, limit))
    assert pieces[0][0] == 0
    assert pieces[-1][1] == 2**33 + 5
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
    assert max(stop - start for start, stop in pieces) <= limit // 8


def test_phases_are_told_apart(comm):
    clock = Clock(1)
    counts = partition.counts(100, comm.size)
    scatter(comm, array((100,), "float64"), counts, np.empty(counts[comm.rank]), clock)
    gather(comm, np.empty(counts[comm.rank]), counts, np.empty(100), clock)
    timings = clock.gather(comm)
    if comm.rank == 0:
        from runtime.clock import PHASES

        ran = {PHASES[phase] for phase in np.flatnonzero(~np.isnan(timings).all(axis=(0, 2)))}
        expected = {"read", "wait", "gather"} | ({"scatter"} if comm.size > 1 else set())
        assert ran - {"import", "init"} == expected
        assert np.nanmin(timings) >= 0
