"""This rank: what an array needs to travel, and how ranks agree."""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rankwise.node import device as devices
from rankwise.node.device import Device
from rankwise.ranks.agreement import agreement, sleep_until_all
from rankwise.ranks.clock import Clock
from rankwise.ranks.words import printable

if TYPE_CHECKING:
    from mpi4py import MPI

Value = TypeVar("Value")
_log = logging.getLogger("rankwise")


class Rank:
    """One rank of a job.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    clock : Clock
        Timings of this rank.
    device : Device
        What this rank runs on.

    Attributes
    ----------
    phase : callable
        ``with phase(name):`` adds the seconds spent inside to a phase, see `rankwise.ranks.clock`.
    warnings : list of str
        What was warned of; on rank 0 that of the launch, too.
    """

    def __init__(self, comm: "MPI.Comm", clock: Clock, device: Device) -> None:
        self.comm, self.clock, self.device = comm, clock, device
        self.phase = clock.phase
        self.warnings: list[str] = []

    @classmethod
    def on_host(cls, comm: "MPI.Comm") -> "Rank":
        """Return a rank without a command line: one thread on the host, and one repeat. Collective.

        Parameters
        ----------
        comm : MPI.Comm
            All ranks that take part.
        """
        return cls(comm, Clock(1), devices.choose(comm, "numpy", 1))

    def agree(
        self,
        call: Callable[..., Value],
        *args: Any,
        mistake: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> Value:
        """Call a function on every rank, none of which waits for another inside. Collective.

        Parameters
        ----------
        call : callable
        *args
            What it is called with.
        mistake : exception type, or tuple of them
            Also taken as the user's mistake, with their text as the message.

        Raises
        ------
        Stop
            On every rank, if the function raises it, or ``mistake``, on one.
        """
        mistakes = mistake if isinstance(mistake, tuple) else (mistake,)
        with agreement(self.comm, *mistakes):
            return call(*args)

    def on_root(self, call: Callable[..., Value], *args: Any) -> Value | None:
        """Call a function on rank 0 alone; return what it returns, None elsewhere. Collective.

        Raises
        ------
        Stop
            On every rank, if the function raises it.
        """
        with agreement(self.comm):
            try:
                return call(*args) if self.comm.rank == 0 else None
            finally:
                # It may take long, and waiting in MPI would take a core from it.
                sleep_until_all(self.comm)

    def warn(self, text: str) -> None:
        """Print a warning, and keep it for the record. Does nothing on other ranks than 0."""
        if self.comm.rank != 0:
            return
        self.tell(f"warning: {text}")
        self.warnings.append(text)

    def tell(self, text: str) -> None:
        """Print a line on standard error, if there is still one; nothing on ranks but 0."""
        if self.comm.rank != 0:
            return
        _log.info(text)
        # Standard error may be on a disk that is full by now: the run is worth more.
        with suppress(OSError):
            print(f"{Path(sys.argv[0]).name}: {printable(text)}", file=sys.stderr, flush=True)
