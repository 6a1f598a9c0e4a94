"""Checksums of the blocks of an array: whether what has travelled is what was sent."""

import zlib

import numpy as np


class Checksums:
    """The CRC-32 of each block of rows, which finds any wrong bit, and blocks that are elsewhere.

    Parameters
    ----------
    rows : int
    block : int
        Rows in a block.

    Attributes
    ----------
    values : (ceil(rows / block),) uint32 array
    """

    def __init__(self, rows: int, block: int) -> None:
        self.values, self._block = np.zeros(-(-rows // block), np.uint32), block

    def add(self, start: int, rows: np.ndarray) -> None:
        """Add the rows from ``start`` on, which follow those that were added before."""
        for first in range(start - start % self._block, start + len(rows), self._block):
            part = rows[max(first - start, 0) : first + self._block - start]
            index = first // self._block
            octets = np.ascontiguousarray(part).data
            self.values[index] = zlib.crc32(octets, int(self.values[index]))
