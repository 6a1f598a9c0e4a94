"""Draw the figures of the README: a sweep measured here, and published data drawn the same way.

python -m docs.figures results/sum_squares-scaling-20261123T074827.262Z
"""

import sys
from pathlib import Path

from rankwise.analysis.analysis import analyse
from rankwise.report import drawing, figures
from rankwise.sweep.folder import load
from tests.analysis import published

FOLDER = Path(__file__).parent


def main(sweep):
    """Write measured.svg and published.svg beside this file."""
    shown = {
        "measured": (load(Path(sweep)), "measured here: 2 cores, 4 ranks oversubscribed"),
        "published": (published.gromacs(), "published: GROMACS on Piz Daint, means of 50 runs"),
    }
    for name, (data, title) in shown.items():
        strong = analyse(data).series[0]
        drawing.save(figures.speedup(strong, title), FOLDER / f"{name}.svg")


if __name__ == "__main__":
    main(sys.argv[1])
