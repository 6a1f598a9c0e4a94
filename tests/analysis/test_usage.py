"""What the ranks of a point used, from what was seen of each launch."""

import math
from dataclasses import replace

import pytest

from rankwise.analysis import usage
from tests.analysis.examples import run

HERE = {
    "ranks": 2, "looks": 3, "largest_rank_bytes": 300, "all_ranks_bytes": 500, "read_bytes": 40,
    "written_bytes": 30, "storage_read_bytes": 20, "storage_written_bytes": 10,
    "unseen_seconds": 0.5,
}  # fmt: skip
SLURM = {"largest_rank_bytes": 900, "read_bytes": 80, "written_bytes": 60}
NAMES = ("largest_rank", "node", "seen", "read", "written", "storage_read", "storage_written")
NAN = math.nan
ALONE = {name: 0 if name == "ranks" else n for name, n in HERE.items() if "largest" not in name}


def seen(ranks=2, **facts):
    """Return a launch of which so much was seen."""
    return run(ranks=ranks, facts=facts)


@pytest.mark.parametrize(
    ("launches", "wanted"),
    [
        ([seen()], (NAN, NAN, 0, NAN, NAN, NAN, NAN)),
        ([seen(usage=HERE)], (300, 500, 2, 40, 30, 20, 10)),
        # Memory: the most of any launch; bytes: the median launch.
        (
            [
                seen(usage=HERE),
                seen(usage={**HERE, "largest_rank_bytes": 350, "read_bytes": 50}),
                seen(usage={**HERE, "all_ranks_bytes": 600, "read_bytes": 90}),
            ],
            (350, 600, 2, 50, 30, 20, 10),
        ),
        # Half of the ranks are on another node: what all of them read is not known.
        ([seen(4, usage=HERE)], (300, 500, 2, NAN, NAN, NAN, NAN)),
        # Slurm tells of all nodes, but not of storage.
        ([seen(4, usage={**HERE, "sstat": SLURM})], (900, 500, 4, 80, 60, NAN, NAN)),
        # On this node a rank was seen at its peak, which Slurm has missed.
        (
            [seen(4, usage={**HERE, "sstat": {"largest_rank_bytes": 200}})],
            (300, 500, 4, NAN, NAN, NAN, NAN),
        ),
        # A record knows better, and nothing of bytes.
        (
            [seen(usage=HERE, peak_memory_rank=320, peak_memory_node=700)],
            (320, 700, 2, 40, 30, 20, 10),
        ),
        # The page says that memory is the most: what was seen may be more than a record has.
        (
            [seen(usage=HERE, peak_memory_rank=290, peak_memory_node=490)],
            (300, 500, 2, 40, 30, 20, 10),
        ),
        # No process was told its rank.
        ([seen(usage=ALONE)], (NAN, 500, 0, 40, 30, 20, 10)),
        ([run(ranks=2, nodes=2, facts={"usage": ALONE})], (NAN, 500, 0, NAN, NAN, NAN, NAN)),
        (
            [seen(4, usage=HERE, peak_memory_rank=320, peak_memory_node=700)],
            (320, 700, 4, NAN, NAN, NAN, NAN),
        ),
        # The kernel does not let everybody look at everything.
        ([seen(usage={"ranks": 2, "looks": 1})], (NAN, NAN, 2, NAN, NAN, NAN, NAN)),
    ],
)
def test_usage_of_a_point(launches, wanted):
    found = usage.of(launches)
    for name, value in zip(NAMES, wanted, strict=True):
        assert getattr(found, name) == pytest.approx(value, nan_ok=True), name


@pytest.mark.parametrize(
    ("unseen", "share"),
    # Of runs of two seconds.
    [([0.5], 0.25), ([0.5, 1.5, 0.0], 0.75), ([0.0], 0.0), ([2.5], 1.0), ([], NAN)],
)
def test_the_largest_share_that_was_not_seen(unseen, share):
    launches = [seen(usage=HERE | {"unseen_seconds": seconds}) for seconds in unseen]
    for launch in launches:
        assert launch.process_seconds == 2
    never = seen(usage={"ranks": 0, "looks": 0, "unseen_seconds": 2.0, "sstat": SLURM})
    old = seen(usage={"ranks": 2, "looks": 1})
    assert usage.of([*launches, never, old]).unseen == pytest.approx(share, nan_ok=True)


def test_failed_launches_do_not_count():
    from tests.analysis.examples import only, runs

    good = [replace(one, facts={"usage": {**HERE, "ranks": one.ranks}}) for one in runs()]
    bad = replace(good[0], launch=9, outcome="failed", seconds=None,
                  facts={"usage": {**HERE, "largest_rank_bytes": 10**9}})  # fmt: skip
    assert {p.usage.largest_rank for p in only([*good, bad]).points} == {300}
