"""See `kernels.heat.numpy_`. Compiled for the CPU; the rows are divided among threads."""

import numpy as np
from numba import njit, prange


# No fastmath: it would let the compiler reorder the terms and fuse multiply and add.
@njit(parallel=True, cache=True)
def step(u: np.ndarray, out: np.ndarray, r: float) -> None:
    for i in prange(1, u.shape[0] - 1):
        # Rows as arrays of their own: the inner loop then becomes vector instructions.
        above, here, below, new = u[i - 1], u[i], u[i + 1], out[i]
        for j in range(1, u.shape[1] - 1):
            around = (above[j] + below[j]) + (here[j - 1] + here[j + 1])
            new[j] = here[j] + r * (around - 4 * here[j])
