"""Check a partition before a long run: placement, MPI, GPUs, memory, messages, files, imports.

    mpirun -n 4 python jobs/preflight.py
    mpirun -n 4 python jobs/preflight.py --json | jq '.checks[] | select(.verdict != "OK")'
    sbatch -N2 --ntasks-per-node=4 slurm/job.sh jobs/preflight.py --output $SCRATCH/preflight.h5

Each line says OK, warning or wrong, with what to do about it; the exit status is 1 if anything is
wrong. Start it as the long run is going to be started: the same ranks, threads and nodes.

Communication: the ranks of a node read and copy memory at once; the first and the last rank of each
    node, then the first ranks of neighbouring nodes, send messages to and fro; rank 0 collects the
    figures, and writes a file.
Check: what was copied, sent and read back is compared with what it was; `error` is how many bytes
    differ, and `bound` 0.
"""

# First: from here on a rank that fails ends the others.
from rankwise.job import Preflight, launch


def main(comm, argv):
    checks = Preflight(comm, argv, __file__, __doc__)
    checks.look_at_launch()
    checks.measure_load()
    checks.try_mpi()
    checks.measure_memory()
    checks.measure_messages()
    checks.look_at_imports()
    checks.try_files()
    checks.finish()


if __name__ == "__main__":
    launch(main)
