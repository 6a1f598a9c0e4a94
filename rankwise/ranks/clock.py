"""Wall-clock seconds of the phases of a job, one sample per repeat and rank.

The clock also knows where its rank is: in which phase and step, and which rank it waits for.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mpi4py import MPI

# Once per run: `import` from the start of the process, `init` of MPI, `compile` the kernel or load
# it from its cache, `check` the result, `write` the record.
ONCE = ("import", "init", "compile", "check", "write")
# Once per repeat. `wait` is time spent until the others are ready, apart from the transfer itself,
# because the cure differs: balance the load, or send less. `halo` is what the kernel does not
# hide of the exchange with neighbours, in which waiting for a late one cannot be told apart.
# `other` is what no phase covers: with it the phases of a repeat add up to its wall clock.
REPEATED = (
    *("read", "scatter", "broadcast", "to_device", "kernel", "halo", "exchange", "queue", "wait"),
    *("reduce", "gather", "to_host", "snapshot", "checkpoint", "other"),
)
PHASES = (*ONCE[:3], *REPEATED, *ONCE[3:])

# Nothing listens but with --log.
_log = logging.getLogger("rankwise")

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

    Attributes
    ----------
    repeat : int or None
        The repeat that runs now, -1 for the warm-up; None outside of all.
    step : int or None
        The step of a loop that was begun last.
    moves : int
        How often a step has begun, or a phase has begun or ended, or a part of a long one: it
        stands still if this rank does.
    waits_for : int or None
        The rank without which this one cannot go on, where that is known; the end of a phase
        forgets it.
    """

    def __init__(self, repeats: int) -> None:
        self.seconds = np.full((repeats, len(PHASES)), np.nan)
        self.repeat: int | None = None
        self.step: int | None = None
        self.waits_for: int | None = None
        self.moves = 0
        # The phases that are open now, and of each the seconds of the phases inside it.
        self._open: list[str] = []
        self._inside: list[float] = []
        # Set to the device's, so that a phase ends when the device has finished.
        self.synchronize: Callable[[], None] | None = None
        for name, seconds in startup.items():
            self.seconds[0, PHASES.index(name)] = seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to phase ``name`` of this repeat.

        A phase inside another one interrupts it, so that no second counts twice.

        Raises
        ------
        ValueError
            There is no such phase, or it is one that runs once and this is a timed repeat.
        """
        if name not in PHASES or name == "other":
            phases = ", ".join(phase for phase in PHASES if phase != "other")
            raise ValueError(f"unknown phase {name!r}: choose from {phases}")
        if name in ONCE and self.timed:
            raise ValueError(f"the phase {name!r} runs once: put it before or after the repeats")
        self._open.append(name)
        self._inside.append(0.0)
        self.moves += 1
        _log.info("begin %s", name)
        start = time.perf_counter()
        try:
            yield
            if self.synchronize is not None:
                self.synchronize()
        finally:
            seconds, inside = time.perf_counter() - start, self._inside.pop()
            self._open.pop()
            self.moves += 1
            self.waits_for = None
            _log.info("end %s after %.6f s", name, seconds)
        self.add(name, seconds - inside)
        if self._inside:
            # `add` has counted the rest.
            self._inside[-1] += inside

    def add(self, name: str, seconds: float) -> None:
        """Add seconds that were measured otherwise to phase ``name`` of this repeat.

        Of the warm-up nothing is kept, and outside of the repeats only what runs once.
        """
        if self._inside:
            self._inside[-1] += seconds
        once = self.repeat is None and name in ONCE
        if once or self.timed:
            place = self.repeat or 0, PHASES.index(name)
            before = self.seconds[place]
            # Only what is not a number differs from itself; np.isnan takes ten times as long.
            self.seconds[place] = seconds if before != before else before + seconds

    def repeats(self, before: Callable[[], object] = lambda: None) -> Iterator[int]:
        """Yield -1 for the untimed warm-up, then 0, 1, ... for the timed repeats.

        The wall clock of a repeat runs from the first line of the loop's body to its last; what no
        phase covers goes to ``other``.

        Parameters
        ----------
        before : callable
            Called before each repeat, outside of its time.
        """
        repeated = [PHASES.index(name) for name in REPEATED]
        for repeat in range(-1, len(self.seconds)):
            with self.phase("wait"):
                before()
            _log.info("warm-up" if repeat < 0 else f"repeat {repeat}")
            self.repeat, start = repeat, time.perf_counter()
            yield repeat
            if self.synchronize is not None:
                self.synchronize()
            wall = time.perf_counter() - start
            if repeat >= 0:
                self.add("other", max(0.0, wall - np.nansum(self.seconds[repeat, repeated])))
            # What comes before the next one is not of this one.
            self.repeat = None

    def begin_step(self, step: int) -> None:
        """Note that a step of a loop begins."""
        self.step = step
        self.moves += 1
        _log.info("step %d", step)

    @property
    def current(self) -> str:
        """The innermost phase that is open now, ``other`` if none is. For any thread."""
        return (self._open[-1:] or ["other"])[0]

    @property
    def warming_up(self) -> bool:
        """Whether this is the untimed warm-up."""
        return self.repeat == -1

    @property
    def timed(self) -> bool:
        """Whether this is a timed repeat."""
        return self.repeat is not None and self.repeat >= 0

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
