"""threading: threads of one process, which have all its data, so that nothing is sent.

    python engines/threading_.py --work rows --workers 2
    python engines/threading_.py --lessons

In Python's own code threads take turns, since the interpreter has one lock. Compiled code that lets
go of it, as NumPy's mostly does and Numba's with nogil, runs on several cores at once.
"""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

import functools
import sys
import time
from contextlib import contextmanager
from queue import Queue
from threading import Barrier, Condition, Lock, Semaphore, Thread

from engines import races, work


@contextmanager
def pool(workers):
    """Start worker threads, which take tasks from a queue."""
    queue = Queue()
    threads = [Thread(target=serve, args=(queue,)) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield functools.partial(compute, queue)
    finally:
        for _ in threads:
            queue.put(None)
        for thread in threads:
            thread.join()


def serve(queue):
    """Do tasks until a None comes. After an exception of a task those that wait do not begin."""
    while (item := queue.get()) is not None:
        function, task, number, results, errors = item
        try:
            if not errors:
                results[number] = function(task)
        except BaseException as error:
            errors.append(error)
        queue.task_done()


def compute(queue, function, tasks):
    """Return the results of all tasks, or raise the first exception."""
    results, errors = [None] * len(tasks), []
    try:
        for number, task in enumerate(tasks):
            queue.put((function, task, number, results, errors))
        queue.join()
    except BaseException as error:  # Ctrl-C
        errors.append(error)
    if errors:
        raise errors[0]
    return results


run = work.runner(pool)


def bounded():
    """Semaphore: it lets two threads in at once. Here one that is in waits for a second one."""
    inside, seen, lock, door, pair = set(), [], Lock(), Semaphore(2), Barrier(2)

    def enter(number):
        with door:
            with lock:
                inside.add(number)
                seen.append(len(inside))
            pair.wait()
            time.sleep(0.05)
            with lock:
                inside.remove(number)

    races.together(enter, *zip(range(6)))
    print("  most of 6 threads inside at once:", max(seen))


def notified():
    """Condition: a thread sleeps until another one has changed what it waits for."""
    items, changed = [], Condition()

    def wait():
        with changed:
            changed.wait_for(lambda: len(items) == 3)
            print("  woken by", items)

    thread = Thread(target=wait)
    thread.start()
    for item in range(3):
        with changed:
            items.append(item)
            changed.notify()
    thread.join()


def count_down(number):
    while number:
        number -= 1


def cores():
    """Python's own lock: of two threads in Python's code, one runs; with nogil, both do."""
    # Before Python 3.13 it is always there.
    print("  this Python has the lock:", getattr(sys, "_is_gil_enabled", lambda: True)())
    for name, loop, length in (("Python", count_down, 5 * 10**6), ("Numba", work.spin, 5 * 10**7)):
        wall, cpu = time.perf_counter(), time.process_time()
        races.together(loop, (length,), (length,))
        used = (time.process_time() - cpu) / (time.perf_counter() - wall)
        print(f"  {name}: {used:.2f} CPU seconds per second (less if other programs run as well)")


if __name__ == "__main__":
    work.main(pool, __doc__, *races.LESSONS, bounded, notified, cores)
