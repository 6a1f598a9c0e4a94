import math
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from rankwise.analysis import laws
from rankwise.analysis.analysis import Estimate, analyse
from rankwise.report import sentences
from rankwise.sweep.folder import Sweep
from tests.analysis import examples, published

COUNTS = (1, 2, 4, 8, 16, 32)


def amdahl(p, s=0.05):
    return 10 * (s + (1 - s) / p)


def runs(seconds=amdahl, counts=COUNTS, launches=6, noise=0.01, mode="strong", **changes):
    """Return the runs of a sweep whose seconds scatter around a function of the rank count."""
    random = np.random.default_rng(1)
    return [
        examples.run(
            mode=mode,
            ranks=p,
            launch=launch,
            seconds=seconds(p) * random.lognormal(sigma=noise),
            **{"cores": 64, "source": "record", **changes},
        )
        for p in counts
        for launch in range(1, launches + 1)
    ]


def analysed(some, missing=(), planned=None, limit=None, **options):
    if planned is None:
        planned = examples.plan(sorted({run.ranks for run in some}))
    return analyse(Sweep(Path("sweep"), planned, list(some), list(missing), limit), **options)


def only(some, **options):
    (series,) = analysed(some, **options).series
    return series


def by_ranks(series):
    return {point.ranks: point for point in series.points}


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
        assert point.cost == pytest.approx(p * (amdahl(p) + 1) / 3600)
    fit = series.fits[0]
    assert (fit.law, fit.identifiable, fit.ranks) == ("Amdahl", True, COUNTS)
    assert fit.parameters["s"].value == pytest.approx(0.05, abs=1e-9)
    assert fit.statement.startswith("Serial fraction s = 0.05 (0.05 to 0.05), limit of the speedup")
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
    assert "rank count with the least time = 31" in fit.statement
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
    assert any("the work of a rank varies by 11.1 %" in each for each in found.warnings)


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
    assert fit.statement.endswith("no interval: fewer than six launches.")
    assert all(math.isnan(low) and math.isnan(high) for _, _, low, high in fit.curve)
    assert all("5 launches, so no interval" in point.notes for point in series.points)
    assert "No interval: fewer than six launches." in series.recommendation
    found = analysed(runs(launches=5))
    assert any("fewer than six launches" in each for each in found.warnings)
    assert "There are no intervals" in found.method


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
        assert f"{len(counts)} rank counts, and this law wants at least {wanted}." in fit.statement


def test_gustafson_wants_three_counts():
    (fit,) = only(runs(lambda p: 10, counts=(1, 2), mode="weak")).fits
    assert not fit.identifiable and not fit.parameters


def test_what_the_data_cannot_tell_is_said_with_what_they_allow():
    fit = only(runs(lambda p: 10 / p, noise=0.03)).fits[0]
    assert not fit.identifiable
    assert fit.statement.startswith("Not identifiable from these data, which allow (95 %): ")
    high = fit.parameters["s"].high
    assert f"s at most {sentences.figure(high)}" in fit.statement
    assert f"limit of the speedup over 1 rank {sentences.figure(1 / high)} or more" in fit.statement
    assert fit.curve


def test_a_wide_interval_is_not_identifiable_though_it_excludes_zero():
    fit = only(runs(lambda p: amdahl(p, 0.0012), counts=(1, 2, 4, 8), launches=20)).fits[0]
    s = fit.parameters["s"]
    assert 0 < 10 * s.low < s.high
    assert not fit.identifiable
    assert f"from {sentences.figure(s.low)} to" in fit.statement


def test_a_law_that_does_not_describe_the_data_says_so():
    def seconds(p):
        return 10 / p if p < 16 else 10 / p + 2

    fit = only(runs(seconds)).fits[0]
    assert "The law does not describe these data: it is" in fit.statement
    assert "does not describe" not in only(runs()).fits[0].statement


def test_time_that_only_grows_from_a_larger_baseline_identifies_nothing():
    series = only(runs(lambda p: p - 1, counts=(2, 4, 8, 16), noise=0))
    assert "no part of the time surely falls with more ranks" in series.fits[1].statement
    assert not series.fits[1].identifiable


def test_oversubscribed_points_are_shown_and_not_fitted():
    some = runs(lambda p: amdahl(min(p, 8)), cores=8)
    series = only(some)
    assert [p for p, point in by_ranks(series).items() if point.oversubscribed] == [16, 32]
    assert by_ranks(series)[16].notes[0] == "oversubscribed: 16 on 8 cores"
    assert series.fits[0].ranks == (1, 2, 4, 8)
    assert series.fits[0].curve[-1][0] == pytest.approx(32)
    assert series.recommended == 8
    assert "Larger counts had more ranks x threads than cores." in series.recommendation
    assert only(some, oversubscribed=True).fits[0].ranks == COUNTS
    assert any("16, 32 ranks: more ranks x threads" in each for each in analysed(some).warnings)


def test_threads_oversubscribe_too():
    assert [p.oversubscribed for p in only(runs(counts=(1, 2, 4), threads=4, cores=8)).points] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("target", "recommended", "words"),
    [
        (0.7, 8, "8 ranks: the largest measured count with an efficiency of 70 % or more"),
        (0.3, 32, "Larger counts were not measured."),
        (0.97, 1, "1 rank: no larger measured count has an efficiency of 97 %"),
        (1.1, None, "No recommendation: no measured count has an efficiency of 110 %"),
    ],
)
def test_recommendation(target, recommended, words):
    series = only(runs(), efficiency=target)
    assert series.recommended == recommended
    assert words in series.recommendation
    if recommended:
        cost = by_ranks(series)[recommended].cost
        assert f"{sentences.figure(cost)} core-hours" in series.recommendation


def test_recommendation_says_when_the_interval_reaches_below_the_target():
    noisy = runs(noise=0.1)
    efficiency = by_ranks(only(noisy))[8].efficiency
    series = only(noisy, efficiency=(efficiency.low + efficiency.value) / 2)
    assert series.recommended == 8
    assert f"reaches down to {sentences.percent(efficiency.low)}." in series.recommendation


def test_cost_is_in_gpu_hours_where_there_are_gpus():
    some = [replace(run, gpus=run.ranks) for run in runs(threads=4, cores=1000)]
    found = analysed(some)
    assert found.cost_unit == "GPU-hours"
    point = by_ranks(found.series[0])[8]
    assert point.cost == pytest.approx(8 * point.process_seconds / 3600)
    assert "GPU-hours" in found.series[0].recommendation
    point = by_ranks(only(runs(threads=4, cores=1000)))[8]
    assert point.cost == pytest.approx(32 * point.process_seconds / 3600)


def with_phases(some, phases):
    return [replace(run, phases=phases(run)) for run in some]


def test_bottleneck_is_the_phase_that_loses_most():
    def phases(run):
        rest = [0.0] * (run.ranks - 1)
        return {
            "kernel": [8 / run.ranks] * run.ranks,
            "scatter": [0.1, *rest],
            "wait": [0 if run.ranks == 1 else 0.5] * run.ranks,
        }

    series = only(with_phases(runs(), phases))
    assert series.bottleneck.startswith(
        "`wait` holds the scaling back: at 32 ranks the busiest rank spends 58.8 %"
    )
    assert series.bottleneck.endswith("balance the load between one exchange and the next.")
    assert by_ranks(series)[4].phases["scatter"] == pytest.approx(0.025)


def test_waiting_for_one_rank_is_blamed_on_what_that_rank_does():
    def phases(run):
        others = run.ranks - 1
        return {"read": [2.0, *[0.0] * others], "kernel": [1 / run.ranks] * run.ranks,
                "wait": [0.0, *[2.0] * others]}  # fmt: skip

    series = only(with_phases(runs(), phases))
    assert series.bottleneck.startswith(
        "`read` holds the scaling back: at 32 ranks the busiest rank"
    )
    assert by_ranks(series)[4].phases["wait"] == pytest.approx(1.5)
    assert by_ranks(series)[4].busiest == {"read": 2.0, "kernel": 0.25, "wait": 0.0}


def test_uneven_kernels_are_called_a_load_to_balance():
    def phases(run):
        slow = (1.0 + run.ranks) / run.ranks
        return {"kernel": [slow] + [1 / run.ranks] * (run.ranks - 1)}

    assert "times the mean: balance the load." in only(with_phases(runs(), phases)).bottleneck


def test_bottleneck_of_weak_scaling_is_what_grows():
    def phases(run):
        return {"kernel": [5.0] * run.ranks, "gather": [0.1 * run.ranks] * run.ranks}

    series = only(with_phases(runs(lambda p: 5 + 0.1 * p, mode="weak"), phases))
    assert series.bottleneck.startswith(
        "`gather` holds the scaling back: at 32 ranks the busiest rank spends 39"
    )
    assert "100 % of what is lost against 1 rank" in series.bottleneck


def test_no_bottleneck_where_nothing_is_lost_or_recorded():
    assert only(runs()).bottleneck == ""
    some = with_phases(runs(), lambda run: {"kernel": [10 / run.ranks] * run.ranks})
    assert only(some).bottleneck == ""
    ideal = with_phases(runs(lambda p: 10 / p), lambda run: {"kernel": [10 / run.ranks]})
    assert only(ideal).bottleneck == "Nothing surely holds the scaling back up to 32 ranks."


def test_bottleneck_is_sought_where_every_rank_has_a_core():
    def phases(run):
        late = 5.0 if run.ranks > 8 else 0.0
        return {"kernel": [10 / run.ranks + late], "gather": [0.3 * run.ranks]}

    assert "at 8 ranks" in only(with_phases(runs(cores=8), phases)).bottleneck
    lonely = only(with_phases(runs(cores=1), phases)).bottleneck
    assert "at 32 ranks (oversubscribed)" in lonely


def test_imbalance_is_of_the_kernel_of_each_rank():
    def phases(run):
        return {"kernel": [2.0] + [1.0] * (run.ranks - 1)}

    points = by_ranks(only(with_phases(runs(), phases)))
    assert points[1].imbalance == (1.0,)
    assert points[4].imbalance == pytest.approx((1.6, 0.8, 0.8, 0.8))
    assert only(runs()).points[0].imbalance == ()


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
    assert point.notes == ("1 of 6 launches timed out", "5 launches, so no interval")
    assert "1 of 36 runs did not succeed." in found.warnings
    assert "Not all planned runs took place." in found.warnings
    assert found.missing == ("strong, 64 ranks: 6 launches",)


def failed(some):
    return [replace(run, outcome="failed", reason="exit 1", seconds=None) for run in some]


def test_a_missing_baseline_is_said():
    some = runs()
    found = analysed([*failed(some[:6]), *some[6:]])
    series = found.series[0]
    assert series.baseline.ranks == 2
    assert math.isnan(series.points[0].seconds.value)
    assert math.isnan(series.points[0].speedup.value)
    assert "Strong scaling: nothing at 1 rank, so the baseline is 2." in found.warnings


def test_all_failed():
    found = analysed(failed(runs()))
    series = found.series[0]
    assert (series.baseline, series.fits, series.recommended) == (None, (), None)
    assert series.recommendation == "No recommendation: no launch succeeded."
    assert "Strong scaling: no launch succeeded." in found.warnings
    assert found.method == "No launch succeeded."


def test_nothing_was_run():
    found = analyse(Sweep(Path("sweep"), {}, [], []))
    assert found.series == ()
    assert "Nothing was run." in found.warnings


def test_one_point_shows_no_scaling():
    found = analysed(runs(counts=(4,)))
    series = found.series[0]
    assert (series.recommended, series.bottleneck) == (None, "")
    assert "4 ranks is the only point measured" in series.recommendation
    assert any("only 4 ranks measured" in each for each in found.warnings)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, None])
def test_a_success_without_a_time_is_a_failure(seconds):
    some = runs()
    some[0] = replace(some[0], seconds=seconds)
    found = analysed(some)
    assert [run.reason for run in found.failures] == [f"its seconds are {seconds}"]
    assert found.series[0].points[0].launches == 5


def test_superlinear_points_are_noted():
    series = only(runs(lambda p: 10 / p**1.1))
    assert "superlinear" not in series.points[0].notes
    assert all("superlinear" in point.notes for point in series.points[1:])
    assert any(
        "an efficiency above 1" in each for each in analysed(runs(lambda p: 9 / p**2)).warnings
    )
    # Without an interval, 3 % is noise.
    assert not any("superlinear" in p.notes for p in only(runs(lambda p: 9 / p, launches=2)).points)
    single = only(runs(lambda p: 10 / p**1.1, launches=1))
    assert "superlinear" in by_ranks(single)[4].notes


FACTS = {
    "job": "demo",
    "variant": "numba",
    "devices": ["host"],
    "git": "a" * 40,
    "mpi": "MPICH 4.3",
    "versions": {"numpy": "2.4"},
    "results_sha256": "f" * 64,
}


def test_runs_that_agree_give_no_warning_and_the_method_says_so():
    found = analysed(runs(facts=FACTS, work=1e6))
    assert found.warnings == ()
    assert "All strong-scaling runs gave the same result, bit for bit." in found.method
    assert "variant numba; commit aaaaaaaaaaaa; MPICH 4.3" in found.method
    for words in ("6 launches", "slowest rank", "seed 7", "mpirun (MPICH)", "1 thread per rank"):
        assert words in found.method
    assert "in strong scaling 1 rank, 10" in found.method
    assert "best serial code is not known" in found.method


@pytest.mark.parametrize(
    ("fact", "other", "words"),
    [
        ("job", "b", "different jobs"),
        ("variant", "cupy", "different variants"),
        ("devices", ["NVIDIA H200 GPU-1"], "different devices"),
        ("git", "b" * 40, "different commits"),
        ("mpi", "Open MPI 5", "different MPI libraries"),
        ("versions", {"numpy": "2.3"}, "different versions"),
        ("results_sha256", "0" * 64, "results of the strong-scaling runs differ"),
    ],
)
def test_a_comparison_of_unlike_runs_is_warned_of(fact, other, words):
    some = runs(facts=FACTS)
    some[9] = replace(some[9], facts={**FACTS, fact: other})
    (warning,) = analysed(some).warnings
    assert words in warning
    assert "bit for bit" not in analysed(some).method or fact != "results_sha256"


def test_devices_of_one_model_are_alike():
    some = [
        replace(run, gpus=run.ranks, facts={**FACTS, "devices": [f"NVIDIA H200 GPU-{run.launch}"]})
        for run in runs()
    ]
    assert analysed(some).warnings == ()
    assert analysed(some).machine.endswith("up to 32 GPUs (NVIDIA H200)")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threads": 2}, "different numbers of threads"),
        ({"source": "json"}, "Seconds from different sources"),
        ({"work": 5.0}, "differ in the size of their problem"),
        ({"load": 7.0}, "Something else kept the machine busy before 1 of 36 runs."),
        ({"facts": {**FACTS, "git": "c" * 40 + "-dirty"}}, "changes that no commit holds"),
        ({"facts": {**FACTS, "git": "unknown"}}, "The commit of the code is not known."),
    ],
)
def test_other_doubts_are_warned_of(changes, words):
    some = runs(work=1.0)
    some[3] = replace(some[3], **changes)
    assert any(words in each for each in analysed(some).warnings)


def test_warnings_of_the_program_name_the_counts_where_they_came():
    crowded = "64 threads on 2 cores of vm: ask for more cores or start fewer ranks"
    told = {1: ["b"], 4: [crowded], 8: ["b", crowded], 32: ["b"]}
    some = [
        replace(run, facts={**FACTS, "warnings": told.get(run.ranks, [])}, mode=mode)
        for mode in ("strong", "weak")
        for run in runs(work=1.0)
    ]
    assert [each for each in analysed(some).warnings if "the program" in each][-2:] == [
        "On 1, 8 and 32 ranks the program warned: b.",
        f"On 4 and 8 ranks the program warned: {crowded}.",
    ]


def hosted(seconds=amdahl, kernel_bytes=lambda p: 24e9, gbs=lambda p: 4.0 * p, **changes):
    """Return runs on hosts whose records tell of the kernel; see `examples.LIMIT`."""
    return [
        replace(
            run,
            facts={**FACTS, "kernel_bytes": kernel_bytes(run.ranks), "kernel_gbs": gbs(run.ranks)},
        )
        for run in runs(seconds, **{"counts": (1, 2, 4, 8), "cores": 8, **changes})
    ]


def test_memory_bounds_strong_scaling_on_a_node():
    series = only(hosted(noise=0), limit=examples.LIMIT)
    for p, point in by_ranks(series).items():
        assert point.kernel_gbs == 4 * p
        assert point.limit_share == pytest.approx(4 * p / 30)
        # 24 GB at 30 GB/s, against 10 s.
        assert point.bound == pytest.approx(10 / 0.8)
        assert "cache-resident" not in point.notes or p == 8
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
    assert found.limit.endswith("preflight of 2026-11-25).")
    assert "memory" not in found.method


def test_without_a_limit_the_bandwidth_alone_is_known():
    found = analysed(hosted())
    assert by_ranks(found.series[0])[8].kernel_gbs == 32
    assert math.isnan(found.series[0].points[0].limit_share)
    assert (found.limit, "memory" in found.method) == ("", False)
    # The record of an earlier version, and a program without one.
    for facts in (FACTS, {}):
        point = only(runs(facts=facts), limit=examples.LIMIT).points[0]
        assert math.isnan(point.kernel_gbs) and math.isnan(point.bound)


def test_kernel_faster_than_memory_is_cache_resident():
    found = analysed(hosted(gbs=lambda p: 7.8 * p), limit=examples.LIMIT)
    (series,) = found.series
    noted = [p for p, point in by_ranks(series).items() if "cache-resident" in point.notes]
    # 104 % at 4 ranks may be noise.
    assert noted == [8]
    assert (
        "Strong scaling, 8 ranks: a kernel faster than memory: its data stay in cache, so a larger "
        "problem may scale otherwise." in found.warnings
    )


def test_ranks_that_take_turns_have_no_bandwidth():
    # Each is in its kernel at another time, so the sum over them would be more than there was.
    points = by_ranks(only(hosted(cores=4, gbs=lambda p: 20.0 * p), limit=examples.LIMIT))
    assert points[4].kernel_gbs == 80 and "cache-resident" in points[4].notes
    assert math.isnan(points[8].kernel_gbs) and math.isnan(points[8].limit_share)
    assert points[8].bound > 0 and "cache-resident" not in points[8].notes


def test_limit_that_fewer_cores_measured_may_be_too_low():
    limit = replace(examples.LIMIT, ranks=4, nodes=2)
    found = analysed(hosted(gbs=lambda p: 40.0), limit=limit)
    points = by_ranks(found.series[0])
    assert "cache-resident" in points[2].notes and "cache-resident" not in points[4].notes
    assert (
        "The limit of memory was measured with fewer cores of a node than were used on 4 and 8 "
        "ranks, and may be too low." in found.warnings
    )
    # As many cores, in fewer ranks; and ranks that take turns on as many.
    for changes in ({"ranks": 2, "threads": 4}, {}):
        few = 4 if not changes else 8
        found = analysed(hosted(cores=few), limit=replace(examples.LIMIT, **changes))
        assert not any("too low" in each for each in found.warnings)


def test_limit_of_another_machine_is_told():
    limit = replace(examples.LIMIT, hosts=("n1", "n2"), warnings=("launch: all on one core",))
    here = [replace(run, facts={**run.facts, "hosts": ["login"]}) for run in hosted()]
    other = "measured on other nodes (n1, n2) than the program ran on (login)"
    found = analysed(here, limit=limit).warnings
    assert "When the limit of memory was measured: launch: all on one core." in found
    assert any(other in text for text in found)
    # One node in common, records of an earlier version, and no limit.
    same = [replace(run, facts={**run.facts, "hosts": ["n2", "n7"]}) for run in hosted()]
    for some, given in ((same, limit), (hosted(), limit), (here, examples.LIMIT), (here, None)):
        assert not any("other nodes" in text for text in analysed(some, limit=given).warnings)


def test_sentence_on_the_limit():
    some = [*hosted(noise=0), *hosted(noise=0, mode="weak", gbs=lambda p: 3.0 * p)]
    found = analysed(some, limit=replace(examples.LIMIT, ranks=16, nodes=2))
    assert found.limit == (
        "Measured limit: memory delivers 30 GB/s reading and 25 GB/s copying per node (16 ranks x "
        "1 thread on 2 nodes, preflight of 2026-11-25); of the read limit the kernel reaches at "
        "most 107 % at 8 ranks in strong scaling, 80 % at 8 ranks in weak scaling."
    )
    assert "As a bound, memory is taken to deliver 30 GB/s per node, measured" in found.method
    # Ranks that take turns on a core have no bandwidth of their own.
    found = analysed(hosted(cores=4), limit=examples.LIMIT)
    assert found.limit.endswith("at most 53.3 % at 4 ranks in strong scaling.")


def test_whole_processes_are_told():
    found = analysed(runs(source="process"))
    assert any("whole process" in each for each in found.warnings)


def test_limits_are_over_the_baseline_that_was_measured():
    fit = only(runs(counts=(4, 8, 16, 32), noise=0)).fits[0]
    # T(4) / T(infinity) of s = 0.05, as the points and the curve are relative to 4 ranks.
    assert "limit of the speedup over 4 ranks = 5.75 (" in fit.statement
    assert fit.parameters["s"].value == pytest.approx(0.05)
    rate = lambda p: 1 / (0.95 + 0.05 / p)  # noqa: E731
    weak = only(runs(rate, counts=(4, 8, 16, 32), mode="weak", noise=0))
    gained = (weak.points[-1].speedup.value - weak.points[0].speedup.value) / (32 - 4)
    assert f"gained with each rank = {sentences.figure(gained)} (" in weak.fits[0].statement


def test_a_law_that_does_not_describe_the_data_gives_no_numbers():
    fit = only(runs(lambda p: 10 * p, noise=0)).fits[0]
    assert fit.statement.startswith("The law does not describe these data")
    assert (fit.parameters, fit.identifiable) == ({}, False)
    assert fit.curve


def test_noise_alone_does_not_refute_a_law():
    refuted = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        some = [replace(r, seconds=amdahl(r.ranks) * random.lognormal(sigma=0.2)) for r in runs()]
        refuted += "does not describe" in only(some).fits[0].statement
    assert refuted <= 4


def test_without_intervals_a_misfit_is_told_beside_the_numbers():
    fit = only(runs(lambda p: 10 / p + 0.01 * p**2, launches=1, noise=0)).fits[0]
    assert fit.parameters
    assert "does not describe these data" in fit.statement


def test_recommended_count_is_not_slower_than_a_smaller_one():
    seconds = {1: 10.0, 2: 6.0, 4: 8.0}
    found = only(runs(lambda p: seconds[p], counts=(1, 2, 4), noise=0), efficiency=0.3)
    assert found.recommended == 2
    assert "2 ranks: larger counts have an efficiency of 30 % too and are slower" in (
        found.recommendation
    )


def test_recommendation_tells_of_launches_that_failed():
    bad = [run for run in runs(lambda p: 10 / p, counts=(1, 2)) if run.ranks == 2][:2]
    some = [
        run
        for run in runs(lambda p: 10 / p, counts=(1, 2))
        if (run.ranks, run.launch) > (2, 2) or run.ranks == 1
    ]
    some += [replace(run, outcome="failed", reason="exit status 1", seconds=None) for run in bad]
    found = only(some)
    assert found.recommended == 2
    assert "There, 2 of 6 launches failed." in found.recommendation


def test_larger_counts_without_a_core_each_are_not_said_to_be_inefficient():
    found = only(runs(lambda p: 10 / p, counts=(1, 2), cores=1, noise=0))
    assert found.recommended == 1
    assert "no larger measured count has an efficiency of 70 % and a core for every thread" in (
        found.recommendation
    )


def test_folders_measured_one_after_the_other_are_not_called_shuffled():
    planned = examples.plan(COUNTS, folders=["nodes-1", "nodes-2"])
    method = analysed(runs(), planned=planned).method
    assert "Each count was measured by itself" in method
    assert "seed 7" not in method
    assert "The order of the runs was random (seed" in analysed(runs()).method


def test_method_has_the_command_and_how_its_size_grows():
    planned = examples.plan(COUNTS, weak="n=1000*ranks")
    method = analysed([*runs(), *runs(mode="weak")], planned=planned).method
    assert "jobs/demo.py --n 1e6." in method
    assert "as n=1000*ranks; in strong scaling it is that of one rank" in method


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("processors", [{"cpu": "old"}, {"cpu": "new"}]),
        ("launchers", [{"argv": ["/a/mpirun"]}, {"argv": ["srun"]}]),
        ("commits of the program's folder", [{"commit": "a" * 40}, {"commit": "b" * 40}]),
        ("numbers of threads per rank", [{"threads": 1}, {"threads": 2}]),
    ],
)
def test_what_was_not_the_same_in_all_runs_is_told(what, values):
    some = runs()
    mixed = [replace(run, **values[i % 2]) for i, run in enumerate(some)]
    assert not any("are compared" in each for each in analysed(some).warnings)
    told = [each for each in analysed(mixed).warnings if "are compared" in each]
    assert [each.partition(" are")[0] for each in told] == [f"Runs of different {what}"]


def test_weak_scaling_of_a_program_that_does_not_tell_its_work():
    told = "the program does not tell its work"
    assert any(told in each for each in analysed(runs(mode="weak")).warnings)
    some = [replace(run, work=5.0 * run.ranks) for run in runs(mode="weak")]
    assert not any(told in each for each in analysed(some).warnings)


def test_both_modes_strong_first():
    found = analysed([*runs(lambda p: 10, mode="weak"), *runs()])
    assert [series.mode for series in found.series] == ["strong", "weak"]


def test_title_and_machine():
    found = analysed(runs())
    assert found.title == "jobs/demo.py --n 1e6"
    assert found.machine == "n001, Example CPU 9000, 8 cores, 64 GiB"
    assert found.target == 0.7


def test_every_text_is_whole():
    """No figure, interval or list that a sentence wants may be missing from it."""
    for some in (runs(), runs(launches=2), runs(noise=0.3), runs(cores=2), failed(runs())):
        found = analysed(some)
        texts = [found.method, found.machine, found.title, *found.warnings]
        for series in found.series:
            texts += [series.recommendation, series.bottleneck]
            texts += [fit.statement for fit in series.fits]
        assert not any("nan" in text.split() or "None" in text or "[" in text for text in texts)


def test_published_gromacs_data():
    """The efficiency falls to 26 % at 64 nodes; the speedups are those of the printed figure."""
    found = analyse(published.gromacs())
    series = found.series[0]
    assert (series.axis, series.baseline.nodes, found.cost_unit) == ("nodes", 4, "GPU-hours")
    for point in series.points:
        printed = published.GROMACS_SPEEDUP[point.ranks]
        assert point.speedup.value == pytest.approx(printed, abs=1e-4)
    assert by_ranks(series)[64].efficiency.value == pytest.approx(0.26, abs=0.001)
    assert (series.recommended, series.fits[0].law) == (8, "Amdahl")
    assert series.fits[0].parameters["s"].value == pytest.approx(0.0556, abs=0.001)


def test_a_large_sweep_takes_less_than_two_seconds():
    some = [*runs(counts=[2**i for i in range(8)]), *runs(lambda p: 10, mode="weak")]
    start = time.process_time()
    analysed(some)
    assert time.process_time() - start < 2


def test_analysis_has_no_field_without_a_value():
    found = analysed(runs(facts=FACTS))
    assert all(getattr(found, each.name) is not None for each in fields(found))
