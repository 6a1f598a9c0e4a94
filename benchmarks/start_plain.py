"""The least that a program with the libraries of a job takes, from start to end.

    mpirun -n 4 python benchmarks/start_plain.py numba FILE.h5

It makes the imports that `jobs/sum_squares.py` makes of other libraries, calls one cached function
(``numba``) or NumPy (``numpy``), reduces, and writes a small file on rank 0. `bench.py` runs this.
"""

import argparse  # noqa: F401
import dataclasses  # noqa: F401
import hashlib  # noqa: F401
import json  # noqa: F401
import sys

import numpy as np
from mpi4py import MPI
from numpy.random import PCG64, Generator


def main(comm, variant, path):
    x = Generator(PCG64(comm.rank)).random(1000 // comm.size)
    if variant == "numba":
        import numba

        @numba.njit(parallel=True, cache=True)
        def sum_squares(x):
            total = 0.0
            for i in numba.prange(x.size):
                total += x[i] * x[i]
            return total

        numba.set_num_threads(1)
    else:

        def sum_squares(x):
            return np.dot(x, x)

    total = comm.reduce(sum_squares(x))
    if comm.rank == 0:
        import h5py

        with h5py.File(path, "w") as file:
            file["total"] = total


if __name__ == "__main__":
    main(MPI.COMM_WORLD, *sys.argv[1:])
