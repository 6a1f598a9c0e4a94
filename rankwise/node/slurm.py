"""What Slurm says of this process."""

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
