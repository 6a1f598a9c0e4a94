"""Start and end of an MPI program.

A mistake of the user (`Stop`) ends every rank with one message from rank 0 and no traceback. Any
other exception, on any rank, ends every rank with that rank's traceback.
"""

import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rankwise.ranks import clock, signals, streams
from rankwise.ranks.agreement import Stop
from rankwise.ranks.mpi import left_over, misfit, number, refuse_copies

if TYPE_CHECKING:
    from mpi4py import MPI


# The runs of this process that have begun and not been finished.
unfinished: list[str] = []
# What all ranks do together after their runs, the last one first.
endings: list[Callable[[], object]] = []
_log = logging.getLogger("rankwise")
# How long a rank that is done waits for the others before a signal ends it again [s].
_PATIENCE_SECONDS = 10.0


def _refuse(why: str, number: str = "0") -> NoReturn:
    """Leave before MPI has started. The first process says why, and the others let it."""
    if number == "0":
        print(f"{Path(sys.argv[0]).name}: error: {why}", file=sys.stderr, flush=True)
    else:
        # A launcher ends all when the first has gone.
        time.sleep(1.0)
    sys.exit(2)


def launch(main: Callable[["MPI.Comm", list[str]], None]) -> NoReturn:
    """Start MPI, run ``main(COMM_WORLD, arguments)`` and exit with one status on every rank.

    Parameters
    ----------
    main : callable
        The job. It is called on every rank.
    """
    clock.startup["import"] = clock.since_process_start()
    start = time.perf_counter()
    try:
        import mpi4py
    except ModuleNotFoundError:
        _refuse(
            "no mpi4py: is the environment active? Else, in the clone, pip install -e '.[jobs]'"
        )

    # Without this, importing MPI would start it, and its cost would be counted as an import.
    mpi4py.rc(initialize=False, finalize=True)
    try:
        # On every copy it warns of a launcher of another MPI, which `refuse_copies` tells once.
        warnings.filterwarnings("ignore", "suspicious MPI", RuntimeWarning)
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        why = str(error).partition("\n")[0]
        _refuse(
            "no MPI library: load the site's module, or, in the clone, pip install -e '.[laptop]' "
            f"({why})"
        )
    if not MPI.Is_initialized():
        if why := left_over():
            _refuse(why)
        if why := misfit():
            _refuse(why, number())
        MPI.Init_thread()
    clock.startup["init"] = time.perf_counter() - start
    # The exceptions below are told with their rank; libraries that call the hook mean no end.
    sys.excepthook = sys.__excepthook__
    streams.tell_failures()
    comm = MPI.COMM_WORLD
    status = _status(comm, lambda: _run(main, comm))
    _log.info("main has ended, status %d", status)
    while endings:
        ended = _status(comm, endings.pop())
        status = status or ended
    status = _flush(status)
    signals.ignore()
    _wait_for_all(comm)
    sys.exit(status)


def _run(main: Callable[["MPI.Comm", list[str]], None], comm: "MPI.Comm") -> None:
    refuse_copies(comm)
    main(comm, sys.argv[1:])
    _require_finish(comm)


def _status(comm: "MPI.Comm", call: Callable[[], object]) -> int:
    """Call a function, and return the exit status: 0, or that of a `Stop` which all ranks raise.

    What this rank alone raises ends all ranks.
    """
    # Here, since it changes the process: a program that only reads records has no use for it.
    from rankwise.ranks.guard import abort

    try:
        call()
    except Stop as stop:
        if str(stop) and (comm.rank == 0 or not stop.agreed):
            # Who asked it to stop wants to know where it is, and there is nothing to mend.
            word = "" if stop.status in signals.STATUS.values() else "error: "
            _tell(f"{Path(sys.argv[0]).name}: {word}{stop}")
        if not stop.agreed:
            abort(stop.status)
        return stop.status
    except BrokenPipeError:
        # Who read the output, as `head` does, has seen enough.
        abort(1)
    except streams.OutputError as error:
        _tell(f"{Path(sys.argv[0]).name}: error: {error}")
        abort(1)
    except BaseException:
        try:
            from mpi4py import MPI

            lines, host = traceback.format_exc(), MPI.Get_processor_name()
            _tell(f"rank {comm.rank} of {comm.size} on {host} failed:\n{lines}")
        finally:
            abort(1)
    return 0


def end_earlier() -> None:
    """End what an earlier run of this process has left to be done at the end. Collective."""
    while endings:
        endings.pop()()


def _flush(status: int) -> int:
    """Bring the output on its way, and return the exit status: 1 if only that has failed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return status or 1
    except streams.OutputError as error:
        _tell(f"{Path(sys.argv[0]).name}: error: {error}")
        return status or 1
    return status


def _require_finish(comm: "MPI.Comm") -> None:
    """Stop if a run has begun and not been finished: others may wait for this rank in its end."""
    if unfinished:
        # If rank 0 has left out its end, too, the message is rank 0's.
        time.sleep(0.0 if comm.rank == 0 else 1.0)
        raise Stop(f"main ended without run.finish on rank {comm.rank}: no record is written", 1)


def _wait_for_all(comm: "MPI.Comm") -> None:
    """Wait for the end of all ranks. A signal ends this one if it takes unusually long."""
    arrived, patience = comm.Ibarrier(), time.monotonic() + _PATIENCE_SECONDS
    while not arrived.Test():
        time.sleep(0.0005)
        if time.monotonic() > patience:
            signals.heed()


def _tell(text: str) -> None:
    _log.info(text)
    print(text, file=sys.stderr)
