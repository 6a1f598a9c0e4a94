#!/usr/bin/env bash
# Strong and weak scaling of a job, and a report:
#   sbatch slurm/scaling.sh jobs/sum_squares.py --n 1e9
#   sbatch --nodes=2 --gpus-per-node=4 slurm/scaling.sh jobs/sum_squares.py     # one rank a GPU
#   sbatch slurm/scaling.sh --mode strong --ranks 1..64 -- ./any_mpi_program    # options of it
#   bash slurm/scaling.sh                                                       # laptop
# When it was interrupted, the same command goes on where it was; at its time limit by itself.

#SBATCH --job-name=scaling
#SBATCH --nodes=1
#SBATCH --exclusive                  # all cores of the nodes, and no neighbours in the timings
#SBATCH --mem=0                      # all memory of the nodes; for --mem-per-cpu delete this line
#SBATCH --time=02:00:00              # limit
#SBATCH --requeue                    # may be put back
#SBATCH --open-mode=append           # keep the log then
#SBATCH --output=slurm-%x-%j.out     # %x: name of the job, %j: its number
#SBATCH --signal=B:USR1@120          # to this script, so many seconds before the limit
SIGNAL_LEAD=${SIGNAL_LEAD:-120}      # another: SIGNAL_LEAD=600 sbatch --signal=B:USR1@600 ...

# sbatch runs a copy of this file, far from the clone.
site=$(dirname "$0")/env.sh
[ -f "$site" ] || site=$SLURM_SUBMIT_DIR/slurm/env.sh
if [ ! -f "$site" ]; then
    echo "error: no $site: submit from the clone: cd CLONE && sbatch slurm/scaling.sh ..." >&2
    exit 2
fi
# shellcheck source=slurm/env.sh
source "$site"
# shellcheck source=slurm/limit.sh
source "${site%env.sh}limit.sh"

sweep=()
# Not SLURM_GPUS_ON_NODE: an exclusive node comes with its GPUs, asked for or not.
[ -n "$SLURM_JOB_ID" ] && scontrol show job "$SLURM_JOB_ID" | grep --quiet 'TresPer.*gpu' &&
    sweep+=(--gpus-per-rank 1)
# Where the first word is no job, all up to -- are for the sweep.
[[ $1 != -* ]] || while [ $# -gt 0 ] && [ "$1" != -- ]; do sweep+=("$1"); shift; done
[ "$1" != -- ] || shift
set -- python -m rankwise sweep --report "${sweep[@]}" -- "${@:-jobs/sum_squares.py}"
[ -n "$SLURM_JOB_ID" ] || exec "$@"
require_time "$SIGNAL_LEAD"
"$@" &
trap 'kill -USR1 $!' USR1; trap 'kill -TERM $!' HUP INT TERM
# A signal ends a wait, not the sweep: its status comes from a wait that nothing ended.
while kill -0 $!; do wait $!; done 2> /dev/null
wait $!
leave "$?" sweep
