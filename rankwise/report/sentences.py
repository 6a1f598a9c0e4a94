"""What a report says in words of points, fits, the phase that costs most, the limit of memory."""

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rankwise.analysis import statistics
from rankwise.analysis.series import Analysis, Fit, Point, Series
from rankwise.analysis.statistics import Estimate
from rankwise.ranks.words import counted
from rankwise.report.numbers import figure, percent
from rankwise.sweep.folder import OK, Run

# Above this, one rank's kernel over the mean is called the load's and not the machine's.
_IMBALANCE = 1.1
# What to do about an uneven load, by the schedule of the queue of tasks.
_SCHEDULES = {
    "block": "give a rank its next tasks when it is free, with --schedule guided, or deal them "
    "out, with --schedule cyclic.",
    "cyclic": "give a rank its next tasks when it is free, with --schedule guided or dynamic.",
    "guided": "take smaller chunks from the beginning, with --schedule dynamic, or cut the work "
    "into smaller tasks.",
    "dynamic": "take smaller chunks (--chunk), or cut the work into smaller tasks.",
}
# Of these a rank takes a chunk when it is free.
_TAKEN = ("guided", "dynamic")
_MOST_LISTED = 12
_NOT = "Its parameters are not identifiable from these data"
_NO_INTERVAL = "there is no interval, because there are fewer than six launches"
# What the figures of a fit are called: its parameters, and what follows from them.
_FITTED = {
    "Amdahl": {"s": "serial fraction s"},
    "USL": {"sigma": "contention sigma", "kappa": "coherency kappa"},
    "Gustafson": {"s": "serial fraction s"},
}
_DERIVED = {
    "Amdahl": "limit of the speedup over {}",
    "USL": "rank count with the least time",
    "Gustafson": "speedup gained with each rank",
}
# What to do about a phase that holds the scaling back.
_PHASES = {
    "read": "One rank reads or makes the input while the others wait: let each do its own part.",
    "scatter": "The input is sent out from one rank: let every rank read or make its own part.",
    "broadcast": "One rank sends the same data to all: send less, or less often, or let every rank "
    "read or make it.",
    "to_device": "Data is copied to the GPU: leave it there, or give each rank more work.",
    "kernel": "The computation itself gains less than the ranks cost: they share memory bandwidth, "
    "caches and power, or have too little work each.",
    "halo": "Rows of neighbours arrive after the computation that hides their way: give each rank "
    "more work, or see whether all ranks are equally fast.",
    "exchange": "Every rank sends to every other: send less, or less often, or give each rank more "
    "work.",
    "queue": "Ranks ask for their next tasks: give them more at a time (--chunk), or cut the work "
    "into fewer, larger tasks.",
    "wait": "In each exchange another rank is late: give all of them the same work.",
    "reduce": "Values of all ranks are combined: combine fewer, or less often, or give each rank "
    "more work.",
    "gather": "Results are collected on one rank: send less, or combine them on the way.",
    "to_host": "Data is copied from the GPU: leave it there, or give each rank more work.",
    "snapshot": "One rank writes snapshots while the others wait: keep fewer of them.",
    "checkpoint": "One rank writes checkpoints while the others wait: measure without them.",
    "other": "No phase covers this time: it is Python of the job itself; time its parts with "
    "run.phase, or move them out of the repeat.",
}


def with_interval(x: Estimate) -> str:
    """Return "= value (low to high)", without the interval if there is none."""
    if math.isnan(x.low):
        return f"= {figure(x.value)}"
    return f"= {figure(x.value)} ({figure(x.low)} to {figure(x.high)})"


def _allowed(x: Estimate) -> str:
    """Return the range alone, of a figure that is known no better."""
    if x.low == x.high:
        return f"= {figure(x.low)}"
    if x.low <= 0:
        return f"at most {figure(x.high)}"
    if math.isinf(x.high):
        return f"{figure(x.low)} or more"
    return f"from {figure(x.low)} to {figure(x.high)}"


def fit(fitted: Fit, whole_process: bool = False, kinds: bool = False) -> str:
    """Say what a fit says, or why it says nothing.

    Parameters
    ----------
    fitted : Fit
    whole_process : bool
        Whether it is of times of the whole process.
    kinds : bool
        Whether its points are on nodes of different kinds.
    """
    text = _fitted(fitted)
    if whole_process and fitted.parameters:
        text = (
            f"For the whole process, whose start-up counts as serial: {text[0].lower()}{text[1:]}"
        )
    if kinds and fitted.curve:
        text += " Its points ran on nodes of different kinds."
    return text


def _fitted(fitted: Fit) -> str:
    text = _parameters(fitted) if fitted.parameters else ""
    if fitted.misfit:
        off, where = percent(fitted.misfit.off), counted(fitted.misfit.ranks, "rank")
        misfit = f"The law does not describe these data: it is {off} off on {where}."
        return f"{text} {misfit}".lstrip()
    if text:
        return text
    fair = " without oversubscription" if len(fitted.ranks) < fitted.measured else ""
    are = "is" if len(fitted.ranks) == 1 else "are"
    return (
        f"{_NOT}: there {are} {counted(len(fitted.ranks), 'rank count')}{fair}, and this law needs "
        f"at least {fitted.wanted}."
    )


def _parameters(fitted: Fit) -> str:
    enough = fitted.fewest >= statistics.FEWEST
    if any(math.isnan(x.low if enough else x.value) for x in fitted.parameters.values()):
        return f"{_NOT}: no part of the time surely falls with more ranks."
    told = {_FITTED[fitted.law][name]: x for name, x in fitted.parameters.items()}
    told[_DERIVED[fitted.law].format(counted(fitted.baseline, "rank"))] = fitted.derived
    if enough and not fitted.identifiable:
        text = ", ".join(f"{name} {_allowed(x)}" for name, x in told.items())
        return f"{_NOT}, which allow (95 %): {text}."
    if not fitted.identifiable:
        zero = " and ".join(name for name, x in told.items() if x.value == 0)
        return f"{_NOT}: the best fit has {zero} = 0, and {_NO_INTERVAL}."
    text = ", ".join(f"{name} {with_interval(x)}" for name, x in told.items())
    end = "with 95 % intervals in parentheses" if enough else _NO_INTERVAL
    return f"{text[0].upper()}{text[1:]}; {end}."


def notes(point: Point) -> tuple[str, ...]:
    """Say what a referee would ask about a point, each in a few words."""
    found = []
    if point.oversubscribed:
        found.append(
            f"oversubscribed: {point.ranks * point.threads} on {counted(point.cores, 'core')}"
        )
    found += failures(point)
    if 0 < point.launches < statistics.FEWEST:
        found.append(f"{counted(point.launches, 'launch')}, so no interval")
    marks = {"superlinear": point.superlinear, "cache-resident": point.cache_resident}
    return (*found, *(name for name, given in marks.items() if given))


def failures(point: Point) -> list[str]:
    """Say how many launches of a point failed, and how."""
    outcomes = Counter(run.outcome for run in point.failed)
    launches = len(point.failed) + point.launches
    return [f"{n} of {launches} launches {what}" for what, n in outcomes.items()]


def place(point: Point) -> str:
    """Return the count of a point, and its nodes."""
    nodes = f" on {point.nodes} nodes" if point.nodes > 1 else ""
    over = " (oversubscribed)" if point.oversubscribed else ""
    return f"{counted(point.ranks, 'rank')}{nodes}{over}"


def of_what(series: Series) -> str:
    """Say that times are those of the whole process, if they are."""
    return " of the whole process, start-up included" if series.whole_process else ""


def bottleneck(series: Series) -> str:
    """Say which phase holds the scaling back, and what to do about it."""
    found = series.bottleneck
    if found is None:
        return ""
    if not found.phase:
        return f"Up to {place(found.point)}, no phase is shown to hold the scaling back."
    hint = _PHASES.get(found.phase, "") if series.sources == ("record",) else ""
    if found.phase in ("kernel", "wait"):
        hint = _uneven(found.point) or hint
    who = "the busiest rank" if found.point.by_rank else "the program"
    return (
        f"`{found.phase}` holds the scaling back: on {place(found.point)}, {who} spends "
        f"{percent(found.time_share)} of its time in it, which is {percent(found.loss_share)} of "
        f"the time that is lost against {counted(found.baseline, 'rank')}. {hint}"
    ).rstrip()


def _uneven(point: Point) -> str:
    """Say that a rank computes for longer than others, and what to do; empty if none does."""
    most = max(point.imbalance, default=1.0)
    if most <= _IMBALANCE:
        return ""
    if not point.schedule:
        return f"The slowest rank computes {figure(most)} times the mean: balance the load."
    cure = _SCHEDULES.get(point.schedule, "balance the load.")
    if point.schedule in _TAKEN and most - 1 > point.longest:
        # A rank that is done takes more: what it is ahead of others is one chunk at most.
        cure = "no chunk is long enough to cause that, so ranks got unequal shares of the cores."
    return (
        f"With the schedule {point.schedule}, the busiest rank computes for {figure(most)} times "
        f"the mean: {cure}"
    )


def limit(analysis: Analysis) -> str:
    """Say what memory delivers, and how near to it the kernel comes where it comes nearest."""
    measured = analysis.limit
    if measured is None:
        return ""
    shares = []
    for one in analysis.series:
        fair = [p for p in one.points if p.limit_share > 0 and not p.oversubscribed]
        if fair:
            most = max(fair, key=lambda p: p.limit_share)
            shares.append(f"{percent(most.limit_share)} on {place(most)} in {one.mode} scaling")
    reached = f" Of the reading, the kernel reaches at most {' and '.join(shares)}."
    nodes = f" on {measured.nodes} nodes" if measured.nodes > 1 else ""
    return (
        f"The memory of a node delivers {figure(measured.read_gbs)} GB/s reading and "
        f"{figure(measured.copy_gbs)} GB/s copying, as a preflight measured on "
        f"{measured.start[:10]} ({counted(measured.ranks, 'rank')} x "
        f"{counted(measured.threads, 'thread')}{nodes}).{reached if shares else ''}"
    )


def title(analysis: Analysis) -> str:
    """Return the command, as it was given."""
    return shlex.join(map(str, analysis.plan.get("command") or ["unknown command"]))


def machine(analysis: Analysis) -> str:
    """Return one line on where the sweep ran."""
    return machine_of(analysis.plan, analysis.runs)


def machine_of(plan: dict[str, Any], runs: Sequence[Run]) -> str:
    """Return one line on where some launches of a sweep ran."""
    if plan.get("supplied"):
        return f"times supplied in {plan['supplied']['file']}"
    facts = plan.get("machine") or {}
    nodes = max([1, *(run.nodes for run in runs)])
    if plan.get("cores_given"):
        given = f"{counted(plan['cores_given'], 'core')}, as given with --cores"
        each = plan.get("cores_per_node")
        given += f", {counted(each, 'core')} per node" if each else ""
        parts = [given, f"up to {nodes} nodes" if nodes > 1 else ""]
        parts.append(f"started on {facts['host']}" if facts.get("host") else "")
    else:
        parts = _allocation(plan, facts, max(nodes, facts.get("nodes") or 1))
    gpus = max((run.gpus for run in runs), default=0)
    if gpus:
        models = ", ".join(devices(runs))
        parts.append(f"up to {counted(gpus, 'GPU')}" + (f" ({models})" if models else ""))
    return ", ".join(part for part in parts if part)


def _allocation(plan: dict[str, Any], facts: dict[str, Any], nodes: int) -> list[str]:
    """Return what the ranks could use: nodes, processors, cores and memory."""
    name = facts.get("cluster") or facts.get("host") or "unknown machine"
    if facts.get("partition"):
        name += f", partition {facts['partition']}"
    parts = [name, f"up to {nodes} nodes" if nodes > 1 else "", facts.get("cpu") or ""]
    if kinds(plan):
        of = sorted(Counter(plan["cores"]).items())
        parts.append(" and ".join(f"{n} of {counted(cores, 'core')}" for cores, n in of))
    elif facts.get("cores"):
        parts.append(counted(facts["cores"], "core") + (" per node" if nodes > 1 else ""))
    if facts.get("memory_bytes"):
        parts.append(f"{facts['memory_bytes'] / 2**30:.0f} GiB")
    return parts


def kinds(plan: dict[str, Any]) -> bool:
    """Whether the nodes differ in their cores."""
    # With --cores-per-node the last one is a part of one like the others.
    return len(set(plan.get("cores") or [])) > 1 and not plan.get("cores_per_node")


def facts(runs: Sequence[Run], name: str) -> list[str]:
    """Return the different values that successful launches have of a fact, in words."""
    values = [run.facts[name] for run in runs if run.outcome == OK and run.facts.get(name)]
    words = (
        ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for value in values
    )
    return sorted(set(words))


def devices(runs: Sequence[Run]) -> list[str]:
    """Return the models of the devices, without what tells one from another."""
    names = {name for run in runs if run.outcome == OK for name in run.facts.get("devices") or ()}
    return sorted({name.partition(" GPU-")[0] for name in names})


def rank_list(counts: Sequence[int]) -> str:
    """Return rank counts as "1, 2 and 4 ranks"; of many, the first ones and how many more."""
    *others, last = counts
    if len(others) > _MOST_LISTED:
        listed = ", ".join(map(str, others[:3]))
        return f"{listed} and {len(counts) - 3} more counts up to {counted(last, 'rank')}"
    first = f"{', '.join(map(str, others))} and " if others else ""
    return first + counted(last, "rank")


def mpi(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    """Return the MPI library: what records say, else the file that the program has loaded."""
    if told := facts(good, "mpi"):
        return told
    known = plan.get("mpi") or {}
    family, library = known.get("family"), known.get("library") or ""
    if not library:
        return []
    name = library.rpartition("/")[2]
    return [f"{family}, {name}" if family else name]
