"""Compile a kernel once per node, into a cache that nobody else writes to.

Numba's cache is not safe against writers at the same time: its index is read, changed and written
back without a lock, after which it may name the wrong machine code.
"""

import fcntl
import os
import platform
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rankwise.node import code
from rankwise.ranks.agreement import sleep_until_all

if TYPE_CHECKING:
    from mpi4py import MPI


# What `use_private_cache` has chosen; the variants that have no such cache need no lock.
_folder: str | None = None
# How long a job waits for another one before it says so.
_TELL_SECONDS = 5.0


def use_private_cache(node: "MPI.Comm") -> None:
    """Point Numba's cache to `private_folder`, before a kernel is imported. Collective over `node`.

    Parameters
    ----------
    node : MPI.Comm
        The ranks of one node.
    """
    global _folder
    folder = _folder = node.bcast(private_folder() if node.rank == 0 else None)
    os.environ["NUMBA_CACHE_DIR"] = folder
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = folder


def private_folder() -> str:
    """Make and return a cache folder that is private to this user, node, processor and code.

    A node's own, because machine code of one node need not run on another, and because file locks
    work there; of its processor, because nodes of one name may be several, as in containers. Of
    this code, because Numba compares the file of a kernel only, and would not notice
    that a constant which the kernel takes from elsewhere has changed. In ``NUMBA_CACHE_DIR`` if
    that is set, else among the temporary files.
    """
    name = f"rankwise-{os.getuid()}-{os.uname().nodename}-{_code_digest()}"
    base = Path(os.environ.get("NUMBA_CACHE_DIR", tempfile.gettempdir()))
    folder = base if base.name == name else base / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return tempfile.mkdtemp(prefix="rankwise-numba-")
    # Numba executes what it finds here: it must not be a folder that someone else prepared.
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not mine or status.st_mode & 0o022:
        return tempfile.mkdtemp(prefix="rankwise-numba-")
    return str(folder)


def _code_digest() -> str:
    """Return a digest of the processor, of the versions of the compiler and of all kernels."""
    import llvmlite
    import numba

    versions = (platform.python_version(), numba.__version__, llvmlite.__version__)
    # What makes other machine code, or none, on the same processor.
    names = ("CPU_NAME", "CPU_FEATURES", "ENABLE_AVX", "DISABLE_JIT")
    wished = [str(getattr(numba.config, name)) for name in names]
    sources = code.kernel_files()
    # Numba takes a file for another one if its time has changed, and compiles it again.
    times = [f"{source} {source.stat().st_mtime_ns}" for source in sources]
    return code.digest(sources, *versions, *wished, *_processor(), *times)[:16]


def _processor() -> list[str]:
    """Return what tells a processor from one that may have other instructions."""
    names = ("model", "flags", "Features", "CPU")
    first, _, _ = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")
    return [line for line in first.splitlines() if line.startswith(names)]


def warm_up(node: "MPI.Comm", name: str, call: Callable[[], None]) -> None:
    """Call a kernel once on every rank, so that it is compiled. Collective over `node`.

    Where the cache does not have it, the node's first rank compiles and fills the cache, and then
    the others load from it; else all ranks load at once.

    Parameters
    ----------
    node : MPI.Comm
        The ranks of one node.
    name : str
        Of the kernel and of the types it is going to see.
    call : callable
        Runs the kernel on a small input of these types.
    """
    # Beside the compiled kernels: whoever removes them removes it.
    compiled = Path(_folder or "", f"{name}.compiled")
    if node.bcast(_folder is None or compiled.exists()):
        call()
        return
    if node.rank == 0:
        with _locked(compiled.parent):
            call()
        compiled.touch()
    sleep_until_all(node)
    if node.rank != 0:
        call()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other jobs of the same user on this node out of the cache."""
    with open(folder / "lock", "w") as lock:
        begin, told = time.monotonic(), False
        while not _acquire(lock):
            if time.monotonic() - begin > _TELL_SECONDS and not told:
                print(f"waiting for the job that compiles into {folder}", file=sys.stderr)
                told = True
            time.sleep(0.05)
        yield


def _acquire(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # No locks on this file system: the ranks of this job are still in order.
        pass
    return True
