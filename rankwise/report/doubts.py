"""What a referee must know of a sweep."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankwise.analysis import statistics
from rankwise.analysis.analysis import beyond
from rankwise.analysis.cost import Billing
from rankwise.analysis.series import Analysis, Point, Series
from rankwise.ranks.words import counted
from rankwise.report.numbers import percent
from rankwise.report.sentences import devices, facts, kinds, rank_list
from rankwise.sweep.folder import OK, Limit, Run

# What should be the same in all launches, by its name in a record.
_SAME = {
    "jobs": "job",
    "variants": "variant",
    "devices": "devices",
    "commits": "git",
    "MPI libraries": "mpi",
}
# As many busy cores before a launch, or this part of all of them, are more than an idle system
# takes.
_BUSY_CORES, _BUSY_SHARE = 0.5, 0.1


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
        found += _of_points(one) + _more_nodes(one, analysis.billing)
    found += _low_limit(analysis.limit, series)
    found += _other_limit(analysis.limit, runs)
    found += _of_program(runs)
    return tuple(dict.fromkeys(found))


def of_runs(analysis: Analysis) -> list[str]:
    """Return what makes the launches doubtful, whatever is made of their seconds."""
    runs, plan = analysis.runs, analysis.plan
    found = [*_incomplete(runs, analysis.missing), *_mixed(runs), *_busy(plan, runs)]
    found += [f"{text}." for text in (*analysis.damaged, *(plan.get("warnings") or ()))]
    return found + _left_behind(runs, plan)


def _incomplete(runs: Sequence[Run], missing: Sequence[str]) -> list[str]:
    found = []
    if not runs:
        found.append("There is no launch yet.")
    bad = sum(run.outcome != OK for run in runs)
    if bad:
        found.append(f"{bad} of {counted(len(runs), 'launch')} failed.")
    if missing:
        found.append("Not all planned launches took place.")
    return found


def _mixed(runs: Sequence[Run]) -> list[str]:
    """Say what should have been the same in all launches and was not."""
    good = [run for run in runs if run.outcome == OK]
    unlike = {
        what: devices(good) if name == "devices" else facts(good, name)
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
        f"Launches with different {what} are compared: {'; '.join(values)}."
        for what, values in unlike.items()
        if len(values) > 1
    ]
    return found + [text for text, doubtful in _doubts(good).items() if doubtful]


def _doubts(good: Sequence[Run]) -> dict[str, bool]:
    """Return what may be wrong with a comparison, and whether it is."""
    strong = [run for run in good if run.mode == "strong"]
    # Those of a record are medians over repeats, each by itself.
    told = [run for run in good if run.seconds and run.source != "record"]
    overlap = [run for run in told if _phases_of(run) > 1.02 * (run.seconds or 0.0)]
    works = {run.work for run in strong} - {None}
    lines = {
        (run.ranks, run.facts["printed"] / run.ranks) for run in good if "printed" in run.facts
    }
    commits, sources = facts(good, "git"), sorted({run.source for run in good})
    return {
        "More ranks print more lines with seconds: each may be running the whole program by "
        "itself.": len({ranks for ranks, _ in lines}) > 1 and len({each for _, each in lines}) == 1,
        "The commit of the code is not known.": "unknown" in commits,
        "The code had changes that no commit holds.": any(x.endswith("-dirty") for x in commits),
        "Launches with different versions of libraries are compared.": len(facts(good, "versions"))
        > 1,
        "The results of strong scaling differ between launches.": len(
            facts(strong, "results_sha256")
        )
        > 1,
        "The size of the problem differs between launches of strong scaling.": len(works) > 1,
        f"Seconds from different sources are compared: {', '.join(sources)}.": len(sources) > 1,
        "The phases that the program tells add up to more than its seconds: they overlap, or are "
        "of another part of it.": bool(overlap),
        "The seconds are those of the whole process: they include start-up, which more ranks do "
        "not shorten.": sources == ["process"],
    }


def _phases_of(run: Run) -> float:
    """Return the sum of the phases of the rank where it is largest."""
    ranks = max(map(len, run.phases.values()), default=0)
    return max(
        (sum(seconds[k] for seconds in run.phases.values()) for k in range(ranks)), default=0
    )


def _disturbed(plan: dict[str, Any], runs: Sequence[Run]) -> int:
    """Return before how many launches something else kept the machine busy."""
    cores = (plan.get("machine") or {}).get("cores") or max((run.cores for run in runs), default=1)
    return sum(run.load > max(_BUSY_CORES, _BUSY_SHARE * cores) for run in runs)


def _busy(plan: dict[str, Any], runs: Sequence[Run]) -> list[str]:
    if not (busy := _disturbed(plan, runs)):
        return []
    of = counted(len(runs), "launch")
    return [f"Something else kept the machine busy just before {busy} of {of}."]


def mostly_disturbed(analysis: Analysis) -> str:
    """Say that most launches were disturbed, if they were."""
    busy, runs = _disturbed(analysis.plan, analysis.runs), analysis.runs
    if 2 * busy <= len(runs):
        return ""
    return (
        f"Something else kept the machine busy just before {busy} of "
        f"{counted(len(runs), 'launch')}: these figures are not those of an idle machine. Measure "
        "again when it is idle."
    )


def _of_points(series: Series) -> list[str]:
    measured, mode = series.measured, series.mode
    found = []
    if measured and not series.points[0].launches:
        lost = counted(series.points[0].ranks, "rank")
        base = counted(measured[0].ranks, "rank")
        found.append(f"In {mode} scaling no launch on {lost} succeeded: the baseline is {base}.")
    if len(measured) == 1:
        only = counted(measured[0].ranks, "rank")
        text = f"In {mode} scaling {only} is the only count with a launch that succeeded"
        found.append(f"{text}, so there is no scaling to show.")
    if not measured and series.points:
        found.append(f"In {mode} scaling no launch succeeded.")
    for what, chosen in {
        "there are more ranks x threads than cores": [p for p in measured if p.oversubscribed],
        "there are fewer than six launches, so there is no 95 % interval": [
            p for p in measured if p.launches < statistics.FEWEST
        ],
        "the efficiency is above 100 %, which needs an explanation": [
            p for p in measured if p.superlinear
        ],
        "the kernel is faster than memory: its data stay in cache, so a larger problem may scale "
        "otherwise": [p for p in measured if p.cache_resident],
    }.items():
        if chosen:
            counts = rank_list([point.ranks for point in chosen])
            found.append(f"In {mode} scaling on {counts}, {what}.")
    if series.mode == "weak":
        found += _weak_work(measured)
    return found


def _more_nodes(series: Series, billing: Billing) -> list[str]:
    """Say where more nodes are billed than the launches are said to have had."""
    more = [point.ranks for point in series.points if point.cost.nodes > point.nodes]
    if not more or not billing.whole_nodes:
        return []
    return [
        f"In {series.mode} scaling on {rank_list(more)}, more nodes are billed than the launches "
        "are said to have had: these do not hold their cores, with "
        f"{billing.cores_per_node} cores each."
    ]


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
        where, cure = f"{plan['case']}, of which each launch had a copy,", ""
    return [
        f"Files in {where} changed during launches: {shown}. A launch may have gone on from what "
        f"another had left, and be faster for it{cure}."
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


def _weak_work(measured: Sequence[Point]) -> list[str]:
    """Say where the work of a rank is not the same at every count, or not known."""
    found = []
    each = [point.work / point.ranks for point in measured if point.work > 0]
    if each and max(each) > 1.01 * min(each):
        found.append(
            "In weak scaling the work of a rank varies by "
            f"{percent(max(each) / min(each) - 1)}, so efficiency compares work per second."
        )
    if any(math.isnan(point.work) for point in measured):
        found.append(
            "In weak scaling the program does not tell its work, which is taken to grow in "
            "proportion to the ranks."
        )
    return found
