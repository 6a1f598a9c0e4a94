"""Sets ways to do the same thing side by side: starts them in turn, and makes a table of it all.

For `bench.py`, which has the ways.
"""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rankwise.node import device, load

CORES = len(os.sched_getaffinity(0))
# One process per core, all at once: on a quiet machine each has its core to itself.
SPIN = """
import time
wall, cpu = time.perf_counter(), time.process_time()
while time.perf_counter() < wall + 0.5: pass
print((time.process_time() - cpu) / (time.perf_counter() - wall))
"""


class Comparison:
    """How to start a program on how many elements and ranks, and the lines of the table."""

    def __init__(self, args):
        self.n, self.rounds, self.ranks = args.n, args.rounds, args.ranks
        self.threads = max(1, CORES // args.ranks)
        self.lines, self.mpi = [], ""
        self.environment = {
            # A user's Python keeps its bytecode.
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            # Left alone, the OpenBLAS of every rank takes all cores, to the loss of the plain ways.
            **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(self.threads)),
        }

    def python(self, script, *arguments, ranks=None, variables=None):
        """Run a script, and return the seconds that it took and the last line of its output."""
        # Open MPI would bind each rank, with all its threads, to one core.
        launch = [_mpirun(), "--bind-to", "none", "-n", str(ranks)] if ranks else []
        command = [*launch, sys.executable, str(script), *map(str, arguments)]
        start = time.perf_counter()
        done = subprocess.run(
            command,
            env=self.environment | (variables or {}),
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"error: status {done.returncode} of {' '.join(command)}\n{done.stderr}")
        return seconds, (done.stdout.splitlines() or [""])[-1]

    def in_turn(self, ways):
        """Call each way once a round, another one first each time; return the samples of each."""
        samples = {name: [] for name in ways}
        for turn in range(self.rounds):
            for name in np.roll(list(ways), turn):
                samples[name].append(ways[name]())
                note(f"round {turn + 1} of {self.rounds}: {name}")
        note("")
        return samples

    def add(self, what, ours, unit, other, others, asked="", inverse=False):
        """Add a line: ours beside another's samples, their ratio and what is asked of it."""
        ratio = np.median(ours) / np.median(others)
        ratio = 1 / ratio if inverse else ratio
        self.lines.append(
            {
                "what": what,
                "unit": unit,
                "ours": list(map(float, ours)),
                "other": other,
                "others": list(map(float, others)),
                "ratio": float(ratio),
                "asked": asked,
            }
        )


def _mpirun():
    beside = shutil.which("mpirun", path=Path(sys.executable).parent)
    return beside or shutil.which("mpirun") or sys.exit("error: no mpirun on PATH")


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def note(text):
    """Show progress on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


def disturbances():
    """Return what shows that the cores are not ours alone, as a list of phrases."""
    busy = load.busy_cores()
    found = [f"{busy:.1f} of {CORES} cores were busy"] if busy > 0.1 * CORES else []
    spins = [
        subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) for _ in range(CORES)
    ]
    share = min(float(spin.communicate()[0]) for spin in spins)
    return [*found, f"a spinning process got {share:.0%} of a core"] if share < 0.95 else found


def machine(bench):
    """Return the processor, the cores and the libraries."""
    cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    libraries = ("numpy", "numba", "mpi4py", "h5py", "distributed", "numba-cuda")
    cupy = ("cupy-cuda12x", "cupy-cuda13x", "cupy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": names[0] if names else platform.machine(),
        "cores": CORES,
        "system": platform.platform(),
        "mpi": bench.mpi,
        "gpus": device.visible_gpus(),
        "python": platform.python_version(),
        "blas": f"{blas['name']} {blas['version']}",
        **{name: _version(name) for name in (*libraries, *cupy)},
    }


def verdict(line):
    limit = float(line["asked"].split()[1])
    met = line["ratio"] >= limit if line["asked"].startswith(">=") else line["ratio"] <= limit
    return "yes" if met else "no"


def table(lines, noisy):
    """Return the lines of the table as texts."""

    def figure(samples):
        low, middle, high = np.quantile(samples, (0, 0.5, 1))
        digits = max(0, 2 - int(np.floor(np.log10(max(abs(middle), 1e-9)))))
        return f"{middle:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})"

    rows = [("ours", "", "", "beside it", "", "ratio", "asked", "met")]
    for line in lines:
        asked = line["asked"]
        rows.append(
            (
                line["what"],
                figure(line["ours"]),
                line["unit"],
                line["other"],
                figure(line["others"]),
                f"{line['ratio']:.2f}",
                asked,
                verdict(line) if asked and not noisy else "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
