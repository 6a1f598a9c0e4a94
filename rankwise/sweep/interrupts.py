"""Signals that end a sweep, each in the exit status of its own."""

import os
import signal
from typing import Any

# The first is how Slurm says that time is nearly up, see slurm/scaling.sh.
_NUMBERS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_received: list[int] = []


class Interrupted(BaseException):
    """One of them was received."""


def install() -> None:
    """Raise `Interrupted` where the first of them is received; only note those that follow.

    A second one must not leave ranks behind.
    """
    for number in _NUMBERS:
        # nohup has it ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def _note(number: int, frame: Any) -> None:
    _received.append(number)
    # Says no more, and would end Python when it has taken its handlers down.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if len(_received) == 1:
        raise Interrupted


def status() -> int:
    """Return the exit status: 75, try again, if time was up and nobody wanted more than that."""
    others = [number for number in _received if number != signal.SIGUSR1]
    return 128 + others[0] if others else os.EX_TEMPFAIL
