"""See `kernels.k_means.numpy_`. Compiled for the CPU; the points are divided among threads.

Each thread adds up totals of its own, since two that add to one place at once lose points.
"""

import numpy as np
from numba import get_num_threads, njit, prange

from kernels.k_means import BLOCK

# Points taken together, four blocks: enough to hide the cost of beginning a loop over them, few
# enough to stay in cache.
TILE = 4 * BLOCK


# No fastmath: it would let the compiler reorder the terms and fuse multiply and add. The points of
# a tile lie side by side in ``columns``, so that the loops over them become vector instructions; if
# their length were a constant, the compiler would unroll them instead.
@njit
def find_nearest(columns, centres, distance, nearest, label):  # type: ignore[no-untyped-def]
    """Write distance and label of the nearest centre of each point of a tile."""
    nearest[:] = np.inf
    label[:] = 0
    for j in range(len(centres)):
        distance[:] = 0.0
        for t in range(len(columns)):
            column, centre = columns[t], centres[j, t]
            for i in range(len(distance)):
                difference = column[i] - centre
                distance[i] += difference * difference
        for i in range(len(distance)):
            closer = distance[i] < nearest[i]
            nearest[i] = distance[i] if closer else nearest[i]
            label[i] = j if closer else label[i]


@njit
def add_block(distances):  # type: ignore[no-untyped-def]
    """Return the sum of the distances of a block, which it overwrites."""
    half = BLOCK // 2
    while half > 0:
        for i in range(half):
            distances[i] += distances[i + half]
        half //= 2
    return distances[0]


@njit
def assign_part(x, centres, labels, totals, inertia, scale):  # type: ignore[no-untyped-def]
    """Assign the points of one thread, in whole blocks, with ``totals`` that are 0."""
    n, d = x.shape
    columns, distance, nearest = np.zeros((d, TILE)), np.empty(TILE), np.empty(TILE)
    label = np.empty(TILE, np.int64)
    for first in range(0, n, TILE):
        rows = min(TILE, n - first)
        for i in range(rows):
            for t in range(d):
                columns[t, i] = x[first + i, t]
        find_nearest(columns, centres, distance, nearest, label)
        for i in range(rows):
            labels[first + i] = label[i]
            for t in range(d):
                totals[label[i], t] += np.int64(x[first + i, t] * scale)
            totals[label[i], d] += 1
        nearest[rows:] = 0.0
        for i in range(0, rows, BLOCK):
            inertia[(first + i) // BLOCK] = add_block(nearest[i:])


@njit(parallel=True, cache=True)
def assign_parts(x, centres, labels, totals, inertia, scale):  # type: ignore[no-untyped-def]
    """Assign the points in as many parts as there are ``totals``."""
    parts = len(totals)
    for part in prange(parts):
        first, stop = part * len(inertia) // parts, (part + 1) * len(inertia) // parts
        rows = slice(first * BLOCK, min(stop * BLOCK, len(x)))
        own = inertia[first:stop]
        assign_part(x[rows], centres, labels[rows], totals[part], own, scale)


def assign(
    x: np.ndarray,
    centres: np.ndarray,
    labels: np.ndarray,
    totals: np.ndarray,
    inertia: np.ndarray,
    scale: float,
) -> None:
    parts = np.zeros((get_num_threads(), *totals.shape), np.int64)
    assign_parts(x, centres, labels, parts, inertia, scale)
    parts.sum(axis=0, out=totals)
