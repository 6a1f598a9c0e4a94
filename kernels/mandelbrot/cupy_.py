"""See `kernels.mandelbrot.numpy_`. CuPy on an NVIDIA GPU: one thread a point.

A raw kernel, because with array expressions each iteration of each point would go through memory,
and an orbit would not end before the others.
"""

import functools

import cupy
import numpy as np

from kernels.mandelbrot import FIRST_KEPT, FIRST_MARK, at_once_on_gpu

# Of a thread block: few, since it ends when the last of them does.
THREADS = 128

at_once = at_once_on_gpu

# `__dmul_rn`, `__dadd_rn` and `__dsub_rn` round each on its own; the compiler never fuses them. A
# mark is unsigned: after 2^30 it is 2^31.
SOURCE = r"""
template <bool by_period>
__device__ void count(
    long long first, int* out, const double* x, const double* y, int limit, long long columns,
    long long points)
{
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= points)
        return;
    const double cr = x[(first + i) % columns], ci = y[(first + i) / columns];
    double zr = 0.0, zi = 0.0, kept_r = FIRST_KEPT, kept_i = FIRST_KEPT;
    unsigned mark = FIRST_MARK;
    int k = 0;
    for (; k < limit; ++k) {
        const double a = __dmul_rn(zr, zr), b = __dmul_rn(zi, zi);
        if (__dadd_rn(a, b) > 4.0)
            break;
        if (by_period && zr == kept_r && zi == kept_i) {
            k = limit;
            break;
        }
        if (by_period && k == mark) {
            kept_r = zr;
            kept_i = zi;
            mark *= 2;
        }
        const double t = __dmul_rn(zr, zi);
        zi = __dadd_rn(__dadd_rn(t, t), ci);
        zr = __dadd_rn(__dsub_rn(a, b), cr);
    }
    out[i] = k;
}

extern "C" __global__ void counts(
    long long first, int* out, const double* x, const double* y, int limit, long long columns,
    long long points)
{
    count<false>(first, out, x, y, limit, columns, points);
}

extern "C" __global__ void counts_by_period(
    long long first, int* out, const double* x, const double* y, int limit, long long columns,
    long long points)
{
    count<true>(first, out, x, y, limit, columns, points);
}
"""


def options() -> tuple[str, ...]:
    """Return the compiler options of `SOURCE`."""
    return (f"-DFIRST_KEPT={FIRST_KEPT}", f"-DFIRST_MARK={FIRST_MARK}", "--fmad=false")


@functools.cache
def _kernel(name: str) -> cupy.RawKernel:
    return cupy.RawKernel(SOURCE, name, options=options())


def _launch(
    name: str, first: int, out: cupy.ndarray, x: cupy.ndarray, y: cupy.ndarray, limit: int
) -> None:
    if out.size:
        grid = ((out.size + THREADS - 1) // THREADS,)
        arguments = (first, out, x, y, np.int32(limit), x.size, out.size)
        _kernel(name)(grid, (THREADS,), arguments)


def counts(first: int, out: cupy.ndarray, x: cupy.ndarray, y: cupy.ndarray, limit: int) -> None:
    """See `kernels.mandelbrot.numpy_`; the arrays are CuPy arrays."""
    _launch("counts", first, out, x, y, limit)


def counts_by_period(
    first: int, out: cupy.ndarray, x: cupy.ndarray, y: cupy.ndarray, limit: int
) -> None:
    """See `kernels.mandelbrot.numpy_`; the arrays are CuPy arrays."""
    _launch("counts_by_period", first, out, x, y, limit)
