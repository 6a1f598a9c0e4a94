"""From ``sbatch slurm/scaling.sh`` to a report, on a real Slurm."""

import csv
import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest

from rankwise.sweep.folder import OK, load

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).resolve().parents[2]
SUM = ["jobs/sum_squares.py", "--variant", "numpy", "--n", "1e5"]
AWKWARD = ["two words", "it's", 'say "so"', "$(touch ran)", "a;touch ran"]
SLOW = "import time; time.sleep(0.5)"
# Somebody else's program, which fails on two nodes.
FAILS = """\
import json, os, sys
print(json.dumps(sys.argv[1:]), flush=True)
sys.exit("no" if os.environ["SLURM_NNODES"] == "2" else 0)
"""
# The second run, and each that follows in the same life of the job, would take ten minutes.
LONG = """\
echo "${SLURM_RESTART_COUNT:-0}" >> started
[ -n "$SLURM_RESTART_COUNT" ] || [ "$(wc -l < started)" = 1 ] || sleep 600
"""
NEVER = 'touch "started-${SLURM_RESTART_COUNT:-0}"; sleep 600'
# Of five ranks on two nodes the last two are on the second.
HOLDS = """\
import os, time
held = b"x" * ((150 if os.environ["SLURM_PROCID"] == "4" else 50) << 20)
open(f"output-{os.environ['SLURM_PROCID']}", "wb").write(held[:10**7])
time.sleep(4)
"""
UNTIL = 'touch "started-$SLURM_JOB_ID"; while [ ! -e go ]; do sleep 0.1; done'


def sweep_of(clone):
    """Return the sweep in the only folder of results."""
    (folder,) = (clone / "results").iterdir()
    return load(folder)


def finish(cluster, job, state="COMPLETED"):
    """Wait for the end of a job and return its output."""
    (task,) = cluster.wait(job, limit=120)
    output = Path(task["StdOut"]).read_text()
    assert task["JobState"] == state, output
    return output


def lines_of(sweep, run):
    """Return the JSON lines that a run printed."""
    (path,) = sweep.folder.glob(f"**/runs/{run.mode}-{run.ranks}-{run.launch}/output.txt")
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("[")]


@pytest.fixture(scope="module")
def limited(cluster, tmp_path_factory):
    """A sweep that reaches its time limit: its number and its clone."""
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "slurm", clone / "slurm")
    (clone / ".venv").symlink_to(sys.prefix)
    (clone / "long.sh").write_text(LONG)
    # Two minutes before the limit is here half a minute or a minute after the start.
    words = ["--time=3", "slurm/scaling.sh", "--ranks=1", "--launches=4", "--", "bash", "long.sh"]
    return cluster.sbatch(*words, cwd=clone), clone


def tell_out_of_time(cluster, job, started):
    """Do in the middle of a run, which made a file, what Slurm does before the time limit."""
    end = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < end, cluster.show(job)
        time.sleep(0.05)
    cluster.run("scancel", "--signal=USR1", "--batch", job)


def test_sweep_over_nodes_to_a_report(cluster, clone):
    options = ["--ranks", "1,8", "--launches", "1"]
    job = cluster.sbatch("--nodes=2", "slurm/scaling.sh", *options, "--", *SUM, cwd=clone)
    output = finish(cluster, job)
    sweep = sweep_of(clone)
    found = {(run.mode, run.ranks): run for run in sweep.runs}
    assert set(found) == {(mode, ranks) for mode in ("strong", "weak") for ranks in (1, 8)}
    assert {run.outcome for run in sweep.runs} == {OK} and sweep.missing == []
    assert {(run.ranks, run.nodes) for run in sweep.runs} == {(1, 1), (8, 2)}
    assert {run.argv[0] for run in sweep.runs} == {"srun"}
    # All ranks of a point were in one MPI world, or the answers would differ in strong scaling.
    results = {run.facts["results_sha256"] for run in sweep.runs if run.mode == "strong"}
    assert len(results) == 1
    assert found["weak", 8].work == 8 * found["weak", 1].work
    assert (sweep.folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "Strong scaling" in output and "Weak scaling" in output
    assert output.splitlines()[-1] == f"sweep: {sweep.folder.relative_to(clone)}"


def test_memory_of_ranks_on_another_node_is_what_slurm_says(cluster, clone):
    (clone / "holds.py").write_text(HOLDS)
    options = ["--mode", "strong", "--ranks", "5", "--launches", "1"]
    job = cluster.sbatch("--nodes=2", "slurm/scaling.sh", *options, "--", "holds.py", cwd=clone)
    finish(cluster, job)
    (here,) = [run.facts["usage"] for run in sweep_of(clone).runs]
    # The processes of all nodes can be seen here.
    assert here["ranks"] == 3
    assert 50 < here["largest_rank_bytes"] / 2**20 < 80
    assert 3e7 <= here["written_bytes"] < 3.1e7
    elsewhere = here["sstat"]
    assert 150 < elsewhere["largest_rank_bytes"] / 2**20 < 180
    assert 5e7 <= elsewhere["written_bytes"] < 5.1e7 and elsewhere["read_bytes"] > 0


def test_options_of_the_job_do_not_reach_its_steps(cluster, clone):
    """srun reads --ntasks-per-gpu from the environment, and would start two ranks as "1 rank"."""
    asked = ["--ntasks-per-gpu=1", "--gpus=4", "--nodes=2"]
    options = ["--mode", "strong", "--ranks", "1,2,4", "--launches", "1"]
    job = cluster.sbatch(*asked, "slurm/scaling.sh", *options, "--", "show.py", cwd=clone)
    finish(cluster, job)
    sweep = sweep_of(clone)
    assert {(run.ranks, run.nodes, run.gpus) for run in sweep.runs} == {
        (1, 1, 1),
        (2, 1, 2),
        (4, 2, 4),
    }
    for run in sweep.runs:
        lines = lines_of(sweep, run)
        assert sorted(line[2] for line in lines) == [str(rank) for rank in range(run.ranks)]
        assert len({line[1] for line in lines}) == run.nodes
    # The probe saw the same, before.
    assert {k: len(seen["hosts"]) for k, seen in sweep.plan["places"].items()} == {
        "1": 1,
        "2": 1,
        "4": 2,
    }


def test_ranks_that_srun_tells_nothing_are_refused_before_the_first_run(cluster, clone):
    (clone / "mpi.py").write_text("from mpi4py import MPI\n")
    options = ["--mode", "strong", "--ranks", "1,2", "--launches", "1"]
    words = ["--export=ALL,SLURM_MPI_TYPE=none", "slurm/scaling.sh", *options, "--", "mpi.py"]
    job = cluster.sbatch(*words, cwd=clone)
    output = finish(cluster, job, "FAILED")
    assert cluster.show(job)[0]["ExitCode"] == "2:0"
    assert "srun does not tell the mpi4py of" in output
    assert "which rank it is" in output and "export SLURM_MPI_TYPE=pmi2" in output
    assert not (clone / "results").exists()


# The job of `limited` waits for its time limit while this test runs.
@pytest.mark.long
@pytest.mark.usefixtures("limited")
def test_environment_of_the_login_node_left_behind(cluster, clone):
    (clone / "env.py").write_text("import os; print('[%s]' % os.environ['OMP_NUM_THREADS'])")
    options = ["--ranks", "2", "--threads", "2", "--launches", "1"]
    words = ["--export=NONE", "slurm/scaling.sh", *options, "--", "env.py"]
    finish(cluster, cluster.sbatch(*words, cwd=clone))
    sweep = sweep_of(clone)
    assert lines_of(sweep, sweep.runs[0]) == [[2], [2]]
    job = cluster.sbatch(
        "--export=NONE", "--ntasks-per-node=1", "slurm/job.sh", "env.py", cwd=clone
    )
    assert "OMP_NUM_THREADS" in finish(cluster, job, "FAILED")


@pytest.mark.long
@pytest.mark.parametrize("asked", ["--gpus-per-node=2", "--gres=gpu:2", ""])
def test_gpus_that_were_asked_for(cluster, clone, asked):
    options = ["--mode", "strong", "--launches", "1"]
    words = [*asked.split(), "slurm/scaling.sh", *options, "--", "show.py", *AWKWARD]
    finish(cluster, cluster.sbatch(*words, cwd=clone))
    sweep = sweep_of(clone)
    # A rank a GPU; else a rank a core, though an exclusive node comes with its GPUs.
    expected = {1: 1, 2: 2} if asked else {1: 0, 2: 0, 4: 0}
    assert {run.ranks: run.gpus for run in sweep.runs} == expected
    for run in sweep.runs:
        lines = lines_of(sweep, run)
        assert [line[0] for line in lines] == [AWKWARD] * run.ranks
        assert [line[4] for line in lines] == ["0,1" if asked else None] * run.ranks
    assert not (clone / "ran").exists()


@pytest.mark.long
def test_cancelled_and_submitted_again(cluster, clone):
    (clone / "slow.py").write_text(SLOW)
    options = ["--mode", "strong", "--ranks", "1,2", "--launches", "3"]
    words = ["slurm/scaling.sh", *options, "--", "slow.py"]
    first = cluster.sbatch(*words, cwd=clone)
    while len(before := [*clone.glob("results/*/runs/*/run.json")]) < 2:
        assert cluster.show(first)[0]["JobState"] in ("PENDING", "RUNNING")
    times = {path: path.stat().st_mtime_ns for path in before}
    cluster.cancel(first)
    (task,) = cluster.wait(first)
    assert (task["JobState"], task["Restarts"]) == ("CANCELLED", "0")
    assert 0 < len(sweep_of(clone).missing)
    output = finish(cluster, cluster.sbatch(*words, cwd=clone))
    sweep = sweep_of(clone)
    assert [run.outcome for run in sweep.runs] == [OK] * 6 and sweep.missing == []
    # What had succeeded was not run again.
    assert {path: path.stat().st_mtime_ns for path in before} == times
    assert f"going on with {sweep.folder.relative_to(clone)}" in output
    assert (sweep.folder / "report.html").exists()


def test_nodes_with_a_failing_and_a_cancelled_member(cluster, clone):
    (clone / "fails.py").write_text(FAILS)
    options = ["--mode", "strong", "--launches", "1"]
    # As long as the limit of the report's job, which has a lead of its own.
    asked = ["--no-requeue", "--signal=B:USR1@600"]
    words = ["1,2,4", *asked, "--", *options, "--", "fails.py", *AWKWARD]
    env = {"SIGNAL_LEAD": "600"}
    shown = cluster.run("bash", "slurm/scaling_nodes.sh", *words, cwd=clone, env=env).stdout
    one, two, four, report = map(int, re.findall(r"\d+", shown)[:4])
    # Three nodes are busy: it waits.
    cluster.cancel(four)
    finish(cluster, one)
    finish(cluster, two, "FAILED")
    output = finish(cluster, report)
    sweep = sweep_of(clone)
    assert {(run.ranks, run.nodes, run.outcome) for run in sweep.runs} == {
        (4, 1, "ok"),
        (8, 2, "failed"),
    }
    assert sweep.missing == ["nodes-4: nothing was measured there"]
    for run in sweep.runs:
        assert lines_of(sweep, run) == [AWKWARD] * run.ranks
    page = (sweep.folder / "report.html").read_text()
    for text in (output, page):
        assert "nodes-4: nothing was measured there" in text and "exit status 1" in text
    assert not (clone / "ran").exists()


@pytest.mark.long
def test_nodes_with_a_member_that_is_put_back(cluster, clone):
    (clone / "until.sh").write_text(UNTIL)
    words = ["1,2", "--", "--mode=strong", "--launches=1", "--", "bash", "until.sh"]
    shown = cluster.run("bash", "slurm/scaling_nodes.sh", *words, cwd=clone).stdout
    one, two, report = map(int, re.findall(r"\d+", shown)[:3])
    tell_out_of_time(cluster, one, clone / f"started-{one}")
    node = cluster.show(one)[0]["NodeList"]
    cluster.wait(one, states={"PENDING"})
    cluster.run("scontrol", "hold", one)
    (clone / "go").touch()
    finish(cluster, two)
    # Longer than it takes Slurm to start what waits for nothing.
    time.sleep(2)
    (waiting,) = cluster.show(report)
    assert (waiting["JobState"], waiting["Reason"]) == ("PENDING", "Dependency")
    cluster.run("scontrol", "update", f"jobid={one}", f"excnodelist={node}")
    cluster.run("scontrol", "release", one)
    log = finish(cluster, one)
    (again,) = cluster.show(one)
    assert again["NodeList"] != node and again["Restarts"] == "1"
    folder = re.search(r"results/scaling_nodes-\w+", shown)[0]
    assert log.count("out of time; the same command goes on with this sweep") == 1
    assert log.count(f"going on with {folder}/nodes-1\n") == 1
    assert "8 ranks" in finish(cluster, report)
    sweep = sweep_of(clone)
    assert {(run.nodes, run.outcome) for run in sweep.runs} == {(1, OK), (2, OK)}
    assert len(sweep.runs) == 2 and sweep.missing == []


def test_a_sweep_that_may_not_be_put_back_says_what_is_safe(cluster, clone):
    (clone / "never.sh").write_text(NEVER)
    words = ["--no-requeue", "slurm/scaling.sh", "--ranks=1", "--launches=1", "--", "bash"]
    job = cluster.sbatch(*words, "never.sh", cwd=clone)
    tell_out_of_time(cluster, job, clone / "started-0")
    output = finish(cluster, job, "FAILED")
    (task,) = cluster.show(job)
    assert (task["ExitCode"], task["Restarts"]) == ("75:0", "0")
    assert re.fullmatch(
        r"error: the job is not put back \(Requested operation .*\): its sweep is safe, and the "
        "same sbatch command goes on from there",
        output.splitlines()[-1],
    )


@pytest.mark.long
def test_put_back_without_progress_it_fails(cluster, clone):
    (clone / "never.sh").write_text(NEVER)
    words = ["slurm/scaling.sh", "--ranks=1", "--launches=2", "--", "bash", "never.sh"]
    job = cluster.sbatch(*words, cwd=clone)
    tell_out_of_time(cluster, job, clone / "started-0")
    tell_out_of_time(cluster, job, clone / "started-1")
    output = finish(cluster, job, "FAILED")
    (task,) = cluster.show(job)
    assert (task["ExitCode"], task["Restarts"]) == ("1:0", "1")
    assert output.count("out of time; the same command goes on with this sweep") == 1
    assert output.count("no launch was finished since the restart") == 1
    assert sweep_of(clone).runs == []


@pytest.mark.long
def test_time_limit(cluster, limited):
    job, clone = limited
    output = finish(cluster, job)
    assert cluster.show(job)[0]["Restarts"] == "1"
    # One run was ended, and is run again; the one that had succeeded is not.
    assert (clone / "started").read_text().split() == ["0", "0", "1", "1", "1"]
    sweep = sweep_of(clone)
    assert [run.outcome for run in sweep.runs] == [OK] * 4 and sweep.missing == []
    lines = [re.sub(r"[\d.]+ s(, .*)?$", "S", line) for line in output.splitlines()]
    folder = sweep.folder.relative_to(clone)
    kept = ("[", "out of time", "going on", "1 of", "The report", "sweep")
    assert [line for line in lines if line.startswith(kept)] == [
        "[1/4] strong, 1 rank, launch 1: S",
        "out of time; the same command goes on with this sweep",
        f"going on with {folder}",
        "1 of 4 launches are done already",
        "[2/4] strong, 1 rank, launch 2: S",
        "[3/4] strong, 1 rank, launch 3: S",
        "[4/4] strong, 1 rank, launch 4: S",
        f"The report is in {folder}",
        f"sweep: {folder}",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage: bash slurm/scaling_nodes.sh"),
        (["0,1"], "usage: bash slurm/scaling_nodes.sh"),
        (["1,2", "jobs/sum_squares.py"], "usage: bash slurm/scaling_nodes.sh"),
        (["1,9"], "Node count specification invalid"),
    ],
)
def test_nodes_refuses(cluster, clone, words, message):
    jobs = cluster.run("squeue", "--noheader").stdout
    done = cluster.run("bash", "slurm/scaling_nodes.sh", *words, cwd=clone, check=False)
    assert done.returncode in (1, 2) and message in done.stderr
    assert cluster.run("squeue", "--noheader", "--states=PENDING,RUNNING").stdout == jobs


@pytest.mark.parametrize(
    ("asked", "why", "nodes", "cores"),
    [
        (["--exclusive"], "OverSubscribe=NO", 1, 4),
        (["--ntasks=4"], "every CPU of the nodes is allocated", 1, 4),
        (["--ntasks=2"], "", 0.5, 2),
    ],
)
def test_what_is_billed_is_what_slurm_says(cluster, clone, asked, why, nodes, cores):
    script = clone / "slurm" / "scaling.sh"
    shared = re.sub("#SBATCH --(exclusive|mem)", r"# --\1", script.read_text())
    script.write_text(shared)
    options = ["--mode=strong", "--ranks=2", "--launches=1", "--charge=600 CU per node-hour"]
    job = cluster.sbatch(*asked, "slurm/scaling.sh", *options, "--", "sleep", "0", cwd=clone)
    output = finish(cluster, job)
    sweep = sweep_of(clone)
    told = {"cores_per_node": 4, "gpus_per_node": 2, "billing": str(cores)}
    assert sweep.plan["billing"] == {"whole_nodes": why, **told}
    (row,) = csv.DictReader((sweep.folder / "scaling.csv").read_text().splitlines())
    hours = sweep.runs[0].process_seconds / 3600
    assert float(row["node_hours"]) == pytest.approx(nodes * hours)
    assert float(row["core_hours"]) == pytest.approx(cores * hours)
    assert float(row["charge"]) == pytest.approx(600 * nodes * hours)
    assert ("Whole nodes are billed" in (sweep.folder / "scaling.md").read_text()) == bool(why)
    assert "node-hours" in output and "CU" in output
