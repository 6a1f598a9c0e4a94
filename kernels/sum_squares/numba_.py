"""See `kernels.sum_squares.numpy_`. Compiled for the CPU; the blocks are divided among threads."""

import numpy as np
from numba import njit, prange

from kernels.sum_squares import BLOCK, LANES


# No fastmath: it would let the compiler reorder the sum and fuse multiply and add.
@njit(parallel=True, cache=True)
def block_sums(x: np.ndarray, out: np.ndarray) -> None:
    for block in prange(out.size):
        part = x[block * BLOCK : (block + 1) * BLOCK]
        lanes = np.zeros(LANES)
        whole = part.size // LANES
        rows = part[: whole * LANES].reshape(whole, LANES)
        for row in range(whole):
            for lane in range(LANES):
                value = np.float64(rows[row, lane])
                lanes[lane] += value * value
        for lane in range(part.size - whole * LANES):
            value = np.float64(part[whole * LANES + lane])
            lanes[lane] += value * value
        width = LANES // 2
        while width > 0:
            for lane in range(width):
                lanes[lane] += lanes[lane + width]
            width //= 2
        out[block] = lanes[0]
