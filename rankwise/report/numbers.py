"""How a report writes numbers: alike in sentences, tables and figures."""

import math
import re
from collections.abc import Callable

from rankwise.analysis.recommendation import reaches
from rankwise.analysis.statistics import Estimate

NOTHING = "-"


# A line must not end between a number and what it counts. Other words after a number may belong to
# a command line, which people copy.
_UNIT = re.compile(
    r"(?<=\d) (?=(?:%|s|GB/s|[KMGT]iB|bytes|(?:rank|node|core|thread|run|GPU)s?|launch(?:es)?"
    r"|(?:node|core|GPU)-hours?)(?![\w-]))"
)


def bound(text: str) -> str:
    """Return text with spaces that do not end a line between numbers and their units."""
    return _UNIT.sub("\u00a0", text)


def number(value: float, digits: int = 4) -> str:
    """Write a number with that many significant digits, and a dash if there is none."""
    if not math.isfinite(value):
        return NOTHING if math.isnan(value) else "unlimited" if value > 0 else "-unlimited"
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, digits - 1 - magnitude)}f}"


def figure(value: float) -> str:
    """Write what is no time: with three digits."""
    return number(value, 3)


def percent(value: float, target: float = math.nan) -> str:
    """Write a fraction as per cent, with digits enough to see that it is below a target.

    A dash if there is none.
    """
    if math.isnan(value):
        return NOTHING
    digits = 3
    # It ends: what does not reach the target differs from it in one of the first digits.
    while not reaches(value, target) and float(number(100 * value, digits)) / 100 >= target:
        digits += 1
    return f"{number(100 * value, digits)} %"


def interval(estimate: Estimate, write: Callable[[float], str] = number) -> str:
    """Write a 95 % interval, or that there is none."""
    if math.isnan(estimate.value):
        return NOTHING
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return "none"
    return f"{write(estimate.low)} to {write(estimate.high)}"


def chosen(fraction: float) -> str:
    """Write a fraction that somebody has chosen as per cent, with the digits that it has."""
    return f"{100 * fraction:.6g} %"
