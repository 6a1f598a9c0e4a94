"""What a report says in words: fits, recommendation, bottleneck, limit, warnings, method."""

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.analysis import laws, statistics
from rankwise.analysis.laws import Law
from rankwise.analysis.statistics import Estimate
from rankwise.sweep.folder import OK, Limit, Run

if TYPE_CHECKING:
    from rankwise.analysis.analysis import Point, Series

# A law that is further off than this, at any point it was fitted through, does not describe it.
_MISFIT = 0.1
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
# Less lost time than this has no cause worth naming.
_LOSS = 0.05
_NO_INTERVAL = "no interval: fewer than six launches"
# As many busy cores before a run, or this part of all of them, are more than an idle system takes.
_BUSY_CORES, _BUSY_SHARE = 0.5, 0.1
_PHASES = {
    "read": "One rank reads or makes the input while the others wait: let each do its own part.",
    "scatter": "The input is sent out from one rank: let every rank read or make its own part.",
    "to_device": "Data is copied to the GPU: leave it there, or give each rank more work.",
    "kernel": "The computation itself gains less than the ranks cost: they share memory bandwidth, "
    "caches and power, or have too little work each.",
    "halo": "Rows of neighbours arrive after the computation that hides their way: give each rank "
    "more work, or see whether all ranks are equally fast.",
    "wait": "All ranks wait, in turn: balance the load between one exchange and the next.",
    "gather": "Results are collected on one rank: send less, or combine them on the way.",
    "to_host": "Data is copied from the GPU: leave it there, or give each rank more work.",
    "snapshot": "One rank writes snapshots while the others wait: keep fewer of them.",
    "checkpoint": "One rank writes checkpoints while the others wait: measure without them.",
}


def counted(n: int, thing: str) -> str:
    """Return a count with its noun."""
    if n == 1:
        return f"1 {thing}"
    return f"{n} {thing}es" if thing.endswith("ch") else f"{n} {thing}s"


def figure(x: float) -> str:
    """Return a figure with three digits, and without an exponent where people would not use one."""
    if math.isinf(x):
        return "infinite"
    if x and not 1e-4 <= abs(x) < 1e7:
        return f"{x:.2e}"
    return np.format_float_positional(x, precision=3, unique=False, fractional=False, trim="-")


def percent(x: float) -> str:
    """Return a fraction as per cent."""
    return f"{figure(100 * x)} %"


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


def too_few(law: Law, usable: int, measured: int) -> str:
    """Say that a law cannot be fitted through so few points."""
    fair = " without oversubscription" if usable < measured else ""
    return (
        f"Not identifiable from these data: {counted(usable, 'rank count')}{fair}, and this law "
        f"wants at least {len(law.parameters) + 2}."
    )


def fit(
    law: Law,
    estimates: dict[str, Estimate],
    resampled: np.ndarray,
    fewest: int,
    baseline: int,
    identifiable: bool,
) -> str:
    """Say what a fit says.

    Parameters
    ----------
    law : Law
    estimates : dict of str to Estimate
        Its parameters.
    resampled : (resamples, parameters) float64 array
    fewest : int
        The smallest number of launches of a point in the fit.
    baseline : int
        The rank count that speedups are relative to.
    identifiable : bool
    """
    enough = fewest >= statistics.FEWEST
    if any(math.isnan(x.low if enough else x.value) for x in estimates.values()):
        return "Not identifiable from these data: no part of the time surely falls with more ranks."
    tell = {"Amdahl": _amdahl, "USL": _usl, "Gustafson": _gustafson}[law.name]
    told = tell(estimates, resampled, fewest, baseline)
    if enough and not identifiable:
        text = ", ".join(f"{name} {_allowed(x)}" for name, x in told.items())
        return f"Not identifiable from these data, which allow (95 %): {text}."
    if not identifiable:
        zero = " and ".join(name for name, x in told.items() if x.value == 0)
        return f"Not identifiable from these data: the best fit has {zero} = 0; {_NO_INTERVAL}."
    text = ", ".join(f"{name} {with_interval(x)}" for name, x in told.items())
    end = "in parentheses 95 % intervals" if enough else _NO_INTERVAL
    return f"{text[0].upper()}{text[1:]}; {end}."


def _amdahl(
    estimates: dict[str, Estimate], resampled: np.ndarray, fewest: int, baseline: int
) -> dict[str, Estimate]:
    s = estimates["s"]

    def limit(s: float) -> float:
        """T(baseline) / T(infinity)."""
        return (s + (1 - s) / baseline) / s if s else math.inf

    most = Estimate(limit(s.value), limit(s.high), limit(s.low))
    return {"serial fraction s": s, f"limit of the speedup over {counted(baseline, 'rank')}": most}


def _usl(
    estimates: dict[str, Estimate], resampled: np.ndarray, fewest: int, baseline: int
) -> dict[str, Estimate]:
    sigma, kappa = estimates["sigma"], estimates["kappa"]
    # Its inverse, which is 0 and not infinite for kappa = 0; nothing is faster than at one rank.
    inverse = statistics.estimate(
        _slowness(sigma.value, kappa.value), _slowness(resampled[:, 0], resampled[:, 1]), fewest
    )
    ends = (inverse.value, inverse.high, inverse.low)
    best = Estimate(*(float(np.round(1 / x)) if x else math.inf for x in ends))
    return {
        "contention sigma": sigma,
        "coherency kappa": kappa,
        "rank count with the least time": best,
    }


def _slowness(sigma: Any, kappa: Any) -> Any:
    return 1 / np.maximum(laws.fastest(np.minimum(sigma, 1 - 1e-12), kappa), 1)


def _gustafson(
    estimates: dict[str, Estimate], resampled: np.ndarray, fewest: int, baseline: int
) -> dict[str, Estimate]:
    s = estimates["s"]

    def slope(s: float) -> float:
        """Of the scaled speedup over the baseline."""
        return (1 - s) / (baseline * (1 - s) + s)

    gained = Estimate(slope(s.value), slope(s.high), slope(s.low))
    return {"serial fraction s": s, "speedup gained with each rank": gained}


def misfit(off: np.ndarray, counts: Sequence[int]) -> str:
    """Say where the law does not describe the points; `off` is relative, of each point."""
    worst = int(off.argmax())
    if off[worst] <= _MISFIT:
        return ""
    return (
        f"The law does not describe these data: it is {percent(off[worst])} off at "
        f"{counted(counts[worst], 'rank')}."
    )


def launches(runs: Sequence[Run]) -> tuple[str, ...]:
    """Say which launches of a point did not succeed, and whether too few did for an interval."""
    failed = [run for run in runs if run.outcome != OK]
    good = len(runs) - len(failed)
    notes = _failures(failed, good)
    if 0 < good < statistics.FEWEST:
        notes.append(f"{counted(good, 'launch')}, so no interval")
    return tuple(notes)


def _failures(failed: Sequence[Run], good: int) -> list[str]:
    outcomes = Counter(run.outcome for run in failed)
    return [f"{n} of {len(failed) + good} launches {what}" for what, n in outcomes.items()]


def _place(point: "Point") -> str:
    nodes = f" on {point.nodes} nodes" if point.nodes > 1 else ""
    over = " (oversubscribed)" if point.oversubscribed else ""
    return f"{counted(point.ranks, 'rank')}{nodes}{over}"


def _cost(point: "Point") -> str:
    unit = "GPU-hours" if point.gpus else "core-hours"
    takes = f"takes {figure(point.process_seconds)} s, that is {figure(point.cost)} {unit}"
    return f"a whole run, start-up and repeats included, {takes}"


def recommendation(
    mode: str, measured: Sequence["Point"], target: float, oversubscribed: bool
) -> tuple[str, int | None]:
    """Say which measured rank count to ask for.

    Parameters
    ----------
    mode : str
        ``strong`` or ``weak``.
    measured : sequence of Point
        Those with a successful launch, by ranks.
    target : float
        The least efficiency.
    oversubscribed : bool
        Whether points with more ranks x threads than cores count.
    """
    if not measured:
        return "No recommendation: no launch succeeded.", None
    if len(measured) == 1:
        return f"No recommendation: {_place(measured[0])} is the only point measured.", None
    fair = [point for point in measured if oversubscribed or not point.oversubscribed]
    if not fair:
        return "No recommendation: every point has more ranks x threads than cores.", None
    best = _best(mode, fair, target)
    if best is None:
        wanted = f"an efficiency of {percent(target)}"
        return f"No recommendation: no measured count has {wanted}.", None
    slower = any(p.ranks > best.ranks and p.efficiency.value >= target for p in fair)
    text = _advice(best, target, best is measured[0], slower, len(fair) < len(measured))
    if best is measured[-1]:
        text += " Larger counts were not measured."
    elif best is fair[-1]:
        text += " Larger counts had more ranks x threads than cores."
    return text, best.ranks


def _best(mode: str, fair: Sequence["Point"], target: float) -> "Point | None":
    best = None
    for point in fair:
        # At a low target a count may be efficient enough and yet slower than a smaller one.
        slower = mode == "strong" and best and point.speedup.value < best.speedup.value
        if point.efficiency.value >= target and not slower:
            best = point
    return best


def _advice(best: "Point", target: float, stay: bool, slower: bool, alone: bool) -> str:
    wanted = f"an efficiency of {percent(target)}"
    if slower:
        return f"{_place(best)}: larger counts have {wanted} too and are slower; {_cost(best)}."
    if stay:
        fair = " and a core for every thread" if alone else ""
        return f"{_place(best)}: no larger measured count has {wanted}{fair}; {_cost(best)}."
    text = (
        f"{_place(best)}: the largest measured count with {wanted} or more (it has "
        f"{percent(best.efficiency.value)}); {_cost(best)}."
    )
    if best.failed:
        text += f" There, {'; '.join(_failures(best.failed, best.launches))}."
    if math.isnan(best.efficiency.low):
        text += f" {_NO_INTERVAL.capitalize()}."
    elif best.efficiency.low < target:
        text += f" Its 95 % interval reaches down to {percent(best.efficiency.low)}."
    return text


def bottleneck(measured: Sequence["Point"]) -> str:
    """Say which phase loses the most time between the baseline and the largest count.

    A phase loses what it takes beyond the ideal: the baseline's seconds, times the growth of the
    work of a rank. Times are those of the rank that works longest: the others' waiting for it is
    the effect and not the cause.
    """
    fair = [point for point in measured if not point.oversubscribed]
    first, last = measured[0], (fair if len(fair) > 1 else measured)[-1]
    if first is last or not first.busiest or not last.busiest:
        return ""
    enough = not math.isnan(last.efficiency.high)
    if last.efficiency.high >= 1 if enough else last.efficiency.value > 1 - _LOSS:
        return f"Nothing surely holds the scaling back up to {_place(last)}."
    # Of what the baseline took; efficiency is the same ratio over that of the seconds.
    ideal = last.efficiency.value * last.seconds.value / first.seconds.value
    names = list({**first.busiest, **last.busiest})
    lost = {name: last.busiest.get(name, 0) - first.busiest.get(name, 0) * ideal for name in names}
    worst = max(lost, key=lambda name: lost[name])
    if lost[worst] <= 0:
        return ""
    share = lost[worst] / sum(x for x in lost.values() if x > 0)
    hint = _PHASES.get(worst, "")
    slowest = max(last.imbalance, default=1.0)
    if worst == "kernel" and slowest > _IMBALANCE:
        hint = f"The slowest rank computes {figure(slowest)} times the mean: balance the load."
    return (
        f"`{worst}` holds the scaling back: at {_place(last)} the busiest rank spends "
        f"{percent(last.busiest[worst] / sum(last.busiest.values()))} of its time in it, which "
        f"makes {percent(share)} of what is lost against {counted(first.ranks, 'rank')}. {hint}"
    ).rstrip()


def limit(measured: Limit | None, series: Sequence["Series"]) -> str:
    """Say what memory delivers, and how near to it the kernel comes where it comes nearest."""
    if measured is None:
        return ""
    shares = []
    for one in series:
        fair = [p for p in one.points if p.limit_share > 0 and not p.oversubscribed]
        if fair:
            most = max(fair, key=lambda p: p.limit_share)
            shares.append(f"{percent(most.limit_share)} at {_place(most)} in {one.mode} scaling")
    reached = f"; of the read limit the kernel reaches at most {', '.join(shares)}"
    nodes = f" on {measured.nodes} nodes" if measured.nodes > 1 else ""
    return (
        f"Measured limit: memory delivers {figure(measured.read_gbs)} GB/s reading and "
        f"{figure(measured.copy_gbs)} GB/s copying per node ({counted(measured.ranks, 'rank')} x "
        f"{counted(measured.threads, 'thread')}{nodes}, preflight of {measured.start[:10]})"
        f"{reached if shares else ''}."
    )


def beyond(measured: Limit, point: "Point") -> bool:
    """Whether a point uses more cores of a node than measured what memory delivers."""
    used = min(point.ranks * point.threads, point.cores) / point.nodes
    return used > measured.ranks * measured.threads / measured.nodes


def machine(plan: dict[str, Any], runs: Sequence[Run]) -> str:
    """Return one line on where the sweep ran."""
    facts = plan.get("machine") or {}
    nodes = max([facts.get("nodes") or 1, *(run.nodes for run in runs)])
    name = facts.get("cluster") or facts.get("host") or "unknown machine"
    if facts.get("partition"):
        name += f", partition {facts['partition']}"
    parts = [name, f"up to {nodes} nodes" if nodes > 1 else "", facts.get("cpu") or ""]
    if facts.get("cores"):
        parts.append(counted(facts["cores"], "core") + (" per node" if nodes > 1 else ""))
    if facts.get("memory_bytes"):
        parts.append(f"{facts['memory_bytes'] / 2**30:.0f} GiB")
    gpus = max((run.gpus for run in runs), default=0)
    if gpus:
        models = ", ".join(_devices(runs))
        parts.append(f"up to {counted(gpus, 'GPU')}" + (f" ({models})" if models else ""))
    return ", ".join(part for part in parts if part)


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


def warnings(
    plan: dict[str, Any],
    runs: Sequence[Run],
    missing: Sequence[str],
    series: Sequence["Series"],
    measured: Limit | None,
) -> tuple[str, ...]:
    """Return what a referee must know."""
    found = [*_incomplete(runs, missing), *_mixed(runs)]
    found += _busy(plan, runs)
    for one in series:
        found += _of_points(one)
    found += _low_limit(measured, series)
    found += _other_limit(measured, runs)
    found += _of_program(runs)
    return tuple(dict.fromkeys(found))


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
    strong = [run for run in good if run.mode == "strong"]
    found = []
    for what, name in _SAME.items():
        values = _devices(good) if name == "devices" else _facts(good, name)
        if len(values) > 1:
            found.append(f"Runs of different {what} are compared: {'; '.join(values)}.")
    works = {run.work for run in strong} - {None}
    lines = {
        (run.ranks, run.facts["printed"] / run.ranks) for run in good if "printed" in run.facts
    }
    commits, versions = _facts(good, "git"), _facts(good, "versions")
    for what, values in {
        "processors": sorted({run.cpu for run in good}),
        "launchers": sorted({Path(run.argv[0]).name for run in good if run.argv}),
        "commits of the program's folder": sorted({run.commit[:12] for run in good}),
        "numbers of threads per rank": sorted({str(run.threads) for run in good}),
    }.items():
        if len(values) > 1 and (what[0] != "c" or len(commits) < 2):
            found.append(f"Runs of different {what} are compared: {'; '.join(values)}.")
    sources = sorted({run.source for run in good})
    doubts = {
        "More ranks print more lines with seconds: each may be running the whole program by "
        "itself.": len({ranks for ranks, _ in lines}) > 1 and len({each for _, each in lines}) == 1,
        "The commit of the code is not known.": "unknown" in commits,
        "The code had changes that no commit holds.": any(x.endswith("-dirty") for x in commits),
        "Runs with different versions of libraries are compared.": len(versions) > 1,
        "The results of the strong-scaling runs differ.": len(_facts(strong, "results_sha256")) > 1,
        "The strong-scaling runs differ in the size of their problem.": len(works) > 1,
        f"Seconds from different sources are compared: {', '.join(sources)}.": len(sources) > 1,
        "The seconds are those of the whole process, so start-up, which more ranks do not shorten, "
        "counts.": sources == ["process"],
    }
    return found + [text for text, doubtful in doubts.items() if doubtful]


def _busy(plan: dict[str, Any], runs: Sequence[Run]) -> list[str]:
    """Say how often something else kept the machine busy just before a run."""
    cores = (plan.get("machine") or {}).get("cores") or max((run.cores for run in runs), default=1)
    busy = sum(run.load > max(_BUSY_CORES, _BUSY_SHARE * cores) for run in runs)
    if not busy:
        return []
    return [f"Something else kept the machine busy before {busy} of {counted(len(runs), 'run')}."]


def _of_points(series: "Series") -> list[str]:
    measured = [point for point in series.points if point.launches]
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
        "an efficiency above 1, which wants an explanation": [
            p for p in measured if "superlinear" in p.notes
        ],
        "a kernel faster than memory: its data stay in cache, so a larger problem may scale "
        "otherwise": [p for p in measured if "cache-resident" in p.notes],
    }.items():
        if chosen:
            *others, last = (str(point.ranks) for point in chosen)
            counts = ", ".join((*others, counted(int(last), "rank")))
            found.append(f"{name}, {counts}: {what}.")
    if series.mode == "weak":
        found += _uneven(measured)
        if measured and any(math.isnan(point.work) for point in measured):
            found.append("Weak scaling: the program does not tell its work, which is taken to grow "
                         "with the ranks.")  # fmt: skip
    return found


def _low_limit(measured: Limit | None, series: Sequence["Series"]) -> list[str]:
    """Say where more cores may get more out of memory than measured it."""
    points = [p for one in series for p in one.points if p.limit_share > 0]
    more = sorted({point.ranks for point in points if measured and beyond(measured, point)})
    if not more:
        return []
    return [
        "The limit of memory was measured with fewer cores of a node than were used on "
        f"{_ranks(more)}, and may be too low."
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
    return [f"On {_ranks(ranks)} the program warned: {text}." for ranks, text in told]


def _ranks(counts: Sequence[int]) -> str:
    """Return rank counts as "1, 2 and 4 ranks"."""
    *others, last = counts
    first = f"{', '.join(map(str, others))} and " if others else ""
    return first + counted(last, "rank")


def _uneven(measured: Sequence["Point"]) -> list[str]:
    each = [point.work / point.ranks for point in measured if point.work > 0]
    if each and max(each) > 1.01 * min(each):
        return [
            f"Weak scaling: the work of a rank varies by {percent(max(each) / min(each) - 1)}; "
            "efficiency is that of work per second."
        ]
    return []


def method(
    plan: dict[str, Any],
    runs: Sequence[Run],
    series: Sequence["Series"],
    oversubscribed: bool,
    measured: Limit | None,
) -> str:
    """Return the paragraph for a proposal."""
    good = [run for run in runs if run.outcome == OK]
    if not good:
        return "No launch succeeded."
    text = [*_what(plan, good), *_timing(plan, good), _baselines(series)]
    if measured and any(point.bound > 0 for one in series for point in one.points):
        text.append(
            f"As a bound, memory is taken to deliver {figure(measured.read_gbs)} GB/s per node, "
            "measured with all ranks of a node reading at once."
        )
    return " ".join((*text, *_evaluation(series, oversubscribed), _cost_rule(good)))


def _what(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    modes = " and ".join(sorted({run.mode for run in good}))
    program = plan.get("job") or _facts(good, "job") or ["the program"]
    program = program if isinstance(program, str) else program[0]
    variants = _facts(good, "variant")
    details = [f"variant {', '.join(variants)}"] if variants else []
    commits = [x[:12] + "-dirty" * x.endswith("-dirty") for x in _facts(good, "git")]
    details += [f"commit {', '.join(commits)}"] if commits else []
    details += _facts(good, "mpi")
    about = f" ({'; '.join(details)})" if details else ""
    days = sorted({run.start[:10] for run in good})
    date = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    same = [run.facts.get("results_sha256") for run in good if run.mode == "strong"]
    where = machine(plan, good)
    command = shlex.join(map(str, plan.get("command") or ["unknown"]))
    text = [f"We measured the {modes} scaling of {program}{about} on {where}, {date}: {command}."]
    if any(run.mode == "weak" for run in good) and plan.get("weak"):
        text.append(f"In weak scaling the size grows with the ranks, {growth(plan['weak'])}.")
    if len(same) > 1 and all(same) and len(set(same)) == 1:
        text.append("All strong-scaling runs gave the same result, bit for bit.")
    return text


def growth(weak: str) -> str:
    """Say how the size grows in weak scaling, from what ``--weak`` was."""
    if weak == "--weak":
        return "by the job's own formula"
    return f"as {weak}; in strong scaling it is that of one rank"


def _timing(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    counts = sorted(Counter((run.mode, run.ranks) for run in good).values())
    fewer = f"{counts[0]} to " if counts[0] < counts[-1] else ""
    often = fewer + counted(counts[-1], "launch")
    launcher = f" with {plan['launcher']}" if plan.get("launcher") else ""
    source = {
        "record": "the slowest rank's seconds (median over the repeats in a launch; start-up and "
        "compilation excluded)",
        "json": "the seconds that the program reports",
        "process": "the seconds of the whole process, start-up included",
    }
    timed = " or ".join(source.get(name, name) for name in sorted({run.source for run in good}))
    threads = " or ".join(counted(n, "thread") for n in sorted({run.threads for run in good}))
    what = f"the median over {often}, separate starts of the program"
    if counts[-1] == 1:
        what = "that of one start of the program"
    text = [f"Every time is {what}{launcher}: {timed}, with {threads} per rank."]
    if plan.get("folders"):
        text.append(
            "Each count was measured by itself, so that the machine may have changed between them; "
            "within a count the order of the runs was random."
        )
    elif plan.get("seed") is not None:
        text.append(f"The order of the runs was random (seed {plan['seed']}).")
    return text


def _baselines(series: Sequence["Series"]) -> str:
    bases = [
        f"in {one.mode} scaling {_place(one.baseline)}, {figure(one.baseline.seconds.value)} s"
        for one in series
        if one.baseline
    ]
    return (
        f"Speedup and efficiency are relative to the smallest count measured: {'; '.join(bases)}. "
        "Whether that is the best serial code is not known."
    )


def _evaluation(series: Sequence["Series"], oversubscribed: bool) -> list[str]:
    points = [point for one in series for point in one.points]
    if any(point.launches >= statistics.FEWEST for point in points):
        text = [
            "Intervals are 95 %: of times, exact nonparametric ones of the median; of what is "
            f"computed from them, percentiles of {statistics.RESAMPLES} bootstrap resamples of the "
            f"launches (seed {statistics.SEED})."
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


def _cost_rule(good: Sequence[Run]) -> str:
    whole = "seconds of the whole process, with start-up, warm-up and repeats,"
    if any(run.gpus for run in good):
        return f"GPU-hours are GPUs x {whole} / 3600."
    return f"Core-hours are ranks x threads x {whole} / 3600."
