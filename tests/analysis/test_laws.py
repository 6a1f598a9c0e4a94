import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from rankwise.analysis import laws
from tests.analysis import published

RANKS = np.array([1, 2, 4, 8, 16, 32, 64.0])
FRACTION = st.floats(0, 1)


def amdahl(p, one, s):
    return one * (s + (1 - s) / p)


def usl(p, one, sigma, kappa):
    return one * (1 + sigma * (p - 1) + kappa * p * (p - 1)) / p


def fitted(law, ranks, values):
    return laws.parameters(laws.fit(law, ranks, np.asarray(values)))


@given(st.floats(1e-6, 1e6), FRACTION, st.integers(1, 100))
def test_exact_amdahl(one, s, smallest):
    ranks = smallest * RANKS
    found = fitted(laws.AMDAHL, ranks, amdahl(ranks, one, s))
    np.testing.assert_allclose(found, [s], atol=1e-9)


@given(st.floats(1e-6, 1e6), st.floats(0, 0.99), st.floats(0, 0.1))
def test_exact_usl(one, sigma, kappa):
    found = fitted(laws.USL, RANKS, usl(RANKS, one, sigma, kappa))
    np.testing.assert_allclose(found, [sigma, kappa], atol=1e-9)


def test_exact_usl_from_a_larger_baseline():
    found = fitted(laws.USL, 4 * RANKS, usl(4 * RANKS, 3.0, 0.02, 1e-4))
    np.testing.assert_allclose(found, [0.02, 1e-4], rtol=1e-9)


@given(st.floats(1e-6, 1e6), FRACTION)
def test_exact_gustafson(one, s):
    speedup = RANKS - s * (RANKS - 1)
    np.testing.assert_allclose(fitted(laws.GUSTAFSON, RANKS, one * speedup / RANKS), [s], atol=1e-9)


def test_curves_go_through_exact_data():
    for law, values in (
        (laws.AMDAHL, amdahl(RANKS, 2, 0.1)),
        (laws.USL, usl(RANKS, 2, 0.1, 1e-3)),
        (laws.GUSTAFSON, 0.9 + 0.1 / RANKS),
    ):
        found = laws.evaluate(law, laws.fit(law, RANKS, values), RANKS)
        np.testing.assert_allclose(found, values, rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 0.2), st.integers(0, 2**32 - 1))
def test_a_fit_is_that_of_a_nonlinear_solver(s, seed):
    """SciPy's `curve_fit` starts from the truth and minimises the same relative residuals."""
    noise = np.random.default_rng(seed).lognormal(sigma=0.02, size=RANKS.size)
    seconds = amdahl(RANKS, 5, s) * noise
    (_, expected), _ = curve_fit(amdahl, RANKS, seconds, p0=(5, s), sigma=seconds)
    found = fitted(laws.AMDAHL, RANKS, seconds)
    np.testing.assert_allclose(found, [max(expected, 0)], atol=1e-6)


def test_a_usl_fit_is_that_of_a_nonlinear_solver():
    noise = np.random.default_rng(1).lognormal(sigma=0.02, size=RANKS.size)
    seconds = usl(RANKS, 5, 0.03, 1e-3) * noise
    (_, *expected), _ = curve_fit(usl, RANKS, seconds, p0=(5, 0.03, 1e-3), sigma=seconds)
    np.testing.assert_allclose(fitted(laws.USL, RANKS, seconds), expected, rtol=1e-5)


def test_fits_are_vectorised():
    values = np.stack([amdahl(RANKS, 1, s) for s in (0.1, 0.2, 0.3)])
    np.testing.assert_allclose(fitted(laws.AMDAHL, RANKS, values)[:, 0], [0.1, 0.2, 0.3])


def test_superlinear_data_have_no_negative_serial_fraction():
    assert fitted(laws.AMDAHL, RANKS, RANKS**-1.1) == [0]
    np.testing.assert_array_equal(fitted(laws.USL, RANKS, RANKS**-1.1), [0, 0])
    assert fitted(laws.GUSTAFSON, RANKS, RANKS**0.1) == [0]


def test_time_that_only_grows_leaves_nothing_for_one_rank():
    assert np.isnan(laws.parameters(np.array([0.0, 0.0, 1.0]))).all()


@given(st.floats(0, 1), st.integers(2, 10**6))
def test_karp_flatt_of_amdahl_is_s(s, p):
    speedup = 1 / (s + (1 - s) / p)
    np.testing.assert_allclose(laws.karp_flatt(speedup, p), s, atol=1e-9)


def test_karp_flatt_from_a_larger_baseline_is_the_serial_part_of_its_time():
    s, base = 0.02, 4
    speedup = amdahl(base, 1, s) / amdahl(64, 1, s)
    assert laws.karp_flatt(speedup, 64 / base) == pytest.approx(s / amdahl(base, 1, s))


@pytest.mark.parametrize(("speedups", "fractions"), published.QUINN)
def test_karp_flatt_of_quinns_examples(speedups, fractions):
    found = [laws.karp_flatt(x, p) for p, x in enumerate(speedups, 2)]
    # Speedups of three digits leave e uncertain by about 0.003.
    np.testing.assert_allclose(found, fractions, atol=0.003)


@pytest.mark.parametrize(("s", "speedup"), published.GUSTAFSON.items())
def test_gustafsons_own_figures(s, speedup):
    p = published.GUSTAFSON_PROCESSORS
    rate = laws.evaluate(laws.GUSTAFSON, np.array([1 - s, s]), [p])
    assert round(p * rate[0]) == speedup


def test_usl_of_the_r_package_example():
    ranks, speedups = zip(*published.USL_EXAMPLE.items(), strict=True)
    found = fitted(laws.USL, ranks, 1 / np.array(speedups))
    # The speedups have five digits.
    np.testing.assert_allclose(found, [0.02, 0.02], rtol=1e-3)


def test_usl_of_sdm91():
    """Printed are the coefficients of least squares of the throughput, not of relative residuals.

    So the same law, fitted the printed way, must give the printed digits, and our fit must agree
    within the printed standard errors, doubled, since the data do not follow the law closely.
    """
    users, throughput = np.array(published.SDM91_USERS, float), published.SDM91_THROUGHPUT
    coefficients, _ = curve_fit(
        lambda p, *c: 1 / laws.evaluate(laws.USL, np.array(c), p),
        users,
        throughput,
        p0=(0.01, 1e-4, 1e-6),
    )
    assert 1 / coefficients[:2].sum() == pytest.approx(published.SDM91_ONE_USER, rel=1e-3)
    printed = [published.SDM91_SIGMA, published.SDM91_KAPPA]
    np.testing.assert_allclose(laws.parameters(coefficients), printed, rtol=2e-3)
    errors = np.array([published.SDM91_SIGMA_ERROR, published.SDM91_KAPPA_ERROR])
    off = np.abs(fitted(laws.USL, users, 1 / np.array(throughput)) - printed)
    assert (off < 2 * errors).all()


def test_fastest_count():
    sigma, kappa = 0.02, 1e-4
    best = laws.fastest(sigma, kappa)
    around = usl(best + np.array([-1, 0, 1]), 1, sigma, kappa)
    assert around.argmin() == 1
    assert laws.fastest(sigma, 0) == math.inf
