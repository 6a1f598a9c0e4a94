"""What a comparison of two sweeps says, in sentences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from rankwise.analysis import statistics
from rankwise.analysis.comparison import Comparison, Pair, Unlike
from rankwise.analysis.series import Analysis
from rankwise.ranks.words import counted
from rankwise.report import sentences
from rankwise.report.numbers import chosen, number, percent
from rankwise.report.tables import line

FASTER, SLOWER, UNKNOWN, FAILED = "faster", "slower", "cannot tell", "B failed"
SIDES = ("A", "B")
METHOD = (
    "Each ratio is the median seconds of B over that of A, for the same work: above 1, B is "
    "slower. Intervals are 95 % intervals. Those of seconds are exact nonparametric intervals of "
    f"the median; those of ratios are percentiles of {statistics.RESAMPLES} bootstrap resamples of "
    "the launches of both sides. B is faster or slower where the whole interval lies on one side "
    "of 1, and it takes six launches of each to say so. Otherwise the launches cannot tell: that "
    "does not mean that A and B are equally fast. Of 25 comparisons of a program with itself about "
    "one says faster or slower."
)
_FEW = "no rank count has six launches that succeeded on both sides"
# As in `rankwise.sweep.folder.Run`.
SOURCES = {
    "record": "the record",
    "json": "a line of JSON",
    "output": "the output",
    "file": "a file",
    "process": "the whole process, start-up included",
    "supplied": "a table of times",
}


def names(comparison: Comparison) -> tuple[str, str]:
    """Return the folders of A and B, as they were given."""
    a, b = (line(str(folder)) for folder in comparison.folders)
    return a, b


def sides(comparison: Comparison) -> dict[str, Analysis]:
    """Return A and B by these names."""
    return {"A": comparison.a, "B": comparison.b}


def refusal(comparison: Comparison) -> str:
    """Say why two sweeps cannot be compared; empty if they can."""
    a, b = names(comparison)
    if not comparison.pairs:
        return f"{a} and {b} have no rank count in common: nothing can be compared"
    if not comparison.unlike:
        return ""
    first = comparison.unlike[0]
    where = f"{first.mode} scaling on {counted(first.ranks, 'rank')}"
    return f"{a} and {b} cannot be compared: in {where} {_difference(first)}"


def _difference(unlike: Unlike) -> str:
    if unlike.what == "threads":
        a, b = (" and ".join(map(str, values)) for values in (unlike.a, unlike.b))
        return f"A has {a} and B {b} threads per rank"
    if unlike.what == "work":
        # With so many digits, works that are not the same look so.
        return f"A did a work of {unlike.a[0]:.10g} and B of {unlike.b[0]:.10g}"
    a, b = (" and ".join(SOURCES.get(str(x), str(x)) for x in x) for x in (unlike.a, unlike.b))
    return f"the seconds of A are those of {a}, and the seconds of B those of {b}"


def verdict(pair: Pair) -> str:
    """Say in a word or two what B is."""
    if pair.failed:
        return FAILED
    return FASTER if pair.ratio.high < 1 else SLOWER if pair.ratio.low > 1 else UNKNOWN


def notes(pair: Pair) -> list[str]:
    """Say what a reader must know of a rank count, each in a few words."""
    # What a point is beside the others of its sweep says nothing of the other version.
    a, b = (replace(x, superlinear=False, cache_resident=False) for x in (pair.a, pair.b))
    return by_side({"A": sentences.notes(a), "B": sentences.notes(b)})


def by_side(said: Mapping[str, Iterable[str]]) -> list[str]:
    """Return what is said of A and of B with these names before it, once if it is the same."""
    a, b = (list(dict.fromkeys(said[name])) for name in SIDES)
    both = [f"A and B: {text}" for text in a if text in b]
    return [
        *both,
        *(f"A: {text}" for text in a if text not in b),
        *(f"B: {text}" for text in b if text not in a),
    ]


def places(pairs: Sequence[Pair]) -> str:
    """Return rank counts as "strong scaling on 1 and 2 ranks"."""
    return _places([(pair.mode, pair.ranks) for pair in pairs])


def _places(counts: Sequence[tuple[str, int]]) -> str:
    parts = []
    for mode, group in groupby(counts, lambda count: count[0]):
        parts.append(f"{mode} scaling on {sentences.rank_list([ranks for _, ranks in group])}")
    return " and in ".join(parts)


def outcome(comparison: Comparison) -> list[str]:
    """Say at which rank counts B is faster or slower, most of all where, or that it failed."""
    by_verdict: dict[str, list[Pair]] = {}
    for pair in comparison.pairs:
        by_verdict.setdefault(verdict(pair), []).append(pair)
    found = []
    for what, farthest in ((SLOWER, max), (FASTER, min)):
        if pairs := by_verdict.get(what):
            most = farthest(pairs, key=lambda pair: pair.ratio.value)
            where = f", most of all in {places([most])}" if len(pairs) > 1 else ""
            found.append(f"B is {what} in {places(pairs)}{where}: {_times(most)}.")
    if pairs := by_verdict.get(FAILED):
        found.append(f"B failed in {places(pairs)}, where A did not.")
    unknown = by_verdict.get(UNKNOWN, [])
    if pairs := [pair for pair in unknown if pair.a.launches]:
        told = f"In {places(pairs)} the launches cannot tell whether B is faster or slower"
        found.append(f"{told}." if comparison.told else f"{told}: {_FEW}.")
    if pairs := [pair for pair in unknown if not pair.a.launches]:
        found.append(f"A has no launch that succeeded in {places(pairs)}: B is not compared there.")
    return found + [text for name in SIDES for text in _only(comparison, name)]


def _times(pair: Pair) -> str:
    """Say how many times as long B takes."""
    low, high = (number(x) for x in (pair.ratio.low, pair.ratio.high))
    return f"it takes {number(pair.ratio.value)} times as long as A (95 % interval {low} to {high})"


def _only(comparison: Comparison, name: str) -> list[str]:
    """Say which rank counts one side alone has run."""
    measured, lost = (_alone(comparison, name, succeeded) for succeeded in (True, False))
    found = [f"{name} alone was measured in {_places(measured)}: not compared."] if measured else []
    if lost:
        where = f"in {_places(lost)}, where all failed"
        found.append(f"{name} alone has launches {where}: not compared.")
    return found


def _alone(comparison: Comparison, name: str, succeeded: bool) -> list[tuple[str, int]]:
    """Return the rank counts that one side alone has run, with success or without."""
    common = {(pair.mode, pair.ranks) for pair in comparison.pairs}
    points = [(one.mode, p) for one in sides(comparison)[name].series for p in one.points]
    alone = [(mode, p) for mode, p in points if (mode, p.ranks) not in common]
    return [(mode, p.ranks) for mode, p in alone if bool(p.launches) == succeeded]


def status(comparison: Comparison, slowdown: float | None) -> int:
    """Return the exit status of a check: 1 if B is slower by more or failed, 2 if none was made.

    Parameters
    ----------
    comparison : Comparison
    slowdown : float or None
        What B may be slower by, as a part; None asks for no check.
    """
    if slowdown is None:
        return 0
    if any(pair.failed or pair.exceeds(slowdown) for pair in comparison.pairs):
        return 1
    return 0 if comparison.told else 2


def check(comparison: Comparison, slowdown: float) -> list[str]:
    """Say whether B is slower than it may be, and what could have been shown; none if nothing."""
    limit = chosen(slowdown)
    slower = [pair for pair in comparison.pairs if pair.exceeds(slowdown)]
    failed = [pair for pair in comparison.pairs if pair.failed]
    found = []
    if slower:
        found.append(f"The check failed: B is slower by more than {limit} in {places(slower)}.")
    if failed:
        found.append(f"The check failed: B has no launch that succeeded in {places(failed)}.")
    if not slower and not failed and comparison.told:
        passed = f"The check passed: nowhere is B surely slower by more than {limit}."
        found.append(f"{passed} {_power(comparison.told, slowdown)}")
    untold = [pair for pair in comparison.pairs if pair not in comparison.told and not pair.failed]
    if untold and found:
        few = "with fewer than six launches that succeeded on one side at least"
        found.append(f"Not checked, {few}: {places(untold)}.")
    if (absent := _alone(comparison, "A", succeeded=True)) and found:
        found.append(f"Not checked, because B has no launch there: {_places(absent)}.")
    return found


def _power(told: Sequence[Pair], slowdown: float) -> str:
    """Say which slowdown a check that passed could have shown."""
    ordered = sorted(told, key=lambda pair: pair.least(slowdown))
    first = ordered[0]
    least, most = (percent(pair.least(slowdown)) for pair in (first, ordered[-1]))
    text = f"The smallest slowdown that could have been shown is about {least}"
    if len(told) == 1:
        return f"{text}."
    return f"{text}, in {places([first])}, and about {most} at every rank count that was checked."


def no_check(comparison: Comparison) -> str:
    """Say why a check could not have failed, and what to measure."""
    best = max(comparison.pairs, key=lambda pair: min(pair.a.launches, pair.b.launches))
    launches = {"A": best.a.launches, "B": best.b.launches}
    folders = dict(zip(SIDES, names(comparison), strict=True))
    short = " and ".join(
        f"{name} ({folders[name]}) has {n}" for name, n in launches.items() if n < statistics.FEWEST
    )
    cure = f"sweep again with --launches {statistics.FEWEST}, or more, into a new folder"
    if any(side.plan.get("supplied") for side in sides(comparison).values()):
        cure = f"import tables with {statistics.FEWEST} rows, or more, of a rank count"
    return f"{_FEW}, so this check cannot fail: in {places([best])} {short} that succeeded; {cure}"
