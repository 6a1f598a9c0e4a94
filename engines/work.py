"""Works for all engines, each in many tasks; the digest of their results; the command line.

sum
    The sum of squares of 1e7 elements, or ``--n``, of one stream of random numbers, in pieces. A
    worker draws its piece (``--data made``), or gets it sent (``--data sent``). A result is the
    sums of the blocks of a piece, as `kernels.sum_squares` defines them.
rows
    A picture of the Mandelbrot set, of the window and the size of ``jobs/mandelbrot.py --n 1024``.
    A task is a row, and rows take unequal times. A result is the sum of the counts of a row.

Whichever engine does them, results have the same bits.
"""

import argparse
import functools
import hashlib
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from numba import njit
from numpy.random import PCG64, Generator

from kernels import mandelbrot
from kernels.mandelbrot.numba_ import count_share
from kernels.sum_squares import BLOCK
from kernels.sum_squares.numba_ import block_sum

N = 10**7
PIECE = 16 * BLOCK

SIDE = 1024
LIMIT = 5000
X, Y = mandelbrot.coordinates(SIDE, (-0.5, 0.5), 3.25)

# Which extra brings a package that is not there.
EXTRAS = {
    **dict.fromkeys(("dask", "dask_mpi", "distributed", "joblib", "psutil"), "engines"),
    "mpi4py": "jobs",
    "ray": "ray",
}

# Variables by which launchers tell how many processes they have started, and which one this is.
LAUNCHERS = {
    "PMI_SIZE": "PMI_RANK",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}


class Mistake(Exception):
    """The user's: one sentence, and exit status 2."""


def draw(bounds):
    """Return the elements from ``bounds[0]`` to ``bounds[1]`` of the stream of numbers."""
    first, end = bounds
    return Generator(PCG64(0).advance(first)).random(end - first)


def sum_squares(piece):
    """Return the block sums of a piece of the vector, which is given by its bounds or sent."""
    x = draw(piece) if isinstance(piece, tuple) else piece
    if rest := len(x) % BLOCK:
        x = np.pad(x, (0, BLOCK - rest))
    return np.array([block_sum(x[first : first + BLOCK]) for first in range(0, len(x), BLOCK)])


def row(number):
    """Return the sum of the counts of a row of the picture."""
    counts = np.empty(SIDE, np.int32)
    count_share(number * SIDE, counts, X, Y, LIMIT, 0, 1)
    return int(counts.sum())


@njit(nogil=True, cache=True)
def spin(iterations):
    """Keep a core busy without Python's lock, for a time that grows with the iterations.

    No compiler can leave them out: each number needs the one before. G. Marsaglia, Xorshift RNGs,
    Journal of Statistical Software 8 (14), 2003.
    """
    x = np.uint64(88172645463325252)
    for _ in range(iterations):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
    return x


def compile_kernels():
    """Compile what is not in Numba's cache, so that workers find it there."""
    row(0)
    spin(1)
    piece = np.zeros(BLOCK)
    sum_squares(piece)
    # As engines give it that map an array which the worker may not change.
    piece.flags.writeable = False
    sum_squares(piece)


def tasks_of(work, data="made", n=N):
    """Return the function of a work, and a list of its tasks; a sum is of `n` elements."""
    if work == "rows":
        return row, list(range(SIDE))
    pieces = [(first, min(first + PIECE, n)) for first in range(0, n, PIECE)]
    return sum_squares, [draw(piece) for piece in pieces] if data == "sent" else pieces


def timed(function, task):
    """Return the result of a task, the worker that did it, and the CPU seconds that it took."""
    start = time.thread_time()
    result = function(task)
    seconds = time.thread_time() - start
    return result, f"{socket.gethostname()} {threading.get_native_id()}", seconds


def digest(results):
    """Return the first digits of the SHA-256 of all results, in the order of their tasks."""
    octets = np.concatenate([np.atleast_1d(result) for result in results]).tobytes()
    return hashlib.sha256(octets).hexdigest()[:12]


def require_importable(function):
    """Refuse what a worker in another process could not import: only its name is sent.

    Raises
    ------
    Mistake
        It is a lambda, or stands inside a function, or in no file.
    """
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", repr(function))
    module = getattr(function, "__module__", None)
    found = sys.modules.get(module)
    # What was typed, or came through a pipe, no other process can read again.
    typed = module == "__main__" and not os.path.isfile(getattr(found, "__file__", ""))
    for part in name.split("."):
        found = getattr(found, part, None)
    if typed or found is not function:
        raise Mistake(
            f"workers in other processes cannot import {name}: define the function with def, at "
            "the top of a module that is a file"
        )


def runner(pool):
    """Return ``run`` of an engine.

    Parameters
    ----------
    pool : callable
        ``with pool(workers) as compute:`` starts the workers, and ends them; ``compute(function,
        tasks)`` returns a list of results. Where all ranks of MPI call it, those but 0 get an empty
        list.
    """

    def run(function, tasks, workers):
        """Return ``function(task)`` of all tasks, in their order; start and end the workers.

        Call it under ``if __name__ == "__main__":``, since worker processes import the program.
        """
        require_importable(function)
        if workers < 1:
            raise Mistake(f"{workers} workers do no task: take 1 or more")
        with pool(workers) as compute:
            return compute(function, list(tasks))

    return run


def launched():
    """Return how many processes a launcher has started, and the number of this one."""
    for size, number in LAUNCHERS.items():
        if size in os.environ:
            return int(os.environ[size]), int(os.environ.get(number, 0))
    return 1, 0


def begin_alone():
    """Begin a program that starts its workers itself; if it has copies, end all of them."""
    # By itself, Python would end at SIGTERM without its workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    copies, number = launched()
    if copies > 1 and number:
        # A launcher ends all when the first has gone.
        time.sleep(1.0)
        sys.exit(2)
    if copies > 1:
        fail(
            f"the launcher started {copies} copies of this program, each of which would do "
            "everything: start one, which has workers of its own (--workers)"
        )


def under_mpi4py():
    """Return whether mpi4py runs this program, on rank 0 alone, with the others as its workers."""
    return bool({"mpi4py.futures", "-mmpi4py.futures"} & set(sys.orig_argv))


def refuse_mpi4py():
    """End a program that all ranks have to run."""
    if under_mpi4py():
        fail("all ranks run this program: leave out -m mpi4py.futures")


def cores():
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def count(text):
    """Read a number of workers."""
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= cores():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not from 1 to {cores()}, which is one for each core of this process"
        )
    return number


def whole(text):
    """Read a whole number from 1 on, also one such as 1e8."""
    number = float(text)
    if number < 1 or not number.is_integer():
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(number)


def parse(doc, lessons, workers, root):
    """Return the options of an engine; they are told to the user once."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if not root:
        parser.print_help, parser.error = (lambda: None), (lambda message: sys.exit(2))
    add = parser.add_argument
    text = "a sum of squares, or the rows of a picture (default: rows)"
    add("--work", choices=("sum", "rows"), default="rows", help=text)
    text = "the pieces of a sum: made by the worker, or sent to it (default: made)"
    add("--data", choices=("made", "sent"), default="made", help=text)
    if workers is None:
        begin_alone()
        text = f"at most, and by default, one for each core: {cores()}"
        add("--workers", type=count, metavar="N", help=text)
    if lessons:
        text = "show what else this module has, instead of doing a work"
        add("--lessons", action="store_true", help=text)
    add("--n", type=whole, metavar="N", help="elements of a sum (default: 1e7)")
    add("--repeats", type=whole, default=1, metavar="N", help="do all tasks so often (default: 1)")
    text = "print one JSON line and nothing else: the seconds of each repeat, without the start"
    add("--json", action="store_true", help=text)
    args = parser.parse_args()
    if args.work == "rows" and (args.data == "sent" or args.n):
        parser.error("a row needs no data: --data sent and --n go with --work sum")
    if workers is None:
        workers = args.workers or cores()
    return args, workers


def teach(lessons):
    """Print the first line of each lesson, and what it shows."""
    for lesson in lessons:
        print(lesson.__doc__.partition("\n")[0])
        lesson()


def measure(pool, workers, function, tasks, repeats):
    """Return the results of the last repeat, the seconds of each, and those of the start."""
    call, seconds = functools.partial(timed, function), []
    start = time.perf_counter()
    with pool(workers) as compute:
        compute(call, tasks[:workers])
        start_up = time.perf_counter() - start
        for _ in range(repeats):
            start = time.perf_counter()
            results = compute(call, tasks)
            seconds.append(time.perf_counter() - start)
    return results, seconds, start_up


def show(work, results, seconds, start_up):
    """Print what was done, by whom, and the digest of the results."""
    busy = defaultdict(list)
    for _, worker, spent in results:
        busy[worker].append(spent)
    print(f"{work}: {len(results)} tasks in {seconds:.3g} s, after a start of {start_up:.3g} s")
    print(f"{'worker':<24} {'tasks':>6} {'busy seconds':>13}")
    for worker, spent in sorted(busy.items()):
        print(f"{worker:<24} {len(spent):>6} {sum(spent):>13.3g}")
    values = [result for result, _, _ in results]
    if work == "sum":
        print(f"sum of squares {math.fsum(np.concatenate(values)):.15g}")
    print(f"digest {digest(values)}", flush=True)


def main(pool, doc, *lessons, workers=None, root=True):
    """Do a work through an engine, as the command line says, and print how it went.

    Parameters
    ----------
    pool : callable
        See `runner`.
    doc : str
        Of the engine, for ``--help``.
    *lessons : callables
        Called instead with ``--lessons``; each prints what it shows.
    workers : int, optional
        How many there are, where it is not up to the command line.
    root : bool
        Whether this is the process that prints.
    """
    args, workers = parse(doc, lessons, workers, root)
    try:
        compile_kernels()
        if lessons and args.lessons:
            return teach(lessons)
        work = tasks_of(args.work, args.data, args.n or N)
        results, seconds, start_up = measure(pool, workers, *work, args.repeats)
        if root and args.json:
            print(json.dumps({"seconds": seconds, "start_up": start_up}), flush=True)
        elif root:
            show(args.work, results, seconds[-1], start_up)
    except (Mistake, ModuleNotFoundError) as error:
        fail(explain(error))


def explain(error):
    """Return the sentence for a mistake; that of a missing package says how to install it."""
    if isinstance(error, ModuleNotFoundError):
        if error.name not in EXTRAS:
            raise error
        return f"no {error.name}: pip install -e '.[{EXTRAS[error.name]}]', in the clone"
    return str(error)


def refuse(text):
    """End all ranks of an MPI program with one sentence, and with status 2. Every rank calls it.

    Where a launcher has started copies of rank 0 of 1, the sentence says how to mend that.
    """
    from rankwise.job import Rank, Stop, launch

    def stop():
        raise Stop(text)

    try:
        launch(lambda comm, argv: Rank.on_host(comm).agree(stop))
    finally:
        # A program started by mpi4py itself would call MPI_Abort, which prints a line of its own.
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi and mpi.Is_initialized():
            mpi.Finalize()


def fail(text):
    """Print one sentence, and end with status 2."""
    print(f"{Path(sys.argv[0]).name}: error: {text}", file=sys.stderr, flush=True)
    sys.exit(2)
