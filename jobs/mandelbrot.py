"""Escape counts of the Mandelbrot set: after how many steps z -> z^2 + c leaves the disc |z| <= 2.

    mpirun -n 4 python jobs/mandelbrot.py
    mpirun -n 4 python jobs/mandelbrot.py --n 8192 --schedule cyclic --output m.h5
    mpirun -n 4 python jobs/mandelbrot.py --centre -0.745,0.113 --width 0.01 --limit 20000

A row of points is a task, and rows take unequal times: a point inside takes --limit steps, one far
outside a few. With the schedule block the busiest of 2, 4 and 8 ranks computes for 1.83, 2.85 and
3.18 times the mean, with cyclic for 1.00: try that first, and a queue (guided, dynamic) where costs
are not smooth or ranks not equally fast. See `docs/uneven-tasks.md`.

Communication: a rank takes rows as the schedule says, with guided and dynamic from a counter in the
    memory of rank 0; the counts go to rank 0 in the order of the rows, whoever computed them.
Check: every row came from the rank that did it, once. One row in 16, and one of each rank, is done
    again by another algorithm, and by another rank if there is one: an orbit that comes back to the
    same two floats never leaves.
"""

# First: from here on a rank that fails ends the others.
from rankwise.job import Run, add_queue, count, launch, positive

import argparse
import functools

import numpy as np

from kernels import mandelbrot


def options(parser):
    add = parser.add_argument
    side, steps = lambda text: count(text, 1, 10**7), lambda text: count(text, 1, 2**31 - 1)
    add("--n", type=side, default=4096, help="rows, and points of a row (default: 4096)")
    add("--limit", type=steps, default=5000, help="steps of a point at most (default: 5000)")
    text = "of the window (default: -0.5,0.5)"
    add("--centre", type=point, default=(-0.5, 0.5), metavar="X,Y", help=text)
    add("--width", type=positive, default=3.25, help="of the window (default: 3.25)")
    add_queue(parser, "rows")


def point(text):
    """Read the two coordinates of a point."""
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y, such as -0.5,0.5") from None
    return x, y


def grow(args, ranks):
    """Turn the size of one rank into that of all: the work is rows x columns."""
    args.n = round(args.n * ranks**0.5)


def answer(run, every, lost, wrong, x, y):
    """Check the counts; return what the record holds, and the steps of all points. On rank 0."""
    args = run.args
    run.check(lost, 0, "rows that were not done once, or came otherwise than they were sent: exact")
    run.check(wrong, 0, "rows of a sample that another algorithm counts otherwise: exact")
    results = {
        "counts": (every, "1", "steps until |z| > 2; the limit if it never is", ("y", "x")),
        "y": (y, "1", "imaginary part of c, of the rows"),
        "x": (x, "1", "real part of c, of the columns"),
    }
    if mandelbrot.holds_the_set(args.centre, args.width):
        area = mandelbrot.area(every, args.limit, args.width)
        text = "of the points that do not leave, which are more than those of the set"
        results["area"] = area, "1", text
        text = f"of the set, to {mandelbrot.PUBLISHED_ERROR}: T. Foerstemann, 2012"
        results["published"] = mandelbrot.PUBLISHED_AREA, "1", text
    return results, mandelbrot.iterations(every)


def main(comm, argv):
    run = Run(comm, argv, __file__, __doc__, options, kernel=mandelbrot, grow=grow)
    args = run.args
    n = args.n
    queue = run.queue(n, n, np.int32)
    x, y = run.agree(mandelbrot.coordinates, n, args.centre, args.width, mistake=ValueError)
    given = {"x": run.device.to_device(x), "y": run.device.to_device(y), "limit": args.limit}
    counts, by_period = (run.kernel(f, **given) for f in ("counts", "counts_by_period"))
    at_once = run.kernel("at_once")(args.limit)
    for call in (counts, by_period):
        run.compile(functools.partial(call, 0), np.zeros(1, np.int32))

    with queue:
        for _ in run.repeats():
            queue.compute(counts, at_once)
            every = queue.gather()
        with run.phase("check"):
            lost = queue.wrong_tasks(every)
            wrong = queue.other_results(every, by_period, at_once)
            results, steps = run.on_root(answer, run, every, lost, wrong, x, y) or (None, 0)
        flops = mandelbrot.FLOPS * steps
        run.finish(results, work=steps, kernel_bytes=4 * n * n, kernel_flops=flops)


if __name__ == "__main__":
    launch(main)
