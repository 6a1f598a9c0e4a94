"""Ranks that are killed at any moment, and runs that go on after it."""

import contextlib
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from rankwise.disk import record
from rankwise.node import shared_memory
from tests.cases import long
from tests.failures.seed import SEED

SLOW = Path(__file__).with_name("slow_heat.py")
MPIRUN = Path(sys.executable).parent / "mpirun"
STEPS = 800
EVERY = 25
SIZE = ["--n", "100", "--steps", str(STEPS), "--variant", "numpy", "--threads", "1"]
KEEP = ["--checkpoint", "c.h5", "--checkpoint-every", str(EVERY)]
KEEP += ["--snapshot-every", "200", "--output", "r.h5"]
SNAPSHOTS = [f"r-step000000{step}.h5" for step in range(200, STEPS + 1, 200)]
# What the others may take to end, by the promise.
END_SECONDS = 10
LIMIT_SECONDS = 60

pytestmark = pytest.mark.failures


class Life:
    """One start of the job under mpirun, in a folder."""

    def __init__(self, folder, ranks, fault="", options=KEEP, program=SLOW):
        self.folder = folder
        command = [MPIRUN, "-n", str(ranks), sys.executable, program, *SIZE, *options]
        self.log = open(folder / "log.txt", "w")
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | ({"FAULT": fault} if fault else {}),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.kill()
        self.process.wait()
        for rank in self.ranks():
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank, signal.SIGKILL)
        self.log.close()

    def ranks(self):
        """Return the processes that run in the folder, but for mpirun and its helpers."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                here = os.readlink(process / "cwd") == str(self.folder)
                if here and b"python" in (process / "cmdline").read_bytes().split(b"\0")[0]:
                    found.append(int(process.name))
        return found

    def memory(self):
        """Return the segments of shared memory that its ranks use; others have some, too."""
        used = set()
        for rank in self.ranks():
            with contextlib.suppress(OSError):
                maps = Path(f"/proc/{rank}/maps").read_text(errors="replace")
                used |= set(re.findall(r"/dev/shm/(\S+)", maps))
        return used & segments()

    def end(self, limit=LIMIT_SECONDS):
        """Wait for the end, and return the exit status and the output."""
        status = self.process.wait(limit)
        return status, (self.folder / "log.txt").read_text()

    def wait_until(self, true):
        end = time.monotonic() + LIMIT_SECONDS
        while not true():
            assert time.monotonic() < end and self.process.poll() is None, self.end(1)
            time.sleep(0.01)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What an undisturbed run leaves: the digest of its results, and those of its snapshots."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with Life(folder, 1, options=KEEP) as life:
        assert life.end() == (0, life.end()[1]), life.end()[1]
    return digests(folder)


def digests(folder):
    found = record.read(folder / "r.h5")
    assert [name.decode() for name in found.snapshots["file"]] == SNAPSHOTS
    return found.attributes["results_sha256"], found.snapshots["sha256"].tolist()


def steps_of(folder):
    """Return the steps of the checkpoints; all files that have a final name must be whole."""
    steps = []
    for name in ("c.h5", "c-previous.h5"):
        if (folder / name).exists():
            octets = (folder / name).read_bytes()
            text = f"rankwise checkpoint 1\nsha256 {hashlib.sha256(octets[512:]).hexdigest()}\n"
            assert octets[:512] == text.encode().ljust(512, b"\0"), name
            with h5py.File(folder / name, locking=False) as file:
                steps.append(int(file.attrs["step"]))
    for path in folder.glob("r-step*.h5"):
        with h5py.File(path, locking=False) as file:
            result = record.Result(file["temperature"][()], "", "")
            assert record.digest({"temperature": result}).encode() == file.attrs["sha256"], path
    if (folder / "r.h5").exists():
        record.read(folder / "r.h5")
    return steps


def require_finished(folder, expected):
    assert digests(folder) == expected
    # Nothing else is left, hidden or not.
    assert sorted(path.name for path in folder.iterdir()) == ["log.txt", *SNAPSHOTS, "r.h5"]


def segments():
    # In a container nobody removes them: not all processes that use them are seen there.
    if os.readlink("/proc/self/ns/pid") != shared_memory._WHOLE_SYSTEM:
        return set()
    patterns = shared_memory._NAMES
    return {path.name for name in patterns for path in Path("/dev/shm").glob(name)}


def temporaries(folder):
    return list(folder.glob(".*record-tmp"))


@pytest.mark.parametrize(("chain", "most"), [(0, 3), *(long(chain, 8) for chain in (1, 2))])
def test_random_ranks_at_random_moments(tmp_path, expected, chain, most):
    rng, kills, newest, left = random.Random(f"{SEED} {chain}"), 0, 0, set()
    while kills < most:
        with Life(tmp_path, rng.choice([2, 3])) as life:
            time.sleep(rng.uniform(0.2, 1.2))
            used, killed = life.memory(), False
            with contextlib.suppress(IndexError, ProcessLookupError):
                os.kill(rng.choice(life.ranks()), signal.SIGKILL)
                killed = True
            kills += killed
            status, output = life.end(END_SECONDS if killed else LIMIT_SECONDS)
            # With its record it may just have ended by itself.
            done = (tmp_path / "r.h5").exists()
            told = f"FAILURES_SEED={SEED}\n{output}"
            assert status not in (0, 75) or (done and status == 0), told
            assert life.ranks() == []
        steps = steps_of(tmp_path)
        if (tmp_path / "r.h5").exists():
            # It had come to its end: once more from the start.
            assert digests(tmp_path) == expected
            for path in tmp_path.iterdir():
                path.unlink()
            newest, left = 0, set()
            continue
        # What was there before stays until there is more.
        assert max(steps, default=0) >= newest, f"FAILURES_SEED={SEED}"
        newest = max(steps, default=0)
        # What an earlier life has left in memory is gone, if this one came so far.
        if "goes on after" in output:
            assert not left & segments(), f"FAILURES_SEED={SEED}"
        left = used & segments()
    with Life(tmp_path, rng.choice([2, 3])) as life:
        status, output = life.end()
    assert status == 0, f"FAILURES_SEED={SEED}\n{output}"
    assert not left & segments()
    require_finished(tmp_path, expected)


# In which system call, of those that write a snapshot, a checkpoint and a record.
CHECKPOINT = [
    *["link r-step 1 before", "write .r-step 1 half", "replace r-step 1 before"],
    *["replace r-step 1 after", "write .c.h5. 1 half", "fsync .c.h5. 1 before"],
    *["fsync .c.h5. 1 after", "replace c-previous.h5 1 before", "replace c-previous.h5 1 after"],
    *["fsync .c.h5. 2 before", "replace c.h5 1 before", "replace c.h5 2 after"],
]
RECORD = [
    *["write .r.h5. 1 half", "fsync .r.h5. 1 before", "fsync .r.h5. 1 after"],
    *["pwrite .r.h5. 1 before", "fsync .r.h5. 2 after", "link r.h5 1 before"],
]
DONE = ["link r.h5 1 after", "unlink .r.h5. 2 before", "unlink c.h5 1 after"]


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(["write .c.h5. 1 half", "replace c.h5 1 before"], id="checkpoint"),
        long(CHECKPOINT, id="every call of a checkpoint"),
        long(RECORD, id="every call of a record"),
    ],
)
def test_inside_a_write(tmp_path, expected, faults):
    newest = 0
    for number, fault in enumerate(faults):
        with Life(tmp_path, 2 + number % 2, fault) as life:
            status, output = life.end()
            assert status in (9, 137), (fault, status, output)
            assert life.ranks() == []
        steps = steps_of(tmp_path)
        assert max(steps, default=0) >= newest, fault
        newest = max(steps, default=0)
        assert not (tmp_path / "r.h5").exists()
        if "half" in fault:
            assert temporaries(tmp_path), fault
    with Life(tmp_path, 2) as life:
        assert life.end()[0] == 0, life.end()[1]
    require_finished(tmp_path, expected)


@pytest.mark.parametrize("fault", [DONE[0], *map(long, DONE[1:])])
def test_after_the_record_has_its_name(tmp_path, expected, fault):
    with Life(tmp_path, 2, fault) as life:
        assert life.end()[0] in (9, 137)
    steps_of(tmp_path)
    assert digests(tmp_path) == expected
    # The same command finds it, and touches nothing.
    with Life(tmp_path, 2) as life:
        status, output = life.end()
    assert status == 2 and "error: --output r.h5 exists" in output
    assert digests(tmp_path) == expected


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGUSR1, 75, id="USR1"),
        long(signal.SIGTERM, 143, id="TERM"),
        long(signal.SIGINT, 130, id="INT"),
    ],
)
def test_a_signal_leads_to_a_checkpoint(tmp_path, expected, number, status):
    with Life(tmp_path, 3) as life:
        life.wait_until((tmp_path / "c.h5").exists)
        life.process.send_signal(number)
        ended, output = life.end(END_SECONDS)
    assert ended == status, output
    words = f"heat.py: stopped by {number.name} after step "
    assert output.count(words) == 1 and "error" not in output and "Traceback" not in output
    step = int(output.partition(words)[2].partition(":")[0])
    assert steps_of(tmp_path)[0] == step
    if number != signal.SIGUSR1:
        return
    with Life(tmp_path, 2) as life:
        ended, output = life.end()
    assert ended == 0 and f"goes on after step {step} of c.h5" in output
    require_finished(tmp_path, expected)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_after_the_last_step_waits_for_the_record(tmp_path, expected, number):
    with Life(tmp_path, 2, "fsync .r.h5. 1 wait") as life:
        life.wait_until((tmp_path / "hangs").exists)
        life.process.send_signal(number)
        status, output = life.end(END_SECONDS)
    assert status == 0, output
    (tmp_path / "hangs").unlink()
    require_finished(tmp_path, expected)


def test_a_second_sigint_ends_what_hangs(tmp_path):
    with Life(tmp_path, 2, "fsync .c.h5. 1 hang") as life:
        life.wait_until((tmp_path / "hangs").exists)
        # To the ranks: mpirun itself would kill them.
        for _ in range(2):
            for rank in life.ranks():
                os.kill(rank, signal.SIGINT)
            time.sleep(0.3)
        status, output = life.end(END_SECONDS)
    assert status == 130, output


def handles_usr1(process):
    """Tell whether a process has a handler for SIGUSR1, see proc_pid_status(5)."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{process}/status").read_text()
        caught = status.partition("SigCgt:")[2].split()[0]
        return bool(int(caught, 16) & 1 << signal.SIGUSR1 - 1)
    return False


@pytest.mark.parametrize("seconds", [0.0, long(0.1)])
def test_a_signal_in_the_imports(tmp_path, seconds):
    with Life(tmp_path, 2) as life:
        # From the first import on; what comes before belongs to Python.
        life.wait_until(lambda: sum(map(handles_usr1, life.ranks())) == 2)
        time.sleep(seconds)
        life.process.send_signal(signal.SIGUSR1)
        status, output = life.end(END_SECONDS)
    # Not 75: a start that leaves no time for a step would be repeated for ever.
    assert status == 1, output
    assert output.count("error: no step was done before SIGUSR1 came") == 1
    assert not (tmp_path / "c.h5").exists()


@pytest.mark.long
def test_without_a_checkpoint_usr1_is_a_warning(tmp_path):
    with Life(tmp_path, 2, options=["--output", "r.h5"]) as life:
        life.wait_until(life.ranks)
        time.sleep(1)
        life.process.send_signal(signal.SIGUSR1)
        status, output = life.end()
    assert status == 0, output
    assert output.count("warning: SIGUSR1 does nothing to a run without --checkpoint") == 1


@pytest.mark.long
def test_a_run_that_was_thought_dead_ends_when_it_wakes_up(tmp_path, expected):
    with Life(tmp_path, 2) as first:
        first.wait_until((tmp_path / "c-previous.h5").exists)
        stopped = first.ranks()
        for rank in stopped:
            os.kill(rank, signal.SIGSTOP)
        first_log = (tmp_path / "log.txt").rename(tmp_path / "first.txt")
        with Life(tmp_path, 3) as second:
            second.wait_until(lambda: "goes on after" in (tmp_path / "log.txt").read_text())
            for rank in stopped:
                os.kill(rank, signal.SIGCONT)
            assert first.process.wait(END_SECONDS) == 1
            status, output = second.end()
    assert status == 0, output
    text = first_log.read_text()
    assert text.count("error: another run has taken over c.h5: process") == 1
    first_log.unlink()
    require_finished(tmp_path, expected)


@pytest.mark.long
def test_memory_of_a_live_run_is_left_alone(tmp_path):
    if os.readlink("/proc/self/ns/pid") != shared_memory._WHOLE_SYSTEM:
        pytest.skip("in a container nothing is removed from shared memory")
    (tmp_path / "live").mkdir()
    (tmp_path / "other").mkdir()
    with Life(tmp_path / "live", 2) as live:
        live.wait_until((tmp_path / "live" / "c.h5").exists)
        used = live.memory()
        assert used
        # It does not end before the other one.
        for rank in live.ranks():
            os.kill(rank, signal.SIGSTOP)
        with Life(tmp_path / "other", 2, options=["--output", "r.h5"]) as other:
            assert other.end()[0] == 0, other.end()[1]
        assert used <= segments()
        for rank in live.ranks():
            os.kill(rank, signal.SIGCONT)
        assert live.end()[0] == 0, live.end()[1]


@pytest.mark.long
def test_it_goes_on_with_another_variant(tmp_path, expected):
    with Life(tmp_path, 2) as life:
        life.wait_until((tmp_path / "c.h5").exists)
        life.process.send_signal(signal.SIGUSR1)
        assert life.end(END_SECONDS)[0] == 75
    with Life(tmp_path, 3, options=[*KEEP, "--variant", "numba"]) as life:
        assert life.end()[0] == 0, life.end()[1]
    assert record.read(tmp_path / "r.h5").attributes["variant"] == "numba"
    require_finished(tmp_path, expected)
