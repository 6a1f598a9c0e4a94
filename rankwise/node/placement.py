"""Refuse launches that cannot go well, and warn of those that go badly, before any time is spent.

A launch is an error if its results or its times would be wrong and the cure is known, otherwise it
is worth a warning.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rankwise.node import code, groups
from rankwise.node.device import Device, physical_core
from rankwise.node.variants import GPU_VARIANTS, VARIANTS
from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.mpi import is_number, mpi_files, mpi_library
from rankwise.ranks.words import counted

if TYPE_CHECKING:
    from mpi4py import MPI

# What says that GPUs were asked for.
_GPU_WISHES = (
    "CUDA_VISIBLE_DEVICES",
    "SLURM_GPUS",
    "SLURM_GPUS_PER_NODE",
    "SLURM_GPUS_PER_TASK",
)


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
        Digest of the job, `kernels` and `rankwise`.
    quotas : dict of group to float
        From `rankwise.node.groups.cpu_quotas`.
    notes : tuple of str
        What else to warn of.
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
    quotas: dict[groups.Group, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def look(
    comm: "MPI.Comm", device: Device, variant: str, variants: Sequence[str] = VARIANTS
) -> tuple[list[str], list[str]]:
    """Find what is wrong with this launch. Collective over `comm`.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    device : Device
        What this rank runs on.
    variant : str
        What the user asked for, ``auto`` included.
    variants : sequence of str
        Those that the kernel has.

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
        mpi=mpi_library(),
        loaded=mpi_files(),
        versions=code.versions("python", "numpy", "numba", "llvmlite", "numba_cuda", "cupy"),
        code=_code_digest(),
        quotas=groups.cpu_quotas(),
        notes=device.notes,
    )
    every = comm.gather(facts)
    difference = _difference(every or [])
    refuse(comm, [difference] if difference else [])
    return ([], []) if every is None else judge(every, variant, device.variant, variants)


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
        # These mean that no GPU may be used; number 0 is one.
        none = ("", "-1", "NoDevFiles", *(("0",) if name.startswith("SLURM_") else ()))
        if value.strip() not in none:
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
        return min(cores, int(allotted)) if allotted and is_number(allotted) else cores
    except OSError:
        return 1
    finally:
        os.sched_setaffinity(0, bound)


def _code_digest() -> str:
    """Return a digest of the program, of its kernels and of `rankwise`, wherever they are."""
    program = getattr(sys.modules["__main__"], "__file__", None)
    own = [Path(program)] if program else []
    return code.digest([*own, *code.package_files(), *code.kernel_files()])


def judge(
    ranks: Sequence[Facts], wanted: str, variant: str, variants: Sequence[str] = VARIANTS
) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings that the facts of ranks of the same code give rise to.

    Parameters
    ----------
    ranks : sequence of Facts
        By rank.
    wanted, variant : str
        The variant that the user asked for, and the one that runs.
    variants : sequence of str
        Those that the kernel has.
    """
    nodes: dict[int, list[Facts]] = {}
    for facts in ranks:
        nodes.setdefault(facts.node, []).append(facts)
    bound, crowds, shared, throttled = [], [], [], []
    for node in nodes.values():
        load, words = _crowd(node)
        if _on_one_core(node):
            bound.append(_one_core(node))
        elif load > 1:
            crowds.append((load, words))
        if gpu := _shared_gpu(node):
            shared.append(gpu)
        if quota := _throttled(node):
            throttled.append(quota)
    errors = [bound[0] + _elsewhere(bound)] if bound else []
    warnings = [_two_libraries(ranks)]
    if crowds:
        warnings.append(max(crowds)[1] + _elsewhere(crowds))
    for found in (shared, throttled):
        warnings += [found[0] + _elsewhere(found)] if found else []
    # The same for ten thousand ranks is said once.
    warnings += dict.fromkeys(text for facts in ranks for text in facts.notes)
    if wanted == "auto":
        warnings.append(_unused_gpus(ranks, variant, variants))
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
        "mpirun --bind-to core, no OMP_PROC_BIND)"
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


def _throttled(node: Sequence[Facts]) -> str:
    """Say that the threads of a node are more than the cores whose time they have."""
    threads: Counter[groups.Group] = Counter()
    quotas: dict[groups.Group, float] = {}
    for facts in node:
        threads.update(dict.fromkeys(facts.quotas, facts.threads))
        quotas |= facts.quotas
    short = [group for group, cores in quotas.items() if threads[group] > cores]
    if not short:
        return ""
    group = max(short, key=lambda each: threads[each] / quotas[each])
    return (
        f"{counted(threads[group], 'thread')} on {node[0].host} have the time of "
        f"{quotas[group]:.3g} cores (the CPU quota of a container or job) and stand still in "
        "between, so that times mean little: ask for more, or start fewer ranks or threads"
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


def _unused_gpus(ranks: Sequence[Facts], variant: str, variants: Sequence[str]) -> str:
    """Say why ``auto`` did not take the GPUs; empty if it did, or there are none."""
    with_gpu = [rank for rank, facts in enumerate(ranks) if facts.gpus]
    without = [rank for rank, facts in enumerate(ranks) if not facts.gpus]
    wish = next((facts.wish for facts in ranks if facts.wish), "")
    if variant in GPU_VARIANTS:
        return ""
    if not set(GPU_VARIANTS) & set(variants):
        there = f"a GPU was asked for ({wish}), and the kernel has no variant for it: ask for none"
        return there if wish else ""
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
