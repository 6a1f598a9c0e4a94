"""Where the rows of a vector arrive; ranks of a node share that memory, so that none need travel.

A file in ``/dev/shm``, without a name before it has memory, so that a killed job leaves none.
Not an MPI-3 window: where ``/dev/shm`` is full, one ends the rank with SIGBUS at the first touch,
and to make one Open MPI 5 prints errors of components that it then does without.
"""

import math
import mmap
import os
import tempfile
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.node.rank import Rank
from rankwise.ranks.agreement import agreement

if TYPE_CHECKING:
    from mpi4py import MPI

_FOLDER = "/dev/shm"
# No space, no such folder, too many files or addresses, a size that the system cannot express.
_FAILURES = (OSError, OverflowError, ValueError)


class Window:
    """The rows of a rank, and on the node of rank 0 those of all its ranks, as rank 0 sees them.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    own : array
        Rows of this rank that no other one sees. `share` makes a window whose rows others see.

    Attributes
    ----------
    own : (counts[rank], ...) array
        The rows of this rank.
    parts : list of arrays or None
        On rank 0, the rows of each rank that it can write, by rank; elsewhere empty.
    shared : bool
        Whether rank 0 is another rank and sees the rows of this one.
    """

    def __init__(self, comm: "MPI.Comm", own: Any) -> None:
        self.own, self.shared = own, False
        self.parts: list[Any] = [None] * comm.size if comm.rank == 0 else []
        if comm.rank == 0 and isinstance(own, np.ndarray):
            self.parts[0] = own


def share(rank: Rank, counts: list[int], row: tuple[int, ...], dtype: Any) -> Window:
    """Return a window for rows that rank 0 has, or makes, and the others need. Collective.

    On other nodes than that of rank 0, where MPI reaches the memory of a device, and where the
    memory of the node is not enough, which is a warning, the rows of a rank are its own.

    Parameters
    ----------
    rank : Rank
    counts : list of int
        Rows of each rank, see `rankwise.data.partition.counts`.
    row : tuple of int
        Shape of a row; ``()`` for a vector.
    dtype : dtype

    Raises
    ------
    Stop
        A rank has too little memory for its rows.
    """
    comm, device = rank.comm, rank.device
    node = device.node
    ranks = node.allgather(comm.rank)
    parts, failure = None, ""
    if 0 in ranks and len(ranks) > 1 and not device.mpi_reads_device:
        parts, failure = _allocate(node, [counts[each] for each in ranks], row, dtype)
    with agreement(comm, MemoryError, ValueError):
        if parts is None:
            own = device.mpi_buffer((counts[comm.rank], *row), dtype)
        else:
            own = parts[node.rank]
    if failure and comm.rank == 0:
        size = sum(counts[each] for each in ranks) * _row_bytes(row, dtype) / 1e9
        rank.warn(
            f"{_FOLDER}, {size:.3g} GB for the ranks of a node to share: {failure}; so rank 0 "
            "sends them copies, which takes more time and memory"
        )
    window = Window(comm, own)
    if parts is not None:
        window.shared = comm.rank != 0
        if comm.rank == 0:
            for each, part in zip(ranks, parts, strict=True):
                window.parts[each] = part
    return window


def private(rank: Rank, counts: list[int], row: tuple[int, ...], dtype: Any) -> Window:
    """Return a window for rows that each rank makes itself, in host memory. Collective.

    Parameters and what is raised are those of `share`.
    """
    comm = rank.comm
    with agreement(comm, MemoryError, ValueError):
        return Window(comm, np.empty((counts[comm.rank], *row), dtype))


def _allocate(
    node: "MPI.Comm", counts: list[int], row: tuple[int, ...], dtype: Any
) -> tuple[list[np.ndarray] | None, str]:
    """Return the rows of each rank of a node in shared memory, or why not. Collective over `node`.

    The first rank sees all of them, the others their own.
    """
    # Each rank's rows begin with a page, which is near the core that takes it first.
    page = mmap.ALLOCATIONGRANULARITY
    octets = _row_bytes(row, dtype)
    sizes = [-(-count * octets // page) * page for count in counts]
    shapes = [(count, *row) for count in counts]
    ends = list(accumulate(sizes))
    if not ends[-1]:
        return [np.empty(shape, dtype) for shape in shapes], ""
    rows = None
    handle, failure = _open(node, ends[-1])
    if handle is not None:
        try:
            rows = _map(handle, node.rank, shapes, sizes, ends, dtype)
        except _FAILURES as error:
            # Not now: the others must not wait for this rank.
            failure = _reason(error)
        os.close(handle)
    failure = next(filter(None, node.allgather(failure)), "")
    return (None, failure) if failure else (rows, "")


def _map(
    handle: int,
    rank: int,
    shapes: list[tuple[int, ...]],
    sizes: list[int],
    ends: list[int],
    dtype: Any,
) -> list[np.ndarray]:
    """Take the memory of one rank; map it or, on the first rank, that of all, empty for others."""
    if sizes[rank]:
        # In contrast to a write beyond the space that is left, which ends the process.
        os.posix_fallocate(handle, ends[rank] - sizes[rank], sizes[rank])
    rows = []
    for other, (shape, size, end) in enumerate(zip(shapes, sizes, ends, strict=True)):
        if size and rank in (0, other):
            memory = mmap.mmap(handle, size, offset=end - size)
            rows.append(np.ndarray(shape, dtype, memory))
        else:
            rows.append(np.empty((0, *shape[1:]), dtype))
    return rows


def _open(node: "MPI.Comm", octets: int) -> tuple[int | None, str]:
    """Open a new file without a name on all ranks of a node, or tell why one cannot.

    Of that length, but without memory for it yet.
    """
    handle, path, failure = None, None, ""
    try:
        if node.rank == 0:
            handle, path = tempfile.mkstemp(prefix="rankwise-", dir=_FOLDER)
            os.ftruncate(handle, octets)
    except _FAILURES as error:
        failure = _reason(error)
    path = node.bcast(path)
    try:
        if node.rank != 0 and path is not None:
            handle = os.open(path, os.O_RDWR)
    except OSError as error:
        failure = _reason(error)
    node.Barrier()
    with suppress(OSError):
        if node.rank == 0 and path is not None:
            os.unlink(path)
    # Only now may a rank take memory.
    node.Barrier()
    return handle, failure


def _row_bytes(row: tuple[int, ...], dtype: Any) -> int:
    return math.prod(row) * np.dtype(dtype).itemsize


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
