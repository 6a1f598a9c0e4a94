"""Two sweeps beside each other: the statuses, the words, the page, and what is refused."""

import argparse
import csv
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rankwise.__main__ import main
from rankwise.analysis.comparison import compare
from rankwise.report import compare as command
from rankwise.report import comparison as words
from rankwise.report import comparison_circumstances as circumstances
from rankwise.report import comparison_page, comparison_tables, tables
from rankwise.sweep.folder import Sweep, load
from tests.analysis.examples import (
    WIGGLE,
    analysis,
    failed,
    plan,
    run,
    runs,
    strong,
    write_sweep,
)
from tests.report.test_report import ACTING, HOSTILE, VISIBLE, Page

pytestmark = pytest.mark.usefixtures("few_resamples")

FEW = "no rank count has six launches that succeeded on both sides"


def launches(factor=1.0, counts=(1, 2), launches=6, mode="strong", **changes):
    """Return runs whose seconds are those of an example, times a factor."""
    return [
        run(
            **{"source": "record", **changes},
            mode=mode,
            ranks=p,
            launch=k + 1,
            seconds=8 * factor / p * WIGGLE[k % 6],
        )
        for p in counts
        for k in range(launches)
    ]


@pytest.fixture
def compared(tmp_path, capsys):
    """Return a function that writes two sweeps, if they are given, and compares them."""

    def call(a=None, b=None, *options, plans=({}, {})):
        for name, some, more in zip("ab", (a, b), plans, strict=True):
            if some is not None:
                counts = sorted({run.ranks for run in some})
                shutil.rmtree(tmp_path / name, ignore_errors=True)
                write_sweep(tmp_path / name, plan(counts, **more), some)
        capsys.readouterr()
        try:
            status = main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), *options])
        except SystemExit as end:
            status = end.code
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(options, status, shown.out, shown.err)

    return call


def of(a, b, plans=({}, {})):
    """Return the comparison of the sweeps of some runs."""
    sides = zip("ab", (a, b), plans, strict=True)
    return compare(*(Sweep(Path(n), plan([1], **more), list(x), []) for n, x, more in sides))


def flat(text):
    """Return text with single spaces."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("factor", "status", "told"),
    [
        (1.2, 1, "The check failed: B is slower by more than 5 % in strong scaling on 1 and 2"),
        (1.0, 0, "The check passed: nowhere is B surely slower by more than 5 %."),
        (0.8, 0, "The check passed"),
    ],
)
def test_check(compared, tmp_path, factor, status, told):
    done = compared(launches(), launches(factor), "--fail-above", "5%")
    assert (done.returncode, done.stderr) == (status, "")
    assert told in flat(done.stdout)
    page = Page((tmp_path / "b" / "comparison.html").read_text())
    assert told in page.words()
    # Without the option nothing fails.
    assert compared().returncode == 0


def test_check_that_passes_says_what_it_could_have_shown(compared, tmp_path):
    noisy = [replace(run, seconds=run.seconds**2) for run in launches(counts=(1,))]
    some = [*noisy, *launches(counts=(2, 4))]
    done = compared(some, some, "--fail-above", "5%")
    assert done.returncode == 0
    rows = csv.DictReader(io.StringIO((tmp_path / "b" / "comparison.csv").read_text()))
    most, least, _ = (float(row["could_show"]) for row in rows)
    assert 0.05 < least < most
    told = f"The smallest slowdown that could have been shown is about {words.percent(least)}"
    every = f"and about {words.percent(most)} at every rank count that was checked."
    assert f"{told}, in strong scaling on 2 ranks, {every}" in flat(done.stdout)
    done = compared(some, launches(counts=(4,)), "--fail-above", "5%")
    assert f"{told}." in flat(done.stdout)


def test_check_that_cannot_fail_is_none(compared):
    done = compared(launches(launches=3), launches(1.5, launches=2), "--fail-above", "5%")
    assert done.returncode == 2
    assert "cannot tell" in done.stdout and "The check" not in done.stdout
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"rankwise compare: error: {FEW}, so this check cannot fail")
    assert re.search(r"A \(\S+/a\) has 3 and B \(\S+/b\) has 2 that succeeded; sweep again", said)
    assert said.endswith("with --launches 6, or more, into a new folder")
    assert compared().returncode == 0
    done = compared(launches(), launches(launches=5), "--fail-above", "5%")
    assert done.returncode == 2 and "/a)" not in done.stderr


def test_check_of_some_counts_says_which_it_left_out(compared):
    some = [*launches(counts=(1,)), *launches(counts=(2,), launches=5)]
    done = compared(launches(), some, "--fail-above", "5%")
    assert done.returncode == 0
    few = "with fewer than six launches that succeeded on one side at least"
    assert f"Not checked, {few}: strong scaling on 2 ranks." in flat(done.stdout)


def test_check_says_which_counts_b_has_not_run(compared):
    some = [*launches(counts=(1, 2, 4)), *failed(launches(counts=(8,)))]
    done = compared(some, launches(counts=(1, 16)), "--fail-above", "5%")
    assert done.returncode == 0
    absent = "Not checked, because B has no launch there: strong scaling on 2 and 4 ranks."
    assert absent in flat(done.stdout)
    assert compared(some, launches(1.2, (1,)), "--fail-above", "5%").returncode == 1
    assert "Not checked" not in compared().stdout


def test_count_where_b_failed_fails_the_check(compared, tmp_path):
    bad = [replace(each, output_end="no such file") for each in failed(launches(counts=(2,)))]
    done = compared(launches(), [*launches(counts=(1,)), *bad], "--fail-above", "5%")
    assert (done.returncode, done.stderr) == (1, "")
    assert "B failed in strong scaling on 2 ranks, where A did not." in flat(done.stdout)
    told = "The check failed: B has no launch that succeeded in strong scaling on 2 ranks."
    assert told in flat(done.stdout)
    page = Page((tmp_path / "b" / "comparison.html").read_text()).words()
    assert "B: strong scaling, 2 ranks, launch 1: failed (exit 1)" in page
    assert "no such file" in page
    # It takes no six launches to see that.
    few = [*launches(counts=(1,), launches=1), *bad]
    assert compared(launches(), few, "--fail-above", "5%").returncode == 1
    assert compared(launches(), bad, "--fail-above", "5%").returncode == 1


def test_count_where_a_failed_too_is_no_fault_of_b(compared):
    bad = [*launches(counts=(1,)), *failed(launches(counts=(2,)))]
    done = compared(bad, bad, "--fail-above", "5%")
    assert done.returncode == 0
    assert "2 ranks: A and B: 6 of 6 launches failed" in flat(done.stdout)
    assert compared(bad, launches(), "--fail-above", "5%").returncode == 0
    assert words.outcome(of(bad, launches()))[1:] == [
        "A has no launch that succeeded in strong scaling on 2 ranks: B is not compared there."
    ]
    done = compared(failed(launches()), launches(), "--fail-above", "5%")
    assert done.returncode == 2 and "A (" in done.stderr
    assert "six launches on both sides" not in done.stdout + done.stderr


def test_sweeps_of_a_real_program(tmp_path, monkeypatch, capsys):
    """One of 50 and one of 500 ms: what the launcher takes is the same."""
    monkeypatch.chdir(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, seconds in (("old", "0.05"), ("new", "0.5")):
        command = [sys.executable, "-m", "rankwise", "sweep", "--mode", "strong", "--ranks", "1"]
        command += ["--copies", "--folder", name, "--", "sleep", seconds]
        environment = {**os.environ, "PATH": path}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    assert main(["compare", "new", "old", "--fail-above", "5%"]) == 0
    capsys.readouterr()
    assert main(["compare", "old", "new", "--fail-above", "5%"]) == 1
    shown = capsys.readouterr().out
    assert "B is slower in strong scaling on 1 rank: it takes " in flat(shown)
    assert shown.endswith("The comparison is in new/comparison.html  new/comparison.csv\n")


def test_verdicts():
    b = [*launches(1.2, (1,)), *launches(1.0, (2,)), *launches(0.8, (4,)), *launches(0.7, (8,))]
    found = of(launches(counts=(1, 2, 4, 8)), b)
    verdicts = [words.verdict(pair) for pair in found.pairs]
    assert verdicts == ["slower", "cannot tell", "faster", "faster"]
    said = words.outcome(found)
    assert said[0].startswith("B is slower in strong scaling on 1 rank: it takes 1.200 times as")
    assert said[1].startswith(
        "B is faster in strong scaling on 4 and 8 ranks, most of all in strong scaling on 8 ranks: "
        "it takes 0.7000 times as long as A (95 % interval 0.6"
    )
    assert said[2:] == [
        "In strong scaling on 2 ranks the launches cannot tell whether B is faster or slower."
    ]


def test_both_kinds_of_scaling_and_counts_of_one_side():
    a = [*launches(), *launches(counts=(2, 4), mode="weak")]
    b = [*launches(1.2, (2, 8)), *launches(1.2, (2, 4), mode="weak")]
    said = words.outcome(of(a, b))
    assert (
        "B is slower in strong scaling on 2 ranks and in weak scaling on 2 and 4 ranks" in said[0]
    )
    assert said[1:] == [
        "A alone was measured in strong scaling on 1 rank: not compared.",
        "B alone was measured in strong scaling on 8 ranks: not compared.",
    ]
    a = [*launches(), *failed(launches(counts=(4, 8)))]
    assert words.outcome(of(a, launches(counts=(1,))))[1:] == [
        "A alone was measured in strong scaling on 2 ranks: not compared.",
        "A alone has launches in strong scaling on 4 and 8 ranks, where all failed: not compared.",
    ]


def test_notes_name_the_side():
    b = [*launches(cores=1)[:10], *failed(launches(cores=1)[10:])]
    found = of(launches(cores=1), b)
    both = "A and B: oversubscribed: 2 on 1 core"
    assert words.notes(found.pairs[1])[:2] == [both, "B: 2 of 6 launches failed"]
    assert words.notes(found.pairs[0]) == []
    # Superlinear beside its own baseline is nothing to A.
    found = of(launches(), [*launches(2.0, (1,)), *launches(0.5, (2,))])
    assert found.pairs[1].b.superlinear and words.notes(found.pairs[1]) == []


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ({"threads": 1}, {"threads": 2}, "on 1 rank A has 1 and B 2 threads per rank"),
        ({"work": 1e6}, {"work": 2e6}, "on 1 rank A did a work of 1000000 and B of 2000000"),
        (
            {"work": 1234567.0},
            {"work": 1234570.0},
            "on 1 rank A did a work of 1234567 and B of 1234570",
        ),
        ({"source": "supplied"}, {"source": "json"}, "the seconds of A are those of a table of"),
        (
            {"source": "json"},
            {"source": "process"},
            "the seconds of A are those of a line of JSON, and the seconds of B those of the whole",
        ),
        ({"source": "x"}, {"source": "json"}, "the seconds of A are those of x, and"),
    ],
    ids=["threads", "work", "nearly the same work", "table", "source", "another source"],
)
def test_what_has_no_ratio_is_refused(compared, tmp_path, a, b, told):
    done = compared(launches(**a), launches(**b), "--fail-above", "5%")
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"rankwise compare: error: {tmp_path}/a and {tmp_path}/b cannot be")
    assert told in said
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["runs", "sweep.json"]


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (None, None, "/a: No such file or directory"),
        (launches(), None, "/b: No such file or directory"),
        ([], launches(), "have no rank count in common: nothing can be compared"),
        (launches(), launches(counts=(4,)), "have no rank count in common"),
        (launches(), launches(mode="weak"), "have no rank count in common"),
    ],
)
def test_nothing_to_compare_is_one_sentence(compared, tmp_path, a, b, told):
    done = compared(a, b)
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert told in said and said.startswith("rankwise compare: error: ")
    assert not list(tmp_path.rglob("comparison.*"))


def test_a_sweep_is_not_compared_with_itself(compared, tmp_path):
    write_sweep(tmp_path / "a", plan([1]), launches())
    (tmp_path / "b").symlink_to("a")
    done = compared()
    assert done.returncode == 2
    assert done.stderr.endswith("a and " + str(tmp_path / "b") + " are the same folder\n")


def test_damaged_sweep_is_one_sentence(compared, tmp_path):
    write_sweep(tmp_path / "b", plan([1]), launches())
    (tmp_path / "b" / "sweep.json").write_text("[]")
    done = compared(launches())
    assert done.returncode == 2 and "holds no JSON object" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [("5%", 0.05), ("5 %", 0.05), ("0%", 0), ("2.5%", 0.025), (".5%", 0.005), ("1000%", 10)],
)
def test_per_cent(text, part):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert parser.parse_args(["a", "b", "--fail-above", text]).fail_above == part


@pytest.mark.parametrize(
    "text", ["5", "0.05", "%", "-5%", "1000.1%", "nan%", "1e1%", "5%%", "5\n%", "\u0665%", ""]
)
def test_what_is_not_per_cent_is_refused(compared, text):
    done = compared(None, None, f"--fail-above={text}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{text!r} is not like 5%, from 0% to 1000%" in done.stderr


def test_page_and_csv_lie_in_b_and_have_the_same_bytes_every_time(compared, tmp_path):
    done = compared(launches(), launches(1.2), "--fail-above", "5%")
    inside = tmp_path / "b"
    names = f"{inside / 'comparison.html'}  {inside / 'comparison.csv'}"
    assert done.stdout.endswith(f"\nThe comparison is in {names}\n")
    contents = [path.read_bytes() for path in sorted(inside.glob("comparison.*"))]
    assert compared(None, None, "--fail-above", "5%").stdout == done.stdout
    assert [path.read_bytes() for path in sorted(inside.glob("comparison.*"))] == contents
    assert not list((tmp_path / "a").glob("comparison.*"))
    # A report of the folder, and a further comparison, do not mind.
    assert main(["report", str(inside)]) == 0


def test_page_elsewhere(compared, tmp_path):
    page = tmp_path / "there.html"
    done = compared(launches(), launches(1.2), "--output", str(page))
    assert done.returncode == 0 and str(page) in done.stdout
    assert Page(page.read_text()) and page.with_suffix(".csv").exists()
    assert not list((tmp_path / "b").glob("comparison.*"))
    # Its own files are replaced, with a check and without.
    for check in ([], ["--fail-above", "50%"], []):
        assert compared(None, None, "--output", str(page), *check).returncode == 0


MINE = {
    "page": ("there.html", "mine"),
    "page of another comparison": ("there.html", "<title>Comparison of two compilers</title>"),
    "text": ("there.csv", "mine"),
    "table to import": ("there.csv", "mode,ranks,seconds\nstrong,1,9\n"),
    "table to import, by its first columns": ("there.csv", "mode,ranks,threads\n"),
    "table of a report": ("there.csv", tables.comma_separated(analysis(strong((1, 2))))),
}


@pytest.mark.parametrize(("name", "content"), MINE.values(), ids=MINE)
def test_files_of_others_are_not_replaced(compared, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    done = compared(launches(), launches(), "--output", str(tmp_path / "there.html"))
    assert done.returncode == 2
    assert "cannot tell" in done.stdout
    said = f"{tmp_path / 'there.html'}: {name} is no comparison, and is not replaced"
    assert done.stderr == f"rankwise compare: error: cannot write {said}\n"
    assert [path.read_text() for path in tmp_path.glob("there.*")] == [content]


def test_page_of_a_report_is_not_replaced_under_any_name(compared, tmp_path):
    compared(launches(), launches())
    assert main(["report", str(tmp_path / "a")]) == 0
    report = (tmp_path / "a" / "report.html").rename(tmp_path / "there.html").read_bytes()
    done = compared(None, None, "--output", str(tmp_path / "there.html"))
    assert done.returncode == 2 and "there.html is no comparison" in done.stderr
    assert (tmp_path / "there.html").read_bytes() == report


@pytest.mark.parametrize("name", ["none/there.html", "file/there.html", "folder.html"])
def test_page_that_cannot_be_written(compared, tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    done = compared(launches(), launches(1.2), "--output", str(tmp_path / name))
    assert done.returncode == 2
    assert "slower" in done.stdout and "The comparison is in" not in done.stdout
    assert len(done.stderr.splitlines()) == 1 and str(tmp_path) in done.stderr


@pytest.mark.parametrize("name", ["page.pdf", "page", ""])
def test_page_of_another_kind_is_refused(compared, name):
    done = compared(None, None, f"--output={name}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not end in .html" in done.stderr


@pytest.mark.parametrize("name", ["report.html", "scaling.html"])
def test_page_does_not_take_a_name_of_a_report(compared, tmp_path, name):
    write_sweep(tmp_path / "a", plan([1]), launches())
    done = compared(None, launches(), "--output", str(tmp_path / "a" / name))
    assert (done.returncode, done.stdout) == (2, "")
    said = "or the .csv beside it, would have the name of a file of a report"
    assert said in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["runs", "sweep.json"]


@pytest.mark.parametrize(
    ("changes", "planned", "told"),
    [
        ({"cpu": "Other CPU"}, {}, "different processors: Example CPU 9000; Other CPU."),
        ({"facts": {"hosts": ["n7"]}}, {}, "different hosts: n001; n7."),
        ({}, {"launcher": "srun"}, "different launchers: mpirun (MPICH); srun."),
        ({}, {"measure": {"seconds": "b"}}, "different patterns for their seconds: a; b."),
        ({"nodes": 2}, {}, "different numbers of nodes in strong scaling on 1 and 2 ranks."),
        ({"gpus": 1}, {}, "different numbers of GPUs in strong scaling on 1 and 2 ranks."),
        (
            {"load": 7.0},
            {},
            "B: Something else kept the machine busy just before 12 of 12 launches.",
        ),
        ({}, {"git": "a" * 40 + "-dirty"}, "B: The code had changes that no commit holds."),
        ({}, {"command": ["other"]}, "The commands of A and B differ, and the program does not"),
        ({}, {"weak": "n=ranks"}, "The commands of A and B differ, and the program does not"),
        ({}, {"warnings": ["odd"]}, "B: odd."),
    ],
)
def test_what_may_make_a_difference_is_warned_of(changes, planned, told):
    base = {"measure": {"seconds": "a"}}
    a, b = launches(), launches(**changes)
    (said,) = circumstances.warnings(of(a, b, (base, {**base, **planned})))[:1]
    assert told in said
    assert circumstances.warnings(of(a, a, (base, base))) == []


def test_partitions():
    plans = [{"machine": {"partition": name}} for name in ("long", "short")]
    (said,) = circumstances.warnings(of(launches(), launches(), plans))
    assert said == "A and B ran with different partitions: long; short."


def test_days_and_unknown_circumstances_are_no_warning():
    later = launches(start="2026-03-04T00:00:00.000+00:00", cpu="")
    bare = dict.fromkeys(("machine", "launcher", "git", "files", "measure", "mpi"))
    found = of(launches(), later, ({}, bare))
    assert circumstances.warnings(found) == []
    assert ("Days", "2026-01-02", "2026-03-04") in circumstances.facts(found)


def supplied(file, **changes):
    """Return what the plan of an imported table has."""
    return {"supplied": {"file": file, "sha256": "0" * 64}, "command": [file], **changes}


def test_tables_of_times_have_no_commands_and_no_days():
    some = launches(source="supplied")
    plans = [supplied("old.csv", machine={}), supplied("new.csv", machine={})]
    found = of(some, some, plans)
    (said,) = circumstances.warnings(found)
    assert said == "The tables of A and B do not tell the work: make sure that it is the same."
    assert circumstances.facts(found) == [
        ("Folder", "a", "b"),
        ("Table of times", "old.csv", "new.csv"),
        ("SHA-256 of the table", "0" * 64, "0" * 64),
    ]
    few = of(some[:5], some[:5], plans)
    assert words.no_check(few).endswith("; import tables with 6 rows, or more, of a rank count")
    told = launches(source="supplied", work=5.0)
    assert circumstances.warnings(of(told, told, plans)) == []


@pytest.mark.parametrize("slowdown", [None, 0.05])
def test_what_could_be_shown_is_explained_wherever_it_stands(slowdown):
    # Also where the check fails.
    found = of(launches(), launches(1.2))
    text = flat(comparison_tables.terminal(found, slowdown))
    for shown in (text, Page(comparison_page.page(found, slowdown)).words()):
        explained = "could have been shown to exceed 5 %." in shown
        assert explained == (slowdown is not None)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [(0, 12, "B: Something"), (12, 12, "A and B: Something"), (12, 0, "A: Something"), (6, 6, "")],
)
def test_mostly_disturbed_launches_are_told_at_the_top_of_the_page(a, b, told):
    sides = [
        [replace(run, load=7.0 * (i < busy)) for i, run in enumerate(launches())] for busy in (a, b)
    ]
    page = comparison_page.page(of(*sides), None)
    box = Page(re.search(r'<section class="summary".*?</section>', page, re.DOTALL)[0]).words()
    assert f"{told} else kept the machine busy just before 12 of 12 launches" in box or not told
    assert ("kept the machine busy" in box) == bool(told)


def test_warnings_of_both_sides_are_said_once():
    found = of(launches(load=7.0), launches(load=7.0))
    assert circumstances.warnings(found) == [
        "A and B: Something else kept the machine busy just before 12 of 12 launches."
    ]


def test_commands_of_one_known_work_may_differ():
    some = launches(work=5.0)
    assert circumstances.warnings(of(some, some, ({}, {"command": ["new/demo"]}))) == []


def test_files_that_differ():
    old = {"old/app": "sha256 1", "in": "sha256 2", "library": "9 bytes"}
    new = {"new/app": "sha256 3", "in": "sha256 2", "library": "8 bytes"}
    found = of(launches(), launches(), ({"files": old}, {"files": new}))
    row = ("Files of the program that differ", "old/app, library", "new/app, library")
    assert row in circumstances.facts(found)
    assert circumstances.warnings(found) == []
    # Of other names, as in two clones.
    same = {"new/app": "sha256 1", "in": "sha256 2", "library": "9 bytes"}
    (said,) = circumstances.warnings(of(launches(), launches(), ({"files": old}, {"files": same})))
    assert said.startswith("The files of the program are the same in A and B")
    many = {str(n): "sha256" for n in range(12)}
    facts = circumstances.facts(of(launches(), launches(), ({"files": many}, {"files": {}})))
    assert facts[-1][1:] == ("0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more", "none")


def test_notes_of_the_plan_are_facts():
    found = of(launches(), launches(), ({"notes": {"compiler": "gcc 14"}}, {}))
    assert ("Note: compiler", "gcc 14", "-") in circumstances.facts(found)


def test_terminal_fits_a_batch_log():
    big = [replace(each, seconds=1e5 * each.seconds, ranks=10**6) for each in launches()[:6]]
    b = [*big[:5], *failed(big[5:]), *[replace(each, launch=9) for each in big]]
    text = comparison_tables.terminal(
        of(big, b, ({"command": ["x" * 40] * 9}, {"warnings": ["y " * 90]})), 0.05
    )
    assert max(map(len, text.splitlines())) <= 100
    assert not any(each.endswith(" ") for each in text.splitlines())
    assert text.isascii() and "11 of 12" in text


def test_terminal_page_and_csv_have_the_same_figures():
    found = of(launches(), launches(1.2))
    texts = (
        flat(comparison_tables.terminal(found, 0.05)),
        Page(comparison_page.page(found, 0.05)).words(),
    )
    rows = list(csv.DictReader(io.StringIO(comparison_tables.comma_separated(found, 0.05))))
    for pair, row in zip(found.pairs, rows, strict=True):
        for text in texts:
            assert all(cell in text for cell in comparison_tables.cells(pair, 0.05).values())
        assert (row["mode"], int(row["ranks"])) == (pair.mode, pair.ranks)
        assert [float(row[f"ratio{end}"]) for end in ("", "_low", "_high")] == [
            pair.ratio.value, pair.ratio.low, pair.ratio.high,
        ]  # fmt: skip
        assert float(row["b_seconds"]) == pair.b.seconds.value
        assert (row["verdict"], row["b_launches"], row["b_failed_launches"]) == ("slower", "6", "0")
    plain = comparison_tables.comma_separated(found, None)
    assert {row["could_show"] for row in csv.DictReader(io.StringIO(plain))} == {""}


def hostile():
    """Return a comparison with hostile text wherever text comes from outside."""
    facts = dict.fromkeys(("job", "git", "mpi", "versions"), HOSTILE)
    facts |= {"hosts": [HOSTILE], "warnings": [HOSTILE], "changed": [HOSTILE]}
    some = [replace(each, facts=facts, cpu=HOSTILE, start=HOSTILE) for each in launches()]
    some += [run(ranks=4, outcome="failed", reason=HOSTILE, output_end=HOSTILE)]
    names = dict.fromkeys(("host", "partition", "cpu"), HOSTILE)
    bad = dict.fromkeys(("launcher", "git", "weak", "job"), HOSTILE)
    bad |= {"command": [HOSTILE], "machine": names, "warnings": [HOSTILE]}
    bad |= {
        "files": {HOSTILE: HOSTILE},
        "notes": {HOSTILE: HOSTILE},
        "measure": {"seconds": HOSTILE},
    }
    found = of(some, launches(), (bad, {"measure": {"seconds": "x"}}))
    return replace(found, folders=(Path(HOSTILE.replace("\x00", "")), Path("b")))


def test_hostile_text_does_nothing():
    found = hostile()
    text = comparison_page.page(found, 0.05)
    page = Page(text)
    for shown in (
        text,
        comparison_tables.terminal(found, 0.05),
        comparison_tables.comma_separated(found, 0.05),
    ):
        assert not ACTING.search(shown)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words().count("<script>alert(1)</script>") >= 8
    assert flat(VISIBLE) in flat(comparison_tables.terminal(found, 0.05))


def test_page_is_one_file_that_runs_nothing_and_is_accessible():
    bad = failed(launches(counts=(4,)))
    found = of(launches(counts=(1, 2, 4)), [*launches(load=9.0), *bad])
    text = comparison_page.page(found, 0.05)
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "img"}
    assert not re.search(r"@import|url\((?!#)", text)
    policy = next(a["content"] for _, a in page.tags if "content" in a and "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for tag, a in page.tags if tag == "a"}
    assert links == {"warnings", "failures"} <= set(ids)
    assert text.count('<svg role="img"') == 2
    assert "1 rank 1.000, cannot tell; 2 ranks 1.000, cannot tell; 4 ranks -, B failed." in text


@pytest.mark.parametrize(
    ("a", "b", "drawn"),
    [
        (launches(counts=(1,)), failed(launches(counts=(1,))), 1),
        (failed(launches(counts=(1,))), failed(launches(counts=(1,))), 0),
        (launches(launches=1), launches(launches=1), 2),
        (
            [*launches(), *launches(mode="weak")],
            [*launches(), *launches(mode="weak")],
            4,
        ),
    ],
)
def test_what_can_be_drawn_is(a, b, drawn):
    assert comparison_page.page(of(a, b), None).count("<svg ") == drawn


def test_several_folders_of_one_command_are_compared(compared, tmp_path):
    for count in (1, 2):
        write_sweep(tmp_path / "b" / f"nodes-{count}", plan([count]), launches(1.2, (count,)))
    done = compared(launches())
    assert done.returncode == 0, done.stderr
    assert "B is slower in strong scaling on 1 and 2 ranks" in flat(done.stdout)
    assert (tmp_path / "b" / "comparison.html").exists()
    assert load(tmp_path / "b").missing == []


def test_noise_alone_says_nothing():
    """The same program twice: the sweeps of the examples differ by their noise alone."""
    a, b = runs(noise=0.02), runs(noise=0.02, counts=(32, 16, 8, 4, 2, 1))
    assert [words.verdict(pair) for pair in of(a, b).pairs].count("cannot tell") >= 5
