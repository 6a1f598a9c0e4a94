"""multiprocessing: processes, and what they send to each other or share.

    python engines/multiprocessing_.py --work rows --workers 2
    python engines/multiprocessing_.py --lessons

`Pool.map` sends tasks in chunks, about four for each worker. That is cheap for small tasks, but one
chunk of uneven ones may hold most of the work: `imap_unordered` sends one task at a time.
`Pool.map` hangs for ever when a worker dies, or raises what cannot be unpickled.
"""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

import functools
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from engines import work

spawn = get_context("spawn")  # a fork copies locks that other threads hold: OpenMP's, MPI's


@contextmanager
def pool(workers):
    """Start worker processes."""
    with spawn.Pool(workers) as executor:
        yield executor.map


run = work.runner(pool)


def square(number):
    return number * number


@contextmanager
def processes(number, target, *args):
    """Start processes, and wait for their ends."""
    started = [spawn.Process(target=target, args=args) for _ in range(number)]
    for process in started:
        process.start()
    yield
    for process in started:
        process.join()


def serve(tasks, results):
    """Do tasks until a None comes."""
    while (number := tasks.get()) is not None:
        results.put((number, square(number)))


def sentinel():
    """Process and Queue: workers take tasks from a queue, until each finds a None, a sentinel."""
    tasks, results = spawn.Queue(), spawn.Queue()
    with processes(2, serve, tasks, results):
        for task in [*range(10), None, None]:
            tasks.put(task)
        # Before join: a process does not end while nobody takes what it has put.
        squares = dict(results.get() for _ in range(10))
    print("  10 tasks, 2 processes:", [squares[number] for number in range(10)])


def unordered():
    """imap_unordered: results in the order in which they come, and one task at a time."""
    with spawn.Pool(2) as workers:
        for steps, *_ in workers.imap_unordered(functools.partial(work.timed, work.row), (512, 0)):
            print(f"  a row of {steps} steps")


def reduced():
    """map, then functools.reduce on the results: there is no Pool.reduce."""
    with spawn.Pool(2) as workers:
        squares = workers.map(square, range(10))
        print("  a Pool has reduce:", hasattr(workers, "reduce"))
    print("  the sum of 10 squares:", functools.reduce(lambda a, b: a + b, squares))


def answer(end):
    end.send(square(end.recv()))


def piped():
    """Pipe: both ends send and receive; with duplex=False the first receives, the second sends."""
    mine, other = spawn.Pipe()
    with processes(1, answer, other):
        # The process has a copy. With this one open, recv waits for ever for a process that died.
        other.close()
        mine.send(12)
        print("  sent 12, received", mine.recv())
    print("  duplex=False: can send:", [end.writable for end in spawn.Pipe(duplex=False)])


def fill(memory, turn):
    """Write one half of an array: the even elements, or the odd ones."""
    with turn.get_lock():
        half, turn.value = turn.value, turn.value + 1
    # After close the memory is gone, and reading an array in it would crash Python.
    np.ndarray(10, buffer=memory.buf)[half::2] = half
    memory.close()


def shared():
    """shared_memory and Value: an array and a number that processes share, with a lock."""
    memory, turn = SharedMemory(create=True, size=10 * 8), spawn.Value("i", 0)
    try:
        with processes(2, fill, memory, turn):
            pass
        print(f"  {turn.value} processes wrote", np.ndarray(10, buffer=memory.buf).tolist())
    finally:
        # Each process closes it. One unlinks it, or it stays in /dev/shm.
        memory.close()
        memory.unlink()


if __name__ == "__main__":
    work.main(pool, __doc__, sentinel, unordered, reduced, piped, shared)
