"""What each schedule would make of the rows of a Mandelbrot record, on so many ranks.

    mpirun -n 2 python jobs/mandelbrot.py --n 1024 --output m.h5
    python benchmarks/imbalance.py m.h5 2,4,8,16,64

A row costs the steps of its points. A rank that is done takes the next chunk at once; what that
costs, and ranks of unlike speed, are left out. Printed is the busiest rank over the mean of all.
"""

import sys

import numpy as np

from rankwise.data.schedules import SCHEDULES, Chunks
from rankwise.disk import record


def imbalance(cost, schedule, ranks, size=1):
    """Return the largest sum of costs of a rank over the mean.

    Parameters
    ----------
    cost : (tasks,) array
    schedule : str
    ranks, size : int
        Ranks; tasks in a chunk, see `rankwise.data.schedules`.
    """
    chunks = Chunks(schedule, len(cost), ranks, size)
    dealt = [chunks.of(rank) for rank in range(ranks)]
    spent = np.zeros(ranks)
    for number in range(len(chunks)):
        first, stop = chunks[number]
        fixed = [rank for rank, numbers in enumerate(dealt) if numbers and number in numbers]
        spent[fixed[0] if fixed else spent.argmin()] += cost[first:stop].sum()
    return spent.max() / spent.mean()


def main(path, counts):
    cost = record.read(path).results["counts"].values.sum(axis=1, dtype=np.int64)
    print("| ranks | " + " | ".join(f"`{schedule}`" for schedule in SCHEDULES) + " |")
    print("| ---: |" + " ---: |" * len(SCHEDULES))
    for ranks in map(int, counts.split(",")):
        found = (f"{imbalance(cost, schedule, ranks):.2f}" for schedule in SCHEDULES)
        print(f"| {ranks} | {' | '.join(found)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
