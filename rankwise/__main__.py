"""The command line: ``rankwise sweep | import | report | compare | show | templates``.

A subcommand imports what it needs and nothing else: a sweep has no use for SciPy and Matplotlib.
"""

import argparse
import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rankwise.ranks import streams

EXAMPLES = """examples:
  rankwise sweep --ranks 1,2,4 --report -- jobs/sum_squares.py --n 2e7
  rankwise sweep --ranks 1..64 --folder scaling -- ./any_mpi_program --size 1000
  rankwise report scaling
  rankwise import times.csv --folder old
  rankwise compare scaling-old scaling-new
  rankwise show results/FILE.h5 --picture plate.png
  rankwise templates slurm

rankwise COMMAND --help says more of each.
"""

# Looked for before the first run: hours of measuring precede the report.
NEEDED = ("jinja2", "matplotlib", "scipy")


def main(argv: list[str]) -> int:
    """Run a subcommand and return its exit status."""
    if argv[:1] != ["sweep"]:
        return _main(argv)
    from rankwise.sweep import interrupts

    # Before what takes long: Python itself would die of some of them.
    interrupts.install()
    try:
        return _main(argv)
    except interrupts.Interrupted:
        status = interrupts.status()
        why = "out of time" if status == os.EX_TEMPFAIL else "interrupted"
        print(f"{why}; the same command goes on with this sweep", file=sys.stderr)
        return status


def _main(argv: list[str]) -> int:
    parser = _parser(argv)
    sweeping = argv[:1] == ["sweep"]
    # All that follows is the program's.
    where = argv.index("--") if sweeping and "--" in argv else len(argv)
    args, rest = parser.parse_known_args(argv[:where])
    if sweeping:
        from rankwise.sweep import sweep

        _require_libraries()
        return sweep.main(args, rest + argv[where:], _report_of)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if args.run is None:
        parser.print_help(sys.stderr)
        return 2
    return args.run(args)


def _report_of(args: argparse.Namespace, folder: Path) -> int:
    """Make the report of a sweep that is over, with the options that were given for it."""
    args.folder = folder
    return _report(args)


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    """Return the parser; of the subcommands, only the one that is wanted knows its arguments."""
    form: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    meaning = "Show how MPI programs scale, and what their runs recorded."
    parser = argparse.ArgumentParser("rankwise", description=meaning, epilog=EXAMPLES, **form)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (fill, meaning) in _COMMANDS.items():
        command = commands.add_parser(name, help=meaning, **form)
        if argv[:1] == [name]:
            fill(command)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        from rankwise import __version__

        print(f"rankwise {__version__}")
        parser.exit()


def _fill_sweep(parser: argparse.ArgumentParser) -> None:
    from rankwise.report import command
    from rankwise.sweep import sweep

    parser.usage, parser.description = sweep.USAGE, sweep.DESCRIPTION
    parser.epilog = sweep.EXAMPLES
    command.add_options(sweep.add_arguments(parser))


def _fill_import(parser: argparse.ArgumentParser) -> None:
    from rankwise.sweep import supplied

    parser.description, parser.epilog = supplied.DESCRIPTION, supplied.EXAMPLES
    supplied.add_arguments(parser)
    parser.set_defaults(run=supplied.main)


def _fill_report(parser: argparse.ArgumentParser) -> None:
    from rankwise.report import command

    parser.description, parser.epilog = command.DESCRIPTION, command.EXAMPLES
    command.add_arguments(parser)
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    from rankwise.report import command

    return _drawing(command.main, args)


def _drawing(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    _require_libraries()
    # Notebooks export one of their own, which a batch job lacks; none is needed to write a file.
    os.environ["MPLBACKEND"] = "agg"
    # No figure has a date, and NumPy stumbles over one that is no number.
    os.environ.pop("SOURCE_DATE_EPOCH", None)
    # It warns where it cannot keep its cache, and of settings that no figure takes.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    return main(args)


def _fill_compare(parser: argparse.ArgumentParser) -> None:
    from rankwise.report import compare

    parser.description, parser.epilog = compare.DESCRIPTION, compare.EXAMPLES
    compare.add_arguments(parser)
    parser.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> int:
    from rankwise.report import compare

    return _drawing(compare.main, args)


def _fill_show(parser: argparse.ArgumentParser) -> None:
    from rankwise.report import show

    parser.description, parser.epilog = show.DESCRIPTION, show.EXAMPLES
    show.add_arguments(parser)
    parser.set_defaults(run=_show)


def _show(args: argparse.Namespace) -> int:
    from rankwise.report import show

    return show.main(args) if args.picture is None else _drawing(show.main, args)


def _fill_templates(parser: argparse.ArgumentParser) -> None:
    from rankwise.sweep import templates

    parser.description, parser.epilog = templates.DESCRIPTION, templates.EXAMPLES
    templates.add_arguments(parser)
    parser.set_defaults(run=templates.main)


_COMMANDS = {
    "sweep": (_fill_sweep, "run a program at several rank counts"),
    "import": (_fill_import, "a folder like that of a sweep from a table of times"),
    "report": (_fill_report, "tables, figures and a page from the folder of a sweep"),
    "compare": (_fill_compare, "which of two sweeps is slower, and by how much"),
    "show": (_fill_show, "what the record of a run holds"),
    "templates": (_fill_templates, "the Slurm templates, written into a folder"),
}


def _require_libraries() -> None:
    """Leave with one sentence unless there is what a report needs."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(
            f"rankwise: error: no {', '.join(missing)}: is the environment active (source "
            ".venv/bin/activate)? Else make run, or pip install -e .",
            file=sys.stderr,
        )
        sys.exit(2)


def run() -> NoReturn:
    """Be the command `rankwise`."""
    argv = sys.argv[1:]
    streams.open_closed()
    (streams.endure if argv[:1] == ["sweep"] else streams.tell_failures)()
    try:
        try:
            status = main(argv)
        finally:
            # Also of --help, which leaves by itself.
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has gone.
        status = 1
    except streams.OutputError as error:
        print(f"rankwise: error: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    run()
