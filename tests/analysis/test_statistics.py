import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rankwise.analysis import laws, statistics

POSITIVE = st.floats(1e-3, 1e3)


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [(6, 1, 6), (7, 1, 7), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15), (50, 18, 33)],
)
def test_interval_of_a_median_has_the_ranks_of_the_tables(n, low, high):
    samples = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    assert statistics.median(samples) == statistics.Estimate((n + 1) / 2, low, high)


@pytest.mark.parametrize("n", range(6, 40))
def test_interval_of_a_median_is_that_of_scipy(n):
    samples = np.random.default_rng(n).lognormal(size=n)
    found = statistics.median(samples)
    # Two one-sided tests at 97.5 %: the two-sided one of SciPy splits its level the same way.
    expected = stats.quantile_test(samples).confidence_interval(0.95)
    assert (found.low, found.high) == (expected.low, expected.high)


@pytest.mark.parametrize("n", range(1, 6))
def test_below_six_launches_there_is_no_interval(n):
    found = statistics.median([1.0] * n)
    assert found.value == 1
    assert math.isnan(found.low) and math.isnan(found.high)
    assert np.isnan(statistics.interval(np.ones((10, 2)), n)).all()


def test_nothing_has_no_median():
    found = statistics.median([])
    assert all(map(math.isnan, (found.value, found.low, found.high)))


@given(st.lists(POSITIVE, min_size=6, max_size=30))
def test_a_median_lies_within_its_interval(samples):
    found = statistics.median(samples)
    assert min(samples) <= found.low <= found.value <= found.high <= max(samples)


def test_resamples_are_medians_of_drawn_launches():
    samples = [[3.0, 1.0, 2.0], [5.0]]
    medians = statistics.resampled_medians(samples)
    assert medians.shape == (statistics.RESAMPLES, 2)
    assert set(medians[:, 0]) == {1.0, 2.0, 3.0}
    assert (medians[:, 1] == 5).all()
    # Two or three of three draws are the smallest: 7 of 27.
    assert np.mean(medians[:, 0] == 1) == pytest.approx(7 / 27, abs=0.02)
    np.testing.assert_array_equal(medians, statistics.resampled_medians(samples))


def test_points_are_resampled_independently():
    samples = np.random.default_rng(0).normal(size=20).tolist()
    medians = statistics.resampled_medians([samples, samples])
    assert abs(np.corrcoef(medians.T)[0, 1]) < 0.05


def test_an_estimate_lies_within_its_interval():
    found = statistics.estimate(2.0, np.linspace(0, 1, 101), 6)
    assert (found.value, found.high) == (2.0, 2.0)
    assert found.low == pytest.approx(0.025)


def noisy(random, seconds, launches, outliers):
    """Return launches of each point: log-normal noise of 5 %, outliers 1.5 times as long."""
    noise = random.lognormal(sigma=0.05, size=(len(seconds), launches))
    if outliers:
        noise = np.where(random.random(noise.shape) < 0.05, 1.5 * noise, noise)
    return np.asarray(seconds)[:, np.newaxis] * noise


@pytest.mark.long
@pytest.mark.parametrize(("launches", "outliers"), [(6, False), (6, True), (10, True), (20, False)])
def test_intervals_cover_the_true_figures(monkeypatch, launches, outliers):
    """The docstring of `interval` has the same with more sweeps and all resamples."""
    monkeypatch.setattr(statistics, "RESAMPLES", 300)
    random = np.random.default_rng(launches)
    ranks = np.array([1, 2, 4, 8, 16, 32.0])
    amdahl = 0.03 + 0.97 / ranks
    usl = (1 + 0.02 * (ranks - 1) + 3e-4 * ranks * (ranks - 1)) / ranks
    weak = 1 / (1 - 0.1 * (1 - 1 / ranks))
    # The noise of outliers has a median above 1, but it is that of every point.
    truth = np.array([amdahl[0] / amdahl[-1], 0.03, 0.02, 3e-4, 0.1])
    sweeps = 200
    hits = np.zeros(5)
    for seed in range(sweeps):
        monkeypatch.setattr(statistics, "SEED", seed)
        drawn = [
            statistics.resampled_medians(noisy(random, seconds, launches, outliers))
            for seconds in (amdahl, usl, weak)
        ]
        figures = np.column_stack(
            (
                drawn[0][:, 0] / drawn[0][:, -1],
                laws.parameters(laws.fit(laws.AMDAHL, ranks, drawn[0])),
                laws.parameters(laws.fit(laws.USL, ranks, drawn[1])),
                laws.parameters(laws.fit(laws.GUSTAFSON, ranks, 1 / drawn[2])),
            )
        )
        low, high = statistics.interval(figures, launches)
        hits += (low <= truth) & (truth <= high)
    assert (hits / sweeps >= 0.93).all(), hits / sweeps
    assert (hits < sweeps).all()


@pytest.mark.parametrize("launches", [6, 10, 20])
def test_intervals_of_medians_cover_the_true_median(launches):
    random = np.random.default_rng(launches)
    found = [statistics.median(x) for x in random.exponential(size=(1500, launches))]
    hits = np.mean([x.low <= math.log(2) <= x.high for x in found])
    k = int(stats.binom.ppf(0.025, launches, 0.5))
    assert hits == pytest.approx(1 - 2 * stats.binom.cdf(k - 1, launches, 0.5), abs=0.015)
    assert hits >= 0.95
