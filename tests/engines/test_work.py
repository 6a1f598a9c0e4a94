"""The works against what others say of them, their digest, and the command line of all engines."""

import argparse
import ast
import functools
import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines import work
from jobs import mandelbrot as job
from kernels.mandelbrot import coordinates, numba_, numpy_
from kernels.sum_squares import BLOCK, ROWS, error_bound
from kernels.sum_squares.numpy_ import block_sums

ROOT = Path(__file__).resolve().parents[2]

ENGINES = Path(work.__file__).parent
LONGER = {"multiprocessing_.py": 120, "threading_.py": 120}


def window():
    """Return the coordinates and the limit that the job has by default."""
    parser = argparse.ArgumentParser()
    job.options(parser)
    args = parser.parse_args(["--n", "1024"])
    return *coordinates(args.n, args.centre, args.width), args.limit


@pytest.mark.parametrize("number", [0, 200, 511, 1023])
def test_a_row_is_the_sum_of_the_counts_of_the_reference(number):
    x, y, limit = window()
    counts = np.empty(1024, np.int32)
    numpy_.counts(1024 * number, counts, x, y, limit)
    assert work.row(number) == sum(counts.tolist())


def test_the_digest_of_all_rows_is_that_of_the_picture():
    picture = np.empty((1024, 1024), np.int32)
    numba_.counts(0, picture.reshape(-1), *window())
    octets = picture.sum(axis=1, dtype=np.int64).tobytes()
    function, tasks = work.tasks_of("rows")
    found = work.digest([function(task) for task in tasks])
    assert found == hashlib.sha256(octets).hexdigest()[:12]


def test_pieces_of_the_vector_have_its_sum_of_squares():
    function, tasks = work.tasks_of("sum")
    total = math.fsum(sum_ for task in tasks for sum_ in function(task))
    x = np.random.default_rng(0).random(work.N)
    # A term passes the roundings of its block; fsum rounds the sum of all blocks once.
    bound = error_bound(work.N, total, ROWS + 5 + 1)
    assert abs(total - math.fsum(x * x)) <= bound + work.N * 2.0**-54
    assert bound < 1e-6


def test_block_sums_of_a_piece_are_those_of_the_reference():
    function, tasks = work.tasks_of("sum")
    for task in (tasks[0], tasks[-1]):
        first, end = task
        sums = np.empty(-(-(end - first) // BLOCK))
        block_sums(np.random.default_rng(0).random(end)[first:], sums)
        assert function(task).tobytes() == sums.tobytes()
    # The last one is not whole.
    assert (end - first) % BLOCK


def test_made_and_sent_data_are_the_same_vector_and_have_one_digest():
    made, sent = (work.tasks_of("sum", data) for data in ("made", "sent"))
    whole = np.concatenate(sent[1])
    assert whole.tobytes() == np.random.default_rng(0).random(work.N).tobytes()
    one, other = (
        work.digest([function(task) for task in tasks]) for function, tasks in (made, sent)
    )
    assert one == other


def test_any_change_of_a_result_changes_the_digest():
    results = [np.arange(3.0), np.arange(3.0, 5.0), np.array([7.0])]
    known = work.digest(results)
    assert known == hashlib.sha256(np.array([0.0, 1, 2, 3, 4, 7]).tobytes()).hexdigest()[:12]
    swapped = [results[1], results[0], results[2]]
    bit = [results[0], results[1], np.nextafter(results[2], 8)]
    sign = [np.array([-0.0, 1, 2]), *results[1:]]
    short = results[:2]
    assert len({known, *map(work.digest, (swapped, bit, sign, short))}) == 5
    assert work.digest([1, 2]) != work.digest([2, 1])


def test_spin_does_every_iteration():
    x = 88172645463325252
    for iterations in range(100):
        assert work.spin(iterations) == x
        x ^= x << 13 & (2**64 - 1)
        x ^= x >> 7
        x ^= x << 17 & (2**64 - 1)


def test_a_timed_task_has_the_cpu_seconds_of_its_own_thread():
    result, worker, seconds = work.timed(functools.partial(sum, start=1), [2, 3])
    assert result == 6
    assert worker.split()[-1].isdecimal()
    assert 0 <= seconds < 10


def called_by_name(task):
    return task


class Callable:
    def __call__(self, task):
        return task

    def method(self, task):
        return task


def inside():
    def local(task):
        return task

    return local


def refuse(workers):
    raise AssertionError("workers were started")


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda task: task, "<lambda>"),
        (inside(), "local"),
        (functools.partial(lambda task, factor: task, factor=2), "<lambda>"),
        (functools.partial(functools.partial(inside())), "local"),
        (Callable(), "Callable"),
        (Callable().method, "method"),
    ],
)
def test_what_workers_cannot_import_is_refused_before_they_start(function, name):
    with pytest.raises(
        work.Mistake, match=f"cannot import .*{name}.*: define the function with def"
    ):
        work.runner(refuse)(function, [1], 2)


@pytest.mark.parametrize(
    "function", [called_by_name, functools.partial(called_by_name), math.sqrt, work.spin, np.sqrt]
)
def test_what_workers_can_import_is_not_refused(function):
    work.require_importable(function)


@pytest.mark.parametrize("how", ["-c", "-"])
def test_a_function_that_is_in_no_file_is_refused(how):
    text = "from engines import work\ndef f(task): pass\nwork.runner(None)(f, [], 2)\n"
    done = subprocess.run(
        [sys.executable, *(["-c", text] if how == "-c" else ["-"])],
        input=text,
        capture_output=True,
        text=True,
        cwd=ENGINES.parent,
        timeout=60,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("engines.work.Mistake: workers in other processes cannot import f: ")


def test_no_workers_are_refused():
    with pytest.raises(work.Mistake, match="0 workers"):
        work.runner(refuse)(called_by_name, [], 0)


def call_main(monkeypatch, pool, *options, lessons=()):
    monkeypatch.setattr(sys, "argv", ["engines/some_.py", *options])
    work.main(pool, "Some engine.", *lessons)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--workers", "0"], f"'0' is not from 1 to {work.cores()}"),
        (["--workers", str(work.cores() + 1)], f"is not from 1 to {work.cores()}"),
        (["--workers", "-1"], "'-1' is not from 1"),
        (["--workers", "1.5"], "'1.5' is not from 1"),
        (["--workers", "two"], "'two' is not from 1"),
        (["--data", "sent"], "a row needs no data: --data sent and --n go with --work sum"),
        (["--work", "product"], "invalid choice: 'product'"),
        (["--lessons"], "unrecognized arguments: --lessons"),
    ],
)
def test_a_mistake_on_the_command_line_ends_before_workers_start(
    monkeypatch, capsys, options, text
):
    with pytest.raises(SystemExit) as end:
        call_main(monkeypatch, refuse, *options)
    assert end.value.code == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (work.Mistake("so and so"), "some_.py: error: so and so\n"),
        (
            ModuleNotFoundError("No module named 'joblib'", name="joblib"),
            "some_.py: error: no joblib: pip install -e '.[engines]', in the clone\n",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(monkeypatch, capsys, error, text):
    def pool(workers):
        raise error

    with pytest.raises(SystemExit) as end:
        call_main(monkeypatch, pool)
    assert end.value.code == 2
    assert capsys.readouterr().err == text


def test_a_missing_package_that_no_extra_brings_is_no_mistake(monkeypatch):
    def pool(workers):
        raise ModuleNotFoundError("No module named 'other'", name="other")

    with pytest.raises(ModuleNotFoundError, match="other"):
        call_main(monkeypatch, pool)


def test_lessons_print_what_they_show_and_do_no_work(monkeypatch, capsys):
    def lesson():
        """Its first line.

        More of it.
        """
        print("  what it shows")

    call_main(monkeypatch, refuse, "--lessons", lessons=(lesson, lesson))
    assert capsys.readouterr().out == 2 * "Its first line.\n  what it shows\n"


def chapters():
    """Return the source of each engine, by the name of its file."""
    return {path.name: path.read_text() for path in sorted(ENGINES.glob("[a-z]*_.py"))}


def test_engines_are_short():
    found = {name: source.count("\n") for name, source in chapters().items()}
    assert {"futures_.py", "multiprocessing_.py", "rankwise_.py", "threading_.py"} <= set(found)
    assert {name: lines for name, lines in found.items() if lines > LONGER.get(name, 60)} == {}


def test_what_an_engine_does_is_short():
    short = {"run", "pool", "threads", "serve", "compute"}
    paths = sorted(ENGINES.rglob("*.py"))
    assert ENGINES / "comparison" / "measure.py" in paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= (20 if node.name in short else 30), (path.name, node.name)


def test_each_engine_has_run_and_pool_and_says_how_it_is_started():
    for name, source in chapters().items():
        tree = ast.parse(source)
        own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        own |= {node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)}
        assert {"run", "pool"} <= own, name
        assert f"engines/{name} --work rows" in ast.get_docstring(tree), name


@pytest.mark.parametrize(
    ("words", "text"), [("--workers 1", "unrecognized arguments"), ("--data sent", "needs no data")]
)
def test_a_mistake_of_a_program_of_ranks_is_told_once(start, words, text):
    done = start(2, ROOT / "engines" / "rankwise_.py", *words.split())
    assert (done.returncode, done.stdout, done.stderr.count(text)) == (2, "", 1)
    assert "Traceback" not in done.stderr


def test_ranks_get_the_arrays_of_rank_0(start, tmp_path):
    (tmp_path / "own.py").write_text(OWN_ARRAYS)
    done = start(2, "own.py", env={"PYTHONPATH": str(ROOT)})
    assert (done.stdout, done.returncode) == ("[30.0, 33.0, 36.0, 39.0] []\n", 0), done.stderr


# Each rank has other arrays.
OWN_ARRAYS = """
from rankwise.job import launch
import numpy as np
from engines import rankwise_

def main(comm, argv):
    tasks = [np.full(3, 10.0 + number - 100 * comm.rank) for number in range(4)]
    results = comm.gather(list(map(float, rankwise_.run(np.sum, tasks, 2))))
    if comm.rank == 0:
        print(*results)

launch(main)
"""


def test_copies_that_would_each_do_everything_are_refused_once(start):
    done = start(3, ROOT / "engines" / "futures_.py", "--work", "rows")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("error: the launcher started 3 copies of this program") == 1
    assert done.stderr.count("\n") == 1


def test_a_program_of_ranks_is_refused_where_others_wait_for_tasks(start):
    done = start(2, "-m", "mpi4py.futures", ROOT / "engines" / "rankwise_.py")
    assert done.returncode == 2
    assert "error: all ranks run this program: leave out -m mpi4py.futures\n" in done.stderr
