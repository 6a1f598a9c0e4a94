"""The templates under plain bash, where there is no Slurm."""

import os
import subprocess

import pytest

from runtime import record
from scaling.folder import load

SUM = ["jobs/sum_squares.py", "--variant", "numpy", "--n", "1e5"]


def bash(*words, cwd, **variables):
    """Run a script as from a fresh terminal, and return what it did, with text output."""
    dropped = ("VIRTUAL_ENV", "CONDA_DEFAULT_ENV")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("SLURM_")
    }
    return subprocess.run(
        ["bash", *words],
        cwd=cwd,
        env=kept | variables,
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
    (clone / "bin").mkdir()
    (clone / "bin" / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (clone / "bin" / "python").chmod(0o755)
    path = f"{clone / 'bin'}:{os.environ['PATH']}"
    done = bash("slurm/scaling.sh", *arguments, cwd=clone, PATH=path, VIRTUAL_ENV="/active")
    words = done.stdout.splitlines()
    where = words.index("--")
    assert words[:4] == ["-m", "scaling", "sweep", "--report"]
    assert words[4:where] == (["--mode", mode] if mode else [])
    assert words[where + 1 :] == command


@pytest.mark.parametrize(
    ("variables", "activated"),
    [
        ({}, True),
        ({"CONDA_DEFAULT_ENV": "base"}, True),
        ({"CONDA_DEFAULT_ENV": "mine"}, False),
        ({"VIRTUAL_ENV": "/mine"}, False),
    ],
)
def test_environment_that_is_active_stays(clone, variables, activated):
    (clone / ".venv").unlink()
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "activate").write_text("echo activated\n")
    done = bash("-c", "source slurm/env.sh", cwd=clone, **variables)
    assert (done.stdout, done.stderr) == ("activated\n" if activated else "", "")
