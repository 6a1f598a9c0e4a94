"""Disks that fill up, refuse, or lose the folder in which a run works.

Each on a small file system of its own, in a mount namespace: nobody else sees it, and it goes with
its last process.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from rankwise.disk import record
from tests.cases import long

GATED = Path(__file__).with_name("gated_heat.py")
MPIRUN = Path(sys.executable).parent / "mpirun"
N, STEPS = 300, 60
# Of the state; three checkpoints, snapshots and record are some 4 MB.
OCTETS = 8 * N * N
SIZE = ["--variant", "numpy", "--threads", "1", "--steps", str(STEPS)]
CHECKPOINT, RECORD = ["--checkpoint", "c.h5", "--checkpoint-every", "10"], ["--output", "r.h5"]
KEEP = ["--n", str(N), *CHECKPOINT, *RECORD]
LIMIT_SECONDS = 60
# What ranks may take to end, by the promise.
END_SECONDS = 10
FULL = "No space left on device"

pytestmark = pytest.mark.failures


class Disk:
    """A file system of 16 MB, and the runs in its folder `path`, seen from outside as `files`."""

    def __init__(self, folder):
        self.path, self.gate = folder / "disk", folder
        self.path.mkdir()
        # As root, or where that is not allowed, as root of a user namespace.
        for self.user in (False, True):
            extra = ["--user", "--map-root-user"] if self.user else []
            script = 'mount -t tmpfs -o size=16m tmpfs "$0" && mkdir "$0/work" && echo && exec cat'
            self.holder = subprocess.Popen(
                ["unshare", "--mount", *extra, "sh", "-c", script, self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            if self.holder.stdout.readline():
                break
            reason = self.holder.communicate()[1].decode().strip()
        else:
            pytest.skip(f"no mount namespace: {reason}")
        self.files = Path(f"/proc/{self.holder.pid}/root{self.path}/work")
        self.filler = self.files.parent / "filler"

    def enter(self, script, *arguments):
        """Return the command that runs a script in the folder of the namespace."""
        extra = ["--user", "--preserve-credentials"] if self.user else []
        enter = ["nsenter", "--target", str(self.holder.pid), "--mount", *extra, "sh", "-c"]
        return [*enter, f'cd "$0" && {script}', self.path / "work", *arguments]

    def mount(self, option):
        command = self.enter(f'mount -o remount,{option} "{self.path}"')
        subprocess.run(command, check=True, timeout=LIMIT_SECONDS)

    def fill(self):
        """Leave no byte."""
        with self.filler.open("ab", 0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    @contextlib.contextmanager
    def run(self, *options, until=STEPS, log=None, ranks=2):
        """Start the job, which waits after step ``until``; with one rank, by itself."""
        self.log = log or self.gate / "log.txt"
        self.let_go(until)
        (self.gate / "waits").unlink(missing_ok=True)
        job = [sys.executable, GATED, *SIZE, *(options or KEEP)]
        if ranks > 1:
            job = [MPIRUN, "-n", str(ranks), *job]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                self.enter('exec "$@"', *job),
                env=os.environ | {"GATE": str(self.gate)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if until < STEPS:
                self.wait(until)
            yield self.process
        finally:
            self.kill()

    def let_go(self, until):
        (self.gate / "until.new").write_text(str(until))
        os.replace(self.gate / "until.new", self.gate / "until")

    def wait(self, until):
        end = time.monotonic() + LIMIT_SECONDS
        waits = self.gate / "waits"
        while not waits.exists() or waits.read_text() != f"{until + 1}":
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.01)

    def go(self, until):
        """Let the run go on until it has done a step and all that follows from it."""
        self.let_go(until)
        self.wait(until)

    def end(self):
        """Let the run go on to its end; return its status and its output."""
        self.let_go(STEPS)
        status = self.process.wait(LIMIT_SECONDS)
        # Ranks that were ended with it may take a moment.
        self.wait_for_the_last(END_SECONDS)
        return status, self.log.read_text()

    def wait_for_the_last(self, seconds):
        end = time.monotonic() + seconds
        while left := self.inside():
            assert time.monotonic() < end, left
            time.sleep(0.01)

    def inside(self):
        """Return the processes in the namespace, but for the one that holds it."""
        found, own = [], os.readlink(f"/proc/{self.holder.pid}/ns/mnt")
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(process / "ns/mnt") == own:
                    found.append(int(process.name))
        return set(found) - {self.holder.pid}

    def ranks(self):
        """Return the ranks that run."""
        found = []
        for process in self.inside():
            with contextlib.suppress(OSError):
                if b"PMI_RANK=" in Path(f"/proc/{process}/environ").read_bytes():
                    found.append(process)
        return found

    def kill(self):
        for process in self.inside():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait(LIMIT_SECONDS)
        self.wait_for_the_last(LIMIT_SECONDS)

    def close(self):
        self.holder.communicate()

    def names(self):
        return sorted(path.name for path in self.files.iterdir())

    def checkpoints(self):
        """Return the steps of the checkpoints, the newest first. Each must be whole."""
        steps = []
        for name in ("c.h5", "c-previous.h5"):
            if (self.files / name).exists():
                octets = (self.files / name).read_bytes()
                digest = hashlib.sha256(octets[512:]).hexdigest()
                text = f"rankwise checkpoint 1\nsha256 {digest}\n"
                assert octets[:512] == text.encode().ljust(512, b"\0"), name
                with h5py.File(self.files / name, locking=False) as file:
                    steps.append(int(file.attrs["step"]))
        return steps


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path)
    yield disk
    disk.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The digest of the results of a run that nothing has disturbed."""
    path = tmp_path_factory.mktemp("undisturbed") / "r.h5"
    job = [GATED.parents[2] / "jobs" / "heat.py", *SIZE, "--n", str(N), "--output", path]
    subprocess.run([sys.executable, *job], check=True, capture_output=True, timeout=LIMIT_SECONDS)
    return record.read(path).attributes["results_sha256"]


def require_error(output, *words):
    """Make sure that an output has one error, which says why, and no traceback."""
    assert "Traceback" not in output
    errors = [line for line in output.splitlines() if "error: " in line.lower()]
    assert len(errors) == 1 and errors[0].startswith("heat.py: error: "), output
    assert all(word in errors[0] for word in words), output


def require_finished(disk, expected, snapshots=()):
    """Make sure that the record is there, that of an undisturbed run, and nothing else."""
    assert disk.names() == [*snapshots, "r.h5"]
    found = record.read(disk.files / "r.h5")
    assert found.attributes["results_sha256"] == expected
    return found


def finish(disk, expected, *options, snapshots=()):
    """Give the same command again, and make sure that it goes on and ends well."""
    with disk.run(*options):
        status, output = disk.end()
    assert status == 0 and "goes on after step " in output, output
    return require_finished(disk, expected, snapshots)


def warned(step, reason):
    return f"heat.py: warning: cannot write the checkpoint c.h5: {reason}; that of step {step} is"


@pytest.mark.long
def test_full_for_a_while(disk, expected):
    with disk.run(until=20):
        assert disk.checkpoints() == [20, 10]
        disk.fill()
        disk.go(40)
        assert disk.checkpoints() == [20, 10]
        assert disk.names() == [".c.h5.owner", "c-previous.h5", "c.h5"]
        disk.filler.unlink()
        disk.go(50)
        assert disk.checkpoints() == [50, 20]
        status, output = disk.end()
    assert status == 0 and output.count(warned(20, FULL)) == 2, output
    found = require_finished(disk, expected)
    assert sum(FULL in text for text in found.attributes["warnings"]) == 1


def test_full_at_the_first_checkpoint(disk, expected):
    with disk.run(until=5):
        disk.fill()
        disk.go(10)
        assert disk.checkpoints() == [] and disk.names() == [".c.h5.owner"]
        disk.filler.unlink()
        disk.go(20)
        assert disk.checkpoints() == [20]
        status, output = disk.end()
    assert status == 0 and f"cannot write the checkpoint c.h5: {FULL}; there is none" in output
    require_finished(disk, expected)


def test_full_at_the_record(disk, expected):
    with disk.run(until=55):
        disk.fill()
        status, output = disk.end()
    assert status == 1, output
    require_error(output, f"cannot write r.h5: {FULL}")
    assert disk.checkpoints() == [50, 40]
    assert disk.names() == [".c.h5.owner", "c-previous.h5", "c.h5"]
    # As long as it is full the same command ends at once, and does no harm.
    with disk.run():
        status, output = disk.end()
    assert status == 2, output
    require_error(output, "checkpoints need ", " GB left")
    assert disk.checkpoints() == [50, 40]
    disk.filler.unlink()
    finish(disk, expected)


@pytest.mark.long
def test_full_at_a_snapshot(disk, expected):
    options = [*KEEP, "--snapshot-every", "25"]
    with disk.run(*options, until=49):
        disk.fill()
        status, output = disk.end()
    assert status == 1, output
    require_error(output, f"cannot write r-step000000050.h5: {FULL}")
    assert disk.checkpoints() == [40, 30]
    names = [".c.h5.owner", "c-previous.h5", "c.h5", "r-step000000025.h5"]
    assert disk.names() == names
    disk.filler.unlink()
    snapshots = [f"r-step0000000{step}.h5" for step in (25, 50)]
    finish(disk, expected, *options, snapshots=snapshots)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=["USR1", "TERM"])
def test_stopped_by_a_signal_on_a_full_disk(disk, expected, number):
    with disk.run(until=30):
        disk.fill()
        for rank in disk.ranks():
            os.kill(rank, number)
        # They have it before they look at the next step at which they ask each other.
        time.sleep(0.2)
        status, output = disk.end()
    # Not 75: the queue is not to start again what has lost its steps.
    assert status == 1, output
    require_error(output, f"cannot write the checkpoint c.h5: {FULL}; that of step 30 is kept")
    assert disk.checkpoints() == [30, 20]
    disk.filler.unlink()
    finish(disk, expected)


@pytest.mark.long
def test_full_with_the_log_on_it(disk, expected):
    with disk.run(until=30, log=disk.files / "log.txt"):
        disk.fill()
        status, _ = disk.end()
    # Hydra ends the run when it cannot write what it is told.
    assert status not in (0, os.EX_TEMPFAIL)
    assert disk.checkpoints() == [30, 20]
    disk.filler.unlink()
    disk.log.unlink()
    finish(disk, expected)


@pytest.mark.long
def test_full_for_a_while_with_the_log_on_it(disk, expected):
    # Without a launcher: it is the job that cannot write what it has to tell.
    with disk.run(until=20, log=disk.files / "log.txt", ranks=1):
        disk.fill()
        disk.go(40)
        assert disk.checkpoints() == [20, 10]
        disk.filler.unlink()
        status, output = disk.end()
    assert status == 0 and "record    r.h5" in output, output
    disk.log.unlink()
    found = require_finished(disk, expected)
    assert sum(FULL in text for text in found.attributes["warnings"]) == 1


def test_too_small_from_the_start(disk):
    with disk.filler.open("wb") as file:
        file.write(bytes(16 * 2**20 - 2 * OCTETS))
    with disk.run():
        status, output = disk.end()
    assert status == 2, output
    require_error(output, "checkpoints need 0.00216 GB more in ., which has 0.00144 GB left")
    assert disk.names() == []


def test_a_limit_for_the_size_of_files(disk, expected):
    with disk.run(until=30):
        ranks = disk.ranks()
        # Two thirds of a checkpoint: the write gets that far. Earlier, MPI itself would not start.
        limits = resource.prlimit(ranks[0], resource.RLIMIT_FSIZE)
        for rank in ranks:
            resource.prlimit(rank, resource.RLIMIT_FSIZE, (2 * OCTETS // 3, limits[1]))
        disk.go(40)
        assert disk.checkpoints() == [30, 20]
        assert disk.names() == [".c.h5.owner", "c-previous.h5", "c.h5"]
        status, output = disk.end()
    assert status == 1, output
    assert output.count(warned(30, "File too large")) == 2
    require_error(output, "cannot write r.h5: File too large")
    assert disk.checkpoints() == [30, 20]
    assert disk.names() == [".c.h5.owner", "c-previous.h5", "c.h5"]
    finish(disk, expected)


@pytest.mark.long
def test_read_only_from_the_start(disk):
    disk.mount("ro")
    with disk.run():
        status, output = disk.end()
    assert status == 2, output
    require_error(output, "cannot write to .: Read-only file system")
    assert disk.names() == []


def test_read_only_on_its_way(disk, expected):
    with disk.run(until=30):
        disk.mount("ro")
        status, output = disk.end()
        assert status == 1, output
        assert output.count(warned(30, "Read-only file system")) == 2
        require_error(output, "cannot write r.h5: Read-only file system")
        assert disk.checkpoints() == [30, 20]
    disk.mount("rw")
    finish(disk, expected)


@pytest.mark.parametrize("names", ["relative", long("absolute")])
def test_the_folder_is_removed(disk, names):
    # The one in which it was started, or another.
    here, folder = disk.files, "."
    if names == "absolute":
        here, folder = disk.files / "data", disk.path / "work" / "data"
        here.mkdir()
    options = ["--n", str(N), "--checkpoint", f"{folder}/c.h5", "--checkpoint-every", "10"]
    with disk.run(*options, "--output", f"{folder}/r.h5", until=30):
        shutil.rmtree(here)
        status, output = disk.end()
    assert status == 1, output
    assert output.count("warning: cannot write the checkpoint ") == 2
    require_error(output, "cannot write ", "r.h5: No such file or directory")
    assert not here.exists()


@pytest.mark.long
def test_a_checkpoint_is_removed(disk, expected):
    with disk.run(until=30):
        for name in ("c.h5", "c-previous.h5"):
            (disk.files / name).unlink()
        disk.go(50)
        # There is one again, and the next start goes on from it.
        assert max(disk.checkpoints(), default=0) == 50, disk.log.read_text()
        disk.kill()
    finish(disk, expected)


@pytest.mark.long
def test_the_input_is_locked_or_changed_when_it_goes_on(disk):
    with h5py.File(disk.files / "x.h5", "w") as file:
        file["x"] = np.random.default_rng(3).normal(size=(N, N))
    options = ["--input", "x.h5:/x", *CHECKPOINT, *RECORD]
    with disk.run(*options, until=30):
        disk.kill()
    before = {path.name: path.read_bytes() for path in disk.files.glob("*c*.h5*")}
    with (disk.files / "x.h5").open("rb") as file:
        # Threads of a rank that was killed may hold it for a moment longer.
        fcntl.flock(file, fcntl.LOCK_EX)
    with h5py.File(disk.files / "x.h5", "r+"):
        with disk.run(*options):
            status, output = disk.end()
        assert status == 2, output
        require_error(output, "x.h5 is open for writing in another process")
        assert {path.name: path.read_bytes() for path in disk.files.glob("*c*.h5*")} == before
    # Other content of the same name is another problem, and the same of another name is not.
    whole = (disk.files / "x.h5").read_bytes()
    with h5py.File(disk.files / "x.h5", "r+") as file:
        file["x"][5, 5] += 1e-9
    with disk.run(*options):
        status, output = disk.end()
    assert status == 2, output
    require_error(output, "is of another problem: sha256 of the input is ")
    assert {path.name: path.read_bytes() for path in disk.files.glob("*c*.h5*")} == before
    (disk.files / "x.h5").unlink()
    (disk.files / "y.h5").write_bytes(whole)
    with disk.run("--input", "./y.h5:/x", *CHECKPOINT, *RECORD):
        status, output = disk.end()
    assert status == 0 and "goes on after step 30 of c.h5" in output, output
    assert disk.names() == ["r.h5", "y.h5"]


def test_shared_memory_is_too_small_for_the_data(disk):
    job = Path(__file__).parents[2] / "jobs" / "sum_squares.py"
    command = [MPIRUN, "-n", "2", sys.executable, job, "--n", "8e6", "--variant", "numpy"]
    # Last, since the namespace keeps the small one, which with half of that has MPICH itself fail.
    for name, script in {
        "large": 'exec "$@"',
        "small": 'mount -t tmpfs -o size=32m tmpfs /dev/shm && exec "$@"',
    }.items():
        enter = disk.enter(script, *command, "--output", f"{name}.h5")
        done = subprocess.run(enter, capture_output=True, text=True, timeout=LIMIT_SECONDS)
        assert done.returncode == 0, done.stderr
    assert done.stderr.count("to share: No space left on device; so rank 0 sends") == 1
    small, large = (record.read(disk.files / f"{name}.h5") for name in ("small", "large"))
    assert small.attributes["results_sha256"] == large.attributes["results_sha256"]
    assert len(small.attributes["warnings"]) == len(large.attributes["warnings"]) + 1


def test_no_room_for_compiled_kernels(disk):
    # That job whose kernel is compiled soonest.
    job = [Path(__file__).parents[2] / "jobs" / "heat.py", "--n", "16", "--steps", "2"]
    command = [MPIRUN, "-n", "2", sys.executable, *job, "--variant", "numba"]
    script = 'mkdir tiny && mount -t tmpfs -o size=8k tmpfs tiny && exec "$@"'
    enter = disk.enter(f"{script} --output r.h5", *command, "--repeats", "1")
    environment = os.environ | {"NUMBA_CACHE_DIR": "tiny"}
    run = {"capture_output": True, "text": True, "timeout": LIMIT_SECONDS}
    done = subprocess.run(enter, env=environment, **run)
    assert done.returncode == 0, done.stderr
    (text,) = record.read(disk.files / "r.h5").attributes["warnings"]
    assert done.stderr == f"heat.py: warning: {text}\n"
    words = r"cannot keep compiled kernels in .*/tiny/rankwise-.*: " + FULL
    assert re.match(words, text) and "NUMBA_CACHE_DIR names another folder" in text
    (folder,) = (disk.files / "tiny").iterdir()
    assert [path.suffix for path in folder.iterdir()] == [".compiled"]
