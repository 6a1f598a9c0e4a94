"""What a picture of a result shows, read from its axes and its pixels, and the command for it."""

import argparse
import itertools
import json
import resource
import tracemalloc
from io import BytesIO
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from matplotlib.colors import BoundaryNorm, LogNorm, to_rgba

from rankwise.disk import files, summary
from rankwise.disk import record as records
from rankwise.disk.record import Result
from rankwise.ranks.agreement import Stop
from rankwise.report import drawing, picture, show
from tests.analysis import examples

GRADIENT = np.add.outer(10.0 * np.arange(3), np.arange(4))
Y, X = Result(np.array([3.0, 4.0, 5.0]), "m", "rows"), Result(np.linspace(-1, 0, 4), "m", "columns")
PLATE = {"u": Result(GRADIENT, "K", "of a plate", ("y", "x")), "y": Y, "x": X}
PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Draw fewer pixels, which is faster."""
    monkeypatch.setattr(picture, "_DPI", 60)


def made(results, **attributes):
    """Return a record with these results: `Result`, or arrays of kelvins."""
    record = examples.record((), **attributes)
    for name, each in results.items():
        whole = each if isinstance(each, Result) else Result(np.asarray(each), "K", "")
        record.results[name] = whole
    record.attributes["results_sha256"] = records.digest(record.results)
    return record


def drawn(values, **more):
    """Draw the result `u`; return its figure, its axes and what is drawn in it."""
    figure = picture.draw(made({"u": values, **more}), "u")
    axes = figure.axes[0]
    return figure, axes, (axes.images or axes.collections or axes.lines)[0]


def bar(axes):
    """Return the axes of the colour bar, and what is written at its ticks."""
    (inset,) = axes.child_axes
    return inset, [text.get_text() for text in inset.get_yticklabels()]


def colours_at(figure, *places):
    """Return the colours of the pixels at places (x, y) of the axes, from the file."""
    pixels = image.imread(BytesIO(drawing.octets(figure, ".png", "picture", "")))
    there = figure.axes[0].transData.transform(places).round().astype(int)
    return pixels[len(pixels) - there[:, 1], there[:, 0]]


def require_colours(figure, places, values):
    """Make sure that the pixels at places have the colours of values."""
    shown = figure.axes[0].images[0]
    expected = shown.cmap(shown.norm(values))
    np.testing.assert_allclose(colours_at(figure, *places), expected, atol=1 / 255)


def caption(figure):
    return figure.get_supxlabel().replace("\n", " ")


@pytest.mark.parametrize("flip", [(), (0, 1)])
def test_every_element_is_where_its_coordinates_are(flip):
    """Also if they fall, as latitudes from north to south do."""
    y, x = (np.flip(each.values) if k in flip else each.values for k, each in enumerate((Y, X)))
    results = {"y": Result(y, "m", ""), "x": Result(x, "m", "")}
    values = Result(np.flip(GRADIENT, flip), "K", "", ("y", "x"))
    figure, axes, _ = drawn(values, **results)
    np.testing.assert_allclose(axes.get_ylim(), (2.5, 5.5), rtol=1e-12)
    np.testing.assert_allclose(axes.get_xlim(), (-7 / 6, 1 / 6), rtol=1e-12)
    places = [(each, other) for other in Y.values for each in X.values]
    require_colours(figure, places, GRADIENT.ravel())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x [m]", "y [m]")
    # A metre is as long upwards as to the right.
    box = axes.get_window_extent()
    assert box.height / box.width == pytest.approx(3 / (4 / 3), rel=0.01)


def test_without_coordinates_rows_are_those_of_a_matrix():
    figure, axes, _ = drawn(GRADIENT)
    assert axes.get_ylim() == (2.5, -0.5) and axes.get_xlim() == (-0.5, 3.5)
    require_colours(figure, [(j, i) for i, j in np.ndindex(3, 4)], GRADIENT.ravel())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("column", "row")
    assert all(float(place).is_integer() for place in axes.get_yticks())
    _, axes, _ = drawn(Result(GRADIENT, "K", "", ("y", "x")))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (column)", "y (row)")


def test_units_are_shown_and_others_have_no_common_scale():
    time = Result(np.array([0.0, 60.0, 120.0]), "s", "")
    values = Result(GRADIENT, "W/m²", "a flux", ("t", "x"))
    figure, axes, _ = drawn(values, t=time, x=X)
    figure.draw_without_rendering()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x [m]", "t [s]")
    assert bar(axes)[0].get_ylabel() == "u [W/m²]"
    assert figure.get_suptitle() == "demo: u, a flux"
    box = axes.get_window_extent()
    assert box.height / box.width == pytest.approx(0.75, rel=0.01) and caption(figure) == ""
    _, axes, _ = drawn(Result(GRADIENT, "1", ""))
    assert bar(axes)[0].get_ylabel() == "u"


@pytest.mark.parametrize(
    ("shape", "unit", "expected"),
    [((1, 5), "m", 1 / 5), ((5, 1), "m", 5), ((1, 1), "m", 1), ((1, 5), "s", 0.75)],
)
def test_a_sole_element_is_as_wide_as_the_others(shape, unit, expected):
    y, x = (1e-3 * np.arange(1, n + 1) for n in shape)
    values = Result(np.ones(shape), "K", "", ("y", "x"))
    figure, axes, _ = drawn(values, y=Result(y, "m", ""), x=Result(x, unit, ""))
    assert axes.get_box_aspect() == pytest.approx(expected, rel=1e-12)
    assert caption(figure) == ""
    for places, ticks in ((y, axes.get_yticks()), (x, axes.get_xticks())):
        assert places.size > 1 or ticks.tolist() == places.tolist()
    # Also where a step is smaller than the rounding of the place.
    if expected == 1 / 5:
        figure, axes, _ = drawn(values, y=Result(1e20 * y, "m", ""), x=Result(x, unit, ""))
        assert axes.get_ylabel() == "y [m]" and caption(figure) == "Not to scale."


def test_labels_of_a_short_side_do_not_overlap():
    y, x = (Result(1e-3 * np.arange(1, n + 1), "m", "") for n in (50, 2))
    figure, axes, _ = drawn(Result(np.ones((50, 2)), "K", "", ("y", "x")), y=y, x=x)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    inside = [box for box in boxes if box.x1 > axes.bbox.x0 and box.x0 < axes.bbox.x1]
    assert len(inside) > 1
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(inside))


def test_unevenly_spaced_coordinates_are_drawn_to_scale():
    x = Result(np.array([0.0, 1.0, 9.0, 11.0]), "m", "")
    figure, axes, _ = drawn(Result(GRADIENT, "K", "", ("y", "x")), x=x, y=Y)
    assert axes.get_xlim() == (-0.5, 12.0)
    # The edges are half-way.
    places = [(x, 4) for x in (0.3, 0.7, 4.8, 5.2, 9.8, 10.2)]
    require_colours(figure, places, GRADIENT[1, [0, 1, 1, 2, 2, 3]])


@pytest.mark.parametrize(
    "places", [[0, 2, 1, 3], [0, 0, 1, 2], [0, np.nan, 1, 2], [0, 1, 2, 1e301]]
)
def test_coordinates_that_are_no_axis_are_not_taken_for_one(places):
    x = Result(np.array(places, float), "m", "")
    figure, axes, _ = drawn(Result(GRADIENT, "K", "", ("y", "x")), x=x)
    assert axes.get_xlim() == (-0.5, 3.5) and axes.get_xlabel() == "x (column)"
    assert caption(figure) == "x is not sorted, so elements are counted."


@pytest.mark.parametrize(
    "values", [np.zeros(4, [("x", "f8")]), np.array([b"a", b"b", b"c", b"d"]), np.arange(4) + 1j]
)
def test_an_axis_without_numbers_is_not_taken_for_one(values):
    x = Result(values, "m", "")
    figure, axes, _ = drawn(Result(GRADIENT, "K", "", ("y", "x")), x=x)
    assert axes.get_xlim() == (-0.5, 3.5) and axes.get_xlabel() == "x (column)"
    assert caption(figure) == "x holds no numbers, so elements are counted."


def test_the_axis_of_a_line_takes_little_memory():
    t = Result(np.linspace(0, 1, 10**5), "s", "")
    results = {"u": Result(np.zeros(10**5), "K", "", ("t",)), "t": t}
    tracemalloc.start()
    try:
        side = picture._dimension(results, "u", 0)
        # The indices, and what is compared.
        assert tracemalloc.get_traced_memory()[1] < 1.5 * t.values.nbytes
    finally:
        tracemalloc.stop()
    assert side.places is t.values and side.edges is side.edges
    # A line needs no number between two coordinates.
    t = Result(1 + np.spacing(1.0) * np.arange(3), "s", "")
    for values, unit in ((np.ones(3), "s"), (np.ones((3, 2)), None)):
        u = Result(values, "K", "", ("t", "x")[: values.ndim])
        assert picture._dimension({"u": u, "t": t}, "u", 0).unit == unit


def test_colours_of_one_sign_and_of_both():
    _, _, shown = drawn(GRADIENT)
    assert shown.cmap.name == "cividis" and (shown.norm.vmin, shown.norm.vmax) == (0, 23)
    _, _, shown = drawn(GRADIENT - 20)
    assert shown.cmap.name == "RdBu_r" and (shown.norm.vmin, shown.norm.vmax) == (-20, 20)
    np.testing.assert_allclose(shown.cmap(shown.norm(0.0))[:3], 0.97, atol=0.01)
    # What is left of rounding is no second sign.
    _, _, shown = drawn(GRADIENT - 0.2)
    assert shown.cmap.name == "cividis" and shown.norm.vmin == -0.2


def test_counts_of_many_sizes_have_a_logarithmic_scale():
    counts = np.ones((20, 20), np.int32)
    counts[:5, :5] = np.arange(1, 5001, 200).reshape(5, 5)
    _, axes, shown = drawn(Result(counts, "1", "until it is far away"))
    assert isinstance(shown.norm, LogNorm) and shown.norm.vmax == 4801
    assert isinstance(drawn(np.minimum(counts, 500))[2].norm, LogNorm)
    inset, written = bar(axes)
    assert inset.get_ylabel() == "u, logarithmic"
    assert {"1", "10", "100", "1000"} <= set(written) and "$" not in "".join(written)
    # Most are large; the smallest is 0; they span less than two decades.
    for other in (5001 - counts, counts - 1, np.minimum(counts, 99)):
        assert not isinstance(drawn(other)[2].norm, LogNorm)


def test_labels_have_a_colour_and_a_tick_each():
    labels = np.arange(12).reshape(3, 4) % 4 + 2
    _, axes, shown = drawn(Result(labels, "1", "cluster of each point"))
    assert isinstance(shown.norm, BoundaryNorm) and shown.get_interpolation() == "nearest"
    assert bar(axes)[1] == ["2", "3", "4", "5"]
    assert len({shown.cmap(shown.norm(level)) for level in range(2, 6)}) == 4
    _, axes, _ = drawn(labels > 3)
    assert bar(axes)[1] == ["False", "True"]
    # As float64 these are one number.
    assert bar(drawn(np.array([[2**60, 2**60 + 1]]))[1])[1] == ["1.15292e+18"]
    assert not isinstance(drawn(10 * labels)[2].norm, BoundaryNorm)


@pytest.mark.parametrize(("shift", "grey"), [(0, "0.8"), (-20, "0.5")])
def test_what_is_no_number_is_grey(shift, grey):
    values = GRADIENT + shift
    values[0, 1], values[2, 3], values[1, 0] = np.nan, np.inf, -1e301
    figure, _, shown = drawn(values)
    for found in colours_at(figure, (1, 0), (3, 2), (0, 1)):
        np.testing.assert_allclose(found, to_rgba(grey), atol=1 / 255)
    assert (shown.norm.vmin >= -20) and shown.norm.vmax <= 22
    assert caption(figure) == "3 of 12 elements are no finite numbers: grey."


# What the cones of others make of linear red, green and blue: Machado et al. 2009, table 1.
EYES = {
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                 [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(colours, eyes):
    """Return CIELAB of sRGB colours as somebody sees them."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(EYES[eyes]), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    parts = seen @ np.transpose(to_xyz) / [0.9505, 1, 1.089]
    x, y, z = np.where(parts > 0.008856, np.cbrt(parts), 7.787 * parts + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@pytest.mark.parametrize("eyes", EYES)
def test_colours_differ_from_grey_and_in_lightness_for_all(eyes):
    for name, grey in (picture.ONE_SIGN, picture.BOTH_SIGNS):
        colours = lab(matplotlib.colormaps[name](np.linspace(0, 1, 256))[:, :3], eyes)
        missing = lab(np.array([to_rgba(grey)[:3]]), eyes)
        assert np.linalg.norm(colours - missing, axis=1).min() > 18
        half = 128 if name == "RdBu_r" else 256
        assert (np.diff(colours[5:half:5, 0]) > 0).all()
        assert (np.diff(colours[half::5, 0]) < 0).all()


def test_too_many_points_are_means_of_blocks(monkeypatch):
    monkeypatch.setattr(picture, "MOST_POINTS", 4)
    values = np.random.default_rng(1).random((9, 5)).astype("f4")
    y = Result(2.0 * np.arange(9), "m", "")
    figure, axes, shown = drawn(Result(values, "K", "", ("y", "x")), y=y)
    expected = [
        [values[i : i + 3, j : j + 2].mean(dtype=float) for j in (0, 2, 4)] for i in (0, 3, 6)
    ]
    np.testing.assert_allclose(shown.get_array(), expected, rtol=1e-12)
    # The last block is narrower, and no larger than that in the picture.
    assert axes.get_xlim() == (-0.5, 4.5) and shown.get_extent() == [-0.5, 5.5, -1, 17]
    assert caption(figure) == "A point is the mean of 3 x 2 elements."
    values[4, 0] = np.nan
    figure, _, shown = drawn(values)
    assert np.ma.getmaskarray(shown.get_array()).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert caption(figure).endswith("1 of 45 elements are no finite numbers: grey.")
    values[::3, ::2] = np.nan
    with pytest.raises(Stop, match="every point has an element that is no finite number: A point"):
        drawn(values)


def test_labels_have_no_mean(monkeypatch):
    monkeypatch.setattr(picture, "MOST_POINTS", 3)
    labels = np.arange(30).reshape(5, 6) % 7
    figure, _, shown = drawn(labels)
    assert shown.get_array().tolist() == labels[::2, ::2].tolist()
    assert caption(figure) == "A point is one of 2 x 2 elements."


ODD = {
    "constant": np.full((3, 4), 300.0),
    "all true": np.ones((2, 2), bool),
    "one element": np.array([[7.25]]),
    "one row": np.arange(200.0)[None],
    "half precision": np.array([[6e4, 5e4], [4e4, np.inf]], "f2"),
    "large": np.array([[1e299, -1e299]]),
    "tiny": np.array([[0, 5e-324]]),
    "next to each other": np.array([[1, np.nextafter(1, 2)]]),
    "unsigned": np.array([[0, 2**64 - 1]], np.uint64),
    "smallest": np.array([[-(2**63), 0, 2**63 - 1]]),
    "line of one": np.array([3.5]),
    "line of truths": np.arange(9) % 2 == 0,
    "line of large numbers": np.array([1e299, -1e299, np.inf]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_arrays_are_drawn(name):
    # Warnings are errors here.
    figure, axes, shown = drawn(ODD[name])
    if name in ("constant", "tiny", "smallest", "line of one"):
        assert drawing.octets(figure, ".png", "picture", "").startswith(PNG)
    else:
        figure.draw_without_rendering()
    if name == "constant":
        assert bar(axes)[1] == [f"{ODD[name].flat[0]:g}"]
        assert shown.norm.vmin == ODD[name].flat[0]
    if name == "one row":
        assert caption(figure) == "Not to scale."
    for text in (figure._suptitle, axes.xaxis.label, axes.yaxis.label):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height


@pytest.mark.parametrize("shape", [(1, 200), (60, 60)])
def test_the_colour_bar_is_as_long_as_the_image_and_inside(shape):
    figure, axes, _ = drawn(np.random.default_rng(1).random(shape))
    figure.draw_without_rendering()
    box, inset = axes.get_window_extent(), axes.child_axes[0]
    length = inset.get_window_extent()
    if shape[1] > 2 * shape[0]:
        assert (length.x0, length.x1) == pytest.approx((box.x0, box.x1))
        assert inset.get_xlabel() == "u [K]"
    else:
        assert (length.y0, length.y1) == pytest.approx((box.y0, box.y1))
    whole = inset.get_tightbbox()
    assert whole.x1 <= figure.bbox.width and whole.y0 >= 0


def test_few_elements_are_dots_and_more_a_line():
    values = Result(np.array([3, 1, 2]), "1", "points of the clusters", ("cluster",))
    _, axes, dots = drawn(values)
    assert (dots.get_linestyle(), dots.get_marker()) == ("None", "o")
    assert dots.get_xydata().tolist() == [[0, 3], [1, 1], [2, 2]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("cluster (index)", "u")
    assert all(float(place).is_integer() for place in axes.get_yticks())
    t = Result(1e-3 * np.arange(60), "s", "")
    _, axes, line = drawn(Result(np.arange(60.0) ** 2, "V", "", ("t",)), t=t)
    assert line.get_linestyle() == "-" and not any(line.get_markevery())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("t [s]", "u [V]")
    assert line.get_xdata().tolist() == t.values.tolist()


def test_a_line_has_gaps_and_what_is_alone_is_a_dot():
    values = np.arange(60.0)
    values[[0, 2, 30]] = np.nan
    figure, _, line = drawn(values)
    assert np.isnan(line.get_ydata()[[0, 2, 30]]).all()
    assert np.flatnonzero(line.get_markevery()).tolist() == [1]
    assert caption(figure) == "3 of 60 elements are no finite numbers: left out."


def test_of_a_long_line_the_smallest_and_largest_are_drawn(monkeypatch):
    monkeypatch.setattr(picture, "LONGEST", 10)
    monkeypatch.setattr(picture, "PIECES", 3)
    values = np.arange(11.0)
    values[1], values[5], values[9:] = 99, np.nan, np.nan
    values[8] = -7
    figure, _, filled = drawn(values)
    (path,) = (each.vertices for each in filled.get_paths())
    assert {(2, 0), (2, 99), (6, 4), (6, 7), (10, -7)} <= {tuple(map(float, v)) for v in path}
    assert caption(figure).startswith(
        "From the smallest to the largest of 4 elements each. 3 of 11"
    )


def test_the_largest_of_two_dimensions_is_drawn_first():
    results = made(
        {"small": np.ones((2, 2)), "large": np.ones((2, 3)), "long": np.ones(99)}
    ).results
    assert picture.choose(results, None) == "large"
    assert picture.choose(results, "long") == "long"
    lines = made({"t": np.arange(3.0), "v": Result(np.ones(3), "V", "", ("t",))}).results
    assert picture.choose(lines, None) == "v"
    assert picture.choose(made({"t": Result(np.ones(3), "s", "", ("t",))}).results, None) == "t"
    assert picture.choose(made({"e": np.ones((0, 9)), "t": np.ones(3)}).results, None) == "t"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (
            "none",
            "there is no result 'none': the record holds cube (2 x 2 x 2), empty (0 x 3), one ",
        ),
        ("one", "the result 'one' has 0 dimensions, and one or two can be drawn"),
        ("cube", "the result 'cube' has 3 dimensions"),
        ("empty", "the result 'empty' is empty, or holds no numbers: its shape is (0, 3)"),
        ("text", "the result 'text' is empty, or holds no numbers"),
        (None, "there is no array of one or two dimensions to draw: the record holds cube"),
    ],
)
def test_what_cannot_be_drawn_is_told(wanted, why):
    arrays = {"cube": np.ones((2, 2, 2)), "empty": np.ones((0, 3)), "one": np.float64(1)}
    with pytest.raises(Stop) as caught:
        picture.choose(made({**arrays, "text": np.array([b"a", b"b"])}).results, wanted)
    assert str(caught.value).startswith(why) and caught.value.status == 2


def test_words_of_a_record_are_shown_as_they_are():
    words = (
        "of $x$ <&>, \N{GREEK SMALL LETTER ALPHA} \N{SNOWMAN}\u4e2d\x07\n\udc80\u202e" + 99 * " and"
    )
    figure = picture.draw(made({"u": Result(GRADIENT, "$K$", words)}, unchecked="no check"), "u")
    title = figure.get_suptitle()
    shown = "of $x$ <&>, \N{GREEK SMALL LETTER ALPHA} \N{SNOWMAN}\\u4e2d\\x07 \\udc80\\u202e"
    assert title.startswith(f"demo, unchecked: u, {shown}\nand and")
    assert title.endswith(" ...") and len(title.splitlines()) == 3
    root = ElementTree.fromstring(drawing.octets(figure, ".svg", "picture", ""))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "u [$K$]" in texts


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return a function that runs ``rankwise show p.h5 ...``; there is a record of a plate."""
    monkeypatch.chdir(tmp_path)
    record = made(PLATE)
    whole = files.hdf5_image(lambda file: records._fill(file, record))
    (tmp_path / "p.h5").write_bytes(whole)

    def run(*words):
        parser = argparse.ArgumentParser()
        show.add_arguments(parser)
        try:
            status = show.main(parser.parse_args(["p.h5", *words]))
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


def test_the_command_tells_what_it_drew(command, tmp_path):
    status, said, error = command("--picture", "y.PNG", "--result", "y", "--json")
    assert (status, error) == (0, "") and len(said.splitlines()) == 1
    told = json.loads(said)["picture"]
    assert told == {"file": "y.PNG", "result": "y", "shape": [3]}
    assert summary._files("p.h5", told)[1] == "  picture   y.PNG: y, 3 elements"
    assert "picture" not in command()[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.h5", "y.PNG"]
    assert (tmp_path / "y.PNG").read_bytes().startswith(PNG)
    assert picture.is_picture(tmp_path / "y.PNG")


@pytest.mark.parametrize(
    ("ending", "magic", "raster"),
    [(".png", PNG, b""), (".svg", b"<svg", b"data:image/png;"), (".pdf", b"%PDF", b"/Image")],
)
def test_files_have_the_same_bytes_every_time_and_are_small(tmp_path, ending, magic, raster):
    plate = np.add.outer(np.arange(99.0), np.arange(99.0))
    record = made({"u": Result(plate, "K", "of a plate")})
    # A PDF takes long; that of a figure is written twice in its own tests.
    names = "a" if ending == ".pdf" else "ab"
    paths = [picture.write(record, "u", tmp_path / f"{name}{ending}", False) for name in names]
    octets = paths[0].read_bytes()
    assert octets.startswith(magic) and octets == paths[-1].read_bytes()
    assert b"Date" not in octets and b"demo: u, of a plate" in octets
    assert raster in octets and len(octets) < 100_000


def test_a_file_is_replaced_only_with_force_and_if_it_is_a_picture(command, tmp_path):
    path = tmp_path / "m.png"
    path.write_bytes(b"mine")
    asked = ("--picture", "m.png")
    for words, why in (((), "exists; --force replaces a picture"), (("--force",), "is not a pict")):
        status, said, error = command(*asked, *words)
        assert (status, said, path.read_bytes()) == (2, "", b"mine")
        assert error.startswith(f"rankwise show: error: --picture m.png {why}")
        assert len(error.splitlines()) == 1
    path.write_bytes(PNG)
    status, said, error = command(*asked, "--force")
    assert (status, error) == (0, "") and path.stat().st_size > 1000
    assert "  record    p.h5\n  picture   m.png: u, 3 x 4\n" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--picture", "m.jpg"], "argument --picture: 'm.jpg' does not end in .png, .svg or .pdf"),
        (["--picture", ".png"], "argument --picture: '.png' has no name before its ending"),
        (["--picture", "no/m.png"], "--picture no/m.png: there is no folder no"),
        (
            ["--picture", "m.png", "--result", "z"],
            "there is no result 'z': the record holds u (3 x",
        ),
        (["--result", "u"], "--result and --force are for a --picture FILE.png"),
        (["--force"], "--result and --force are for a --picture FILE.png"),
    ],
)
def test_mistakes(command, tmp_path, words, why):
    status, said, error = command(*words)
    assert (status, said) == (2, "") and why in error.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["p.h5"]


def test_nothing_but_missing_numbers_is_no_picture():
    with pytest.raises(Stop, match="no element of 'u' is a number below 1e\\+300 that can"):
        picture.draw(made({"u": np.full((2, 2), np.nan)}), "u")


def test_a_write_that_fails_leaves_nothing(command, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        status, said, error = command("--picture", "m.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (status, said) == (1, "")
    assert error == "rankwise show: error: cannot write m.png: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["p.h5"]
