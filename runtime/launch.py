"""Refuse launches that cannot go well, and warn of those that go badly, before any time is spent.

A launch is an error if its results or its times would be wrong and the cure is known, otherwise it
is worth a warning.
"""

import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import provenance
from runtime.device import Device, physical_core
from runtime.program import Stop, agreement

if TYPE_CHECKING:
    from mpi4py import MPI

# Variables that tell a process how many were started, and which of them it is. The inner launcher
# comes last: `mpirun` inside a Slurm step hides what `srun` said.
_COUNTS = {
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "PMI_SIZE": "PMI_RANK",
}
# What says that GPUs were asked for.
_GPU_WISHES = (
    "CUDA_VISIBLE_DEVICES",
    "SLURM_GPUS",
    "SLURM_GPUS_PER_NODE",
    "SLURM_GPUS_PER_TASK",
)
# The libraries proper, also under the names of vendors; not their C++ and Fortran parts.
_MPI_LIBRARY = re.compile(r"/lib(mpi|mpich|mpi_(amd|cray|gnu|intel|nvidia)\w*)\.so[.\d]*$")


@dataclass(frozen=True)
class Facts:
    """What one rank knows of its launch.

    Attributes
    ----------
    host : str
    node : int
        World rank of the first rank of its node.
    cpus, cores : frozenset of int
        Logical CPUs that it may run on, and their cores, where hardware threads count once.
    permitted : int
        Cores that it could have been given; looked up only where it has a single one.
    threads : int
    device : str
        The GPU's name and UUID, or ``host``.
    gpus : int
        Number of GPUs that it sees; 0 also if the variant wants none.
    wish : str
        Variable that asks for a GPU, with its value; empty if there is none.
    mpi : str
        Version of the MPI library.
    loaded : tuple of str
        Files of the MPI libraries that are loaded.
    versions : dict of str to str
        Of Python and of the libraries that the result depends on.
    code : str
        Digest of the job, `kernels` and `runtime`.
    """

    host: str
    node: int
    cpus: frozenset[int]
    cores: frozenset[int]
    permitted: int
    threads: int
    device: str
    gpus: int
    wish: str
    mpi: str
    loaded: tuple[str, ...]
    versions: dict[str, str]
    code: str


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
    told = {name: int(os.environ[name]) for name in _COUNTS if _is_number(os.environ.get(name))}
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


def _is_number(text: str | None) -> bool:
    return text is not None and text.isdecimal()


def _copies_message(copies: int) -> str:
    library, wanted = _library()
    launcher = _launcher()
    started = (
        f"{launcher} started {copies} copies of this program, each rank 0 of 1: it and the MPI "
        f"library, {library}, do not fit together; "
    )
    mpirun = f"start it with {_mpirun()}"
    if launcher != "srun":
        return started + mpirun
    used, offered = os.environ.get("SLURM_MPI_TYPE"), _offered()
    if "Intel" in library and used == "pmi2":
        return f"{started}export I_MPI_PMI_LIBRARY, the path of Slurm's libpmi2.so"
    if not offered and used != wanted[0]:
        return f"{started}{_with_type(wanted[0])} (`srun --mpi=list` shows what there is)"
    fitting = [kind for kind in wanted if kind in offered and kind != used]
    list_of_all = f"this Slurm offers --mpi={', '.join(offered)}"
    if fitting:
        return f"{started}{_with_type(fitting[0])} ({list_of_all})"
    return f"{started}{mpirun} inside the allocation ({list_of_all}; it wants {wanted[0]})"


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
    name = provenance.mpi_library().partition(",")[0].replace(" Version:", "")
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
    found = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            # Address, permissions, offset, device, inode, path: see proc_pid_maps(5).
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and _MPI_LIBRARY.search(fields[5]):
                found[fields[3], fields[4]] = fields[5]
    return tuple(sorted(found.values()))


def look(comm: "MPI.Comm", device: Device, variant: str) -> tuple[list[str], list[str]]:
    """Find what is wrong with this launch. Collective over `comm`.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    device : Device
        What this rank runs on.
    variant : str
        What the user asked for, ``auto`` included.

    Returns
    -------
    errors, warnings : lists of str
        Known on rank 0, empty elsewhere.

    Raises
    ------
    Stop
        Ranks differ in their code or libraries, so that they may wait for different things.
    """
    from mpi4py import MPI

    cores = frozenset(map(physical_core, device.cores))
    facts = Facts(
        host=MPI.Get_processor_name(),
        node=device.node.bcast(comm.rank),
        cpus=frozenset(device.cores),
        cores=cores,
        permitted=len(cores) if len(cores) > 1 else _permitted(),
        threads=device.threads,
        device=device.name,
        gpus=len(device.gpus),
        wish=_gpu_wish(),
        mpi=provenance.mpi_library(),
        loaded=mpi_files(),
        versions=provenance.versions("python", "numpy", "numba", "llvmlite", "numba_cuda", "cupy"),
        code=_code_digest(),
    )
    every = comm.gather(facts)
    difference = _difference(every or [])
    refuse(comm, [difference] if difference else [])
    return ([], []) if every is None else judge(every, variant, device.variant)


def refuse(comm: "MPI.Comm", errors: list[str]) -> None:
    """Stop on every rank if there is an error. Collective over `comm`.

    Raises
    ------
    Stop
        With the first of the errors that rank 0 knows.
    """
    with agreement(comm):
        if errors:
            raise Stop(errors[0])


def _gpu_wish() -> str:
    for name in _GPU_WISHES:
        value = os.environ.get(name, "")
        # The last two mean that no GPU may be used.
        if value not in ("", "-1", "NoDevFiles"):
            return f"{name}={value}"
    return ""


def _permitted() -> int:
    """Return the number of cores that the system, and Slurm, would let this process use.

    The kernel cuts a wish down to the cpuset of the job, so one that is too large tells its size.
    """
    bound = os.sched_getaffinity(0)
    allotted = os.environ.get("SLURM_CPUS_ON_NODE")
    try:
        os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF")))
        cores = len({physical_core(cpu) for cpu in os.sched_getaffinity(0)})
        return min(cores, int(allotted)) if allotted and _is_number(allotted) else cores
    except OSError:
        return 1
    finally:
        os.sched_setaffinity(0, bound)


def _code_digest() -> str:
    """Return a digest of the program, of `kernels` and of `runtime`, wherever they are."""
    root = Path(__file__).parents[1]
    program = getattr(sys.modules["__main__"], "__file__", None)
    # Not what editors keep under hidden names, which may be no files at all.
    sources = sorted([*root.glob("runtime/[!.]*.py"), *root.glob("kernels/**/[!.]*.py")])
    digest = hashlib.sha256()
    for source in [*([Path(program)] if program else []), *sources]:
        digest.update(f"{source.name}\n".encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()


def judge(ranks: Sequence[Facts], wanted: str, variant: str) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings that the facts of ranks of the same code give rise to.

    Parameters
    ----------
    ranks : sequence of Facts
        By rank.
    wanted, variant : str
        The variant that the user asked for, and the one that runs.
    """
    nodes: dict[int, list[Facts]] = {}
    for facts in ranks:
        nodes.setdefault(facts.node, []).append(facts)
    bound, crowds, shared = [], [], []
    for node in nodes.values():
        load, words = _crowd(node)
        if _on_one_core(node):
            bound.append(_one_core(node))
        elif load > 1:
            crowds.append((load, words))
        if gpu := _shared_gpu(node):
            shared.append(gpu)
    errors = [bound[0] + _elsewhere(bound)] if bound else []
    warnings = [_two_libraries(ranks)]
    if crowds:
        warnings.append(max(crowds)[1] + _elsewhere(crowds))
    if shared:
        warnings.append(shared[0] + _elsewhere(shared))
    if wanted == "auto":
        warnings.append(_unused_gpus(ranks, variant))
    return errors, [text for text in warnings if text]


def _place(ranks: Sequence[Facts], rank: int) -> str:
    return f"rank {rank} ({ranks[rank].host})"


def _elsewhere(nodes: Sequence[object]) -> str:
    others = len(nodes) - 1
    return f"; {others} other node{'s' * (others > 1)} likewise" if others else ""


def _difference(ranks: Sequence[Facts]) -> str:
    """Say what a rank has otherwise than rank 0; empty if there is nothing."""
    for rank, facts in enumerate(ranks):
        first, here, there = ranks[0], _place(ranks, 0), _place(ranks, rank)
        if facts.mpi != first.mpi:
            return (
                f"the MPI library is {first.mpi} on {here} and {facts.mpi} on {there}: load the "
                "same module on every node"
            )
        for name in sorted({*first.versions, *facts.versions}):
            one, other = (each.versions.get(name, "absent") for each in (first, facts))
            if one != other:
                return (
                    f"{name} is {one} on {here} and {other} on {there}: give every node the same "
                    "environment"
                )
        if facts.code != first.code:
            return f"the code on {there} is not that on {here}: give every node the same clone"
    return ""


def _two_libraries(ranks: Sequence[Facts]) -> str:
    for rank, facts in enumerate(ranks):
        if len(facts.loaded) > 1:
            return (
                f"{_place(ranks, rank)} has loaded two MPI libraries, {' and '.join(facts.loaded)}"
                ": a package here was built with another MPI than mpi4py"
            )
    return ""


def _on_one_core(node: Sequence[Facts]) -> bool:
    # Different hardware threads of the one core that a job has are no mistake of the launcher.
    one = len({facts.cpus for facts in node}) == 1 and len(node[0].cores) == 1
    return one and len(node) > 1 and max(facts.permitted for facts in node) > 1


def _one_core(node: Sequence[Facts]) -> str:
    (core,), permitted = node[0].cores, max(facts.permitted for facts in node)
    return (
        f"all {len(node)} ranks on {node[0].host} are bound to core {core}, of {permitted} that "
        "they may use, and would take turns: bind each to cores of its own (srun --cpu-bind=cores, "
        "mpirun --bind-to core)"
    )


def _crowd(node: Sequence[Facts]) -> tuple[float, str]:
    """Return the threads per core where there are most of them, and what to say of it.

    Looked at are the cores of each rank, with all ranks that have no others, and those of all.
    """
    inside: dict[frozenset[int], list[Facts]] = {}
    for facts in node:
        inside.setdefault(facts.cores, []).append(facts)
    everywhere = frozenset().union(*inside)
    # Ranks with cores of their own, as launchers bind them, need no comparison with each other.
    if sum(map(len, inside)) > len(everywhere):
        sets = {*inside, everywhere}
        inside = {cores: [f for f in node if f.cores <= cores] for cores in sets}
    load = {cores: sum(f.threads for f in these) / len(cores) for cores, these in inside.items()}
    cores = max(inside, key=lambda each: (load[each], len(each)))
    threads, ranks = sum(facts.threads for facts in inside[cores]), len(inside[cores])
    where = f"core {min(cores)}" if len(cores) == 1 else f"{len(cores)} cores"
    return load[cores], (
        f"{threads} threads of {ranks} rank{'s' * (ranks > 1)} share {where} of {node[0].host} and "
        "take turns, so that times mean little: ask for more cores, or start fewer ranks or threads"
    )


def _shared_gpu(node: Sequence[Facts]) -> str:
    gpus = Counter(facts.device for facts in node if "-" in facts.device.rpartition(" ")[2])
    taken, most = gpus.most_common(1)[0] if gpus else ("", 0)
    if most < 2:
        return ""
    return (
        f"{most} ranks on {node[0].host} share the GPU {taken}: start as many ranks as there are "
        "GPUs, or ask for more GPUs"
    )


def _unused_gpus(ranks: Sequence[Facts], variant: str) -> str:
    """Say why ``auto`` did not take the GPUs; empty if it did, or there are none."""
    with_gpu = [rank for rank, facts in enumerate(ranks) if facts.gpus]
    without = [rank for rank, facts in enumerate(ranks) if not facts.gpus]
    wish = next((facts.wish for facts in ranks if facts.wish), "")
    if variant in ("cuda", "cupy"):
        return ""
    if with_gpu and without:
        return (
            f"{_place(ranks, with_gpu[0])} sees a GPU and {_place(ranks, without[0])} none, so all "
            f"run on the CPU ({variant}): give every rank a GPU"
        )
    if with_gpu:
        return (
            f"{_place(ranks, 0)} sees a GPU that stays idle, since not every rank has a library "
            "for it: pip install -e '.[cuda13]' (or '.[cuda12]', to match the driver)"
        )
    if wish:
        return (
            f"a GPU was asked for ({wish}) and no rank sees one, so all run on the CPU "
            f"({variant}): see what nvidia-smi says on that node"
        )
    return ""
