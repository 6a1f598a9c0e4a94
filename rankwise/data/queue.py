"""A queue of tasks that take unequal times: the ranks do them, and rank 0 gets all results.

A schedule of `rankwise.data.schedules` says which rank does which tasks. Where it lets a rank take
the next chunk, a counter in the memory of rank 0 has its number. A rank adds one to it from afar
(one-sided: `MPI_Fetch_and_op`), so that no rank is lost for giving out tasks. It asks before the
last piece of a chunk that it works on, and the answer comes meanwhile.

Between nodes, an MPI library may answer for rank 0 only while rank 0 is in a call of MPI. So rank 0
enters it after each piece of a task, and the pieces are to be short: some 10 ms.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rankwise.data import collectives
from rankwise.data.checksums import Checksums
from rankwise.data.schedules import BLOCK, SCHEDULES, Chunks
from rankwise.disk.record import Balance
from rankwise.node import memory
from rankwise.node.rank import Rank
from rankwise.ranks.agreement import Stop, agreement, sleep_until_all, stop_all
from rankwise.ranks.progress import Progress

_log = logging.getLogger("rankwise")
_TAG = 2

# What a chunk takes besides its results: an array, and its number in the tables of all ranks.
_CHUNK_BYTES = 200

# ``call(first, out)`` writes consecutive results, the first of which has that number.
Call = Callable[[int, Any], object]


class Queue:
    """Tasks and their results; as a context, in which they are computed. Collective.

    Parameters
    ----------
    rank : Rank
        All ranks of the job make one, with equal arguments.
    tasks : int
        How many there are; they have the numbers from 0 on.
    shape : int or sequence of int
        Of the results of one task, which are consecutive: those of task i have the numbers from
        ``i * size`` on; ``()`` for a single one.
    dtype : dtype
        Of the results.
    schedule : str
        See `rankwise.data.schedules`.
    chunk : int, optional
        Tasks in a chunk, of ``guided`` at least (default: 1).

    Raises
    ------
    Stop
        There are fewer tasks than a chunk has, or rank 0 has too little memory for all results.
    """

    def __init__(
        self,
        rank: Rank,
        tasks: int,
        shape: int | Sequence[int] = (),
        dtype: Any = np.float64,
        schedule: str = "guided",
        chunk: int | None = None,
    ) -> None:
        self.rank, self.tasks, self.schedule = rank, tasks, schedule
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.dtype = np.dtype(dtype)
        self._size = math.prod(self.shape)
        _require(schedule, tasks, self._size, chunk)
        self._chunks = Chunks(schedule, tasks, rank.comm.size, chunk or 1)
        with agreement(rank.comm):
            self._require_memory()
        self._numbers = self._chunks.of(rank.comm.rank)
        self._counter: _Counter | None = None
        self._open = False
        # The results of this rank on the host, by the number of their chunk.
        self._own: dict[int, np.ndarray] = {}
        # The results of all, on rank 0.
        self._every: np.ndarray | None = None
        # Of all ranks, the numbers of the chunks that they have done, in rising order.
        self._done: list[np.ndarray] = []
        # Of each timed repeat: seconds of all chunks, of the longest one, number of chunks.
        repeats = len(rank.clock.seconds)
        self._spent = np.zeros((repeats, 3))
        self._progress = Progress(tasks * repeats, "task", rank.comm.rank == 0, even=False)

    def __enter__(self) -> "Queue":
        comm = self.rank.comm
        with agreement(comm, MemoryError):
            if comm.rank == 0:
                self._every = np.empty((self.tasks, *self.shape), self.dtype)
                # The pages are there before the timed repeats.
                self._every.fill(0)
        if self._numbers is None:
            self._counter = _Counter(self.rank)
        self._open = True
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        self._open = False
        self._progress.clear()
        # All ranks must free it together, and one that fails is alone.
        if self._counter is not None and (error is None or getattr(error, "agreed", False)):
            self._counter.free()

    def compute(self, call: Call, at_once: int | None = None) -> None:
        """Do all tasks; each rank keeps the results of its own. Collective.

        Phases ``kernel``, ``queue`` (to get a chunk, and in the end to tell which ones they were),
        ``to_host`` and ``wait`` (for the others).

        Parameters
        ----------
        call : callable
            ``call(first, out)`` writes results, the first of which has the number ``first``, to the
            array ``out`` of one dimension, on the device.
        at_once : int, optional
            Most results in a call; it is to take some 10 ms at most (default: those of a task).

        Raises
        ------
        Exception
            That of ``call``, with the number of the task; it ends all ranks.
        """
        if not self._open:
            raise RuntimeError("a queue computes inside its context only: with queue:")
        rank, at_once = self.rank, self._size if at_once is None else at_once
        if at_once < 1:
            raise ValueError(f"a call cannot have {at_once} results at once")
        self._own = {}
        if rank.clock.warming_up:
            self._warm_up(call, at_once)
            return
        with rank.phase("wait"):
            if self._counter is not None:
                self._counter.reset()
            rank.comm.Barrier()
        if not rank.clock.repeat:
            self._progress.begin()
        seconds = [self._compute_chunk(number, call, at_once) for number in self._next()]
        if rank.clock.timed:
            busy, longest, chunks = self._spent[rank.clock.repeat]
            longest = max([longest, *seconds])
            self._spent[rank.clock.repeat] = busy + sum(seconds), longest, chunks + len(seconds)
        with rank.phase("wait"):
            sleep_until_all(rank.comm)
        with rank.phase("queue"):
            self._done = self._exchange_numbers()

    def gather(self) -> np.ndarray | None:
        """Collect the results on rank 0, in the order of the tasks, whoever did them. Collective.

        Phase ``gather``.

        Returns
        -------
        (tasks, *shape) array, or None
            On rank 0, the same one in all repeats, and zeros in the warm-up; None elsewhere.
        """
        rank, comm = self.rank, self.rank.comm
        if rank.clock.warming_up:
            return self._every
        with rank.phase("gather"):
            if self._every is not None:
                self._receive_all(self._every.reshape(-1))
            else:
                rank.clock.waits_for = 0
                for parts in self._messages(self._done[comm.rank]):
                    comm.Send(self._packed(parts), 0, _TAG)
                    rank.clock.moves += 1
        return self._every

    def wrong_tasks(self, every: np.ndarray | None) -> int:
        """Count the tasks that were not done once, or whose results rank 0 has not got. Collective.

        Parameters
        ----------
        every : (tasks, *shape) array
            From `gather`; significant on rank 0.
        """
        comm, done = self.rank.comm, self._done
        own = [_checksums(results, self._size) for results in self._own.values()]
        told, wrong = comm.gather(np.concatenate(own) if own else np.empty(0, np.uint32)), 0
        if told is not None:
            assert every is not None
            times, sums = np.zeros(self.tasks, np.int64), np.zeros(self.tasks, np.uint32)
            for numbers, theirs in zip(done, told, strict=True):
                at = 0
                for first, stop in (self._chunks[number] for number in numbers.tolist()):
                    times[first:stop] += 1
                    sums[first:stop] = theirs[at : at + stop - first]
                    at += stop - first
            wrong = int(np.count_nonzero((times != 1) | (sums != _checksums(every, 1))))
        return int(comm.bcast(wrong))

    def other_results(
        self, every: np.ndarray | None, call: Call, at_once: int | None = None, one_in: int = 16
    ) -> int:
        """Do some tasks again, and count those that have other results. Collective.

        On another rank than before, if there is one.

        Parameters
        ----------
        every : (tasks, *shape) array
            From `gather`; significant on rank 0.
        call, at_once
            As for `compute`; another function than there, if there is one.
        one_in : int
            Of so many tasks one is done again, and of each rank its last one.
        """
        comm, found = self.rank.comm, {}
        for task in self._again(one_in):
            self.rank.clock.moves += 1
            results = self.rank.device.empty((self._size,), self.dtype)
            for begin, part in _pieces(results, at_once or self._size):
                self._call(call, task * self._size + begin, part)
            found[task] = int(_checksums(self.rank.device.to_host(results), self._size)[0])
        told, wrong = comm.gather(found), 0
        if told is not None:
            assert every is not None
            both = ((task, sums) for each in told for task, sums in each.items())
            wrong = sum(
                int(_checksums(every[task : task + 1], 1)[0]) != sums for task, sums in both
            )
        return int(comm.bcast(wrong))

    def balance(self) -> Balance | None:
        """Return, on rank 0, how the tasks were shared in the timed repeats. Collective."""
        comm = self.rank.comm
        every = np.empty((comm.size, *self._spent.shape)) if comm.rank == 0 else None
        comm.Gather(self._spent, every)
        if every is None:
            return None
        busy, longest, chunks = every.transpose(2, 1, 0)
        return Balance(self.schedule, self.tasks, busy, longest, chunks.astype(np.int64))

    def _require_memory(self) -> None:
        """Stop on rank 0 if its node cannot hold all results, and those of its own ranks."""
        comm, node = self.rank.comm, self.rank.device.node
        results = self.tasks * self._size * self.dtype.itemsize
        kept = results + len(self._chunks) * _CHUNK_BYTES
        needed = results + kept * node.size / comm.size
        if comm.rank == 0 and needed > (free := memory.available()):
            raise Stop(
                f"the results of {self.tasks} tasks in {len(self._chunks)} chunks take "
                f"{needed / 1e9:.3g} GB on the node of rank 0, which has {free / 1e9:.3g} GB"
            )

    def _warm_up(self, call: Call, at_once: int) -> None:
        """Do a piece of one task, which costs next to nothing and leaves nothing."""
        task = self.rank.comm.rank
        if task < self.tasks:
            results = self.rank.device.empty((min(at_once, self._size),), self.dtype)
            with self.rank.phase("kernel"):
                self._call(call, task * self._size, results)

    def _next(self) -> Iterator[int]:
        """Yield the numbers of the chunks of this rank."""
        if self._numbers is not None:
            yield from self._numbers
            return
        assert self._counter is not None
        with self.rank.phase("queue"):
            self._counter.ask()
        while True:
            with self.rank.phase("queue"):
                # Which has the number.
                self.rank.clock.waits_for = 0
                number = self._counter.answer()
            if number >= len(self._chunks):
                return
            yield number

    def _compute_chunk(self, number: int, call: Call, at_once: int) -> float:
        """Do the tasks of a chunk, and return for how long this rank was busy [s]."""
        rank, counter = self.rank, self._counter
        seconds = time.perf_counter if rank.device.is_gpu else time.process_time
        task, end = self._chunks[number]
        _log.info("chunk %d: tasks %d to %d", number, task, end - 1)
        first, length = task * self._size, (end - task) * self._size
        results = rank.device.empty((length,), self.dtype)
        with rank.phase("kernel"):
            start = seconds()
            for begin, part in _pieces(results, at_once):
                if counter is not None and begin + at_once >= length:
                    counter.ask()
                self._call(call, first + begin, part)
                if rank.comm.rank == 0:
                    # The library answers for this rank meanwhile.
                    rank.comm.Iprobe()
                    self._tell(first + begin + len(part), first)
            busy = seconds() - start
        if rank.device.is_gpu:
            with rank.phase("to_host"):
                results = rank.device.to_host(results)
        self._own[number] = results
        return busy

    def _tell(self, end: int, first: int) -> None:
        """Show how far all ranks have come, on rank 0: they have chunks like this one."""
        done = (first + (end - first) * self.rank.comm.size) // self._size
        self._progress.reach((self.rank.clock.repeat or 0) * self.tasks + min(done, self.tasks))

    def _call(self, call: Call, first: int, out: Any) -> None:
        """Compute some results, until they are there."""
        try:
            call(first, out)
            self.rank.device.synchronize()
        except Stop as stop:
            raise Stop(f"{self._named(first, len(out))}: {stop}", stop.status) from stop
        except SystemExit as end:
            # It would end this rank without a word, and the others would wait for it.
            raise RuntimeError(f"sys.exit in {self._named(first, len(out))}") from end
        except Exception as error:
            error.add_note(f"in {self._named(first, len(out))}")
            raise

    def _named(self, first: int, length: int) -> str:
        task, last = first // self._size, (first + length - 1) // self._size
        several = f"tasks {task} to {last}" if last > task else f"task {task}"
        return f"{several} of {self.tasks}, counted from 0"

    def _exchange_numbers(self) -> list[np.ndarray]:
        comm, own = self.rank.comm, np.fromiter(self._own, np.int64)
        lengths = comm.allgather(len(own))
        every = np.empty(sum(lengths), np.int64)
        comm.Allgatherv(own, (every, lengths))
        return np.split(every, np.cumsum(lengths)[:-1])

    def _messages(self, numbers: np.ndarray) -> Iterator[list[tuple[int, int, int]]]:
        """Yield the parts of each message of a rank: the chunk, begin and end in it."""
        most = max(1, collectives.MESSAGE_BYTES // self.dtype.itemsize)
        parts, room = [], most
        for number in numbers.tolist():
            first, stop = (task * self._size for task in self._chunks[number])
            begin = 0
            while begin < stop - first:
                end = min(stop - first, begin + room)
                parts.append((number, begin, end))
                room -= end - begin
                begin = end
                if not room:
                    yield parts
                    parts, room = [], most
        if parts:
            yield parts

    def _packed(self, parts: list[tuple[int, int, int]]) -> np.ndarray:
        pieces = [self._own[number][begin:end] for number, begin, end in parts]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _receive_all(self, every: np.ndarray) -> None:
        """Put the results of all ranks where they belong. On rank 0."""
        comm = self.rank.comm
        for other, numbers in enumerate(self._done):
            for parts in self._messages(numbers):
                if other == 0:
                    packed = self._packed(parts)
                else:
                    packed = np.empty(sum(end - begin for _, begin, end in parts), self.dtype)
                    self.rank.clock.waits_for = other
                    comm.Recv(packed, other, _TAG)
                    self.rank.clock.moves += 1
                at = 0
                for number, begin, end in parts:
                    place = self._chunks[number][0] * self._size
                    every[place + begin : place + end] = packed[at : at + end - begin]
                    at += end - begin

    def _again(self, one_in: int) -> Iterator[int]:
        """Yield the tasks of the sample that this rank does: another than has done them before."""
        comm = self.rank.comm
        doers = np.full(len(self._chunks), -1)
        for other, numbers in enumerate(self._done):
            doers[numbers] = other
        groups, last = range(-(-self.tasks // one_in)), self.tasks - 1
        # Not always the first of its group: at regular distances tasks may be alike.
        tasks = {min(k * one_in + k * 7 % one_in, last) for k in groups}
        # If all that a rank has done is wrong, that shows, however few tasks it had.
        own = (self._chunks[int(numbers[-1])] for numbers in self._done if numbers.size)
        tasks |= {stop - 1 for first, stop in own if first < stop}
        for k, task in enumerate(sorted(tasks)):
            before = doers[self._chunks.number_of(task)]
            others = max(1, comm.size - 1)
            if (before + 1 + k % others) % comm.size == comm.rank:
                yield task


class _Counter:
    """A number in the memory of rank 0, which any rank can take and raise by one. Collective."""

    def __init__(self, rank: Rank) -> None:
        from mpi4py import MPI

        self._sum, self._replace = MPI.SUM, MPI.REPLACE
        self._zero, self._one = np.zeros(1, np.int64), np.ones(1, np.int64)
        self._taken = np.zeros(1, np.int64)
        self._root, comm = rank.comm.rank == 0, rank.comm
        size = 8 if self._root else 0
        self._window = MPI.Win.Allocate(size, 8, comm=comm)  # type: ignore[arg-type]
        self._window.Lock_all()

    def reset(self) -> None:
        """Set the number to 0, on rank 0, while nobody asks for it."""
        if self._root:
            self._window.Accumulate(self._zero, 0, op=self._replace)
            self._window.Flush(0)

    def ask(self) -> None:
        """Begin to take the number."""
        self._window.Fetch_and_op(self._one, self._taken, 0, 0, self._sum)

    def answer(self) -> int:
        """Return the number that was asked for at last."""
        self._window.Flush(0)
        return int(self._taken[0])

    def free(self) -> None:
        """Give the memory back. Collective."""
        self._window.Unlock_all()
        self._window.Free()


def _require(schedule: str, tasks: int, size: int, chunk: int | None) -> None:
    if schedule not in SCHEDULES:
        raise ValueError(f"no schedule {schedule!r}: choose from {', '.join(SCHEDULES)}")
    if tasks < 0 or size < 1:
        raise ValueError(f"there are no {tasks} tasks with {size} results each")
    if chunk is not None and schedule == BLOCK:
        stop_all("with the schedule block each rank has one chunk: there is no size to choose")
    if chunk is not None and not 1 <= chunk <= tasks:
        stop_all(f"a chunk of {chunk} tasks cannot be had: there are {tasks} tasks")


def _pieces(results: Any, at_once: int) -> Iterator[tuple[int, Any]]:
    """Yield pieces of an array, and where they begin."""
    for begin in range(0, len(results), at_once):
        yield begin, results[begin : begin + at_once]


def _checksums(results: np.ndarray, each: int) -> np.ndarray:
    """Return the CRC-32 of the results of each task, which are so many rows."""
    sums = Checksums(len(results), each)
    sums.add(0, results)
    return sums.values
