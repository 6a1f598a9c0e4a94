"""The Slurm of the tests is a real one, reaches nothing outside, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cases import long

ROOT = Path(__file__).resolve().parents[2]
LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}

# Ends while tasks of a job run on two nodes.
HELD = """
import os, time

def test_held(cluster, tmp_path):
    task = "touch $SLURM_PROCID; exec sleep 600"
    cluster.sbatch("--nodes=2", f"--wrap=srun sh -c '{task}'", cwd=tmp_path)
    while not all((tmp_path / rank).exists() for rank in "01"):
        time.sleep(0.05)
    with open(os.environ["HELD"] + ".tmp", "w") as file:
        file.write(os.readlink(f"/proc/{cluster.init}/ns/pid"))
    os.rename(os.environ["HELD"] + ".tmp", os.environ["HELD"])
    if os.environ["END"] == "fail":
        raise AssertionError
    time.sleep(60)
"""


def listeners(pid):
    """Return the addresses, as in ``/proc/net/tcp``, that anything in its network listens on."""
    lines = []
    for table in ("tcp", "tcp6"):
        lines += Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return [field[1].partition(":")[0] for field in fields if field[3] == LISTENING]


def members(namespace):
    """Return the processes of a PID namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns" / "pid") == namespace:
                found.append(process.name)
        except OSError:
            # It has ended, or is not ours.
            pass
    return found


@pytest.mark.slurm
def test_four_nodes_have_names_and_shared_memory_of_their_own(cluster):
    script = 'echo "$(hostname) $(stat --file-system --format=%i /dev/shm)"'
    lines = cluster.run("srun", "--nodes=4", "bash", "-c", script).stdout.splitlines()
    assert sorted(line.split()[0] for line in lines) == ["node1", "node2", "node3", "node4"]
    assert len({line.split()[1] for line in lines}) == 4


@pytest.mark.slurm
def test_listens_on_loopback_only_and_has_no_other_network(cluster, tmp_path):
    job = cluster.sbatch("--nodes=4", "--wrap=srun sleep 60", cwd=tmp_path)
    cluster.wait(job, states={"RUNNING"})
    addresses = listeners(cluster.init)
    cluster.cancel(job)
    # slurmctld and four slurmd at least.
    assert len(addresses) >= 5 and set(addresses) <= LOOPBACK
    devices = Path(f"/proc/{cluster.init}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    cluster.wait(job)


@pytest.mark.slurm
@pytest.mark.parametrize(
    "end",
    [
        "SIGKILL",
        *(long(end) for end in ("fail", "SIGINT", "SIGTERM")),
    ],
)
def test_leaves_nothing_behind(cluster, tmp_path, end):
    held, test, temporary = (tmp_path / name for name in ("held", "test_held.py", "tmp"))
    test.write_text(HELD)
    temporary.mkdir()
    mounts = Path("/proc/self/mounts").read_text()
    options = ["-p", "tests.slurm.conftest", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    command = [sys.executable, "-m", "pytest", *options, "--basetemp", str(tmp_path / "base")]
    process = subprocess.Popen(
        [*command, str(test)],
        cwd=ROOT,
        env=os.environ | {"HELD": str(held), "END": end, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while not held.exists():
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        namespace = held.read_text()
        if end != "fail":
            # Otherwise the search below proves nothing.
            assert len(members(namespace)) > 10
            process.send_signal(signal.Signals[end])
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    limit = time.monotonic() + 5
    while members(namespace) and time.monotonic() < limit:
        time.sleep(0.05)
    assert process.returncode != 0
    assert members(namespace) == []
    assert Path("/proc/self/mounts").read_text() == mounts
    assert list(temporary.iterdir()) == []
    # Another cluster went on meanwhile.
    assert cluster.run("srun", "hostname").stdout.startswith("node")
