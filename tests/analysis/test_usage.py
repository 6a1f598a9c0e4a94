"""What the ranks of a point used, from what was seen of each launch."""

import math
from dataclasses import replace

import pytest

from rankwise.analysis import usage
from tests.analysis.examples import run

HERE = {
    "ranks": 2, "looks": 3, "largest_rank_bytes": 300, "all_ranks_bytes": 500, "read_bytes": 40,
    "written_bytes": 30, "storage_read_bytes": 20, "storage_written_bytes": 10,
}  # fmt: skip
SLURM = {"largest_rank_bytes": 900, "all_ranks_bytes": 1100, "read_bytes": 80, "written_bytes": 60}
NAMES = ("largest_rank", "node", "seen", "read", "written", "storage_read", "storage_written")
NAN = math.nan


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


def test_failed_launches_do_not_count():
    from tests.analysis.examples import only, runs

    good = [replace(one, facts={"usage": {**HERE, "ranks": one.ranks}}) for one in runs()]
    bad = replace(good[0], launch=9, outcome="failed", seconds=None,
                  facts={"usage": {**HERE, "largest_rank_bytes": 10**9}})  # fmt: skip
    assert {p.usage.largest_rank for p in only([*good, bad]).points} == {300}
