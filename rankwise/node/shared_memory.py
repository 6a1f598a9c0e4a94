"""Shared memory that killed runs have left on a node, where it takes space until a reboot."""

import os
from contextlib import suppress
from pathlib import Path

# The first namespace of process numbers: PROC_PID_INIT_INO of Linux, include/linux/proc_ns.h.
_WHOLE_SYSTEM = f"pid:[{0xEFFFFFFC}]"
# Of MPICH, UCX, Open MPI and `rankwise.data.window`.
_NAMES = ("rankwise-*", "mpich_shm_*", "ucx_shm_posix_*", "sm_segment.*", "vader_segment.*")


def remove_stale(folder: Path = Path("/dev/shm")) -> None:
    """Remove the segments of MPI libraries and jobs that are this user's and in no process's use.

    Nothing where this process does not see all others, as in a container.

    Parameters
    ----------
    folder : Path
        Where the system keeps them.
    """
    # In a container /dev/shm may be that of the node, on which most processes can't be seen.
    if os.readlink("/proc/self/ns/pid") != _WHOLE_SYSTEM:
        return
    found = {path: key for name in _NAMES for path in folder.glob(name) if (key := _key(path))}
    if not found or not set(found.values()) - _mapped_by(Path("/proc/self")):
        return
    mine = [each for each in Path("/proc").glob("[0-9]*") if _is_mine(each)]
    # In this order: who makes a segment has it open until it is mapped.
    opened = set().union(*map(_opened_by, mine))
    mapped = set().union(*map(_mapped_by, mine))
    for path, key in found.items():
        # Again: the name may have been given to another one meanwhile.
        if path.name not in opened and key not in mapped and _key(path) == key:
            with suppress(OSError):
                path.unlink()


def _key(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file of this user that is closed to others."""
    with suppress(OSError):
        status = path.stat()
        if status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return status.st_dev, status.st_ino
    return None


def _is_mine(process: Path) -> bool:
    with suppress(OSError):
        return process.stat().st_uid == os.geteuid()
    return False


def _opened_by(process: Path) -> set[str]:
    """Return the names of the files that a process has open.

    Not looked at themselves: one on a server that does not answer would hold up this process.
    """
    names: set[str] = set()
    with suppress(OSError):
        for handle in (process / "fd").iterdir():
            with suppress(OSError):
                names.add(os.path.basename(os.readlink(handle)))
    return names


def _mapped_by(process: Path) -> set[tuple[int, int]]:
    """Return device and inode of the files that a process has mapped."""
    mapped = set()
    # It ends meanwhile, or keeps them to itself, as agents that hold keys do, and no rank does.
    with suppress(OSError):
        for line in (process / "maps").read_text(errors="replace").splitlines():
            # Address, permissions, offset, device, inode, path: see proc_pid_maps(5).
            device, inode = line.split(maxsplit=5)[3:5]
            major, minor = (int(part, 16) for part in device.split(":"))
            mapped.add((os.makedev(major, minor), int(inode)))
    return mapped
