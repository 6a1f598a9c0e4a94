"""What was found, as two tables and some sentences."""

import textwrap

import numpy as np

from engines.comparison import metg

# Which efficiency is good enough for one's own work.
KEEPS = 0.8

WIDTH = 100


def short(number):
    """Return a number with three digits, or all of a larger one."""
    return f"{number:.0f}" if abs(number) >= 999.5 else f"{number:#.3g}".rstrip(".")


def spread(samples):
    """Return the median, and in parentheses the least and the most."""
    if not samples:
        return "-"
    low, middle, high = map(short, np.quantile(samples, (0, 0.5, 1)))
    return f"{middle} ({low}-{high})" if len(samples) > 1 else f"{middle} (one sample)"


def scale(seconds):
    """Return a unit in which a time is easy to read, and how many make a second."""
    if seconds >= 0.1:
        return "s", 1
    return ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)


def duration(seconds):
    """Return a time that may be very short."""
    unit, factor = scale(seconds)
    return f"{short(seconds * factor)} {unit}"


def granularity(points):
    """Return the METG in words: with what it would be with all least and all largest samples."""
    middle = metg.metg(points)
    if middle is None:
        return "-"
    if middle.side:
        return f"{middle.side} {duration(middle.seconds)} ({percent(middle.efficiency)})"
    unit, factor = scale(middle.seconds)
    ends = (metg.metg(points, pick) for pick in (np.max, np.min))
    low, high = (f"{end.side}{short(factor * end.seconds)}" for end in ends)
    return f"{short(factor * middle.seconds)} {unit} ({low}-{high})"


def percent(part):
    return f"{100 * part:.0f} %"


def columns(rows):
    """Return rows of texts as lines, each column as wide as it needs."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def figures(engines, every):
    """Return the tables of what was measured, an engine a line.

    Parameters
    ----------
    engines : list of Engine
    every : dict of Found
        By the names of the engines.
    """
    times = [("engine", "start-up [s]", "empty task [us]", "METG(50 %)")]
    rest = [("engine", "sent data [s/GB]", "imbalance", "memory [MB]", "several nodes")]
    for engine in engines:
        found = every[engine.name]
        each = (spread(found.start_ups), spread(found.empty), granularity(found.points))
        times.append((engine.name, *each))
        memory = short(found.memory / 1e6) if found.memory else "-"
        each = (spread(found.sent), spread(found.imbalance), memory, engine.nodes)
        rest.append((engine.name, *each))
    return [*columns(times), "", *columns(rest)]


def faults(engines, every):
    """Return what each engine does when something goes wrong."""
    lines = []
    for title, name in (
        ("If a task raises an exception:", "raised"),
        ("If a worker is killed:", "died"),
    ):
        lines += [title]
        for engine in engines:
            text = f"  {engine.name:<17}{getattr(every[engine.name], name)}"
            lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * 19)
    return lines


def reasons(engines, every):
    """Return why the efficiency of some engines never is good enough, and other notes."""
    lines = []
    for engine in engines:
        found = every[engine.name]
        lines += [f"{engine.name}: {note}" for note in found.notes]
        reached = metg.metg(found.points)
        if reached is not None and reached.side == ">":
            lost = reached.seconds / reached.efficiency - reached.seconds
            lines.append(
                f"{engine.name}: a task of {duration(reached.seconds)} costs its worker another "
                f"{duration(lost)}, so that no size that was tried is worth it"
            )
        if reached is not None and reached.side == "<":
            lines.append(
                f"{engine.name}: the smallest task that was tried, {duration(reached.seconds)}, "
                f"still had an efficiency of {percent(reached.efficiency)}"
            )
    return lines


def for_case(every, case, workers):
    """Return the sentence for the tasks of the reader."""
    data = f", each with {short(case.megabytes)} MB of data sent to it" if case.megabytes else ""
    known = [(each.case.median, name) for name, each in every.items() if each.case is not None]
    told = []
    for what, chosen in (
        (f"these keep {percent(KEEPS)} of the time of their workers", lambda part: part >= KEEPS),
        ("these do not", lambda part: part < KEEPS),
    ):
        names = [f"{name} ({percent(part)})" for part, name in sorted(known)[::-1] if chosen(part)]
        told.append(f"{what}: {', '.join(names) or 'none'}")
    if unknown := [name for name, each in every.items() if each.case is None]:
        told.append(f"not measured: {', '.join(unknown)}")
    text = "; ".join(told)
    if case.seconds > metg.LARGEST:
        text += f". Judged by what tasks of {duration(metg.LARGEST)} lose"
    return f"For your case, tasks of {duration(case.seconds)}{data}, {workers} workers: {text}."
