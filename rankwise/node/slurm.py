"""What Slurm says of this process, its job and its nodes."""

import os
import re
import subprocess

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


def known(kind: str, name: str) -> list[dict[str, str]]:
    """Return what Slurm knows of a job or of nodes: a dictionary for each; none if it is silent.

    Parameters
    ----------
    kind : str
        ``job`` or ``node``.
    name : str
        A number or a list of names; empty gives nothing.
    """
    if not name:
        return []
    words = ["scontrol", "--oneliner", "show", kind, name]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if "=" in line]
