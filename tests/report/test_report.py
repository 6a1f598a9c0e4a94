"""The report as text: its numbers, what it does with hostile input, and the command."""

import argparse
import csv
import hashlib
import io
import math
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rankwise.__main__ import main
from rankwise.analysis.analysis import analyse
from rankwise.analysis.cost import Billing, Cost
from rankwise.analysis.statistics import Estimate
from rankwise.report import drawing, figures, method, numbers, sentences, tables
from rankwise.report import page as report
from rankwise.report.recommendation import recommendation
from rankwise.sweep import sweep
from rankwise.sweep.folder import Sweep, load
from rankwise.sweep.launchers import UsageError
from tests.analysis.examples import (
    LIMIT,
    analysed,
    analysis,
    failed_point,
    limited,
    plan,
    point,
    run,
    strong,
    weak,
    with_queue,
    write_example,
    write_limit,
    write_sweep,
)
from tests.report.command import make_report

pytestmark = pytest.mark.usefixtures("few_resamples")

VISIBLE = "</pre><script>alert(1)</script> a|b `c` *d* [e](f) "
HOSTILE = VISIBLE + "\x1b[2J\x1b]0;title\x07\udce9\u202e\x00"
FAILED = run(ranks=32, outcome="failed", reason=HOSTILE, output_end=f"one\rtwo\n{HOSTILE}\n")
# All that may act when it is shown, line ends apart.
ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Page(HTMLParser):
    """Text, tags and attributes of a page whose tags are all closed, in order."""

    VOID = ("meta", "link", "br", "hr", "img", "input")

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert {"svg"} & set(self.open) or tag in self.VOID
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title") and "svg" not in self.open:
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())


# The figures of each series of the examples, drawn once.
DRAWN = {}


def html(result, **changes):
    """Return the page of an analysis."""
    planned = {**plan([1, 2], ("strong", "weak")), **changes}
    drawn = {}
    for series in result.series:
        # These are in no figure.
        shown = analysis(replace(series, recommended=None, bottleneck=None), target=result.target)
        if repr(shown) not in DRAWN:
            of_series = figures.draw(shown).items()
            DRAWN[repr(shown)] = {name: drawing.svg(f, name, "shown") for name, f in of_series}
        drawn |= DRAWN[repr(shown)]
    return report.page(result, Sweep(Path(), planned, [run()], []), drawn)


def with_failures():
    series = strong()
    last = failed_point(32, FAILED, replace(FAILED, launch=2))
    return analysis(replace(series, points=(*series.points, last)), weak())


def test_csv_holds_every_point_with_all_digits():
    result = with_failures()
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(result))))
    points = [(one.mode, p) for one in result.series for p in one.points]
    assert len(rows) == len(points) == 10
    for row, (mode, p) in zip(rows, points, strict=True):
        assert (row["mode"], int(row["ranks"])) == (mode, p.ranks)
        cores = (p.ranks * p.threads, p.cores)
        assert (int(row["cores"]), int(row["cores_available"])) == cores
        assert (int(row["launches"]), int(row["failed_launches"])) == (p.launches, len(p.failed))
        for name in ("seconds", "speedup", "efficiency", "serial_fraction"):
            estimate = getattr(p, name)
            for column, value in (
                (name, estimate.value),
                (f"{name}_low", estimate.low),
                (f"{name}_high", estimate.high),
            ):
                assert row[column] == ("" if math.isnan(value) else repr(value))
        hours = p.cost.core_hours
        assert row["core_hours"] == ("" if math.isnan(hours) else repr(hours))
        assert row["phase_kernel"] == (repr(p.phases["kernel"]) if p.phases else "")
        assert row["oversubscribed"] == str(p.oversubscribed)
        assert row["notes"] == "; ".join(sentences.notes(p))


def columns_of(series):
    return tables.columns(analysis(series), series)


def test_csv_has_all_costs():
    cost = Cost(0.5, 0.25, 2.0, 0.5, 150.0, 600.0)
    series = strong((1,), points=(replace(point(1, [1.0]), gpus=2, cost=cost),))
    (row,) = csv.DictReader(io.StringIO(tables.comma_separated(analysis(series))))
    told = [row[name] for name in ("node_hours", "core_hours", "gpu_hours", "charge")]
    assert told == ["0.25", "2.0", "0.5", "150.0"]


EXPECTED = ("12.56", "12.31 to 12.88", "6.25", "78.1 %", "0.0400", "0.00447", "oversubscribed")


def test_terminal_markdown_and_page_show_the_same_numbers():
    result = with_failures()
    texts = tables.terminal(result), tables.markdown(result, {}), Page(html(result)).words()
    shown = [" ".join(text.split()) for text in texts]
    for text in shown:
        for cell in (*EXPECTED, "95.6 %", "8000", "0 of 2"):
            assert cell in text
        for series in result.series:
            assert recommendation(result, series).replace("\u00a0", " ") in text
            assert all(sentences.fit(fit) in text for fit in series.fits)
    for text in shown[1:]:
        assert (
            method.method(result) in text and "6.06 to 6.44" in text and "0.0320 to 0.0480" in text
        )


def test_terminal_table_is_one_line_per_point():
    text = tables.terminal(with_failures())
    row = next(line for line in text.splitlines() if line.split()[:1] == ["8"])
    assert row.split() == ["8", "8", "6", "2.010", *"1.970 to 2.060".split(),
                           "6.25", "78.1", "%", "0.0400", "0.00447"]  # fmt: skip


def test_terminal_fits_a_batch_log():
    big = 12345.6
    wide = replace(
        point(100000, [big]),
        nodes=10000,
        gpus=400000,
        seconds=Estimate(big, big - 1, big + 1),
        speedup=Estimate(9876.5, 9876.0, 9877.0),
        serial_fraction=Estimate(-1.23e-7, -2e-7, 0),
        kernel_gbs=123456.0,
        limit_share=1.234,
        failed=tuple(
            replace(FAILED, outcome=f"failed{' word' * i}", output_end="x" * 300) for i in range(5)
        ),
        oversubscribed=True,
        superlinear=True,
        cache_resident=True,
        schedule="guided",
    )
    result = analysis(strong(points=(wide,)), missing=("missing " * 30,), limit=LIMIT)
    told = replace(result.runs[0], facts={"warnings": ["warning " * 30]})
    result = replace(result, runs=(told, *result.runs[1:]))
    text = tables.terminal(result)
    assert max(map(len, text.splitlines())) <= 100
    assert "kernel" not in text.partition("---")[0]
    assert "| kernel GB/s |" in tables.markdown(result, {})
    assert text.isascii()
    assert "report.html has the output of all" in text
    assert text.count("launch 1: failed") == 5
    assert all(text.count(word) >= 29 for word in ("warning", "missing"))


def test_baseline_has_no_interval_of_what_is_relative_to_it():
    table = {column.title: column for column in columns_of(strong())}
    assert table["seconds"].intervals[0] == "12.31 to 12.88"
    assert table["speedup"].intervals[:2] == ["-", "1.87 to 1.98"]
    assert table["efficiency"].intervals[0] == "-"


def test_columns_that_say_nothing_are_left_out():
    titles = [column.title for column in columns_of(strong())]
    assert titles == ["ranks", "cores", "launches", "seconds", "speedup", "efficiency",
                      "Karp-Flatt", "core-hours a run"]  # fmt: skip
    titles = [column.title for column in columns_of(weak())]
    assert "work" in titles and "Karp-Flatt" not in titles
    gpus = tuple(replace(p, gpus=p.ranks, nodes=2) for p in strong().points)
    titles = [column.title for column in columns_of(strong(points=gpus))]
    assert titles[:3] == ["ranks", "nodes", "GPUs"] and "cores" not in titles


def test_bandwidth_and_its_share_of_the_limit_are_columns_where_they_are_known():
    def titles(series):
        return [column.title for column in columns_of(series)]

    known = titles(limited(strong()))
    assert known[-4:] == ["Karp-Flatt", "kernel GB/s", "of limit", "core-hours a run"]
    assert titles(limited(weak()))[-4:-1] == ["work", "kernel GB/s", "of limit"]
    points = tuple(replace(p, kernel_gbs=5.0) for p in strong().points)
    assert titles(strong(points=points)) == [*known[:-2], known[-1]]
    assert titles(strong()) == [*known[:-3], known[-1]]


def queued(series, schedule="guided"):
    """Return a series whose ranks shared a queue of tasks, except at its first point."""
    busy = {"schedule": schedule, "imbalance": (0.9, 1.2345)}
    first, *others = series.points
    return replace(series, points=(first, *(replace(p, **busy) for p in others)))


def test_imbalance_is_a_column_where_ranks_shared_a_queue():
    series = queued(strong((1, 2, 4)))
    table = {column.title: column for column in columns_of(series)}
    assert table["imbalance"].cells == ["-", "1.23", "1.23"]
    result = analysis(series)
    page = Page(html(result)).words()
    for text in (tables.terminal(result), tables.markdown(result, {}), page):
        assert "imbalance" in text and "1.23" in text
    words = "The imbalance is the busy seconds of the busiest rank over the mean of all ranks."
    caption = "busy seconds of each rank over the mean of all ranks, one dot per rank, from"
    assert words in page and caption in page
    without = Page(html(analysis(strong((1, 2, 4))))).words()
    assert words not in without and caption not in without
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(result))))
    assert [row["schedule"] for row in rows] == ["", "guided", "guided"]
    assert rows[1]["largest_imbalance"] == "1.2345"


def test_bandwidth_and_its_share_of_the_limit_are_everywhere():
    series = limited(strong((1, 2, 4)))
    points = tuple(replace(p, nodes=2) for p in series.points)
    series = replace(series, points=(*points, failed_point(8, FAILED)), baseline=points[0])
    result = analysis(series, limit=LIMIT)
    limit = "The memory of a node delivers 30.0 GB/s reading and 25.0 GB/s copying"
    text = tables.terminal(result)
    heads = text.splitlines()[5:7]
    assert [head.split()[-4:] for head in heads] == [
        ["Karp-", "kernel", "of", "core-hours"],
        ["GB/s", "limit", "a", "run"],
    ]
    # There is no room for the cores, which are ranks x threads.
    assert "cores" not in heads[1] and "cores" in tables.terminal(analysis(strong()))
    row = next(line for line in text.splitlines() if line.split()[:1] == ["4"])
    assert row.split()[-4:-1] == ["20.0", "66.7", "%"]
    shown = text, tables.markdown(result, {}), Page(html(result)).words()
    for text in shown:
        assert all(word in text for word in ("20.0", "66.7 %", "16.7 %"))
        assert limit in " ".join(text.split())
    *rows, failed = csv.DictReader(io.StringIO(tables.comma_separated(result)))
    assert [float(row["kernel_gbs"]) for row in rows] == [5, 10, 20]
    assert [float(row["limit_share"]) for row in rows] == [1 / 6, 1 / 3, 2 / 3]
    assert {row["bound"] for row in rows} == {"6.0"}
    assert {failed[name] for name in ("kernel_gbs", "limit_share", "bound")} == {""}
    assert "Dash and two dots: what memory" in Page(html(result)).words()
    assert "Dash and two dots" not in Page(html(analysis(strong()))).words()
    assert "4 ranks 3.57 (memory allows 6.00); 8 ranks -." in report._alternative(
        result, "strong-speedup"
    )


@pytest.mark.parametrize(
    "value, digits, text",
    [
        (12.3456, 4, "12.35"),
        (99999.9, 4, "100000"),
        (0.00123456, 3, "0.00123"),
        (1.5e-9, 3, "1.50e-09"),
        (-0.25, 2, "-0.25"),
        (0.0, 3, "0.00"),
        (math.nan, 4, "-"),
        (math.inf, 4, "unlimited"),
    ],
)
def test_number(value, digits, text):
    assert numbers.number(value, digits) == text


def test_interval_that_is_not_known():
    assert numbers.interval(Estimate(1.0, math.nan, math.nan)) == "none"
    assert numbers.interval(Estimate(math.nan, math.nan, math.nan)) == "-"


def test_clean_text_does_nothing():
    cleaned = tables.clean(HOSTILE + "\ttab\r\nnext\rlast")
    assert not ACTING.search(cleaned)
    assert cleaned.splitlines() == [
        VISIBLE + r"\udce9    tab", "next", "last"
    ]  # fmt: skip


def hostile():
    """Return an analysis with hostile text wherever text comes from outside."""
    series = strong((1, 2), recommended=2)
    bad = replace(series.points[1], phases={HOSTILE: 1.0}, failed=(FAILED,), schedule=HOSTILE)
    series = replace(
        series,
        points=(series.points[0], bad),
        bottleneck=replace(series.bottleneck, phase=HOSTILE, point=bad),
    )
    result = analysis(
        series, missing=(HOSTILE,), limit=replace(LIMIT, start=HOSTILE, warnings=(HOSTILE,))
    )
    words = dict.fromkeys(("job", "launcher", "seed"), HOSTILE)
    machine = dict.fromkeys(("host", "partition", "cpu"), HOSTILE)
    facts = dict.fromkeys(("job", "variant", "git", "mpi", "versions"), HOSTILE)
    facts |= {"devices": [HOSTILE], "warnings": [HOSTILE], "hosts": [HOSTILE]}
    facts |= {"checks": [{"why": HOSTILE, "error": 0.0, "bound": 0.0}]}
    return replace(
        result,
        plan={**result.plan, **words, "command": [HOSTILE], "machine": machine},
        runs=tuple(replace(each, facts=facts, cpu=HOSTILE) for each in result.runs),
    )


def test_hostile_text_does_nothing_in_a_terminal():
    text = tables.terminal(hostile())
    assert not ACTING.search(text)
    assert "    | two\n" in text


def test_hostile_text_does_nothing_in_a_spreadsheet():
    text = tables.comma_separated(hostile())
    assert not ACTING.search(text)
    assert {len(row) for row in csv.reader(io.StringIO(text))} == {
        len(text.splitlines()[0].split(","))
    }


def test_hostile_text_does_nothing_in_markdown():
    text = tables.markdown(hostile(), {})
    assert not ACTING.search(text)
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)
    outside = re.sub(r"(?<!`)(`+) .*? \1(?!`)", "", outside)
    assert not re.search(r"(?<!\\)[<|*\[](?=script|b |d|e|/pre)", outside)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {11}


def test_code_in_markdown_ends_where_it_should():
    text = tables.markdown(analysis(plan={"command": ["echo", "```", "`x`"]}), {})
    assert text.startswith("# Scaling of ```` echo '```' '`x`' ````\n")
    failed = replace(FAILED, output_end="```\n# not a title\n")
    text = tables.markdown(analysis(runs=(failed,)), {})
    assert "````text\n```\n# not a title\n````" in text


def test_hostile_text_does_nothing_in_the_page():
    text = html(hostile(), command=[HOSTILE], git=HOSTILE, cwd=HOSTILE)
    assert not ACTING.search(text)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words().count("<script>alert(1)</script>") >= 10


def test_names_of_phases_are_code():
    def named(phase):
        series = strong()
        return analysis(replace(series, bottleneck=replace(series.bottleneck, phase=phase)))

    assert "<code>wait</code> holds the scaling back" in html(named("wait"))
    assert "`wait` holds the scaling back" in tables.markdown(named("wait"), {})
    assert "`a &amp; b` holds the scaling back" in html(named("a & b"))
    assert "\\`a \\& b\\` holds the scaling back" in tables.markdown(named("a & b"), {})


def test_page_is_one_file_that_runs_nothing():
    text = html(with_failures())
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "img"}
    for _, attributes in page.tags:
        for name in ("href", "xlink:href", "src"):
            assert attributes.get(name, "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\((?!#)", text)
    policy = next(a["content"] for _, a in page.tags if "content" in a and "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert text.count("<svg ") == 8 and "<?xml" not in text and "<metadata" not in text


def test_page_is_accessible():
    page = Page(html(with_failures()))
    assert ("html", {"lang": "en"}) in page.tags
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    tags = [tag for tag, _ in page.tags]
    figures_ = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all(attributes["role"] == "img" for attributes in figures_)
    assert tags.count("figure") == tags.count("figcaption") == len(figures_)
    assert all(tags[i + 1] == "title" for i, tag in enumerate(tags) if tag == "svg")
    links = {a["href"][1:] for tag, a in page.tags if tag == "a"}
    assert links == {"warnings", "failures"} and links <= set(ids)
    assert all("open" in attributes for tag, attributes in page.tags if tag == "details")


def test_caption_of_the_phases_explains_other_where_it_is_shown():
    plain = strong()
    points = tuple(replace(p, phases={**p.phases, "other": 0.1}) for p in plain.points)
    words = "other is what no phase covers"
    assert words not in Page(html(analysis(plain))).words()
    assert words in Page(html(analysis(replace(plain, points=points)))).words()


def test_page_marks_the_recommended_count():
    page = html(analysis(strong()))
    rows = re.findall(r'<tr class="recommended">\s*<th scope="row">.*?</th>', page)
    assert len(rows) == 1 and rows[0].endswith(" 8</th>")


def test_page_tells_everything_that_went_wrong():
    result = replace(with_failures(), missing=("a missing run",))
    words = Page(html(result)).words()
    assert "2 of 56 launches failed." in words and "a missing run" in words
    assert words.count("strong scaling, 32 ranks, launch") == 2
    assert "one two </pre>" in words


DEGENERATE = {
    "nothing": ((), "Nothing has been measured yet."),
    "one point": ((strong((4,)),), "With one measured count there is no speedup"),
    "no success": (
        (strong((1,), points=(failed_point(1, FAILED),), baseline=None, fits=(),
                recommended=None, bottleneck=None),),
        "No launch succeeded, so there is nothing to draw.",
    ),
    "no records": (
        (strong(points=tuple(replace(p, phases={}, imbalance=()) for p in strong().points)),),
        "Phases are not known: there is no record",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEGENERATE)
def test_what_is_not_there_is_said_in_words(name, tmp_path):
    series, words = DEGENERATE[name]
    result = analysis(*series)
    report.write(result, Sweep(tmp_path, plan([1]), [], []))
    assert words in Page((tmp_path / "report.html").read_text()).words()
    rows = (tmp_path / "scaling.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(len(one.points) for one in series)
    assert (tmp_path / "scaling.md").read_text().endswith(f"## Method\n\n{method.method(result)}\n")
    assert ("We recommend" in tables.terminal(result)) == (name == "no records")


def test_report_of_a_folder(tmp_path, capsys):
    write_example(tmp_path)
    assert make_report(tmp_path) == 0
    printed = capsys.readouterr()
    result = analyse(load(tmp_path))
    assert printed.out.startswith(tables.terminal(result))
    assert printed.out.endswith(
        f"\nThe report is in {tmp_path}\n  report.html  scaling.md  scaling.csv  figures/\n"
    )
    assert printed.err == ""
    for series in result.series:
        words = recommendation(result, series).replace("\u00a0", " ")
        assert words in Page((tmp_path / "report.html").read_text()).words()
    assert (tmp_path / "scaling.csv").read_text() == tables.comma_separated(result)
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    kinds = ("speedup", "efficiency", "phases", "imbalance")
    assert drawn == {
        f"{m}-{k}.{e}" for m in ("strong", "weak") for k in kinds for e in ("svg", "pdf")
    }
    linked = re.findall(r"\]\((.*?)\)", (tmp_path / "scaling.md").read_text())
    assert linked and all((tmp_path / path).is_file() for path in linked)


# What is said of a program that the sweep has started, and known of nothing else.
OF_A_SWEEP = (
    r"start|repeat|warm-up|launcher|random|whole process|record|We measured|measure it again|"
    r"--phase|--case|bound to cores|folder|Machine|unknown|\d{4}-\d\d-\d\d"
)
TABLES = {
    "both": "ranks,seconds,mode,work\n" + "".join(
        f"{p},{1 + 9 / p + 0.1 * k},strong,\n{p},{8 + 0.1 * k},weak,{p}\n"
        for p in (1, 2, 4, 8) for k in range(7)
    ),
    "oversubscribed": "ranks,cores,threads,seconds\n1,4,1,9\n2,4,1,5\n4,4,1,3\n8,4,1,4\n",
    "one row": "ranks,seconds\n4,2.5\n",
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_report_of_supplied_times_says_what_is_known_and_no_more(tmp_path, capsys, table):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "T_1.csv"
    path.write_text(TABLES[table])
    words = ["import", str(path), "--folder", str(tmp_path / "t")]
    words += ["--note", "gcc=12 x", "--cores-per-node", "4"]
    assert main(words) == 0
    capsys.readouterr()
    assert make_report(tmp_path / "t") == 0
    texts = [capsys.readouterr().out.partition("The report is in")[0]]
    texts += [(tmp_path / "t" / "scaling.md").read_text().replace("\\", "")]
    texts += [Page((tmp_path / "t" / "report.html").read_text()).words()]
    again = f"rankwise import {path} --note 'gcc=12 x' --cores-per-node 4"
    for text in (" ".join(text.split()).replace(again, "AGAIN") for text in texts):
        assert re.findall(f"(?:{OF_A_SWEEP}).{{,40}}", text) == []
        assert re.match(r"(# )?Scaling of `?T_1.csv", text)
        assert f"times supplied in {path}" in text
    supplied = (
        f"scaling were supplied in {path} (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()})"
        ", and not measured by rankwise: how they were taken, and what they include, is not known "
        "here."
    )
    page = " ".join(texts[2].split())
    assert all(supplied in " ".join(text.split()) for text in texts[1:])
    assert f"Where the times are from {again} SHA-256 of the table" in page
    assert "A run costs cores x seconds / 3600 core-hours." in page
    if table == "both":
        assert "Each time is the median over 7 launches, that is rows of this table" in page
        assert "A run takes 3.550 s and costs 0.00394 core-hours." in page
        assert "Warnings" not in page
    else:
        assert "Each time is that of one launch, that is one row of this table" in page
        assert "There are no intervals" in page


def test_limit_in_the_folder_is_in_the_report(tmp_path, capsys):
    facts = {"devices": ["host"], "kernel_gbs": 24.0, "kernel_bytes": 24 * 10**9, "warnings": ["w"]}
    runs = [run(ranks=p, launch=k, facts=facts) for p in (1, 2) for k in range(1, 7)]
    write_sweep(tmp_path, plan([1, 2]), runs)
    write_limit(tmp_path / "preflight.h5", ranks=8)
    assert make_report(tmp_path) == 0
    printed = capsys.readouterr().out
    for shown in (printed, Page((tmp_path / "report.html").read_text()).words()):
        text = " ".join(shown.split())
        assert "preflight measured on 2026-11-25" in text and "80.0 %" in text
        assert "On 1 and 2 ranks the program warned: w." in text
    assert "memory bandwidth" in (tmp_path / "figures" / "strong-speedup.svg").read_text()
    (tmp_path / "preflight.h5").write_text("spoiled")
    assert make_report(tmp_path) == 2
    error = capsys.readouterr().err
    assert "preflight.h5 is not a whole HDF5 file" in error and len(error.splitlines()) == 1


def test_options_reach_the_analysis_and_a_second_report_has_the_same_bytes(tmp_path, capsys):
    write_example(tmp_path, modes=("strong",), records=False)
    contents = []
    for _ in range(2):
        assert make_report(tmp_path, "--efficiency", "0.999") == 0
        assert "99.9 %" in capsys.readouterr().out
        files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
        contents.append({path: path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert "target, 99.9 %" in (tmp_path / "figures" / "strong-efficiency.svg").read_text()


@pytest.mark.parametrize(
    "options", [{"launches": 1}, {"records": False}, {"modes": ("weak",)}], ids=str
)
def test_pages_of_little(tmp_path, options):
    write_example(tmp_path, **options)
    Page(html(analyse(load(tmp_path))))


def test_report_of_a_sweep_without_any_run(tmp_path, capsys):
    write_sweep(tmp_path, plan([1, 2]), [])
    assert make_report(tmp_path) == 0
    assert "Nothing has been measured yet." in capsys.readouterr().out


def test_report_where_every_run_failed(tmp_path, capsys):
    write_sweep(tmp_path, plan([1], launches=1), [run(outcome="killed", reason="signal 9")])
    assert make_report(tmp_path) == 0
    assert "1 rank, launch 1: killed (signal 9), after 2.000 s" in capsys.readouterr().out


def test_not_a_sweep_is_one_sentence(tmp_path, capsys):
    assert make_report(tmp_path / "absent") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"rankwise report: error: {tmp_path / 'absent'}: No such file or directory\n"
    )


def test_folder_that_cannot_be_written_still_prints_the_table(tmp_path, capsys):
    write_example(tmp_path, modes=("strong",))
    (tmp_path / "figures").write_text("in the way")
    assert make_report(tmp_path) == 2
    printed = capsys.readouterr()
    assert "Strong scaling" in printed.out
    assert "File exists" in printed.err and len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("value", ["0", "1.1", "-1", "nan", "much"])
def test_efficiency_out_of_range(tmp_path, capsys, value):
    with pytest.raises(SystemExit) as ended:
        make_report(tmp_path, f"--efficiency={value}")
    assert ended.value.code == 2
    assert (
        f"{value!r} is not a number above 0 and at most 1, such as 0.7" in capsys.readouterr().err
    )


def test_terminal_without_unicode_prints_escapes(tmp_path):
    planned = {**plan([1], launches=1), "command": ["./caf\u00e9"]}
    write_sweep(tmp_path, planned, [run()])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "rankwise", "report", str(tmp_path)],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "ascii", "MPLCONFIGDIR": str(tmp_path)},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Scaling of './caf\\xe9'")


def test_command_to_repeat_the_sweep_is_one():
    planned = plan([4, 1], ("strong", "weak"), launches=3, gpus_per_rank=2, threads=4, seed=0)
    planned |= {"command": ["./a b", "--n", "$(x)"], "weak": "n=10*ranks"}
    planned |= {"launcher": "mpiexec -n {ranks}"}
    words = shlex.split(report.sweep_command(Sweep(Path(), planned, [], [])))
    assert words[:2] == ["rankwise", "sweep"]
    where = words.index("--")
    parser = argparse.ArgumentParser()
    sweep.add_arguments(parser)
    args = parser.parse_args(words[2:where])
    assert words[where + 1 :] == planned["command"]
    assert (args.mode, args.ranks, args.weak) == ("both", "1,4", "n=10*ranks")
    assert (args.launches, args.threads, args.gpus_per_rank, args.seed) == (3, 4, 2, 0)
    assert (args.launcher, args.timeout) == ("mpiexec -n {ranks}", 600.0)


def test_command_to_repeat_leaves_out_what_the_sweep_finds_itself():
    text = report.sweep_command(Sweep(Path(), plan([1], ("weak",), seed=None), [], []))
    assert "--launcher" not in text and "--weak" not in text and "--gpus" not in text
    assert "--seed" not in text and "--mode weak" in text


@pytest.mark.parametrize("unit", ["CU", "service units ab"])
@pytest.mark.parametrize("per", ["node-hour", "core-hour", "GPU-hour"])
@pytest.mark.parametrize("facts", [{"whole_nodes": "OverSubscribe=NO"}, {"whole_nodes": ""}])
@pytest.mark.parametrize("gpus", [0, 1])
def test_terminal_keeps_the_charge_and_its_width(unit, per, facts, gpus):
    some = [
        run(ranks=p, launch=k, seconds=292.9 * 4 / p * (1 + k / 1000), nodes=p // 4, cores=p,
            gpus=gpus * p, outcome="failed" if (p, k) == (64, 7) else "ok")
        for p in (4, 8, 16, 32, 64) for k in range(1, 8)
    ]  # fmt: skip
    some = with_queue(some, lambda run: [1.0] * run.ranks)
    facts = {**facts, "cores_per_node": 4, "gpus_per_node": 4}
    planned = {"billing": facts, "charge": f"0.02 {unit} per {per}", "runs": 100}
    if per == "GPU-hour" and not gpus and not facts["whole_nodes"]:
        with pytest.raises(UsageError, match="no GPU is used"):
            Billing.of(planned)
        return
    billing = Billing.of({**planned, "gpus_per_rank": gpus})
    found = analysed(some, billing=billing)
    text = tables.terminal(found)
    assert max(map(len, text.splitlines())) <= 100
    assert f"0.02 {unit} per {per}" in method.method(found)
    table = text.split("----")[0]
    assert unit in table and "speedup" in table


def test_unit_of_a_charge_is_no_markup():
    billing = Billing.of({"charge": "600 a|<b>x</b> per core-hour", "runs": 2})
    found = analysed(
        [run(ranks=p, launch=k, seconds=9 / p) for p in (1, 2) for k in range(6)], billing=billing
    )
    text = tables.markdown(found, {})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert (
        len(
            {
                len(re.findall(r"(?<!\\)\|", row))
                for row in rows
                if "seconds" in row or "ranks" in row
            }
        )
        == 1
    )
    assert "<b>x</b>" not in text and "<b>x</b>" not in html(found)


def test_numbers_stay_with_their_units_and_commands_as_they_are():
    assert numbers.bound("takes 5 s on 2 ranks, 87 % of 3 GiB") == (
        "takes 5\u00a0s on 2\u00a0ranks, 87\u00a0% of 3\u00a0GiB"
    )
    assert numbers.bound("5 steps, 2 rank-files, 3 seconds") == "5 steps, 2 rank-files, 3 seconds"
    planned = plan([1, 2], command=["./solve", "4", "run", "-t", "5", "s"])
    some = [run(ranks=p, launch=k, seconds=9 / p) for p in (1, 2) for k in range(6)]
    found = analysed(some, planned=planned)
    page = html(found)
    assert "The command was: ./solve 4 run -t 5 s." in page
    assert "We recommend 2\u00a0ranks" in page
