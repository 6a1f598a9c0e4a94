"""What the ranks of a point used: memory, and what they read and wrote."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rankwise.sweep.folder import Run


@dataclass(frozen=True)
class Usage:
    """What the ranks of a point used, at least [bytes]; NaN where it is not known.

    Attributes
    ----------
    largest_rank : float
        Memory of the largest rank, in the launch where it took the most.
    node : float
        Memory of all ranks of a node, likewise: of the node of the sweep, or, where records tell,
        of the node that took the most.
    seen : int
        Ranks that were looked at; all of them where records or Slurm tell. 0 where no process was
        told its rank, too.
    read, written : float
        By system calls, of all ranks, median over launches.
    storage_read, storage_written : float
        From and to storage, likewise; as the kernel counts it.
    unseen : float
        The share of a launch after the last look at its ranks; the largest of the launches.
    """

    largest_rank: float = math.nan
    node: float = math.nan
    seen: int = 0
    read: float = math.nan
    written: float = math.nan
    storage_read: float = math.nan
    storage_written: float = math.nan
    unseen: float = math.nan


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
        unseen=max(_known(told, "unseen"), default=math.nan),
    )


def _figures(run: Run) -> dict[str, float]:
    """Return what is known of one run."""
    here, facts = run.facts.get("usage") or {}, run.facts
    slurm, seen = here.get("sstat") or {}, here.get("ranks", 0)
    found = {"node": here.get("all_ranks_bytes"), "seen": seen, "unseen": _unseen(run, here)}
    found["largest_rank"] = _most(here.get("largest_rank_bytes"), slurm.get("largest_rank_bytes"))
    # Of a part of the ranks, what they read and wrote says nothing of all.
    whole = seen == run.ranks or (not seen and not slurm and run.nodes == 1)
    for name in ("read", "written", "storage_read", "storage_written"):
        found[name] = (here if whole else slurm).get(f"{name}_bytes")
    if slurm or "peak_memory_rank" in facts:
        found["seen"] = run.ranks
    found["largest_rank"] = _most(found["largest_rank"], facts.get("peak_memory_rank"))
    found["node"] = _most(found["node"], facts.get("peak_memory_node"))
    return {name: value for name, value in found.items() if value is not None}


def _unseen(run: Run, here: dict[str, float]) -> float | None:
    """Return the share of a run after the last look; None if it is not known."""
    if not here.get("looks") or "unseen_seconds" not in here:
        return None
    # Two clocks, read one after the other.
    unseen = here["unseen_seconds"]
    return unseen / max(unseen, run.process_seconds) if unseen else 0.0


def _most(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _known(told: Iterable[dict[str, float]], name: str) -> list[float]:
    return [figures[name] for figures in told if name in figures]


def _median(told: Iterable[dict[str, float]], name: str) -> float:
    known = _known(told, name)
    return float(np.median(known)) if known else math.nan
