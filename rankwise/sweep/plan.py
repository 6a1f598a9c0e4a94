"""What a sweep is going to run: the points, their order, and on what machine."""

import os
import platform
import random
import re
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rankwise
from rankwise.node.code import git_commit
from rankwise.node.slurm import slurm_ids
from rankwise.ranks.words import counted
from rankwise.sweep import billing, notes
from rankwise.sweep.command import Command
from rankwise.sweep.folder import SCHEMA
from rankwise.sweep.launchers import Launcher, Resources, UsageError
from rankwise.sweep.measure import Measure
from rankwise.sweep.mpi import Linked


def rank_counts(args: Namespace, found: Resources) -> list[int]:
    """Return the rank counts that ``--ranks`` asks for.

    More ranks than cores on a machine are legitimate: such points are marked.

    Raises
    ------
    UsageError
        It cannot be read, or a Slurm allocation, or the GPUs of this machine, have no room for it.
    """
    threads, gpus = args.threads, args.gpus_per_rank
    if gpus and not found.gpus:
        raise UsageError("--gpus-per-rank, and no GPU here: sbatch --gpus-per-node=N asks for some")
    room = sum(found.capacity(threads, gpus))
    counts = _read_counts(args.ranks, room)
    if args.launcher and not args.cores and not found.slurm and max(counts) > room:
        raise UsageError(
            "--launcher may reach further than this machine: say how many cores with --cores"
        )
    if max(counts) <= room or not (found.slurm or gpus):
        return counts
    cure = "ask for more with sbatch --nodes, --ntasks or --gpus-per-node"
    if not found.slurm:
        cure = "say --cores and --cores-per-node if a --launcher reaches more nodes"
    has = counted(sum(found.cores), "core")
    has += f" and {counted(found.gpus, 'GPU')} a node" if gpus else ""
    each = counted(threads, "thread") + (f" and {counted(gpus, 'GPU')}" if gpus else "")
    raise UsageError(
        f"{counted(max(counts), 'rank')} with {each} each do not fit on {has}, "
        f"{counted(len(found.cores), 'node')}: {cure}, or leave out --ranks"
    )


def _read_counts(text: str | None, room: int) -> list[int]:
    """Read ``1,2,4``, ``1..64`` (powers of two), ``all``, or nothing: powers of two up to all."""
    if text is None or text == "all":
        if room < 1:
            raise UsageError("there is no room for even one rank: see --threads, --gpus-per-rank")
        return [room] if text else [2**k for k in range(room.bit_length())]
    if match := re.fullmatch(r"(\d{1,7})\.\.(\d{1,7})", text):
        first, last = map(int, match.groups())
        if not 1 <= first <= last:
            raise UsageError(f"--ranks {text!r} is not like 1..64")
        return [first * 2**k for k in range((last // first).bit_length())]
    if not re.fullmatch(r"\d{1,7}(,\d{1,7})*", text) or "0" in text.split(","):
        raise UsageError(f"--ranks {text!r} is not like 1,2,4 or 1..64 or all")
    return sorted({int(part) for part in text.split(",")})


def make(
    args: Namespace,
    command: Command,
    ranks: list[int],
    found: Resources,
    launcher: Launcher,
    linked: Linked,
    measure: Measure,
) -> dict[str, Any]:
    """Return the content of ``sweep.json``, but for what is in the files of the program.

    Raises
    ------
    UsageError
        ``--weak`` gives no size at one of the rank counts.
    """
    for mode in command.modes:
        for count in ranks:
            command.at(mode, count, args.threads, Path())
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    return {
        "schema": SCHEMA,
        "command": list(command.words),
        "job": command.name,
        "cwd": os.getcwd(),
        "modes": list(command.modes),
        "weak": "--weak" if command.grows and command.growth is None else args.weak,
        "ranks": ranks,
        "launches": args.launches,
        "threads": args.threads,
        "gpus_per_rank": args.gpus_per_rank,
        "cores": list(found.cores),
        "cores_given": args.cores,
        "cores_per_node": args.cores_per_node,
        "seed": seed,
        "timeout": args.timeout,
        "launcher": launcher.name,
        "order": _order(command.modes, ranks, args.launches, seed),
        "started": _now(),
        "machine": _machine(found),
        "versions": {"rankwise": rankwise.__version__, "python": platform.python_version()},
        "git": git_commit(command.program),
        "slurm": slurm_ids(),
        "billing": billing.of_allocation(),
        "charge": args.charge.text if args.charge else None,
        "runs": args.runs,
        "notes": notes.parse(args.note),
        "measure": measure.plan(),
        "case": str(args.case) if args.case else None,
        "link": args.link or None,
        "keep": args.keep or None,
        "copies": args.copies or None,
        "mpi": {"family": linked.family, "library": linked.library},
        "libraries": list(linked.libraries),
        "warnings": [],
    }


def _order(modes: tuple[str, ...], ranks: list[int], launches: int, seed: int) -> list[list[Any]]:
    """Return mode, rank count and launch of each run, in the order in which they are run."""
    generator = random.Random(seed)
    order = []
    for launch in range(1, launches + 1):
        # In rounds: what changes in the course of the sweep then meets all points alike.
        points: list[list[Any]] = [[mode, count, launch] for mode in modes for count in ranks]
        generator.shuffle(points)
        order += points
    return order


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _machine(found: Resources) -> dict[str, Any]:
    return {
        "host": platform.node(),
        "cpu": processor(),
        "cores": max(found.cores),
        "nodes": len(found.cores),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "cluster": os.environ.get("SLURM_CLUSTER_NAME"),
        "partition": os.environ.get("SLURM_JOB_PARTITION"),
        "kernel": platform.release(),
    }


def processor() -> str:
    """Return the model of this machine's processor."""
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return models[0] if models else platform.machine()
