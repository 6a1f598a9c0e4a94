"""Ray: tasks and objects, which live in a store that the processes of a node share.

    python engines/ray_.py --work rows --workers 2

Its servers end with this program; if that is killed (SIGKILL), two of them stay. Workers read
arrays in the store, without a copy. Across nodes its servers must be started first.
"""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

import os
import sys
from contextlib import chdir, contextmanager
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np

from engines import work


@contextmanager
def pool(workers):
    """Start Ray's servers and worker processes."""
    # Time enough to start while the cores are busy; no report to Ray's makers of how it is used.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "150")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    # Workers find the modules that this program finds.
    found = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    quiet = {"include_dashboard": False, "logging_level": "error", "log_to_driver": False}
    # Not in TMPDIR: the name of a socket has 107 characters at most, and Ray needs most of them.
    with TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        # Ray lets workers look in the current folder first, where other kernels may be.
        with chdir(folder):
            ray.init(num_cpus=workers, runtime_env=found, _temp_dir=folder, **quiet)
        try:
            yield partial(compute, ray, ray.remote(call))
        finally:
            ray.shutdown()


def call(function, task):
    """Do a task; Ray has put the array in the place of its reference."""
    return function(task)


def compute(ray, remote, function, tasks):
    """Return the results of all tasks."""
    tasks = [ray.put(task) if isinstance(task, np.ndarray) else task for task in tasks]
    return ray.get([remote.remote(function, task) for task in tasks])


run = work.runner(pool)


if __name__ == "__main__":
    work.main(pool, __doc__)
