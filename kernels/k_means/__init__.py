"""k-means by Lloyd's method: one assignment of points to centres, with bits that nothing changes.

A point belongs to the nearest of ``k`` centres, of equally near ones to the first. The squared
distance adds the dimensions in their order, each operation rounded by itself (no fused
multiply-add)::

    distance = ((x[0] - c[0])^2 + (x[1] - c[1])^2) + (x[2] - c[2])^2 + ...

The new centre is the mean of its points ([1]_; it is never farther from them than the old one). The
order in which points reach a cluster is up to ranks and threads, and sums of floats depend on it.
So points are rounded once to whole multiples of ``2**-s``, see `shift`, before anything else
is done with them: their sums are then sums of int64, exact in any order, and never overflow.

The inertia, the sum of all distances of points to their centres, is added like this: `BLOCK`
consecutive points are a block, a last, shorter one is filled up with zeros, and::

    block = halves of its distances added until one is left      distance[i] + distance[i + half]
    total = neighbouring block sums added until one is left      block[2i] + block[2i + 1]

References
----------
.. [1] S. P. Lloyd, Least squares quantization in PCM, IEEE Transactions on Information Theory 28,
   1982, 129-137.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import PCG64, Generator, default_rng

# A warp of a GPU, in which each thread takes one point; and few enough that the 150 points of a
# small example, too, are divided among several ranks. The block sums are one float64 for 32 points.
BLOCK = 32

# Of coordinates that are read; all are computed with as float64.
DTYPES = np.float64, np.float32, np.uint8

# Largest coordinate: one that float32 can hold, too. Squared distances are far from overflow then.
LARGEST = 1e38

# A rounding of the points above this share of their spread may show in the answer.
HARMLESS = 1e-9

# Of the drawn points: the cube in which the clusters are, so close that they overlap; and how many
# uniform numbers make an offset: the sum of three has a standard deviation of 0.5.
CUBE = 2.0
UNIFORMS = 3

# Values that are worked on at a time, so that temporary arrays stay small: 8 MiB of them.
VALUES = 2**20


def shift(largest: float, n: int) -> int:
    """Return ``s``: sums of ``n`` points that are multiples of ``2**-s`` fit into int64.

    ``s = 62 - e - b``, with ``largest < 2**e`` and ``n < 2**b``. A rounded coordinate is at most
    ``2**e``, and so a sum at most ``n 2**e 2**s < 2**62`` such multiples.

    Parameters
    ----------
    largest : float
        Largest absolute value of a coordinate, finite.
    n : int
        Number of points, of all ranks.

    Returns
    -------
    int
        From -1022 to 1022, so that ``2.0**s`` and ``2.0**-s`` are normal floats.
    """
    return min(max(62 - math.frexp(largest)[1] - n.bit_length(), -1022), 1022)


def round_points(x: np.ndarray, scale: float) -> float:
    """Round points in place to whole multiples of ``1 / scale``, and return the largest change.

    Parameters
    ----------
    x : (n, d) float64 array, C-contiguous
        Points, finite.
    scale : float
        ``2.0**shift(...)``.
    """
    largest = 0.0
    flat = x.reshape(-1)
    for first in range(0, flat.size, VALUES):
        part = flat[first : first + VALUES]
        rounded = np.rint(part * scale) * (1 / scale)
        largest = max(largest, float(np.abs(rounded - part).max()))
        part[...] = rounded
    return largest


def means(totals: np.ndarray, centres: np.ndarray, scale: float) -> np.ndarray:
    """Return the mean of each cluster, rounded twice; an empty cluster keeps its centre.

    Parameters
    ----------
    totals : (k, d + 1) int64 array
        Sums of ``x * scale`` and, in the last column, number of points, by cluster.
    centres : (k, d) float64 array
        The centres before.
    scale : float

    Returns
    -------
    (k, d) float64 array
    """
    counts = totals[:, -1:]
    quotients = totals[:, :-1].astype(np.float64) / np.maximum(counts, 1)
    return np.where(counts > 0, quotients * (1 / scale), centres)


def extent(x: np.ndarray) -> np.ndarray:
    """Return the largest value of each coordinate and of its negative, (2, d) float64.

    The maximum over the ranks is that of all points. Infinities, below 0, of no points.

    Parameters
    ----------
    x : (n, d) float64 array
    """
    highest, lowest = x.max(axis=0, initial=-np.inf), x.min(axis=0, initial=np.inf)
    return np.array([highest, -lowest])


def one_point(d: int) -> tuple[np.ndarray, ...]:
    """Return arrays for a call of ``assign`` with one point and one centre in ``d`` dimensions."""
    label, totals = np.zeros(1, np.int32), np.zeros((1, d + 1), np.int64)
    return np.zeros((1, d)), np.zeros((1, d)), label, totals, np.zeros(1)


def start_rows(n: int, k: int, seed: int, start: str) -> list[int]:
    """Return the numbers of the ``k`` different points that are the first centres.

    Parameters
    ----------
    n, k : int
        Number of points, and of clusters, ``k <= n``.
    seed : int
        Of ``random``.
    start : str
        ``spread``: points ``floor(i n / k)``; ``first``: the first ones; ``random``: drawn ones.
    """
    if start == "random":
        # Not the numbers of which `blobs` of the same seed are made.
        return default_rng((seed, 1)).choice(n, k, replace=False).tolist()
    return [i * n // k if start == "spread" else i for i in range(k)]


def first_centres(
    fill: Callable[[int, np.ndarray], None],
    dtype: np.dtype,
    n: int,
    d: int,
    k: int,
    seed: int,
    start: str,
) -> np.ndarray:
    """Return the points that are the first centres, a (k, d) float64 array; not rounded.

    Parameters
    ----------
    fill : callable
        ``fill(start, rows)`` fills an array of type ``dtype`` with points from ``start`` on.
    dtype : dtype
    n, d : int
        Number of points, and of dimensions.
    k, seed, start
        As for `start_rows`.
    """
    points = np.empty((k, d), dtype)
    for i, row in enumerate(start_rows(n, k, seed, start)):
        fill(row, points[i : i + 1])
    return points.astype(np.float64)


def blobs(seed: int, d: int, k: int) -> Callable[[int, np.ndarray], None]:
    """Return ``fill(start, rows)``, which draws points of ``k`` round clusters in ``d`` dimensions.

    ``rows``, an ``(m, d)`` float64 array, receives points ``start`` and following, the same ones
    whoever draws them in pieces of any size.
    """
    # Each point takes the same number of draws, so that a rank can go to its first one with
    # `advance`. Hence sums of uniform numbers: Generator.normal takes another number of draws when
    # it rejects one, and `advance` would end in the middle of a point.
    draws = 1 + UNIFORMS * d
    centres = CUBE * Generator(PCG64(seed)).random((k, d))

    def fill(start: int, rows: np.ndarray) -> None:
        generator = Generator(PCG64(seed).advance(k * d + start * draws))
        step = max(1, VALUES // draws)
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            uniform = generator.random((len(part), draws))
            # `u k` may round up to k.
            cluster = np.minimum((uniform[:, 0] * k).astype(np.int64), k - 1)
            np.subtract(centres[cluster], UNIFORMS / 2, out=part)
            for i in range(UNIFORMS):
                part += uniform[:, 1 + i * d : 1 + (i + 1) * d]

    return fill
