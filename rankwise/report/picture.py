"""Draw a result of a record: two dimensions as an image, one as a line.

The colours are fit for the colour-blind. Values of one sign are drawn in cividis ([1]_): it is
perceptually uniform, and nearly the same to those who cannot tell red from green. Values of both
signs are drawn in the red-blue of ColorBrewer ([2]_, which lists it as safe for the colour-blind):
white is 0, and the lightness falls to both sides. What is no number is grey. Each grey is the one
that differs most from its map, for normal and for dichromatic eyes as modelled in [3]_: by 18 in
CIELAB, or more.

References
----------
.. [1] J. R. Nuñez, C. R. Anderton, R. S. Renslow, Optimizing colormaps with consideration for color
   vision deficiency, PLOS ONE 13(7), e0199239, 2018
.. [2] M. Harrower, C. A. Brewer, ColorBrewer.org: an online tool for selecting colour schemes for
   maps, The Cartographic Journal 40(1), 27-37, 2003; https://colorbrewer2.org
.. [3] G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, A physiologically-based model for
   simulation of color vision deficiency, IEEE TVCG 15(6), 1291-1298, 2009
"""

import functools
import math
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, font_manager, style
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    ScalarFormatter,
)
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from rankwise.disk import files
from rankwise.disk.record import Record, Result
from rankwise.ranks.agreement import Stop
from rankwise.ranks.words import counted
from rankwise.report.drawing import STYLE, octets

# How a file of each kind begins.
MAGIC = {".png": (b"\x89PNG",), ".svg": (b"<svg", b"<?xml"), ".pdf": (b"%PDF",)}

# A map and its grey, for values of one sign and of both.
ONE_SIGN, BOTH_SIGNS = ("cividis", "0.8"), ("RdBu_r", "0.5")
BLUE = "#0072B2"

# Points of a side of an image; of more elements a point stands for a block.
MOST_POINTS = 2000
# Elements of a line; of more the smallest and largest of so many pieces are drawn.
LONGEST, PIECES = 100_000, 2000
# So few elements are drawn as dots.
FEW_DOTS = 50
# Whole numbers in so small a range are levels, such as labels: each has a colour of its own.
FEW_LEVELS = 10
# There are both signs if the smaller side is more than this part of the larger: less is rounding.
BOTH = 0.01
# The scale is logarithmic if all values are positive, the largest is more than so many times the
# smallest, and half of them are below this part of the largest.
RANGE, MOSTLY_SMALL = 100, 0.1
# Above it sums of Matplotlib overflow: such a number is taken for an infinite one.
LARGEST = 1e300
# The shorter side of an image, as a part of the longer one, is at least this.
NARROWEST = 0.1

# The longer side of an image [inches]; points of an inch.
_SIDE, _DPI = 4.4, 200


@dataclass(frozen=True)
class Dimension:
    """Where the elements of a result lie along one of its dimensions.

    Attributes
    ----------
    places : (n,) float64 array
        Coordinates, or indices.
    label : str
    unit : str, optional
        Of the coordinates; None for indices.
    note : str
        Why indices are taken though there are coordinates; else empty.
    width : float
        Of a sole element, in units of the coordinates.
    """

    places: np.ndarray
    label: str
    unit: str | None = None
    note: str = ""
    width: float = 1.0

    @functools.cached_property
    def edges(self) -> np.ndarray:
        """Where elements end and others begin, half-way between them: (n + 1,) float64 array."""
        places = self.places
        if places.size == 1:
            # Less would be lost in the rounding of the place.
            half = np.full(1, max(self.width / 2, 1e-9 * abs(places[0])))
        else:
            half = np.diff(places) / 2
        return np.concatenate([places[:1] - half[:1], places[:-1] + half, places[-1:] + half[-1:]])


@dataclass(frozen=True)
class Scale:
    """Which colours values have, and what the colour bar shows of that."""

    colours: Colormap
    norm: Normalize
    ticks: Any = None
    format: Any = None
    remark: str = ""


def choose(results: dict[str, Result], wanted: str | None) -> str:
    """Return the name of the result that is drawn.

    Parameters
    ----------
    results : dict of str to Result
    wanted : str, optional
        Without one: the largest of two dimensions, else of one that is no axis of another.

    Raises
    ------
    Stop
        There is none, or it cannot be drawn.
    """
    if wanted is None:
        axes = {axis for name, each in results.items() for axis in each.axes if axis != name}
        full = {name: each.values for name, each in results.items() if _is_full(each.values)}
        planes = [name for name, values in full.items() if values.ndim == 2]
        lines = [name for name, values in full.items() if values.ndim == 1 and name not in axes]
        if not (planes or lines):
            raise Stop(f"there is no array of one or two dimensions to draw: {_there(results)}")
        return max(planes or lines, key=lambda name: full[name].size)
    if wanted not in results:
        raise Stop(f"there is no result {wanted!r}: {_there(results)}")
    shape = results[wanted].values.shape
    if len(shape) in (1, 2) and not _is_full(results[wanted].values):
        raise Stop(f"the result {wanted!r} is empty, or holds no numbers: its shape is {shape}")
    if len(shape) not in (1, 2):
        dimensions = counted(len(shape), "dimension")
        raise Stop(f"the result {wanted!r} has {dimensions}, and one or two can be drawn")
    return wanted


def _is_full(values: np.ndarray) -> bool:
    # Whoever sends a record can put texts or tables into it.
    return values.size > 0 and values.dtype.kind in "biuf"


def _there(results: dict[str, Result]) -> str:
    shapes = {name: " x ".join(map(str, each.values.shape)) for name, each in results.items()}
    listed = [f"{name} ({shape or 'a number'})" for name, shape in shapes.items()]
    return f"the record holds {', '.join(listed) or 'no results'}"


def is_picture(path: Path) -> bool:
    """Tell whether a file is of the kind that its ending says."""
    with path.open("rb") as file:
        return file.read(8).startswith(MAGIC[path.suffix.lower()])


def write(record: Record, name: str, path: Path, force: bool) -> Path:
    """Draw a result and write the picture, complete or not at all.

    Parameters
    ----------
    record : Record
    name : str
        From `choose`.
    path : Path
        Its ending says which kind of file: one of `MAGIC`, or such in capitals.
    force : bool
        Whether a file of that name may be replaced.

    Returns
    -------
    Path
        Where the picture is: see `rankwise.disk.files.write`.

    Raises
    ------
    Stop
        No element is a finite number; or the file system failed, status 1.
    """
    image = octets(draw(record, name), path.suffix.lower(), "picture", _title(record, name))
    try:
        return files.write(path, memoryview(image), force)
    except OSError as error:
        raise Stop(f"cannot write {path}: {error.strerror}", status=1) from None


def draw(record: Record, name: str) -> Figure:
    """Draw a result.

    Parameters
    ----------
    record : Record
    name : str
        From `choose`.

    Returns
    -------
    Figure

    Raises
    ------
    Stop
        No element is a finite number.
    """
    values = record.results[name].values
    plane, missing = values.ndim == 2, _missing(values)
    if missing == values.size:
        raise Stop(f"no element of {name!r} is a number below {LARGEST:g} that can be drawn")
    with style.context(["default", STYLE]):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, compress=True)
        figure = Figure(dpi=_DPI, layout=layout)
        notes = (_image if plane else _line)(figure, record.results, name)
        if missing:
            how = "grey" if plane else "left out"
            notes.append(f"{missing} of {values.size} elements are no finite numbers: {how}.")
        title, caption = _wrapped(_title(record, name), 60), _wrapped(" ".join(notes), 80)
        figure.suptitle(title, fontsize=10)
        figure.supxlabel(caption, fontsize=8)
        lines = title.splitlines() + caption.splitlines()
        figure.set_figheight(figure.get_figheight() + 0.17 * len(lines))
    return figure


def _title(record: Record, name: str) -> str:
    unchecked = ", unchecked" if record.attributes["unchecked"] else ""
    about = ", ".join(filter(None, (name, record.results[name].description)))
    return _readable(f"{record.attributes['job']}{unchecked}: {about}")


def _image(figure: Figure, results: dict[str, Result], name: str) -> list[str]:
    """Draw two dimensions, and return what is said under the picture."""
    axes, values = figure.subplots(), results[name].values
    sides = _alike([_dimension(results, name, k) for k in (0, 1)])
    levels = _levels(values)
    shown, edges, notes = _blocks(values, [side.edges for side in sides], bool(levels))
    scale = _scale(shown, levels)
    drawn = _cells(axes, shown, edges, scale)
    shape = _frame(axes, sides, edges)
    if sides[0].unit == sides[1].unit and shape != _ratio(edges):
        notes.append("Not to scale.")
    # Room for labels and colour bar; their own sizes are those of the text.
    flat = shape < 0.5
    height, width = min(shape, 1.0) * _SIDE, min(1 / shape, 1.0) * _SIDE
    figure.set_size_inches(max(width + (0.9 if flat else 1.7), 5), height + (1.7 if flat else 0.7))
    bar = figure.colorbar(
        drawn,
        cax=_beside(axes, flat),
        orientation="horizontal" if flat else "vertical",
        ticks=scale.ticks,
        format=scale.format,
    )
    bar.set_label(_wrapped(_with_unit(name, results[name].units) + scale.remark, 45))
    return [*(side.note for side in sides if side.note), *notes]


def _line(figure: Figure, results: dict[str, Result], name: str) -> list[str]:
    """Draw one dimension, and return what is said under the picture."""
    axes, result, side = figure.subplots(), results[name], _dimension(results, name, 0)
    values, notes = result.values, [side.note] if side.note else []
    if values.size > LONGEST:
        step = math.ceil(values.size / PIECES)
        low, high = _ends(values, step)
        middle = np.minimum(step // 2 + step * np.arange(low.size), values.size - 1)
        axes.fill_between(side.places[middle], low, high, color=BLUE, linewidth=0.8)
        notes.append(f"From the smallest to the largest of {step} elements each.")
    else:
        _dots_or_line(axes, side.places, np.where(_usable(values), values, np.nan))
    figure.set_size_inches(6, 3.3)
    axes.set(xlabel=_wrapped(side.label, 60), ylabel=_wrapped(_with_unit(name, result.units), 40))
    _mark(axes.xaxis, side.places, side.unit is None)
    _mark(axes.yaxis, values, values.dtype.kind in "biu")
    return notes


def _dots_or_line(axes: Axes, places: np.ndarray, values: np.ndarray) -> None:
    few, known = values.size <= FEW_DOTS, np.pad(~np.isnan(values), 1)
    # A line does not show an element whose neighbours are missing.
    dots = known[1:-1] & (few | ~(known[:-2] | known[2:]))
    line, size = ("none", 4) if few else ("-", 2)
    axes.plot(
        places, values, color=BLUE, linestyle=line, marker="o", markersize=size, markevery=dots
    )


def _dimension(results: dict[str, Result], name: str, k: int) -> Dimension:
    """Return where the elements of a result lie along its dimension `k`."""
    values, axes = results[name].values, results[name].axes
    by = "index" if values.ndim == 1 else ("row", "column")[k]
    label = f"{axes[k]} ({by})" if axes else by
    indices = Dimension(np.arange(values.shape[k], dtype=float), label)
    if not axes or axes[k] not in results or axes[k] == name:
        return indices
    axis = results[axes[k]]
    if axis.values.dtype.kind not in "iuf":
        return replace(indices, note=f"{axes[k]} holds no numbers, so elements are counted.")
    places = axis.values.astype(float, copy=False)
    found = Dimension(places, _with_unit(axes[k], axis.units), axis.units)
    # Edges are out of order where there is no number between two coordinates. A line has none.
    if _is_sorted(places) and (values.ndim == 1 or _is_sorted(found.edges)):
        return found
    return replace(indices, note=f"{axes[k]} is not sorted, so elements are counted.")


def _alike(sides: list[Dimension]) -> list[Dimension]:
    """Make a sole element as wide as those along the other side are on average, if units agree."""
    edges = [side.edges for side in sides]
    steps = [abs(float(each[-1] - each[0])) / (each.size - 1) for each in edges]
    if sides[0].unit != sides[1].unit:
        return sides
    return [
        replace(side, width=step) if side.places.size == 1 else side
        for side, step in zip(sides, steps[::-1], strict=True)
    ]


def _is_sorted(places: np.ndarray) -> bool:
    """Tell whether numbers that can be drawn rise, or fall, in little memory."""
    before, after = places[:-1], places[1:]
    # What is sorted lies between its ends.
    usable = _usable(places[[0, -1]]).all()
    return bool(usable and ((before < after).all() or (before > after).all()))


def _usable(values: np.ndarray) -> np.ndarray:
    """Return which elements can be drawn."""
    return np.abs(values.astype(float)) < LARGEST


def _missing(values: np.ndarray) -> int:
    """Return how many elements cannot be drawn, in the memory of some."""
    if values.dtype.kind != "f":
        return 0
    flat, step = values.reshape(-1), 2**20
    pieces = (flat[start : start + step] for start in range(0, flat.size, step))
    return sum(int(np.count_nonzero(~_usable(piece))) for piece in pieces)


def _levels(values: np.ndarray) -> dict[int, str]:
    """Return what the levels of labels are called; none of other values, or of a single level."""
    if values.dtype.kind == "f":
        return {}
    low, high = int(values.min()), int(values.max())
    # As float64 they must differ.
    if not 0 < high - low < FEW_LEVELS or max(-low, high) >= 2**53:
        return {}
    name = (lambda level: str(bool(level))) if values.dtype.kind == "b" else str
    return {level: name(level) for level in range(low, high + 1)}


def _blocks(
    values: np.ndarray, edges: list[np.ndarray], labels: bool
) -> tuple[np.ma.MaskedArray, list[np.ndarray], list[str]]:
    """Return the points of an image, not too many, with edges that grow; and what was done.

    Points that are no numbers are masked. Labels have no mean.
    """
    for k in (0, 1):
        if edges[k][0] > edges[k][-1]:
            values, edges[k] = np.flip(values, k), edges[k][::-1]
    steps = [math.ceil(n / MOST_POINTS) for n in values.shape]
    points = values[:: steps[0], :: steps[1]] if labels else _means(values, *steps)
    shown = np.ma.masked_where(~_usable(points), points)
    kept = "one" if labels else "the mean"
    note = f"A point is {kept} of {steps[0]} x {steps[1]} elements."
    if not shown.count():
        raise Stop(f"every point has an element that is no finite number: {note}")
    cells = [np.append(each[:-1:step], each[-1]) for each, step in zip(edges, steps, strict=True)]
    return shown, cells, [note] if max(steps) > 1 else []


def _means(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the means over blocks of so many rows and columns; a block at an end may be smaller.

    Returns
    -------
    (ceil(ny / rows), ceil(nx / columns)) float64 array
        No finite number where an element of the block is none.
    """
    ny, nx = values.shape
    begins = np.arange(0, nx, columns)
    widths = np.diff(np.append(begins, nx))
    means = np.empty((math.ceil(ny / rows), begins.size))
    with np.errstate(all="ignore"):
        for k in range(len(means)):
            block = values[k * rows : (k + 1) * rows]
            sums = np.add.reduceat(block, begins, axis=1, dtype=float).sum(axis=0)
            means[k] = sums / (widths * len(block))
    return means


def _ends(values: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest of each `step` elements, NaN where none can be drawn."""
    ends = np.full((2, math.ceil(values.size / step)), np.nan)
    for k in range(ends.shape[1]):
        piece = values[k * step : (k + 1) * step]
        known = piece[_usable(piece)]
        if known.size:
            ends[:, k] = known.min(), known.max()
    return ends[0], ends[1]


def _scale(shown: np.ma.MaskedArray, levels: dict[int, str]) -> Scale:
    """Return the colours of an image."""
    low, high = float(shown.min()), float(shown.max())
    largest = max(-low, high)
    both = min(-low, high) > BOTH * largest and not levels
    name, grey = BOTH_SIGNS if both else ONE_SIGN
    colours = colormaps[name].with_extremes(bad=grey)
    plain = FuncFormatter(lambda value, _: f"{value:.6g}")
    if levels:
        ends = np.arange(min(levels), max(levels) + 2) - 0.5
        names = FuncFormatter(lambda value, _: levels[round(value)])
        few = colours.resampled(len(levels))
        return Scale(few, BoundaryNorm(ends, len(levels)), [*levels], names)
    if low == high:
        around = abs(low) / 10 or 1.0
        return Scale(colours, Normalize(low, low + around), [low], plain)
    if low > 0 and high > RANGE * low and np.ma.median(shown) < MOSTLY_SMALL * high:
        return Scale(colours, LogNorm(low, high), LogLocator(), plain, ", logarithmic")
    norm = Normalize(-largest, largest) if both else Normalize(low, high)
    return Scale(colours, norm, None, ScalarFormatter(useOffset=False))


def _cells(
    axes: Axes, shown: np.ma.MaskedArray, edges: list[np.ndarray], scale: Scale
) -> ScalarMappable:
    """Draw an image whose points lie between edges, which grow."""
    look: dict[str, Any] = {"cmap": scale.colours, "norm": scale.norm}
    extent: Any = []
    for each in edges[::-1]:
        n = each.size - 1
        step = (each[max(1, n - 1)] - each[0]) / max(1, n - 1)
        off = each - (each[0] + step * np.arange(n + 1))
        extent += [each[0], each[0] + step * n]
        # A tenth of a point is seen by nobody. A last one that is narrower is cut off by the axes.
        if np.abs(off[:-1]).max() > 0.1 * step or off[-1] > 0.1 * step:
            return axes.pcolorfast(edges[1], edges[0], shown, **look)
    if isinstance(scale.norm, BoundaryNorm):
        # There is nothing between two labels.
        look["interpolation"] = "nearest"
    return axes.imshow(shown, origin="lower", extent=extent, aspect="auto", **look)


def _beside(axes: Axes, flat: bool) -> Axes:
    """Return the axes of a colour bar, as long as the image: under a flat one, else to the right.

    Its distance and width do not change with the size of the image, as those of Matplotlib do.
    """
    within: Any = axes.transAxes
    inches = axes.figure.dpi_scale_trans + ScaledTranslation(0 if flat else 1, 0, within)
    if flat:
        where = blended_transform_factory(within, inches)
        return axes.inset_axes((0, -0.75, 1, 0.2), transform=where)
    where = blended_transform_factory(inches, within)
    return axes.inset_axes((0.15, 0, 0.2, 1), transform=where)


def _frame(axes: Axes, sides: list[Dimension], edges: list[np.ndarray]) -> float:
    """Give an image its limits and labels; return its height over its width as it is drawn."""
    y, x = sides
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.set_xlim(edges[1][0], edges[1][-1])
    # Coordinates grow upwards; rows are counted from the top, as those of a matrix.
    axes.set_ylim(*edges[0][[-1, 0] if y.unit is None else [0, -1]])
    axes.set(xlabel=_wrapped(x.label, 60), ylabel=_wrapped(y.label, 45))
    for axis, side in ((axes.xaxis, x), (axes.yaxis, y)):
        _mark(axis, side.places, side.unit is None)
    true = min(max(_ratio(edges), NARROWEST), 1 / NARROWEST)
    shape = true if y.unit == x.unit else 0.75
    axes.set_box_aspect(shape)
    if shape > 2 and x.unit is not None:
        # Beside each other, coordinates are wider than the short side.
        axes.tick_params("x", rotation=90)
    return shape


def _ratio(edges: list[np.ndarray]) -> float:
    height, width = (float(each[-1] - each[0]) for each in edges)
    return height / width


def _mark(axis: XAxis | YAxis, places: np.ndarray, whole: bool) -> None:
    """Put ticks on an axis: at whole numbers only if these are all there are."""
    written = ScalarFormatter(useOffset=False)
    if places.size == 1:
        axis.set_ticks(places.astype(float))
    elif whole:
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
        # Counts up to a million are written out.
        written.set_powerlimits((-1, 7))
    axis.set_major_formatter(written)


def _with_unit(name: str, unit: str) -> str:
    return name if unit in ("", "1") else f"{name} [{unit}]"


def _wrapped(text: str, width: int) -> str:
    """Return text in lines, of which there are not more than three."""
    return "\n".join(textwrap.wrap(_readable(text), width, max_lines=3, placeholder=" ..."))


def _readable(text: str) -> str:
    """Return text on one line, with escapes for what the font does not have."""
    known = _glyphs()
    return "".join(
        c if c.isprintable() and ord(c) in known else c.encode("unicode_escape").decode()
        for c in " ".join(text.split())
    )


@functools.cache
def _glyphs() -> frozenset[int]:
    """Return the characters that the font of figures has."""
    font = font_manager.get_font(font_manager.findfont(STYLE["font.family"]))
    return frozenset(font.get_charmap())
