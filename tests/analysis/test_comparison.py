"""The ratio of two sweeps at each rank count, and what must be alike for there to be one."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rankwise.analysis import statistics
from rankwise.analysis.comparison import Pair, compare, ratio
from rankwise.sweep.folder import Sweep
from tests.analysis.examples import WIGGLE, failed, plan, point, run, runs
from tests.analysis.test_statistics import noisy


def compared(a, b):
    """Return the comparison of the sweeps of some runs."""
    sweeps = [
        Sweep(Path(name), plan(sorted({run.ranks for run in some})), list(some), [])
        for name, some in (("a", a), ("b", b))
    ]
    return compare(*sweeps)


def pair(a, b):
    """Return the pair of two points with these seconds of their launches."""
    return Pair("strong", 1, point(1, a), point(1, b), ratio(point(1, a), point(1, b)))


def test_ratio_is_that_of_the_medians():
    found = ratio(point(1, [2.0, 1.0, 9.0, 2.0, 2.0, 2.0]), point(1, [3.0] * 5 + [1.0]))
    assert found.value == 1.5
    assert found.low <= 1.5 <= found.high
    assert ratio(point(1, [2.0] * 6), point(1, [3.0] * 6)) == statistics.Estimate(1.5, 1.5, 1.5)


def test_sides_are_drawn_independently():
    """Drawn alike, the same launches on both sides would give a ratio of 1 without any doubt."""
    found = ratio(point(1, WIGGLE), point(1, WIGGLE))
    assert found.value == 1
    assert found.low < 0.99 and found.high > 1.01


def test_ratio_of_a_count_depends_on_no_other():
    one, both = (compared(runs(counts=(1, 2)[:n]), runs(counts=(1, 2)[:n])) for n in (1, 2))
    assert both.pairs[0] == one.pairs[0]


@pytest.mark.parametrize(("a", "b"), [(5, 6), (6, 5), (1, 1), (20, 3)])
def test_below_six_launches_on_a_side_nothing_is_told(a, b):
    found = pair([1.0] * a, [2.0] * b)
    assert found.ratio.value == 2
    assert math.isnan(found.ratio.low) and math.isnan(found.ratio.high)
    assert not found.exceeds(0)
    assert math.isnan(found.least(0.05))


def test_slowdown_is_shown_where_the_whole_interval_lies_above_it():
    found = pair([1.0] * 6, [1.5] * 6)
    assert found.exceeds(0) and found.exceeds(0.49)
    assert not found.exceeds(0.5)
    wide = pair([1.0] * 6, [1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    assert wide.ratio.value == pytest.approx(1.25)
    assert wide.exceeds(0) and not wide.exceeds(0.2)


def test_smallest_slowdown_is_where_the_verdict_changes():
    a, b = np.array(WIGGLE), np.array(WIGGLE[::-1]) * 0.97
    found = pair(a, b)
    least = found.least(0.05)
    assert 0.05 < least < 0.2 and not found.exceeds(0.05)
    for factor, shown in ((1 + 1e-9, True), (1 - 1e-9, False)):
        assert pair(a, b * factor * (1 + least) / found.ratio.value).exceeds(0.05) == shown


@pytest.mark.parametrize("true", [1.0, 1.1])
@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("launches", [6, 10, 20])
def test_intervals_cover_the_true_ratio(monkeypatch, launches, outliers, true):
    """The docstring of `ratio` has the same with more comparisons and all resamples."""
    monkeypatch.setattr(statistics, "RESAMPLES", 300)
    random = np.random.default_rng(launches)
    found = []
    for seed in range(400):
        monkeypatch.setattr(statistics, "SEED", seed)
        a, b = noisy(random, [1.0, true], launches, outliers)
        found.append(ratio(point(1, a.tolist()), point(1, b.tolist())))
    covered = np.mean([each.low <= true <= each.high for each in found])
    assert 0.93 <= covered < 1
    told = [np.mean([each.low > 1 for each in found]), np.mean([each.high < 1 for each in found])]
    if true == 1:
        assert max(told) <= 0.04
    else:
        assert told[0] > 0.5 and told[1] == 0


def test_counts_of_both_are_compared_strong_scaling_first():
    a = [*runs(counts=(2, 4), mode="weak"), *runs(counts=(1, 2, 4))]
    b = [*runs(counts=(8, 4), mode="weak"), *runs(counts=(2, 4, 8))]
    found = compared(a, b)
    assert [(p.mode, p.ranks) for p in found.pairs] == [("strong", 2), ("strong", 4), ("weak", 4)]
    assert found.told == found.pairs and found.unlike == ()
    assert compared(runs(counts=(1,)), runs(counts=(2,))).pairs == ()
    assert compared(runs(counts=(1,)), []).pairs == ()


def test_weak_scaling_compares_seconds():
    a = runs(lambda p: 10.0, counts=(1, 2), mode="weak")
    found = compared(a, [replace(run, seconds=1.2 * run.seconds) for run in a])
    assert [p.ratio.value for p in found.pairs] == pytest.approx([1.2, 1.2])


def test_count_where_b_failed_is_a_pair_without_ratio():
    some = runs(counts=(1, 2))
    bad = [*runs(counts=(1,)), *failed(runs(counts=(2,)))]
    found = compared(some, bad)
    assert [p.failed for p in found.pairs] == [False, True]
    assert math.isnan(found.pairs[1].ratio.value) and found.told == found.pairs[:1]
    # That A failed is no fault of B.
    assert not any(p.failed for p in compared(bad, some).pairs)
    assert not any(p.failed for p in compared(bad, bad).pairs)


@pytest.mark.parametrize(
    ("what", "a", "b"),
    [
        ("threads", {"threads": 1}, {"threads": 2}),
        ("source", {"source": "json"}, {"source": "process"}),
        ("work", {"work": 1e6}, {"work": 1.1e6}),
        ("work", {"work": 0.0}, {"work": 1.0}),
    ],
)
def test_unlike_sweeps_are_told_at_each_count(what, a, b):
    one, other = (runs(counts=(1, 2), **changes) for changes in (a, b))
    found = compared(one, other).unlike
    assert [(each.ranks, each.what) for each in found] == [(1, what), (2, what)]
    assert {each.a for each in found} == {(a[what],)} and {each.b for each in found} == {(b[what],)}
    assert compared(one, one).unlike == ()


def test_a_side_of_two_sources_is_unlike_itself():
    mixed = runs(counts=(1,))
    mixed[2] = replace(mixed[2], source="json")
    (found,) = compared(mixed, mixed).unlike
    assert (found.a, found.b) == (("json", "record"),) * 2


def test_sources_may_differ_between_counts_and_in_failed_runs():
    some = [*runs(counts=(1,)), *runs(counts=(2,), source="json")]
    assert compared(some, some).unlike == ()
    bad = failed([run(ranks=2, launch=7, source="process")])
    assert compared(some, [*some, *bad]).unlike == ()


def test_works_that_rounding_tells_apart_are_the_same():
    for work, same in ((1e6, True), (1e6 * (1 + 1e-7), True), (1e6 * (1 + 1e-5), False)):
        found = compared(runs(counts=(1,), work=1e6), runs(counts=(1,), work=work))
        assert (found.unlike == ()) == same
    for mode in ("strong", "weak"):
        a, b = (runs(counts=(2,), mode=mode, work=work) for work in (10.0, 20.0))
        assert [each.what for each in compared(a, b).unlike] == ["work"]


def test_work_that_one_side_does_not_tell_is_taken_to_be_the_same():
    assert compared(runs(counts=(1,), work=1e6), runs(counts=(1,))).unlike == ()
