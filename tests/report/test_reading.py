"""The numbers of the example in docs/reading-a-report.md come out right."""

import re
from pathlib import Path

import pytest

from rankwise.analysis import laws
from rankwise.analysis.comparison import compare
from rankwise.report import comparison_tables, numbers
from rankwise.sweep.folder import Sweep
from tests.analysis.examples import WIGGLE, plan, run

PAGE = Path(__file__).parents[2] / "docs" / "reading-a-report.md"
TEXT = " ".join(PAGE.read_text().split())


def test_table_follows_from_the_sentence_before_it():
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert [int(ranks) for ranks, _ in rows] == [1, 2, 4, 8, 16]
    for ranks, cells in ((int(ranks), cells.split(" | ")) for ranks, cells in rows):
        seconds = 5 + 95 / ranks
        speedup = 100 / seconds
        serial = f"{laws.karp_flatt(speedup, ranks):.4f}" if ranks > 1 else "-"
        # Decimal rounding of 16.875 and the like: to the even digit, as Python does.
        assert cells == [
            f"{seconds:.2f}", f"{speedup:.2f}", numbers.percent(speedup / ranks), serial,
            f"{ranks * seconds / 3600:.4f}",
        ]  # fmt: skip


@pytest.mark.parametrize(
    "before, written, value",
    [
        ("a result costs ", "1.75", 16 * (5 + 95 / 16) / 100),
        ("stays below 1 / *s* = ", "20", 1 / 0.05),
        ("sqrt((1 - sigma) / kappa): about ", "31", ((1 - 0.05) / 0.001) ** 0.5),
        ("8 ranks do ", "7.65", 8 - 0.05 * 7),
        ("speedup would be ", "5.00", 100 / 20),
        ("5.00 and the value ", "0.0857", laws.karp_flatt(5.0, 8)),
        ("all six has a chance of 2 / 2^6 = ", "3", 100 * 2 / 2**6),
        ("With five it is ", "6", 100 * 2 / 2**5),
        ("1.2 GB in every repeat. That takes ", "0.040", 1.2 / 30),
        ("need 0.044 s for it, they move ", "27.3", 1.2 / 0.044),
        ("27.3 GB/s, or ", "91", 100 * 1.2 / 0.044 / 30),
        ("make the kernel at most ", "1.10", 0.044 / (1.2 / 30)),
        ("at 0.030 s it would be ", "133", 100 * 1.2 / 0.030 / 30),
        ("8 x 16.88 / 3600 = ", "0.0375", 8 * (5 + 95 / 8) / 3600),
        ("One rank has 8 / 16 = ", "50", 100 * 8 / 16),
        ("that take 4.5 s have 8 / (2 x 4.5) = ", "88.9", 100 * 8 / (2 * 4.5)),
    ],
)
def test_numbers_in_the_text(before, written, value):
    assert re.search(re.escape(before + written) + r"(?![\d])", TEXT)
    digits = len(written.partition(".")[2])
    assert f"{value:.{digits}f}" == written


def test_table_of_two_versions_is_what_the_command_prints():
    def sweep(name, factors, wiggle):
        points = [(p, factor, k) for p, factor in factors.items() for k in range(6)]
        some = [
            run(ranks=p, launch=k + 1, seconds=(0.2 + 8 / p) * factor * wiggle[(k + p) % 6])
            for p, factor, k in points
        ]
        return Sweep(Path(name), plan([1, 2, 4]), some, [])

    old = sweep("old", {1: 1, 2: 1, 4: 1}, WIGGLE)
    new = sweep("new", {1: 1.08, 2: 1.01, 4: 0.94}, WIGGLE[::-1])
    (block,) = re.findall(r"```text\n( +A  .*?\n)```", PAGE.read_text(), re.DOTALL)
    assert block in comparison_tables.terminal(compare(old, new), None)
