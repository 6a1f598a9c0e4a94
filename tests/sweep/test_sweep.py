"""Sweeps of real programs, as a user runs them."""

import fcntl
import json
import math
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rankwise.disk.summary import summary
from rankwise.report.page import sweep_command
from rankwise.sweep import execute, outcome, plan, sweep
from rankwise.sweep.folder import FolderError, load
from tests.analysis import examples

JOB = Path(__file__).parents[2] / "jobs" / "sum_squares.py"
LIMIT = 100
SMALL = [str(JOB), "--n", "1e5", "--variant", "numpy"]
SAID = (
    "time: of the whole process, start-up included, if the program has no record or JSON line "
    "(see --seconds)\n"
)
STRONG = ["--mode", "strong"]
# A foreign MPI program: each rank knows its number and how many there are.
FOREIGN = """
import sys
from mpi4py import MPI
comm = MPI.COMM_WORLD
total = comm.allreduce(comm.rank)
if comm.rank == 0:
    print("ranks", comm.size, "of", sys.argv[1:])
"""


@pytest.fixture
def process(tmp_path):
    """Return a function that runs ``rankwise ...`` in a folder and in a process of its own."""

    def run(*words, env=None):
        return subprocess.run(
            [sys.executable, "-m", "rankwise", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
        )

    return run


def only_folder(tmp_path, program="*"):
    (folder,) = tmp_path.glob(f"results/{program}-scaling-*")
    return folder


def points(folder):
    return sorted((run.mode, run.ranks, run.launch) for run in load(folder).runs)


def grid(modes, ranks, launches):
    return sorted((m, r, k) for m in modes for r in ranks for k in range(1, launches + 1))


def test_job_in_both_modes(process, tmp_path):
    words = ["--ranks", "1,2", "--mode", "both", "--launches", "1", "--seed", "3", "--", *SMALL]
    done = process("sweep", *words, "--repeats", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, "sum_squares")
    assert done.stdout.splitlines()[-1] == f"sweep: {folder.relative_to(tmp_path)}"
    assert points(folder) == grid(("strong", "weak"), (1, 2), 1)
    whole = load(folder)
    assert whole.missing == []
    assert whole.plan["seed"] == 3
    for run in whole.runs:
        assert (run.outcome, run.source, run.threads, run.nodes) == ("ok", "record", 1, 1)
        assert 0 < run.seconds < run.process_seconds
        assert run.work == (1e5 * run.ranks if run.mode == "weak" else 1e5)
        assert {len(of_ranks) for of_ranks in run.phases.values()} == {run.ranks}
        assert {"kernel", "reduce", "other"} < set(run.phases)
        assert not {"import", "init", "write"} & set(run.phases)
        assert run.facts["variant"] == "numpy"
        assert all(0 <= check["error"] <= check["bound"] for check in run.facts["checks"])
        assert "block sums: rounding of both" in [check["why"] for check in run.facts["checks"]]
    # The same problem has the same bits, whatever the ranks.
    strong = {run.facts["results_sha256"] for run in whole.runs if run.mode == "strong"}
    assert len(strong) == 1


def test_folder_that_holds_a_limit_alone_is_fresh(rankwise, tmp_path):
    (tmp_path / "s").mkdir()
    examples.write_limit(tmp_path / "s" / "preflight.h5", read=(1e6,))
    words = ["--folder", "s", "--ranks", "1,2", "--launches", "1", "--report", *STRONG]
    done = rankwise("sweep", *words, "--", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The memory of a node delivers 1000000 GB/s reading" in " ".join(done.stdout.split())
    whole = load(tmp_path / "s")
    assert whole.limit.read_gbs == 1e6
    for run in whole.runs:
        assert run.facts["kernel_bytes"] > 0
        assert isinstance(run.facts["warnings"], list)


def test_facts_of_a_record():
    told = ["2 threads on 1 core of vm"]
    run = outcome.of_record(examples.run(), examples.record(warnings=told))
    assert run.facts["warnings"] == told
    assert (run.facts["kernel_bytes"], run.facts["kernel_gbs"]) == (8e9, 8.0)
    assert run.facts["checks"] == [{"why": "rounding", "error": 0.0, "bound": 0.0}]
    assert run.facts["peak_memory_rank"] > 0 and run.facts["peak_memory_node"] > 0


def test_facts_of_a_record_without_a_kernel_phase(tmp_path):
    record = examples.record()
    run = outcome.of_record(examples.run(), replace(record, timings=record.timings * math.nan))
    assert "kernel_gbs" not in run.facts
    # Nor is it taken for damage when it is read back.
    examples.write_sweep(tmp_path, examples.plan([1], launches=1), [replace(run, seconds=1.0)])
    assert load(tmp_path).runs[0].facts == run.facts


def test_facts_of_a_record_with_a_queue(tmp_path):
    record = replace(examples.record(ranks=2), balance=examples.balance([1.0, 3.0]))
    run = outcome.of_record(examples.run(ranks=2), record)
    assert run.facts["queue"] == summary(record)["queue"]
    assert run.facts["queue"]["busy"] == [1, 3]
    examples.write_sweep(tmp_path, examples.plan([2], launches=1), [run])
    assert load(tmp_path).runs == [run]
    assert "queue" not in outcome.of_record(examples.run(), examples.record()).facts


def test_an_answer_that_nobody_checked_is_no_measurement():
    why = "the run has checked nothing"
    run = outcome.of_record(examples.run(), examples.record(unchecked=why))
    assert (run.outcome, run.reason) == ("failed", why)


def test_time_outside_of_every_phase_counts(rankwise, tmp_path):
    (tmp_path / "kernels").symlink_to(JOB.parents[1] / "kernels")
    line = "        distribute(source)\n"
    text = JOB.read_text()
    assert line in text
    slow = text.replace(line, f"{line}        __import__('time').sleep(0.2)\n")
    (tmp_path / "slow.py").write_text(slow)
    words = ["--ranks", "2", "--launches", "1", *STRONG, "--", "slow.py", *SMALL[1:]]
    done = rankwise("sweep", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = load(only_folder(tmp_path)).runs
    assert 0.2 < run.seconds < 1
    assert min(run.phases["other"]) > 0.2
    assert max(run.phases["kernel"]) < 0.1


def test_a_record_of_a_part_is_no_measurement():
    run = outcome.of_record(examples.run(), examples.record(first_step=7, restarts=1))
    assert run.outcome == "failed"
    assert run.reason == "it went on from a checkpoint, so its seconds are those of a part"


def test_lines_of_a_batch_log_tell_the_time_left(rankwise):
    done = rankwise("sweep", "--ranks", "1", "--launches", "3", "--", "sleep", "0.01")
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    for k in (1, 2):
        assert re.fullmatch(
            rf"\[{k}/3\] strong, 1 rank, launch {k}: [\d.]+ s, \d+ (s|min) left", lines[k - 1]
        )
    assert re.fullmatch(r"\[3/3\] strong, 1 rank, launch 3: [\d.]+ s", lines[2])


def test_bar_on_a_terminal(tmp_path):
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = [
        sys.executable,
        "-m",
        "rankwise",
        "sweep",
        "--ranks",
        "1",
        "--launches",
        "2",
        "--",
        "true",
    ]
    process = subprocess.Popen(words, stdout=child, stderr=child, cwd=tmp_path, close_fds=True)
    os.close(child)
    shown = b""
    while select.select([parent], [], [], LIMIT)[0]:
        try:
            shown += os.read(parent, 4096)
        except OSError:
            break  # the other side has closed it
    os.close(parent)
    assert process.wait(LIMIT) == 0
    lines = shown.decode().replace("\r\n", "\n").split("\n")
    assert lines[0].startswith("time: ") and lines[1].startswith("launcher: ")
    bar = [part.strip() for part in lines[2].split("\r") if part.strip()]
    assert bar[0] == "launch 0 of 2, 0 %"
    assert re.fullmatch(r"launch 1 of 2, 50 %, \d s left", bar[1])
    # The line goes, for what is said at the end.
    assert len(bar) == 3 and bar[2].startswith("sweep: results/true-scaling-")


def test_failures_are_told_above_the_bar(tmp_path):
    parent, child = pty.openpty()
    program = ["--ranks", "1,2", "--launches", "1", "--seed", "1", "--", "sh", "-c", "exit 3"]
    words = [sys.executable, "-m", "rankwise", "sweep", *program]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=child, cwd=tmp_path, text=True)
    os.close(child)
    said = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 1
    shown = os.read(parent, 4096).decode()
    os.close(parent)
    assert len(re.findall(r"^strong, \d ranks?, launch 1: failed, exit status 3$", said, re.M)) == 2
    # Taken off before each failure, and shown again.
    assert len(re.findall(r"\rlaunch 1 of 2, 50 %, \d s left", shown)) == 2
    assert shown.endswith("\r")


def test_foreign_mpi_program(process, tmp_path):
    (tmp_path / "p.py").write_text(FOREIGN)
    words = ["--ranks", "1,2", "--launches", "1", "--", "./p.py", "{ranks}", "a b;$(touch x)"]
    assert process("sweep", *words).returncode == 0
    folder = only_folder(tmp_path)
    for run in load(folder).runs:
        output = folder / "runs" / f"strong-{run.ranks}-1" / "output.txt"
        assert output.read_text() == f"ranks {run.ranks} of ['{run.ranks}', 'a b;$(touch x)']\n"
        assert (run.source, run.seconds) == ("process", run.process_seconds)
        assert (run.work, run.phases) == (None, {})
        assert run.facts.keys() - {"usage"} == {"first_line"}
    assert not (tmp_path / "x").exists()


def test_seconds_that_a_program_prints(rankwise, tmp_path):
    text = 'echo {"seconds": 9}; echo \'{"a": {}, "seconds": 0.125}\'; echo end {; echo "{}"'
    rankwise("sweep", "--ranks", "1", "--launches", "1", "--", "sh", "-c", text)
    (run,) = load(only_folder(tmp_path)).runs
    assert (run.outcome, run.source, run.seconds) == ("ok", "json", 0.125)


@pytest.mark.parametrize("seconds", ["0", "-1", "NaN", "Infinity"])
def test_impossible_seconds(rankwise, tmp_path, seconds):
    text = f"echo '{{\"seconds\": {seconds}}}'"
    done = rankwise("sweep", "--ranks", "1", "--launches", "1", "--", "sh", "-c", text)
    assert done.returncode == 1
    (run,) = load(only_folder(tmp_path)).runs
    assert (run.outcome, run.seconds) == ("failed", None)
    assert run.reason.startswith("it says that its time is ")


def test_whole_process_seconds_are_not_rounded(tmp_path):
    # subprocess.wait with a time limit looks every 50 ms, and would see the end of this at 0.313 s.
    tries = range(8)
    words = ["sleep", "0.27"]
    found = [execute.execute(words, dict(os.environ), tmp_path / "o", 10).seconds for _ in tries]
    assert 0.27 < min(found) < 0.313


def test_failed_timed_out_and_killed_runs_are_recorded(rankwise, tmp_path):
    script = tmp_path / "p.sh"
    script.write_text(
        "[ ! -e mended ] || exit 0\necho before $PMI_SIZE >&2\n"
        "case $PMI_SIZE in 1) ;; 2) exit 3 ;; 3) kill -KILL $$ ;; 4) sleep 60 ;; esac\n"
    )
    words = ["--ranks", "1,2,3,4", "--launches", "1", "--timeout", "4", "--", "sh", str(script)]
    done = rankwise("sweep", *words)
    assert done.returncode == 1
    folder = only_folder(tmp_path)
    runs = {run.ranks: run for run in load(folder).runs}
    assert [runs[k].outcome for k in (1, 2, 4)] == ["ok", "failed", "timed out"]
    assert runs[2].reason == "exit status 3"
    # MPICH's launcher makes the signal an exit status, and its output tells; or it fails itself.
    assert runs[3].outcome in ("failed", "killed")
    told = runs[3].reason + (folder / "runs" / "strong-3-1" / "output.txt").read_text()
    assert "9" in told or "assert (!closed) failed" in told
    assert "before 4" in runs[4].output_end
    assert all(runs[k].seconds is None for k in (2, 3, 4))
    assert "failed, exit status 3: before 2" in done.stdout
    # Completed runs, failed ones too, are not repeated; with --retry-failed they are, and stay.
    assert (
        rankwise("sweep", "--folder", folder, *words).stdout.count(f"going on with {folder}") == 1
    )
    assert len(load(folder).runs) == 4
    (tmp_path / "mended").touch()
    done = rankwise("sweep", "--retry-failed", *words)
    assert done.returncode == 0, done.stdout
    runs = load(folder).runs
    assert len(runs) == 7
    assert sorted(run.ranks for run in runs if run.outcome == "ok") == [1, 2, 3, 4]
    assert only_folder(tmp_path) == folder


def test_direct_kill_is_told_by_name(tmp_path):
    words = ["sh", "-c", "kill -KILL $$"]
    ended = execute.execute(words, dict(os.environ), tmp_path / "o.txt", 10)
    assert (ended.outcome, ended.reason) == ("killed", "sh was killed by SIGKILL")


@pytest.mark.parametrize("given", ["file", "none"])
def test_an_input_that_no_launch_gets_is_warned_of(tmp_path, given):
    (tmp_path / "in").write_text("3\n")
    command = [sys.executable, "-m", "rankwise", "sweep", "--ranks", "1", "--launches", "1"]
    command += ["--launcher", "env N={ranks}", "--cores", "1", "--", "cat"]
    with (tmp_path / "in").open() as file:
        source = file if given == "file" else subprocess.DEVNULL
        options = {"capture_output": True, "text": True, "timeout": 60, "cwd": tmp_path}
        done = subprocess.run(command, stdin=source, **options)
    assert done.returncode == 0, done.stderr
    assert ("warning: standard input is a file" in done.stdout) == (given == "file")


@pytest.mark.parametrize("failures", [2, 3])
def test_a_launcher_that_fails_itself_is_started_again(rankwise, tmp_path, failures):
    # The probe counts as one start for each that fails, as the program does.
    launcher = tmp_path / "l.sh"
    launcher.write_text(
        'n=$(echo "$@" | grep -c probe); echo $n >> starts\n'
        f'[ $(grep -c $n starts) -gt {failures} ] || kill -PIPE $$\nexec "$@"\n'
    )
    words = ["--ranks", "1", "--launches", "1", "--launcher", f"sh {launcher} env N={{ranks}}"]
    done = rankwise("sweep", *words, "--", "sh", "-c", "echo here")
    (run,) = load(only_folder(tmp_path)).runs
    assert done.stdout.count("strong-1-1: sh was killed by SIGPIPE: once more") == 2
    # Three of the program, and as many of the probe, which a warning is about where it never ran.
    assert (tmp_path / "starts").read_text().split().count("0") == 3
    assert (tmp_path / "starts").read_text().split().count("1") == 3
    assert ("did not start a small script" in done.stdout + done.stderr) == (failures == 3)
    if failures == 2:
        assert (done.returncode, run.outcome, run.facts["first_line"]) == (0, "ok", "here")
    else:
        assert (done.returncode, run.outcome) == (1, "failed")
        assert run.reason == "given up after 3 starts: sh was killed by SIGPIPE"


@pytest.mark.parametrize("number", ["KILL", "PIPE"])
def test_a_program_that_is_killed_is_not_started_again(rankwise, tmp_path, number):
    # By KILL perhaps because it takes more memory than there is. Behind env there is no launcher.
    words = ["--ranks", "1", "--launches", "1", "--launcher", "env N={ranks}"]
    done = rankwise("sweep", *words, "--", "sh", "-c", f"echo x >> starts; kill -{number} $$")
    (run,) = load(only_folder(tmp_path)).runs
    assert (done.returncode, run.outcome) == (1, "killed")
    assert (tmp_path / "starts").read_text() == "x\n"


def alive(mark):
    """Tell whether a process with these words in its command line lives, zombies aside."""
    return subprocess.run(["pgrep", "-f", str(mark)], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("timeout", [10, 0.5])
def test_nothing_is_left_of_a_run(tmp_path, timeout):
    # One child in the background that outlives its parent, one that ignores being asked to end.
    sleep = tmp_path / "sleep"
    sleep.symlink_to("/usr/bin/sleep")
    rest = "exit 0" if timeout == 10 else "trap 'exit 0' TERM; wait"
    text = f"(trap '' TERM; {sleep} 47) & {sleep} 48 & {rest}"
    ended = execute.execute(["sh", "-c", text], dict(os.environ), tmp_path / "o.txt", timeout)
    assert ended.outcome == ("ok" if timeout == 10 else "timed out")
    # What is killed takes a moment to go where the machine is busy; by itself it goes much later.
    end = time.monotonic() + 5
    while alive(f"{sleep} 4") and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(f"{sleep} 4")


def test_too_much_output_ends_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "_MOST_OUTPUT", 2**20)
    ended = execute.execute(["yes"], dict(os.environ), tmp_path / "o.txt", 60)
    assert (ended.outcome, ended.reason) == ("failed", "it printed more than 1 MiB")
    assert ended.seconds < 30


def test_programs_that_each_rank_runs_alone_are_told(rankwise, tmp_path):
    text = "echo '{\"seconds\": 0.5}'"
    done = rankwise(
        "sweep", "--ranks", "1,2", "--launches", "1", "--report", "--", "sh", "-c", text
    )
    assert done.returncode == 0
    assert "each may be running the whole program" in " ".join(done.stdout.split())
    # Rank 0 alone prints, twice: nothing to tell.
    text = "if [ $PMI_RANK = 0 ]; then " + 2 * (text + "; ") + "fi"
    done = rankwise(
        "sweep", "--ranks", "1,2", "--launches", "1", "--report", "--", "sh", "-c", text
    )
    assert "may be running" not in " ".join(done.stdout.split())


def test_sweep_under_nohup_outlives_the_terminal(tmp_path):
    words = ["nohup", sys.executable, "-m", "rankwise", "sweep", "--ranks", "1", "--launches", "3"]
    process = subprocess.Popen(
        [*words, "--", "sleep", "0.2"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.wait(LIMIT) == 0
    process.stdout.close()
    assert len(load(only_folder(tmp_path)).runs) == 3


def test_lost_terminal_interrupts(tmp_path):
    words = [sys.executable, "-m", "rankwise", "sweep", "--ranks", "1", "--", "sleep", "9.25"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not alive("^sleep 9.25"):
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == 129
    assert "the same command goes on" in process.stderr.read()
    process.stderr.close()
    assert not alive("^sleep 9.25")


def test_weak_formula_is_tried_at_every_point_before_anything_runs(rankwise, tmp_path):
    words = ["--weak", "n=3-ranks", "--ranks", "1,2,4", "--mode", "weak", "--", "true", "{n}"]
    done = rankwise("sweep", *words)
    assert done.returncode == 2
    assert "at 4 ranks" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_command_of_the_report_repeats_the_sweep(rankwise, tmp_path):
    words = ["--launcher", "env X={ranks}", "--cores", "64", "--ranks", "1,64", "--launches", "1"]
    rankwise("sweep", *words, "--folder", "s", "--", "true")
    said = sweep_command(load(tmp_path / "s"))
    repeated = shlex.split(said.partition("rankwise ")[2])
    repeated.insert(1, "--dry-run")
    done = rankwise(*repeated)
    assert done.returncode == 0, done.stderr
    assert "env X=64 true" in done.stdout


def test_sweep_over_several_nodes(rankwise, tmp_path):
    mpirun = Path(sys.executable).parent / "mpirun"
    words = ["--launcher", f"{mpirun} -n {{ranks}} -env NODES {{nodes}}", "--cores", "5"]
    words += ["--cores-per-node", "2", "--ranks", "1,2,3,5", "--launches", "1"]
    print_nodes = """echo '{"seconds": 1, "work": '$NODES'}'"""
    words += ["--folder", "s", "--report", "--", "sh", "-c", print_nodes]
    shown = rankwise("sweep", "--dry-run", *words).stdout
    assert re.findall(r"-n (\d) -env NODES (\d)", shown) == [
        ("1", "1"),
        ("2", "1"),
        ("3", "2"),
        ("5", "3"),
    ]
    done = rankwise("sweep", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = load(tmp_path / "s")
    assert {run.ranks: run.work for run in sweep.runs} == {1: 1, 2: 1, 3: 2, 5: 3}
    # The nodes that the ranks were seen on count: here it is one.
    assert {run.nodes for run in sweep.runs} == {1}
    assert (sweep.plan["cores"], sweep.plan["cores_per_node"]) == ([2, 2, 1], 2)
    assert "\n5 cores, as given with --cores, 2 cores per node, started on " in done.stdout
    assert "different kinds" not in done.stdout
    assert " --cores 5 --cores-per-node 2 " in sweep_command(sweep)


def test_nodes_of_a_launcher_that_starts_no_ranks_itself(rankwise, tmp_path):
    words = ["--launcher", "env -u X N={ranks}", "--cores", "4", "--cores-per-node", "2"]
    rankwise("sweep", *words, "--ranks", "2,4", "--launches", "1", "--folder", "s", "--", "true")
    assert {run.ranks: (run.nodes, run.cores) for run in load(tmp_path / "s").runs} == {
        2: (1, 2),
        4: (2, 4),
    }


def test_what_a_node_has_is_no_other_sweep(rankwise, tmp_path):
    words = ["--ranks", "1", "--launches", "1", "--folder", "s", "--", "true"]
    assert rankwise("sweep", *words).returncode == 0
    assert load(tmp_path / "s").plan["cores_per_node"] is None
    # The bill changes, and nothing that was measured.
    done = rankwise("sweep", "--cores-per-node", "64", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "going on with s" in done.stdout
    plan = load(tmp_path / "s").plan
    assert (plan["cores_per_node"], len(plan["cores"])) == (64, 1)


def test_gpus_of_several_nodes(rankwise, tmp_path):
    words = ["--dry-run", "--launcher", "env X={ranks}", "--cores", "8", "--gpus-per-rank", "1"]
    env, program = {"CUDA_VISIBLE_DEVICES": "0,1"}, ["--ranks", "8", "--", "true"]
    done = rankwise("sweep", *words, *program, env=env)
    assert done.returncode == 2
    assert "do not fit on 8 cores and 2 GPUs a node, 1 node: say --cores and " in done.stderr
    done = rankwise("sweep", *words, "--cores-per-node", "2", *program, env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_program_of_the_same_name_is_another_sweep(rankwise, tmp_path):
    program = tmp_path / "p.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    words = ["sweep", "--ranks", "1", "--launches", "2", "--", "./p.sh"]
    rankwise(*words)
    folder = only_folder(tmp_path)
    (folder / "runs/strong-1-2/run.json").unlink()
    program.write_text("#!/bin/sh\ntrue\n")
    assert "going on" not in rankwise(*words).stdout
    done = rankwise("sweep", "--folder", folder, *words[1:])
    assert done.returncode == 2
    assert "it differs in p.sh" in done.stderr


def test_gpus_that_nobody_used_are_a_failure(rankwise, tmp_path):
    words = ["--ranks", "1", "--launches", "1", "--gpus-per-rank", "1", "--", *SMALL]
    done = rankwise("sweep", *STRONG, *words, env={"CUDA_VISIBLE_DEVICES": "0"})
    assert done.returncode == 1
    assert "GPUs were asked for, and the record says that none was used" in done.stdout
    # The numbers of a run that is not what it should be are not among those that count.
    assert [run.seconds for run in load(only_folder(tmp_path)).runs] == [None]


def test_file_that_cannot_be_written_is_one_sentence(tmp_path):
    # The limit on the size of a file, in units of 1024 bytes: what a full disk does, without root.
    words = f"{sys.executable} -m rankwise sweep --ranks 1 --launches 99 --folder s -- true"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 1; exec {words}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 1
    assert done.stderr == "rankwise sweep: error: [Errno 27] File too large\n"
    assert [path.name for path in (tmp_path / "s").iterdir()] == [".lock"]


def test_output_that_nobody_reads_any_more(tmp_path):
    words = f"{sys.executable} -m rankwise sweep --ranks 1 --launches 3 -- true | head -1"
    done = subprocess.run(
        ["bash", "-c", words], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_gives_up_when_nothing_works(rankwise, tmp_path):
    done = rankwise("sweep", "--ranks", "1,2", "--launches", "4", "--", "sh", "-c", "exit 1 # none")
    assert done.returncode == 1
    assert "none of the first 3 launches succeeded" in done.stdout
    assert len(load(only_folder(tmp_path)).runs) == 3


def test_a_command_that_a_job_refuses_is_tried_once(rankwise, tmp_path):
    done = rankwise("sweep", "--ranks", "1,2", "--launches", "2", "--", JOB, "--m", "5")
    assert done.returncode == 1
    assert "the first launch was refused; the rest is not tried" in done.stdout
    assert "unrecognized arguments: --m 5" in done.stdout
    assert len(list(only_folder(tmp_path).glob("runs/*"))) == 1


def test_job_that_says_no(rankwise, tmp_path):
    done = rankwise("sweep", *STRONG, "--ranks", "1", "--launches", "1", "--", JOB, "--n", "x")
    assert done.returncode == 1
    assert "exit status 2: sum_squares.py: error: argument --n: 'x' is not a number" in done.stdout


@pytest.mark.parametrize(
    ("ranks", "said"), [(1, "1 rank"), (2, "2 ranks"), (4, "4 ranks"), (3, None)]
)
def test_a_record_is_that_of_its_ranks(ranks, said):
    run = replace(examples.run(), ranks=3, argv=["srun"])
    run = outcome.of_record(run, examples.record(ranks=ranks))
    if said is None:
        assert (run.outcome, run.reason) == ("ok", "")
    else:
        asked = "is srun of another MPI than the program?"
        assert (run.outcome, run.reason) == ("failed", f"the record says {said}: {asked}")


def test_record_of_another_number_of_ranks_is_a_failure(rankwise, tmp_path):
    words = [
        "--launcher",
        "env N={ranks}",
        "--cores",
        "2",
        *STRONG,
        "--ranks",
        "2",
        "--launches",
        "1",
        "--",
        *SMALL,
    ]
    done = rankwise("sweep", *words)
    assert done.returncode == 1
    assert "the record says 1 rank" in done.stdout
    (run,) = load(only_folder(tmp_path)).runs
    assert (run.outcome, run.seconds) == ("failed", None)


def test_job_without_a_record_is_a_failure(rankwise, tmp_path):
    (tmp_path / "j.py").write_text("if 0:\n    import rankwise.job\n")
    done = rankwise("sweep", *STRONG, "--ranks", "1", "--launches", "1", "--", "j.py")
    assert done.returncode == 1
    assert "no usable record" in done.stdout


def test_foreign_program_with_a_record(rankwise, tmp_path):
    # Wrapped, so that the sweep sees no job.
    words = ["sh", "-c", 'exec "$@"', "sh", sys.executable, *SMALL, "--output", "{output}"]
    done = rankwise("sweep", "--ranks", "2", "--launches", "1", "--", *words)
    assert done.returncode == 0, done.stdout
    (run,) = load(only_folder(tmp_path)).runs
    assert (run.source, run.work) == ("record", 1e5)


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGTERM, 143, "interrupted"), (signal.SIGUSR1, 75, "out of time")],
)
def test_interrupted_sweep_goes_on(rankwise, tmp_path, number, status, said):
    (tmp_path / "program.sh").write_text(
        '[ "$PMI_RANK" != 0 ] || echo >> started\n'
        f'[ -e go ] || [ "$(wc -l < started)" -lt 3 ] || exec sleep 9.{number}'
    )
    words = ["sweep", "--ranks", "1,2", "--launches", "2", "--", "sh", "program.sh"]
    started = tmp_path / "started"
    found = out_of_time(tmp_path, words[1:], lambda: count_lines(started) == 3, number)
    assert found == (status, f"{said}; the same command goes on with this sweep\n")
    assert not alive(f"sleep 9.{number}")
    (tmp_path / "go").touch()
    folder = only_folder(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/run.json")}
    assert len(before) == 2
    order = load(folder).plan["order"]
    done = rankwise(*words)
    assert f"going on with {folder.relative_to(tmp_path)}\n{SAID}launcher: " in done.stdout
    assert "\n2 of 4 launches are done already\n" in done.stdout
    assert done.returncode == 0
    assert points(folder) == grid(["strong"], (1, 2), 2)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert load(folder).plan["order"] == order
    # A complete sweep is left alone: the same command begins a new one.
    assert "going on" not in rankwise(*words).stdout
    assert len(list(tmp_path.glob("results/*"))) == 2


@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        ([signal.SIGUSR1, signal.SIGTERM], 143),
        ([signal.SIGUSR1, signal.SIGUSR1], 75),
        ([signal.SIGINT, signal.SIGUSR1], 130),
        ([signal.SIGHUP, signal.SIGTERM], 129),
    ],
)
def test_signals_after_the_first_one(numbers, status):
    script = "import signal, sys; from rankwise.sweep import interrupts; interrupts.install()\n"
    script += "try:\n    print('ready', flush=True); input()\n"
    script += "except interrupts.Interrupted:\n    print('first', flush=True); input()\n"
    script += "sys.exit(interrupts.status())"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as process:
        for number, line in zip(numbers, (b"ready\n", b"first\n"), strict=True):
            assert process.stdout.readline() == line
            process.send_signal(number)
        process.communicate(b"\n", timeout=20)
    assert process.returncode == status


@pytest.mark.parametrize("wait", [0.1, 0.25, 0.4])
def test_a_signal_in_the_imports(tmp_path, wait):
    """Some of these are before, some after the first run has begun."""
    script = "import sys, rankwise.__main__ as m; from rankwise.sweep import interrupts\n"
    script += "interrupts.install(); print('ready', flush=True); sys.exit(m.main(sys.argv[1:]))"
    words = ["sweep", "--ranks", "1", "--launches", "1", "--", "sleep", "9"]
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script, *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(wait)
        process.send_signal(signal.SIGUSR1)
        assert process.communicate(timeout=20)[1].startswith("out of time; the same command")
    assert process.returncode == 75


def out_of_time(tmp_path, words, ready, number=signal.SIGUSR1, **variables):
    """Start a sweep, send a signal when ``ready()``, and return exit status and standard error."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "rankwise", "sweep", *words]
    env = os.environ | variables
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=pipe, stderr=pipe, text=True
    ) as process:
        while not ready():
            time.sleep(0.005)
            assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        said = process.communicate(timeout=LIMIT)[1]
    return process.returncode, said


def count_lines(path):
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.parametrize(("done", "status"), [(0, 1), (1, 75)])
@pytest.mark.parametrize("restart", ["0", "1"])
def test_a_restart_that_finished_no_run(tmp_path, done, status, restart):
    (tmp_path / "program.sh").write_text(
        'echo >> started; [ "$(wc -l < started)" -le $1 ] || sleep 9'
    )
    words = ["--ranks", "1", "--launches", "2", "--", "sh", "program.sh", str(done)]
    started = tmp_path / "started"
    found, said = out_of_time(
        tmp_path, words, lambda: count_lines(started) > done, SLURM_RESTART_COUNT=restart
    )
    assert found == (status if restart == "1" else 75)
    assert ("no launch was finished since the restart" in said) == (found == 1)


@pytest.mark.parametrize(("again", "status"), [(1, 1), (0, 75)])
def test_a_restart_that_repeated_failures(rankwise, tmp_path, again, status):
    text = "echo >> started; case $(wc -l < started) in 1|2) exit 1;; 3) exit $1;; esac; sleep 9"
    (tmp_path / "program.sh").write_text(text)
    words = ["--ranks", "1", "--launches", "2", "--", "sh", "program.sh", str(again)]
    assert rankwise("sweep", *words).returncode == 1
    words, started = ["--retry-failed", *words], tmp_path / "started"
    found, said = out_of_time(
        tmp_path, words, lambda: count_lines(started) == 4, SLURM_RESTART_COUNT="1"
    )
    assert found == status, said


@pytest.mark.parametrize(("restart", "status"), [("0", 75), ("1", 1)])
def test_out_of_time_before_the_folder_is_chosen(tmp_path, restart, status):
    # It is asked for its version.
    mpirun = tmp_path / "bin" / "mpirun"
    mpirun.parent.mkdir()
    mpirun.write_text(f"#!/bin/sh\necho > {tmp_path}/asked\nexec sleep 25\n")
    mpirun.chmod(0o755)
    path = f"{mpirun.parent}:{os.environ['PATH']}"
    ready, words = (tmp_path / "asked").exists, ["--ranks", "1", "--", "true"]
    found, _ = out_of_time(tmp_path, words, ready, PATH=path, SLURM_RESTART_COUNT=restart)
    assert found == status
    assert not (tmp_path / "results").exists()


def test_out_of_time_in_the_report(tmp_path):
    words = ["--report", "--folder", "s", "--ranks", "1", "--launches", "1", "--", "true"]
    status, said = out_of_time(tmp_path, words, (tmp_path / "s" / "figures").exists)
    assert status == 0, said
    assert (tmp_path / "s" / "report.html").exists()


def test_put_back_in_the_report(rankwise, tmp_path):
    words = ["--ranks", "1", "--launches", "1", "--", "true"]
    rankwise("sweep", *words)
    folder = only_folder(tmp_path)
    restart = {"SLURM_RESTART_COUNT": "1"}
    done = rankwise("sweep", "--report", *words, env=restart)
    assert f"going on with {folder.relative_to(tmp_path)}" in done.stdout
    assert only_folder(tmp_path) == folder and (folder / "report.html").exists()
    # With its report it is complete; another job measures anew in any case.
    assert "going on" not in rankwise("sweep", "--report", *words, env=restart).stdout
    (folder / "report.html").unlink()
    assert "going on" not in rankwise("sweep", "--report", *words).stdout


def test_ctrl_c_ends_the_ranks(tmp_path):
    words = ["sweep", "--ranks", "2", "--", "sleep", "7.123"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rankwise", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while subprocess.run(["pgrep", "-f", "^sleep 7.123"], capture_output=True).returncode:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
    assert process.stderr.read() == "interrupted; the same command goes on with this sweep\n"
    process.stderr.close()
    assert subprocess.run(["pgrep", "-f", "^sleep 7.123"]).returncode == 1


@pytest.mark.parametrize("mode", ["weak", "both"])
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "wet"])
def test_job_that_does_not_grow_is_refused_before_anything_runs(rankwise, tmp_path, mode, dry):
    folder = tmp_path / "clone"
    folder.mkdir()
    program = folder / "fixed.py"
    program.write_text(JOB.read_text().replace(', grow="n"', ""))
    done = rankwise("sweep", "--mode", mode, *dry, "--ranks", "1", "--", program)
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("rankwise sweep: error: ") and 'grow="n"' in said and "{n}" in said
    assert list(tmp_path.iterdir()) == [folder]
    # Without --mode it is swept in the one it has.
    done = rankwise("sweep", "--dry-run", "--ranks", "1", "--launches", "2", "--", program)
    assert "2 launches" in done.stdout and "--weak" not in done.stdout


def test_half_a_run_does_not_count(rankwise, tmp_path):
    words = ["sweep", *STRONG, "--ranks", "1", "--launches", "2", "--folder", "s", "--", *SMALL]
    assert rankwise(*words).returncode == 0
    (tmp_path / "s/runs/strong-1-2/run.json").unlink()
    assert load(tmp_path / "s").missing != []
    done = rankwise(*words)
    assert done.returncode == 0, done.stdout
    assert points(tmp_path / "s") == grid(["strong"], [1], 2)


def test_two_sweeps_in_one_folder(rankwise, tmp_path):
    words = ["sweep", "--ranks", "1", "--launches", "1", "--folder", "s", "--", "true"]
    assert rankwise(*words).returncode == 0
    with sweep._locked(tmp_path / "s"):
        done = rankwise(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "another sweep, or a process that one has left, is running in s" in done.stderr
    done = rankwise("sweep", "--ranks", "1,2", *words[3:])
    assert done.returncode == 2
    assert "s holds another sweep: it differs in ranks" in done.stderr


@pytest.mark.parametrize("kind", ["link", "broken link", "pipe", "folder"])
def test_a_lock_file_that_no_sweep_made_is_refused(tmp_path, kind):
    lock, target = tmp_path / "s" / ".lock", tmp_path / "theirs"
    lock.parent.mkdir()
    if kind == "link":
        target.write_text("kept")
    make = {"pipe": os.mkfifo, "folder": os.mkdir}.get(kind, lambda path: path.symlink_to(target))
    make(lock)
    said = re.escape(f"{lock} is a link, or no file, and a sweep did not make it: remove it, or")
    with pytest.raises(FolderError, match=f"^{said}"), sweep._locked(lock.parent):
        pass
    assert lock.is_symlink() == ("link" in kind)
    assert target.exists() == (kind == "link")


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_the_output_of_a_run_goes_through_no_link_and_no_pipe(tmp_path, kind):
    output, target = tmp_path / "o.txt", tmp_path / "theirs"
    target.write_text("kept")
    if kind == "link":
        output.symlink_to(target)
    else:
        os.mkfifo(output)
    execute.execute(["echo", "printed"], dict(os.environ), output, 60)
    assert (output.read_text(), target.read_text()) == ("printed\n", "kept")


def test_a_sweep_that_is_running_is_left_alone(rankwise, tmp_path):
    words = ["sweep", "--ranks", "1", "--launches", "2", "--", "true"]
    assert rankwise(*words).returncode == 0
    folder = only_folder(tmp_path)
    (folder / "runs/strong-1-2/run.json").unlink()
    with sweep._locked(folder):
        done = rankwise(*words)
    assert done.returncode == 0
    assert "another sweep, or a process that one has left, is running in" in done.stdout
    assert len(load(folder).missing) == 1
    assert len(list(tmp_path.glob("results/*"))) == 2


def test_dry_run(rankwise, tmp_path):
    words = ["--ranks", "1,3", "--mode", "both", "--threads", "2", "--timeout", "36", "--dry-run"]
    done = rankwise("sweep", *words, "--weak", "n=5*ranks", "--", "./p", "a b", "{n}")
    lines = done.stdout.splitlines()
    assert [line.partition("./p")[2] for line in lines[:4]] == [
        *(" 'a b' 5", " 'a b' 5", " 'a b' 5", " 'a b' 15")
    ]
    assert lines[0].startswith("6 x ")
    # 2 modes x 6 launches x (1 + 3) ranks x 2 threads x 0.01 h
    assert "24 launches" in lines[4]
    assert "at most 0.96 core-hours" in lines[4]
    assert list(tmp_path.iterdir()) == []


def test_allocation_that_is_too_small(rankwise, tmp_path):
    env = {"SLURM_JOB_ID": "1", "SLURM_JOB_CPUS_PER_NODE": "4(x2)", "SLURM_GPUS_ON_NODE": "2"}
    words = ["--threads", "2", "--launcher", "env X={ranks}", "--dry-run", "--", "true"]
    # Powers of two up to the room; a launcher of the user's own has to fit as well.
    assert "X=4 true" in rankwise("sweep", *words, env=env).stdout
    done = rankwise("sweep", "--ranks", "1,8", *words, env=env)
    assert done.returncode == 2
    assert "8 ranks with 2 threads each do not fit on 8 cores, 2 nodes" in done.stderr
    done = rankwise("sweep", "--ranks", "2,8", "--gpus-per-rank", "1", "--", "true", env=env)
    assert done.returncode == 2
    assert "do not fit on 8 cores and 2 GPUs a node" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_order_is_shuffled_in_rounds(rankwise, tmp_path):
    words = ["--ranks", "1..4", "--launches", "5", "--", "true"]
    orders = []
    for seed in (1, 1, 2):
        folder = f"s{len(orders)}"
        # Given up after the first runs: this is about the plan.
        rankwise(
            "sweep",
            "--launcher",
            "false {ranks}",
            "--cores",
            "4",
            "--seed",
            seed,
            "--folder",
            folder,
            *words,
        )
        orders.append(load(tmp_path / folder).plan["order"])
    assert orders[0] == orders[1] != orders[2]
    rounds = [orders[0][k : k + 3] for k in range(0, 15, 3)]
    assert [{point[1] for point in points} for points in rounds] == [{1, 2, 4}] * 5
    assert [points[0][2] for points in rounds] == [1, 2, 3, 4, 5]
    assert len({str([point[1] for point in points]) for points in rounds}) > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["true"], "true is no option of a sweep; the program goes after --"),
        ([], "no command"),
        (["--"], "no command"),
        (["--ranks", "0", "--", "true"], "--ranks '0'"),
        (["--ranks", "4..2", "--", "true"], "--ranks"),
        (["--ranks", "1,,2", "--", "true"], "--ranks"),
        (["--ranks", "many", "--", "true"], "--ranks"),
        (["--launches", "0", "--", "true"], "--launches"),
        (["--timeout", "nan", "--", "true"], "--timeout"),
        (["--timeout", "0", "--", "true"], "--timeout"),
        (["--mode", "weak", "--", "true"], "does not grow by itself"),
        (["--gpus-per-rank", "1", "--", "true"], "no GPU here"),
        (["--launcher", "mpiexec", "--", "true"], "no {ranks}"),
        (["--launcher", "env X={ranks}", "--ranks", "999", "--", "true"], "say how many cores"),
        (
            ["--launcher", "env X={ranks} N={nodes}", "--cores", "4", "--", "true"],
            "--cores alone does not tell {nodes} of --launcher: say --cores-per-node",
        ),
        (["--launcher", "env X={ranks} N={node}", "--", "true"], "there is no {node}, only "),
        (["--cores-per-node", "0", "--", "true"], "--cores-per-node"),
        (["--cores-per-node", "4.5", "--", "true"], "--cores-per-node"),
        (["--cores-per-node", "1", "--", "true"], "this machine is the node, and it has "),
        (
            ["--cores", "4", "--cores-per-node", "2", "--ranks", "4", "--", "true"],
            "instead of 2 nodes",
        ),
        (["--rank", "1", "--", "true"], "--rank is no option"),
        (["--", "./none"], "there is no program ./none"),
        (["--", "mpirun", "-n", "2", "true"], "leave out mpirun"),
        (["--folder", "/usr", "--", "true"], "/usr holds something else"),
        (["--folder", "/dev/null/x", "--", "true"], "cannot make the folder"),
        (["--threads", "4096", "--", "true"], "no room for even one rank"),
    ],
)
def test_mistakes_are_one_sentence(rankwise, tmp_path, words, message):
    done = rankwise("sweep", *words, env={"CUDA_VISIBLE_DEVICES": ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, [1, 2, 4, 8]), ("all", [13]), ("3,1,3", [1, 3]), ("1..64", [1, 2, 4, 8, 16, 32, 64]),
     ("3..20", [3, 6, 12]), ("5..5", [5])],
)  # fmt: skip
def test_rank_counts(text, expected):
    assert plan._read_counts(text, 13) == expected


def test_secrets_stay_out_of_the_folder(rankwise, tmp_path):
    words = ["--ranks", "1", "--launches", "1", "--folder", "s", "--", "true"]
    rankwise("sweep", *words, env={"MY_TOKEN": "hunter2"})
    texts = [path.read_text() for path in (tmp_path / "s").rglob("*") if path.is_file()]
    assert len(texts) >= 3
    assert not any("hunter2" in text for text in texts)
    assert json.loads((tmp_path / "s/sweep.json").read_text())["command"] == ["true"]
