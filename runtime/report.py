"""What a job prints: of its own run, or of a record that lies on disk.

Use: ``python -m runtime.report results/FILE.h5``
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from runtime import record as records
from runtime.clock import REPEATED
from runtime.record import Record


def summary(record: Record, path: Path) -> dict[str, Any]:
    """Reduce a record to the figures that are printed.

    Parameters
    ----------
    record : Record
        Of one run.
    path : Path
        Where it is.

    Returns
    -------
    dict
        For JSON. ``phases`` holds, for each phase [s], the minimum, median and maximum over ranks
        of a rank's median over repeats; ``seconds`` is that of the slowest rank's repeat, median
        over repeats; ``kernel_gbs`` [GB/s] counts the bytes of all ranks over the kernel seconds
        of the slowest rank, median over repeats.
    """
    facts = record.attributes
    each = np.array([phase in REPEATED for phase in record.phases])
    kernel = record.timings[:, record.phases.index("kernel")].max(axis=1)
    bandwidth = facts["kernel_bytes"] / np.median(kernel) / 1e9
    return {
        **{name: facts[name] for name in ("job", "ranks", "nodes", "threads", "variant", "mpi")},
        "devices": sorted({name.decode() for name in record.ranks["device"]}),
        "results": {
            name: result.values.item()
            for name, result in record.results.items()
            if result.values.ndim == 0
        },
        "check": record.check,
        "repeats": len(record.timings),
        "seconds": float(np.median(np.nansum(record.timings[:, each], axis=1).max(axis=1))),
        "phases": _phases(record),
        "kernel_gbs": float(bandwidth),
        "peak_memory_rank": facts["peak_memory_rank"],
        "peak_memory_node": facts["peak_memory_node"],
        "results_sha256": facts["results_sha256"],
        "record": str(path),
    }


def _phases(record: Record) -> dict[str, dict[str, float]]:
    phases = {}
    for name, samples in zip(record.phases, np.moveaxis(record.timings, 1, 0), strict=True):
        ran = samples[:, ~np.isnan(samples).all(axis=0)]
        if ran.size:
            over_ranks = np.nanmedian(ran, axis=0)
            phases[name] = {
                "min": float(over_ranks.min()),
                "median": float(np.median(over_ranks)),
                "max": float(over_ranks.max()),
            }
    return phases


def text(record: Record, path: Path) -> str:
    """Write the figures of `summary` for people."""
    facts = summary(record, path)
    chosen = ", chosen by auto" if record.attributes["arguments"].get("variant") == "auto" else ""
    lines = [
        f"{facts['job']} on {_number(facts['ranks'], 'rank')}, {_number(facts['nodes'], 'node')}, "
        f"{_number(facts['threads'], 'thread')} per rank",
        f"  variant   {facts['variant']}{chosen}, on {', '.join(facts['devices'])}",
        f"  MPI       {facts['mpi']}",
        *(f"  {name:<9} {value!r}" for name, value in facts["results"].items()),
        f"  check     off by {facts['check']['error']:.3g}, "
        f"rounding explains {facts['check']['bound']:.3g}",
        f"  kernel    {facts['kernel_gbs']:.2f} GB/s",
        f"  memory    {_mebibytes(facts['peak_memory_rank'])} the largest rank, "
        f"{_mebibytes(facts['peak_memory_node'])} the largest node",
        f"  record    {facts['record']}",
        "",
        f"  {'seconds':<10}{'min':>10}{'median':>10}{'max':>10}   over ranks, "
        f"medians of {_number(facts['repeats'], 'repeat')}",
    ]
    for name, row in facts["phases"].items():
        if row["max"] < 5e-5:
            continue
        lines.append(f"  {name:<10}{row['min']:>10.4f}{row['median']:>10.4f}{row['max']:>10.4f}")
    return "\n".join(lines)


def show(record: Record | None, path: Path, as_json: bool) -> None:
    """Print the figures of a run on rank 0, which alone has the record."""
    if record is not None:
        print(json.dumps(summary(record, path)) if as_json else text(record, path), flush=True)


def _number(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _mebibytes(octets: int) -> str:
    return f"{octets / 2**20:.0f} MiB"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m runtime.report FILE.h5")
    try:
        print(text(records.read(sys.argv[1]), Path(sys.argv[1])))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
