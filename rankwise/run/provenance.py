"""Where a record comes from: the ranks, their memory, the code and the libraries of a run."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rankwise.disk.record import SCHEMA, Balance, Record, Result, digest
from rankwise.node import memory
from rankwise.node.code import versions
from rankwise.node.slurm import slurm_ids
from rankwise.ranks.clock import PHASES, since_process_start
from rankwise.ranks.mpi import mpi_library
from rankwise.ranks.words import printable, ranges
from rankwise.run.begin import Begun


def collect(
    run: Begun,
    results: dict[str, Result],
    facts: dict[str, Any],
    snapshots: np.ndarray,
    balance: Balance | None = None,
) -> Record | None:
    """Gather what the ranks know of this run. Collective.

    Parameters
    ----------
    run : Begun
    results : dict
        See `Record`; significant on rank 0.
    facts : dict
        The attributes ``work``, ``kernel_bytes``, ``kernel_flops`` and ``unchecked`` of a record;
        significant on rank 0.
    snapshots, balance
        See `Record`; significant on rank 0.

    Returns
    -------
    Record or None
        On rank 0; None elsewhere.
    """
    from mpi4py import MPI

    comm, device = run.comm, run.device
    used = memory.peak()
    node_memory = sum(device.node.allgather(used - memory.counted_by_others()))
    host = MPI.Get_processor_name()
    row = (comm.rank, host, ranges(device.cores), device.threads, device.name, used)
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
        **facts,
        "warnings": run.warnings,
        "first_step": run.first_step,
        "restarts": run.restarts,
        "results_sha256": digest(results),
    }
    ranks = np.array([row for row, _ in rows], np.dtype(kinds))
    return Record(attributes, results, run.checks, PHASES, timings, ranks, snapshots, balance)


def _folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "removed"


def plain(value: Any) -> Any:
    """Return an argument in a form that JSON holds."""
    return printable(str(value)) if isinstance(value, str | Path) else value


def _process_start() -> float:
    return time.time() - since_process_start()
