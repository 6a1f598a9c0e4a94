"""Read an input array in pieces, from HDF5 or from NumPy's own format."""

from pathlib import Path
from typing import Any

import numpy as np

from runtime.program import Stop


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

    def __init__(self, where: str, ndim: int, dtypes: tuple[Any, ...]) -> None:
        self.where = where
        self._array = _open_npy(where) if where.endswith(".npy") else _open_hdf5(where)
        self.shape = self._array.shape
        self.dtype = self._array.dtype.newbyteorder("=")
        if self.dtype not in dtypes:
            wanted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
            raise Stop(f"{where} has elements of type {self.dtype}: {wanted} is needed")
        if self.shape is None or len(self.shape) != ndim:
            raise Stop(f"{where} has the shape {self.shape}: {ndim} dimension(s) are needed")

    def read(self, start: int, rows: np.ndarray) -> None:
        """Fill ``rows`` with the rows from ``start`` on.

        Raises
        ------
        Stop
            The file is damaged there.
        """
        if len(rows) == 0:
            return
        try:
            part = np.s_[start : start + len(rows)]
            if isinstance(self._array, np.ndarray):
                rows[...] = self._array[part]
            else:
                self._array.read_direct(rows, part)
        except OSError as error:
            raise Stop(f"cannot read {self.where} at row {start}: {error}") from None


def _open_npy(path: str) -> np.ndarray:
    _check_readable(path)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise Stop(f"{path} is not a whole .npy file of numbers: {error}") from None


def _open_hdf5(where: str) -> Any:
    path, colon, name = where.rpartition(":")
    if not colon or not name.strip("/"):
        raise Stop(f"--input {where}: FILE.h5:/dataset or FILE.npy is needed")
    _check_readable(path)
    # HDF5 is needed on rank 0 alone, and only here.
    import h5py

    try:
        found = h5py.File(path, "r").get(name)
    except OSError as error:
        raise Stop(f"{path} is not a whole HDF5 file: {error}") from None
    if not isinstance(found, h5py.Dataset):
        what = "no dataset" if found is None else "a group, not a dataset,"
        raise Stop(f"{path} holds {what} {name!r}")
    return found


def _check_readable(path: str) -> None:
    try:
        if not Path(path).is_file():
            raise FileNotFoundError(2, "no such file")
        open(path, "rb").close()
    except OSError as error:
        raise Stop(f"cannot read {path}: {error.strerror}") from None
