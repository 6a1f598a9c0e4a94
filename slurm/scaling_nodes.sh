#!/usr/bin/env bash
# Scaling over nodes, run on the login node: one submission for each number of nodes, so that no
# node waits for a larger point, and a report of them all:
#   bash slurm/scaling_nodes.sh 1,2,4,8 [options of sbatch] -- [what scaling.sh takes]
#   bash slurm/scaling_nodes.sh 1,2,4 --gpus-per-node=4 -- jobs/sum_squares.py --n 1e9

cd "$(dirname "$0")/.." || exit
# shellcheck source=slurm/env.sh
source slurm/env.sh

usage="usage: bash slurm/scaling_nodes.sh 1,2,4 [options of sbatch] -- [job and its options]"
[[ $1 =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || { echo "$usage" >&2; exit 2; }
counts=${1//,/ }
shift
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options+=("$1")
    shift
done
# Without -- a job would be taken for the script to submit.
[ $# -gt 0 ] || [ ${#options[@]} = 0 ] || { echo "$usage" >&2; exit 2; }
[[ $2 == -* ]] && shift

folder=results/scaling_nodes-$(date --utc +%Y%m%dT%H%M%SZ)
jobs=()
for nodes in $counts; do
    mkdir --parents "$folder/nodes-$nodes"
    number=$(sbatch --parsable --output="$folder/nodes-$nodes.out" "${options[@]}" \
        --nodes="$nodes" slurm/scaling.sh --no-report --ranks all \
        --folder "$folder/nodes-$nodes" "$@")
    [ -n "$number" ] || { [ ${#jobs[@]} = 0 ] || scancel "${jobs[@]}"; rm -r "$folder"; exit 1; }
    jobs+=("${number%%;*}")
done

after=$(IFS=: && echo "${jobs[*]}")
# afterany: a report of what there is, also when a job failed.
report=$(SIGNAL_LEAD=120 sbatch --parsable --output="$folder/report.out" "${options[@]}" \
    --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=1 --time=00:10:00 --signal=USR1@120 \
    --dependency="afterany:$after" slurm/job.sh -m rankwise report "$folder") || exit
echo "jobs ${jobs[*]} measure, then job ${report%%;*} writes $folder/report.html"
