"""Which rank owns which rows."""

from itertools import accumulate, pairwise


def counts(n: int, size: int, block: int = 1) -> list[int]:
    """Divide ``n`` rows among ranks, in whole blocks and in the order of the ranks.

    Parameters
    ----------
    n : int
        Number of rows.
    size : int
        Number of ranks.
    block : int
        Rows in a block. Every rank owns whole blocks; only the last block of all may be shorter.

    Returns
    -------
    list of int
        Rows of each rank. Their blocks differ by at most one, the lower ranks having more.

    Raises
    ------
    ValueError
        ``n`` is negative, or ``size`` or ``block`` is not positive.
    """
    if n < 0 or size < 1 or block < 1:
        raise ValueError(f"cannot divide {n} rows in blocks of {block} among {size} ranks")
    blocks = -(-n // block)
    share, extra = divmod(blocks, size)
    ends = [min(n, block * (share * rank + min(rank, extra))) for rank in range(size + 1)]
    return [upper - lower for lower, upper in pairwise(ends)]


def displs(counts: list[int]) -> list[int]:
    """Return the first row of each rank, given the `counts` of all ranks."""
    return [0, *accumulate(counts)][:-1]
