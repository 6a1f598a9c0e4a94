"""What to ask for, and what it costs: the recommended rank count in words, and the request."""

import math

from rankwise.analysis.recommendation import asked_for, considered, doubtful
from rankwise.analysis.series import Analysis, Point, Series
from rankwise.ranks.words import counted
from rankwise.report import costs
from rankwise.report.numbers import chosen, figure, number, percent
from rankwise.report.sentences import failures, of_what, place, rank_list
from rankwise.sweep.folder import SUPPLIED


def recommendation(analysis: Analysis, series: Series) -> str:
    """Say which measured rank count to ask for, and what a run of it costs."""
    measured, none = series.measured, "No rank count is recommended, because"
    if not measured:
        return f"{none} no launch succeeded."
    if len(measured) == 1:
        return f"{none} {place(measured[0])} is the only count measured."
    fair = [point for point in measured if analysis.oversubscribed or not point.oversubscribed]
    if not fair:
        return f"{none} every count has more ranks x threads than cores."
    best = next((point for point in fair if point.ranks == series.recommended), None)
    doubts = _doubts(analysis, fair)
    if best is None:
        return " ".join((f"{none} no measured count has {_wanted(analysis, series)}.", *doubts))
    chosen_from = _on_whole_nodes if analysis.billing.whole_nodes else _by_what_is_asked_for
    text = [chosen_from(analysis, series, best), *_uncertain(analysis, best), *doubts]
    return " ".join((*text, cost(analysis, series, best)))


def _wanted(analysis: Analysis, series: Series) -> str:
    billed = " as billed" if analysis.billing.whole_nodes else ""
    return f"an efficiency{billed} of at least {chosen(analysis.target)}{of_what(series)}"


def _by_what_is_asked_for(analysis: Analysis, series: Series, best: Point) -> str:
    wanted, measured = _wanted(analysis, series), series.measured
    fair = considered(series, analysis.oversubscribed, whole_nodes=False)
    larger = [point for point in fair if point.ranks > best.ranks]
    if any(point.efficiency.value >= analysis.target for point in larger):
        text = f"We recommend {place(best)}: larger counts have {wanted} too, and are slower."
    elif best is measured[0]:
        text = f"We recommend {place(best)}: no larger measured count has {wanted}."
    else:
        has = f"it has {percent(best.efficiency.value)}"
        text = f"We recommend {place(best)}, the largest measured count with {wanted}: {has}."
    beyond = [point for point in measured if point.ranks > best.ranks]
    if not beyond:
        return f"{text} Larger counts were not measured."
    if all(point.oversubscribed for point in beyond) and not analysis.oversubscribed:
        return f"{text} Larger counts had more ranks x threads than cores."
    return text


def _on_whole_nodes(analysis: Analysis, series: Series, best: Point) -> str:
    fastest = considered(series, analysis.oversubscribed, whole_nodes=True)
    larger = [point for point in fastest if point.cost.nodes > best.cost.nodes]
    on = counted(int(best.cost.nodes), "node")
    alike = sum(point.cost.nodes == best.cost.nodes for point in series.measured)
    of = f", the fastest of the counts on {on}, which are billed alike" if alike > 1 else ""
    wanted = f"at least {chosen(analysis.target)}"
    has = f"an efficiency as billed of {percent(best.billed_efficiency.value)}{of_what(series)}"
    rest = "Counts on more nodes were not measured."
    if any(point.billed_efficiency.value >= analysis.target for point in larger):
        rest = f"Counts on more nodes have {wanted} too, and are slower."
    elif larger:
        rest = f"No measured count on more nodes has {wanted}."
    return f"We recommend {place(best)}{of}: it has {has}. {rest}"


def _uncertain(analysis: Analysis, best: Point) -> list[str]:
    """Say what makes the choice uncertain."""
    efficiency = asked_for(best, analysis.billing.whole_nodes)
    text = [f"There, {'; '.join(failures(best))}."] if best.failed else []
    if math.isnan(efficiency.low):
        text.append("There is no interval, because there are fewer than six launches.")
    elif efficiency.low < analysis.target:
        text.append(f"Its 95 % interval reaches down to {percent(efficiency.low)}.")
    return text


def _doubts(analysis: Analysis, fair: list[Point]) -> list[str]:
    """Say which counts were left out, although they seem efficient enough."""
    doubts = [p.ranks for p in fair if doubtful(p) and p.efficiency.value >= analysis.target]
    if not doubts:
        return []
    return [
        f"The efficiency on {rank_list(doubts)} is above 100 %, and there is no interval to "
        "show that it is so: this was not considered."
    ]


def cost(analysis: Analysis, series: Series, point: Point) -> str:
    """Say how long a whole run of a point takes, and what it costs."""
    each = [
        (unit, f"{figure(unit.of(point.cost))}\u00a0{unit.name}") for unit in costs.units(analysis)
    ]
    hours = " or ".join(text for unit, text in each if unit.field != "charge")
    charged = "".join(f", charged as {text}" for unit, text in each if unit.field == "charge")
    run = {
        "record": "A whole run, with start-up and repeats,",
        SUPPLIED: "A run",
    }.get(" ".join(series.sources), "A whole run, with start-up,")
    return f"{run} takes {number(point.process_seconds)} s and costs {hours}{charged}."


def request(analysis: Analysis, series: Series) -> list[str]:
    """Return the lines of "runs x cost = request", of the recommended count."""
    return [
        f"{counted(runs, 'run')} x {figure(one)}\u00a0{name} = {figure(all_of_them)}\u00a0{name}"
        for name, runs, one, all_of_them in costs.request(analysis, series)
    ]
