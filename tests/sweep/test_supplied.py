"""Times that exist already: tables as spreadsheets save them, their folders, and every mistake."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from rankwise.analysis.analysis import analyse
from rankwise.sweep import notes, supplied
from rankwise.sweep.folder import load
from rankwise.sweep.launchers import UsageError
from tests.analysis import examples
from tests.analysis.examples import write_limit
from tests.copies import ROOT

SCHEMA = ROOT / "rankwise" / "sweep" / "run.schema.json"
COUNTS = (1, 2, 4, 8, 16, 32, 64)
PLAIN = "ranks,seconds\n1,10.5\n1,11\n2,6.25\n"


def amdahl(serial=0.03, launches=7):
    """Return a table of a program with a serial fraction, whose times scatter by 1 %."""
    random = np.random.default_rng(3)
    rows = [
        f"{p},{100 * (serial + (1 - serial) / p) * random.lognormal(sigma=0.01):.5g}"
        for p in COUNTS
        for _ in range(launches)
    ]
    return "\n".join(["ranks,seconds", *rows])


@pytest.fixture
def imported(rankwise, tmp_path):
    """Return a function that imports a table into the folder ``t``, and loads that."""

    def run(table, *options):
        data = table if isinstance(table, bytes) else table.encode()
        (tmp_path / "times.csv").write_bytes(data)
        done = rankwise("import", "times.csv", "--folder", "t", *options)
        assert (done.returncode, done.stderr) == (0, "")
        return load(tmp_path / "t")

    return run


def times(sweep):
    """Return what a table without optional columns says of runs, in an order of its own."""
    return sorted((run.ranks, run.launch, run.seconds) for run in sweep.runs)


def test_the_serial_fraction_of_a_table_is_in_its_interval(rankwise, tmp_path):
    (tmp_path / "times.csv").write_text(amdahl())
    done = rankwise("import", "times.csv", "--folder", "t")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "strong scaling: 49 rows, 7 rank counts, 7 launches each",
        "folder: t",
        "its report: rankwise report t",
    ]
    done = rankwise("report", "t")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Scaling of times.csv\ntimes supplied in times.csv\n")
    assert "Amdahl: Serial fraction s = 0.0" in done.stdout
    (series,) = analyse(load(tmp_path / "t")).series
    s = series.fits[0].parameters["s"]
    assert 0.029 < s.low < 0.03 < s.high < 0.031


def test_what_is_kept_of_a_table(imported, tmp_path):
    table = "ranks,seconds,nodes,cores,threads,work\n4,2.5,2,64,3,1e6\n1,9,,,,\n"
    sweep = imported(table, "--note", "problem = water, 4000 atoms", "--cores-per-node", "32")
    assert sweep.plan == {
        "schema": 1,
        "command": ["times.csv"],
        "order": [["strong", 4, 1], ["strong", 1, 1]],
        "supplied": {"file": "times.csv", "sha256": hashlib.sha256(table.encode()).hexdigest()},
        "notes": {"problem": "water, 4000 atoms"},
        "cores_per_node": 32,
    }
    one, four = sorted(sweep.runs, key=lambda run: run.ranks)
    assert (four.nodes, four.cores, four.threads, four.work) == (2, 64, 3, 1e6)
    assert (one.nodes, one.cores, one.threads, one.work) == (1, 1, 1, None)
    assert (four.seconds, four.process_seconds, four.source) == (2.5, 2.5, "supplied")
    assert (sweep.missing, sweep.damaged) == ([], [])
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    written = list((tmp_path / "t").glob("runs/*/run.json"))
    assert [path.parent.name for path in sorted(written)] == ["strong-1-1", "strong-4-1"]
    for path in written:
        validator.validate(json.loads(path.read_text()))


SAVED = {
    "plain": PLAIN.encode(),
    "no last line end": PLAIN.strip().encode(),
    "byte order mark": PLAIN.encode("utf-8-sig"),
    "German": b"Ranks;Seconds\r\n1;10,5\r\n1;11\r\n2;6,25\r\n",
    "German with a mark": b"\xef\xbb\xbfRANKS ; seconds\r\n1;10,5\r\n1;11,\r\n2;6,25\r\n",
    "Western European": b"ranks\xa0;seconds\r\n1;\xa010,5\r\n1;11\r\n2;6,25\r\n",
    "Unicode text": "ranks\tseconds\r\n1\t10,5\r\n1\t11\r\n2\t6,25\r\n".encode("utf-16"),
    "tabs and points": b"ranks\tseconds\n1\t10.5\n1\t1.1e1\n2\t6.25\n",
    "semicolons and points": b"ranks;seconds\n1;10.5\n1;11\n2;6.25\n",
    "old Macintosh": PLAIN.replace("\n", "\r").encode(),
    "quotes": b'"ranks", "seconds"\n"1", "10.5"\n"1","11"\n"2","6.25"\n',
    "spaces after quotes": b'"ranks" , "seconds"\xa0\r\n"1" , "10.5" \r\n1,"11"\n"2" ,"6.25"\t',
    "spaces after quotes and tabs": b'"ranks" \t"seconds" \n"1" \t"10,5"\n1\t"11"\n"2"\t6,25\n',
    "Excel's separator": b"sep=;\r\nranks;seconds\r\n1;10,5\r\n1;11\r\n2;6,25\r\n",
    "another of Excel's": b"\xef\xbb\xbf\nSEP=|\nranks|seconds\n1|10,5\n1|11\n2|6,25\n",
    "another order": b"sec_onds,-Ranks\n10.5,1\n11,1\n6.25,2\n",
    "blank rows and columns": b"\n,,,\nranks,,seconds,,\n1,,10.5,\n,,,,\n1,,11\n\n2,,6.25,,,\n\n",
    "launches": b"ranks,seconds,LAUNCH\n2,6.25,1\n1,11,2\n1,10.5,1\n",
}


@pytest.mark.parametrize("table", SAVED.values(), ids=SAVED)
def test_tables_as_spreadsheets_save_them(imported, table):
    assert times(imported(table)) == [(1, 1, 10.5), (1, 2, 11.0), (2, 1, 6.25)]


def test_rows_of_a_count_are_launches_wherever_they_stand(imported):
    table = "mode,ranks,seconds,work\nWeak,1,4,10\n,1,3,\nweak,2,5,20\nSTRONG,1,2,\nweak,1,6,10\n"
    sweep = imported(table)
    found = {(run.mode, run.ranks, run.launch): run.seconds for run in sweep.runs}
    assert found == {
        ("weak", 1, 1): 4,
        ("weak", 1, 2): 6,
        ("weak", 2, 1): 5,
        ("strong", 1, 1): 3,
        ("strong", 1, 2): 2,
    }
    assert [tuple(entry) for entry in sweep.plan["order"]] == [
        ("weak", 1, 1), ("strong", 1, 1), ("weak", 2, 1), ("strong", 1, 2), ("weak", 1, 2),
    ]  # fmt: skip


def test_work_makes_the_efficiency_of_weak_scaling(imported):
    sweep = imported("ranks;mode;seconds;work\n1;weak;4;100\n2;weak;5,0;150\n")
    (series,) = analyse(sweep).series
    assert series.points[1].efficiency.value == pytest.approx((150 / 2 / 5) / (100 / 4))


def test_both_kinds_of_scaling_are_told(rankwise, tmp_path):
    table = "ranks,seconds,mode,work\n1,2,,\n1,2.1,,\n2,1,,\n1,2,weak,1\n2,2,weak,2\n"
    (tmp_path / "my times.csv").write_text(table)
    done = rankwise("import", "my times.csv", "--folder", "my folder")
    assert done.stdout.splitlines() == [
        "strong scaling: 3 rows, 2 rank counts, 1 to 2 launches each",
        "weak scaling: 2 rows, 2 rank counts, 1 launch each",
        "folder: my folder",
        "its report: rankwise report 'my folder'",
    ]
    assert rankwise("report", "my folder").returncode == 0


@pytest.mark.parametrize("name", ["caf\u00e9", "caf\udce9"])
def test_name_of_a_folder_that_the_terminal_cannot_show(tmp_path, name):
    (tmp_path / "times.csv").write_text(PLAIN)
    done = subprocess.run(
        [sys.executable, "-m", "rankwise", "import", "times.csv", "--folder", name],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"folder: caf\\" in done.stdout
    assert times(load(tmp_path / name))[0] == (1, 1, 10.5)


def test_folder_of_its_own(rankwise, tmp_path):
    (tmp_path / "times.csv").write_text(PLAIN)
    done = rankwise("import", "times.csv")
    (folder,) = tmp_path.glob("results/times-imported-*Z")
    assert f"folder: results/{folder.name}" in done.stdout
    assert times(load(folder))[0] == (1, 1, 10.5)


NAMES = (
    "the first row names the columns, which are ranks, seconds and, if you like, nodes, cores, "
    "threads, mode, launch, work"
)
WEAK = "weak scaling needs the work of all ranks together"
# What is wrong with a table, and what is said of it after its name.
MISTAKES = {
    "": " is empty",
    "\n ,\n": " is empty",
    "ranks,seconds\n": " has no row below the names of its columns",
    "ranks,seconds\n,\n": " has no row below the names of its columns",
    "ranks,nodes\n1,1\n": " has no column seconds",
    "seconds\n1\n": " has no column ranks",
    "ranks,seconds,Ranks\n1,1,1\n": " has more than one column ranks",
    "ranks,time\n1,1\n": f": unknown column 'time': {NAMES}\n",
    "ranks,time [s]\n1,1\n": ": unknown column 'time [s]': ",
    "1,10.5\n2,6\n": ": unknown column '1': ",
    "ranks seconds\n1 2\n": ": unknown column 'ranks seconds': ",
    f"ranks,{'x' * 99}\n": f": unknown column '{'x' * 40}...': ",
    "ranks,seconds\n1,10.5\n1,1.2.3\n": ", line 3: seconds is '1.2.3', and not a number above 0",
    "ranks,seconds\n\n1,ten\n": ", line 3: seconds is 'ten', and not a number above 0",
    "ranks,seconds\n1,0\n": ", line 2: seconds is '0', and not a number above 0",
    "ranks,seconds\n1,-1\n": ", line 2: seconds is '-1', and not a number above 0",
    "ranks,seconds\n1,nan\n": ", line 2: seconds is 'nan', and not a number above 0",
    "ranks,seconds\n1,inf\n": ", line 2: seconds is 'inf', and not a number above 0",
    "ranks,seconds\n1,1e999\n": ", line 2: seconds is '1e999', and not a number above 0",
    "ranks,seconds\n1,1e-999\n": ", line 2: seconds is '1e-999', and not a number above 0",
    "ranks,seconds\n1,1_0\n": ", line 2: seconds is '1_0', and not a number above 0",
    "ranks,seconds\n1,.\n": ", line 2: seconds is '.', and not a number above 0",
    "ranks,seconds\n1,2 s\n": ", line 2: seconds is '2 s', and not a number above 0",
    "ranks,seconds\n1,\n": ", line 2: seconds is empty",
    "ranks,seconds\n1\n": ", line 2: seconds is empty",
    "ranks,seconds\n,1\n": ", line 2: ranks is empty",
    "ranks,seconds\n0,1\n": ", line 2: ranks is '0', and not a whole number from 1 to",
    "ranks,seconds\n4.0,1\n": ", line 2: ranks is '4.0', and not a whole number from 1 to",
    "ranks,seconds\n\u0664,1\n": ", line 2: ranks is '\u0664', and not a whole number from 1 to",
    "ranks,seconds\n99999999999999999999,1\n": ", line 2: ranks is '99999999999999999999', and not "
    "a whole number from 1 to 10000000\n",
    "sep=;\nranks;seconds\n1;x\n": ", line 3: seconds is 'x', and not a number above 0",
    "sep=;\nranks,seconds\n1,2\n": ": unknown column 'ranks,seconds': ",
    f"ranks,seconds\n{'9' * 5000},1\n": f", line 2: ranks is '{'9' * 40}...', and not a whole",
    "ranks,seconds,nodes\n2,1,-1\n": ", line 2: nodes is '-1', and not a whole number from 1 to",
    "ranks,seconds,cores\n2,1,x\n": ", line 2: cores is 'x', and not a whole number from 1 to",
    "ranks,seconds,threads\n2,1,0\n": ", line 2: threads is '0', and not a whole number from 1 to",
    "ranks,seconds,launch\n2,1,0\n": ", line 2: launch is '0', and not a whole number from 1 to",
    "ranks,seconds,work\n2,1,0\n": ", line 2: work is '0', and not a number above 0",
    "ranks,seconds,mode\n2,1,both\n": ", line 2: mode is 'both', and not strong or weak",
    "ranks,seconds,mode\n2,1,weak\n": f", line 2: {WEAK}",
    "ranks,seconds,mode,work\n1,1,weak,5\n2,1,weak,\n": f", line 3: {WEAK}",
    "ranks,seconds,nodes\n2,1,4\n": ", line 2: there are more nodes than ranks, or than cores",
    "ranks,seconds,nodes,cores\n4,1,4,2\n": ", line 2: there are more nodes than ranks, or than",
    "ranks,seconds,launch\n2,1,3\n2,1,3\n": ", line 3: strong scaling on 2 ranks has a launch 3",
    "ranks,seconds,launch\n2,1,2\n2,1,\n": ", line 3: strong scaling on 2 ranks has a launch 2",
    "ranks,seconds,threads\n1,1,2\n1,1,4\n": ", line 3: threads is 4, and 2 in a row before: "
    "strong scaling on 1 rank",
    "ranks,seconds,nodes\n4,1,2\n4,1,\n": ", line 3: nodes is 1, and 2 in a row before: ",
    "ranks,seconds,cores\n4,1,8\n4,1,\n": ", line 3: cores is 4, and 8 in a row before: ",
    # Decimal commas between commas, thousands, and both signs in one table.
    "ranks,seconds\n1,10,5\n": ", line 2: '5' is in no column: between cells with a decimal comma",
    'ranks,seconds\n1,"1,234"\n': ", line 2: seconds is '1,234', and not a number above 0 with a "
    "decimal point",
    "ranks;seconds\n1;10,5\n2;1.234,5\n": ", line 3: seconds is '1.234,5', and not a number above "
    "0 with a decimal comma",
    "ranks;seconds\n1;1.000,95\n2;500\n": ", line 2: seconds is '1.000,95', and not a number above "
    "0 with a decimal comma and without a thousands separator\n",
    'ranks,seconds\n1,"1,000.95"\n': ", line 2: seconds is '1,000.95', and not a number above 0 "
    "with a decimal point and without a thousands separator\n",
    "ranks;seconds\n1;1 000\n": ", line 2: seconds is '1 000', and not a number above 0 without a "
    "thousands separator\n",
    "ranks;seconds\n1;1.234\n2;12,5\n": ", line 3: seconds is '12,5', and not a number above 0 "
    "with a decimal point",
    "ranks;seconds\n1;12,5\n2;1.234\n": ", line 3: seconds is '1.234', and not a number above 0 "
    "with a decimal comma",
    "ranks,seconds,\n1,2,3\n": ", line 2: '3' is in no column",
    'ranks,seconds\n1,"2\n': ", line 2: no row of a CSV file: ",
    'ranks,seconds\n1,"2" 3\n': ", line 2: no row of a CSV file: ",
    f"ranks,seconds\n1,{'1' * 200000}\n": ", line 2: no row of a CSV file: field larger than",
}


@pytest.mark.parametrize("table", MISTAKES, ids=lambda table: table[:40])
def test_mistakes_in_a_table_are_one_sentence_and_leave_nothing(rankwise, tmp_path, table):
    (tmp_path / "times.csv").write_bytes(table.encode())
    done = rankwise("import", "times.csv", "--folder", "a/b")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"rankwise import: error: times.csv{MISTAKES[table]}")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["times.csv"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("ranks;größe\n".encode("cp1252"), "times.csv: unknown column 'größe': "),
        ("ranks;größe\n".encode(), "times.csv: unknown column 'größe': "),
        (b"PK\x03\x04\x14\x00\x06\x00", "times.csv is no text: save the table as CSV"),
        (b"PK\x03\x04" + b"x" * 2**20, "times.csv is no text: save the table as CSV"),
        (b"ranks,seconds\n" + b"1,1.0\n" * 2**18, "times.csv has more than 1 MiB, and is no table"),
    ],
    ids=["cp1252", "utf-8", "spreadsheet", "large spreadsheet", "large"],
)
def test_files_that_are_no_table(rankwise, tmp_path, data, message):
    (tmp_path / "times.csv").write_bytes(data)
    done = rankwise("import", "times.csv")
    assert done.stderr.startswith(f"rankwise import: error: {message}")
    assert (done.returncode, len(list(tmp_path.iterdir()))) == (2, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.csv"], "none.csv: No such file or directory"),
        (["."], ".: Is a directory"),
        (["times.csv", "--folder", "full"], "full holds something else: name a new folder"),
        (["times.csv", "--folder", "times.csv/t"], "cannot make the folder times.csv/t: Not a"),
        (["times.csv", "--folder", "new/" + "x" * 300], "cannot make the folder new/xx"),
        (["times.csv", "--note", "gcc"], "--note 'gcc' is not like compiler=gcc-12"),
        (["times.csv", "--cores-per-node", "0"], "argument --cores-per-node: '0' is not a whole"),
        (["times.csv", "more.csv"], "unrecognized arguments: more.csv"),
    ],
)
def test_mistakes_on_the_command_line(rankwise, tmp_path, words, message):
    (tmp_path / "times.csv").write_text(PLAIN)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    done = rankwise("import", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {message}" in done.stderr.splitlines()[-1]
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["full", "full/mine", "times.csv"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a"], "--note 'a' is not like compiler=gcc-12"),
        (["=a"], "--note '=a' is not like"),
        ([" = a"], "--note ' = a' is not like"),
        (["a="], "--note 'a=' is not like"),
        (["a= "], "--note 'a= ' is not like"),
        (["a=1", "a =2"], "--note gives 'a' twice"),
        (["a=\udce9"], r"--note 'a=\\udce9' has characters that cannot be printed"),
        (["a\udce9=b"], "has characters that cannot be printed"),
        (["a=b\x1b[2J"], r"--note 'a=b\\x1b\[2J' has characters that cannot be printed"),
        (["a=b\nc"], "has characters that cannot be printed"),
    ],
)
def test_notes_that_are_none(given, message):
    with pytest.raises(UsageError, match=message):
        notes.parse(given)


def test_notes():
    assert notes.parse(["a=b=c", " machine = x y "]) == {"a": "b=c", "machine": "x y"}
    assert notes.parse([]) == {}


def test_a_folder_that_holds_times_is_not_replaced(imported, rankwise, tmp_path):
    before = imported(PLAIN)
    (tmp_path / "times.csv").write_text("ranks,seconds\n1,1\n")
    done = rankwise("import", "times.csv", "--folder", "t")
    assert (done.returncode, done.stdout) == (2, "")
    said = "t holds a sweep: name a new folder, or an empty one"
    assert done.stderr == f"rankwise import: error: {said}\n"
    assert load(tmp_path / "t") == before


def test_a_sweep_does_not_go_on_with_imported_times(imported, rankwise, tmp_path):
    before = imported(PLAIN)
    done = rankwise("sweep", "--ranks", "1", "--folder", "t", "--", "true")
    assert done.returncode == 2
    assert "t holds another sweep: it differs in command" in done.stderr
    assert load(tmp_path / "t") == before


@pytest.mark.parametrize("made", [False, True])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, made):
    (tmp_path / "times.csv").write_text(amdahl())
    if made:
        (tmp_path / "a" / "t").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    # Each run.json fits, and sweep.json, which is the last, does not.
    command = f"ulimit -f 1; exec {sys.executable} -m rankwise import times.csv --folder a/t"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "rankwise import: error: [Errno 27] File too large\n"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("made", "number"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_an_import_that_is_ended_can_be_made_again(imported, tmp_path, number, made):
    rows = "".join(f"{1 + n},1\n" for n in range(20000))
    (tmp_path / "times.csv").write_text(f"ranks,seconds\n{rows}")
    if made:
        (tmp_path / "t").mkdir()
        write_limit(tmp_path / "t" / "preflight.h5")
    command = [sys.executable, "-m", "rankwise", "import", "times.csv", "--folder", "t"]
    process = subprocess.Popen(command, cwd=tmp_path)
    first = tmp_path / "t" / ".rankwise-import" / "runs" / "strong-1-1" / "run.json"
    while not first.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() == -number
    left = {path.name for path in (tmp_path / "t").iterdir()} - {"preflight.h5"}
    assert left == {".rankwise-import"}
    # The same command, of a table that was cut short: nothing is left of the first.
    assert times(imported(PLAIN)) == [(1, 1, 10.5), (1, 2, 11.0), (2, 1, 6.25)]
    assert {path.name for path in (tmp_path / "t").iterdir()} - {"preflight.h5"} == {
        "runs",
        "sweep.json",
    }


def test_an_import_that_is_ended_at_its_very_end_leaves_nothing(tmp_path, monkeypatch):
    def ended(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(supplied.Path, "rmdir", ended)
    with pytest.raises(KeyboardInterrupt):
        supplied._write(tmp_path / "t", {"schema": 1}, [examples.run()])
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["t"])


@pytest.mark.parametrize("moved", [[], ["runs"]])
def test_an_import_that_is_ended_at_its_last_steps_can_be_made_again(imported, tmp_path, moved):
    imported(PLAIN)
    (tmp_path / "t").rename(tmp_path / "whole")
    (tmp_path / "t").mkdir()
    for name in moved:
        (tmp_path / "whole" / name).rename(tmp_path / "t" / name)
    (tmp_path / "whole").rename(tmp_path / "t" / ".rankwise-import")
    assert times(imported("ranks,seconds\n4,1\n")) == [(4, 1, 1.0)]


def test_damaged_times_are_to_be_imported_again(imported, tmp_path):
    whole = imported(PLAIN)
    (tmp_path / "t" / "runs" / "strong-2-1" / "run.json").write_text("{")
    damaged = load(tmp_path / "t")
    assert damaged.runs == [run for run in whole.runs if run.ranks == 1]
    (said,) = damaged.damaged
    assert said.endswith(": import the table again")


def test_tables_in_one_folder_are_reported_one_at_a_time(imported, rankwise, tmp_path):
    imported(PLAIN)
    (tmp_path / "all").mkdir()
    (tmp_path / "t").rename(tmp_path / "all" / "1")
    imported("ranks,seconds\n4,1\n")
    (tmp_path / "t").rename(tmp_path / "all" / "2")
    done = rankwise("report", "all")
    assert (done.returncode, done.stdout) == (2, "")
    assert "all/1 and all/2 do not hold times of one table" in done.stderr


def test_same_table_is_the_same_runs(imported, tmp_path):
    first = imported(PLAIN)
    (tmp_path / "t").rename(tmp_path / "first")
    again = imported(PLAIN)
    assert again.plan == first.plan
    same = [replace(run, start=first.runs[0].start) for run in again.runs]
    assert same == first.runs
