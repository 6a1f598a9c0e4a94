"""Count how often a job's run goes from one of our files to another: the price of reading it.

    mpirun -n 2 python benchmarks/moves.py jobs/sum_squares.py --n 1e7 --variant numpy

A job and its arguments. A move is a call of a function, or an import, in another file than the one
before; of the files only those of the job's clone count. The last line of output is of rank 0.
"""

import os
import runpy
import sys
from pathlib import Path


def main():
    job = Path(sys.argv[1]).resolve()
    clone = f"{job.parents[1]}{os.sep}"
    visited = []

    def note(frame, event, _):
        file = frame.f_code.co_filename
        ours = file.startswith(clone) and not file.startswith(f"{clone}.venv")
        if event == "call" and ours and visited[-1:] != [file]:
            visited.append(file)

    sys.argv = [str(job), *sys.argv[2:]]
    sys.setprofile(note)
    try:
        runpy.run_path(str(job), run_name="__main__")
    finally:
        sys.setprofile(None)
        from mpi4py import MPI

        if MPI.COMM_WORLD.rank == 0:
            files = len(set(visited))
            print(f"{max(0, len(visited) - 1)} moves between {files} files", flush=True)


if __name__ == "__main__":
    main()
