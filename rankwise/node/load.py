"""How busy this machine is with something else."""

import os
import time


def busy_cores() -> float:
    """Return how many cores of this machine are busy while this process sleeps for 0.2 s."""

    def ticks() -> tuple[int, int]:
        with open("/proc/stat") as file:
            # user nice system idle iowait irq softirq steal: see proc_stat(5).
            fields = list(map(int, file.readline().split()[1:9]))
        return sum(fields), fields[3] + fields[4]

    before = ticks()
    time.sleep(0.2)
    total, idle = (after - first for after, first in zip(ticks(), before, strict=True))
    return (os.cpu_count() or 1) * (total - idle) / total if total else 0.0
