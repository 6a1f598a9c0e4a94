# shellcheck shell=bash
# What differs from site to site, and the only file to adapt. The other scripts here source it.

# Modules, as the site's documentation says.
# module purge
# module load python/3.12 openmpi/5.0

# The Python environment: the one that is active, else .venv of the clone, else name one here.
# source "$HOME/envs/rankwise/bin/activate"
# source "$HOME/miniforge3/bin/activate" rankwise
venv=$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate
if [ -z "$VIRTUAL_ENV" ] && [ "${CONDA_DEFAULT_ENV:-base}" = base ] && [ -f "$venv" ]; then
    # shellcheck source=/dev/null
    source "$venv"
fi

# How srun starts MPI programs, where each rank is told that it is alone: `srun --mpi=list` shows
# what there is. MPICH, Intel MPI and Cray MPICH want pmi2, Open MPI wants pmix.
# export SLURM_MPI_TYPE=pmi2
# PyPI's MPICH and pmi2: "value not properly terminated", once in hundreds of starts over UCX.
# export MPIR_CVAR_CH4_NETMOD=ofi

# What every submission needs, for scaling_nodes.sh; with sbatch put it into ~/.bashrc.
# export SBATCH_ACCOUNT=project SBATCH_PARTITION=compute
