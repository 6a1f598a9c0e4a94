# shellcheck shell=bash
# What differs from site to site, and the only file to adapt. The other scripts here source it.

# Modules, as the site's documentation says.
# module purge
# module load python/3.12 openmpi/5.0

# The Python environment: .venv of the clone if it has one, else the one that is active.
venv=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv
active=${VIRTUAL_ENV:-${CONDA_DEFAULT_ENV:-base}}
if [ -f "$venv/bin/activate" ]; then
    [ "$active" = base ] || [ "$active" -ef "$venv" ] ||
        echo "slurm/env.sh: taking $venv, not the active environment $active" >&2
    # shellcheck source=/dev/null
    source "$venv/bin/activate"
fi
# Another one, whatever there is:
# source "$HOME/envs/rankwise/bin/activate"
# source "$HOME/miniforge3/bin/activate" rankwise

# How srun starts MPI programs, where each rank is told that it is alone: `srun --mpi=list` shows
# what there is. MPICH, Intel MPI and Cray MPICH want pmi2, Open MPI wants pmix.
# export SLURM_MPI_TYPE=pmi2
# PyPI's MPICH and pmi2: "value not properly terminated", once in hundreds of starts over UCX.
# export MPIR_CVAR_CH4_NETMOD=ofi

# What every submission needs, for scaling_nodes.sh; with sbatch put it into ~/.bashrc.
# export SBATCH_ACCOUNT=project SBATCH_PARTITION=compute
