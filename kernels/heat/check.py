"""The state after some steps, beside what is known of it without doing them."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kernels import heat

Fill = Callable[[int, np.ndarray], None]

# Largest temperature [K] of a state from which no step or transform overflows.
LARGEST = 1e290

# Points that are compared at a time, to hold little besides the states: 2 MiB of them, which caches
# hold.
_POINTS = 2**18

# What is predicted should be this many times as large as an error that rounding explains.
_CLEAR = 1000


@dataclass(frozen=True)
class Found:
    """How far a state is from the one that is known, and what the comparison says.

    Attributes
    ----------
    error, bound : float
        Distance from the prediction [K], and the most of it that rounding explains.
    why : str
        What the bound is.
    left, change : float
        Size of the predicted state, and of its difference from the initial one [K], as ``error``.
    before, after : float
        Largest magnitude of the initial and of the last state [K].
    growth : float
        By how much rounding may make ``after`` larger than ``before`` [K].
    """

    error: float
    bound: float
    why: str
    left: float
    change: float
    before: float
    after: float
    growth: float

    @property
    def checks(self) -> list[tuple[float, float, str]]:
        """Error, bound and reason of each comparison."""
        # In this order a NaN stays one.
        grown = 0.0 if self.after <= self.before else self.after - self.before
        return [
            (self.error, self.bound, self.why),
            (grown, self.growth, "growth of the largest temperature: rounding of the steps"),
        ]

    @property
    def remarks(self) -> list[str]:
        """What a user should know where the checks say little."""
        if self.before == 0:
            return ["the state is 0 at all points, so the check says little"]
        if self.left < _CLEAR * self.bound:
            return ["little heat is left, so the check says little: take fewer --steps"]
        if self.change < _CLEAR * self.bound:
            return [
                "the steps change the state by little more than rounding does, so the check would "
                "not find a kernel that does nothing: take more --steps or a larger --dt"
            ]
        return []


def compare(fill: Fill, made: bool, final: np.ndarray, r: float, steps: int) -> Found:
    """Compare a state with the prediction from its initial state.

    Parameters
    ----------
    fill : callable
        ``fill(start, rows)`` fills an array with rows of the initial state, from ``start`` on.
    made : bool
        Whether that is the built-in one, whose decay is known at each point. Of any other state
        every sine is predicted, which takes the memory of one more state.
    final : (ny, nx) float64 array
        Temperature [K] after the steps.
    r : float
    steps : int

    Returns
    -------
    Found
        Of the built-in state, with the largest values of all points; else with their root mean
        squares.
    """
    return _of_the_mode(fill, final, r, steps) if made else _of_all_modes(fill, final, r, steps)


def _of_the_mode(fill: Fill, final: np.ndarray, r: float, steps: int) -> Found:
    ny, nx = final.shape
    decay = heat.factor(ny, nx, heat.MODES, r) ** steps
    errors, before, after = [], 0.0, []
    for part, start in _pieces(final):
        rows = np.empty(part.shape)
        fill(start, rows)
        before = max(before, _largest(rows))
        errors.append(_largest(part - decay * rows))
        after.append(_largest(part))
    # NumPy's maximum, since Python's loses a NaN.
    return Found(
        float(np.max(errors)),
        heat.error_bound(ny, nx, r, steps),
        "rounding of the steps",
        abs(decay) * before,
        abs(1 - decay) * before,
        before,
        float(np.max(after)),
        heat.growth_bound(r, steps, before),
    )


# What is not as it should be may overflow, and is then off by infinity.
@np.errstate(over="ignore", invalid="ignore")
def _of_all_modes(fill: Fill, final: np.ndarray, r: float, steps: int) -> Found:
    """Predict the state by sine transforms: each coefficient times its factor for all steps."""
    ny, nx = final.shape
    predicted = np.empty(final.shape)
    for part, first in _pieces(predicted):
        fill(first, part)
    before = _largest(predicted)
    # To within 1, without rounding, so that no square overflows or underflows.
    _, exponent = math.frexp(before)
    np.ldexp(predicted, -exponent, out=predicted)
    predicted, start, left, change, factors = _predict(predicted, r, steps)
    error = _norm(
        np.ldexp(part, -exponent) - predicted[first : first + len(part)]
        for part, first in _pieces(final)
    )
    bound = heat.transform_bound(ny, nx, r, steps, start, factors, exponent)
    norms = np.ldexp(np.array([error, bound, left, change]) / math.sqrt(final.size), exponent)
    error, bound, left, change = norms.tolist()
    # See `heat.transform_bound`.
    assumed = "" if all(n + 1 & n == 0 for n in final.shape) else ", assumed for this size,"
    return Found(
        error,
        bound,
        f"rounding of the steps and{assumed} of sine transforms",
        left,
        change,
        before,
        _largest(final),
        heat.growth_bound(r, steps, before),
    )


def _predict(u: np.ndarray, r: float, steps: int) -> tuple[np.ndarray, float, float, float, float]:
    """Return the state after some steps, in the memory of the first one, and norms.

    These are of the coefficients of the first state, of the last one and of their difference, and
    of the errors of their factors.
    """
    from scipy import fft

    ny, nx = u.shape
    c = fft.dstn(u, type=1, norm="ortho", overwrite_x=True)
    y, x = heat.half_angles(ny), heat.half_angles(nx)
    start = _norm(part for part, _ in _pieces(c))
    squares = []
    for part, first in _pieces(c):
        power, error = heat.powers(1 - 4 * r * np.add.outer(y[first : first + len(part)], x), steps)
        squares.append([np.vdot(each, each) for each in (part * (1 - power), part * error)])
        part *= power
    left = _norm(part for part, _ in _pieces(c))
    change, factors = np.sqrt(np.sum(squares, axis=0)).tolist()
    return fft.idstn(c, type=1, norm="ortho", overwrite_x=True), start, left, change, factors


def _largest(u: np.ndarray) -> float:
    """Return the largest magnitude, without a copy of the array; NaN if one is in it."""
    return abs(float(np.maximum(u.max(), -u.min())))


def _norm(parts: Iterable[np.ndarray]) -> float:
    """Return the Euclidean norm of all parts together."""
    return float(np.sqrt(np.sum([np.vdot(part, part) for part in parts])))


def _pieces(u: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the rows of each piece, and the first of them."""
    rows = max(1, _POINTS // u.shape[1])
    for start in range(0, len(u), rows):
        yield u[start : start + rows], start
