"""Dask: a scheduler gives tasks to workers, on this machine or on all nodes of an allocation.

    python engines/dask_.py --work rows --workers 2     # a LocalCluster
    srun -N 2 -n 4 python engines/dask_.py --work rows  # dask-mpi

With dask-mpi, rank 0 is the scheduler, rank 1 this program, and each other rank a worker.
"""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

import os
from contextlib import contextmanager
from functools import partial

from engines import work


@contextmanager
def pool(workers, mpi=False):
    """Start worker processes, or take the ranks that dask-mpi has made workers."""
    from distributed import Client, worker

    # Near a limit of memory Dask pauses workers, if need be for ever: memory_limit=0.
    local = dict(n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit=0)
    with Client(**({} if mpi else local)) as client:
        client.wait_for_workers(workers)
        # A worker that ends during a heartbeat prints a traceback; all is well (Dask, issue 7105).
        client.run(worker.logger.addFilter, lambda record: "with scheduler" not in record.msg)
        yield partial(compute, client)


def compute(client, function, tasks):
    """Return the results of all tasks; of equal ones too, of which Dask else does one (pure)."""
    if tasks and all(hasattr(task, "nbytes") for task in tasks):
        # Arrays straight to the workers: inside of tasks they would go through the scheduler.
        tasks = client.scatter(tasks, direct=True, hash=False)
    return client.gather(client.map(function, tasks, pure=False))


run = work.runner(pool)


def workers_of_mpi():
    """Make the ranks a cluster, if there are several; return how many workers it has, on rank 1."""
    if work.launched()[0] > 1:
        os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")  # Dask warns of its end
        try:
            from dask_mpi import initialize
            from mpi4py import MPI
        except ModuleNotFoundError as error:
            work.refuse(work.explain(error))
        if MPI.COMM_WORLD.size < 3:
            work.refuse("rank 0 is the scheduler and rank 1 this program: start 3 ranks or more")
        initialize(dashboard=False, dashboard_address=":0", memory_limit=0)
        return MPI.COMM_WORLD.size - 2


if __name__ == "__main__":
    workers = workers_of_mpi()
    work.main(partial(pool, mpi=workers is not None), __doc__, workers=workers)
