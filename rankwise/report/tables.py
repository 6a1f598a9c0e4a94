"""Write an analysis as text: for a terminal, as Markdown, and as CSV.

What comes from outside (commands, output of programs, names of phases) passes `clean` first, since
it may hold anything: control characters, half of an escape sequence, bytes that are no text.
"""

import csv
import math
import re
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import StringIO

from rankwise.analysis.recommendation import cheapest
from rankwise.analysis.series import Analysis, Point, Series
from rankwise.ranks.words import counted
from rankwise.report import costs, doubts, method, sentences, usage
from rankwise.report.numbers import NOTHING, bound, figure, interval, number, percent
from rankwise.report.recommendation import recommendation, request
from rankwise.sweep.folder import SUPPLIED, Run

WIDTH = 100
# In the terminal; the page has all of it.
_OUTPUT_LINES, _OUTPUTS = 5, 3
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]*[0-~])")


def clean(text: str) -> str:
    """Return text that does nothing but be read, whatever shows it.

    Escape sequences, control characters and those that change the direction of writing are left
    out; line ends and what is not UTF-8 are kept, the latter as an escape that can be read.
    """
    text = _ESCAPE.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf"))


def line(text: str) -> str:
    """Return cleaned text on one line."""
    return re.sub(r"[^\S\u00a0]+", " ", clean(text)).strip()


def heading(series: Series) -> str:
    """Return what a table shows."""
    threads = sorted({point.threads for point in series.points})
    each = f", {counted(threads[0], 'thread')} per rank" if len(threads) == 1 else ""
    return f"{series.mode.capitalize()} scaling{each}"


@dataclass(frozen=True)
class Column:
    """A column of the table of a series.

    Attributes
    ----------
    title : str
    cells : list of str
        One per point.
    intervals : list of str
        95 % intervals of the cells; empty for what has none.
    """

    title: str
    cells: list[str]
    intervals: list[str]


def columns(analysis: Analysis, series: Series) -> list[Column]:
    """Return the table of a series, without columns that would say nothing."""
    points, efficiency = series.points, partial(percent, target=analysis.target)
    speedup = "speedup" if series.mode == "strong" else "scaled speedup"
    table = [_exact(series, "ranks", lambda p: str(p.ranks))]
    # Where nodes are billed, those that are.
    nodes = [int(p.cost.nodes) if analysis.billing.whole_nodes else p.nodes for p in points]
    if max(nodes, default=1) > 1:
        table.append(Column("nodes", list(map(str, nodes)), []))
    if any(point.gpus for point in points):
        table.append(_exact(series, "GPUs", lambda p: str(p.gpus)))
    else:
        given = series.sources == (SUPPLIED,)
        table.append(
            _exact(series, "cores", lambda p: str(p.cores if given else p.ranks * p.threads))
        )
    table += [
        _exact(series, "launches", _launches),
        _estimated(series, "seconds", "seconds", number),
        _estimated(series, speedup, "speedup", figure),
        _estimated(series, "efficiency", "efficiency", efficiency),
    ]
    if any(math.isfinite(point.rate) for point in points):
        table.insert(-2, _exact(series, "rate", lambda p: number(p.rate)))
    if any(math.isfinite(point.serial_fraction.value) for point in points):
        table.append(_estimated(series, "Karp-Flatt", "serial_fraction", figure))
    elif any(math.isfinite(point.work) for point in points):
        table.append(_exact(series, "work", lambda p: number(p.work)))
    if series.queued:
        table.append(_exact(series, "imbalance", _imbalance))
    if any(math.isfinite(point.kernel_gbs) for point in points):
        table.append(_exact(series, "kernel GB/s", lambda p: figure(p.kernel_gbs)))
    if any(math.isfinite(point.limit_share) for point in points):
        table.append(_exact(series, "of limit", lambda p: percent(p.limit_share)))
    if analysis.billing.whole_nodes:
        table.append(_estimated(series, "efficiency as billed", "billed_efficiency", efficiency))
    for unit in costs.units(analysis):
        cells = [figure(unit.of(point.cost)) for point in points]
        table.append(Column(f"{unit.name} a run", cells, []))
    return table


def _exact(series: Series, title: str, write: Callable[[Point], str]) -> Column:
    return Column(title, [write(point) for point in series.points], [])


def _estimated(series: Series, title: str, name: str, write: Callable[[float], str]) -> Column:
    estimates = [getattr(point, name) for point in series.points]
    between = [interval(estimate, write) for estimate in estimates]
    if name != "seconds":
        # Of itself the baseline, or the cheapest count, is 100 % whatever was measured.
        itself = cheapest(series) if name == "billed_efficiency" else series.baseline
        between = [
            NOTHING if point is itself else text
            for point, text in zip(series.points, between, strict=True)
        ]
    return Column(title, [write(estimate.value) for estimate in estimates], between)


def _launches(point: Point) -> str:
    failed = len(point.failed)
    return f"{point.launches} of {point.launches + failed}" if failed else str(point.launches)


def _imbalance(point: Point) -> str:
    return figure(max(point.imbalance)) if point.schedule else NOTHING


def told(analysis: Analysis, series: Series) -> list[str]:
    """Return what the fits of a series say, with the names of the laws."""
    kinds = sentences.kinds(analysis.plan)
    return [
        f"{fit.law}: {line(sentences.fit(fit, series.whole_process, kinds))}" for fit in series.fits
    ]


def _sections(analysis: Analysis) -> dict[str, Sequence[str]]:
    return {"Warnings": doubts.warnings(analysis), "Planned and not measured": analysis.missing}


def failure(run: Run) -> str:
    """Say in one line which run failed, and why."""
    reason = line(run.reason)
    why = f" ({reason})" if reason and reason != run.outcome else ""
    return (
        f"{run.mode} scaling, {counted(run.ranks, 'rank')}, launch {run.launch}: "
        f"{run.outcome}{why}, after {number(run.process_seconds)} s"
    )


def terminal(analysis: Analysis) -> str:
    """Write an analysis for a terminal or a batch log, at most 100 columns wide."""
    parts = [
        wrapped(f"Scaling of {line(sentences.title(analysis))}"),
        wrapped(line(sentences.machine(analysis))),
    ]
    if not analysis.series:
        parts.append("\nNothing has been measured yet.")
    for series in analysis.series:
        parts += ["", heading(series), "", _terminal_table(analysis, series)]
        notes = [
            line(f"{counted(point.ranks, 'rank')}: {'; '.join(noted)}")
            for point in series.points
            if (noted := sentences.notes(point))
        ]
        bottleneck = line(sentences.bottleneck(series))
        said = [line(recommendation(analysis, series)), bottleneck, *told(analysis, series)]
        parts += ["", *(wrapped(text, "  ") for text in (*notes, *said) if text)]
        if rows := request(analysis, series):
            parts += ["", *aligned(rows, 1)]
        if rows := usage.table(series, analysis.runs):
            parts += ["", "Memory and input/output", "", *aligned(rows, 1), ""]
            parts += [wrapped(text, "  ") for text in usage.notes(series, analysis.runs)]
    if limit := sentences.limit(analysis):
        parts += ["", wrapped(line(limit))]
    for title, lines in _sections(analysis).items():
        if lines:
            parts += ["", title, *(wrapped(f"- {line(text)}", "  ") for text in lines)]
    parts += _terminal_failures(analysis.failures)
    return "\n".join(parts)


def _terminal_table(analysis: Analysis, series: Series) -> str:
    table = columns(analysis, series)
    # If it is too wide: the threads per rank are said above it, and the page has the rest.
    spare = ["", "cores", "work", "kernel GB/s", "of limit", "rate", "Karp-Flatt", "imbalance"]
    prices = [f"{unit.name} a run" for unit in costs.units(analysis)]
    for name in (*spare, *prices[-2::-1], "GPUs", "nodes"):
        table = [column for column in table if column.title != name]
        lines = _terminal_lines(table)
        if max(map(len, lines)) <= WIDTH:
            break
    return "\n".join(lines)


def _terminal_lines(table: Sequence[Column]) -> list[str]:
    # Two lines of heading where one would not fit beside wide figures.
    prices = [column.title for column in table if column.title.endswith(" a run")]
    split = {title: (title.removesuffix(" a run"), "a run") for title in prices}
    split |= {"Karp-Flatt": ("Karp-", "Flatt"), "efficiency as billed": ("efficiency", "as billed")}
    split |= {"scaled speedup": ("scaled", "speedup"), "kernel GB/s": ("kernel", "GB/s")}
    if any(column.title == "of limit" for column in table):
        split |= {"of limit": ("of", "limit"), "efficiency": ("effi-", "ciency")}
    titles, cells = [], []
    for column in table:
        titles.append(split.get(column.title, ("", column.title)))
        cells.append(column.cells)
        if column.title == "seconds":
            titles.append(("95 %", "interval"))
            cells.append(column.intervals)
    return aligned([*zip(*titles, strict=True), *zip(*cells, strict=True)], 2)


def aligned(rows: Sequence[Sequence[str]], heading: int) -> list[str]:
    """Return the lines of a table, of which so many rows are the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(heading, "-" * max(map(len, lines)))
    return lines


def _terminal_failures(failures: Sequence[Run]) -> list[str]:
    parts = ["", "Failed launches"] if failures else []
    for i, run in enumerate(failures):
        parts.append(wrapped(f"- {failure(run)}", "  "))
        ending = clean(run.output_end).strip("\n").splitlines()[-_OUTPUT_LINES:]
        if i < _OUTPUTS:
            parts += [_excerpt(text) for text in ending]
    if len(failures) > _OUTPUTS:
        parts.append("  report.html has the output of all of them.")
    return parts


def _excerpt(text: str) -> str:
    """Return a line of a program's output, on several if it is long: its end may tell most."""
    parts = [text[k : k + WIDTH - 6] for k in range(0, len(text), WIDTH - 6)] or [""]
    return "\n".join(f"    | {part}".rstrip() for part in parts[:10])


def wrapped(text: str, indent: str = "") -> str:
    """Return text in lines of at most 100 columns, all but the first further in."""
    filled = textwrap.fill(
        bound(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace("\u00a0", " ")


def markdown(analysis: Analysis, figures: dict[str, str]) -> str:
    """Write an analysis as Markdown.

    Parameters
    ----------
    analysis : Analysis
    figures : dict of str to str
        What each figure shows, by its name.
    """
    parts = [
        f"# Scaling of {_code(line(sentences.title(analysis)))}",
        _escaped(sentences.machine(analysis)),
    ]
    if not analysis.series:
        parts.append("Nothing has been measured yet.")
    for series in analysis.series:
        parts += [f"## {heading(series)}", _pipe_table(analysis, series)]
        parts += [_escaped(recommendation(analysis, series)), _plain(request(analysis, series))]
        said = [sentences.bottleneck(series), *told(analysis, series)]
        parts += [_escaped(text) for text in said if text]
        parts += _usage_table(analysis, series)
        parts += [
            f"![{_escaped(text)}](figures/{name}.svg)"
            for name, text in figures.items()
            if name.startswith(f"{series.mode}-")
        ]
    parts.append(_escaped(sentences.limit(analysis)))
    for title, lines in _sections(analysis).items():
        if lines:
            parts += [f"## {title}", "\n".join(f"- {_escaped(text)}" for text in lines)]
    parts += ["## Failed launches"] if analysis.failures else []
    for run in analysis.failures:
        parts += [_escaped(failure(run)), _block(clean(run.output_end).strip("\n"))]
    parts += ["## Method", _escaped(method.method(analysis))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _pipe_table(analysis: Analysis, series: Series) -> str:
    table = columns(analysis, series)
    titles = [_escaped(f"{c.title} (95 % interval)" if c.intervals else c.title) for c in table]
    cells = [[_with_interval(column, i) for i in range(len(column.cells))] for column in table]
    notes = [_escaped("; ".join(sentences.notes(point))) for point in series.points]
    rows = [
        [*titles, "notes"],
        [*("---:" for _ in titles), "---"],
        *zip(*cells, notes, strict=True),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _usage_table(analysis: Analysis, series: Series) -> list[str]:
    if not (rows := usage.table(series, analysis.runs)):
        return []
    title = "### Memory and input/output"
    return [title, _plain(rows), _escaped(usage.explanation(series, analysis.runs))]


def _plain(rows: list[list[str]]) -> str:
    """Return a table of figures, of which the first row is the heading; nothing if it is empty."""
    ruled = [*rows[:1], ["---:"] * len(rows[0]), *rows[1:]] if rows else []
    return "\n".join(f"| {' | '.join(map(_escaped, row))} |" for row in ruled)


def _with_interval(column: Column, i: int) -> str:
    between = column.intervals[i] if column.intervals else NOTHING
    return f"{column.cells[i]} ({between})" if " to " in between else column.cells[i]


def _escaped(text: str) -> str:
    """Escape what Markdown, or HTML in it, would take as markup; names in backticks stay code."""
    parts = re.split(r"(`\w+`)", line(text))
    return "".join(
        part if i % 2 else re.sub(r"([\\`*_\[\]<>|#&~])", r"\\\1", part)
        for i, part in enumerate(parts)
    )


def _fence(text: str, least: int) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)


def _code(text: str) -> str:
    fence = _fence(text, 1)
    return f"{fence}{text}{fence}" if fence == "`" else f"{fence} {text} {fence}"


def _block(text: str) -> str:
    fence = _fence(text, 3)
    return f"{fence}text\n{text}\n{fence}" if text else ""


def comma_separated(analysis: Analysis) -> str:
    """Write one row per point with all digits; empty where there is nothing."""
    points = [(series.mode, point) for series in analysis.series for point in series.points]
    names = list(dict.fromkeys(name for _, point in points for name in point.phases))
    rows = [_row(mode, point, names) for mode, point in points]
    text = StringIO()
    titles = list(rows[0]) if rows else ["mode", "ranks"]
    writer = csv.DictWriter(text, titles, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(mode: str, point: Point, phases: Sequence[str]) -> dict[str, str]:
    whole = ("ranks", "nodes", "threads", "gpus", "launches")
    row: dict[str, object] = {"mode": mode, **{name: getattr(point, name) for name in whole}}
    row |= {"cores": point.ranks * point.threads, "cores_available": point.cores}
    row["failed_launches"] = len(point.failed)
    for name in ("seconds", "speedup", "efficiency", "serial_fraction", "billed_efficiency"):
        estimate = getattr(point, name)
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    row |= {"work": point.work, "rate": point.rate, "process_seconds": point.process_seconds}
    cost = asdict(point.cost)
    row |= {"billed_nodes": cost.pop("nodes"), **cost}
    used = asdict(point.usage)
    row |= {"ranks_seen": used.pop("seen"), "share_unseen": used.pop("unseen")}
    row |= {f"{name}_bytes": value for name, value in used.items()}
    row["oversubscribed"] = point.oversubscribed
    row |= {name: getattr(point, name) for name in ("kernel_gbs", "limit_share", "bound")}
    row["schedule"] = line(point.schedule)
    row["largest_imbalance"] = max(point.imbalance, default=math.nan)
    row |= {f"phase_{line(name)}": point.phases.get(name, math.nan) for name in phases}
    row["notes"] = line("; ".join(sentences.notes(point)))
    return {
        name: "" if isinstance(value, float) and math.isnan(value) else str(value)
        for name, value in row.items()
    }
