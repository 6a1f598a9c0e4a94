"""Wall-clock seconds of the phases of a job, one sample per repeat and rank."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mpi4py import MPI

# Once per run: `import` from the start of the process, `init` of MPI, `compile` the kernel or load
# it from its cache, `write` the record.
ONCE = ("import", "init", "compile", "write")
# Once per repeat. `wait` is time spent until the others are ready, apart from the transfer itself,
# because the cure differs: balance the load, or send less. `halo` is what the kernel does not
# hide of the exchange with neighbours, in which waiting for a late one cannot be told apart.
REPEATED = (
    *("read", "scatter", "to_device", "kernel", "halo", "wait", "gather", "to_host"),
    *("snapshot", "checkpoint"),
)
PHASES = (*ONCE[:3], *REPEATED, *ONCE[3:])

# What `rankwise.ranks.start.launch` measured before there was a clock.
startup: dict[str, float] = {}


def since_process_start() -> float:
    """Return the seconds since the operating system started this process."""
    with open("/proc/self/stat") as stat:
        # The name in parentheses may hold spaces; `starttime` is field 22, counted from 1 ([1]_).
        # .. [1] Linux manual page proc_pid_stat(5)
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    started = ticks / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


class Clock:
    """Stop watch of one rank.

    Parameters
    ----------
    repeats : int
        Number of timed repeats.
    """

    def __init__(self, repeats: int) -> None:
        self.seconds = np.full((repeats, len(PHASES)), np.nan)
        # Phases outside of a repeat are noted with the first one; `None` discards.
        self._repeat: int | None = 0
        # Set to the device's, so that a phase ends when the device has finished.
        self.synchronize: Callable[[], None] = lambda: None
        for name, seconds in startup.items():
            self.seconds[0, PHASES.index(name)] = seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to phase ``name`` of this repeat."""
        if name not in PHASES:
            raise ValueError(f"unknown phase {name!r}: choose from {', '.join(PHASES)}")
        start = time.perf_counter()
        yield
        self.synchronize()
        self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds that were measured otherwise to phase ``name`` of this repeat."""
        if self._repeat is not None:
            column = PHASES.index(name)
            before = self.seconds[self._repeat, column]
            self.seconds[self._repeat, column] = seconds + (0.0 if np.isnan(before) else before)

    def repeats(self) -> Iterator[int]:
        """Yield -1 for the untimed warm-up, then 0, 1, ... for the timed repeats."""
        for repeat in range(-1, len(self.seconds)):
            self._repeat = repeat if repeat >= 0 else None
            yield repeat
        self._repeat = 0

    def total(self, name: str) -> float:
        """Return the seconds of a phase of this rank so far, over all repeats [s]."""
        return float(np.nansum(self.seconds[:, PHASES.index(name)]))

    def gather(self, comm: "MPI.Comm") -> np.ndarray | None:
        """Collect the samples of all ranks. Collective over `comm`.

        Returns
        -------
        (repeats, phases, ranks) float64 array [s], or None
            On rank 0; NaN where a phase did not run. None on the other ranks.
        """
        every = np.empty((comm.size, *self.seconds.shape)) if comm.rank == 0 else None
        comm.Gather(self.seconds, every)
        return None if every is None else np.ascontiguousarray(np.moveaxis(every, 0, 2))
