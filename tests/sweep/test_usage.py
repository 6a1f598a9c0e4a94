"""What the ranks of real runs use, looked at while they run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankwise.sweep import sstat, usage
from rankwise.sweep.execute import execute
from rankwise.sweep.folder import load
from rankwise.sweep.launchers import Launcher
from rankwise.sweep.mpi import MPICH
from rankwise.sweep.processes import MARK
from rankwise.sweep.usage import Usage

MPIRUN = str(Path(sys.executable).parent / "mpirun")
HYDRA = Launcher("mpirun of MPICH", lambda ranks, *_: [MPIRUN, "-n", str(ranks)], MPIRUN, MPICH)
SCRIPT = Launcher("env N={ranks}", lambda ranks, *_: ["env", f"N={ranks}"], "env", own=True)
MIB = 2**20
# A Python that has loaded nothing but what is here.
PYTHON = 20 * MIB
# A program says that it has done all, and waits until it has been looked at.
WAIT = """
def wait():
    name = f"ready-{os.getpid()}"
    open(name + ".part", "w").write(open("/proc/self/io").read())
    os.rename(name + ".part", name)
    while not os.path.exists("over"):
        time.sleep(0.02)
"""
HOLDS = f"""
import os, sys, time
{WAIT}
rank = int(os.environ.get("PMI_RANK", 0))
held = b"x" * (int(sys.argv[1 + (rank > 0)]) << 20)
del held
wait()
"""


@pytest.fixture
def used(tmp_path, monkeypatch):
    """Return a function that runs a program, and returns what its ranks used."""
    monkeypatch.chdir(tmp_path)

    def run(words, ranks, launcher=HYDRA, ready=None, more=1, **variables):
        env = {**os.environ, MARK: f"{os.getpid()}-{time.monotonic_ns()}", **variables}
        looks, seen = Usage(env, launcher, ranks), []

        def over():
            if len(list(tmp_path.glob("ready-*[0-9]"))) == (ready or ranks):
                seen.append(looks.facts(time.monotonic()).get("usage", {}).get("looks", 0))
                if seen[-1] >= seen[0] + more:
                    (tmp_path / "over").touch()
            return ""

        words = [*launcher.words(ranks, 1, 0, 1), *words]
        ended = execute(words, env, tmp_path / "output.txt", 60, looks=[looks, over])
        assert ended.outcome == "ok", (tmp_path / "output.txt").read_text()
        return looks.facts(time.monotonic()).get("usage", {})

    return run


def python(tmp_path, text, *words):
    (tmp_path / "program.py").write_text(text)
    return [sys.executable, "-S", "-E", "program.py", *map(str, words)]


def test_memory_of_the_largest_rank_and_of_all(used, tmp_path):
    # More than any rank, in the process that starts them.
    ballast = b"x" * (400 * MIB)
    found = used(python(tmp_path, HOLDS, 200, 50), 3)
    assert found["ranks"] == 3 and found["looks"] >= 2
    assert 200 * MIB < found["largest_rank_bytes"] < 200 * MIB + PYTHON < len(ballast)
    assert 300 * MIB < found["all_ranks_bytes"] < 300 * MIB + 3 * PYTHON


CHILD = f"""
import os, subprocess, sys, time
held = b"x" * ({100 * MIB})
subprocess.run([sys.executable, "-S", "-E", "child.py", "80", "80"], check=True)
"""


def test_a_wrapper_and_its_child_are_one_rank(used, tmp_path):
    (tmp_path / "child.py").write_text(HOLDS)
    wrapper = python(tmp_path, CHILD)
    found = used(["sh", "-c", '"$@"; true', "sh", *wrapper], 2)
    assert found["ranks"] == 2
    assert 180 * MIB < found["largest_rank_bytes"] < 180 * MIB + 2 * PYTHON
    assert 360 * MIB < found["all_ranks_bytes"] < 360 * MIB + 4 * PYTHON


FORKS = f"""
import os, sys, time
{WAIT}
held = b"x" * ({50 * MIB})
if os.fork():
    os.wait()
else:
    more = b"x" * ({100 * MIB})
    wait()
"""


def test_a_forked_child_is_of_the_rank(used, tmp_path):
    # It counts from the second look on. What it has of its parent counts in both.
    found = used(python(tmp_path, FORKS), 2, more=2)
    assert found["ranks"] == 2
    assert 200 * MIB < found["largest_rank_bytes"] < 200 * MIB + 2 * PYTHON


SPAWNS = f"""
import os, sys
held = b"x" * ({100 * MIB})
begin = [(os.POSIX_SPAWN_OPEN, 0, "pipe", os.O_RDONLY, 0)]
print(flush=True)
os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ, file_actions=begin), 0)
"""


def test_a_child_that_has_not_begun_its_program_has_no_memory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    env = {**os.environ, MARK: "mark-of-spawns", "PMI_RANK": "0"}
    looks = Usage({**env, "PMI_RANK": ""}, HYDRA, 1)
    words = python(tmp_path, SPAWNS)
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        while not (child := children.read_text()):
            time.sleep(0.01)
        held = Path(f"/proc/{child.strip()}/status").read_text().partition("VmHWM:")[2].split()[0]
        assert int(held) > 100 * 1024
        looks()
        (tmp_path / "pipe").open("w").close()
    assert (
        100 * MIB
        < looks.facts(time.monotonic())["usage"]["largest_rank_bytes"]
        < 100 * MIB + PYTHON
    )


READS = f"""
import os, sys, time
{WAIT}
for _ in range(3):
    assert len(open("input", "rb", buffering=0).read()) == {8 * MIB}
with open(f"output-{{os.getpid()}}", "wb") as file:
    file.write(b"x" * {4 * MIB})
wait()
"""


def test_what_ranks_read_and_write(used, tmp_path):
    (tmp_path / "input").write_bytes(bytes(8 * MIB))
    found = used(python(tmp_path, READS), 2)
    assert 48 * MIB <= found["read_bytes"] < 50 * MIB
    assert 8 * MIB <= found["written_bytes"] < 8 * MIB + 4096
    # As each says of itself; it goes on to write that down.
    for name, figure in usage._FIGURES.items():
        if name != "VmHWM":
            texts = [path.read_text() for path in tmp_path.glob("ready-*")]
            lines = [dict(line.split(": ") for line in text.splitlines()) for text in texts]
            told = sum(int(each[name]) for each in lines)
            assert told <= found[figure] <= told + 2 * 8192


def test_a_program_that_is_over_before_it_is_looked_at():
    env = {**os.environ, MARK: "mark-of-over"}
    looks = Usage(env, SCRIPT, 1)
    subprocess.run(["true"], env=env, check=True)
    looks()
    assert looks.facts(time.monotonic()) == {}


def test_launchers_are_no_ranks():
    env = {**os.environ, MARK: "mark-of-launchers"}
    for launcher, seen in ((HYDRA, False), (SCRIPT, True)):
        looks = Usage(env, launcher, 2)
        with subprocess.Popen(["sleep", "60"], env=env) as process:
            looks()
            process.kill()
        assert bool(looks.facts(time.monotonic())) is seen


THREADS = f"""
import os, sys, threading, time
{WAIT}
def hold():
    held = b"x" * ({30 * MIB})
    together.wait()
together = threading.Barrier(int(os.environ["N"]))
threads = [threading.Thread(target=hold) for _ in range(together.parties)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
wait()
"""


def test_processes_that_no_rank_was_told_count_together(used, tmp_path):
    words = ["sh", "-c", '"$@"; true', "sh", *python(tmp_path, THREADS)]
    found = used(words, 4, SCRIPT, ready=1)
    assert found["ranks"] == 0 and "largest_rank_bytes" not in found
    assert 120 * MIB < found["all_ranks_bytes"] < 120 * MIB + 2 * PYTHON
    assert found["looks"] > 1 and found["read_bytes"] > 0


@pytest.mark.parametrize(
    "stale",
    [
        {"SLURM_PROCID": "0"},
        {"PMIX_RANK": "0", "PMIX_NAMESPACE": "slurm.7.0"},
        {"PMI_RANK": "0", "PMI_SIZE": "1"},
    ],
    ids=["slurm", "pmix", "pmi"],
)
def test_numbers_that_the_launcher_itself_was_told(used, tmp_path, stale):
    """As in a batch script, or in a shell that srun has started."""
    start = f"{MPIRUN} -n $N {sys.executable} -S -E program.py 30 30"
    (tmp_path / "program.py").write_text(HOLDS)
    found = used(["sh", "-c", f"{start}; true"], 3, SCRIPT, **stale)
    assert found["ranks"] == 3
    assert 90 * MIB < found["all_ranks_bytes"] < 90 * MIB + 3 * PYTHON


def stand_in(tmp_path, monkeypatch, script):
    """Put another ``sstat`` on the search path, for a cluster that is slow or answers no more."""
    (tmp_path / "sstat").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "sstat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_of_srun(tmp_path, monkeypatch, ranks):
    monkeypatch.chdir(tmp_path)
    stand_in(tmp_path, monkeypatch, 'echo "$@" > asked')
    launcher = Launcher("srun", lambda *_: ["srun"], "srun")
    env = {**os.environ, MARK: "mark-of-srun", "SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1"}
    looks = Usage(env, launcher, ranks)
    tasks = [
        {"SLURM_PROCID": "0", "PMI_RANK": "0"},
        {"SLURM_PROCID": "1", "PMI_RANK": "0"},
        # srun itself, and a rank of another node.
        {"SLURM_STEP_ID": ""},
        {"SLURM_PROCID": "2", "SLURMD_NODENAME": "n2", "SLURM_STEP_ID": ""},
    ]
    step = env | {"SLURM_STEP_ID": "3"}
    processes = [subprocess.Popen(["sleep", "60"], env=step | task) for task in tasks]
    looks._begun -= 5
    try:
        looks()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if asked := looks._slurm._asked:
        asked.wait()
    assert looks.facts(time.monotonic())["usage"]["ranks"] == 2
    # Slurm is asked if there are ranks elsewhere.
    asked = list(tmp_path.glob("asked"))
    assert len(asked) == (ranks == 3) and all("--jobs=7.3 " in each.read_text() for each in asked)


def test_what_was_there_before_the_run_is_not_looked_into():
    env = {**os.environ, MARK: "mark-of-before"}
    with subprocess.Popen(["sleep", "60"], env=env) as process:
        looks = Usage(env, SCRIPT, 1)
        looks()
        process.kill()
    assert looks.facts(time.monotonic()) == {}


def test_looks_are_rare_after_the_first_minute(monkeypatch):
    looks, seen = Usage({MARK: "mark"}, HYDRA, 1), []
    start = looks._begun
    monkeypatch.setattr(Usage, "_look", lambda self: seen.append(now))
    for now in (0.05, 0.15, 0.35, *(0.85 + 0.5 * k for k in range(360))):
        monkeypatch.setattr(usage.time, "monotonic", lambda at=now: start + at)
        assert looks() == ""
    assert seen[:4] == [0.05, 0.15, 0.35, 0.85]
    assert len([at for at in seen if at < 60]) in range(60, 65)
    assert len([at for at in seen if at > 61]) == 12


def test_every_run_of_a_sweep_is_looked_at(rankwise, tmp_path):
    words = ["--ranks", "2", "--launches", "2", "--", "sh", "-c", "sleep 0.8"]
    assert rankwise("sweep", "--folder", "s", *words).returncode == 0
    runs = load(tmp_path / "s").runs
    first, second = (run.facts["usage"] for run in runs)
    # The last look was when it had begun, and before its end.
    assert all(0 < run.facts["usage"]["unseen_seconds"] < run.process_seconds for run in runs)
    assert first["ranks"] == second["ranks"] == 2
    assert min(first["looks"], second["looks"]) >= 1 and "sstat" not in first


# As Slurm 22.05 printed it.
TOLD = """\
1.batch|17387520|cpu=00:00:00,energy=0,fs/disk=87730,mem=17362944,pages=2|energy=0,fs/disk=4489
1.0|59498496|cpu=00:00:00,energy=0,fs/disk=10832224,mem=110784512,pages=0|energy=0,fs/disk=8
1.12|223465472|cpu=00:00:00,energy=0,fs/disk=10832224,mem=687009792|energy=0,fs/disk=80000008
1.2|1|mem=1|
"""
STEP = {
    "largest_rank_bytes": 223465472,
    "read_bytes": 10832224,
    "written_bytes": 80000008,
}


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        (TOLD, STEP),
        ("1.0|218228K|mem=1.5M|\n", {"largest_rank_bytes": 223465472}),
        (f"1.0|{'9' * 400}|mem=1|fs/disk={'9' * 21}K\n", {}),
        (f"1.{'9' * 5000}|5|mem=1|fs/disk=1\n", {}),
        ("1.0|16E|mem=18446744073709551614,fs/disk|fs/disk=-1\n", {}),
        ("1.0||||\n", {}),
        ("1.0|5\n", {}),
        ("1.batch|5|mem=5|fs/disk=5\n", {}),
        ("sstat: error\n\n", {}),
        ("", {}),
    ],
)
def test_what_sstat_prints(text, figures):
    assert sstat.read(text) == figures


def test_sstat_is_asked_rarely_and_its_largest_figures_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_in(tmp_path, monkeypatch, 'echo "$@" >> asked; cat told; rm -f told')
    step, asked = sstat.Sstat("7", "3"), []
    # Ranks that end give their memory back. What has failed once or twice may do later.
    answers = {8: "7.3|5M||fs/disk=1\n", 16: "7.3|6M||\n", 64: "7.3|2M||fs/disk=2\n"}
    for passed in range(1000):
        (tmp_path / "told").write_text(answers.get(passed, ""))
        step(float(passed))
        if step._asked is not None:
            asked.append(passed)
            step._asked.wait()
    # Three questions in a row got no answer, and were the last.
    assert asked == [2, 4, 8, 16, 32, 64, 124, 184, 244]
    lines = (tmp_path / "asked").read_text().splitlines()
    assert len(lines) == 9 and all("--jobs=7.3 " in words for words in lines)
    assert step.end() == {"largest_rank_bytes": 6 * MIB, "written_bytes": 2}


def test_nobody_waits_for_sstat(tmp_path, monkeypatch):
    """A site's wrapper is not what it starts, and that holds what the wrapper writes to."""
    monkeypatch.chdir(tmp_path)
    stand_in(tmp_path, monkeypatch, 'sh -c "echo \\$\\$ > child; sleep 300"; echo late')
    step = sstat.Sstat("7")
    step(2.0)
    process = step._asked
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        time.sleep(0.01)
    step(1000.0)
    assert step._asked is process and process.poll() is None
    assert step.end() == {} and process.returncode < 0
    # The kernel ends it in its own time.
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "cmdline")
    while child.exists() and child.read_bytes():
        time.sleep(0.01)


def test_where_there_is_no_sstat_it_is_asked_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    step = sstat.Sstat("7")
    step(2.0)
    stand_in(tmp_path, monkeypatch, "echo '7.0|5|mem=5|fs/disk=5'")
    step(1000.0)
    assert step._asked is None and step.end() == {}
