"""What a run costs, and what is recommended where whole nodes are billed."""

import math
from dataclasses import replace

import pytest

from rankwise.analysis.cost import Billing
from rankwise.report import costs, doubts, method, numbers, tables
from rankwise.report.recommendation import recommendation, request
from rankwise.sweep.billing import Charge
from rankwise.sweep.launchers import UsageError
from tests.analysis.examples import analysed, by_ranks, run, runs

SLURM = {"whole_nodes": "", "billing": "4", "cores_per_node": 128, "gpus_per_node": 4}
NAMES = ("nodes", "node_hours", "core_hours", "gpu_hours", "charge")
EXCLUSIVE = {**SLURM, "whole_nodes": "OverSubscribe=NO"}


def billing(facts=None, charge=None, **plan):
    """Return how the runs of a plan are billed."""
    return Billing.of({"billing": facts, "charge": charge, **plan})


@pytest.mark.parametrize(
    ("billed", "one", "wanted"),
    [
        # One rank of a node with 128 cores and 4 GPUs, for half an hour.
        (billing(EXCLUSIVE), run(cores=128), (1, 0.5, 64.0, 2.0, math.nan)),
        (billing(SLURM), run(cores=128), (1 / 128, 0.5 / 128, 0.5, 0.0, math.nan)),
        # One GPU of four is a quarter of the node, though one core is less.
        (billing(SLURM), run(cores=128, gpus=1), (0.25, 0.125, 0.5, 0.5, math.nan)),
        # Three nodes of different kinds: all cores that they have.
        (billing(EXCLUSIVE), run(ranks=300, nodes=3, cores=448), (3, 1.5, 224, 6, math.nan)),
        (billing(), run(ranks=8, threads=2), (math.nan, math.nan, 8.0, 0.0, math.nan)),
        # Nodes of different kinds: Slurm says on how many these ranks were.
        (
            billing({**EXCLUSIVE, "cores_per_node": 64}),
            run(ranks=128, cores=128),
            (1, 0.5, 64.0, 2.0, math.nan),
        ),
        (
            billing(charge="0.02 EUR per core-hour"),
            run(ranks=8),
            (math.nan, math.nan, 4.0, 0.0, 0.08),
        ),
        (
            billing(EXCLUSIVE, "0.02 EUR per core-hour"),
            run(cores=128),
            (1, 0.5, 64.0, 2.0, 1.28),
        ),
        (billing(EXCLUSIVE, "3 per GPU-hour"), run(cores=128), (1, 0.5, 64.0, 2.0, 6.0)),
        (
            billing(SLURM, "128 CU per node-hour"),
            run(cores=128),
            (1 / 128, 0.5 / 128, 0.5, 0.0, 0.5),
        ),
        # Outside Slurm a rate by the node says that nodes are billed, of the size that is given.
        (
            billing(charge="600 CU per node-hour", cores_per_node=48),
            run(ranks=8, cores=8),
            (1, 0.5, 24.0, 0.0, 300.0),
        ),
        # Nobody said on how many nodes the ranks were: on as many as they fill.
        (
            billing(charge="600 CU per node-hour", cores_per_node=48),
            run(ranks=97, cores=97),
            (3, 1.5, 72.0, 0.0, 900.0),
        ),
        # More ranks than cores took turns on one node.
        (
            billing(charge="600 CU per node-hour", cores_per_node=48),
            run(ranks=97, cores=48),
            (1, 0.5, 24.0, 0.0, 300.0),
        ),
        (
            billing(charge="0.02 EUR per core-hour", cores_per_node=48),
            run(ranks=8, cores=8),
            (1 / 6, 1 / 12, 4.0, 0.0, 0.08),
        ),
    ],
)
def test_cost_of_half_an_hour(billed, one, wanted):
    found = billed.cost(one, 1800.0)
    for name, value in zip(NAMES, wanted, strict=True):
        assert getattr(found, name) == pytest.approx(value, nan_ok=True), name


def test_options_win_over_the_plan():
    plan = {"charge": "1 CU per core-hour", "runs": 3, "cores_per_node": 4}
    found = Billing.of(plan, Charge.parse("2 EUR per node-hour"), 5, 8)
    assert (found.charge.number, found.runs, found.cores_per_node) == (2.0, 5, 8)
    assert found.whole_nodes
    found = Billing.of(plan)
    assert (found.charge.number, found.runs, found.cores_per_node) == (1.0, 3, 4)


@pytest.mark.parametrize(
    "plan",
    [
        {"charge": "600 CU per node-hour"},
        {"charge": "gibberish"},
    ],
)
def test_what_cannot_be_billed_is_a_mistake(plan):
    with pytest.raises(UsageError):
        Billing.of(plan)


# Up to four nodes of eight cores: on a node more ranks gain little, more nodes gain much.
SECONDS = {1: 16.0, 2: 10.0, 4: 8.0, 8: 9.0, 16: 4.5, 32: 4.0}


def sweep(**options):
    """Return the analysis of runs on whole nodes."""
    some = [
        replace(one, nodes=max(1, one.ranks // 8), cores=8 * max(1, one.ranks // 8))
        for one in runs(SECONDS.get, counts=tuple(SECONDS), noise=0.001)
    ]
    return analysed(some, **options)


def test_efficiency_as_billed_is_relative_to_the_cheapest_count():
    found = sweep(billing=billing({**EXCLUSIVE, "cores_per_node": 8, "gpus_per_node": 0}))
    points = by_ranks(found.series[0])
    for ranks, seconds in SECONDS.items():
        nodes = max(1, ranks // 8)
        # The cheapest is four ranks: one node for 8 s.
        wanted = 8.0 / (nodes * seconds)
        estimate = points[ranks].billed_efficiency
        assert estimate.value == pytest.approx(wanted, rel=0.01)
        assert estimate.low <= estimate.value <= estimate.high
        assert points[ranks].cost.core_hours == pytest.approx(8 * points[ranks].cost.node_hours)
    assert points[4].billed_efficiency.value == 1
    # By the core, one rank is the cheapest.
    asked = by_ranks(sweep().series[0])
    assert asked[1].billed_efficiency.value == 1
    assert asked[8].billed_efficiency.value == pytest.approx(16 / (8 * 9), rel=0.01)


@pytest.mark.parametrize(
    ("target", "whole", "by_core", "rest"),
    [
        (0.7, 16, 2, "No measured count on more nodes has at least 70 % as billed."),
        (0.95, 4, 1, "No measured count on more nodes has at least 95 % as billed."),
        (0.4, 32, 4, "Counts on more nodes were not measured."),
        (0.2, 32, 16, "Counts on more nodes were not measured."),
    ],
)
def test_recommendation_is_of_what_is_billed(target, whole, by_core, rest):
    """Of 1, 2, 4 and 8 ranks, which cost the same by the hour, only the fastest is considered."""
    facts = {**EXCLUSIVE, "cores_per_node": 8}
    found = sweep(billing=billing(facts), efficiency=target)
    assert found.series[0].recommended == whole
    assert sweep(efficiency=target).series[0].recommended == by_core
    text = recommendation(found, found.series[0])
    assert "it has an efficiency as billed of" in text and "node-hours" in text
    alike = "4 ranks, the fastest of the 4 counts on 1 node billed alike: it has"
    assert (alike in text) == (whole == 4)
    assert rest in text


def test_weak_scaling_on_whole_nodes_wants_the_most_work_for_the_money():
    """Each rank has as much to do: eight on a node do eight times the work in the same hour."""
    some = [
        replace(one, nodes=max(1, one.ranks // 8), cores=8 * max(1, one.ranks // 8))
        for one in runs(lambda p: 10.0 + p / 16, counts=(1, 4, 8, 16), noise=0, mode="weak")
    ]
    found = analysed(some, billing=billing({**EXCLUSIVE, "cores_per_node": 8}))
    points = by_ranks(found.series[0])
    assert points[8].billed_efficiency.value == 1
    wanted = (1 / (10 + 1 / 16)) / (8 / 10.5)
    assert points[1].billed_efficiency.value == pytest.approx(wanted)
    assert found.series[0].recommended == 16


def test_request_is_runs_times_cost_of_the_recommended_count():
    billed = billing({**EXCLUSIVE, "cores_per_node": 8}, "600 CU per node-hour", runs=100)
    found = sweep(billing=billed)
    cost = by_ranks(found.series[0])[16].cost
    # The whole process takes a second more than what is compared.
    assert cost.node_hours == pytest.approx(2 * 5.5 / 3600, rel=0.01)
    rows = costs.request(found, found.series[0])
    assert [row[:2] for row in rows] == [("node-hours", 100), ("core-hours", 100), ("CU", 100)]
    for (_, _, one, together), value in zip(
        rows, (cost.node_hours, cost.core_hours, cost.charge), strict=True
    ):
        # As it is written, so that a reader who multiplies finds the same.
        assert (numbers.figure(one), together) == (numbers.figure(value), pytest.approx(100 * one))
        assert one == pytest.approx(value, rel=0.005)
    assert cost.charge == pytest.approx(600 * cost.node_hours)
    assert request(found, found.series[0])[:2] == [
        ["runs", "cost of a run", "request"],
        ["100", "0.00305\u00a0node-hours", "0.305\u00a0node-hours"],
    ]
    assert request(sweep(), sweep().series[0]) == []


def test_a_run_that_is_too_fast_to_be_true_does_not_make_the_others_dear():
    """One launch of four ranks failed without a word, and there is no interval to tell."""
    some = runs(lambda p: 0.1 if p == 4 else 16 / p, counts=(1, 2, 4, 8), launches=1, noise=0)
    points = by_ranks(analysed(some, billing=billing(EXCLUSIVE)).series[0])
    assert points[8].billed_efficiency.value == 1


def test_more_nodes_that_are_slower_are_not_recommended():
    some = [
        replace(one, nodes=one.ranks // 8, cores=one.ranks)
        for one in runs({8: 8.0, 16: 9.0}.get, counts=(8, 16), noise=0)
    ]
    billed = billing({**EXCLUSIVE, "cores_per_node": 8})
    found = analysed(some, billing=billed, efficiency=0.4)
    assert found.series[0].recommended == 8
    words = "Counts on more nodes have at least 40 % as billed too, and are no faster."
    assert words in recommendation(found, found.series[0])


def on_nodes(seconds, counts, cores=8, **options):
    """Return the analysis of runs on whole nodes of so many cores."""
    some = [
        replace(one, nodes=-(-one.ranks // cores), cores=cores * -(-one.ranks // cores))
        for one in runs(seconds.get, counts=counts, noise=0, launches=options.pop("launches", 6))
    ]
    return some, billing({**EXCLUSIVE, "cores_per_node": cores})


def said(some, billed, **options):
    """Return the recommendation of some runs."""
    found = analysed(some, billing=billed, **options)
    return found.series[0].recommended, recommendation(found, found.series[0])


def test_why_counts_on_more_nodes_were_left_out():
    some, billed = on_nodes({4: 10.0, 8: 6.0, 16: 3.5}, (4, 8, 16))
    bad = [replace(one, outcome="failed", seconds=None) for one in some if one.ranks == 16]
    good = [one for one in some if one.ranks < 16]
    assert said([*good, *bad], billed)[1].count("Counts on more nodes failed.") == 1
    taking_turns = [replace(one, cores=8) for one in some if one.ranks == 16]
    text = said([*good, *taking_turns], billed)[1]
    assert "Counts on more nodes had more ranks x threads than cores." in text
    assert "Counts on more nodes were not measured." in said(good, billed)[1]
    single = [replace(one, seconds=one.seconds / 9**(one.ranks == 16)) for one in some
              if one.launch == 1]  # fmt: skip
    text = said(single, billed)[1]
    assert "Counts on more nodes were above 100 % without an interval." in text
    assert "were not measured" not in text


def test_why_larger_counts_were_left_out():
    some = runs(lambda p: 10 / p, counts=(1, 2, 4), noise=0)
    bad = [replace(o, outcome="failed", seconds=None) if o.ranks == 4 else o for o in some]
    assert "Larger counts failed." in said(bad, Billing())[1]
    single = [replace(o, seconds=o.seconds / 9 ** (o.ranks == 4)) for o in some if o.launch == 1]
    text = said(single, Billing())[1]
    assert "the largest considered count with an efficiency of at least 70 %" in text
    assert "Larger counts were above 100 % without an interval." in text


def test_fastest_is_said_of_those_that_were_considered():
    """Sixteen ranks that take turns on one node are faster than eight, and do not count."""
    some, billed = on_nodes({4: 10.0, 8: 7.0, 16: 5.0}, (4, 8, 16))
    crowded = [replace(one, nodes=1, cores=8) for one in some]
    chosen, text = said(crowded, billed)
    assert chosen == 8
    assert "8 ranks, the fastest of the 2 considered counts on 1 node billed alike" in text
    why = "Billed alike, but left out: 16 ranks, which had more ranks x threads than cores."
    assert why in text and "183" not in text
    bad = [replace(o, outcome="failed", seconds=None) if o.ranks == 16 else o for o in crowded]
    assert "Billed alike, but left out: 16 ranks, which failed or had" in said(bad, billed)[1]
    chosen, text = said(crowded, billed, oversubscribed=True)
    assert chosen == 16 and "the fastest of the 3 counts on 1 node billed alike" in text


def test_weak_scaling_does_most_on_a_node():
    some = runs(lambda p: 3.0 + 0.05 * p, counts=(1, 2, 4, 8), noise=0, mode="weak")
    billed = billing({**EXCLUSIVE, "cores_per_node": 8})
    chosen, text = said([replace(one, cores=8) for one in some], billed)
    assert (
        chosen == 8
        and "8 ranks, with the most work per second of the 4 counts on 1 node billed alike" in text
    )
    assert "fastest" not in text


def test_a_rate_by_the_core_decides_between_nodes_of_different_kinds():
    """Nodes of 64 and of 128 cores: the second costs twice as much by the core-hour."""
    some = [
        replace(one, nodes=one.ranks // 8, cores=64 if one.ranks == 8 else 192)
        for one in runs({8: 10.0, 16: 5.0}.get, counts=(8, 16), noise=0)
    ]
    facts = {**EXCLUSIVE, "cores_per_node": 64}
    assert said(some, billing(facts))[0] == 16
    found = analysed(some, billing=billing(facts, "1 EUR per core-hour"))
    points = by_ranks(found.series[0])
    assert points[16].billed_efficiency.value == pytest.approx(640 / 960)
    assert found.series[0].recommended == 8


def test_interval_of_the_efficiency_as_billed_holds_the_scatter_of_both_counts():
    """That of the cheapest count as well, although it is 100 % of itself."""
    steady = {1: [16.0] * 6, 2: [20.0, 20.4, 19.6, 21.0, 19.0, 20.2]}
    some = [run(ranks=p, launch=k + 1, seconds=x, nodes=p) for p in (1, 2)
            for k, x in enumerate(steady[p])]  # fmt: skip
    first = by_ranks(analysed(some, billing=billing(EXCLUSIVE)).series[0])[2].billed_efficiency
    assert first.low < 16 / 40.6 and first.high > 16 / 39.8
    turned = {1: [x * 0.8 for x in steady[2]], 2: [20.2] * 6}
    some = [replace(one, seconds=turned[one.ranks][one.launch - 1]) for one in some]
    second = by_ranks(analysed(some, billing=billing(EXCLUSIVE)).series[0])[2].billed_efficiency
    assert second.low < second.value * 0.99 and second.high > second.value * 1.01
    few = [one for one in some if one.ranks == 2 or one.launch < 3]
    third = by_ranks(analysed(few, billing=billing(EXCLUSIVE)).series[0])[2].billed_efficiency
    assert math.isnan(third.low) and math.isnan(third.high)


def test_cheapest_is_no_count_that_takes_turns():
    some, billed = on_nodes({4: 10.0, 8: 7.0, 16: 5.0}, (4, 8, 16))
    crowded = [replace(one, nodes=1, cores=8) for one in some]
    assert by_ranks(analysed(crowded, billing=billed).series[0])[8].billed_efficiency.value == 1


def test_nodes_of_different_kinds_are_not_billed_alike_by_the_core():
    some = [
        replace(one, cores=64 if one.ranks == 8 else 128)
        for one in runs({8: 10.0, 16: 5.5}.get, counts=(8, 16), noise=0)
    ]
    facts = {**EXCLUSIVE, "cores_per_node": 64}
    assert "the 2 counts on 1 node billed alike" in said(some, billing(facts))[1]
    assert "billed alike" not in said(some, billing(facts, "1 EUR per core-hour"))[1]


@pytest.mark.parametrize(
    ("facts", "charge", "names"),
    [
        (EXCLUSIVE, None, ["node-hours", "core-hours"]),
        (EXCLUSIVE, "600 CU per node-hour", ["node-hours", "core-hours", "CU"]),
        (SLURM, None, ["core-hours"]),
        (SLURM, "0.02 EUR per core-hour", ["core-hours", "EUR"]),
        (SLURM, "600 CU per node-hour", ["node-hours", "core-hours", "CU"]),
    ],
)
def test_node_hours_are_shown_where_they_are_billed(facts, charge, names):
    found = sweep(billing=billing(facts, charge))
    assert [unit.name for unit in costs.units(found)] == names
    text = method.method(found)
    share = "it is billed the share of the cores or GPUs that it asks for"
    assert (share in text) == (facts is SLURM and "CU" in names)
    assert ("A node has 128 cores." in text) == (facts is EXCLUSIVE and charge is not None)


def test_request_is_what_a_reader_finds_who_multiplies():
    """400 x 1.2449 would be 498, and beside a cost that is written as 1.24 look wrong."""
    billed = Billing.of({"charge": "1 EUR per core-hour", "runs": 400})
    found = analysed(
        [run(ranks=p, launch=k, seconds=4481.6 / p - 1) for p in (1, 2) for k in range(6)],
        billing=billed,
    )
    rows = request(found, found.series[0])[1:]
    assert rows[0][1:] == ["1.24\u00a0core-hours", "496\u00a0core-hours"]
    for runs_wanted, one, together in rows:
        product = int(runs_wanted) * float(one.split("\u00a0")[0])
        assert together.split("\u00a0")[0] == numbers.figure(product)


def test_both_efficiencies_are_told_where_they_differ():
    found = sweep(billing=billing({**EXCLUSIVE, "cores_per_node": 8}))
    text = recommendation(found, found.series[0])
    assert "an efficiency as billed of 88.9 %, and 22.2 % relative to the baseline" in text
    some, billed = on_nodes({8: 8.0, 16: 9.0}, (8, 16))
    assert "relative to the baseline" not in said(some, billed)[1]


def test_equal_times_are_no_reason_for_more_ranks():
    some = runs({1: 10.0, 2: 7.2, 4: 7.2}.get, counts=(1, 2, 4), noise=0)
    chosen, text = said(some, Billing(), efficiency=0.3)
    assert (
        chosen == 2 and "larger counts have an efficiency of at least 30 % too, and are no" in text
    )


def test_more_nodes_than_a_table_says_are_shown_and_told():
    some = [replace(o, nodes=1, cores=o.ranks) for o in runs(counts=(4, 8, 16))]
    billed = billing(charge="1 CU per node-hour", cores_per_node=8)
    found = analysed(some, billing=billed)
    (table,) = [c for c in tables.columns(found, found.series[0]) if c.title == "nodes"]
    assert table.cells == ["1", "1", "2"]
    told = "In strong scaling on 16 ranks, more nodes are billed than the launches are said to"
    assert any(text.startswith(told) for text in doubts.warnings(found))
    assert not any("more nodes" in text for text in doubts.warnings(analysed(some)))


def test_cores_that_a_table_says_a_run_was_given_are_billed():
    one = run(ranks=8, cores=16, source="supplied")
    assert billing().cost(one, 3600.0).core_hours == 16
    assert billing().cost(replace(one, source="json"), 3600.0).core_hours == 8


def test_no_request_where_nothing_is_recommended_or_counts_for_more_than_there_is():
    billed = Billing.of({"charge": "1 CU per core-hour", "runs": 5})
    assert said(runs(), billed, efficiency=1.1)[1].endswith("So there is no request.")
    assert "request" not in said(runs(), billed)[1]
    assert "request" not in said(runs(), Billing(), efficiency=1.1)[1]
    huge = analysed(runs(lambda p: 1e300 / p, counts=(1, 2), noise=0), billing=billed)
    assert costs.request(huge, huge.series[0])[0][0] == "core-hours"


def test_slurm_knows_the_size_of_a_node_better_than_an_older_plan():
    facts = {"whole_nodes": "", "cores_per_node": 64, "gpus_per_node": 0}
    stored = {"billing": facts, "cores_per_node": 32}
    assert Billing.of(stored, Charge.parse("1 CU per node-hour")).cores_per_node == 64
    with pytest.raises(UsageError, match="Slurm says that a node has 64 cores"):
        Billing.of(stored, cores_per_node=32)


@pytest.mark.parametrize(
    ("one", "other", "ranks", "target"), [(11.2, 7.0, 2, 0.8), (14.7, 7.0, 3, 0.7)]
)
def test_an_efficiency_of_exactly_the_target_is_enough(one, other, ranks, target):
    some = [
        run(ranks=p, launch=k, seconds=s) for p, s in ((1, one), (ranks, other)) for k in range(6)
    ]
    found = analysed(some, efficiency=target)
    point = by_ranks(found.series[0])[ranks]
    # One rounding below it.
    assert point.efficiency.value < target
    assert found.series[0].recommended == ranks
    column = next(c for c in tables.columns(found, found.series[0]) if c.title == "efficiency")
    assert column.cells[-1] == f"{100 * target:.1f} %"
    assert f"the largest measured count with an efficiency of at least {100 * target:.0f} %" in (
        recommendation(found, found.series[0])
    )


def test_the_nodes_of_the_recommended_count_are_those_that_are_billed():
    # A table says one node; of 64 cores it takes two for 128 ranks, or for the cores that it gives.
    times = [(64, 10.0, 64, 1), (128, 5.1, 128, 2)] * 6
    some = [
        run(ranks=p, launch=k, seconds=each, cores=cores, nodes=1, source="supplied")
        for k, (p, each, cores, _) in enumerate(times)
    ]
    billed = Billing.of({}, Charge.parse("600 CU per node-hour"), None, 64)
    found = analysed(some, billing=billed)
    assert [int(point.cost.nodes) for point in found.series[0].points] == [1, 2]
    assert "We recommend 128 ranks on 2 nodes" in recommendation(found, found.series[0])
    few = [replace(each, ranks=each.ranks // 64) for each in some]
    found = analysed(few, billing=billed)
    assert [int(point.cost.nodes) for point in found.series[0].points] == [1, 2]
    assert any("do not hold their cores" in text for text in doubts.warnings(found))


@pytest.mark.parametrize(("two", "told"), [(9.99, True), (9.0, False)])
def test_a_count_billed_alike_that_may_be_as_fast_is_named(two, told):
    times = [(1, 10.0), (2, two)]
    some = [
        run(ranks=p, launch=k, seconds=each * (1 + 0.01 * (k - 3)), cores=4)
        for p, each in times
        for k in range(7)
    ]
    found = analysed(some, billing=Billing.of({}, Charge.parse("6 CU per node-hour"), None, 4))
    text = recommendation(found, found.series[0])
    assert "We recommend 2 ranks, the fastest of the 2 counts" in text
    assert ("The launches cannot tell it from 1 rank: the intervals overlap." in text) == told
