"""The medians of a series and their resamples, of which all that is relative is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankwise.analysis import statistics
from rankwise.analysis.laws import GUSTAFSON, Law
from rankwise.analysis.series import Point


@dataclass(frozen=True)
class Medians:
    """The points of a series with a successful launch, as arrays over them, the baseline first.

    `rate` is work per rank and second, which is what both kinds of scaling compare: the work is the
    same at every count in strong scaling (here 1), and grows with the ranks in weak scaling.
    """

    ranks: np.ndarray
    launches: np.ndarray
    seconds: np.ndarray
    rate: np.ndarray
    resampled_seconds: np.ndarray
    resampled_rate: np.ndarray

    def fewest(self, *points: int) -> int:
        """Return the number of launches of the point that has the fewest."""
        return int(self.launches[list(points)].min())

    def of(self, law: Law) -> tuple[np.ndarray, np.ndarray]:
        """Return what the law is fitted to, and the same of each resample."""
        if law is GUSTAFSON:
            return self.rate, self.resampled_rate
        return self.seconds, self.resampled_seconds


def medians_of(mode: str, measured: Sequence[Point]) -> Medians:
    ranks = np.array([point.ranks for point in measured], float)
    work = np.ones_like(ranks) if mode == "strong" else _weak_work(measured)
    seconds = np.array([point.seconds.value for point in measured])
    resampled = statistics.resampled_medians([point.samples for point in measured])
    per_rank = work / ranks
    return Medians(
        ranks,
        np.array([point.launches for point in measured]),
        seconds,
        per_rank / seconds,
        resampled,
        per_rank / resampled,
    )


def _weak_work(measured: Sequence[Point]) -> np.ndarray:
    """Return the work that the records tell, or, if one does not, as many units as ranks."""
    work = np.array([point.work for point in measured])
    return work if (work > 0).all() else np.array([point.ranks for point in measured], float)
