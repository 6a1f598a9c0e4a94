"""The benchmarks run and print their table; the figures are for the eye."""

import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "sum_squares.py"


def test_sum_squares(start):
    done = start(None, BENCHMARK, "--n", "1e5", "--rounds", "2")
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert {"draw", "scatter", "kernel", "gather", "all but draw", "wall"} <= set(rows)
    verdict = ("The kernel has" in done.stdout, "no verdict" in done.stdout)
    assert sum(verdict) == 1
    assert sys.version.split()[0] in done.stdout
