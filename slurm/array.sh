#!/usr/bin/env bash
# A job array: one run for each line of a file, which holds options of that run:
#   sbatch --array=1-"$(grep --count '' params.txt)" slurm/array.sh params.txt jobs/sum_squares.py
#   SLURM_ARRAY_TASK_ID=1 bash slurm/array.sh params.txt jobs/sum_squares.py      # laptop, line 1
# Each line with a --checkpoint names a file of its own.
# Quotes and backslashes keep words together as in a shell; nothing else in a line is special.

#SBATCH --job-name=array
#SBATCH --nodes=1                    # of each run, as are all below
#SBATCH --ntasks-per-node=4          # ranks of a node; with GPUs, as many as GPUs
#SBATCH --cpus-per-task=1            # cores of a rank
# sbatch refuses --ntasks-per-gpu and --cpus-per-gpu beside these two: say it with them.
#SBATCH --time=00:30:00              # limit; a short one starts sooner
#SBATCH --requeue                    # may be put back
#SBATCH --open-mode=append           # keep the log then
#SBATCH --output=slurm-%x-%A-%a.out  # %x: name of the job, %A: its number, %a: the line
#SBATCH --signal=USR1@120            # to the ranks, so many seconds before the limit, see job.sh
export SIGNAL_LEAD=${SIGNAL_LEAD:-120}

# sbatch runs a copy of this file, far from the clone.
job=$(dirname "$0")/job.sh
[ -f "$job" ] || job=$SLURM_SUBMIT_DIR/slurm/job.sh
if [ ! -f "$job" ]; then
    echo "error: no $job: submit from the clone: cd CLONE && sbatch ... slurm/array.sh ..." >&2
    exit 2
fi
if [ $# -lt 2 ] || [ -z "$SLURM_ARRAY_TASK_ID" ]; then
    echo "usage: sbatch --array=1-LINES slurm/array.sh FILE JOB.py [options of all runs]" >&2
    exit 2
fi

file=$1; shift
lines=$(grep --count '' "$file")
if [ "$SLURM_ARRAY_TASK_ID" -lt 1 ] || [ "$SLURM_ARRAY_TASK_ID" -gt "${lines:-0}" ]; then
    echo "error: there is no line $SLURM_ARRAY_TASK_ID in $file: it has ${lines:-0}" >&2
    exit 2
fi
mapfile -t words < <(sed "$SLURM_ARRAY_TASK_ID!d" "$file" | xargs --no-run-if-empty printf '%s\n')
wait "$!" || exit 2
exec bash "$job" "$@" "${words[@]}"
