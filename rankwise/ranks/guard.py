"""Import this first in a job: from here on, a failing rank takes the others with it.

And signals do what `rankwise.ranks.signals` says, also while the libraries are being imported.

The other ranks wait in MPI's start for a rank whose imports fail, and no launcher tells them that
it has gone. So this module imports nothing that may fail itself. Only programs under MPI import
it, since it changes the process.
"""

import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

from rankwise.ranks import signals, streams

# Ranks are the parallelism. Left alone, the BLAS of every rank starts a thread for every core, at
# the import of NumPy; a kernel's own threads are those of --threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# Nothing here has a date of its own, and SciPy does not import where this is no number.
os.environ.pop("SOURCE_DATE_EPOCH", None)


def abort(status: int) -> NoReturn:
    """End all ranks, and this one, with an exit status; the launcher may report another.

    It raises nothing: the other ranks would wait for this one.
    """
    for stream in (sys.stdout, sys.stderr):
        # Closed, full, or what a program has put there.
        with suppress(Exception):
            stream.flush()
    # A launcher that hears of the end first drops what it has not read yet.
    time.sleep(0.2)
    with suppress(Exception):
        from mpi4py import MPI

        if not MPI.Is_initialized():
            MPI.Init()
        if not MPI.Is_finalized():
            MPI.COMM_WORLD.Abort(status)
        # Some MPI libraries return, and rely on the launcher to kill this process.
        os._exit(status)
    # Without MPI: no launcher minds a rank that leaves before it has begun MPI, but one killed.
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(status)


def _report_and_abort(
    kind: type[BaseException], error: BaseException, frames: TracebackType | None
) -> None:
    """Report an exception that came before `launch`, then join MPI to abort all ranks."""
    with suppress(Exception):
        traceback.print_exception(kind, error, frames)
    if "PMI_RANK" in os.environ or "PMIX_RANK" in os.environ:
        abort(1)


sys.excepthook = _report_and_abort
# Before what opens files, whose numbers would be those of streams.
streams.open_closed()
signals.install()
