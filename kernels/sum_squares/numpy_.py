"""The reference: the definition of `kernels.sum_squares`, spelled out in NumPy."""

import numpy as np

from kernels.sum_squares import BLOCK, LANES, ROWS, STREAMS

# Blocks taken together: enough to hide the cost of a NumPy call, few enough to stay in cache.
CHUNK = 32


# Overflow shows as infinity in ``out``, without a warning, as in the other variants.
@np.errstate(over="ignore")
def block_sums(x: np.ndarray, out: np.ndarray) -> None:
    """Write the sum of squares of each block of ``x`` to ``out``.

    Parameters
    ----------
    x : (n,) float64 or float32 array, contiguous
        The vector, or the whole blocks of it that a rank owns; squared and added in float64.
    out : (ceil(n / BLOCK),) float64 array
        Receives one sum per block, in the order of summation of `kernels.sum_squares`.
    """
    for first in range(0, out.size, CHUNK):
        part = x[first * BLOCK : (first + CHUNK) * BLOCK]
        blocks = -(-part.size // BLOCK)
        squares = np.zeros(blocks * BLOCK)
        squares[: part.size] = part
        squares *= squares
        rows = squares.reshape(blocks, STREAMS, ROWS, LANES)
        sums = rows[:, :, 0].copy()
        for row in range(1, ROWS):
            sums += rows[:, :, row]
        sums = sums.reshape(blocks, STREAMS * LANES)
        while sums.shape[1] > 1:
            half = sums.shape[1] // 2
            sums = sums[:, :half] + sums[:, half:]
        out[first : first + blocks] = sums[:, 0]
