"""What is asked of an engine, and what it answers."""

import importlib.util
import time
from dataclasses import dataclass, field

import numpy as np

from engines.comparison import metg
from engines.comparison.process import Engine, Failure, Gone, Raised, Running, Silent, mpirun

ENGINES = {
    engine.name: engine
    for engine in (
        Engine("multiprocessing"),
        Engine("threading"),
        Engine("futures"),
        Engine("joblib", "joblib"),
        Engine("dask", "distributed", "yes, with dask-mpi", 60.0),
        Engine("ray", "ray", "yes, with `ray start` on each", 60.0),
        Engine("mpi", "mpi4py", "yes", 30.0, 1, ("-m", "mpi4py.futures")),
        Engine("rankwise", "mpi4py", "yes", 30.0, 0),
    )
}

SAMPLES = 3
EMPTY_TASKS = 1000
# Data that are sent, of all tasks together at most, and of one of them [MB].
SENT_MB, TASK_MB = 128.0, 16.0

# A sample that takes longer than this has no others beside it [s].
LONG_SECONDS = 4.0

# The last part of an engine's time is kept for two more starts: one with a task that raises an
# exception, and one with a worker that dies.
KEPT_BACK = 0.4
# How long to wait for an answer after that [s].
HANG_SECONDS = 8.0


@dataclass(frozen=True)
class Case:
    """The tasks of a reader: their size [s], and the data that each gets sent [MB]."""

    seconds: float
    megabytes: float = 0.0


@dataclass
class Found:
    """What was found of an engine; empty lists and texts for what it did not come to.

    Attributes
    ----------
    start_ups, empty, sent, imbalance : list of float
        Samples: seconds; microseconds of an empty task; seconds of a gigabyte; busy seconds of the
        busiest worker over the mean of all.
    points : list of `metg.Point`
    case : `metg.Point` or None
        Tasks of the size of the reader's, with their data.
    memory : int
        Of all processes, the most that was seen between requests [bytes].
    digests : dict of str
        Of the results of each work.
    raised, died : str
        What the engine does if a task raises an exception, and if a worker dies.
    notes : list of str
        What a reader has to know of these figures.
    """

    start_ups: list = field(default_factory=list)
    empty: list = field(default_factory=list)
    sent: list = field(default_factory=list)
    imbalance: list = field(default_factory=list)
    points: list = field(default_factory=list)
    case: metg.Point | None = None
    memory: int = 0
    digests: dict = field(default_factory=dict)
    raised: str = ""
    died: str = ""
    notes: list = field(default_factory=list)


def missing(engine):
    """Return why an engine cannot be measured here; empty if it can."""
    if importlib.util.find_spec(engine.package) is None:
        extra = {"ray": "ray", "mpi4py": "jobs"}.get(engine.package, "engines")
        return f"not installed: pip install -e '.[{extra}]', in the clone"
    if engine.other_ranks is not None and mpirun() is None:
        return "there is no mpirun on PATH"
    return ""


def measure(engine, workers, plain, sizes=None, case=None):
    """Return what is found of an engine.

    Parameters
    ----------
    engine : Engine
    workers : int
    plain : Plain
        As many processes as there are workers.
    sizes : list of float, optional
        Of tasks, the largest first [s]; all of them. Without it, see `metg.sizes`, as long as the
        efficiency is above the one that is looked for.
    case : Case, optional
    """
    found, deadline = Found(), time.monotonic() + engine.limit
    try:
        with Running(engine, workers, deadline) as running:
            found.start_ups.append(running.start_up)
            soon = deadline - KEPT_BACK * engine.limit
            _costs(found, running, workers, plain, sizes, case, soon)
        if running.killed:
            found.notes.append(f"{running.killed} of its processes did not end by themselves")
    except Failure as error:
        found.notes.append(_ended(engine, error))
    found.raised = _wrong(engine, workers, deadline, "bad", found)
    found.died = _wrong(engine, workers, deadline, "die", found)
    return found


def _costs(found, running, workers, plain, sizes, case, soon):
    """Measure what tasks cost, the most important first, until it is too late."""
    _work(found, running, workers)
    if case is not None:
        found.case = _case(running, workers, plain, case)
    _points(found, running, workers, plain, sizes, soon)
    if time.monotonic() < soon:
        _send(found, running, workers)
    else:
        found.notes.append("its time was over before data were sent")


def _work(found, running, workers):
    """Ask for both works, and for empty tasks."""
    found.digests["sum"] = running.ask("sum")["digest"]
    for _ in range(SAMPLES):
        empty = running.ask("nothing", tasks=EMPTY_TASKS)
        found.empty.append(1e6 * empty["seconds"] / EMPTY_TASKS)
        rows = running.ask("rows")
        busy = rows["busy"].values()
        found.imbalance.append(max(busy) * workers / sum(busy))
        found.digests["rows"] = rows["digest"]
        found.memory = max(found.memory, running.memory())


def _send(found, running, workers):
    """Ask for tasks that get data sent."""
    tasks = metg.TASKS_A_WORKER * workers
    megabytes = min(TASK_MB, SENT_MB / tasks)
    for _ in range(SAMPLES):
        sent = running.ask("read", tasks=tasks, megabytes=megabytes)["seconds"]
        found.sent.append(sent / (tasks * megabytes / 1e3))
        found.memory = max(found.memory, running.memory())
        if sent > LONG_SECONDS:
            break


def _point(running, workers, plain, size, megabytes=0.0, tasks=None):
    """Measure tasks of one size, each time beside plain processes."""
    iterations = max(1, round(size * plain.rate))
    tasks = tasks or metg.tasks(size, workers)
    sizes, samples = [], []
    for _ in range(SAMPLES):
        sizes.append(plain.seconds(iterations))
        facts = running.ask("spin", tasks=tasks, iterations=iterations, megabytes=megabytes)
        samples.append(metg.efficiency(tasks, sizes[-1], workers, facts["seconds"]))
        if facts["seconds"] > LONG_SECONDS:
            break
    return metg.Point(float(np.median(sizes)), tuple(samples))


def _points(found, running, workers, plain, sizes, soon):
    """Measure tasks of one size after the other, until they are too small."""
    for size in sizes or metg.sizes():
        if time.monotonic() > soon:
            found.notes.append(f"its time was over before tasks of {size:.2g} s")
            break
        found.points.append(_point(running, workers, plain, size))
        if not sizes and found.points[-1].median < metg.EFFECTIVE:
            break


def _case(running, workers, plain, case):
    """Measure the tasks of the reader; longer ones than the largest by what those lose."""
    size = min(case.seconds, metg.LARGEST)
    most = int(SENT_MB / case.megabytes) if case.megabytes else metg.MOST_TASKS
    tasks = max(workers, min(metg.tasks(size, workers), most))
    point = _point(running, workers, plain, size, case.megabytes, tasks)
    if case.seconds <= metg.LARGEST:
        return point
    samples = tuple(metg.scaled(each, point.size, case.seconds) for each in point.samples)
    return metg.Point(case.seconds, samples)


def _wrong(engine, workers, deadline, name, found):
    """Return what the engine does with a task that goes wrong."""
    if time.monotonic() > deadline:
        return f"not tried: its {engine.limit:g} s were over"
    try:
        with Running(engine, workers, deadline) as running:
            found.start_ups.append(running.start_up)
            return _reaction(running, name)
    except Failure as error:
        return f"not tried: {_ended(engine, error)}"


def _reaction(running, name):
    start = time.monotonic()
    try:
        running.ask(name, within=HANG_SECONDS)
        said = "goes on, and returns all results"
    except Raised as raised:
        said = str(raised)
    except Gone as gone:
        said = f"all ends, {gone}"
    except Silent:
        return f"no answer in {time.monotonic() - start:.0f} s, then ended from outside"
    return f"{said} (after {time.monotonic() - start:.1f} s)"


def _ended(engine, error):
    if isinstance(error, Silent):
        return f"its {engine.limit:g} s were over: ended with all its processes"
    return f"it ended, {error}" if isinstance(error, Gone) else f"a task failed, {error}"
