"""See `kernels.heat.numpy_`. CuPy on an NVIDIA GPU: one thread a point.

A raw kernel, because array expressions would move about ten times the bytes: through their seven
temporary arrays, 21 float64 values a point are read or written, here 2.
"""

import functools

import cupy

# A warp along a row, so that it reads consecutive addresses; and rows enough that the points above
# and below were mostly read by the same thread block, and come from its cache.
COLUMNS = 32
ROWS = 8

# Most thread blocks that CUDA allows along y; those of more rows go on along z.
GRID_ROWS = 65535

# `__dmul_rn` and `__dadd_rn` round each on its own; the compiler never fuses them.
SOURCE = r"""
extern "C" __global__ void step(
    const double* u, double* out, double r, long long ny, long long nx)
{
    const long long layer = blockIdx.z * (long long)gridDim.y;
    const long long i = (layer + blockIdx.y) * blockDim.y + threadIdx.y + 1;
    const long long j = blockIdx.x * (long long)blockDim.x + threadIdx.x + 1;
    if (i > ny || j > nx)
        return;
    const long long width = nx + 2;
    const double* here = u + i * width + j;
    const double vertical = __dadd_rn(here[-width], here[width]);
    const double horizontal = __dadd_rn(here[-1], here[1]);
    const double change = __dadd_rn(__dadd_rn(vertical, horizontal), __dmul_rn(-4.0, *here));
    out[i * width + j] = __dadd_rn(*here, __dmul_rn(r, change));
}
"""


def options() -> tuple[str, ...]:
    """Return the compiler options of `SOURCE`."""
    return ("--fmad=false",)


@functools.cache
def _kernel() -> cupy.RawKernel:
    return cupy.RawKernel(SOURCE, "step", options=options())


def step(u: cupy.ndarray, out: cupy.ndarray, r: float) -> None:
    """See `kernels.heat.numpy_`; ``u`` and ``out`` are CuPy arrays."""
    ny, nx = u.shape[0] - 2, u.shape[1] - 2
    if ny and nx:
        blocks = (ny + ROWS - 1) // ROWS
        layers = (blocks + GRID_ROWS - 1) // GRID_ROWS
        grid = ((nx + COLUMNS - 1) // COLUMNS, min(blocks, GRID_ROWS), layers)
        _kernel()(grid, (COLUMNS, ROWS), (u, out, float(r), ny, nx))
