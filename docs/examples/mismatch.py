"""A deadlock: each rank sends a number to the next one, and rank 0 waits for one that nobody sends.

    mpirun -n 3 python docs/examples/mismatch.py --stall-seconds 5

It never ends. With `if comm.rank > 0:` before the receive it does.

Communication: each rank sends one number to the rank after it; rank 0 adds them up.
Check: the sum is that of the numbers from 0 on.
"""

# First: from here on a rank that fails ends the others.
from rankwise.job import Run, launch

import numpy as np


def options(parser):
    """Add none: those that all jobs have are enough."""


def answer(run, received):
    ranks = run.comm.size
    run.check(abs(sum(received) - (ranks - 1) * (ranks - 2) / 2), 0, "closed form: exact")
    return {"sum": (sum(received), "1", "of the numbers that arrived")}


def main(comm, argv):
    run = Run(comm, argv, __file__, __doc__, options)
    own, before = np.array([float(comm.rank)]), np.zeros(1)
    for _ in run.repeats():
        with run.phase("exchange"):
            if comm.rank < comm.size - 1:
                comm.Send(own, comm.rank + 1)
            comm.Recv(before, (comm.rank - 1) % comm.size)
        received = comm.gather(before[0])
    results = run.on_root(answer, run, received)
    run.finish(results, work=comm.size, kernel_bytes=0)


if __name__ == "__main__":
    launch(main)
