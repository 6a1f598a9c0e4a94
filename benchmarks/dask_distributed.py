"""Sum the squares of a vector with Dask: ``python benchmarks/dask_distributed.py 1e8 2 3``.

Elements, worker processes, repeats. The last line of output is JSON: the seconds of each repeat,
without the start of the workers. `bench.py` runs this.
"""

import json
import sys
import time

import numpy as np
from dask.distributed import Client, LocalCluster


def sum_squares(part):
    return float(np.dot(part, part))


def main():
    n, workers, repeats = (int(float(text)) for text in sys.argv[1:])
    x = np.random.default_rng(0).random(n)
    seconds = []
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        for _ in range(repeats + 1):
            start = time.perf_counter()
            parts = client.scatter(np.array_split(x, workers), direct=True, hash=False)
            sum(client.gather(client.map(sum_squares, parts, pure=False)))
            seconds.append(time.perf_counter() - start)
            del parts
    print(json.dumps({"seconds": seconds[1:]}))


if __name__ == "__main__":
    main()
