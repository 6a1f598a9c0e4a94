"""Time the kernels of one process with all its cores, and what shows the limit, in turn.

    python benchmarks/one_process.py 1e8 9

Elements and samples of each. The last line of output is JSON: bytes per second by way, one figure a
sample. `bench.py` runs this.
"""

import json
import math
import os
import sys
import time

import numba
import numpy as np

import rankwise  # noqa: F401  # finds the kernels, from any folder
from kernels import heat, sum_squares
from kernels.sum_squares import BLOCK
from rankwise.data.sums import add_rest, add_subtrees
from rankwise.node import compilation, kernel_files, variants

# Threads of OpenBLAS and OpenMP spin for some 30 ms after a call, in the hope of another one, and
# would take the cores from the next way.
PAUSE = 0.2
HEAT_SIDE = 4096
HEAT_STEPS = 4


@numba.njit(parallel=True, fastmath=True)
def read(x):
    total = 0.0
    for i in numba.prange(x.size):
        total += x[i]
    return total


@numba.njit(parallel=True)
def copy(source, target):
    for i in numba.prange(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


def vector(n):
    """Return the ways to go through a vector of ``n`` elements, and their bytes."""
    block_sums = variants.load(sum_squares, "numba").block_sums
    x, sums = np.random.default_rng(0).random(n), np.empty(-(-n // BLOCK))

    def ours():
        block_sums(x, sums)
        return add_rest([0, len(sums)], add_subtrees(0, sums))

    if not math.isclose(ours(), np.dot(x, x), rel_tol=1e-9):
        sys.exit("error: the kernel and np.dot disagree")
    ways = {"sum_squares": ours, "dot": lambda: np.dot(x, x), "read": lambda: read(x)}
    return ways, x.nbytes


def plate():
    """Return the ways to go through a plate, and their bytes: each point is read and written."""
    step = variants.load(heat, "numba").step
    u = np.random.default_rng(0).random((HEAT_SIDE + 2, HEAT_SIDE + 2))
    out = np.zeros_like(u)

    def repeated(call):
        return lambda: [call() for _ in range(HEAT_STEPS)]

    ways = {
        "heat": repeated(lambda: step(u, out, 0.2)),
        "copy loop": repeated(lambda: copy(u, out)),
        "copyto": repeated(lambda: np.copyto(out, u)),
    }
    return ways, 16 * HEAT_SIDE**2 * HEAT_STEPS


def sample(ways, octets, rounds):
    """Return bytes per second of each way, one figure a round."""
    samples = {name: [] for name in ways}
    for turn in range(rounds):
        # Another one begins each round, so that none has always the same one before it.
        for name in np.roll(list(ways), turn):
            time.sleep(PAUSE)
            ways[name]()  # compiles, and wakes the threads
            start = time.perf_counter()
            ways[name]()
            samples[name].append(octets / (time.perf_counter() - start))
    return samples


def main():
    n, rounds = int(float(sys.argv[1])), int(sys.argv[2])
    kernel_files.use(compilation.private_folder()[0])
    numba.set_num_threads(len(os.sched_getaffinity(0)))
    print(json.dumps(sample(*vector(n), rounds) | sample(*plate(), rounds)))


if __name__ == "__main__":
    main()
