"""See `kernels.mandelbrot.numpy_`. Numba on an NVIDIA GPU: one thread a point."""

from typing import Any

from numba import cuda, int64

from kernels.cuda_rounding import add, multiply
from kernels.mandelbrot import FIRST_KEPT, FIRST_MARK, at_once_on_gpu

# Of a thread block: few, since it ends when the last of them does.
THREADS = 128

at_once = at_once_on_gpu


@cuda.jit
def kernel(first, out, x, y, limit):  # type: ignore[no-untyped-def]
    """Run with `THREADS` threads a thread block, one per element of ``out``."""
    i = int64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
    if i < out.size:
        cr, ci = x[(first + i) % x.size], y[(first + i) // x.size]
        zr = zi = 0.0
        k = 0
        while k < limit:
            a, b = multiply(zr, zr), multiply(zi, zi)
            if add(a, b) > 4.0:
                break
            t = multiply(zr, zi)
            zr, zi = add(add(a, -b), cr), add(add(t, t), ci)
            k += 1
        out[i] = k


@cuda.jit
def period_kernel(first, out, x, y, limit):  # type: ignore[no-untyped-def]
    """Run like `kernel`."""
    i = int64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
    if i < out.size:
        cr, ci = x[(first + i) % x.size], y[(first + i) // x.size]
        zr = zi = 0.0
        kept_r = kept_i = FIRST_KEPT
        k, mark = 0, FIRST_MARK
        while k < limit:
            a, b = multiply(zr, zr), multiply(zi, zi)
            if add(a, b) > 4.0:
                break
            if zr == kept_r and zi == kept_i:
                k = limit
                break
            if k == mark:
                kept_r, kept_i, mark = zr, zi, 2 * mark
            t = multiply(zr, zi)
            zr, zi = add(add(a, -b), cr), add(add(t, t), ci)
            k += 1
        out[i] = k


def counts(first: int, out: Any, x: Any, y: Any, limit: int) -> None:
    """See `kernels.mandelbrot.numpy_`; the arrays are Numba device arrays."""
    if out.size:
        kernel[(out.size + THREADS - 1) // THREADS, THREADS](first, out, x, y, limit)


def counts_by_period(first: int, out: Any, x: Any, y: Any, limit: int) -> None:
    """See `kernels.mandelbrot.numpy_`; the arrays are Numba device arrays."""
    if out.size:
        period_kernel[(out.size + THREADS - 1) // THREADS, THREADS](first, out, x, y, limit)
