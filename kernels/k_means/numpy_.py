"""The reference: the definition of `kernels.k_means`, spelled out in NumPy."""

import numpy as np

from kernels.k_means import BLOCK

# Blocks taken together: enough to hide the cost of a NumPy call, few enough to stay in cache.
CHUNK = 32


# Overflow shows in ``inertia``, without a warning, as in the other variants.
@np.errstate(over="ignore")
def assign(
    x: np.ndarray,
    centres: np.ndarray,
    labels: np.ndarray,
    totals: np.ndarray,
    inertia: np.ndarray,
    scale: float,
) -> None:
    """Assign each point to its nearest centre, and add up the points of each cluster.

    Parameters
    ----------
    x : (n, d) float64 array, C-contiguous
        Points, finite and whole multiples of ``1 / scale``: all, or whole blocks that a rank owns.
    centres : (k, d) float64 array, C-contiguous
        Centres, at least one.
    labels : (n,) int32 array
        Receives the index of the nearest centre; the lowest one where several are equally near.
    totals : (k, d + 1) int64 array
        Receives the sums of ``x * scale`` by cluster and, in the last column, how many points it
        has. What it held before is lost.
    inertia : (ceil(n / BLOCK),) float64 array
        Receives for each block the sum of the squared distances to the nearest centre, in the order
        of `kernels.k_means`.
    scale : float
        ``2.0**s`` with the ``s`` of `kernels.k_means.shift` for the points of all ranks.
    """
    totals[...] = 0
    for first in range(0, len(x), CHUNK * BLOCK):
        part = x[first : first + CHUNK * BLOCK]
        distances = np.zeros((len(part), len(centres)))
        for column, centre in zip(part.T, centres.T, strict=True):
            difference = column[:, None] - centre
            distances += difference * difference
        # The first of equal ones.
        label = distances.argmin(axis=1)
        labels[first : first + len(part)] = label
        for j in range(len(centres)):
            members = part[label == j]
            totals[j, :-1] += (members * scale).astype(np.int64).sum(axis=0)
            totals[j, -1] += len(members)
        blocks = -(-len(part) // BLOCK)
        sums = np.zeros((blocks, BLOCK))
        sums.flat[: len(part)] = distances.min(axis=1)
        while sums.shape[1] > 1:
            half = sums.shape[1] // 2
            sums = sums[:, :half] + sums[:, half:]
        inertia[first // BLOCK : first // BLOCK + blocks] = sums[:, 0]
