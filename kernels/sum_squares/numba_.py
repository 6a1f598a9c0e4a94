"""See `kernels.sum_squares.numpy_`. Compiled for the CPU; the blocks are divided among threads."""

import numpy as np
from numba import njit, prange

from kernels.sum_squares import BLOCK, LANES, ROWS

STREAM = ROWS * LANES
ZEROS = (0.0,) * LANES


# No fastmath: it would let the compiler reorder the sum and fuse multiply and add. The sums are in
# tuples, which it keeps in registers, and not in an array, which it keeps in memory.
@njit
def square(x, i):  # type: ignore[no-untyped-def]
    value = np.float64(x[i])
    return value * value


@njit
def add_row(s, x, i):  # type: ignore[no-untyped-def]
    """Return the `LANES` sums ``s``, to each of which a square from ``x[i]`` on is added."""
    return (
        s[0] + square(x, i),
        s[1] + square(x, i + 1),
        s[2] + square(x, i + 2),
        s[3] + square(x, i + 3),
        s[4] + square(x, i + 4),
        s[5] + square(x, i + 5),
        s[6] + square(x, i + 6),
        s[7] + square(x, i + 7),
    )


@njit(nogil=True, cache=True)
def block_sum(x):  # type: ignore[no-untyped-def]
    """Return the sum of the squares of one whole block."""
    x0, x1, x2, x3 = x[:STREAM], x[STREAM:], x[2 * STREAM :], x[3 * STREAM :]
    a = b = c = d = ZEROS
    for i in range(0, STREAM, LANES):
        a = add_row(a, x0, i)
        b = add_row(b, x1, i)
        c = add_row(c, x2, i)
        d = add_row(d, x3, i)
    s = np.empty(LANES)
    for j in range(LANES):
        s[j] = (a[j] + c[j]) + (b[j] + d[j])
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))


@njit(parallel=True, cache=True)
def block_sums(x: np.ndarray, out: np.ndarray) -> None:
    for block in prange(out.size):
        part = x[block * BLOCK : (block + 1) * BLOCK]
        if part.size < BLOCK:
            filled = np.zeros(BLOCK, x.dtype)
            filled[: part.size] = part
            out[block] = block_sum(filled)
        else:
            out[block] = block_sum(part)
