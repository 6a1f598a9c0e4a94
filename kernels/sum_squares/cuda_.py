"""See `kernels.sum_squares.numpy_`. Numba on an NVIDIA GPU: one warp a block, one thread a lane."""

from typing import Any

from numba import cuda, float64, int64

from kernels.cuda_rounding import add, multiply
from kernels.sum_squares import BLOCK, LANES

# Four warps share a thread block: enough of them fit on a multiprocessor to fill it.
THREADS = 4 * LANES


@cuda.jit
def kernel(x, out):  # type: ignore[no-untyped-def]
    """Run with `THREADS` threads a thread block, one warp per element of ``out``."""
    sums = cuda.shared.array(THREADS, float64)
    thread = cuda.threadIdx.x
    lane = thread % LANES
    block = int64(cuda.blockIdx.x) * (THREADS // LANES) + thread // LANES
    total = 0.0
    for i in range(block * BLOCK + lane, min((block + 1) * BLOCK, x.size), LANES):
        value = float64(x[i])
        total = add(total, multiply(value, value))
    sums[thread] = total
    width = LANES // 2
    while width > 0:
        cuda.syncthreads()
        if lane < width:
            total = add(total, sums[thread + width])
            sums[thread] = total
        width //= 2
    if lane == 0 and block < out.size:
        out[block] = total


def block_sums(x: Any, out: Any) -> None:
    """See `kernels.sum_squares.numpy_`; ``x`` and ``out`` are Numba device arrays."""
    if out.size:
        warps = THREADS // LANES
        kernel[(out.size + warps - 1) // warps, THREADS](x, out)
