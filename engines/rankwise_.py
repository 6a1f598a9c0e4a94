"""This project's queue: the ranks of an MPI job take tasks, and rank 0 has all results.

    mpirun -n 2 python engines/rankwise_.py --work rows
    srun -N 2 -n 4 python engines/rankwise_.py --work rows

All ranks run this program and have the list of tasks, so that none is sent. Here results may be any
object, and go to rank 0 pickled. Where they are numbers, let the queue bring them, as the job in
docs/uneven-tasks.md does.
"""

from rankwise.job import Queue, Rank, launch

from contextlib import contextmanager

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
    own = {}

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
