"""An array whose rows are divided among the ranks in whole blocks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rankwise.data import collectives, partition, staging, sums, window
from rankwise.data.checksums import Checksums
from rankwise.node.rank import Rank
from rankwise.ranks.agreement import agreement

# Of rows that are made or read once more: few, beside those that are there.
_AGAIN_BYTES = 2**20


class Rows:
    """The rows of this rank, their way to it and back, and sums over the blocks of all ranks.

    Parameters
    ----------
    rank : Rank
        All ranks of the job make one, with equal arguments.
    shape : sequence of int
        Of the whole array, 1-D or more.
    dtype : dtype
    block : int
        Rows in a block: every rank has whole blocks; only the last of all may be shorter.

    Attributes
    ----------
    own : (rows, ...) array
        The rows of this rank, in the memory that `scatter` or `each` has put them in: that of the
        host, or of a device where MPI reaches it. None before.
    counts, blocks : list of int
        Rows and blocks of each rank.
    start : int
        First row of this rank.
    """

    def __init__(self, rank: Rank, shape: Sequence[int], dtype: Any, block: int) -> None:
        self.rank, self.block = rank, block
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.counts = partition.counts(self.shape[0], rank.comm.size, block)
        self.start = partition.displs(self.counts)[rank.comm.rank]
        self.blocks = [-(-count // block) for count in self.counts]
        self.own: Any = None
        # Made where they are first needed: one that all ranks of a node see, and one of its own.
        self._shared: window.Window | None = None
        self._private: window.Window | None = None
        # Whether each rank can ask the source for its rows; else what rank 0 has sent.
        self._ask = False
        self._sent: Checksums | None = None

    def scatter(self, source: Callable[[int, np.ndarray], None] | np.ndarray | None) -> Any:
        """Bring each rank its rows from rank 0, and return them. Collective.

        Ranks of the node of rank 0 share the memory in which it makes or reads them.

        Parameters
        ----------
        source : callable or array
            ``source(start, rows)`` fills an array with the rows from ``start`` on; or the whole
            array. Significant on rank 0.

        Raises
        ------
        Stop
            ``source`` raises it, or a rank has too little memory.
        """
        rank = self.rank
        if self._shared is None:
            self._shared = window.share(rank, self.counts, self.shape[1:], self.dtype)
        if rank.comm.rank == 0 and isinstance(source, np.ndarray):
            source = np.ascontiguousarray(source, self.dtype)
        # Not in timed repeats, whose results must have the same bits.
        if not rank.clock.timed:
            self._ask = all(rank.comm.allgather(getattr(source, "everywhere", False)))
            if rank.comm.rank == 0 and not self._ask:
                source = self._note(source)
        self.own = collectives.scatter(rank.comm, source, self.counts, self._shared, rank.clock)
        return self.own

    def each(self, source: Callable[[int, np.ndarray], None]) -> Any:
        """Let each rank make or read its own rows, and return them. Nothing is sent. Collective.

        Parameters and what is raised are those of `scatter`; ``source`` is a callable, and
        significant on every rank.
        """
        rank = self.rank
        if self._private is None:
            self._private = window.private(rank, self.counts, self.shape[1:], self.dtype)
        self._ask = True
        self.own = collectives.fill(rank.comm, source, self.counts, self._private, rank.clock)
        return self.own

    def on_host(self) -> np.ndarray:
        """Return the rows of this rank in host memory: themselves, if they are there."""
        self._require_own()
        return self.rank.device.to_host(self.own)

    def wrong_blocks(self, source: Any) -> int:
        """Count the blocks, of all ranks, that are not as their source gives them. Collective.

        A rank that can ask the source does so once more. Where only rank 0 can, each compares the
        checksums of what has arrived with those that rank 0 took in the warm-up, as it read.

        Parameters
        ----------
        source : callable or array
            As it was given to `scatter` or `each`; the rows are to be as they came.

        Raises
        ------
        Stop
            ``source`` raises it.
        """
        self._require_own()
        comm = self.rank.comm
        arrived = Checksums(self.counts[comm.rank], self.block)
        arrived.add(0, self.on_host())
        if self._ask:
            with agreement(comm):
                expected = self._asked_again(source)
        else:
            # Not by the scatter that is to be checked, whose mistakes would be made twice.
            every = np.empty(sum(self.blocks), np.uint32)
            if comm.rank == 0:
                if self._sent is None:
                    raise RuntimeError("nothing was scattered before the timed repeats")
                every = self._sent.values
            comm.Bcast(every)
            first = self.start // self.block
            expected = every[first : first + self.blocks[comm.rank]]
        return sum(comm.allgather(int(np.count_nonzero(arrived.values != expected))))

    def per_block(self, *shape: int) -> Any:
        """Return a new float64 array on the device, ``(blocks of this rank, *shape)``. Collective.

        Raises
        ------
        Stop
            A rank has too little memory.
        """
        return self._new((self.blocks[self.rank.comm.rank], *shape), np.float64)

    def per_row(self, dtype: Any) -> Any:
        """Return a new array on the device with an element for each row of this rank. Collective.

        Raises
        ------
        Stop
            A rank has too little memory.
        """
        return self._new((self.counts[self.rank.comm.rank],), dtype)

    def _new(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with agreement(self.rank.comm, MemoryError):
            return self.rank.device.empty(shape, dtype)

    def compute(self, kernel: Callable[..., None], out: Any) -> None:
        """Call ``kernel(rows, out)``, which writes a value for each block, in phase ``kernel``.

        Rows of the host go to a GPU in pieces, while it computes.

        Parameters
        ----------
        kernel : callable
        out : (blocks of this rank, ...) array
            From `per_block`.
        """
        self._require_own()
        staging.run(self.rank, kernel, self.own, out, self.block)

    def sum_to_root(self, parts: Any) -> Any:
        """Add one array per block over all ranks, in the tree of `rankwise.data.sums`. Collective.

        Parameters
        ----------
        parts : (blocks of this rank, ...) array
            From `per_block`; or on the host.

        Returns
        -------
        float64 array of the shape of one block's, or None
            The same bits on any number of ranks. On rank 0; None elsewhere.
        """
        return sums.to_root(self.rank, self._to_host(parts), self.blocks)

    def sum_to_all(self, parts: Any) -> Any:
        """As `sum_to_root`, and every rank gets the sum. Collective."""
        return sums.to_all(self.rank, self._to_host(parts), self.blocks)

    def gather(self, values: Any) -> np.ndarray | None:
        """Collect one entry per row on rank 0. Collective.

        Parameters
        ----------
        values : (rows of this rank, ...) array, contiguous
            On the device or on the host.

        Returns
        -------
        (rows of all ranks, ...) array, or None
            On rank 0; None elsewhere.

        Raises
        ------
        Stop
            Rank 0 has too little memory.
        """
        rank, every = self.rank, None
        with rank.phase("to_host"):
            values = rank.device.for_mpi(values)
        # Before the agreement, in which waiting would not be counted.
        with rank.phase("wait"):
            rank.comm.Barrier()
        with agreement(rank.comm, MemoryError):
            if rank.comm.rank == 0:
                every = np.empty((self.shape[0], *values.shape[1:]), values.dtype)
        collectives.gather(rank.comm, values, self.counts, every, rank.clock)
        return every

    def _note(self, source: Any) -> Any:
        """Take the checksums of what rank 0 sends, as it reads it; return the source for that."""
        sent = self._sent = Checksums(self.shape[0], self.block)
        if isinstance(source, np.ndarray):
            sent.add(0, source)
            return source

        def noting(start: int, rows: np.ndarray) -> None:
            source(start, rows)
            sent.add(start, rows)

        return noting

    def _asked_again(self, source: Any) -> np.ndarray:
        """Return the checksums of the rows of this rank that the source gives now."""
        count = self.counts[self.rank.comm.rank]
        again = Checksums(count, self.block)
        for start, stop in collectives.pieces(count, self.own, _AGAIN_BYTES):
            rows = np.empty((stop - start, *self.shape[1:]), self.dtype)
            source(self.start + start, rows)
            again.add(start, rows)
        return again.values

    def _require_own(self) -> None:
        if self.own is None:
            raise RuntimeError("no rows are here yet: call scatter(source) or each(source) first")

    def _to_host(self, parts: Any) -> np.ndarray:
        with self.rank.phase("to_host"):
            return self.rank.device.to_host(parts)
