"""mpi4py.futures across the nodes of an allocation."""

import re
import sys
from pathlib import Path

import pytest

from engines import work

ROOT = Path(__file__).resolve().parents[2]
JOB = [sys.executable, "-m", "mpi4py.futures", "engines/mpi_.py", "--work", "rows"]

pytestmark = pytest.mark.slurm


def test_workers_are_on_both_nodes(cluster):
    done = cluster.run("srun", "-N", 2, "-n", 5, *JOB, cwd=ROOT)
    workers = re.findall(r"^(node\d) (\d+) +\d+ ", done.stdout, re.MULTILINE)
    assert len(set(workers)) == len(workers) == 4, done.stdout
    assert len({node for node, _ in workers}) == 2
    row, numbers = work.tasks_of("rows")
    assert done.stdout.splitlines()[-1] == f"digest {work.digest(list(map(row, numbers)))}"


def test_copies_of_rank_0_are_refused_once(cluster):
    done = cluster.run("srun", "--mpi=none", "-n", 5, *JOB, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("srun: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("mpi_.py: error: srun started 5 copies of this program, each rank 0")
