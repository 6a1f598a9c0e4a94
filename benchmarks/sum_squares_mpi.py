"""Time the sum of squares on several ranks, the way of our job or the plain way.

    OMP_NUM_THREADS=1 mpirun -n 2 python benchmarks/sum_squares_mpi.py ours 1e8 3
    OMP_NUM_THREADS=1 mpirun -n 2 python benchmarks/sum_squares_mpi.py plain 1e8 3

The numbers are elements and repeats. Both ways draw the same vector on rank 0. The last line of
output is JSON: the seconds of rank 0 in each repeat, by phase, where ``wall`` is from a barrier to
a barrier around all of them. `sum_squares.py` runs this.
"""

import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from runtime import program
from runtime.clock import PHASES

JOB = Path(__file__).parents[1] / "jobs" / "sum_squares.py"


def ours(comm, n, repeats):
    """Run the job itself, with a stop watch around its `solve`. Collective over `comm`.

    The sum of its own phases would flatter it: agreement among the ranks and the freeing of
    buffers are in none.
    """
    spec = importlib.util.spec_from_file_location("job", JOB)
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    solve, wall, clock = job.solve, [], None

    def timed_solve(comm, *arguments):
        nonlocal clock
        clock = arguments[-1].clock
        comm.Barrier()
        start = time.perf_counter()
        result = solve(comm, *arguments)
        comm.Barrier()
        wall.append(time.perf_counter() - start)
        return result

    job.solve = timed_solve
    options = ["--variant", "numba", "--n", n, "--repeats", repeats]
    options += ["--threads", os.environ["OMP_NUM_THREADS"]]
    with tempfile.TemporaryDirectory() as folder:
        job.main(comm, [*options, "--output", str(Path(folder) / "record.h5")])
    phases = dict(zip(PHASES, np.nan_to_num(clock.seconds.T), strict=True))
    return {
        "draw": phases["read"].tolist(),
        "scatter": phases["scatter"].tolist(),
        "kernel": phases["kernel"].tolist(),
        "gather": (phases["wait"] + phases["gather"]).tolist(),
        "wall": wall[1:],  # the first is the job's warm-up
    }


def plain(comm, n, repeats):
    """Draw all, `Scatterv`, `np.dot`, `reduce`. Collective over `comm`."""
    n = int(float(n))
    counts = [n * (rank + 1) // comm.size - n * rank // comm.size for rank in range(comm.size)]
    # Allocated once, like the job's: the pages are there when the timed repeats begin.
    x = np.empty(n) if comm.rank == 0 else None
    part = np.empty(counts[comm.rank])
    times = []
    for _ in range(int(repeats) + 1):
        comm.Barrier()
        marks = [time.perf_counter()]
        if comm.rank == 0:
            np.random.default_rng(0).random(out=x)
        marks.append(time.perf_counter())
        comm.Scatterv([x, counts] if comm.rank == 0 else None, part)
        marks.append(time.perf_counter())
        total = np.dot(part, part)
        marks.append(time.perf_counter())
        comm.reduce(total)
        marks.append(time.perf_counter())
        comm.Barrier()
        times.append([*np.diff(marks), time.perf_counter() - marks[0]])
    names = ("draw", "scatter", "kernel", "gather", "wall")
    return dict(zip(names, np.transpose(times[1:]).tolist(), strict=True))


def main(comm, argv):
    from mpi4py import MPI

    seconds = {"ours": ours, "plain": plain}[argv[0]](comm, *argv[1:])
    if comm.rank == 0:
        library = " ".join(MPI.Get_library_version().splitlines()[0].strip("\0").split())
        print(json.dumps({"mpi": library.partition(",")[0], **seconds}))


if __name__ == "__main__":
    program.launch(main)
