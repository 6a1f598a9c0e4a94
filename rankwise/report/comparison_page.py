"""The page of a comparison: its table, its figures, and what A and B have in common."""

import math
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rankwise.analysis.comparison import Comparison, Pair
from rankwise.analysis.series import Series
from rankwise.ranks.words import counted
from rankwise.report import comparison as words
from rankwise.report import comparison_circumstances, comparison_tables, drawing, figures, tables
from rankwise.report.numbers import chosen, interval, number
from rankwise.report.page import render
from rankwise.sweep.folder import write_text

_TITLE = "Comparison of "


def write(comparison: Comparison, slowdown: float | None, path: Path) -> list[Path]:
    """Write a comparison as a page and as CSV; the same bytes every time.

    Parameters
    ----------
    comparison : Comparison
    slowdown : float or None
        What B may be slower by, as a part; None if there is no check.
    path : Path
        Of the page; the CSV lies beside it.

    Returns
    -------
    list of Path

    Raises
    ------
    FileExistsError
        A file of one of the names is no comparison.
    """
    contents = {
        path: page(comparison, slowdown),
        path.with_suffix(".csv"): comparison_tables.comma_separated(comparison, slowdown),
    }
    for each in contents:
        if each.exists() and not _is_ours(each, contents[each]):
            raise FileExistsError(0, f"{each.name} is no comparison, and is not replaced")
    for each, content in contents.items():
        write_text(each, content)
    return list(contents)


def _is_ours(path: Path, content: str) -> bool:
    """Whether a file begins like what is to replace it: to its title, or with all its columns."""
    last = _TITLE if path.suffix == ".html" else "\n"
    start = content[: content.index(last) + len(last)].encode()
    with path.open("rb") as file:
        return file.read(len(start)) == start


def page(comparison: Comparison, slowdown: float | None) -> str:
    """Return a comparison as one HTML page that needs no other file."""
    modes = groupby(comparison.pairs, lambda pair: pair.mode)
    return render(
        "comparison.html.j2",
        title=_TITLE + " and ".join(words.names(comparison)),
        outcome=words.outcome(comparison),
        check=[] if slowdown is None else words.check(comparison, slowdown),
        disturbed=comparison_circumstances.disturbed(comparison),
        warnings=comparison_circumstances.warnings(comparison),
        sections=[_section(comparison, mode, list(pairs), slowdown) for mode, pairs in modes],
        failures=[
            (f"{name}: {tables.failure(run)}", tables.clean(run.output_end))
            for name, side in words.sides(comparison).items()
            for run in side.failures
        ],
        method=words.METHOD,
        facts=comparison_circumstances.facts(comparison),
    )


def _section(
    comparison: Comparison, mode: str, pairs: list[Pair], slowdown: float | None
) -> dict[str, Any]:
    """Return what the page shows of one kind of scaling."""
    intervals = [
        {f"{name} seconds": interval(x.seconds) for name, x in (("A", p.a), ("B", p.b))}
        for p in pairs
    ]
    rows = [comparison_tables.cells(pair, slowdown) for pair in pairs]
    return {
        "mode": mode,
        "titles": list(rows[0]),
        "explanation": "" if slowdown is None else comparison_tables.explanation(slowdown),
        "rows": list(zip(rows, intervals, map(words.notes, pairs), strict=True)),
        "figures": _figures(comparison, mode, pairs, slowdown),
    }


def _figures(
    comparison: Comparison, mode: str, pairs: list[Pair], slowdown: float | None
) -> list[tuple[Markup, str]]:
    """Return SVG elements with their captions, as far as there is something to draw."""
    a, b = (_series(side.series, mode) for side in words.sides(comparison).values())
    found = []
    if a.measured or b.measured:
        text = _alternative(pairs, _tell_seconds)
        svg = drawing.svg(figures.both(a, b), f"{mode}-seconds", f"{mode} scaling, seconds: {text}")
        found.append((Markup(svg), _SECONDS))
    if any(math.isfinite(pair.ratio.value) for pair in pairs):
        text = _alternative(pairs, _tell_ratio)
        figure = figures.ratios(a, b, pairs, slowdown)
        svg = drawing.svg(figure, f"{mode}-ratio", f"{mode} scaling, B over A: {text}")
        limit = "" if slowdown is None else _LIMIT.format(chosen(slowdown))
        found.append((Markup(svg), _RATIOS + limit))
    return found


def _alternative(pairs: list[Pair], tell: Callable[[Pair], str]) -> str:
    """Say in words what a figure shows, for those who do not see it."""
    return "; ".join(f"{counted(pair.ranks, 'rank')} {tell(pair)}" for pair in pairs) + "."


def _tell_seconds(pair: Pair) -> str:
    a, b = (number(point.seconds.value) for point in (pair.a, pair.b))
    return f"A {a} s, B {b} s"


def _tell_ratio(pair: Pair) -> str:
    return f"{number(pair.ratio.value)}, {words.verdict(pair)}"


def _series(series: tuple[Series, ...], mode: str) -> Series:
    return next(one for one in series if one.mode == mode)


_SECONDS = (
    "Seconds of A (filled circles) and B (hollow squares): medians over launches with 95 % "
    "intervals, where there are six launches; small marks are single launches. Crosses: launches "
    "failed there. All rank counts are shown, also those that one side alone has run."
)
_RATIOS = (
    "Seconds of B over those of A, with 95 % intervals. On the dashed line both take the same "
    "time. An interval above it: B is slower. Below it: B is faster. Across it: these launches "
    "cannot tell."
)
_LIMIT = " Dotted: {} slower. The check fails where a whole interval lies above it."
