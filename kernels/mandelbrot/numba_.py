"""See `kernels.mandelbrot.numpy_`. Compiled for the CPU; the points are divided among threads.

Neighbours cost much the same, and one row far more than another. So of T threads each takes every
T-th point: all have their part of each region.
"""

import numpy as np
from numba import get_num_threads, njit, prange

from kernels.mandelbrot import FIRST_KEPT, FIRST_MARK

# Orbits that a thread iterates side by side: of one alone, each operation waits for the one before.
LANES = 16

# Iterations after which a thread looks which of its orbits have ended, and takes other points. A
# point costs as many at least.
STEPS = 8

# Iterations of one thread in about 10 ms, measured on a processor with AVX2 and rounded down to a
# power of two.
ITERATIONS = 2**22

# Most points of a call, so that its counts stay small: 4 MiB.
MOST = 2**20


def at_once(limit: int) -> int:
    # Whole rounds of all lanes: in the rest of one most would be idle.
    rounds = max(1, ITERATIONS // (max(limit, STEPS) * LANES))
    return min(get_num_threads() * LANES * rounds, MOST)


# No fastmath: it would let the compiler fuse multiply and add. In the caller's place, where the
# arrays are known to be apart, the loop over the lanes becomes vector instructions.
@njit(inline="always")
def iterate(zr, zi, cr, ci, running, count, limit):  # type: ignore[no-untyped-def]
    """Iterate all lanes `STEPS` times, and count the iterations of those that still run.

    A lane that has stopped, having left or reached the limit, never runs again: ``&`` brings no bit
    back, whatever becomes of its ``z``.
    """
    for _ in range(STEPS):
        for j in range(LANES):
            a = zr[j] * zr[j]
            b = zi[j] * zi[j]
            running[j] &= np.int64(a + b <= 4) & np.int64(count[j] < limit)
            count[j] += running[j]
            t = zr[j] * zi[j]
            zi[j] = (t + t) + ci[j]
            zr[j] = (a - b) + cr[j]


@njit(nogil=True, cache=True)
def count_share(first, out, x, y, limit, thread, threads):  # type: ignore[no-untyped-def]
    """Count every point of one thread: a lane that has stopped takes the next one."""
    zr, zi, cr, ci = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    running, count = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    # Where in `out` the count of a lane belongs; -1: it has no point.
    place = np.full(LANES, -1)
    ahead, busy = thread, True
    while busy:
        busy = False
        for j in range(LANES):
            if not running[j]:
                if place[j] >= 0:
                    out[place[j]] = count[j]
                place[j] = -1
                if ahead < out.size:
                    place[j] = ahead
                    cr[j], ci[j] = x[(first + ahead) % x.size], y[(first + ahead) // x.size]
                    zr[j], zi[j], running[j], count[j] = 0.0, 0.0, 1, 0
                    ahead += threads
            busy |= running[j] > 0
        iterate(zr, zi, cr, ci, running, count, limit)


@njit(parallel=True, cache=True)
def count_shares(first, out, x, y, limit, threads):  # type: ignore[no-untyped-def]
    for thread in prange(threads):
        # Signed: Numba takes the sum of an unsigned and a signed number for a float.
        count_share(first, out, x, y, limit, np.int64(thread), threads)


def counts(first: int, out: np.ndarray, x: np.ndarray, y: np.ndarray, limit: int) -> None:
    count_shares(first, out, x, y, limit, get_num_threads())


@njit
def count_by_period(cr, ci, limit):  # type: ignore[no-untyped-def]
    """Return the count of one point."""
    zr = zi = 0.0
    kept_r = kept_i = FIRST_KEPT
    mark = FIRST_MARK
    for k in range(limit):
        a = zr * zr
        b = zi * zi
        if a + b > 4:
            return k
        if zr == kept_r and zi == kept_i:
            break
        if k == mark:
            kept_r, kept_i, mark = zr, zi, 2 * mark
        t = zr * zi
        zi = (t + t) + ci
        zr = (a - b) + cr
    return limit


@njit(parallel=True, cache=True)
def count_shares_by_period(first, out, x, y, limit, threads):  # type: ignore[no-untyped-def]
    for thread in prange(threads):
        for i in range(np.int64(thread), out.size, threads):
            point = first + i
            out[i] = count_by_period(x[point % x.size], y[point // x.size], limit)


def counts_by_period(first: int, out: np.ndarray, x: np.ndarray, y: np.ndarray, limit: int) -> None:
    count_shares_by_period(first, out, x, y, limit, get_num_threads())
