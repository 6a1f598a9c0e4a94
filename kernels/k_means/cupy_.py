"""See `kernels.k_means.numpy_`. CuPy on an NVIDIA GPU: one thread a point.

A raw kernel, because array expressions would write and read the ``n k d`` squares. How it adds up
the totals: see `kernels.k_means.cuda_`.
"""

import functools

import cupy

from kernels.k_means import BLOCK

# Points that a thread block takes at a time: warps enough to hide the latency of memory.
THREADS = 128

# Sums and counts that a thread block keeps: 16 KiB, of which a multiprocessor holds 8 or more
# (compute capability 8.0, 9.0 and 10.0).
PLACES = 2048

# Most thread blocks: more than a GPU runs at once, and few, since each adds its totals to those of
# all at its end. They go on with the points after theirs.
GRID = 3072

# `__dmul_rn`, `__dadd_rn` and `__dsub_rn` round each on its own; the compiler never fuses them.
SOURCE = r"""
__device__ void add(long long* place, long long value)
{
    // Two's complement: the sum is the same, and there is no atomic addition of signed ones.
    atomicAdd((unsigned long long*)place, (unsigned long long)value);
}

extern "C" __global__ void assign(
    const double* x, const double* centres, int* labels, long long* totals, double* inertia,
    double scale, long long n, long long clusters, long long dimensions)
{
    __shared__ int label[THREADS];
    __shared__ long long kept[PLACES];
    const int thread = threadIdx.x, k = clusters, d = dimensions, columns = d + 1;
    const long long places = clusters * columns;
    // Thread t of a team adds up column t of its points, and so neighbours read neighbours.
    const int width = min(columns, THREADS);
    const int fit = THREADS / width;
    const int copies = min((long long)fit, PLACES / places);
    const int teams = copies ? copies : fit;
    const int team = thread / width;
    for (int place = thread; place < copies * places; place += THREADS)
        kept[place] = 0;
    const long long stride = gridDim.x * (long long)THREADS;
    for (long long first = blockIdx.x * (long long)THREADS; first < n; first += stride) {
        const long long row = first + thread;
        double nearest = 0.0;
        int best = 0;
        if (row < n) {
            const double* point = x + row * d;
            // Several centres for each value that is read. After the last one it comes again, and
            // is not nearer than itself.
            for (int j = 0; j < k; j += TOGETHER) {
                double sums[TOGETHER] = {};
                const double* centre[TOGETHER];
                #pragma unroll
                for (int i = 0; i < TOGETHER; ++i)
                    centre[i] = centres + (long long)min(j + i, k - 1) * d;
                for (int t = 0; t < d; ++t) {
                    #pragma unroll
                    for (int i = 0; i < TOGETHER; ++i) {
                        const double difference = __dsub_rn(point[t], centre[i][t]);
                        sums[i] = __dadd_rn(sums[i], __dmul_rn(difference, difference));
                    }
                }
                #pragma unroll
                for (int i = 0; i < TOGETHER; ++i)
                    if (sums[i] < nearest || j + i == 0) {
                        nearest = sums[i];
                        best = j + i;
                    }
            }
            labels[row] = best;
        }
        label[thread] = best;
        // A block of points is a warp.
        for (int half = BLOCK / 2; half > 0; half /= 2)
            nearest = __dadd_rn(nearest, __shfl_down_sync(0xffffffff, nearest, half));
        if (row < n && thread % BLOCK == 0)
            inertia[row / BLOCK] = nearest;
        __syncthreads();
        const int rows = min((long long)THREADS, n - first);
        for (int t = thread % width; team < teams && t < columns; t += width)
            for (int i = team; i < rows; i += teams) {
                const long long whole = t < d ? __dmul_rn(x[(first + i) * d + t], scale) : 1.0;
                const long long place = label[i] * (long long)columns + t;
                if (copies)
                    kept[team * places + place] += whole;
                else
                    add(totals + place, whole);
            }
        // The labels are read before the next ones are written.
        __syncthreads();
    }
    for (long long place = thread; copies && place < places; place += THREADS) {
        long long total = 0;
        for (int copy = 0; copy < copies; ++copy)
            total += kept[copy * places + place];
        if (total)
            add(totals + place, total);
    }
}
"""


def options() -> tuple[str, ...]:
    """Return the compiler options of `SOURCE`."""
    macros = {"BLOCK": BLOCK, "THREADS": THREADS, "PLACES": PLACES, "TOGETHER": 4}
    return (*(f"-D{name}={value}" for name, value in macros.items()), "--fmad=false")


@functools.cache
def _kernel() -> cupy.RawKernel:
    return cupy.RawKernel(SOURCE, "assign", options=options())


def assign(
    x: cupy.ndarray,
    centres: cupy.ndarray,
    labels: cupy.ndarray,
    totals: cupy.ndarray,
    inertia: cupy.ndarray,
    scale: float,
) -> None:
    """See `kernels.k_means.numpy_`; the arrays are CuPy arrays."""
    totals[...] = 0
    n, d = x.shape
    if n:
        arguments = (x, centres, labels, totals, inertia, float(scale), n, len(centres), d)
        _kernel()((min((n + THREADS - 1) // THREADS, GRID),), (THREADS,), arguments)
