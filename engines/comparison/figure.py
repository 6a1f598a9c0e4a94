"""The figure: efficiency over the size of a task, a line an engine."""

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from engines.comparison import metg

# Okabe and Ito's colours, which colour-blind people tell apart; markers serve those who print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
MARKERS = "osD^vP*X"


def draw(every, workers):
    """Return the figure of all engines that have points, with the least and the most of each."""
    with style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": "engines"}]):
        figure = Figure(figsize=(6.4, 4), layout="constrained")
        axes = figure.add_subplot()
        for (name, found), colour, marker in zip(every.items(), COLOURS, MARKERS, strict=False):
            if not found.points:
                continue
            size, median = (
                np.array([getattr(point, what) for point in found.points])
                for what in ("size", "median")
            )
            low, high = np.array([(min(p.samples), max(p.samples)) for p in found.points]).T
            bars = np.array([median - low, high - median])
            axes.errorbar(
                size, median, bars, label=name, color=colour, marker=marker, ms=5, lw=1.3, capsize=2
            )
        axes.axhline(metg.EFFECTIVE, color="0.5", lw=0.8, ls="--")
        axes.set(
            xscale="log",
            ylim=(0, None),
            xlabel="size of a task [s]",
            ylabel="efficiency",
            title=f"Part of the time of {workers} workers that is spent on tasks",
        )
        axes.grid(color="0.9", lw=0.6)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8.5)
    return figure


def save(figure, path):
    """Write the figure; the ending of the name says in which format."""
    with style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": "engines"}]):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
