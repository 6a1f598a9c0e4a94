"""What Slurm says of this process, and how it and Linux write lists of numbers."""

import os

# Named one by one: records and sweeps are shared with others, and an environment holds secrets.
_SLURM = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_PARTITION",
    "SLURM_RESTART_COUNT",
)


def slurm_ids() -> dict[str, str]:
    """Return what Slurm calls this run, as far as it does."""
    return {name: os.environ[name] for name in _SLURM if name in os.environ}


def ranges(numbers: tuple[int, ...]) -> str:
    """Write increasing numbers the way Slurm does: ``0-3,8``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def numbers(text: str) -> list[int]:
    """Read what `ranges` writes: ``0-3,8`` is 0, 1, 2, 3, 8."""
    ends = [part.partition("-") for part in text.split(",")]
    return [n for first, _, last in ends for n in range(int(first), int(last or first) + 1)]
