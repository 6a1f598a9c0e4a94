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

SCRIPT = "probe.sh"
_SECONDS = 60.0
# As often ranks with MPI are seen to be well before nobody looks any more: for about two seconds.
_LOOKS = 8
_LINE = re.compile(
    r"rankwise-probe host=(\S+) cpus=([\d,-]+) online=([\d,-]+) gpus=(.*?) variables=(\S*) end"
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
    """

    host: str
    cpus: tuple[int, ...]
    online: int
    gpus: str = ""
    variables: frozenset[str] = frozenset()

    @property
    def sees_gpus(self) -> bool:
        """Whether it may use any."""
        return self.gpus not in ("", "-1", "NoDevFiles", "all of 0")

    @property
    def cores(self) -> frozenset[tuple[int, ...]]:
        """Cores that it may run on."""
        return frozenset(hardware_threads(cpu) for cpu in self.cpus)


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


def start(words: list[str], env: dict[str, str], folder: Path, ranks: int) -> list[Place]:
    """Start the probe and return what its processes print; nothing if it fails.

    Parameters
    ----------
    words : list of str
        What stands before the program.
    env : dict
    folder : Path
        Of the sweep.
    ranks : int
    """
    script, output = folder.resolve() / SCRIPT, folder / f"probe-{ranks}.txt"
    shutil.copyfile(Path(__file__).with_name(SCRIPT), script)
    ended = execute([*words, "sh", str(script)], env, output, _SECONDS)
    return read(read_output(output)) if ended.outcome == OK else []


def read(output: str) -> list[Place]:
    """Read the lines of the probe."""
    return [
        Place(host, _cpus(cpus), len(_cpus(online)), gpus, frozenset(names.split(",")) - {""})
        for host, cpus, online, gpus, names in _LINE.findall(output)
    ]


def _cpus(text: str) -> tuple[int, ...]:
    return tuple(numbers(text))


def fault(places: Sequence[Place], point: Wanted, launcher: Launcher, linked: Linked) -> str:
    """Say in a sentence why a launch is not what its point says; empty if it is.

    Parameters
    ----------
    places : sequence of Place
        Of all its processes.
    point : Wanted
    launcher : Launcher
    linked : Linked
        What the program is linked to.
    """
    if len(places) != point.ranks:
        began, instead = counted(len(places), "process"), counted(point.ranks, "rank")
        return f"{launcher.path} started {began} instead of {instead}: see --launcher"
    hosts = {place.host for place in places}
    if point.nodes is not None and len(hosts) != point.nodes:
        there, instead = counted(len(hosts), "node"), counted(point.nodes, "node")
        ranks = counted(point.ranks, "rank")
        return f"{launcher.path} started {ranks} on {there} ({_names(hosts)}) instead of {instead}"
    return _untold(places, launcher, linked) or crowded(places, point)


def _untold(places: Sequence[Place], launcher: Launcher, linked: Linked) -> str:
    """Say that ranks are not told, in a way that their MPI understands, which ranks they are."""
    if linked.family is None or linked.own_way or len(places) < 2:
        return ""
    if all(told(linked.family, place.variables) for place in places):
        return ""
    kind = _KINDS[linked.family]
    cure = f"name a launcher of {linked.family} with --launcher"
    if launcher.path == "srun":
        cure = f"export SLURM_MPI_TYPE={kind} (`srun --mpi=list` shows what there is), or {cure}"
    return f"{launcher.path} {_alone(linked.program, linked.family, linked.library)}: {cure}"


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

    Attributes
    ----------
    mark : str
        Value of the variable `MARK` in the environment of the run.
    point : Wanted
    launcher : Launcher
    library : str
        Of MPI, that a rank has loaded; empty if none was seen.
    """

    MARK = "RANKWISE_RUN"

    mark: str
    point: Wanted
    launcher: Launcher
    library: str = ""
    _before: str = ""
    _well: int = 0

    def __call__(self) -> str:
        """Say why the run is to be ended; empty if nothing is wrong."""
        # Each look takes milliseconds of a core.
        if self._well >= _LOOKS:
            return ""
        host = os.uname().nodename
        places = []
        for process in _marked(f"{self.MARK}={self.mark}"):
            library = _mpi_of(process)
            family = mpi.family_of(library)
            if family is None:
                continue
            self.library = library
            variables = {line.partition("=")[0] for line in _environment(process)}
            if not told(family, variables) and self.point.ranks > 1:
                return f"{self.launcher.path} {_alone('the program', family, library)}"
            if cpus := _cpus_of(process):
                places.append(Place(host, cpus, os.cpu_count() or 1))
        # A rank that has just begun may not be where it will be.
        seen = crowded(places, self.point) if len(places) > 1 else ""
        before, self._before = self._before, seen
        self._well += bool(places) and not seen
        return f"in the running program {seen}" if seen and seen == before else ""


def _marked(variable: str) -> list[Path]:
    """Return the processes here that have a variable, of those that this user may look at."""
    processes = (path for path in Path("/proc").iterdir() if path.name.isdecimal())
    return [process for process in processes if variable in _environment(process)]


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


def _cpus_of(process: Path) -> tuple[int, ...]:
    """Return the CPUs that any thread of a process may run on."""
    found: set[int] = set()
    for status in process.glob("task/*/status"):
        try:
            lines = status.read_text(errors="replace").splitlines()
        except OSError:
            continue
        found |= {
            cpu
            for line in lines
            if line.startswith("Cpus_allowed_list:")
            for cpu in numbers(line.partition(":")[2].strip())
        }
    return tuple(sorted(found))
