"""What the ranks of a point used: memory, and what they read and wrote."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rankwise.sweep.folder import Run


@dataclass(frozen=True)
class Usage:
    """What the ranks of a point used [bytes]; NaN where it is not known.

    Attributes
    ----------
    largest_rank : float
        Memory of the largest rank, in the launch where it took the most.
    node : float
        Memory of all ranks of a node, likewise: of the node of the sweep, or, where records tell,
        of the node that took the most.
    seen : int
        Ranks that were looked at; all of them where records or Slurm tell.
    read, written : float
        By system calls, of all ranks, median over launches.
    storage_read, storage_written : float
        From and to storage, likewise; as the kernel counts it.
    """

    largest_rank: float = math.nan
    node: float = math.nan
    seen: int = 0
    read: float = math.nan
    written: float = math.nan
    storage_read: float = math.nan
    storage_written: float = math.nan


def of(runs: Sequence[Run]) -> Usage:
    """Return what the ranks of the successful runs of a point used."""
    told = [_figures(run) for run in runs]
    return Usage(
        largest_rank=max(_known(told, "largest_rank"), default=math.nan),
        node=max(_known(told, "node"), default=math.nan),
        seen=int(max(_known(told, "seen"), default=0)),
        read=_median(told, "read"),
        written=_median(told, "written"),
        storage_read=_median(told, "storage_read"),
        storage_written=_median(told, "storage_written"),
    )


def _figures(run: Run) -> dict[str, float]:
    """Return what is known of one run."""
    here, facts = run.facts.get("usage") or {}, run.facts
    slurm, seen = here.get("sstat") or {}, here.get("ranks", 0)
    found = {"node": here.get("all_ranks_bytes"), "seen": seen}
    found["largest_rank"] = max(
        (each["largest_rank_bytes"] for each in (here, slurm) if "largest_rank_bytes" in each),
        default=None,
    )
    # Of a part of the ranks, what they read and wrote says nothing of all.
    for name in ("read", "written", "storage_read", "storage_written"):
        found[name] = (here if seen == run.ranks else slurm).get(f"{name}_bytes")
    if slurm:
        found["seen"] = run.ranks
    if "peak_memory_rank" in facts:
        found |= {"largest_rank": facts["peak_memory_rank"], "seen": run.ranks}
        found["node"] = facts.get("peak_memory_node")
    return {name: value for name, value in found.items() if value is not None}


def _known(told: Iterable[dict[str, float]], name: str) -> list[float]:
    return [figures[name] for figures in told if name in figures]


def _median(told: Iterable[dict[str, float]], name: str) -> float:
    known = _known(told, name)
    return float(np.median(known)) if known else math.nan
