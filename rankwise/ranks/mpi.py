"""The MPI library: which one it is, and whether the launcher that started the ranks fits it."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rankwise.ranks.agreement import Stop, agreement

if TYPE_CHECKING:
    from mpi4py import MPI

# Variables that tell a process how many were started, and which of them it is. The inner launcher
# comes last: `mpirun` inside a Slurm step hides what `srun` said.
_COUNTS = {
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "PMI_SIZE": "PMI_RANK",
}
# The libraries proper, also under the names of vendors; not their C++ and Fortran parts.
_MPI_LIBRARY = re.compile(r"/lib(mpi|mpich|mpi_(amd|cray|gnu|intel|nvidia)\w*)\.so[.\d]*$")


def mpi_library() -> str:
    """Return the name and version of the MPI library."""
    from mpi4py import MPI

    return " ".join(MPI.Get_library_version().splitlines()[0].strip("\0").split())


def refuse_copies(comm: "MPI.Comm") -> None:
    """Stop if the launcher has started several processes, and MPI gives each a world of its own.

    A plain ``python`` or ``mpirun -n 1`` within a batch script of many tasks is no such case.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks, according to MPI.

    Raises
    ------
    Stop
        On every copy; the message is empty but for the launcher's first process, so that it
        appears once.
    """
    told = _told()
    # A shell that `srun --pty` has opened, in which a user starts a program by hand.
    if "SLURM_PTY_PORT" in os.environ:
        told.pop("SLURM_STEP_NUM_TASKS", None)
    mpirun = [count for name, count in told.items() if name != "SLURM_STEP_NUM_TASKS"]
    # A launcher of one process inside another of many is what the user wanted.
    copies = min(mpirun) if mpirun else told.get("SLURM_STEP_NUM_TASKS", 1)
    if comm.size > 1 or copies < 2:
        return
    number = next(os.environ.get(_COUNTS[name]) for name in reversed(told))
    with agreement(comm):
        raise Stop(_copies_message(copies) if number in ("0", None) else "")


def misfit() -> str:
    """Say why the MPI library cannot start here; empty if it may. For before it is started.

    Otherwise it prints pages on every rank, and ends each.

    References
    ----------
    Open MPI 4: ``orte/mca/schizo/slurm`` and ``orte/mca/ess/pmi``; Open MPI 5 has neither. MPICH:
    ``src/pmi/src/pmi_v1.c``, ``PMI_Init``.
    """
    from mpi4py import MPI

    version, variables = MPI.Get_library_version(), set(os.environ)
    open_mpi = re.match(r"Open MPI v(\d+)", version)
    mpich = re.match(r"MPICH Version:\s*(\d+)", version)
    several = max(_told().values(), default=1) > 1
    unfit = False
    if open_mpi and not variables & {"PMIX_RANK", "OMPI_COMM_WORLD_SIZE"}:
        if int(open_mpi[1]) < 5:
            unfit = {"SLURM_NODELIST", "SLURM_STEP_ID"} <= variables and _lacks_pmi_of_slurm()
        else:
            # It starts alone; which is well if one was to be started.
            unfit = several and "PMI_RANK" in variables
    elif mpich and "PMIX_RANK" in variables and not variables & {"PMI_FD", "PMI_PORT"}:
        # Older ones start alone.
        unfit = several or int(mpich[1]) >= 5
        unfit = unfit and "pmix" not in version.lower() and not _loaded(re.compile("/libpmix"))
    if not unfit:
        return ""
    name, _ = _library()
    return f"{_launcher()} and the MPI library, {name}, do not fit together; {_cure()}"


def left_over() -> str:
    """Say that a launcher which did not start this process has left its variables behind.

    Empty if none has. Whoever opens a shell or a notebook inside a run passes them on, without what
    they refer to. Those of a run on one rank are removed.
    """
    try:
        os.fstat(int(os.environ.get("PMI_FD", "0")))
        return ""
    except (OSError, OverflowError, ValueError):
        pass
    names = [name for name in ("PMI_FD", "PMI_RANK", "PMI_SIZE") if name in os.environ]
    if os.environ.get("PMI_SIZE", "1") != "1":
        return (
            f"{', '.join(names)} are left over from another launcher: this shell or notebook was "
            f"started inside an MPI run; start with env -u {' -u '.join(names)}"
        )
    for name in names:
        del os.environ[name]
    return ""


def _lacks_pmi_of_slurm() -> bool:
    """Tell whether an Open MPI 4 was surely built without the library of Slurm's PMI, or Cray's."""
    parts: list[str] = []
    for library in mpi_files():
        for folder in ("openmpi*", "openmpi*/lib/openmpi*"):
            parts += map(str, Path(library).resolve().parent.glob(f"{folder}/mca_pmix_*.so"))
    return bool(parts) and not any(re.search(r"mca_pmix_(s1|s2|cray)\.so$", each) for each in parts)


def number() -> str:
    """Return which of the processes of its launcher this one is; ``0`` if nothing tells."""
    names = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
    return next((os.environ[name] for name in names if name in os.environ), "0")


def _told() -> dict[str, int]:
    """Return how many processes each launcher says it has started, the innermost at last."""
    return {name: int(os.environ[name]) for name in _COUNTS if is_number(os.environ.get(name))}


def is_number(text: str | None) -> bool:
    return text is not None and text.isdecimal()


def _copies_message(copies: int) -> str:
    (library, _), launcher = _library(), _launcher()
    started = (
        f"{launcher} started {copies} copies of this program, each rank 0 of 1: it and the MPI "
        f"library, {library}, do not fit together; "
    )
    return started + _cure()


def _cure() -> str:
    library, wanted = _library()
    mpirun = f"start it with {_mpirun()}"
    if _launcher() != "srun":
        return mpirun
    used, offered = os.environ.get("SLURM_MPI_TYPE"), _offered()
    if "Intel" in library and used == "pmi2":
        return "export I_MPI_PMI_LIBRARY, the path of Slurm's libpmi2.so"
    if not offered and used != wanted[0]:
        return f"{_with_type(wanted[0])} (`srun --mpi=list` shows what there is)"
    fitting = [kind for kind in wanted if kind in offered and kind != used]
    list_of_all = f"this Slurm offers --mpi={', '.join(offered)}"
    if fitting:
        return f"{_with_type(fitting[0])} ({list_of_all})"
    return f"{mpirun} inside the allocation ({list_of_all}; it wants {wanted[0]})"


def _with_type(kind: str) -> str:
    return f"use srun --mpi={kind}, or export SLURM_MPI_TYPE={kind}"


def _launcher() -> str:
    """Return what started this process, as far as it can be told."""
    # Of MPICH and its relatives, and of Open MPI.
    if {"MPI_LOCALNRANKS", "OMPI_COMM_WORLD_SIZE"} & set(os.environ):
        return "mpirun"
    return "srun" if "SLURM_STEP_NUM_TASKS" in os.environ else "the launcher"


def _library() -> tuple[str, tuple[str, ...]]:
    """Return the MPI library, and what it wants of ``srun --mpi``, best first."""
    name = mpi_library().partition(",")[0].replace(" Version:", "")
    if "Open MPI" in name:
        return name, ("pmix", "pmix_v5", "pmix_v4", "pmix_v3", "pmix_v2")
    if "CRAY" in name.upper():
        return name, ("cray_shasta", "pmi2")
    return name, ("pmi2", "pmix")


def _offered() -> list[str]:
    """Return the kinds that ``srun --mpi=list`` names; none where that fails."""
    import subprocess

    try:
        done = subprocess.run(["srun", "--mpi=list"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return []
    return sorted(re.findall(r"^\s+(\w+)$", done.stdout + done.stderr, re.MULTILINE))


def _mpirun() -> str:
    """Name the launcher that belongs to the library."""
    for library in mpi_files():
        beside = Path(library).parents[1] / "bin" / "mpirun"
        if beside.exists():
            return str(beside)
    return "the mpirun of that library"


def mpi_files() -> tuple[str, ...]:
    """Return the files of all MPI libraries that this process has loaded."""
    return _loaded(_MPI_LIBRARY)


def _loaded(names: re.Pattern[str]) -> tuple[str, ...]:
    found = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            # Address, permissions, offset, device, inode, path: see proc_pid_maps(5).
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and names.search(fields[5]):
                found[fields[3], fields[4]] = fields[5]
    return tuple(sorted(found.values()))
