"""The state after some steps, beside what is known of it without doing them."""

from collections.abc import Callable, Iterator

import numpy as np

from kernels import heat

# Largest temperature [K] of a state from which no step or inner product overflows.
LARGEST = 1e290

# Points that are compared at a time, to hold little besides the last state: 32 MiB of them.
_POINTS = 2**22


def decay_error(final: np.ndarray, r: float, steps: int) -> tuple[float, float]:
    """Return how far a state is from the built-in one times its known decay, and the bound.

    Parameters
    ----------
    final : (ny, nx) float64 array
        Temperature [K] after the steps.
    r : float
    steps : int

    Returns
    -------
    error : float
        At the point where it is largest [K].
    bound : float
        See `kernels.heat.error_bound`.
    """
    ny, nx = final.shape
    decay = heat.factor(ny, nx, heat.MODES, r) ** steps
    pieces = _pieces(heat.initial(ny, nx), final)
    # NumPy's maximum, since Python's loses a NaN.
    error = np.max([np.abs(after - decay * before).max() for _, before, after in pieces])
    return float(error), heat.error_bound(ny, nx, r, steps)


def amplitude_error(
    fill: Callable[[int, np.ndarray], None], final: np.ndarray, r: float, steps: int
) -> tuple[float, float]:
    """Return how far the low sine amplitudes of a state are from their known decay, and the bound.

    Parameters
    ----------
    fill : callable
        ``fill(start, rows)`` fills an array with rows of the initial state, from ``start`` on.
    final : (ny, nx) float64 array
        Temperature [K] after the steps.
    r : float
    steps : int

    Returns
    -------
    error, bound : float
        Of the amplitude that comes closest to its bound, see `kernels.heat.amplitude_bound` [K].
    """
    ny, nx = final.shape
    start_amplitudes, amplitudes, largest = np.zeros((3, 3)), np.zeros((3, 3)), 0.0
    for start, before, after in _pieces(fill, final):
        start_amplitudes += heat.amplitudes(before, start, ny)
        amplitudes += heat.amplitudes(after, start, ny)
        largest = max(largest, float(np.abs(before).max()))
    decay = [[heat.factor(ny, nx, (p, q), r) ** steps for q in heat.LOW] for p in heat.LOW]
    errors = np.abs(amplitudes - decay * start_amplitudes)
    bounds = heat.amplitude_bound(ny, nx, r, steps, largest)
    worst = np.unravel_index(np.argmax(errors / bounds), errors.shape)
    return float(errors[worst]), float(bounds[worst])


def _pieces(
    fill: Callable[[int, np.ndarray], None], final: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the first row of each piece, and its rows before and after."""
    rows = max(1, _POINTS // final.shape[1])
    for start in range(0, len(final), rows):
        after = final[start : start + rows]
        before = np.empty(after.shape)
        fill(start, before)
        yield start, before, after
