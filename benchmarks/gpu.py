"""Time the CuPy kernels on a GPU, and what shows the limit, in turn.

    python benchmarks/gpu.py 1e8 9

Elements and samples of each. The last line of output is JSON: bytes per second by way, one figure a
sample. `bench.py` runs this where there is a GPU.
"""

import json
import math
import sys
import time

import cupy
import cupyx
import numpy as np
from mpi4py import MPI

import rankwise  # noqa: F401  # finds the kernels, from any folder
from kernels import heat, sum_squares
from kernels.sum_squares import BLOCK
from rankwise.data import staging
from rankwise.node import device, variants
from rankwise.node.rank import Rank
from rankwise.ranks.clock import Clock

HEAT_SIDE = 4096
# Of what is so short that the start of a kernel, some 10 us, would count.
CALLS = 10


def on_device(n):
    """Return the ways to go through arrays on the GPU, with their bytes in `CALLS` calls."""
    block_sums = variants.load(sum_squares, "cupy").block_sums
    step = variants.load(heat, "cupy").step
    x, sums = cupy.asarray(np.random.default_rng(0).random(n)), cupy.empty(-(-n // BLOCK))
    block_sums(x, sums)
    if not math.isclose(float(sums.sum()), float(cupy.dot(x, x)), rel_tol=1e-9):
        sys.exit("error: the kernel and cupy.dot disagree")
    copy, u = cupy.empty(n), cupy.zeros((HEAT_SIDE + 2, HEAT_SIDE + 2))
    out = cupy.zeros_like(u)
    return {
        "sum_squares": (lambda: block_sums(x, sums), CALLS * 8 * n),
        "dot": (lambda: cupy.dot(x, x), CALLS * 8 * n),
        "device copy": (lambda: cupy.copyto(copy, x), CALLS * 16 * n),
        "heat": (lambda: step(u, out, 0.2), CALLS * 16 * HEAT_SIDE**2),
    }


def from_host(n):
    """Return the ways to sum a vector of the host, with its bytes."""
    block_sums = variants.load(sum_squares, "cupy").block_sums
    rank = Rank(MPI.COMM_SELF, Clock(1), device.choose(MPI.COMM_SELF, "cupy"))
    x, sums = np.random.default_rng(0).random(n), cupy.empty(-(-n // BLOCK))
    pinned, target = cupyx.empty_pinned(n), cupy.empty(n)
    return {
        "staged": (lambda: staging.run(rank, block_sums, x, sums, BLOCK), 8 * n),
        "copied first": (lambda: block_sums(cupy.asarray(x), sums), 8 * n),
        "page-locked copy": (lambda: target.set(pinned), 8 * n),
    }


def sample(ways, rounds, calls):
    """Return bytes per second of each way, one figure a round."""
    samples = {name: [] for name in ways}
    for turn in range(rounds):
        for name in np.roll(list(ways), turn):
            call, octets = ways[name]
            call()
            cupy.cuda.get_current_stream().synchronize()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            cupy.cuda.get_current_stream().synchronize()
            samples[name].append(octets / (time.perf_counter() - start))
    return samples


def main():
    n, rounds = int(float(sys.argv[1])), int(sys.argv[2])
    print(json.dumps(sample(on_device(n), rounds, CALLS) | sample(from_host(n), rounds, 1)))


if __name__ == "__main__":
    main()
