"""The benchmarks run and print their table; the figures are for the eye."""

import json
import re
import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_a_short_run_prints_its_table_and_keeps_every_sample(start, tmp_path):
    command = (FOLDER / "bench.py", "--n", "1e5", "--rounds", "1", "--output", "b.json")
    done = start(None, *command, "--only", "kernel,ranks,heat")
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "b.json").read_text())
    assert {"processor", "cores", "mpi", "numpy"} <= set(saved["machine"])
    assert len(saved["lines"]) == 4 + 12 + 1
    for line in saved["lines"]:
        assert len(line["ours"]) == len(line["others"]) == 1
        assert min(line["ours"]) > 0 and min(line["others"]) > 0
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
    numpy = __import__("kernels").load
    monkeypatch.setattr("kernels.load", lambda name, variant: numpy(name, "numpy"))
    ways = module["on_device"](10**5)
    samples = module["sample"](ways, 2, 3)
    assert set(samples) == {"sum_squares", "dot", "device copy", "heat"}
    assert all(len(each) == 2 and min(each) > 0 for each in samples.values())
