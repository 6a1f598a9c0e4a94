"""An assignment of points to centres, beside what is known of it from other computations.

In all bounds ``u = 2**-53`` is the largest relative error of a rounded sum, difference, product or
quotient, and ``gamma(m) = m u / (1 - m u)`` bounds that of ``m`` of them in a row ([1]_, eq. 2.4
and lemma 3.1). A squared distance is a sum of terms that are not negative, each of which passes at
most ``d + 2`` roundings: that of the difference, twice because of the square, that of the product,
and ``d - 1`` additions. So it has a relative error of at most ``gamma(d + 2)``, in any order of
summation ([1]_, eq. 4.4). Products that underflow add ``2**-1075`` each.

References
----------
.. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM, 2002.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kernels.k_means import BLOCK, HARMLESS, VALUES, round_points

UNIT = 2.0**-53

# Differences that one dot product squares and adds: enough to hide what a NumPy call costs, few
# enough for a tight bound.
TERMS = 2**12

# Points of which quartiles are taken, by rank.
QUARTILES = 1000

# Differences in long double of which the sample of labels is made: 16 MiB of them.
SAMPLE = 2**20


@dataclass(frozen=True)
class Evidence:
    """What a rank finds out about its own points and labels; small.

    Attributes
    ----------
    sums : (2, k, d + 1) float64 array
        Sums of the points and, in the last column, their number, by cluster: exactly those of both
        parts together.
    inertia : float
        Sum of the squared distances of the points to the centres of their labels.
    wrong : int
        Labels that are no index of a centre, or of a centre that equals one before it.
    excess, bound : float
        Squared distance to the centre of a label less that to the nearest centre, and its bound:
        where they are closest, among a sample of points.
    change : float
        Largest change of a coordinate by its rounding.
    middle : float
        Largest interquartile range of a coordinate, of a sample of points.
    labels : int
        `fingerprint` of the labels.
    centres : int
        `checksum` of the centres of all steps, of which each rank has its own copy.
    """

    sums: np.ndarray
    inertia: float
    wrong: int
    excess: float
    bound: float
    change: float
    middle: float
    labels: int
    centres: int


def gamma(roundings: int, unit: float = UNIT) -> float:
    """Bound the relative error of so many roundings in a row."""
    return roundings * unit / (1 - roundings * unit)


def inertia_roundings(n: int, d: int) -> int:
    """Return how many roundings a term of the inertia of ``n`` points passes at most.

    ``d + 2`` in its distance, ``log2(BLOCK)`` in its block, ``log2(blocks)``, rounded up, above.
    """
    blocks = -(-n // BLOCK)
    return d + 2 + (BLOCK - 1).bit_length() + max(blocks - 1, 0).bit_length()


def rise(before: float, after: float, n: int, d: int, largest: float) -> tuple[float, float]:
    """Return by how much the inertia rose in one iteration, and how much of that rounding explains.

    Let ``F(c, l)`` be the exact inertia for centres ``c`` and labels ``l``, and
    ``r = inertia_roundings``. The computed one, ``before``, has ``F(c, l) <= before / (1 -
    gamma(r))``. Of all centres the exact means ``m`` have the smallest ``F(m, l) <= F(c, l)``. The
    new centres ``c'`` are means with two roundings, ``|c' - m| <= gamma(2) |m|``, that of the sum
    to a float and that of the quotient, and ``F(c', l) = F(m, l) + sum |c' - m|^2``, over all
    points. A new label has no larger computed distance than the old one, so that::

        after <= (1 + gamma(r)) F(c', l) <= (1 + gamma(r)) (before / (1 - gamma(r)) + shift)
        shift  = n d (gamma(2) largest)^2

    and ``after - before <= 2 gamma(r) / (1 - gamma(r)) before + (1 + gamma(r)) shift``.

    Parameters
    ----------
    before, after : float
        Inertia of two iterations, one after the other.
    n, d : int
        Number of points, of all ranks, and of dimensions.
    largest : float
        Largest absolute value of a coordinate.

    Returns
    -------
    rise, bound : float
        The first is 0 if the inertia fell.
    """
    g = gamma(inertia_roundings(n, d))
    drift = n * d * (gamma(2) * largest) ** 2
    bound = 2 * g / (1 - g) * before + (1 + g) * drift + n * d * 2.0**-1073
    # In this order a NaN stays one.
    return (0.0 if after <= before else after - before), bound


def fingerprint(labels: np.ndarray, start: int) -> int:
    """Return ``sum (i + 1) label[i]`` modulo 2**64, which adds up over parts of the labels.

    Parameters
    ----------
    labels : (m,) int32 array
        Of the points from ``start`` on, counted from 0.
    start : int
    """
    total = 0
    for first in range(0, len(labels), VALUES):
        part = labels[first : first + VALUES].astype(np.int64)
        places = np.arange(start + first + 1, start + first + 1 + len(part))
        # Whole numbers wrap around, which the remainder allows.
        total += int(np.dot(places, part))
    return total % 2**64


def checksum(centres: np.ndarray, before: int) -> int:
    """Return the CRC-32 of the centres of another step, after that of those before."""
    return zlib.crc32(centres.data, before)


def examine(
    x: np.ndarray,
    labels: np.ndarray,
    centres: np.ndarray,
    start: int,
    n: int,
    scale: float,
    mark: int,
) -> Evidence:
    """Compute again, in other ways, what a kernel makes of the points of one rank.

    Parameters
    ----------
    x : (m, d) array, C-contiguous
        Points of this rank as they were made or read; rounded in place, if they are float64.
    labels : (m,) int32 array
        Their labels, for ``centres``.
    centres : (k, d) float64 array
    start, n : int
        First of these points, counted from 0; number of points, of all ranks.
    scale : float
        See `kernels.k_means.round_points`.
    mark : int
        `checksum` of the centres of all steps.
    """
    k, x = len(centres), x.astype(np.float64, copy=False)
    middle = interquartile_range(x)
    change = round_points(x, scale), middle
    firsts: dict[tuple[float, ...], int] = {}
    first = [firsts.setdefault(tuple(centre), j) for j, centre in enumerate(centres.tolist())]
    marks = fingerprint(labels, start), mark
    known = (labels >= 0) & (labels < k)
    labels = np.where(known, labels, 0)
    wrong = np.count_nonzero(~known | (np.array(first)[labels] != labels))
    sums, inertia = exact_sums(x, labels, k, n), dot_inertia(x, labels, centres)
    return Evidence(sums, inertia, int(wrong), *excess(x, labels, centres), *change, *marks)


def interquartile_range(x: np.ndarray) -> float:
    """Return that of the coordinate where it is largest, of a sample of points; 0 of none."""
    sample = x[:: max(1, len(x) // QUARTILES)]
    if not len(sample):
        return 0.0
    low, high = np.percentile(sample, (25, 75), axis=0)
    return float((high - low).max())


def exact_sums(x: np.ndarray, labels: np.ndarray, k: int, n: int) -> np.ndarray:
    """Return the sums by cluster of points that are rounded for ``n`` points, without any error.

    A coordinate is a multiple of ``2**-s`` and at most ``2**(62 - b)`` of them, with ``n < 2**b``,
    see `kernels.k_means.shift`. So sums of ``2**(b - 9)`` points have 53 bits at most, and float64
    adds them without rounding. These are added to a pair of float64 by the sum that keeps its error
    ([1]_, section 4.3): the high part is the rounded sum, and the errors, less than ``2**18``
    multiples all together, have room in the low part.

    Parameters
    ----------
    x : (m, d) float64 array
        Rounded points of this rank.
    labels, n
        As for `examine`, and labels are indices of a cluster.
    k : int
        Number of clusters.

    Returns
    -------
    (2, k, d + 1) float64 array
        High and low part; the last column is the number of points.
    """
    high, low = np.zeros((2, k, x.shape[1] + 1))
    step = 1 << max(n.bit_length() - 9, 0)
    for begin in range(0, len(x), step):
        part, label = x[begin : begin + step], labels[begin : begin + step]
        columns = (*part.T, np.ones(len(part)))
        sums = np.stack([np.bincount(label, column, k) for column in columns], axis=1)
        total = high + sums
        added = total - high
        low += (high - (total - added)) + (sums - added)
        high = total
    return np.stack([high, low])


def dot_inertia(x: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> float:
    """Sum the squared distances to the centres of the labels by dot products, added exactly."""
    step = max(1, TERMS // x.shape[1])
    parts = []
    for first in range(0, len(x), step):
        difference = x[first : first + step] - centres[labels[first : first + step]]
        parts.append(np.vdot(difference, difference))
    return math.fsum(parts)


def inertia_bound(n: int, d: int, again: float) -> float:
    """Bound the distance of the kernel's inertia from ``again``, `dot_inertia` of all ranks added.

    Both are sums of terms that are not negative. A term of a dot product passes 3 roundings, then
    at most as many as there are terms, in any order ([1]_, eq. 3.5), and one each in the exact sums
    of a rank and of all ranks.
    """
    own, other = gamma(inertia_roundings(n, d)), gamma(max(TERMS, d) + 5)
    return (own + other) / (1 - other) * again + n * d * 2.0**-1073


def excess(x: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> tuple[float, float]:
    """Return by how much a labelled centre is farther than the nearest one, and the bound.

    All squared distances of a sample, evenly spaced, are computed in long double, whose roundings
    are at most ``v``. With ``g = gamma(d + 2)`` and ``h`` the same for ``v``, the label's distance
    here is at most ``(1 + g) (1 + h) / ((1 - g) (1 - h))`` times the smallest, since to the kernel
    no other was smaller.

    Returns
    -------
    excess, bound : float
        Of the point that comes closest to its bound; squared distances.
    """
    k, d = centres.shape
    sample = slice(None, None, max(1, -(-len(x) * k * d // SAMPLE)))
    x, labels = x[sample].astype(np.longdouble), labels[sample]
    distances = np.square(x[:, None] - centres).sum(axis=-1)
    smallest = distances.min(axis=1, initial=np.inf)
    g, h = gamma(d + 2), gamma(d + 2, float(np.finfo(np.longdouble).eps) / 2)
    bounds = 2 * (g + h) / ((1 - g) * (1 - h)) * smallest + d * 2.0**-1073
    return worst(
        zip(
            (distances[np.arange(len(x)), labels] - smallest).astype(float).tolist(),
            bounds.astype(float).tolist(),
            strict=True,
        )
    )


def centre_error(
    sums: Iterable[np.ndarray], centres: np.ndarray, new: np.ndarray
) -> tuple[float, float]:
    """Return how far new centres are from `math.fsum` means, and the bound.

    Both are the same sum, rounded once, over the same number, rounded once more: twice
    ``gamma(2)``. What is computed as a fraction of ``2**-1022`` is rounded once more, by
    ``2**-1075``.

    Parameters
    ----------
    sums : iterable of (2, k, d + 1) arrays
        Of each rank, see `exact_sums`.
    centres, new : (k, d) float64 array
        Before and after; an empty cluster keeps its centre.

    Returns
    -------
    error, bound : float
        Of the coordinate that comes closest to its bound.
    """
    columns = np.concatenate(list(sums))
    pairs = []
    for j, t in np.ndindex(new.shape):
        count = math.fsum(columns[:, j, -1])
        mean = math.fsum(columns[:, j, t]) / count if count else float(centres[j, t])
        bound = 2 * gamma(2) / (1 - gamma(2)) * abs(mean) + 2.0**-1073
        pairs.append((abs(float(new[j, t]) - mean), bound))
    return worst(pairs)


def worst(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the error and the bound that have the largest quotient; an error of NaN first."""
    pairs = list(pairs)
    for error, bound in pairs:
        if math.isnan(error) or math.isnan(bound):
            return error, bound
    # A bound of 0 is that of no points at all.
    quotients = ((error / (bound or 1.0), bound, error) for error, bound in pairs)
    _, bound, error = max(quotients, default=(0.0, 0.0, 0.0))
    return error, bound


def judge(
    evidence: list[Evidence],
    labels: np.ndarray,
    totals: np.ndarray,
    centres: np.ndarray,
    new: np.ndarray,
    inertias: list[float],
    ends: np.ndarray,
) -> list[tuple[float, float, str]]:
    """Compare an iteration with what the ranks found out about it, and with those before it.

    Parameters
    ----------
    evidence : list of Evidence
        Of all ranks, from `examine` with ``centres``.
    labels : (n,) int32 array
        Of all points, as they are going to be kept.
    totals : (k, d + 1) int64 array
        Of the iteration.
    centres, new : (k, d) float64 array
        Before and after it.
    inertias : list of float
        Of all iterations until this one.
    ends : (2, d) float64 array
        `kernels.k_means.extent` of all points.

    Returns
    -------
    list of (float, float, str)
        Error, bound, and what is compared and why the bound is what it is.
    """
    d, largest = centres.shape[1], float(np.abs(ends).max())
    counts = sum(each.sums[:, :, -1].sum(axis=0) for each in evidence)
    wrong = np.abs(counts - totals[:, -1]).max() + sum(each.wrong for each in evidence)
    again, n = math.fsum(each.inertia for each in evidence), int(counts.sum())
    lost = fingerprint(labels, 0) != sum(each.labels for each in evidence) % 2**64
    others = sum(each.centres != evidence[0].centres for each in evidence)
    found = [
        (float(wrong), 0.0, "points by cluster: exact"),
        (float(lost), 0.0, "labels where they belong: exact"),
        (float(others), 0.0, "ranks with other centres: exact"),
        (*centre_error((e.sums for e in evidence), centres, new), "centres: rounding of means"),
        (abs(again - inertias[-1]), inertia_bound(n, d, again), "inertia: rounding of both sums"),
        (*worst((e.excess, e.bound) for e in evidence), "labels of a sample: rounding"),
    ]
    if len(inertias) > 1:
        rises = [rise(before, after, n, d, largest) for before, after in pairwise(inertias)]
        found.append((*worst(rises), "rise of the inertia: rounding"))
    return found


def remarks(
    evidence: list[Evidence],
    totals: np.ndarray,
    centres: np.ndarray,
    new: np.ndarray,
    ends: np.ndarray,
) -> list[str]:
    """Return what a user should know of an answer that is no mistake of the program.

    Parameters
    ----------
    evidence, totals, centres, new, ends
        As for `judge`, of the last iteration.
    """
    change, spread = max(each.change for each in evidence), ends.sum(axis=0).max()
    # Far from all others a point makes the spread, and takes the digits of the others.
    middle = min((each.middle for each in evidence if each.middle > 0), default=math.inf)
    empty, k = np.count_nonzero(totals[:, -1] == 0), len(totals)
    told = {
        "all points are equal: there are no clusters, and the checks say little": spread == 0,
        f"the points are rounded by up to {change:.3g}, which may show: they spread over "
        f"{spread:.3g}; subtract what they have in common": change > HARMLESS * spread,
        f"the points are rounded by up to {change:.3g}, which may show: half of them lie within "
        f"{middle:.3g}, and some far away; take these out": (
            HARMLESS * middle < change <= HARMLESS * spread
        ),
        f"{empty} of the {k} clusters have no points, and keep their centres": empty > 0,
        "the centres still move, and labels and inertia are for those before the last step: take "
        "more --steps": not np.array_equal(centres, new),
    }
    return [text for text, true in told.items() if true]
