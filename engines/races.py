"""What goes wrong between threads, made certain, and its cures: lessons of `engines.threading_`.

By itself it goes wrong once in a while: `counter += 1` in four threads lost nothing in 800,000
additions of CPython 3.11, which does not promise that. Here a Barrier lets no thread go on before
the other one is there.
"""

import itertools
import random
import time
from threading import Barrier, Lock, Thread


def together(function, *arguments):
    """Call a function in a thread for each of the arguments, and wait for all."""
    threads = [Thread(target=function, args=each) for each in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def lost():
    """A lost update: both threads read 0 before one of them writes 1."""
    counter, both_have_read = 0, Barrier(2)

    def add(number):
        nonlocal counter
        value = counter
        both_have_read.wait()
        counter = value + number

    together(add, (1,), (1,))
    print("  2 threads added 1 each: the counter is", counter)


def kept():
    """Its cure, a Lock: a thread does not read before the other one has written."""
    counter, lock = 0, Lock()

    def add(number):
        nonlocal counter
        with lock:
            value = counter
            time.sleep(0.05)
            counter = value + number

    together(add, (1,), (1,))
    print("  2 threads added 1 each: the counter is", counter)


def deadlocked():
    """A deadlock: each of two threads holds a lock and waits for that of the other."""
    a, b, both, got = Lock(), Lock(), Barrier(2), []

    def take(first, second):
        with first:
            both.wait()
            # Without a time-out this would be for ever.
            got.append(second.acquire(timeout=0.1))
            # And neither lets go while the other one waits.
            both.wait()

    together(take, (a, b), (b, a))
    print("  got the second lock in 0.1 s:", got)


def ordered():
    """Its cure, one order of all locks: whoever has the first will get the second."""
    a, b, got = Lock(), Lock(), []

    def take(*locks):
        first, second = sorted(locks, key=id)
        with first:
            time.sleep(0.05)
            with second:
                got.append(True)

    together(take, (a, b), (b, a))
    print("  got both locks:", got)


def backed_off():
    """Its other cure, a time-out: who waits in vain lets go of the first lock, and tries again."""
    a, b, both, tries = Lock(), Lock(), Barrier(2), []

    def take(first, second):
        for number in itertools.count(1):
            with first:
                if number == 1:
                    both.wait()
                if second.acquire(timeout=0.05):
                    second.release()
                    return tries.append(number)
            # Each another time, or both would fail in step for ever.
            time.sleep(random.uniform(0, 0.1))

    together(take, (a, b), (b, a))
    print("  tries until each had both locks:", sorted(tries))


LESSONS = (lost, kept, deadlocked, ordered, backed_off)
