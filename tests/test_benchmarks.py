"""The benchmarks run and print their table; the figures are for the eye."""

import json
import re
import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from rankwise.node import variants

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("groups", "lines"),
    [
        ("heat,inside", 1 + 3),
        # Of the other engines some are in no other environment.
        pytest.param("kernel,ranks,queue", 4 + 12 + 8, marks=pytest.mark.engines),
    ],
)
def test_a_short_run_prints_its_table_and_keeps_every_sample(start, tmp_path, groups, lines):
    command = (FOLDER / "bench.py", "--n", "1e6", "--rounds", "1", "--output", "b.json")
    # Some dozen programs, one after the other, each of which may take as long as one.
    done = start(None, *command, "--only", groups, limit=180)
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "b.json").read_text())
    assert {"processor", "cores", "mpi", "numpy"} <= set(saved["machine"])
    assert len(saved["lines"]) == lines
    for line in saved["lines"]:
        assert len(line["ours"]) == len(line["others"]) == 1
        assert min(line["ours"]) > 0
        assert min(line["others"]) > 0
        assert re.search(rf"^{re.escape(line['what'])} .*{line['ratio']:.2f}", done.stdout, re.M)
    # Other tests may run beside this one: no verdict then, and never both.
    verdicts = re.findall(r" (yes|no)$", done.stdout, re.M)
    asked = [line for line in saved["lines"] if line["asked"]]
    assert len(verdicts) == (0 if saved["noise"] else len(asked))
    assert ("no verdict" in done.stdout) == bool(saved["noise"])


@pytest.mark.parametrize("ratio", [0.5, 2.0])
@pytest.mark.parametrize("asked", ["<= 1.15", ">= 1.15"])
def test_a_claim_is_met_or_not(ratio, asked):
    comparison = runpy.run_path(str(FOLDER / "comparison.py"))
    met = "yes" if (ratio < 1.15) == asked.startswith("<=") else "no"
    assert comparison["verdict"]({"ratio": ratio, "asked": asked}) == met


def test_an_unknown_group_is_named(start):
    done = start(None, FOLDER / "bench.py", "--only", "kernel,nonsense")
    assert done.returncode == 2
    assert "no group nonsense: choose from kernel, " in done.stderr


def test_the_benchmark_of_a_gpu_calls_what_there_is(monkeypatch, capsys):
    """On NumPy in place of CuPy: what it measures here is nothing, but it runs to its end."""
    stream = types.SimpleNamespace(synchronize=lambda: None)
    names = ("asarray", "dot", "copyto", "empty", "zeros", "zeros_like")
    fake = types.SimpleNamespace(**{name: getattr(np, name) for name in names})
    fake.cuda = types.SimpleNamespace(get_current_stream=lambda: stream)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=np.empty))
    module = runpy.run_path(str(FOLDER / "gpu.py"))
    monkeypatch.setitem(module["on_device"].__globals__, "HEAT_SIDE", 30)
    load = variants.load
    monkeypatch.setattr(variants, "load", lambda kernel, variant: load(kernel, "numpy"))
    ways = module["on_device"](10**5)
    samples = module["sample"](ways, 2, 3)
    assert set(samples) == {"sum_squares", "dot", "device copy", "heat"}
    assert all(len(each) == 2 and min(each) > 0 for each in samples.values())


def test_moves_between_files_are_counted_on_rank_0(start, tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "library.py").write_text("def f(): pass")
    (tmp_path / "other.py").write_text("def f(): pass")
    job = tmp_path / "jobs" / "job.py"
    job.write_text(
        "import sys; sys.path[:0] = sys.argv[1:]; import library, other\n"
        "def f(): library.f(); library.f()\n"
        "for _ in range(3): other.f(); other.f(); f()"
    )
    done = start(2, FOLDER / "moves.py", job, tmp_path, tmp_path / ".venv")
    # To the other one at its import, from it three times, to it again twice.
    assert (done.stdout, done.returncode) == ("6 moves between 2 files\n", 0), done.stderr
