"""The command ``rankwise report``: what it takes, and what it prints."""

import argparse
import sys
from pathlib import Path

from rankwise.sweep import billing
from rankwise.sweep.options import whole_number

DESCRIPTION = "Make tables, figures and a page from the folder of a sweep, and put them there."
EXAMPLES = """examples:
  rankwise report results/sum_squares-scaling-20260102T030405Z
  rankwise report results/SWEEP --efficiency 0.5
  rankwise report results/SWEEP --fit-oversubscribed
  rankwise report results/SWEEP --charge '0.02 EUR per core-hour' --runs 100

FOLDER may also hold several sweeps of one command, one folder each, for example one per node count.
docs/reading-a-report.md says what every number means.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rankwise report``."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of a sweep, finished or not")
    add_options(parser)
    meaning = "of a node that is billed, for a --charge by the node-hour outside Slurm"
    parser.add_argument("--cores-per-node", metavar="N", type=whole_number, help=meaning)
    billing.add_options(parser)


def add_options(parser: argparse._ActionsContainer) -> None:
    """Add those that a sweep takes too, which makes the report at its end."""
    parser.add_argument(
        "--efficiency",
        metavar="E",
        type=_efficiency,
        default=0.7,
        help="recommend the largest measured rank count with at least this efficiency (0.7); where "
        "whole nodes are billed, as billed",
    )
    parser.add_argument(
        "--fit-oversubscribed",
        action="store_true",
        help="use points with more ranks x threads than cores too, for programs that wait rather "
        "than compute",
    )


def _efficiency(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number above 0 and at most 1, such as 0.7"
        )
    return value


def main(args: argparse.Namespace) -> int:
    """Print and write the report of a sweep, and return the exit status."""
    # Help needs none of these libraries.
    from rankwise.analysis.analysis import analyse
    from rankwise.analysis.cost import Billing
    from rankwise.report import page, tables
    from rankwise.sweep.folder import FolderError, load
    from rankwise.sweep.launchers import UsageError

    try:
        sweep = load(args.folder)
        billed = Billing.of(sweep.plan, args.charge, args.runs, args.cores_per_node)
        analysis = analyse(sweep, args.efficiency, args.fit_oversubscribed, billed)
        # Before anything is written: a folder may be read-only.
        show(tables.terminal(analysis))
        paths = page.write(analysis, sweep)
    except BrokenPipeError:
        raise
    except (FolderError, UsageError, OSError) as error:
        print(f"rankwise report: error: {tables.line(str(error))}", file=sys.stderr)
        return 2
    show("\nThe report is in " + tables.line(str(args.folder)))
    show("  ".join(["", *(path.name for path in paths), "figures/"]))
    return 0


def show(text: str) -> None:
    """Print text, with escapes for what the terminal cannot write."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
