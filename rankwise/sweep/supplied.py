"""Times that somebody has already: from a table of them a folder like that of a sweep."""

import argparse
import csv
import hashlib
import io
import re
import shlex
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rankwise.ranks.words import counted
from rankwise.sweep import notes
from rankwise.sweep.folder import (
    OK,
    PLAN,
    SCHEMA,
    SUPPLIED,
    FolderError,
    Run,
    make,
    name_of,
    remove_empty,
    stamped,
    write_json,
    write_run,
)
from rankwise.sweep.launchers import UsageError
from rankwise.sweep.options import WHOLE, whole, whole_number

DESCRIPTION = "Make a folder like that of a sweep from a table of times that exist already."
EXAMPLES = """examples:
  rankwise import times.csv --folder old && rankwise report old
  rankwise import times.csv --note machine=cluster7 --note 'compiler=gcc 12'

The first row of the table names its columns, and each further row is one launch:

  ranks,seconds,nodes
  1,102.4,1
  1,101.9,1
  128,3.31,2

The columns ranks and seconds are needed. Others are nodes (1), threads of a rank (1), cores of all
nodes (ranks x threads), mode, strong or weak (strong), launch (rows of one count are numbered), and
work, the size of the problem of all ranks together, without which there is no weak scaling.
Commas, semicolons or tabs separate the cells; with the latter two a decimal comma is understood.
"""

_NEEDED = ("ranks", "seconds")
_COLUMNS = (*_NEEDED, "nodes", "cores", "threads", "mode", "launch", "work")
_MODES = ("strong", "weak")
# Each row becomes a folder; whatever is larger than this is something else than a table of times.
_MOST_BYTES = 2**20
# All that an import writes is in here until it is complete, and is known by it as half of one.
_UNFINISHED = ".rankwise-import"
# How .xlsx and .ods begin.
_ZIP = b"PK\x03\x04"
# Excel takes the separator from such a first line.
_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)
_THOUSANDS = re.compile(r"[0-9]{1,3}([.,'\u2019\s][0-9]{3})+([.,][0-9]*)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rankwise import``."""
    parser.add_argument("table", metavar="TIMES.csv", type=Path, help="a table of times")
    meaning = "new or empty, for these times (results/<name of the table>-imported-<UTC>)"
    parser.add_argument("--folder", metavar="F", type=Path, help=meaning)
    meaning = "what is known of the times, such as problem, compiler, machine; may be repeated"
    parser.add_argument("--note", metavar="KEY=VALUE", action="append", default=[], help=meaning)
    meaning = "cores that each node of the machine has"
    parser.add_argument("--cores-per-node", metavar="N", type=whole_number, help=meaning)


def main(args: argparse.Namespace) -> int:
    """Import a table and return the exit status: 0; 1 if the disk fails; 2 for a mistake."""
    try:
        known = notes.parse(args.note)
        runs, digest = read(args.table)
        plan = {
            "schema": SCHEMA,
            "command": [args.table.name],
            "order": [[run.mode, run.ranks, run.launch] for run in runs],
            "supplied": {"file": str(args.table), "sha256": digest},
            "notes": known,
            "cores_per_node": args.cores_per_node,
        }
        folder = args.folder or stamped(f"{args.table.stem}-imported")
        _write(folder, plan, runs)
    except (UsageError, FolderError) as error:
        print(f"rankwise import: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"rankwise import: error: {error}", file=sys.stderr)
        return 1
    # A terminal, or a file, may not take all that the name of a folder may hold.
    encoding = sys.stdout.encoding or "utf-8"
    _show(runs, str(folder).encode(encoding, "backslashreplace").decode(encoding))
    return 0


def _show(runs: list[Run], folder: str) -> None:
    for mode in _MODES:
        launches = Counter(run.ranks for run in runs if run.mode == mode)
        if launches:
            least, most = min(launches.values()), max(launches.values())
            each = (f"{least} to " if least < most else "") + counted(most, "launch")
            rows, counts = counted(launches.total(), "row"), counted(len(launches), "rank count")
            print(f"{mode} scaling: {rows}, {counts}, {each} each")
    print(f"folder: {folder}")
    print(f"its report: rankwise report {shlex.quote(folder)}")


def _write(folder: Path, plan: dict[str, Any], runs: list[Run]) -> None:
    """Write the folder, complete or not at all."""
    if (folder / PLAN).exists():
        raise UsageError(f"{folder} holds a sweep: name a new folder, or an empty one")
    _remove_unfinished(folder)
    new = make(folder)
    unfinished = folder / _UNFINISHED
    try:
        (unfinished / "runs").mkdir(parents=True)
        for run in runs:
            inside = unfinished / "runs" / name_of(run.mode, run.ranks, run.launch)
            inside.mkdir()
            write_run(inside, run)
        write_json(unfinished / PLAN, plan)
        # The plan last: without it this is no folder of a sweep.
        for name in ("runs", PLAN):
            (unfinished / name).rename(folder / name)
        unfinished.rmdir()
    except BaseException:
        _remove_unfinished(folder)
        remove_empty(new)
        raise


def _remove_unfinished(folder: Path) -> None:
    """Remove what an import has written that was ended before it was complete."""
    if (folder / _UNFINISHED).exists():
        (folder / PLAN).unlink(missing_ok=True)
        shutil.rmtree(folder / "runs", ignore_errors=True)
        shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)


def read(path: Path) -> tuple[list[Run], str]:
    """Read a table of times.

    Returns
    -------
    runs : list of Run
        One of each row, in their order.
    digest : str
        SHA-256 of the file.

    Raises
    ------
    UsageError
        It cannot be read, or is no table of times; the message says where.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if data.startswith(_ZIP):
        raise UsageError(f"{path} is no text: save the table as CSV")
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path} has more than 1 MiB, and is no table of times")
    return _runs(_rows(_decoded(data, path), path)), hashlib.sha256(data).hexdigest()


def _decoded(data: bytes, path: Path) -> str:
    """Return the text of a file, in one of the encodings in which spreadsheets write."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    if "\0" in text:
        raise UsageError(f"{path} is no text: save the table as CSV")
    return text


@dataclass(frozen=True)
class _Row:
    """A row of the table.

    Attributes
    ----------
    where : str
        The file and the line.
    cells : dict of str to str
        By their column; without those that are empty.
    decimal : str
        Decimal point or comma of the whole table.
    """

    where: str
    cells: dict[str, str]
    decimal: str

    def whole(self, name: str, default: int | None = None) -> int:
        """Return the whole number in a column, or what it is where there is none."""
        if default is not None and name not in self.cells:
            return default
        try:
            return whole(self.cells[name])
        except ValueError:
            raise self.wrong(name, WHOLE) from None

    def number(self, name: str) -> float:
        """Return the number in a column."""
        text = self.cells[name]
        sign = re.escape(self.decimal)
        pattern = rf"([0-9]+{sign}?[0-9]*|{sign}[0-9]+)([eE][+-]?[0-9]+)?"
        if re.fullmatch(pattern, text):
            value = float(text.replace(",", "."))
            if 0 < value < float("inf"):
                return value
        which = ""
        if re.search("[.,]", text):
            which = " with a decimal " + ("comma" if self.decimal == "," else "point")
        if _THOUSANDS.fullmatch(text):
            which += f"{' and' if which else ''} without a thousands separator"
        raise self.wrong(name, f"a number above 0{which}")

    def wrong(self, name: str, what: str) -> UsageError:
        """Return what to say of a cell that is not what it should be."""
        return UsageError(f"{self.where}: {name} is {_quoted(self.cells[name])}, and not {what}")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _rows(text: str, path: Path) -> list[_Row]:
    """Return the rows below the names of the columns, without those that are blank."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    if told := _SEPARATOR.fullmatch(head):
        separator, text = told[1], text.replace(head, "", 1)
    else:
        separator = next((sign for sign in ";\t" if sign in head), ",")
    numbered = _cells(text, separator, path)
    if not numbered:
        raise UsageError(f"{path} is empty")
    names = _names(numbered[0][1], path)
    named = [
        (where, _named(names, cells, where))
        for where, cells in ((f"{path}, line {n}", cells) for n, cells in numbered[1:])
    ]
    if not named:
        raise UsageError(f"{path} has no row below the names of its columns")
    decimal = "." if separator == "," else _decimal([cells for _, cells in named])
    return [_Row(where, cells, decimal) for where, cells in named]


def _cells(text: str, separator: str, path: Path) -> list[tuple[int, list[str]]]:
    """Return the number of each line that is not blank, and its cells."""
    # A strict reader ignores spaces before a quoted cell, and not those after it.
    text = re.sub(rf'"[^\S\r\n{separator}]+(?=[\r\n{separator}]|\Z)', '"', text)
    options: dict[str, Any] = {"delimiter": separator, "strict": True, "skipinitialspace": True}
    reader = csv.reader(io.StringIO(text, newline=""), **options)
    found = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                found.append((reader.line_num, stripped))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: no row of a CSV file: {error}") from None
    return found


def _names(cells: list[str], path: Path) -> list[str]:
    """Return the names of the columns as they are in `_COLUMNS`; those without one stay empty."""
    names = [re.sub(r"[\s_-]", "", cell).lower() for cell in cells]
    for name, cell in zip(names, cells, strict=True):
        if name and name not in _COLUMNS:
            raise UsageError(
                f"{path}: unknown column {_quoted(cell)}: the first row names the columns, which "
                f"are {', '.join(_NEEDED)} and, if you like, {', '.join(_COLUMNS[2:])}"
            )
        if name and names.count(name) > 1:
            raise UsageError(f"{path} has more than one column {name}")
    for name in _NEEDED:
        if name not in names:
            raise UsageError(f"{path} has no column {name}")
    return names


def _named(names: list[str], cells: list[str], where: str) -> dict[str, str]:
    """Return the cells of a row by their columns, without those that are empty."""
    names = names + [""] * (len(cells) - len(names))
    named = {name: cell for name, cell in zip(names, cells, strict=False) if cell}
    if "" in named:
        raise UsageError(
            f"{where}: {_quoted(named[''])} is in no column: between cells with a decimal comma "
            "there must be semicolons"
        )
    for name in _NEEDED:
        if name not in named:
            raise UsageError(f"{where}: {name} is empty")
    return named


def _decimal(rows: list[dict[str, str]]) -> str:
    """Return the first decimal sign in the table, so that a later one may be called wrong."""
    texts = (cells.get(name, "") for cells in rows for name in ("seconds", "work"))
    # After thousands it is the last sign of a number.
    return next((signs[-1] for text in texts if (signs := re.findall("[.,]", text))), ".")


def _runs(rows: list[_Row]) -> list[Run]:
    """Return the run of each row; rows of one count are its launches."""
    read_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    points: dict[tuple[str, int], dict[int, Run]] = {}
    runs = []
    for row in rows:
        run = _run(row, read_at)
        launches = points.setdefault((run.mode, run.ranks), {})
        run = replace(run, launch=row.whole("launch", len(launches) + 1))
        _refuse_contradiction(row, run, launches)
        launches[run.launch] = run
        runs.append(run)
    return runs


def _run(row: _Row, read_at: str) -> Run:
    ranks, nodes, threads = row.whole("ranks"), row.whole("nodes", 1), row.whole("threads", 1)
    cores, seconds = row.whole("cores", ranks * threads), row.number("seconds")
    if nodes > min(ranks, cores):
        raise UsageError(f"{row.where}: there are more nodes than ranks, or than cores")
    return Run(
        mode=_mode(row),
        ranks=ranks,
        threads=threads,
        launch=1,
        nodes=nodes,
        gpus=0,
        cores=cores,
        argv=[],
        start=read_at,
        outcome=OK,
        reason="",
        process_seconds=seconds,
        seconds=seconds,
        source=SUPPLIED,
        work=row.number("work") if "work" in row.cells else None,
        load=0.0,
        cpu="unknown",
        commit="unknown",
    )


def _mode(row: _Row) -> str:
    mode = row.cells.get("mode", "strong").lower()
    if mode not in _MODES:
        raise row.wrong("mode", " or ".join(_MODES))
    if mode == "weak" and "work" not in row.cells:
        raise UsageError(f"{row.where}: weak scaling needs the work of all ranks together")
    return mode


def _refuse_contradiction(row: _Row, run: Run, launches: dict[int, Run]) -> None:
    """Refuse a launch that is there already, or was not like the others of its count."""
    point = f"{run.mode} scaling on {counted(run.ranks, 'rank')}"
    if run.launch in launches:
        raise UsageError(f"{row.where}: {point} has a launch {run.launch} already")
    first = next(iter(launches.values()), run)
    for name in ("threads", "nodes", "cores"):
        one, other = getattr(run, name), getattr(first, name)
        if one != other:
            raise UsageError(f"{row.where}: {name} is {one}, and {other} in a row before: {point}")
