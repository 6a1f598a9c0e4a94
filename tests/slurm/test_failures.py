"""Jobs that are stopped, put back, cancelled, killed and lose their node, on a real Slurm.

Slurm lets them wait, most of the time: so they all wait together. What is to happen in the middle
of a run happens to a run that is held, and so has no other end, however busy the machine is.
"""

import contextlib
import hashlib
import io
import re
import secrets
import shlex
import shutil
import time
from pathlib import Path

import h5py
import pytest

from rankwise.disk import record
from tests.slurm.cluster import cluster as bring_up
from tests.slurm.cluster import unavailable

pytestmark = [pytest.mark.failures, pytest.mark.long]

STEPS = 600
HEAT = ["--variant", "numpy", "--threads", "1", "--n", "60", "--steps", str(STEPS)]
PROGRAM = ["held.py", *HEAT, "--checkpoint-seconds", "0.5"]
# Three minutes in steps of 0.3 s, for as long as there is a file `hold` beside the record.
HELD = """\
import rankwise.ranks.guard, os, runpy, sys, time
from pathlib import Path
from kernels.heat import numpy_
quick = numpy_.step
folder = Path(sys.argv[sys.argv.index("--output") + 1]).parent

def step(u, out, r):
    end = time.monotonic() + 0.3
    # Not for the rows beside the halo.
    while len(u) > 3 and (folder / "hold").exists() and time.monotonic() < end:
        time.sleep(0.01)
    quick(u, out, r)

numpy_.step = step
sys.argv[0] = "jobs/heat.py"
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    life, rank = (os.environ.get(f"SLURM_{name}", "0") for name in ("RESTART_COUNT", "PROCID"))
    (folder / f"status-{life}-{rank}").write_text(str(end.code))
    raise
"""
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
LIMIT_SECONDS = 60
# Planted in the environment of all jobs.
SECRET = secrets.token_hex(16)
ENVIRONMENT = {"MY_API_TOKEN": SECRET, "SLURM_LICENCE_KEY": SECRET}


def until(true, told):
    """Wait until a condition holds."""
    end = time.monotonic() + LIMIT_SECONDS
    while not true():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster():
    """A `Cluster` of this module alone, which loses a node."""
    if reason := unavailable():
        pytest.skip(reason)
    with bring_up() as login:
        yield login


def make_clone(folder):
    """Make a folder like the clone, to submit jobs from."""
    root = Path(__file__).resolve().parents[2]
    folder.mkdir(exist_ok=True)
    shutil.copytree(root / "slurm", folder / "slurm")
    for name in ("jobs", "kernels", ".venv"):
        (folder / name).symlink_to(root / name)
    (folder / "held.py").write_text(HELD)
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder like the clone; those of the jobs are in it."""
    return make_clone(tmp_path_factory.mktemp("clone"))


class Job:
    """A run of heat on two ranks, in a folder of its own, held until it is released.

    Parameters
    ----------
    options : str
        Of sbatch.
    """

    def __init__(self, cluster, clone, name, *options):
        self.cluster, self.clone, self.folder = cluster, clone, clone / name
        self.folder.mkdir()
        (self.folder / "hold").touch()
        self.files = ["--output", f"{name}/r.h5", "--checkpoint", f"{name}/c.h5"]
        self.options = ["--ntasks-per-node=2", *options]
        self.number = None

    def submit(self):
        log = f"--output={self.folder}/log.txt"
        words = [*self.options, log, "slurm/job.sh", *PROGRAM, *self.files]
        self.number = self.cluster.sbatch(*words, cwd=self.clone, env=ENVIRONMENT)
        return self

    @property
    def log(self):
        path = self.folder / "log.txt"
        return path.read_text() if path.exists() else ""

    def told(self):
        return f"{self.cluster.show(self.number)}\n{self.log}"

    def steps(self, text):
        """Return the steps after which, by its log, it was stopped or went on."""
        return [int(step) for step in re.findall(rf"{text} after step (\d+)", self.log)]

    def wait_for_checkpoint(self):
        until((self.folder / "c.h5").exists, self.told)

    def wait_for(self, text, times=1):
        until(lambda: len(self.steps(text)) >= times, self.told)

    def wait_for_progress(self):
        """Wait for a checkpoint of the life that went on last."""
        until(lambda: self.step_of_checkpoint() > self.steps("goes on")[-1], self.told)

    def step_of_checkpoint(self):
        """Return the step of its checkpoint, which must be whole."""
        whole = b""
        while not whole:
            # Between two renames there is none.
            with contextlib.suppress(FileNotFoundError):
                whole = (self.folder / "c.h5").read_bytes()
        assert whole.split()[4].decode() == hashlib.sha256(whole[512:]).hexdigest()
        with h5py.File(io.BytesIO(whole)) as file:
            return int(file.attrs["step"])

    def ranks(self):
        """Return the process numbers of its ranks, on whatever node."""
        pattern = f"^[^ ]*python[^ ]* held.py.*--output {self.folder.name}/r.h5"
        return set(self.cluster.run("pgrep", "--full", pattern, check=False).stdout.split())

    def statuses(self, life):
        """Return with which status each rank ended that did so by itself."""
        return {path.read_text() for path in self.folder.glob(f"status-{life}-*")}

    def ask(self):
        """Ask it to stop, as Slurm does before a time limit."""
        self.cluster.run("scancel", "--signal=USR1", self.number)

    def release(self):
        (self.folder / "hold").unlink()
        return self

    def end(self):
        """Wait for the end and return state, exit code and number of restarts."""
        (shown,) = self.cluster.wait(self.number, LIMIT_SECONDS, OVER)
        return shown["JobState"], shown["ExitCode"], int(shown["Restarts"])

    def finishes(self, digest, restarts):
        """Make sure that it comes to the end of a run that nothing had disturbed."""
        assert self.end() == ("COMPLETED", "0:0", restarts), self.log
        found = record.read(self.folder / "r.h5").attributes
        assert found["results_sha256"] == digest
        # Each life went on, the last one to the record, after which there is nothing to go on from.
        steps = [0, *self.steps("goes on")]
        assert steps == sorted({*steps}), self.log
        assert (found["first_step"], found["restarts"]) == (steps[-1], len(steps) - 1)
        names = {path.name for path in self.folder.iterdir()}
        assert {name for name in names if "status" not in name} == {"log.txt", "r.h5"}


@pytest.fixture(scope="module")
def digest(cluster, clone):
    """The digest of a run that nothing disturbs."""
    command = f". .venv/bin/activate; exec python jobs/heat.py {' '.join(HEAT)} --output r.h5"
    cluster.run("bash", "-c", command, cwd=clone)
    return record.read(clone / "r.h5").attributes["results_sha256"]


@pytest.fixture(scope="module")
def jobs(cluster, clone):
    """Jobs to which something happens in the middle of a run.

    Each has its node, since none is to wait for a core of another one that is held.
    """
    made = {
        name: Job(cluster, clone, name, f"--nodelist={node}", *words)
        for name, node, *words in [
            ("limited", "node1", "--time=2", "--signal=USR1@60", "--export=ALL,SIGNAL_LEAD=60"),
            ("nodes", "node[1,3]", "--nodes=2", "--ntasks-per-node=1"),
            ("killed", "node3"),
            ("failing", "node4"),
            ("cancelled", "node4"),
        ]
    }
    # First and alone: it may be told half a minute after its start, and is to run by then.
    made["limited"].submit().wait_for_checkpoint()
    for job in made.values():
        if job.number is None:
            job.submit()
    made |= submit_array(cluster, clone)
    for job in made.values():
        job.wait_for_checkpoint()
    for name in ("nodes", "task 2"):
        made[name].ask()
    cluster.run("kill", "-KILL", made["killed"].ranks().pop())
    made["killed"].began = time.time()
    cluster.cancel(made["cancelled"].number)
    assert made["cancelled"].end()[::2] == ("CANCELLED", 0), made["cancelled"].told()
    lose_node(cluster, made["failing"])
    return made


@pytest.fixture(scope="module")
def twice(cluster, jobs, programs):
    """The jobs, when those that were asked to stop have gone on and it has happened once more."""
    for name in ("nodes", "task 2"):
        jobs[name].wait_for("goes on")
    cluster.run("scontrol", "requeue", jobs["nodes"].number)
    jobs["task 2"].wait_for_progress()
    jobs["task 2"].ask()
    return jobs


def submit_array(cluster, clone):
    """Submit an array and return a job for each of its two tasks."""
    made = {name: Job(cluster, clone, name) for name in ("task 1", "task 2")}
    lines = [shlex.join(job.files) for job in made.values()]
    (clone / "params.txt").write_text("\n".join(lines))
    words = ["--array=1-2", "--nodelist=node2", "--ntasks-per-node=2"]
    words += ["--output=task %a/log.txt", "slurm/array.sh", "params.txt", *PROGRAM]
    number = cluster.sbatch(*words, cwd=clone, env=ENVIRONMENT)
    for name, job in made.items():
        job.number = name.replace("task ", f"{number}_")
    return made


def lose_node(cluster, job):
    """Let the node of a job fail."""
    cluster.run("pkill", "--signal=KILL", "--full", "slurmd -D -N node4")
    # Slurm would find out later by itself.
    cluster.run("scontrol", "update", "nodename=node4", "state=down", "reason=test")
    cluster.run("scontrol", "update", f"jobid={job.number}", "reqnodelist=node3")
    job.survivors, job.kept = job.ranks(), job.step_of_checkpoint()


def test_a_node_that_fails(twice, digest):
    job = twice["failing"]
    assert len(job.survivors) == 2
    job.wait_for("goes on")
    # Its ranks lived on, since nobody told them, and wrote until the next life had begun.
    assert job.steps("goes on")[0] > job.kept
    until(lambda: not job.survivors & job.ranks(), job.told)
    assert job.statuses(0) == {"1"}
    job.release().finishes(digest, 1)


def test_a_rank_that_is_killed_ends_all(twice, digest):
    job = twice["killed"]
    state, status, restarts = job.end()
    assert (state, status, restarts) == ("FAILED", "137:0", 0), job.told()
    assert job.ranks() == set()
    # After five seconds, says the template. The last line is srun's, when all have ended.
    assert (job.folder / "log.txt").stat().st_mtime < job.began + 10
    step = job.step_of_checkpoint()
    job.release().submit().finishes(digest, 0)
    assert job.steps("goes on") == [step]


def test_cancelled_it_saves_its_state_and_stays_cancelled(twice, digest):
    job = twice["cancelled"]
    # What was put back at that time has gone on by now.
    assert job.end()[::2] == ("CANCELLED", 0), job.told()
    assert job.statuses(0) == {"143"}
    (step,) = job.steps("stopped by SIGTERM")
    assert job.step_of_checkpoint() == step
    job.options.remove("--nodelist=node4")
    job.release().submit().finishes(digest, 0)
    assert job.steps("goes on") == [step]


def test_asked_to_stop_and_put_back_by_hand_it_goes_on(twice, digest):
    job = twice["nodes"]
    job.wait_for("goes on", 2)
    job.release().finishes(digest, 2)
    stops = job.steps("stopped by SIGUSR1") + job.steps("stopped by SIGTERM")
    assert stops == job.steps("goes on")
    assert (job.statuses(0), job.statuses(1), job.statuses(2)) == ({"75"}, {"143"}, {"0"})


def test_a_task_of_an_array_is_put_back_alone(twice, digest):
    # The last one has the number of the array.
    job, other = twice["task 2"], twice["task 1"]
    job.wait_for("goes on", 2)
    job.release().finishes(digest, 2)
    assert job.steps("stopped by SIGUSR1") == job.steps("goes on")
    # In its first life.
    assert len(other.ranks()) == 2
    other.release().finishes(digest, 0)
    assert other.steps("goes on") == []


# Ends with a status for each of its lives, if not by a signal.
TIMES = """\
import os, pathlib, sys, time
life = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
print("life", life + 1, "with a secret" if "MY_API_TOKEN" in os.environ else "", flush=True)
status = {statuses}[life]
pathlib.Path("started").touch()
time.sleep(600 if status is None else 0)
sys.exit(status)
"""
PROGRAMS = {
    "goes on once": [75, 0],
    "goes on twice, and fails": [75, 75, 1],
    "misused": [2],
    "ended by TERM": [143],
    "knows no USR1": [None],
}


@pytest.fixture(scope="module")
def programs(cluster, clone, jobs):
    """Programs of other people, by their numbers and folders."""
    made = {}
    for name, statuses in PROGRAMS.items():
        folder = make_clone(clone / name)
        (folder / "times.py").write_text(TIMES.format(statuses=statuses))
        options = ["--nodelist=node3", "--ntasks-per-node=1", "--output=log.txt"]
        options += ["slurm/job.sh", "times.py"]
        made[name] = (cluster.sbatch(*options, cwd=folder, env=ENVIRONMENT), folder)
    return made


@pytest.mark.parametrize("name", PROGRAMS)
def test_only_what_says_that_it_can_go_on_is_put_back(cluster, programs, name):
    number, folder = programs[name]
    *again, last = PROGRAMS[name]
    if last is None:
        until((folder / "started").exists, lambda: cluster.show(number))
        cluster.run("scancel", "--signal=USR1", number)
    (shown,) = cluster.wait(number, LIMIT_SECONDS, OVER)
    text = (folder / "log.txt").read_text()
    expected = ("COMPLETED" if last == 0 else "FAILED", f"{138 if last is None else last}:0")
    assert (shown["JobState"], shown["ExitCode"]) == expected, text
    assert shown["Restarts"] == str(len(again))
    lives = [str(life) for life in range(1, len(again) + 2)]
    assert re.findall(r"^life (\d+)", text, re.MULTILINE) == lives
    assert ("User defined signal 1" in text) == (last is None)


def test_the_time_limit_is_reached(jobs, digest):
    job = jobs["limited"]
    job.wait_for("stopped by SIGUSR1")
    job.release()
    # Slurm may have looked once more, on a busy machine.
    restarts = job.end()[-1]
    job.finishes(digest, max(1, restarts))
    assert job.steps("stopped by SIGUSR1") == job.steps("goes on")


def test_no_secret_in_any_file(clone, programs):
    """Last of all: when the jobs have left what they leave."""
    for _, folder in programs.values():
        assert "with a secret" in (folder / "log.txt").read_text()
    files = [path for path in clone.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"log.txt", "r.h5"} <= {path.name for path in files}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
