"""Compile a kernel once per node, into a folder that nobody else writes to, if there is one."""

import os
import platform
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rankwise.node import code
from rankwise.ranks.agreement import sleep_until_all

if TYPE_CHECKING:
    from mpi4py import MPI


# What `use_private_folder` has chosen; the variants that keep nothing need not wait for each other.
_folder: Path | None = None
# What a path may lead through, by links: as many as Linux allows.
_MOST_LINKS = 40
# Settings of Numba that make no other machine code.
_NO_MATTER = (
    "CACHE_DIR",
    "CACHE_LOCATOR_CLASSES",
    "NUMBA_DEFAULT_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "THREADING_LAYER",
)


def use_private_folder(node: "MPI.Comm") -> list[str]:
    """Let Numba keep its kernels in `private_folder`, before one is imported. Collective.

    Parameters
    ----------
    node : MPI.Comm
        The ranks of one node.

    Returns
    -------
    list of str
        Why there is none.
    """
    global _folder
    _folder, problem = node.bcast(private_folder() if node.rank == 0 else None)
    # This imports Numba.
    from rankwise.node import kernel_files

    kernel_files.use(_folder)
    return [problem + kernel_files.CURE] if problem else []


def private_folder() -> tuple[Path | None, str]:
    """Make and return a folder for kernels that is private to this user, node, processor and code.

    A node's own, because machine code of one node need not run on another; of its processor,
    because nodes of one name may be several, as in containers. Of this code, because Numba compares
    the file of a kernel only, and would not notice that a constant which the kernel takes from
    elsewhere has changed. In ``NUMBA_CACHE_DIR`` if that is set, else among the temporary files.

    Returns
    -------
    folder : Path or None
        None if there can be none.
    problem : str
        Why.
    """
    folder = Path(os.environ.get("NUMBA_CACHE_DIR", ""))
    try:
        name = f"rankwise-{os.getuid()}-{os.uname().nodename}-{_code_digest()}"
        base = os.environ.get("NUMBA_CACHE_DIR") or tempfile.gettempdir()
        folder = Path(base, name).absolute()
        why = _distrust(folder)
        if not why:
            _make(folder)
            why = _distrust(folder)
    except OSError as error:
        why = error.strerror or str(error)
    return (None, f"cannot keep compiled kernels in {folder}: {why}") if why else (folder, "")


def _make(folder: Path) -> None:
    """Make a folder, and those above it, that are closed to others whatever the umask is."""
    if not folder.is_dir():
        _make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)


def _distrust(folder: Path) -> str:
    """Say why another user may choose what is in a folder; empty if none may, or it is not there.

    What is in it is executed. Who may write to a folder on the way to it may exchange what is in
    that, unless it is sticky as ``/tmp`` is; and who owns it may in any case.
    """
    trusted, links = _trusted(), 0
    here, rest = Path("/"), [*folder.parts[:0:-1]]
    while rest:
        part = rest.pop()
        entry = here.parent if part == ".." else here / part
        try:
            status = entry.lstat()
        except FileNotFoundError:
            return ""
        if status.st_uid not in trusted:
            return f"{entry} belongs to another user"
        if not rest and not stat.S_ISDIR(status.st_mode):
            return f"{entry} is no folder"
        if stat.S_ISLNK(status.st_mode):
            links += 1
            target = Path(os.readlink(entry))
            here = Path("/") if target.is_absolute() else here
            rest += [part for part in target.parts[::-1] if part != "/"]
        elif status.st_mode & 0o022 and not (rest and status.st_mode & stat.S_ISVTX):
            return f"others may write to {entry}"
        else:
            here = entry
        if links > _MOST_LINKS:
            return f"{entry} is a link without an end"
    return ""


def _trusted() -> set[int]:
    """Return the users that may do anything here anyway."""
    trusted = {0, os.geteuid()}
    users = Path("/proc/self/uid_map").read_text().split()
    if users != ["0", "0", "4294967295"]:
        # A container without root: there the true one has the number of those who have none.
        trusted.add(int(Path("/proc/sys/kernel/overflowuid").read_text()))
    return trusted


def _code_digest() -> str:
    """Return a digest of the processor, of the compiler and its settings, and of all kernels."""
    import llvmlite
    import numba

    versions = (platform.python_version(), numba.__version__, llvmlite.__version__)
    # What makes other machine code, or none, on the same processor: any setting may.
    settings = [
        f"{name}={value}"
        for name, value in sorted(vars(numba.config).items())
        if name.isupper() and name not in _NO_MATTER and isinstance(value, str | int | None)
    ]
    sources = code.kernel_files()
    # Numba takes a file for another one if its time has changed, and compiles it again.
    times = [f"{source} {source.stat().st_mtime_ns}" for source in sources]
    return code.digest(sources, *versions, *settings, *_processor(), *times)[:16]


def _processor() -> list[str]:
    """Return what tells a processor from one that may have other instructions."""
    names = ("model", "flags", "Features", "CPU")
    first, _, _ = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")
    return [line for line in first.splitlines() if line.startswith(names)]


def warm_up(node: "MPI.Comm", name: str, call: Callable[[], None]) -> list[str]:
    """Call a kernel once on every rank, so that it is compiled. Collective over `node`.

    Where it has not been kept, the node's first rank compiles and keeps it, and then the others
    load it; else all ranks load at once.

    Parameters
    ----------
    node : MPI.Comm
        The ranks of one node.
    name : str
        Of the kernel and of the types it is going to see.
    call : callable
        Runs the kernel on a small input of these types.

    Returns
    -------
    list of str
        What to warn of.
    """
    if _folder is None:
        call()
        return []
    from rankwise.node import kernel_files

    # Beside the compiled kernels: whoever removes them removes it.
    compiled = _folder / f"{name}.compiled"
    if node.bcast(compiled.exists()):
        call()
    else:
        if node.rank == 0:
            call()
            # Also if it could not be kept: that all compile at once takes the least time then.
            with suppress(OSError):
                compiled.touch()
        sleep_until_all(node)
        if node.rank != 0:
            call()
    problems = list(kernel_files.problems)
    kernel_files.problems.clear()
    return problems
