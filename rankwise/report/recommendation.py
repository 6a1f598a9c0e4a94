"""What to ask for, and what it costs: the recommended rank count in words, and the request."""

import math
from dataclasses import replace

from rankwise.analysis.recommendation import alike, asked_for, considered, doubtful, reaches
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
        return f"{none} {place(measured[0])} is the only count with a launch that succeeded."
    fair = [point for point in measured if analysis.oversubscribed or not point.oversubscribed]
    if not fair:
        return f"{none} every count has more ranks x threads than cores."
    best = next((point for point in fair if point.ranks == series.recommended), None)
    doubts = _doubts(analysis, fair)
    if best is None:
        text = [f"{none} no measured count has {_wanted(analysis, series)}.", *doubts]
        return " ".join((*text, *["So there is no request."] * bool(analysis.billing.runs)))
    chosen_from = _on_whole_nodes if analysis.billing.whole_nodes else _by_what_is_asked_for
    text = [chosen_from(analysis, series, best), *_uncertain(analysis, best), *doubts]
    return " ".join((*text, cost(analysis, series, best)))


def _wanted(analysis: Analysis, series: Series) -> str:
    billed = " as billed" if analysis.billing.whole_nodes else ""
    return f"an efficiency{billed} of at least {chosen(analysis.target)}{of_what(series)}"


def _by_what_is_asked_for(analysis: Analysis, series: Series, best: Point) -> str:
    wanted, here = _wanted(analysis, series), f"We recommend {place(best)}"
    beyond = [point for point in series.points if point.ranks > best.ranks]
    kind = "considered" if any(map(doubtful, beyond)) else "measured"
    larger = [p for p in considered(series, analysis.oversubscribed, False) if p in beyond]
    if any(reaches(point.efficiency.value, analysis.target) for point in larger):
        return f"{here}: larger counts have {wanted} too, and are no faster."
    if larger and best is series.measured[0]:
        return f"{here}: no larger {kind} count has {wanted}."
    has = f"it has {percent(best.efficiency.value, analysis.target)}"
    text = f"{here}, the largest {kind} count with {wanted}: {has}."
    return text if larger else f"{text} Larger counts {_left_out(analysis, beyond)}."


def _on_whole_nodes(analysis: Analysis, series: Series, best: Point) -> str:
    beyond = [point for point in series.points if point.cost.nodes > best.cost.nodes]
    larger = [p for p in considered(series, analysis.oversubscribed, True) if p in beyond]
    billed = percent(best.billed_efficiency.value, analysis.target)
    has = f"an efficiency as billed of {billed}{of_what(series)}"
    if best is not series.baseline:
        has += f", and {percent(best.efficiency.value)} relative to the baseline"
    out = [
        point for point in alike(series.points, best) if math.isnan(point.billed_efficiency.value)
    ]
    # Of a table, only the user knows which nodes hold so many ranks.
    where = place(replace(best, nodes=int(best.cost.nodes)))
    text = f"We recommend {where}{_of_alike(analysis, series, best)}: it has {has}."
    if out:
        counts = rank_list([point.ranks for point in out])
        text += f" Billed alike, but left out: {counts}, which {_left_out(analysis, out)}."
    text += _not_told_from(analysis, series, best)
    wanted = f"at least {chosen(analysis.target)} as billed"
    if any(reaches(point.billed_efficiency.value, analysis.target) for point in larger):
        return f"{text} Counts on more nodes have {wanted} too, and are no faster."
    if larger:
        kind = "considered" if any(map(doubtful, beyond)) else "measured"
        return f"{text} No {kind} count on more nodes has {wanted}."
    return f"{text} Counts on more nodes {_left_out(analysis, beyond)}."


def _of_alike(analysis: Analysis, series: Series, best: Point) -> str:
    """Say what a count is among those of which an hour costs the same."""
    others = alike(considered(series, analysis.oversubscribed, False), best)
    if len(others) == 1:
        return ""
    kind = "" if len(others) == len(alike(series.points, best)) else "considered "
    of = (
        f"of the {len(others)} {kind}counts on {counted(int(best.cost.nodes), 'node')} billed alike"
    )
    best_of = "the fastest" if series.mode == "strong" else "with the most work per second"
    return f", {best_of} {of}"


def _not_told_from(analysis: Analysis, series: Series, best: Point) -> str:
    """Say of which counts billed alike the launches do not show that they are worse."""
    others = alike(considered(series, analysis.oversubscribed, False), best)
    close = [p.ranks for p in others if p is not best and p.speedup.high >= best.speedup.low]
    if not close:
        return ""
    return f" The launches cannot tell it from {rank_list(close)}: the intervals overlap."


def _left_out(analysis: Analysis, points: list[Point]) -> str:
    """Say why none of the points was considered."""
    if not points:
        return "were not measured"
    reasons = {
        "failed": any(not point.launches for point in points),
        "had more ranks x threads than cores": not analysis.oversubscribed
        and any(point.oversubscribed for point in points),
        "were above 100 % without an interval": any(map(doubtful, points)),
    }
    return " or ".join(reason for reason, given in reasons.items() if given)


def _uncertain(analysis: Analysis, best: Point) -> list[str]:
    """Say what makes the choice uncertain."""
    efficiency = asked_for(best, analysis.billing.whole_nodes)
    text = [f"There, {'; '.join(failures(best))}."] if best.failed else []
    if math.isnan(efficiency.low):
        text.append("There is no interval, because there are fewer than six launches.")
    elif not reaches(efficiency.low, analysis.target):
        text.append(
            f"Its 95 % interval reaches down to {percent(efficiency.low, analysis.target)}."
        )
    return text


def _doubts(analysis: Analysis, fair: list[Point]) -> list[str]:
    """Say which counts were left out, although they seem efficient enough."""
    doubts = [p.ranks for p in fair if doubtful(p) and reaches(p.efficiency.value, analysis.target)]
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


def request(analysis: Analysis, series: Series) -> list[list[str]]:
    """Return the table "runs x cost = request" of the recommended count, its titles first."""
    rows = [
        [str(runs), f"{figure(one)}\u00a0{name}", f"{figure(together)}\u00a0{name}"]
        for name, runs, one, together in costs.request(analysis, series)
    ]
    return [["runs", "cost of a run", "request"], *rows] if rows else []
