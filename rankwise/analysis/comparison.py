"""Two sweeps, A and B, beside each other: the ratio of their seconds at each rank count.

`rankwise.report.comparison` makes words of it.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankwise.analysis import statistics
from rankwise.analysis.analysis import analyse
from rankwise.analysis.series import Analysis, Point
from rankwise.analysis.statistics import NOTHING, Estimate
from rankwise.sweep.folder import OK, Sweep

# Works that are further apart than this are different: a sum in another order is not.
_SAME_WORK = 1e-6


@dataclass(frozen=True)
class Pair:
    """All launches of A and of B at one rank count.

    Attributes
    ----------
    mode : str
        ``strong`` or ``weak``.
    ranks : int
    a, b : Point
    ratio : Estimate
        Median seconds of B over those of A, for the same work: above 1, B is slower. Without an
        interval below six launches on either side; NaN where a side has no launch that succeeded.
    """

    mode: str
    ranks: int
    a: Point
    b: Point
    ratio: Estimate

    @property
    def failed(self) -> bool:
        """Whether A was measured here, and every launch of B failed."""
        return bool(self.a.launches) and not self.b.launches

    def exceeds(self, slowdown: float) -> bool:
        """Whether B is surely slower by more than this part: the whole interval lies above it."""
        return self.ratio.low > 1 + slowdown

    def least(self, slowdown: float) -> float:
        """Return about the smallest slowdown that could have been shown to exceed this one.

        It is that for which the interval, with the same scatter, just lies above; NaN without an
        interval. Measured like `ratio`, 1500 comparisons each: 46 to 49 % show a true slowdown of
        this size, and 96 to 98 % one that exceeds the limit by twice as much.
        """
        return (1 + slowdown) * self.ratio.value / self.ratio.low - 1


@dataclass(frozen=True)
class Unlike:
    """What makes the seconds of A and B something that has no ratio.

    Attributes
    ----------
    mode : str
    ranks : int
    what : str
        ``threads``, ``source`` or ``work``.
    a, b : tuple
        The different values of each side.
    """

    mode: str
    ranks: int
    what: str
    a: tuple[int | float | str, ...]
    b: tuple[int | float | str, ...]


@dataclass(frozen=True)
class Comparison:
    """All that a comparison shows.

    Attributes
    ----------
    folders : tuple of Path
        Of A and of B.
    a, b : Analysis
    pairs : tuple of Pair
        Strong scaling first, by ranks: what both have run, whether it succeeded or not.
    unlike : tuple of Unlike
        Empty if the sweeps can be compared.
    """

    folders: tuple[Path, Path]
    a: Analysis
    b: Analysis
    pairs: tuple[Pair, ...]
    unlike: tuple[Unlike, ...]

    @property
    def told(self) -> tuple[Pair, ...]:
        """Pairs with an interval."""
        return tuple(pair for pair in self.pairs if not math.isnan(pair.ratio.low))


def compare(a: Sweep, b: Sweep) -> Comparison:
    """Compare two sweeps at every rank count that both have run."""
    first, second = analyse(a), analyse(b)
    points, others = _points(first), _points(second)
    keys = [key for key in points if key in others]
    pairs = [Pair(*key, points[key], others[key], ratio(points[key], others[key])) for key in keys]
    unlike = [each for pair in pairs for each in _unlike(pair, first, second)]
    return Comparison((a.folder, b.folder), first, second, tuple(pairs), tuple(unlike))


def _points(analysis: Analysis) -> dict[tuple[str, int], Point]:
    return {(one.mode, point.ranks): point for one in analysis.series for point in one.points}


def ratio(a: Point, b: Point) -> Estimate:
    """Return the median seconds of B over those of A, with the bootstrap's 95 % interval.

    Measured as for `statistics.interval`, 4000 comparisons each with 6, 10 or 20 launches a side,
    log-normal noise of 5 %, with and without 5 % of launches that take half as long again, and a
    true ratio of 1, 1.05 or 1.1: 96 to 97 % of the intervals hold the true ratio. Of a program and
    itself 3 to 4 % say that one is faster, as often the one as the other. With three or four
    launches it would be 89 to 93 % of the intervals, and 6 to 10 %.

    Parameters
    ----------
    a, b : Point

    Returns
    -------
    Estimate
        Without an interval below six launches on either side; NaN where a side has none.
    """
    if not a.launches or not b.launches:
        return NOTHING
    # In one call: a second would draw the same launches again, as if A and B were slow together.
    medians = statistics.resampled_medians([a.samples, b.samples])
    value = b.seconds.value / a.seconds.value
    return statistics.estimate(value, medians[:, 1] / medians[:, 0], min(a.launches, b.launches))


def _unlike(pair: Pair, a: Analysis, b: Analysis) -> list[Unlike]:
    """Return what A and B do not have in common at a rank count, or one of them by itself."""
    runs = [
        [run for run in side.runs if (run.mode, run.ranks) == (pair.mode, pair.ranks)]
        for side in (a, b)
    ]
    threads = [tuple(sorted({run.threads for run in each})) for each in runs]
    sources = [tuple(sorted({run.source for run in each if run.outcome == OK})) for each in runs]
    works = [(pair.a.work,), (pair.b.work,)]
    unlike = {
        "threads": len({*threads[0], *threads[1]}) > 1,
        "source": len({*sources[0], *sources[1]}) > 1,
        # A work that is not known is taken to be the same.
        "work": not math.isnan(pair.a.work + pair.b.work)
        and not math.isclose(pair.a.work, pair.b.work, rel_tol=_SAME_WORK),
    }
    values: dict[str, Any] = {"threads": threads, "source": sources, "work": works}
    return [Unlike(pair.mode, pair.ranks, what, *values[what]) for what in unlike if unlike[what]]
