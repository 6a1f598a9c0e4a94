"""How long tasks take without an engine: plain processes that do the same iterations.

As many as there are workers, all at once, since cores that are busy together are slower than one
alone. Each waits for a line of its standard input, which takes nothing from what is measured.
"""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

import subprocess
import sys
import time

import numpy as np

from engines import work

# Shorter ones would measure the clock and the start.
LEAST_SECONDS = 0.03

# Iterations from which the rate is taken: about 0.1 s.
TRIAL = 10**8


class Plain:
    """Plain processes, as a context.

    Parameters
    ----------
    processes : int

    Attributes
    ----------
    rate : float
        Iterations of one process in a second, when all are busy.
    """

    def __init__(self, processes):
        command = [sys.executable, __file__]
        # In sessions of their own, so that Ctrl-C reaches the comparison alone.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
        self._processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(processes)]

    def __enter__(self):
        for process in self._processes:
            process.stdout.readline()
        # The first round wakes the cores.
        for _ in range(2):
            self.rate = TRIAL / self._ask(TRIAL, 1)
        return self

    def __exit__(self, *_):
        for process in self._processes:
            process.kill()
            process.communicate()

    def seconds(self, iterations):
        """Return how long a task of so many iterations takes now, the mean of all processes [s]."""
        return self._ask(iterations, max(1, round(LEAST_SECONDS * self.rate / iterations)))

    def _ask(self, iterations, calls):
        for process in self._processes:
            process.stdin.write(f"{iterations} {calls}\n")
            process.stdin.flush()
        return float(np.mean([float(process.stdout.readline()) for process in self._processes]))


def main():
    work.spin(1)
    print("ready", flush=True)
    for line in sys.stdin:
        iterations, calls = map(int, line.split())
        start = time.perf_counter()
        for _ in range(calls):
            work.spin(iterations)
        print((time.perf_counter() - start) / calls, flush=True)


if __name__ == "__main__":
    main()
