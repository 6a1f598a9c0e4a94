"""What runs cost, in the units that a reader asks for: node-, core- and GPU-hours, a charge."""

import math
from dataclasses import dataclass

from rankwise.analysis.cost import Cost
from rankwise.analysis.series import Analysis, Series
from rankwise.report.numbers import figure
from rankwise.sweep.billing import NODE


@dataclass(frozen=True)
class Unit:
    """A unit of cost.

    Attributes
    ----------
    name : str
        Such as ``node-hours``, or that of the rate.
    field : str
        Of `Cost`.
    """

    name: str
    field: str

    def of(self, cost: Cost) -> float:
        """Return a cost in this unit."""
        return float(getattr(cost, self.field))


def units(analysis: Analysis) -> list[Unit]:
    """Return the units that are known, the one that is charged last."""
    billing, found = analysis.billing, []
    # Of shared nodes a run is billed a part, which says little unless that is what is charged.
    by_node = billing.charge is not None and billing.charge.per == NODE
    if billing.whole_nodes or by_node:
        found.append(Unit("node-hours", "node_hours"))
    gpus = any(point.gpus for one in analysis.series for point in one.points)
    found.append(Unit("GPU-hours", "gpu_hours") if gpus else Unit("core-hours", "core_hours"))
    if billing.charge is not None:
        found.append(Unit(billing.charge.unit, "charge"))
    return found


def request(analysis: Analysis, series: Series) -> list[tuple[str, int, float, float]]:
    """Return the unit, the runs, what one costs and what all do, at the recommended count.

    What one costs has the digits that are written, so that the product is right. Empty if nobody
    said how many runs are wanted, or no count is recommended.
    """
    runs = analysis.billing.runs
    chosen = [point for point in series.points if point.ranks == series.recommended]
    if runs is None or not chosen:
        return []
    cost = chosen[0].cost
    costs = [(unit.name, unit.of(cost)) for unit in units(analysis)]
    each = [(name, float(figure(value))) for name, value in costs if math.isfinite(value)]
    return [(name, runs, one, runs * one) for name, one in each if math.isfinite(runs * one)]
