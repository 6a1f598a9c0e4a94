"""What the environment tells Numba: refused in a sentence, ignored with one, or told of."""

import subprocess
import sys
import types
import warnings
from pathlib import Path

import numba
import pytest

from rankwise.node import numba_threads
from rankwise.ranks.agreement import Stop

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "sum_squares.py"


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in (*numba_threads._USUAL, "NUMBA_THREADING_LAYER", "NUMBA_CACHE_LOCATOR_CLASSES"):
        monkeypatch.delenv(name, raising=False)


def starts(monkeypatch, **variables):
    """Return the lines that a new process prints of its start with two threads."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    script = (
        "import os; from rankwise.node import numba_threads\n"
        "print(*numba_threads.start(2), sep='\\n')\n"
        "import numba; print(numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS)"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_values_that_mean_nothing_are_ignored_and_named(monkeypatch):
    lines = starts(
        monkeypatch,
        NUMBA_NUM_THREADS="abc",
        NUMBA_OPT="fast",
        NUMBA_DISABLE_JIT="",
        NUMBA_BOUNDSCHECK="1",
        NUMBA_CACHE_LOCATOR_CLASSES="Nothing",
        NUMBA_CPU_FEATURES="+avx2,foo",
        NUMBA_ENABLE_PROFILING="1",
    )
    assert lines == [
        "NUMBA_NUM_THREADS=abc is not used: it is no number of threads",
        "NUMBA_CPU_FEATURES=+avx2,foo is not used: it is no list of +name or -name",
        "NUMBA_CACHE_LOCATOR_CLASSES is not used: NUMBA_CACHE_DIR names a folder",
        "NUMBA_DISABLE_JIT= means nothing to Numba, which ignores it",
        "NUMBA_OPT=fast means nothing to Numba, which ignores it",
        "Numba obeys NUMBA_BOUNDSCHECK=1, NUMBA_ENABLE_PROFILING=1, so kernels may be slower than "
        "usual: remove it if it is not meant",
        "2 2",
    ]


@pytest.mark.parametrize(
    ("asked", "pool", "told"),
    [("", 2, False), ("5", 5, False), ("1", 2, False), ("0", 2, True), ("-1", 2, True),
     ("1000000000", 2, True)],
)  # fmt: skip
def test_the_pool_has_room_for_the_threads(monkeypatch, asked, pool, told):
    monkeypatch.setenv("NUMBA_NUM_THREADS", asked)
    notes = numba_threads._prepare(2)
    assert numba_threads.os.environ["NUMBA_NUM_THREADS"] == str(pool)
    assert [asked in note for note in notes] == [True] * told


def test_a_setting_that_numba_refuses_is_named(start):
    done = start(2, JOB, "--n", "1e5", "--output", "r.h5", env={"NUMBA_THREADING_LAYER": "none"})
    assert done.returncode == 2
    assert done.stderr == (
        "sum_squares.py: error: Numba does not start: The threading layer requested 'none' is "
        "unknown to Numba; it was told NUMBA_THREADING_LAYER=none\n"
    )


def test_a_file_of_settings_is_told_of(monkeypatch, tmp_path):
    assert numba_threads.start(1) == []
    (tmp_path / ".numba_config.yaml").write_text("opt: 0\n")
    (note,) = numba_threads.start(1)
    assert note.startswith("Numba obeys .numba_config.yaml, so kernels may be slower")
    # Where it cannot be read.
    told = types.SimpleNamespace(message="A Numba config file is found but YAML is missing")
    assert numba_threads._unusual({numba_threads._ignored(told)}) == []

    def refuse(threads):
        raise AttributeError("'list' object has no attribute 'items'")

    monkeypatch.setattr(numba, "set_num_threads", refuse)
    with pytest.raises(Stop, match=r"it was told .*\.numba_config.yaml of the working folder"):
        numba_threads.start(1)


def test_other_warnings_stay(monkeypatch):
    def warn(threads):
        warnings.warn("something else", RuntimeWarning, stacklevel=1)

    monkeypatch.setattr(numba, "set_num_threads", warn)
    with pytest.warns(RuntimeWarning, match="something else"):
        numba_threads.start(1)


def test_more_threads_than_there_is_room_for():
    with pytest.raises(Stop, match="export NUMBA_NUM_THREADS=1000"):
        numba_threads.start(1000)
