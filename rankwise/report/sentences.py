"""What a report says in words: notes, fits, recommendation, bottleneck, limit, warnings, method."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankwise.analysis import statistics
from rankwise.analysis.analysis import Analysis, Fit, Point, Series, beyond
from rankwise.analysis.cost import Billing
from rankwise.analysis.statistics import Estimate
from rankwise.ranks.words import counted
from rankwise.report.numbers import figure, number, percent
from rankwise.sweep.folder import OK, SUPPLIED, Limit, Run

# What a comparison wants to be the same, by its name in a record.
_SAME = {
    "jobs": "job",
    "variants": "variant",
    "devices": "devices",
    "commits": "git",
    "MPI libraries": "mpi",
}
# Above this, one rank's kernel over the mean is called the load's and not the machine's.
_IMBALANCE = 1.1
_NO_INTERVAL = "no interval: fewer than six launches"
# As many busy cores before a run, or this part of all of them, are more than an idle system takes.
_BUSY_CORES, _BUSY_SHARE = 0.5, 0.1
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
    "queue": "Ranks ask for their next task: cut the work into fewer, larger tasks.",
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
        text = f"Of the whole process, whose start-up counts as serial: {text[0].lower()}{text[1:]}"
    if kinds and fitted.curve:
        text += " Its points ran on nodes of different kinds."
    return text


def _fitted(fitted: Fit) -> str:
    text = _parameters(fitted) if fitted.parameters else ""
    if fitted.misfit:
        off, where = percent(fitted.misfit.off), counted(fitted.misfit.ranks, "rank")
        misfit = f"The law does not describe these data: it is {off} off at {where}."
        return f"{text} {misfit}".lstrip()
    if text:
        return text
    fair = " without oversubscription" if len(fitted.ranks) < fitted.measured else ""
    return (
        f"Not identifiable from these data: {counted(len(fitted.ranks), 'rank count')}{fair}, and "
        f"this law wants at least {fitted.wanted}."
    )


def _parameters(fitted: Fit) -> str:
    enough = fitted.fewest >= statistics.FEWEST
    if any(math.isnan(x.low if enough else x.value) for x in fitted.parameters.values()):
        return "Not identifiable from these data: no part of the time surely falls with more ranks."
    told = {_FITTED[fitted.law][name]: x for name, x in fitted.parameters.items()}
    told[_DERIVED[fitted.law].format(counted(fitted.baseline, "rank"))] = fitted.derived
    if enough and not fitted.identifiable:
        text = ", ".join(f"{name} {_allowed(x)}" for name, x in told.items())
        return f"Not identifiable from these data, which allow (95 %): {text}."
    if not fitted.identifiable:
        zero = " and ".join(name for name, x in told.items() if x.value == 0)
        return f"Not identifiable from these data: the best fit has {zero} = 0; {_NO_INTERVAL}."
    text = ", ".join(f"{name} {with_interval(x)}" for name, x in told.items())
    end = "in parentheses 95 % intervals" if enough else _NO_INTERVAL
    return f"{text[0].upper()}{text[1:]}; {end}."


def notes(point: Point) -> tuple[str, ...]:
    """Say what a referee would ask about a point, each in a few words."""
    found = []
    if point.oversubscribed:
        found.append(f"oversubscribed: {point.ranks * point.threads} on {point.cores} cores")
    found += failures(point)
    if 0 < point.launches < statistics.FEWEST:
        found.append(f"{counted(point.launches, 'launch')}, so no interval")
    marks = {"superlinear": point.superlinear, "cache-resident": point.cache_resident}
    return (*found, *(name for name, given in marks.items() if given))


def failures(point: Point) -> list[str]:
    """Say how many launches of a point did not succeed, and how they ended."""
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
        return f"Nothing surely holds the scaling back up to {place(found.point)}."
    hint = _PHASES.get(found.phase, "") if series.sources == ("record",) else ""
    slowest = max(found.point.imbalance, default=1.0)
    if found.phase == "kernel" and slowest > _IMBALANCE:
        hint = f"The slowest rank computes {figure(slowest)} times the mean: balance the load."
    who = "the busiest rank" if found.point.by_rank else "the program"
    return (
        f"`{found.phase}` holds the scaling back: at {place(found.point)} {who} spends "
        f"{percent(found.time_share)} of its time in it, which makes {percent(found.loss_share)} "
        f"of what is lost against {counted(found.baseline, 'rank')}. {hint}"
    ).rstrip()


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
            shares.append(f"{percent(most.limit_share)} at {place(most)} in {one.mode} scaling")
    reached = f"; of the read limit the kernel reaches at most {', '.join(shares)}"
    nodes = f" on {measured.nodes} nodes" if measured.nodes > 1 else ""
    return (
        f"Measured limit: memory delivers {figure(measured.read_gbs)} GB/s reading and "
        f"{figure(measured.copy_gbs)} GB/s copying per node ({counted(measured.ranks, 'rank')} x "
        f"{counted(measured.threads, 'thread')}{nodes}, preflight of {measured.start[:10]})"
        f"{reached if shares else ''}."
    )


def title(analysis: Analysis) -> str:
    """Return the command, as it was given."""
    return shlex.join(map(str, analysis.plan.get("command") or ["unknown command"]))


def machine(analysis: Analysis) -> str:
    """Return one line on where the sweep ran."""
    return _machine(analysis.plan, analysis.runs)


def _machine(plan: dict[str, Any], runs: Sequence[Run]) -> str:
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
        models = ", ".join(_devices(runs))
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


def _facts(runs: Sequence[Run], name: str) -> list[str]:
    """Return the different values that records of successful runs have of a fact, in words."""
    values = [run.facts[name] for run in runs if run.outcome == OK and run.facts.get(name)]
    words = (
        ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for value in values
    )
    return sorted(set(words))


def _devices(runs: Sequence[Run]) -> list[str]:
    """Return the models of the devices, without what tells one from another."""
    names = {name for run in runs if run.outcome == OK for name in run.facts.get("devices") or ()}
    return sorted({name.partition(" GPU-")[0] for name in names})


def warnings(analysis: Analysis) -> tuple[str, ...]:
    """Return what a referee must know."""
    runs, series = analysis.runs, analysis.series
    found = of_runs(analysis) + _by_ranks(analysis)
    if kinds(analysis.plan):
        cores = " and ".join(map(str, sorted(set(analysis.plan["cores"]))))
        found.append(
            f"The nodes are of different kinds, with {cores} cores: figures of counts on different "
            "nodes, and laws fitted across them, mix their speeds."
        )
    for one in series:
        found += _of_points(one)
    found += _low_limit(analysis.limit, series)
    found += _other_limit(analysis.limit, runs)
    found += _of_program(runs)
    return tuple(dict.fromkeys(found))


def of_runs(analysis: Analysis) -> list[str]:
    """Return what makes the runs of a sweep doubtful, whatever is made of their seconds."""
    runs, plan = analysis.runs, analysis.plan
    found = [*_incomplete(runs, analysis.missing), *_mixed(runs), *_busy(plan, runs)]
    found += [f"{text}." for text in (*analysis.damaged, *(plan.get("warnings") or ()))]
    return found + _left_behind(runs, plan)


def _incomplete(runs: Sequence[Run], missing: Sequence[str]) -> list[str]:
    found = []
    if not runs:
        found.append("Nothing was run.")
    bad = sum(run.outcome != OK for run in runs)
    if bad:
        found.append(f"{bad} of {counted(len(runs), 'run')} did not succeed.")
    if missing:
        found.append("Not all planned runs took place.")
    return found


def _mixed(runs: Sequence[Run]) -> list[str]:
    """Say what should have been the same in all runs and was not."""
    good = [run for run in runs if run.outcome == OK]
    unlike = {
        what: _devices(good) if name == "devices" else _facts(good, name)
        for what, name in _SAME.items()
    }
    unlike |= {
        "processors": sorted({run.cpu for run in good}),
        "launchers": sorted({Path(run.argv[0]).name for run in good if run.argv}),
        # Said once, by the commits in the records if there are any.
        "commits of the program's folder": sorted({run.commit[:12] for run in good})
        if len(unlike["commits"]) < 2
        else [],
        "numbers of threads per rank": sorted({str(run.threads) for run in good}),
    }
    found = [
        f"Runs of different {what} are compared: {'; '.join(values)}."
        for what, values in unlike.items()
        if len(values) > 1
    ]
    return found + [text for text, doubtful in _doubts(good).items() if doubtful]


def _doubts(good: Sequence[Run]) -> dict[str, bool]:
    """Return what may be wrong with a comparison, and whether it is."""
    strong = [run for run in good if run.mode == "strong"]
    overlap = [run for run in good if run.seconds and _phases_of(run) > 1.02 * run.seconds]
    works = {run.work for run in strong} - {None}
    lines = {
        (run.ranks, run.facts["printed"] / run.ranks) for run in good if "printed" in run.facts
    }
    commits, sources = _facts(good, "git"), sorted({run.source for run in good})
    return {
        "More ranks print more lines with seconds: each may be running the whole program by "
        "itself.": len({ranks for ranks, _ in lines}) > 1 and len({each for _, each in lines}) == 1,
        "The commit of the code is not known.": "unknown" in commits,
        "The code had changes that no commit holds.": any(x.endswith("-dirty") for x in commits),
        "Runs with different versions of libraries are compared.": len(_facts(good, "versions"))
        > 1,
        "The results of the strong-scaling runs differ.": len(_facts(strong, "results_sha256")) > 1,
        "The strong-scaling runs differ in the size of their problem.": len(works) > 1,
        f"Seconds from different sources are compared: {', '.join(sources)}.": len(sources) > 1,
        "The phases that the program tells add up to more than its seconds: they overlap, or are "
        "of another part of it.": bool(overlap),
        "The seconds are those of the whole process, so start-up, which more ranks do not shorten, "
        "counts.": sources == ["process"],
    }


def _phases_of(run: Run) -> float:
    """Return the sum of the phases of the rank where it is largest."""
    ranks = max(map(len, run.phases.values()), default=0)
    return max(
        (sum(seconds[k] for seconds in run.phases.values()) for k in range(ranks)), default=0
    )


def _busy(plan: dict[str, Any], runs: Sequence[Run]) -> list[str]:
    """Say how often something else kept the machine busy just before a run."""
    cores = (plan.get("machine") or {}).get("cores") or max((run.cores for run in runs), default=1)
    busy = sum(run.load > max(_BUSY_CORES, _BUSY_SHARE * cores) for run in runs)
    if not busy:
        return []
    return [f"Something else kept the machine busy before {busy} of {counted(len(runs), 'run')}."]


def _of_points(series: Series) -> list[str]:
    measured = series.measured
    name = f"{series.mode.capitalize()} scaling"
    found = []
    if measured and not series.points[0].launches:
        lost = counted(series.points[0].ranks, "rank")
        found.append(f"{name}: nothing at {lost}, so the baseline is {measured[0].ranks}.")
    if len(measured) == 1:
        found.append(
            f"{name}: only {counted(measured[0].ranks, 'rank')} measured, so none to show."
        )
    if not measured and series.points:
        found.append(f"{name}: no launch succeeded.")
    for what, chosen in {
        "more ranks x threads than cores": [p for p in measured if p.oversubscribed],
        "fewer than six launches, so no 95 % interval": [
            p for p in measured if p.launches < statistics.FEWEST
        ],
        "an efficiency above 1, which wants an explanation": [p for p in measured if p.superlinear],
        "a kernel faster than memory: its data stay in cache, so a larger problem may scale "
        "otherwise": [p for p in measured if p.cache_resident],
    }.items():
        if chosen:
            *others, last = (str(point.ranks) for point in chosen)
            counts = ", ".join((*others, counted(int(last), "rank")))
            found.append(f"{name}, {counts}: {what}.")
    if series.mode == "weak":
        found += _weak_work(measured)
    return found


def _low_limit(measured: Limit | None, series: Sequence[Series]) -> list[str]:
    """Say where more cores may get more out of memory than measured it."""
    points = [p for one in series for p in one.points if p.limit_share > 0]
    more = sorted({point.ranks for point in points if measured and beyond(measured, point)})
    if not more:
        return []
    return [
        "The limit of memory was measured with fewer cores of a node than were used on "
        f"{rank_list(more)}, and may be too low."
    ]


def _other_limit(measured: Limit | None, runs: Sequence[Run]) -> list[str]:
    """Say what makes the limit of memory another than that of the runs."""
    if measured is None:
        return []
    found = [f"When the limit of memory was measured: {text}." for text in measured.warnings]
    hosts = {host for run in runs if run.outcome == OK for host in run.facts.get("hosts") or ()}
    if hosts and measured.hosts and not hosts & set(measured.hosts):
        there, here = (", ".join(sorted(names)[:3]) for names in (measured.hosts, hosts))
        found.append(
            f"The limit of memory was measured on other nodes ({there}) than the program ran on "
            f"({here}), which may deliver more or less."
        )
    return found


def _of_program(runs: Sequence[Run]) -> list[str]:
    """Return what the program itself warned of, with the rank counts where it did."""
    where: dict[str, set[int]] = {}
    for run in runs:
        for text in run.facts.get("warnings") or ():
            where.setdefault(text, set()).add(run.ranks)
    told = sorted((sorted(ranks), text) for text, ranks in where.items())
    return [f"On {rank_list(ranks)} the program warned: {text}." for ranks, text in told]


def _left_behind(runs: Sequence[Run], plan: dict[str, Any]) -> list[str]:
    """Say which files in the folder that all runs share were written by one."""
    names = sorted({name for run in runs for name in run.facts.get("changed") or ()})
    if not names:
        return []
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    where, cure = "the working folder", ": --case gives each a folder of its own"
    if plan.get("case"):
        where, cure = f"{plan['case']}, of which each run had a copy,", ""
    return [
        f"Files in {where} changed during runs: {shown}. A run may have gone on from what another "
        f"had left, and be faster for it{cure}."
    ]


def _by_ranks(analysis: Analysis) -> list[str]:
    """Say that the command of strong scaling depends on the rank count."""
    strong = any(series.mode == "strong" for series in analysis.series)
    if not strong or not any("{ranks}" in word for word in analysis.plan.get("command") or ()):
        return []
    return [
        "The command differs between rank counts ({ranks}): if the problem does too, this is not "
        "strong scaling (--mode weak)."
    ]


def rank_list(counts: Sequence[int]) -> str:
    """Return rank counts as "1, 2 and 4 ranks"."""
    *others, last = counts
    first = f"{', '.join(map(str, others))} and " if others else ""
    return first + counted(last, "rank")


def _weak_work(measured: Sequence[Point]) -> list[str]:
    """Say where the work of a rank is not the same at every count, or not known."""
    found = []
    each = [point.work / point.ranks for point in measured if point.work > 0]
    if each and max(each) > 1.01 * min(each):
        found.append(
            f"Weak scaling: the work of a rank varies by {percent(max(each) / min(each) - 1)}; "
            "efficiency is that of work per second."
        )
    if any(math.isnan(point.work) for point in measured):
        found.append(
            "Weak scaling: the program does not tell its work, which is taken to grow with the "
            "ranks."
        )
    return found


def method(analysis: Analysis) -> str:
    """Return the paragraph for a proposal."""
    plan, series, measured = analysis.plan, analysis.series, analysis.limit
    good = [run for run in analysis.runs if run.outcome == OK]
    if not good:
        return "No launch succeeded."
    text = _supplied(plan, good) if plan.get("supplied") else _measured(plan, good)
    text += [*_noted(plan), _baselines(series)]
    if measured and any(point.bound > 0 for one in series for point in one.points):
        text.append(
            f"As a bound, memory is taken to deliver {figure(measured.read_gbs)} GB/s per node, "
            "measured with all ranks of a node reading at once."
        )
    text += _evaluation(series, analysis.oversubscribed) + _cost_rule(analysis.billing, good)
    return " ".join(text)


def _noted(plan: dict[str, Any]) -> list[str]:
    """Say what the user has noted."""
    noted = "; ".join(f"{key} {value}" for key, value in (plan.get("notes") or {}).items())
    return [f"Noted by the user: {noted}."] if noted else []


def _supplied(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    """Say where times are from that nobody measured here."""
    modes = " and ".join(sorted({run.mode for run in good}))
    file, digest = (plan["supplied"][name] for name in ("file", "sha256"))
    often = _launches(good)
    what = ("that of " if often == "1 launch" else "the median over ") + often
    return [
        f"The times of {modes} scaling were supplied in {file} (SHA-256 {digest}), and not "
        "measured by rankwise: how they were taken, and what they include, is not known here.",
        f"Every time is {what}, that is rows of this table, with {_threads(good)} per rank.",
    ]


def _measured(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    """Say what was measured, and how."""
    return [*_what(plan, good), *_checked(good), *_timing(plan, good)]


def _launches(good: Sequence[Run]) -> str:
    """Say how many launches there are of each count."""
    counts = Counter((run.mode, run.ranks) for run in good).values()
    fewer = f"{min(counts)} to " if min(counts) < max(counts) else ""
    return fewer + counted(max(counts), "launch")


def _threads(good: Sequence[Run]) -> str:
    return " or ".join(counted(n, "thread") for n in sorted({run.threads for run in good}))


def mpi(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    """Return the MPI library: what records say, else the file that the program has loaded."""
    if told := _facts(good, "mpi"):
        return told
    known = plan.get("mpi") or {}
    family, library = known.get("family"), known.get("library") or ""
    if not library:
        return []
    name = library.rpartition("/")[2]
    return [f"{family}, {name}" if family else name]


def _what(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    modes = " and ".join(sorted({run.mode for run in good}))
    program = plan.get("job") or _facts(good, "job") or ["the program"]
    program = program if isinstance(program, str) else program[0]
    variants = _facts(good, "variant")
    details = [f"variant {', '.join(variants)}"] if variants else []
    commits = [x[:12] + "-dirty" * x.endswith("-dirty") for x in _facts(good, "git")]
    details += [f"commit {', '.join(commits)}"] if commits else []
    details += mpi(plan, good)
    about = f" ({'; '.join(details)})" if details else ""
    days = sorted({run.start[:10] for run in good})
    date = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    same = [run.facts.get("results_sha256") for run in good if run.mode == "strong"]
    where = _machine(plan, good)
    command = shlex.join(map(str, plan.get("command") or ["unknown"]))
    text = [f"We measured the {modes} scaling of {program}{about} on {where}, {date}: {command}."]
    if any(run.mode == "weak" for run in good) and plan.get("weak"):
        strong = any(run.mode == "strong" for run in good)
        text.append(
            f"In weak scaling the size grows with the ranks, {growth(plan['weak'], strong)}."
        )
    if len(same) > 1 and all(same) and len(set(same)) == 1:
        text.append("All strong-scaling runs gave the same result, bit for bit.")
    return text


def _checked(good: Sequence[Run]) -> list[str]:
    """Say what answers were checked against, if every run checked its own."""
    checks = [run.facts.get("checks") or [] for run in good]
    if not all(checks):
        return []
    bounds = "; ".join(dict.fromkeys(check["why"] for each in checks for check in each))
    return [f"Every run checked its answer against an independent one; the bound is: {bounds}."]


def growth(weak: str, strong: bool) -> str:
    """Say how the size grows in weak scaling, from what ``--weak`` was."""
    if weak == "--weak":
        return "by the job's own formula"
    return f"as {weak}" + ("; in strong scaling it is that of one rank" if strong else "")


def _timing(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    often = _launches(good)
    launcher = f" with {_launcher(plan['launcher'])}" if plan.get("launcher") else ""
    source = {
        "record": "the slowest rank's seconds (median over the repeats in a launch; start-up and "
        "compilation excluded)",
        "json": "the seconds that the program reports",
        "output": "the seconds that the program prints" + _pattern(plan),
        "file": "the seconds that the program writes" + _pattern(plan),
        "process": "the seconds of the whole process, start-up included",
    }
    timed = " or ".join(source.get(name, name) for name in sorted({run.source for run in good}))
    what = f"the median over {often}, separate starts of the program"
    if often == "1 launch":
        what = "that of one start of the program"
    text = [f"Every time is {what}{launcher}: {timed}, with {_threads(good)} per rank."]
    if plan.get("folders"):
        text.append(
            "Each count was measured by itself, so that the machine may have changed between them; "
            "within a count the order of the runs was random."
        )
    elif plan.get("seed") is not None:
        text.append("The order of the runs was random.")
    return [*text, *_placing(plan, good)]


def _launcher(name: str) -> str:
    """Return a launcher in words, without the places that the sweep fills."""
    for place, word in (("{ranks}", "RANKS"), ("{threads}", "THREADS"), ("{nodes}", "NODES")):
        name = name.replace(place, word)
    return name


def _pattern(plan: dict[str, Any]) -> str:
    """Say which figure of the program the seconds are, as far as the pattern tells in words."""
    wanted = plan.get("measure") or {}
    pattern, file = wanted.get("seconds") or "", wanted.get("time_file")
    where = f" in {file}" if file else ""
    if pattern.startswith("json:"):
        return f' ("{pattern.removeprefix("json:")}"{where})'
    head = pattern.partition("(")[0]
    before = " ".join(re.sub(r"\\s[*+]?| [*+]|\^|\.", " ", head).split()).rstrip("=: ")
    if not before or ".*" in head or ".+" in head or re.search(r"[\\\[\]{}*+?|$]", before):
        return f" ({where.strip()})" if where else ""
    return f' ("{before}"{where})'


def _placing(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    """Say whether ranks were bound to cores, and in which folder they worked."""
    text = []
    seen = [each for each in (plan.get("places") or {}).values() if isinstance(each, dict)]
    floating = [each for each in seen if each.get("floating")]
    if seen and len(floating) < len(seen):
        where = " where there was a core for each" if floating else ""
        text.append(f"Ranks were bound to cores of their own{where}.")
    elif seen:
        text.append("Ranks were not bound to cores, so the system could move them.")
    if plan.get("case"):
        text.append("Each run worked in a fresh copy of the input's folder.")
    elif any(run.source != "record" for run in good):
        text.append("All runs worked in the same folder.")
    return text


def _baselines(series: Sequence[Series]) -> str:
    bases = [
        f"in {one.mode} scaling {place(one.baseline)}, {number(one.baseline.seconds.value)} s"
        for one in series
        if one.baseline
    ]
    return (
        f"Speedup and efficiency are relative to the smallest count measured: {'; '.join(bases)}. "
        "Whether that is the best serial code is not known."
    )


def _evaluation(series: Sequence[Series], oversubscribed: bool) -> list[str]:
    points = [point for one in series for point in one.points]
    if any(point.launches >= statistics.FEWEST for point in points):
        text = [
            "Intervals are 95 %: of times, exact nonparametric ones of the median; of what is "
            f"computed from them, percentiles of {statistics.RESAMPLES} bootstrap resamples of the "
            "launches."
        ]
    else:
        text = ["There are no intervals, since there are fewer than six launches."]
    if any(law.parameters for one in series for law in one.fits):
        drop = any(point.oversubscribed for point in points) and not oversubscribed
        left_out = ", points with more ranks x threads than cores left out" if drop else ""
        text.append(
            "Laws are fitted to the medians by non-negative least squares of relative "
            f"residuals{left_out}."
        )
    return text


def _cost_rule(billing: Billing, good: Sequence[Run]) -> list[str]:
    """Say how cost is computed."""
    sources = {run.source for run in good}
    what = "start-up, warm-up and repeats" if sources == {"record"} else "start-up"
    whole = "seconds" if sources == {SUPPLIED} else f"seconds of the whole process, with {what},"
    text = []
    if billing.whole_nodes:
        why = f" ({billing.why})" if billing.why else ""
        text += [
            f"Whole nodes are billed{why}, used or not: node-hours are nodes x {whole} / 3600.",
            "Efficiency as billed is the price of the same work at the cheapest count over the "
            "price here, each for the seconds that are compared.",
        ]
    elif any(run.gpus for run in good):
        text.append(f"GPU-hours are GPUs x {whole} / 3600.")
    else:
        text.append(f"Core-hours are ranks x threads x {whole} / 3600.")
    return text + ([f"The charge is {billing.charge.text}."] if billing.charge else [])
