"""Read an input array in pieces, from HDF5 or from NumPy's own format."""

import hashlib
import io
import itertools
import math
import os
import tokenize
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.disk import conventions, hdf5, views
from rankwise.ranks.agreement import Stop, agreement

if TYPE_CHECKING:
    from mpi4py import MPI

# What NumPy raises where a header is damaged, which it takes for Python.
_NPY_ERRORS = (*hdf5.ERRORS, EOFError, SyntaxError, tokenize.TokenError)
# More than the largest header that NumPy takes; one can declare gigabytes.
_NPY_HEADER_BYTES = 2**14
_BLOCK_BYTES = 16 * 2**20
# How files begin that are taken for HDF5, and what helps.
_OTHERS = {
    b"CDF": "is netCDF-3: `nccopy -k nc4 OLD NEW` makes HDF5 of it",
    b"MATLAB 5": "is an old MAT-file: save(..., '-v7.3') in MATLAB writes HDF5",
    b"\x0e\x03\x13\x01": "is HDF4, and only HDF5 is read",
    b"\x93NUMPY": "is a .npy file: its name must end so",
    b"\x1f\x8b": "is compressed: `gunzip` unpacks it",
    b"version https://git-lfs": "is only a pointer of Git LFS: `git lfs pull` fetches the file",
}


class Dataset:
    """An array in a file, open for reading.

    Parameters
    ----------
    where : str
        ``FILE.h5:/dataset`` or ``FILE.npy``.
    ndim : int
        Number of dimensions that it must have. Where one is needed, others may have the length 1,
        as in MATLAB's vectors.
    dtypes : tuple of dtypes
        Element types it may have; either byte order is read.
    largest : float, optional
        Largest magnitude that an element may have; then what is not finite is refused, too.
    allow_external : bool
        Whether an HDF5 file may refer to others.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        In the byte order of this machine.
    warnings : list of str
        What the user should know of the file.

    Raises
    ------
    Stop
        The file is missing, unreadable or of another format, not all of it was written, or the
        array is not as required.
    """

    shape: tuple[int, ...]

    def __init__(
        self,
        where: str,
        ndim: int,
        dtypes: tuple[Any, ...],
        largest: float | None = None,
        allow_external: bool = False,
    ) -> None:
        self.where, self.largest, self.allow_external = where, largest, allow_external
        self.warnings: list[str] = []
        self._marks: list[conventions.Mark] = []
        self._command, self._axis = "", 0
        self._checked: set[int] = set()
        self._found: Any = None
        if where.endswith(".npy"):
            self._open_npy(where, dtypes)
        else:
            self._open_hdf5(*_split(where), dtypes)
        if ndim == 1 and self.shape and sum(n != 1 for n in self.shape) <= 1:
            (self._axis,) = [k for k, n in enumerate(self.shape) if n != 1] or [0]
            self.shape = (math.prod(self.shape),)
        if self.shape is None or len(self.shape) != ndim:
            raise Stop(f"{where} has the shape {self.shape}: {ndim}-D data are needed")

    def read(self, start: int, rows: np.ndarray) -> None:
        """Fill ``rows`` with the rows from ``start`` on.

        Raises
        ------
        Stop
            The file is damaged there or is being changed, or an element is missing, too large or
            not finite.
        """
        if len(rows) == 0:
            return
        try:
            (self._read_npy if self._found is None else self._read_hdf5)(start, rows)
            self._require_unchanged()
        except hdf5.ERRORS as error:
            raise Stop(f"cannot read {self.where} at row {start}: {error}") from None
        for what, marked in self._marks:
            self._refuse(
                rows,
                marked(rows),
                start,
                f"{what}, and so no number; if it is meant as one, {self._command}",
            )
        if self.largest is not None:
            too_large = ~(np.abs(rows) <= np.float64(self.largest))
            self._refuse(rows, too_large, start, f"a number is needed, up to {self.largest:g}")

    def _require_type(self, stored: np.dtype, dtypes: tuple[Any, ...]) -> None:
        self.dtype = stored.newbyteorder("=")
        if self.dtype not in dtypes:
            wanted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
            raise Stop(f"{self.where} has elements of type {self.dtype.name}: {wanted} is needed")

    def _refuse(self, rows: np.ndarray, wrong: np.ndarray, start: int, why: str) -> None:
        for index in np.argwhere(wrong)[:1].tolist():
            value, place = rows[tuple(index)], (start + index[0], *index[1:])
            name = place if len(place) > 1 else place[0]
            raise Stop(f"element {name} of {self.where} is {value}: {why}")

    def _watch(self, *files: int | str) -> None:
        """Note what can be seen of open files and paths, before anything is read."""
        self._seen = [(file, _state(file)) for file in files]

    def _require_unchanged(self) -> None:
        for file, state in self._seen:
            if _state(file) != state:
                raise OSError("another process has changed the file since this run opened it")

    def sha256(self) -> str:
        """Return the SHA-256 of the elements in C order, in the byte order of this machine.

        Raises
        ------
        Stop
            See `read`.
        """
        digest = hashlib.sha256()
        row_bytes = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)
        step = max(1, _BLOCK_BYTES // row_bytes)
        for start in range(0, self.shape[0], step):
            rows = np.empty((min(step, self.shape[0] - start), *self.shape[1:]), self.dtype)
            self.read(start, rows)
            digest.update(rows.data)
        return digest.hexdigest()

    def require_same(self, comm: "MPI.Comm") -> None:
        """Compare shape, type and the first and last 1024 rows with those of rank 0. Collective.

        Parameters
        ----------
        comm : MPI.Comm
            All ranks, each of which has opened the file.

        Raises
        ------
        Stop
            On every rank, where a node has another file of that name, or see `read`.
        """
        with agreement(comm):
            ends = hashlib.sha256()
            for start in (0, max(0, self.shape[0] - 1024)):
                rows = np.empty((min(1024, self.shape[0]), *self.shape[1:]), self.dtype)
                self.read(start, rows)
                ends.update(rows.data)
        here = (self.shape, self.dtype.str, ends.hexdigest())
        there = comm.bcast(here)
        with agreement(comm):
            if here != there:
                raise Stop(f"{self.where} of rank {comm.rank} is another one than that of rank 0")

    def _open_npy(self, path: str, dtypes: tuple[Any, ...]) -> None:
        _check_readable(path)
        try:
            self.shape, fortran, stored, offset = _npy_header(path)
        except _NPY_ERRORS:
            raise Stop(f"{path} is not a whole .npy file of numbers") from None
        # Kept open: under its name another file may appear.
        file = open(path, "rb")
        weakref.finalize(self, file.close)
        self._watch(file.fileno())
        size = offset + math.prod(self.shape) * stored.itemsize
        there = os.fstat(file.fileno()).st_size
        if min(self.shape, default=0) < 0 or size > there:
            raise Stop(f"{path} is not a whole .npy file: it ends before its last row")
        if size < there:
            raise Stop(
                f"{path} is not a single .npy file: {there - size} bytes follow its last row"
            )
        if fortran and sum(n > 1 for n in self.shape) > 1:
            raise Stop(f"{path} is in Fortran order: numpy.ascontiguousarray gives the other")
        self._require_type(stored, dtypes)
        self._npy = file, offset, stored

    def _read_npy(self, start: int, rows: np.ndarray) -> None:
        file, offset, stored = self._npy
        file.seek(offset + start * rows[:1].nbytes)
        if file.readinto(rows.data.cast("B")) < rows.nbytes:
            raise OSError("the file ends before its last row")
        if not stored.isnative:
            rows.byteswap(inplace=True)

    def _open_hdf5(self, path: str, name: str, dtypes: tuple[Any, ...]) -> None:
        _check_readable(path)
        file = self._opened(path)
        try:
            found = self._find(file, name)
            conventions.require_unpacked(found)
            self._require_type(hdf5.element_type(found.id), dtypes)
            self.shape = found.shape
            if hdf5.packing(found):
                # Only these need a cache, which can't be had later.
                file.close()
                file = self._opened(path, hdf5.CHUNK_BYTES)
                found = self._find(file, name)
            self._look_at(found)
        except hdf5.Elsewhere as error:
            raise Stop(f"in {path} {error}: --allow-external reads it all the same") from None
        except hdf5.ERRORS as error:
            raise Stop(f"{path} cannot be read: {error}") from None
        self._found = found

    def _opened(self, path: str, cache_bytes: int = 0) -> Any:
        """Open an HDF5 file, with a lock where the file system has one."""
        try:
            try:
                return hdf5.opened(path, None, cache_bytes)
            except hdf5.Unlockable as error:
                file = hdf5.opened(path, False, cache_bytes)
                self.warnings = [f"{error}, and is read without: make sure that nobody writes it"]
                return file
        except OSError as error:
            raise Stop(_other(path) or str(error)) from None

    def _find(self, file: Any, name: str) -> Any:
        import h5py

        found = hdf5.find(file, name, self.allow_external)
        if not isinstance(found, h5py.Dataset):
            what = "no dataset" if found is None else "a group, not a dataset,"
            names = [f"/{key}" for key in itertools.islice(file, 10)]
            there = ", ".join(each if each.isprintable() else repr(each) for each in names)
            raise Stop(f"{file.filename} holds {what} {name!r}; it holds {there or 'nothing'}")
        return found

    def _look_at(self, found: Any) -> None:
        """Make sure that all of a dataset was written, here and where it refers to."""
        sources = views.sources(found)
        for each in (found, *sources):
            if hdf5.element_type(each.id).kind not in "iuf":
                raise ValueError(f"{each.name!r} of {each.file.filename} holds no numbers")
            hdf5.require_stored(each)
            conventions.require_unpacked(each)
            self._marks += conventions.marks(each)
            if not each.is_virtual and not each.external:
                hdf5.require_complete(each)
        raw = [path for each in (found, *sources) for path in views.raw_files(each)]
        self._watch(*(each.file.id.get_vfd_handle() for each in (found, *sources)), *raw)
        # Their files stay open, and locked.
        self._sources = sources
        self._command = hdf5.as_npy(found)
        if conventions.written_by_matlab(found) and sum(n != 1 for n in found.shape) > 1:
            shape = " x ".join(map(str, found.shape[::-1]))
            self.warnings.append(
                f"{self.where} was written by MATLAB, whose {shape} matrix has the shape "
                f"{found.shape} here: its columns are taken for rows"
            )

    def _read_hdf5(self, start: int, rows: np.ndarray) -> None:
        found, axis, stop = self._found, self._axis, start + len(rows)
        if found.chunks:
            for row in range(start - start % found.chunks[axis], stop, found.chunks[axis]):
                self._require_chunks(row)
        # Of a vector among other lengths, which are 1.
        piece = [slice(None)] * found.ndim
        piece[axis] = slice(start, stop)
        shape = (*found.shape[:axis], len(rows), *found.shape[axis + 1 :])
        found.read_direct(rows.reshape(shape), tuple(piece))

    def _require_chunks(self, row: int) -> None:
        # Once each, since a chunk may lie in two pieces, and all are read in every repeat.
        if row not in self._checked:
            hdf5.require_chunks(self._found, row, self._axis)
            self._checked.add(row)


def _npy_header(path: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return the shape of an array, whether it is in Fortran order, its dtype and its offset."""
    with open(path, "rb") as file:
        begin = io.BytesIO(file.read(_NPY_HEADER_BYTES))
    formats = np.lib.format
    # Version 3 is for columns with odd names.
    readers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    with warnings.catch_warnings():
        # Of a file that Python 2 has written.
        warnings.simplefilter("ignore")
        shape, fortran, stored = readers[formats.read_magic(begin)](begin)
    if stored.hasobject:
        raise ValueError
    return tuple(map(int, shape)), fortran, stored, begin.tell()


def _split(where: str) -> tuple[str, str]:
    path, _, name = where.rpartition(":")
    if not path or not name.strip("/"):
        raise Stop(f"--input {where} is neither FILE.h5:/dataset nor FILE.npy")
    return path, name


def _check_readable(path: str) -> None:
    try:
        if not Path(path).exists():
            raise FileNotFoundError(2, "no such file")
        # Of a pipe or a device only some can be read, or for ever.
        if not Path(path).is_file():
            raise OSError(2, "it is a folder" if Path(path).is_dir() else "it is no regular file")
        open(path, "rb").close()
    except OSError as error:
        raise Stop(f"cannot read {path}: {error.strerror}") from None


def _other(path: str) -> str | None:
    """Return what a file is that is not HDF5, if that is known."""
    with open(path, "rb") as file:
        begin = file.read(64)
    return next(
        (f"{path} {what}" for magic, what in _OTHERS.items() if begin.startswith(magic)), None
    )


def _state(file: int | str) -> tuple[int, ...]:
    """Return what changes when an open file, or the file of a path, is written."""
    status = os.stat(file)
    return status.st_ino, status.st_size, status.st_mtime_ns
