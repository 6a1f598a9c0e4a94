"""Laws through the medians of a series: parameters, what follows from them, a curve."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from rankwise.analysis import laws, statistics
from rankwise.analysis.laws import AMDAHL, GUSTAFSON, USL, Law
from rankwise.analysis.medians import Medians
from rankwise.analysis.series import Fit, Misfit
from rankwise.analysis.statistics import NOTHING, Estimate

# A parameter is not identifiable if the upper end of its interval is more often the lower end.
_WIDEST = 10
# A law that is further off than this, at any point it was fitted through, does not describe it.
_MISFIT = 0.1
_CURVE_COUNTS = 50


def fit(law: Law, medians: Medians, through: list[int]) -> Fit:
    """Fit a law through some of the points."""
    counts = tuple(int(p) for p in medians.ranks[through])
    nothing = Fit(
        law.name,
        wanted=len(law.parameters) + 2,
        ranks=counts,
        measured=len(medians.ranks),
        baseline=int(medians.ranks[0]),
        fewest=medians.fewest(0, *through),
        parameters={},
        derived=NOTHING,
        identifiable=False,
        misfit=None,
        curve=(),
    )
    return _through(nothing, law, medians, through) if len(counts) >= nothing.wanted else nothing


def _through(nothing: Fit, law: Law, medians: Medians, through: list[int]) -> Fit:
    """Return the fit with what the points say; there are enough."""
    ranks, fewest = medians.ranks[through], nothing.fewest
    values, resampled = (x[..., through] for x in medians.of(law))
    coefficients = laws.fit(law, ranks, values)
    # Of no use without an interval, so one row is enough.
    resampled = resampled if fewest >= statistics.FEWEST else resampled[:1]
    spread = laws.fit(law, ranks, resampled)
    curve = _curve(law, medians, coefficients, spread, fewest)
    fitted = laws.evaluate(law, coefficients, ranks)
    off = np.where(_explained(fitted, resampled, fewest), 0.0, np.abs(fitted / values - 1))
    worst = int(off.argmax())
    misfit = Misfit(float(off[worst]), nothing.ranks[worst]) if off[worst] > _MISFIT else None
    drawn = replace(nothing, misfit=misfit, curve=curve)
    if misfit and fewest >= statistics.FEWEST:
        # Its numbers would be those of another program.
        return drawn
    return _with_parameters(drawn, law, laws.parameters(coefficients), laws.parameters(spread))


def _with_parameters(fit: Fit, law: Law, found: np.ndarray, spreads: np.ndarray) -> Fit:
    """Return the fit with its parameters, those of the medians and of each resample."""
    estimates = {
        name: statistics.estimate(found[j], spreads[:, j], fit.fewest)
        for j, name in enumerate(law.parameters)
    }
    derived = _derived(law, fit, estimates, spreads)
    identifiable = all(_identifiable(each, fit.fewest) for each in estimates.values())
    return replace(fit, parameters=estimates, derived=derived, identifiable=identifiable)


def _derived(law: Law, fit: Fit, known: dict[str, Estimate], spreads: np.ndarray) -> Estimate:
    """Return what follows from the parameters; see `Fit`."""
    if law is USL:
        sigma, kappa = known["sigma"].value, known["kappa"].value
        resampled = _slowness(spreads[:, 0], spreads[:, 1])
        inverse = statistics.estimate(_slowness(sigma, kappa), resampled, fit.fewest)
        ends = (inverse.value, inverse.high, inverse.low)
        return Estimate(*(float(np.round(1 / x)) if x else math.inf for x in ends))
    # Both fall as s grows.
    of = laws.limit if law is AMDAHL else laws.slope
    s = known["s"]
    return Estimate(*(of(x, fit.baseline) for x in (s.value, s.high, s.low)))


def _slowness(sigma: Any, kappa: Any) -> Any:
    """Return one over the rank count with the least time: 0, not infinite, for kappa = 0."""
    # Nothing is faster than at one rank.
    return 1 / np.maximum(laws.fastest(np.minimum(sigma, 1 - 1e-12), kappa), 1)


def _explained(fitted: np.ndarray, resampled: np.ndarray, fewest: int) -> np.ndarray:
    """Tell at which points noise explains how far the fitted value is from the median.

    All points together are to be explained with 95 %, so each is given more.
    """
    if fewest < statistics.FEWEST:
        return np.zeros(len(fitted), bool)
    rest = (1 - statistics.LEVEL) / len(fitted)
    low, high = np.quantile(resampled, (rest / 2, 1 - rest / 2), axis=0)
    return (low <= fitted) & (fitted <= high)


def _identifiable(parameter: Estimate, fewest: int) -> bool:
    if fewest < statistics.FEWEST:
        return parameter.value > 0
    return 0 < parameter.low and parameter.high <= _WIDEST * parameter.low


def _curve(
    law: Law, medians: Medians, coefficients: np.ndarray, spread: np.ndarray, fewest: int
) -> tuple[tuple[float, float, float, float], ...]:
    """Return the fitted speedup over the measured baseline, which is what the points show too."""
    grid = np.geomspace(medians.ranks[0], medians.ranks[-1], _CURVE_COUNTS)
    values, resampled = medians.of(law)

    def speedup(coefficients: np.ndarray, baseline: np.ndarray) -> np.ndarray:
        fitted = laws.evaluate(law, coefficients, grid)
        if law is GUSTAFSON:
            return grid / grid[0] * fitted / baseline
        # Data that no law describes may be fitted best by no time at all.
        with np.errstate(divide="ignore"):
            return baseline / fitted

    drawn = speedup(coefficients, values[:1])
    if not np.isfinite(drawn).all():
        return ()
    low, high = statistics.interval(speedup(spread, resampled[: len(spread), :1]), fewest)
    rows = np.stack((grid, drawn, low, high), axis=1)
    return tuple((p, value, low, high) for p, value, low, high in rows.tolist())
