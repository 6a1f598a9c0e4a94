"""The reference: the definition of `kernels.mandelbrot`, spelled out in NumPy."""

import numpy as np

from kernels.mandelbrot import FIRST_KEPT, FIRST_MARK

# Enough to hide the cost of a NumPy call, few enough to stay in cache. How long they take is up to
# the limit: a pass over fewer would take hardly less.
POINTS = 2**12


def at_once(limit: int) -> int:
    """Return how many points one call should have, so that other ranks need not wait long for it.

    Parameters
    ----------
    limit : int
        Most iterations of a point.
    """
    return POINTS


# A point far away leaves at once, by way of infinity, as in the other variants.
@np.errstate(over="ignore")
def counts(first: int, out: np.ndarray, x: np.ndarray, y: np.ndarray, limit: int) -> None:
    """Write the counts of consecutive points of a window to ``out``.

    Parameters
    ----------
    first : int
        Number of the first point. Point ``p`` is in column ``p % len(x)`` and in row
        ``p // len(x)``.
    out : (m,) int32 array
        Receives the counts of points ``first``, ``first + 1`` and so on, as `kernels.mandelbrot`
        defines them.
    x, y : float64 arrays
        Real part of each column, and imaginary part of each row.
    limit : int
        Most iterations of a point, from 1 to ``2**31 - 1``.
    """
    out[:] = limit
    live, cr, ci = _points(first, out, x, y)
    zr, zi = np.zeros_like(cr), np.zeros_like(ci)
    for k in range(limit):
        a, b = zr * zr, zi * zi
        stay = a + b <= 4
        if not stay.all():
            out[live[~stay]] = k
            live, cr, ci, zr, zi, a, b = (v[stay] for v in (live, cr, ci, zr, zi, a, b))
        if not live.size:
            break
        t = zr * zi
        zi = (t + t) + ci
        zr = (a - b) + cr


@np.errstate(over="ignore")
def counts_by_period(first: int, out: np.ndarray, x: np.ndarray, y: np.ndarray, limit: int) -> None:
    """Do what `counts` does, but end each orbit that returns to where it was.

    Parameters
    ----------
    first, out, x, y, limit
        As for `counts`.
    """
    out[:] = limit
    live, cr, ci = _points(first, out, x, y)
    zr, zi = np.zeros_like(cr), np.zeros_like(ci)
    kept_r, kept_i = np.full_like(zr, FIRST_KEPT), np.full_like(zi, FIRST_KEPT)
    mark = FIRST_MARK
    for k in range(limit):
        a, b = zr * zr, zi * zi
        stay = a + b <= 4
        out[live[~stay]] = k
        go_on = stay & ((zr != kept_r) | (zi != kept_i))
        if not go_on.all():
            live, cr, ci, zr, zi, a, b, kept_r, kept_i = (
                v[go_on] for v in (live, cr, ci, zr, zi, a, b, kept_r, kept_i)
            )
        if not live.size:
            break
        if k == mark:
            kept_r, kept_i, mark = zr, zi, 2 * mark
        t = zr * zi
        zi = (t + t) + ci
        zr = (a - b) + cr


def _points(
    first: int, out: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions of points in ``out``, and their real and imaginary parts."""
    live = np.arange(out.size)
    rows, columns = np.divmod(first + live, len(x))
    return live, x[columns], y[rows]
