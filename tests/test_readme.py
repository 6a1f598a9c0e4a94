"""The README's commands run, and what it shows is what they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import long
from tests.copies import copy_clone

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# A block that cannot run here says so in a comment above it.
BLOCK = re.compile(
    r"(<!-- not run: [^\n]+ -->\n)?```bash\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL
)
BLOCKS = [match.groups() for match in BLOCK.finditer(README)]
RUN = [(commands, shown) for excuse, commands, shown in BLOCKS if not excuse]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Copy the files that git knows, so that nothing the commands write stays here."""
    return copy_clone(tmp_path_factory.mktemp("clone"))


def test_blocks_are_found():
    assert README.count("```bash") == len(BLOCKS)
    assert len(RUN) == 5


# Preflight takes seconds.
CASES = [case if "preflight" in case[0] else long(*case) for case in RUN]


@pytest.mark.parametrize(("commands", "shown"), CASES, ids=range(len(RUN)))
def test_commands_run_and_print_what_is_shown(clone, commands, shown):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=clone,
        # What is shown was printed without a GPU.
        env={**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    if shown is not None:
        assert first_words(done.stdout) == first_words(shown)


def first_words(text):
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def test_length():
    assert len(README.splitlines()) <= 270
