"""Put one fault into a job, and see whether its check finds it.

    python tests/faults.py heat no-op -- --input m45.npy --steps 200
    python tests/faults.py k_means scatter-bit bit=3 rank=1 -- --n 5000
    python tests/faults.py sum_squares all -- --n 1e5 -- --input x.npy
    python tests/faults.py heat smallest -- --n 64 --steps 20
    mpirun -n 2 python tests/faults.py my/jobs/mine.py sum-drop

A fault has the last rank, in all calls and repeats, unless it is said otherwise:

    bit=N       which bit of an element is wrong, from 0 (default: 20)
    by=N        the factor is 1 + 2^-N (default: 20)
    rank=N      the rank that has it; `rank=all`: every one
    call=N      it is in one call of each repeat only, counted from 0
    when=last   it is in the last repeat only, and not in the warm-up

The job runs as it is, on three ranks or on those of `mpirun`; the fault is in what moves its data,
or around its kernel. The exit status is

    1   the check has found it: the job says "check failed"
    2   there is no such job or fault, or the job stops before its check
    3   nothing has found it, and the answer is another one
    4   it is none: the answer is the right one
    5   the job has a mistake, or does not end

FAULT `all` tries every fault that the job can have, and `smallest` looks for the smallest ones that
its check finds; then several lists of options, each after `--`, are tried one after the other.
"""

# First, as in a job: from here on a rank that fails ends the others.
from rankwise.job import HaloRows, Rows, Run, Stop, guard, launch

import argparse
import contextlib
import functools
import io
import json
import os
import runpy
import shutil
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np

from rankwise.data.queue import Queue, _Counter
from rankwise.disk import record
from rankwise.node import placement
from rankwise.node import shared_memory as remains
from rankwise.node.device import Device
from rankwise.ranks import start
from rankwise.ranks.agreement import agreement, stop_all
from rankwise.ranks.progress import Progress
from rankwise.run import begin

ROOT = Path(__file__).resolve().parents[1]
RANKS = 3
FOUND, NOT_FOUND, NONE, STOPPED = "found", "not found", "none", "stopped"
STATUS = {FOUND: 1, STOPPED: 2, NOT_FOUND: 3, NONE: 4}
BROKEN = 5
# How long a run with a fault may take, besides ten times that without one [s].
PATIENCE_SECONDS = 60.0
OF_THE_HOST = "faults are put into arrays of the host: take --variant numpy or numba"
NO_ANSWER = {"preflight": "it measures, and has no answer that a fault could make wrong"}

# Where a fault is.
PLACES = {
    "call": "the kernel",
    "constants": "the constants that the kernel of a rank is given",
    "loop": "the steps",
    "scatter": "the rows that a rank gets",
    "broadcast": "the array that a rank gets by a broadcast",
    "input": "the rows that the kernel of a rank is given",
    "centres": "the centres that the kernel of a rank is given",
    "columns": "the coordinates of columns that the kernel of a rank is given",
    "first": "the number of the first result that the kernel of a rank is to write",
    "kernel": "what the kernel of a rank writes",
    "labels": "the labels that the kernel of a rank writes",
    "totals": "the sums and sizes of clusters that the kernel of a rank writes",
    "inertia": "the inertia of each block that the kernel of a rank writes",
    "halo": "the halo row that a rank gets",
    "sum": "what a rank adds to a sum of floats",
    "allreduce": "what a rank adds to a sum of whole numbers",
    "reduced": "the sum of whole numbers that a rank gets",
    "chunk": "a chunk that a rank takes from a queue",
    "numbers": "the numbers of the chunks that a rank sends",
    "reset": "the reset of the counter of a queue before each repeat",
    "gather": "the rows that rank 0 collects",
}


def drop(a, unit, way):
    """The first block is 0."""
    a[:unit] = 0


def duplicate(a, unit, way):
    """The first block comes twice, and the second one not at all."""
    a[unit : 2 * unit] = a[:unit][: len(a[unit : 2 * unit])]


def swap(a, unit, way):
    """The first and the last whole block are in each other's place."""
    last = max(len(a) // unit - 1, 0) * unit
    first, last = a[:unit], a[last : last + unit]
    first[...], last[...] = last.copy(), first.copy()


def reverse(a, unit, way):
    """A block begins with its end."""
    block = a[:unit] if unit > 1 or a.ndim == 1 else a[0]
    block[...] = block[::-1].copy()


def other(a, unit, way):
    """All of it is of another draw."""
    a[...] = np.random.default_rng(1).choice(a.reshape(-1), a.shape)


def old(a, unit, way):
    """All of it is that of the call before."""
    a[...] = way.before


def twice(a, unit, way):
    """All of it counts twice."""
    a *= 2


def float32(a, unit, way):
    """All of it is rounded to float32."""
    a[...] = a.astype(np.float32)


def bit(a, unit, way):
    """One bit of one element is wrong, that of middle size."""
    place = np.unravel_index(np.argsort(np.abs(a), axis=None)[a.size // 2], a.shape)
    one = a[place].reshape(1).view(f"u{a.itemsize}")
    one ^= one.dtype.type(1 << way.fault.bit % (8 * a.itemsize))
    a[place] = one.view(a.dtype)[0]


def factor(a, unit, way):
    """All of it is larger by a factor of 1 + 2^-20."""
    a *= 1 + 2.0**-way.fault.by


def less(a, unit, way):
    """It is too small by one."""
    a -= 1


def zeros(a, unit, way):
    """It writes zeros."""
    a[...] = 0


def no_op(a, unit, way):
    """It does nothing."""
    a[...] = way.there


def skip(a, unit, way):
    """It leaves out the last quarter of what it should write."""
    first = 3 * len(a) // 4
    a[first:] = way.there[first:]


def neighbour(a, unit, way):
    """It is the row beside it."""
    a[...] = way.beside


def few(steps, unit, way):
    """There is one too few."""
    steps.pop()


def many(steps, unit, way):
    """There is one too many."""
    steps.append(steps[-1] + 1)


def leave_out(parts, unit, way):
    """It is left out."""
    parts.clear()


def take_next(parts, unit, way):
    """The next one is taken with it, which another rank does, too."""
    parts.append(parts[-1] + 1)


@dataclass(frozen=True)
class Fault:
    """What a fault does, where, and to whom.

    Attributes
    ----------
    place : str
        One of `PLACES`.
    change : callable
        ``change(array, rows of a block, way)`` changes the array in place.
    rank : int or None
        The rank that has it, -1 for the last one; None for all. Rank 0 alone gathers.
    bit, by : int
        See `bit` and `factor`.
    when : str
        ``"all"`` repeats with the warm-up, or the ``"last"`` one alone.
    call : int or None
        In which call of a repeat, from 0; None for all.
    """

    place: str
    change: object
    rank: int | None = -1
    bit: int = 20
    by: int = 20
    when: str = "all"
    call: int | None = None


@dataclass
class Way:
    """What a change may need: the array of the call before, what was there, the row beside."""

    fault: Fault
    before: np.ndarray | None
    there: np.ndarray | None
    beside: np.ndarray | None


BLOCKS = (drop, duplicate, swap, reverse, float32, bit)
CHANGES = {
    "call": (no_op, zeros, skip),
    "constants": (factor,),
    "loop": (few, many),
    "scatter": (*BLOCKS, other),
    "broadcast": (drop, swap),
    "input": (old, float32, bit),
    "centres": (old, float32, bit),
    "columns": (float32, bit),
    "first": (less,),
    "kernel": (drop, duplicate, swap, old, float32, bit, factor),
    "labels": (swap, old, bit),
    "totals": (drop, old, bit),
    "inertia": (drop, bit),
    "halo": (drop, old, neighbour, reverse, float32, bit),
    "sum": (drop, duplicate, swap, old, twice, float32, bit, factor),
    "allreduce": (drop, duplicate, swap, old, twice, float32, bit),
    "reduced": (old, bit),
    "chunk": (leave_out, take_next),
    "numbers": (swap,),
    "reset": (leave_out,),
    "gather": (*BLOCKS, old),
}
SHORT = {
    **{"call-no_op": "no-op", "call-zeros": "zeros", "call-skip": "skip"},
    **{"loop-few": "few-steps", "loop-many": "many-steps"},
    **{"chunk-leave_out": "chunk-lost", "chunk-take_next": "chunk-twice"},
    **{"reset-leave_out": "no-reset"},
}
# Of all ranks.
EVERYWHERE = (no_op, zeros, few, many, leave_out, take_next)
# Where bit 20 is within the rounding of what it is added to.
BITS = {"input": 36, "centres": 36, "columns": 36}
FAULTS = {
    SHORT.get(f"{at}-{change.__name__}", f"{at}-{change.__name__}"): Fault(
        at, change, rank=None if change in EVERYWHERE else -1, bit=BITS.get(at, 20)
    )
    for at, changes in CHANGES.items()
    for change in changes
}

# What a kernel reads and what it writes, by place, if it is not its first and its second argument:
# which argument it is, or its name.
READS = {"k_means": {"input": 0, "centres": 1}, "mandelbrot": {"first": 0, "columns": "x"}}
WRITES = {
    "heat": lambda given: {"kernel": given[1][1:-1, 1:-1]},
    "k_means": lambda given: dict(zip(("labels", "totals", "inertia"), given[2:5], strict=True)),
}

# What looks at the launch, which is one for all runs in here, and takes longer than they do.
LOOKS = ((placement, "look", ([], [])), (begin, "git_commit", ""), (remains, "remove_stale", None))

# What no check finds, or what is no fault, and why; of data that are made or of an input alone.
LEFT = {
    ("heat", "scatter-reverse", "made"): (NONE, "the built-in state reads the same backwards"),
    ("heat", "halo-reverse", "made"): (NONE, "the built-in state reads the same backwards"),
    ("heat", "gather-reverse", "made"): (NONE, "the built-in state reads the same backwards"),
    ("k_means", "input-old"): (NONE, "the points are the same in every step"),
    ("k_means", "sum-swap"): (NONE, "the same numbers are added in another order"),
    ("sum_squares", "sum-swap"): (NONE, "the same numbers are added in another order"),
}


class Injector:
    """Puts a fault into the runs inside `patched`, and notes which places the job has.

    Parameters
    ----------
    job : str
    comm : MPI.Comm
    fault : Fault or None
        None to look at the places alone.

    Attributes
    ----------
    places : dict of str to dtype
        The places that this rank has passed, and what it had there at last.
    calls : dict of str to int
        How often it has passed them in this repeat.
    changed : bool
        Whether any value of this rank is another one now.
    """

    def __init__(self, job, comm, fault=None):
        self.job, self.comm, self.fault = job, comm, fault
        self.places, self.calls, self.changed = {}, {}, False
        # Before the repeats; where a kernel is compiled, and in the check, there is no fault.
        self._on, self._before = True, {}

    def patched(self):
        """Return a context in which the door of the job leads through `passes`."""
        patches = contextlib.ExitStack()
        for owner, names, wrong in (
            (Device, ["empty"], self._empty),
            (Rows, ["scatter", "each"], self._scatter),
            (Rows, ["sum_to_root", "sum_to_all"], self._sum),
            (Rows, ["gather"], self._gather),
            (HaloRows, ["scatter"], self._scatter_halo),
            (HaloRows, ["finish_exchange"], self._halo),
            (HaloRows, ["gather"], self._gather),
            (Progress, ["over"], self._over),
            (Queue, ["_compute_chunk"], self._chunk),
            (Queue, ["_exchange_numbers"], self._numbers),
            (Queue, ["gather"], self._gather),
            (_Counter, ["reset"], self._reset),
            (Run, ["repeats"], self._repeats),
            (Run, ["compile"], self._compile),
            (Run, ["kernel"], self._kernel),
            (Run, ["on_root"], self._on_root),
        ):
            for name in names:
                way = _method(wrong, getattr(owner, name))
                patches.enter_context(mock.patch.object(owner, name, way))
        return patches

    def passes(self, place, array, unit=1, there=None, beside=None):
        """Change an array, or a list, that passes a place, if the fault is there and now."""
        if not isinstance(array, np.ndarray | list):
            raise Stop(OF_THE_HOST)
        self.places[place] = getattr(array, "dtype", None)
        call = self.calls[place] = self.calls.get(place, -1) + 1
        fault = self.fault
        if fault is None or fault.place != place:
            return
        right = array.copy()
        key = _key(array) if fault.change is old else None
        before, self._before[key] = self._before.get(key, right), right
        # Rank 0 gathers, and has the counter; and ranks that do not take the same steps wait for
        # each other for ever.
        mine = fault.rank is None or place in ("gather", "loop", "reset")
        mine = mine or fault.rank % self.comm.size == self.comm.rank
        if mine and self._on and fault.call in (None, call) and len(array):
            fault.change(array, unit, Way(fault, before, there, beside))
            same = right == array if isinstance(array, list) else _same(right, array)
            self.changed = self.changed or not same

    def _empty(self, right, device, shape, dtype):
        # Else a kernel that writes nothing could find the right values there, of another run.
        array = right(device, shape, dtype)
        array[...] = 0
        return array

    def _scatter(self, right, rows, source):
        own = right(rows, source)
        self.passes("scatter", own, rows.block)
        return own

    def _scatter_halo(self, right, plate, source):
        u, room = right(plate, source)
        self.passes("scatter", u[1:-1, 1:-1])
        return u, room

    def _gather(self, right, rows, *values):
        every = right(rows, *values)
        if every is not None:
            self.passes("gather", every, getattr(rows, "block", 1))
        return every

    def _sum(self, right, rows, parts):
        # A copy: what travels is wrong, and what the rank has is not.
        parts = np.array(rows.rank.device.to_host(parts))
        self.passes("sum", parts)
        return right(rows, parts)

    def _halo(self, right, plate, u):
        from mpi4py import MPI

        right(plate, u)
        if plate.lower != MPI.PROC_NULL:
            self.passes("halo", u[0, 1:-1], len(u[0]), beside=u[1, 1:-1])
        if plate.upper != MPI.PROC_NULL:
            self.passes("halo", u[-1, 1:-1], len(u[-1]), beside=u[-2, 1:-1])

    def _over(self, right, progress, parts):
        parts = list(parts)
        self.passes("loop", parts)
        return right(progress, parts)

    def _chunk(self, right, queue, number, *given):
        numbers = [number]
        self.passes("chunk", numbers)
        # Even if it is lost: the next one is asked for meanwhile.
        seconds = right(queue, number, *given)
        for other in numbers[1:]:
            with mock.patch.object(queue, "_counter", None):
                right(queue, other % len(queue._chunks), *given)
        if not numbers:
            del queue._own[number]
        return seconds

    def _numbers(self, right, queue):
        every = right(queue)
        self.passes("numbers", every[self.comm.rank])
        return every

    def _reset(self, right, counter):
        calls = [right]
        self.passes("reset", calls)
        for call in calls:
            call(counter)

    def _repeats(self, right, run):
        for repeat in right(run):
            last = repeat == run.args.repeats - 1
            self._on = self.fault is not None and (self.fault.when == "all" or last)
            self.calls = {}
            yield repeat
        self._on = False

    def _compile(self, right, run, *given):
        on, self._on = self._on, False
        right(run, *given)
        self._on = on

    def _on_root(self, right, run, call, *given):
        def told(*given):
            try:
                return call(*given)
            except Stop:
                raise
            except Exception as error:
                # On all ranks alike, so that the next fault can be tried.
                raise Stop(f"{type(error).__name__}: {error}", 1) from None

        return right(run, told, *given)

    def _kernel(self, right, run, function, **constants):
        call = right(run, function, **constants)
        block = getattr(run._kernel, "BLOCK", 1)

        @functools.wraps(call.func)
        def wrong(*given, **more):
            # Without an array it computes nothing.
            if not any(np.ndim(value) for value in (*given, *more.values())):
                return call.func(*given, **more)
            return self._compute(call.func, block, list(given), more)

        return functools.partial(wrong, **constants)

    def _compute(self, function, block, given, more):
        # A queue gives a number first.
        reads = {"input" if np.ndim(given[0]) else "first": 0}
        for place, key in READS.get(self.job, reads).items():
            where = more if isinstance(key, str) else given
            where[key] = self._passed(place, where[key])
        for name, value in more.items():
            if isinstance(value, float):
                more[name] = self._passed("constants", value)
        written = WRITES.get(self.job, lambda given: {"kernel": given[1]})(given)
        there = {place: array.copy() for place, array in written.items()}
        function(*given, **more)
        for place, array in written.items():
            # An entry for each row, or for each block.
            unit = block if np.shape(given[0])[:1] == array.shape[:1] else 1
            self.passes(place, array, unit)
            self.passes("call", array, there=there[place])

    def _passed(self, place, value):
        """Return an array, or a number, that has passed a place; what the caller has is left."""
        if not isinstance(value, np.ndarray | int | float):
            raise Stop(OF_THE_HOST)
        copy = np.array(value, ndmin=1)
        self.passes(place, copy)
        return copy if isinstance(value, np.ndarray) else type(value)(copy[0])

    def wrap(self):
        """Return the communicator with sums of whole numbers, and broadcasts, that pass here."""
        from mpi4py import MPI

        injector = self

        class Comm(MPI.Intracomm):
            def Allreduce(self, given, total, op=MPI.SUM):
                # Of what watches over a run, and not of the job.
                if given is MPI.IN_PLACE:
                    return super().Allreduce(given, total, op)
                given = np.array(given)
                injector.passes("allreduce", given)
                super().Allreduce(given, total, op)
                injector.passes("reduced", total)

            def bcast(self, value, root=0):
                value = super().bcast(value, root)
                if isinstance(value, np.ndarray):
                    value = value.copy()
                    injector.passes("broadcast", value)
                return value

        return Comm(self.comm)


def _method(wrong, right):
    return lambda *args, **more: wrong(right, *args, **more)


def _same(one, two):
    return one.tobytes() == two.tobytes()


def _key(array):
    """Return what an array has in common with that of the step before, which is in other memory."""
    base = array.base if isinstance(array.base, np.ndarray) else array
    return array.shape, array.ctypes.data - base.ctypes.data


@dataclass
class Job:
    """A job and its options, to be run again and again.

    Attributes
    ----------
    path : Path
    options : list of str
    comm : MPI.Comm
    record : Path
        Of the last run.
    limit : float or None
        How long a run may take [s].
    clean : str
        Digest of the results without a fault; on rank 0.
    places : dict of str to dtype
        Of all ranks, see `Injector`.
    calls : dict of str to int
    """

    path: Path
    options: list[str]
    comm: object
    record: Path
    limit: float | None = None
    clean: str = ""
    places: dict = None
    calls: dict = None

    def __post_init__(self):
        injector = Injector(self.path.stem, self.comm)
        self.main = runpy.run_path(str(self.path))["main"]
        begin = time.monotonic()
        outcome, text = self._run(injector, quiet=True)
        self.limit = PATIENCE_SECONDS + 10 * (time.monotonic() - begin)
        if outcome:
            stop_all(text and f"without a fault, {self.path.name} says: {text}")
        self.clean = self._digest()
        each = self.comm.allgather((injector.places, injector.calls))
        self.places = {place: kind for places, _ in each for place, kind in places.items()}
        self.calls = {place: n for _, calls in each for place, n in calls.items()}

    def attempt(self, fault, quiet=True):
        """Run the job with a fault; return what came of it, and a sentence. Collective."""
        injector = Injector(self.path.stem, self.comm, fault)
        outcome, text = self._run(injector, quiet)
        changed = any(self.comm.allgather(injector.changed))
        if outcome and self.comm.bcast(self.record.exists()):
            return NOT_FOUND, f"{text}; but there is a record"
        if not outcome and not changed:
            return NONE, "this is no fault here: it leaves all values as they are"
        if not outcome:
            right = self.comm.bcast(self.comm.rank != 0 or self._digest() == self.clean)
            if right:
                return NONE, "this is no fault here: the answer is right, to the last bit"
            return NOT_FOUND, "the answer is another one, and nothing has found it"
        return outcome, text

    def _run(self, injector, quiet):
        """Run the job; return an outcome if it has stopped, else None, and why it has."""
        if self.comm.rank == 0:
            # And snapshots beside it.
            for path in self.record.parent.iterdir():
                path.unlink()
        printed = io.StringIO()
        watch = threading.Timer(self.limit or threading.TIMEOUT_MAX, self._does_not_end)
        watch.daemon = True
        watch.start()
        try:
            with contextlib.ExitStack() as inside:
                inside.enter_context(injector.patched())
                if quiet:
                    for where, name, seen in LOOKS:
                        look = mock.patch.object(where, name, lambda *_, seen=seen: seen)
                        inside.enter_context(look)
                    inside.enter_context(contextlib.redirect_stdout(printed))
                    inside.enter_context(contextlib.redirect_stderr(printed))
                self.main(injector.wrap(), [*self.options, f"--output={self.record}"])
        except Stop as stop:
            if not stop.agreed:
                raise
            found = stop.status == 1 and str(stop).startswith("check failed: ")
            if not str(stop):
                # The parser of the job has told why.
                print(end=printed.getvalue(), file=sys.stderr)
            return (FOUND if found else STOPPED), str(stop)
        except Exception:
            # The other ranks may wait for this one.
            traceback.print_exc(file=sys.__stderr__)
            guard.abort(BROKEN)
        finally:
            watch.cancel()
            start.unfinished.clear()
        return None, ""

    def _does_not_end(self):
        if self.comm.rank == 0:
            text = f"faults.py: {self.path.name} does not end within {self.limit:.0f} s"
            print(text, file=sys.__stderr__, flush=True)
        guard.abort(BROKEN)

    def _digest(self):
        if self.comm.rank == 0:
            return record.read(self.record).attributes["results_sha256"]
        return ""

    def faults(self):
        """Return the faults that the job can have, by name."""
        return {
            name: fault
            for name, fault in FAULTS.items()
            if fault.place in self.places
            # What comes once, and without steps, is never old.
            and (fault.change is not old or "loop" in self.places or self.calls[fault.place] > 0)
            # Labels are too small to be rounded, and whole numbers have no small factor.
            and (fault.change is not float32 or self.places[fault.place].itemsize > 4)
            and (fault.change is not factor or self.places[fault.place].kind == "f")
        }

    def smallest(self, name, **settings):
        """Return the least bit, or the largest k of a factor 1 + 2^-k, that is found. Collective.

        None if none is. Whoever finds a change is taken to find a larger one.
        """
        fault = replace(FAULTS[name], **settings)
        which = "bit" if fault.change is bit else "by"
        kind = self.places[fault.place]
        digits = np.finfo(kind).nmant if kind.kind == "f" else 8 * kind.itemsize - 2
        # From the largest change to the smallest.
        sizes = range(digits - 1, -1, -1) if which == "bit" else range(1, digits + 1)

        def finds(index):
            outcome, _ = self.attempt(replace(fault, **{which: sizes[index]}))
            return outcome == FOUND

        if not finds(0):
            return None
        found, lost = 0, len(sizes)
        while lost - found > 1:
            middle = (found + lost) // 2
            found, lost = (middle, lost) if finds(middle) else (found, middle)
        return sizes[found]


def described(fault):
    """Return where a fault is, and what it does there."""
    what = (fault.change.__doc__ or fault.change.__name__).strip().rstrip(".")
    return f"{PLACES[fault.place]}: {what[0].lower()}{what[1:]}"


def setting(text):
    """Read ``name=value`` of a fault."""
    name, _, value = text.partition("=")
    if name == "when" and value in ("all", "last"):
        return name, value
    if name == "rank" and value == "all":
        return name, None
    if name in ("bit", "by", "rank", "call") and value.isdecimal():
        return name, int(value)
    raise argparse.ArgumentTypeError(
        f"{text!r} is none of bit=N, by=N, call=N, rank=N, rank=all and when=last"
    )


def parsed(words):
    """Return the arguments before the first ``--``, and the lists of options after each."""
    parser = argparse.ArgumentParser(
        prog="faults.py",
        usage="faults.py [-h] [--json] JOB FAULT [NAME=VALUE ...] [-- OPTIONS OF THE JOB]",
        # Without docstrings under `python -OO`.
        description=(__doc__ or "").replace("%", "%%"),
        epilog="faults:\n"
        + "\n".join(f"    {name:<20}{described(fault)}" for name, fault in FAULTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    jobs = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))
    meaning = f"{', '.join(job for job in jobs if job not in NO_ANSWER)}, or a file"
    add("job", metavar="JOB", help=meaning)
    add("fault", metavar="FAULT", help="one of those below, all, or smallest")
    add("settings", metavar="NAME=VALUE", nargs="*", type=setting, help="see above")
    add("--json", action="store_true", help="print a line of JSON for each list of options")
    parts = [[]]
    for word in words:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    args = parser.parse_args(parts[0])
    args.path = Path(args.job) if args.job.endswith(".py") else ROOT / "jobs" / f"{args.job}.py"
    if not args.path.is_file():
        parser.error(f"no job {args.job}: choose from {', '.join(jobs)}, or name a file")
    if args.path.stem in NO_ANSWER:
        parser.error(f"{args.job} takes no faults: {NO_ANSWER[args.path.stem]}")
    if args.fault not in (*FAULTS, "all", "smallest"):
        parser.error(f"no fault {args.fault}: faults.py --help lists them")
    if any(word.startswith("--checkpoint") for word in words):
        parser.error("no --checkpoint: each run would go on from the one before")
    if args.fault in FAULTS and len(parts) > 2:
        parser.error("several lists of options are for all and smallest")
    return args, parts[1:] or [[]]


def try_one(job, args):
    """Try one fault, as a user asks for it; raise what the exit status says."""
    if args.fault not in job.faults():
        place = PLACES[FAULTS[args.fault].place]
        stop_all(f"{args.job} cannot have {args.fault}: with these options it lacks {place}")
    fault = replace(FAULTS[args.fault], **dict(args.settings))
    bits = 8 * (job.places[fault.place] or np.dtype("f8")).itemsize
    if fault.bit >= bits or (fault.rank or 0) >= job.comm.size:
        stop_all(f"there are {bits} bits and {job.comm.size} ranks, counted from 0")
    outcome, text = job.attempt(fault, quiet=False)
    if job.comm.rank == 0:
        print(f"{args.fault}: {outcome}: {text}")
    stop_all("", STATUS[outcome])


def try_all(job, args):
    """Try all faults; yield what came of each, by name."""
    for name, fault in job.faults().items():
        outcome, text = job.attempt(replace(fault, **dict(args.settings)))
        _, reason = LEFT.get((job.path.stem, name), ("", ""))
        if outcome == NOT_FOUND and reason:
            outcome, text = NONE, f"{reason}, so that only the last digits differ"
        yield name, (outcome, text)


def try_smallest(job, args):
    """Look for the smallest faults of those that have a size; yield them by name."""
    for name, fault in job.faults().items():
        if fault.change in (bit, factor):
            yield name, (job.smallest(name), "")
            if job.calls[fault.place] > 0:
                yield f"{name} call=0", (job.smallest(name, call=0), "")


def main(comm, argv):
    """Do what the command line says."""
    with agreement(comm):
        words = None
        if comm.rank == 0:
            try:
                words = parsed(argv)
            except SystemExit as end:
                raise Stop("", end.code or 0) from None
    args, lists = comm.bcast(words)
    with contextlib.ExitStack() as inside:
        folder = None
        if comm.rank == 0:
            folder = inside.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))
        folder, missed = comm.bcast(folder), []
        for options in lists:
            job = Job(args.path, options, comm, Path(folder, "r.h5"))
            if args.fault in FAULTS:
                try_one(job, args)
            found = show(args, options, comm.rank == 0, job)
            missed += [name for name, (outcome, _) in found.items() if outcome == NOT_FOUND]
        if missed:
            stop_all(f"not found: {', '.join(missed)}", STATUS[NOT_FOUND])


def show(args, options, tell, job):
    """Try the faults of one list of options, and print what comes of each; return that by name."""
    found = {}
    if tell and not args.json:
        print(" ".join(["faults of", args.job, *options]), flush=True)
    for name, result in (try_all if args.fault == "all" else try_smallest)(job, args):
        found[name] = result
        if tell and not args.json:
            print(f"  {name:<20} {result[0]!s:<10} {result[1]}", flush=True)
    if tell and args.json:
        print(json.dumps({"job": args.job, "options": options, "faults": found}), flush=True)
    return found


if __name__ == "__main__":
    if not {"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"} & set(os.environ):
        beside = Path(sys.executable).parent / "mpirun"
        mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
        if mpirun is None:
            sys.exit("faults.py: error: no mpirun: start it with that of the MPI library")
        # Where ranks share cores, one that waits leaves its core to the others at once.
        os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "1")
        os.execv(mpirun, [mpirun, "-n", str(RANKS), sys.executable, *sys.argv])
    launch(main)
