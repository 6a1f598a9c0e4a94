"""Read an input array in pieces, from HDF5 or from NumPy's own format."""

import argparse
import tokenize
from pathlib import Path
from typing import Any

import numpy as np

from runtime import hdf5
from runtime.program import Stop

# Largest packed chunk of a dataset that is read, and size of the memory that keeps one.
CHUNK_BYTES = 64 * 2**20

# What NumPy raises where a header is damaged, which it takes for Python.
_NPY_ERRORS = (*hdf5.ERRORS, EOFError, SyntaxError, tokenize.TokenError)


def add_options(parser: argparse.ArgumentParser, source: Any, meaning: str) -> None:
    """Add ``--input`` to a group of options, and what belongs to it to the parser.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    source : group of its options
        One of them can be given.
    meaning : str
        What the array is, and what it must be like.
    """
    source.add_argument("--input", metavar="FILE", help=f"FILE.h5:/dataset or FILE.npy, {meaning}")
    meaning = "let the --input refer to other files (external links, virtual datasets)"
    parser.add_argument("--allow-external", action="store_true", help=meaning)


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
            raise Stop(f"{where} has elements of type {self.dtype}: {wanted} is needed")
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
            for index in np.argwhere(~(np.abs(rows) <= self.largest))[:1].tolist():
                value, place = rows[tuple(index)], (start + index[0], *index[1:])
                raise Stop(f"element {place} of {self.where} is {value}: a number is needed, up to "
                           f"{self.largest:g}")  # fmt: skip

    def _open_npy(self, path: str) -> None:
        _check_readable(path)
        try:
            # Mapped for its header only: mapped data would count as memory of this process.
            array = np.lib.format.open_memmap(path, mode="r")
        except _NPY_ERRORS as error:
            raise Stop(f"{path} is not a whole .npy file of numbers: {error}") from None
        if not array.flags.c_contiguous:
            raise Stop(f"{path} is in Fortran order: numpy.ascontiguousarray gives the other")
        self.shape, stored = array.shape, array.dtype
        self.dtype = stored.newbyteorder("=")
        offset, row_bytes = array.offset, int(np.prod(array.shape[1:])) * stored.itemsize

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
        # HDF5 is needed on rank 0 alone, and only here.
        import h5py

        try:
            file = h5py.File(path, "r", rdcc_nbytes=CHUNK_BYTES)
        except BlockingIOError:
            raise Stop(f"{path} is open for writing in another process") from None
        except hdf5.ERRORS as error:
            raise Stop(f"{path} is not a whole HDF5 file: {error}") from None
        try:
            found = hdf5.find(file, name, self.allow_external)
            if not isinstance(found, h5py.Dataset):
                what = "no dataset" if found is None else "a group, not a dataset,"
                names = [f"/{key}" for key in list(file)[:10]]
                there = ", ".join(each if each.isprintable() else repr(each) for each in names)
                raise Stop(f"{path} holds {what} {name!r}; it holds {there or 'nothing'}")
            self.shape = found.shape
            self.dtype = found.dtype.newbyteorder("=")
            self._require_small_chunks(found)
            hdf5.require_stored(found)
        except hdf5.Elsewhere as error:
            raise Stop(f"in {path} {error}: --allow-external reads it all the same") from None
        except hdf5.ERRORS as error:
            raise Stop(f"{path} cannot be read: {error}") from None

        def read(start: int, rows: np.ndarray) -> None:
            found.read_direct(rows, np.s_[start : start + len(rows)])

        self._read = read

    def _require_small_chunks(self, found: Any) -> None:
        chunk_bytes = int(np.prod(found.chunks or 0)) * found.dtype.itemsize
        # A packed chunk is unpacked whole, twice its size in memory, however little is read of it.
        if chunk_bytes > CHUNK_BYTES and found.id.get_create_plist().get_nfilters():
            raise Stop(
                f"{self.where} has packed chunks of {chunk_bytes / 2**20:.0f} MiB, and "
                f"{CHUNK_BYTES // 2**20} MiB is the most: h5repack --layout makes smaller ones"
            )


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
