"""What a sweep may use, and how it starts a program on some of it."""

import glob
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from rankwise.node import slurm
from rankwise.node.cores import hardware_threads
from rankwise.ranks.words import counted
from rankwise.sweep import mpi
from rankwise.sweep.mpi import Linked

# What sbatch sets for the whole allocation and srun reads beside its command line: a step that is
# smaller than the allocation, or shaped otherwise, must see only what is true of any step.
_FOR_STEPS = re.compile(
    r"SLURM_(CONF|JOBID|JOB_\w+|ARRAY_\w+|SUBMIT_\w+|CLUSTER_NAME|MPI_TYPE|NODELIST|TOPOLOGY_\w+"
    r"|PMIX\w*|NETWORK|TASK_PROLOG|TASK_EPILOG|RESTART_COUNT)"
)
# The launchers of MPI read some of these to find the nodes, but none that says how a step looks.
_NOT_FOR_STEPS = (
    "SLURM_CPUS_PER_TASK",
    # sbatch --export=NONE: what follows from the site's modules is meant to reach the ranks.
    "SLURM_EXPORT_ENV",
    "SLURM_GPUS",
    "SLURM_GPUS_PER_NODE",
    "SLURM_GPUS_PER_TASK",
    "SLURM_HINT",
    "SLURM_NTASKS_PER_GPU",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_TRES_PER_TASK",
    "SRUN_CPUS_PER_TASK",
)
_UNSET = "if this is in no job of Slurm, start with env -u SLURM_JOB_ID"
_SPECIAL_STEPS = 0xFFFFFFF0
_PLACEHOLDERS = ("ranks", "threads", "nodes")
# Not a shell's ${X}, nor {{id}}, which Flux replaces.
_BRACED = re.compile(r"(?<![${])\{([A-Za-z_]\w*)\}(?!\})")


class UsageError(Exception):
    """A mistake of the user; the message is one sentence for them."""


@dataclass(frozen=True)
class Resources:
    """What the ranks may use.

    Attributes
    ----------
    cores : tuple of int
        Physical cores of each node.
    gpus : int
        GPUs of each node.
    slurm : bool
        Whether this is a Slurm allocation, which nothing may exceed.
    siblings : int
        Hardware threads of a core.
    """

    cores: tuple[int, ...]
    gpus: int
    slurm: bool
    siblings: int = 1

    def capacity(self, threads: int, gpus_per_rank: int) -> tuple[int, ...]:
        """Return how many ranks fit on each node without sharing a core or a GPU."""
        if not gpus_per_rank:
            return tuple(cores // threads for cores in self.cores)
        return tuple(min(cores // threads, self.gpus // gpus_per_rank) for cores in self.cores)

    def nodes(self, ranks: int, threads: int, gpus_per_rank: int) -> int:
        """Return the smallest number of nodes that holds so many ranks; all if none does."""
        filled = accumulate(self.capacity(threads, gpus_per_rank))
        return next((n for n, room in enumerate(filled, 1) if room >= ranks), len(self.cores))


def resources(cores: int | None = None, cores_per_node: int | None = None) -> Resources:
    """Find out what the ranks may use: the Slurm allocation, else this machine.

    Parameters
    ----------
    cores : int, optional
        What the user says, for launchers that reach further than this machine.
    cores_per_node : int, optional
        How these are divided among nodes; without them, how many a node has that is billed.

    Raises
    ------
    UsageError
        Slurm's description of the allocation cannot be read, or `cores_per_node` is not true of
        this machine.
    """
    if cores is not None:
        each = cores_per_node or cores
        full, rest = divmod(cores, each)
        nodes = (each,) * full + (rest,) * (rest > 0)
        return Resources(nodes, _visible_gpus(), slurm=False)
    physical, siblings = _local_cores()
    if not slurm.inside():
        if cores_per_node is not None:
            _refuse_fewer(cores_per_node)
        return Resources((physical,), _visible_gpus(), False, siblings)
    if cores_per_node is not None:
        raise UsageError("Slurm tells how many cores a node has: leave out --cores-per-node")
    cpus = _cpus_per_node(os.environ.get("SLURM_JOB_CPUS_PER_NODE", ""))
    # What Slurm calls a CPU is a core at some sites and a hardware thread at others. All nodes are
    # taken to be like this one.
    # salloc on a login node does not tell: then the fewer cores.
    here = _told("SLURM_CPUS_ON_NODE") or siblings * physical
    each = min(siblings, max(1, round(here / physical)))
    return Resources(tuple(max(1, n // each) for n in cpus), _gpus_of_node(), True, siblings)


def _refuse_fewer(cores_per_node: int) -> None:
    """Raise `UsageError` if a node is said to have fewer cores than this machine."""
    # All of them: a node is billed as a whole, whatever part this process may use.
    whole = len({hardware_threads(cpu) for cpu in range(os.cpu_count() or 1)})
    if cores_per_node < whole:
        raise UsageError(
            f"--cores-per-node {cores_per_node}: without --cores this machine is the node, and it "
            f"has {counted(whole, 'core')}"
        )


def _gpus_of_node() -> int:
    """Return the GPUs of a node; salloc tells only what was asked for: ``4`` or ``a100:4``."""
    here = _told("SLURM_GPUS_ON_NODE")
    return (_told("SLURM_GPUS_PER_NODE") or 0) if here is None else here


def _told(name: str) -> int | None:
    """Return the number that a variable of Slurm tells, of a kind perhaps; None if it does not."""
    text = os.environ.get(name)
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,6}", number := text.rpartition(":")[2]):
        raise UsageError(f"{name} is {text!r}, and no number: {_UNSET}")
    return int(number)


def _cpus_per_node(text: str) -> list[int]:
    """Read ``SLURM_JOB_CPUS_PER_NODE``: ``72(x2),36`` is 72, 72, 36."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([1-9][0-9]{0,5})(?:\(x([0-9]{1,6})\))?", part)
        if match is None:
            raise UsageError(f"SLURM_JOB_CPUS_PER_NODE is {text!r}, and no list of CPUs: {_UNSET}")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _local_cores() -> tuple[int, int]:
    """Return how many cores this process may use, and the hardware threads of a core."""
    cores = {hardware_threads(cpu) for cpu in os.sched_getaffinity(0)}
    return len(cores), max(map(len, cores))


def _visible_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len(glob.glob("/dev/nvidia[0-9]*"))


@dataclass(frozen=True)
class Launcher:
    """How a program is started on several ranks.

    Attributes
    ----------
    name : str
        For the report.
    words : callable
        ``words(ranks, threads, gpus_per_rank, nodes)`` returns what stands before the program.
    path : str
        What is executed, for messages.
    family : str or None
        See `rankwise.sweep.mpi`; None if it is not known, or is any.
    own : bool
        It is the user's, which may reach further than this machine.
    """

    name: str
    words: Callable[[int, int, int, int], list[str]]
    path: str
    family: str | None = None
    own: bool = False

    @property
    def starts_ranks(self) -> bool:
        """Whether it starts them itself; behind ``env`` the program does, a script for example."""
        return Path(self.path).name != "env"

    @property
    def own_way(self) -> bool:
        """Whether it may tell ranks which they are by a library, as Flux does those of Open MPI."""
        return Path(self.path).name == "flux"


def choose(template: str | None, found: Resources, linked: Linked) -> Launcher:
    """Return the launcher: the user's, ``srun`` inside an allocation, else an ``mpirun``.

    Parameters
    ----------
    template : str, optional
        The user's, with ``{ranks}`` and perhaps ``{threads}`` and ``{nodes}``.
    found : Resources
        From `resources`.
    linked : Linked
        What the program is linked to: an ``mpirun`` of that MPI is looked for, beside the Python
        of a Python program first. If nothing is known, the first on the search path is taken.

    Raises
    ------
    UsageError
        There is none, it cannot start anything here, or the template has no ``{ranks}`` or a
        placeholder that there is not.
    """
    if template is not None:
        return _from_template(template)
    if found.slurm:
        step = os.environ.get("SLURM_STEP_ID", "")
        # Above are the numbers that Slurm keeps for batch scripts and shells of salloc.
        if step.isdecimal() and int(step) < _SPECIAL_STEPS:
            raise UsageError("no step starts inside a step (srun --pty): use salloc, or --launcher")
        if shutil.which("srun") is None:
            raise UsageError("this is a Slurm allocation and there is no srun: use --launcher")
        return Launcher("srun", _srun(found), "srun")
    paths = mpi.launchers_on_path(linked)
    if not paths:
        raise UsageError(
            "there is no mpirun: load the site's MPI module, pip install 'rankwise[laptop]', "
            "or name a launcher, for example --launcher 'mpiexec -n {ranks}'"
        )
    if linked.family is None:
        return _mpirun(paths[0], _family(paths[0]), sum(found.cores))
    for path in paths:
        if _family(path) == linked.family:
            return _mpirun(path, linked.family, sum(found.cores))
    raise UsageError(
        f"{linked.program} is linked to {mpi.described(linked.family)} ({linked.library}), and no "
        f"mpirun of it is on the search path: load its module, or name one with --launcher"
    )


def _family(path: str) -> str | None:
    try:
        return mpi.family_of_launcher(path)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{path} --version failed: {error}") from None


def _from_template(template: str) -> Launcher:
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise UsageError(f"--launcher {template!r}: {error}") from None
    if not any("{ranks}" in word for word in words):
        raise UsageError(f"--launcher {template!r} has no {{ranks}} to put the rank count in")
    for name in _BRACED.findall(template):
        if name not in _PLACEHOLDERS:
            raise UsageError(
                f"--launcher {template!r}: there is no {{{name}}}, only {{ranks}}, {{threads}} "
                "and {nodes}"
            )

    def fill(ranks: int, threads: int, gpus_per_rank: int, nodes: int) -> list[str]:
        values: dict[str, object] = {"ranks": ranks, "threads": threads, "nodes": nodes}
        return [substitute(word, values) for word in words]

    if shutil.which(words[0]) is None:
        raise UsageError(f"--launcher {template!r}: there is no program {words[0]}")
    path = next((word for word in words if mpi.is_launcher(word)), None)
    family = None
    if path and shutil.which(path):
        family = _family(path)
    elif any(Path(word).name == "srun" for word in words):
        path = "srun"
    return Launcher(template, fill, path or words[0], family, own=True)


def substitute(word: str, values: dict[str, object]) -> str:
    """Replace ``{name}`` by its value for each name; other braces stay as they are."""
    pattern = "|".join(re.escape(name) for name in values)
    return re.sub(rf"\{{({pattern})\}}", lambda match: str(values[match[1]]), word)


def _srun(found: Resources) -> Callable[[int, int, int, int], list[str]]:
    def words(ranks: int, threads: int, gpus_per_rank: int, nodes: int) -> list[str]:
        # --wait: one dead rank ends the step, and later than the others' own exit statuses.
        # --distribution: fill a node before the next.
        made = ["srun", f"--nodes={nodes}", f"--ntasks={ranks}", f"--cpus-per-task={threads}"]
        made += ["--distribution=block", "--cpu-bind=cores", "--wait=5"]
        # Else two ranks may share a core, one on each of its hardware threads.
        made += ["--threads-per-core=1"] if found.siblings > 1 else []
        # All of the node's: ranks choose by local rank, and GPUs that are hidden from each other
        # copy through the host.
        return made + ([f"--gpus-per-node={found.gpus}"] if gpus_per_rank else [])

    return words


def may_bind() -> bool:
    """Whether an ``mpirun`` may bind ranks: this process is allowed all of the machine."""
    # Both libraries bind to the first cores of the machine, allowed to this process or not.
    return len(os.sched_getaffinity(0)) == os.cpu_count()


def _mpirun(path: str, family: str | None, cores: int) -> Launcher:
    whole = may_bind()

    def hydra(ranks: int, threads: int, gpus_per_rank: int, nodes: int) -> list[str]:
        bind = f"core:{threads}" if whole and ranks * threads <= cores else "none"
        return [path, "-n", str(ranks), "-bind-to", bind]

    def openmpi(ranks: int, threads: int, gpus_per_rank: int, nodes: int) -> list[str]:
        if ranks * threads > cores:
            return [path, "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]
        if not whole:
            return [path, "-n", str(ranks), "--bind-to", "none"]
        return [path, "-n", str(ranks), "--map-by", f"slot:PE={threads}", "--bind-to", "core"]

    def other(ranks: int, threads: int, gpus_per_rank: int, nodes: int) -> list[str]:
        return [path, "-n", str(ranks)]

    words = openmpi if family == mpi.OPEN_MPI else other
    if family == mpi.MPICH and mpi.HYDRA in mpi.banner(path):
        words = hydra
    name = f"{Path(path).name} of {family}" if family else Path(path).name
    return Launcher(name, words, path, family)


def environment(threads: int, launcher: Launcher) -> dict[str, str]:
    """Return the variables that a run gets: this process's, with threads set for every library."""
    env = {name: value for name, value in os.environ.items() if _meant(name, launcher)}
    for library in ("MKL", "NUMBA", "OMP", "OPENBLAS"):
        env[f"{library}_NUM_THREADS"] = str(threads)
    return env


def _meant(name: str, launcher: Launcher) -> bool:
    if launcher.path == "srun" and name.startswith(("SLURM_", "SRUN_")):
        return _FOR_STEPS.fullmatch(name) is not None
    return name not in _NOT_FOR_STEPS
