"""The engines of the standard library: multiprocessing, threading and concurrent.futures."""

import math
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from engines import futures_, multiprocessing_, races, threading_, work

ROOT = Path(__file__).parents[2]
POOLS = {
    "multiprocessing": multiprocessing_.pool,
    "threading": threading_.pool,
    "processes of futures": futures_.pool,
    "threads of futures": futures_.threads,
}
WORKERS = min(2, work.cores())
# Of a program that takes two seconds: a deadlock ends here.
LIMIT_SECONDS = 120


@pytest.fixture(scope="module", params=POOLS)
def compute(request):
    with POOLS[request.param](WORKERS) as compute:
        yield compute


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Workers that start at once find all kernels in the cache."""
    work.compile_kernels()


@pytest.mark.parametrize("pool", POOLS)
def test_run_returns_the_results_in_the_order_of_the_tasks(pool):
    # The first take longer than the last.
    tasks = [*range(512, 0, -50), *range(50)]
    found = work.runner(POOLS[pool])(work.row, tasks, WORKERS)
    assert found == list(map(work.row, tasks))


def test_run_is_that_of_the_pool():
    for engine in (multiprocessing_, threading_, futures_):
        (pool,) = (cell.cell_contents for cell in engine.run.__closure__)
        assert pool is engine.pool


@pytest.mark.parametrize("tasks", [[], ["7"], ["7", "8", "9"]])
def test_no_task_one_and_more_than_workers(compute, tasks):
    assert compute(int, tasks) == list(map(int, tasks))


def test_the_exception_of_a_task_reaches_the_caller(compute):
    with pytest.raises(ValueError, match=r"invalid literal for int\(\) with base 10: 'seven'"):
        compute(int, ["1", "2", "seven", "3"])
    # And the workers are there as before.
    assert compute(int, ["4"] * 100) == [4] * 100


def raise_first(begun):
    def call(number):
        begun.append(number)
        if number == 0:
            raise KeyError("the first")
        return number

    return call


def test_after_an_exception_waiting_tasks_of_threads_do_not_begin():
    begun = []
    with threading_.pool(1) as compute:
        with pytest.raises(KeyError, match="the first"):
            compute(raise_first(begun), range(50))
        assert begun == [0]
        assert compute(raise_first(begun), range(1, 50)) == [*range(1, 50)]


def test_no_thread_is_left_over():
    before = threading.active_count()
    for wrong in (False, True):
        with suppress(KeyError), threading_.pool(3) as compute:
            assert threading.active_count() == before + 3
            compute(raise_first([]) if wrong else abs, range(9))
        assert threading.active_count() == before
    with suppress(ZeroDivisionError), threading_.pool(3):
        _ = 1 / 0
    assert threading.active_count() == before


# What Ctrl-C does to a program of a user.
INTERRUPTED = """
import os, signal, sys, threading, time
from engines import threading_

begun, raised, caller = [], threading.Event(), threading.get_ident()

def call(number):
    begun.append(number)
    # An exception while the caller holds the lock of the queue would leave that locked.
    while sys._current_frames()[caller].f_code.co_name != "wait":
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
    raised.wait()

with threading_.pool(1) as compute:
    try:
        compute(call, range(50))
    except KeyboardInterrupt:
        raised.set()
print(raised.is_set(), begun)
"""


def started(start, *command, cwd=None):
    """Return the output of a program that ends well and complains of nothing."""
    done = start(None, *command, cwd=cwd, limit=LIMIT_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_after_ctrl_c_waiting_tasks_of_threads_do_not_begin(start):
    assert started(start, "-c", INTERRUPTED, cwd=ROOT) == "True [0]\n"


ENGINES = ("multiprocessing_", "threading_", "futures_")


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_have_one_digest_from_any_folder(start, engine):
    out = started(start, ROOT / "engines" / f"{engine}.py", "--work", "rows", "--workers", WORKERS)
    function, tasks = work.tasks_of("rows")
    assert out.splitlines()[-1] == f"digest {work.digest(list(map(function, tasks)))}"
    # Every task was done once, by the workers that were asked for.
    done = [int(line.split()[2]) for line in out.splitlines()[2:-1]]
    assert sum(done) == len(tasks)
    assert 1 <= len(done) <= WORKERS


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_are_modules_too(start, engine):
    options = ["--work", "sum", "--data", "sent", "--workers", WORKERS]
    *_, total, digest = started(start, "-m", f"engines.{engine}", *options, cwd=ROOT).splitlines()
    function, tasks = work.tasks_of("sum")
    results = list(map(function, tasks))
    assert digest == f"digest {work.digest(results)}"
    assert total == f"sum of squares {math.fsum(np.concatenate(results)):.15g}"


def lessons(start, engine):
    """Return what each lesson of an engine prints, without the line that says what it is of."""
    shown = []
    for line in started(start, ROOT / "engines" / f"{engine}.py", "--lessons").splitlines():
        if line.startswith("  "):
            shown[-1].append(line.strip())
        else:
            shown.append([])
    return shown


def test_lessons_of_multiprocessing(start):
    queue, unordered, reduced, pipe, shared = lessons(start, "multiprocessing_")
    assert queue == ["10 tasks, 2 processes: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]"]
    assert sorted(unordered) == [f"a row of {work.row(number)} steps" for number in (512, 0)]
    assert reduced == ["a Pool has reduce: False", "the sum of 10 squares: 285"]
    assert pipe == ["sent 12, received 144", "duplex=False: can send: [False, True]"]
    assert shared == [f"2 processes wrote {[0.0, 1.0] * 5}"]


def test_lessons_of_threading(start):
    lost, kept, deadlock, ordered, again, bounded, notified, cores = lessons(start, "threading_")
    assert lost == ["2 threads added 1 each: the counter is 1"]
    assert kept == ["2 threads added 1 each: the counter is 2"]
    assert deadlock == ["got the second lock in 0.1 s: [False, False]"]
    assert ordered == ["got both locks: [True, True]"]
    (tries,) = again
    numbers = [int(text) for text in re.findall(r"\d+", tries)]
    assert tries.startswith("tries until each had both locks: ")
    # At first both hold a lock, so that one has to let go.
    assert len(numbers) == 2 and max(numbers) >= 2
    assert bounded == ["most of 6 threads inside at once: 2"]
    assert notified == ["woken by [0, 1, 2]"]
    has = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert cores[0] == f"this Python has the lock: {has}"
    assert [line.split(":")[0] for line in cores[1:]] == ["Python", "Numba"]


def test_lessons_of_futures(start):
    completed, cancelled = lessons(start, "futures_")
    assert sorted(completed) == [f"row {number}: {work.row(number)} steps" for number in (0, 512)]
    assert cancelled == ["cancelled: [False, True, True]", "done:      [True, False, False]"]


def test_an_update_is_lost_every_time(capsys):
    for _ in range(20):
        races.lost()
    assert capsys.readouterr().out == 20 * "  2 threads added 1 each: the counter is 1\n"


def test_help_has_the_lines_that_start_an_engine(start):
    out = started(start, ROOT / "engines" / "futures_.py", "--help")
    for line in ("--work rows --workers 2", "--lessons"):
        assert f"    python engines/futures_.py {line}\n" in out
    assert f"one for each core: {work.cores()}" in " ".join(out.split())
