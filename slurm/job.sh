#!/usr/bin/env bash
# One run of one job, on CPUs or on GPUs:
#   sbatch slurm/job.sh jobs/sum_squares.py --n 1e9
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 slurm/job.sh jobs/sum_squares.py
#   sbatch slurm/job.sh jobs/heat.py --n 8192 --steps 100000 --checkpoint c.h5
#   bash slurm/job.sh jobs/sum_squares.py        # laptop; RANKS=4 for four ranks
# A program that answers USR1 with the status 75 goes back into the queue, and on; so does one whose
# node fails. Jobs without --checkpoint ignore USR1, other programs end at it.

#SBATCH --job-name=job
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4          # ranks of a node; with GPUs, as many as GPUs
#SBATCH --cpus-per-task=1            # cores of a rank
# sbatch refuses --ntasks-per-gpu and --cpus-per-gpu beside these two: say it with them.
#SBATCH --time=00:30:00              # limit; a short one starts sooner
#SBATCH --requeue                    # may be put back
#SBATCH --open-mode=append           # keep the log then
#SBATCH --output=slurm-%x-%j.out     # %x: name of the job, %j: its number
#SBATCH --signal=USR1@120            # to the ranks, so many seconds before the limit
SIGNAL_LEAD=${SIGNAL_LEAD:-120}      # another: SIGNAL_LEAD=600 sbatch --signal=USR1@600 ...

# sbatch runs a copy of this file, far from the clone.
site=$(dirname "$0")/env.sh
[ -f "$site" ] || site=$SLURM_SUBMIT_DIR/slurm/env.sh
if [ ! -f "$site" ]; then
    echo "error: no $site: submit from the clone: cd CLONE && sbatch slurm/job.sh ..." >&2
    exit 2
fi
# shellcheck source=slurm/env.sh
source "$site"
# shellcheck source=slurm/limit.sh
source "${site%env.sh}limit.sh"

[ $# -gt 0 ] || set -- jobs/sum_squares.py
# A Python program, or its -m, is the environment's; any other program starts by itself.
[[ $1 == *.py || $1 == -* ]] && set -- python "$@"
[ -n "$SLURM_JOB_ID" ] || exec mpirun -n "${RANKS:-2}" "$@"
require_time "$SIGNAL_LEAD"
# srun takes over no --cpus-per-task by itself, and hides the other GPUs where a rank asks for one.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
unset SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK SLURM_EXPORT_ENV
# --wait: when one rank has ended, the others have five seconds.
srun --wait=5 "$@"
leave "$?" checkpoint
