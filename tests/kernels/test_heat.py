"""The CPU variants, the closed form and its bounds; the GPU variants have files of their own."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import heat
from kernels.heat import (
    LOW,
    MODES,
    STABLE,
    UNIT,
    amplitude_bound,
    amplitudes,
    error_bound,
    factor,
    initial,
    sine,
)
from kernels.heat.numpy_ import step as reference
from rankwise.node.variants import load
from tests.kernels.cuda_cases import CASES, Case, plates

# Points inside the ring, along y and x.
SHAPES = [(0, 0), (0, 4), (4, 0), (1, 1), (1, 2), (2, 1), (2, 2), (3, 17), (33, 8), (65, 130)]

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def exact_sine(fraction):
    """Return ``sin(pi * fraction)`` by its series, for fractions of at most 4, within 1e-30."""
    with localcontext(prec=60):
        x = PI * fraction.numerator / fraction.denominator
        term, total = x, Decimal(0)
        for k in range(1, 80, 2):
            total += term
            term *= -x * x / ((k + 1) * (k + 2))
    return Fraction(total)


def in_plain_python(u, out, r):
    """Follow the definition in `kernels.heat` one operation at a time."""
    u = u.tolist()
    for i in range(1, len(u) - 1):
        for j in range(1, len(u[0]) - 1):
            vertical = u[i - 1][j] + u[i + 1][j]
            horizontal = u[i][j - 1] + u[i][j + 1]
            out[i, j] = u[i][j] + r * ((vertical + horizontal) - 4 * u[i][j])


def walk(u, r, steps, step=reference):
    """Return the state ``steps`` steps after ``u``, which has a ring of zeros."""
    u = u.copy()
    out = np.zeros_like(u)
    for _ in range(steps):
        step(u, out, r)
        u, out = out, u
    return u


def plate(ny, nx, rows=None):
    """Return a state with a ring of zeros: the given one, or the built-in one."""
    u = np.zeros((ny + 2, nx + 2))
    if rows is None:
        initial(ny, nx)(0, u[1:-1, 1:-1])
    else:
        u[1:-1, 1:-1] = rows
    return u


def random_plate(ny, nx, scale=1.0):
    return plate(ny, nx, np.random.default_rng([ny, nx]).uniform(-scale, scale, (ny, nx)))


def distance(u, start, r, steps):
    """Return by how much a state differs from the closed form, as a share of the bound."""
    ny, nx = (n - 2 for n in u.shape)
    error = np.abs(u - factor(ny, nx, MODES, r) ** steps * start).max()
    return error / error_bound(ny, nx, r, steps)


def amplitude_distance(u, start, r, steps):
    """Return by how much amplitudes differ from the closed form, as shares of their bounds."""
    ny, nx = (n - 2 for n in u.shape)
    powers = [[factor(ny, nx, (p, q), r) ** steps for q in LOW] for p in LOW]
    after, before = (amplitudes(state[1:-1, 1:-1], 0, ny) for state in (u, start))
    bound = amplitude_bound(ny, nx, r, steps, float(np.abs(start).max()))
    return np.abs(after - powers * before) / bound


@pytest.mark.parametrize(("ny", "nx"), SHAPES[:-1])
@pytest.mark.parametrize("r", [STABLE, 0.2371, 0.1])
def test_reference_follows_the_definition(ny, nx, r):
    u, out = plates(ny, nx)
    expected = out.copy()
    reference(u, out, r)
    in_plain_python(u, expected, r)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("ny", "nx"), SHAPES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_numba_has_the_bits_of_the_reference(ny, nx, threads):
    import numba

    numba.set_num_threads(threads)
    # The whole arrays are compared, and so the ring, which is NaN.
    Case("heat", "step", (*plates(ny, nx), 0.2371)).check("numba")


@pytest.mark.parametrize("case", [case for case in CASES if case.values[0].folder == "heat"])
def test_numba_has_the_bits_of_the_reference_in_rows_of_an_array(case):
    case.check("numba")


@pytest.mark.parametrize("variant", ["numpy", "numba"])
@pytest.mark.parametrize("pieces", [[5], [1, 4], [1, 1, 1, 1, 1], [2, 0, 3]])
def test_pieces_of_the_plate_have_the_bits_of_the_whole(variant, pieces):
    step = load(heat, variant).step
    u, whole = plates(5, 30)
    cut = whole.copy()
    reference(u, whole, 0.2)
    first = 0
    for rows in pieces:
        step(u[first : first + rows + 2], cut[first : first + rows + 2], 0.2)
        first += rows
    assert cut.tobytes() == whole.tobytes()


@pytest.mark.parametrize("variant", ["numpy", "numba"])
def test_extreme_values_have_the_bits_of_the_definition(variant):
    values = np.array([5e-324, -5e-324, 1e-308, -0.0, 0.0, 1e300, -1e307, 1.0])
    u = np.random.default_rng(0).choice(values, (40, 50))
    out, expected = (np.full(u.shape, np.nan) for _ in range(2))
    load(heat, variant).step(u, out, 0.1)
    in_plain_python(u, expected, 0.1)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("variant", ["numpy", "numba"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.7e308])
def test_what_is_not_finite_shows_in_its_neighbours_alone(variant, bad):
    u, out = np.ones((7, 9)), np.ones((7, 9))
    u[3, 4] = bad
    load(heat, variant).step(u, out, STABLE)
    reached = {(3, 4), (2, 4), (4, 4), (3, 3), (3, 5)}
    assert set(zip(*np.nonzero(out != 1), strict=True)) == reached
    assert not np.isfinite(out[3, 4])


@given(st.integers(1, 60), st.integers(1, 4))
def test_sine_is_as_exact_as_it_says(n, mode):
    for i, value in enumerate(sine(n, mode).tolist(), 1):
        exact = exact_sine(Fraction(mode * i, n + 1))
        assert abs(Fraction(value) - exact) <= Fraction(2.4 * UNIT)


def test_sine_is_kept_and_not_to_be_changed():
    assert sine(7, 2) is sine(7, 2)
    with pytest.raises(ValueError, match="read-only"):
        sine(7, 2)[0] = 1


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 2, 3]), st.floats(0, STABLE))
def test_factor_is_as_exact_as_the_bounds_say(ny, nx, p, r):
    q = MODES[0]
    squares = exact_sine(Fraction(p, 2 * ny + 2)) ** 2 + exact_sine(Fraction(q, 2 * nx + 2)) ** 2
    exact = 1 - 4 * Fraction(r) * squares
    f = factor(ny, nx, (p, q), r)
    assert abs(Fraction(f) - exact) <= Fraction((14 * (1 - f) + abs(f)) * UNIT)


def test_initial_fills_any_rows_with_the_same_bits():
    whole = np.empty((7, 5))
    fill = initial(7, 5)
    fill(0, whole)
    assert whole.tobytes() == np.outer(sine(7, MODES[0]), sine(5, MODES[1])).tobytes()
    for first, rows in ((0, 3), (3, 4), (6, 1), (7, 0)):
        part = np.empty((rows, 5))
        fill(first, part)
        assert part.tobytes() == whole[first : first + rows].tobytes()


@pytest.mark.parametrize("variant", ["numpy", "numba"])
@pytest.mark.parametrize("r", [STABLE, 0.2371, 0.1, 1e-3])
@pytest.mark.parametrize(("ny", "nx"), [(1, 1), (2, 2), (3, 5), (10, 13), (64, 48), (150, 120)])
@pytest.mark.parametrize("steps", [0, 1, 2, 300])
def test_closed_form(variant, ny, nx, r, steps):
    start = plate(ny, nx)
    u = walk(start, r, steps, load(heat, variant).step)
    assert distance(u, start, r, steps) <= 1


@pytest.mark.parametrize("r", [STABLE, 0.1])
def test_bound_is_tight(r):
    start = plate(150, 120)
    assert 1 / 30 < distance(walk(start, r, 300), start, r, 300) <= 1


@pytest.mark.parametrize("r", [STABLE, 0.1, 1e-6])
@pytest.mark.parametrize(("ny", "nx"), [(1, 1), (10, 13), (1024, 700)])
@pytest.mark.parametrize("steps", [0, 1, 30, 10**5])
def test_bounds_are_no_more_than_their_terms(ny, nx, r, steps):
    """The errors of the steps added up one by one, as the kernel's docstring lists them.

    In their place the bounds have the smaller one of the number of steps and the sum without an
    end: at most 1.6 times as much, where these are the same.
    """

    def terms(p, q, a_step):
        f = factor(ny, nx, (p, q), r)
        last, made = abs(f) ** steps, 19 * (1 - f) + abs(f)
        predicted = steps * abs(f) ** max(steps - 1, 0) * made + 3 * last
        return a_step(f) * (abs(f) ** np.arange(steps)).sum() + predicted, last

    expected, _ = terms(*MODES, lambda f: 8 * r + 2 * (1 - f) + abs(f))
    found = heat.error_bound(ny, nx, r, steps) / UNIT / (expected + 12)
    assert 1 - 1e-9 < found < 1.6

    found = heat.amplitude_bound(ny, nx, r, steps, 3.0) / (3 * nx * ny * UNIT)
    for index, each in np.ndenumerate(found):
        expected, last = terms(*(LOW[i] for i in index), lambda f: 24 * r + 1)
        assert 1 - 1e-9 < each / (expected + (ny + nx + 5) * (1 + last)) < 1.6


@pytest.mark.parametrize(("ny", "nx", "steps"), [(10, 13, 40), (64, 48, 300), (150, 120, 300)])
def test_bounds_notice_a_step_more_or_less(ny, nx, steps):
    start, other = plate(ny, nx), random_plate(ny, nx)
    for taken in (steps - 1, steps + 1):
        assert distance(walk(start, STABLE, taken), start, STABLE, steps) > 1e6
        assert amplitude_distance(walk(other, STABLE, taken), other, STABLE, steps).max() > 1e4


def stale_halo(u, out, r):
    """Take a step in two pieces, the lower of which gets its upper halo from one row too far up."""
    reference(u, out, r)
    half = len(u) // 2
    piece = u[half - 1 :].copy()
    piece[0] = u[half - 2]
    reference(piece, out[half - 1 :], r)


def test_bounds_notice_one_wrong_halo_row():
    start, other = plate(64, 48), random_plate(64, 48)
    for wrong in (0, 50, 99):
        states = [start, other]
        for number in range(100):
            step = stale_halo if number == wrong else reference
            states = [walk(state, STABLE, 1, step) for state in states]
        assert distance(states[0], start, STABLE, 100) > 1e6
        assert amplitude_distance(states[1], other, STABLE, 100).max() > 1e6


def test_bounds_notice_swapped_axes():
    start = plate(30, 30)
    turned = np.ascontiguousarray(start.T)
    assert distance(walk(turned, STABLE, 10), start, STABLE, 10) > 1e6


@pytest.mark.parametrize("r", [STABLE, 0.1])
@pytest.mark.parametrize(("ny", "nx"), [(1, 1), (2, 3), (10, 13), (64, 48)])
@pytest.mark.parametrize("steps", [0, 1, 200])
@pytest.mark.parametrize("scale", [1.0, 1e-300, 5e-324, 1e300])
def test_amplitudes_decay_as_known(ny, nx, r, steps, scale):
    start = random_plate(ny, nx, scale)
    shares = amplitude_distance(walk(start, r, steps), start, r, steps)
    assert np.isfinite(shares).all() and shares.max() <= 1


def test_amplitudes_decay_as_known_where_rounding_has_a_direction():
    # The same value everywhere: what is lost at one point is lost at most of them.
    for value in (1 / 3, 0.1, 1.0):
        start = plate(40, 30, value)
        assert amplitude_distance(walk(start, 0.1, 300), start, 0.1, 300).max() <= 1


def test_amplitudes_of_the_pieces_add_up():
    u = random_plate(40, 30)[1:-1, 1:-1]
    whole = amplitudes(u, 0, 40)
    parts = sum(amplitudes(u[first : first + 7], first, 40) for first in range(0, 40, 7))
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-12)
    assert not amplitudes(u[:0], 40, 40).any()
    assert not amplitudes(np.empty((3, 0)), 0, 3).any()


def test_amplitudes_are_those_of_the_sines():
    found = amplitudes(plate(40, 30)[1:-1, 1:-1], 0, 40)
    expected = np.zeros((3, 3))
    expected[LOW.index(MODES[0]), LOW.index(MODES[1])] = 41 * 31 / 4
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("variant", ["numpy", "numba"])
@pytest.mark.parametrize(("ny", "nx"), [(1, 1), (7, 12), (40, 31)])
def test_steps_are_those_of_the_sine_transform(variant, ny, nx):
    # Here, since MPI stages read this file without SciPy. DST-I diagonalises the step.
    from scipy import fft

    start, steps, r = random_plate(ny, nx), 25, 0.2371
    factors = [
        [factor(ny, nx, (p, q), r) ** steps for q in range(1, nx + 1)] for p in range(1, ny + 1)
    ]
    after = fft.idstn(factors * fft.dstn(start[1:-1, 1:-1], type=1), type=1)
    found = walk(start, r, steps, load(heat, variant).step)[1:-1, 1:-1]
    np.testing.assert_allclose(found, after, rtol=0, atol=1e-13)


@pytest.mark.parametrize("alpha", [1e-4, 0.7, 3.0, 1e10])
@pytest.mark.parametrize("dx", [1e-3, 1 / 3, 0.7, 1e5])
def test_ratio_up_to_the_longest_step(alpha, dx):
    limit = heat.longest_step(alpha, dx)
    assert heat.ratio(alpha, limit, dx) == pytest.approx(heat.STABLE, rel=1e-15)
    assert heat.ratio(alpha, limit, dx) <= heat.STABLE
    assert heat.ratio(alpha, limit / 5, dx) == pytest.approx(0.05, rel=1e-15)
    with pytest.raises(ValueError, match="is not stable: the largest is"):
        heat.ratio(alpha, limit * (1 + 1e-12), dx)


@pytest.mark.parametrize("dx", [1e-200, 1e200])
def test_ratio_that_is_no_number(dx):
    with pytest.raises(ValueError, match="out of range"):
        heat.ratio(1e-4, 1.0, dx)
