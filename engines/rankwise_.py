"""This project's queue: ranks of an MPI job take tasks, and rank 0 has all results.

    mpirun -n 2 python engines/rankwise_.py --work rows
    srun -N 2 -n 4 python engines/rankwise_.py --work rows

All ranks run this program, and make the list of tasks; of arrays all get those of rank 0. Results
may be anything, and go to rank 0 pickled; if they are numbers, the queue can: docs/uneven-tasks.md.
"""

from rankwise.job import Queue, Rank, Stop, launch

from contextlib import contextmanager

import numpy as np

from engines import work


@contextmanager
def pool(workers):
    """Let the ranks of this program be the workers."""
    from mpi4py import MPI

    rank = Rank.on_host(MPI.COMM_WORLD)
    if rank.comm.size != workers:
        raise work.Mistake(f"{workers} workers are {workers} ranks: mpirun -n {workers} ...")
    yield lambda function, tasks: compute(rank, function, tasks)


run = work.runner(pool)


def compute(rank, function, tasks):
    """Return all results on rank 0, an empty list on the others."""
    comm, own = rank.comm, {}
    for array in (task for task in tasks if isinstance(task, np.ndarray)):
        comm.Bcast(array)

    def call(first, out):
        own[first] = function(tasks[first])

    with Queue(rank, len(tasks)) as queue:
        queue.compute(call)
    every = dict(pair for each in comm.gather(own) or [] for pair in each.items())
    return [every[task] for task in sorted(every)]


def main(comm, argv):
    Rank.on_host(comm).on_root(work.compile_kernels)  # others find it in Numba's cache
    try:
        work.main(pool, __doc__, workers=comm.size, root=comm.rank == 0)
    except SystemExit as end:
        stop = Stop("", end.code)
        stop.agreed = True  # all ranks have the same command line
        raise stop from None


if __name__ == "__main__":
    work.refuse_mpi4py()
    launch(main)
