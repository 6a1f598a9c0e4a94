"""One Slurm cluster for all tests of this folder that ask for it."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import cluster as bring_up
from tests.slurm.cluster import unavailable

ROOT = Path(__file__).resolve().parents[2]

# A program of somebody else's: it prints what reached it.
SHOW = """\
import json, os, socket, sys
names = ["SLURM_PROCID", "SRUN_CPUS_PER_TASK", "CUDA_VISIBLE_DEVICES"]
print(json.dumps([sys.argv[1:], socket.gethostname(), *map(os.environ.get, names)]), flush=True)
"""


@pytest.fixture(scope="session")
def cluster():
    """A `Cluster`; the test is skipped where there can be none."""
    if reason := unavailable():
        pytest.skip(reason)
    with bring_up() as login:
        yield login


@pytest.fixture
def clone(tmp_path):
    """A folder like the clone, to submit jobs from; ``show.py`` in it prints what reaches it."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    (folder / "jobs").symlink_to(ROOT / "jobs")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "show.py").write_text(SHOW)
    return folder
