"""The record of a run: one HDF5 file, complete or absent.

Schema, version 5::

    /                  attributes:
                       schema            int, this version
                       job               str, name of the program without .py
                       command           str, the command line
                       folder            str, where it was given
                       arguments         str, JSON object of all arguments, defaults included
                       ranks, nodes, threads            int; threads per rank
                       variant           str, the variant that ran
                       start             str, UTC, ISO 8601
                       git               str, commit at the start, with "-dirty" if Python files
                                         differed or were not in it; or "unknown"
                       mpi               str, MPI library
                       versions          str, JSON object of library versions
                       slurm             str, JSON object of the Slurm ids, empty outside Slurm
                       peak_memory_rank, peak_memory_node   int [bytes]; the largest of any; of a
                                         node: its ranks added, shared memory once;
                                         before the record is written, for which rank 0 takes the
                                         size of the results once more
                       work              int, operations of all ranks in a repeat, up to a constant
                                         factor
                       kernel_bytes      int [bytes] that the kernel reads or writes in a repeat
                       kernel_flops      int, additions and multiplications of the kernel in a
                                         repeat; 0 if the job does not tell
                       unchecked         str, why the answer is not to be trusted; empty if all its
                                         checks were made and passed
                       warnings          str, JSON list of what was told as a warning
                       first_step        int, the step after which the run went on from a
                                         checkpoint, 0 if it did not; the timings, the work and the
                                         bytes are of the steps since
                       restarts          int, how often the run went on from a checkpoint
                       results_sha256    str, see `digest`
    /results/<name>    dataset with attributes `units` and `description`; `axes`, if the job names
                       them: a name for each dimension; where a result has it, that one holds the
                       coordinates
    /checks            table: why, error, bound: distance of the result from an independent one, and
                       the largest that is explained by what `why` says
    /timings           (repeats, phases, ranks) float64 [s], attribute `phases`; NaN where a phase
                       did not run, phases that run once stand in the first repeat; the others
                       add up to the wall clock of the repeat
    /queue             only of a job with a queue of tasks: datasets busy, longest and chunks, each
                       (repeats, ranks), see `Balance`, and attributes
                       schedule          str, block, cyclic, guided or dynamic
                       tasks             int
    /ranks             table: rank, host, cores, threads, device, peak_memory [bytes]
    /snapshots         table: step, file (beside the record), sha256 of its dataset as by `digest`

Texts have a fixed length and are UTF-8, see `rankwise.disk.hdf5.put`.

Read one with `read`, or look at it with ``rankwise show FILE.h5``.
"""

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.disk import files, hdf5
from rankwise.ranks.agreement import Stop, agreement, sleep_until_all

if TYPE_CHECKING:
    from mpi4py import MPI

SCHEMA = 5
# Attributes that are no plain numbers or text.
_JSON = ("arguments", "versions", "slurm", "warnings")
_TEXTS = (
    "job",
    "command",
    "folder",
    "variant",
    "start",
    "git",
    "mpi",
    "unchecked",
    "results_sha256",
)
_NUMBERS = ("ranks", "nodes", "threads", "peak_memory_rank", "peak_memory_node", "work",
            "kernel_bytes", "kernel_flops", "first_step", "restarts")  # fmt: skip
_KINDS = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_NUMBERS, int),
    **dict.fromkeys(_JSON, dict),
    "warnings": list,
}
# Of the table of ranks, with the kind of their elements.
_COLUMNS = {"rank": "i", "host": "S", "cores": "S", "threads": "i", "device": "S",
            "peak_memory": "i"}  # fmt: skip
# Files lie beside the record, so that a name is enough: at most 255 bytes on Linux.
SNAPSHOT = np.dtype([("step", "i8"), ("file", "S255"), ("sha256", "S64")])
_DIGEST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Result:
    """One dataset of a record: its values, their unit and what they are.

    Attributes
    ----------
    values : array
    units, description : str
    axes : tuple of str
        Names of its dimensions, or none. A result with such a name holds the coordinates along this
        dimension, as a coordinate variable of netCDF does.
    """

    values: np.ndarray
    units: str
    description: str
    axes: tuple[str, ...] = ()

    def put(self, file: Any, name: str) -> None:
        """Create the dataset in an open HDF5 file."""
        dataset = file.create_dataset(name, data=self.values)
        hdf5.put(dataset.attrs, units=self.units, description=self.description)
        if self.axes:
            hdf5.put(dataset.attrs, axes=self.axes)


@dataclass(frozen=True)
class Balance:
    """How the tasks of a queue were shared by the ranks.

    Attributes
    ----------
    schedule : str
        See `rankwise.data.schedules`.
    tasks : int
    busy : (repeats, ranks) float64 array
        Seconds in which a rank computed: of its cores where it runs on the host, since ranks may
        share them; of the wall clock on a GPU [s].
    longest : (repeats, ranks) float64 array
        Of these, those of the chunk that took longest [s].
    chunks : (repeats, ranks) int64 array
        How many chunks of consecutive tasks a rank has done.
    """

    schedule: str
    tasks: int
    busy: np.ndarray
    longest: np.ndarray
    chunks: np.ndarray

    def put(self, file: Any) -> None:
        """Write it into an open HDF5 file."""
        group = file.create_group("queue")
        hdf5.put(group.attrs, schedule=self.schedule, tasks=self.tasks)
        for name in _BALANCE:
            group[name] = getattr(self, name)


# Datasets of a queue, with the kind of their elements.
_BALANCE = {"busy": "f", "longest": "f", "chunks": "i"}


@dataclass
class Record:
    """All that is known of one run. See the schema in `rankwise.disk.record`.

    Attributes
    ----------
    attributes : dict
        The attributes of the root group, with the JSON ones decoded.
    results : dict of str to Result
    checks : list of dict
        ``why``, ``error`` and ``bound`` of each.
    phases : tuple of str
    timings : (repeats, phases, ranks) float64 array [s]
    ranks : (ranks,) structured array
    snapshots : (snapshots,) structured array
    balance : Balance or None
        Of a job with a queue.
    """

    attributes: dict[str, Any]
    results: dict[str, Result]
    checks: list[dict[str, Any]]
    phases: tuple[str, ...]
    timings: np.ndarray
    ranks: np.ndarray = field(repr=False)
    snapshots: np.ndarray = field(default_factory=lambda: np.empty(0, SNAPSHOT), repr=False)
    balance: Balance | None = None


def run_name(comm: "MPI.Comm", job: str) -> str:
    """Return a name that no other run has, ``<job>-<UTC>``. Collective."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return comm.bcast(f"{job}-{stamp}Z")


def target(comm: "MPI.Comm", name: str, output: Path | None, force: bool) -> Path:
    """Return the path of the record, after making sure that it can be written. Collective.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    name : str
        Of the run, for the default path ``results/<name>.h5``.
    output : Path, optional
        The path that the user asked for.
    force : bool
        Whether a record that exists may be replaced; other files never are.

    Raises
    ------
    Stop
        The folder is missing or cannot be written to, or the file exists.
    """
    path = output
    with agreement(comm):
        if comm.rank == 0:
            if path is None:
                path = Path("results") / f"{name}.h5"
                try:
                    path.parent.mkdir(exist_ok=True)
                except OSError as error:
                    raise Stop(f"cannot make the folder results: {error.strerror}") from None
            files.require_writable(path, force, "record", _is_record)
    return comm.bcast(path)


def _is_record(path: Path) -> bool:
    try:
        read(path)
    except (OSError, ValueError):
        return False
    return True


def digest(results: dict[str, Result]) -> str:
    """Return the SHA-256 of results: equal if and only if all their bits are.

    The hash of, for each result by name, the line ``name dtype shape`` and then the SHA-256 of each
    16 MiB of its elements in C order, little endian.
    """
    whole = hashlib.sha256()
    for name in sorted(results):
        shape = "x".join(map(str, np.shape(results[name].values)))
        values = np.ascontiguousarray(results[name].values)
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        whole.update(f"{name} {values.dtype.str} {shape}\n".encode())
        octets = values.reshape(-1).view(np.uint8)
        for start in range(0, octets.size, _DIGEST_BYTES):
            block = octets[start : start + _DIGEST_BYTES]
            whole.update(hashlib.sha256(block.data).digest())
    return whole.hexdigest()


def write(comm: "MPI.Comm", path: Path, record: Record | None, force: bool) -> Path:
    """Write a record, complete or not at all. Collective over `comm`.

    The file is written under a temporary name, brought to the disk and then given its own name.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    path : Path
        From `target`.
    record : Record
        From `rankwise.run.provenance.collect`; significant on rank 0. Its timings receive the phase
        ``write``.
    force : bool
        Whether a file of that name may be replaced.

    Returns
    -------
    Path
        Where the record is. Another name than ``path`` if a file of that name has appeared since
        `target`, so that neither is lost.

    Raises
    ------
    Stop
        The file system failed; status 1, and no file is left behind.
    """
    with agreement(comm):
        try:
            if record is not None:
                path = _write(path, record, force)
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", "too little memory") or error
            raise Stop(f"cannot write {path}: {reason}", status=1) from None
        finally:
            # The others can wait here: this rank comes, whatever happens, and none else works.
            sleep_until_all(comm)
    return comm.bcast(path)


def _write(path: Path, record: Record, force: bool) -> Path:
    start = time.perf_counter()
    where = 0

    def fill(file: Any) -> None:
        nonlocal where
        where = _fill(file, record)

    def note_seconds(handle: int) -> None:
        seconds = time.perf_counter() - start
        record.timings[0, record.phases.index("write"), 0] = seconds
        os.pwrite(handle, np.float64(seconds).tobytes(), where)

    return files.write(path, files.hdf5_image(fill), force, note_seconds)


def _fill(file: Any, record: Record) -> int:
    """Fill an HDF5 file, and return where in it the sample of the phase ``write`` stands."""
    for name, value in record.attributes.items():
        hdf5.put(file.attrs, **{name: json.dumps(value) if name in _JSON else value})
    file.create_group("results")
    for name, result in record.results.items():
        result.put(file, f"results/{name}")
    rows = [(check["why"].encode(), check["error"], check["bound"]) for check in record.checks]
    # HDF5 has no text of length 0.
    longest = max([1, *(len(why) for why, _, _ in rows)])
    kinds = [("why", f"S{longest}"), ("error", "f8"), ("bound", "f8")]
    file["checks"] = np.array(rows, kinds)
    timings = file.create_dataset("timings", data=record.timings)
    hdf5.put(timings.attrs, phases=tuple(record.phases), units="s")
    file["ranks"] = record.ranks
    file["snapshots"] = record.snapshots
    if record.balance is not None:
        record.balance.put(file)
    sample = np.ravel_multi_index((0, record.phases.index("write"), 0), record.timings.shape)
    return timings.id.get_offset() + int(sample) * record.timings.itemsize


def read(path: str | Path) -> Record:
    """Read a record.

    Parameters
    ----------
    path : str or Path
        A file that `write` made.

    Returns
    -------
    Record

    Raises
    ------
    OSError
        The file is missing or is not a whole HDF5 file.
    ValueError
        It is not a record of this schema, or its results are not those that were written.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    opened = hdf5.opened(path)
    try:
        with opened as file:
            schema = hdf5.attribute(file, "schema") if "schema" in file.attrs else "none"
            record = _read(file) if schema == SCHEMA else None
            whole = record and digest(record.results) == record.attributes["results_sha256"]
    except hdf5.ERRORS as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if record is None:
        raise ValueError(f"{path} is not a record of schema {SCHEMA}: its schema is {schema}")
    if not whole:
        raise ValueError(f"{path} is damaged: its results are not those of results_sha256")
    return record


def _read(file: Any) -> Record:
    names = [f"results/{name}" for name in _part(file, "results")]
    facts = hdf5.attributes(file)
    # All at once: many names of one large dataset would take the memory of many.
    timings, ranks, snapshots, checks, *results = hdf5.arrays(
        file, ["timings", "ranks", "snapshots", "checks", *names]
    )
    record = Record(
        {name: json.loads(value) if name in _JSON else value for name, value in facts.items()},
        {
            (short := name.removeprefix("results/")): _result(
                short, values, hdf5.attributes(_part(file, name))
            )
            for name, values in zip(names, results, strict=True)
        },
        _checks(checks),
        hdf5.attributes(_part(file, "timings"))["phases"],
        timings,
        ranks,
        snapshots,
        _balance(file),
    )
    _require_schema(record)
    return record


def _balance(file: Any) -> Balance | None:
    if (group := hdf5.find(file, "queue")) is None:
        return None
    facts = hdf5.attributes(group)
    kinds = [isinstance(facts.get("schedule"), str), isinstance(facts.get("tasks"), int)]
    if not all(kinds):
        raise ValueError("its queue has no schedule or no tasks")
    arrays = hdf5.arrays(file, [f"queue/{name}" for name in _BALANCE])
    return Balance(facts["schedule"], facts["tasks"], *arrays)


def _require_schema(record: Record) -> None:
    """Make sure that whoever reads a record finds what the schema says."""
    for name, kind in _KINDS.items():
        if not isinstance(record.attributes.get(name), kind):
            raise ValueError(f"its attribute {name!r} is missing or no {kind.__name__}")
    if min(record.attributes[name] for name in ("ranks", "nodes", "threads")) < 1:
        raise ValueError("it is of no ranks, nodes or threads")
    kinds = {name: kind[0].kind for name, kind in (record.ranks.dtype.fields or {}).items()}
    if not _COLUMNS.items() <= kinds.items() or record.snapshots.dtype != SNAPSHOT:
        raise ValueError("its ranks or snapshots are no tables of this schema")
    if record.timings.dtype != np.float64 or not {"kernel", "write"} <= set(record.phases):
        raise ValueError("its timings are no seconds of phases")
    _require_axes(record.results)
    failed = [check for check in record.checks if not check["error"] <= check["bound"]]
    if failed and not record.attributes["unchecked"]:
        raise ValueError("a check failed in it, and it does not say so")
    sizes = (*record.timings.shape[:1], len(record.phases), record.attributes["ranks"])
    if record.timings.shape != sizes or record.ranks.shape != sizes[2:] or 0 in sizes:
        raise ValueError("its timings are not those of its phases and ranks")
    if record.balance:
        _require_balance(record.balance, (sizes[0], sizes[2]))


def _require_balance(balance: Balance, shape: tuple[int, int]) -> None:
    arrays = {name: getattr(balance, name) for name in _BALANCE}
    if {values.shape for values in arrays.values()} != {shape}:
        raise ValueError("its queue is not that of its repeats and ranks")
    if {name: values.dtype.kind for name, values in arrays.items()} != _BALANCE:
        raise ValueError("its queue holds no seconds and numbers of chunks")
    if balance.tasks < 0 or not all(
        (np.isfinite(values) & (values >= 0)).all() for values in arrays.values()
    ):
        raise ValueError("its queue holds what is negative or no number")


def _require_axes(results: dict[str, Result]) -> None:
    for name, result in results.items():
        shape, axes = result.values.shape, result.axes
        if not isinstance(axes, tuple) or (axes and len(axes) != len(shape)):
            raise ValueError(f"the axes of {name!r} are not one for each dimension")
        for axis, n in zip(axes, shape, strict=False):
            if axis in results and results[axis].values.shape != (n,):
                raise ValueError(f"{axis!r} is an axis of {name!r}, and of another length")


def _checks(table: np.ndarray) -> list[dict[str, Any]]:
    if table.dtype.names != ("why", "error", "bound") or table.dtype["why"].kind != "S":
        raise ValueError("its checks are no table of this schema")
    return [
        {"why": why.decode(), "error": float(error), "bound": float(bound)}
        for why, error, bound in table.tolist()
    ]


def _part(file: Any, name: str) -> Any:
    part = hdf5.find(file, name)
    if part is None:
        raise ValueError(f"it has no {name!r}")
    return part


def _result(name: str, values: np.ndarray, about: dict[str, Any]) -> Result:
    units, description = about.get("units"), about.get("description")
    if not (isinstance(units, str) and isinstance(description, str)):
        raise ValueError(f"the units or the description of {name!r} are missing or no text")
    return Result(values, units, description, about.get("axes", ()))
