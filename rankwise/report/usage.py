"""Memory, reading and writing of the ranks: a table of each series, and what it includes."""

import math

from rankwise.analysis.series import Point, Series
from rankwise.report.numbers import NOTHING, figure
from rankwise.sweep.folder import Run

_TITLES = {
    "largest_rank": "largest rank",
    "node": "ranks of a node",
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
    return f"{figure(count / 1024**power) if power else f'{count:.0f}'} {_UNITS[power]}"


def table(series: Series) -> list[list[str]]:
    """Return the titles and the rows of the table; nothing if nothing is known."""
    points = [point for point in series.measured if point.usage.seen]
    shown = [name for name in _TITLES if any(_of(point, name) >= 0 for point in points)]
    if not shown:
        return []
    notes = [_note(point) for point in points]
    rows = [
        [str(point.ranks), *(size(_of(point, name)) for name in shown), note]
        for point, note in zip(points, notes, strict=True)
    ]
    table = [["ranks", *(_TITLES[name] for name in shown), "notes"], *rows]
    return table if any(notes) else [row[:-1] for row in table]


def _of(point: Point, name: str) -> float:
    return float(getattr(point.usage, name))


def _note(point: Point) -> str:
    seen = point.usage.seen
    return f"{seen} of {point.ranks} ranks were seen" if seen < point.ranks else ""


def explanation(series: Series, runs: tuple[Run, ...]) -> str:
    """Say what the table is of."""
    if not table(series):
        return ""
    recorded = any("peak_memory_rank" in run.facts for run in runs)
    text = [
        "Memory is what the processes of a rank held at most, shared libraries included"
        + (", as the records say, " if recorded else ", ")
        + "in the launch where it was the most."
    ]
    if any(point.usage.read >= 0 for point in series.measured):
        text.append(
            "Read and written are the bytes of system calls, of all ranks and in the median "
            "launch: they include the system's cache, pipes and sockets, and not files that are "
            "mapped into memory. From and to storage is what the kernel counted, which may leave "
            "out a network or parallel file system."
        )
    text.append(
        "A running program was looked at once a second, and every ten seconds after the first "
        "minute: what it took after the last look is not included."
    )
    return " ".join(text)
