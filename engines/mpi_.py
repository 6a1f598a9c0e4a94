"""mpi4py.futures: rank 0 of an MPI job is this program, and the other ranks are its workers.

    mpirun -n 3 python -m mpi4py.futures engines/mpi_.py --work rows
    srun -N 2 -n 5 python -m mpi4py.futures engines/mpi_.py --work rows

Without mpirun it would wait for ever for workers that no launcher starts; without -m mpi4py.futures
every rank would do everything. Both are refused. A rank that dies takes the whole job with it.
Ranks look for messages every millisecond; MPI4PY_FUTURES_BACKOFF=1e-5 lets large ones pass sooner.
"""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

from contextlib import contextmanager

from engines import work

LINE = "python -m mpi4py.futures engines/mpi_.py --work rows"
MISTAKE = f"workers are other ranks, which wait for tasks in mpi4py.futures: mpirun -n 3 {LINE}"


@contextmanager
def pool(workers):
    """Let the ranks other than 0 be the workers."""
    if mistaken():
        raise work.Mistake(MISTAKE)
    from mpi4py import MPI
    from mpi4py.futures import MPIPoolExecutor

    if workers != MPI.COMM_WORLD.size - 1:
        ranks = workers + 1
        raise work.Mistake(f"{workers} workers beside this program: mpirun -n {ranks} {LINE}")
    with MPIPoolExecutor() as executor:
        yield lambda function, tasks: list(executor.map(function, tasks))


run = work.runner(pool)


def mistaken():
    """Return whether no ranks wait for tasks."""
    if not work.under_mpi4py():
        return True
    from mpi4py import MPI

    return MPI.COMM_WORLD.size == 1


if __name__ == "__main__":
    if mistaken():
        work.refuse(MISTAKE)
    from mpi4py import MPI

    work.main(pool, __doc__, workers=MPI.COMM_WORLD.size - 1)
