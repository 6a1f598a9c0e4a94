"""The paragraph on method, for a proposal: what was measured, where, how, and what was computed."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rankwise.analysis import statistics
from rankwise.analysis.cost import Billing
from rankwise.analysis.series import Analysis, Series
from rankwise.ranks.words import counted
from rankwise.report.numbers import figure, number
from rankwise.report.sentences import devices, facts, machine_of, mpi, place
from rankwise.sweep.billing import NODE
from rankwise.sweep.folder import OK, PROCESS, SUPPLIED, Run

COMMAND = "The command was: "


def method(analysis: Analysis) -> str:
    """Return the paragraph for a proposal."""
    return " ".join(sentences(analysis))


def sentences(analysis: Analysis) -> list[str]:
    """Return the sentences of the paragraph; that with the command begins with `COMMAND`."""
    plan, series, measured = analysis.plan, analysis.series, analysis.limit
    good = [run for run in analysis.runs if run.outcome == OK]
    if not good:
        return ["No launch succeeded."]
    text = _supplied(plan, good) if plan.get("supplied") else _measured(plan, good)
    text += [*_tasks(series, good), *_noted(plan), _baselines(series)]
    if measured and any(point.bound > 0 for one in series for point in one.points):
        text.append(
            f"As a bound, we take memory to deliver {figure(measured.read_gbs)} GB/s per node, as "
            "measured with all ranks of a node reading at once."
        )
    return text + _evaluation(series, analysis.oversubscribed) + _cost_rule(analysis.billing, good)


def _tasks(series: Sequence[Series], good: Sequence[Run]) -> list[str]:
    """Say how the ranks shared a queue of tasks, and what the imbalance is."""
    schedules = sorted({point.schedule for one in series for point in one.points} - {""})
    if not schedules:
        return []
    seconds = "CPU seconds" if devices(good) == ["host"] else "seconds"
    return [
        f"The ranks shared a queue of tasks with the schedule {' or '.join(schedules)}.",
        f"The imbalance is the {seconds} for which the busiest rank computed, over the mean of all "
        "ranks, as the median over the repeats of a launch and over launches.",
    ]


def _noted(plan: dict[str, Any]) -> list[str]:
    """Say what the user has noted."""
    noted = "; ".join(f"{key} {value}" for key, value in (plan.get("notes") or {}).items())
    return [f"Noted by the user: {noted}."] if noted else []


def _supplied(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    """Say where times are from that nobody measured here."""
    modes = " and ".join(sorted({run.mode for run in good}))
    file, digest = (plan["supplied"][name] for name in ("file", "sha256"))
    often = _launches(good)
    what = f"the median over {often}, that is rows of this table"
    if often == "1 launch":
        what = "that of one launch, that is one row of this table"
    return [
        f"The times of {modes} scaling were supplied in {file} (SHA-256 {digest}), and not "
        "measured by rankwise: how they were taken, and what they include, is not known here.",
        f"Each time is {what}. Each rank had {_threads(good)}.",
    ]


def _measured(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    """Say what was measured, and how."""
    return [*_what(plan, good), *_checked(good), *_timing(plan, good)]


def _launches(good: Sequence[Run]) -> str:
    """Say how many launches there are at each count."""
    counts = Counter((run.mode, run.ranks) for run in good).values()
    fewer = f"{min(counts)} to " if min(counts) < max(counts) else ""
    return fewer + counted(max(counts), "launch")


def _threads(good: Sequence[Run]) -> str:
    return " or ".join(counted(n, "thread") for n in sorted({run.threads for run in good}))


def _what(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    modes = " and ".join(sorted({run.mode for run in good}))
    program = plan.get("job") or facts(good, "job") or ["the program"]
    program = program if isinstance(program, str) else program[0]
    variants = facts(good, "variant")
    details = [f"variant {', '.join(variants)}"] if variants else []
    commits = [x[:12] + "-dirty" * x.endswith("-dirty") for x in facts(good, "git")]
    details += [f"commit {', '.join(commits)}"] if commits else []
    details += mpi(plan, good)
    about = f" ({'; '.join(details)})" if details else ""
    days = sorted({run.start[:10] for run in good})
    date = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    same = [run.facts.get("results_sha256") for run in good if run.mode == "strong"]
    where = machine_of(plan, good)
    command = shlex.join(map(str, plan.get("command") or ["unknown"]))
    text = [f"We measured the {modes} scaling of {program}{about} on {where}, {date}."]
    text.append(f"{COMMAND}{command}.")
    if any(run.mode == "weak" for run in good) and plan.get("weak"):
        strong = any(run.mode == "strong" for run in good)
        text.append(
            f"In weak scaling the size grows with the ranks, {growth(plan['weak'], strong)}."
        )
    if len(same) > 1 and all(same) and len(set(same)) == 1:
        text.append("All launches of strong scaling gave the same result, bit for bit.")
    return text


def _checked(good: Sequence[Run]) -> list[str]:
    """Say what answers were checked against, if every launch checked its own."""
    checks = [run.facts.get("checks") or [] for run in good]
    if not all(checks):
        return []
    bounds = "; ".join(dict.fromkeys(check["why"] for each in checks for check in each))
    return [f"Each launch checked its answer against an independent one, with the bound: {bounds}."]


def growth(weak: str, strong: bool) -> str:
    """Say how the size grows in weak scaling, from what ``--weak`` was."""
    if weak == "--weak":
        return "by the job's own formula"
    return f"as {weak}" + ("; in strong scaling it is that of one rank" if strong else "")


def _timing(plan: dict[str, Any], good: Sequence[Run]) -> list[str]:
    often = _launches(good)
    source = {
        "record": "the wall-clock seconds of the slowest rank, without start-up and compilation, "
        "as the median over the repeats in a launch",
        "json": "the seconds that the program reports",
        "output": "the seconds that the program prints" + _pattern(plan),
        "file": "the seconds that the program writes" + _pattern(plan),
        "process": "the seconds of the whole process, with start-up",
    }
    timed = " or ".join(source.get(name, name) for name in sorted({run.source for run in good}))
    what = f"the median over {often}, that is separate starts of the program"
    if often == "1 launch":
        what = "that of one launch, that is one start of the program"
    launcher = f" by {_launcher(plan['launcher'])}" if plan.get("launcher") else ""
    text = [f"Each time is {what}{launcher}.", f"The times are {timed}."]
    text.append(f"Each rank had {_threads(good)}.")
    if plan.get("folders"):
        text.append(
            "Each count was measured by itself, so that the machine may have changed between them; "
            "at one count the order of the launches was random."
        )
    elif plan.get("seed") is not None:
        text.append("The order of the launches was random.")
    return [*text, *_placing(plan, good)]


def _launcher(name: str) -> str:
    """Return a launcher in words, without the places that the sweep fills."""
    for braced, word in (("{ranks}", "RANKS"), ("{threads}", "THREADS"), ("{nodes}", "NODES")):
        name = name.replace(braced, word)
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
        where = ", where there was a core for each" if floating else ""
        text.append(f"Each rank was bound to cores of its own{where}.")
    elif seen:
        text.append("Ranks were not bound to cores, so the system could move them.")
    if plan.get("case"):
        text.append("Each launch worked in a fresh copy of the folder with the input.")
    elif any(run.source != "record" for run in good):
        text.append("All launches worked in the same folder.")
    return text


def _baselines(series: Sequence[Series]) -> str:
    bases = [
        f"{place(one.baseline)} with {number(one.baseline.seconds.value)} s in {one.mode} scaling"
        for one in series
        if one.baseline
    ]
    return (
        "Speedup and efficiency are relative to the smallest count measured, the baseline: "
        f"{' and '.join(bases)}. It is not known whether that is the best serial program."
    )


def _evaluation(series: Sequence[Series], oversubscribed: bool) -> list[str]:
    points = [point for one in series for point in one.points]
    if any(point.launches >= statistics.FEWEST for point in points):
        text = [
            "Intervals are 95 % intervals. Those of times are exact nonparametric intervals of the "
            "median; those of what is computed from times are percentiles of "
            f"{statistics.RESAMPLES} bootstrap resamples of the launches."
        ]
    else:
        text = ["There are no intervals, because there are fewer than six launches."]
    if any(law.parameters for one in series for law in one.fits):
        drop = any(point.oversubscribed for point in points) and not oversubscribed
        left_out = "; counts with more ranks x threads than cores are left out" if drop else ""
        text.append(
            "The laws are fitted to the medians by non-negative least squares of relative "
            f"residuals{left_out}."
        )
    return text


def _cost_rule(billing: Billing, good: Sequence[Run]) -> list[str]:
    """Say how cost is computed."""
    sources = {run.source for run in good}
    what = "start-up, warm-up and repeats" if sources == {"record"} else "start-up"
    where = f", where the seconds are those of the whole process, with {what}"
    where = "" if sources == {SUPPLIED} else where
    text = []
    if billing.whole_nodes:
        why = f" ({billing.why})" if billing.why else ""
        text += [
            f"Whole nodes are billed{why}: a run costs nodes x seconds / 3600 node-hours{where}.",
            "The efficiency as billed is what the same work costs at the cheapest count over what "
            "it costs here, each for the seconds that are compared"
            f"{'' if sources <= {SUPPLIED, PROCESS} else ': without start-up'}.",
        ]
    elif any(run.gpus for run in good):
        text.append(f"A run costs GPUs x seconds / 3600 GPU-hours{where}.")
    else:
        cores = "cores" if sources == {SUPPLIED} else "ranks x threads"
        text.append(f"A run costs {cores} x seconds / 3600 core-hours{where}.")
    if billing.charge and billing.charge.per == NODE and not billing.whole_nodes:
        text.append(
            f"Of a node, which has {billing.cores_per_node} cores, it is billed the share of the "
            "cores or GPUs that it asks for, whichever is larger."
        )
    if billing.charge and billing.cores_per_node and billing.whole_nodes:
        text.append(f"A node has {billing.cores_per_node} cores.")
    return text + ([f"The charge is {billing.charge.text}."] if billing.charge else [])
