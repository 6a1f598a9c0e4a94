import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from rankwise.analysis import laws
from rankwise.analysis.analysis import analyse
from rankwise.analysis.statistics import Estimate
from rankwise.report import costs, doubts, method, numbers, sentences
from rankwise.sweep.folder import Sweep
from tests.analysis import examples, published
from tests.analysis.examples import (
    COUNTS,
    FACTS,
    advice,
    amdahl,
    analysed,
    by_ranks,
    failed,
    hosted,
    only,
    runs,
    with_phases,
    with_queue,
)
from tests.calls import calls


def has(estimate):
    return math.isfinite(estimate.low) and math.isfinite(estimate.high)


def test_strong_scaling_of_exact_amdahl_data():
    series = only(runs(noise=0))
    for p, point in by_ranks(series).items():
        speedup = amdahl(1) / amdahl(p)
        assert point.seconds == Estimate(*[pytest.approx(amdahl(p))] * 3)
        assert point.speedup == Estimate(*[pytest.approx(speedup)] * 3)
        assert point.efficiency == Estimate(*[pytest.approx(speedup / p)] * 3)
        if p == 1:
            assert math.isnan(point.serial_fraction.value)
        else:
            assert point.serial_fraction == Estimate(*[pytest.approx(0.05)] * 3)
        # What is charged: start-up is a second here.
        assert point.process_seconds == pytest.approx(amdahl(p) + 1)
        assert point.cost.core_hours == pytest.approx(p * (amdahl(p) + 1) / 3600)
    fit = series.fits[0]
    assert (fit.law, fit.identifiable, fit.ranks) == ("Amdahl", True, COUNTS)
    assert fit.parameters["s"].value == pytest.approx(0.05, abs=1e-9)
    assert sentences.fit(fit).startswith(
        "Serial fraction s = 0.0500 (0.0500 to 0.0500), limit of the speedup"
    )
    p, *speedups = zip(*fit.curve, strict=True)
    assert (len(p), p[0], p[-1]) == (50, 1, pytest.approx(32))
    for speedup in speedups:
        np.testing.assert_allclose(speedup, amdahl(1) / amdahl(np.array(p)))


def test_a_larger_baseline_is_the_smallest_count():
    series = only(runs(counts=(4, 8, 16, 32), noise=0))
    assert series.baseline.ranks == 4
    point = by_ranks(series)[32]
    assert point.speedup.value == pytest.approx(amdahl(4) / amdahl(32))
    assert point.efficiency.value == pytest.approx(amdahl(4) / amdahl(32) / 8)
    # The serial part of the baseline's time, but the law's s is that of one rank.
    assert point.serial_fraction.value == pytest.approx(0.5 / amdahl(4))
    assert series.fits[0].parameters["s"].value == pytest.approx(0.05, abs=1e-9)
    assert series.fits[0].curve[0][:2] == pytest.approx((4, 1))


def test_usl_and_where_it_is_fastest():
    def seconds(p):
        return (1 + 0.02 * (p - 1) + 1e-3 * p * (p - 1)) / p

    fit = only(runs(seconds, noise=0.002)).fits[1]
    assert (fit.law, fit.identifiable) == ("USL", True)
    for name, true in {"sigma": 0.02, "kappa": 1e-3}.items():
        assert fit.parameters[name].low < true < fit.parameters[name].high
    assert "rank count with the least time = 31" in sentences.fit(fit)
    assert laws.fastest(0.02, 1e-3) == pytest.approx(31.3, abs=0.1)


def test_weak_scaling_of_exact_gustafson_data():
    def seconds(p):
        return 10 * p / (p - 0.1 * (p - 1))

    series = only(runs(seconds, mode="weak", noise=0))
    for p, point in by_ranks(series).items():
        assert point.speedup.value == pytest.approx(p - 0.1 * (p - 1))
        assert point.efficiency.value == pytest.approx((p - 0.1 * (p - 1)) / p)
        assert math.isnan(point.serial_fraction.value)
    (fit,) = series.fits
    assert (fit.law, fit.identifiable) == ("Gustafson", True)
    assert fit.parameters["s"].value == pytest.approx(0.1, abs=1e-9)
    p, speedup, *_ = zip(*fit.curve, strict=True)
    np.testing.assert_allclose(speedup, np.array(p) - 0.1 * (np.array(p) - 1))


def test_weak_efficiency_counts_the_work_that_was_done():
    some = [
        replace(run, work=100.0 if run.ranks == 1 else 90.0 * run.ranks)
        for run in runs(lambda p: 10, mode="weak", noise=0)
    ]
    found = analysed(some)
    assert by_ranks(found.series[0])[8].efficiency.value == pytest.approx(0.9)
    assert any("the work of a rank varies by 11.1 %" in each for each in doubts.warnings(found))


def test_weak_work_is_that_of_the_plan_where_a_record_does_not_tell():
    some = runs(lambda p: 10, mode="weak", noise=0)
    some[0] = replace(some[0], work=5.0)
    assert by_ranks(only(some))[32].efficiency.value == pytest.approx(1)


def test_intervals_hold_the_truth_and_keep_their_order():
    for point in only(runs(noise=0.05)).points:
        for figure, true in {
            point.seconds: amdahl(point.ranks),
            point.speedup: amdahl(1) / amdahl(point.ranks),
            point.efficiency: amdahl(1) / amdahl(point.ranks) / point.ranks,
        }.items():
            assert figure.low <= figure.value <= figure.high
            assert figure.low <= true <= figure.high


@pytest.mark.parametrize("unit", [1e-3, 60.0])
def test_ratios_do_not_depend_on_the_unit(unit):
    plain, scaled = (only(runs(lambda p, u=u: u * amdahl(p))) for u in (1, unit))
    for a, b in zip(plain.points, scaled.points, strict=True):
        for name in ("speedup", "efficiency"):
            for end in ("value", "low", "high"):
                assert getattr(getattr(a, name), end) == pytest.approx(
                    getattr(getattr(b, name), end)
                )
    assert plain.fits[0].parameters["s"].value == pytest.approx(
        scaled.fits[0].parameters["s"].value
    )


def test_the_same_sweep_gives_the_same_figures():
    assert repr(analysed(runs())) == repr(analysed(runs()))


def test_below_six_launches_there_is_an_estimate_without_interval():
    series = only(runs(launches=5))
    assert not any(has(x) for p in series.points for x in (p.seconds, p.speedup, p.efficiency))
    fit = series.fits[0]
    assert fit.parameters["s"].value == pytest.approx(0.05, rel=0.1)
    assert not has(fit.parameters["s"])
    assert sentences.fit(fit).endswith(
        "there is no interval, because there are fewer than six launches."
    )
    assert all(math.isnan(low) and math.isnan(high) for _, _, low, high in fit.curve)
    assert all("5 launches, so no interval" in sentences.notes(point) for point in series.points)
    assert "There is no interval, because there are fewer than six launches." in advice(series)
    found = analysed(runs(launches=5))
    assert any("fewer than six launches" in each for each in doubts.warnings(found))
    assert "There are no intervals" in method.method(found)


def test_one_point_with_few_launches_takes_only_its_own_intervals():
    some = [run for run in runs() if not (run.ranks == 8 and run.launch > 5)]
    series = only(some)
    assert {p for p, point in by_ranks(series).items() if has(point.speedup)} == {1, 2, 4, 16, 32}
    assert not has(series.fits[0].parameters["s"])
    # Without the baseline's interval there is none of a ratio.
    some = [run for run in runs() if not (run.ranks == 1 and run.launch > 5)]
    assert not any(has(point.speedup) for point in only(some).points)


@pytest.mark.parametrize(("counts", "fitted"), [((1, 2), 0), ((1, 2, 4), 1), ((1, 2, 4, 8), 2)])
def test_a_law_wants_more_counts_than_parameters(counts, fitted):
    fits = only(runs(counts=counts)).fits
    assert [bool(fit.parameters) for fit in fits] == [i < fitted for i in range(2)]
    for fit in fits[fitted:]:
        assert not fit.identifiable and not fit.curve
        wanted = {"Amdahl": 3, "USL": 4}[fit.law]
        assert f"{len(counts)} rank counts, and this law needs at least {wanted}." in sentences.fit(
            fit
        )


def test_gustafson_wants_three_counts():
    (fit,) = only(runs(lambda p: 10, counts=(1, 2), mode="weak")).fits
    assert not fit.identifiable and not fit.parameters


def test_what_the_data_cannot_tell_is_said_with_what_they_allow():
    fit = only(runs(lambda p: 10 / p, noise=0.03)).fits[0]
    assert not fit.identifiable
    assert sentences.fit(fit).startswith(
        "Its parameters are not identifiable from these data, which allow (95 %): "
    )
    high = fit.parameters["s"].high
    assert f"s at most {numbers.figure(high)}" in sentences.fit(fit)
    assert f"limit of the speedup over 1 rank {numbers.figure(1 / high)} or more" in sentences.fit(
        fit
    )
    assert fit.curve


def test_a_wide_interval_is_not_identifiable_though_it_excludes_zero():
    fit = only(runs(lambda p: amdahl(p, 0.0012), counts=(1, 2, 4, 8), launches=20)).fits[0]
    s = fit.parameters["s"]
    assert 0 < 10 * s.low < s.high
    assert not fit.identifiable
    assert f"from {numbers.figure(s.low)} to" in sentences.fit(fit)


def test_a_law_that_does_not_describe_the_data_says_so():
    def seconds(p):
        return 10 / p if p < 16 else 10 / p + 2

    fit = only(runs(seconds)).fits[0]
    assert "The law does not describe these data: it is" in sentences.fit(fit)
    assert "does not describe" not in sentences.fit(only(runs()).fits[0])


def test_time_that_only_grows_from_a_larger_baseline_identifies_nothing():
    series = only(runs(lambda p: p - 1, counts=(2, 4, 8, 16), noise=0))
    assert "no part of the time surely falls with more ranks" in sentences.fit(series.fits[1])
    assert not series.fits[1].identifiable


def test_oversubscribed_points_are_shown_and_not_fitted():
    some = runs(lambda p: amdahl(min(p, 8)), cores=8)
    series = only(some)
    assert [p for p, point in by_ranks(series).items() if point.oversubscribed] == [16, 32]
    assert sentences.notes(by_ranks(series)[16])[0] == "oversubscribed: 16 on 8 cores"
    assert series.fits[0].ranks == (1, 2, 4, 8)
    assert series.fits[0].curve[-1][0] == pytest.approx(32)
    assert series.recommended == 8
    assert "Larger counts had more ranks x threads than cores." in advice(series)
    assert only(some, oversubscribed=True).fits[0].ranks == COUNTS
    assert any(
        "on 16 and 32 ranks, there are more ranks x threads" in each
        for each in doubts.warnings(analysed(some))
    )


def test_threads_oversubscribe_too():
    assert [p.oversubscribed for p in only(runs(counts=(1, 2, 4), threads=4, cores=8)).points] == [
        False,
        False,
        True,
    ]


def test_cost_is_in_gpu_hours_where_there_are_gpus():
    some = [replace(run, gpus=run.ranks) for run in runs(threads=4, cores=1000)]
    found = analysed(some)
    assert [unit.name for unit in costs.units(found)] == ["GPU-hours"]
    point = by_ranks(found.series[0])[8]
    assert point.cost.gpu_hours == pytest.approx(8 * point.process_seconds / 3600)
    assert "GPU-hours" in advice(found.series[0])
    point = by_ranks(only(runs(threads=4, cores=1000)))[8]
    assert point.cost.core_hours == pytest.approx(32 * point.process_seconds / 3600)


def test_imbalance_is_of_the_kernel_of_each_rank():
    def phases(run):
        return {"kernel": [2.0] + [1.0] * (run.ranks - 1)}

    points = by_ranks(only(with_phases(runs(), phases)))
    assert points[1].imbalance == (1.0,)
    assert points[4].imbalance == pytest.approx((1.6, 0.8, 0.8, 0.8))
    assert only(runs()).points[0].imbalance == ()


def test_imbalance_of_a_queue_is_of_busy_seconds():
    # Ranks that share cores are in their kernels equally long.
    alike = with_phases(runs(), lambda run: {"kernel": [1.0] * run.ranks})

    def busy(run):
        # In each launch another rank is the busiest.
        return [1.0 + (rank == run.launch % run.ranks) for rank in range(run.ranks)]

    point = by_ranks(only(with_queue(alike, busy, "cyclic")))[4]
    assert point.schedule == "cyclic"
    assert point.imbalance == pytest.approx((0.8, 0.8, 0.8, 1.6))
    some = [run for run in alike if run.ranks == 4]
    mixed = [*with_queue(some[:3], busy, "cyclic"), *with_queue(some[3:], busy, "block")]
    for others in (alike, [*with_queue(some[:3], busy), *some[3:]], mixed):
        series = only(others)
        point = by_ranks(series)[4]
        assert (point.schedule, point.imbalance, series.queued) == ("", (1.0,) * 4, False)


def test_a_phase_that_a_rank_never_entered_took_it_no_time():
    some = with_phases(runs(), lambda run: {"read": [3.0] + [math.nan] * (run.ranks - 1)})
    assert by_ranks(only(some))[4].phases == {"read": pytest.approx(0.75)}


def test_nodes_are_the_axis_where_every_point_has_its_own():
    some = runs(counts=(4, 8, 16))
    assert only(some).axis == "ranks"
    assert only([replace(run, nodes=run.ranks // 4) for run in some]).axis == "nodes"
    assert only([replace(run, nodes=1 + run.ranks // 16) for run in some]).axis == "ranks"


def test_failures_are_shown_and_counted():
    some = runs()
    some[7] = replace(some[7], outcome="timed out", reason="over 600 s", seconds=None)
    found = analysed(some, missing=["strong, 64 ranks: 6 launches"])
    assert found.failures == (some[7],)
    point = by_ranks(found.series[0])[2]
    assert (point.launches, point.failed) == (5, (some[7],))
    assert sentences.notes(point) == ("1 of 6 launches timed out", "5 launches, so no interval")
    assert "1 of 36 launches failed." in doubts.warnings(found)
    assert "Not all planned launches took place." in doubts.warnings(found)
    assert found.missing == ("strong, 64 ranks: 6 launches",)


def test_a_missing_baseline_is_said():
    some = runs()
    found = analysed([*failed(some[:6]), *some[6:]])
    series = found.series[0]
    assert series.baseline.ranks == 2
    assert math.isnan(series.points[0].seconds.value)
    assert math.isnan(series.points[0].speedup.value)
    assert (
        "In strong scaling no launch on 1 rank succeeded: the baseline is 2 ranks."
        in doubts.warnings(found)
    )


def test_all_failed():
    found = analysed(failed(runs()))
    series = found.series[0]
    assert (series.baseline, series.fits, series.recommended) == (None, (), None)
    assert advice(series) == "No rank count is recommended, because no launch succeeded."
    assert "In strong scaling no launch succeeded." in doubts.warnings(found)
    assert method.method(found) == "No launch succeeded."


def test_nothing_was_run():
    found = analyse(Sweep(Path("sweep"), {}, [], []))
    assert found.series == ()
    assert "There is no launch yet." in doubts.warnings(found)


def test_one_point_shows_no_scaling():
    found = analysed(runs(counts=(4,)))
    series = found.series[0]
    assert (series.recommended, sentences.bottleneck(series)) == (None, "")
    assert "4 ranks is the only count with a launch that succeeded" in advice(series)
    assert any(
        "4 ranks is the only count with a launch that succeeded" in each
        for each in doubts.warnings(found)
    )


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, None])
def test_a_success_without_a_time_is_a_failure(seconds):
    some = runs()
    some[0] = replace(some[0], seconds=seconds)
    found = analysed(some)
    assert [run.reason for run in found.failures] == [f"its seconds are {seconds}"]
    assert found.series[0].points[0].launches == 5


def test_superlinear_points_are_noted():
    series = only(runs(lambda p: 10 / p**1.1))
    assert not series.points[0].superlinear
    assert all(point.superlinear for point in series.points[1:])
    warnings = doubts.warnings(analysed(runs(lambda p: 9 / p**2)))
    assert any("the efficiency is above 100 %" in each for each in warnings)
    # Without an interval, 3 % is noise.
    assert not any(p.superlinear for p in only(runs(lambda p: 9 / p, launches=2)).points)
    single = only(runs(lambda p: 10 / p**1.1, launches=1))
    assert by_ranks(single)[4].superlinear


def test_memory_bounds_strong_scaling_on_a_node():
    series = only(hosted(noise=0), limit=examples.LIMIT)
    for p, point in by_ranks(series).items():
        assert point.kernel_gbs == 4 * p
        assert point.limit_share == pytest.approx(4 * p / 30)
        # 24 GB at 30 GB/s, against 10 s.
        assert point.bound == pytest.approx(10 / 0.8)
        assert not point.cache_resident or p == 8
    assert series.baseline is series.points[0]


def test_memory_of_more_nodes_bounds_less():
    some = [replace(run, nodes=max(1, run.ranks // 4)) for run in hosted(noise=0)]
    points = by_ranks(only(some, limit=examples.LIMIT))
    assert points[8].bound == pytest.approx(2 * points[4].bound) == pytest.approx(20 / 0.8)
    assert points[8].limit_share == pytest.approx(32 / 60)


def test_memory_bounds_weak_scaling_by_work_per_second():
    more = {"mode": "weak", "noise": 0}
    for work in (lambda p: None, lambda p: 7.0 * p):
        some = hosted(lambda p: 10 + p, kernel_bytes=lambda p: p * 24e9, **more)
        some = [replace(run, work=work(run.ranks)) for run in some]
        for p, point in by_ranks(only(some, limit=examples.LIMIT)).items():
            # (p / (24 p / 30 s)) / (1 / 11 s), which no count of ranks on a node changes.
            assert point.bound == pytest.approx(11 / 0.8), p


def test_bandwidth_is_the_median_of_the_launches_that_tell_it():
    some = hosted()
    some[:6] = [
        replace(run, facts={**FACTS, "kernel_gbs": gbs})
        for run, gbs in zip(some, (9.0, 1.0, 2.0, math.nan, math.inf, 3.0), strict=False)
    ]
    point = only(some, limit=examples.LIMIT).points[0]
    assert (point.kernel_gbs, point.limit_share) == (2.5, 2.5 / 30)
    assert math.isnan(point.bound)


def test_memory_of_the_host_does_not_bound_a_gpu():
    some = [replace(run, facts={**run.facts, "devices": ["NVIDIA H200"]}) for run in hosted()]
    found = analysed(some, limit=examples.LIMIT)
    for point in found.series[0].points:
        assert point.kernel_gbs == 4 * point.ranks
        assert math.isnan(point.limit_share) and math.isnan(point.bound)
    assert sentences.limit(found).endswith("measured on 2026-11-25 (8 ranks x 1 thread).")
    assert "memory" not in method.method(found)


def test_without_a_limit_the_bandwidth_alone_is_known():
    found = analysed(hosted())
    assert by_ranks(found.series[0])[8].kernel_gbs == 32
    assert math.isnan(found.series[0].points[0].limit_share)
    assert (sentences.limit(found), "memory" in method.method(found)) == ("", False)
    # The record of an earlier version, and a program without one.
    for facts in (FACTS, {}):
        point = only(runs(facts=facts), limit=examples.LIMIT).points[0]
        assert math.isnan(point.kernel_gbs) and math.isnan(point.bound)


def test_kernel_faster_than_memory_is_cache_resident():
    found = analysed(hosted(gbs=lambda p: 7.8 * p), limit=examples.LIMIT)
    (series,) = found.series
    noted = [p for p, point in by_ranks(series).items() if point.cache_resident]
    # 104 % at 4 ranks may be noise.
    assert noted == [8]
    assert doubts.warnings(found)[-1] == (
        "In strong scaling on 8 ranks, the kernel is faster than memory: its data stay in cache, "
        "so a larger problem may scale otherwise."
    )


def test_ranks_that_take_turns_have_no_bandwidth():
    # Each is in its kernel at another time, so the sum over them would be more than there was.
    points = by_ranks(only(hosted(cores=4, gbs=lambda p: 20.0 * p), limit=examples.LIMIT))
    assert points[4].kernel_gbs == 80 and points[4].cache_resident
    assert math.isnan(points[8].kernel_gbs) and math.isnan(points[8].limit_share)
    assert points[8].bound > 0 and not points[8].cache_resident


def test_limit_that_fewer_cores_measured_may_be_too_low():
    limit = replace(examples.LIMIT, ranks=4, nodes=2)
    found = analysed(hosted(gbs=lambda p: 40.0), limit=limit)
    points = by_ranks(found.series[0])
    assert points[2].cache_resident and not points[4].cache_resident
    assert (
        "The limit of memory was measured with fewer cores of a node than were used on 4 and 8 "
        "ranks, and may be too low." in doubts.warnings(found)
    )
    # As many cores, in fewer ranks; and ranks that take turns on as many.
    for changes in ({"ranks": 2, "threads": 4}, {}):
        few = 4 if not changes else 8
        found = analysed(hosted(cores=few), limit=replace(examples.LIMIT, **changes))
        assert not any("too low" in each for each in doubts.warnings(found))


def test_limits_are_over_the_baseline_that_was_measured():
    fit = only(runs(counts=(4, 8, 16, 32), noise=0)).fits[0]
    # T(4) / T(infinity) of s = 0.05, as the points and the curve are relative to 4 ranks.
    assert "limit of the speedup over 4 ranks = 5.75 (" in sentences.fit(fit)
    assert fit.parameters["s"].value == pytest.approx(0.05)
    rate = lambda p: 1 / (0.95 + 0.05 / p)  # noqa: E731
    weak = only(runs(rate, counts=(4, 8, 16, 32), mode="weak", noise=0))
    gained = (weak.points[-1].speedup.value - weak.points[0].speedup.value) / (32 - 4)
    assert f"gained with each rank = {numbers.figure(gained)} (" in sentences.fit(weak.fits[0])


def test_a_law_that_does_not_describe_the_data_gives_no_numbers():
    fit = only(runs(lambda p: 10 * p, noise=0)).fits[0]
    assert sentences.fit(fit).startswith("The law does not describe these data")
    assert (fit.parameters, fit.identifiable) == ({}, False)
    assert fit.curve


@pytest.mark.long
def test_noise_alone_does_not_refute_a_law():
    refuted = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        some = [replace(r, seconds=amdahl(r.ranks) * random.lognormal(sigma=0.2)) for r in runs()]
        refuted += "does not describe" in sentences.fit(only(some).fits[0])
    assert refuted <= 4


def test_without_intervals_a_misfit_is_told_beside_the_numbers():
    fit = only(runs(lambda p: 10 / p + 0.01 * p**2, launches=1, noise=0)).fits[0]
    assert fit.parameters
    assert "does not describe these data" in sentences.fit(fit)


def test_both_modes_strong_first():
    found = analysed([*runs(lambda p: 10, mode="weak"), *runs()])
    assert [series.mode for series in found.series] == ["strong", "weak"]


def test_published_gromacs_data():
    """The efficiency falls to 26 % at 64 nodes; the speedups are those of the printed figure."""
    found = analyse(published.gromacs())
    series = found.series[0]
    assert (series.axis, series.baseline.nodes) == ("nodes", 4)
    for point in series.points:
        printed = published.GROMACS_SPEEDUP[point.ranks]
        assert point.speedup.value == pytest.approx(printed, abs=1e-4)
    assert by_ranks(series)[64].efficiency.value == pytest.approx(0.26, abs=0.001)
    assert (series.recommended, series.fits[0].law) == (8, "Amdahl")
    assert series.fits[0].parameters["s"].value == pytest.approx(0.0556, abs=0.001)


def test_a_large_sweep_is_little_work():
    some = [*runs(counts=[2**i for i in range(8)]), *runs(lambda p: 10, mode="weak")]
    # Some 0.3 s.
    assert calls(analysed, some)[1] < 400_000


def test_analysis_has_no_field_without_a_value():
    found = analysed(runs(facts=FACTS), limit=examples.LIMIT)
    assert all(getattr(found, each.name) is not None for each in fields(found))
