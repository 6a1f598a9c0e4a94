from typing import ClassVar

import numpy as np
import pytest

from rankwise.data.halo import HaloRows
from rankwise.node import device
from rankwise.node.rank import Rank
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES
from tests.data.pretended import DeviceArray, NamingClock, come_late, running_clock


def make(comm, ny, nx, variant="numpy", place=None):
    place = place or device.choose(comm, variant)
    clock = running_clock()
    clock.synchronize = place.synchronize
    return HaloRows(Rank(comm, clock, place), ny, nx)


def whole(ny, nx):
    return np.arange(1.0, ny * nx + 1).reshape(ny, nx)


def fill(ny, nx):
    def rows_from(start, rows):
        rows[...] = whole(ny, nx)[start : start + len(rows)]

    return rows_from


SHAPES = [(1, 1), (2, 3), (3, 2), (7, 5), (20, 1), (100, 33)]


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_scattered_is_gathered(comm, shape):
    rows = make(comm, *shape)
    u, _ = rows.scatter(fill(*shape) if comm.rank == 0 else None)
    first = sum(rows.counts[: comm.rank])
    np.testing.assert_array_equal(u[1:-1, 1:-1], whole(*shape)[first : first + len(u) - 2])
    u[1:-1, 1:-1] += 1
    every = rows.gather(u)
    assert (every is not None) == (comm.rank == 0)
    if comm.rank == 0:
        np.testing.assert_array_equal(every, whole(*shape) + 1)
        assert every.flags.c_contiguous


def expect_halo(comm, rows, u, shape):
    """Assert that a part holds its rows within a ring of zeros and of others' rows."""
    padded = np.pad(whole(*shape), 1)
    first = sum(rows.counts[: comm.rank])
    expected = padded[first : first + rows.counts[comm.rank] + 2].copy()
    if rows.counts[comm.rank] == 0:
        expected[:] = 0
    np.testing.assert_array_equal(u, expected)


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("shape", SHAPES)
def test_halo_rows_are_those_of_the_neighbours(comm, shape):
    rows = make(comm, *shape)
    u, _ = rows.scatter(fill(*shape) if comm.rank == 0 else None)
    for _ in range(3):
        u[0] = u[-1] = 0 if rows.counts[comm.rank] == 0 else np.nan
        if comm.rank == 0 or rows.counts[comm.rank] == 0:
            u[0] = 0
        if first_after(rows, comm) == shape[0]:
            u[-1] = 0
        rows.start_exchange(u)
        rows.finish_exchange(u)
        expect_halo(comm, rows, u, shape)
    seconds = dict(zip(PHASES, rows.clock.seconds[0], strict=True))
    assert seconds["halo"] > 0


@pytest.mark.mpi
@pytest.mark.sizes
def test_the_clock_knows_which_neighbour_is_waited_for(comm):
    clock = NamingClock()
    rows = HaloRows(Rank(comm, clock, device.choose(comm, "numpy")), comm.size, 2)
    rows.start_exchange(u := np.zeros((3, 4)))
    rows.finish_exchange(u)
    neighbours = [comm.rank - 1, comm.rank + 1]
    assert clock.named == [each for each in neighbours if 0 <= each < comm.size]


def first_after(rows, comm):
    return sum(rows.counts[: comm.rank + 1])


@pytest.mark.mpi
@pytest.mark.cudasim
@pytest.mark.parametrize("shape", [(2, 3), (7, 5)])
def test_halo_rows_on_a_device(comm, shape):
    rows = make(comm, *shape, variant="cuda")
    u, _ = rows.scatter(fill(*shape) if comm.rank == 0 else None)
    assert not isinstance(u, np.ndarray)
    rows.start_exchange(u)
    rows.finish_exchange(u)
    expect_halo(comm, rows, rows.device.to_host(u), shape)
    every = rows.gather(u)
    if comm.rank == 0:
        np.testing.assert_array_equal(every, whole(*shape))


class Pretended(device.Device):
    """A GPU, as far as arrays and the order of calls are concerned; MPI reaches it or not."""

    calls: ClassVar[list] = []

    def to_device(self, x):
        return x if isinstance(x, DeviceArray) else DeviceArray(x.copy())

    def to_host(self, x):
        self.calls.append("copy")
        return x if isinstance(x, np.ndarray) else x.array.copy()

    def update(self, x, host):
        x.array[...] = host

    def synchronize(self):
        self.calls.append("synchronize")


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (7, 5)])
def test_halo_rows_in_memory_of_a_device(comm, shape, direct, monkeypatch):
    host = device.choose(comm, "numpy")
    place = Pretended("cupy", "A GPU", 1, host.cores, host.node, 1, ("A GPU",), direct)
    rows = make(comm, *shape, place=place)
    u, _ = rows.scatter(fill(*shape) if comm.rank == 0 else None)
    assert isinstance(u, DeviceArray)

    class Noted:
        """The communicator, which notes when it is given something to send."""

        rank, size, Irecv = comm.rank, comm.size, staticmethod(comm.Irecv)

        def Isend(self, *args):
            place.calls.append("send")
            return comm.Isend(*args)

    rows.comm = Noted()
    place.calls.clear()
    rows.start_exchange(u)
    # MPI must not read what the device has not finished.
    copies = [] if direct else ["copy", "copy"]
    assert place.calls[: len(copies) + 3] == [*copies, "synchronize", "send", "send"]
    rows.finish_exchange(u)
    rows.comm = comm
    expect_halo(comm, rows, u.array, shape)
    every = rows.gather(u)
    if comm.rank == 0:
        np.testing.assert_array_equal(every, whole(*shape))


@pytest.mark.mpi
@pytest.mark.sizes
def test_waiting_for_the_slowest_rank_is_told_apart(comm):
    rows = make(comm, 20, 3)
    u, _ = rows.scatter(fill(20, 3) if comm.rank == 0 else None)
    rows.clock.seconds[:] = np.nan
    come_late(rows.clock, comm)
    rows.gather(u)
    assert comm.rank == comm.size - 1 or rows.clock.seconds[0, PHASES.index("wait")] >= 0.2


@pytest.mark.mpi
@pytest.mark.sizes
def test_the_room_for_another_part_is_never_the_part_itself(comm):
    rows = make(comm, 10, 4)
    u, room = rows.scatter(fill(10, 4) if comm.rank == 0 else None)
    assert room.shape == u.shape == (rows.counts[comm.rank] + 2, 6)
    assert not room.any()
    for _ in range(3):
        assert not np.shares_memory(u, room)
        # A job that has swapped the two an odd number of times.
        u, room = room, u
        u, room = rows.scatter(fill(10, 4) if comm.rank == 0 else None)


@pytest.mark.mpi
@pytest.mark.sizes
def test_too_little_memory_is_told(comm):
    with pytest.raises(Stop, match="Unable to allocate"):
        make(comm, 10**7 * comm.size, 10**7)


@pytest.mark.mpi
@pytest.mark.sizes
def test_a_second_scatter_starts_anew(comm):
    rows = make(comm, 12, 3)
    for _ in range(2):
        u, _ = rows.scatter(fill(12, 3) if comm.rank == 0 else None)
        rows.start_exchange(u)
        rows.finish_exchange(u)
        expect_halo(comm, rows, u, (12, 3))
        u[1:-1, 1:-1] = -1
