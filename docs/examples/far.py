"""A crash: on rank 1 the index of a compiled kernel runs far out of its array.

    mpirun -n 2 python docs/examples/far.py

`docs/debugging.md` shows what finds it.
"""

# First: from here on a rank that fails ends the others.
from rankwise.job import launch

import numpy as np
from numba import njit


@njit
def take(x, step, out):
    for i in range(len(out)):
        out[i] = x[i * step]


def main(comm, argv):
    x, out = np.ones(1000), np.zeros(10)
    step = 100 if comm.rank == 0 else 2**32
    take(x, step, out)
    comm.Barrier()


if __name__ == "__main__":
    launch(main)
