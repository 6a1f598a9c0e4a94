"""See `kernels.sum_squares.numpy_`. CuPy on an NVIDIA GPU: one warp a block, one thread a lane.

A raw kernel, because CuPy's own reductions do not fix the order of summation.
"""

import functools

import cupy

from kernels.sum_squares import BLOCK, LANES

THREADS = 4 * LANES

# `__dmul_rn` and `__dadd_rn` round each on its own; the compiler never fuses them.
SOURCE = r"""
// CuPy compiles with -ftz=true, which would take a subnormal float for zero.
__device__ double widen(double value) { return value; }
__device__ double widen(float value)
{
#ifdef __CUDA_ARCH__
    double wide;
    asm("cvt.f64.f32 %0, %1;" : "=d"(wide) : "f"(value));
    return wide;
#else
    return value;
#endif
}

extern "C" __global__ void block_sums(const ELEMENT* x, double* out, long long n, long long blocks)
{
    const int lane = threadIdx.x % LANES;
    const long long block = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / LANES;
    const long long first = block * BLOCK;
    const long long stop = first + BLOCK < n ? first + BLOCK : n;
    double total = 0.0;
    for (long long i = first + lane; i < stop; i += LANES) {
        const double value = widen(x[i]);
        total = __dadd_rn(total, __dmul_rn(value, value));
    }
    for (int width = LANES / 2; width > 0; width /= 2)
        total = __dadd_rn(total, __shfl_down_sync(0xffffffff, total, width));
    if (lane == 0 && block < blocks)
        out[block] = total;
}
"""


def options(dtype: str) -> tuple[str, ...]:
    """Return the compiler options of `SOURCE` for elements of ``"float64"`` or ``"float32"``."""
    element = {"float64": "double", "float32": "float"}[dtype]
    return (f"-DELEMENT={element}", f"-DLANES={LANES}", f"-DBLOCK={BLOCK}", "--fmad=false")


@functools.cache
def _kernel(dtype: str) -> cupy.RawKernel:
    return cupy.RawKernel(SOURCE, "block_sums", options=options(dtype))


def block_sums(x: cupy.ndarray, out: cupy.ndarray) -> None:
    """See `kernels.sum_squares.numpy_`; ``x`` and ``out`` are CuPy arrays."""
    if out.size:
        warps = THREADS // LANES
        grid = ((out.size + warps - 1) // warps,)
        _kernel(x.dtype.name)(grid, (THREADS,), (x, out, x.size, out.size))
