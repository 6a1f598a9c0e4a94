"""What a report says in words of what the analysis found."""

import math
from dataclasses import replace

import pytest

from rankwise.data.schedules import SCHEDULES
from rankwise.ranks import clock
from rankwise.report import doubts, method, numbers, sentences, tables
from tests.analysis import examples
from tests.analysis.examples import (
    COUNTS,
    FACTS,
    advice,
    analysed,
    by_ranks,
    failed,
    hosted,
    only,
    runs,
    with_phases,
    with_queue,
)

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.mark.parametrize(
    ("target", "recommended", "words"),
    [
        (0.7, 8, "8 ranks, the largest measured count with an efficiency of at least 70 %: it has"),
        (0.3, 32, "Larger counts were not measured."),
        (0.97, 1, "1 rank: no larger measured count has an efficiency of at least 97 %"),
        (1.1, None, "because no measured count has an efficiency of at least 110 %."),
    ],
)
def test_recommendation(target, recommended, words):
    series = only(runs(), efficiency=target)
    assert series.recommended == recommended
    assert words in advice(series, target)
    if recommended:
        cost = by_ranks(series)[recommended].cost.core_hours
        assert f"{numbers.figure(cost)} core-hours" in advice(series, target)


def test_recommendation_says_when_the_interval_reaches_below_the_target():
    noisy = runs(noise=0.1)
    efficiency = by_ranks(only(noisy))[8].efficiency
    target = (efficiency.low + efficiency.value) / 2
    series = only(noisy, efficiency=target)
    assert series.recommended == 8
    assert f"reaches down to {numbers.percent(efficiency.low)}." in advice(series, target)


def test_an_interval_that_reaches_little_below_the_target():
    noisy = runs(noise=0.09)
    low = by_ranks(only(noisy))[8].efficiency.low
    target = low + 1e-7
    told = numbers.percent(low, target)
    # Rounded to three digits it would be above.
    assert told != numbers.percent(low) == "68.9 %"
    assert f"reaches down to {told}." in advice(only(noisy, efficiency=target), target)


def test_bottleneck_is_the_phase_that_loses_most():
    def phases(run):
        rest = [0.0] * (run.ranks - 1)
        return {
            "kernel": [8 / run.ranks] * run.ranks,
            "scatter": [0.1, *rest],
            "wait": [0 if run.ranks == 1 else 0.5] * run.ranks,
        }

    series = only(with_phases(runs(), phases))
    assert sentences.bottleneck(series).startswith(
        "`wait` holds the scaling back: on 32 ranks, the busiest rank spends 58.8 %"
    )
    assert sentences.bottleneck(series).endswith("give all of them the same work.")
    assert by_ranks(series)[4].phases["scatter"] == pytest.approx(0.025)


def test_waiting_for_one_rank_is_blamed_on_what_that_rank_does():
    def phases(run):
        others = run.ranks - 1
        return {"read": [2.0, *[0.0] * others], "kernel": [1 / run.ranks] * run.ranks,
                "wait": [0.0, *[2.0] * others]}  # fmt: skip

    series = only(with_phases(runs(), phases))
    assert sentences.bottleneck(series).startswith(
        "`read` holds the scaling back: on 32 ranks, the busiest rank"
    )
    assert by_ranks(series)[4].phases["wait"] == pytest.approx(1.5)
    assert by_ranks(series)[4].busiest == {"read": 2.0, "kernel": 0.25, "wait": 0.0}


def test_uneven_kernels_are_called_a_load_to_balance():
    def phases(run):
        slow = (1.0 + run.ranks) / run.ranks
        return {"kernel": [slow] + [1 / run.ranks] * (run.ranks - 1)}

    assert "times the mean: balance the load." in sentences.bottleneck(
        only(with_phases(runs(), phases))
    )


@pytest.mark.parametrize("phase", ["kernel", "wait"])
@pytest.mark.parametrize(
    ("schedule", "cure"),
    [("block", "--schedule guided, or deal"), ("cyclic", "--schedule guided or dynamic."),
     ("guided", "--schedule dynamic, or cut"), ("dynamic", "(--chunk), or cut"),
     ("of their own", "balance the load.")],
)  # fmt: skip
def test_an_uneven_queue_has_a_cure(phase, schedule, cure):
    def phases(run):
        return {"kernel": [10 / run.ranks] * run.ranks} | {phase: [3.0] * run.ranks}

    def busy(run):
        return [1.0 + 0.5 * (rank == 0) for rank in range(run.ranks)]

    some = with_phases(runs(counts=(1, 2, 4)), phases)
    words = sentences.bottleneck(only(with_queue(some, busy, schedule)))
    assert words.startswith(f"`{phase}` holds the scaling back")
    told = f" With the schedule {schedule}, the busiest rank computes for 1.33 times the mean: "
    assert told in words and cure in words.partition(told)[2]
    # All of them equally busy, and another phase: then this is not the cause.
    even = sentences.bottleneck(only(with_queue(some, lambda run: [1.0] * run.ranks, schedule)))
    assert "the mean" not in even and even.endswith(sentences._PHASES[phase])
    other = [replace(run, phases={"kernel": [0.0], "gather": [3.0]}) for run in some]
    assert "the mean" not in sentences.bottleneck(only(with_queue(other, busy, schedule)))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_no_chunk_explains_is_not_blamed_on_chunks(schedule):
    def phases(run):
        return {"kernel": [10 / run.ranks] * run.ranks, "wait": [3.0] * run.ranks}

    def busy(run):
        return [1.0 + 0.5 * (rank == 0) for rank in range(run.ranks)]

    # The longest chunk takes 1.3 % of the mean, and the busiest rank is a third above.
    some = with_queue(with_phases(runs(counts=(1, 2, 4)), phases), busy, schedule, 100)
    told = "no chunk is long enough to cause that, so ranks got unequal shares of the cores."
    assert (told in sentences.bottleneck(only(some))) == (schedule in ("guided", "dynamic"))


@pytest.mark.parametrize(("most", "told"), [(1.05, False), (1.15, True)])
def test_little_unevenness_is_not_told(most, told):
    def phases(run):
        return {"kernel": [10 / run.ranks] * run.ranks, "wait": [3.0] * run.ranks}

    def busy(run):
        return (
            [most, *[(run.ranks - most) / (run.ranks - 1)] * (run.ranks - 1)]
            if run.ranks > 1
            else [1]
        )

    words = sentences.bottleneck(
        only(with_queue(with_phases(runs(counts=(1, 2, 4)), phases), busy))
    )
    assert ("the busiest rank computes" in words) == told


def test_every_schedule_has_a_cure():
    assert set(sentences._SCHEDULES) == set(SCHEDULES)


@pytest.mark.parametrize(
    ("devices", "seconds"),
    [(["host"], "CPU seconds"), (["NVIDIA H200 GPU-1"], "seconds"), (["host", "x"], "seconds")],
)
def test_method_tells_the_schedule_and_what_the_imbalance_is(devices, seconds):
    some = runs(facts={**FACTS, "devices": devices})
    words = (
        "The ranks shared a queue of tasks with the schedule guided. The imbalance is the "
        f"{seconds} for which the busiest rank computed, over the mean of all ranks,"
    )
    queued = with_queue(some, lambda run: [1.0] * run.ranks, "guided")
    assert words in method.method(analysed(queued))
    assert "imbalance" not in method.method(analysed(some))


def test_bottleneck_of_weak_scaling_is_what_grows():
    def phases(run):
        return {"kernel": [5.0] * run.ranks, "gather": [0.1 * run.ranks] * run.ranks}

    series = only(with_phases(runs(lambda p: 5 + 0.1 * p, mode="weak"), phases))
    assert sentences.bottleneck(series).startswith(
        "`gather` holds the scaling back: on 32 ranks, the busiest rank spends 39"
    )
    assert "100 % of the time that is lost against 1 rank" in sentences.bottleneck(series)


def test_time_outside_every_phase_is_named():
    def phases(run):
        return {"kernel": [9 / run.ranks] * run.ranks, "other": [1.0] * run.ranks}

    series = only(with_phases(runs(), phases))
    assert (series.bottleneck.phase, series.bottleneck.baseline) == ("other", 1)
    assert series.bottleneck.loss_share == pytest.approx(1)
    assert sentences.bottleneck(series).endswith(
        "No phase covers this time: it is Python of the job itself; time its parts with run.phase, "
        "or move them out of the repeat."
    )


def test_every_phase_of_a_repeat_has_a_hint():
    assert set(sentences._PHASES) == set(clock.REPEATED)


def test_notes_of_a_point():
    point = examples.point(2, [1.0] * 5)
    failures = (examples.run(outcome="failed"), *[examples.run(outcome="timed out")] * 2)
    marked = replace(point, superlinear=True, cache_resident=True)
    assert sentences.notes(point) == ("5 launches, so no interval",)
    assert sentences.notes(replace(marked, oversubscribed=True, cores=1, failed=failures)) == (
        "oversubscribed: 2 on 1 core",
        "1 of 8 launches failed",
        "2 of 8 launches timed out",
        "5 launches, so no interval",
        "superlinear",
        "cache-resident",
    )


@pytest.mark.parametrize(
    ("fraction", "words"),
    [(1.0, "100 %"), (0.78, "78.0 %"), (0.0004, "0.0400 %"), (12.346, "1235 %"), (math.nan, "-")],
)
def test_percent(fraction, words):
    assert numbers.percent(fraction) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.6997, "69.97 %"), (0.699999, "69.9999 %"), (0.7, "70.0 %"), (0.69, "69.0 %"),
     (0.7004, "70.0 %"), (math.nextafter(0.7, 0), "70.0 %"), (0.7 * (1 - 1e-11), "69.999999999 %"),
     (math.nan, "-")],
)  # fmt: skip
def test_an_efficiency_below_the_target_is_not_written_like_it(value, words):
    assert numbers.percent(value, 0.7) == words


def test_an_efficiency_just_below_the_target_is_written_so_in_table_and_words():
    efficiency = by_ranks(only(runs()))[8].efficiency.value
    made = analysed(runs(), efficiency=efficiency + 1e-6)
    assert efficiency < made.target
    column = next(c for c in tables.columns(made, made.series[0]) if c.title == "efficiency")
    at = [point.ranks for point in made.series[0].points].index(8)
    assert column.cells[at] == numbers.percent(efficiency, made.target)
    assert float(column.cells[at].rstrip(" %")) < 100 * made.target


@pytest.mark.parametrize(
    ("counts", "words"),
    [([1], "1 rank"), ([1, 2, 4], "1, 2 and 4 ranks"),
     (range(1, 14), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 13 ranks"),
     (range(1, 65), "1, 2, 3 and 61 more counts up to 64 ranks")],
)  # fmt: skip
def test_lists_of_ranks(counts, words):
    assert sentences.rank_list(list(counts)) == words


def test_method_tells_what_answers_were_checked_against():
    def check(why):
        return {"why": why, "error": 0.0, "bound": 1e-9}

    def checked(*checks):
        return [replace(r, facts={**FACTS, "checks": list(checks)}) for r in runs()]

    some = checked(check("rounding of the sum"), check("five standard errors"))
    some[7] = replace(some[7], facts={**FACTS, "checks": [check("five standard errors")]})
    words = (
        "Each launch checked its answer against an independent one, with the bound: rounding of "
        "the sum; five standard errors."
    )
    assert words in method.method(analysed(some))
    # What failed is not evidence, and need not have come to its check.
    some[0] = replace(*failed(some[:1]), facts={})
    assert words in method.method(analysed(some))
    for facts in ({**FACTS, "checks": []}, FACTS):
        some[9] = replace(some[9], facts=facts)
        assert "checked its answer" not in method.method(analysed(some))


def test_no_bottleneck_where_nothing_is_lost_or_recorded():
    assert sentences.bottleneck(only(runs())) == ""
    some = with_phases(runs(), lambda run: {"kernel": [10 / run.ranks] * run.ranks})
    assert sentences.bottleneck(only(some)) == ""
    ideal = with_phases(runs(lambda p: 10 / p), lambda run: {"kernel": [10 / run.ranks]})
    assert (
        sentences.bottleneck(only(ideal))
        == "Up to 32 ranks, no phase is shown to hold the scaling back."
    )


def test_bottleneck_is_sought_where_every_rank_has_a_core():
    def phases(run):
        late = 5.0 if run.ranks > 8 else 0.0
        return {"kernel": [10 / run.ranks + late], "gather": [0.3 * run.ranks]}

    assert "on 8 ranks" in sentences.bottleneck(only(with_phases(runs(cores=8), phases)))
    lonely = sentences.bottleneck(only(with_phases(runs(cores=1), phases)))
    assert "on 32 ranks (oversubscribed)" in lonely


def test_runs_that_agree_give_no_warning_and_the_method_says_so():
    found = analysed(runs(facts=FACTS, work=1e6))
    assert doubts.warnings(found) == ()
    assert "All launches of strong scaling gave the same result, bit for bit." in method.method(
        found
    )
    assert "variant numba; commit aaaaaaaaaaaa; MPICH 4.3" in method.method(found)
    for words in ("6 launches", "slowest rank", "random", "mpirun (MPICH)", "had 1 thread."):
        assert words in method.method(found)
    assert "the baseline: 1 rank with 10" in method.method(found)
    assert "It is not known whether that is the best serial program." in method.method(found)


@pytest.mark.parametrize(
    ("fact", "other", "words"),
    [
        ("job", "b", "different jobs"),
        ("variant", "cupy", "different variants"),
        ("devices", ["NVIDIA H200 GPU-1"], "different devices"),
        ("git", "b" * 40, "different commits"),
        ("mpi", "Open MPI 5", "different MPI libraries"),
        ("versions", {"numpy": "2.3"}, "different versions"),
        ("results_sha256", "0" * 64, "results of strong scaling differ between launches"),
    ],
)
def test_a_comparison_of_unlike_runs_is_warned_of(fact, other, words):
    some = runs(facts=FACTS)
    some[9] = replace(some[9], facts={**FACTS, fact: other})
    (warning,) = doubts.warnings(analysed(some))
    assert words in warning
    assert "bit for bit" not in method.method(analysed(some)) or fact != "results_sha256"


def test_devices_of_one_model_are_alike():
    some = [
        replace(run, gpus=run.ranks, facts={**FACTS, "devices": [f"NVIDIA H200 GPU-{run.launch}"]})
        for run in runs()
    ]
    assert doubts.warnings(analysed(some)) == ()
    assert sentences.machine(analysed(some)).endswith("up to 32 GPUs (NVIDIA H200)")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threads": 2}, "different numbers of threads"),
        ({"source": "json"}, "Seconds from different sources"),
        ({"work": 5.0}, "The size of the problem differs between launches of strong scaling."),
        ({"load": 7.0}, "Something else kept the machine busy just before 1 of 36 launches."),
        ({"facts": {**FACTS, "git": "c" * 40 + "-dirty"}}, "changes that no commit holds"),
        ({"facts": {**FACTS, "git": "unknown"}}, "The commit of the code is not known."),
    ],
)
def test_other_doubts_are_warned_of(changes, words):
    some = runs(work=1.0)
    some[3] = replace(some[3], **changes)
    assert any(words in each for each in doubts.warnings(analysed(some)))


def test_warnings_of_the_program_name_the_counts_where_they_came():
    crowded = "64 threads on 2 cores of vm: ask for more cores or start fewer ranks"
    told = {1: ["b"], 4: [crowded], 8: ["b", crowded], 32: ["b"]}
    some = [
        replace(run, facts={**FACTS, "warnings": told.get(run.ranks, [])}, mode=mode)
        for mode in ("strong", "weak")
        for run in runs(work=1.0)
    ]
    assert [each for each in doubts.warnings(analysed(some)) if "the program" in each][-2:] == [
        "On 1, 8 and 32 ranks the program warned: b.",
        f"On 4 and 8 ranks the program warned: {crowded}.",
    ]


def test_limit_of_another_machine_is_told():
    limit = replace(examples.LIMIT, hosts=("n1", "n2"), warnings=("launch: all on one core",))
    here = [replace(run, facts={**run.facts, "hosts": ["login"]}) for run in hosted()]
    other = "measured on other nodes (n1, n2) than the program ran on (login)"
    found = doubts.warnings(analysed(here, limit=limit))
    assert "When the limit of memory was measured: launch: all on one core." in found
    assert any(other in text for text in found)
    # One node in common, records of an earlier version, and no limit.
    same = [replace(run, facts={**run.facts, "hosts": ["n2", "n7"]}) for run in hosted()]
    for some, given in ((same, limit), (hosted(), limit), (here, examples.LIMIT), (here, None)):
        warnings = doubts.warnings(analysed(some, limit=given))
        assert not any("other nodes" in text for text in warnings)


@pytest.mark.parametrize(("busy", "said"), [(0, False), (18, False), (19, True), (36, True)])
def test_most_launches_disturbed_is_said_first(busy, said):
    some = runs()
    disturbed = [replace(one, load=1.5) for one in some[:busy]]
    found = analysed([*disturbed, *some[busy:]])
    words = doubts.mostly_disturbed(found)
    assert bool(words) == said
    if said:
        assert f"just before {busy} of 36 launches" in words and "idle" in words


def test_sentence_on_the_limit():
    some = [*hosted(noise=0), *hosted(noise=0, mode="weak", gbs=lambda p: 3.0 * p)]
    found = analysed(some, limit=replace(examples.LIMIT, ranks=16, nodes=2))
    assert sentences.limit(found) == (
        "The memory of a node delivers 30.0 GB/s reading and 25.0 GB/s copying, as a "
        "preflight measured on 2026-11-25 (16 ranks x 1 thread on 2 nodes). Of the reading, the "
        "kernel reaches at most 107 % on 8 ranks in strong scaling and 80.0 % on 8 ranks in weak "
        "scaling."
    )
    assert "As a bound, we take memory to deliver 30.0 GB/s per node, as measured" in method.method(
        found
    )
    # Ranks that take turns on a core have no bandwidth of their own.
    found = analysed(hosted(cores=4), limit=examples.LIMIT)
    assert sentences.limit(found).endswith("at most 53.3 % on 4 ranks in strong scaling.")


def test_whole_processes_are_told():
    found = analysed(runs(source="process"))
    assert any("whole process" in each for each in doubts.warnings(found))


def test_recommended_count_is_not_slower_than_a_smaller_one():
    seconds = {1: 10.0, 2: 6.0, 4: 8.0}
    found = only(runs(lambda p: seconds[p], counts=(1, 2, 4), noise=0), efficiency=0.3)
    assert found.recommended == 2
    words = "2 ranks: larger counts have an efficiency of at least 30 % too, and are no faster."
    assert words in advice(found, 0.3)


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
    assert "There, 2 of 6 launches failed." in advice(found)


def test_larger_counts_without_a_core_each_are_not_said_to_be_inefficient():
    found = only(runs(lambda p: 10 / p, counts=(1, 2), cores=1, noise=0))
    assert found.recommended == 1
    assert "Larger counts had more ranks x threads than cores." in advice(found)


def test_folders_measured_one_after_the_other_are_not_called_shuffled():
    planned = examples.plan(COUNTS, folders=["nodes-1", "nodes-2"])
    paragraph = method.method(analysed(runs(), planned=planned))
    assert "Each count was measured by itself" in paragraph
    assert "The order of the launches was random" not in paragraph
    assert "The order of the launches was random." in method.method(analysed(runs()))


def test_method_has_the_command_and_how_its_size_grows():
    planned = examples.plan(COUNTS, weak="n=1000*ranks")
    paragraph = method.method(analysed([*runs(), *runs(mode="weak")], planned=planned))
    assert "jobs/demo.py --n 1e6." in paragraph
    assert "as n=1000*ranks; in strong scaling it is that of one rank" in paragraph


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
    assert not any("are compared" in each for each in doubts.warnings(analysed(some)))
    told = [each for each in doubts.warnings(analysed(mixed)) if "are compared" in each]
    assert [each.partition(" are")[0] for each in told] == [f"Launches with different {what}"]


def test_weak_scaling_of_a_program_that_does_not_tell_its_work():
    told = "the program does not tell its work"
    assert any(told in each for each in doubts.warnings(analysed(runs(mode="weak"))))
    some = [replace(run, work=5.0 * run.ranks) for run in runs(mode="weak")]
    assert not any(told in each for each in doubts.warnings(analysed(some)))


def test_title_and_machine():
    found = analysed(runs())
    assert sentences.title(found) == "jobs/demo.py --n 1e6"
    assert sentences.machine(found) == "n001, Example CPU 9000, 8 cores, 64 GiB"
    assert found.target == 0.7


def test_every_text_is_whole():
    """No figure, interval or list that a sentence wants may be missing from it."""
    for some in (runs(), runs(launches=2), runs(noise=0.3), runs(cores=2), failed(runs())):
        found = analysed(some)
        texts = [
            method.method(found),
            sentences.machine(found),
            sentences.title(found),
            *doubts.warnings(found),
        ]
        for series in found.series:
            texts += [advice(series), sentences.bottleneck(series)]
            texts += [sentences.fit(fit) for fit in series.fits]
        assert not any("nan" in text.split() or "None" in text or "[" in text for text in texts)
