"""The CPU variants, the closed form and its bounds; the GPU variants have files of their own."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import heat
from kernels.heat import (
    MODES,
    STABLE,
    UNIT,
    error_bound,
    factor,
    initial,
    sine,
)
from kernels.heat.check import LARGEST, compare
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


def compared(u, start, r, steps):
    """Compare a state with what sine transforms predict of its first one."""

    def fill(first, rows):
        rows[...] = start[1:-1, 1:-1][first : first + len(rows)]

    return compare(fill, False, np.ascontiguousarray(u[1:-1, 1:-1]), r, steps)


def share(found):
    """Return the error of a comparison as a part of its bound."""
    assert np.isfinite(found.bound) and found.bound > 0
    return found.error / found.bound


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
        return a_step(f) * (abs(f) ** np.arange(steps)).sum() + predicted

    expected = terms(*MODES, lambda f: 8 * r + 2 * (1 - f) + abs(f))
    found = heat.error_bound(ny, nx, r, steps) / UNIT / (expected + 12)
    assert 1 - 1e-9 < found < 1.6

    # Of a step by the largest factor; and of two transforms.
    rho = factor(ny, nx, (1, 1), r)
    expected = max(steps, 1) * (24 * r + 1) * rho ** (max(steps, 1) - 1)
    expected += 14 * np.log2(4 * (ny + 1) * (nx + 1))
    found = heat.transform_bound(ny, nx, r, max(steps, 1), 3.0, 5e-15, 0)
    assert found == pytest.approx(3 * expected * UNIT + 5e-15, rel=1e-6, abs=0)


@pytest.mark.parametrize(("ny", "nx", "steps"), [(10, 13, 40), (64, 48, 300), (150, 120, 300)])
def test_bounds_notice_a_step_more_or_less(ny, nx, steps):
    start, other = plate(ny, nx), random_plate(ny, nx)
    for taken in (steps - 1, steps + 1):
        assert distance(walk(start, STABLE, taken), start, STABLE, steps) > 1e6
        assert share(compared(walk(other, STABLE, taken), other, STABLE, steps)) > 1e6


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
        assert share(compared(states[1], other, STABLE, 100)) > 1e6


def test_bounds_notice_swapped_axes():
    start = plate(30, 30)
    turned = np.ascontiguousarray(start.T)
    assert distance(walk(turned, STABLE, 10), start, STABLE, 10) > 1e6


@pytest.mark.parametrize("r", [STABLE, 0.1])
@pytest.mark.parametrize(("ny", "nx"), [(1, 1), (2, 3), (10, 13), (64, 48)])
@pytest.mark.parametrize("steps", [1, 2, 200])
@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e-310, 5e-324, LARGEST])
def test_any_state_is_as_predicted(ny, nx, r, steps, scale):
    start = random_plate(ny, nx, scale)
    found = compared(walk(start, r, steps), start, r, steps)
    assert share(found) <= 1
    assert all(error <= bound for error, bound, _ in found.checks)


@pytest.mark.parametrize("value", [0.0, 1 / 3, 0.1, 1.0])
def test_a_state_is_as_predicted_where_rounding_has_a_direction(value):
    # The same value everywhere: what is lost at one point is lost at most of them.
    start = plate(40, 30, value)
    assert share(compared(walk(start, 0.1, 300), start, 0.1, 300)) <= 1


def test_the_bound_of_any_state_is_near():
    for ny, nx in ((63, 127), (150, 120)):
        start = random_plate(ny, nx)
        found = compared(walk(start, STABLE, 300), start, STABLE, 300)
        assert 1 / 2000 < share(found) <= 1
        assert ("assumed" in found.why) == (ny == 150)


@pytest.mark.parametrize(("steps", "value"), [(1, 1.0), (300, 1 / 3), (5000, 0.7)])
def test_steps_enlarge_no_state_by_more_than_rounding(steps, value):
    # Away from the edges nothing but rounding changes a constant.
    start = plate(7, 9, value)
    found = compared(walk(start, 1e-12, steps), start, 1e-12, steps)
    assert [error <= bound for error, bound, _ in found.checks] == [True, True]
    assert found.growth < (steps + 1) * UNIT * value * 1.001
    larger = compared(start * (1 + 4 * (steps + 1) * UNIT), start, 1e-12, steps)
    assert larger.checks[1][0] > larger.checks[1][1]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308, 1.04e155])
@pytest.mark.filterwarnings("error")
def test_what_is_far_off_is_further_than_any_bound(value):
    # Of several pieces: two squares may overflow only when they are added.
    start = random_plate(700, 512)
    bad = walk(start, 0.2, 3)
    bad[[2, 690], 3] = value
    for error, bound, _ in compared(bad, start, 0.2, 3).checks:
        assert not error <= bound


def test_a_state_of_zeros_is_told():
    start = plate(5, 6, np.zeros((5, 6)))
    (text,) = compared(start, start, 0.2, 3).remarks
    assert text.startswith("the state is 0 at all points")


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize(
    ("r", "steps", "said"),
    [
        *[(0.2, 100, ""), (0.2, 20000, "little heat is left"), (1e-15, 3, "change the state by")],
        *[(1e-14, 300, "change the state by"), (1e-7, 300, "")],
    ],
)
def test_where_a_comparison_says_little_it_says_so(made, r, steps, said):
    start = plate(30, 25) if made else random_plate(30, 25)
    after = np.ascontiguousarray(walk(start, r, steps)[1:-1, 1:-1])

    def fill(first, rows):
        rows[...] = start[1:-1, 1:-1][first : first + len(rows)]

    found = compare(fill, made, after, r, steps)
    assert share(found) <= 1
    assert [said in text for text in found.remarks] == [True] * bool(said)
    # What the remark is about: a kernel that did nothing, or wrote zeros.
    again = np.empty_like(after)
    fill(0, again)
    assert (share(compare(fill, made, again, r, steps)) > 1000) == ("change" not in said)
    assert (share(compare(fill, made, 0 * after, r, steps)) > 900) == ("heat" not in said)


@pytest.mark.parametrize(
    ("ny", "nx"), [(1, 1), (2, 3), (63, 127), (255, 1), (46, 52), (96, 100), (1, 4098), (3, 10006)]
)
def test_sine_transforms_are_as_exact_as_their_bound_assumes(ny, nx):
    """Beside those in long double; the sizes are powers of two, primes and products, less one."""
    from scipy import fft

    rng = np.random.default_rng(ny)
    spike = np.zeros((ny, nx))
    spike[ny // 2, nx // 3] = 1
    for u in (rng.uniform(-1, 1, (ny, nx)), np.ones((ny, nx)), spike):
        forth = [fft.dstn(each, type=1, norm="ortho") for each in (u, u.astype(np.longdouble))]
        back = [fft.idstn(each, type=1, norm="ortho") for each in forth]
        most = 7 * np.log2(4 * (ny + 1) * (nx + 1)) * UNIT * np.linalg.norm(u)
        assert np.linalg.norm((forth[0] - forth[1]).astype(float)) <= most
        assert np.linalg.norm((back[0] - u).astype(float)) <= 2 * most


@given(st.floats(-1, 1), st.integers(1, 10**6))
def test_powers_are_as_exact_as_they_say(f, steps):
    power, error = heat.powers(np.array([f]), steps)
    exact = np.longdouble(f) ** steps
    assert abs(power[0] - exact) <= error[0] + 2.0**-1074
    # A factor that is off by what its docstring allows.
    other = np.longdouble(f) + (19 * (1 - f) + abs(f)) * np.longdouble(UNIT)
    assert abs(other**steps - power[0]) <= error[0] * 1.001 + 2.0**-1074


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
