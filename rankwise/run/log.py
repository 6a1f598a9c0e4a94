"""A log of each rank: what it does, and when."""

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankwise.ranks import start
from rankwise.ranks.agreement import agreement
from rankwise.ranks.words import printable
from rankwise.run import rank_files

if TYPE_CHECKING:
    from mpi4py import MPI

# Of a long log the end is kept: so much, or up to twice as much, in two files [bytes].
MOST_BYTES = 16 * 2**20


def begin(comm: "MPI.Comm", folder: Path, name: str) -> None:
    """Write what this rank logs to a file of its own, until the run has ended. Collective.

    What a job logs by `logging.info` and the like goes there, too. Where it has set up logging of
    its own before, that shows no more and no less.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    folder : Path
    name : str
        Of the run; the file is ``<name>-rank-<rank>.log``.

    Raises
    ------
    Stop
        A rank cannot write its file.
    """
    with agreement(comm):
        path = rank_files.path("--log", folder, name, comm.rank, comm.size, "log")
    where = f"process {os.getpid()} on {os.uname().nodename}"
    file = _File(path, f"rank {comm.rank} of {comm.size}, {where}: {shlex.join(sys.argv)}")
    file.setFormatter(_Lines(comm.rank))
    file.open()
    restore = _listen(file)

    def end() -> None:
        restore()
        file.close()

    start.endings.append(end)


def _listen(file: logging.Handler) -> Callable[[], None]:
    """Let a handler have what is logged, and others no more than before; return what undoes it."""
    root = logging.getLogger()
    level, others = root.level, {each: each.level for each in root.handlers}
    for each in others:
        each.setLevel(max(each.level, level))
    # Without a handler, Python prints warnings by this one.
    more = [file] if others or logging.lastResort is None else [file, logging.lastResort]
    for each in more:
        root.addHandler(each)
    root.setLevel(min(level, logging.INFO))

    def undo() -> None:
        root.setLevel(level)
        for each in more:
            root.removeHandler(each)
        for each, own in others.items():
            each.setLevel(own)

    return undo


class _Lines(logging.Formatter):
    """Put the time in UTC and the rank before each line, so that ``sort -m`` merges the logs."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def format(self, record: logging.LogRecord) -> str:
        now = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        before = f"{now.removesuffix('+00:00')}Z rank {self._rank}  "
        lines = super().format(record).splitlines() or [""]
        return "\n".join(before + line for line in lines)


class _File(RotatingFileHandler):
    """A log that ends, with one warning, where it cannot be written; the run is worth more."""

    def __init__(self, path: Path, whose: str) -> None:
        self._whose, self._now = whose, time.time()
        text = {"encoding": "utf-8", "errors": "backslashreplace"}
        super().__init__(path, maxBytes=MOST_BYTES, backupCount=1, delay=True, **text)
        self.setLevel(logging.INFO)

    def open(self) -> None:
        """Begin the file, before there is something to log."""
        try:
            self.stream = self._open()
        except OSError:
            self.handleError(logging.makeLogRecord({}))

    def emit(self, record: logging.LogRecord) -> None:
        self._now = record.created
        super().emit(record)

    def _open(self) -> Any:
        # Each file begins with the rank and the process that it is of.
        stream = super()._open()
        first = logging.makeLogRecord({"msg": self._whose, "created": self._now})
        try:
            stream.write(f"{self.format(first)}\n")
            stream.flush()
        except OSError:
            with suppress(OSError):
                stream.close()
            raise
        return stream

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        # The library's formats the message for this, and looks at the file: half of what a line
        # costs.
        return self.stream is not None and self.stream.tell() >= self.maxBytes

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):
            # Somebody's message does not fit its arguments, which is no reason to end.
            super().handleError(record)
            return
        # It stays where it is: without any handler, Python would print what is logged.
        self.setLevel(sys.maxsize)
        self.close()
        text = f"warning: the log {self.baseFilename} ends here: {error.strerror or error}"
        with suppress(OSError):
            print(f"{Path(sys.argv[0]).name}: {printable(text)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        # Where a line could not be written, it cannot be now.
        with suppress(OSError):
            super().close()
