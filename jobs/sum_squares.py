"""Sum of the squares of a vector: x_0^2 + x_1^2 + ... + x_(n-1)^2.

    mpirun -n 4 python jobs/sum_squares.py
    mpirun -n 4 python jobs/sum_squares.py --n 1e9 --repeats 10 --output sum.h5
    mpirun -n 4 python jobs/sum_squares.py --input data.h5:/signal

Communication: rank 0 draws or reads the vector and sends each rank its blocks; each rank sums its
    blocks; the block sums gather to rank 0, which adds them in an order that no rank count changes.
Check: every rank sums its part again with dot products; a drawn part it draws anew, so that the
    scatter is checked too. Both sums have rounding errors: that of the block sums is bounded by
    `kernels.sum_squares.error_bound`; a dot product of m terms in any order, with or without fused
    operations, rounds a term m times at most (Higham, 2nd ed., eq. 3.5), and `fsum` once.
"""

import argparse
import functools
import math

import numpy as np

import kernels
from kernels.sum_squares import BLOCK, combine, error_bound, relative_error
from runtime import collectives, compilation, partition, program
from runtime import run as runs
from runtime.dataset import Dataset
from runtime.program import Stop, agreement
from runtime.record import Result


def arguments():
    parser = argparse.ArgumentParser(
        prog="sum_squares.py",
        description=__doc__.partition("Communication")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--n", type=program.count, default=10**7, help="elements to draw (default: 1e7)"
    )
    source.add_argument(
        "--input", metavar="FILE", help="FILE.h5:/dataset or FILE.npy, float64 or float32, 1-D"
    )
    parser.add_argument("--seed", type=program.count, default=0, help="of the drawn elements")
    return parser


def draw(seed, start, rows):
    """Fill `rows` with the elements from `start` on: one number of the PCG64 stream each."""
    bits = np.random.PCG64(seed).advance(start)
    np.random.Generator(bits).random(out=rows)


def open_source(comm, args):
    """Return what fills rows on rank 0, the number of elements and their dtype."""
    if args.input is None:
        return functools.partial(draw, args.seed), args.n, np.dtype(np.float64)
    read, shape, dtype = None, None, None
    with agreement(comm):
        if comm.rank == 0:
            data = Dataset(args.input, ndim=1, dtypes=(np.float64, np.float32))
            read, shape, dtype = data.read, data.shape, data.dtype
    return read, *comm.bcast((*(shape or ()), dtype))


def solve(comm, source, counts, x, kernel, run):
    """Scatter the vector, sum the blocks, gather; return this rank's sums and, on rank 0, all."""
    clock, device = run.clock, run.device
    blocks = [-(-count // BLOCK) for count in counts]
    with agreement(comm):
        collectives.scatter(comm, source, counts, x, clock)
    with clock.phase("to_device"):
        x, sums = device.to_device(x), device.empty(blocks[comm.rank])
    with clock.phase("kernel"):
        kernel.block_sums(x, sums)
    with clock.phase("to_host"):
        sums = device.for_mpi(sums)
    every = np.empty(sum(blocks)) if comm.rank == 0 else None
    collectives.gather(comm, sums, blocks, every, clock)
    return device.to_host(sums), every


def refuse_infinite(x, sums, start):
    """Stop if an element or a square is not finite, which shows in the sum of its block."""
    for block in np.flatnonzero(~np.isfinite(sums)):
        part = x[block * BLOCK : (block + 1) * BLOCK]
        first = start + block * BLOCK
        for bad in np.flatnonzero(~np.isfinite(part)):
            raise Stop(f"element {first + bad} of the input is {part[bad]}")
        raise Stop(f"the squares from element {first} on overflow float64")


def check(comm, totals, n, x, redraw, start):
    """Compare the totals of all repeats with each other and with an independent sum.

    Returns the total, how far it is from the independent sum, and how far it may be, on rank 0.
    """
    sums = []
    for first in range(0, len(x), BLOCK):
        part = x[first : first + BLOCK].astype(np.float64)
        if redraw is not None:
            redraw(start + first, part)
        sums.append(np.dot(part, part))
    sums = comm.gather(math.fsum(sums))
    with agreement(comm):
        if comm.rank == 0:
            total = totals[0]
            if totals != [total] * len(totals):
                raise Stop(f"check failed: the repeats differ, {totals}", status=1)
            error = abs(total - math.fsum(sums))
            bound = error_bound(n, total) + relative_error(BLOCK + 2) * total
            if not error <= bound:
                raise Stop(f"check failed: off by {error}, rounding explains {bound}", status=1)
            return total, {"error": error, "bound": bound}
    return None, None


def main(comm, argv):
    run = runs.begin(comm, "sum_squares", arguments(), argv)
    source, n, dtype = open_source(comm, run.args)
    counts = partition.counts(n, comm.size, BLOCK)
    start = partition.displs(counts)[comm.rank]
    with run.clock.phase("import"), agreement(comm, NotImplementedError):
        kernel = kernels.load("sum_squares", run.device.variant)
    with agreement(comm, MemoryError):
        x = run.device.mpi_buffer(counts[comm.rank], dtype)
    one, out = run.device.to_device(np.ones(1, dtype)), run.device.empty(1)
    with run.clock.phase("compile"):
        compilation.warm_up(run.device.node, lambda: kernel.block_sums(one, out))
    totals = []
    for repeat in run.clock.repeats():
        sums, every = solve(comm, source, counts, x, kernel, run)
        if repeat < 0:
            with agreement(comm):
                refuse_infinite(run.device.to_host(x), sums, start)
        elif comm.rank == 0:
            totals.append(combine(every))
    redraw = source if run.args.input is None else None
    total, checked = check(comm, totals, n, run.device.to_host(x), redraw, start)
    results = {
        "total": Result(np.float64(total), "1", "sum of the squares"),
        "block_sums": Result(every, "1", f"sums of {BLOCK} consecutive squares"),
    }
    runs.finish(comm, run, results, checked, kernel_bytes=n * dtype.itemsize)


if __name__ == "__main__":
    program.launch(main)
