"""What a launcher really starts: looked at before the first run, and in the first running ranks.

`probe.sh` is started exactly as the program will be. Each of its processes prints a line.
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankwise.node.cores import hardware_threads
from rankwise.ranks.words import counted, numbers, ranges
from rankwise.sweep import mpi
from rankwise.sweep.execute import execute
from rankwise.sweep.folder import OK
from rankwise.sweep.launchers import Launcher, Resources
from rankwise.sweep.measure import read_output
from rankwise.sweep.mpi import Linked
from rankwise.sweep.output import end_of, error_line

SCRIPT = "probe.sh"
_SECONDS = 60.0
# As often ranks with MPI are seen to be well before nobody looks any more: for about two seconds.
_LOOKS = 8
_LINE = re.compile(
    r"rankwise-probe host=(\S+) cpus=([\d,-]+) siblings=([\d,-]+) online=([\d,-]+) "
    r"gpus=(.*?) variables=(\S*) end"
)
_UNKNOWN = Linked()
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
    ended = execute([*words, "sh", str(script)], env, output, _SECONDS)
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
    if linked.family is None or not linked.sure or linked.own_way or len(places) < 2:
        return ""
    if all(told(linked.family, place.variables) for place in places):
        return ""
    alone = _alone(linked.program, linked.family, linked.library)
    return f"{launcher.path} {alone}; {_cure(launcher, linked.family)}"


def _cure(launcher: Launcher, family: str) -> str:
    cure = mpi.cure(family)
    if launcher.path == "srun":
        kind = _KINDS[family]
        cure = f"export SLURM_MPI_TYPE={kind} (`srun --mpi=list` shows what there is), or {cure}"
    return cure


def told(family: str, variables: frozenset[str] | set[str]) -> bool:
    """Whether a process knows which rank it is, by its variables."""
    # Open MPI's launcher has PMIX_* for its own library alone.
    foreign = family == mpi.MPICH and "OMPI_COMM_WORLD_SIZE" in variables
    return any(map(_OWN_PMI.match if foreign else mpi.GIVEN[family].match, variables))


def _alone(program: str, family: str, library: str) -> str:
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
    return (
        f"{ranks} with {each} on {host} may use {bound} only, of {cores}, and would take "
        "turns: bind each to cores of its own (srun --cpu-bind=cores, mpirun --bind-to core, no "
        "OMP_PROC_BIND)"
    )


def _names(hosts: set[str]) -> str:
    return ", ".join(sorted(hosts)[:4]) + (", ..." if len(hosts) > 4 else "")


def noted(places: Sequence[Place]) -> dict[str, Any]:
    """Return what ``sweep.json`` keeps: nodes, and how many cores each rank may use."""
    widths = sorted({len(place.cores) for place in places})
    masks = {(place.host, place.cpus) for place in places}
    return {
        "hosts": sorted({place.host for place in places}),
        "cores_of_a_rank": widths,
        # Ranks with the same CPUs may be moved from one to the other.
        "floating": len(masks) < len(places) or (len(places) == 1 and widths[0] > 1),
        "gpus": sorted({place.gpus for place in places}),
    }


@dataclass
class Look:
    """Looks at the ranks of a run on this node, while it runs.

    A rank is a process that has loaded an MPI library, and that no such process has started.

    Attributes
    ----------
    mark : str
        Value of the variable `MARK` in the environment of the run.
    point : Wanted
        What the point says of its ranks.
    launcher : Launcher
    linked : Linked
        What the program is linked to.
    copies : bool
        Whether its ranks are meant to know nothing of each other.
    library : str
        Of MPI, that a rank has loaded; empty if none was seen.
    ranks : int
        Most ranks that were seen at a time.
    alone : str
        Why ranks do not work together, if none was told which it is.
    """

    MARK = "RANKWISE_RUN"

    mark: str
    point: Wanted
    launcher: Launcher
    linked: Linked = _UNKNOWN
    copies: bool = False
    library: str = ""
    ranks: int = 0
    alone: str = ""
    _before: str = ""
    _well: int = 0

    def __call__(self) -> str:
        """Say why the run is to be ended; empty if nothing is wrong."""
        # Each look takes milliseconds of a core.
        if self._well >= _LOOKS:
            return ""
        seen = self._fault(_ranks(f"{self.MARK}={self.mark}"))
        # What was seen once may be of a process that was about to begin or to end.
        before, self._before = self._before, seen
        self._well += self.ranks > 0 and not seen
        return seen if seen and seen == before else ""

    def _fault(self, ranks: "list[_Rank]") -> str:
        if not ranks:
            return ""
        self.library, self.ranks = ranks[0].library, max(self.ranks, len(ranks))
        host, told_ones = os.uname().nodename, [rank for rank in ranks if rank.told]
        family = mpi.family_of(self.library) or ""
        self.alone = ""
        if not told_ones and self.point.ranks > 1 and not (self.linked.own_way or self.copies):
            alone = _alone("the program", family, self.library)
            self.alone = f"{self.launcher.path} {alone}; {_cure(self.launcher, family)}"
            return self.alone
        if not self.launcher.starts_ranks:
            return ""
        if self.point.nodes == 1 and len(told_ones) > self.point.ranks:
            return (
                f"on {counted(self.point.ranks, 'rank')} the program started "
                f"{counted(len(told_ones), 'rank')}: leave mpirun out of it, or say --launcher "
                "'env N={ranks}' if it is to start $N ranks itself"
            )
        places = [Place(host, rank.cpus, os.cpu_count() or 1) for rank in ranks if rank.cpus]
        seen = crowded(places, self.point) if len(places) > 1 else ""
        return f"in the running program {seen}" if seen else ""


@dataclass(frozen=True)
class _Rank:
    library: str
    told: bool
    cpus: tuple[int, ...]


def _ranks(variable: str) -> list[_Rank]:
    """Return the ranks here that have a variable, of those that this user may look at."""
    found, parents = {}, {}
    for process in Path("/proc").iterdir():
        # Read first: of a process that has just ended nothing else is known.
        environment = _environment(process) if process.name.isdecimal() else []
        if variable not in environment:
            continue
        parents[process.name] = _status(process).get("PPid", "")
        library = _mpi_of(process)
        if family := mpi.family_of(library):
            names = {line.partition("=")[0] for line in environment}
            found[process.name] = _Rank(library, told(family, names), _cpus_of(process))

    def of_rank(process: str) -> bool:
        parent = parents.get(process, "")
        return parent in found or (parent in parents and of_rank(parent))

    return [rank for process, rank in found.items() if not of_rank(process)]


def _environment(process: Path) -> list[str]:
    try:
        return (process / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _mpi_of(process: Path) -> str:
    """Return the MPI library that a process has loaded; empty if there is none."""
    try:
        maps = (process / "maps").read_bytes().decode(errors="replace")
    except OSError:
        return ""
    files = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "/libmpi" in line}
    return next((path for path in sorted(files) if mpi.family_of(path)), "")


def _status(process: Path) -> dict[str, str]:
    """Return what the system says of a process or thread; nothing if it has ended."""
    try:
        lines = (process / "status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _cpus_of(process: Path) -> tuple[int, ...]:
    """Return the CPUs that any thread of a process may run on."""
    masks = [_status(thread).get("Cpus_allowed_list", "") for thread in process.glob("task/*")]
    return tuple(sorted({cpu for mask in masks if mask for cpu in numbers(mask)}))
