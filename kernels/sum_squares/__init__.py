"""Sum of squares of a vector, in an order of summation that is part of the result.

Floating-point addition is not associative, so the order is fixed here, once, for every variant.
The vector is cut into blocks of `BLOCK` consecutive elements. A block is `STREAMS` streams, one
after the other, each of which is read as `ROWS` rows of `LANES` elements. So x[s, i, j] are its
elements, and it has ``STREAMS * LANES`` sums down the rows::

    sum[s, j] = ((x[s, 0, j]^2 + x[s, 1, j]^2) + x[s, 2, j]^2) + ...
    block     = halves of these sums added until one is left      sum[k] + sum[k + width / 2]
    total     = neighbouring block sums added until one is left   block[2k] + block[2k + 1]

A last, shorter block counts as filled up with zeros, and so do the blocks, up to a power of two.
That changes no bit. Each square is rounded before it is added: no fused multiply-add.

A core that walks the streams side by side keeps several of them on their way from memory, which one
alone would not, and has all sums in its registers; `LANES` is a cache line of float64. The sums of
a block are as many as the threads of a warp, whose loads fill whole memory sectors. `ROWS` keeps
the list of block sums short (1 per 128 KiB of float64) and the rounding errors few.
`benchmarks/NOTES.md` has what other shapes deliver.
"""

import numpy as np

STREAMS = 4
ROWS = 512
LANES = 8
BLOCK = STREAMS * ROWS * LANES


def find_not_finite(x: np.ndarray, sums: np.ndarray) -> int | None:
    """Return the first index at which a block sum shows that ``x``, or its square, is not finite.

    Parameters
    ----------
    x : (n,) array
    sums : (ceil(n / BLOCK),) float64 array
        Its block sums.

    Returns
    -------
    int or None
        Index of an element that is infinite or not a number; if there is none in that block, of the
        block's first element, since the squares overflow; None if all sums are finite.
    """
    for block in np.flatnonzero(~np.isfinite(sums)):
        start = int(block) * BLOCK
        bad = np.flatnonzero(~np.isfinite(x[start : start + BLOCK]))
        return start + int(bad[0]) if bad.size else start
    return None


def roundings(n: int) -> int:
    """Return how many roundings a term of the sum of ``n`` squares passes at most.

    One multiplication, ``ROWS - 1`` additions down the rows, ``log2(STREAMS * LANES)`` across the
    sums of a block and ``log2(blocks)``, rounded up, across the blocks.
    """
    blocks = -(-n // BLOCK)
    return ROWS + (STREAMS * LANES - 1).bit_length() + max(blocks - 1, 0).bit_length()


def error_bound(n: int, total: float, roundings: int) -> float:
    """Bound the rounding error of a sum of ``n`` squares.

    A term that passes ``k`` roundings of relative error ``u = 2**-53`` has one of at most
    ``g = k u / (1 - k u)`` ([1]_, lemma 3.1), and so has a sum of positive terms ([1]_, eq. 4.4):
    ``|total - exact| <= g exact <= g / (1 - g) total``. Squares that underflow add at most
    ``2**-1075`` each.

    Parameters
    ----------
    n : int
        Number of elements.
    total : float
        The computed sum of squares.
    roundings : int
        Of each term: `roundings` for a sum in the order of `kernels.sum_squares`; ``BLOCK`` for a
        dot product of as many terms, in any order ([1]_, eq. 3.5), and one more for each sum above.

    Returns
    -------
    float
        Largest possible distance between ``total`` and the exact sum.

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM, 2002.
    """
    unit = 2.0**-53
    gamma = roundings * unit / (1 - roundings * unit)
    return gamma / (1 - gamma) * total + n * 2.0**-1074
