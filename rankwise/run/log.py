"""A log of each rank: what it does, and when."""

import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from rankwise.ranks import start
from rankwise.ranks.agreement import agreement
from rankwise.run import rank_files

if TYPE_CHECKING:
    from mpi4py import MPI

# Of a long log the end is kept: as much as this, or up to twice as much.
MOST_BYTES = 16 * 2**20


def begin(comm: "MPI.Comm", folder: Path, name: str) -> None:
    """Write what this rank logs to a file of its own, until the ranks end. Collective.

    What a job logs by `logging.info` and the like goes there, too.

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
        file = _File(path, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8")
    file.setFormatter(_Lines(comm.rank))
    root = logging.getLogger()
    root.addHandler(file)
    root.setLevel(min(root.level, logging.INFO))
    host, command = os.uname().nodename, " ".join(sys.argv)
    root.info(f"rank {comm.rank} of {comm.size}, process {os.getpid()} on {host}: {command}")

    def end() -> None:
        root.removeHandler(file)
        file.close()

    start.endings.append(end)


class _Lines(logging.Formatter):
    """Put the time in UTC and the rank before each line, so that logs of ranks can be merged."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def format(self, record: logging.LogRecord) -> str:
        now = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        before = f"{now.removesuffix('+00:00')}Z rank {self._rank}  "
        return "\n".join(before + line for line in super().format(record).splitlines())


class _File(RotatingFileHandler):
    """A log that ends, with one warning, where it cannot be written; the run is worth more."""

    def handleError(self, record: logging.LogRecord) -> None:
        logging.getLogger().removeHandler(self)
        with suppress(OSError):
            why, program = sys.exception(), Path(sys.argv[0]).name
            print(
                f"{program}: warning: the log {self.baseFilename} ends here: {why}",
                file=sys.stderr,
                flush=True,
            )
