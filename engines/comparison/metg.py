"""The smallest task for which an engine is worth its cost: METG(50 %).

Minimum effective task granularity [1]_: the size of a task at which half of the time of the workers
is spent on tasks. At one efficiency, and not at one size, engines compare fairly. The size is that
of the task alone; [1]_ adds what a task loses to its size, so that its figure is twice this one.

References
----------
.. [1] E. Slaughter et al., Task Bench: A parameterized benchmark for evaluating parallel runtime
   performance, SC20, 2020.
"""

import math
from dataclasses import dataclass

import numpy as np

# The largest task [s], and by which factor the next one is smaller. A task of the least size is as
# short as the call of a function.
LARGEST, FACTOR, LEAST = 0.25, 4, 5e-7
EFFECTIVE = 0.5
# A point has four tasks a worker at least, so that the last ones level out; otherwise no more than
# this many, and no more than fill the workers for half a second.
TASKS_A_WORKER, MOST_TASKS, POINT_SECONDS = 4, 1000, 0.5


def sizes():
    """Yield the sizes of tasks to measure, the largest first [s]."""
    size = LARGEST
    while size >= LEAST:
        yield size
        size /= FACTOR


def tasks(size, workers):
    """Return how many tasks of a size make a point."""
    return max(TASKS_A_WORKER * workers, min(MOST_TASKS, round(POINT_SECONDS * workers / size)))


def efficiency(tasks, size, workers, seconds):
    """Return which part of the time of the workers was spent on tasks."""
    return tasks * size / (workers * seconds)


@dataclass(frozen=True)
class Point:
    """Tasks of one size.

    Attributes
    ----------
    size : float
        Of a task, by plain processes beside it [s].
    samples : tuple of float
        Efficiencies.
    """

    size: float
    samples: tuple[float, ...]

    @property
    def median(self):
        return float(np.median(self.samples))


@dataclass(frozen=True)
class Metg:
    """A size at which the efficiency is `EFFECTIVE`, or on which side of what was measured it is.

    Attributes
    ----------
    seconds : float
        The size [s].
    side : str
        ``""``; ``">"`` if it is above this size, ``"<"`` if it is below.
    efficiency : float
        At this size.
    """

    seconds: float
    side: str = ""
    efficiency: float = EFFECTIVE


def metg(points, pick=np.median):
    """Return the size at which the efficiency falls below `EFFECTIVE`; None without points.

    Between two points it is interpolated over the logarithm of the size.

    Parameters
    ----------
    points : list of Point
        The largest first.
    pick : callable
        Makes one efficiency of the samples of a point.
    """
    before = None
    for point in points:
        found = float(pick(point.samples))
        if found < EFFECTIVE:
            if before is None:
                return Metg(point.size, ">", found)
            part = (before[1] - EFFECTIVE) / (before[1] - found)
            size = math.log(before[0]) + part * (math.log(point.size) - math.log(before[0]))
            return Metg(math.exp(size))
        before = point.size, found
    return Metg(before[0], "<", before[1]) if before else None


def scaled(found, size, wanted):
    """Return the efficiency of tasks that are longer than those that were measured.

    What a task loses beside its own time does not grow with it.

    Parameters
    ----------
    found : float
        Efficiency of tasks of ``size`` [s].
    wanted : float
        The longer size [s].
    """
    lost = size / found - size
    return wanted / (wanted + lost)
