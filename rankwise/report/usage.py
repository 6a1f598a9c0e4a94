"""Memory, reading and writing of the ranks: a table of each series, and what it includes."""

import math
from collections.abc import Sequence

from rankwise.analysis.series import Point, Series
from rankwise.ranks.words import counted
from rankwise.report.numbers import NOTHING, figure, percent
from rankwise.sweep.folder import OK, Run

_TITLES = {
    "largest_rank": "largest rank",
    "node": "on this node",
    "read": "read",
    "written": "written",
    "storage_read": "from storage",
    "storage_written": "to storage",
}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Write a number of bytes with three digits, and a dash if there is none."""
    if math.isnan(count):
        return NOTHING
    power = min(len(_UNITS) - 1, int(math.log2(count) // 10)) if count >= 1 else 0
    if not power:
        return counted(round(count), "byte")
    return f"{figure(count / 1024**power)} {_UNITS[power]}"


def table(series: Series, runs: Sequence[Run]) -> list[list[str]]:
    """Return the titles and the rows of the table; nothing if nothing is known."""
    points = _points(series)
    shown = _shown(points)
    # A record knows all nodes.
    titles = _TITLES | ({"node": "ranks of a node"} if any(_recorded(series, runs)) else {})
    table = [["ranks", *(titles[name] for name in shown)]]
    table += [[str(p.ranks), *(size(_of(p, name)) for name in shown)] for p in points]
    if any(p.usage.unseen >= 0 for p in points):
        unseen = ["not seen", *(percent(p.usage.unseen) for p in points)]
        table = [[*row, cell] for row, cell in zip(table, unseen, strict=True)]
    return table if points else []


def _points(series: Series) -> list[Point]:
    return [point for point in series.measured if _shown([point])]


def _shown(points: Sequence[Point]) -> list[str]:
    return [name for name in _TITLES if any(_of(point, name) >= 0 for point in points)]


def _of(point: Point, name: str) -> float:
    return float(getattr(point.usage, name))


def _launches(series: Series, runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.mode == series.mode and run.outcome == OK]


def _recorded(series: Series, runs: Sequence[Run]) -> list[bool]:
    """Return whether each launch left a record that tells its memory."""
    return ["peak_memory_rank" in run.facts for run in _launches(series, runs)]


def _any(name: str, series: Series, runs: Sequence[Run]) -> bool:
    """Whether what was seen of any launch has that."""
    return any((run.facts.get("usage") or {}).get(name) for run in _launches(series, runs))


def notes(series: Series, runs: Sequence[Run]) -> list[str]:
    """Say what the figures of the table leave out, and of which points it has a part."""
    points = _points(series)
    found = []
    if points and _any("looks", series, runs):
        recorded = _recorded(series, runs)
        which = "what was read and written" if all(recorded) else "each figure"
        found.append(f"What ranks do after the last look is not seen: {which} is at least so much.")
    if any(p.usage.unseen >= 0 for p in points):
        found.append(
            "Not seen is the part of its time that a launch went on after that look, in the launch "
            "where it is the largest."
        )
    for point in points:
        ranks, seen = counted(point.ranks, "rank"), point.usage.seen
        if not seen:
            found.append(f"On {ranks} no process was told its rank: all of them count together.")
        elif seen < point.ranks:
            found.append(f"Of {ranks}, {seen} were seen on this node.")
    return found


def explanation(series: Series, runs: Sequence[Run]) -> str:
    """Say what the table is of."""
    if not (shown := _shown(_points(series))):
        return ""
    text = [_memory(series, runs, shown)] if {"largest_rank", "node"} & set(shown) else []
    if {"read", "written"} & set(shown):
        text.append(
            "Read and written are the bytes of system calls, of all ranks, median over launches: "
            "they include the system's cache, pipes and sockets, and not files that are mapped "
            "into memory."
        )
    if {"storage_read", "storage_written"} & set(shown):
        text.append(
            "From and to storage is what the kernel counted, likewise, which may leave out a "
            "network or parallel file system."
        )
    if _any("sstat", series, runs):
        text.append(
            "Where ranks were on other nodes, Slurm told of all of them: it looks now and then, by "
            "default every 30 seconds."
        )
    if _any("looks", series, runs):
        text.append(
            "Ranks on this node were looked at several times in the first second, then once a "
            "second, and every ten seconds after the first minute."
        )
    return " ".join([*text, *notes(series, runs)])


def _memory(series: Series, runs: Sequence[Run], shown: Sequence[str]) -> str:
    recorded = _recorded(series, runs)
    source = "until the last look" if _any("looks", series, runs) else "whenever Slurm looked"
    if any(recorded):
        where = "" if all(recorded) else ", where it has one,"
        source = f"as its record{where} says or as was seen, whichever is more"
    node = ""
    if "node" in shown:
        of = "of the node that held most" if any(recorded) else "on the node where the sweep ran"
        node = f"; beside it, that of all ranks {of}"
    return (
        f"Memory is what the processes of a rank held at most, {source}, in the launch where it "
        f"was the most{node}. Pages that processes share, of libraries or of workers that were "
        "forked, count in each of them."
    )
