"""What the environment tells OpenMP, whose library obeys as soon as it is loaded.

Numba's threads are OpenMP's. Told to bind threads, GNU's library moves the main thread of every
rank to the first core that it may use, or to the first in a list even where it may not: ranks
without cores of their own, and all that are given one list, end on the same core.
"""

import os
from typing import TYPE_CHECKING

from rankwise.ranks.mpi import is_number
from rankwise.ranks.words import ranges

if TYPE_CHECKING:
    from mpi4py import MPI

# Of OpenMP, of GNU's library [1]_, and of LLVM's and Intel's [2]_.
# .. [1] https://gcc.gnu.org/onlinedocs/libgomp/Environment-Variables.html
# .. [2] https://openmp.llvm.org/design/Runtimes.html
_BINDING = (
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_HW_SUBSET",
    "KMP_PLACE_THREADS",
)
# Values with which these bind nothing.
_FREE = ("", "false", "none", "disabled")


def prepare(node: "MPI.Comm", cores: tuple[int, ...], threads: int) -> list[str]:
    """Remove variables that are wrong for this rank, before OpenMP is loaded. Collective.

    Those that bind it to cores to which they bind another rank, too; those that give it fewer
    threads than it is said to have.

    Parameters
    ----------
    node : MPI.Comm
        The ranks of one node.
    cores : tuple of int
        Logical CPUs that this rank may run on.
    threads : int
        Of this rank.

    Returns
    -------
    list of str
        What to warn of.
    """
    notes = []
    if names := _same_for_others(node, cores):
        notes.append(
            f"{_removed(names)} is not used: it would bind several ranks to the same cores; bind "
            "each rank to cores of its own (srun --cpu-bind=cores, mpirun --bind-to core)"
        )
    limit = os.environ.get("OMP_THREAD_LIMIT", "").strip()
    names = ["OMP_THREAD_LIMIT"] if is_number(limit) and int(limit) < threads else []
    if threads > 1 and os.environ.get("OMP_DYNAMIC", "").strip().lower() == "true":
        names.append("OMP_DYNAMIC")
    if names:
        notes.append(f"{_removed(names)} is not used: --threads says how many a rank has")
    return notes


def _same_for_others(node: "MPI.Comm", cores: tuple[int, ...]) -> list[str]:
    """Return the variables that bind another rank to the same cores. Collective over `node`."""
    values = {name: os.environ[name] for name in binding()}
    everyone = node.allgather((frozenset(cores), values))
    names = []
    for name, value in values.items():
        # A script may have given each rank a value of its own.
        same = [theirs for theirs, told in everyone if told.get(name) == value]
        # A list of CPUs takes a rank away from its own, if a launcher has given it some.
        listed = name == "GOMP_CPU_AFFINITY" or "{" in value or "proclist" in value
        if sum(listed or not theirs.isdisjoint(cores) for theirs in same) > 1:
            names.append(name)
    return names


def binding() -> list[str]:
    """Return the names of the variables that have OpenMP bind threads."""
    return [name for name in _BINDING if os.environ.get(name, "").strip().lower() not in _FREE]


def _removed(names: list[str]) -> str:
    return " ".join(f"{name}={os.environ.pop(name)}" for name in names)


def look_again(cores: tuple[int, ...]) -> list[str]:
    """Give this thread all its cores back, if a library has taken some that nobody told to.

    Returns
    -------
    list of str
        What to warn of.
    """
    now = tuple(sorted(os.sched_getaffinity(0)))
    if now == cores or (binding() and set(now) <= set(cores)):
        return []
    os.sched_setaffinity(0, cores)
    return [
        f"loading Numba's threads moved a rank from the cores {ranges(cores)} to {ranges(now)}; it "
        "was given them back"
    ]
