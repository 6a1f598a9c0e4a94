"""The command ``rankwise compare``: what it takes, and what it prints."""

import argparse
import re
import sys
from pathlib import Path

from rankwise.report.command import show

DESCRIPTION = "Say at each rank count whether B, the later of two versions, is slower than A."
EXAMPLES = """examples:
  rankwise compare results/OLD results/NEW
  rankwise compare results/OLD results/NEW --output comparison.html
  rankwise compare results/OLD results/NEW --fail-above 5% || exit   # in CI

A verdict takes six launches on both sides. With --fail-above the exit status is 1 if B is surely
slower by more at any rank count, or if all its launches failed where A has one that succeeded; 2 if
no rank count has six launches on both sides, since such a check cannot fail; and 0 otherwise, with
the smallest slowdown that could have been shown. It is always 2 if A and B differ in their work,
their threads or the source of their seconds, or if the page cannot be written.
docs/reading-a-report.md says what every number means.
"""
_PER_CENT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?%")
_MOST = 1000
# `report.html` and `scaling.csv` are files of `rankwise report`.
_REPORT = ("report", "scaling")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rankwise compare``."""
    add = parser.add_argument
    add("a", metavar="A", type=Path, help="folder of a sweep")
    add("b", metavar="B", type=Path, help="folder of the sweep that is compared with it")
    meaning = "exit with 1 if B is surely slower by more at any rank count, for example 5%%"
    add("--fail-above", metavar="P%", type=_slowdown, help=meaning)
    meaning = "the page, with a .csv beside it (comparison.html in B)"
    add("--output", metavar="FILE.html", type=_page, help=meaning)


def _slowdown(text: str) -> float:
    """Return a part from per cent."""
    found = _PER_CENT.fullmatch(text)
    if not found or float(found[1]) > _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 5%, from 0% to {_MOST}%")
    return float(found[1]) / 100


def _page(text: str) -> Path:
    if Path(text).suffix != ".html":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .html")
    if Path(text).stem in _REPORT:
        why = "would have the name of a file of a report"
        raise argparse.ArgumentTypeError(f"{text!r}, or the .csv beside it, {why}")
    return Path(text)


def main(args: argparse.Namespace) -> int:
    """Print and write a comparison, and return the exit status."""
    # Help needs none of these libraries.
    from rankwise.analysis.comparison import compare
    from rankwise.report import comparison as words
    from rankwise.report import comparison_page, comparison_tables, tables
    from rankwise.sweep.folder import FolderError, load

    slowdown = args.fail_above
    try:
        a, b = load(args.a), load(args.b)
        if args.a.samefile(args.b):
            return _refuse(f"{args.a} and {args.b} are the same folder")
        comparison = compare(a, b)
        if wrong := words.refusal(comparison):
            return _refuse(wrong)
    except (FolderError, OSError) as error:
        return _refuse(str(error))
    # Before anything is written: a folder may be read-only.
    show(comparison_tables.terminal(comparison, slowdown))
    path = args.output or args.b / "comparison.html"
    try:
        written = comparison_page.write(comparison, slowdown, path)
    except OSError as error:
        return _refuse(f"cannot write {path}: {error.strerror}")
    show("\nThe comparison is in " + "  ".join(tables.line(str(each)) for each in written))
    status = words.status(comparison, slowdown)
    return _refuse(words.no_check(comparison)) if status == 2 else status


def _refuse(why: str) -> int:
    from rankwise.report import tables

    print(f"rankwise compare: error: {tables.line(why)}", file=sys.stderr)
    return 2
