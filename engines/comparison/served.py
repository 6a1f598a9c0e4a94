"""The side of an engine: reads requests, lets the workers do tasks, and answers.

    python engines/comparison/served.py futures 2

A request is a line of JSON with the arguments of `tasks.named`; an answer a line that begins with
`ANSWER`, since engines print lines of their own. The first one tells that every worker has done a
task. `process` starts this program.
"""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

import functools
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections import defaultdict

import numpy as np

from engines import work
from engines.comparison import tasks

ANSWER = "answer "

# How long an engine may take to end its workers, after an exception [s].
UNWIND_SECONDS = 3.0


def say(**facts):
    print(ANSWER + json.dumps(facts), flush=True)


def answer(compute, request, sent=False):
    """Do what a request names; return how long it took, and who did what.

    Where arrays are to be ``sent`` here, there is room for them, which nobody has touched yet.
    """
    function, each = tasks.named(**request)
    if sent:
        each = [np.empty_like(task) if isinstance(task, np.ndarray) else task for task in each]
    # Who did what is asked of uneven tasks alone: of others it would be a part of the cost.
    told = request["name"] in ("rows", "sum")
    if told:
        function = functools.partial(work.timed, function)
    start = time.perf_counter()
    results = compute(function, each)
    facts = {"seconds": time.perf_counter() - start}
    if results and told:
        busy = defaultdict(float)
        for _, worker, seconds in results:
            busy[worker] += seconds
        facts["busy"] = dict(busy)
        facts["digest"] = work.digest([result for result, _, _ in results])
    return facts


def attempt(compute, request):
    """Answer a request; an exception is an answer, too."""
    start = time.perf_counter()
    try:
        return answer(compute, request)
    except Exception as error:
        # Ray's exception has the traceback of the worker as its text, and the exception beside it.
        lines = str(getattr(error, "cause", None) or error).strip().splitlines()
        name = f"{type(error).__module__}.{type(error).__name__}".removeprefix("builtins.")
        # The first sentence: some tell a story.
        text = f"{name}: {lines[0].partition('. ')[0]}" if lines else name
        return {"error": text, "seconds": time.perf_counter() - start}


class Requests:
    """The lines of standard input, as an iterator.

    If the input ends while a request is being done, whoever asked is gone or has lost patience: the
    program ends, also where its engine waits for ever. Its engine is to clean up: first by an
    exception, as of Ctrl-C; then all its processes are asked to end.
    """

    def __init__(self):
        self._lines, self._idle = queue.SimpleQueue(), threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in sys.stdin:
            self._lines.put(json.loads(line))
        self._lines.put(None)
        if not self._idle.wait(timeout=0.5):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(UNWIND_SECONDS)
            os.killpg(0, signal.SIGTERM)

    def __iter__(self):
        return self

    def __next__(self):
        self._idle.set()
        request = self._lines.get()
        if request is None:
            raise StopIteration
        self._idle.clear()
        return request


def serve(pool, workers):
    """Answer requests until there are no more of them."""
    requests = Requests()
    with pool(workers) as compute:
        compute(tasks.nothing, list(range(workers)))
        # Where a worker has been given two tasks, another one may not have started yet.
        compute(tasks.spin, [10**7] * 4 * workers)
        say(ready=True)
        for request in requests:
            say(**attempt(compute, request))


def serve_ranks(pool, comm):
    """Do the same on all ranks, each of which needs the request."""
    requests = Requests() if comm.rank == 0 else None
    with pool(comm.size) as compute:
        compute(tasks.spin, [10**7] * 4 * comm.size)
        if comm.rank == 0:
            say(ready=True)
        while request := next_request(comm, requests):
            facts = answer(compute, request, sent=comm.rank > 0)
            if comm.rank == 0:
                say(**facts)


def next_request(comm, requests):
    """Return the next request on all ranks; None at the end."""
    if comm.rank == 0:
        request = next(requests, None)
        for other in range(1, comm.size):
            comm.send(request, other)
        return request
    # Waiting in MPI would take a core from what is measured meanwhile.
    while not comm.iprobe(0):
        time.sleep(0.0005)
    return comm.recv(source=0)


def main():
    name, workers = sys.argv[1], int(sys.argv[2])
    pool = importlib.import_module(f"engines.{name}_").pool
    if name != "rankwise":
        work.compile_kernels()
        serve(pool, workers)
        return
    from rankwise.job import Rank, launch

    def ranks(comm, argv):
        Rank.on_host(comm).on_root(work.compile_kernels)
        serve_ranks(pool, comm)

    launch(ranks)


if __name__ == "__main__":
    main()
