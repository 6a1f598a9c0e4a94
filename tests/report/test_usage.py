"""The table of memory, reading and writing, and what is said of it."""

import csv
import html
import math
from dataclasses import replace

import pytest

from rankwise.analysis.usage import Usage
from rankwise.report import page, tables, usage
from rankwise.sweep.folder import Sweep
from tests.analysis.examples import analysis, plan, run, strong


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1.00 KiB"),
        (30.1 * 2**20, "30.1 MiB"), (2**30, "1.00 GiB"), (1500 * 2**30, "1.46 TiB"),
        (5000 * 2**40, "5000 TiB"), (math.nan, "-"),
    ],
)  # fmt: skip
def test_size(count, text):
    assert usage.size(count) == text


def with_usage(*used):
    """Return a series of as many points as there are figures."""
    plain = strong((1, 2, 4)[: len(used)])
    points = tuple(replace(p, usage=u) for p, u in zip(plain.points, used, strict=True))
    return replace(plain, points=points, baseline=points[0])


ALL = Usage(2.0**20, 2.0**21, 1, 0.0, 1024.0, math.nan, math.nan, 0.25)
LOOKED = {"ranks": 1, "looks": 3, "unseen_seconds": 0.1}


def launches(**facts):
    """Return a launch that is of the series, and two that are not."""
    others = [run(mode="weak"), run(outcome="failed", reason="")]
    facts_of_others = {"peak_memory_rank": 1, "usage": LOOKED | {"sstat": {"read_bytes": 1}}}
    return [run(facts=facts), *(replace(each, facts=facts_of_others) for each in others)]


def test_table_has_what_is_known():
    plain = replace(ALL, unseen=math.nan)
    series = with_usage(ALL, replace(plain, seen=2), replace(plain, seen=2, read=math.nan))
    rows = usage.table(series, launches())
    assert rows == [
        ["ranks", "largest rank", "on this node", "read", "written", "not seen"],
        ["1", "1.00 MiB", "2.00 MiB", "0 bytes", "1.00 KiB", "25.0 %"],
        ["2", "1.00 MiB", "2.00 MiB", "0 bytes", "1.00 KiB", "-"],
        ["4", "1.00 MiB", "2.00 MiB", "-", "1.00 KiB", "-"],
    ]
    assert "Of 4 ranks, 2 were seen on this node." in usage.notes(series, launches())
    assert usage.table(with_usage(plain), launches())[0][-1] == "written"
    recorded = usage.table(series, launches(peak_memory_rank=5))
    assert recorded[0][2] == "ranks of a node" and recorded[1:] == rows[1:]
    nothing = with_usage(Usage()), launches(usage=LOOKED)
    assert usage.table(*nothing) == usage.notes(*nothing) == []
    assert usage.explanation(*nothing) == ""


@pytest.mark.parametrize(
    ("facts", "has", "has_not"),
    [
        (
            {"usage": LOOKED},
            ["until the last look", "on the node where the sweep ran", "each figure is at least",
             "several times in the first second, then once a second"],
            ["record", "Slurm"],
        ),
        (
            {"usage": LOOKED, "peak_memory_rank": 5},
            ["as its record says or as was seen", "of the node that held most",
             "what was read and written is at least"],
            ["until the last look", "Slurm", "each figure"],
        ),
        (
            {"usage": LOOKED | {"sstat": {"read_bytes": 1}}},
            ["Slurm told of all of them", "by default every 30 seconds"],
            ["record"],
        ),
        (
            {"usage": {"ranks": 0, "looks": 0, "sstat": {"read_bytes": 1}}},
            ["held at most, whenever Slurm looked", "Slurm told of all of them"],
            ["until the last look", "at least", "were looked at"],
        ),
        ({"peak_memory_rank": 5}, ["as its record says"], ["at least", "looked at"]),
    ],
)  # fmt: skip
def test_what_is_said_is_so(facts, has, has_not):
    words = usage.explanation(with_usage(replace(ALL, unseen=math.nan)), launches(**facts))
    assert all(part in words for part in (*has, "median over launches", "forked"))
    assert not any(part in words for part in has_not)


def test_only_what_the_table_has_is_explained():
    slurm = Usage(largest_rank=5.0, seen=1)
    words = usage.explanation(with_usage(slurm), launches(usage={"ranks": 0, "looks": 0}))
    assert words.startswith("Memory is what the processes of a rank held at most")
    assert not any(part in words for part in ("beside it", "Read and", "From and to storage"))


def test_processes_that_no_rank_was_told():
    together = replace(ALL, seen=0, largest_rank=math.nan)
    said = usage.notes(with_usage(ALL, together), launches(usage=LOOKED))
    assert said[-1] == "On 2 ranks no process was told its rank: all of them count together."
    assert not any("were seen" in text for text in said)


def test_memory_that_some_launches_have_a_record_of():
    runs = [*launches(usage=LOOKED), *launches(usage=LOOKED, peak_memory_rank=5)]
    words = usage.explanation(with_usage(ALL), runs)
    assert "as its record, where it has one, says" in words and "each figure" in words


def test_terminal_is_at_most_100_columns_wide():
    wide = Usage(*[1023.0] * 2, 128, *[1023.0] * 4, 0.123)
    series = with_usage(ALL, wide, wide)
    points = [replace(point, ranks=10**4 * point.ranks) for point in series.points]
    found = replace(analysis(replace(series, points=tuple(points))), runs=tuple(launches()))
    text = tables.terminal(found)
    assert "1023 bytes" in text and "Of 40000 ranks, 128 were seen on this node." in text
    assert max(map(len, text.splitlines())) <= 100


def test_terminal_markdown_page_and_csv_show_it(tmp_path):
    found = analysis(with_usage(ALL, replace(ALL, seen=2)))
    page.write(found, Sweep(tmp_path, plan([1, 2]), [], []))
    words = usage.explanation(found.series[0], found.runs)
    assert "pipes and sockets" in words
    drawn, markdown = ((tmp_path / n).read_text() for n in ("report.html", "scaling.md"))
    for text in (tables.terminal(found), drawn, markdown):
        assert "Memory and input/output" in text and "2.00 MiB" in text
    assert words in html.unescape(drawn) and words in markdown.replace("\\", "")
    rows = list(csv.DictReader((tmp_path / "scaling.csv").read_text().splitlines()))
    assert rows[0]["node_bytes"] == "2097152.0" and rows[0]["share_unseen"] == "0.25"
