"""The record of a run: one HDF5 file, complete or absent.

Schema, version 1::

    /                  attributes:
                       schema            int, this version
                       job               str, name of the program without .py
                       command           str, the command line
                       arguments         str, JSON object of all arguments, defaults included
                       ranks, nodes, threads            int; threads per rank
                       variant           str, the variant that ran
                       start             str, UTC, ISO 8601
                       git               str, commit, with "-dirty" if files differed; "unknown"
                       mpi               str, MPI library
                       versions          str, JSON object of library versions
                       slurm             str, JSON object of the Slurm ids, empty outside Slurm
                       peak_memory_rank, peak_memory_node   int [bytes]; the largest of any; of a
                                         node: its ranks added, shared pages counted in each
                       kernel_bytes      int [bytes] that the kernel reads or writes in a repeat
                       results_sha256    str, see `digest`
    /results/<name>    dataset with attributes `units` and `description`
    /check             attributes `error` and `bound`: distance of the result from an independent
                       one, and the largest that rounding explains
    /timings           (repeats, phases, ranks) float64 [s], attribute `phases`; NaN where a phase
                       did not run, phases that run once stand in the first repeat
    /ranks             table: rank, host, cores, threads, device, peak_memory [bytes]

Read one with `read`, or look at it with ``python -m runtime.report FILE.h5``.
"""

import fcntl
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.clock import PHASES, Clock, since_process_start
from runtime.device import Device
from runtime.program import Stop, agreement

if TYPE_CHECKING:
    from mpi4py import MPI

SCHEMA = 1
_DIGEST_BYTES = 16 * 2**20
# Named one by one: a record is shared with others, and an environment holds secrets.
_SLURM = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_PARTITION",
    "SLURM_RESTART_COUNT",
)


@dataclass(frozen=True)
class Result:
    """One dataset of a record: its values, their unit and what they are."""

    values: np.ndarray
    units: str
    description: str


@dataclass
class Record:
    """All that is known of one run. See the schema in `runtime.record`.

    Attributes
    ----------
    attributes : dict
        The attributes of the root group, with the JSON ones decoded.
    results : dict of str to Result
    check : dict
        ``error`` and ``bound``.
    phases : tuple of str
    timings : (repeats, phases, ranks) float64 array [s]
    ranks : (ranks,) structured array
    """

    attributes: dict[str, Any]
    results: dict[str, Result]
    check: dict[str, float]
    phases: tuple[str, ...]
    timings: np.ndarray
    ranks: np.ndarray = field(repr=False)


def target(comm: "MPI.Comm", job: str, output: Path | None, force: bool) -> Path:
    """Return the path of the record, after making sure that it can be written. Collective.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    job : str
        Name of the job, for the default path ``results/<job>-<UTC>.h5``.
    output : Path, optional
        The path that the user asked for.
    force : bool
        Whether a file that exists may be replaced.

    Raises
    ------
    Stop
        The folder is missing or cannot be written to, or the file exists.
    """
    path = output
    with agreement(comm):
        if comm.rank == 0:
            if path is None:
                stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
                path = Path("results") / f"{job}-{stamp}Z.h5"
            _check_target(path, make=output is None, force=force)
    return comm.bcast(path)


def _check_target(path: Path, make: bool, force: bool) -> None:
    try:
        if make:
            path.parent.mkdir(exist_ok=True)
        if path.is_dir():
            raise Stop(f"--output {path} is a folder")
        if path.exists() and not force:
            raise Stop(f"--output {path} exists; --force replaces it")
        if not path.parent.is_dir():
            raise Stop(f"--output {path}: there is no folder {path.parent}")
        _remove_stale(path.parent)
        temporary, handle = _create_temporary(path)
        temporary.unlink()
        os.close(handle)
    except OSError as error:
        raise Stop(f"cannot write to {path.parent}: {error.strerror}") from None


def collect(
    comm: "MPI.Comm",
    job: str,
    args: Namespace,
    device: Device,
    clock: Clock,
    results: dict[str, Result],
    check: dict[str, float],
    kernel_bytes: int,
) -> Record | None:
    """Gather what the ranks know of this run. Collective over `comm`.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    job : str
        Name of the job.
    args : argparse.Namespace
        From `runtime.program.parse`.
    device, clock : Device, Clock
        What this rank ran on, and its timings.
    results, check : dict
        See `Record`; significant on rank 0.
    kernel_bytes : int
        Bytes that the kernels of all ranks read or write in one repeat.

    Returns
    -------
    Record or None
        On rank 0; None elsewhere.
    """
    from mpi4py import MPI

    memory = _peak_memory()
    node_memory = device.node.allreduce(memory)
    host = MPI.Get_processor_name()
    row = (comm.rank, host, _ranges(device.cores), device.threads, device.name, memory)
    rows = comm.gather((row, node_memory))
    timings = clock.gather(comm)
    if rows is None:
        return None
    assert timings is not None
    kinds = [("rank", "i8"), ("host", "S64"), ("cores", "S128"), ("threads", "i8")]
    kinds += [("device", "S128"), ("peak_memory", "i8")]
    attributes = {
        "schema": SCHEMA,
        "job": job,
        "command": shlex.join(sys.argv),
        "arguments": {name: _plain(value) for name, value in vars(args).items()},
        "ranks": comm.size,
        "nodes": device.nodes,
        "threads": device.threads,
        "variant": device.variant,
        "start": datetime.fromtimestamp(_process_start(), UTC).isoformat(timespec="milliseconds"),
        "git": _git_commit(),
        "mpi": " ".join(MPI.Get_library_version().splitlines()[0].strip("\0").split()),
        "versions": _versions(),
        "slurm": {name: os.environ[name] for name in _SLURM if name in os.environ},
        "peak_memory_rank": max(row[-1] for row, _ in rows),
        "peak_memory_node": max(node for _, node in rows),
        "kernel_bytes": kernel_bytes,
        "results_sha256": digest(results),
    }
    ranks = np.array([row for row, _ in rows], np.dtype(kinds))
    return Record(attributes, results, check, PHASES, timings, ranks)


def digest(results: dict[str, Result]) -> str:
    """Return the SHA-256 of results: equal if and only if all their bits are.

    The hash of, for each result by name, the line ``name dtype shape`` and then the SHA-256 of each
    16 MiB of its elements in C order, little endian.
    """
    whole = hashlib.sha256()
    for name in sorted(results):
        values = np.ascontiguousarray(results[name].values)
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        shape = "x".join(map(str, values.shape))
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
        From `collect`; significant on rank 0. Its timings receive the phase ``write``.
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
        if record is not None:
            try:
                path = _write(path, record, force)
            # HDF5 reports as a RuntimeError what goes wrong when it closes the file.
            except (OSError, RuntimeError) as error:
                raise Stop(f"cannot write {path}: {_reason(error)}", status=1) from None
    return comm.bcast(path)


def _write(path: Path, record: Record, force: bool) -> Path:
    import h5py

    start = time.perf_counter()
    temporary, handle = _create_temporary(path)
    try:
        with _removed_by_signals(temporary):
            with h5py.File(temporary, "w", locking=False) as file:
                _fill(file, record)
                file.flush()
                os.fsync(handle)
                seconds = time.perf_counter() - start
                where = (0, record.phases.index("write"), 0)
                record.timings[where] = file["timings"][where] = seconds
            os.fsync(handle)
            return _publish(temporary, path, force)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _reason(error: BaseException) -> str:
    """Return what the operating system said first, without HDF5's account of its own state."""
    while error.__context__ is not None:
        error = error.__context__
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)


def _fill(file: Any, record: Record) -> None:
    for name, value in record.attributes.items():
        file.attrs[name] = json.dumps(value) if isinstance(value, dict) else value
    for name, result in record.results.items():
        dataset = file.create_dataset(f"results/{name}", data=result.values)
        dataset.attrs["units"] = result.units
        dataset.attrs["description"] = result.description
    file.create_group("check").attrs.update(record.check)
    timings = file.create_dataset("timings", data=record.timings)
    timings.attrs["phases"] = list(record.phases)
    timings.attrs["units"] = "s"
    file["ranks"] = record.ranks


def _publish(temporary: Path, path: Path, force: bool) -> Path:
    if force:
        os.replace(temporary, path)
    else:
        try:
            # Unlike a rename, a link never replaces a file.
            os.link(temporary, path)
        except FileExistsError:
            path = path.with_stem(f"{path.stem}-{os.getpid()}-{time.time_ns()}")
            os.rename(temporary, path)
        except OSError:
            # A file system without links.
            os.rename(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return path


def _create_temporary(path: Path) -> tuple[Path, int]:
    """Create an empty file beside ``path``, locked for as long as this process lives."""
    name = f".{path.name}.{os.uname().nodename}-{os.getpid()}-{time.time_ns()}.record-tmp"
    temporary = path.parent / name
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # A file system without locks: `_remove_stale` cannot lock either, and lets the file be.
        pass
    return temporary, handle


def _remove_stale(folder: Path) -> None:
    """Remove what killed runs have left in ``folder``: files whose lock died with its holder."""
    for temporary in folder.glob(".*.record-tmp"):
        try:
            handle = os.open(temporary, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink(missing_ok=True)
        except OSError:
            pass
        finally:
            os.close(handle)


@contextmanager
def _removed_by_signals(temporary: Path) -> Iterator[None]:
    """Remove the file if SIGTERM or SIGINT ends the process inside.

    An exception would not do: raised where HDF5 calls back into Python, it is printed and lost.
    """

    def leave(number: int, frame: Any) -> None:
        temporary.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    import h5py

    with h5py.File(path, "r") as file:
        if file.attrs.get("schema") != SCHEMA or "timings" not in file:
            raise ValueError(f"{path} is not a record of schema {SCHEMA}")
        attributes = {name: _decode(name, value) for name, value in file.attrs.items()}
        results = {
            name: Result(item[()], item.attrs["units"], item.attrs["description"])
            for name, item in file["results"].items()
        }
        record = Record(
            attributes,
            results,
            dict(file["check"].attrs),
            tuple(file["timings"].attrs["phases"]),
            file["timings"][()],
            file["ranks"][()],
        )
    if digest(results) != attributes["results_sha256"]:
        raise ValueError(f"{path} is damaged: its results are not those of results_sha256")
    return record


def _decode(name: str, value: Any) -> Any:
    if name in ("arguments", "versions", "slurm"):
        return json.loads(value)
    return value.item() if isinstance(value, np.generic) else value


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _ranges(numbers: tuple[int, ...]) -> str:
    """Write increasing numbers the way Slurm does: ``0-3,8``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _process_start() -> float:
    return time.time() - since_process_start()


def _peak_memory() -> int:
    """Return the largest resident size of this process so far [bytes].

    Not from `getrusage`, whose figure begins with that of the process that started this one.
    """
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def _git_commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def _versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that this run has imported."""
    names = ("numpy", "mpi4py", "h5py", "numba", "cupy")
    found = {name: sys.modules[name].__version__ for name in names if name in sys.modules}
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}
