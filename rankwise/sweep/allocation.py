"""Allocations of PBS, LSF and Flux, of which a sweep uses this machine alone unless it is told.

References
----------
PBS: pbs_resources(7B), ``mpiprocs``. LSF: "About parallel jobs", ``LSB_MCPU_HOSTS``. Flux:
flux-environment(7), flux-resource(1), flux-run(1).
"""

import os
import shlex
import subprocess
from argparse import Namespace
from collections import Counter
from pathlib import Path

from rankwise.ranks.words import counted
from rankwise.sweep import launchers, mpi
from rankwise.sweep.launchers import Launcher, Resources, UsageError
from rankwise.sweep.mpi import Linked
from rankwise.sweep.options import whole


def refuse_other_nodes(args: Namespace, linked: Linked) -> None:
    """Refuse to sweep without a launcher in an allocation that has other nodes than this one.

    Raises
    ------
    UsageError
        It has: the message has the options that fit. Or what tells its nodes cannot be read.
    """
    if os.environ.get("FLUX_URI"):
        return _refuse_flux(args)
    system, slots = _slots()
    here = _short(os.uname().nodename)
    if set(slots) <= {here}:
        return
    if len(slots) == 1:
        raise UsageError(
            f"this machine, {here}, is not in this allocation of {system}, whose only node is "
            f"{next(iter(slots))}: start the sweep there, or name a launcher with --launcher"
        )
    found, fewest = launchers.resources(), min(slots.values())
    (cores,), taken = found.cores, "each node is taken to have as many cores as this machine"
    if system == "LSF":
        _refuse_unequal(slots)
        cores, taken = fewest, "a slot is taken for a core"
    node = Resources((cores,), found.gpus, slurm=False)
    most = max(1, sum(node.capacity(args.threads, args.gpus_per_rank)))
    template = _mpirun(launchers.choose(None, found, linked), most, fewest)
    raise UsageError(f"{_add(system, len(slots), cores, template)}; {taken}")


def _refuse_unequal(slots: Counter[str]) -> None:
    if len(set(slots.values())) > 1:
        least, most = min(slots.values()), max(slots.values())
        raise UsageError(
            f"the {len(slots)} nodes of this allocation of LSF have unequal slots, {least} to "
            f"{most}, and without --launcher a sweep uses this machine alone: add --launcher, "
            "--cores and --cores-per-node with the numbers of those nodes that are to compute"
        )


def _refuse_flux(args: Namespace) -> None:
    # What is started first in an allocation is in no job of it.
    if os.environ.get("FLUX_JOB_ID"):
        if os.environ.get("FLUX_JOB_NNODES") not in (None, "", "1"):
            raise UsageError("a job of Flux starts no other: use flux alloc, or --launcher")
        return
    words = ["flux", "resource", "list", "-n", "-o", "{nnodes} {ncores}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        nodes, cores = map(int, done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise UsageError(
            "FLUX_URI is set, and `flux resource list` does not tell the nodes of the allocation: "
            "name a launcher with --launcher"
        ) from None
    if nodes > 1:
        template = "flux run -N {nodes} -n {ranks} -c {threads}"
        template += f" -g {args.gpus_per_rank}" if args.gpus_per_rank else ""
        raise UsageError(_add("Flux", nodes, cores // nodes, template))


def _add(system: str, nodes: int, cores: int, template: str) -> str:
    return (
        f"this allocation of {system} has {counted(nodes, 'node')}, and without --launcher a sweep "
        f"uses this machine alone: add --launcher {shlex.quote(template)} --cores {nodes * cores} "
        f"--cores-per-node {cores}"
    )


def _slots() -> tuple[str, Counter[str]]:
    """Return the batch system and the slots on each of its hosts; none outside of PBS and LSF."""
    slots: Counter[str] = Counter()
    if path := os.environ.get("PBS_NODEFILE"):
        try:
            lines = Path(path).read_text().split("\n")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise UsageError(
                f"PBS_NODEFILE is {path}, which cannot be read ({why}): name a launcher with "
                "--launcher"
            ) from None
        # Of a chunk as many lines as its mpiprocs, which is 1 if qsub was not told.
        slots.update(_short(line.split()[0]) for line in lines if line.strip())
        if not slots:
            raise UsageError(
                f"PBS_NODEFILE is {path}, which names no node: name a launcher with --launcher"
            )
        return "PBS", slots
    words = os.environ.get("LSB_MCPU_HOSTS", "").split()
    for host, count in zip(words[::2], [*words[1::2], ""], strict=False):
        try:
            slots[_short(host)] += whole(count)
        except ValueError:
            raise UsageError(
                f"LSB_MCPU_HOSTS is {' '.join(words)!r}, and not hosts with their slots: name a "
                "launcher with --launcher"
            ) from None
    return "LSF", slots


def _short(host: str) -> str:
    return host.partition(".")[0].lower()


def _mpirun(launcher: Launcher, most: int, slots: int) -> str:
    """Return the template for an ``mpirun`` that finds the nodes by itself, and fills one by one.

    Parameters
    ----------
    launcher : Launcher
    most : int
        Ranks on a node.
    slots : int
        That the batch system has on a node, where Open MPI starts no more ranks than these.
    """
    words, bind = [shlex.quote(launcher.path), "-n", "{ranks}"], launchers.may_bind()
    if launcher.family == mpi.OPEN_MPI:
        words += ["--oversubscribe"] * (slots < most)
        place = f"ppr:{most}:node"
        words += ["--map-by", f"{place}:PE={{threads}}" if bind else place]
        words += ["--bind-to", "core" if bind else "none"]
    elif launcher.family == mpi.MPICH:
        words += ["-ppn", str(most)]
        if mpi.HYDRA in mpi.banner(launcher.path):
            words += ["-bind-to", "core:{threads}" if bind else "none"]
    return " ".join(words)
