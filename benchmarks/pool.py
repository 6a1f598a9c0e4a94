"""Sum the squares of a vector with `multiprocessing.Pool`: ``python benchmarks/pool.py 1e8 2 3``.

Elements, processes, repeats. The last line of output is JSON: the seconds of each repeat, without
the start of the processes. `bench.py` runs this.
"""

import json
import multiprocessing
import sys
import time

import numpy as np


def sum_squares(part):
    return float(np.dot(part, part))


def main():
    n, processes, repeats = (int(float(text)) for text in sys.argv[1:])
    x = np.random.default_rng(0).random(n)
    seconds = []
    with multiprocessing.Pool(processes) as pool:
        for _ in range(repeats + 1):
            start = time.perf_counter()
            sum(pool.map(sum_squares, np.array_split(x, processes)))
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds[1:]}))


if __name__ == "__main__":
    main()
