"""Time that a job spends outside of every phase is seen wherever its time is told."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from rankwise.disk import record
from rankwise.ranks.clock import REPEATED

ROOT = Path(__file__).parents[2]
SLEEP = 0.2
SMALL = ["--n", "1e5", "--variant", "numpy"]


@pytest.fixture
def job(tmp_path):
    """A copy of a job, beside its kernels, which sleeps in each repeat."""
    shutil.copytree(ROOT / "kernels", tmp_path / "kernels")
    source = (ROOT / "jobs" / "sum_squares.py").read_text()
    first = "        distribute(source)\n"
    assert source.count(first) == 1
    path = tmp_path / "jobs" / "sleepy.py"
    path.parent.mkdir()
    path.write_text(source.replace(first, f"{first}        __import__('time').sleep({SLEEP})\n"))
    return path


def test_a_sleep_is_in_what_a_job_prints_and_records(start, job, tmp_path):
    done = start(2, job, *SMALL, "--repeats", "3", "--json", "--output", "r.h5")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["seconds"] >= SLEEP
    assert facts["phases"]["other"]["min"] >= SLEEP

    run = record.read(tmp_path / "r.h5")
    assert (run.timings[:, run.phases.index("other")] >= SLEEP).all()
    each = run.timings[:, [run.phases.index(name) for name in REPEATED]]
    wall = np.nansum(each, axis=1).max(axis=1)
    assert facts["seconds"] == pytest.approx(np.median(wall))

    shown = start(None, "-m", "rankwise", "show", "r.h5").stdout
    repeat, other = (
        re.search(rf"^  {name} +([\d.]+)", shown, re.MULTILINE) for name in ("repeat", "other")
    )
    assert float(repeat[1]) >= SLEEP
    assert float(other[1]) >= SLEEP


def test_a_sleep_is_in_the_seconds_of_a_sweep(start, job, tmp_path):
    options = ["--ranks", "1", "--launches", "1", "--mode", "strong", "--folder", "sweep"]
    done = start(None, "-m", "rankwise", "sweep", *options, "--", job, *SMALL)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "sweep" / "runs").glob("*/run.json")
    run = json.loads(path.read_text())
    assert (run["outcome"], run["source"]) == ("ok", "record")
    assert run["seconds"] >= SLEEP
    assert run["phases"]["other"][0] >= SLEEP
    assert sum(seconds for (seconds,) in run["phases"].values()) == pytest.approx(run["seconds"])
