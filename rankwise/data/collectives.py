"""Scatter and gather of rows, any number of them, in messages of bounded size.

`MPI_Scatterv` takes at most 2^31 - 1 elements and wants the whole array on the root. Here the rows
travel in pieces, so that neither bound holds; on the node of rank 0 they need not travel at all.
"""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.data.partition import displs
from rankwise.data.window import Window
from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.clock import Clock

if TYPE_CHECKING:
    from mpi4py import MPI

# Large enough to reach the bandwidth of any network, small beside the memory of a rank.
MESSAGE_BYTES = 64 * 2**20
_TAG = 1

Source = Callable[[int, np.ndarray], None]


def scatter(
    comm: "MPI.Comm",
    source: Source | np.ndarray | None,
    counts: list[int],
    out: Any,
    clock: Clock,
    message_bytes: int = MESSAGE_BYTES,
) -> Any:
    """Bring each rank its rows from rank 0. Collective over `comm`.

    Into the rows of a `Window` that rank 0 sees, it writes itself; all others travel in messages.
    Then rank 0 holds one message of rows besides its own, and keeps its memory for the next call.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    source : callable, or (sum(counts), ...) array
        Significant on rank 0. ``source(start, rows)`` fills the array ``rows`` with the rows from
        ``start`` on; it is called with increasing ``start``.
    counts : list of int
        Rows of each rank, see `rankwise.data.partition.counts`.
    out : Window, or (counts[rank], ...) array, contiguous
        Receives the rows. Host memory, or memory of a GPU where the MPI library takes it.
    clock : Clock
        Phases ``read`` (in ``source``), ``wait`` (for rank 0, and for the last rank) and
        ``scatter``.
    message_bytes : int
        Largest size of a message, and of what ``source`` is asked for; one row at least.

    Returns
    -------
    (counts[rank], ...) array
        The rows: those of ``out``. On rank 0, if ``source`` is an array and ``out`` in host memory,
        they stay where they are, a part of ``source``.

    Raises
    ------
    Stop
        On every rank, if ``source`` raises it.
    """
    window = out if isinstance(out, Window) else Window(comm, out)
    rows = window.own
    with clock.phase("wait"):
        # Rank 0 is going to write into rows which their ranks may still read.
        comm.Barrier()
    # The ranks wait for each other inside, which is safe only because `_cancel` frees them.
    with agreement(comm):
        if comm.rank == 0:
            assert source is not None
            rows = _send(comm, source, counts, window, clock, message_bytes)
        elif not window.shared:
            _receive(comm, rows, clock, message_bytes)
        with clock.phase("wait"):
            comm.Barrier()
    return rows


def _send(
    comm: "MPI.Comm",
    source: Source | np.ndarray,
    counts: list[int],
    window: Window,
    clock: Clock,
    message_bytes: int,
) -> Any:
    """Send or write the rows of all ranks, and return those of rank 0."""
    own = window.own
    for rank, first in enumerate(displs(counts)):
        part = window.parts[rank]
        if isinstance(source, np.ndarray) and part is not None:
            rows = source[first : first + counts[rank]]
            if rank == 0:
                own = rows
            else:
                with clock.phase("scatter"):
                    part[...] = rows
            continue
        for start, stop in pieces(counts[rank], window.own, message_bytes):
            if isinstance(source, np.ndarray):
                rows = source[first + start : first + stop]
            else:
                place = part[start:] if part is not None else _buffer(window.own, message_bytes)
                rows = place[: stop - start]
                try:
                    with clock.phase("read"):
                        source(first + start, rows)
                except Stop:
                    _cancel(comm, counts, window, rank)
                    comm.Barrier()
                    raise
            if part is None:
                with clock.phase("scatter"):
                    clock.waits_for = rank
                    # Rank 0 sends to itself where its rows go to a device, which MPI can reach.
                    receive = comm.Irecv(own[start:stop], 0, _TAG) if rank == 0 else None
                    comm.Send(rows, rank, _TAG)
                    if receive is not None:
                        receive.Wait()
    return own


def _buffer(like: Any, message_bytes: int) -> np.ndarray:
    return _kept_buffer((_rows_per_message(like, message_bytes), *like.shape[1:]), like.dtype)


# Kept from one repeat to the next: the first touch of a new one costs as much as sending it.
@functools.lru_cache(maxsize=1)
def _kept_buffer(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.empty(shape, dtype)


def _cancel(comm: "MPI.Comm", counts: list[int], window: Window, rank: int) -> None:
    """Send an empty message, which means the end, to every rank that still expects rows."""
    for waiting in range(max(rank, 1), comm.size):
        if counts[waiting] and window.parts[waiting] is None:
            comm.Send(np.empty(0), waiting, _TAG)


def _receive(comm: "MPI.Comm", out: Any, clock: Clock, message_bytes: int) -> None:
    from mpi4py import MPI

    for start, stop in pieces(len(out), out, message_bytes):
        status = MPI.Status()
        with clock.phase("wait"):
            clock.waits_for = 0
            comm.Probe(0, _TAG, status)
        if status.Get_count(MPI.BYTE) == 0:
            comm.Recv(np.empty(0), 0, _TAG)
            return
        with clock.phase("scatter"):
            clock.waits_for = 0
            comm.Recv(out[start:stop], 0, _TAG)


def fill(
    comm: "MPI.Comm",
    source: Source,
    counts: list[int],
    out: Any,
    clock: Clock,
    message_bytes: int = MESSAGE_BYTES,
) -> Any:
    """Let each rank make or read its own rows, without rank 0. Collective over `comm`.

    Parameters and what is returned are those of `scatter`, but ``source`` is a callable, on every
    rank, and ``out`` is in host memory.

    Raises
    ------
    Stop
        On every rank, if ``source`` raises it on one.
    """
    rows = out.own if isinstance(out, Window) else out
    first = displs(counts)[comm.rank]
    mistake = None
    try:
        for start, stop in pieces(len(rows), rows, message_bytes):
            with clock.phase("read"):
                source(first + start, rows[start:stop])
    except Stop as stop:
        mistake = stop
    with clock.phase("wait"):
        comm.Barrier()
    with agreement(comm):
        if mistake is not None:
            raise mistake
    return rows


def gather(
    comm: "MPI.Comm",
    rows: Any,
    counts: list[int],
    out: np.ndarray | None,
    clock: Clock,
    message_bytes: int = MESSAGE_BYTES,
    phase: str = "gather",
) -> None:
    """Collect the rows of all ranks on rank 0. Collective over `comm`.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    rows : (counts[rank], ...) array, contiguous
        This rank's rows. Host memory, or memory of a GPU where the MPI library takes it.
    counts : list of int
        Rows of each rank.
    out : (sum(counts), ...) array of the dtype of ``rows``, or None
        Receives all rows, in the order of the ranks; significant on rank 0.
    clock : Clock
        Phases ``wait`` (for the slowest rank) and ``phase``.
    message_bytes : int
        Largest size of a message; one row at least is sent.
    phase : str
        Which phase the messages belong to.
    """
    with clock.phase("wait"):
        comm.Barrier()
    with clock.phase(phase):
        requests = []
        if comm.rank == 0:
            assert out is not None
            for rank, first in enumerate(displs(counts)):
                for start, stop in pieces(counts[rank], out, message_bytes):
                    part = out[first + start : first + stop]
                    requests.append((rank, comm.Irecv(part, rank, _TAG)))
        clock.waits_for = 0
        for start, stop in pieces(len(rows), rows, message_bytes):
            comm.Send(rows[start:stop], 0, _TAG)
            clock.moves += 1
        for rank, request in requests:
            clock.waits_for = rank
            request.Wait()
            clock.moves += 1


def _rows_per_message(like: Any, message_bytes: int) -> int:
    row_bytes = like.dtype.itemsize * int(np.prod(like.shape[1:], dtype=np.int64))
    return max(1, message_bytes // max(1, row_bytes))


def pieces(rows: int, like: Any, message_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield the first row and the end of each piece of some rows, of so many bytes at most."""
    step = _rows_per_message(like, message_bytes)
    for start in range(0, rows, step):
        yield start, min(rows, start + step)
