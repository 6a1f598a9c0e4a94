"""Time what it takes to give tasks to ranks, with tasks that do nothing.

    mpirun -n 2 python benchmarks/empty_tasks.py guided 4096 3

A schedule of `rankwise.data.queue`, or ``futures`` for mpi4py.futures with one task a message; the
tasks and the repeats. The last line of output is JSON: the seconds of each repeat, until rank 0 has
all results. `bench.py` runs this.
"""

from rankwise.job import Queue, launch

import json
import time


def of_queue(comm, schedule, tasks, repeats):
    """Yield the seconds of each repeat."""
    from rankwise.node import device
    from rankwise.node.rank import Rank
    from rankwise.ranks.clock import Clock

    rank = Rank(comm, Clock(repeats), device.choose(comm, "numpy", 1))
    with Queue(rank, tasks, schedule=schedule) as queue:
        for _ in rank.clock.repeats(comm.Barrier):
            start = time.perf_counter()
            queue.compute(nothing)
            queue.gather()
            yield time.perf_counter() - start


def of_futures(comm, _, tasks, repeats):
    """Yield the seconds of each repeat. Rank 0 gives out tasks and does none."""
    from mpi4py.futures import MPICommExecutor

    with MPICommExecutor(comm, root=0) as executor:
        for _ in range(repeats + 1) if executor is not None else ():
            start = time.perf_counter()
            list(executor.map(nothing, range(tasks)))
            yield time.perf_counter() - start


def nothing(*given):
    return None


def main(comm, argv):
    way, tasks, repeats = argv[0], int(argv[1]), int(argv[2])
    ways = of_futures if way == "futures" else of_queue
    seconds = list(ways(comm, way, tasks, repeats))
    if comm.rank == 0:
        # The first repeat is the warm-up.
        print(json.dumps({"seconds": seconds[1:]}))


if __name__ == "__main__":
    launch(main)
