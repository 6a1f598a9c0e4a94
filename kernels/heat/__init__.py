"""Heat conduction in a plate: one explicit step, in an order of terms that is part of the result.

``du/dt = alpha (d2u/dx2 + d2u/dy2)`` on a grid of the same spacing ``dx`` both ways, forward in
time and centred in space (FTCS; [1]_, ch. 9), with ``r = alpha dt / dx^2``::

    out[i, j] = u[i, j] + r (((u[i-1, j] + u[i+1, j]) + (u[i, j-1] + u[i, j+1])) - 4 u[i, j])

Each operation is rounded by itself, as bracketed: no fused multiply-add. A point depends on five
points of the step before and on nothing else, whoever computes which rows.

The ring around the plate is held at 0 (homogeneous Dirichlet). Then the sines
``sin(p pi i / (ny + 1)) sin(q pi j / (nx + 1))`` are eigenvectors: a step multiplies each by its
`factor` ([1]_, ch. 3), which is the known answer. Up to ``r = STABLE`` the weights ``r``, four
times, and ``1 - 4 r`` are not negative and their sum is 1, so that a step enlarges neither
``M = max |u|`` nor an error: those of all steps at most add up. In units of `UNIT`, the relative
error of a rounded sum or product ([2]_, eq. 2.4), one step has these: 2 M for each sum of two
neighbours and 4 M for that of all four, times r; then, D being the exact difference in the outer
bracket, r |D| for its rounding, r |D| for the product with r, and the size of the new value::

    8 r M + 2 r |D| + |new|    <=  (24 r + 1) M                     any state: |D| <= 8 M
                               <=  (8 r + 2 (1 - f) + |f|) M        a mode: r |D| <= (1 - f) M

Terms in `UNIT` squared, and roundings of a bound itself, are below the divisor at its end.

References
----------
.. [1] R. J. LeVeque, Finite Difference Methods for Ordinary and Partial Differential Equations,
   SIAM, 2007.
.. [2] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM, 2002.
"""

import functools
import math
from collections.abc import Callable

import numpy as np

# Largest stable r, and largest one without negative weights.
STABLE = 0.25

# Of the built-in state, along rows (y) and columns (x): a mistake that swaps axes shows.
MODES = (2, 3)

# Of the amplitudes, in both directions: low modes last longest.
LOW = (1, 2, 3)

UNIT = 2.0**-53


def longest_step(alpha: float, dx: float) -> float:
    """Return the largest stable time step [s] for a diffusivity [m2/s] and a spacing [m]."""
    return STABLE * dx * dx / alpha


def ratio(alpha: float, dt: float, dx: float) -> float:
    """Return ``r = alpha dt / dx^2``.

    Raises
    ------
    ValueError
        ``dt`` exceeds `longest_step`, or ``r`` is too small or too large for a float64.
    """
    r = alpha * dt / dx / dx
    limit = longest_step(alpha, dx)
    if not 0 < r < math.inf:
        raise ValueError(f"alpha dt / dx^2 is {r}, which is out of range")
    if dt > limit:
        raise ValueError(f"a time step of {dt} s is not stable: the largest is {limit} s")
    # The limit itself may be rounded to a ratio just above.
    return min(r, STABLE)


# The last ones are kept: both the start and the check go through their rows in pieces.
@functools.lru_cache(maxsize=8)
def sine(n: int, mode: int) -> np.ndarray:
    """Return ``sin(mode pi i / (n + 1))`` for ``i = 1..n``, a float64 array, within 2.4 `UNIT`.

    Folded to a quarter wave in integers, since an argument's error grows with it: pi, a product and
    a quotient make 2.36 `UNIT` of ``x <= pi / 2``, which the sine takes on times
    ``x cos(x) < 0.57``. Its own error is below one ulp in the C library; that of NumPy's own sine
    depends on the processor.
    """
    folds = (divmod(mode * i, n + 1) for i in range(1, n + 1))
    values = np.array(
        [(-1) ** half * math.sin(math.pi * min(k, n + 1 - k) / (n + 1)) for half, k in folds],
        np.float64,
    )
    values.flags.writeable = False
    return values


def initial(ny: int, nx: int) -> Callable[[int, np.ndarray], None]:
    """Return ``fill(start, rows)``, which writes rows of the built-in state.

    That is the sine of `MODES`, temperature [K] in -1..1, on ``ny`` times ``nx`` points; ``rows``,
    a ``(k, nx)`` float64 array, receives rows ``start`` and following, counted from 0.
    """

    # The sines not before: a plate that is too large is to be refused at once.
    def fill(start: int, rows: np.ndarray) -> None:
        along_y, along_x = sine(ny, MODES[0]), sine(nx, MODES[1])
        np.multiply.outer(along_y[start : start + len(rows)], along_x, out=rows)

    return fill


def factor(ny: int, nx: int, modes: tuple[int, int], r: float) -> float:
    """Return by what one step multiplies the sine of ``modes`` half waves along y and x.

    ``1 - 4 r (sin(p pi / (2 ny + 2))^2 + sin(q pi / (2 nx + 2))^2)``: [1]_ of `kernels.heat`, ch.
    3. What is subtracted has a relative error of at most 19 `UNIT`: 2.36 of the argument x, times
    ``|x cot x| < 2.4`` for `LOW` and `MODES`, and 2 of the sine, both doubled by the square, and
    three more roundings.
    """
    sizes = zip(modes, (ny, nx), strict=True)
    y, x = (math.sin(mode * math.pi / (2 * (n + 1))) for mode, n in sizes)
    return 1 - 4 * r * (y * y + x * x)


def error_bound(ny: int, nx: int, r: float, steps: int) -> float:
    """Bound the error of the built-in state, ``|u - factor**steps * start|``, at any point [K].

    In `UNIT`: the roundings of a state that decays as the mode does; 12 for the start, a product of
    two sines that is 5.8 off the mode, in ``u`` as in the prediction; the prediction's own error.
    Products that underflow add ``2**-1075`` a step.

    Parameters
    ----------
    ny, nx : int
        Points of the plate, without its ring.
    r : float
        From 0 to `STABLE`.
    steps : int
    """
    f = factor(ny, nx, MODES, r)
    _, total, error = _powers(f, steps)
    rounding = (8 * r + 2 * (1 - f) + abs(f)) * total
    return (rounding + 12 + error) * UNIT / (1 - 16 * (steps + 4) * UNIT) + steps * 2.0**-1074


def amplitudes(u: np.ndarray, start: int, ny: int) -> np.ndarray:
    """Return what some rows add to the inner products of a state with the sines of modes `LOW`.

    Parameters
    ----------
    u : (k, nx) float64 array
        Temperature [K] of rows ``start`` and following, from 0, without the ring.
    start, ny : int
        First of these rows, and number of all rows of the plate.

    Returns
    -------
    (3, 3) float64 array
        By mode along y and along x [K]; the sum over all pieces is that of the plate.
    """
    along_y = np.array([sine(ny, mode)[start : start + len(u)] for mode in LOW])
    along_x = np.array([sine(u.shape[1], mode) for mode in LOW])
    return along_y @ u @ along_x.T


def amplitude_bound(ny: int, nx: int, r: float, steps: int, largest: float) -> np.ndarray:
    """Bound the error of the amplitudes of any state, ``|after - factor**steps * before|`` [K].

    In `UNIT` times ``largest``, for each point: the roundings of the steps, which decay as the mode
    does; for both inner products ``ny + nx`` roundings a term, in any order of summation ([2]_ of
    `kernels.heat`, eq. 3.5), and 5 for the sines; the prediction's own error. Products that
    underflow add ``2**-1075`` each.

    Parameters
    ----------
    ny, nx, r, steps
        As in `error_bound`.
    largest : float
        ``max |u|`` [K] of the state before.

    Returns
    -------
    (3, 3) float64 array
        As `amplitudes`.
    """
    bound = np.empty((len(LOW), len(LOW)))
    for index in np.ndindex(bound.shape):
        f = factor(ny, nx, (LOW[index[0]], LOW[index[1]]), r)
        last, total, error = _powers(f, steps)
        bound[index] = (24 * r + 1) * total + (ny + nx + 5) * (1 + last) + error
    bound *= nx * ny * UNIT / (1 - 16 * (steps + ny + nx + 4) * UNIT)
    return bound * largest + (steps + 6) * nx * ny * 2.0**-1074


def _powers(f: float, steps: int) -> tuple[float, float, float]:
    """Bound ``|f|**steps``, the sum of the lower powers, and the error of ``f**steps`` in `UNIT`.

    The error includes that of the power function, 2, and of one product, 1.
    """
    error = 19 * (1 - f) + abs(f)
    size = abs(f) + error * UNIT
    total = min(steps, 1 / (1 - size)) if size < 1 else steps
    return size**steps, total, steps * size ** max(steps - 1, 0) * error + 3 * size**steps
