"""The command line: ``rankwise sweep`` and ``rankwise report``."""

import importlib.util
import os
import sys
from typing import NoReturn

USAGE = """usage: rankwise sweep [options] -- COMMAND ...
       rankwise report FOLDER [options]

sweep   run a program at several rank counts; see rankwise sweep --help
report  tables, figures and a page from the folder of a sweep; see rankwise report --help
"""


# Of the extra `scaling`. Looked for before the first run: hours of measuring precede the report.
NEEDED = ("jinja2", "matplotlib", "scipy", "tabulate", "tqdm")


def main(argv: list[str]) -> int:
    """Run a subcommand and return its exit status."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(
            f"rankwise: error: no {', '.join(missing)}: is the environment active (source "
            ".venv/bin/activate)? Else make scaling, or pip install -e '.[scaling]'",
            file=sys.stderr,
        )
        return 2
    # Each imported by itself: a sweep has no use for SciPy and Matplotlib.
    if argv[:1] == ["sweep"]:
        from rankwise.sweep import interrupts

        # Before what takes long: Python itself would die of some of them.
        interrupts.install()
        try:
            from rankwise.sweep import sweep

            return sweep.main(argv[1:])
        except interrupts.Interrupted:
            status = interrupts.status()
            why = "out of time" if status == os.EX_TEMPFAIL else "interrupted"
            print(f"{why}; the same command goes on with this sweep", file=sys.stderr)
            return status
    if argv[:1] == ["report"]:
        from rankwise.report import page

        return page.main(argv[1:])
    helped = argv[:1] in (["-h"], ["--help"])
    if argv and not helped:
        print(f"rankwise: error: {argv[0]!r} is neither sweep nor report", file=sys.stderr)
    print(USAGE, end="", file=sys.stdout if helped else sys.stderr)
    return 0 if helped else 2


def run() -> NoReturn:
    """Be the command `rankwise`."""
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has gone. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    run()
