"""``python -m engines compare``: see `engines.compare`."""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

import sys

from rankwise.job import launch

from engines.work import explain, fail

USAGE = "python -m engines compare [--engines A,B] [--workers N] [--help]"


def start():
    """Start the comparison."""
    try:
        from engines import compare
    except ModuleNotFoundError as error:
        fail(explain(error))
    launch(lambda comm, argv: compare.main(comm, argv[1:]))


if __name__ == "__main__":
    sys.argv[0] = "engines"
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(f"usage: {USAGE}")
    elif sys.argv[1:2] != ["compare"]:
        fail(f"usage: {USAGE}")
    else:
        start()
