"""Ranks that agree: on a mistake, which then ends all of them, and on going on together."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from mpi4py import MPI

USAGE = 2


class Stop(Exception):
    """End the program on every rank with one message and no traceback.

    Raise it inside `agreement`, which lets every rank raise it; a rank that raises it alone takes
    the others down with it.

    Parameters
    ----------
    message : str
        One sentence for the user; printed by rank 0.
    status : int
        Exit status: 2 for a mistake in usage or input, 1 for a failure, one of
        `rankwise.ranks.signals.STATUS` if a signal asked for the end.
    """

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.status = status
        self.agreed = False


@contextmanager
def agreement(comm: "MPI.Comm", *mistakes: type[Exception]) -> Iterator[None]:
    """Raise on every rank what one rank raises inside. Collective over `comm`.

    No rank may wait for another inside the block. At its end all ranks raise the `Stop` of the
    lowest rank that raised one; other exceptions pass through.

    Parameters
    ----------
    comm : MPI.Comm
        The ranks that must agree.
    *mistakes : exception types
        Also taken as the user's mistake, with their text as the message.

    Raises
    ------
    Stop
        Some rank raised `Stop` or one of ``mistakes``.
    """
    error = None
    try:
        yield
    except Stop as stop:
        error = (str(stop), stop.status)
    except mistakes as mistake:
        error = (str(mistake), USAGE)
    for first in comm.allgather(error):
        if first is not None:
            stop_all(*first)


def stop_all(message: str, status: int = USAGE) -> NoReturn:
    """Raise `Stop` where all ranks raise it by themselves, since they know the same."""
    stop = Stop(message, status)
    stop.agreed = True
    raise stop


def sleep_until_all(comm: "MPI.Comm") -> None:
    """Wait for the other ranks without a load on the cores. Collective over `comm`.

    MPI itself waits by spinning, which takes the cores from a rank that has more to do.
    """
    barrier, pause = comm.Ibarrier(), 5e-5
    while not barrier.Test():
        time.sleep(pause)
        # A short wait ends at once; in a long one, looking costs nothing.
        pause = min(2 * pause, 0.005)
