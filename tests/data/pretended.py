"""What stands for a GPU, for clocks and for a rank that is late."""

import time
from contextlib import contextmanager

from rankwise.ranks.clock import Clock


class DeviceArray:
    """Host memory that presents itself as a GPU's: what mpi4py sees of a device array."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3}

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        return DeviceArray(self.array[rows])


def running_clock():
    """Return a clock inside its only timed repeat, outside of which most phases do not count."""
    clock = Clock(1)
    clock.kept = clock.repeats()
    next(clock.kept), next(clock.kept)
    return clock


class NamingClock(Clock):
    """A clock in its only timed repeat, which keeps the ranks that its rank has waited for."""

    def __init__(self):
        self.named = []
        super().__init__(1)
        self.repeat = 0

    @property
    def waits_for(self):
        """The rank that is waited for now."""
        return self._now

    @waits_for.setter
    def waits_for(self, rank):
        self._now = rank
        if rank is not None and rank >= 0:
            self.named.append(rank)


def come_late(phased, comm, seconds=0.2):
    """Keep the last rank back for some time after all others have begun to wait.

    That is their first phase that is no copy. If they begin none, it does not wait for ever.
    """
    last, phase = comm.size - 1, phased.phase
    end = time.monotonic() + 10

    @contextmanager
    def tell(name):
        with phase(name):
            if name != "to_host":
                phased.phase = phase
                comm.send("I wait", last)
            yield

    if comm.rank < last:
        phased.phase = tell
        return
    while not all(comm.iprobe(other) for other in range(last)) and time.monotonic() < end:
        time.sleep(0.001)
    for other in filter(comm.iprobe, range(last)):
        comm.recv(source=other)
    time.sleep(seconds)
