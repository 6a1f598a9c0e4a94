"""Time one way to sum the squares of a vector on several ranks.

    OMP_NUM_THREADS=1 mpirun -n 2 python benchmarks/ranks.py shared 1e8 3

The way, the elements and the repeats. ``shared``, ``kernel``, ``private`` and ``local`` are made of
this project's parts, the others of what the documentation of their library shows. The last line of
output is JSON: the seconds of each repeat between barriers, and the bytes of all ranks (Pss) while
they hold the vector. `bench.py` runs this.
"""

import json
import os
import sys
import time

import numpy as np

from rankwise.ranks.start import launch


def proportional_memory():
    """Return the bytes of this process, those of shared memory divided by all that share them.

    Not those of files: what libraries take depends on who else has loaded them.
    """
    with open("/proc/self/smaps_rollup") as rollup:
        kibibytes = dict(line.split()[:2] for line in rollup if " kB" in line)
    return 1024 * sum(int(kibibytes[f"Pss_{kind}:"]) for kind in ("Anon", "Shmem"))


def draw(start, rows):
    generator = np.random.Generator(np.random.PCG64(0).advance(start))
    generator.random(out=rows)


def leave(start, rows):
    """Let the rows be as they are: what rank 0 has is where its node sees it."""


def parts(comm, n, way):
    """Return the step to repeat, of this project's parts."""
    from kernels import sum_squares
    from kernels.sum_squares import BLOCK
    from rankwise.data.rows import Rows
    from rankwise.node import compilation, device, variants
    from rankwise.node.rank import Rank
    from rankwise.ranks.clock import Clock

    place = device.choose(comm, "numba", int(os.environ["OMP_NUM_THREADS"]))
    rank = Rank(comm, Clock(1), place)
    block_sums = variants.load(sum_squares, "numba").block_sums
    one, out = np.ones(1), np.empty(1)
    compilation.warm_up(place.node, "sum_squares-float64", lambda: block_sums(one, out))
    x = Rows(rank, (n,), np.float64, BLOCK)
    sums = x.per_block()
    distribute, source = x.each if way == "local" else x.scatter, draw
    if way == "private" and comm.rank == 0:
        source = np.empty(n)
        draw(0, source)
    distribute(source)
    if rank.warnings:
        # Messages would be timed under the name of shared memory.
        sys.exit("error: no shared memory")
    if way == "shared":
        source = leave

    def step():
        if way == "kernel":
            block_sums(x.own, sums)
            return None
        distribute(source)
        x.compute(block_sums, sums)
        return x.sum_to_root(sums)

    return step


def scatterv(comm, n, way):
    """Return the step to repeat: ``Scatterv``, ``np.dot``, ``reduce``."""
    counts = [n * (rank + 1) // comm.size - n * rank // comm.size for rank in range(comm.size)]
    # Allocated once: the pages are there when the timed repeats begin.
    x = np.empty(n) if comm.rank == 0 else None
    part = np.zeros(counts[comm.rank])
    if comm.rank == 0:
        draw(0, x)

    def step():
        if comm.rank == 0 and way == "scatterv drawn":
            draw(0, x)
        comm.Scatterv([x, counts] if comm.rank == 0 else None, part)
        return comm.reduce(np.dot(part, part))

    return step


def pickled(comm, n, way):
    """Return the step to repeat, as guides for beginners show it."""
    x = np.empty(n) if comm.rank == 0 else None
    if comm.rank == 0:
        draw(0, x)

    def step():
        part = comm.scatter(np.array_split(x, comm.size) if comm.rank == 0 else None)
        sums = comm.gather(np.dot(part, part))
        return sum(sums) if comm.rank == 0 else None

    return step


WAYS = {
    **dict.fromkeys(("shared", "kernel", "private", "local"), parts),
    **dict.fromkeys(("scatterv", "scatterv drawn"), scatterv),
    "pickle": pickled,
}


def main(comm, argv):
    from mpi4py import MPI

    way, n, repeats = argv[0], int(float(argv[1])), int(argv[2])
    step, seconds = WAYS[way](comm, n, way), []
    for _ in range(repeats + 1):
        comm.Barrier()
        start = time.perf_counter()
        total = step()
        comm.Barrier()
        seconds.append(time.perf_counter() - start)
    memory = comm.reduce(proportional_memory())
    if comm.rank == 0:
        # For x uniform in [0, 1), x^2 has the mean 1/3 and the variance 4/45.
        if total is not None and not abs(total - n / 3) < 6 * (n * 4 / 45) ** 0.5:
            sys.exit(f"error: {way} says {total}")
        library = " ".join(MPI.Get_library_version().splitlines()[0].strip("\0").split())
        # The first repeat is the warm-up.
        print(json.dumps({"seconds": seconds[1:], "memory": memory, "mpi": library}))


if __name__ == "__main__":
    launch(main)
