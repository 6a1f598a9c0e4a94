"""Sum of squares: our kernel and our job beside NumPy's and MPI's own calls, in one run.

    python benchmarks/sum_squares.py
    python benchmarks/sum_squares.py --n 1e7 --rounds 15

Kernel: one process, all cores, one array. `np.dot` adds in an order of its own choice; a plain sum
that may do so too shows how fast the array can be read at all.

Ranks: `jobs/sum_squares.py` against `Scatterv`, `np.dot` and `reduce` on the same vector, drawn on
rank 0. Seconds of rank 0; `gather` includes the wait for the others.

Figures are medians, with the least and the largest in parentheses.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

# NumPy before `runtime`, which would keep its BLAS to one thread.
import numba
import numpy as np

import kernels
from kernels.sum_squares import BLOCK, combine
from runtime import compilation, program

CORES = len(os.sched_getaffinity(0))
# Threads of OpenBLAS and OpenMP spin for some 30 ms after a call, in the hope of another one, and
# would take the cores from the next competitor.
PAUSE = 0.2
# Repeats within a launch are not independent: their median is one sample.
REPEATS = 3
# One process per core, all at once: on a quiet machine each has its core to itself.
SPIN = """
import time
wall, cpu = time.perf_counter(), time.process_time()
while time.perf_counter() < wall + 0.5: pass
print((time.process_time() - cpu) / (time.perf_counter() - wall))
"""


@numba.njit(parallel=True, fastmath=True)
def plain_sum(x):
    total = 0.0
    for i in numba.prange(x.size):
        total += x[i]
    return total


def disturbances():
    """Return what shows that the cores are not ours alone, as a list of phrases."""
    command = [sys.executable, "-c", SPIN]
    spins = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(CORES)]
    share = min(float(spin.communicate()[0]) for spin in spins)
    return [f"a spinning process got {share:.0%} of a core"] if share < 0.95 else []


def time_kernels(n, rounds, ranks):
    """Return the seconds of each competitor in this process, one sample a round."""
    numba.config.CACHE_DIR = compilation.private_folder()
    block_sums = kernels.load("sum_squares", "numba").block_sums
    x, sums = np.random.default_rng(0).random(n), np.empty(-(-n // BLOCK))
    source = x[n // ranks :]
    copy = source.copy()

    def ours():
        block_sums(x, sums)
        return combine(sums)

    if not math.isclose(ours(), np.dot(x, x), rel_tol=1e-9):
        sys.exit("error: the kernel and np.dot disagree")
    calls = {
        "ours": ours,
        "dot": lambda: np.dot(x, x),
        "read": lambda: plain_sum(x),
        "copy": lambda: np.copyto(copy, source),
    }
    samples = {name: [] for name in calls}
    for turn in range(rounds):
        # Another one begins each round, so that none has always the same one before it.
        for name in np.roll(list(calls), turn):
            time.sleep(PAUSE)
            calls[name]()  # compiles, and wakes the threads
            start = time.perf_counter()
            calls[name]()
            samples[name].append(time.perf_counter() - start)
    return samples


def time_ranks(mpirun, n, rounds, ranks, threads):
    """Return the seconds of both ways by phase, one sample a launch, and the MPI library."""
    # Open MPI would bind each rank, with all its threads, to one core.
    command = [mpirun, "--bind-to", "none", "-n", str(ranks), sys.executable]
    command.append(str(Path(__file__).with_name("sum_squares_mpi.py")))
    # Left alone, the OpenBLAS of every rank takes all cores, to the loss of the plain way.
    shares = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
    environment = os.environ | shares
    samples = {"ours": {}, "plain": {}}
    for turn in range(rounds):
        for way in np.roll(list(samples), turn):
            launch = [*command, way, str(n), str(REPEATS)]
            done = subprocess.run(launch, env=environment, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"error: status {done.returncode} of {' '.join(launch)}")
            phases = json.loads(done.stdout.splitlines()[-1])
            mpi = phases.pop("mpi")
            phases["all but draw"] = np.subtract(phases["wall"], phases["draw"])
            for phase, repeats in phases.items():
                samples[way].setdefault(phase, []).append(np.median(repeats))
    return samples, mpi


def spread(samples, digits):
    low, middle, high = (f"{x:.{digits}f}" for x in np.quantile(samples, (0, 0.5, 1)))
    return f"{middle} ({low} - {high})"


def machine(mpi):
    """Return the processor, the cores and the libraries, on two lines."""
    cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numba", "mpi4py")]
    cpu = names[0] if names else platform.machine()
    return (
        f"{cpu}, {CORES} cores; {mpi}\n"
        f"Python {platform.python_version()}, numpy {np.__version__} with {blas['name']} "
        f"{blas['version']}, {', '.join(versions)}"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    count = {"type": lambda text: program.count(text, 1), "metavar": "N"}
    parser.add_argument("--n", default=10**8, help="float64 elements (default: 1e8)", **count)
    parser.add_argument("--rounds", default=9, help="samples of each (default: 9)", **count)
    parser.add_argument("--ranks", default=2, help="MPI ranks (default: 2)", **count)
    args = parser.parse_args()

    beside = shutil.which("mpirun", path=Path(sys.executable).parent)
    mpirun = beside or shutil.which("mpirun") or sys.exit("error: no mpirun on PATH")
    load = os.getloadavg()[0]
    noise = [f"the load is {load:.1f} on {CORES} cores"] if load > 0.25 * CORES else []
    noise += disturbances()
    if noise:
        print(f"warning: {'; '.join(noise)}", file=sys.stderr)
    threads = max(1, CORES // args.ranks)
    kernel = time_kernels(args.n, args.rounds, args.ranks)
    job, mpi = time_ranks(mpirun, args.n, args.rounds, args.ranks, threads)
    noise += disturbances()

    seconds = {name: np.median(samples) for name, samples in kernel.items()}
    print(f"{machine(mpi)}\n{args.n:.3g} float64, {args.rounds} samples of each\n")
    print(f"{f'GB/s, {CORES} threads':<16}{'ours':>23}{'np.dot':>23}{'limit: plain read':>23}")
    rates = [spread(args.n * 8e-9 / np.array(kernel[key]), 1) for key in ("ours", "dot", "read")]
    print(f"{'kernel':<16}{''.join(f'{rate:>23}' for rate in rates)}\n")
    # What moves to other ranks copied once, by one core; all of it read once, by all cores.
    limits = {"scatter": seconds["copy"], "kernel": seconds["read"]}
    limits["all but draw"] = sum(limits.values())
    heading = f"s, {args.ranks} x {threads} threads"
    print(f"{heading:<16}{'ours':>23}{'Scatterv, dot, reduce':>23}{'limit: copy, read':>23}")
    for phase in ("draw", "scatter", "kernel", "gather", "all but draw", "wall"):
        figures = [spread(job[way][phase], 3) for way in ("ours", "plain")]
        figures.append(f"{limits[phase]:.3f}" if phase in limits else "")
        print(f"{phase:<16}{''.join(f'{figure:>23}' for figure in figures)}".rstrip())
    if noise:
        print(f"\nno verdict: {'; '.join(noise)}")
        return
    phases = ("all but draw", "wall")
    ratios = [np.median(job["ours"][p]) / np.median(job["plain"][p]) for p in phases]
    print(
        f"\nThe kernel has {seconds['dot'] / seconds['ours']:.2f} of the speed of np.dot and "
        f"{seconds['read'] / seconds['ours']:.2f} of the limit's;\n"
        f"the job takes {ratios[0]:.2f} of the plain way's time, {ratios[1]:.2f} with the drawing."
    )


if __name__ == "__main__":
    main()
