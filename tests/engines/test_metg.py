"""The arithmetic of METG(50 %), and the words for it."""

import itertools

import numpy as np
import pytest

from engines.comparison import metg, words
from engines.comparison.measure import ENGINES, Case, Found
from engines.comparison.metg import Point


def curve(lost, sizes):
    """Return points of an engine in which each task loses so many seconds besides its own."""
    return [Point(size, (size / (size + lost),)) for size in sizes]


@pytest.mark.parametrize("lost", [3e-6, 1.7e-4, 0.02])
def test_a_task_is_half_lost_where_it_is_as_long_as_what_it_loses(lost):
    found = metg.metg(curve(lost, metg.sizes()))
    # Between two sizes, of which one is four times the other, the curve is no straight line.
    assert found.side == ""
    assert found.seconds == pytest.approx(lost, rel=0.07)
    # With points close to each other it is exact.
    dense = np.geomspace(0.25, 1e-6, 2000)
    assert metg.metg(curve(lost, dense)).seconds == pytest.approx(lost, rel=1e-5)


def test_between_two_points_the_size_is_interpolated_in_the_logarithm():
    points = [Point(0.1, (0.9,)), Point(0.001, (0.3,))]
    assert metg.metg(points).seconds == pytest.approx(0.1 * 0.01 ** (0.4 / 0.6))
    points = [Point(0.1, (0.9,)), Point(0.01, (0.5,)), Point(1e-3, (0.1,))]
    assert metg.metg(points).seconds == pytest.approx(0.01)


def test_an_engine_that_is_never_good_enough_has_a_bound_from_below():
    points = [Point(0.25, (0.29, 0.31, 0.35))]
    assert metg.metg(points) == metg.Metg(0.25, ">", 0.31)
    assert words.granularity(points) == "> 0.250 s (31 %)"


def test_an_engine_that_is_always_good_enough_has_a_bound_from_above():
    points = [Point(0.25, (0.99,)), Point(1e-3, (0.75,))]
    assert metg.metg(points) == metg.Metg(1e-3, "<", 0.75)
    assert words.granularity(points) == "< 1.00 ms (75 %)"
    assert metg.metg([]) is None


def test_the_spread_is_that_of_the_least_and_the_largest_samples():
    points = [Point(1e-2, (0.9, 0.9, 0.9)), Point(1e-4, (0.1, 0.3, 0.45))]
    low, high = (1e-2 * 0.01 ** (0.4 / (0.9 - last)) for last in (0.45, 0.1))
    assert metg.metg(points, np.max).seconds == pytest.approx(low)
    assert metg.metg(points, np.min).seconds == pytest.approx(high)
    assert words.granularity(points) == "464 us (167-1000)"


def test_sizes_and_numbers_of_tasks_are_those_that_are_promised():
    sizes = list(metg.sizes())
    assert sizes[0] == 0.25
    assert all(small * 4 == large for large, small in itertools.pairwise(sizes))
    assert 5e-7 <= sizes[-1] < 2e-6
    for workers in (1, 2, 64):
        for size in sizes:
            tasks = metg.tasks(size, workers)
            assert 4 * workers <= tasks <= 1000
            # At most a second of each worker.
            assert tasks * size / workers <= 1.0
    assert metg.tasks(1e-5, 2) == 1000


def test_efficiency_is_the_part_of_the_time_of_all_workers():
    assert metg.efficiency(8, 0.25, 2, 1.0) == 1.0
    assert metg.efficiency(8, 0.25, 2, 4.0) == 0.25


def test_a_longer_task_loses_as_much():
    found = metg.efficiency(1, 0.25, 1, 0.25 + 0.1)
    assert metg.scaled(found, 0.25, 10) == pytest.approx(10 / 10.1)


def found(case, **given):
    return Found(case=Point(0.01, (case,)), **given)


def test_the_sentence_names_the_engines_that_keep_80_percent():
    every = {"futures": found(0.61), "threading": found(0.8), "mpi": found(0.93)}
    assert words.for_case(every, Case(0.01, 8.0), 2) == (
        "For your case, tasks of 10.0 ms, each with 8.00 MB of data sent to it, 2 workers: these "
        "keep 80 % of the time of their workers: mpi (93 %), threading (80 %); these do not: "
        "futures (61 %)."
    )
    every["mpi"].case = every["threading"].case = None
    assert words.for_case(every, Case(2.0), 2) == (
        "For your case, tasks of 2.00 s, 2 workers: these keep 80 % of the time of their workers: "
        "none; these do not: futures (61 %); not measured: threading, mpi. Judged by what tasks "
        "of 0.250 s lose."
    )


def test_the_reasons_say_what_a_task_loses_and_what_was_not_reached():
    every = {
        "futures": Found(points=[Point(0.25, (0.25,))], notes=["a note"]),
        "mpi": Found(points=[Point(0.01, (0.75,))]),
        "joblib": Found(points=[Point(0.01, (0.75,)), Point(0.001, (0.25,))]),
    }
    assert words.reasons([ENGINES[name] for name in every], every) == [
        "futures: a note",
        "futures: a task of 0.250 s costs its worker another 0.750 s, so that no size that was "
        "tried is worth it",
        "mpi: the smallest task that was tried, 10.0 ms, still had an efficiency of 75 %",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.0, "2.00 s"), (0.0123, "12.3 ms"), (4e-6, "4.00 us"), (2e-7, "0.200 us"), (1234, "1234 s")],
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


def test_figures_show_median_least_and_most():
    assert words.spread([3.0, 1.0, 2.5]) == "2.50 (1.00-3.00)"
    assert (words.spread([]), words.spread([1234.0])) == ("-", "1234 (one sample)")
