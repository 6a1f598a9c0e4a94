"""Start and end of an MPI program: its command line, its mistakes and its failures.

A mistake of the user (`Stop`) ends every rank with one message from rank 0 and no traceback. Any
other exception, on any rank, ends every rank with that rank's traceback.
"""

import argparse
import math
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runtime import clock, signals

if TYPE_CHECKING:
    from mpi4py import MPI

USAGE = 2
# More than any node has; far beyond it, thread libraries crash.
MOST_THREADS = 1024


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
        `runtime.signals.STATUS` if a signal asked for the end.
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
            _stop(*first)


def _stop(message: str, status: int) -> NoReturn:
    stop = Stop(message, status)
    stop.agreed = True
    raise stop


def launch(main: Callable[["MPI.Comm", list[str]], None]) -> NoReturn:
    """Start MPI, run ``main(COMM_WORLD, arguments)`` and exit with one status on every rank.

    Parameters
    ----------
    main : callable
        The job. It is called on every rank.
    """
    clock.startup["import"] = clock.since_process_start()
    start = time.perf_counter()
    import mpi4py

    # Here, since it changes the process: a program that only reads records has no use for it.
    from runtime.guard import abort
    from runtime.launch import refuse_copies

    # Without this, importing MPI would start it, and its cost would be counted as an import.
    mpi4py.rc(initialize=False, finalize=True)
    try:
        # On every copy it warns of a launcher of another MPI, which `refuse_copies` tells once.
        warnings.filterwarnings("ignore", "suspicious MPI", RuntimeWarning)
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        sys.exit(f"error: no MPI library: load the site's module, or install '.[laptop]' ({error})")
    if not MPI.Is_initialized():
        MPI.Init_thread()
    clock.startup["init"] = time.perf_counter() - start
    # The exceptions below are told with their rank; libraries that call the hook mean no end.
    sys.excepthook = sys.__excepthook__
    comm = MPI.COMM_WORLD
    status = 0
    try:
        refuse_copies(comm)
        main(comm, sys.argv[1:])
        sys.stdout.flush()
    except Stop as stop:
        if str(stop) and (comm.rank == 0 or not stop.agreed):
            # Who asked it to stop wants to know where it is, and there is nothing to mend.
            word = "" if stop.status in signals.STATUS.values() else "error: "
            _tell(f"{Path(sys.argv[0]).name}: {word}{stop}")
        if not stop.agreed:
            abort(stop.status)
        status = stop.status
    except BrokenPipeError:
        # Who read the output, as `head` does, has seen enough.
        abort(1)
    except BaseException:
        lines = traceback.format_exc()
        host = MPI.Get_processor_name()
        _tell(f"rank {comm.rank} of {comm.size} on {host} failed:\n{lines}")
        abort(1)
    signals.ignore()
    comm.Barrier()
    try:
        # None where it is closed.
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        # Python tries again at its end, and would turn the status into 120.
        sys.stderr = None
    sys.exit(status)


def _tell(text: str) -> None:
    # A full disk behind it must change neither the status nor the end of the other ranks.
    with suppress(OSError):
        print(text, file=sys.stderr)


def parse(
    comm: "MPI.Comm", parser: argparse.ArgumentParser, argv: list[str], weak: bool = False
) -> argparse.Namespace:
    """Add the options that all jobs have and parse the command line. Collective over `comm`.

    Rank 0 parses, so that a usage message appears once; the others receive what it found.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    parser : argparse.ArgumentParser
        The job's own options.
    argv : list of str
        Command line without the program's name; significant on rank 0.
    weak : bool
        Whether the job knows how its problem grows with the ranks, and so has ``--weak``.

    Returns
    -------
    argparse.Namespace
        The arguments, equal on every rank.

    Raises
    ------
    Stop
        The command line is wrong (status 2), or ``--help`` was asked for (status 0). The message is
        empty, since argparse has printed it.
    """
    arguments, status = None, 0
    if comm.rank == 0:
        _add_common_options(parser, weak)
        try:
            arguments = parser.parse_args(argv)
        except SystemExit as done:
            status = int(done.code or 0)
    arguments, status = comm.bcast((arguments, status))
    if arguments is None:
        _stop("", status)
    return arguments


def _add_common_options(parser: argparse.ArgumentParser, weak: bool) -> None:
    group = parser.add_argument_group("options that all jobs have")
    group.add_argument(
        "--variant",
        choices=("auto", "numpy", "numba", "cuda", "cupy"),
        default="auto",
        help="implementation of the kernel; auto: a GPU if every rank has one, else Numba",
    )
    group.add_argument(
        "--threads",
        type=lambda text: count(text, 1, MOST_THREADS),
        metavar="T",
        help="threads per rank (default: the cores of the node divided among its ranks)",
    )
    group.add_argument(
        "--repeats",
        type=lambda text: count(text, 1, 10**6),
        default=1,
        metavar="R",
        help="timed repeats after one warm-up",
    )
    if weak:
        group.add_argument(
            "--weak", action="store_true", help="sizes mean the work of one rank (weak scaling)"
        )
    group.add_argument(
        "--output", type=Path, metavar="FILE.h5", help="the record (default results/<job>-<UTC>.h5)"
    )
    group.add_argument("--force", action="store_true", help="replace FILE.h5 if it is a record")
    group.add_argument(
        "--json", action="store_true", help="print one JSON line and nothing else on stdout"
    )
    group.add_argument(
        "--device-buffers",
        action="store_true",
        help="hand GPU memory to MPI directly; only for an MPI library built for it",
    )


def count(text: str, least: int = 0, most: int = 10**18) -> int:
    """Read a number of things: ``1000``, ``1e8``, ``2.5e3``.

    Raises
    ------
    argparse.ArgumentTypeError
        ``text`` is not a whole number from ``least`` to ``most``.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    # The range comes first: int() of 1e999999999 would never end.
    if not value.is_finite() or not least <= value <= most or value % 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most:g}")
    return int(value)


def positive(text: str) -> float:
    """Read a number above zero.

    Raises
    ------
    argparse.ArgumentTypeError
        ``text`` is none, or not finite.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
