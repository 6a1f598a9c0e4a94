"""Escape counts of the Mandelbrot set, in an order of operations that is part of the result.

Of a point ``c`` of the plane, ``z -> z^2 + c`` is iterated from 0. Its count is the number of
iterations after which ``|z|^2 > 4`` is first found, or ``limit`` if that takes more. With
``z = zr + i zi`` and ``c = cr + i ci``, all float64::

    a = zr * zr
    b = zi * zi
    a + b > 4                   it has left, which is tested before each iteration
    t = zr * zi
    zi = (t + t) + ci
    zr = (a - b) + cr

Each operation is rounded by itself, as bracketed: no fused multiply-add. So the counts, which are
whole numbers, are the same in all variants, whoever counts which points. Since the test comes
first, a point with ``|c| > 2`` has the count 1.

An orbit that returns to the same two numbers never leaves: each iteration depends on them and on
``c`` alone, so what lies between goes on for ever, and none of that has left. (Zeros of either sign
are the same here: they make no other difference than such zeros.) Hence another way to the same
counts, Brent's ([1]_): keep one ``z`` of the orbit, compare all that follow with it, and replace it
after 8, 16, 32 and so on iterations. It finds every period: once the ``z`` that is kept belongs to
one, and the next replacement is as far away as the period is long.

References
----------
.. [1] R. P. Brent, An improved Monte Carlo factorization algorithm, BIT 20, 1980, 176-184.
.. [2] T. Förstemann, Numerical estimation of the area of the Mandelbrot set, 2012.
"""

import math

import numpy as np

# Additions and multiplications of one iteration.
FLOPS = 8

# Of the whole set, and how far off it may be ([2]_).
PUBLISHED_AREA = 1.5065918849
PUBLISHED_ERROR = 2.8e-9

# Iterations after which `counts_by_period` first keeps a ``z``; and what both its parts are before:
# no part of one that has not left is 4.
FIRST_MARK = 8
FIRST_KEPT = 4.0

# A rectangle around the set, whose extent is about -2..0.4712 and -1.1228..1.1228.
REAL = (-2.0, 0.5)
IMAGINARY = (-1.125, 1.125)

# Counts that are worked on at a time, so that temporary arrays stay small.
VALUES = 2**20

# On a GPU: iterations of an H100 in about 5 ms, and of an A100 in 16 ms. This is derived, not
# measured: an iteration is 8 operations and a comparison in float64, of which these do 64 and 32 a
# clock on each of 132 and 108 multiprocessors, at 1.7 and 1.4 GHz.
GPU_ITERATIONS = 2**33

# Least points of a call: about two warps for each of the four schedulers of a multiprocessor; fewer
# would not keep it busy, and take no less time. And most points, so that counts stay small: 16 MiB.
GPU_LEAST = 2**15
GPU_MOST = 2**22


def coordinates(n: int, centre: tuple[float, float], width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the midpoints of ``n`` equal parts of each side of a square window.

    ``x[i] = (centre[0] - width / 2) + (i + 0.5) * (width / n)``, and likewise ``y``, which grows
    with the row.

    Parameters
    ----------
    n : int
        Points along a side; one at least.
    centre : (float, float)
        Of the window, real and imaginary part.
    width : float

    Returns
    -------
    x, y : (n,) float64 arrays

    Raises
    ------
    ValueError
        The window is none, or float64 has no such points.
    """
    if not all(math.isfinite(value) for value in (*centre, width)):
        raise ValueError("the centre and the width of a window must be finite")
    if width <= 0:
        raise ValueError(f"a window of width {width} has no points: take a width above 0")
    steps = (np.arange(n) + 0.5) * (width / n)
    # Beyond the range of float64 are infinities, without a warning.
    with np.errstate(over="ignore"):
        x, y = ((middle - width / 2) + steps for middle in centre)
    for side in (x, y):
        # If the first is infinite, so is the last.
        if not math.isfinite(side[-1]):
            raise ValueError(f"a window of width {width} is too large, or too far from 0")
        if not (side[1:] > side[:-1]).all():
            raise ValueError(
                f"{n} points along a width of {width} are too close for float64: take a larger "
                "width or fewer points"
            )
    return x, y


def holds_the_set(centre: tuple[float, float], width: float) -> bool:
    """Return whether a window contains `REAL` times `IMAGINARY`, and so the whole set."""
    sides = zip(centre, (REAL, IMAGINARY), strict=True)
    return all(
        middle - width / 2 <= low and high <= middle + width / 2 for middle, (low, high) in sides
    )


def area(counts: np.ndarray, limit: int, width: float) -> float:
    """Return the area of the points that have not left: their number times that of one.

    It is above that of the set by those that would leave after more iterations, and off, either
    way, by parts of the squares through which the edge of the set goes.

    Parameters
    ----------
    counts : (n, n) int32 array
    limit : int
        Of these counts.
    width : float
        Of the window.
    """
    stayed = sum(int(np.count_nonzero(part == limit)) for part in _pieces(counts))
    side = width / len(counts)
    return stayed * side * side


def iterations(counts: np.ndarray) -> int:
    """Return how many iterations an array of counts stands for."""
    return sum(int(part.sum(dtype=np.int64)) for part in _pieces(counts))


def at_once_on_gpu(limit: int) -> int:
    """Return how many points one call on a GPU should have: see `kernels.mandelbrot.numpy_`."""
    return min(max(GPU_LEAST, GPU_ITERATIONS // limit), GPU_MOST)


def _pieces(counts: np.ndarray) -> list[np.ndarray]:
    flat = counts.reshape(-1)
    return [flat[first : first + VALUES] for first in range(0, flat.size, VALUES)]
