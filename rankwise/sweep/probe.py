"""What a launcher really starts, looked at before the first run; `look` does it in running ranks.

`probe.sh` is started exactly as the program will be. Each of its processes prints a line.
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankwise.node import openmp
from rankwise.node.cores import hardware_threads
from rankwise.ranks.words import counted, numbers, ranges
from rankwise.sweep import mpi
from rankwise.sweep.execute import TRIES, execute
from rankwise.sweep.folder import OK
from rankwise.sweep.launchers import Launcher, Resources
from rankwise.sweep.measure import read_output
from rankwise.sweep.mpi import Linked
from rankwise.sweep.output import end_of, error_line

SCRIPT = "probe.sh"
_SECONDS = 60.0
_LINE = re.compile(
    r"rankwise-probe host=(\S+) cpus=([\d,-]+) siblings=([\d,-]+) online=([\d,-]+) "
    r"gpus=(.*?) variables=(\S*) end"
)
_OWN_PMI = re.compile(r"PMI_")
_KINDS = {mpi.OPEN_MPI: "pmix", mpi.MPICH: "pmi2"}


@dataclass(frozen=True)
class Place:
    """Where a process is, and what it was told.

    Attributes
    ----------
    host : str
    cpus : tuple of int
        Logical CPUs that it may run on.
    online : int
        How many its node has.
    gpus : str
        ``CUDA_VISIBLE_DEVICES``, or ``all of N``.
    variables : frozenset of str
        Names of the variables by which launchers tell a process which rank it is.
    siblings : tuple of int
        Logical CPUs of the core of the first of `cpus`; empty on this host.
    """

    host: str
    cpus: tuple[int, ...]
    online: int
    gpus: str = ""
    variables: frozenset[str] = frozenset()
    siblings: tuple[int, ...] = ()

    @property
    def sees_gpus(self) -> bool:
        """Whether it may use any."""
        return self.gpus not in ("", "-1", "NoDevFiles", "all of 0")

    @property
    def cores(self) -> frozenset[tuple[int, ...]]:
        """Cores that it may run on."""
        # Nodes of one kind number their hardware threads alike; of another, each counts as a core.
        alike = self.siblings in ((), hardware_threads(self.cpus[0]))
        return frozenset(hardware_threads(cpu) if alike else (cpu,) for cpu in self.cpus)


@dataclass(frozen=True)
class Wanted:
    """What a point of a sweep says of its processes: how many, threads of each, on which nodes.

    Attributes
    ----------
    ranks, threads : int
    nodes : int or None
        None if only the launcher knows.
    cores : int
        Of a node, that its ranks may use; the fewest of all nodes.
    """

    ranks: int
    threads: int
    nodes: int | None
    cores: int


def wanted(launcher: Launcher, found: Resources, ranks: int, threads: int, gpus: int) -> Wanted:
    """Return what a point says."""
    nodes = None if launcher.own and not found.slurm else found.nodes(ranks, threads, gpus)
    return Wanted(ranks, threads, nodes, min(found.cores[: nodes or 1]))


def start(
    words: list[str], env: dict[str, str], folder: Path, ranks: int
) -> tuple[list[Place], str]:
    """Start the probe.

    Parameters
    ----------
    words : list of str
        What stands before the program.
    env : dict
    folder : Path
        Of the sweep.
    ranks : int

    Returns
    -------
    places : list of Place
        Of its processes, as far as they said where they are.
    failure : str
        How it failed; empty if it did not, or did after all had said it.
    """
    script, output = folder.resolve() / SCRIPT, folder / f"probe-{ranks}.txt"
    shutil.copyfile(Path(__file__).with_name(SCRIPT), script)
    for _ in range(TRIES):
        ended = execute([*words, "sh", str(script)], env, output, _SECONDS)
        if not ended.not_its_own:
            break
    text = read_output(output)
    places = read(text)
    if ended.outcome == OK and places:
        return places, ""
    if len(places) == ranks:
        return places, ""
    said = error_line(end_of(text))
    return [], f"{ended.reason or 'it printed nothing'}{f', {said}' if said else ''}"


def read(output: str) -> list[Place]:
    """Read the lines of the probe."""
    return [
        Place(
            host,
            _cpus(cpus),
            len(_cpus(online)),
            gpus,
            frozenset(names.split(",")) - {""},
            _cpus(siblings),
        )
        for host, cpus, siblings, online, gpus, names in _LINE.findall(output)
    ]


def _cpus(text: str) -> tuple[int, ...]:
    return tuple(numbers(text))


def fault(
    places: Sequence[Place], point: Wanted, launcher: Launcher, linked: Linked, copies: bool = False
) -> str:
    """Say in a sentence why a launch is not what its point says; empty if it is.

    Parameters
    ----------
    places : sequence of Place
        Of all its processes.
    point : Wanted
    launcher : Launcher
    linked : Linked
        What the program is linked to.
    copies : bool
        Whether its processes are meant to know nothing of each other.
    """
    if len(places) != point.ranks:
        began, instead = counted(len(places), "process"), counted(point.ranks, "rank")
        return f"{launcher.path} started {began} instead of {instead}: see --launcher"
    hosts = {place.host for place in places}
    if point.nodes is not None and len(hosts) != point.nodes:
        there, instead = counted(len(hosts), "node"), counted(point.nodes, "node")
        ranks = counted(point.ranks, "rank")
        return f"{launcher.path} started {ranks} on {there} ({_names(hosts)}) instead of {instead}"
    untold = "" if copies else _untold(places, launcher, linked)
    return untold or crowded(places, point)


def _untold(places: Sequence[Place], launcher: Launcher, linked: Linked) -> str:
    """Say that ranks are not told, in a way that their MPI understands, which ranks they are."""
    own_way = linked.own_way or launcher.own_way
    if linked.family is None or not linked.sure or own_way or len(places) < 2:
        return ""
    if all(told(linked.family, place.variables) for place in places):
        return ""
    why = alone(linked.program, linked.family, linked.library)
    return f"{launcher.path} {why}; {cure(launcher, linked.family)}"


def cure(launcher: Launcher, family: str) -> str:
    """Say how to start a program of a family of MPI instead."""
    text = mpi.cure(family)
    if launcher.path == "srun":
        kind = _KINDS[family]
        text = f"export SLURM_MPI_TYPE={kind} (`srun --mpi=list` shows what there is), or {text}"
    return text


def told(family: str | None, variables: frozenset[str] | set[str]) -> bool:
    """Whether a process knows which rank it is, by its variables."""
    if family is None:
        return bool(mpi.given(dict.fromkeys(variables, "")))
    # Open MPI's launcher has PMIX_* for its own library alone.
    foreign = family == mpi.MPICH and "OMPI_COMM_WORLD_SIZE" in variables
    return any(map(_OWN_PMI.match if foreign else mpi.GIVEN[family].match, variables))


def alone(program: str, family: str, library: str) -> str:
    """Say, behind the name of a launcher, that its processes do not know of each other."""
    return (
        f"does not tell {program}, whose MPI is {mpi.described(family)} ({library}), which rank it "
        "is: each would run the whole program by itself"
    )


def crowded(places: Sequence[Place], point: Wanted) -> str:
    """Say that ranks share cores while others are free; empty if they do not."""
    for host in sorted({place.host for place in places}):
        here = [place for place in places if place.host == host]
        union = frozenset().union(*(place.cores for place in here))
        # A core may count as one or as its hardware threads.
        siblings = max((len(core) for core in union), default=1)
        cores = min(point.cores, here[0].online // siblings)
        if host == os.uname().nodename:
            # A container, or taskset, may allow less than there is.
            allowed = Place(host, tuple(sorted(os.sched_getaffinity(0))), 0).cores
            cores = min(cores, len(allowed | union))
        if len(union) < min(len(here) * point.threads, cores):
            return _crowd(host, here, union, cores, point.threads)
    return ""


def _crowd(
    host: str, here: list[Place], union: frozenset[tuple[int, ...]], cores: int, threads: int
) -> str:
    ranks = counted(len(here), "rank")
    each = counted(threads, "thread") + " each" * (len(here) > 1)
    which = ranges(tuple(sorted(core[0] for core in union)))
    bound = f"core {which}" if len(union) == 1 else f"cores {which}"
    free = " and ".join(openmp.binding()) or "OMP_PROC_BIND"
    return (
        f"{ranks} with {each} on {host} may use {bound} only, of {cores}, and would take "
        "turns: bind each to cores of its own (srun --cpu-bind=cores, mpirun --bind-to core, no "
        f"{free})"
    )


def _names(hosts: set[str]) -> str:
    return ", ".join(sorted(hosts)[:4]) + (", ..." if len(hosts) > 4 else "")


def noted(places: Sequence[Place]) -> dict[str, Any]:
    """Return what ``sweep.json`` keeps: the nodes, and whether ranks may move between cores."""
    masks = {(place.host, place.cpus) for place in places}
    return {
        "hosts": sorted({place.host for place in places}),
        # Ranks with the same CPUs may be moved from one to the other.
        "floating": len(masks) < len(places) or (len(places) == 1 and len(places[0].cores) > 1),
    }
