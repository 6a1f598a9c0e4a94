"""The templates under plain bash, where there is no Slurm."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from rankwise.disk import record
from rankwise.sweep.folder import load

SUM = ["jobs/sum_squares.py", "--variant", "numpy", "--n", "1e5"]


def fresh(**variables):
    """Return the environment of a fresh terminal, with some variables more."""
    dropped = ("VIRTUAL_ENV", "CONDA_DEFAULT_ENV")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("SLURM_")
    }
    return kept | variables


def bash(*words, cwd, **variables):
    """Run a script as from a fresh terminal, and return what it did, with text output."""
    return subprocess.run(
        ["bash", *words],
        cwd=cwd,
        env=fresh(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_job(clone):
    done = bash("slurm/job.sh", *SUM, "--output", "out.h5", cwd=clone, RANKS="3")
    assert done.returncode == 0, done.stderr
    assert record.read(clone / "out.h5").attributes["ranks"] == 3


def test_job_from_another_folder(clone, tmp_path):
    done = bash(clone / "slurm" / "job.sh", clone / "show.py", "two words", cwd=tmp_path)
    assert done.stdout.count('["two words"]') == 2, done.stderr


def test_exit_status_of_the_job(clone):
    assert bash("slurm/job.sh", *SUM, "--repeats", "none", cwd=clone).returncode == 2


def test_line_of_an_array(clone):
    (clone / "params.txt").write_text("--output one.h5\n--output 'number two.h5'\n")
    words = ["slurm/array.sh", "params.txt", *SUM]
    done = bash(*words, cwd=clone, SLURM_ARRAY_TASK_ID="2")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in clone.glob("*.h5")] == ["number two.h5"]


def test_scaling(clone):
    options = ["--mode", "strong", "--ranks", "1,2", "--launches", "1"]
    done = bash("slurm/scaling.sh", *options, "--", *SUM, cwd=clone)
    assert done.returncode == 0, done.stderr
    (folder,) = (clone / "results").iterdir()
    sweep = load(folder)
    assert {run.ranks: run.outcome for run in sweep.runs} == {1: "ok", 2: "ok"}
    assert sweep.plan["command"] == SUM and (folder / "report.html").exists()


# Each for a program of that name: a sweep that tells what reaches it, and what is asked of Slurm.
STAND_INS = {
    "python": """\
import os, signal, sys, time
numbers = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)

def stop(number, frame):
    for other in numbers:
        signal.signal(other, signal.SIG_IGN)
    print(signal.Signals(number).name, flush=True)
    time.sleep(0.2)
    sys.exit(75 if number == signal.SIGUSR1 else 128 + number)

for number in numbers:
    # In the background of a script the last of them is ignored.
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, stop)
# Let the script go on.
time.sleep(0.3)
print("ready", os.getpid(), flush=True)
if "status" in sys.argv:
    sys.exit(int(sys.argv[-1]))
time.sleep(60)
""",
    "scontrol": """\
import os, signal, sys
if sys.argv[1] != "show":
    with open("asked", "a") as file:
        print(*sys.argv[1:], file=file)
    # What Slurm does as soon as the job is to be put back: nobody has the answer yet.
    os.killpg(os.getpgrp(), signal.SIGTERM)
else:
    for limit in (600, 60):
        print("JobId=7", f"   StartTime=1000 EndTime={1000 + limit}", sep=chr(10))
""",
}


@pytest.fixture
def scaling(clone):
    """Return a function that starts ``slurm/scaling.sh`` with stand-ins for what it calls.

    ``scaling(*words, **variables)``: the process, once its sweep is ready, and the sweep's number.
    """
    # So that the stand-ins stay in front.
    (clone / ".venv").unlink()
    (clone / "bin").mkdir()
    for name, text in STAND_INS.items():
        (clone / "bin" / name).write_text(f"#!{sys.executable}\n{text}")
        (clone / "bin" / name).chmod(0o755)
    started = []

    def start(*words, **variables):
        path = f"{clone / 'bin'}:{os.environ['PATH']}"
        process = subprocess.Popen(
            ["bash", "slurm/scaling.sh", *words],
            cwd=clone,
            env=fresh(PATH=path, **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        ready, number = process.stdout.readline().split()
        assert ready == "ready"
        return process, int(number)

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def asked(clone):
    """Return what the stand-in of scontrol was asked to do."""
    path = clone / "asked"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("send", "number", "said", "status"),
    [
        # What Slurm does before the time limit, and for scancel.
        (os.kill, signal.SIGUSR1, "SIGUSR1\n", 0),
        (os.killpg, signal.SIGTERM, "SIGTERM\n", 143),
        # In a shell of salloc: Ctrl-C, and a terminal that is lost.
        (os.killpg, signal.SIGINT, "SIGTERM\n", 143),
        (os.kill, signal.SIGHUP, "SIGTERM\n", 143),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_signals_reach_the_sweep_of_a_slurm_job(scaling, clone, send, number, said, status):
    process, _ = scaling(SLURM_JOB_ID="7")
    send(process.pid, number)
    assert process.communicate(timeout=30)[0] == said
    assert process.returncode == status
    assert asked(clone) == ("requeue 7\n" if number == signal.SIGUSR1 else "")


@pytest.mark.parametrize("status", [0, 1, 2, 75, 137, 143])
def test_only_out_of_time_is_put_back(scaling, clone, status):
    process, _ = scaling("--", "status", str(status), SLURM_JOB_ID="7")
    assert process.communicate(timeout=30)[0] == ""
    assert asked(clone) == ("requeue 7\n" if status == 75 else "")
    assert process.returncode == (0 if status == 75 else status)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT, signal.SIGTERM])
def test_without_slurm_the_script_becomes_the_sweep(scaling, number):
    process, sweep = scaling()
    assert sweep == process.pid
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == f"{number.name}\n"
    assert process.returncode == (75 if number == signal.SIGUSR1 else 128 + number)


@pytest.mark.parametrize(
    ("arguments", "mode", "command"),
    [
        ([], None, SUM[:1]),
        (["--mode", "weak"], "weak", SUM[:1]),
        ([*SUM[:1], "--n", "9"], None, [*SUM[:1], "--n", "9"]),
        (["--mode", "strong", "--", "a", "--", "b c"], "strong", ["a", "--", "b c"]),
        (["--", "a", "--mode", "b"], None, ["a", "--mode", "b"]),
    ],
)
def test_what_is_for_the_sweep_and_what_for_the_job(clone, arguments, mode, command):
    """A stand-in for python shows how it was called."""
    (clone / ".venv").unlink()
    (clone / "bin").mkdir()
    (clone / "bin" / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (clone / "bin" / "python").chmod(0o755)
    path = f"{clone / 'bin'}:{os.environ['PATH']}"
    done = bash("slurm/scaling.sh", *arguments, cwd=clone, PATH=path)
    words = done.stdout.splitlines()
    where = words.index("--")
    assert words[:4] == ["-m", "rankwise", "sweep", "--report"]
    assert words[4:where] == (["--mode", mode] if mode else [])
    assert words[where + 1 :] == command


@pytest.fixture
def activated(clone):
    """Return a function that sources ``env.sh`` where the clone's own ``.venv`` says when it is."""
    (clone / ".venv").unlink()
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "activate").write_text("echo activated\n")

    def source(**variables):
        done = bash("-c", "source slurm/env.sh", cwd=clone, **variables)
        assert done.returncode == 0
        return done.stdout, done.stderr

    return source


@pytest.mark.parametrize("variables", [{}, {"CONDA_DEFAULT_ENV": "base"}])
def test_environment_of_the_clone_is_taken(activated, variables):
    assert activated(**variables) == ("activated\n", "")


def test_environment_of_the_clone_that_is_active_is_taken_without_a_word(activated, clone):
    # Again: a module that was loaded since may have brought another python.
    assert activated(VIRTUAL_ENV=str(clone / ".venv")) == ("activated\n", "")


@pytest.mark.parametrize("name", ["VIRTUAL_ENV", "CONDA_DEFAULT_ENV"])
def test_environment_of_the_clone_is_taken_before_a_foreign_one(activated, clone, name):
    told = f"slurm/env.sh: taking {clone}/.venv, not the active environment /other/.venv\n"
    assert activated(**{name: "/other/.venv"}) == ("activated\n", told)


@pytest.mark.parametrize("name", ["VIRTUAL_ENV", "CONDA_DEFAULT_ENV"])
def test_environment_that_is_active_stays_where_the_clone_has_none(activated, clone, name):
    (clone / ".venv" / "bin" / "activate").unlink()
    assert activated(**{name: "/other/.venv"}) == ("", "")
