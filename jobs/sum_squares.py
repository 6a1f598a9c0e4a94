"""Sum of the squares of a vector: x_0^2 + x_1^2 + ... + x_(n-1)^2.

    mpirun -n 4 python jobs/sum_squares.py
    mpirun -n 4 python jobs/sum_squares.py --n 1e9 --repeats 10 --distribute local --output sum.h5
    mpirun -n 4 python jobs/sum_squares.py --input data.h5:/signal

Communication: rank 0 draws or reads the vector, into memory that the ranks of its node share, and
    sends the ranks of other nodes their blocks; each rank sums its blocks; the block sums are added
    in one fixed tree, so that the bits are the same on any number of ranks.
Check: every rank draws its part once more, or compares checksums of what has arrived with those
    that rank 0 took as it read. Each block sum may differ from a dot product, and the total from
    the exact sum of them, by rounding errors, see `kernels.sum_squares.error_bound`.
"""

# First: from here on a rank that fails ends the others.
from rankwise.job import Run, Stop, add_input, count, launch

import functools
import math

import numpy as np
from numpy.random import PCG64, Generator

from kernels import sum_squares
from kernels.sum_squares import BLOCK, find_not_finite
from kernels.sum_squares.check import examine, judge, remarks


def options(parser):
    made = add_input(parser, "the elements, float64 or float32, 1-D", local=True)
    made.add_argument("--n", type=count, default=10**7, help="elements to draw (default: 1e7)")
    parser.add_argument("--seed", type=count, default=0, help="of the drawn elements (default: 0)")


def draw(seed, start, rows):
    """Fill `rows` with the elements from `start` on: one number of the PCG64 stream each."""
    Generator(PCG64(seed).advance(start)).random(out=rows)


def require_finite(x, sums, start):
    """Stop if an element of the input or its square is not finite."""
    index = find_not_finite(x, sums)
    if index is not None and np.isfinite(x[index]):
        raise Stop(f"the squares from element {start + index} on overflow float64")
    if index is not None:
        raise Stop(f"element {start + index} of the input is {x[index]}")


def answer(run, total, evidence, wrong, n):
    """Check the total, and return what the record holds. On rank 0."""
    if not math.isfinite(total):
        raise Stop("the sum of the squares overflows float64")
    run.check(wrong, 0, "blocks that are not as they were drawn or read: exact")
    for each in judge(evidence, total, n):
        run.check(*each)
    for text in remarks(total, n):
        run.warn(text)
    return {"total": (total, "1", "sum of the squares")}


def main(comm, argv):
    run = Run(comm, argv, __file__, __doc__, options, kernel=sum_squares, grow="n")
    args = run.args
    source = run.source(functools.partial(draw, args.seed), (args.n,), (np.float64, np.float32))
    args.n = n = source.shape[0]  # of an input too, for the record
    x = run.rows(source, BLOCK)
    distribute = x.each if args.distribute == "local" else x.scatter
    block_sums, sums = run.kernel("block_sums"), x.per_block()
    run.compile(block_sums, np.ones(1, source.dtype), np.ones(1))

    for repeat in run.repeats():
        distribute(source)
        x.compute(block_sums, sums)
        total = run.same(x.sum_to_root(sums))
        if repeat < 0:
            run.agree(require_finite, x.on_host(), run.device.to_host(sums), x.start)

    with run.phase("check"):
        wrong = x.wrong_blocks(source)
        own = examine(x.on_host(), run.device.to_host(sums))
        results = run.on_root(answer, run, total, comm.gather(own), wrong, n)
    run.finish(results, work=n, kernel_bytes=source.nbytes, kernel_flops=2 * n)


if __name__ == "__main__":
    launch(main)
