"""File systems without locks, files that are being written, and files that are marked as if."""

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from rankwise.disk import files, record
from rankwise.disk.dataset import Dataset
from rankwise.ranks.agreement import Stop
from tests.cases import long
from tests.failures.test_input import example

ROOT = Path(__file__).parents[2]
NO_LOCKS = ROOT / "tests" / "failures" / "no_locks.py"
VALUES = np.arange(1000.0)
# What a process sees to which the kernel refuses locks with each of these numbers.
LOOK = """
import os, sys
import numpy
from rankwise.disk import record
from rankwise.disk.dataset import Dataset
from tests.failures.no_locks import refuse
for number in map(int, sys.argv[1:]):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    refuse(number)
    assert record.read("r.h5").attributes["job"] == "heat"
    try:
        data = Dataset("v.h5:/x", 1, (numpy.float64,), allow_external=True)
        rows = numpy.empty(1000)
        data.read(0, rows)
        print(rows.sum(), *data.warnings)
    except Exception as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)
"""

pytestmark = pytest.mark.failures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to a folder with a record and a dataset, virtual so that it needs two locks."""
    monkeypatch.chdir(tmp_path)
    Path("r.h5").write_bytes(files.hdf5_image(lambda file: record._fill(file, example())))
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(100,), compression="gzip")
    layout = h5py.VirtualLayout((1000,), "f8")
    layout[:] = h5py.VirtualSource("x.h5", "x", (1000,))
    with h5py.File("v.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    return tmp_path


def look(*numbers, **variables):
    """Return a line for each error number."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *map(str, numbers)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_only_where_there_are_no_locks_an_input_is_read_without(folder):
    none = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, 524)
    *read, held, other = look(*none, errno.EAGAIN, errno.EACCES)
    for line, number in zip(read, none, strict=True):
        assert line == (
            f"499500.0 v.h5 cannot be locked against writers ({os.strerror(number)}), and is read "
            "without: make sure that nobody writes it"
        )
    assert held == "v.h5 is open for writing in another process"
    assert other == "v.h5 cannot be locked against writers (Permission denied)"


def test_who_asks_for_no_locks_gets_none(folder):
    assert look(errno.ENOLCK, errno.EAGAIN, HDF5_USE_FILE_LOCKING="FALSE") == ["499500.0"] * 2


@pytest.mark.parametrize("value", ["absurd", long("")])
def test_values_that_hdf5_does_not_know(folder, value):
    (line,) = look(errno.ENOLCK, HDF5_USE_FILE_LOCKING=value)
    assert line.startswith("499500.0 v.h5 cannot be locked")


@pytest.mark.parametrize("value", ["TRUE", long("BEST_EFFORT")])
def test_who_asks_for_locks_is_told_where_there_are_none(folder, start, value):
    variables = {"HDF5_USE_FILE_LOCKING": value}
    for words in (["show", "r.h5"], ["show", "x.h5"]):
        command = [NO_LOCKS, "ENOLCK", sys.executable, "-m", "rankwise", *words]
        done = start(None, *command, env=variables)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"rankwise show: error: {words[1]} cannot be locked against writers (No locks "
            f"available): HDF5_USE_FILE_LOCKING={value} asks for a lock, set it to FALSE\n"
        )


def test_a_run_where_there_are_no_locks(folder, start):
    """It reads its input, and its own snapshots and checkpoints as if there were some."""
    with h5py.File("m.h5", "w") as file:
        file["x"] = np.random.default_rng(0).random((20, 20))
    job = ROOT / "jobs" / "heat.py"
    options = ["--variant", "numpy", "--input", "m.h5:/x", "--steps", "20", "--snapshot-every"]
    options += ["10", "--checkpoint", "c.h5", "--checkpoint-every", "5", "--output", "o.h5"]
    for again in ([], ["--force"]):
        command = [NO_LOCKS, "524", "mpirun", "-n", "2", sys.executable, job, *options, *again]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = start(None, *command, env={"PATH": path})
        assert done.returncode == 0, done.stderr
        # Once, by rank 0.
        assert done.stderr.count("m.h5 cannot be locked against writers (") == 1, done.stderr
    (warning,) = [w for w in record.read("o.h5").attributes["warnings"] if "locked" in w]
    assert "and is read without" in warning


@pytest.mark.long
def test_a_sweep_where_there_are_no_locks(folder, start):
    job = [sys.executable, ROOT / "jobs" / "sum_squares.py", "--n", "1e5", "--variant", "numpy"]
    options = ["--ranks", "1,2", "--launches", "1", "--mode", "strong", "--folder", "s", "--report"]
    command = [NO_LOCKS, "ENOLCK", sys.executable, "-m", "rankwise", "sweep", *options, "--", *job]
    done = start(None, *command)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(path.read_text()) for path in Path("s").rglob("run.json")]
    assert len(runs) == 2 and all(run["seconds"] > 0 for run in runs)


WRITING, MARKED = "is open for writing in another process", "is marked as open for writing: "


@pytest.mark.parametrize(
    ("mode", "open_", "dead"),
    [
        ({}, WRITING, None),
        ({"libver": "latest"}, WRITING, MARKED),
        ({"libver": "latest", "swmr": True}, MARKED, MARKED),
    ],
)
def test_a_file_that_is_being_written_or_was_when_its_writer_died(tmp_path, mode, open_, dead):
    path = tmp_path / "it's.h5"
    script = (
        "import sys, h5py\n"
        f"file = h5py.File(sys.argv[1], 'w', libver={mode.get('libver')!r})\n"
        "file.create_dataset('x', data=[1.0] * 10, chunks=(5,), maxshape=(None,))\n"
        f"if {mode.get('swmr')}: file.swmr_mode = True\n"
        "file.flush()\nprint('open', flush=True)\ninput()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script, path], **pipes) as writer:
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(Stop, match=f"^{path} {open_}"):
            Dataset(f"{path}:/x", 1, (np.float64,))
        writer.kill()
    if dead is None:
        assert Dataset(f"{path}:/x", 1, (np.float64,)).shape == (10,)
        return
    help_ = f"{dead}.* `h5clear -s {re.escape(shlex.quote(str(path)))}` removes the mark$"
    with pytest.raises(Stop, match=f"^{path} {help_}"):
        Dataset(f"{path}:/x", 1, (np.float64,))
    with pytest.raises(OSError, match=f"^{path} {help_}"):
        record.read(path)


def test_half_of_a_record_and_none(tmp_path):
    """Lock, mark and damage are different sentences."""
    whole = files.hdf5_image(lambda file: record._fill(file, example()))
    (tmp_path / "r.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match=r"r\.h5 is not a whole HDF5 file: .*truncated file"):
        record.read(tmp_path / "r.h5")
    (tmp_path / "r.h5").write_bytes(b"")
    with pytest.raises(OSError, match=r"r\.h5 is not a whole HDF5 file: "):
        record.read(tmp_path / "r.h5")
