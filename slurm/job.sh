#!/usr/bin/env bash
# One run of one job, on CPUs or on GPUs:
#   sbatch slurm/job.sh jobs/sum_squares.py --n 1e9
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 slurm/job.sh jobs/sum_squares.py
#   sbatch slurm/job.sh jobs/heat.py --n 8192 --steps 100000 --checkpoint c.h5
#   bash slurm/job.sh jobs/sum_squares.py        # laptop; RANKS=4 for four ranks
# A program that answers USR1 with a new --checkpoint FILE and status 75 goes back into the queue, and
# on from the file; so does one whose node fails. Other jobs ignore USR1, other programs end at it.

#SBATCH --job-name=job
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4          # ranks of a node; with GPUs, as many as GPUs
#SBATCH --cpus-per-task=1            # cores of a rank
#SBATCH --time=00:30:00              # limit; a short one starts sooner
#SBATCH --signal=USR1@120            # to the ranks, two minutes before the limit
#SBATCH --requeue                    # may be put back
#SBATCH --open-mode=append           # keep the log then
#SBATCH --output=slurm-%x-%j.out     # %x: name of the job, %j: its number

# sbatch runs a copy of this file, far from the clone.
site=$(dirname "$0")/env.sh
[ -f "$site" ] || site=$SLURM_SUBMIT_DIR/slurm/env.sh
if [ ! -f "$site" ]; then
    echo "error: no $site: submit from the clone: cd CLONE && sbatch slurm/job.sh ..." >&2
    exit 2
fi
# shellcheck source=slurm/env.sh
source "$site"

[ $# -gt 0 ] || set -- jobs/sum_squares.py
# A Python program, or its -m, is the environment's; any other program starts by itself.
[[ $1 == *.py || $1 == -* ]] && set -- python "$@"
[ -n "$SLURM_JOB_ID" ] || exec mpirun -n "${RANKS:-2}" "$@"
# srun takes over no --cpus-per-task by itself, and hides the other GPUs where a rank asks for one.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
unset SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK SLURM_EXPORT_ENV
# Which file the program goes on from: if it is the same as before, nothing was gained.
checkpoint=$(printf '%s\n' "$@" | sed --quiet 's/^--checkpoint=//p; /^--checkpoint$/{n;p;}')
state() { stat --dereference --format='%i %y' "$checkpoint" 2> /dev/null; }
before=$(state)
# --wait: when one rank has ended, the others have five seconds.
srun --wait=5 "$@"
status=$?
# 75 alone, try again, is put back: a job that was cancelled stays so.
[ "$status" = 75 ] || exit "$status"
# In an array the number of the job may mean all of it.
job=${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
[ "$(state)" != "$before" ] && exec scontrol requeue "${job:-$SLURM_JOB_ID}"
echo "error: status 75 without a new --checkpoint: no progress, so it is not put back" >&2
exit 1
