"""How a report writes numbers: alike in sentences, tables and figures."""

import math
import re
from collections.abc import Callable

from rankwise.analysis.statistics import Estimate

NOTHING = "-"
# As many as every double has.
_MOST_DIGITS = 15


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


def percent(value: float) -> str:
    """Write a fraction as per cent, and a dash if there is none."""
    return NOTHING if math.isnan(value) else f"{figure(100 * value)} %"


def against(target: float, value: float) -> str:
    """Write a fraction as per cent, with digits enough to see whether it is below the target."""
    digits = 3
    while digits < _MOST_DIGITS and value < target <= float(number(100 * value, digits)) / 100:
        digits += 1
    return NOTHING if math.isnan(value) else f"{number(100 * value, digits)} %"


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
