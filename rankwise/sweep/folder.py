"""The folder of a sweep: what was planned, on what machine, and how every run went.

Layout::

    FOLDER/
      sweep.json       the plan, the machine and the versions, and what was seen of the launches
      preflight.h5     a record of what memory can deliver, see `Limit`; if somebody put it there
      probe.sh, ...    what was started before the first run, and what it printed at each rank count
      runs/NAME/       one folder per run, that is per start of the program; NAME is
                       <mode>-<ranks>-<launch>, for example strong-4-1
        run.json       how it went, see `Run`; complete or absent
        output.txt     standard output and error of the program
        record.h5      the record, if the program writes one
        case/          its copy of the case, if it failed or is to be kept
        times.txt      the file with its figures, if --time-file names one

Times that were supplied in a table lie in such a folder too: of each run there is its `run.json`.

A folder that holds such folders, one per node count, is one sweep too: `load` reads them together.
Its record of what memory can deliver may lie beside them or in one of them.
"""

import json
import re
import shlex
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import numpy as np

from rankwise.disk import files
from rankwise.disk import record as records
from rankwise.ranks.words import counted
from rankwise.sweep import damage

SCHEMA = 1
PLAN = "sweep.json"
LIMIT = "preflight.h5"
OK, FAILED, TIMED_OUT, KILLED = "ok", "failed", "timed out", "killed"
PROCESS, SUPPLIED = "process", "supplied"
OUTCOMES = (OK, FAILED, TIMED_OUT, KILLED)


class FolderError(Exception):
    """A folder is not one of a sweep, or is damaged; the message is for the user."""


@dataclass(frozen=True)
class Run:
    """One start of the program.

    Attributes
    ----------
    mode : str
        ``strong`` or ``weak``.
    ranks, threads, launch : int
        MPI ranks; threads of each; number of the launch, from 1.
    nodes, gpus : int
        What the run was given; GPUs of all ranks together.
    cores : int
        Cores that the run could use, on all its nodes together.
    argv : list of str
        What was executed, launcher included.
    start : str
        UTC, ISO 8601.
    outcome : str
        ``ok``, ``failed``, ``timed out`` or ``killed``.
    reason : str
        Why the outcome is not ``ok``, in a few words; empty otherwise.
    process_seconds : float
        From the start of the launcher to its end [s].
    seconds : float or None
        What is compared between points [s]; None if the outcome is not ``ok``.
    source : str
        Where ``seconds`` come from: ``record`` (median over repeats of the slowest rank),
        ``json`` (a line that the program prints), ``output`` or ``file`` (what ``--seconds`` found
        there), ``process`` (``process_seconds``) or ``supplied``: from a table. Of those nothing
        else is known: ``process_seconds`` are the same, ``argv`` is empty, and ``start`` is when
        the table was read.
    work : float or None
        Size of the problem that was computed, of all ranks together; None if the program does not
        tell.
    rate : float or None
        What the program says of its speed, in a unit of its own: the larger, the faster.
    phases : dict of str to list of float
        Seconds of each rank in each phase of a repeat, median over repeats [s]; of a program that
        tells one figure for all ranks, that one. Empty if nothing is known.
    facts : dict
        What the record says of where the figures come from: job, variant, devices, hosts, git, mpi,
        versions, results_sha256, kernel_gbs, kernel_bytes, warnings, peak_memory_rank and
        peak_memory_node (of the largest rank and node [bytes]), checks: a list of objects with why,
        error and bound, and queue, see `rankwise.disk.summary.summary`. Also printed, how often the
        program told its seconds; first_line, that it printed; changed, files in the working folder
        that were written meanwhile; and usage, see `rankwise.sweep.usage.Usage.facts`. What is not
        known is absent.
    load : float
        Cores of this machine that were busy with something else just before the start.
    cpu, commit : str
        Processor of the machine that started it; git commit of the program, or ``unknown``.
    output_end : str
        The last lines of the output if the outcome is not ``ok``; empty otherwise.
    """

    mode: str
    ranks: int
    threads: int
    launch: int
    nodes: int
    gpus: int
    cores: int
    argv: list[str]
    start: str
    outcome: str
    reason: str
    process_seconds: float
    seconds: float | None
    source: str
    work: float | None
    load: float
    cpu: str
    commit: str
    rate: float | None = None
    phases: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    output_end: str = ""


@dataclass(frozen=True)
class Limit:
    """What the memory of a node delivers to all its ranks at once, as it was measured.

    Attributes
    ----------
    read_gbs, copy_gbs : float
        Of a node, median over nodes [GB/s].
    ranks, nodes, threads : int
        That measured it: ranks on all nodes together, threads of each.
    start : str
        UTC, ISO 8601.
    hosts : tuple of str
        Names of the nodes.
    warnings : tuple of str
        What was warned of, or wrong, when it was measured.
    """

    read_gbs: float
    copy_gbs: float
    ranks: int
    nodes: int
    threads: int
    start: str
    hosts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """What was planned and what has been run so far.

    Attributes
    ----------
    folder : Path
    plan : dict
        ``sweep.json``; of several folders read together, that of the first, with the orders and
        the folders' names.
    runs : list of Run
        In the order in which they were started.
    missing : list of str
        What was planned and has not been run, in words.
    damaged : list of str
        Runs that cannot be read, in words.
    limit : Limit or None
        None if nobody measured it.
    """

    folder: Path
    plan: dict[str, Any]
    runs: list[Run]
    missing: list[str]
    limit: Limit | None = None
    damaged: list[str] = field(default_factory=list)


def stamped(name: str) -> Path:
    """Return where a sweep goes whose folder nobody has named."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return Path("results") / f"{name}-{stamp}Z"


def make(folder: Path) -> list[Path]:
    """Make the folder of a sweep, or find one that is there.

    Returns
    -------
    list of Path
        The folders that were made for it, the innermost first.

    Raises
    ------
    FolderError
        It cannot be made, or holds something that is no sweep.
    """
    new: list[Path] = []
    try:
        new = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        foreign = {path.name for path in folder.iterdir()} - {".lock", LIMIT}
    except OSError as error:
        remove_empty(new)
        raise FolderError(f"cannot make the folder {folder}: {error.strerror}") from None
    if foreign and not (folder / PLAN).exists():
        raise FolderError(f"{folder} holds something else: name a new folder, or an empty one")
    return new


def remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders that are empty, the innermost of which comes first."""
    for path in folders:
        with suppress(OSError):
            path.rmdir()


def write_text(path: Path, content: str) -> None:
    """Write a file, complete or not at all."""
    files.write(path, memoryview(content.encode()), force=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, complete or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_run(folder: Path, run: Run) -> None:
    """Write ``run.json`` into the folder of a run."""
    write_json(folder / "run.json", asdict(run))


def name_of(mode: str, ranks: int, launch: int) -> str:
    """Return the name of the folder of a run."""
    return f"{mode}-{ranks}-{launch}"


def load(folder: Path) -> Sweep:
    """Read a sweep, complete or not.

    Parameters
    ----------
    folder : Path
        Of one sweep, or of several of one command, one folder each.

    Returns
    -------
    Sweep

    Raises
    ------
    FolderError
        The folder is missing, holds no sweep, or sweeps of different commands; or a file in it is
        damaged or of another version.
    """
    try:
        if (folder / PLAN).is_file():
            return replace(_load_one(folder), limit=_limit([folder]))
        return _load_several(folder)
    except OSError as error:
        raise FolderError(f"{error.filename or folder}: {error.strerror}") from None


def _load_one(folder: Path) -> Sweep:
    plan = read_plan(folder)
    runs, damaged = [], []
    for path in sorted(folder.glob("runs/*/run.json")):
        try:
            runs.append(read_run(path.parent))
        except (FolderError, OSError) as error:
            cure = "the command of the sweep, given again, repeats that launch"
            cure = "import the table again" if plan.get("supplied") else cure
            # What failed before is kept, and never repeated.
            cure = "remove that folder" if ".failed" in path.parent.name else cure
            damaged.append(f"{error}: {cure}")
    runs.sort(key=lambda run: run.start)
    missing = _not_run(folder / PLAN, plan["order"], runs)
    return Sweep(folder, plan, runs, missing, damaged=damaged)


def _load_several(folder: Path) -> Sweep:
    """Read the sweeps in the sub-folders of a folder as one."""
    # "figures" is what a report writes there.
    inside = [p for p in folder.iterdir() if p.is_dir() and p.name != "figures"]
    inside = sorted((p for p in inside if p.name[0] != "."), key=_natural)
    sweeps = [_load_one(path) for path in inside if (path / PLAN).is_file()]
    if not sweeps:
        what = f"holds no sweep: there is no {PLAN}" if any(folder.iterdir()) else "is empty"
        raise FolderError(f"{folder} {what}")
    first = sweeps[0]
    seen: dict[tuple[str, int, int], Path] = {}
    for sweep in sweeps:
        _same_command(first, sweep)
        for run in sweep.runs:
            key = (run.mode, run.ranks, run.launch)
            if seen.setdefault(key, sweep.folder) != sweep.folder:
                raise FolderError(
                    f"{seen[key]} and {sweep.folder} both measured {run.mode} scaling on "
                    f"{counted(run.ranks, 'rank')}: report them one at a time"
                )
    runs = sorted((run for sweep in sweeps for run in sweep.runs), key=lambda run: run.start)
    missing = [f"{s.folder.name}: {words}" for s in sweeps for words in s.missing]
    held = {sweep.folder for sweep in sweeps}
    missing += [f"{path.name}: nothing was measured there" for path in inside if path not in held]
    order = [entry for sweep in sweeps for entry in sweep.plan["order"]]
    cores = max((sweep.plan.get("cores") or [] for sweep in sweeps), key=len)
    several = {"order": order, "folders": [sweep.folder.name for sweep in sweeps], "cores": cores}
    # Slurm's own figure is of one allocation.
    told = [(sweep.plan.get("billing") or {}).get("billing") for sweep in sweeps]
    if first.plan.get("billing"):
        several["billing"] = {**first.plan["billing"], "billing": ", ".join(filter(None, told))}
    damaged = [words for sweep in sweeps for words in sweep.damaged]
    limit = _limit([folder, *inside])
    return Sweep(folder, {**first.plan, **several}, runs, missing, limit, damaged)


def _limit(folders: list[Path]) -> Limit | None:
    """Read what memory delivers from the first of the folders where it lies."""
    path = next((folder / LIMIT for folder in folders if (folder / LIMIT).exists()), None)
    if path is None:
        return None
    try:
        record = records.read(path)
        facts = record.attributes
        read, copy = (record.results[f"{what}_bandwidth"].values for what in ("read", "copy"))
        ranks, nodes, threads = (facts[name] for name in ("ranks", "nodes", "threads"))
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be used: {error}") from None
    except KeyError as error:
        raise FolderError(f"{path} is no record of bandwidths: it lacks {error}") from None
    if not all(_bandwidths(values, nodes) for values in (read, copy)):
        raise FolderError(f"{path} is no record of bandwidths: not one of each node, above 0")
    hosts = tuple(sorted({name.decode() for name in record.ranks["host"]}))
    warnings = tuple(facts["warnings"])
    read_gbs, copy_gbs = float(np.median(read)), float(np.median(copy))
    return Limit(read_gbs, copy_gbs, ranks, nodes, threads, facts["start"], hosts, warnings)


def _bandwidths(values: Any, nodes: int) -> bool:
    """Whether these are bandwidths, one of each node."""
    numbers = isinstance(values, np.ndarray) and values.dtype.kind == "f"
    return numbers and values.shape == (nodes,) and bool((np.isfinite(values) & (values > 0)).all())


def _same_command(first: Sweep, other: Sweep) -> None:
    if first.plan.get("supplied") != other.plan.get("supplied"):
        raise FolderError(
            f"{first.folder} and {other.folder} do not hold times of one table: report them one at "
            "a time"
        )
    if first.plan["command"] != other.plan["command"]:
        one, two = (shlex.join(sweep.plan["command"]) for sweep in (first, other))
        raise FolderError(
            f"{first.folder} and {other.folder} are sweeps of different commands, {one} and {two}: "
            "report them one at a time"
        )
    billed = ("notes", "charge", "runs", "cores_per_node", "billing")
    for name in ("files", "measure", "weak", "threads", "gpus_per_rank", *billed):
        values = [sweep.plan.get(name) for sweep in (first, other)]
        if name in billed:
            values = [_comparable(value) for value in values]
        if values[0] != values[1]:
            raise FolderError(
                f"{first.folder} and {other.folder} differ in {name}: report them one at a time"
            )


def _comparable(value: Any) -> Any:
    """Return a part of a plan without what belongs to one allocation; nothing, as one nothing."""
    if isinstance(value, dict) and "whole_nodes" in value:
        return {name: x for name, x in value.items() if name != "billing"}
    return value or None


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order nodes-2 before nodes-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _parts(path.name)]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d+)", name) if part]


def _not_run(path: Path, order: list[Any], runs: list[Run]) -> list[str]:
    """Say in words which of the planned runs are absent."""
    try:
        planned = [(str(mode), int(ranks), int(launch)) for mode, ranks, launch in order]
    except (TypeError, ValueError):
        raise FolderError(f"{path} is damaged: 'order' is not a list of launches") from None
    ran = {(run.mode, run.ranks, run.launch) for run in runs}
    lines = []
    for mode, ranks in sorted({key[:2] for key in planned}):
        wanted = {key for key in planned if key[:2] == (mode, ranks)}
        absent = len(wanted - ran)
        if absent:
            on, of = counted(ranks, "rank"), counted(len(wanted), "launch")
            lines.append(f"{mode} scaling on {on}: {absent} of {of} did not take place")
    return lines


def read_plan(folder: Path) -> dict[str, Any]:
    """Read ``sweep.json`` from the folder of a sweep.

    Raises
    ------
    FolderError
        It is damaged, or of another version.
    """
    path = folder / PLAN
    plan = _read_json(path)
    if plan.get("schema") != SCHEMA:
        raise FolderError(f"{path} has schema {plan.get('schema')!r}, this version reads {SCHEMA}")
    if fault := damage.of_plan(plan):
        raise FolderError(f"{path} is damaged: {fault}")
    return plan


def read_run(folder: Path) -> Run:
    """Read ``run.json`` from the folder of a run.

    Raises
    ------
    FolderError
        It is damaged.
    """
    path = folder / "run.json"
    content = _read_json(path)
    for entry in fields(Run):
        required = entry.default is MISSING and entry.default_factory is MISSING
        if entry.name not in content and required:
            raise FolderError(f"{path} is damaged: it lacks {entry.name!r}")
        if entry.name in content and not _is(content[entry.name], entry.type):
            raise FolderError(f"{path} is damaged: {entry.name!r} is of the wrong type")
    run = Run(**{f.name: content[f.name] for f in fields(Run) if f.name in content})
    if run.outcome not in OUTCOMES:
        raise FolderError(f"{path} is damaged: unknown outcome {run.outcome!r}")
    if run.mode not in ("strong", "weak") or min(run.ranks, run.threads, run.nodes) < 1:
        raise FolderError(f"{path} is damaged: impossible mode, ranks, threads or nodes")
    if run.gpus < 0 or run.cores < 1:
        raise FolderError(f"{path} is damaged: impossible cores or GPUs")
    if not all(isinstance(word, str) for word in run.argv):
        raise FolderError(f"{path} is damaged: 'argv' is not a list of words")
    if fault := damage.of_phases(run.phases) or damage.of_facts(run.facts, run.ranks):
        raise FolderError(f"{path} is damaged: {fault}")
    if run.outcome == OK and not (run.seconds and 0 < run.seconds < float("inf")):
        raise FolderError(f"{path} is damaged: it succeeded in {run.seconds!r} seconds")
    return run


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"), parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise FolderError(f"{path} is damaged: it holds no JSON object")
    return content


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) >= 2**63:
        raise ValueError(f"{text[:20]}... is too large a number")
    return value


def _is(value: Any, annotation: Any) -> bool:
    """Whether a value from JSON is of the annotated type, not looking into lists and objects."""
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    plain = tuple(get_origin(kind) or kind for kind in kinds)
    return isinstance(value, (*plain, int) if float in plain else plain)
