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


def inside() -> bool:
    """Return whether this process is in a job of Slurm. Of a variable without a value it is not."""
    return bool(os.environ.get("SLURM_JOB_ID"))


def slurm_ids() -> dict[str, str]:
    """Return what Slurm calls this run, as far as it does."""
    return {name: os.environ[name] for name in _SLURM if name in os.environ}


def own_job() -> dict[str, str]:
    """Return what Slurm knows of the job that this process is in; nothing if it is silent."""
    # In an array the number of a job may mean all of it.
    job, task = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_ARRAY_TASK_ID")
    if task:
        job = f"{os.environ.get('SLURM_ARRAY_JOB_ID') or job}_{task}"
    return next(iter(known("job", job)), {})


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
    # Of the same name the first: what follows may be the user's, in the command of the job.
    pairs = (re.findall(r"(\S+?)=(\S*)", line)[::-1] for line in lines if "=" in line)
    return [dict(each) for each in pairs]
