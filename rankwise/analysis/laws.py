"""Amdahl's law, the universal scalability law and Gustafson's law, and how they are fitted.

All three are linear in their coefficients, once written for the right quantity:

* Amdahl ([1]_): a part s of the work on one rank is serial, the rest is shared,
  ``T(p) = T1 (s + (1 - s) / p)``.
* Universal scalability law, USL ([2]_): besides contention sigma, which is Amdahl's s, every rank
  exchanges data with every other, ``T(p) = T1 (1 + sigma (p - 1) + kappa p (p - 1)) / p``.
* Gustafson ([3]_): a part s of the time of the parallel run is serial. The work done per rank and
  second then is ``R(p) = R1 (1 - s + s / p)``, and the scaled speedup
  ``p R(p) / R1 = p - s (p - 1)``.

So a fit is a linear least-squares problem with coefficients that are not negative: no starting
values, one minimum, and s and sigma within [0, 1] by construction. T1 and R1 are fitted too, so the
smallest count measured need not be one rank.

References
----------
.. [1] G. M. Amdahl, Validity of the single processor approach to achieving large scale computing
   capabilities, AFIPS 1967, doi:10.1145/1465482.1465560
.. [2] N. J. Gunther, Guerrilla Capacity Planning, Springer, 2007,
   doi:10.1007/978-3-540-31010-5
.. [3] J. L. Gustafson, Reevaluating Amdahl's Law, Communications of the ACM 31 (1988) 532-533,
   doi:10.1145/42411.42415
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls


@dataclass(frozen=True)
class Law:
    """A law, linear in its coefficients.

    Attributes
    ----------
    name : str
        ``Amdahl``, ``USL`` or ``Gustafson``.
    parameters : tuple of str
    columns : callable
        Of the rank counts, (points,) float64 array: what each coefficient is multiplied by,
        (points, coefficients) float64 array. The first two coefficients add up to the value at one
        rank; the parameters are the second and later ones over that sum.
    """

    name: str
    parameters: tuple[str, ...]
    columns: Callable[[np.ndarray], np.ndarray]


AMDAHL = Law("Amdahl", ("s",), lambda p: np.stack((1 / p, np.ones_like(p)), axis=-1))
USL = Law("USL", ("sigma", "kappa"), lambda p: np.stack((1 / p, np.ones_like(p), p - 1), axis=-1))
GUSTAFSON = Law("Gustafson", ("s",), lambda p: np.stack((np.ones_like(p), 1 / p), axis=-1))


def fit(law: Law, ranks: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Return the coefficients with the least sum of squared relative residuals.

    Relative, since the scatter of a time grows with the time: with absolute residuals the smallest
    count, whose time is the longest, would decide alone.

    Parameters
    ----------
    law : Law
    ranks : (points,) array
    values : (..., points) float64 array
        Seconds [s]; for Gustafson's law work per rank and second.

    Returns
    -------
    (..., coefficients) float64 array
    """
    columns = law.columns(np.asarray(ranks, float))
    ones = np.ones(len(columns))
    rows = values.reshape(-1, len(columns))
    fitted = np.array([nnls(columns / row[:, np.newaxis], ones)[0] for row in rows])
    return fitted.reshape(*values.shape[:-1], columns.shape[1])


def parameters(coefficients: np.ndarray) -> np.ndarray:
    """Return s, or sigma and kappa, of `fit`'s coefficients; NaN if nothing is left for T1."""
    at_one = coefficients[..., :2].sum(axis=-1, keepdims=True)
    found = coefficients[..., 1:] / np.where(at_one > 0, at_one, np.nan)
    # Rounding leaves about 1e-17 where exact arithmetic would give 0.
    return np.where(found < 1e-12, 0, found)


def evaluate(law: Law, coefficients: np.ndarray, ranks: ArrayLike) -> np.ndarray:
    """Return what the law gives at `ranks`, (..., points) float64 array."""
    # Not with @: BLAS would start threads, and their spinning takes longer than the products.
    return np.einsum("...c,pc->...p", coefficients, law.columns(np.asarray(ranks, float)))


def karp_flatt(speedup: ArrayLike, ratio: float) -> np.ndarray:
    """Return Karp and Flatt's experimentally determined serial fraction ([1]_).

    ``e = (1 / S - 1 / r) / (1 - 1 / r)``. With one rank as the baseline, e of a program that obeys
    Amdahl's law is its s at every count; if e grows with the count, ranks pay for more than a
    serial part. With a larger baseline, e is the part of the baseline's time, not of one rank's,
    that more ranks do not shorten.

    Parameters
    ----------
    speedup : array
        Relative to the baseline.
    ratio : float
        Ranks over those of the baseline, above 1.

    References
    ----------
    .. [1] A. H. Karp, H. P. Flatt, Measuring Parallel Processor Performance, Communications of the
       ACM 33 (1990) 539-543, doi:10.1145/78607.78614
    """
    return (1 / np.asarray(speedup, float) - 1 / ratio) / (1 - 1 / ratio)


def fastest(sigma: ArrayLike, kappa: ArrayLike) -> np.ndarray:
    """Return the rank count at which the USL has its least time; infinite if kappa is 0."""
    with np.errstate(divide="ignore"):
        return np.sqrt((1 - np.asarray(sigma, float)) / np.asarray(kappa, float))


def limit(s: float, baseline: int) -> float:
    """Return Amdahl's limit of the speedup, T(baseline) / T(infinity); infinite if s is 0."""
    return (s + (1 - s) / baseline) / s if s else math.inf


def slope(s: float, baseline: int) -> float:
    """Return what each rank adds to Gustafson's scaled speedup over the baseline."""
    return (1 - s) / (baseline * (1 - s) + s)
