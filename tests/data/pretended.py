"""What stands for a GPU, for a clock that runs and for a rank that is late."""

import time

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


def come_late(phased, comm, seconds=0.2):
    """Keep the last rank back for some time after all others have begun to wait.

    That is their first phase that is no copy, by whatever name: one that is wrong must not hang.
    """
    last, phase = comm.size - 1, phased.phase

    def tell(name):
        if name != "to_host":
            phased.phase = phase
            comm.send("I wait", last)
        return phase(name)

    if comm.rank < last:
        phased.phase = tell
    else:
        assert [comm.recv(source=other) for other in range(last)] == ["I wait"] * last
        time.sleep(seconds)
