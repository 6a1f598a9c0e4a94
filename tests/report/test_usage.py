"""The table of memory, reading and writing, and what is said of it."""

import html
import math
from dataclasses import replace

import pytest

from rankwise.analysis.usage import Usage
from rankwise.report import page, tables, usage
from rankwise.sweep.folder import Sweep
from tests.analysis.examples import analysis, plan, strong


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"), (1, "1 bytes"), (1023, "1023 bytes"), (1024, "1.00 KiB"),
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


ALL = Usage(2.0**20, 2.0**21, 1, 0.0, 1024.0, math.nan, math.nan)


def test_table_has_what_is_known():
    series = with_usage(ALL, replace(ALL, seen=2), replace(ALL, seen=2, read=math.nan))
    assert usage.table(series) == [
        ["ranks", "largest rank", "ranks of a node", "read", "written", "notes"],
        ["1", "1.00 MiB", "2.00 MiB", "0 bytes", "1.00 KiB", ""],
        ["2", "1.00 MiB", "2.00 MiB", "0 bytes", "1.00 KiB", ""],
        ["4", "1.00 MiB", "2.00 MiB", "-", "1.00 KiB", "2 of 4 ranks were seen"],
    ]
    assert usage.table(with_usage(ALL))[0][-1] == "written"
    assert usage.table(with_usage(Usage())) == []
    assert usage.explanation(with_usage(Usage()), ()) == ""


def test_terminal_markdown_page_and_csv_show_it(tmp_path):
    found = analysis(with_usage(ALL, replace(ALL, seen=2)))
    page.write(found, Sweep(tmp_path, plan([1, 2]), [], []))
    words = usage.explanation(found.series[0], found.runs)
    assert "pipes and sockets" in words
    drawn, markdown = ((tmp_path / n).read_text() for n in ("report.html", "scaling.md"))
    for text in (tables.terminal(found), drawn, markdown):
        assert "Memory and input/output" in text and "2.00 MiB" in text
    assert words in html.unescape(drawn) and words in markdown.replace("\\", "")
    assert "2097152.0" in (tmp_path / "scaling.csv").read_text()
