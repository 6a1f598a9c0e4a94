"""Where ranks stand, in lines for people."""

import os
import sys
import sysconfig
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import rankwise
from rankwise.ranks.clock import Clock
from rankwise.ranks.words import printable, ranges

_MOST_PLACES = 8
_MOST_CHARACTERS = 60

_paths = sysconfig.get_paths()
# What lies in these is not the program: libraries, the longest path first, and this package.
_LIBRARIES = sorted(
    {f"{_paths[name]}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    key=len,
    reverse=True,
)
# Others have no file.
_FOREIGN = (*_LIBRARIES, f"{Path(rankwise.__file__).parent}{os.sep}", "<")


class Place(NamedTuple):
    """Where a rank stands; equal for ranks that stand at the same place."""

    phase: str
    step: int | None
    # ``FILE:LINE``, and what is written there.
    line: str
    text: str
    waits_for: int | None


def of(clock: Clock, thread: int | None) -> Place:
    """Return where a thread of this process stands, by its clock and its innermost own line."""
    return Place(clock.current, clock.step, *_line(thread), clock.waits_for)


def _line(thread: int | None) -> tuple[str, str]:
    """Return the innermost line of the program that a thread is in, and its text."""
    frame = sys._current_frames().get(thread or 0)
    stack = traceback.extract_stack(frame) if frame is not None else []
    if not stack:
        return "", ""
    own = [each for each in stack if not is_foreign(each.filename)]
    last = (own or stack)[-1]
    text = printable(last.line or "")
    return f"{near(last.filename)}:{last.lineno}", text[:_MOST_CHARACTERS]


def is_foreign(file: str) -> bool:
    """Tell whether a source file is not the program's: a library's, or this package's."""
    # Those of users and of Debian have paths of their own.
    return file.startswith(_FOREIGN) or "/site-packages/" in file or "/dist-packages/" in file


def near(file: str) -> str:
    """Return the path of a source file from its library, or from this folder if it is inside."""
    folders = _LIBRARIES
    # It may have been removed.
    with suppress(OSError):
        folders = [*_LIBRARIES, f"{os.getcwd()}{os.sep}"]
    for folder in folders:
        file = file.removeprefix(folder)
    return printable(file)


def table(places: dict[int, Place], processes: Sequence[str]) -> Iterator[str]:
    """Yield a line for each place, and the ranks that stand there; those of few ranks come first.

    Parameters
    ----------
    places : dict of int to Place
        By rank.
    processes : sequence of str
        Of each rank; told of one that stands alone.
    """
    groups = defaultdict(list)
    for rank, place in sorted(places.items()):
        groups[place].append(rank)
    rows = sorted(groups.items(), key=lambda row: (len(row[1]), row[1]))
    cells = [
        (*_cells(ranks, place), processes[ranks[0]] if len(ranks) == 1 else "")
        for place, ranks in rows[:_MOST_PLACES]
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for each in cells:
        # Where no rank is in a step or waits for a known one, there is no such column.
        padded = (f"{cell:<{width}}" for cell, width in zip(each, widths, strict=True) if width)
        yield "  " + "  ".join(padded).rstrip()
    rest = [rank for _, ranks in rows[_MOST_PLACES:] for rank in ranks]
    if rest:
        yield f"  {named(sorted(rest))}: at {len(rows) - _MOST_PLACES} other places"


def named(ranks: list[int]) -> str:
    """Return ``rank 3`` or ``ranks 0-2,4``."""
    return f"rank{'s' if len(ranks) > 1 else ''} {ranges(tuple(ranks))}"


def _cells(ranks: list[int], place: Place) -> tuple[str, ...]:
    step = "" if place.step is None else f"step {place.step}"
    waits = "" if place.waits_for is None else f"waits for rank {place.waits_for}"
    return named(ranks), place.phase, step, place.line, place.text, waits
