"""See `kernels.sum_squares.numpy_`. CuPy on an NVIDIA GPU: 16 bytes a load.

A raw kernel, because CuPy's own reductions do not fix the order of summation.
"""

import functools

import cupy

from kernels.sum_squares import BLOCK, LANES, ROWS, STREAMS

# Two warps share a thread block: the 32 blocks that fit on a multiprocessor fill it (compute
# capability 8.0, 9.0 and 10.0), and short vectors reach more multiprocessors.
THREADS = 64

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

// What a thread takes from a row: as much as one load can bring.
struct alignas(16) Pack { ELEMENT at[WIDTH]; };

extern "C" __global__ void block_sums(const ELEMENT* x, double* out, long long n, long long blocks)
{
    const int first = threadIdx.x % TEAM * WIDTH;  // of the sums of a block that this thread adds
    const long long block = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / TEAM;
    const long long begin = block * BLOCK + first / LANES * (ROWS * LANES) + first % LANES;
    double sums[WIDTH] = {};
    if ((block + 1) * BLOCK <= n && (size_t)x % sizeof(Pack) == 0) {
        // Several loads are on their way before the first of them is added.
        #pragma unroll 8
        for (int row = 0; row < ROWS; ++row) {
            const Pack pack = *(const Pack*)(x + begin + row * LANES);
            for (int k = 0; k < WIDTH; ++k) {
                const double value = widen(pack.at[k]);
                sums[k] = __dadd_rn(sums[k], __dmul_rn(value, value));
            }
        }
    } else {
        #pragma unroll 1
        for (int row = 0; row < ROWS; ++row)
            for (int k = 0; k < WIDTH; ++k) {
                const long long i = begin + row * LANES + k;
                const double value = i < n ? widen(x[i]) : 0.0;
                sums[k] = __dadd_rn(sums[k], __dmul_rn(value, value));
            }
    }
    for (int width = TEAM / 2; width > 0; width /= 2)
        for (int k = 0; k < WIDTH; ++k)
            sums[k] = __dadd_rn(sums[k], __shfl_down_sync(0xffffffff, sums[k], width, TEAM));
    for (int width = WIDTH / 2; width > 0; width /= 2)
        for (int k = 0; k < width; ++k)
            sums[k] = __dadd_rn(sums[k], sums[k + width]);
    if (first == 0 && block < blocks)
        out[block] = sums[0];
}
"""


def team(dtype: str) -> int:
    """Return how many threads add a block of elements of ``"float64"`` or ``"float32"``."""
    return STREAMS * LANES // (16 // cupy.dtype(dtype).itemsize)


def options(dtype: str) -> tuple[str, ...]:
    """Return the compiler options of `SOURCE` for elements of ``"float64"`` or ``"float32"``."""
    macros = {
        "ELEMENT": {"float64": "double", "float32": "float"}[dtype],
        "WIDTH": STREAMS * LANES // team(dtype),
        "TEAM": team(dtype),
        "BLOCK": BLOCK,
        "ROWS": ROWS,
        "LANES": LANES,
    }
    return (*(f"-D{name}={value}" for name, value in macros.items()), "--fmad=false")


@functools.cache
def _kernel(dtype: str) -> cupy.RawKernel:
    return cupy.RawKernel(SOURCE, "block_sums", options=options(dtype))


def block_sums(x: cupy.ndarray, out: cupy.ndarray) -> None:
    """See `kernels.sum_squares.numpy_`; ``x`` and ``out`` are CuPy arrays."""
    if out.size:
        teams = THREADS // team(x.dtype.name)
        grid = ((out.size + teams - 1) // teams,)
        _kernel(x.dtype.name)(grid, (THREADS,), (x, out, x.size, out.size))
