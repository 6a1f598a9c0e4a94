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
    ``|x cot x| < 2.4`` (for `MODES`; below 1 where x is below ``pi / 2``), and 2 of the sine, both
    doubled by the square, and three more roundings.
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


def growth_bound(r: float, steps: int, largest: float) -> float:
    """Bound by how much rounding can enlarge ``max |u|`` [K] in some steps.

    ``(24 r + 1)`` `UNIT` a step, as above; products that underflow add ``2**-1074`` a step.
    """
    share = steps * (24 * r + 1) * UNIT
    return share / (1 - share) * largest + steps * 2.0**-1074


def half_angles(n: int) -> np.ndarray:
    """Return ``sin(p pi / (2 n + 2))^2`` for ``p = 1..n``, a float64 array: see `factor`."""
    return np.array([math.sin(p * math.pi / (2 * (n + 1))) ** 2 for p in range(1, n + 1)])


def powers(f: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``f**steps`` of some factors, and a bound of its error times a coefficient.

    The error of a factor is that of `factor`, that of the power at most 4 units in the last place
    ([1]_), which are 8 `UNIT`, and the product with the coefficient adds one.

    References
    ----------
    .. [1] R. Devulapalli, numpy/numpy pull request 19478, 2021, of `numpy.power` on processors with
       AVX-512; elsewhere it is that of the C library, which is below.
    """
    made = 19 * (1 - f) + np.abs(f)
    size = np.abs(f) + made * UNIT
    lower = size ** (steps - 1)
    return f**steps, (steps * lower * made + 9 * lower * size) * UNIT


def transform_bound(
    ny: int, nx: int, r: float, steps: int, norm: float, factors: float, exponent: int
) -> float:
    """Bound the distance of any state from what sine transforms predict, in the Euclidean norm.

    There, too, a step adds an error of at most ``(24 r + 1)`` `UNIT` times the state before it. It
    multiplies errors and, but for its own error, states by no more than the largest factor; so
    after all steps there are ``steps (24 r + 1) rho^(steps - 1)`` `UNIT` of the first state, where
    ``rho`` is that factor and the error. Each of the two transforms has an error of ``7
    log2(length)`` `UNIT` of its result ([2]_ of `kernels.heat`, theorem 24.2), where ``length = 4
    (ny + 1) (nx + 1)`` is that of the Fourier transforms inside. The theorem is for powers of two;
    for other lengths it is assumed, and the tests compare with long double.

    Parameters
    ----------
    ny, nx, r, steps
        As in `error_bound`; one step at least.
    norm : float
        Of the first state, which is that of its coefficients.
    factors : float
        Norm of the coefficients times the errors that `powers` tells.
    exponent : int
        All norms are in units of ``2**exponent`` K.

    Returns
    -------
    float
        In the same unit.
    """
    # The error of the factor itself is 20 units at most.
    rho = factor(ny, nx, (1, 1), r) + (24 * r + 21) * UNIT
    rounding = steps * (24 * r + 1) * rho ** (steps - 1) + 14 * math.log2(4 * (ny + 1) * (nx + 1))
    # The norms are sums of millions of squares at a time.
    bound = (rounding * norm * UNIT + factors) / (1 - (32 * steps + 2**24) * UNIT)
    return bound + math.sqrt(ny * nx) * math.ldexp(steps + 1, max(-1074, -1074 - exponent))


def _powers(f: float, steps: int) -> tuple[float, float, float]:
    """Bound ``|f|**steps``, the sum of the lower powers, and the error of ``f**steps`` in `UNIT`.

    The error includes that of the power function, 2, and of one product, 1.
    """
    error = 19 * (1 - f) + abs(f)
    size = abs(f) + error * UNIT
    total = min(steps, 1 / (1 - size)) if size < 1 else steps
    return size**steps, total, steps * size ** max(steps - 1, 0) * error + 3 * size**steps
