"""Variables of OpenMP that are wrong for ranks: alone, and in a job that loads the real library."""

import os
from pathlib import Path

import pytest

from rankwise.disk import record
from rankwise.node import openmp

JOB = Path(__file__).parents[2] / "jobs" / "sum_squares.py"
CORES = tuple(sorted(os.sched_getaffinity(0)))
NAMES = (*openmp._BINDING, "OMP_THREAD_LIMIT", "OMP_DYNAMIC")
# Ranks that a launcher has bound or not; at the end each tells where its main thread may run.
SCRIPT = f"""
import atexit, os, runpy, sys
rank = int(os.environ["PMI_RANK"])
if sys.argv.pop(1) == "bound":
    os.sched_setaffinity(0, {{{CORES}[rank]}})
atexit.register(lambda: open(f"{{rank}}.txt", "w").write(
    f"{{sorted(os.sched_getaffinity(0))}} {{os.environ.get('OMP_PROC_BIND')}}"))
sys.argv[0] = {str(JOB)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Node:
    """The ranks of a node: this one, and another that is told something else, or the same."""

    def __init__(self, cores=None, told=None):
        self.cores, self.told = cores, told

    def allgather(self, mine):
        other = (frozenset(self.cores or ()), mine[1] if self.told is None else self.told)
        return [mine, other] if self.cores else [mine]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "value", "binds"),
    [
        ("OMP_PROC_BIND", "true", True),
        ("OMP_PROC_BIND", "close,spread", True),
        ("OMP_PROC_BIND", " FALSE", False),
        ("OMP_PROC_BIND", "", False),
        ("OMP_PLACES", "cores", True),
        ("OMP_PLACES", "{0},{1}", True),
        ("GOMP_CPU_AFFINITY", "0", True),
        ("KMP_AFFINITY", "granularity=fine,compact", True),
        ("KMP_AFFINITY", "proclist=[3]", True),
        ("KMP_AFFINITY", "disabled", False),
        ("KMP_HW_SUBSET", "1c", True),
    ],
)
def test_what_binds_is_removed_where_ranks_share_cores(monkeypatch, name, value, binds):
    monkeypatch.setenv(name, value)
    listed = "0" in value or "proclist" in value
    # Nobody else, or one who is told otherwise, or is on other cores: it is meant.
    assert openmp.prepare(Node(), (0, 1), 1) == []
    assert openmp.prepare(Node({0, 1}, {name: "other"}), (0, 1), 1) == []
    if not listed:
        assert openmp.prepare(Node({2, 3}), (0, 1), 1) == []
    assert os.environ[name] == value
    notes = openmp.prepare(Node({2, 3} if listed else {1, 2}), (0, 1), 1)
    assert [note.startswith(f"{name}={value} is not used: ") for note in notes] == [True] * binds
    assert (name in os.environ) == (not binds)


@pytest.mark.parametrize(
    ("name", "value", "threads", "removed"),
    [
        ("OMP_THREAD_LIMIT", "1", 2, True),
        ("OMP_THREAD_LIMIT", "2", 2, False),
        ("OMP_THREAD_LIMIT", "many", 2, False),
        ("OMP_DYNAMIC", "TRUE", 2, True),
        ("OMP_DYNAMIC", "true", 1, False),
        ("OMP_DYNAMIC", "false", 2, False),
    ],
)
def test_what_gives_fewer_threads_is_removed(monkeypatch, name, value, threads, removed):
    monkeypatch.setenv(name, value)
    notes = openmp.prepare(Node(), (0, 1), threads)
    assert notes == [f"{name}={value} is not used: --threads says how many a rank has"] * removed
    assert (name in os.environ) == (not removed)


def test_what_a_library_took_is_given_back(monkeypatch):
    assert openmp.look_again(CORES) == []
    os.sched_setaffinity(0, CORES[:1])
    try:
        with monkeypatch.context() as patch:
            patch.setenv("OMP_PROC_BIND", "true")
            assert openmp.look_again(CORES) == []
            # But not to cores of others.
            assert openmp.look_again(CORES[1:]) and os.sched_getaffinity(0) == set(CORES[1:])
        os.sched_setaffinity(0, CORES[:1])
        (note,) = openmp.look_again(CORES)
        assert tuple(sorted(os.sched_getaffinity(0))) == CORES
    finally:
        os.sched_setaffinity(0, CORES)
    assert "moved a rank from the cores " in note and f" to {CORES[0]};" in note


def test_ranks_that_share_cores_are_not_moved_to_the_first(start, tmp_path):
    variables = {"OMP_PROC_BIND": "true", "GOMP_CPU_AFFINITY": str(CORES[0])}
    options = ["--n", "1e5", "--repeats", "1", "--variant", "numba", "--output", "r.h5", "--force"]
    for how in ("free", "bound"):
        done = start(2, "-c", SCRIPT, how, *options, env=variables | {"PYTHONPATH": os.getcwd()})
        assert done.returncode == 0, done.stderr
        found = record.read(tmp_path / "r.h5")
        told = [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
        warnings = [text for text in found.attributes["warnings"] if "is not used" in text]
        if how == "free":
            assert told == [f"{list(CORES)} None"] * 2
            (text,) = warnings
            assert text.startswith(f"OMP_PROC_BIND=true GOMP_CPU_AFFINITY={CORES[0]} is not used")
            assert done.stderr.count(text) == 1
        else:
            # A list of CPUs would have moved the second rank.
            assert told == [f"[{core}] true" for core in CORES[:2]]
            (text,) = warnings
            assert text.startswith(f"GOMP_CPU_AFFINITY={CORES[0]} is not used")
            assert [row.decode() for row in found.ranks["cores"]] == [str(c) for c in CORES[:2]]
