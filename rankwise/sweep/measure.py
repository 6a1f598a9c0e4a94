"""What is measured of a run: the figures that a program prints or writes, and what makes it fail.

A program that cannot be edited says how long it took in words of its own. They are found by regular
expressions, or by a key of an object in JSON::

    Measure(seconds=r"Loop time of (\\S+)", phases={"Neigh": r"^Neigh +\\| +\\S+ +\\| +(\\S+)"})
    Measure(seconds="json:execution_time")
"""

import json
import math
import re
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rankwise.sweep.folder import PROCESS
from rankwise.sweep.launchers import UsageError

_JSON = "json:"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
# Days, hours, minutes and seconds: 1h23m, 1m 5.03s, 1.5 hours.
_UNITS = re.compile(
    "(?=.*[a-z])"
    + "".join(
        rf"(?:({_NUMBER}) *(?:{unit})(?![a-z]) *)?"
        for unit in ("d|days?", "h|hrs?|hours?", "m|mins?|minutes?", "s|secs?|seconds?")
    )
)
# Slurm's and many others': 3-01:02:03, 01:02:03, 02:03.5.
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)")
_FIRST_SLICE = 2**12
_WEIGHTS = (86400, 3600, 60, 1)
# What srun --label, mpirun -prepend-rank and mpirun --tag-output put before each line of a rank.
_LABEL = re.compile(r"^ *(?:(\d+): ?|\[(\d+)\] ?|\[\d+,(\d+)\]<\w+>: ?)", re.MULTILINE)


class MeasureError(Exception):
    """A run does not tell what it was to tell, or says that it failed; the message is why."""


@dataclass(frozen=True)
class Figures:
    """What a run says of itself.

    Attributes
    ----------
    seconds : float or None
        None if the time of the process has to do [s].
    source : str
        ``output``, ``file``, ``json`` or ``process``.
    rate, work : float or None
    phases : dict of str to list of float
        One value, or one of each rank [s].
    printed : int
        How often the seconds were told.
    """

    seconds: float | None
    source: str
    rate: float | None
    work: float | None
    phases: dict[str, list[float]]
    printed: int


@dataclass(frozen=True)
class Measure:
    """What is looked for in the output of a run, or in the file that it writes.

    Attributes
    ----------
    seconds, rate, work : str, optional
        A regular expression with one group, whose last match counts, or ``json:KEY``.
    phases : dict of str to str
        The same, by the name of the phase.
    require, refuse : tuple of str
        Regular expressions that the output must, and must not, hold.
    time_file : str, optional
        Where the figures are, in the folder of the run; None: in the output.
    """

    seconds: str | None = None
    rate: str | None = None
    work: str | None = None
    phases: dict[str, str] = field(default_factory=dict)
    require: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()
    time_file: str | None = None

    @classmethod
    def parse(cls, args: Namespace) -> "Measure":
        """Read the options of a sweep.

        Raises
        ------
        UsageError
            One of them cannot be used.
        """
        phases: dict[str, str] = {}
        for text in args.phase:
            name, equals, pattern = text.partition("=")
            if not equals or not name.strip():
                raise UsageError(f"--phase '{text}' is not like 'Neigh=^Neigh (\\S+)'")
            if name in phases:
                raise UsageError(f"--phase names {name!r} twice")
            phases[name] = pattern
        wanted = {"--seconds": args.seconds, "--rate": args.rate, "--work": args.work}
        wanted |= {f"--phase {name}": pattern for name, pattern in phases.items()}
        for option, pattern in wanted.items():
            _refuse_pattern(option, pattern)
        for option, patterns in (("--require", args.require), ("--refuse", args.refuse)):
            for pattern in patterns:
                _compiled(option, pattern)
        if args.time_file and not any(wanted.values()):
            raise UsageError("--time-file says where to look: --seconds says what for")
        lists = (tuple(args.require), tuple(args.refuse))
        return cls(args.seconds, args.rate, args.work, phases, *lists, args.time_file)

    def plan(self) -> dict[str, Any] | None:
        """Return it for ``sweep.json``; None if nothing in particular is measured."""
        return None if self == Measure() else json.loads(json.dumps(asdict(self)))

    def place_of_times(self, folder: Path) -> Path | None:
        """Return where `time_file` is, given the folder in which a run has its files."""
        if self.time_file is None:
            return None
        return folder / self.time_file.removeprefix("{folder}/")

    @property
    def asks(self) -> bool:
        """Whether a figure is to be found by a pattern."""
        return bool(self.seconds or self.rate or self.work or self.phases)

    def told(self, job: bool) -> str:
        """Say in one line what the time will be of."""
        where = self.time_file or "its output"
        if self.seconds and self.seconds.startswith(_JSON):
            key = self.seconds.removeprefix(_JSON)
            return f"time: '{key}' of the last JSON object in {where} that has it"
        if self.seconds:
            return f"time: the last match of '{self.seconds}' in {where}"
        if job:
            return "time: the slowest rank's repeat, from the record of the job"
        return (
            "time: of the whole process, start-up included, if the program has no record or JSON "
            "line (see --seconds)"
        )

    def figures(self, output: str, written: str | None) -> Figures:
        """Find the figures of a run that succeeded; `judge` comes first.

        Parameters
        ----------
        output : str
            What it printed.
        written : str, optional
            What is in `time_file`.

        Raises
        ------
        MeasureError
            It lacks a figure that was asked for, or has one that cannot be.
        """
        text, where = (output, "its output") if written is None else (written, self.time_file or "")
        found = {n: _last(p, text, f"--{n}", where) for n, p in self._figures().items()}
        line, printed = ({}, found["seconds"][1]) if self.seconds else _line(output)

        def told(name: str) -> float | None:
            return found[name][0] if name in found else _of_line(line, name)

        seconds, rate, work = (told(name) for name in ("seconds", "rate", "work"))
        for name, value in (("time", seconds), ("rate", rate), ("work", work)):
            if value is not None and not 0 < value < math.inf:
                raise MeasureError(f"it says that its {name} is {value:g}")
        phases = {
            name: [_not_negative(name, _last(pattern, text, f"--phase {name}", where)[0])]
            for name, pattern in self.phases.items()
        }
        source = "json" if line else PROCESS
        if self.seconds:
            source = "output" if written is None else "file"
        return Figures(seconds, source, rate, work, phases or _phases_of_line(line), printed)

    def _figures(self) -> dict[str, str]:
        every = {"seconds": self.seconds, "rate": self.rate, "work": self.work}
        return {name: pattern for name, pattern in every.items() if pattern}

    def judge(self, output: str) -> None:
        """Raise `MeasureError` if an output says that its run failed."""
        for pattern in self.refuse:
            if match := _compiled("--refuse", pattern).search(output):
                line = _line_around(output, match.start())
                raise MeasureError(f"its output has what --refuse '{pattern}' rules out: {line}")
        for pattern in self.require:
            if not _compiled("--require", pattern).search(output):
                raise MeasureError(f"its output lacks what --require '{pattern}' asks for")


def _refuse_pattern(option: str, pattern: str | None) -> None:
    if pattern is None:
        return
    if pattern.startswith(_JSON):
        if not pattern.removeprefix(_JSON):
            raise UsageError(f"{option} '{pattern}' names no key: json:KEY")
        return
    groups = _compiled(option, pattern).groups
    if groups != 1:
        raise UsageError(
            f"{option} '{pattern}' has {groups or 'no'} groups: put (...) around the number, and "
            "(?:...) around anything else"
        )


def _compiled(option: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.MULTILINE)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{option} '{pattern}' is no regular expression: {error}") from None


def _line_around(text: str, where: int) -> str:
    start, end = text.rfind("\n", 0, where) + 1, text.find("\n", where)
    return text[start : end if end >= 0 else None].strip()[:200]


def _last(pattern: str, text: str, option: str, where: str) -> tuple[float, int]:
    """Return the value of the last match, and how many matches there are."""
    if pattern.startswith(_JSON):
        matches = values_of(pattern.removeprefix(_JSON), text)
    else:
        # Without what (.*) finds behind the end of a line.
        matches = [found for found in _compiled(option, pattern).findall(text) if found]
    what = f"{option} '{pattern}'"
    if not matches:
        raise MeasureError(f"there is no match of {what} in {where}")
    value = _value(matches[-1], rate=option in ("--rate", "--work"))
    if value is None:
        raise MeasureError(f"{matches[-1]!r}, the match of {what} in {where}, is no number or time")
    return value, len(matches)


def values_of(key: str, text: str) -> list[Any]:
    """Return the values of a key in the JSON objects of an output, also in objects inside those."""
    found = []
    for each in objects(text):
        inside = [each] if key in each else [inner for inner in _nested(each) if key in inner]
        found += [inside[-1][key]] if inside else []
    return found


def _nested(value: Any) -> Iterator[dict[str, Any]]:
    parts = list(value.values()) if isinstance(value, dict) else value
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict):
            yield part
        yield from _nested(part)


def _value(found: Any, rate: bool) -> float | None:
    """Return what a program says as a number, which may be a time in words."""
    if type(found) in (int, float):
        with suppress(OverflowError):
            return float(found)
        return None
    if not isinstance(found, str):
        return None
    number = re.fullmatch(_NUMBER, found.strip())
    if number or rate:
        return float(re.sub("[dD]", "e", number[0])) if number else None
    return seconds_of(found)


def seconds_of(text: str) -> float | None:
    """Read a time as programs print it; None if it is none.

    ``5.03``, ``1.0D+02``, ``1h23m``, ``1m 5.03s``, ``01:02:03``, ``3-01:02:03``.
    """
    text = text.strip()
    if re.fullmatch(_NUMBER, text):
        return float(re.sub("[dD]", "e", text))
    match = _CLOCK.fullmatch(text) or (_UNITS.fullmatch(text) if text else None)
    if match is None:
        return None
    groups = match.groups()
    if match.re is _CLOCK and groups[0] and not groups[1]:
        # Of Slurm: days-hours:minutes.
        groups = (groups[0], *groups[2:], None)
    parts = [float(re.sub("[dD]", "e", part)) if part else 0.0 for part in groups]
    return sum(weight * part for weight, part in zip(_WEIGHTS, parts, strict=True))


def objects(text: str, in_one_line: bool = False) -> list[dict[str, Any]]:
    """Return the JSON objects in an output, in the order in which they end.

    Parameters
    ----------
    text : str
        Lines of each rank may begin with its number, as launchers put it there.
    in_one_line : bool
        Only those that are lines of their own.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    for stream in _streams(text):
        found += _lines_in(stream) if in_one_line else _objects_in(stream)
    return [value for _, value in sorted(found, key=lambda each: each[0])]


def _streams(text: str) -> list[list[tuple[int, str]]]:
    """Return the lines of each rank, as its label tells, with their numbers."""
    streams: dict[str | None, list[tuple[int, str]]] = {}
    for number, line in enumerate(text.splitlines()):
        label = _LABEL.match(line)
        rank = next((group for group in label.groups() if group), None) if label else None
        streams.setdefault(rank, []).append((number, line[label.end() :] if label else line))
    return list(streams.values())


def _lines_in(stream: list[tuple[int, str]]) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for number, line in stream:
        if line.lstrip().startswith("{"):
            # A number with hundreds of digits is too large for a float.
            with suppress(ValueError, RecursionError, OverflowError):
                value = json.loads(line)
                if isinstance(value, dict):
                    found.append((number, value))
    return found


def _objects_in(stream: list[tuple[int, str]]) -> list[tuple[int, dict[str, Any]]]:
    text = "\n".join(line for _, line in stream)
    found, where, counted, lines = [], 0, 0, 0
    while (where := text.find("{", where)) >= 0:
        value, length = _object_at(text, where)
        if value is None:
            where += 1
            continue
        where += length
        lines += text.count("\n", counted, where)
        counted = where
        found.append((stream[lines][0], value))
    return found


def _object_at(text: str, where: int) -> tuple[dict[str, Any] | None, int]:
    """Return the object that begins at a brace, and its length; None if there is none.

    A little of the text at first: an error takes time in proportion to all that it was given.
    """
    size = _FIRST_SLICE
    while True:
        part = text[where : where + size]
        try:
            return json.JSONDecoder().raw_decode(part)
        except json.JSONDecodeError as error:
            cut = error.pos >= len(part) - 20 or error.msg.startswith("Unterminated")
            if len(part) < size or not cut:
                return None, 0
        except (ValueError, RecursionError, OverflowError):
            return None, 0
        size *= 16


def _line(output: str) -> tuple[dict[str, Any], int]:
    """Return the last line of JSON with ``seconds``, and how many there are."""
    lines = [each for each in objects(output, in_one_line=True) if "seconds" in each]
    return (lines[-1], len(lines)) if lines else ({}, 0)


def _of_line(line: dict[str, Any], name: str) -> float | None:
    value = line.get(name)
    if value is None:
        return None
    number = _value(value, rate=True) if type(value) in (int, float) else None
    if number is None:
        raise MeasureError(
            f"its line of JSON has '{name}': {value!r}, which is no number (--seconds json:seconds "
            "takes the seconds alone)"
        )
    return number


def _phases_of_line(line: dict[str, Any]) -> dict[str, list[float]]:
    phases = line.get("phases")
    phases = {} if phases is None else phases
    if not isinstance(phases, dict):
        raise MeasureError("its line of JSON has 'phases' that are no object")
    found = {}
    for name, given in phases.items():
        values = given if isinstance(given, list) and given else [given]
        numbers = [_of_line({name: value}, name) for value in values]
        found[name] = [_not_negative(name, x) for x in numbers]
    ranks = max((len(values) for values in found.values()), default=1)
    # One figure is that of each rank.
    found = {name: v * ranks if len(v) == 1 else v for name, v in found.items()}
    if any(len(values) != ranks for values in found.values()):
        raise MeasureError("its line of JSON has 'phases' with different numbers of ranks")
    return found


def _not_negative(name: str, value: float | None) -> float:
    if value is None or not 0 <= value < math.inf:
        raise MeasureError(f"it says that its phase {name} took {value} seconds")
    return value


def read_output(path: Path) -> str:
    """Return what a program printed, whatever bytes it holds."""
    return path.read_bytes().decode("utf-8", "backslashreplace")
