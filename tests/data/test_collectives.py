import functools
import mmap
import time
from itertools import pairwise

import numpy as np
import pytest

from rankwise.data import partition, window
from rankwise.data.collectives import fill, gather, pieces, scatter
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES, Clock
from tests.data.pretended import DeviceArray, NamingClock, running_clock

pytestmark = [pytest.mark.mpi, pytest.mark.sizes]

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
    mine = scatter(comm, whole if comm.rank == 0 else None, counts, mine, Clock(1), limit)
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
    huge = np.lib.stride_tricks.as_strided(np.zeros(1), (2**33 + 5,), (0,))
    found = list(pieces(len(huge), huge, limit))
    assert found[0][0] == 0
    assert found[-1][1] == 2**33 + 5
    assert all(a[1] == b[0] for a, b in pairwise(found))
    assert max(stop - start for start, stop in found) <= limit // 8


def phases(comm, clock):
    """Return the phases that some rank has entered, on rank 0."""
    timings = clock.gather(comm)
    if comm.rank != 0:
        return set()
    assert np.nanmin(timings) >= 0
    ran = np.flatnonzero(~np.isnan(timings).all(axis=(0, 2)))
    return {PHASES[phase] for phase in ran} - {"import", "init"}


def test_phases_are_told_apart(comm):
    clock = running_clock()
    counts = partition.counts(100, comm.size)
    scatter(comm, array((100,), "float64"), counts, np.empty(counts[comm.rank]), clock)
    gather(comm, np.empty(counts[comm.rank]), counts, np.empty(100), clock)
    expected = {"wait", "gather"} | ({"scatter"} if comm.size > 1 else set())
    assert phases(comm, clock) == (expected if comm.rank == 0 else set())


def test_the_clock_knows_which_rank_is_waited_for_and_moves_with_each_message(comm):
    counts = [10] * comm.size
    whole = np.arange(10.0 * comm.size) if comm.rank == 0 else None
    others = list(range(1, comm.size))

    there = NamingClock()
    mine = scatter(comm, whole, counts, np.empty(10), there, 40)
    # A message has five rows: for each, rank 0 looks at it and receives it.
    expected = sorted(others * 2) if comm.rank == 0 else [0] * 4
    assert (there.named, there.waits_for) == (expected, None)

    back = NamingClock()
    gather(comm, mine, counts, np.empty(10 * comm.size), back, 40)
    expected = [0, *sorted([0, *others] * 2)] if comm.rank == 0 else [0]
    assert (back.named, back.waits_for) == (expected, None)
    messages = 2 + 2 * comm.size if comm.rank == 0 else 2
    # Besides the beginnings and ends of two phases.
    assert back.moves == 4 + messages


class Place:
    """A run, as far as a window asks for it: on nodes of so many ranks, taken in turn."""

    def __init__(self, comm, nodes):
        self.comm, self.device = comm, self
        self.node = comm.Split(comm.rank % nodes)
        self.mpi_reads_device = False
        self.warnings = []

    def mpi_buffer(self, shape, dtype):
        return np.empty(shape, dtype)

    def warn(self, text):
        self.warnings.append(text)


def counting(start, rows, factor=1):
    rows[:] = np.arange(start, start + len(rows), dtype=rows.dtype) * factor


@pytest.mark.parametrize("n", [0, 1, 1000, 10**6])
@pytest.mark.parametrize("nodes", [1, 2])
def test_rows_of_a_window_are_those_of_messages(comm, n, nodes):
    counts = partition.counts(n, comm.size, block=16)
    first = partition.displs(counts)[comm.rank]
    place = window.share(Place(comm, nodes), counts, (), np.float32)
    for factor in (1, 2, 3):
        source = np.arange(n, dtype=np.float32) * factor
        if factor != 2:
            source = functools.partial(counting, factor=factor)
        rows = scatter(comm, source, counts, place, Clock(1), 10**6)
        assert rows.dtype == np.float32
        if comm.rank:
            # The next scatter must not overtake this look.
            time.sleep(0.03)
        expected = np.arange(first, first + counts[comm.rank], dtype=np.float32) * factor
        np.testing.assert_array_equal(rows, expected)


def test_nothing_is_sent_to_ranks_that_share_memory(comm):
    run, clock = Place(comm, 1), running_clock()
    counts = partition.counts(10**5, comm.size)
    place = window.share(run, counts, (), np.float64)
    assert place.shared == (comm.rank > 0) and not run.warnings
    rows = scatter(comm, counting, counts, place, clock)
    assert rows is place.own
    assert phases(comm, clock) == ({"read", "wait"} if comm.rank == 0 else set())


def test_shared_memory_has_no_name_that_outlives_a_killed_job(comm):
    counts = partition.counts(10**5, comm.size)
    place = window.share(Place(comm, 1), counts, (), np.float64)
    comm.Barrier()
    with open("/proc/self/maps") as maps:
        names = [line.split(maxsplit=5)[5].strip() for line in maps if "/dev/shm/rankwise" in line]
    assert all(name.endswith("(deleted)") for name in names)
    # Those of tests before may still be mapped.
    assert names or comm.size == 1
    assert place.own.size == counts[comm.rank]


def test_a_device_that_mpi_reaches_shares_nothing(comm):
    run = Place(comm, 1)
    run.mpi_reads_device = True
    run.mpi_buffer = lambda shape, dtype: DeviceArray(np.zeros(shape, dtype))
    counts = partition.counts(1000, comm.size)
    place = window.share(run, counts, (), np.float64)
    assert not place.shared and not run.warnings
    rows = scatter(comm, counting, counts, place, Clock(1))
    first = partition.displs(counts)[comm.rank]
    np.testing.assert_array_equal(rows.array, np.arange(first, first + len(rows)))


@pytest.mark.parametrize("reason", ["no folder", "no space", "no addresses"])
def test_without_shared_memory_rows_are_sent(comm, monkeypatch, reason):
    true = mmap.mmap

    def full(*arguments, **options):
        if comm.rank == comm.size - 1:
            raise OSError(28, "No space left on device")
        return true(*arguments, **options) if reason == "no addresses" else None

    if reason == "no folder":
        monkeypatch.setattr(window, "_FOLDER", "/proc/none")
    elif reason == "no space":
        monkeypatch.setattr("os.posix_fallocate", full)
    else:
        monkeypatch.setattr("mmap.mmap", full)
    run = Place(comm, 1)
    counts = partition.counts(1000, comm.size)
    place = window.share(run, counts, (), np.float64)
    assert not place.shared
    assert len(run.warnings) == (1 if comm.rank == 0 and comm.size > 1 else 0)
    first = partition.displs(counts)[comm.rank]
    rows = scatter(comm, counting, counts, place, Clock(1))
    np.testing.assert_array_equal(rows, np.arange(first, first + len(rows)))


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_source_that_fails_stops_ranks_that_share_memory(comm, nodes):
    def source(start, rows):
        if start + len(rows) > 60:
            raise Stop("the file ends here")
        rows[:] = start

    counts = partition.counts(100, comm.size)
    place = window.share(Place(comm, nodes), counts, (), np.float64)
    with pytest.raises(Stop, match="ends here"):
        scatter(comm, source, counts, place, Clock(1), 64)
    comm.Barrier()
    assert not comm.Iprobe()
    comm.Barrier()


@pytest.mark.parametrize("limit", LIMITS)
def test_fill_lets_each_rank_make_its_own_rows(comm, limit):
    counts = partition.counts(500, comm.size, block=16)
    place = window.private(Place(comm, 1), counts, (), np.float64)
    asked = []

    def source(start, rows):
        asked.append((start, len(rows)))
        counting(start, rows)

    rows = fill(comm, source, counts, place, Clock(1), limit)
    first = partition.displs(counts)[comm.rank]
    np.testing.assert_array_equal(rows, np.arange(first, first + len(rows)))
    assert sum(number for _, number in asked) == len(rows)
    assert all(number <= max(1, limit // 8) for _, number in asked)


def test_fill_passes_on_what_is_no_mistake_of_the_user(comm):
    def source(start, rows):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        fill(comm, source, [10] * comm.size, np.empty(10), Clock(1))


def test_fill_stops_every_rank_where_one_fails(comm):
    def source(start, rows):
        if comm.rank == comm.size - 1:
            raise Stop("the file ends here")

    counts = [10] * comm.size
    with pytest.raises(Stop, match="ends here"):
        fill(comm, source, counts, np.empty(10), Clock(1))
