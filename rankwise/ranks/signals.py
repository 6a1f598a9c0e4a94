"""What SIGUSR1, SIGTERM and SIGINT do to a job.

SIGUSR1 is how a batch system says that time is nearly up: it is remembered. SIGTERM and SIGINT end
the process at once, or inside `kept` are remembered too, so that the job can save its state before
it leaves; a second SIGINT then ends the process at once.

A thread looks after them. Python calls a handler only when the main thread is back from C, which a
rank that waits in MPI for one that has died never is.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# By weight: where several are received, the one that stands last here counts. 75, EX_TEMPFAIL of
# sysexits.h, means: try again.
STATUS = {
    signal.SIGUSR1: os.EX_TEMPFAIL,
    signal.SIGTERM: 128 + signal.SIGTERM,
    signal.SIGINT: 128 + signal.SIGINT,
}
_WEIGHTS = (0, *STATUS)
OUT_OF_TIME = _WEIGHTS.index(signal.SIGUSR1)
# How long the end waits for what is to be done before it [s].
_UNDO_SECONDS = 5.0

_weight = 0
_kept = False
# What is done before a signal ends the process.
_undo: list[Callable[[], object]] = []


def install() -> None:
    """Take the signals over from Python. Once, from the main thread, before what takes long."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in STATUS:
        signal.signal(number, lambda *_: None)
        # Else the system calls of libraries would fail with EINTR.
        signal.siginterrupt(number, False)
    threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()


def _watch(reader: int) -> None:
    while True:
        for number in os.read(reader, 64):
            if number in STATUS:
                _receive(number)


def _receive(number: int) -> None:
    global _weight
    weight = _WEIGHTS.index(number)
    second = number == signal.SIGINT and _weight == weight
    _weight = max(_weight, weight)
    if number != signal.SIGUSR1 and (second or not _kept):
        _end(number)


def _end(number: int) -> None:
    # In a thread, so that a disk which does not answer keeps nobody from ending.
    undoing = threading.Thread(target=_undo_all, name="undo", daemon=True)
    undoing.start()
    undoing.join(_UNDO_SECONDS)
    os._exit(STATUS[signal.Signals(number)])


def _undo_all() -> None:
    # The last one first. A copy, since some may add and remove others.
    for action in reversed(_undo[:]):
        with suppress(Exception):
            action()


def weight() -> int:
    """Return which signal was received: 0 none, else its place in `STATUS`, counted from 1."""
    return _weight


def of_weight(weight: int) -> signal.Signals:
    """Return the signal of a weight above 0."""
    return signal.Signals(_WEIGHTS[weight])


@contextmanager
def kept() -> Iterator[None]:
    """Remember signals inside instead of ending. One that nobody answers does nothing later."""
    global _kept
    _kept = True
    try:
        yield
    finally:
        _kept = False


def ignore() -> None:
    """Ignore the signals from here on: the status is known, and only MPI's end is to come."""
    for number in STATUS:
        signal.signal(number, signal.SIG_IGN)


def heed() -> None:
    """Let each signal end the process at once, as it does to any program."""
    for number in STATUS:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def undone(action: Callable[[], object]) -> Iterator[None]:
    """Do ``action`` if a signal ends the process inside."""
    _undo.append(action)
    try:
        yield
    finally:
        _undo.remove(action)
