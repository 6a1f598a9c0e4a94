"""See `kernels.heat.numpy_`. Numba on an NVIDIA GPU: one thread a point."""

from typing import Any

from numba import cuda

from kernels.cuda_rounding import add, multiply

# A warp along a row, so that it reads consecutive addresses; and rows enough that the points above
# and below were mostly read by the same thread block, and come from its cache.
COLUMNS = 32
ROWS = 8

# Most thread blocks that CUDA allows along y; those of more rows go on along z.
GRID_ROWS = 65535


@cuda.jit
def kernel(u, out, r):  # type: ignore[no-untyped-def]
    """Run with thread blocks of ``(COLUMNS, ROWS)``, x along a row of ``u``."""
    column, row, layer = cuda.grid(3)
    _, rows, _ = cuda.gridsize(3)
    i, j = layer * rows + row + 1, column + 1
    if i < u.shape[0] - 1 and j < u.shape[1] - 1:
        here = u[i, j]
        around = add(add(u[i - 1, j], u[i + 1, j]), add(u[i, j - 1], u[i, j + 1]))
        change = add(around, multiply(-4.0, here))
        out[i, j] = add(here, multiply(r, change))


def step(u: Any, out: Any, r: float) -> None:
    """See `kernels.heat.numpy_`; ``u`` and ``out`` are Numba device arrays."""
    ny, nx = u.shape[0] - 2, u.shape[1] - 2
    if ny and nx:
        blocks = (ny + ROWS - 1) // ROWS
        layers = (blocks + GRID_ROWS - 1) // GRID_ROWS
        grid = ((nx + COLUMNS - 1) // COLUMNS, min(blocks, GRID_ROWS), layers)
        kernel[grid, (COLUMNS, ROWS)](u, out, r)
