"""Jobs that are stopped, put back, cancelled, killed and lose their node, on a real Slurm."""

import re
import shutil
import time
from pathlib import Path

import pytest

from runtime import record
from tests.slurm.cluster import cluster as bring_up
from tests.slurm.cluster import unavailable

pytestmark = pytest.mark.faults

HEAT = ["--variant", "numpy", "--threads", "1", "--n", "60"]
# The job with steps of ten milliseconds, however busy the machine is.
SLOW = """\
import runtime.guard, runpy, sys, time
from kernels.heat import numpy_
quick = numpy_.step

def step(u, out, r):
    # Not for the rows beside the halo.
    time.sleep(0.01 if len(u) > 3 else 0)
    quick(u, out, r)

numpy_.step = step
sys.argv[0] = "jobs/heat.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


@pytest.fixture(scope="module")
def cluster():
    """A `Cluster` of this module alone, which loses a node."""
    if reason := unavailable():
        pytest.skip(reason)
    with bring_up() as login:
        yield login


class Job:
    """A run of heat by ``slurm/job.sh``, in a folder of its own.

    Parameters
    ----------
    words : list of str
        Options of sbatch.
    steps : int
    """

    def __init__(self, cluster, clone, name, *words, steps):
        self.cluster, self.folder = cluster, clone / name
        self.folder.mkdir()
        self.words = ["slow.py", *HEAT, "--steps", str(steps), "--output", f"{name}/r.h5"]
        self.words += ["--checkpoint", f"{name}/c.h5", "--checkpoint-every", "40"]
        self.options = [f"--output={name}/log.txt", "--ntasks-per-node=2", *words]
        self.clone, self.steps = clone, steps
        self.submit()

    def submit(self):
        words = [*self.options, "slurm/job.sh", *self.words]
        self.number = self.cluster.sbatch(*words, cwd=self.clone)

    @property
    def log(self):
        path = self.folder / "log.txt"
        return path.read_text() if path.exists() else ""

    def wait_for_checkpoint(self, limit=60):
        end = time.monotonic() + limit
        while not (self.folder / "c.h5").exists():
            assert time.monotonic() < end, f"{self.cluster.show(self.number)}\n{self.log}"
            time.sleep(0.1)

    def end(self, limit=90):
        """Wait for the end and return state, exit code and number of restarts."""
        (shown,) = self.cluster.wait(self.number, limit, OVER)
        return shown["JobState"], shown["ExitCode"], int(shown["Restarts"])

    def record(self):
        return record.read(self.folder / "r.h5")

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder like the clone, to submit jobs from."""
    root, folder = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("clone")
    shutil.copytree(root / "slurm", folder / "slurm")
    for name in ("jobs", ".venv"):
        (folder / name).symlink_to(root / name)
    (folder / "slow.py").write_text(SLOW)
    return folder


@pytest.fixture(scope="module")
def digest(cluster, clone):
    """Return a function that returns the digest of an undisturbed run of so many steps."""
    known = {}

    def run(steps):
        if steps not in known:
            words = ["jobs/heat.py", *HEAT, "--steps", str(steps), "--output", f"{steps}.h5"]
            command = f". .venv/bin/activate; exec python {' '.join(words)}"
            cluster.run("bash", "-c", command, cwd=clone)
            known[steps] = record.read(clone / f"{steps}.h5").attributes["results_sha256"]
        return known[steps]

    return run


@pytest.fixture(scope="module")
def limited(cluster, clone):
    """A job that reaches its time limit; first of all, since that takes longest."""
    # Slurm looks for limits every half minute: with so many steps at least once while it runs.
    return Job(cluster, clone, "limited", "--time=00:01:00", steps=3200)


@pytest.fixture(scope="module")
def jobs(cluster, clone, limited, programs):
    """Several jobs, which wait for Slurm at the same time; their names say what happens to them."""
    made = {
        name: Job(cluster, clone, name, "--exclude=node4", *words, steps=600)
        for name, words in {
            **{"asked": [], "cancelled": [], "put back": [], "killed": []},
            "nodes": ["--nodes=2"],
        }.items()
    }
    usr1 = ["scancel", "--signal=USR1"]
    actions = {"asked": usr1, "nodes": usr1, "cancelled": ["scancel"]}
    actions |= {"put back": ["scontrol", "requeue"]}
    # Each as soon as there is something to lose.
    for name in ("killed", *actions):
        made[name].wait_for_checkpoint()
        if name in actions:
            cluster.run(*actions[name], made[name].number)
        else:
            cluster.run("kill", "-KILL", ranks_of(cluster, made[name])[0])
    made["killed"].ended = made["killed"].end(30)
    made["killed"].submit()
    made["failing"] = lose_a_node(cluster, clone)
    # Long after.
    made["cancelled"].ended = made["cancelled"].end(0)
    made["cancelled"].submit()
    return made


def test_a_rank_that_is_killed_ends_all(jobs, digest):
    job = jobs["killed"]
    state, status, restarts = job.ended
    assert (state, restarts) == ("FAILED", 0) and status != "75:0"
    assert job.end()[0] == "COMPLETED", job.log
    assert "goes on after step" in job.log
    assert job.record().attributes["results_sha256"] == digest(job.steps)


@pytest.mark.parametrize("name", ["asked", "nodes"])
def test_asked_to_stop_it_goes_back_and_on(jobs, digest, name):
    job = jobs[name]
    assert job.end() == ("COMPLETED", "0:0", 1), job.log
    found = job.record().attributes
    assert found["results_sha256"] == digest(job.steps)
    (step,) = re.findall(r"stopped by SIGUSR1 after step (\d+)", job.log)
    assert f"goes on after step {step} of" in job.log
    assert (found["first_step"], found["restarts"]) == (int(step), 1)
    assert job.files() == ["log.txt", "r.h5"]


def test_cancelled_it_saves_its_state_and_stays_cancelled(jobs, digest):
    job = jobs["cancelled"]
    assert job.ended[::2] == ("CANCELLED", 0)
    (step,) = re.findall(r"stopped by SIGTERM after step (\d+)", job.log)
    # Submitted once more.
    assert job.end()[0] == "COMPLETED", job.log
    assert f"goes on after step {step} of" in job.log
    assert job.record().attributes["results_sha256"] == digest(job.steps)


def test_put_back_by_hand_it_goes_on(jobs, digest):
    job = jobs["put back"]
    assert job.end() == ("COMPLETED", "0:0", 1), job.log
    assert "goes on after step" in job.log
    assert job.record().attributes["results_sha256"] == digest(job.steps)
    assert job.files() == ["log.txt", "r.h5"]


TIMES = """\
import pathlib, sys
count = pathlib.Path("count")
lives = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(lives))
name = sys.argv[1].removeprefix("--checkpoint=") if "=" in sys.argv[1] else sys.argv[2]
if lives <= {saved}:
    pathlib.Path(name).write_text(str(lives))
print("life", lives, flush=True)
sys.exit({status})
"""


@pytest.fixture(scope="module")
def programs(cluster, clone):
    """Programs that end with a status, by it and by how many lives save something."""
    made = {}
    for status, saved in [(75, 0), (75, 1), (1, 1), (2, 1), (143, 1)]:
        folder = clone / f"{status} {saved}"
        folder.mkdir()
        (folder / "slurm").symlink_to(clone / "slurm")
        (folder / ".venv").symlink_to(clone / ".venv")
        (folder / "times.py").write_text(TIMES.format(status=status, saved=saved))
        option = ["--checkpoint=of it.h5"] if saved else ["--checkpoint", "of it.h5"]
        options = ["--ntasks-per-node=1", "--output=log.txt"]
        number = cluster.sbatch(*options, "slurm/job.sh", "times.py", *option, cwd=folder)
        made[status, saved] = (number, folder / "log.txt")
    return made


@pytest.mark.parametrize(
    ("status", "saved", "lives"), [(75, 0, 1), (75, 1, 2), (1, 1, 1), (2, 1, 1), (143, 1, 1)]
)
def test_only_what_got_on_is_put_back(cluster, programs, status, saved, lives):
    number, log = programs[status, saved]
    (shown,) = cluster.wait(number, 60, OVER)
    text = log.read_text()
    assert shown["JobState"] == "FAILED" and int(shown["Restarts"]) == lives - 1, text
    assert [f"life {k}" in text for k in (1, 2, 3)] == [k <= lives for k in (1, 2, 3)]
    assert ("without a new --checkpoint: no progress" in text) == (status == 75)


def lose_a_node(cluster, clone):
    """Return a job whose node fails, when its next life has begun and the first one has ended."""
    job = Job(cluster, clone, "failing", "--nodelist=node4", steps=1200)
    job.wait_for_checkpoint()
    cluster.run("pkill", "--signal=KILL", "--full", "slurmd -D -N node4")
    cluster.run("scontrol", "update", "nodename=node4", "state=down", "reason=test")
    # Anywhere else.
    cluster.run("scontrol", "update", f"jobid={job.number}", "reqnodelist=")
    # Its ranks live on, since nobody tells them, and go on writing until the next life has begun.
    before, end = set(ranks_of(cluster, job)), time.monotonic() + 60
    assert len(before) == 2
    while "goes on after step" not in job.log:
        assert before <= set(ranks_of(cluster, job)) and time.monotonic() < end, job.log
        time.sleep(0.1)
    while before & set(ranks_of(cluster, job)):
        assert time.monotonic() < end, job.log
        time.sleep(0.1)
    return job


def test_a_node_that_fails(jobs, digest):
    job = jobs["failing"]
    assert job.end() == ("COMPLETED", "0:0", 1), job.log
    assert job.record().attributes["results_sha256"] == digest(job.steps)
    assert job.files() == ["log.txt", "r.h5"]


def ranks_of(cluster, job):
    """Return the process numbers of the ranks of a job, on whatever node."""
    pattern = f"^[^ ]*python[^ ]* slow.py.*--output {job.folder.name}/r.h5"
    return cluster.run("pgrep", "--full", pattern, check=False).stdout.split()


def test_the_time_limit_is_reached(limited, digest):
    state, status, restarts = limited.end(limit=120)
    assert (state, status) == ("COMPLETED", "0:0"), limited.log
    stops = [int(step) for step in re.findall(r"by SIGUSR1 after step (\d+)", limited.log)]
    starts = [int(step) for step in re.findall(r"goes on after step (\d+)", limited.log)]
    assert 1 <= restarts == len(stops) and stops == starts == sorted(stops)
    found = limited.record().attributes
    assert found["results_sha256"] == digest(limited.steps)
    assert (found["restarts"], found["first_step"]) == (restarts, stops[-1])
    assert limited.files() == ["log.txt", "r.h5"]
