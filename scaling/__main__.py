"""The command line: ``python -m scaling sweep`` and ``python -m scaling report``."""

import sys

USAGE = """usage: python -m scaling sweep [options] -- COMMAND ...
       python -m scaling report FOLDER [options]

sweep   run a program at several rank counts; see python -m scaling sweep --help
report  tables, figures and a page from the folder of a sweep; see python -m scaling report --help
"""


def main(argv: list[str]) -> int:
    """Run a subcommand and return its exit status."""
    # Each imported by itself: a sweep has no use for SciPy and Matplotlib.
    if argv[:1] == ["sweep"]:
        from scaling import sweep

        return sweep.main(argv[1:])
    if argv[:1] == ["report"]:
        from scaling import report

        return report.main(argv[1:])
    helped = argv[:1] in (["-h"], ["--help"])
    print(USAGE, end="", file=sys.stdout if helped else sys.stderr)
    return 0 if helped else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
