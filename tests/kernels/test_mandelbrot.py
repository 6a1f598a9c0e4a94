"""The CPU variants, both ways to the counts, and the window; the GPU variants have other files."""

import math
from fractions import Fraction

import numpy as np
import pytest

from kernels import mandelbrot
from kernels.mandelbrot import area, coordinates, holds_the_set, iterations
from kernels.mandelbrot.numpy_ import counts as reference
from rankwise.node.variants import load
from tests.kernels.cuda_cases import CASES, CHAOS, window

# Centre and width: as by default, of a zoom, inside the cardioid, outside, far outside, and where
# each rounding tells.
DEFAULT = (-0.5, 0.5), 3.25
ZOOM = (-0.743643, 0.131825), 0.002
INSIDE = (-0.1, 0.0), 0.2
WINDOWS = [DEFAULT, ZOOM, INSIDE, ((3.0, 3.0), 1.0), ((1e200, -1e200), 1e190), CHAOS]

MINE = [case.values[0] for case in CASES if case.values[0].folder == "mandelbrot"]

every_variant = pytest.mark.parametrize("variant", ["numpy", "numba"])
both_ways = pytest.mark.parametrize("name", ["counts", "counts_by_period"])


def in_plain_python(first, points, x, y, limit):
    """Follow the definition in `kernels.mandelbrot` one operation at a time."""
    found = []
    for point in range(first, first + points):
        row, column = divmod(point, len(x))
        cr, ci = float(x[column]), float(y[row])
        zr = zi = 0.0
        k = 0
        while k < limit:
            a = zr * zr
            b = zi * zi
            if a + b > 4:
                break
            t = zr * zi
            zi = (t + t) + ci
            zr = (a - b) + cr
            k += 1
        found.append(k)
    return found


def exactly(cr, ci, limit):
    """Return the count of a point in exact arithmetic, and the least distance of |z|^2 from 4."""
    zr = zi = Fraction(0)
    nearest = 4
    for k in range(limit):
        size = zr * zr + zi * zi
        nearest = min(nearest, abs(size - 4))
        if size > 4:
            return k, nearest
        zr, zi = zr * zr - zi * zi + cr, 2 * zr * zi + ci
    return limit, nearest


def whole(function, n, place, limit):
    """Return the counts of a window as a square."""
    x, y = coordinates(n, *place)
    out = np.full((n, n), -7, np.int32)
    function(0, out.reshape(-1), x, y, limit)
    return out


def of_points(function, points, limit):
    """Return the counts of some complex numbers."""
    found = []
    for point in points:
        arguments = window(0, 1, np.array([point.real]), np.array([point.imag]), limit)
        function(*arguments)
        found += arguments[1].tolist()
    return found


def in_the_main_parts(c):
    """Return which points are in the cardioid or in the disc of period 2, by their equations."""
    root = np.sqrt(1 - 4 * c)
    return (np.abs(1 - root) < 1) | (np.abs(c + 1) < 0.25)


@pytest.mark.parametrize("case", [case for case in MINE if case.function == "counts"])
def test_reference_follows_the_definition(case):
    first, out, x, y, limit = case.arguments
    assert case.run("numpy")[0].tolist() == in_plain_python(first, out.size, x, y, limit)


@pytest.mark.parametrize("case", MINE)
def test_numba_has_the_counts_of_the_reference(case):
    case.check("numba")


@both_ways
@pytest.mark.parametrize("place", WINDOWS)
@pytest.mark.parametrize("limit", [1, 2, 7, 8, 9, 16, 17, 500])
def test_all_variants_have_the_same_counts(name, place, limit):
    import numba

    expected = whole(reference, 23, place, limit)
    assert (whole(getattr(load(mandelbrot, "numpy"), name), 23, place, limit) == expected).all()
    for threads in (1, 2, 3):
        numba.set_num_threads(threads)
        found = whole(getattr(load(mandelbrot, "numba"), name), 23, place, limit)
        assert found.tobytes() == expected.tobytes()


@both_ways
@every_variant
def test_any_pieces_of_a_window_have_the_counts_of_the_whole(name, variant):
    function = getattr(load(mandelbrot, variant), name)
    x, y = coordinates(20, *DEFAULT)
    # Fewer rows than columns.
    y = y[3:17]
    expected = np.array(in_plain_python(0, 280, x, y, 50), np.int32)
    for size in (1, 7, 20, 33, 279, 280):
        out = np.full(280, -7, np.int32)
        for first in range(0, 280, size):
            function(first, out[first : first + size], x, y, 50)
        assert out.tobytes() == expected.tobytes()


@both_ways
@every_variant
def test_nothing_beside_the_piece_is_written(name, variant):
    x, y = coordinates(20, *DEFAULT)
    for first, stop in ((0, 0), (11, 11), (400, 400), (11, 30)):
        out = np.full(400, -7, np.int32)
        getattr(load(mandelbrot, variant), name)(first, out[first:stop], x, y, 50)
        assert np.flatnonzero(out != -7).tolist() == list(range(first, stop))


def test_periods_give_the_same_counts_everywhere():
    rng = np.random.default_rng(20)
    fast = load(mandelbrot, "numba").counts_by_period
    for _ in range(12):
        centre = rng.uniform((-2, -1.2), (0.5, 1.2)).tolist()
        place = centre, 10.0 ** rng.uniform(-4, 0.5)
        for limit in (63, 64, 65, 1000):
            expected = whole(load(mandelbrot, "numba").counts, 60, place, limit)
            assert whole(fast, 60, place, limit).tobytes() == expected.tobytes()


@every_variant
def test_periods_end_an_orbit_at_once(variant):
    """A loop over all iterations would take many seconds for each of these points."""
    function = load(mandelbrot, variant).counts_by_period
    # The attracting cycles of these have 1 to 6 points; that of -2 is fixed, and repelling.
    centres = [0, -1, -0.1226 + 0.7449j, -1.3107, -1.6254, -1.4760, -2, 0.25 - 2**-10]
    most = 2**31 - 1
    assert of_points(function, map(complex, centres), most) == [most] * len(centres)


@both_ways
@every_variant
def test_counts_are_those_of_exact_arithmetic(name, variant):
    """On multiples of 1/64, where rounding is too small to matter in nine iterations.

    A rounding is below 1e-15, and an iteration enlarges it fourfold at most where ``|z| <= 2``.
    """
    rng = np.random.default_rng(20)
    points = rng.integers((-140, -80), (50, 80), (200, 2)) / 64
    points = [complex(*point) for point in points.tolist()] + [-2, 2, 2j, 0.25, -0.75 + 1j / 64]
    points = [complex(point) for point in points]
    exact = [exactly(Fraction(c.real), Fraction(c.imag), 10) for c in points]
    assert all(near == 0 or near > 1e-9 for _, near in exact)
    found = of_points(getattr(load(mandelbrot, variant), name), points, 10)
    assert found == [count for count, _ in exact]
    assert set(found) == set(range(1, 11))


@both_ways
@every_variant
def test_no_point_of_the_cardioid_and_the_disc_leaves(name, variant):
    x, y = coordinates(90, (-0.5, 0.0), 2.5)
    found = whole(getattr(load(mandelbrot, variant), name), 90, ((-0.5, 0.0), 2.5), 400)
    known = in_the_main_parts(x + 1j * y[:, None])
    assert (found[known] == 400).all()
    # They make up most of what stays: pi 3 / 8 + pi / 16 of 1.5066.
    share = known.sum() / (found == 400).sum()
    assert 0.85 < share < math.pi * 7 / 16 / mandelbrot.PUBLISHED_AREA


@both_ways
@every_variant
def test_points_whose_orbits_are_known(name, variant):
    function = getattr(load(mandelbrot, variant), name)
    # On the edge, and at the centre of the disc; 0 -> i -> -1 + i -> -i -> -1 + i.
    assert of_points(function, [-2 + 0j, 0.25 + 0j, 1j, -1 + 0j, 0j], 3000) == [3000] * 5
    above = np.nextafter(2, 3)
    far = [complex(c) for c in (above, -above, 1j * above, 1e200, -1e308j, 1.5 + 1.5j)]
    assert of_points(function, far, 3000) == [1] * len(far)
    assert of_points(function, far, 1) == [1] * len(far)
    # |c| = 2 has not left, c^2 + c has, but for -2.
    assert of_points(function, [2 + 0j, 2j], 3000) == [2, 2]


@both_ways
@every_variant
def test_counts_beside_the_necks_of_the_set_tell_pi(name, variant):
    """D. Boll's counts, which A. Klebanoff, Fractals 9, 2001, 393-402, proves to tend to pi."""
    function = getattr(load(mandelbrot, variant), name)
    cusp = [complex(0.25 + e) for e in (1, 1e-2, 1e-4, 1e-6)]
    assert of_points(function, cusp, 10**4) == [2, 30, 312, 3140]
    neck = [complex(-0.75, e) for e in (1, 1e-1, 1e-2, 1e-3)]
    assert of_points(function, neck, 10**4) == [3, 33, 315, 3143]


def test_area_is_the_published_one():
    """To within five standard errors of what the grid and the limit leave open.

    A neighbour on the other side of the edge stands for a square that the edge cuts: its part is
    0 or 1 in the count and something between in the area, which is off by 1/2 at most, either way.
    Of the points, about 1 / limit leave later; so as many as leave in the last half of the limit.
    """
    n, limit, (centre, width) = 600, 500, DEFAULT
    assert holds_the_set(centre, width)
    found = whole(load(mandelbrot, "numba").counts, n, (centre, width), limit)
    stays = found == limit
    edges = sum(np.count_nonzero(np.diff(stays, axis=axis)) for axis in (0, 1))
    late = np.count_nonzero((found > limit // 2) & ~stays)
    one = (width / n) ** 2
    error = 5 * math.sqrt(edges / 4 + late) * one
    assert error < 0.006
    assert abs(area(found, limit, width) - late * one - mandelbrot.PUBLISHED_AREA) < error


def test_area_counts_the_points_that_stay(monkeypatch):
    found = np.array([[1, 7, 7], [7, 6, 0], [2, 7, 7]], np.int32)
    for values in (1, 4, 9, 100):
        monkeypatch.setattr(mandelbrot, "VALUES", values)
        assert area(found, 7, 1.5) == 5 * 0.25
        assert iterations(found) == 44
    assert area(found, 8, 1e200) == 0
    most = np.full(3, 2**31 - 1, np.int32)
    assert iterations(most) == 3 * (2**31 - 1) and type(iterations(most)) is int
    assert iterations(most[:0]) == 0


def test_coordinates_are_midpoints():
    x, y = coordinates(4, (-1.0, 0.5), 2.0)
    assert x.tolist() == [-1.75, -1.25, -0.75, -0.25]
    assert y.tolist() == [-0.25, 0.25, 0.75, 1.25]
    assert x.dtype == y.dtype == np.float64
    x, y = coordinates(1, (0.1, -3.0), 1e-3)
    assert (x[0], y[0]) == (pytest.approx(0.1, rel=1e-15, abs=0), -3.0)


@pytest.mark.parametrize("place", WINDOWS)
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_coordinates_are_as_exact_as_float64(place, n):
    centre, width = place
    for side, middle in zip(coordinates(n, centre, width), centre, strict=True):
        # Of the corner and the sum half a unit in the last place; of the rest, 4 of 2^-53.
        bound = np.spacing(abs(middle) + width) + 4 * 2.0**-53 * width
        for i in (0, n // 2, n - 1):
            exact = Fraction(middle) + Fraction(width) * (
                Fraction(2 * i + 1, 2 * n) - Fraction(1, 2)
            )
            assert abs(Fraction(float(side[i])) - exact) <= Fraction(float(bound))


@pytest.mark.parametrize(
    ("n", "centre", "width", "why"),
    [
        (9, (math.nan, 0.0), 1.0, "must be finite"),
        (9, (0.0, -math.inf), 1.0, "must be finite"),
        (9, (0.0, 0.0), math.nan, "must be finite"),
        (9, (0.0, 0.0), math.inf, "must be finite"),
        (9, (0.0, 0.0), 0.0, "above 0"),
        (9, (0.0, 0.0), -1.0, "above 0"),
        (9, (1.7e308, 0.0), 1e308, "too large, or too far"),
        (9, (0.0, -1.7e308), 1e308, "too large, or too far"),
        (1, (-1.7e308, 0.0), 1.7e308, "too large, or too far"),
        (9, (1e308, 0.0), 1.0, "too close"),
        (9, (0.0, -0.75), 5e-16, "too close"),
        (9, (0.0, 0.0), 1e-323, "too close"),
        (2**13, (-0.75, 0.1), 2.0**-40, "too close"),
    ],
)
def test_windows_without_such_points_are_refused(n, centre, width, why):
    with pytest.raises(ValueError, match=why) as raised:
        coordinates(n, centre, width)
    assert "\n" not in str(raised.value)


def test_windows_may_be_as_small_as_float64_tells_their_points_apart():
    # Between 0.5 and 1 floats are 2^-53 apart: each midpoint is one, and each end of a part.
    x, _ = coordinates(2**12, (-0.75, 0.1), 2.0**-40)
    assert set(np.diff(x)) == {2.0**-52}


@pytest.mark.parametrize(
    ("centre", "width", "holds"),
    [
        ((-0.75, 0.0), 2.5, True),
        ((-0.75, 0.0), 2.4999, False),
        ((-0.5, 0.5), 3.25, True),
        ((-0.5, 0.5001), 3.25, False),
        ((-0.5, -0.5001), 3.25, False),
        ((-0.7, 0.0), 2.5, False),
        ((-0.8, 0.0), 2.5, False),
        ((0.0, 0.0), 1e3, True),
        ((3.0, 3.0), 1.0, False),
    ],
)
def test_which_windows_hold_the_set(centre, width, holds):
    assert holds_the_set(centre, width) == holds


def test_the_set_is_within_its_rectangle():
    (left, right), (low, high) = mandelbrot.REAL, mandelbrot.IMAGINARY
    x, y = coordinates(301, (0.0, 0.0), 4.5)
    stays = (
        whole(load(mandelbrot, "numba").counts_by_period, 301, ((0.0, 0.0), 4.5), 10**4) == 10**4
    )
    rows, columns = np.nonzero(stays)
    assert left <= x[columns.min()] and x[columns.max()] <= right
    assert low <= y[rows.min()] and y[rows.max()] <= high


@pytest.mark.parametrize("threads", [1, 3])
def test_numba_takes_so_many_points_at_once_that_each_thread_has_work(threads):
    import numba

    from kernels.mandelbrot import numba_

    numba.set_num_threads(threads)
    sizes = [numba_.at_once(10**digits) for digits in range(10)] + [numba_.at_once(2**31 - 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] <= numba_.MOST
    # Whole rounds of all lanes.
    lanes = threads * numba_.LANES
    assert sizes[3] == numba_.ITERATIONS // 1000 // numba_.LANES * lanes
    assert sizes[-1] == lanes and not any(size % lanes for size in sizes[2:])


def test_numpy_takes_few_points_at_once():
    at_once = load(mandelbrot, "numpy").at_once
    assert at_once(1) == at_once(2**31 - 1) == 2**12


def test_a_gpu_takes_many_points_at_once():
    sizes = [mandelbrot.at_once_on_gpu(limit) for limit in (1, 1000, 10**5, 2**31 - 1)]
    assert sizes == [2**22, 2**22, 2**33 // 10**5, 2**15]
