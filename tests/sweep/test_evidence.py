"""What would make a sweep wrong without a word: each is found, and said."""

import hashlib
import html
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import jsonschema
import matplotlib
import pytest

from rankwise.report.page import sweep_command
from rankwise.sweep import execute, launchers, outcome
from rankwise.sweep.folder import load
from rankwise.sweep.launchers import Resources
from tests.analysis import examples
from tests.cases import long
from tests.copies import ROOT

LIMIT = 100
SCHEMA = ROOT / "rankwise" / "sweep" / "run.schema.json"
WAIT = "from mpi4py import MPI; import time; time.sleep(0.5)"
ONE = ["--ranks", "1", "--launches", "1"]
JOB = [str(ROOT / "jobs" / "sum_squares.py"), "--n", "1e5", "--variant", "numpy"]


def only(tmp_path):
    (folder,) = tmp_path.glob("results/*")
    return load(folder)


def script(tmp_path, text, name="run.sh"):
    (tmp_path / name).write_text(text)
    return ["sh", name]


def test_a_run_that_says_that_it_failed_is_never_recommended(rankwise, tmp_path):
    # It exits with 0, sooner than a run that works.
    error = "Error in routine cdiaghg (1): S matrix not positive definite"
    text = (
        f'case $PMI_RANK$PMI_SIZE in 01) echo took 2;; 02) echo took 0.5; echo "{error}";; esac\n'
    )
    words = script(tmp_path, text)
    sweep = ["--ranks", "1,2", "--launches", "1", "--report", "--seconds", r"took (\S+)"]
    done = rankwise("sweep", *sweep, "--refuse", "Error in routine", "--", *words)
    assert done.returncode == 1
    outcomes = {run.ranks: (run.outcome, run.reason) for run in only(tmp_path).runs}
    assert outcomes[1][0] == "ok"
    assert outcomes[2][0] == "failed" and outcomes[2][1].endswith("S matrix not positive definite")
    assert "We recommend 2" not in done.stdout
    # Without being told it is too fast to be true, and no interval says that it is true.
    done = rankwise("sweep", *sweep, "--folder", "s", "--", *words)
    assert "We recommend 1 rank" in done.stdout
    said = " ".join(done.stdout.split())
    assert "The efficiency on 2 ranks is above 100 %, and there is no interval to show" in said


def test_figures_that_are_not_there_are_a_failure(rankwise, tmp_path):
    done = rankwise("sweep", *ONE, "--seconds", "took (.*) s", "--", "echo", "hello")
    assert done.returncode == 1
    (run,) = only(tmp_path).runs
    assert (run.outcome, run.seconds) == ("failed", None)
    assert run.reason == "there is no match of --seconds 'took (.*) s' in its output"
    assert "failed, there is no match" in done.stdout


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("true", "it did not write"),
        ("cp t.txt {folder}/other", "it did not write"),
        ("echo took 2 s > t.txt", ""),
    ],
)
def test_time_file_is_of_this_run(rankwise, tmp_path, body, message):
    case = tmp_path / "case"
    case.mkdir()
    # What an earlier run left, and the user has in the case.
    (case / "t.txt").write_text("took 1 s\n")
    words = [*ONE, "--case", "case", "--time-file", "t.txt", "--seconds", "took (.*)"]
    done = rankwise("sweep", *words, "--", "sh", "-c", body)
    (run,) = only(tmp_path).runs
    assert done.returncode == bool(message)
    assert message in run.reason
    assert run.seconds == (None if message else 2)


def test_figures_that_are_added_to_a_file_are_those_of_the_run(rankwise, tmp_path):
    case = tmp_path / "case"
    case.mkdir()
    (case / "t.txt").write_text("took 1 s\n")
    words = [*ONE, "--case", "case", "--time-file", "t.txt", "--seconds", r"took (\S+)"]
    # Written anew with the same figure, it is a figure of this run.
    again = "sleep 0.01; echo took 1 s > t.txt"
    assert rankwise("sweep", *words, "--folder", "0", "--", "sh", "-c", again).returncode == 0
    rankwise("sweep", *words, "--folder", "a", "--", "sh", "-c", "echo took 2 s >> t.txt")
    (run,) = load(tmp_path / "a").runs
    assert run.seconds == 2
    done = rankwise("sweep", *words, "--folder", "b", "--", "sh", "-c", "echo failed >> t.txt")
    assert "there is no match of --seconds 'took (\\S+)' in t.txt" in done.stdout
    # What must be there, or must not, may be in either.
    words += ["--require", "Success", "--", "sh", "-c", "echo took 2 s Success >> t.txt"]
    assert rankwise("sweep", "--folder", "c", *words).returncode == 0


def test_a_time_that_is_longer_than_the_run_is_warned_of(rankwise, tmp_path):
    done = rankwise("sweep", *ONE, "--seconds", "(.*) ms", "--", "echo", "300", "ms")
    assert (
        "warning: The program says that it took longer than its launch, 300 s and not 0.0"
        in done.stdout
    )
    assert "in another unit" in only(tmp_path).plan["warnings"][0]
    # Once, and not once a launch with its own figures.
    words = [
        "--ranks",
        "1,2",
        "--launches",
        "3",
        "--copies",
        "--folder",
        "s",
        "--seconds",
        "(.*) ms",
    ]
    done = rankwise("sweep", *words, "--", "sh", "-c", "echo 3$$ ms")
    assert done.returncode == 0 and done.stdout.count("The program says") == 1
    assert len(load(tmp_path / "s").plan["warnings"]) == 1


def test_figures_beside_the_record_of_a_job(rankwise, tmp_path):
    phase, work = r"k=kernel +(\S+)", ["--rate", r"([\d.]+) GB/s"]
    words = [*ONE, "--mode", "strong", "--phase", phase, *work, "--", *JOB]
    done = rankwise("sweep", *words)
    assert done.returncode == 0, done.stdout
    (run,) = only(tmp_path).runs
    assert (run.source, run.work) == ("record", 1e5)
    assert run.rate > 0 and set(run.phases) == {"k", "other"}
    assert run.facts["results_sha256"]
    # Only seconds of its own replace those of the record, whose checks still count.
    words[words.index("--phase")] = "--seconds"
    words[words.index(phase)] = r"repeat +(\S+) s"
    rankwise("sweep", "--folder", "s", *words)
    (run,) = load(tmp_path / "s").runs
    assert (run.source, run.phases, run.work) == ("output", {}, 1e5)
    assert run.facts["checks"]


def test_time_file_without_a_case_is_in_the_folder_of_the_run(rankwise, tmp_path):
    words = [*ONE, "--time-file", "t.txt", "--seconds", "(.*)"]
    done = rankwise("sweep", *words, "--", "sh", "-c", "echo 01:00 > {folder}/t.txt")
    assert done.returncode == 0, done.stdout
    (run,) = only(tmp_path).runs
    assert (run.seconds, run.source) == (60, "file")


def test_a_line_of_json_tells_more(rankwise, tmp_path):
    line = {"seconds": 2, "rate": 5, "work": 100, "phases": {"A": [0.5, 1], "B": [0.5, 0.5]}}
    words = script(tmp_path, f"[ $PMI_RANK = 1 ] || echo '{json.dumps(line)}'\n")
    done = rankwise("sweep", "--ranks", "2", "--launches", "1", "--report", "--", *words)
    assert done.returncode == 0, done.stdout
    (run,) = only(tmp_path).runs
    assert (run.seconds, run.rate, run.work) == (2, 5, 100)
    # What no phase covers is not hidden.
    assert run.phases == {"A": [0.5, 1.0], "B": [0.5, 0.5], "other": [1.0, 0.5]}
    table = (only(tmp_path).folder / "scaling.md").read_text()
    assert "| rate |" in table and "| 5.000 |" in table


def test_every_run_meets_its_schema(rankwise, tmp_path):
    line = {"seconds": 2, "rate": 5, "work": 100, "phases": {"A": 1}}
    for folder, words in {
        "a": ["sh", "-c", f"echo '{json.dumps(line)}'"],
        "b": ["sh", "-c", "exit 3"],
        "c": ["sh", "-c", "echo > left"],
        "d": JOB,
    }.items():
        rankwise("sweep", *ONE, "--mode", "strong", "--folder", folder, "--", *words)
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    validator.check_schema(validator.schema)
    written = [json.loads(path.read_text()) for path in tmp_path.glob("*/runs/*/run.json")]
    assert [run["outcome"] for run in written].count("ok") == 3 and len(written) == 4
    queued = replace(examples.record(), balance=examples.balance([2.0]))
    written.append(asdict(outcome.of_record(examples.run(), queued)))
    names = set()
    for run in written:
        validator.validate(run)
        names |= set(run) | set(run["facts"])
    # Nothing is written of which the schema says nothing, and it takes no nonsense.
    known = set(validator.schema["properties"])
    known |= set(validator.schema["properties"]["facts"]["properties"])
    assert names == known
    assert not validator.is_valid({**written[0], "outcome": "fine"})
    assert not validator.is_valid({**written[0], "facts": {"queue": {"schedule": "block"}}})
    assert not validator.is_valid({k: v for k, v in written[0].items() if k != "argv"})


def test_a_second_run_that_goes_on_from_the_first(rankwise, tmp_path):
    words = script(tmp_path, "[ -e restart ] || { sleep 0.3; touch restart; }\n")
    done = rankwise("sweep", "--ranks", "1", "--launches", "2", "--report", "--", *words)
    assert "warning: a launch changed restart in the working folder" in done.stdout
    said = " ".join(done.stdout.split())
    assert "Files in the working folder changed during launches: restart." in said
    assert sum("restart" in (run.facts.get("changed") or ()) for run in only(tmp_path).runs) == 1


def test_each_run_has_a_fresh_copy_of_its_case(rankwise, tmp_path):
    case = tmp_path / "case"
    case.mkdir()
    words = script(case, "[ ! -e restart ] || exit 9; touch restart; pwd\n")
    done = rankwise("sweep", "--ranks", "1", "--launches", "3", "--case", "case", "--", *words)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout
    whole = only(tmp_path)
    for run in whole.runs:
        folder = whole.folder / "runs" / f"strong-1-{run.launch}"
        assert (folder / "output.txt").read_text().strip() == str(folder / "case")
        assert not (folder / "case").exists()
    assert [path.name for path in case.iterdir()] == ["run.sh"]
    done = rankwise("sweep", *ONE, "--case", "case", "--keep", "--folder", "k", "--", *words)
    assert (tmp_path / "k" / "runs" / "strong-1-1" / "case" / "restart").exists()


def test_job_in_a_copy_of_a_case(rankwise, tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "x").touch()
    done = rankwise("sweep", *ONE, "--mode", "strong", "--case", "case", "--", *JOB)
    assert done.returncode == 0, done.stdout
    (run,) = only(tmp_path).runs
    assert (run.source, run.work) == ("record", 1e5)


def test_what_a_run_writes_is_no_input_of_those_that_follow(rankwise, tmp_path):
    words = [*script(tmp_path, 'date +%N > "$1"\n'), "out.log"]
    sweep = ["--ranks", "1", "--launches", "2", "--folder", "s", "--", *words]
    assert rankwise("sweep", *sweep).returncode == 0
    (tmp_path / "s" / "runs" / "strong-1-2" / "run.json").unlink()
    done = rankwise("sweep", *sweep)
    assert done.returncode == 0, done.stderr
    assert "going on with s" in done.stdout


def test_a_new_file_in_the_case_is_another_sweep(rankwise, tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "in").touch()
    sweep = ["--ranks", "1", "--launches", "2", "--folder", "s", "--case", "case", "--", "true"]
    assert rankwise("sweep", *sweep).returncode == 0
    (tmp_path / "s" / "runs" / "strong-1-2" / "run.json").unlink()
    (tmp_path / "case" / "restart").touch()
    assert "it differs in the list of files in case" in rankwise("sweep", *sweep).stderr


def test_what_a_run_writes_beside_its_copy_is_named(rankwise, tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "in").touch()
    words = ["--case", "case", "--", "sh", "-c", f"echo > {tmp_path}/case/left"]
    done = rankwise("sweep", *ONE, "--report", *words)
    assert f"warning: a launch changed left in {tmp_path}/case, and not in its copy" in done.stdout
    said = " ".join(done.stdout.split())
    assert "Files in case, of which each launch had a copy, changed" in said


def test_pwd_is_that_of_the_copy(rankwise, tmp_path):
    """Some programs trust it; a shell would mend it."""
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "in").touch()
    done = rankwise("sweep", *ONE, "--case", "case", "--", "printenv", "PWD")
    assert done.returncode == 0
    folder = only(tmp_path).folder / "runs" / "strong-1-1"
    assert (folder / "output.txt").read_text() == f"{folder}/case\n"


def test_what_is_here_and_not_in_the_case_is_told(rankwise, tmp_path):
    (tmp_path / "lj").mkdir()
    (tmp_path / "lj" / "in.lj").touch()
    done = rankwise("sweep", *ONE, "--case", "lj", "--", "cat", "lj/in.lj")
    assert "warning: lj/in.lj is a file here, and not one of the case" in done.stdout


def test_weak_scaling_with_an_input_for_each_count(rankwise, tmp_path):
    for ranks in (1, 2):
        (tmp_path / f"in.{ranks}").write_text(f"{ranks}000 atoms\n")
    words = ["--ranks", "1,2", "--launches", "1", "--work", r"(\d+) atoms"]
    words += ["--report", "--", "sh", "-c", '[ "$PMI_RANK" = 1 ] || cat in.{ranks}']
    done = rankwise("sweep", "--mode", "weak", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {(run.mode, run.work) for run in only(tmp_path).runs} == {("weak", 1e3), ("weak", 2e3)}
    assert "in strong scaling it is" not in done.stdout
    # Called strong, it is told what it may be.
    done = rankwise("sweep", "--folder", "s", *words)
    assert "The command differs between rank counts ({ranks})" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mpirun.openmpi", "-n", "2", "true"], "leave out mpirun.openmpi"),
        (["time", "mpirun", "-n", "2", "true"], "leave out mpirun"),
        (
            ["env", "A=1", "B=2", "nice", "-n", "5", "mpiexec", "-n", "2", "true"],
            "leave out mpiexec",
        ),
        (["taskset", "-c", "0,1", "mpirun.openmpi", "true"], "leave out mpirun.openmpi"),
        (["./text"], "./text cannot be executed: chmod +x ./text"),
        (["lmp -in in.lj"], "there is no program lmp -in in.lj: leave out the quotes"),
    ],
)
def test_commands_that_cannot_be_swept(rankwise, tmp_path, words, message):
    (tmp_path / "text").touch()
    done = rankwise("sweep", *ONE, "--", *words)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("where", ["run.sh", "case/run.sh"])
def test_an_edited_script_ends_the_sweep(rankwise, tmp_path, where):
    (tmp_path / "case").mkdir()
    # The second run would be of another program: it takes six times as long.
    edit = f"echo sleep 0.6 > {tmp_path / where}"
    path = tmp_path / where
    path.write_text(f"sleep 0.1\n{edit}\n")
    case = ["--case", "case"] if where != "run.sh" else []
    words = ["--ranks", "1", "--launches", "2", *case, "--", "sh", "run.sh"]
    done = rankwise("sweep", *words)
    assert done.returncode == 2
    assert f"{where} changed since the sweep began" in done.stderr
    assert len(only(tmp_path).runs) == 1
    # Nor does it go on with what it measured before.
    done = rankwise("sweep", "--folder", only(tmp_path).folder, *words)
    assert done.returncode == 2
    assert f"it differs in {where}" in done.stderr


def test_a_sweep_that_noted_no_files_is_not_gone_on_with(rankwise, tmp_path):
    """Nobody would see that its program was another one."""
    sweep = ["--folder", "s", "--ranks", "1", "--launches", "2", "--", "true"]
    rankwise("sweep", *sweep)
    plan = json.loads((tmp_path / "s" / "sweep.json").read_text())
    del plan["files"]
    (tmp_path / "s" / "sweep.json").write_text(json.dumps(plan))
    done = rankwise("sweep", *sweep)
    assert done.returncode == 2
    assert "its files, of which an earlier version noted nothing; name another" in done.stderr


def test_a_touched_script_is_the_same(rankwise, tmp_path):
    words = script(tmp_path, "touch run.sh\n")
    done = rankwise("sweep", "--ranks", "1", "--launches", "3", "--", *words)
    assert done.returncode == 0, done.stderr


def test_what_the_sweep_prints_into_the_case_is_no_input(tmp_path):
    (tmp_path / "in").touch()
    words = f"{sys.executable} -m rankwise sweep --case . --ranks 1 --launches 2 -- true"
    command = ["bash", "-c", f"{words} > sweep.log 2>&1"]
    assert subprocess.run(command, cwd=tmp_path, timeout=LIMIT).returncode == 0
    (tmp_path / "slurm-7.out").touch()
    (only(tmp_path).folder / "runs" / "strong-1-2" / "run.json").unlink()
    assert subprocess.run(command, cwd=tmp_path, timeout=LIMIT).returncode == 0
    assert "going on with" in (tmp_path / "sweep.log").read_text()
    assert only(tmp_path).missing == []


def test_a_refused_first_run_leaves_the_folder_to_the_cure(rankwise, tmp_path):
    words = ["--ranks", "2", "--launches", "1", "--folder", "s"]
    lines = "; ".join(f"echo {k}" for k in range(12))
    assert rankwise("sweep", *words, "--", "sh", "-c", lines).returncode == 2
    assert rankwise("sweep", "--copies", *words, "--", "sh", "-c", lines).returncode == 0


def test_a_library_that_was_updated_is_another_sweep(rankwise, tmp_path):
    folder = ["--folder", "s", "--ranks", "1", "--launches", "2", "--", "sleep", "0.01"]
    assert rankwise("sweep", *folder).returncode == 0
    plan = json.loads((tmp_path / "s" / "sweep.json").read_text())
    (library,) = [name for name in plan["files"] if "libc.so" in name]
    plan["files"][library] = "1 bytes, 1 ns"
    (tmp_path / "s" / "sweep.json").write_text(json.dumps(plan))
    assert f"it differs in {library}" in rankwise("sweep", *folder).stderr


def test_a_sweep_is_another_one_if_other_figures_are_measured(rankwise, tmp_path):
    words = ["--ranks", "1", "--launches", "2", "--folder", "s"]
    rankwise("sweep", *words, "--seconds", "(1)", "--", "echo", "1 2")
    done = rankwise("sweep", *words, "--seconds", "(2)", "--", "echo", "1 2")
    assert "it differs in measure" in done.stderr


def test_a_launcher_that_starts_something_else_is_refused(rankwise, tmp_path):
    one = tmp_path / "one"
    one.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    one.chmod(0o755)
    words = ["--launcher", f"{one} {{ranks}}", "--cores", "2", "--ranks", "1,2", "--", "true"]
    done = rankwise("sweep", *words)
    assert done.returncode == 2
    assert f"{one} started 1 process instead of 2 ranks" in done.stderr
    # Before any time is spent, and nothing is left, but for what was there.
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    (tmp_path / "empty").mkdir()
    assert rankwise("sweep", "--folder", "empty", *words).returncode == 2
    assert list((tmp_path / "empty").iterdir()) == []
    # Copies are to be as many, too.
    assert rankwise("sweep", "--copies", *words).returncode == 2


def test_ranks_bound_to_one_core_are_refused(rankwise, tmp_path):
    mpirun = Path(sys.executable).parent / "mpirun"
    cores = sorted(os.sched_getaffinity(0))
    assert len(cores) > 1, "needs two cores"
    launcher = f"{mpirun} -n {{ranks}} taskset -c {cores[0]}"
    done = rankwise("sweep", "--launcher", launcher, "--cores", "2", "--ranks", "2", "--", "true")
    assert done.returncode == 2
    assert (
        "2 ranks with 1 thread each on" in done.stderr
        and f"may use core {cores[0]} only" in done.stderr
    )


def test_a_probe_that_fails_is_one_warning(rankwise, tmp_path):
    picky = tmp_path / "picky"
    picky.write_text('#!/bin/sh\nshift\n[ "$1" != sh ] || { echo no; exit 1; }\nexec "$@"\n')
    picky.chmod(0o755)
    words = ["--launcher", f"{picky} {{ranks}}", "--cores", "2", "--ranks", "1,2", "--launches"]
    done = rankwise("sweep", *words, "1", "--report", "--", "true")
    assert done.returncode == 0, done.stderr
    said = "warning: The launcher did not start a small script on 1 rank (exit status 1, no)"
    assert done.stdout.count(said) == 1
    assert "did not start a small script" in " ".join(done.stdout.partition("Warnings")[2].split())


def test_a_program_that_starts_its_ranks_itself(rankwise, tmp_path):
    mpirun = Path(sys.executable).parent / "mpirun"
    words = script(tmp_path, f"{mpirun} -n $N {sys.executable} -c 'from mpi4py import MPI'\n")
    sweep = ["--launcher", "env N={ranks}", "--cores", "2", "--ranks", "1,2", "--launches", "1"]
    done = rankwise("sweep", *sweep, "--", *words)
    assert done.returncode == 0, done.stderr
    assert "launcher: env, so the program starts its ranks itself" in done.stdout
    assert "warning" not in done.stdout
    # Whether it starts as many is looked at.
    words = script(tmp_path, f"{mpirun} -n 2 {sys.executable} -c '{WAIT}'\n", "fixed.sh")
    done = rankwise("sweep", *sweep, "--", *words)
    said = "warning: Where 1 rank were to be started, the program started 2 on this node"
    assert said in done.stdout and done.stdout.count("warning") == 1


def test_a_script_may_prepare_its_ranks_alone(rankwise, tmp_path):
    """Serial runs of the same MPI come before the ranks that it starts."""
    mpirun = Path(sys.executable).parent / "mpirun"
    wait = f"{sys.executable} -c '{WAIT}'"
    words = script(tmp_path, f"{wait}; {mpirun} -n $N {wait}\n")
    sweep = ["--launcher", "env N={ranks}", "--cores", "2", "--ranks", "2", "--launches", "1"]
    done = rankwise("sweep", *sweep, "--", *words)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout


def test_a_program_without_mpi_is_never_refused(rankwise, tmp_path):
    done = rankwise("sweep", "--ranks", "2", "--launches", "1", "--", "sleep", "0.1")
    assert done.returncode == 0
    assert "No MPI library was seen in the program" in done.stdout


def test_the_whole_process_is_said_where_its_figures_are(rankwise, tmp_path):
    words = ["--ranks", "1,2,3", "--launches", "1", "--", "true"]
    assert rankwise("sweep", *words).returncode == 0
    # As they would be, were the machine not busy with other tests.
    for ranks, seconds in ((1, 0.3), (2, 0.17), (3, 0.12)):
        (path,) = tmp_path.glob(f"results/*/runs/strong-{ranks}-1/run.json")
        told = json.loads(path.read_text())
        path.write_text(json.dumps(told | {"seconds": seconds, "process_seconds": seconds}))
    (folder,) = tmp_path.glob("results/*")
    done = rankwise("report", folder, "--fit-oversubscribed", "--efficiency", "0.1")
    said = " ".join(done.stdout.split())
    assert "Amdahl: For the whole process, whose start-up counts as serial: serial fraction" in said
    assert "an efficiency of at least 10 % of the whole process, start-up included" in said


def test_cores_as_given(rankwise, tmp_path):
    done = rankwise("sweep", "--cores", "16", *ONE, "--report", "--", "true")
    assert "\n16 cores, as given with --cores, started on " in done.stdout
    assert "GiB" not in done.stdout


def test_command_of_the_page_has_every_option(rankwise, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.bin").touch()
    options = ["--seconds", "t (.)", "--rate", "json:r", "--work", "w (.)", "--phase", "A=a (.)"]
    options += ["--require", "t", "--refuse", "Error", "--case", "c", "--link", "*.bin", "--keep"]
    options += ["--copies", "--time-file", "t.txt"]
    text = "echo 't 1 w 1 a 1 {\"r\": 1}' > t.txt; echo t"
    done = rankwise("sweep", *ONE, *options, "--", "sh", "-c", text)
    assert done.returncode == 0, done.stdout
    said = shlex.split(sweep_command(only(tmp_path)))
    for word in options:
        assert word in said
    again = rankwise(*said[1:2], "--folder", "again", *said[2:])
    assert again.returncode == 0, again.stderr
    assert load(tmp_path / "again").plan["measure"] == only(tmp_path).plan["measure"]


def sweep_in(tmp_path, words, **options):
    command = [sys.executable, "-m", "rankwise", "sweep", *map(str, words)]
    return subprocess.run(command, cwd=tmp_path, timeout=LIMIT, **options)


ARROW = ["sh", "-c", r"printf '\377\nkaputt \342\206\222\n'; exit 3"]


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_bytes_in_any_locale(tmp_path, encoding):
    env = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    words = ["--ranks", "1", "--launches", "2", "--report", "--", *ARROW]
    done = sweep_in(tmp_path, words, capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (1, b"")
    assert len(only(tmp_path).runs) == 2
    shown = "→" if encoding == "utf-8" else r"\u2192"
    said = done.stdout.decode(encoding)
    assert said.count(f"failed, exit status 3: kaputt {shown}") == 2
    # And all that follows.
    assert "The report is in" in said and r"\xff" in said


@pytest.mark.parametrize("streams", [">&- 2>&-", "<&- >&- 2>&-", "> /dev/full 2>&1", "| true"])
def test_streams_that_take_nothing(tmp_path, streams):
    words = "sweep --ranks 1 --launches 2 --report -- echo hello"
    command = f"{sys.executable} -m rankwise {words} {streams}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, timeout=LIMIT)
    assert done.returncode == 0
    whole = only(tmp_path)
    assert [run.outcome for run in whole.runs] == ["ok", "ok"]
    # What the sweep says is not in the program's output.
    outputs = [path.read_text() for path in whole.folder.glob("runs/*/output.txt")]
    assert outputs == ["hello\n", "hello\n"]
    assert (whole.folder / "report.html").exists()


# What a module file, a notebook, a container, a hook or an outer run may leave behind.
FOREIGN = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    # Where not even root can make a file.
    "HOME": "/proc",
    "TMPDIR": "/none",
    "SOURCE_DATE_EPOCH": "soon",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "LC_ALL": "xx_YY.none",
    "TZ": "No/Where",
    "COLUMNS": "many",
    "GIT_DIR": "/none",
    "FLUX_URI": "",
    "OMPI_COMM_WORLD_SIZE": "2",
    "PMI_RANK": "1",
    "PMI_SIZE": "2",
    "PMI_FD": "99",
    **dict.fromkeys(("SLURM_JOB_ID", "SLURM_GPUS_ON_NODE", "SLURM_RESTART_COUNT"), ""),
}


# Without its cache Matplotlib looks for all fonts again.
@pytest.mark.parametrize("cache", [True, long(False)])
def test_a_foreign_environment_changes_nothing_and_is_not_heard_of(tmp_path, cache):
    (tmp_path / "rc").write_text("nonsense here\nbackend: TkAgg\ntext.usetex: True\n")
    env = {**os.environ, **FOREIGN, "MATPLOTLIBRC": str(tmp_path / "rc")}
    env["MPLCONFIGDIR"] = matplotlib.get_cachedir() if cache else "/proc/none"
    done = sweep_in(tmp_path, [*ONE, "--report", "--", "true"], env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (only(tmp_path).folder / "report.html").exists()


def test_a_damaged_run_is_repeated_by_the_same_command(rankwise, tmp_path):
    words = ["--ranks", "1", "--launches", "2", "--report", "--", "true"]
    rankwise("sweep", *words)
    folder = only(tmp_path).folder
    (folder / "runs" / "strong-1-2" / "run.json").write_text("{")
    done = rankwise("report", folder)
    assert done.returncode == 0
    assert "strong-1-2/run.json is damaged" in " ".join(done.stdout.split())
    assert "going on with" in rankwise("sweep", *words).stdout
    assert only(tmp_path).missing == [] and len(only(tmp_path).runs) == 2


def test_a_run_whose_ranks_were_ended_is_not_ok(rankwise, tmp_path):
    text = "echo '{\"seconds\": 1.5}'; echo 'srun: Job step aborted: Waiting up to 32 seconds'"
    done = rankwise("sweep", *ONE, "--", "sh", "-c", text)
    assert done.returncode == 1
    (run,) = only(tmp_path).runs
    assert run.reason.startswith("its ranks were ended: srun: Job step aborted")


def suspended(tmp_path, words, times):
    """Stop a sweep for three seconds, so many times, and return what it prints and its status."""
    command = [sys.executable, "-m", "rankwise", "sweep", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, text=True) as process:
        for k in range(1, times + 1):
            while len(list(tmp_path.glob("started*"))) < k:
                time.sleep(0.01)
                assert process.poll() is None
            time.sleep(0.3)
            process.send_signal(signal.SIGSTOP)
            time.sleep(3)
            process.send_signal(signal.SIGCONT)
        return process.communicate(timeout=LIMIT)[0], process.returncode


@pytest.mark.parametrize(("times", "outcome"), [(1, "ok"), (3, "failed")])
def test_a_run_in_which_the_machine_stood_still_is_repeated(tmp_path, times, outcome):
    words = script(tmp_path, "touch started$$; sleep 1\n")
    said, status = suspended(tmp_path, [*ONE, "--", *words], times)
    assert status == (outcome != "ok")
    (run,) = only(tmp_path).runs
    assert run.outcome == outcome
    assert said.count("this machine stood still for") == min(times, 2) + (outcome != "ok")
    # What is kept is of the run in which nothing happened.
    assert len(list(tmp_path.glob("started*"))) == min(times + 1, 3)
    if outcome != "ok":
        assert run.reason.startswith("given up after 3 starts: this machine stood still for")


def test_slurms_answer_takes_no_time_of_the_program(tmp_path, monkeypatch):
    asked = []

    def slow():
        asked.append(time.perf_counter())
        return ""

    def started(*words, **options):
        assert len(asked) == 1
        asked.append(time.perf_counter())
        return popen(*words, **options)

    popen = subprocess.Popen
    clock = iter(range(100))
    monkeypatch.setattr(execute, "_suspended_by_slurm", slow)
    monkeypatch.setattr(execute.subprocess, "Popen", started)
    # Nobody reads the clock before Slurm has answered.
    monkeypatch.setattr(execute.time, "perf_counter", lambda: next(clock))
    execute.execute(["true"], dict(os.environ), tmp_path / "o", 60)
    assert asked[0] == 0 and asked[1] == 2


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ValueError("x")])
def test_a_look_that_fails_is_dropped_and_the_time_limit_holds(tmp_path, capfd, error):
    looks = {"fails": 0, "goes on": 0}

    def fails():
        looks["fails"] += 1
        raise error

    def goes_on():
        looks["goes on"] += 1
        return ""

    env, file = dict(os.environ), tmp_path / "o"
    ended = execute.execute(["sleep", "60"], env, file, 1.0, looks=[fails, goes_on])
    assert (ended.outcome, ended.reason) == ("timed out", "ended after 1 s")
    assert looks["fails"] == 1 and looks["goes on"] > 1
    assert len(ended.warnings) == 1 and str(error) in ended.warnings[0]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_sweep_tells_of_a_look_that_failed(tmp_path):
    program = (
        "import sys; from rankwise.sweep import runner; from rankwise.__main__ import main\n"
        "class Fails(runner.Usage):\n"
        "    def __call__(self): raise OSError(24, 'Too many open files')\n"
        "runner.Usage = Fails; sys.exit(main(sys.argv[1:]))"
    )
    words = ["sweep", "--ranks", "1", "--launches", "2", "--", "sleep", "0.3"]
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    told = "warning: A look at a running program failed, and was not repeated in that launch"
    assert done.stdout.count(told) == 1 and "Too many open files" in done.stdout
    assert only(tmp_path).plan["warnings"][-1] in done.stdout


def test_slurms_answer_comes_after_the_end_of_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "_suspended_by_slurm", lambda: time.sleep(0.5) or "")
    ended = execute.execute(["true"], dict(os.environ), tmp_path / "o", 60)
    assert 0.5 <= time.monotonic() - ended.over


def test_a_slow_look_is_no_machine_that_stood_still(tmp_path):
    late = execute._LATE_SECONDS
    slow = iter([late + 0.2])

    def look():
        time.sleep(next(slow, 0))
        return ""

    ended = execute.execute(["sleep", "1"], dict(os.environ), tmp_path / "o", 60, looks=[look])
    assert (ended.outcome, ended.stood_still) == ("ok", 0)


def test_sleep_of_the_machine_and_suspension_by_slurm(tmp_path, monkeypatch):
    """Neither can be had here: the clocks and Slurm's answer are made up."""
    slept = iter([0.0, 30.0])
    monkeypatch.setattr(execute, "_asleep", lambda: next(slept))
    ended = execute.execute(["true"], dict(os.environ), tmp_path / "o", 60)
    assert ended.stood_still == 30
    monkeypatch.undo()
    told = iter(["SuspendTime=None SecsPreSuspend=0", "SuspendTime=2026-11-30T10:00:00"])
    monkeypatch.setattr(execute, "_suspended_by_slurm", lambda: next(told))
    assert execute.execute(["true"], dict(os.environ), tmp_path / "o", 60).stood_still > 0


def test_nodes_of_different_kinds_are_told_apart(monkeypatch):
    from rankwise.report import doubts, sentences
    from tests.analysis import examples

    monkeypatch.setattr(launchers, "_local_cores", lambda: (4, 1))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "4(x2),8(x2)")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    assert launchers.resources(None) == Resources((4, 4, 8, 8), 0, slurm=True)
    planned = examples.plan((1, 2, 4, 8), cores=[4, 4, 8, 8])
    planned["machine"]["nodes"] = 4
    some = [
        replace(run, nodes=max(1, run.ranks // 4)) for run in examples.runs(counts=(1, 2, 4, 8))
    ]
    found = examples.analysed(some, planned=planned)
    assert "2 of 4 cores and 2 of 8 cores" in sentences.machine(found)
    assert "per node" not in sentences.machine(found)
    assert any("different kinds, with 4 and 8 cores" in text for text in doubts.warnings(found))
    (amdahl, _) = found.series[0].fits
    assert sentences.fit(amdahl, kinds=True).endswith("ran on nodes of different kinds.")


def test_page_names_the_program_by_its_words_its_digest_and_notes(rankwise, tmp_path):
    program = tmp_path / "solve.sh"
    program.write_text("#!/bin/sh\necho\necho '  *** Solver 4.2 (debug) ***'\necho done\n")
    program.chmod(0o755)
    words = ["sweep", "--ranks", "1", "--launches", "1", "--folder", "s", "--report", "--copies"]
    words += ["--note", "compiler=gcc 12 -O3", "--note", "problem = <2> ducks", "--", "./solve.sh"]
    done = rankwise(*words)
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert plan["notes"] == {"compiler": "gcc 12 -O3", "problem": "<2> ducks"}
    page = html.unescape((tmp_path / "s" / "report.html").read_text())
    for name, value in (
        ("Note: compiler", "gcc 12 -O3"),
        ("Note: problem", "<2> ducks"),
        ("First line of its output", "*** Solver 4.2 (debug) ***"),
        ("SHA-256 of solve.sh", hashlib.sha256(program.read_bytes()).hexdigest()),
    ):
        assert f'<th scope="row">{name}</th><td>{value}</td>' in page
    assert "Noted by the user: compiler gcc 12 -O3; problem <2> ducks." in page
    assert "--note 'compiler=gcc 12 -O3' --note 'problem=<2> ducks'" in page
    # The same sweep, described better; and without a word it stays as it was described.
    for given in ([word.replace("-O3", "-O2") for word in words], [*words[:9], *words[13:]]):
        done = rankwise(*given)
        assert (done.returncode, "going on with s" in done.stdout) == (0, True), done.stderr
        plan = json.loads((tmp_path / "s" / "sweep.json").read_text())
        assert plan["notes"] == {"compiler": "gcc 12 -O2", "problem": "<2> ducks"}


@pytest.mark.parametrize("note", ["compiler", "=gcc", " = ", ""])
def test_note_without_key_or_value_is_a_mistake(rankwise, tmp_path, note):
    done = rankwise("sweep", "--ranks", "1", "--note", note, "--", "true")
    assert done.returncode == 2 and "--note" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_counts_that_need_more_than_a_cpu_quota_are_told_of(rankwise, tmp_path, quota):
    quota(1.5)
    words = ["--ranks", "1,2", "--launches", "1", "--copies", "--folder"]
    done = rankwise("sweep", *words, "s", "--", "true")
    (text,) = load(tmp_path / "s").plan["warnings"]
    assert text.startswith("With 2 ranks there are more threads than the 1.5 cores whose time they")
    # Before anything is started.
    assert done.stdout.startswith(f"warning: {text}\n")
    # Nobody knows of nodes that a launcher of the user's reaches.
    words += ["t", "--cores", "4", "--launcher", "env RANKS={ranks}"]
    assert rankwise("sweep", *words, "--", "true").returncode == 0
    assert load(tmp_path / "t").plan["warnings"] == []
