"""The command ``rankwise show``: what it takes, and what it prints."""

import argparse
import sys
from pathlib import Path
from typing import Any

from rankwise.ranks.words import printable

DESCRIPTION = "Show the record of a run: its results, its checks and where time went."
EXAMPLES = """examples:
  rankwise show results/FILE.h5 --json
  rankwise show results/FILE.h5 --picture plate.png
  rankwise show results/FILE.h5 --picture counts.pdf --result counts

A picture shows a result of one or two dimensions, with its unit and its axes.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rankwise show``."""
    add = parser.add_argument
    add("record", metavar="FILE.h5", type=Path, help="a record")
    add("--json", action="store_true", help="print one JSON line")
    meaning = "draw a result: a file that ends in .png, .svg or .pdf"
    add("--picture", metavar="FILE.png", type=_picture, help=meaning)
    meaning = "the one to draw (the largest of two dimensions, else of one)"
    add("--result", metavar="NAME", help=meaning)
    add("--force", action="store_true", help="replace a picture that exists")


def _picture(text: str) -> Path:
    path, endings = Path(text), (".png", ".svg", ".pdf")
    if path.name.lower() in endings:
        raise argparse.ArgumentTypeError(f"{text!r} has no name before its ending")
    if path.suffix.lower() not in endings:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png, .svg or .pdf")
    return path


def main(args: argparse.Namespace) -> int:
    """Print a record, draw what is asked for, and return the exit status."""
    # Help needs none of these libraries.
    from rankwise.disk import record as records
    from rankwise.disk import summary
    from rankwise.ranks.agreement import USAGE, Stop

    try:
        if args.picture is None and (args.result is not None or args.force):
            raise Stop("--result and --force are for a --picture FILE.png")
        record = records.read(args.record)
        facts = summary.summary(record)
        # Before anything is printed: a picture may fail.
        if args.picture is not None:
            facts["picture"] = _draw(record, args)
        summary.show(facts, args.record, args.json)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, Stop) as error:
        print(printable(f"rankwise show: error: {error}"), file=sys.stderr)
        return error.status if isinstance(error, Stop) else USAGE
    return 0


def _draw(record: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Write the picture, and return what is told of it."""
    from rankwise.disk import files
    from rankwise.report import picture

    files.require_writable(args.picture, args.force, "picture", picture.is_picture, "--picture")
    name = picture.choose(record.results, args.result)
    path = picture.write(record, name, args.picture, args.force)
    return {"file": str(path), "result": name, "shape": record.results[name].values.shape}
