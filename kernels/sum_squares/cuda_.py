"""See `kernels.sum_squares.numpy_`. Numba on an NVIDIA GPU: one warp a block, one thread a sum."""

from typing import Any

from numba import cuda, float64, int64

from kernels.cuda_rounding import add, multiply
from kernels.sum_squares import BLOCK, LANES, ROWS, STREAMS

WARP = STREAMS * LANES
# Two warps share a thread block: the 32 blocks that fit on a multiprocessor fill it (compute
# capability 8.0, 9.0 and 10.0), and short vectors reach more multiprocessors.
THREADS = 2 * WARP


@cuda.jit
def kernel(x, out):  # type: ignore[no-untyped-def]
    """Run with `THREADS` threads a thread block, one warp per element of ``out``."""
    sums = cuda.shared.array(THREADS, float64)
    thread = cuda.threadIdx.x
    place = thread % WARP
    block = int64(cuda.blockIdx.x) * (THREADS // WARP) + thread // WARP
    begin = block * BLOCK + place // LANES * (ROWS * LANES) + place % LANES
    total = 0.0
    for i in range(begin, min(begin + ROWS * LANES, x.size), LANES):
        value = float64(x[i])
        total = add(total, multiply(value, value))
    sums[thread] = total
    width = WARP // 2
    while width > 0:
        cuda.syncthreads()
        if place < width:
            total = add(total, sums[thread + width])
            sums[thread] = total
        width //= 2
    if place == 0 and block < out.size:
        out[block] = total


def block_sums(x: Any, out: Any, stream: Any = 0) -> None:
    """See `kernels.sum_squares.numpy_`; ``x`` and ``out`` are Numba device arrays.

    Numba has no current stream, in contrast to CuPy: ``stream`` is where the kernel runs.
    """
    if out.size:
        warps = THREADS // WARP
        kernel[(out.size + warps - 1) // warps, THREADS, stream](x, out)
