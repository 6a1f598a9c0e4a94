"""How far a job or a sweep has come, and how long the rest may take."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from rankwise.ranks.words import duration

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
        Number of parts that the work has: the steps of a job, the runs of a sweep.
    unit : str
        What a part is called.
    tell : bool
        Whether to tell at all: one rank of a job does.
    done : int
        Parts that an earlier process has done.
    even : bool
        Whether all parts take much the same time; else nobody knows how long the rest takes.
    """

    def __init__(self, total: int, unit: str, tell: bool, done: int = 0, even: bool = True) -> None:
        self.even = even
        self.total, self.unit, self.tell, self.done = total, unit, tell, done
        self.first = done
        self.terminal = on_terminal()
        self.width = 0
        self.begin()

    def begin(self) -> None:
        """Start the clock of the parts that are to come."""
        self.start = time.monotonic()
        self.next = self.start + (_TERMINAL_SECONDS if self.terminal else _LOG_SECONDS)

    def over(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield parts of the work, and count each when it is done."""
        if self.done == self.first:
            self.begin()
        for part in parts:
            yield part
            self.advance()

    def advance(self) -> None:
        """Count a part that is done, and show how far the work has come if it is time to."""
        self.reach(self.done + 1)

    def reach(self, done: int) -> None:
        """As `advance`, where so many parts are done; no fewer than before."""
        self.done = max(self.done, done)
        now = time.monotonic()
        if now < self.next or self.done == self.total:
            return
        self.show()
        # Lines of a log ever more seldom: a run of days gets about a hundred.
        wait = _TERMINAL_SECONDS if self.terminal else max(_LOG_SECONDS, (now - self.start) / 10)
        self.next = now + wait

    def left(self) -> float:
        """Return how long the rest may take [s], by the parts that were done since `begin`."""
        each = (time.monotonic() - self.start) / (self.done - self.first)
        return each * (self.total - self.done)

    def show(self) -> None:
        """Show how far the work has come."""
        if not self.tell:
            return
        text = f"{self.unit} {self.done} of {self.total}, {100 * self.done // self.total} %"
        if self.done > self.first and self.even:
            text += f", {duration(self.left())} left"
        if self.terminal:
            self._print(f"\r{text:<{self.width}}")
            self.width = len(text)
        else:
            self._print(f"{text}\n")

    def say(self, text: str) -> None:
        """Print a line on standard output, above the line that changes."""
        shown = self.width > 0
        self.clear()
        print(text, flush=True)
        if shown:
            self.show()

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self.width:
            self._print(f"\r{'':<{self.width}}\r")
            self.width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *failure: object) -> None:
        """Take the line off the terminal, for the result or for what has failed."""
        self.clear()

    def _print(self, text: str) -> None:
        # The log may be on a disk that is full by now: the work is worth more.
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def on_terminal() -> bool:
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
