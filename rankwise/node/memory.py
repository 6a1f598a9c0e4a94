"""How much memory this process has taken, and how much it may have."""

from rankwise.node import groups


def available() -> int:
    """Return how much memory this machine has to spare, or this job may have at most [bytes]."""
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":") for line in file)
    return min([1024 * int(fields["MemAvailable"].split()[0]), *groups.memory_limits()])


def peak() -> int:
    """Return the largest resident size of this process so far [bytes].

    Not from `getrusage`, whose figure begins with that of the process that started this one.
    """
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def counted_by_others() -> int:
    """Return how much of the shared memory of this process is that of the others [bytes].

    The kernel divides each page among the processes that have it: see proc_pid_smaps(5).
    """
    fields: dict[str, int] = {}
    for path in ("/proc/self/status", "/proc/self/smaps_rollup"):
        try:
            with open(path) as file:
                lines = [
                    line.split() for line in file if line.startswith(("RssShmem", "Pss_Shmem"))
                ]
        except OSError:
            # It may be hidden; old kernels lack the field.
            continue
        fields |= {line[0]: 1024 * int(line[1]) for line in lines}
    return fields["RssShmem:"] - fields["Pss_Shmem:"] if len(fields) == 2 else 0
