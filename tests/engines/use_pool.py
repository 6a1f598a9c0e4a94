"""Use the pool of an engine in a program of its own: ``python use_pool.py joblib_ 2``.

The engine and the workers. The last line of output is JSON: what came back.
"""

import json
import math
import os
import re
import sys
import time
from importlib import import_module
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def use(pool, workers, ends):
    """Return what several calls of one pool gave, and what is left of it."""
    with pool(workers) as compute:
        roots = compute(math.sqrt, [number**2 for number in range(50)])
        try:
            raised = compute(math.sqrt, [4, -1, 9])
        except ValueError as error:
            raised = str(error).splitlines()[-1]
        processes = compute(os.path.realpath, ["/proc/self"] * 50)
        none = compute(math.sqrt, [])
        # Each of these tasks has another result, however equal they are.
        several = len(set(compute(os.urandom, [8] * 20)))
        words = [word for each in psutil.Process().children(True) for word in each.cmdline()]
        folders = sorted(set(re.findall(r"/tmp/ray-\w+", " ".join(words))))
    return {
        "roots": roots,
        "raised": raised,
        "none": none,
        "several": several,
        "own": os.path.realpath("/proc/self"),
        "workers": sorted(set(processes)),
        "left": left(processes) if ends else [],
        "folders": [folders, list(filter(os.path.exists, folders))],
    }


def left(processes, seconds=10):
    """Return which processes are still there, at the latest after some seconds."""
    end = time.monotonic() + seconds
    while any(map(os.path.exists, processes)) and time.monotonic() < end:
        time.sleep(0.1)
    return [process for process in processes if os.path.exists(process)]


def main():
    name, workers = sys.argv[1:]
    engine = import_module(f"engines.{name}")
    try:
        print(json.dumps(use(engine.pool, int(workers), name != "mpi_")))
    except engine.work.Mistake as mistake:
        print(mistake)


if __name__ == "__main__":
    main()
