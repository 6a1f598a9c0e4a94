"""This project's queue: the ranks of an MPI job take tasks, and rank 0 has all results.

    mpirun -n 2 python engines/rankwise_.py --work rows
    srun -N 2 -n 4 python engines/rankwise_.py --work rows

All ranks run this program and have the list of tasks. Only arrays are sent: rank 0 has them, and
any rank may do any task, so all get all of them. (Where each rank is to get its own part alone, see
`jobs/sum_squares.py`.) Here results may be any object, and go to rank 0 pickled. Where they are
numbers, let the queue bring them, as the job in docs/uneven-tasks.md does.
"""

from rankwise.job import Queue, Rank, launch

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


def broadcast(comm, arrays):
    """Return the arrays of rank 0, on all ranks."""
    forms = comm.bcast([(array.shape, array.dtype) for array in arrays])
    if comm.rank:
        arrays = [np.empty(*form) for form in forms]
    for array in arrays:
        comm.Bcast(array)
    return arrays


def compute(rank, function, tasks):
    """Return all results on rank 0, an empty list on the others."""
    own = {}
    if tasks and isinstance(tasks[0], np.ndarray):
        tasks = broadcast(rank.comm, tasks)

    def call(first, out):
        own[first] = function(tasks[first])
        out[0] = 1

    with Queue(rank, len(tasks)) as queue:
        queue.compute(call)
    every = {task: result for each in rank.comm.gather(own) or [] for task, result in each.items()}
    return [every[task] for task in sorted(every)]


def main(comm, argv):
    rank = Rank.on_host(comm)
    # One rank compiles, the others find it in the cache.
    rank.on_root(work.compile_kernels)
    rank.agree(work.compile_kernels)
    work.main(pool, __doc__, workers=comm.size, root=comm.rank == 0)


if __name__ == "__main__":
    launch(main)
