"""Files that are complete or absent, and never replace another unasked.

A file is built in memory, written under a temporary name beside its place, brought to the disk and
then given its own name.
"""

import errno
import fcntl
import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rankwise.ranks import signals
from rankwise.ranks.agreement import Stop

# The least that HDF5 leaves to others at the beginning of a file.
HEADER_BYTES = 512


def require_writable(
    path: Path, force: bool, kind: str, is_one: Callable[[Path], bool], option: str = "--output"
) -> None:
    """Make sure that a file can be created at ``path``, and remove what killed runs left there.

    Parameters
    ----------
    path : Path
    force : bool
        Whether a file of that name may be replaced, if it is of the same kind.
    kind : str
        What it is, for the message.
    is_one : callable
        Tells whether a file that exists is of that kind.
    option : str
        What names the path on the command line, for the message.

    Raises
    ------
    Stop
        The file exists, is a folder, its folder is missing, or the file system refuses.
    """
    try:
        if path.is_dir():
            raise Stop(f"{option} {path} is a folder")
        if path.exists() and not force:
            raise Stop(f"{option} {path} exists; --force replaces a {kind}")
        if path.exists() and not is_one(path):
            raise Stop(f"{option} {path} is not a {kind}, and --force replaces nothing else")
        if not path.parent.is_dir():
            raise Stop(f"{option} {path}: there is no folder {path.parent}")
        remove_stale(path.parent)
        temporary, handle = _create_temporary(path)
        temporary.unlink(missing_ok=True)
        os.close(handle)
    except OSError as error:
        raise Stop(f"cannot write to {path.parent}: {error.strerror}") from None


def remove_temporaries(folder: Path, pattern: str) -> None:
    """Remove what other runs are writing, or were, to give it a name that matches in the end."""
    for temporary in folder.glob(f".{pattern}.[0-9]*-[0-9]*.record-tmp"):
        with suppress(OSError):
            temporary.unlink()


def hdf5_image(
    fill: Callable[[Any], None], header: Callable[[memoryview], bytes] | None = None
) -> memoryview:
    """Return the bytes of an HDF5 file.

    In memory, since HDF5 does not survive a disk that fills up while it writes.

    Parameters
    ----------
    fill : callable
        ``fill(file)`` puts the content into an open `h5py.File`.
    header : callable
        ``header(rest)`` returns the first `HEADER_BYTES`, which HDF5 leaves to others, from all
        bytes that follow.
    """
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w", userblock_size=HEADER_BYTES if header else 0) as file:
        fill(file)
    if header:
        with image.getbuffer() as whole, whole[HEADER_BYTES:] as rest:
            whole[:HEADER_BYTES] = header(rest)
    # No copy. No view of `image`: from Python 3.13 on it must not be freed before its views.
    return memoryview(image.getvalue())


def write(
    path: Path, image: memoryview, force: bool, amend: Callable[[int], None] | None = None
) -> Path:
    """Write a file, complete or not at all.

    Parameters
    ----------
    path : Path
    image : memoryview
        Its bytes.
    force : bool
        Whether a file of that name may be replaced.
    amend : callable, optional
        ``amend(handle)`` is called when all bytes are on the disk, and may change some.

    Returns
    -------
    Path
        Where the file is. Another name than ``path`` if ``path`` exists and may not be replaced, so
        that neither is lost.

    Raises
    ------
    OSError
        The file system failed; no file is left behind.
    """
    temporary, handle = _create_temporary(path)
    try:
        with signals.undone(temporary.unlink):
            rest = image
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
            if amend is not None:
                amend(handle)
                os.fsync(handle)
            path = _publish(temporary, path, force)
    finally:
        # With its lock, for which HDF5 would not let anybody read the file.
        os.close(handle)
        temporary.unlink(missing_ok=True)
    # Not every file system can; the file itself is on the disk.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return path


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
    return path


def _create_temporary(path: Path) -> tuple[Path, int]:
    """Create an empty file beside ``path``, locked for as long as this process lives."""
    while True:
        stamp = f"{os.getpid()}-{time.time_ns()}"
        temporary = path.parent / f".{path.name}.{stamp}.{os.uname().nodename}.record-tmp"
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        # Without locks on this file system `remove_stale` cannot lock either, and lets it be.
        with suppress(OSError):
            # Who holds it already is a `remove_stale` about to unlink the file: wait, and see.
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return temporary, handle
        # `remove_stale` of another run came between the two.
        os.close(handle)


def remove_stale(folder: Path) -> None:
    """Remove what killed runs have left in ``folder``: files whose lock died with its holder.

    Only those of this node: on some file systems a node does not see the locks of another.
    """
    for temporary in folder.glob(f".*.{os.uname().nodename}.record-tmp"):
        with suppress(OSError):
            # Where others can write, it may be a link to another file, or a named pipe.
            handle = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink(missing_ok=True)
            finally:
                os.close(handle)
