"""Shared memory that killed runs have left on a node, where it takes space until a reboot."""

import os
import time
from contextlib import suppress
from pathlib import Path

# The first namespace of process numbers: PROC_PID_INIT_INO of Linux, include/linux/proc_ns.h.
_WHOLE_SYSTEM = f"pid:[{0xEFFFFFFC}]"
# Of MPICH, UCX, Open MPI and `rankwise.data.window`.
_NAMES = ("rankwise-*", "mpich_shm_*", "ucx_shm_posix_*", "sm_segment.*", "vader_segment.*")
# How long a start may wait for this. What is left does no harm until memory is short, and the next
# start tries again.
_SECONDS = 0.2
# Segments with their devices and inodes, as `_key` returns them.
Segments = dict[Path, bytes]


def remove_stale(folder: Path = Path("/dev/shm")) -> None:
    """Remove the segments of MPI libraries and jobs that are this user's and in no process's use.

    Nothing where this process does not see all others, as in a container, or where this user has
    more of them than can be looked at in a moment.

    Parameters
    ----------
    folder : Path
        Where the system keeps them.
    """
    # In a container /dev/shm may be that of the node, on which most processes can't be seen.
    if os.readlink("/proc/self/ns/pid") != _WHOLE_SYSTEM:
        return
    every = {path: key for name in _NAMES for path in folder.glob(name) if (key := _key(path))}
    # As a rule there are those of this run alone, and no other process need be looked at.
    found = _not_mapped(every, "self")
    end = time.monotonic() + _SECONDS
    mine = [number for number in os.listdir("/proc") if _is_mine(number)] if found else []
    # In this order: who makes a segment has it open until it is mapped.
    for left_by in (_not_opened, _not_mapped):
        for number in mine:
            if not found or time.monotonic() > end:
                return
            found = left_by(found, number)
    for path, key in found.items():
        # Again: the name may have been given to another one meanwhile.
        if _key(path) == key:
            with suppress(OSError):
                path.unlink()


def _key(path: Path) -> bytes | None:
    """Return device and inode of a file of this user that is closed to others.

    As they are in the list of what a process has mapped: see proc_pid_maps(5).
    """
    with suppress(OSError):
        status = path.stat()
        if status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            device = status.st_dev
            return b" %02x:%02x %d " % (os.major(device), os.minor(device), status.st_ino)
    return None


def _is_mine(number: str) -> bool:
    with suppress(OSError):
        return number.isdecimal() and os.stat(f"/proc/{number}").st_uid == os.geteuid()
    return False


def _not_opened(found: Segments, number: str) -> Segments:
    """Return those that a process has not open.

    Not looked at themselves: one on a server that does not answer would hold up this process.
    """
    names: set[str] = set()
    with suppress(OSError):
        for handle in os.listdir(f"/proc/{number}/fd"):
            with suppress(OSError):
                names.add(os.path.basename(os.readlink(f"/proc/{number}/fd/{handle}")))
    return {path: key for path, key in found.items() if path.name not in names}


def _not_mapped(found: Segments, number: str) -> Segments:
    """Return those that a process has not mapped."""
    # It ends meanwhile, or keeps them to itself, as agents that hold keys do, and no rank does.
    with suppress(OSError), open(f"/proc/{number}/maps", "rb") as file:
        maps = file.read()
        return {path: key for path, key in found.items() if key not in maps}
    return found
