"""Fixtures for all tests, and what keeps a test run under MPI from hanging.

Tests marked ``mpi`` take ``comm`` and hold for any number of ranks: they run in one process, which
is rank 0 of 1, and under ``mpirun`` on all ranks at once. The others start their programs
themselves.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import kernels.sum_squares

# Numba fixes the size of its thread pool when it is imported; tests ask for up to this many.
os.environ.setdefault("NUMBA_NUM_THREADS", "4")

# The simulator's scheduler spins, so that a thread which computes for more than the 5 ms that
# Python gives it at a time waits for seconds. So blocks are shorter there, before a variant is
# imported. With threads on several cores it takes minutes instead of seconds, since they pass
# Python's lock on slowly. So each rank is bound to one core.
if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(os.environ.get("PMI_RANK", 0)) % len(_cores)]})
    kernels.sum_squares.BLOCK //= kernels.sum_squares.ROWS // 16
    kernels.sum_squares.ROWS = 16

RANK_LIMIT_SECONDS = 60


def _world():
    from mpi4py import MPI

    return MPI.COMM_WORLD


def _size(config):
    return _world().size if config.getoption("--with-mpi", default=False) else 1


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    size = _size(config)
    # Without this, four copies of "rank 0 of 1" would pass for a run on four ranks.
    if size != int(os.environ.get("EXPECTED_RANKS", size)):
        pytest.exit(f"{size} ranks were started, not as expected", returncode=3)
    if size == 1:
        # So that the fixtures end what the tests have started.
        signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))
        return
    if _world().rank > 0:
        config.option.xmlpath = None
    # Ranks that share pytest's folder for temporary files remove it under each other's feet.
    root = Path(tempfile.gettempdir()) / f"pytest-{os.getuid()}-rank-{_world().rank}"
    root.mkdir(mode=0o700, exist_ok=True)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(root)


def pytest_itemcollected(item):
    """Refuse marks with which no stage of `tests/stages.py` would run a test."""
    marks = {mark.name for mark in item.iter_markers()}
    alone = {"mpi", "chromium", "cudasim", "cuda_compile", "programs", "engines"}
    apart = {"long": alone, "sizes": {"cudasim"}}
    wrong = any(mark in marks and marks & others for mark, others in apart.items())
    if wrong or ("sizes" in marks and "mpi" not in marks):
        raise pytest.UsageError(f"{item.nodeid}: no stage runs tests with these marks: {marks}")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    config = session.config
    if _size(config) > 1 and _world().rank > 0:
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        terminal._tw._file = open(os.devnull, "w")


def pytest_runtest_logreport(report):
    """End all ranks when a test fails on one: the others would wait for it for ever."""
    if report.failed and "mpi4py.MPI" in sys.modules and _world().size > 1:
        rank, size = _world().rank, _world().size
        text = f"{report.nodeid} failed on rank {rank} of {size}\n{report.longreprtext}"
        print(text, file=sys.__stderr__, flush=True)
        _world().Abort(1)


@pytest.fixture
def comm():
    """All ranks of this test run."""
    return _world()


@pytest.fixture
def mpirun():
    """Return the launcher of this environment."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


@pytest.fixture
def start(tmp_path, mpirun):
    """Return a function that starts a program in a folder of its own and waits for its end.

    ``start(ranks, *command, env=None, cwd=None, limit=seconds)``: under ``mpirun``, bare if
    ``ranks`` is None.
    """

    def run(ranks, *command, env=None, cwd=None, limit=RANK_LIMIT_SECONDS):
        launcher = [mpirun, "-n", str(ranks)] if ranks else []
        return subprocess.run(
            [*launcher, sys.executable, *map(str, command)],
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=limit,
            cwd=cwd or tmp_path,
            env={**os.environ, **(env or {})},
        )

    return run


@pytest.fixture
def quota():
    """Return a function that gives this process, and what it starts, the time of so many cores."""
    from rankwise.node import groups

    own = [folder for _, folder in groups._folders("cpu", groups._ROOT, groups._OWN)]
    first = next((folder for folder in own if (folder / "cgroup.procs").exists()), None)
    if first is None or not os.access(first / "cgroup.procs", os.W_OK):
        pytest.skip("no group of this process may be given a quota here")
    group = first / f"rankwise-test-{os.getpid()}"

    def give(cores):
        group.mkdir(exist_ok=True)
        if (group / "cpu.cfs_quota_us").exists():
            period = int((group / "cpu.cfs_period_us").read_text())
            (group / "cpu.cfs_quota_us").write_text(str(int(cores * period)))
        elif (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{int(cores * 100_000)} 100000")
        else:
            pytest.skip("the groups of this process have no quotas")
        (group / "cgroup.procs").write_text(str(os.getpid()))

    yield give
    if group.exists():
        (first / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()
