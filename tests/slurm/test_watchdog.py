"""A deadlock of ranks on two nodes is reported by the watchdog."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The job never ends by itself.
COMMAND = """\
srun -N 2 -n 3 "$@" --stall-seconds 1 --output {folder}/r.h5 &> {folder}/log &
until grep -q 'ranks 1-2' {folder}/log || ! kill -0 $!; do sleep 0.1; done
kill -TERM $!
wait
"""

pytestmark = pytest.mark.slurm


def test_ranks_of_two_nodes_say_where_they_stand(cluster, tmp_path):
    example = "docs/examples/mismatch.py"
    script = COMMAND.format(folder=tmp_path)
    cluster.run("bash", "-c", script, "-", sys.executable, example, cwd=ROOT)
    lines = (tmp_path / "log").read_text().splitlines()
    (first,) = (k for k, line in enumerate(lines) if line.startswith("mismatch.py: for "))
    stand = [re.split("  +", line)[1:4] for line in lines[first + 1 : first + 3]]
    assert [each[:2] for each in stand] == [["rank 0", "exchange"], ["ranks 1-2", "wait"]]
    assert all(re.fullmatch(rf"{example}:\d+", each[2]) for each in stand)
