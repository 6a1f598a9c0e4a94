"""How far a long run has come, and how long the rest may take."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

Part = TypeVar("Part")

_LAUNCHERS = ("mpirun", "mpiexec", "hydra", "prte", "orte")
# On a terminal often enough to look alive; in a log, which is kept, as seldom as can be useful.
_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 10.0


class Progress:
    """Tells of progress on standard error: one line that changes on a terminal, lines in a log.

    Parameters
    ----------
    total : int
        Number of parts that the run has.
    unit : str
        What a part is called.
    tell : bool
        Whether to tell at all: one rank does.
    done : int
        Parts that an earlier run has done.
    """

    def __init__(self, total: int, unit: str, tell: bool, done: int = 0) -> None:
        self.total, self.unit, self.tell, self.done = total, unit, tell, done
        self.first = done
        self.terminal = _on_terminal()
        self.start = self.next = 0.0
        self.width = 0

    def over(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield parts of the run, and count each when it is done."""
        if self.done == self.first:
            self.start = time.monotonic()
            self.next = self.start + (_TERMINAL_SECONDS if self.terminal else _LOG_SECONDS)
        for part in parts:
            yield part
            self._advance()

    def _advance(self) -> None:
        self.done += 1
        now = time.monotonic()
        if not self.tell or now < self.next or self.done == self.total:
            return
        elapsed = now - self.start
        left = elapsed / (self.done - self.first) * (self.total - self.done)
        share = 100 * self.done // self.total
        text = f"{self.unit} {self.done} of {self.total}, {share} %, {duration(left)} left"
        if self.terminal:
            self._print(f"\r{text:<{self.width}}")
            self.width = len(text)
            self.next = now + _TERMINAL_SECONDS
        else:
            self._print(f"{text}\n")
            # A run of days gets about a hundred lines.
            self.next = now + max(_LOG_SECONDS, elapsed / 10)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *failure: object) -> None:
        """Take the line off the terminal, for the result or for what has failed."""
        if self.width:
            self._print(f"\r{'':<{self.width}}\r")

    def _print(self, text: str) -> None:
        # The log may be on a disk that is full by now: the run is worth more.
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _on_terminal() -> bool:
    """Tell whether standard error ends on a terminal.

    A launcher gives each rank a pipe and prints what comes out of it, so its own standard error is
    what counts.
    """
    process = os.getpid()
    try:
        while True:
            target = os.readlink(f"/proc/{process}/fd/2")
            if not target.startswith(("pipe:", "socket:")):
                return target.startswith(("/dev/pts/", "/dev/tty"))
            status = Path(f"/proc/{process}/stat").read_text()
            process = int(status.rpartition(")")[2].split()[1])
            name = Path(f"/proc/{process}/comm").read_text()
            if not name.startswith(_LAUNCHERS):
                return False
    except (OSError, ValueError):
        return False
