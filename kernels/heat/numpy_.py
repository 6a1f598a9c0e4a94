"""The reference: the definition of `kernels.heat`, spelled out in NumPy."""

import numpy as np


# Overflow shows in ``out``, without a warning, as in the other variants.
@np.errstate(over="ignore", invalid="ignore")
def step(u: np.ndarray, out: np.ndarray, r: float) -> None:
    """Write the temperature one time step after ``u`` to ``out``.

    Parameters
    ----------
    u : (ny + 2, nx + 2) float64 array, C-contiguous
        Temperature [K]; the outermost ring is halo, read only. The whole plate, or consecutive rows
        of it.
    out : (ny + 2, nx + 2) float64 array, C-contiguous
        Receives the temperature [K] of the ``ny`` times ``nx`` points inside the ring, in the order
        of operations of `kernels.heat`. Its own ring is left as it is. No memory in common with
        ``u``.
    r : float
        ``alpha * dt / dx**2``, without unit.
    """
    here = u[1:-1, 1:-1]
    around = (u[:-2, 1:-1] + u[2:, 1:-1]) + (u[1:-1, :-2] + u[1:-1, 2:])
    out[1:-1, 1:-1] = here + r * (around - 4 * here)
