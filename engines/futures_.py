"""concurrent.futures: one interface to threads and to processes.

    python engines/futures_.py --work rows --workers 2
    python engines/futures_.py --lessons

A worker process takes one task at a time, and its result comes back pickled. `threads` is the same
for threads, which need nothing sent, but take turns in Python's own code.
"""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Event

from engines import work


@contextmanager
def pool(workers):
    """Start worker processes."""
    # spawn: a fork copies locks that other threads hold, such as those of OpenMP and MPI.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        yield lambda function, tasks: list(executor.map(function, tasks))


@contextmanager
def threads(workers):
    """Start worker threads."""
    with ThreadPoolExecutor(workers) as executor:
        yield lambda function, tasks: list(executor.map(function, tasks))


run = work.runner(pool)


def completed():
    """as_completed: results in the order in which they come."""
    with ThreadPoolExecutor(2) as executor:
        futures = {executor.submit(work.row, number): number for number in (512, 0)}
        for future in as_completed(futures):
            print(f"  row {futures[future]}: {future.result()} steps")


def cancelled():
    """cancel: what waits does not begin; what has begun goes on."""
    with ThreadPoolExecutor(1) as executor:
        begun, asked = Event(), Event()
        futures = [executor.submit(lambda: begun.set() or asked.wait()) for _ in range(3)]
        begun.wait()
        print("  cancelled:", [future.cancel() for future in futures])
        asked.set()
    print("  done:     ", [future.done() and not future.cancelled() for future in futures])


if __name__ == "__main__":
    work.main(pool, __doc__, completed, cancelled)
