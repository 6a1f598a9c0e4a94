"""Copy an array on each rank at once: ``mpirun -n 2 python benchmarks/copy_processes.py 4096 9``.

The side of a square array that the ranks divide by rows, and the repeats. The last line of output
is JSON: the seconds of each repeat between barriers. `bench.py` runs this.
"""

import json
import time

import numba
import numpy as np

from rankwise.ranks.start import launch


@numba.njit
def copy(source, target):
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


def main(comm, argv):
    side, repeats = int(argv[0]), int(argv[1])
    source, target = (np.ones((side // comm.size, side)) for _ in range(2))
    seconds = []
    for _ in range(repeats + 1):
        comm.Barrier()
        start = time.perf_counter()
        # Long enough that no barrier matters.
        for _ in range(5):
            copy(source, target)
        comm.Barrier()
        seconds.append((time.perf_counter() - start) / 5)
    if comm.rank == 0:
        print(json.dumps({"seconds": seconds[1:]}))


if __name__ == "__main__":
    launch(main)
