"""Bring rows that lie on the host to a kernel on a GPU, piece by piece, while it computes.

Each of two streams has a buffer of page-locked host memory, from which the GPU copies by itself,
and one on the GPU. While one stream copies a piece or computes on it, the host fills the buffer of
the other. So the GPU needs memory for two pieces, whatever the number of rows.
"""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankwise.node.device import Device
from rankwise.node.rank import Rank

# Long enough to hide what it takes to begin a copy and a kernel, some 10 us each: at 25 GB/s, what
# PCIe 4.0 delivers, a copy takes 1.3 ms.
PIECE_BYTES = 32 * 2**20


@dataclass
class _Slot:
    stream: Any
    pinned: np.ndarray
    rows: Any


def run(rank: Rank, call: Callable[..., None], x: Any, out: Any, block: int) -> None:
    """Call a kernel that turns each block of rows into one value, wherever the rows are.

    Parameters
    ----------
    rank : Rank
        Phases ``kernel``, the time that the kernels took on the device, and ``to_device``, the time
        besides. A piece is too short to fill a GPU: bytes over the seconds of such a ``kernel`` are
        less than the kernel reaches on rows that are there already.
    call : callable
        ``call(rows, values)`` writes one value for each block of rows. For Numba on a GPU it takes
        the stream as a third argument.
    x : (n, ...) array
        On the host, or on the device already.
    out : (ceil(n / block), ...) array
        On the device.
    block : int
        Rows in a block.
    """
    device, clock = rank.device, rank.clock
    if not device.is_gpu or not isinstance(x, np.ndarray):
        with clock.phase("kernel"):
            call(x, out)
        return
    begin = time.perf_counter()
    row_bytes = math.prod(x.shape[1:]) * x.itemsize
    step = max(1, PIECE_BYTES // max(1, block * row_bytes)) * block
    # A GPU has no arrays of no bytes.
    slots = _slots(device, (min(step, len(x)), *x.shape[1:]), x.dtype) if len(x) else []
    marks = []
    for number, first in enumerate(range(0, len(x), step)):
        slot = slots[number % 2]
        clock.moves += 1
        part = x[first : first + step]
        pinned, rows = slot.pinned[: len(part)], slot.rows[: len(part)]
        # The copy of the piece before the last must have left the buffer.
        slot.stream.synchronize()
        pinned[...] = part
        device.start_copy(pinned, rows, slot.stream)
        values = out[first // block : -(-(first + len(part)) // block)]
        marks.append(device.start_kernel(call, rows, values, slot.stream))
    for slot in slots:
        slot.stream.synchronize()
    kernel = sum(device.seconds_between(*pair) for pair in marks)
    # Never 0, by which bytes could not be divided.
    clock.add("kernel", max(kernel, 1e-9))
    clock.add("to_device", max(0.0, time.perf_counter() - begin - kernel))


# Kept from one repeat to the next: to lock pages takes longer than to copy them.
@functools.lru_cache(maxsize=1)
def _slots(device: Device, shape: tuple[int, ...], dtype: np.dtype) -> list[_Slot]:
    return [
        _Slot(device.new_stream(), device.pinned(shape, dtype), device.empty(shape, dtype))
        for _ in range(2)
    ]
