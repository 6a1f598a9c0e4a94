"""The cores of this machine, and the hardware threads that share one."""

import functools
from pathlib import Path

from rankwise.ranks.words import numbers


@functools.cache
def hardware_threads(cpu: int) -> tuple[int, ...]:
    """Return the logical CPUs that share a core with ``cpu``, itself among them, in order."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return tuple(numbers(path.read_text()))
    except OSError:
        return (cpu,)
