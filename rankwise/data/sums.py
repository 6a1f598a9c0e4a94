"""Sums of one array per block, in one tree that no rank count changes.

Neighbours are added until one is left, ``block[2k] + block[2k + 1]``, level by level; a block
beyond the last counts as 0. Of this tree each rank adds the whole subtrees that its blocks form,
which are at most ``2 log2(blocks)``, and rank 0 the rest: the same additions, whoever makes them.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from rankwise.data import collectives
from rankwise.node.rank import Rank


def subtrees(first: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield level and index of the largest whole subtrees of some blocks, from left to right.

    Parameters
    ----------
    first, stop : int
        The blocks from ``first`` up to, and without, ``stop``.
    """
    while first < stop:
        level = (stop - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        yield level, first >> level
        first += 1 << level


# Overflow shows as infinity, and the sum of two unlike ones as NaN.
@np.errstate(over="ignore", invalid="ignore")
def add_subtrees(first: int, parts: np.ndarray) -> np.ndarray:
    """Return the sums of the subtrees that the blocks of a rank form.

    Parameters
    ----------
    first : int
        Number of its first block.
    parts : (blocks, ...) array

    Returns
    -------
    (subtrees, ...) array
        In the order of `subtrees`.
    """
    sums = []
    for level, index in subtrees(first, first + len(parts)):
        start = (index << level) - first
        rest = parts[start : start + (1 << level)]
        while len(rest) > 1:
            rest = rest[0::2] + rest[1::2]
        sums.append(rest[0])
    return np.array(sums, parts.dtype).reshape(len(sums), *parts.shape[1:])


@np.errstate(over="ignore", invalid="ignore")
def add_rest(ends: Sequence[int], sums: np.ndarray) -> np.ndarray:
    """Return the sum of all blocks from the subtrees of all ranks.

    Parameters
    ----------
    ends : sequence of int
        The first block of each rank and, at last, the number of blocks.
    sums : (subtrees of all ranks, ...) array
        From `add_subtrees`, one rank after the other.

    Returns
    -------
    array of one block's shape
    """
    if not len(sums):
        return np.zeros(sums.shape[1:], sums.dtype)
    keys = [key for first, stop in pairwise(ends) for key in subtrees(first, stop)]
    nodes = dict(zip(keys, sums, strict=True))
    nothing = np.zeros((), sums.dtype)
    for level in range((ends[-1] - 1).bit_length()):
        for index in sorted({index // 2 for at, index in nodes if at == level}):
            left, right = (nodes.pop((level, 2 * index + side), nothing) for side in (0, 1))
            nodes[level + 1, index] = left + right
    (total,) = nodes.values()
    return total


def to_root(rank: Rank, parts: np.ndarray, blocks: Sequence[int]) -> np.ndarray | None:
    """Add one array per block over all ranks. Collective.

    Parameters
    ----------
    rank : Rank
        Phases ``wait`` (for the slowest rank) and ``reduce``.
    parts : (blocks[rank], ...) array
        On the host; of one dtype and one block's shape on all ranks.
    blocks : sequence of int
        Blocks of each rank.

    Returns
    -------
    array of one block's shape, or None
        On rank 0; None elsewhere.
    """
    comm = rank.comm
    ends = [0, *np.cumsum(blocks).tolist()]
    with rank.phase("reduce"):
        sums = add_subtrees(ends[comm.rank], parts)
        counts = [len(list(subtrees(first, stop))) for first, stop in pairwise(ends)]
        every = np.empty((sum(counts), *sums.shape[1:]), sums.dtype) if comm.rank == 0 else None
    collectives.gather(comm, sums, counts, every, rank.clock, phase="reduce")
    if every is None:
        return None
    with rank.phase("reduce"):
        return add_rest(ends, every)


def to_all(rank: Rank, parts: np.ndarray, blocks: Sequence[int]) -> np.ndarray:
    """As `to_root`, and the sum goes back to all ranks: phase ``broadcast``. Collective."""
    total = to_root(rank, parts, blocks)
    if total is None:
        total = np.empty(parts.shape[1:], parts.dtype)
    total = np.array(total)
    with rank.phase("broadcast"):
        rank.comm.Bcast(total)
    return total
