"""What A and B were measured with: what may make a difference, or hide one, and what is known."""

import math
from collections.abc import Sequence

from rankwise.analysis.comparison import Comparison
from rankwise.analysis.series import Analysis
from rankwise.report import doubts, sentences
from rankwise.report.comparison import SOURCES, by_side, names, places, sides
from rankwise.report.numbers import NOTHING
from rankwise.report.tables import line
from rankwise.sweep.folder import OK

# More files or hosts than these are counted, not named.
_MOST = 10


def warnings(comparison: Comparison) -> list[str]:
    """Return what may make a difference, or hide one, that is not the program's."""
    said = {name: [*doubts.of_runs(x), *_dirty(x)] for name, x in sides(comparison).items()}
    return [*_between(comparison), *by_side(said)]


def disturbed(comparison: Comparison) -> list[str]:
    """Say of which side most launches were disturbed."""
    said = {name: doubts.mostly_disturbed(side) for name, side in sides(comparison).items()}
    return by_side({name: [text] if text else [] for name, text in said.items()})


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
            found.append(f"A and B had different numbers of {what} in {places(pairs)}.")
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
    points = {"A": [pair.a for pair in comparison.pairs], "B": [p.b for p in comparison.pairs]}
    untold = [name for name in points if any(math.isnan(point.work) for point in points[name])]
    if not untold:
        return []
    plans = [side.plan for side in sides(comparison).values()]
    if all(plan.get("supplied") for plan in plans):
        tables = "tables of A and B do" if len(untold) > 1 else f"table of {untold[0]} does"
        return [f"The {tables} not tell the work: make sure that it is the same."]
    a, b = ((plan.get("command"), plan.get("weak")) for plan in plans)
    if a == b:
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
    noted = {f"Note: {name}": str(text) for name, text in (plan.get("notes") or {}).items()}
    if table := plan.get("supplied"):
        # The day is that on which it was read.
        return {"Table of times": table["file"], "SHA-256 of the table": table["sha256"], **noted}
    return {
        "Command": sentences.title(side),
        "Commit": str(plan.get("git") or ""),
        "Machine": sentences.machine(side),
        "Launcher": _launcher(side),
        "MPI library": _mpi(side),
        "Days": " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "",
        "Seconds are those of": "; ".join(SOURCES.get(name, name) for name in sources),
        **noted,
    }


def _changed(of: dict[str, str], other: dict[str, str]) -> str:
    return _some([name for name, known in of.items() if other.get(name) != known]) or "none"
