"""Read an input array in pieces, from HDF5 or from NumPy's own format."""

import functools
import hashlib
import io
import itertools
import math
import os
import tokenize
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.disk import hdf5
from rankwise.ranks.agreement import Stop, agreement

if TYPE_CHECKING:
    from mpi4py import MPI

# What NumPy raises where a header is damaged, which it takes for Python.
_NPY_ERRORS = (*hdf5.ERRORS, EOFError, SyntaxError, tokenize.TokenError)
# More than the largest header that NumPy takes; one can declare gigabytes.
_NPY_HEADER_BYTES = 2**14
_BLOCK_BYTES = 16 * 2**20


class Dataset:
    """An array in a file, open for reading.

    Parameters
    ----------
    where : str
        ``FILE.h5:/dataset`` or ``FILE.npy``.
    ndim : int
        Number of dimensions that it must have.
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

    Raises
    ------
    Stop
        The file is missing, unreadable or of another format, or the array is not as required.
    """

    def __init__(
        self,
        where: str,
        ndim: int,
        dtypes: tuple[Any, ...],
        largest: float | None = None,
        allow_external: bool = False,
    ) -> None:
        self.where, self.largest, self.allow_external = where, largest, allow_external
        if where.endswith(".npy"):
            self._open_npy(where)
        else:
            self._open_hdf5(*_split(where))
        if self.dtype not in dtypes:
            wanted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
            raise Stop(f"{where} has elements of type {self.dtype.name}: {wanted} is needed")
        if self.shape is None or len(self.shape) != ndim:
            raise Stop(f"{where} has the shape {self.shape}: {ndim}-D data are needed")

    def read(self, start: int, rows: np.ndarray) -> None:
        """Fill ``rows`` with the rows from ``start`` on.

        Raises
        ------
        Stop
            The file is damaged there, or an element is too large or not finite.
        """
        if len(rows) == 0:
            return
        try:
            self._read(start, rows)
        except hdf5.ERRORS as error:
            raise Stop(f"cannot read {self.where} at row {start}: {error}") from None
        if self.largest is not None:
            for index in np.argwhere(~(np.abs(rows) <= np.float64(self.largest)))[:1].tolist():
                value, place = rows[tuple(index)], (start + index[0], *index[1:])
                raise Stop(f"element {place} of {self.where} is {value}: a number is needed, up to "
                           f"{self.largest:g}")  # fmt: skip

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

    def _open_npy(self, path: str) -> None:
        _check_readable(path)
        try:
            self.shape, fortran, stored, offset = _npy_header(path)
        except _NPY_ERRORS:
            raise Stop(f"{path} is not a whole .npy file of numbers") from None
        row_bytes = math.prod(self.shape[1:]) * stored.itemsize
        size = offset + math.prod(self.shape) * stored.itemsize
        if min(self.shape, default=0) < 0 or size > os.path.getsize(path):
            raise Stop(f"{path} is not a whole .npy file: it ends before its last row")
        if fortran and sum(n > 1 for n in self.shape) > 1:
            raise Stop(f"{path} is in Fortran order: numpy.ascontiguousarray gives the other")
        self.dtype = stored.newbyteorder("=")

        def read(start: int, rows: np.ndarray) -> None:
            with open(path, "rb") as file:
                file.seek(offset + start * row_bytes)
                if file.readinto(rows.data.cast("B")) < rows.nbytes:
                    raise OSError("the file ends before its last row")
            if not stored.isnative:
                rows.byteswap(inplace=True)

        self._read = read

    def _open_hdf5(self, path: str, name: str) -> None:
        _check_readable(path)
        # HDF5 is needed only here, and on rank 0 alone unless each rank reads for itself.
        import h5py

        try:
            file = h5py.File(path, "r", rdcc_nbytes=0)
        except BlockingIOError:
            raise Stop(f"{path} is open for writing in another process") from None
        except hdf5.ERRORS as error:
            raise Stop(f"{path} is not a whole HDF5 file: {error}") from None
        try:
            found = hdf5.find(file, name, self.allow_external)
            if not isinstance(found, h5py.Dataset):
                what = "no dataset" if found is None else "a group, not a dataset,"
                names = [f"/{key}" for key in itertools.islice(file, 10)]
                there = ", ".join(each if each.isprintable() else repr(each) for each in names)
                raise Stop(f"{path} holds {what} {name!r}; it holds {there or 'nothing'}")
            self.shape = found.shape
            self.dtype = hdf5.element_type(found.id).newbyteorder("=")
            hdf5.require_stored(found)
            if hdf5.packing(found):
                # Only these need a cache, which can't be had later.
                file.close()
                file = h5py.File(path, "r", rdcc_nbytes=hdf5.CHUNK_BYTES)
                found = hdf5.find(file, name, self.allow_external)
        except hdf5.Elsewhere as error:
            raise Stop(f"in {path} {error}: --allow-external reads it all the same") from None
        except hdf5.ERRORS as error:
            raise Stop(f"{path} cannot be read: {error}") from None

        # Once each, since a chunk may lie in two pieces, and all are read in every repeat.
        require = functools.cache(functools.partial(hdf5.require_chunks, found))

        def read(start: int, rows: np.ndarray) -> None:
            stop = start + len(rows)
            if found.chunks:
                for row in range(start - start % found.chunks[0], stop, found.chunks[0]):
                    require(row)
            found.read_direct(rows, np.s_[start:stop])

        self._read = read


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
        if not Path(path).is_file():
            raise FileNotFoundError(2, "no such file")
        open(path, "rb").close()
    except OSError as error:
        raise Stop(f"cannot read {path}: {error.strerror}") from None
