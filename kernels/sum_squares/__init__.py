"""Sum of squares of a vector, in an order of summation that is part of the result.

Floating-point addition is not associative, so the order is fixed here, once, for every variant.
The vector is cut into blocks of `BLOCK` consecutive elements. A block is read as `ROWS` rows of
`LANES` elements::

    lane[j]  = ((x[0, j]^2 + x[1, j]^2) + x[2, j]^2) + ...       down the rows
    block    = halves of the lanes added until one is left        lane[j] + lane[j + width / 2]
    total    = neighbouring block sums added until one is left    sum[2k] + sum[2k + 1]

A last, shorter block counts as filled up with zeros, which changes no bit. Each square is rounded
before it is added: no fused multiply-add.

`LANES` is one GPU warp, whose threads then read consecutive addresses, and fills the vector
registers of a CPU with independent sums. `ROWS` keeps the list of block sums short (1 per 64 KiB
of float64) and the rounding errors few.
"""

import numpy as np

LANES = 32
ROWS = 256
BLOCK = LANES * ROWS


def combine(sums: np.ndarray) -> float:
    """Add the block sums in one fixed order, neighbours first.

    Parameters
    ----------
    sums : (blocks,) float64 array
        Block sums of the whole vector, in the order of the blocks.

    Returns
    -------
    float
        Their sum; 0.0 when there is none.
    """
    if sums.size == 0:
        return 0.0
    tree = np.zeros(1 << (sums.size - 1).bit_length())
    tree[: sums.size] = sums
    while tree.size > 1:
        tree = tree[0::2] + tree[1::2]
    return float(tree[0])


def error_bound(n: int, total: float) -> float:
    """Bound the rounding error of `combine` over the block sums of ``n`` elements.

    A term passes one multiplication, at most ``ROWS - 1`` additions down its lane, ``log2(LANES)``
    across the lanes and ``log2(blocks)`` across the blocks, each with a relative error of at most
    ``u = 2**-53``. All terms are positive, so with ``k`` roundings
    ``|computed - exact| <= k u / (1 - k u) * exact`` ([1]_, eq. 4.4 and lemma 3.1). Squares that
    underflow add at most ``2**-1075`` each.

    Parameters
    ----------
    n : int
        Number of elements.
    total : float
        The computed sum of squares.

    Returns
    -------
    float
        Largest possible distance between ``total`` and the exact sum.

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM, 2002.
    """
    blocks = -(-n // BLOCK)
    roundings = ROWS + (LANES - 1).bit_length() + max(blocks - 1, 0).bit_length()
    return relative_error(roundings) * total + n * 2.0**-1074


def relative_error(roundings: int) -> float:
    """Return the relative error that so many roundings can leave in a sum of positive terms.

    With ``g = k u / (1 - k u)`` the exact value is at most ``computed / (1 - g)``, hence
    ``g / (1 - g)`` relative to the computed value, which is all that is known.
    """
    unit = 2.0**-53
    gamma = roundings * unit / (1 - roundings * unit)
    return gamma / (1 - gamma)
