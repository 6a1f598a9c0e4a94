"""See `kernels.sum_squares.numpy_`. Numba on an NVIDIA GPU: one warp a block, one thread a lane."""

from typing import Any

from numba import config, cuda, float64, int64
from numba.cuda import libdevice

from kernels.sum_squares import BLOCK, LANES

# Four warps share a thread block: enough of them fit on a multiprocessor to fill it.
THREADS = 4 * LANES

if config.ENABLE_CUDASIM:

    @cuda.jit(device=True)
    def _add(a, b):  # type: ignore[no-untyped-def]
        return a + b

    @cuda.jit(device=True)
    def _square(a):  # type: ignore[no-untyped-def]
        return a * a

else:
    # These two keep the compiler from fusing multiply and add, which it does even without fastmath.
    # The simulator has no libdevice functions, and Python has nothing to fuse.
    @cuda.jit(device=True)
    def _add(a, b):  # type: ignore[no-untyped-def]
        return libdevice.dadd_rn(a, b)

    @cuda.jit(device=True)
    def _square(a):  # type: ignore[no-untyped-def]
        return libdevice.dmul_rn(a, a)


@cuda.jit
def kernel(x, out):  # type: ignore[no-untyped-def]
    """Run with `THREADS` threads a thread block, one warp per element of ``out``."""
    sums = cuda.shared.array(THREADS, float64)
    thread = cuda.threadIdx.x
    lane = thread % LANES
    block = int64(cuda.blockIdx.x) * (THREADS // LANES) + thread // LANES
    total = 0.0
    for i in range(block * BLOCK + lane, min((block + 1) * BLOCK, x.size), LANES):
        total = _add(total, _square(float64(x[i])))
    sums[thread] = total
    width = LANES // 2
    while width > 0:
        cuda.syncthreads()
        if lane < width:
            total = _add(total, sums[thread + width])
            sums[thread] = total
        width //= 2
    if lane == 0 and block < out.size:
        out[block] = total


def block_sums(x: Any, out: Any) -> None:
    """See `kernels.sum_squares.numpy_`; ``x`` and ``out`` are Numba device arrays."""
    if out.size:
        warps = THREADS // LANES
        kernel[(out.size + warps - 1) // warps, THREADS](x, out)
