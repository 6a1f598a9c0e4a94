"""The templates as they are, submitted to a real Slurm."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from rankwise.disk import record
from tests.cases import long

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "slurm").glob("*.sh"))
SUM = ["jobs/sum_squares.py", "--variant", "numpy", "--n", "1e5"]
# What would show if any of them went through a shell once more.
AWKWARD = [
    "two words",
    "it's",
    'say "so"',
    "$(touch ran)",
    "`touch ran`",
    "a;touch ran",
    "*",
    "\\n",
]

pytestmark = pytest.mark.slurm


@pytest.fixture
def submit(cluster, clone):
    """Return a function that submits a job, waits for its end, and returns it and its output."""

    def run(*words, cwd=clone, env=None):
        job = cluster.sbatch(*words, cwd=cwd, env=env)
        tasks = cluster.wait(job)
        return tasks, [Path(task["StdOut"]).read_text() for task in tasks]

    return run


def shown(output):
    """Return what ``show.py`` printed, by rank."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
    return sorted(lines, key=lambda line: int(line[2]))


def test_shellcheck_finds_nothing():
    if shutil.which("shellcheck") is None:
        pytest.skip("not installed: shellcheck")
    scripts = [*TEMPLATES, ROOT / "tests" / "slurm" / "cluster.sh", ROOT / ".ci" / "run"]
    assert len(scripts) == 8
    # From the root: the scripts say where what they source is, seen from there.
    command = ["shellcheck", "--external-sources", *map(str, scripts)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("template", ["job.sh", "array.sh"])
def test_what_a_run_that_can_go_on_needs_of_slurm(template):
    script = (ROOT / "slurm" / template).read_text()
    asked = re.findall(r"^#SBATCH --(\S+)", script, re.MULTILINE)
    # Without B:, since the ranks are to know of it; each start adds to one log.
    assert {"signal=USR1@120", "requeue", "open-mode=append"} <= set(asked)
    # What caught SIGTERM and then asked for a restart would bring back a job that was cancelled.
    assert not re.search(r"^[^#]*\btrap\b", script, re.MULTILINE)


@pytest.mark.parametrize("template", ["job.sh", "array.sh", "scaling.sh"])
def test_the_lead_is_that_of_the_signal(template):
    lines = r"^#SBATCH --signal=\S*USR1@(\d+) .*\n(export )?SIGNAL_LEAD=\$\{SIGNAL_LEAD:-\1\}"
    assert re.search(lines, (ROOT / "slurm" / template).read_text(), re.MULTILINE)


def test_job_on_two_nodes(submit, clone):
    tasks, output = submit("--nodes=2", "slurm/job.sh", *SUM, "--output", "out.h5")
    assert tasks[0]["JobState"] == "COMPLETED", output
    found = record.read(clone / "out.h5")
    assert (found.attributes["ranks"], found.attributes["nodes"]) == (8, 2)
    assert len({rank["host"] for rank in found.ranks}) == 2


@pytest.mark.long
def test_preflight_on_two_nodes(submit, clone):
    (clone / "out").mkdir()
    words = ["--nodes=2", "--ntasks=4", "slurm/job.sh", "jobs/preflight.py"]
    tasks, (output,) = submit(*words, "--output", "out/p.h5")
    assert tasks[0]["JobState"] == "COMPLETED", output
    hosts = {line.split()[1] for line in output.splitlines() if line.endswith("host")}
    assert len(hosts) == 2 and all(host.startswith("node") for host in hosts)
    assert re.search(r"  (OK|warning) +messages +in a node: [\d.]+ us, [\d.]+ GB/s", output)
    assert re.search(r"  (OK|warning) +messages +between nodes: [\d.]+ us, [\d.]+ GB/s", output)
    results = record.read(clone / "out" / "p.h5").results
    assert results["read_bandwidth"].values.shape == (2,)
    assert results["latency_between"].values.shape == (1,)
    assert [path.name for path in (clone / "out").iterdir()] == ["p.h5"]


@pytest.mark.parametrize("job", ["heat.py", long("preflight.py"), long("sum_squares.py")])
def test_a_wrong_mpi_type_is_refused_once(submit, job):
    words = ["--nodes=2", "--ntasks=4", "--export=ALL,SLURM_MPI_TYPE=none", "slurm/job.sh"]
    tasks, (output,) = submit(*words, f"jobs/{job}")
    assert (tasks[0]["JobState"], tasks[0]["ExitCode"]) == ("FAILED", "2:0")
    assert output.count("error: srun started 4 copies of this program, each rank 0 of 1") == 1
    assert "or export SLURM_MPI_TYPE=pmi2 (this Slurm offers --mpi=" in output
    assert "offers --mpi=cray_shasta, none, pmi2, pmix)" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "start", ["mpirun -n 3 python", long("python"), long("mpirun -n 1 python")]
)
def test_what_a_batch_script_of_four_tasks_starts_itself_is_not_refused(cluster, clone, start):
    command = f". .venv/bin/activate; {start} {' '.join(SUM)} --output out.h5"
    job = cluster.sbatch("--ntasks=4", "--output=out.txt", f"--wrap={command}", cwd=clone)
    (task,) = cluster.wait(job)
    output = (clone / "out.txt").read_text()
    assert task["ExitCode"] == "0:0", output
    assert record.read(clone / "out.h5").attributes["ranks"] == (3 if "3" in start else 1)


@pytest.mark.long
def test_gpus_that_no_rank_sees_are_warned_of(submit, clone):
    words = ["--gpus-per-node=2", "slurm/job.sh", "jobs/sum_squares.py", "--n", "1e5"]
    tasks, (output,) = submit(*words, "--output", "out.h5")
    assert tasks[0]["JobState"] == "COMPLETED", output
    asked = "a GPU was asked for (CUDA_VISIBLE_DEVICES=0,1) and no rank sees one"
    assert output.count(asked) == 1
    assert any(asked in text for text in record.read(clone / "out.h5").attributes["warnings"])


def test_job_takes_cores_over_to_srun(submit):
    _, (output,) = submit("--ntasks-per-node=2", "--cpus-per-task=2", "slurm/job.sh", "show.py")
    # These nodes bind nothing to cores: what srun reads is all that can be seen.
    assert [line[3] for line in shown(output)] == ["2", "2"]


@pytest.mark.parametrize(
    "asked",
    [["--gpus-per-node=2"], ["--gpus-per-task=1"], ["--gres=gpu:2"], ["--gpus=4"]],
    ids=lambda asked: asked[0],
)
def test_ranks_see_all_gpus_of_their_node(submit, asked):
    shape = ["--nodes=2", "--ntasks-per-node=2", *asked]
    _, (output,) = submit(*shape, "slurm/job.sh", "show.py")
    assert [line[4] for line in shown(output)] == ["0,1"] * 4


def test_job_without_gpus_sees_none(submit):
    _, (output,) = submit("slurm/job.sh", "show.py")
    assert [line[4] for line in shown(output)] == [None] * 4


@pytest.mark.parametrize("template", ["job.sh", "array.sh"])
def test_arguments_arrive_as_given(submit, clone, template):
    (clone / "params.txt").write_text("last")
    line = {"job.sh": [], "array.sh": ["params.txt"]}[template]
    array = {"job.sh": [], "array.sh": ["--array=1"]}[template]
    words = [*array, "--ntasks-per-node=1", f"slurm/{template}", *line, "show.py", *AWKWARD]
    _, (output,) = submit(*words)
    expected = {"job.sh": AWKWARD, "array.sh": [*AWKWARD, "last"]}[template]
    assert [line[0] for line in shown(output)] == [expected]
    assert not (clone / "ran").exists()


def test_array_runs_one_line_a_task(submit, clone):
    lines = [shlex.join(AWKWARD), '--n 3 "two words"', "", r"a\ b\$c"]
    (clone / "params.txt").write_text("\n".join(lines))
    template = ["slurm/array.sh", "params.txt", "show.py", "--all"]
    tasks, outputs = submit("--array=1-4", "--ntasks-per-node=1", *template)
    found = {
        task["ArrayTaskId"]: shown(output)[0][0]
        for task, output in zip(tasks, outputs, strict=True)
    }
    assert found == {
        "1": ["--all", *AWKWARD],
        "2": ["--all", "--n", "3", "two words"],
        "3": ["--all"],
        "4": ["--all", "a b$c"],
    }
    assert not (clone / "ran").exists()


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        (["--array=3"], ["params.txt", "show.py"], "there is no line 3 in params.txt: it has 2"),
        (["--array=1"], ["absent.txt", "show.py"], "there is no line 1 in absent.txt"),
        (["--array=2"], ["params.txt", "show.py"], "unmatched double quote"),
        ([], ["params.txt", "show.py"], "usage: sbatch --array"),
        (["--array=1"], ["params.txt"], "usage: sbatch --array"),
    ],
)
def test_array_refuses(submit, clone, options, arguments, message):
    (clone / "params.txt").write_text('one\ntwo "words\n')
    tasks, (output,) = submit(*options, "slurm/array.sh", *arguments)
    assert (tasks[0]["JobState"], tasks[0]["ExitCode"]) == ("FAILED", "2:0")
    assert message in output and shown(output) == []


@pytest.mark.parametrize("template", ["job.sh", "array.sh", "scaling.sh"])
def test_submitted_from_elsewhere(submit, clone, template):
    elsewhere = clone.parent / "elsewhere"
    elsewhere.mkdir()
    array = ["--array=1"] if template == "array.sh" else []
    tasks, (output,) = submit(*array, clone / "slurm" / template, "x", "y", cwd=elsewhere)
    assert (tasks[0]["JobState"], tasks[0]["ExitCode"]) == ("FAILED", "2:0")
    assert output.startswith("error: no ") and output.count("\n") == 1
    assert "submit from the clone: cd CLONE && sbatch" in output and template in output


def test_usage_error_of_the_job_is_the_exit_code(submit):
    tasks, (output,) = submit("slurm/job.sh", "jobs/sum_squares.py", "--n", "none")
    assert (tasks[0]["JobState"], tasks[0]["ExitCode"]) == ("FAILED", "2:0")
    assert output.count("usage:") == 1


@pytest.mark.parametrize(
    ("template", "limit", "lead", "seconds"),
    [
        ("job.sh", "1", None, (60, 120)),
        ("job.sh", "2", None, (120, 120)),
        ("job.sh", "1-0", "86400", (86400, 86400)),
        ("array.sh", "1", None, (60, 120)),
        ("scaling.sh", "1", None, (60, 120)),
        ("scaling.sh", "3", "180", (180, 180)),
    ],
)
def test_a_limit_that_leaves_no_time_is_refused(submit, clone, template, limit, lead, seconds):
    (clone / "params.txt").write_text("started\n")
    words = {
        "job.sh": ["slurm/job.sh", "touch", "started"],
        "array.sh": ["--array=1", "slurm/array.sh", "params.txt", "touch"],
        "scaling.sh": ["slurm/scaling.sh", "--ranks=1", "--", "touch", "started"],
    }
    env = {"SIGNAL_LEAD": lead} if lead else {}
    tasks, (output,) = submit(f"--time={limit}", *words[template], env=env)
    assert (tasks[0]["JobState"], tasks[0]["ExitCode"]) == ("FAILED", "2:0")
    assert output == (
        "error: the time limit of {} s is not longer than the {} s before it at which the job is "
        "told to stop (SIGNAL_LEAD, set together with --signal): ask for more with "
        "sbatch --time\n".format(*seconds)
    )
    assert not (clone / "started").exists() and not (clone / "results").exists()


@pytest.mark.parametrize("lead", ["abc", "-5", "5 m", "1.5", "it's\n5"])
def test_a_lead_that_is_no_number_of_seconds_is_refused(submit, clone, lead):
    words = ["slurm/job.sh", "touch", "started"]
    tasks, (output,) = submit(*words, env={"SIGNAL_LEAD": lead})
    assert (tasks[0]["JobState"], tasks[0]["ExitCode"]) == ("FAILED", "2:0")
    assert output.startswith("error: SIGNAL_LEAD is ") and output.count("\n") == 1
    assert output.endswith(", and must be a whole number of seconds\n")
    assert not (clone / "started").exists()


def test_a_job_of_two_parts_has_the_limit_of_the_first(cluster, clone):
    words = ["--time=1", ":", "--time=5", "slurm/job.sh", "touch", "started"]
    parts = cluster.wait(cluster.sbatch("--output=out.txt", *words, cwd=clone))
    # The script runs in the first alone.
    assert len(parts) == 2 and parts[0]["ExitCode"] == "2:0"
    output = (clone / "out.txt").read_text()
    assert output.startswith("error: the time limit of 60 s is not longer than the 120 s before")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("limit", "lead"), [("3", None), ("1", "59"), ("UNLIMITED", None), ("1-0", None)]
)
def test_a_limit_that_leaves_time_is_not(submit, clone, limit, lead):
    env = {"SIGNAL_LEAD": lead} if lead else {}
    tasks, (output,) = submit(f"--time={limit}", "slurm/job.sh", "touch", "started", env=env)
    assert (tasks[0]["JobState"], output) == ("COMPLETED", "")
    assert (clone / "started").exists()


# Heat, told that time is up: before it starts, or in a step if it starts anew.
TOLD = """\
import rankwise.ranks.guard, os, runpy, signal, sys
from pathlib import Path
from kernels.heat import numpy_
quick, calls, new = numpy_.step, 0, not Path("c.h5").exists()

def step(u, out, r):
    global calls
    quick(u, out, r)
    calls += 1
    if calls == 50 and new:
        os.kill(os.getpid(), signal.SIGUSR1)

numpy_.step = step
if sys.argv.pop(1) == "before":
    os.kill(os.getpid(), signal.SIGUSR1)
sys.argv[0] = "jobs/heat.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def told(submit, clone):
    """Return a function that submits heat, which is told that time is up, on two ranks."""
    (clone / "kernels").symlink_to(ROOT / "kernels")
    (clone / "told.py").write_text(TOLD)
    heat = ["--variant=numpy", "--n=60", "--steps=600", "--output=r.h5", "--checkpoint=c.h5"]

    def run(when, *options):
        (task,), (output,) = submit(
            "--ntasks-per-node=2", *options, "slurm/job.sh", "told.py", when, *heat
        )
        return (task["JobState"], task["ExitCode"], task["Restarts"]), output

    return run


def test_a_job_that_does_no_step_is_not_put_back(told, clone):
    found, output = told("before")
    assert found == ("FAILED", "1:0", "0"), output
    assert output.count("heat.py: error: no step was done before SIGUSR1 came, so") == 1
    assert not (clone / "c.h5").exists()


def test_a_job_that_may_not_be_put_back_says_what_is_safe(told, clone):
    found, output = told("in a step", "--no-requeue")
    assert found == ("FAILED", "75:0", "0"), output
    (step,) = re.findall(r"stopped by SIGUSR1 after step (\d+)", output)
    (error,) = [line for line in output.splitlines() if line.startswith("error")]
    assert re.fullmatch(
        r"error: the job is not put back \(Requested operation .*\): its checkpoint is safe, and "
        "the same sbatch command goes on from there",
        error,
    )
    assert output.count("Requested operation") == 1
    found, output = told("in a step", "--no-requeue")
    assert found == ("COMPLETED", "0:0", "0"), output
    assert f"goes on after step {step} of c.h5" in output


@pytest.mark.long
def test_rank_that_dies_ends_the_job(submit, clone):
    (clone / "die.py").write_text(
        "import os, signal, time\n"
        "if os.environ['SLURM_PROCID'] == '1':\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(900)\n"
    )
    tasks, _ = submit("--nodes=2", "slurm/job.sh", "die.py")
    # `submit` gives up long before the other ranks would end by themselves.
    assert tasks[0]["JobState"] == "FAILED"
