"""The tables of a comparison: for the page, for a terminal, and as CSV."""

import csv
import math
from collections.abc import Sequence
from io import StringIO
from itertools import groupby
from typing import Any

from rankwise.analysis.comparison import Comparison, Pair
from rankwise.analysis.statistics import Estimate
from rankwise.ranks.words import counted
from rankwise.report import comparison_circumstances, sentences
from rankwise.report.comparison import SIDES, check, names, notes, outcome, sides, verdict
from rankwise.report.numbers import chosen, interval, number, percent
from rankwise.report.tables import aligned, line, wrapped


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


def explanation(slowdown: float) -> str:
    """Say what the column is that a check adds to the table."""
    return (
        'The column "could show" has about the smallest slowdown that could have been shown to '
        f"exceed {chosen(slowdown)}."
    )


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
    if slowdown is not None:
        parts += ["", wrapped(explanation(slowdown))]
    said = outcome(comparison) + ([] if slowdown is None else check(comparison, slowdown))
    parts += ["", *(wrapped(text) for text in said)]
    if warned := comparison_circumstances.warnings(comparison):
        parts += ["", "Warnings", *(wrapped(f"- {line(text)}", "  ") for text in warned)]
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
