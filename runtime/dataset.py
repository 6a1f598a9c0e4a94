"""Read an input array in pieces, from HDF5 or from NumPy's own format."""

from pathlib import Path
from typing import Any

import numpy as np

from runtime.program import Stop

# Largest packed chunk of a dataset that is read, and size of the memory that keeps one.
CHUNK_BYTES = 64 * 2**20


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
        self, where: str, ndim: int, dtypes: tuple[Any, ...], largest: float | None = None
    ) -> None:
        self.where, self.largest = where, largest
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
        except OSError as error:
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
        except (ValueError, EOFError, OSError) as error:
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
            found = file.get(name)
        except BlockingIOError:
            raise Stop(f"{path} is open for writing in another process") from None
        except OSError as error:
            raise Stop(f"{path} is not a whole HDF5 file: {error}") from None
        if not isinstance(found, h5py.Dataset):
            what = "no dataset" if found is None else "a group, not a dataset,"
            there = ", ".join(f"/{key}" for key in list(file)[:10])
            raise Stop(f"{path} holds {what} {name!r}; it holds {there or 'nothing'}")
        self.shape = found.shape
        self.dtype = found.dtype.newbyteorder("=")
        chunk_bytes = int(np.prod(found.chunks or 0)) * found.dtype.itemsize
        # A packed chunk is unpacked whole, twice its size in memory, however little is read of it.
        if chunk_bytes > CHUNK_BYTES and found.id.get_create_plist().get_nfilters():
            raise Stop(
                f"{self.where} has packed chunks of {chunk_bytes / 2**20:.0f} MiB, and "
                f"{CHUNK_BYTES // 2**20} MiB is the most: h5repack --layout makes smaller ones"
            )

        def read(start: int, rows: np.ndarray) -> None:
            found.read_direct(rows, np.s_[start : start + len(rows)])

        self._read = read


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
