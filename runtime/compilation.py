"""Compile a kernel once per node, into a cache that nobody else writes to.

Numba's cache is not safe against writers at the same time: its index is read, changed and written
back without a lock, after which it may name the wrong machine code.
"""

import fcntl
import importlib.metadata
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI


def use_private_cache() -> None:
    """Point Numba's cache to a folder of this user on this node, unless the user has set one.

    A node's own folder, because machine code of one node need not run on another, and because file
    locks work there. Call this before a kernel is imported.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    version = importlib.metadata.version("numba")
    folder = Path(tempfile.gettempdir()) / f"hpc-batch-{os.getuid()}-numba-{version}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    # Numba executes what it finds here: it must not be a folder that someone else prepared.
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not mine or status.st_mode & 0o022:
        folder = Path(tempfile.mkdtemp(prefix="hpc-batch-numba-"))
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)


def warm_up(node: "MPI.Comm", call: Callable[[], None]) -> None:
    """Call a kernel once on every rank, on the node's first rank alone to begin with.

    That rank compiles and fills the cache, and the others load from it. Collective over `node`.

    Parameters
    ----------
    node : MPI.Comm
        The ranks of one node.
    call : callable
        Runs the kernel on a small input of the types it is going to see.
    """
    if node.rank == 0:
        with _locked(os.environ.get("NUMBA_CACHE_DIR")):
            call()
    # MPI waits by spinning, which would take the cores from the rank that compiles.
    barrier = node.Ibarrier()
    while not barrier.Test():
        time.sleep(0.005)
    if node.rank != 0:
        call()


@contextmanager
def _locked(folder: str | None) -> Iterator[None]:
    """Keep other jobs of the same user on this node out of the cache."""
    if folder is None:
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
