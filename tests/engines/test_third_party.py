"""Engines of others: the same answer, no process left, and what is wrong told in one sentence."""

import json
import math
import re
import time
import uuid
from pathlib import Path

import psutil
import pytest

from engines import mpi_, work

ENGINES = Path(work.__file__).parent
USE = Path(__file__).with_name("use_pool.py")
FUTURES = ("-m", "mpi4py.futures")
# Ray on a busy machine.
LIMIT_SECONDS = 240

needs_engines = pytest.mark.engines


@pytest.fixture(scope="module")
def digest():
    """The last line for all rows, which are done here."""
    row, numbers = work.tasks_of("rows")
    return f"digest {work.digest(list(map(row, numbers)))}"


@pytest.fixture
def mark():
    """A variable that a program passes on to all that it starts."""
    return {"RANKWISE_TEST": uuid.uuid4().hex}


def left(mark, seconds=30):
    """Return what still runs of the processes with a mark, at the latest after some seconds."""
    end = time.monotonic() + seconds
    while True:
        found = list(psutil.process_iter(["environ", "cmdline"]))
        found = [p for p in found if mark.items() <= (p.info["environ"] or {}).items()]
        if not found or time.monotonic() > end:
            return [process.info["cmdline"] for process in found]
        time.sleep(0.1)


def workers(output):
    """Return the workers that a table names."""
    return re.findall(r"^(\S+ \d+) +\d+ ", output, re.MULTILINE)


def check_use(done):
    """Check what `use_pool.py` got from an engine, and return it."""
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["roots"] == list(range(50))
    # Ray puts the traceback of the worker before it.
    assert found["raised"].endswith("math domain error")
    assert found["none"] == []
    assert found["several"] == 20
    assert 1 <= len(found["workers"]) <= 2
    assert found["own"] not in found["workers"]
    assert found["left"] == []
    return found


def check_refusal(done, *words):
    """Check that one sentence was printed, with all of some words, and the status is 2."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert all(word in line for word in ("error: ", *words)), line


@needs_engines
@pytest.mark.parametrize("name", ["joblib_", "dask_", "ray_"])
def test_all_give_one_digest_and_leave_no_process(start, tmp_path, name, digest, mark):
    # From another folder, in which there are other kernels.
    (tmp_path / "kernels.py").write_text("raise SystemExit('a stranger')")
    command = (ENGINES / f"{name}.py", "--work", "rows", "--workers", "2")
    done = start(None, *command, env=mark, limit=LIMIT_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == digest
    assert 1 <= len(workers(done.stdout)) <= 2
    assert left(mark) == []


@needs_engines
@pytest.mark.parametrize("raised", [(), ("raised",)])
def test_a_heartbeat_at_the_end_of_dask_is_no_error(start, mark, raised):
    program = USE.with_name("end_in_a_heartbeat.py")
    done = start(None, program, *raised, env=mark, limit=LIMIT_SECONDS)
    assert (done.stdout, done.stderr.split()) == ("[1, 2]\n", list(raised))
    assert (done.returncode, left(mark)) == (len(raised), [])


@needs_engines
@pytest.mark.parametrize("name", ["joblib_", "dask_", "ray_"])
def test_the_order_is_kept_and_what_raises_is_raised(start, name, mark):
    found = check_use(start(None, USE, name, 2, env=mark, limit=LIMIT_SECONDS))
    during, after = found["folders"]
    assert (len(during), after) == (1 if name == "ray_" else 0, [])
    assert left(mark) == []


@needs_engines
def test_ranks_are_a_cluster_of_dask(start, digest, mark):
    done = start(4, ENGINES / "dask_.py", env=mark, limit=LIMIT_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == digest
    assert len(workers(done.stdout)) == 2
    assert left(mark) == []


@needs_engines
def test_too_few_ranks_for_a_cluster_of_dask_are_refused_once(start):
    check_refusal(start(2, ENGINES / "dask_.py", limit=LIMIT_SECONDS), "start 3 ranks or more")


@needs_engines
def test_how_many_workers_a_cluster_of_ranks_has_is_up_to_the_launcher(start):
    done = start(4, ENGINES / "dask_.py", "--workers", "2", limit=LIMIT_SECONDS)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("error: unrecognized arguments: --workers 2\n") == 1


@pytest.mark.parametrize(
    ("ranks", "name", "extra"),
    [
        (None, "joblib_", "engines"),
        (None, "ray_", "ray"),
        (None, "dask_", "engines"),
        (2, "dask_", "engines"),
    ],
)
def test_a_package_that_is_not_there_is_told_with_what_brings_it(start, ranks, name, extra):
    done = start(ranks, ENGINES / f"{name}.py")
    check_refusal(done, f"{name}.py: error: no ", f"pip install -e '.[{extra}]'")


def test_ranks_are_workers_of_mpi4py(start, digest):
    done = start(3, *FUTURES, ENGINES / "mpi_.py", "--work", "rows")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == digest
    assert len(workers(done.stdout)) == 2


def test_a_program_of_its_own_uses_mpi4py(start):
    check_use(start(3, *FUTURES, USE, "mpi_", 2))
    done = start(3, *FUTURES, USE, "mpi_", 3)
    assert done.stdout.startswith("3 workers beside this program: mpirun -n 4 python -m mpi4py.")


@pytest.mark.parametrize(("ranks", "runner"), [(None, ()), (2, ()), (None, FUTURES)])
def test_workers_that_no_launcher_starts_are_refused_once(start, ranks, runner):
    line = "mpirun -n 3 python -m mpi4py.futures engines/mpi_.py --work rows"
    check_refusal(start(ranks, *runner, ENGINES / "mpi_.py", "--work", "rows"), line)


def test_run_refuses_to_wait_for_workers_that_nothing_starts():
    with pytest.raises(work.Mistake, match=r"mpirun -n 3 python -m mpi4py\.futures"):
        mpi_.run(math.sqrt, [1], 2)
