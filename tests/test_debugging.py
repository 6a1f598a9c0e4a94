"""`docs/debugging.md`: its commands run, and print what it shows, but for the figures."""

import platform
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.copies import copy_clone, work

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "debugging.md").read_text()
# A block that cannot run here says so in a comment above it.
BLOCK = re.compile(
    r"(<!-- not run: [^\n]+ -->\n)?```bash\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL
)
BLOCKS = BLOCK.findall(PAGE)
RUN = [(commands, shown) for excuse, commands, shown in BLOCKS if not excuse]
# Addresses, digests and all other numbers, with what belongs to them, as in a time stamp. An exit
# status is no figure.
FIGURE = re.compile(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{16,}\b|(?<!status )\b\d(?:[\d.:T-]|e(?=-?\d))*Z?")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Copy the files that Git knows, so that nothing the commands write stays here."""
    return copy_clone(tmp_path_factory.mktemp("clone"))


def lines(text):
    """Count the lines of a text, by their words: without figures, folders and this host's name."""
    text = re.sub(r'"/[^"\n]*/(docs/examples/)', r'"\1', text)
    text = re.sub(rf"\b{re.escape(platform.node())}\b", "vm", text)
    words = [FIGURE.sub("0", line).split() for line in text.splitlines()]
    return Counter(" ".join(line) for line in words if line)


def test_blocks_are_found():
    assert PAGE.count("```bash") == len(BLOCKS) == 10
    assert PAGE.count("```text") == len([shown for _, shown in RUN if shown]) == 8
    assert len(RUN) == 9
    assert len(PAGE.splitlines()) <= 280


@pytest.mark.parametrize(("commands", "shown"), RUN, ids=range(len(RUN)))
def test_commands_print_what_is_shown(clone, commands, shown):
    printed, wanted = lines(work(clone, commands)), lines(shown or "...")
    # With dots in front the page shows some of the lines, without them all.
    some = wanted.pop("...", 0)
    assert wanted - printed == Counter()
    assert some or printed == wanted
