"""What the control groups of this process let it have: see cgroups(7).

A container, or a batch system, may give less than the machine has, and nothing else tells.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
# The identity of a group, device and inode of its folder, whatever it is called in a container.
Group = tuple[int, int]


def memory_limits(root: Path = _ROOT, own: Path = _OWN) -> Iterator[int]:
    """Yield the limits that the groups of this process set to its memory [bytes].

    A job that goes beyond its own, which Slurm sets, is killed.
    """
    for version, folder in _folders("memory", root, own):
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        with suppress(OSError, ValueError):
            # "max" is no number.
            yield int((folder / name).read_text())


def cpu_quotas(root: Path = _ROOT, own: Path = _OWN) -> dict[Group, float]:
    """Return how many cores' time the groups of this process have, each for all that are in it.

    A group that has used its share of a period, a tenth of a second as a rule, stands still until
    the next one begins [1]_, [2]_. Groups without such a limit are left out.

    References
    ----------
    .. [1] CFS Bandwidth Control, https://docs.kernel.org/scheduler/sched-bwc.html
    .. [2] Control Group v2, cpu.max, https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    quotas = {}
    for version, folder in _folders("cpu", root, own):
        with suppress(OSError, ValueError):
            if version == 2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                quota, period = ((folder / name).read_text() for name in names)
            # Without a limit it is "max" in version 2, and -1 in version 1.
            if (cores := int(quota) / int(period)) > 0:
                status = folder.stat()
                quotas[status.st_dev, status.st_ino] = cores
    return quotas


def _folders(controller: str, root: Path, own: Path) -> Iterator[tuple[int, Path]]:
    """Yield the version and the folder of each group of this process, the innermost first.

    A container may see its own group in the place of the root, though it is told another name.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            # Version 2 has one tree for all controllers.
            version, tree = 2, root
        elif controller in controllers.split(","):
            version, tree = 1, root / controller
        else:
            continue
        group = Path(path.strip("/"))
        for each in (group, *group.parents):
            yield version, tree / each
