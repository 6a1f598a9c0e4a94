"""Which rank count to ask for: of what is billed, or of what is asked for, and how efficiently."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rankwise.analysis import statistics
from rankwise.analysis.medians import Medians
from rankwise.analysis.series import Point, Series
from rankwise.analysis.statistics import Estimate


def billed(points: Sequence[Point], medians: Medians, through: list[int]) -> list[Point]:
    """Return the points with the efficiency of what is billed.

    It is relative to the count that is the cheapest by these launches. Measured with six and ten
    launches, log-normal noise of 5 % and 1500 sweeps each: where one count is clearly the cheapest,
    96 to 97 % of the intervals hold the true value; where three, five or eight counts cost the
    same, 94 to 95, 94 and 91 to 92 %, since the cheapest is then so by luck.

    Parameters
    ----------
    points : sequence of Point
        With a successful launch.
    medians : Medians
        Of these points.
    through : list of int
        Places of those without oversubscription, or of all; the cheapest is one of them.
    """
    each = np.array([point.cost.hour for point in points])
    sure = [i for i in through or range(len(points)) if not doubtful(points[i])]
    if not sure or not (each > 0).all():
        return list(points)
    # Work per hour that is billed, relative to any of the points.
    value, resampled = (x * medians.ranks / each for x in (medians.rate, medians.resampled_rate))
    cheapest = max(sure, key=lambda i: value[i])
    return [
        replace(
            point,
            billed_efficiency=statistics.estimate(
                value[i] / value[cheapest],
                resampled[:, i] / resampled[:, cheapest],
                medians.fewest(i, cheapest),
            ),
        )
        if i in sure
        else point
        for i, point in enumerate(points)
    ]


def recommended(
    series: Series, target: float, oversubscribed: bool, whole_nodes: bool
) -> int | None:
    """Return the recommended rank count, see `Series`."""
    if not series.measured[1:]:
        return None
    best = None
    for point in considered(series, oversubscribed, whole_nodes):
        # At a low target a count may be efficient enough and yet slower than a smaller one.
        faster = series.mode != "strong" or not best or point.speedup.value > best.speedup.value
        if reaches(asked_for(point, whole_nodes).value, target) and faster:
            best = point
    return best.ranks if best else None


def cheapest(series: Series) -> Point | None:
    """Return the point that efficiency as billed is relative to; None if nothing was measured."""
    known = [p for p in series.measured if p.billed_efficiency.value == 1]
    return known[0] if known else None


def reaches(efficiency: float, target: float) -> bool:
    """Whether an efficiency is at least the target, but for the rounding of its arithmetic."""
    return efficiency >= target * (1 - 1e-12)


def asked_for(point: Point, whole_nodes: bool) -> Estimate:
    """Return the efficiency that a recommended count must have."""
    return point.billed_efficiency if whole_nodes else point.efficiency


def considered(series: Series, oversubscribed: bool, whole_nodes: bool) -> list[Point]:
    """Return the points that may be recommended.

    Parameters
    ----------
    series : Series
    oversubscribed : bool
        Whether those with more ranks x threads than cores may be.
    whole_nodes : bool
        Return only the fastest of those of which an hour costs the same.
    """
    sure = [p for p in series.measured if oversubscribed or not p.oversubscribed]
    sure = [point for point in sure if not doubtful(point)]
    if not whole_nodes:
        return sure
    fastest: dict[float, Point] = {}
    for point in sorted(sure, key=lambda point: -point.speedup.value):
        fastest.setdefault(point.cost.hour, point)
    return [point for point in sure if fastest[point.cost.hour] is point]


def alike(points: Sequence[Point], point: Point) -> list[Point]:
    """Return the points of which an hour costs as much as of this one."""
    return [each for each in points if each.cost.hour == point.cost.hour]


def doubtful(point: Point) -> bool:
    """Whether a point is faster than it can be, and no interval tells that it really is.

    Such as a run that failed without saying so.
    """
    return point.superlinear and math.isnan(point.efficiency.low)
