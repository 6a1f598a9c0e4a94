"""See `kernels.k_means.numpy_`. Numba on an NVIDIA GPU: one thread a point.

Atomic additions of all threads to the totals of a few clusters would wait for each other. So a
thread block adds up totals of its own in shared memory, a few copies of them, in which each place
belongs to one thread. Where they are too large for that there are many places, for which few
threads wait.
"""

from typing import Any

import numpy as np
from numba import cuda, float64, int32, int64

from kernels.cuda_rounding import add, multiply
from kernels.k_means import BLOCK

# Points that a thread block takes at a time: warps enough to hide the latency of memory.
THREADS = 128

# Sums and counts that a thread block keeps: 16 KiB, of which a multiprocessor holds 8 or more
# (compute capability 8.0, 9.0 and 10.0).
PLACES = 2048

# Most thread blocks: more than a GPU runs at once, and few, since each adds its totals to those of
# all at its end. They go on with the points after theirs.
GRID = 3072


@cuda.jit(device=True)
def squared(total, value, centre):  # type: ignore[no-untyped-def]
    """Add the square of a difference to ``total``."""
    difference = value - centre
    return add(total, multiply(difference, difference))


@cuda.jit(device=True)
def find_nearest(point, centres):  # type: ignore[no-untyped-def]
    """Return the squared distance and the index of the nearest centre."""
    last = centres.shape[0] - 1
    nearest, best = np.inf, 0
    # Four centres for each value that is read. After the last one it comes again, and is not nearer
    # than itself.
    for j in range(0, last + 1, 4):
        j1, j2, j3 = min(j + 1, last), min(j + 2, last), min(j + 3, last)
        s0 = s1 = s2 = s3 = 0.0
        for t in range(point.size):
            value = point[t]
            s0 = squared(s0, value, centres[j, t])
            s1 = squared(s1, value, centres[j1, t])
            s2 = squared(s2, value, centres[j2, t])
            s3 = squared(s3, value, centres[j3, t])
        if s0 < nearest:
            nearest, best = s0, j
        if s1 < nearest:
            nearest, best = s1, j1
        if s2 < nearest:
            nearest, best = s2, j2
        if s3 < nearest:
            nearest, best = s3, j3
    return nearest, best


@cuda.jit(device=True)
def add_block(value, sums):  # type: ignore[no-untyped-def]
    """Return, on the first thread of a block of points, the sum of their values."""
    thread = cuda.threadIdx.x
    sums[thread] = value
    half = BLOCK // 2
    while half > 0:
        cuda.syncthreads()
        if thread % BLOCK < half:
            value = add(value, sums[thread + half])
            sums[thread] = value
        half //= 2
    return value


@cuda.jit(device=True)
def add_points(rows, label, scale, kept, copies, totals):  # type: ignore[no-untyped-def]
    """Add up some points, each in the place of its label: in ``copies`` of the totals, or in all.

    Thread t of a team adds up column t of its points, and so neighbours read neighbours.
    """
    columns = totals.shape[1]
    width = min(columns, THREADS)
    teams = copies if copies else THREADS // width
    team = cuda.threadIdx.x // width
    if team < teams:
        for t in range(cuda.threadIdx.x % width, columns, width):
            for i in range(team, rows.shape[0], teams):
                whole = int64(multiply(rows[i, t], scale)) if t < columns - 1 else int64(1)
                if copies:
                    kept[team * totals.size + label[i] * columns + t] += whole
                else:
                    cuda.atomic.add(totals, (label[i], t), whole)


@cuda.jit
def kernel(x, centres, labels, totals, inertia, scale):  # type: ignore[no-untyped-def]
    """Run with `THREADS` threads a thread block, on totals that are 0."""
    label = cuda.shared.array(THREADS, int32)
    sums = cuda.shared.array(THREADS, float64)
    kept = cuda.shared.array(PLACES, int64)
    thread, n, columns = cuda.threadIdx.x, x.shape[0], totals.shape[1]
    copies = min(PLACES // totals.size, THREADS // min(columns, THREADS))
    for place in range(thread, copies * totals.size, THREADS):
        kept[place] = 0
    for first in range(int64(cuda.blockIdx.x) * THREADS, n, int64(cuda.gridDim.x) * THREADS):
        row = first + thread
        nearest, best = 0.0, 0
        if row < n:
            nearest, best = find_nearest(x[row], centres)
            labels[row] = best
        label[thread] = best
        nearest = add_block(nearest, sums)
        if row < n and thread % BLOCK == 0:
            inertia[row // BLOCK] = nearest
        add_points(x[first : min(first + THREADS, n)], label, scale, kept, copies, totals)
        # The labels are read before the next ones are written.
        cuda.syncthreads()
    for place in range(thread, totals.size if copies else 0, THREADS):
        total = int64(0)
        for copy in range(copies):
            total += kept[copy * totals.size + place]
        if total != 0:
            cuda.atomic.add(totals, (place // columns, place % columns), total)


def assign(
    x: Any, centres: Any, labels: Any, totals: Any, inertia: Any, scale: float, stream: Any = 0
) -> None:
    """See `kernels.k_means.numpy_`; the arrays are Numba device arrays.

    Numba has no current stream, in contrast to CuPy: ``stream`` is where the kernel runs.
    """
    totals.copy_to_device(np.zeros(totals.shape, np.int64), stream=stream)
    if len(x):
        grid = min((len(x) + THREADS - 1) // THREADS, GRID)
        kernel[grid, THREADS, stream](x, centres, labels, totals, inertia, scale)
