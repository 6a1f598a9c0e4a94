"""An array whose rows are divided among the ranks in whole blocks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rankwise.data import collectives, partition, staging, sums, window
from rankwise.node.rank import Rank
from rankwise.ranks.agreement import agreement


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
        self.own = collectives.fill(rank.comm, source, self.counts, self._private, rank.clock)
        return self.own

    def on_host(self) -> np.ndarray:
        """Return the rows of this rank in host memory: themselves, if they are there."""
        self._require_own()
        return self.rank.device.to_host(self.own)

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

    def _require_own(self) -> None:
        if self.own is None:
            raise RuntimeError("no rows are here yet: call scatter(source) or each(source) first")

    def _to_host(self, parts: Any) -> np.ndarray:
        with self.rank.phase("to_host"):
            return self.rank.device.to_host(parts)
