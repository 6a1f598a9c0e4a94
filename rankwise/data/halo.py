"""A 2-D array whose rows are divided among the ranks, with a ring of halo around each part."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rankwise.data import collectives, partition
from rankwise.node.rank import Rank
from rankwise.ranks.agreement import agreement

Fill = Callable[[int, np.ndarray], None]


class HaloRows:
    """The parts of the ranks, their way to them and back, and the exchange of halo rows.

    A part is a ``(rows + 2, nx + 2)`` float64 array on the device. Its outermost ring is halo: 0 at
    the edges of the whole array, the other rank's outermost row between two ranks.

    Parameters
    ----------
    rank : Rank
        All ranks of the job make one. Collective.
    ny, nx : int
        Rows and columns of the whole array, without halo.

    Attributes
    ----------
    counts : list of int
        Rows of each rank; where there are more ranks than rows, the last ones have none.
    lower, upper : int
        Ranks that have the rows before the first and after the last one of this rank, or
        ``PROC_NULL``. Messages to it and from it are none, so that the edges need no branch.

    Raises
    ------
    Stop
        A rank has too little memory for its part.
    """

    def __init__(self, rank: Rank, ny: int, nx: int) -> None:
        from mpi4py import MPI

        self.comm, self.device, self.clock = rank.comm, rank.device, rank.clock
        comm = rank.comm
        self.counts = partition.counts(ny, comm.size)
        around = [0, *self.counts, 0][comm.rank : comm.rank + 3]
        self.lower = comm.rank - 1 if around[0] and around[1] else MPI.PROC_NULL
        self.upper = comm.rank + 1 if around[1] and around[2] else MPI.PROC_NULL
        # Each neighbour, the message from it and the one to it.
        self._requests: list[tuple[int, MPI.Request, MPI.Request]] = []
        with agreement(comm, MemoryError):
            zeros = np.zeros((self.counts[comm.rank] + 2, nx + 2))
            # Where MPI puts the rows that come from rank 0.
            self._arrival = self.device.to_device(zeros) if self.device.mpi_reads_device else zeros
            # Halo rows on their way to a device that MPI cannot reach.
            self._landing = np.empty((2, nx + 2))
            self._room = self.device.to_device(np.zeros((self.counts[comm.rank] + 2, nx + 2)))

    def scatter(self, source: Fill | None) -> tuple[Any, Any]:
        """Send each rank its rows from rank 0; return its part, and room for another. Collective.

        The next call writes over both. They belong together: a job that swapped arrays of its own
        an odd number of times would begin its next repeat with one array under two names.

        Parameters
        ----------
        source : callable
            ``source(start, rows)`` fills a ``(k, nx)`` array with the rows from ``start`` on; it is
            called with increasing ``start``. Significant on rank 0.

        Raises
        ------
        Stop
            On every rank, if ``source`` raises it.
        """

        def fill(start: int, rows: np.ndarray) -> None:
            assert source is not None
            inside = np.empty((len(rows), rows.shape[1] - 2))
            source(start, inside)
            rows[:, 1:-1], rows[:, 0], rows[:, -1] = inside, 0.0, 0.0

        # Whole rows, halo columns included, so that what is sent lies together in memory.
        collectives.scatter(self.comm, fill, self.counts, self._arrival[1:-1], self.clock)
        with self.clock.phase("to_device"):
            return self.device.to_device(self._arrival), self._room

    def start_exchange(self, u: Any) -> None:
        """Begin to send the first and last row of a part, and to receive its halo rows.

        Until `finish_exchange` the rows ``u[1]`` and ``u[-2]`` must not change, nor may the halo
        rows ``u[0]`` and ``u[-1]`` be read. What needs neither can be computed meanwhile.
        """
        with self.clock.phase("halo"):
            first, last = self.device.for_mpi(u[1]), self.device.for_mpi(u[-2])
            # The device writes in its own time, and MPI does not wait for it.
            self.device.synchronize()
            before, after = (u[0], u[-1]) if self._direct(u) else self._landing
            comm, around = self.comm, (self.lower, self.upper)
            receives = comm.Irecv(before, self.lower), comm.Irecv(after, self.upper)
            sends = comm.Isend(first, self.lower), comm.Isend(last, self.upper)
            self._requests = list(zip(around, receives, sends, strict=True))

    def finish_exchange(self, u: Any) -> None:
        """Wait until the halo rows of the part given to `start_exchange` are there."""
        from mpi4py import MPI

        with self.clock.phase("halo"):
            for other, *both in self._requests:
                self.clock.waits_for = other
                MPI.Request.Waitall(both)
            self.clock.waits_for = None
            if not self._direct(u):
                if self.lower != MPI.PROC_NULL:
                    self.device.update(u[0], self._landing[0])
                if self.upper != MPI.PROC_NULL:
                    self.device.update(u[-1], self._landing[1])

    def _direct(self, u: Any) -> bool:
        return self.device.mpi_reads_device or isinstance(u, np.ndarray)

    def gather(self, u: Any) -> np.ndarray | None:
        """Collect the whole array, without halo, on rank 0. Collective.

        Returns
        -------
        (ny, nx) float64 array, or None
            On rank 0; None on the other ranks.

        Raises
        ------
        Stop
            Rank 0 has too little memory.
        """
        every = None
        with self.clock.phase("to_host"):
            rows = self.device.for_mpi(u[1:-1])
        # Before the agreement, in which waiting would not be counted.
        with self.clock.phase("wait"):
            self.comm.Barrier()
        with agreement(self.comm, MemoryError):
            if self.comm.rank == 0:
                every = np.empty((sum(self.counts), rows.shape[1]))
        collectives.gather(self.comm, rows, self.counts, every, self.clock)
        return None if every is None else np.ascontiguousarray(every[:, 1:-1])
