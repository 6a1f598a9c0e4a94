"""Sum of the squares of a vector: x_0^2 + x_1^2 + ... + x_(n-1)^2.

    mpirun -n 4 python jobs/sum_squares.py
    mpirun -n 4 python jobs/sum_squares.py --n 1e9 --repeats 10 --distribute local --output sum.h5
    mpirun -n 4 python jobs/sum_squares.py --input data.h5:/signal

Communication: rank 0 draws or reads the vector, into memory that the ranks of its node share, and
    sends the ranks of other nodes their blocks; each rank sums its blocks; the block sums gather to
    rank 0, which adds them in an order that no rank count changes.
Check: every rank sums its part again with dot products; a drawn part it draws anew, so that the
    scatter is checked too. The two may differ by the rounding errors of both, see
    `kernels.sum_squares.error_bound`.
"""

# First: from here on a rank that fails takes the others with it.
import rankwise.ranks.guard  # noqa: F401  # isort: skip

import argparse
import functools
import math

import numpy as np
from numpy.random import PCG64, Generator

import kernels
from kernels.sum_squares import BLOCK, combine, dot_sum, error_bound, find_not_finite, roundings
from rankwise.data import collectives, partition, staging, window
from rankwise.disk import dataset
from rankwise.disk.dataset import Dataset
from rankwise.disk.record import Result
from rankwise.node import compilation
from rankwise.ranks import start as program
from rankwise.ranks.agreement import Stop, agreement
from rankwise.run import options
from rankwise.run import run as runs


def arguments():
    parser = argparse.ArgumentParser(
        prog="sum_squares.py",
        description=__doc__.partition("Communication")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--n", type=options.count, default=10**7, help="elements to draw (default: 1e7)"
    )
    dataset.add_options(parser, source, "the elements, float64 or float32, 1-D")
    parser.add_argument("--seed", type=options.count, default=0, help="of the drawn elements")
    parser.add_argument(
        "--distribute",
        choices=("scatter", "local"),
        default="scatter",
        help="scatter: rank 0 draws or reads for all ranks (default); local: each rank its own, "
        "the same elements, of an --input that all ranks see",
    )
    return parser


def grow(args, ranks):
    """Turn the size of one rank into that of all: the work is the number of elements."""
    if args.input is not None:
        raise Stop("--weak lets --n grow with the ranks; the size of an --input is fixed")
    args.n *= ranks


def draw(seed, start, rows):
    """Fill `rows` with the elements from `start` on: one number of the PCG64 stream each."""
    Generator(PCG64(seed).advance(start)).random(out=rows)


def open_source(comm, args):
    """Return what fills rows, on the ranks that need it, the number of elements and their dtype."""
    if args.input is None:
        return functools.partial(draw, args.seed), args.n, np.dtype(np.float64)
    read, n, dtype = None, None, None
    with agreement(comm):
        if comm.rank == 0 or args.distribute == "local":
            dtypes = (np.float64, np.float32)
            data = Dataset(args.input, 1, dtypes, allow_external=args.allow_external)
            read, n, dtype = data.read, data.shape[0], data.dtype
    if args.distribute == "local":
        data.require_same(comm)
    return read, *comm.bcast((n, dtype))


def solve(comm, source, counts, place, kernel, run):
    """Distribute, sum the blocks, gather; return this rank's sums and, on rank 0, those of all."""
    clock, device = run.clock, run.device
    blocks = [-(-count // BLOCK) for count in counts]
    distribute = collectives.scatter if run.args.distribute == "scatter" else collectives.fill
    x = distribute(comm, source, counts, place, clock)
    sums = device.empty(blocks[comm.rank])
    staging.run(device, clock, kernel.block_sums, x, sums, BLOCK)
    with clock.phase("to_host"):
        sums = device.for_mpi(sums)
    every = np.empty(sum(blocks)) if comm.rank == 0 else None
    collectives.gather(comm, sums, blocks, every, clock)
    return device.to_host(sums), every


def refuse_not_finite(x, sums, start):
    """Stop if an element of the input or its square is not finite."""
    index = find_not_finite(x, sums)
    if index is not None and np.isfinite(x[index]):
        raise Stop(f"the squares from element {start + index} on overflow float64")
    if index is not None:
        raise Stop(f"element {start + index} of the input is {x[index]}")


def check(totals, independent, n):
    """Return the distance of the totals of all repeats from an independent one, and its bound."""
    total = totals[0]
    if not math.isfinite(total):
        raise Stop("the sum of the squares overflows float64")
    error = abs(total - math.fsum(independent))
    bound = error_bound(n, total, roundings(n)) + error_bound(n, total, BLOCK + 2)
    if totals != [total] * len(totals):
        raise Stop(f"check failed: the repeats differ, {totals}", status=1)
    return runs.checked(error, bound)


def main(comm, argv):
    run = runs.begin(comm, "sum_squares", arguments(), argv, grow)
    with run.clock.phase("import"), agreement(comm, NotImplementedError):
        kernel = kernels.load("sum_squares", run.device.variant)
    source, n, dtype = open_source(comm, run.args)
    run.args.n = n  # of an input too, for the record
    counts = partition.counts(n, comm.size, BLOCK)
    start = partition.displs(counts)[comm.rank]
    if run.args.distribute == "scatter":
        place = window.share(comm, run, counts, dtype)
    else:
        place = window.private(comm, counts, dtype)
    one, out = run.device.to_device(np.ones(1, dtype)), run.device.empty(1)
    with run.clock.phase("compile"):
        name = f"sum_squares-{dtype}"
        compilation.warm_up(run.device.node, name, lambda: kernel.block_sums(one, out))
    totals, results, checked = [], {}, {}
    for repeat in run.clock.repeats():
        sums, every = solve(comm, source, counts, place, kernel, run)
        if repeat < 0:
            with agreement(comm):
                refuse_not_finite(run.device.to_host(place.own), sums, start)
        elif comm.rank == 0:
            totals.append(combine(every))
    again = run.device.to_host(place.own)
    if run.args.input is None:
        source(start, again)
    independent = comm.gather(dot_sum(again))
    with agreement(comm):
        if comm.rank == 0:
            checked = check(totals, independent, n)
            results = {
                "total": Result(np.float64(totals[0]), "1", "sum of the squares"),
                "block_sums": Result(every, "1", f"sums of {BLOCK} consecutive squares"),
            }
    runs.finish(comm, run, results, checked, work=n, kernel_bytes=n * dtype.itemsize)


if __name__ == "__main__":
    program.launch(main)
