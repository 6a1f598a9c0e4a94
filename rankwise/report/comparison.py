"""What a comparison of two sweeps says: in sentences, for a terminal, and as CSV."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from itertools import groupby
from typing import Any

from rankwise.analysis import statistics
from rankwise.analysis.comparison import Comparison, Pair, Unlike
from rankwise.analysis.series import Analysis
from rankwise.analysis.statistics import Estimate
from rankwise.ranks.words import counted
from rankwise.report import doubts, sentences
from rankwise.report.numbers import NOTHING, chosen, interval, number, percent
from rankwise.report.tables import aligned, line, wrapped
from rankwise.sweep.folder import OK

FASTER, SLOWER, UNKNOWN, FAILED = "faster", "slower", "cannot tell", "B failed"
SIDES = ("A", "B")
METHOD = (
    "Each ratio is the median seconds of B over that of A, for the same work: above 1, B is "
    "slower. Intervals are 95 %: of seconds, exact nonparametric ones of the median; of ratios, "
    f"percentiles of {statistics.RESAMPLES} bootstrap resamples of the launches of both sides. B "
    "is faster or slower where the whole interval lies on one side of 1, and it takes six launches "
    "of each to say so. Otherwise the launches cannot tell: that does not mean that A and B are "
    "equally fast. Of 25 comparisons of a program with itself about one says faster or slower."
)
_FEW = "no rank count has six launches on both sides"
# As in `rankwise.sweep.folder.Run`.
_SOURCES = {
    "record": "the record",
    "json": "a line of JSON",
    "output": "the output",
    "file": "a file",
    "process": "the whole process, start-up included",
}
# More files or hosts than these are counted, not named.
_MOST = 10


def names(comparison: Comparison) -> tuple[str, str]:
    """Return the folders of A and B, as they were given."""
    a, b = (line(str(folder)) for folder in comparison.folders)
    return a, b


def sides(comparison: Comparison) -> dict[str, Analysis]:
    """Return A and B by these names."""
    return {"A": comparison.a, "B": comparison.b}


def refusal(comparison: Comparison) -> str:
    """Say why two sweeps cannot be compared; empty if they can."""
    a, b = names(comparison)
    if not comparison.pairs:
        return f"{a} and {b} have no rank count in common: nothing can be compared"
    if not comparison.unlike:
        return ""
    first = comparison.unlike[0]
    where = f"{first.mode} scaling on {counted(first.ranks, 'rank')}"
    return f"{a} and {b} cannot be compared: in {where} {_difference(first)}"


def _difference(unlike: Unlike) -> str:
    if unlike.what == "threads":
        a, b = (" and ".join(map(str, values)) for values in (unlike.a, unlike.b))
        return f"A has {a} and B {b} threads per rank"
    if unlike.what == "work":
        return f"A did a work of {unlike.a[0]:g} and B of {unlike.b[0]:g}"
    a, b = (" and ".join(_SOURCES.get(str(x), str(x)) for x in x) for x in (unlike.a, unlike.b))
    return f"the seconds of A are those of {a}, and the seconds of B those of {b}"


def verdict(pair: Pair) -> str:
    """Say in a word or two what B is."""
    if pair.failed:
        return FAILED
    return FASTER if pair.ratio.high < 1 else SLOWER if pair.ratio.low > 1 else UNKNOWN


def notes(pair: Pair) -> list[str]:
    """Say what a reader must know of a rank count, each in a few words."""
    # What a point is beside the others of its sweep says nothing of the other version.
    a, b = (replace(x, superlinear=False, cache_resident=False) for x in (pair.a, pair.b))
    return _told({"A": sentences.notes(a), "B": sentences.notes(b)})


def _told(said: Mapping[str, Iterable[str]]) -> list[str]:
    """Return what is said of A and of B with these names before it, once if it is the same."""
    a, b = (list(dict.fromkeys(said[name])) for name in SIDES)
    both = [f"A and B: {text}" for text in a if text in b]
    return [
        *both,
        *(f"A: {text}" for text in a if text not in b),
        *(f"B: {text}" for text in b if text not in a),
    ]


def _places(pairs: Sequence[Pair]) -> str:
    """Return rank counts as "strong scaling on 1 and 2 ranks"."""
    parts = []
    for mode, group in groupby(pairs, lambda pair: pair.mode):
        parts.append(f"{mode} scaling on {sentences.rank_list([pair.ranks for pair in group])}")
    return " and in ".join(parts)


def outcome(comparison: Comparison) -> list[str]:
    """Say at which rank counts B is faster or slower, most of all where, or that it failed."""
    by_verdict: dict[str, list[Pair]] = {}
    for pair in comparison.pairs:
        by_verdict.setdefault(verdict(pair), []).append(pair)
    found = []
    for what, farthest in ((SLOWER, max), (FASTER, min)):
        if pairs := by_verdict.get(what):
            most = farthest(pairs, key=lambda pair: pair.ratio.value)
            where = f", most of all in {_places([most])}" if len(pairs) > 1 else ""
            found.append(f"B is {what} in {_places(pairs)}{where}: {_times(most)}.")
    if pairs := by_verdict.get(FAILED):
        found.append(f"B failed in {_places(pairs)}, where A did not.")
    if pairs := by_verdict.get(UNKNOWN):
        told = f"In {_places(pairs)} the launches cannot tell whether B is faster or slower"
        found.append(f"{told}." if comparison.told else f"{told}: {_FEW}.")
    for name, only in _alone(comparison).items():
        if only:
            found.append(f"{name} alone was measured in {only}: not compared.")
    return found


def _times(pair: Pair) -> str:
    """Say how many times as long B takes."""
    low, high = (number(x) for x in (pair.ratio.low, pair.ratio.high))
    return f"it takes {number(pair.ratio.value)} times as long as A (95 % interval {low} to {high})"


def _alone(comparison: Comparison) -> dict[str, str]:
    """Say which rank counts one side alone has run."""
    common = {(pair.mode, pair.ranks) for pair in comparison.pairs}
    found = {}
    for name, side in sides(comparison).items():
        parts = []
        for one in side.series:
            only = [p.ranks for p in one.points if (one.mode, p.ranks) not in common]
            parts += [f"{one.mode} scaling on {sentences.rank_list(only)}"] if only else []
        found[name] = " and in ".join(parts)
    return found


def status(comparison: Comparison, slowdown: float | None) -> int:
    """Return the exit status of a check: 1 if B is slower by more or failed, 2 if none was made.

    Parameters
    ----------
    comparison : Comparison
    slowdown : float or None
        What B may be slower by, as a part; None asks for no check.
    """
    if slowdown is None:
        return 0
    if any(pair.failed or pair.exceeds(slowdown) for pair in comparison.pairs):
        return 1
    return 0 if comparison.told else 2


def check(comparison: Comparison, slowdown: float) -> list[str]:
    """Say whether B is slower than it may be, and what could have been shown; none if nothing."""
    limit = chosen(slowdown)
    slower = [pair for pair in comparison.pairs if pair.exceeds(slowdown)]
    failed = [pair for pair in comparison.pairs if pair.failed]
    found = []
    if slower:
        found.append(f"The check failed: B is slower by more than {limit} in {_places(slower)}.")
    if failed:
        found.append(f"The check failed: B has no launch that succeeded in {_places(failed)}.")
    if not slower and not failed and comparison.told:
        passed = f"The check passed: nowhere is B surely slower by more than {limit}."
        found.append(f"{passed} {_power(comparison.told, slowdown)}")
    untold = [pair for pair in comparison.pairs if pair not in comparison.told and not pair.failed]
    if untold and found:
        found.append(
            f"Not checked, with fewer than six launches on one side at least: {_places(untold)}."
        )
    return found


def _power(told: Sequence[Pair], slowdown: float) -> str:
    """Say which slowdown a check that passed could have shown."""
    ordered = sorted(told, key=lambda pair: pair.least(slowdown))
    first = ordered[0]
    least, most = (percent(pair.least(slowdown)) for pair in (first, ordered[-1]))
    text = f"The smallest slowdown that could have been shown is about {least}"
    if len(told) == 1:
        return f"{text}."
    return f"{text}, in {_places([first])}, and about {most} at every rank count that was checked."


def no_check(comparison: Comparison) -> str:
    """Say why a check could not have failed, and what to measure."""
    best = max(comparison.pairs, key=lambda pair: min(pair.a.launches, pair.b.launches))
    launches = {"A": best.a.launches, "B": best.b.launches}
    folders = dict(zip(SIDES, names(comparison), strict=True))
    short = " and ".join(
        f"{name} ({folders[name]}) has {n}" for name, n in launches.items() if n < statistics.FEWEST
    )
    return (
        f"{_FEW}, so this check cannot fail: in {_places([best])} {short} that succeeded; sweep "
        f"again with --launches {statistics.FEWEST}, or more, into a new folder"
    )


def warnings(comparison: Comparison) -> list[str]:
    """Return what may make a difference, or hide one, that is not the program's."""
    said = {name: [*doubts.of_runs(x), *_dirty(x)] for name, x in sides(comparison).items()}
    return [*_between(comparison), *_told(said)]


def _dirty(side: Analysis) -> list[str]:
    dirty = str(side.plan.get("git") or "").endswith("-dirty")
    return ["The code had changes that no commit holds."] if dirty else []


def _between(comparison: Comparison) -> list[str]:
    a, b = comparison.a, comparison.b
    found = []
    for what, of in _CIRCUMSTANCES.items():
        one, other = of(a), of(b)
        if one and other and one != other:
            found.append(f"A and B ran with different {what}: {one}; {other}.")
    for name in ("nodes", "gpus"):
        pairs = [p for p in comparison.pairs if getattr(p.a, name) != getattr(p.b, name)]
        if pairs:
            what = "GPUs" if name == "gpus" else name
            found.append(f"A and B had different numbers of {what} in {_places(pairs)}.")
    return found + _same_files(a, b) + _other_command(comparison)


def _processors(side: Analysis) -> str:
    return "; ".join(sorted({run.cpu for run in side.runs if run.outcome == OK and run.cpu}))


def _hosts(side: Analysis) -> str:
    told = {host for run in side.runs for host in run.facts.get("hosts") or ()}
    return _some(sorted(told)) if told else _machine(side, "host")


def _machine(side: Analysis, name: str) -> str:
    return str((side.plan.get("machine") or {}).get(name) or "")


def _launcher(side: Analysis) -> str:
    return side.plan.get("launcher") or ""


def _mpi(side: Analysis) -> str:
    return "; ".join(sentences.mpi(side.plan, [run for run in side.runs if run.outcome == OK]))


def _pattern(side: Analysis) -> str:
    return str((side.plan.get("measure") or {}).get("seconds") or "")


_CIRCUMSTANCES = {
    "processors": _processors,
    "hosts": _hosts,
    "partitions": lambda side: _machine(side, "partition"),
    "launchers": _launcher,
    "MPI libraries": _mpi,
    "patterns for their seconds": _pattern,
}


def _some(words: Sequence[str]) -> str:
    more = len(words) - _MOST
    return ", ".join(words[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _files(side: Analysis) -> dict[str, str]:
    return {str(name): str(known) for name, known in (side.plan.get("files") or {}).items()}


def _same_files(a: Analysis, b: Analysis) -> list[str]:
    one, other = (sorted(_files(side).values()) for side in (a, b))
    if not one or one != other:
        return []
    return [
        "The files of the program are the same in A and B: if two versions of them were to be "
        "compared, one was measured twice."
    ]


def _other_command(comparison: Comparison) -> list[str]:
    """Say that the work may differ: the commands do, and the program does not tell."""
    plans = (side.plan for side in sides(comparison).values())
    a, b = ((plan.get("command"), plan.get("weak")) for plan in plans)
    untold = any(math.isnan(x.work) for pair in comparison.pairs for x in (pair.a, pair.b))
    if a == b or not untold:
        return []
    return [
        "The commands of A and B differ, and the program does not tell its work: make sure that it "
        "is the same."
    ]


def facts(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return what is known of the circumstances of A and B, beside each other."""
    a, b = (_facts(side) for side in sides(comparison).values())
    rows = {"Folder": names(comparison)}
    rows |= {name: (a.get(name, ""), b.get(name, "")) for name in {**a, **b}}
    files = [_files(side) for side in sides(comparison).values()]
    if any(files):
        rows["Files of the program that differ"] = _changed(*files), _changed(*files[::-1])
    return [(line(name), line(x) or NOTHING, line(y) or NOTHING) for name, (x, y) in rows.items()]


def _facts(side: Analysis) -> dict[str, str]:
    plan = side.plan
    days = sorted({run.start[:10] for run in side.runs})
    sources = sorted({run.source for run in side.runs if run.outcome == OK})
    given = plan.get("notes")
    return {
        "Command": sentences.title(side),
        "Commit": str(plan.get("git") or ""),
        "Machine": sentences.machine(side),
        "Launcher": _launcher(side),
        "MPI library": _mpi(side),
        "Days": " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "",
        "Seconds are those of": "; ".join(_SOURCES.get(name, name) for name in sources),
        **{f"Note: {name}": str(text) for name, text in (given or {}).items()},
    }


def _changed(of: dict[str, str], other: dict[str, str]) -> str:
    return _some([name for name, known in of.items() if other.get(name) != known]) or "none"


def cells(pair: Pair, slowdown: float | None) -> dict[str, str]:
    """Return a row of the table by its titles.

    Parameters
    ----------
    pair : Pair
    slowdown : float or None
        What B may be slower by, as a part; None leaves out what could have been shown.
    """
    row = {"ranks": str(pair.ranks)}
    for name, point in (("A", pair.a), ("B", pair.b)):
        failed = len(point.failed)
        of = f" of {point.launches + failed}" if failed else ""
        row |= {f"{name} launches": f"{point.launches}{of}"}
        row |= {f"{name} seconds": number(point.seconds.value)}
    row |= {"B / A": number(pair.ratio.value), "95 % interval": interval(pair.ratio)}
    if slowdown is not None:
        row["could show"] = percent(pair.least(slowdown))
    return {**row, "B is": verdict(pair)}


def terminal(comparison: Comparison, slowdown: float | None) -> str:
    """Write a comparison for a terminal or a batch log, at most 100 columns wide."""
    parts = ["Comparison of two sweeps"]
    for (name, side), folder in zip(sides(comparison).items(), names(comparison), strict=True):
        parts.append(wrapped(f"{name}  {folder}: {line(sentences.title(side))}", "  "))
    for mode, group in groupby(comparison.pairs, lambda pair: pair.mode):
        pairs = list(group)
        parts += ["", f"{mode.capitalize()} scaling", "", *_table(pairs, slowdown)]
        told = {counted(pair.ranks, "rank"): "; ".join(notes(pair)) for pair in pairs}
        lines = [wrapped(f"{ranks}: {text}", "  ") for ranks, text in told.items() if text]
        parts += ["", *lines] if lines else []
    said = outcome(comparison) + ([] if slowdown is None else check(comparison, slowdown))
    parts += ["", *(wrapped(text) for text in said)]
    if doubts := warnings(comparison):
        parts += ["", "Warnings", *(wrapped(f"- {line(text)}", "  ") for text in doubts)]
    return "\n".join(parts)


# Over two lines where one would be wide.
_SPLIT = {"95 % interval": ("95 %", "interval"), "could show": ("could", "show")}
_SPLIT |= {f"{name} {what}": (name, what) for name in SIDES for what in ("launches", "seconds")}


def _table(pairs: Sequence[Pair], slowdown: float | None) -> list[str]:
    rows = [cells(pair, slowdown) for pair in pairs]
    titles = [_SPLIT.get(title, ("", title)) for title in rows[0]]
    return aligned([*zip(*titles, strict=True), *(tuple(row.values()) for row in rows)], 2)


def comma_separated(comparison: Comparison, slowdown: float | None) -> str:
    """Write one row per rank count with all digits; empty where there is nothing."""
    rows = [_row(pair, slowdown) for pair in comparison.pairs]
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(pair: Pair, slowdown: float | None) -> dict[str, str]:
    row: dict[str, Any] = {"mode": pair.mode, "ranks": pair.ranks, "threads": pair.a.threads}
    for name, point in (("a", pair.a), ("b", pair.b)):
        row |= {f"{name}_nodes": point.nodes, f"{name}_launches": point.launches}
        row |= {f"{name}_failed_launches": len(point.failed)}
        row |= _estimate(f"{name}_seconds", point.seconds)
    row |= _estimate("ratio", pair.ratio)
    least = math.nan if slowdown is None else pair.least(slowdown)
    row |= {"could_show": least, "verdict": verdict(pair), "notes": "; ".join(notes(pair))}
    return {
        name: "" if isinstance(value, float) and math.isnan(value) else str(value)
        for name, value in row.items()
    }


def _estimate(name: str, of: Estimate) -> dict[str, float]:
    return {name: of.value, f"{name}_low": of.low, f"{name}_high": of.high}
