"""The ranks of a running program: which MPI they loaded, what they were told, where they are."""

import os
from dataclasses import dataclass
from pathlib import Path

from rankwise.ranks.words import counted, numbers
from rankwise.sweep import mpi, probe
from rankwise.sweep.launchers import Launcher
from rankwise.sweep.mpi import Linked
from rankwise.sweep.probe import Place, Wanted

# As often ranks with MPI are seen to be well before nobody looks any more: for about two seconds.
_LOOKS = 8
_UNKNOWN = Linked()


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
            alone = probe.alone("the program", family, self.library)
            self.alone = f"{self.launcher.path} {alone}; {probe.cure(self.launcher, family)}"
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
        seen = probe.crowded(places, self.point) if len(places) > 1 else ""
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
            found[process.name] = _Rank(library, probe.told(family, names), _cpus_of(process))

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
