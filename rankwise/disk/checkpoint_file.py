"""The file of a checkpoint: how it is written, and what must hold before it is read.

It begins with a text of 512 bytes, which HDF5 takes for a user block::

    rankwise checkpoint 1             version of this layout
    sha256 <of all bytes after these 512>

    /                  attributes: job, problem (JSON object: what the state depends on), step,
                       restarts, written_by (the run, in words), slurm (JSON object of ids)
    /state/<name>      datasets with attributes `units` and `description`
    /snapshots         as in a record
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rankwise.disk import files, hdf5
from rankwise.ranks.agreement import Stop

VERSION = 1
_MAGIC = b"rankwise checkpoint "
_BLOCK_BYTES = 16 * 2**20


class Unusable(Exception):
    """A file is no checkpoint from which this run can go on; the text says why."""


@dataclass
class Found:
    """A whole checkpoint of the job and problem, open.

    Attributes
    ----------
    path : Path
    step, restarts : int
        The step after which the state is, and how often the run had gone on by then.
    author : str
        The run that wrote it, in words.
    snapshots : structured array
        See `rankwise.disk.record`.
    """

    path: Path
    stream: BinaryIO
    file: Any
    step: int
    restarts: int
    author: str
    snapshots: np.ndarray

    def fill(self, name: str) -> Callable[[int, np.ndarray], None]:
        """Return ``fill(start, rows)``, which reads rows of a part of the state.

        It raises `Stop` if they cannot be read.
        """
        dataset = hdf5.find(self.file, f"state/{name}")

        def fill(start: int, rows: np.ndarray) -> None:
            try:
                if getattr(dataset, "dtype", None) != rows.dtype:
                    raise ValueError(f"it holds no {name!r} of type {rows.dtype}")
                dataset.read_direct(rows, np.s_[start : start + len(rows)])
            except (OSError, TypeError, ValueError) as error:
                raise Stop(f"cannot read {self.path} at row {start}: {error}") from None

        return fill

    def close(self) -> None:
        self.file.close()
        self.stream.close()


def image(fill: Callable[[Any], None]) -> memoryview:
    """Return the bytes of a checkpoint.

    Parameters
    ----------
    fill : callable
        ``fill(file)`` puts all that it holds into an open h5py.File.

    Raises
    ------
    MemoryError
        There is too little for them.
    """
    return files.hdf5_image(fill, lambda rest: _header(hashlib.sha256(rest)))


def read(path: Path, job: str, problem: dict[str, Any]) -> Found:
    """Open a checkpoint of this job and problem.

    Raises
    ------
    Unusable
        It is none.
    Stop
        It cannot be read at all.
    """
    import h5py

    try:
        # Kept open for as long as it is needed: another run may rename it, or write a new one.
        stream = path.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Stop(f"cannot read {path}: {error.strerror}") from None
    try:
        _verify(stream)
        file = h5py.File(stream, "r")
        facts = hdf5.attributes(file)
        _compare(facts["job"], json.loads(facts["problem"]), job, problem)
        step, restarts, author = (facts[name] for name in ("step", "restarts", "written_by"))
        return Found(path, stream, file, step, restarts, author, hdf5.whole(file, "snapshots"))
    except hdf5.ERRORS as error:
        stream.close()
        raise Unusable(f"is damaged: {error}") from None
    except Unusable:
        stream.close()
        raise


def require_magic(path: Path) -> None:
    """Make sure that a file may be replaced by a checkpoint: it is one, whole or not."""
    with path.open("rb") as stream:
        if not stream.read(len(_MAGIC)) == _MAGIC:
            raise Unusable("is no checkpoint")


def _header(digest: Any) -> bytes:
    text = b"%s%d\nsha256 %s\n" % (_MAGIC, VERSION, digest.hexdigest().encode())
    return text.ljust(files.HEADER_BYTES, b"\0")


def _verify(stream: BinaryIO) -> None:
    """Make sure that a file is as it was written, before HDF5 sees it.

    Raises
    ------
    Unusable
        It is not, or of another version.
    """
    header = stream.read(files.HEADER_BYTES)
    if not header.startswith(_MAGIC):
        raise Unusable("is no checkpoint, or damaged")
    version = header.split(maxsplit=3)[2:3]
    if version != [b"%d" % VERSION]:
        text = version[0].decode("ascii", "backslashreplace") if version else "none"
        raise Unusable(f"has the version {text}, and this program reads {VERSION}")
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK_BYTES):
        digest.update(block)
    if header != _header(digest):
        raise Unusable("is damaged: its bytes are not those that were written")
    stream.seek(0)


def _compare(job: str, problem: dict[str, Any], own: str, wanted: dict[str, Any]) -> None:
    """Make sure that a checkpoint is of this job and problem.

    Raises
    ------
    Unusable
        It is not.
    """
    if job != own:
        raise Unusable(f"is of another job, {job}")
    wanted = json.loads(json.dumps(wanted))
    for name in {**wanted, **problem}:
        there, here = problem.get(name), wanted.get(name)
        if there != here:
            raise Unusable(f"is of another problem: {name} is {there} there and {here} here")
