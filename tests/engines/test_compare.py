"""``python -m engines compare``: it starts real engines, asks them, ends them, and tells."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from engines import compare, work
from engines.comparison import figure, measure, plain, process, served
from engines.comparison.measure import ENGINES, Case, Found
from engines.comparison.metg import Point
from engines.comparison.plain import Plain
from engines.comparison.process import Engine, Gone, Raised, Running, Silent
from rankwise.disk import record

ROOT = Path(__file__).resolve().parents[2]
# Long enough on a machine that is busy with other tests.
LIMIT = 120.0


def engines_of(folder):
    """Return the processes of all engines that a comparison in a folder has started."""
    found = []
    for each in psutil.process_iter():
        try:
            env = each.environ()
        except (psutil.Error, OSError):
            continue
        if process.MARK in env and env.get("COMPARED_IN") == str(folder):
            found.append(each)
    return found


def soon():
    return time.monotonic() + LIMIT


class Script(Engine):
    """An engine that is a few lines of Python, after it has said that it is ready."""

    def command(self, workers):
        ready = """import os, sys, time; print('answer {"ready": true}', flush=True)\n"""
        return [sys.executable, "-c", ready + self.package]


WORKERS = min(2, work.cores())
WORKS = ("rows", "sum")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of threads and processes, with tasks of two sizes: its output, its folder."""
    from mpi4py import MPI

    folder = tmp_path_factory.mktemp("compared")
    words = f"--engines threading,futures,joblib --workers {WORKERS} --sizes 0.01,0.0001"
    words += f" --task-seconds 0.02 --output {folder}/c.h5"
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("COMPARED_IN", str(folder))
        # On a machine that is busy with other tests it takes longer than it may.
        patch.setattr(compare, "ENGINES", {n: replace(e, limit=600.0) for n, e in ENGINES.items()})
        compare.main(MPI.COMM_SELF, words.split())
    return SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue()), folder


def test_threads_and_processes_are_compared(compared):
    done, _ = compared
    for name in ("threading", "futures"):
        # Start-up and empty task; sent data and imbalance.
        times, rest = (line for line in done.stdout.splitlines() if line.startswith(f"{name}  "))
        assert (times.count(" (") >= 2, rest.count(" (")) == (True, 2)
    assert "futures          ValueError: task 7 is bad (after" in done.stdout
    assert "threading        ValueError: task 7 is bad (after" in done.stdout
    assert "threading        all ends, signal 9 (after" in done.stdout
    assert "futures          concurrent.futures.process.BrokenProcessPool" in done.stdout
    assert f"For your case, tasks of 20.0 ms, {WORKERS} workers: " in done.stdout
    digests = [work.digest([f(task) for task in tasks]) for f, tasks in map(work.tasks_of, WORKS)]
    said = "All engines have the same results, as without an engine: rows {}, sum {}"
    assert said.format(*digests) in done.stdout.splitlines()


def test_an_engine_that_is_not_installed_is_a_line(compared):
    done, _ = compared
    line = "joblib: not installed: pip install -e '.[engines]', in the clone"
    assert line in done.stdout.splitlines()
    # Before anything is measured, too.
    assert line in done.stderr.partition("(1 of 2")[0]


def test_the_record_and_the_figure_have_what_was_found(compared):
    _, folder = compared
    found = record.read(folder / "c.h5")
    assert found.attributes["unchecked"] == ""
    for name in ("threading", "futures"):
        assert found.results[f"{name}_start_up"].values.shape == (3,)
        assert found.results[f"{name}_efficiency"].values.shape == (2, 3)
        assert found.results[f"{name}_efficiency"].axes == (f"{name}_task_size", "sample")
        # By the plain processes, which may have been slowed down by other tests.
        assert found.results[f"{name}_task_size"].values.shape == (2,)
        assert (found.results[f"{name}_empty_task"].values > 0).all()
        assert (found.results[f"{name}_imbalance"].values >= 1).all()
        assert 5e7 < found.results[f"{name}_memory"].values < 2e9
    text = (folder / "c.svg").read_text()
    assert all(name in text for name in ("threading", "futures", "size of a task"))


def test_nothing_is_left_of_an_engine_and_files_are_not_replaced(compared, start):
    _, folder = compared
    assert engines_of(folder) == []
    (folder / "d.svg").touch()
    for name, text in (("c", "c.h5 exists; --force"), ("d", "d.svg exists; --force")):
        words = ("compare", "--engines", "threading", "--output", f"{name}.h5")
        done = start(None, ROOT / "engines", *words, cwd=folder)
        assert done.returncode == 2
        assert text in done.stderr


@pytest.mark.parametrize(
    ("ranks", "words", "text"),
    [
        (None, "", "usage: python -m engines compare"),
        (None, "compare --engines futures,pool", "no 'pool': choose from multiprocessing, "),
        (None, "compare --workers 1000", "from 1 to "),
        (None, "compare --sizes 0.01,0.1", "are not sizes from 1 s to 1e-7 s, the largest first"),
        (None, "compare --data-mb 3", "--data-mb goes with --task-seconds"),
        (None, "compare --data-mb 1e9 --task-seconds 1", "than memory has room for"),
        (None, "compare --output c.svg", "does not end in .h5"),
        (None, "compare --threads 2", "are for jobs with a kernel"),
        (None, "compare --repeats 2", "three samples of each figure are taken"),
        (None, "compare --engines joblib", "joblib is not installed: pip install -e '.[engines]'"),
        (2, "compare --engines threading", "start it without mpirun"),
    ],
)
def test_a_mistake_is_one_sentence(start, ranks, words, text):
    done = start(ranks, ROOT / "engines", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_without_psutil_it_says_what_brings_it(start):
    hide = "import runpy, sys; sys.modules['psutil'] = None; sys.argv[1:] = ['compare']\n"
    hide += f"runpy.run_path({str(ROOT / 'engines')!r}, run_name='__main__')"
    done = start(None, "-c", hide)
    said = "engines: error: no psutil: pip install -e '.[engines]', in the clone\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_signal_ends_the_comparison_and_all_engines(tmp_path):
    words = f"compare --engines futures --workers {WORKERS} --output c.h5"
    running = subprocess.Popen(
        [sys.executable, ROOT / "engines", *words.split()],
        cwd=tmp_path,
        env={**os.environ, "COMPARED_IN": str(tmp_path)},
    )
    while len(engines_of(tmp_path)) < 1 + WORKERS and running.poll() is None:
        time.sleep(0.05)
    running.terminate()
    assert running.wait(LIMIT) == 143
    until = soon()
    while engines_of(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert engines_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_ends_with_its_engine(monkeypatch):
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 0.5)
    daemon = "os.fork() or (os.setsid(), os.fork() or time.sleep(1000))\nsys.stdin.read()"
    with Running(Script("a", daemon), 1, soon()) as running:
        until = soon()
        while len(running._members()) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        assert 1e6 < running.memory() < 1e9
    assert running.killed >= 1
    assert running._members() == []


def test_an_engine_that_takes_too_long_ends_with_its_time():
    found = measure.measure(Script("a", "time.sleep(1000)", limit=3.0), 1, plain=None)
    assert found.notes == ["its 3 s were over: ended with all its processes"]
    assert found.raised == found.died == "not tried: its 3 s were over"


def test_an_engine_that_ends_too_early_says_how():
    script = "sys.stdin.readline(); sys.exit('RuntimeError: no room')"
    found = measure.measure(Script("a", script), 1, plain=None)
    assert found.notes == ["it ended, status 1: RuntimeError: no room"]
    assert found.raised.startswith("all ends, status 1: RuntimeError: no room (after ")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a.b.SomeError: why", ": a.b.SomeError: why"),
        ("served.py: error: no room", ": served.py: error: no room"),
        ("[vm:1] c.c:375  Error: OSC UCX component priority", ""),
        ("-----------", ""),
    ],
)
def test_of_what_a_launcher_says_nothing_is_told(line, told):
    with pytest.raises(Gone) as gone:
        Running(Silenced("a", f"sys.exit({line!r})"), 1, soon())
    assert str(gone.value) == f"status 1{told}"


class Silenced(Engine):
    """An engine that never is ready."""

    def command(self, workers):
        return [sys.executable, "-c", f"import sys; {self.package}"]


def test_a_dead_worker_of_a_pool_is_waited_for_in_vain(monkeypatch):
    monkeypatch.setattr(measure, "HANG_SECONDS", 1.5)
    with Running(ENGINES["multiprocessing"], 2, soon()) as running:
        assert measure._reaction(running, "die") == "no answer in 2 s, then ended from outside"
        # It would also end if the comparison had been killed: with its standard input.
        running._process.stdin.close()
        assert running._process.wait(LIMIT) == -signal.SIGINT
    # The pool has ended its workers, and its helper what they shared.
    assert running.killed == 0


@pytest.mark.parametrize(
    ("name", "raised", "died"),
    [
        ("mpi", "ValueError: task 7 is bad (after", "all ends, status 9"),
        ("rankwise", "all ends, status 1: ValueError: task 7 is bad", "all ends, status 9"),
    ],
)
def test_mpi_engines_do_their_work_and_end(name, raised, died):
    found, engine = Found(), ENGINES[name]
    with Running(engine, 2, soon()) as running:
        found.digests = {what: running.ask(what)["digest"] for what in ("rows", "sum")}
        sent = running.ask("spin", tasks=4, iterations=10, megabytes=1.0)
        assert sent["seconds"] > 0
        assert len(running._members()) > 2
    assert running.killed == 0
    for what, digest in found.digests.items():
        function, tasks = work.tasks_of(what)
        assert digest == work.digest([function(task) for task in tasks])
    assert measure._wrong(engine, 2, soon(), "bad", found).startswith(raised)
    assert measure._wrong(engine, 2, soon(), "die", found).startswith(died)
    assert len(found.start_ups) == 2


def test_a_task_that_raises_is_told_apart_from_an_end_and_from_silence():
    answers = """sys.stdin.readline(); print('answer {"error": "E: x", "seconds": 1}', flush=True)
sys.stdin.readline(); print("a line of its own"); print('answer {"seconds": 2}', flush=True)
sys.stdin.readline(); time.sleep(2)"""
    with Running(Script("a", answers), 1, soon()) as running:
        with pytest.raises(Raised, match=r"^E: x$"):
            running.ask("nothing")
        assert running.ask("nothing") == {"seconds": 2}
        with pytest.raises(Silent):
            running.ask("nothing", within=0.1)
        with pytest.raises(Gone, match=r"^status 0$"):
            running.ask("nothing")


def test_plain_processes_do_the_iterations_that_they_are_told():
    with Plain(2) as plain:
        assert 1e6 < plain.rate < 1e11
        # On a busy machine either may take longer; ten thousand times as many take longer still.
        assert plain.seconds(10**8) > 10 * plain.seconds(10**4) > 0
        pids = [each.pid for each in plain._processes]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_case_is_measured_with_its_data_and_longer_tasks_are_scaled():
    asked = []

    class Engine:
        def ask(self, name, **given):
            asked.append(given)
            return {"seconds": 0.5}

    class Plain:
        rate = 1e9

        def seconds(self, iterations):
            return iterations / self.rate

    point = measure._case(Engine(), 2, Plain(), Case(0.01, 8.0))
    # 128 MB at most: 16 tasks, of which each worker has 8.
    assert asked[0] == {"tasks": 16, "iterations": 10**7, "megabytes": 8.0}
    assert point.samples == pytest.approx([16 * 0.01 / 2 / 0.5] * 3)
    point = measure._case(Engine(), 2, Plain(), Case(10.0))
    assert asked[-1] == {"tasks": 8, "iterations": 25 * 10**7, "megabytes": 0.0}
    # A task of 0.25 s takes its worker 0.125 s: it cannot be so, but it is what was said.
    assert point.size == 10.0
    assert point.samples == pytest.approx([10 / (10 - 0.125)] * 3)


def test_other_results_and_missing_ones_are_found_and_kept():
    right = {
        name: work.digest([function(task) for task in tasks])
        for name in WORKS
        for function, tasks in [work.tasks_of(name)]
    }
    run = SimpleNamespace(checks=[])
    every = {"a": Found(digests=right), "b": Found(digests={**right, "sum": "x"}), "c": Found()}
    every["d"] = Found(digests={"sum": right["sum"]})
    said, wrong = compare.check(run, every)
    assert wrong == ["b", "c", "d"]
    assert said.endswith("): b, c, d")
    assert run.checks[0]["error"] == 3.0
    with pytest.raises(compare.Stop, match="other than without an engine"):
        compare.require_same(said, wrong)
    compare.require_same(*compare.check(run, {"a": Found(digests=right)}))


class Slow:
    """Plain processes on which everything takes twice as long as at first."""

    rate = 1e9

    def seconds(self, iterations):
        return 2 * iterations / self.rate


class Asked:
    """An engine that answers as it is told, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def ask(self, name, **given):
        self.asked.append((name, given))
        return self.answers.pop(0)

    def memory(self):
        return len(self.asked)


def test_the_size_of_a_point_is_that_of_the_plain_processes():
    engine = Asked(*({"seconds": seconds} for seconds in (0.16, 0.32, 0.64)))
    point = measure._point(engine, 2, Slow(), 0.01, tasks=16)
    assert point == Point(0.02, (1.0, 0.5, 0.25))
    spin = {"tasks": 16, "iterations": 10**7, "megabytes": 0.0}
    assert engine.asked == [("spin", spin)] * 3
    # One that takes long has no others beside it.
    engine = Asked({"seconds": 1e3})
    assert len(measure._point(engine, 2, Slow(), 0.01).samples) == 1


def test_sizes_go_down_until_the_efficiency_is_too_low(monkeypatch):
    efficiencies = {0.25: 0.9, 0.0625: 0.6, 0.015625: 0.4, 0.00390625: 0.9}
    monkeypatch.setattr(measure, "_point", lambda *a: Point(a[3], (efficiencies[a[3]],)))
    found, given, late = Found(), Found(), Found()
    measure._points(found, None, 2, None, None, soon())
    assert [point.size for point in found.points] == [0.25, 0.0625, 0.015625]
    measure._points(given, None, 2, None, [0.25, 0.015625, 0.00390625], soon())
    assert [point.size for point in given.points] == [0.25, 0.015625, 0.00390625]
    measure._points(late, None, 2, None, None, 0.0)
    assert (late.points, late.notes) == ([], ["its time was over before tasks of 0.25 s"])


def test_what_is_made_of_answers():
    rows = {"seconds": 9.0, "digest": "r", "busy": {"a": 3.0}}
    samples = [answer for _ in range(3) for answer in ({"seconds": 0.5}, rows)]
    engine, found = Asked({"digest": "s"}, *samples), Found()
    measure._work(found, engine, 4)
    assert found.digests == {"sum": "s", "rows": "r"}
    # 1000 tasks.
    assert found.empty == pytest.approx([500.0] * 3)
    # One of four workers has done all.
    assert found.imbalance == [4.0] * 3
    engine = Asked({"seconds": 0.064}, {"seconds": 6.4}, {"seconds": 1.0})
    measure._send(found, engine, 2)
    # 8 tasks of 16 MB.
    assert found.sent == pytest.approx([0.5, 50.0])
    assert engine.asked[0] == ("read", {"tasks": 8, "megabytes": 16.0})
    assert found.memory == 7


def test_seconds_are_those_of_the_tasks_and_busy_ones_of_each_worker(monkeypatch):
    clock = [0.0]

    def named(**request):
        clock[0] += 100.0
        return None, []

    def compute(function, tasks):
        clock[0] += 2.0
        return [(1, worker, 0.5) for worker in "aab"]

    monkeypatch.setattr(served.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(served.tasks, "named", named)
    facts = served.answer(compute, {"name": "rows"})
    assert facts["seconds"] == 2.0
    assert facts["busy"] == {"a": 1.0, "b": 0.5}
    assert "busy" not in served.answer(compute, {"name": "nothing"})


def test_data_that_are_sent_have_room_that_nobody_has_touched():
    seen = []
    compute = lambda function, tasks: seen.extend(tasks)  # noqa: E731
    request = {"name": "read", "tasks": 2, "megabytes": 16.0}
    served.answer(compute, request)
    served.answer(compute, request, sent=True)
    assert [array[1] for array in seen[:2]] == [0.0, 1.0]
    assert [array.shape for array in seen[2:]] == [array.shape for array in seen[:2]]
    # Whatever is there, it is not what was made.
    assert np.count_nonzero(seen[3] == 1.0) < seen[3].size / 2


def test_plain_processes_divide_by_the_calls(monkeypatch, capsys):
    clock, calls = iter([1.0, 9.0]), []
    monkeypatch.setattr(plain.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(plain.work, "spin", calls.append)
    monkeypatch.setattr(plain.sys, "stdin", ["30 4\n"])
    plain.main()
    assert capsys.readouterr().out == "ready\n2.0\n"
    assert calls == [1, 30, 30, 30, 30]


@pytest.mark.parametrize(
    ("busy", "workers", "said"), [(0.1, 2, False), (0.3, 2, True), (1.9, 2, True), (1.1, 1, False)]
)
def test_a_busy_machine_is_said(monkeypatch, busy, workers, said):
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    warnings = []
    args = SimpleNamespace(workers=workers)
    compare.warn_if_busy(SimpleNamespace(args=args, warn=warnings.append), busy)
    assert len(warnings) == said


def test_all_samples_are_in_the_json_line(start):
    words = "compare --engines threading --workers 1 --sizes 0.001 --json"
    done = start(None, ROOT / "engines", *words.split(), limit=LIMIT)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    facts = json.loads(line)
    assert len(facts["engines"]["threading"]["empty"]) == 3
    assert len(facts["engines"]["threading"]["points"][0]["samples"]) == 3
    assert facts["busy_cores"] >= 0


def test_every_engine_has_its_module_and_the_figure_a_line_for_each():
    modules = {path.stem for path in (ROOT / "engines").glob("[a-z]*_.py")}
    assert {f"{name}_" for name in ENGINES} == modules
    assert len(figure.COLOURS) == len(set(figure.COLOURS)) == len(figure.MARKERS) >= len(ENGINES)
    every = {name: Found(points=[Point(0.1, (0.4, 0.5, 0.7))]) for name in ENGINES}
    (axes,) = figure.draw(every, 2).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(ENGINES)
    _, (low, high) = axes.containers[0].lines[2][0].get_segments()[0].T
    assert (low, high) == pytest.approx((0.4, 0.7))


@pytest.mark.parametrize("name", ["futures_", "multiprocessing_", "threading_"])
def test_a_program_that_is_told_to_end_takes_its_workers_along(name):
    # So many repeats that it would go on for ever.
    command = [sys.executable, ROOT / "engines" / f"{name}.py", "--repeats", "1000000"]
    running = psutil.Popen([*command, "--workers", str(WORKERS)], stderr=subprocess.PIPE)
    until = soon()
    while time.monotonic() < until:
        begun = running.threads() if name == "threading_" else running.children()
        if len(begun) > WORKERS:
            break
        time.sleep(0.05)
    started = running.children(recursive=True)
    running.terminate()
    running.communicate(timeout=LIMIT)
    assert running.returncode == 143
    assert psutil.wait_procs(started, timeout=LIMIT)[1] == []


@pytest.mark.engines
def test_engines_of_others_are_compared(start, tmp_path):
    words = "compare --engines joblib,dask,ray --workers 2 --sizes 0.01 --json --output c.h5"
    done = start(
        None,
        ROOT / "engines",
        *words.split(),
        env={"COMPARED_IN": str(tmp_path)},
        limit=3 * LIMIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    died = {"joblib": "TerminatedWorkerError", "dask": "KilledWorker", "ray": "WorkerCrashedError"}
    for name, error in died.items():
        found = facts["engines"][name]
        assert len(found["points"]) == 1, found
        assert "ValueError" in found["raised"]
        assert "task 7 is bad" in found["raised"]
        assert error in found["died"]
    assert engines_of(tmp_path) == []
