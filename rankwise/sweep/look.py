"""The ranks of a running program: which MPI they loaded, what they were told, where they are."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from rankwise.ranks.words import counted, numbers
from rankwise.sweep import mpi, probe
from rankwise.sweep.launchers import Launcher
from rankwise.sweep.mpi import Linked
from rankwise.sweep.probe import Place, Wanted
from rankwise.sweep.processes import MARK, environment, status

# As often ranks with MPI are seen to be well before nobody looks any more, or to be ill before the
# run is ended: for about three seconds.
_LOOKS = 8
_UNKNOWN = Linked()


@dataclass
class Look:
    """Looks at the ranks of a run on this node, while it runs.

    A rank is a process that has loaded an MPI library, and that no such process has started.

    Attributes
    ----------
    mark : str
        Value of the variable `processes.MARK` in the environment of the run.
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
        Why ranks do not work together, if none was told which it is when they were last seen.
    """

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
    _ill: int = 0

    def __call__(self) -> str:
        """Say why the run is to be ended; empty if nothing is wrong."""
        # Each look takes milliseconds of a core.
        if self._well >= _LOOKS:
            return ""
        seen = self._fault(_ranks(self.mark))
        # A process may be about to begin or to end, or a short one that prepares the program.
        self._ill = self._ill + 1 if seen and seen == self._before else 0
        self._before = seen
        self._well += self.ranks > 0 and not seen
        return seen if self._ill >= _LOOKS else ""

    def _fault(self, ranks: "list[_Rank]") -> str:
        if not ranks:
            return ""
        self.library = ranks[0].library
        if not self.launcher.starts_ranks:
            self.ranks = max(self.ranks, sum(rank.told for rank in ranks))
            return ""
        ranks = [rank for rank in ranks if not rank.inside]
        self.ranks = max(self.ranks, len(ranks))
        return self._untold(ranks) or self._many(ranks) or self._crowded(ranks)

    def _untold(self, ranks: "list[_Rank]") -> str:
        family = mpi.family_of(self.library)
        own_way = self.linked.own_way or self.launcher.own_way
        free = own_way or self.copies or family is None
        self.alone = ""
        if self.point.ranks > 1 and not free and not any(rank.told for rank in ranks):
            alone = probe.alone("the program", str(family), self.library)
            cure = probe.cure(self.launcher, str(family))
            self.alone = f"{self.launcher.path} {alone}; {cure}"
        return self.alone

    def _many(self, ranks: "list[_Rank]") -> str:
        told = sum(rank.told for rank in ranks)
        if self.point.nodes != 1 or told <= self.point.ranks:
            return ""
        return (
            f"on {counted(self.point.ranks, 'rank')} the program started {counted(told, 'rank')}: "
            "leave mpirun out of it, or say --launcher 'env N={ranks}' if it is to start $N ranks "
            "itself"
        )

    def _crowded(self, ranks: "list[_Rank]") -> str:
        # Before its first parallel region a rank has one thread, which OpenMP may have bound.
        begun = all(rank.threads >= self.point.threads for rank in ranks)
        host, online = os.uname().nodename, os.cpu_count() or 1
        places = [Place(host, rank.cpus, online) for rank in ranks if rank.cpus]
        seen = probe.crowded(places, self.point) if begun and len(places) > 1 else ""
        return f"in the running program {seen}" if seen else ""


@dataclass(frozen=True)
class _Rank:
    """A process with MPI: whether it knows which rank it is, and whether another has started it."""

    library: str
    told: bool
    cpus: tuple[int, ...]
    threads: int
    inside: bool = False


def _ranks(mark: str) -> list[_Rank]:
    """Return the processes with MPI that have a mark, of those that this user may look at."""
    found, parents = {}, {}
    for process in Path("/proc").iterdir():
        # Read first: of a process that has just ended nothing else is known.
        variables = environment(process) if process.name.isdecimal() else {}
        if variables.get(MARK) != mark:
            continue
        parents[process.name] = status(process).get("PPid", "")
        library = _mpi_of(process)
        # What the first process of all looks after has left its parents: no launcher waits for it.
        if library and parents[process.name] not in ("", "0", "1"):
            told = probe.told(mpi.family_of(library), set(variables))
            cpus = [_cpus_of(thread) for thread in process.glob("task/*")]
            union = tuple(sorted(frozenset().union(*cpus)))
            found[process.name] = _Rank(library, told, union, len(cpus))

    def inside(process: str) -> bool:
        parent = parents.get(process, "")
        return parent in found or (parent in parents and inside(parent))

    return [replace(rank, inside=inside(process)) for process, rank in found.items()]


def _mpi_of(process: Path) -> str:
    """Return the MPI library that a process has loaded; empty if there is none."""
    try:
        maps = (process / "maps").read_bytes().decode(errors="replace")
    except OSError:
        return ""
    files = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "/libmpi" in line}
    return next((path for path in sorted(files) if mpi.is_mpi(path)), "")


def _cpus_of(thread: Path) -> frozenset[int]:
    """Return the CPUs that a thread may run on."""
    mask = status(thread).get("Cpus_allowed_list", "")
    return frozenset(numbers(mask)) if mask else frozenset()
