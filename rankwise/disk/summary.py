"""What a job prints: of its own run, or of a record that lies on disk."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from rankwise.disk.record import Balance, Record
from rankwise.ranks.clock import REPEATED
from rankwise.ranks.words import counted, numbers, printable


def summary(record: Record) -> dict[str, Any]:
    """Reduce a record to the figures that are printed.

    Parameters
    ----------
    record : Record
        Of one run.

    Returns
    -------
    dict
        For JSON. ``phases`` holds, for each phase [s], the minimum, median and maximum over ranks
        of a rank's median over repeats; ``seconds`` is that of the slowest rank's repeat, median
        over repeats; ``kernel_gbs`` [GB/s] counts the bytes of all ranks over the kernel seconds
        of the slowest rank, median over repeats; where ``oversubscribed``, ranks take turns on the
        CPUs of a node, and were not in their kernels at the same time. ``kernel_gflops``
        [Gflop/s] likewise; both None where no rank was in the phase ``kernel``. ``queue`` is None
        without one; else ``busy`` [s] and ``chunks`` of each rank, ``longest`` [s] of all,
        ``over_mean``, busy seconds over their mean from the least busy rank to the busiest, and
        ``imbalance``, the last of these; all are medians over repeats.
    """
    facts = record.attributes
    each = np.array([phase in REPEATED for phase in record.phases])
    kernel = record.timings[:, record.phases.index("kernel")].max(axis=1)
    # Where no rank was in the phase, there is nothing to divide by.
    seconds = float(_median(kernel))
    return {
        **{name: facts[name] for name in ("job", "ranks", "nodes", "threads", "variant", "mpi")},
        "auto": facts["arguments"].get("variant") == "auto",
        "devices": sorted({name.decode() for name in record.ranks["device"]}),
        "hosts": sorted({name.decode() for name in record.ranks["host"]}),
        "results": {
            name: result.values.item()
            for name, result in record.results.items()
            if result.values.ndim == 0
        },
        "git": facts["git"],
        "start": facts["start"],
        "checks": record.checks,
        "unchecked": facts["unchecked"],
        "work": facts["work"],
        "kernel_bytes": facts["kernel_bytes"],
        "kernel_flops": facts["kernel_flops"],
        "warnings": facts["warnings"],
        "snapshots": [os.fsdecode(name) for name in record.snapshots["file"]],
        "first_step": facts["first_step"],
        "restarts": facts["restarts"],
        "repeats": len(record.timings),
        "seconds": float(_median(np.nansum(record.timings[:, each], axis=1).max(axis=1))),
        "phases": _phases(record),
        "queue": _queue(record.balance),
        "kernel_gbs": facts["kernel_bytes"] / seconds / 1e9 if seconds > 0 else None,
        "kernel_gflops": facts["kernel_flops"] / seconds / 1e9 if seconds > 0 else None,
        "oversubscribed": _oversubscribed(record),
        "peak_memory_rank": facts["peak_memory_rank"],
        "peak_memory_node": facts["peak_memory_node"],
        "results_sha256": facts["results_sha256"],
    }


def _median(samples: np.ndarray) -> Any:
    """Return the median over the first axis, NaN where a sample is.

    NumPy's own imports the masked arrays, which takes as long as all else that rank 0 does here,
    while the other ranks wait.
    """
    ordered = np.sort(samples, axis=0)
    half = len(ordered) // 2
    # Sorted, NaN comes last.
    return (ordered[half] + ordered[~half]) / 2 + 0 * ordered[-1]


def seconds_of_ranks(record: Record) -> dict[str, list[float]]:
    """Return the seconds of each rank in each phase of a repeat, median over repeats [s].

    Phases that no rank entered are left out; a rank that did not enter one has 0 there.
    """
    found = {}
    for name, samples in zip(record.phases, np.moveaxis(record.timings, 1, 0), strict=True):
        if name in REPEATED and not np.isnan(samples).all():
            found[name] = _median(np.nan_to_num(samples)).tolist()
    return found


def _queue(balance: Balance | None) -> dict[str, Any] | None:
    if balance is None:
        return None
    mean = balance.busy.mean(axis=1, keepdims=True)
    # Of no tasks, nobody has more than others.
    shares = np.divide(balance.busy, mean, out=np.ones_like(balance.busy), where=mean > 0)
    # In each repeat another rank may be the busiest.
    over_mean = _median(np.sort(shares, axis=1)).tolist()
    return {
        "schedule": balance.schedule,
        "tasks": balance.tasks,
        "busy": _median(balance.busy).tolist(),
        "chunks": _median(balance.chunks).tolist(),
        "longest": float(_median(balance.longest.max(axis=1))),
        "over_mean": over_mean,
        "imbalance": over_mean[-1],
    }


def _oversubscribed(record: Record) -> bool:
    threads: Counter[bytes] = Counter()
    cpus: dict[bytes, set[int]] = {}
    for host, cores, number in record.ranks[["host", "cores", "threads"]].tolist():
        threads[host] += number
        cpus.setdefault(host, set()).update(numbers(cores.decode()))
    return any(threads[host] > len(cpus[host]) for host in threads)


def _phases(record: Record) -> dict[str, dict[str, float]]:
    phases = {}
    for name, samples in zip(record.phases, np.moveaxis(record.timings, 1, 0), strict=True):
        ran = samples[:, ~np.isnan(samples).all(axis=0)]
        if ran.size:
            over_ranks = np.array([_median(one[~np.isnan(one)]) for one in ran.T])
            phases[name] = {
                "min": float(over_ranks.min()),
                "median": float(_median(over_ranks)),
                "max": float(over_ranks.max()),
            }
    return phases


def text(facts: dict[str, Any], path: Path) -> str:
    """Write the figures of `summary`, and where the record is, for people."""
    chosen = ", chosen by auto" if facts["auto"] else ""
    lines = [
        f"{facts['job']} on {counted(facts['ranks'], 'rank')}, {counted(facts['nodes'], 'node')}, "
        f"{counted(facts['threads'], 'thread')} per rank",
        f"  variant   {facts['variant']}{chosen}, on {', '.join(facts['devices'])}",
        f"  MPI       {facts['mpi']}",
        f"  code      commit {_short(facts['git'])}, started {facts['start'][:19]} UTC",
        *(f"  {name:<9} {value!r}" for name, value in facts["results"].items()),
        *(
            f"  check     off by {check['error']:.3g}, bound {check['bound']:.3g}: {check['why']}"
            for check in facts["checks"]
        ),
        *([f"  unchecked {facts['unchecked']}"] if facts["unchecked"] else []),
        f"  repeat    {facts['seconds']:.4g} s",
        f"  kernel    {_speed(facts)}",
        f"  memory    {_mebibytes(facts['peak_memory_rank'])} the largest rank, "
        f"{_mebibytes(facts['peak_memory_node'])} the largest node",
        *(f"  warning   {text}" for text in facts["warnings"]),
        *_snapshots(facts["snapshots"]),
        *_went_on(facts["first_step"], facts["restarts"]),
        *_files(path, facts.get("picture")),
        "",
        f"  {'seconds':<10}{'min':>10}{'median':>10}{'max':>10}   over ranks, "
        f"medians of {counted(facts['repeats'], 'repeat')}",
    ]
    for name, row in facts["phases"].items():
        lines.append(f"  {name:<10}{row['min']:>10.4f}{row['median']:>10.4f}{row['max']:>10.4f}")
    return "\n".join([*lines, *_tasks(facts["queue"], facts["devices"])])


def show(facts: dict[str, Any], path: Path, as_json: bool, warned: bool = False) -> None:
    """Print the figures of `summary` and where the record is; warnings unless they were told."""
    line = json.dumps({**facts, "record": str(path)})
    shown = facts | {"warnings": []} if warned else facts
    print(line if as_json else printable(text(shown, path)), flush=True)


def _short(commit: str) -> str:
    name, dash, dirty = commit.partition("-")
    return name[:12] + dash + dirty


def _speed(facts: dict[str, Any]) -> str:
    if facts["kernel_gbs"] is None:
        return "not timed"
    if facts["oversubscribed"]:
        return "no GB/s, since ranks take turns"
    flops = f", {facts['kernel_gflops']:.2f} Gflop/s" if facts["kernel_flops"] else ""
    return f"{facts['kernel_gbs']:.2f} GB/s{flops}"


def _tasks(queue: dict[str, Any] | None, devices: list[str]) -> list[str]:
    """Write how the ranks shared the tasks, below the phases: busy seconds are part of these."""
    if queue is None:
        return []
    cpu = "CPU seconds" if devices == ["host"] else "seconds"
    rows = {"busy": (".4f", f"   {cpu} in the calls of the kernel"), "chunks": ("g", "")}
    lines = [
        "",
        f"  {'tasks':<10}{'min':>10}{'median':>10}{'max':>10}   {queue['tasks']}, schedule "
        f"{queue['schedule']}; imbalance {queue['imbalance']:.2f}, max / mean",
    ]
    for name, (form, note) in rows.items():
        each = np.array(queue[name])
        three = "".join(f"{x:>10{form}}" for x in (each.min(), _median(each), each.max()))
        lines.append(f"  {name:<10}{three}{note}")
    return lines


def _snapshots(names: list[str]) -> list[str]:
    if not names:
        return []
    to = f" to {names[-1]}" if len(names) > 1 else ""
    return [f"  snapshots {len(names)}, beside the record: {names[0]}{to}"]


def _went_on(step: int, restarts: int) -> list[str]:
    if not restarts:
        return []
    return [f"  went on   after step {step}, restart {restarts}: seconds are of the steps since"]


def _files(path: Path, picture: dict[str, Any] | None) -> list[str]:
    lines = [f"  record    {path}"]
    if picture:
        size = " x ".join(map(str, picture["shape"]))
        elements = " elements" if len(picture["shape"]) == 1 else ""
        lines.append(f"  picture   {picture['file']}: {picture['result']}, {size}{elements}")
    return lines


def _mebibytes(octets: int) -> str:
    return f"{octets / 2**20:.0f} MiB"
