"""The record of a run: one HDF5 file, complete or absent.

Schema, version 2::

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
                                         node: its ranks added, shared pages counted in each;
                                         before the record is written, for which rank 0 takes the
                                         size of the results once more
                       work              int, operations of all ranks in a repeat, up to a constant
                                         factor
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

import errno
import fcntl
import hashlib
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.program import Stop, agreement

if TYPE_CHECKING:
    from mpi4py import MPI

SCHEMA = 2
_DIGEST_BYTES = 16 * 2**20


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
                stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
                path = Path("results") / f"{job}-{stamp}Z.h5"
            _check_target(path, make=output is None, force=force)
    return comm.bcast(path)


def _is_record(path: Path) -> bool:
    try:
        read(path)
    except (OSError, ValueError):
        return False
    return True


def _check_target(path: Path, make: bool, force: bool) -> None:
    try:
        if make:
            path.parent.mkdir(exist_ok=True)
        if path.is_dir():
            raise Stop(f"--output {path} is a folder")
        if path.exists() and not force:
            raise Stop(f"--output {path} exists; --force replaces a record")
        if path.exists() and not _is_record(path):
            raise Stop(f"--output {path} is not a record, and --force replaces nothing else")
        if not path.parent.is_dir():
            raise Stop(f"--output {path}: there is no folder {path.parent}")
        _remove_stale(path.parent)
        temporary, handle = _create_temporary(path)
        temporary.unlink(missing_ok=True)
        os.close(handle)
    except OSError as error:
        raise Stop(f"cannot write to {path.parent}: {error.strerror}") from None


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
        From `runtime.provenance.collect`; significant on rank 0. Its timings receive the phase
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
        if record is not None:
            try:
                path = _write(path, record, force)
            except (OSError, MemoryError) as error:
                reason = getattr(error, "strerror", "too little memory")
                raise Stop(f"cannot write {path}: {reason}", status=1) from None
    return comm.bcast(path)


def _write(path: Path, record: Record, force: bool) -> Path:
    start = time.perf_counter()
    image, write_sample = _image(record)
    temporary, handle = _create_temporary(path)
    try:
        with _removed_by_sigterm(temporary):
            rest = image
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
            seconds = time.perf_counter() - start
            record.timings[0, record.phases.index("write"), 0] = seconds
            os.pwrite(handle, np.float64(seconds).tobytes(), write_sample)
            os.fsync(handle)
            return _publish(temporary, path, force)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _image(record: Record) -> tuple[memoryview, int]:
    """Return the bytes of the file, and where among them the sample of the phase ``write`` stands.

    In memory, since HDF5 does not survive a disk that fills up while it writes.
    """
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w") as file:
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
        sample = np.ravel_multi_index((0, record.phases.index("write"), 0), record.timings.shape)
        where = timings.id.get_offset() + int(sample) * record.timings.itemsize
    return image.getbuffer(), where


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
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or path.exists():
                raise
            # A file system without links.
            os.rename(temporary, path)
    # Not every file system can; the file itself is on the disk.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return path


def _create_temporary(path: Path) -> tuple[Path, int]:
    """Create an empty file beside ``path``, locked for as long as this process lives."""
    while True:
        stamp = f"{os.getpid()}-{time.time_ns()}"
        temporary = path.parent / f".{path.name}.{stamp}.{os.uname().nodename}.record-tmp"
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        # Without locks on this file system `_remove_stale` cannot lock either, and lets it be.
        with suppress(OSError):
            # Who holds it already is a `_remove_stale` about to unlink the file: wait, and see.
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return temporary, handle
        # `_remove_stale` of another run came between the two.
        os.close(handle)


def _remove_stale(folder: Path) -> None:
    """Remove what killed runs have left in ``folder``: files whose lock died with its holder.

    Only those of this node: on some file systems a node does not see the locks of another.
    """
    for temporary in folder.glob(f".*.{os.uname().nodename}.record-tmp"):
        with suppress(OSError):
            handle = os.open(temporary, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink(missing_ok=True)
            finally:
                os.close(handle)


@contextmanager
def _removed_by_sigterm(temporary: Path) -> Iterator[None]:
    """Remove the file if SIGTERM ends the process inside, which it does without cleaning up."""

    def leave(number: int, frame: Any) -> None:
        temporary.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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

    if not Path(path).is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("schema") != SCHEMA:
                found = file.attrs.get("schema", "none")
                raise ValueError(
                    f"{path} is not a record of schema {SCHEMA}: its schema is {found}"
                )
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
            whole = digest(results) == attributes["results_sha256"]
    except OSError:
        raise OSError(f"{path} is not a whole HDF5 file") from None
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not whole:
        raise ValueError(f"{path} is damaged: its results are not those of results_sha256")
    return record


def _decode(name: str, value: Any) -> Any:
    if name in ("arguments", "versions", "slurm"):
        return json.loads(value)
    return value.item() if isinstance(value, np.generic) else value
