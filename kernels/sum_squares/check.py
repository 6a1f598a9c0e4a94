"""Block sums, beside dot products, and their total, beside their exact sum."""

import math
from dataclasses import dataclass

import numpy as np

from kernels.sum_squares import BLOCK, error_bound, roundings


@dataclass(frozen=True)
class Evidence:
    """What a rank finds out about its own block sums; small.

    Attributes
    ----------
    total : float
        Sum of its block sums, rounded once; infinite if it overflows.
    error, bound : float
        Distance of a block sum from the dot product of that block, and its bound: of the block
        where they are closest.
    """

    total: float
    error: float
    bound: float

    @property
    def share(self) -> float:
        """The error as a part of its bound; infinite if it is not a number."""
        return math.inf if math.isnan(self.error) else self.error / (self.bound or 1.0)


def examine(x: np.ndarray, sums: np.ndarray) -> Evidence:
    """Sum the squares of each block by a dot product, and compare that with its block sum.

    Parameters
    ----------
    x : (n,) float64 or float32 array
        Elements of this rank, in whole blocks.
    sums : (ceil(n / BLOCK),) float64 array
        Their block sums.
    """
    parts = (x[first : first + BLOCK].astype(np.float64) for first in range(0, x.size, BLOCK))
    dots = [float(np.dot(part, part)) for part in parts]
    try:
        total = math.fsum(sums)
    except OverflowError:
        total = math.inf
    blocks = (
        Evidence(
            total,
            abs(float(each) - dot),
            error_bound(BLOCK, dot, roundings(BLOCK)) + error_bound(BLOCK, dot, BLOCK),
        )
        for each, dot in zip(sums, dots, strict=True)
    )
    return max(blocks, key=lambda block: block.share, default=Evidence(total, 0.0, 0.0))


def judge(evidence: list[Evidence], total: float, n: int) -> list[tuple[float, float, str]]:
    """Compare a total, and the block sums of all ranks, with what the ranks found out about them.

    Parameters
    ----------
    evidence : list of Evidence
        Of all ranks.
    total : float
        Sum of the squares of all elements; finite.
    n : int
        Number of elements, of all ranks.

    Returns
    -------
    list of (float, float, str)
        Error, bound, and what is compared and why the bound is what it is.
    """
    worst = max(evidence, key=lambda each: each.share)
    again = math.fsum(each.total for each in evidence)
    # Of the tree over the blocks; of the exact sum of a rank, and of that of all ranks.
    bound = error_bound(n, total, roundings(n) - roundings(BLOCK)) + error_bound(n, total, 2)
    return [
        (worst.error, worst.bound, "block sums: rounding of both"),
        (abs(total - again), bound, "total of the block sums: rounding"),
    ]


def remarks(total: float, n: int) -> list[str]:
    """Return what a user should know where the comparison says little.

    Parameters
    ----------
    total, n
        As for `judge`.
    """
    # What squares that underflow add up to at most, a thousand times.
    if n and total < 1000 * n * 2.0**-1074:
        return ["the squares are 0, or too small for float64, so the check says little"]
    return []
