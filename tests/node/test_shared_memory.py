import mmap
import os
import subprocess
import sys

import pytest

from rankwise.node import shared_memory
from tests.calls import calls

HOLD = """
import mmap, os, sys
handle = os.open(sys.argv[1], os.O_RDWR)
if sys.argv[2] == "mapped":
    kept = mmap.mmap(handle, 4096)
    os.close(handle)
print("ready", flush=True)
input()
"""


@pytest.fixture(autouse=True)
def whole_system(monkeypatch):
    """Take the processes that are seen for all, as they are outside of a container."""
    monkeypatch.setattr(shared_memory, "_WHOLE_SYSTEM", os.readlink("/proc/self/ns/pid"))


def test_does_nothing_where_it_may_not_see_all_processes(segment, tmp_path, monkeypatch):
    path = segment("mpich_shm_1_0")
    monkeypatch.setattr(shared_memory, "_WHOLE_SYSTEM", "pid:[1]")
    shared_memory.remove_stale(tmp_path)
    assert path.exists()


@pytest.fixture
def segment(tmp_path):
    """Return a function that makes a file like those that MPI libraries leave."""

    def make(name, mode=0o600):
        path = tmp_path / name
        path.write_bytes(bytes(4096))
        path.chmod(mode)
        return path

    return make


@pytest.mark.parametrize(
    "name",
    [
        "rankwise-k3v_x1",
        "mpich_shm_1a2b_0",
        "sm_segment.node1.0.1d3f0000.0",
        "vader_segment.node1.0.0",
    ],
)
def test_removes_what_nobody_uses(segment, tmp_path, name):
    path = segment(name)
    shared_memory.remove_stale(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("how", ["mapped", "open"])
@pytest.mark.parametrize("whose", ["own", "other"])
def test_keeps_what_a_process_uses(segment, tmp_path, how, whose):
    path = segment("mpich_shm_1_0")
    other = segment("mpich_shm_2_0")
    if whose == "own":
        handle = os.open(path, os.O_RDWR)
        kept = mmap.mmap(handle, 4096)
        if how == "mapped":
            os.close(handle)
        else:
            kept.close()
        shared_memory.remove_stale(tmp_path)
        assert path.exists() and not other.exists()
        kept.close() if how == "mapped" else os.close(handle)
    else:
        command = [sys.executable, "-c", HOLD, path, how]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
            assert process.stdout.readline() == b"ready\n"
            shared_memory.remove_stale(tmp_path)
            assert path.exists() and not other.exists()
            process.communicate(b"\n")
    shared_memory.remove_stale(tmp_path)
    assert not path.exists()


def test_keeps_what_is_no_segment_of_ours(segment, tmp_path):
    kept = [segment("other_shm_1"), segment("mpich_shm_shared", 0o644)]
    if os.geteuid() == 0:
        kept.append(segment("mpich_shm_of_another_user"))
        os.chown(kept[-1], 65534, 65534)
    shared_memory.remove_stale(tmp_path)
    assert all(path.exists() for path in kept)


def test_a_folder_that_is_not_there(tmp_path):
    shared_memory.remove_stale(tmp_path / "absent")


def test_segments_of_this_run_are_no_reason_to_look_at_other_processes(segment, tmp_path):
    def work():
        return calls(shared_memory.remove_stale, tmp_path)[1]

    nothing = work()
    with segment("mpich_shm_1_0").open("rb+") as file, mmap.mmap(file.fileno(), 4096):
        # However many processes there are.
        assert work() < nothing + 40


def test_many_processes_are_not_looked_at(segment, tmp_path, monkeypatch):
    path, limit = segment("mpich_shm_1_0"), shared_memory._SECONDS
    numbers = [name for name in os.listdir("/proc") if name.isdecimal()]
    monkeypatch.setattr(shared_memory, "_SECONDS", -1.0)
    _, work = calls(shared_memory.remove_stale, tmp_path)
    # Asked who their user is, and no more.
    assert path.exists() and work < 12 * len(numbers) + 200
    # The same processes, as if they were thousands.
    monkeypatch.setattr(shared_memory, "_SECONDS", limit)
    steps = iter(range(10**9))
    monkeypatch.setattr(shared_memory.time, "monotonic", lambda: next(steps) * limit / 3.5)
    looked = []
    right = shared_memory._not_opened
    monkeypatch.setattr(
        shared_memory, "_not_opened", lambda *args: looked.append(args) or right(*args)
    )
    shared_memory.remove_stale(tmp_path)
    assert path.exists() and len(looked) == 3
