"""Draw a sweep: speedup, efficiency, seconds by phase and load imbalance.

The colours are those of Okabe and Ito ([1]_), which colour-blind people can tell apart. Lines also
differ in dashes, points in markers and bars in hatches, so that a grey print is readable.

References
----------
.. [1] M. Okabe and K. Ito, Color Universal Design, 2008
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ParamSpec

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from rankwise.analysis.comparison import Pair
from rankwise.analysis.series import Analysis, Point, Series
from rankwise.analysis.statistics import Estimate
from rankwise.ranks.words import counted
from rankwise.report.drawing import STYLE
from rankwise.report.numbers import chosen, number
from rankwise.report.tables import line

_BLUE, _ORANGE, _GREEN, _RED, _PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
_SKY, _YELLOW, _GREY = "#56B4E9", "#F0E442", "0.45"
# Two dots after the dash: one is USL's.
_BOUND = (0, (6, 1.5, 1, 1.5, 1, 1.5))
_LAWS = {"Amdahl": (_BLUE, "-"), "USL": (_RED, "-."), "Gustafson": (_BLUE, "-")}
# Of A and of B: colour, dashes, marker, its inside, and how far from the count it stands.
_SIDES = {"A": (_BLUE, "-", "o", _BLUE, 0.98), "B": (_RED, "--", "s", "white", 1.02)}
# The same look for a phase in every figure; other names take what is left.
_PHASES = {
    "kernel": (_BLUE, ""),
    "wait": ("white", "////"),
    "read": (_GREEN, "----"),
    "scatter": (_ORANGE, "\\\\\\\\"),
    "broadcast": (_ORANGE, "////"),
    "gather": (_SKY, "xxxx"),
    "to_device": (_PINK, "++++"),
    "to_host": (_YELLOW, "||||"),
    "halo": (_RED, "////"),
    "exchange": (_RED, "xxxx"),
    "queue": (_YELLOW, "++++"),
    "reduce": (_SKY, "----"),
    "snapshot": ("0.6", "----"),
    "checkpoint": ("0.6", "||||"),
    "other": ("0.85", ""),
}
# Dots and stars as hatches would make the files ten times as large.
_OTHER_PHASES = ((_RED, ""), ("0.6", "//"), (_GREEN, "xx"), (_YELLOW, "\\\\"), (_PINK, "--"))
# Phases below it at every point are one bar.
_SMALL = 0.01
_LONGEST_NAME = 20
# More dots than this are drawn as an image, which keeps the page small.
_MANY_DOTS = 1000

_ABOVE: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}

_Arguments = ParamSpec("_Arguments")


def _styled(make: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Let a function make figures of this style, laid out."""

    @functools.wraps(make)
    def styled(*args: _Arguments.args, **options: _Arguments.kwargs) -> Figure:
        with style.context(["default", STYLE]):
            figure = make(*args, **options)
            # As the figure's own engine it would be asked again for each file, and draw each twice.
            ConstrainedLayoutEngine().execute(figure)
        return figure

    return styled


def draw(analysis: Analysis) -> dict[str, Figure]:
    """Draw what there is to draw.

    Returns
    -------
    dict of str to Figure
        By name: ``strong-speedup``, ``strong-efficiency``, ``strong-phases``,
        ``strong-imbalance``, and so for ``weak``. Speedup and efficiency need two points, the
        others records.
    """
    figures = {}
    for series in analysis.series:
        if len(series.measured) > 1:
            figures[f"{series.mode}-speedup"] = speedup(series)
            figures[f"{series.mode}-efficiency"] = efficiency(series, analysis.target)
        if any(point.phases for point in series.points):
            figures[f"{series.mode}-phases"] = phases(series)
        if any(point.imbalance for point in series.points):
            figures[f"{series.mode}-imbalance"] = imbalance(series)
    return figures


@_styled
def speedup(series: Series, title: str = "") -> Figure:
    """Draw speedup over ranks or nodes, with every launch, the ideal, laws and memory's bound.

    Parameters
    ----------
    series : Series
        With a baseline.
    title : str
        Above the figure, where no caption says what it shows.

    Returns
    -------
    Figure
    """
    base = _baseline(series)
    figure = _figure(title)
    axes = figure.subplots()
    ranks = np.array([point.ranks for point in series.points])
    axes.plot(_places(series, ranks), ranks / base.ranks, color=_GREY, ls="--", label="ideal")
    _laws(axes, series, np.ones_like)
    bound = _bound(axes, series)
    _points(axes, series, "speedup")
    _counts_axis(axes, series)
    _speedup_axis(axes)
    _say_if_outside(axes, bound)
    kind = "Scaled speedup" if series.mode == "weak" else "Speedup"
    seconds = number(base.seconds.value)
    axes.set_ylabel(f"{kind} over\n{counted(base.ranks, 'rank')} ({seconds} s)")
    _legend(figure)
    return figure


@_styled
def efficiency(series: Series, target: float, title: str = "") -> Figure:
    """Draw parallel efficiency over ranks or nodes, with the efficiency that is asked for.

    Parameters
    ----------
    series : Series
        With a baseline.
    target : float
        Efficiency of the recommended rank count.
    title : str
        Above the figure, where no caption says what it shows.

    Returns
    -------
    Figure
    """
    base = _baseline(series)
    figure = _figure(title)
    axes = figure.subplots()
    axes.axhline(1, color=_GREY, ls="--", label="ideal")
    axes.axhline(target, color=_GREEN, ls=":", lw=2, label=f"target, {chosen(target)}")
    _laws(axes, series, lambda ranks: base.ranks / ranks)
    _points(axes, series, "efficiency")
    _counts_axis(axes, series)
    axes.set_ylim(0, max(1.1, 1.05 * axes.dataLim.y1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.set_ylabel(f"Efficiency relative to\n{counted(base.ranks, 'rank')} [%]")
    _legend(figure)
    return figure


@_styled
def phases(series: Series, title: str = "") -> Figure:
    """Draw the seconds spent in each phase as stacked bars, and their shares of the whole.

    Parameters
    ----------
    series : Series
        With phases at one point at least.
    title : str
        Above the figure, where no caption says what it shows.

    Returns
    -------
    Figure
    """
    points = [point for point in series.points if sum(point.phases.values()) > 0]
    figure = _figure(title)
    left, right = figure.subplots(1, 2)
    seconds = _stack(points)
    total = sum(seconds.values())
    looks = iter(_OTHER_PHASES * len(seconds))
    places = np.arange(len(points))
    low = np.zeros(len(points))
    for name, values in seconds.items():
        colour, hatch = _PHASES.get(name) or next(looks)
        # ASCII: the font has no glyph for whatever else a record may hold.
        label = line(name).encode("ascii", "backslashreplace").decode()[:_LONGEST_NAME]
        for axes, scale in ((left, 1), (right, total)):
            options = {"color": colour, "hatch": hatch, "edgecolor": "0.15", "linewidth": 0.5}
            axes.bar(places, values / scale, 0.7, low / scale, label=label, **options)
        low = low + values
    for axes in (left, right):
        axes.grid(False, axis="x")
        _named_places(axes, series, points)
    left.set_ylabel("Seconds, mean over ranks")
    right.set_ylabel("Share of these seconds [%]")
    right.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    figure.supxlabel(_counts_words(series), fontsize=10)
    handles, labels = left.get_legend_handles_labels()
    # From the top of the stack to its bottom.
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper")
    return figure


@_styled
def imbalance(series: Series, title: str = "") -> Figure:
    """Draw the load of every rank relative to the mean, a column of dots per point.

    Parameters
    ----------
    series : Series
        With kernel or busy seconds of ranks at one point at least.
    title : str
        Above the figure, where no caption says what it shows.

    Returns
    -------
    Figure
    """
    # Never busy seconds of some points beside kernel seconds of others.
    points = [p for p in series.points if p.imbalance and bool(p.schedule) == series.queued]
    figure = _figure(title)
    axes = figure.subplots()
    axes.axhline(1, color=_GREY, ls="--")
    for place, point in enumerate(points):
        n = len(point.imbalance)
        x = place + (np.linspace(-0.3, 0.3, n) if n > 1 else np.zeros(1))
        axes.plot(x, point.imbalance, "o", color=_BLUE, ms=3.5, rasterized=n > _MANY_DOTS)
        worst = max(point.imbalance)
        axes.annotate(f"{worst:.2f}", (place, worst), (0, 5), fontsize=9, **_ABOVE)
    values = [value for point in points for value in point.imbalance]
    axes.set_ylim(min(0.9, *values) - 0.02, 1.0 + 1.25 * (max(1.1, *values) - 1.0))
    axes.grid(False, axis="x")
    _named_places(axes, series, points)
    axes.set_xlabel(_counts_words(series))
    axes.set_ylabel(f"{'Busy' if series.queued else 'Kernel'} seconds over mean of ranks")
    return figure


@_styled
def both(a: Series, b: Series, title: str = "") -> Figure:
    """Draw the seconds of two sweeps over ranks or nodes, with every launch.

    Parameters
    ----------
    a, b : Series
        Of the same kind of scaling, with a launch that succeeded on one side at least.
    title : str
        Above the figure, where no caption says what it shows.

    Returns
    -------
    Figure
    """
    figure = _figure(title)
    axes = figure.subplots()
    whole = _united(a, b)
    for name, series in {"A": a, "B": b}.items():
        _side(axes, name, replace(series, axis=whole.axis))
    _counts_axis(axes, whole)
    _seconds_axis(axes)
    axes.set_ylabel("Seconds")
    _legend(figure)
    return figure


@_styled
def ratios(a: Series, b: Series, pairs: Sequence[Pair], slowdown: float | None) -> Figure:
    """Draw the seconds of B over those of A at each count, with no change and what is allowed.

    Parameters
    ----------
    a, b : Series
    pairs : sequence of Pair
        Of these series; one at least has a ratio.
    slowdown : float or None
        What B may be slower by, as a part; None draws no line.

    Returns
    -------
    Figure
    """
    figure = _figure("")
    axes = figure.subplots()
    whole = _united(a, b)
    axes.axhline(1, color=_GREY, ls="--", label="no change")
    if slowdown is not None:
        axes.axhline(1 + slowdown, color=_RED, ls=":", lw=2, label=f"{chosen(slowdown)} slower")
    shown = [pair for pair in pairs if math.isfinite(pair.ratio.value)]
    places = np.array([_place(whole, pair.b) for pair in shown])
    _estimates(axes, places, [pair.ratio for pair in shown], "ratio", color="black", marker="D")
    _counts_axis(axes, whole)
    low, high = axes.dataLim.y0, axes.dataLim.y1
    axes.set_ylim(low - 0.1 * (high - low) - 0.01, high + 0.1 * (high - low) + 0.01)
    axes.set_ylabel("Seconds of B over those of A")
    _legend(figure)
    return figure


def _figure(title: str) -> Figure:
    figure = Figure()
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _baseline(series: Series) -> Point:
    if series.baseline is None:
        raise ValueError("no launch succeeded: there is nothing to draw")
    return series.baseline


def _place(series: Series, point: Point) -> int:
    return point.nodes if series.axis == "nodes" else point.ranks


def _places(series: Series, ranks: np.ndarray) -> np.ndarray:
    """Return where rank counts, between those measured too, stand on the axis."""
    known = [point.ranks for point in series.points]
    return np.interp(ranks, known, [_place(series, point) for point in series.points])


def _laws(axes: Axes, series: Series, scale: Callable[[np.ndarray], np.ndarray]) -> None:
    """Draw the fitted speedups, times `scale` of the rank count, with their bands."""
    for fit in series.fits:
        if not fit.curve:
            continue
        colour, dashes = _LAWS.get(fit.law, (_PINK, "-"))
        ranks, value, low, high = np.array(fit.curve).T
        places, factor = _places(series, ranks), scale(ranks)
        words = fit.law if fit.identifiable else f"{fit.law}, not identified"
        if np.isfinite(low).all() and np.isfinite(high).all():
            words += ", 95 % band" if fit.identifiable else ""
            low, high = low * factor, high * factor
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(places, value * factor, color=colour, ls=dashes, label=words)


def _bound(axes: Axes, series: Series) -> Line2D | None:
    """Draw the speedup that memory allows."""
    points = [point for point in series.points if math.isfinite(point.bound)]
    if not points:
        return None
    places, values = [_place(series, point) for point in points], [p.bound for p in points]
    bound = Line2D(places, values, color=_PINK, ls=_BOUND, marker="_", label="memory bandwidth")
    # Unlike `plot`, this leaves the axes to the points: the bound may lie far from all of them.
    axes.add_artist(bound)
    return bound


def _say_if_outside(axes: Axes, bound: Line2D | None) -> None:
    """Say in the legend where a bound is that the limits of the axes leave out."""
    if bound is None:
        return
    low, high = axes.get_ylim()
    values = np.asarray(bound.get_ydata(), float)
    if (values > high).all():
        bound.set_label("memory (above)")
    elif (values < low).all():
        bound.set_label("memory (below)")


def _points(axes: Axes, series: Series, name: str) -> None:
    """Draw medians with intervals and every launch, and where launches failed."""
    measured = series.measured
    for point in measured:
        value = getattr(point, name).value
        each = value * point.seconds.value / np.array(point.samples)
        many = len(each) > _MANY_DOTS
        label = "one launch" if point is measured[0] else None
        x = np.full(len(each), _place(series, point))
        axes.plot(x, each, "o", color="0.55", ms=3, mew=0, rasterized=many, label=label)
    for hollow in (False, True):
        _medians(axes, series, [p for p in measured if p.oversubscribed == hollow], name, hollow)
    _failed(axes, series)


def _failed(axes: Axes, series: Series) -> None:
    """Draw a cross on the axis where launches failed, and how many of how many."""
    points = [point for point in series.points if point.failed]
    if not points:
        return
    bottom = axes.get_xaxis_transform()
    places = [_place(series, point) for point in points]
    (crosses,) = axes.plot(
        places, [0] * len(points), "x", color=_RED, ms=8, mew=2, transform=bottom
    )
    crosses.set(clip_on=False, zorder=5, label="failed launches")
    for point, place in zip(points, places, strict=True):
        count = f"{len(point.failed)} of {len(point.failed) + point.launches}"
        axes.annotate(count, (place, 0), (0, 7), bottom, color=_RED, fontsize=8, **_ABOVE)


def _medians(
    axes: Axes, series: Series, points: Sequence[Point], name: str, oversubscribed: bool
) -> None:
    if not points:
        return
    values = [getattr(point, name) for point in points]
    x = np.array([_place(series, point) for point in points])
    look = {"color": "black", "marker": "o"}
    if oversubscribed:
        look |= {"markerfacecolor": "white", "label": "oversubscribed"}
    _estimates(axes, x, values, "median", **look)


def _united(a: Series, b: Series) -> Series:
    """Return a series with the counts of both, which gives a figure its axis."""
    points = {point.ranks: point for point in (*a.points, *b.points)}
    nodes = {(point.ranks, point.nodes) for point in (*a.points, *b.points)}
    same = a.axis == b.axis == "nodes" and len(nodes) == len(points)
    ordered = tuple(points[ranks] for ranks in sorted(points))
    return replace(a, points=ordered, axis="nodes" if same else "ranks")


def _side(axes: Axes, name: str, series: Series) -> None:
    """Draw the medians and launches of one of two sweeps, and where its launches failed."""
    colour, dashes, marker, fill, aside = _SIDES[name]
    for point in series.measured:
        x = np.full(len(point.samples), aside**2 * _place(series, point))
        many = len(point.samples) > _MANY_DOTS
        axes.plot(x, point.samples, marker, color=colour, alpha=0.5, ms=3, mew=0, rasterized=many)
    places = aside * np.array([_place(series, point) for point in series.measured])
    values = [point.seconds for point in series.measured]
    look = {"color": colour, "ls": dashes, "marker": marker, "markerfacecolor": fill}
    _estimates(axes, places, values, name, **look)
    failed = [aside * _place(series, point) for point in series.points if point.failed]
    if failed:
        (crosses,) = axes.plot(
            failed, [0] * len(failed), "x", color=colour, ms=8, mew=2,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
        crosses.set(clip_on=False, zorder=5, label=f"{name}, failed launches")


def _estimates(
    axes: Axes, x: np.ndarray, values: Sequence[Estimate], name: str, **look: Any
) -> None:
    """Draw figures with their intervals; without one no bar, rather than one of length zero."""
    if not values:
        return
    y = np.array([estimate.value for estimate in values])
    spread = np.array([(e.value - e.low, e.high - e.value) for e in values]).T
    known = np.isfinite(spread).all(axis=0)
    options = {"fmt": "none", "ecolor": look["color"], "capsize": 3, "lw": 1}
    axes.errorbar(x[known], y[known], spread[:, known].clip(0), **options)
    label = f"{name}, 95 % interval" if known.any() else name
    axes.plot(x, y, **{"ls": "none", "ms": 5, "zorder": 4, "label": label, **look})


def _seconds_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.dataLim.y0, axes.dataLim.y1
    # Room for at least two of the marks 1, 2, 5, 10 to read values against.
    room = max(1.25, math.sqrt(7 * low / high))
    axes.set_ylim(low / room, high * room)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _counts_axis(axes: Axes, series: Series) -> None:
    """Mark the measured counts on an axis of powers of two."""
    counts = sorted({_place(series, point) for point in series.points})
    axes.set_xscale("log", base=2)
    axes.set_xlim(counts[0] / 1.25, counts[-1] * 1.25)
    axes.set_xticks(counts, [str(count) for count in _apart(counts)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(_counts_words(series))


def _apart(counts: Sequence[int]) -> list[int | str]:
    """Return the counts, empty those that would be written over the one before."""
    closest = max(math.log2(counts[-1] / counts[0]) / 12, 0.01)
    written = [counts[0]]
    shown: list[int | str] = [counts[0]]
    for count in counts[1:]:
        far = math.log2(count / written[-1]) >= closest
        shown.append(count if far else "")
        if far:
            written.append(count)
    return shown


def _speedup_axis(axes: Axes) -> None:
    axes.set_yscale("log", base=2)
    low, high = axes.dataLim.y0, axes.dataLim.y1
    # Half an octave of room, and at least two powers of two to read values against.
    axes.set_ylim(min(low, 1) / 1.4, max(high, 2) * 1.25)
    axes.yaxis.set_major_locator(LogLocator(base=2, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _named_places(axes: Axes, series: Series, points: Sequence[Point]) -> None:
    names = [_place(series, point) for point in points]
    every = math.ceil(len(names) / 12)
    shown = [str(name) if i % every == 0 else "" for i, name in enumerate(names)]
    axes.set_xticks(range(len(names)), shown)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _counts_words(series: Series) -> str:
    """Say what is counted on the axis, and what one of it has."""
    ranks = {point.ranks / _place(series, point) for point in series.points}
    threads = {point.threads for point in series.points}
    gpus = {point.gpus / point.ranks for point in series.points}
    if series.axis == "nodes":
        words = f"Nodes, {counted(int(min(ranks)), 'MPI rank')} each"
        return words if len(ranks) == 1 else "Nodes"
    if len(gpus) == 1 and min(gpus) >= 1:
        return f"MPI ranks, {counted(int(min(gpus)), 'GPU')} each"
    if len(threads) == 1:
        return f"MPI ranks, {counted(min(threads), 'core')} each"
    return "MPI ranks"


def _stack(points: Sequence[Point]) -> dict[str, np.ndarray]:
    """Return the seconds of each phase at each point, the kernel first, small ones added up."""
    found = {name for point in points for name, seconds in point.phases.items() if seconds > 0}
    names = sorted(found, key=lambda name: ([*_PHASES, name].index(name), name))
    seconds = {name: np.array([point.phases.get(name, 0.0) for point in points]) for name in names}
    total = sum(seconds.values())
    small = [name for name in seconds if (seconds[name] < _SMALL * total).all()]
    if len(small) > 1:
        rest = sum(seconds.pop(name) for name in small)
        seconds["rest, each < 1 %"] = np.asarray(rest)
    return seconds


def _legend(figure: Figure) -> None:
    """Write the legend under the figure, where it hides nothing."""
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.6)
