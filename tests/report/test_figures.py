"""What the figures show, read from their axes, and the files that they become."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from rankwise.analysis.comparison import Pair
from rankwise.analysis.statistics import Estimate
from rankwise.ranks import clock
from rankwise.report import drawing, figures
from tests.analysis.examples import (
    NOTHING,
    analysis,
    failed_point,
    limited,
    point,
    run,
    strong,
    weak,
)

FAILED = run(ranks=32, outcome="failed")
TITLE = "a $x$ title <&>"


def lines(figure):
    """Return the lines of the first axes by their label, as (x, y, line)."""
    found = figure.axes[0].get_lines()
    return {line.get_label(): (*(np.array(d) for d in line.get_data()), line) for line in found}


def with_failures():
    """Return a series whose third point lacks a launch, and whose last has none."""
    series = strong()
    third = replace(series.points[2], failed=(FAILED,), launches=5)
    return replace(
        series, points=(*series.points[:2], third, *series.points[3:], failed_point(32, FAILED))
    )


def test_every_figure_that_the_data_allow():
    kinds = ("speedup", "efficiency", "phases", "imbalance")
    drawn = figures.draw(analysis(strong(), weak()))
    assert list(drawn) == [f"{mode}-{kind}" for mode in ("strong", "weak") for kind in kinds]
    assert list(figures.draw(analysis(weak()))) == [f"weak-{kind}" for kind in kinds]


def test_speedup_shows_ideal_medians_launches_and_law():
    series = strong()
    shown = lines(figures.speedup(series))
    x, y, ideal = shown["ideal"]
    assert (x == y).all() and list(x) == [1, 2, 4, 8, 16]
    assert ideal.get_linestyle() == "--"
    x, y, _ = shown["median, 95 % interval"]
    assert list(x) == [1, 2, 4, 8]
    assert list(y) == [p.speedup.value for p in series.points[:4]]
    assert lines(figures.speedup(series))["one launch"][0].size == 6
    x, y, _ = shown["Amdahl, 95 % band"]
    assert np.allclose(np.stack((x, y), 1), np.array(series.fits[0].curve)[:, :2])
    assert not any("USL" in label for label in shown)


def test_launches_are_where_their_seconds_put_them():
    series = strong((1, 2))
    dots = [
        line
        for line in figures.speedup(series).axes[0].get_lines()
        if line.get_color() == "0.55" and line.get_xdata()[0] == 2
    ]
    base = series.points[0].seconds.value
    assert np.allclose(dots[0].get_ydata(), base / np.array(series.points[1].samples))


def test_axes_of_speedup_are_marked_at_the_counts():
    axes = figures.speedup(strong((1, 3, 12, 48))).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "3", "12", "48"]
    assert axes.get_xlabel() == "MPI ranks, 1 core each"
    assert axes.get_ylabel() == "Speedup over\n1 rank (12.56 s)"
    assert figures.speedup(weak()).axes[0].get_ylabel().startswith("Scaled speedup over\n1 rank")


def test_close_counts_are_not_written_over_each_other():
    axes = figures.speedup(strong(tuple(range(1, 65)))).axes[0]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert len(labels) == 64 and 5 < sum(label != "" for label in labels) < 14
    assert labels[0] == "1"


def test_oversubscribed_points_are_hollow():
    x, _, markers = lines(figures.speedup(strong()))["oversubscribed"]
    assert list(x) == [16]
    assert markers.get_markerfacecolor() == "white"
    assert "oversubscribed" not in lines(figures.speedup(strong((1, 2, 4))))


def test_failed_launches_are_crosses_on_the_axis():
    for figure in (figures.speedup(with_failures()), figures.efficiency(with_failures(), 0.7)):
        x, y, crosses = lines(figure)["failed launches"]
        assert list(x) == [4, 32] and list(y) == [0, 0]
        assert crosses.get_transform() == figure.axes[0].get_xaxis_transform()
        assert [text.get_text() for text in figure.axes[0].texts] == ["1 of 6", "1 of 1"]
        assert figure.axes[0].get_xlim()[1] > 32


def test_efficiency_starts_at_zero_and_shows_the_target():
    series = strong()
    figure = figures.efficiency(series, 0.65)
    shown = lines(figure)
    assert figure.axes[0].get_ylim()[0] == 0
    assert set(shown["target, 65 %"][1]) == {0.65}
    assert set(shown["ideal"][1]) == {1}
    ranks, values, *_ = np.array(series.fits[0].curve).T
    assert np.allclose(shown["Amdahl, 95 % band"][1], values / ranks)
    assert np.allclose(
        shown["median, 95 % interval"][1], [p.efficiency.value for p in series.points[:4]]
    )


def test_superlinear_points_stay_inside():
    series = strong((1, 2))
    fast = replace(series.points[1], efficiency=replace(NOTHING, value=1.9))
    figure = figures.efficiency(replace(series, points=(series.points[0], fast)), 0.7)
    assert figure.axes[0].get_ylim()[1] > 1.9


def test_interval_bars_have_the_length_of_the_interval():
    axes = figures.efficiency(strong(), 0.7).axes[0]
    segments = [s for c in axes.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    first = np.array(segments[0])
    assert np.allclose(first, [[1, 0.97], [1, 1.03]])
    assert len(segments) == 5


def test_points_without_interval_have_no_bar():
    base = point(1, [2.0])
    bare = replace(base, efficiency=replace(NOTHING, value=1), speedup=replace(NOTHING, value=1))
    other = replace(bare, ranks=2)
    series = strong(points=(bare, other), baseline=bare, fits=())
    axes = figures.efficiency(series, 0.7).axes[0]
    assert [s for c in axes.collections for s in c.get_segments()] == []
    assert "median" in lines(figures.efficiency(series, 0.7))


@pytest.mark.parametrize("kind", ["speedup", "efficiency"])
def test_band_is_that_of_the_fit(kind):
    series = strong()
    ranks, value, low, high = np.array(series.fits[0].curve).T
    assert (low < value).any() and (value < high).any()
    figure = figures.speedup(series) if kind == "speedup" else figures.efficiency(series, 0.7)
    factor = 1 if kind == "speedup" else 1 / ranks
    (band,) = [each for each in figure.axes[0].collections if isinstance(each, PolyCollection)]
    drawn = band.get_paths()[0].vertices[:, 1]
    for expected in (low * factor, high * factor):
        assert all(np.isclose(drawn, each, rtol=1e-12).any() for each in expected)


def test_law_that_the_data_do_not_determine_says_so_and_has_no_band():
    series = strong()
    curve = tuple((*row[:2], *(float("nan"),) * 2) for row in series.fits[0].curve)
    fit = replace(series.fits[0], identifiable=False, curve=curve)
    axes = figures.speedup(replace(series, fits=(fit,))).axes[0]
    assert "Amdahl, not identified" in lines(axes.figure)
    assert len(figures.speedup(series).axes[0].collections) == len(axes.collections) + 1


def test_bound_by_memory_is_a_line_of_its_own():
    figure = figures.speedup(limited(strong()))
    shown = lines(figure)
    x, y, bound = shown["memory bandwidth"]
    assert list(x) == [1, 2, 4, 8, 16] and set(y) == {6.0}
    # Grey prints have no colours.
    law = shown["Amdahl, 95 % band"][2]
    dashes = {str(line._dash_pattern) for line in (bound, shown["ideal"][2], law)}
    assert len(dashes) == 3
    assert not any("memory" in label for label in lines(figures.speedup(strong())))
    assert not any("memory" in label for label in lines(figures.efficiency(limited(strong()), 0.7)))


def test_bound_at_some_points_only():
    series = limited(strong())
    points = (series.points[0], replace(series.points[1], bound=float("nan")), *series.points[2:])
    x, *_ = lines(figures.speedup(replace(series, points=points)))["memory bandwidth"]
    assert list(x) == [1, 4, 8, 16]


@pytest.mark.parametrize(("bound", "where"), [(1e6, "above"), (1e-6, "below")])
def test_bound_that_is_far_away_leaves_the_axes_alone(bound, where):
    plain, figure = figures.speedup(strong()), figures.speedup(limited(strong(), bound))
    assert figure.axes[0].get_ylim() == plain.axes[0].get_ylim()
    assert figure.axes[0].get_xlim() == plain.axes[0].get_xlim()
    assert f"memory ({where})" in lines(figure)
    texts = [[t.get_text() for t in f.axes[0].get_yticklabels()] for f in (plain, figure)]
    assert texts[0] == texts[1]


def test_nodes_are_the_axis_where_the_series_says_so():
    series = strong((16, 32, 64))
    points = tuple(replace(p, nodes=p.ranks // 16) for p in series.points)
    series = replace(series, points=points, baseline=points[0], axis="nodes")
    figure = figures.speedup(series)
    x, y, _ = lines(figure)["ideal"]
    assert list(x) == [1, 2, 4] and list(y) == [1, 2, 4]
    assert lines(figure)["Amdahl, 95 % band"][0].max() == pytest.approx(4)
    assert figure.axes[0].get_xlabel() == "Nodes, 16 MPI ranks each"
    names = [text.get_text() for text in figures.phases(series).axes[0].get_xticklabels()]
    assert names == ["1", "2", "4"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"threads": 4}, "MPI ranks, 4 cores each"),
        ({"gpus": 2}, "MPI ranks, 1 GPU each"),
    ],
)
def test_axis_says_what_a_rank_has(changes, words):
    series = strong((2,))
    points = (replace(series.points[0], **changes),)
    assert figures.imbalance(replace(series, points=points)).axes[0].get_xlabel() == words


def test_phases_are_stacked_to_the_seconds_of_the_point():
    series = strong()
    left, right = figures.phases(series).axes
    tops = {}
    for bar in left.patches:
        place = round(bar.get_x() + bar.get_width() / 2)
        tops[place] = max(tops.get(place, 0), bar.get_y() + bar.get_height())
    expected = [sum(p.phases.values()) for p in series.points]
    assert np.allclose([tops[i] for i in range(5)], expected)
    assert max(bar.get_y() + bar.get_height() for bar in right.patches) == pytest.approx(1)
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in left.patches}
    assert len(looks) == 3 and len({hatch for _, hatch in looks}) == 3


def test_small_phases_are_added_up():
    phases = {"kernel": 1.0, "read": 0.001, "scatter": 0.002, "own\x1b[31m phase \u4e00": 0.5}
    points = (replace(point(1, [1.5]), phases=phases),)
    figure = figures.phases(strong((1,), points=points))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["rest, each < 1 %", r"own phase \u4e00", "kernel"]


def test_a_phase_looks_the_same_in_every_figure():
    def look(series):
        bars = figures.phases(series).axes[0].containers
        return {bar.get_label(): bar.patches[0].get_facecolor() for bar in bars}

    less = tuple(
        replace(p, phases={"gather": 0.1, "kernel": p.phases["kernel"]}) for p in weak().points
    )
    one, two = look(strong()), look(weak(points=less))
    assert two == {name: one[name] for name in two} and len(two) == 2


def test_every_phase_of_a_repeat_has_its_own_look():
    assert set(figures._PHASES) == set(clock.REPEATED)
    looks = [*figures._PHASES.values(), *figures._OTHER_PHASES]
    assert len(set(looks)) == len(looks)


def test_imbalance_has_a_dot_for_every_rank():
    series = strong()
    figure = figures.imbalance(series)
    dots = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert [line.get_ydata().size for line in dots] == [1, 2, 4, 8, 16]
    assert np.allclose(dots[3].get_ydata(), series.points[3].imbalance)
    worst = [f"{max(p.imbalance):.2f}" for p in series.points]
    assert [text.get_text() for text in figure.axes[0].texts] == worst


def test_imbalance_says_which_seconds_it_is_of():
    def label(series):
        return figures.imbalance(series).axes[0].get_ylabel()

    assert label(strong((1,))) == "Kernel seconds over mean of ranks"
    points = (replace(point(1, [1.0]), schedule="block"), point(2, [1.0]))
    assert label(strong((1, 2), points=points)) == "Busy seconds over mean of ranks"
    # Of the other point only kernel seconds are known.
    axes = figures.imbalance(strong((1, 2), points=points)).axes[0]
    dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [line.get_ydata().size for line in dots] == [1]


def test_many_ranks_stay_a_small_file():
    many = replace(point(20000, [1.0]), imbalance=tuple(np.linspace(0.9, 1.1, 20000)))
    text = drawing.svg(figures.imbalance(strong((1,), points=(many,))), "x", "")
    assert len(text) < 100_000 and "data:image/png;base64" in text


DEGENERATE = {
    "nothing": (),
    "one point": (strong((4,)),),
    "no success": (strong((1,), points=(failed_point(1, FAILED),), baseline=None, fits=()),),
    "weak only": (weak(),),
    "no records": (
        strong(points=tuple(replace(p, phases={}, imbalance=()) for p in strong().points)),
    ),
    "one launch": (strong(points=(point(1, [2.0]), point(2, [1.0], point(1, [2.0])))),),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_series_are_drawn_as_far_as_they_go(name, tmp_path):
    expected = {"nothing": 0, "one point": 2, "no success": 0, "weak only": 4, "no records": 2}
    drawn = figures.draw(analysis(*DEGENERATE[name]))
    assert len(drawn) == expected.get(name, 4)
    for each, figure in drawn.items():
        drawing.save(figure, tmp_path / f"{each}.svg")
        ElementTree.parse(tmp_path / f"{each}.svg")


def test_speedup_needs_a_baseline():
    with pytest.raises(ValueError, match="no launch succeeded"):
        figures.speedup(*DEGENERATE["no success"])


def test_widest_legend_fits():
    series = with_failures()
    fits = (
        replace(series.fits[0], identifiable=False),
        replace(series.fits[0], law="USL"),
    )
    for figure in (
        figures.speedup(limited(replace(series, fits=fits), 6.0)),
        figures.speedup(limited(replace(series, fits=fits), 1e6)),
        figures.efficiency(replace(series, fits=fits), 0.7),
    ):
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert 0.02 * figure.bbox.width < box.x0 and box.x1 < 0.98 * figure.bbox.width


def test_longest_axis_titles_fit():
    points = tuple(
        replace(p, ranks=1024 * p.ranks, seconds=replace(p.seconds, value=0.0012345))
        for p in weak().points
    )
    series = weak(points=points, baseline=points[0], fits=())
    for figure in (
        figures.speedup(series),
        figures.efficiency(series, 0.7),
        figures.phases(series),
        figures.imbalance(series),
    ):
        figure.draw_without_rendering()
        for axes in figure.axes:
            box = axes.yaxis.label.get_window_extent()
            assert 0 <= box.x0 and 0 <= box.y0 and box.y1 <= figure.bbox.height


def test_title_is_shown_as_it_is():
    figure = figures.speedup(strong(), title=TITLE)
    root = ElementTree.fromstring(drawing.svg(figure, "x", ""))
    assert TITLE in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert figures.speedup(strong()).get_suptitle() == ""


def test_files_have_the_same_bytes_every_time(tmp_path):
    contents = []
    for _ in range(2):
        paths = [tmp_path / f"speedup.{ending}" for ending in ("svg", "pdf")]
        for path in paths:
            drawing.save(figures.speedup(strong()), path, "what it shows")
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    svg, pdf = contents[0]
    assert ElementTree.fromstring(svg)[0].text == "what it shows"
    assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf and b"CreationDate" not in pdf


def test_ids_of_two_figures_differ_and_references_are_kept():
    drawn = figures.draw(analysis(strong(), weak()))
    texts = [drawing.svg(figure, name, "") for name, figure in drawn.items()]
    ids = [found for text in texts for found in re.findall(r'\bid="([^"]*)"', text)]
    assert len(ids) == len(set(ids))
    for text in texts:
        known = set(re.findall(r'\bid="([^"]*)"', text))
        used = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text)
        assert used and {one or other for one, other in used} <= known


def test_text_like_a_tag_is_kept():
    text = """<g id="a" href="#b" style="font: 10px 'DejaVu Sans'; clip-path: url(#c)">"""
    figure = Figure()
    figure.suptitle(text)
    root = ElementTree.fromstring(drawing.svg(figure, "x", text))
    assert [each.text for each in root.iter() if each.tag.endswith(("title", "text"))] == 2 * [text]


def test_settings_of_the_user_are_neither_used_nor_changed():
    before = dict(matplotlib.rcParams)
    plain = drawing.svg(figures.speedup(strong()), "x", "")
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "text.color": "red"}):
        assert drawing.svg(figures.speedup(strong()), "x", "") == plain


def test_pyplot_is_not_imported():
    script = "import sys, rankwise.report.figures; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "False", done.stderr


def test_two_sweeps_are_told_apart_in_colour_and_in_grey():
    a, b = strong((1, 2, 4)), strong((2, 4, 8))
    bad = replace(b, points=(replace(b.points[0], failed=(FAILED,)), *b.points[1:]))
    figure = figures.both(a, bad)
    shown = lines(figure)
    looks = []
    for name, series in (("A", a), ("B", b)):
        x, y, drawn = shown[f"{name}, 95 % interval"]
        assert list(y) == [point.seconds.value for point in series.points]
        assert np.allclose(x, [point.ranks for point in series.points], rtol=0.05)
        looks.append((drawn.get_color(), drawn.get_linestyle(), drawn.get_marker()))
    assert all(one != other for one, other in zip(*looks, strict=True))
    dots = [line for line in figure.axes[0].get_lines() if len(set(line.get_xdata())) == 1]
    assert [len(line.get_ydata()) for line in dots[:-1]] == [6] * 6
    x, *_ = shown["B, failed launches"]
    assert np.allclose(x, [2], rtol=0.05) and "A, failed launches" not in shown
    names = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert names == ["1", "2", "4", "8"]
    ticks = [float(text.get_text()) for text in figure.axes[0].get_yticklabels()]
    low, high = figure.axes[0].get_ylim()
    assert sum(low <= tick <= high for tick in ticks) >= 2


def test_ratios_stand_beside_no_change_and_the_limit():
    a, b = strong((1, 2, 4)), strong((1, 2, 4))
    values = (Estimate(1.2, 1.1, 1.3), Estimate(0.9, 0.8, 1.0), replace(NOTHING, value=1.05))
    points = zip(a.points, b.points, values, strict=True)
    pairs = [Pair("strong", one.ranks, one, other, ratio) for one, other, ratio in points]
    axes = figures.ratios(a, b, pairs, 0.25).axes[0]
    shown = lines(axes.figure)
    assert set(shown["no change"][1]) == {1} and set(shown["25 % slower"][1]) == {1.25}
    assert [list(values) for values in shown["ratio, 95 % interval"][:2]] == [
        [1, 2, 4],
        [1.2, 0.9, 1.05],
    ]
    bars = [s for c in axes.collections for s in c.get_segments()]
    assert np.allclose(bars, [[[1, 1.1], [1, 1.3]], [[2, 0.8], [2, 1.0]]])
    assert axes.get_ylim()[0] < 0.8 and axes.get_ylim()[1] > 1.3
    assert "25 % slower" not in lines(figures.ratios(a, b, pairs, None))


def test_two_sweeps_over_nodes():
    def over_nodes(ranks):
        series = strong(ranks)
        points = tuple(replace(p, nodes=p.ranks // 16) for p in series.points)
        return replace(series, points=points, axis="nodes")

    axes = figures.both(over_nodes((16, 32)), over_nodes((32, 64))).axes[0]
    assert axes.get_xlabel() == "Nodes, 16 MPI ranks each"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "4"]
    # One count on different nodes has no place of its own there.
    axes = figures.both(over_nodes((16, 32)), strong((16, 32))).axes[0]
    assert axes.get_xlabel().startswith("MPI ranks")
