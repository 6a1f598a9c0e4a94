"""Which tasks belong together, and which rank does them: the schedules of a queue.

Tasks are done in *chunks* of consecutive ones. With ``block`` and ``cyclic`` it is known at once
who does which; with ``guided`` and ``dynamic`` a rank that is done takes the next chunk:

block
    One chunk a rank, all of one size.
cyclic
    Chunks of one size, dealt out to the ranks in turn.
guided
    Chunks that become smaller: half of an equal share of what is left, at least the size given.
    [1]_ takes a whole share; then nothing is left to level out a first chunk that takes longest.
dynamic
    Chunks of one size.

References
----------
.. [1] C. D. Polychronopoulos and D. J. Kuck, Guided self-scheduling, IEEE Transactions on Computers
   C-36, 1987, 1425-1439.
"""

from bisect import bisect_right

from rankwise.data import partition

BLOCK, CYCLIC, GUIDED, DYNAMIC = SCHEDULES = ("block", "cyclic", "guided", "dynamic")


class Chunks:
    """The chunks of a queue, in the order of their tasks: ``chunks[k]`` is first task and end.

    Parameters
    ----------
    schedule : str
        One of `SCHEDULES`.
    tasks, ranks : int
    size : int
        Of a chunk; of ``guided`` the least, and of no meaning for ``block``.
    """

    def __init__(self, schedule: str, tasks: int, ranks: int, size: int) -> None:
        self._tasks, self._size, self._ranks = tasks, size, ranks
        self._dealt = schedule in (BLOCK, CYCLIC)
        # Of chunks of one size no list is needed, which would be as long as that of the tasks.
        self._ends: list[int] | None = None
        if schedule == BLOCK:
            self._ends = [*partition.displs(partition.counts(tasks, ranks)), tasks]
        elif schedule == GUIDED:
            self._ends = [0]
            while (left := tasks - self._ends[-1]) > 0:
                self._ends.append(tasks - left + min(left, max(size, left // (2 * ranks))))

    def __len__(self) -> int:
        if self._ends is not None:
            return len(self._ends) - 1
        return -(-self._tasks // self._size)

    def __getitem__(self, number: int) -> tuple[int, int]:
        if self._ends is not None:
            return self._ends[number], self._ends[number + 1]
        first = number * self._size
        return first, min(first + self._size, self._tasks)

    def number_of(self, task: int) -> int:
        """Return the number of the chunk that has a task."""
        if self._ends is None:
            return task // self._size
        return bisect_right(self._ends, task) - 1

    def of(self, rank: int) -> range | None:
        """Return the numbers of the chunks that a rank does; None if nobody knows before."""
        return range(rank, len(self), self._ranks) if self._dealt else None
