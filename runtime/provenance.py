"""Where a record comes from: the ranks, their memory, the code and the libraries of a run."""

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.clock import PHASES, since_process_start
from runtime.record import SCHEMA, SNAPSHOT, Record, Result, digest

if TYPE_CHECKING:
    from mpi4py import MPI

    from runtime.run import Run

# Named one by one: a record is shared with others, and an environment holds secrets.
_SLURM = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_PARTITION",
    "SLURM_RESTART_COUNT",
)


def collect(
    comm: "MPI.Comm",
    run: "Run",
    results: dict[str, Result],
    check: dict[str, float],
    work: int,
    kernel_bytes: int,
    snapshots: np.ndarray | None = None,
) -> Record | None:
    """Gather what the ranks know of this run. Collective over `comm`.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    run : Run
        From `runtime.run.begin`.
    results, check : dict
        See `Record`; significant on rank 0.
    work : int
        Operations of all ranks in one repeat, up to a constant factor.
    kernel_bytes : int
        Bytes that the kernels of all ranks read or write in one repeat.
    snapshots : structured array, optional
        See `Record`; significant on rank 0.

    Returns
    -------
    Record or None
        On rank 0; None elsewhere.
    """
    from mpi4py import MPI

    device = run.device
    memory = _peak_memory()
    node_memory = device.node.allreduce(memory - _counted_by_others())
    host = MPI.Get_processor_name()
    row = (comm.rank, host, ranges(device.cores), device.threads, device.name, memory)
    rows = comm.gather((row, node_memory))
    timings = run.clock.gather(comm)
    if rows is None:
        return None
    assert timings is not None
    import shlex

    import h5py  # noqa: F401  # which writes the record: its version belongs into it

    text = [max(len(row[column].encode()) for row, _ in rows) for column in (1, 2, 4)]
    kinds = [("rank", "i8"), ("host", f"S{text[0]}"), ("cores", f"S{text[1]}"), ("threads", "i8")]
    kinds += [("device", f"S{text[2]}"), ("peak_memory", "i8")]
    attributes = {
        "schema": SCHEMA,
        "job": run.job,
        # HDF5 holds 64 KiB in an attribute.
        "command": printable(shlex.join(sys.argv))[:15_000],
        "folder": printable(_folder()),
        "arguments": {name: plain(value) for name, value in vars(run.args).items()},
        "ranks": comm.size,
        "nodes": device.nodes,
        "threads": device.threads,
        "variant": device.variant,
        "start": datetime.fromtimestamp(_process_start(), UTC).isoformat(timespec="milliseconds"),
        "git": run.commit,
        "mpi": mpi_library(),
        "versions": versions("python", "h5py", "mpi4py", "numba", "numpy", "cupy", "numba_cuda"),
        "slurm": slurm_ids(),
        "peak_memory_rank": max(row[-1] for row, _ in rows),
        "peak_memory_node": max(node for _, node in rows),
        "work": work,
        "kernel_bytes": kernel_bytes,
        "warnings": run.warnings,
        "first_step": run.first_step,
        "restarts": run.restarts,
        "results_sha256": digest(results),
    }
    ranks = np.array([row for row, _ in rows], np.dtype(kinds))
    files = np.empty(0, SNAPSHOT) if snapshots is None else snapshots
    return Record(attributes, results, check, PHASES, timings, ranks, files)


def _folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "removed"


def slurm_ids() -> dict[str, str]:
    """Return what Slurm calls this run, as far as it does."""
    return {name: os.environ[name] for name in _SLURM if name in os.environ}


def mpi_library() -> str:
    """Return the name and version of the MPI library."""
    from mpi4py import MPI

    return " ".join(MPI.Get_library_version().splitlines()[0].strip("\0").split())


def plain(value: Any) -> Any:
    """Return an argument in a form that JSON holds."""
    return printable(str(value)) if isinstance(value, str | Path) else value


def printable(text: str) -> str:
    """Escape what is not UTF-8 in the name of a file, which HDF5 and terminals refuse."""
    return text.encode("utf-8", "backslashreplace").decode()


def ranges(numbers: tuple[int, ...]) -> str:
    """Write increasing numbers the way Slurm does: ``0-3,8``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def numbers(text: str) -> list[int]:
    """Read what `ranges` writes."""
    ends = [part.partition("-") for part in text.split(",")]
    return [n for first, _, last in ends for n in range(int(first), int(last or first) + 1)]


def _process_start() -> float:
    return time.time() - since_process_start()


def _peak_memory() -> int:
    """Return the largest resident size of this process so far [bytes].

    Not from `getrusage`, whose figure begins with that of the process that started this one.
    """
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def _counted_by_others() -> int:
    """Return how much of the shared memory of this process is that of the others [bytes].

    The kernel divides each page among the processes that have it: see proc_pid_smaps(5).
    """
    fields: dict[str, int] = {}
    for path in ("/proc/self/status", "/proc/self/smaps_rollup"):
        try:
            with open(path) as file:
                lines = [
                    line.split() for line in file if line.startswith(("RssShmem", "Pss_Shmem"))
                ]
        except OSError:
            # It may be hidden; old kernels lack the field.
            continue
        fields |= {line[0]: 1024 * int(line[1]) for line in lines}
    return fields["RssShmem:"] - fields["Pss_Shmem:"] if len(fields) == 2 else 0


def git_commit() -> str:
    """Return the commit of this clone, ``-dirty`` if Python files differ, or ``unknown``."""
    # Rank 0 alone needs it, and every import counts while all ranks start.
    import subprocess

    # Python files alone: data and records lie about in many clones.
    command = ["git", "status", "--porcelain=v2", "--branch", "--", "*.py"]
    folder = Path(__file__).parent.parent
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    headers = [line for line in done.stdout.splitlines() if line.startswith("# ")]
    commit = headers[0].split()[2] if headers else ""
    # Before the first commit it is "(initial)".
    if not commit.isalnum():
        return "unknown"
    return commit if len(headers) == len(done.stdout.splitlines()) else f"{commit}-dirty"


def versions(*names: str) -> dict[str, str]:
    """Return the versions of Python and of libraries, as far as this process has imported them."""
    loaded = {name: sys.modules[name].__version__ for name in names if name in sys.modules}
    python = {"python": ".".join(map(str, sys.version_info[:3]))} if "python" in names else {}
    return {**python, **loaded}
