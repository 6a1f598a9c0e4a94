"""Clusters by k-means (Lloyd): points go to the nearest centre, centres to their points' mean.

    mpirun -n 4 python jobs/k_means.py
    mpirun -n 4 python jobs/k_means.py --n 1e7 --d 8 --k 5 --distribute local
    mpirun -n 4 python jobs/k_means.py --input points.h5:/x --k 5 --start random --checkpoint c.h5

Communication: rank 0 draws or reads the points and sends each rank its blocks; in each step the
    sums and sizes of the clusters are added over all ranks (Allreduce of whole numbers, exact in
    any order), and the inertia, the sum of the squared distances, in one fixed tree.
Check: the points are those that were drawn or read. Each rank computes labels, sums and inertia of
    its points in another way, see `kernels.k_means.check`; the inertia never rises.
"""

# First: from here on a rank that fails ends the others.
from rankwise.job import Run, add_input, add_loop, count, launch

import numpy as np

from kernels import k_means
from kernels.k_means import check


def options(parser):
    made = add_input(parser, "the points, a row each: float64, float32 or uint8, 2-D", local=True)
    made.add_argument("--n", type=count, default=10**5, help="points to draw (default: 1e5)")
    add, few = parser.add_argument, lambda text: count(text, 1, 10**4)
    add("--d", type=few, help="dimensions of drawn points (default: 4)")
    add("--k", type=few, default=3, help="clusters (default: 3)")
    add("--seed", type=count, default=0, help="of drawn points and of --start random (default: 0)")
    meaning = "first centres: each (n/k)-th point (default), the first points, or random ones"
    add("--start", choices=("spread", "first", "random"), default="spread", help=meaning)
    add_loop(parser, 300, "steps at most; fewer if the centres stay where they are")


def solve(run, x, loop, points, first, scale, assign, labels, there, sums):
    """Do the steps; return totals, centres before and after the last step, inertias; a checksum."""
    device, new, inertias, mark = run.device, first.copy(), [], 0
    totals = np.empty(there.shape, np.int64)
    with run.phase("to_device"):
        points = device.to_device(points)
    for _ in loop.steps(lambda: {"centres": (new, "1", "after the step")}):
        centres = new.copy()
        mark = check.checksum(centres, mark)
        with run.phase("kernel"):
            assign(points, device.to_device(centres), labels, there, sums, scale=scale)
        with run.phase("reduce"):
            run.comm.Allreduce(device.to_host(there), totals)
        inertias.append(float(x.sum_to_all(sums)))
        new[...] = k_means.means(totals, centres, scale)
        if run.comm.bcast(np.array_equal(new, centres)):  # of rank 0: all leave together
            break
    return (totals, centres, run.same(new), inertias), mark


def answer(run, evidence, wrong, labels, found, s, ends):
    """Check the last step, and return what the record holds. On rank 0."""
    totals, centres, new, inertias = found
    done, moving = run.first_step + len(inertias), not np.array_equal(new, centres)
    run.check(wrong, 0, "blocks that are not as they were drawn or read: exact")
    run.check(abs(run.args.steps - done) * moving, 0, "steps too few or too many: exact")
    for each in check.judge(evidence, labels, *found, ends):
        run.check(*each)
    for text in check.remarks(evidence, totals, centres, new, ends):
        run.warn(text)
    return {
        "centres": (new, "1", "means of the points of the clusters"),
        "counts": (totals[:, -1], "1", "points of the clusters"),
        "labels": (labels, "1", "cluster of each point, from 0"),
        "inertia": (inertias[-1], "1", "sum of the squared distances to the centres"),
        "iterations": (done, "1", "steps until the centres stayed"),
        "shift": (s, "1", "points are rounded to whole multiples of 2^-shift"),
    }


def main(comm, argv):
    run = Run(comm, argv, __file__, __doc__, options, kernel=k_means, grow="n")
    args = run.args
    shape = args.n, args.d or 4
    drawn = k_means.blobs(args.seed, shape[1], args.k)
    source = run.source(drawn, shape, k_means.DTYPES, k_means.LARGEST, args.k, ("d",))
    args.n, args.d = n, d = source.shape  # of an input too, for the record
    problem = {name: vars(args)[name] for name in ("n", "d", "k", "seed", "start")}
    loop = run.loop(problem, 8 * args.k * d, source)
    x, assign = run.rows(source, k_means.BLOCK), run.kernel("assign", scale=1.0)
    run.compile(assign, *k_means.one_point(d))
    labels, sums = x.per_row(np.int32), x.per_block()
    there = run.device.empty((args.k, d + 1), np.int64)
    first = comm.bcast(run.on_root(k_means.first_centres, source, source.dtype, *problem.values()))
    with loop:
        loop.resume_on_all("centres", first)
        for _ in run.repeats():
            (x.each if args.distribute == "local" else x.scatter)(source)
            points = x.on_host().astype(np.float64)  # a copy, since the check takes what came
            with run.phase("reduce"):
                ends = np.max(comm.allgather(k_means.extent(points)), axis=0)
            s = k_means.shift(np.abs(ends).max(), n)
            k_means.round_points(points, 2.0**s)
            found, mark = solve(run, x, loop, points, first, 2.0**s, assign, labels, there, sums)
            every = x.gather(labels)
        with run.phase("check"):
            wrong, ours = x.wrong_blocks(source), run.device.to_host(labels)
            own = check.examine(x.on_host(), ours, found[1], x.start, n, 2.0**s, mark)
            results = run.on_root(answer, run, comm.gather(own), wrong, every, found, s, ends)
        m = n * (loop.done - loop.first)
        # A step reads a point and writes its label; a term of a distance has three operations.
        run.finish(results, work=m, kernel_bytes=(8 * d + 4) * m, kernel_flops=3 * args.k * d * m)


if __name__ == "__main__":
    launch(main)
