"""The README's commands run, and what it shows is what they print."""

import re
from pathlib import Path

import pytest

from tests.cases import long
from tests.copies import copy_clone, work

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
    printed = work(clone, commands)
    if shown is not None:
        assert first_words(printed) == first_words(shown)


def first_words(text):
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def test_length():
    assert len(README.splitlines()) <= 270
