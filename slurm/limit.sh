# shellcheck shell=bash
# What job.sh and scaling.sh, which source it, do about the time limit of a job.

# In an array the number of a job may mean all of it.
job=${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}

# Refuse a limit that is not longer than $1, the seconds before it at which the job is to stop.
require_time() {
    local limit
    [[ $1 =~ ^[0-9]+$ ]] || {
        echo "error: SIGNAL_LEAD is ${1@Q}, and must be a whole number of seconds" >&2
        exit 2
    }
    # In seconds; at most 0 where there is none. Of a heterogeneous job's records the first counts.
    limit=$(($(SLURM_TIME_FORMAT=%s scontrol show job "$job" |
        sed --quiet '0,/StartTime=/ s/.*StartTime=\([0-9]*\) EndTime=\([0-9]*\).*/\2 - \1/p')))
    [ "$limit" -le 0 ] || [ "$limit" -gt "$1" ] 2> /dev/null || {
        echo "error: the time limit of $limit s is not longer than the $1 s before it at which" \
            "the job is told to stop (SIGNAL_LEAD, set together with --signal): ask for more with" \
            "sbatch --time" >&2
        exit 2
    }
}

# End with the status $1. 75 alone, try again, is put back: a job that was cancelled stays so.
leave() {
    local why
    # Slurm sends TERM to all of the job, scontrol too, before that has its answer.
    trap '' HUP INT TERM USR1
    [ "$1" = 75 ] || exit "$1"
    why=$(scontrol requeue "$job" 2>&1) && exit
    echo "error: the job is not put back ($why): its $2 is safe, and the same sbatch command" \
        "goes on from there" >&2
    exit 75
}
