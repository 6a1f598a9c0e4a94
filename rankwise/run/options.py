"""The command line of a job: its own options and those that all jobs have."""

import argparse
import math
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from rankwise.data.schedules import GUIDED, SCHEDULES
from rankwise.ranks.agreement import stop_all

if TYPE_CHECKING:
    from mpi4py import MPI

# More than any node has; far beyond it, thread libraries crash.
MOST_THREADS = 1024
# Where neither interval of checkpoints is given: what a failing node may cost.
CHECKPOINT_SECONDS = 600.0


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
            arguments = parser.parse_args(_joined(argv))
        except SystemExit as done:
            status = int(done.code or 0)
    arguments, status = comm.bcast((arguments, status))
    if arguments is None:
        stop_all("", status)
    return arguments


def _joined(argv: list[str]) -> list[str]:
    """Join options and values such as -0.5,0.5, which argparse would take for options."""
    words: list[str] = []
    for word in argv:
        if words and words[-1].startswith("--") and re.match(r"-\.?\d", word):
            word = f"{words.pop()}={word}"
        words.append(word)
    return words


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
    group = parser.add_argument_group("options that look inside the ranks: docs/debugging.md")
    group.add_argument(
        "--stall-seconds",
        type=positive,
        metavar="S",
        help="if no rank has moved for S seconds, and none is in a kernel, compiles, reads or "
        "writes, say once where each rank stands; the job goes on",
    )
    group.add_argument(
        "--profile",
        type=folder,
        metavar="FOLDER",
        help="write a profile of each rank (cProfile, for snakeviz), and at the end a table of all",
    )
    group.add_argument(
        "--log",
        type=folder,
        metavar="FOLDER",
        help="write a log of each rank: phases, steps, chunks, checkpoints, and when; its last 16 "
        "to 32 MiB",
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


def folder(text: str) -> Path:
    """Read the name of a folder, which need not exist.

    Raises
    ------
    argparse.ArgumentTypeError
        ``text`` is empty, as a variable is that was never set.
    """
    if not text:
        raise argparse.ArgumentTypeError("the name of the folder is empty")
    return Path(text)


def add_loop(
    parser: argparse.ArgumentParser, steps: int, meaning: str, snapshots: bool = False
) -> None:
    """Add ``--steps`` and the options of checkpoints and, if wanted, of snapshots.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    steps : int
        Default of ``--steps``.
    meaning : str
        What a step is.
    snapshots : bool
    """

    def number(text: str) -> int:
        return count(text, 1)

    parser.add_argument("--steps", type=number, default=steps, help=f"{meaning} (default: {steps})")
    if snapshots:
        text = "write the state to a file of its own after every K steps"
        parser.add_argument("--snapshot-every", type=number, metavar="K", help=text)
    add = parser.add_argument
    text = "go on from this file if it exists, and keep the state in it"
    add("--checkpoint", type=Path, metavar="FILE.h5", help=text)
    text = "write a checkpoint after every K steps"
    add("--checkpoint-every", type=number, metavar="K", help=text)
    text = f"write one every S seconds (default: {CHECKPOINT_SECONDS:g}, without the other)"
    add("--checkpoint-seconds", type=positive, metavar="S", help=text)


def add_queue(parser: argparse.ArgumentParser, tasks: str) -> None:
    """Add ``--schedule`` and ``--chunk``, for `rankwise.run.run.Run.queue`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    tasks : str
        What the tasks are, in the plural.
    """
    add = parser.add_argument
    text = f"which rank does which {tasks}: block and cyclic are fixed; with guided (default) and "
    text += "dynamic a rank that is done takes more"
    add("--schedule", choices=SCHEDULES, default=GUIDED, help=text)
    text = f"{tasks} that a rank takes at a time, with guided at least; not with block (default: 1)"
    add("--chunk", type=lambda text: count(text, 1), metavar="K", help=text)
