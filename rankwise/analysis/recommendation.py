"""Which rank count to ask for: of what is billed, or of what is asked for, and how efficiently."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rankwise.analysis import statistics
from rankwise.analysis.cost import Billing
from rankwise.analysis.medians import Medians
from rankwise.analysis.series import Point, Series
from rankwise.analysis.statistics import Estimate
from rankwise.sweep.folder import Run


def billed(
    points: Sequence[Point],
    groups: dict[int, list[Run]],
    medians: Medians,
    through: list[int],
    billing: Billing,
) -> list[Point]:
    """Return the points with the efficiency of what is billed."""
    hours = [billing.cost(groups[point.ranks][0], 3600.0) for point in points]
    each = np.array([x.node_hours if billing.whole_nodes else x.core_hours for x in hours])
    # Work per hour that is billed, relative to any of the points.
    value, resampled = (x * medians.ranks / each for x in (medians.rate, medians.resampled_rate))
    sure = [i for i in through or range(len(points)) if not doubtful(points[i])]
    if not sure:
        return list(points)
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
        for i, point in enumerate(points)
    ]


def recommended(
    series: Series, target: float, oversubscribed: bool, whole_nodes: bool
) -> int | None:
    if not series.measured[1:]:
        return None
    best = None
    for point in considered(series, oversubscribed, whole_nodes):
        # At a low target a count may be efficient enough and yet slower than a smaller one.
        slower = series.mode == "strong" and best and point.speedup.value < best.speedup.value
        if asked_for(point, whole_nodes).value >= target and not slower:
            best = point
    return best.ranks if best else None


def cheapest(series: Series) -> Point | None:
    """Return the point that efficiency as billed is relative to; None if nothing was measured."""
    known = [p for p in series.measured if p.billed_efficiency.value == 1]
    return known[0] if known else None


def asked_for(point: Point, whole_nodes: bool) -> Estimate:
    """Return the efficiency that a recommended count must have."""
    return point.billed_efficiency if whole_nodes else point.efficiency


def considered(series: Series, oversubscribed: bool, whole_nodes: bool) -> list[Point]:
    """Return the points that may be recommended; of those billed alike the fastest."""
    sure = [p for p in series.measured if oversubscribed or not p.oversubscribed]
    sure = [point for point in sure if not doubtful(point)]
    if not whole_nodes:
        return sure
    fastest: dict[float, Point] = {}
    for point in sure:
        best = fastest.setdefault(point.cost.nodes, point)
        if point.speedup.value > best.speedup.value:
            fastest[point.cost.nodes] = point
    return [point for point in sure if fastest[point.cost.nodes] is point]


def doubtful(point: Point) -> bool:
    """Whether a point is faster than it can be, and no interval tells that it really is.

    Such as a run that failed without saying so.
    """
    return point.superlinear and math.isnan(point.efficiency.low)
