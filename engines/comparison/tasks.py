"""Tasks that show what an engine costs, and what it does when something goes wrong."""

import os
import signal
import time

import numpy as np

from engines import work

# One number of each page of memory, so that a worker must have all of it.
PAGE = 4096 // 8

# Which of the tasks goes wrong, and of how many.
WRONG, OF = 7, 20


def nothing(number):
    return number


def spin(iterations):
    return int(work.spin(iterations))


def read(array):
    """Read data that were sent."""
    return float(array[::PAGE].sum())


def spin_and_read(array):
    """Keep a core busy for as many iterations as the first number of the data says."""
    return spin(int(array[0])) + read(array)


def bad(number):
    if number == WRONG:
        raise ValueError(f"task {number} is bad")
    return number


def die(number):
    """Kill the worker, as the kernel does when memory is short."""
    if number == WRONG:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return number


def arrays(tasks, megabytes, first=0):
    """Return as many arrays of so many megabytes, all different, and all with one first number."""
    each = [np.full(max(2, round(megabytes * 1e6 / 8)), float(task)) for task in range(tasks)]
    for array in each:
        array[0] = first
    return each


def named(name, tasks=0, iterations=0, megabytes=0.0):
    """Return a function and its tasks, as a request names them."""
    if name == "spin" and megabytes:
        return spin_and_read, arrays(tasks, megabytes, iterations)
    if name in ("rows", "sum"):
        return work.tasks_of(name)
    given = {
        "nothing": (nothing, range(tasks)),
        "spin": (spin, [iterations] * tasks),
        "read": (read, arrays(tasks, megabytes) if name == "read" else ()),
        "bad": (bad, range(OF)),
        "die": (die, range(OF)),
    }
    function, each = given[name]
    return function, list(each)
