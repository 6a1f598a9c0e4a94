"""A profile of each rank, by cProfile, and one table of all."""

import cProfile
import marshal
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rankwise.disk import files
from rankwise.node.rank import Rank
from rankwise.ranks import start
from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.clock import PHASES
from rankwise.ranks.places import near
from rankwise.ranks.words import counted, printable
from rankwise.run import rank_files

# A function as cProfile names it: file, line, name.
Function = tuple[str, int, str]
# Functions in the table, and those that a rank proposes for it, by their own time.
MOST, _PROPOSED = 30, 60
_NOTE = """\
cProfile does not see calls of mpi4py and of compiled kernels: their time is that of the function
which calls them, and waiting in MPI is part of it. The phases tell these apart. They are of the
timed repeats and of what runs once; the functions are of the whole run, with the warm-up."""


def begin(rank: Rank, folder: Path, name: str) -> None:
    """Profile this rank from here on, until the ranks end; then write the profiles. Collective.

    Parameters
    ----------
    rank : Rank
    folder : Path
    name : str
        Of the run; the files are ``<name>-rank-<rank>.prof`` and, of all ranks,
        ``<name>-profile.txt``.

    Raises
    ------
    Stop
        A rank cannot write there, or another profiler is at work.
    """
    comm, profile = rank.comm, cProfile.Profile()
    with agreement(comm):
        path = rank_files.path("--profile", folder, name, comm.rank, comm.size, "prof")
    # From Python 3.12 on it refuses where another profiler is at work.
    with agreement(comm, ValueError):
        profile.enable()

    def end() -> None:
        profile.create_stats()
        table = folder / f"{name}-profile.txt"
        title = f"{name} on {counted(comm.size, 'rank')}"
        text = "\n".join(
            [title, "", *_functions(rank, _own(profile.stats)), "", *_phases(rank), "", _NOTE]
        )
        # The run may have been stopped in a repeat.
        rank.clock.repeat = None
        with agreement(comm), rank.phase("write"):
            _write(path, marshal.dumps(profile.stats))
            if comm.rank == 0:
                _write(table, printable(f"{text}\n").encode())
        rank.tell(f"a profile of all ranks: {table}")

    start.endings.append(end)


def _own(stats: Any) -> dict[Function, tuple[float, int]]:
    """Return the own seconds and the calls of each function, without addresses in its name."""
    found: dict[Function, tuple[float, int]] = {}
    for (file, line, name), (_, calls, seconds, *_) in stats.items():
        key = file, line, re.sub(" at 0x[0-9a-f]+", "", name)
        before = found.get(key, (0.0, 0))
        found[key] = before[0] + seconds, before[1] + calls
    return found


def _write(path: Path, octets: bytes) -> None:
    try:
        files.write(path, memoryview(octets), force=False)
    except OSError as error:
        raise Stop(f"cannot write {path}: {error.strerror}", status=1) from None


def _functions(rank: Rank, own: dict[Function, tuple[float, int]]) -> Iterator[str]:
    """Yield the table of functions, on rank 0. Collective."""
    comm = rank.comm
    proposed = sorted(own, key=lambda key: own[key], reverse=True)[:_PROPOSED]
    # Rank 0 alone holds what all propose, which is mostly the same; the others get the union.
    told = comm.gather(proposed) or []
    keys = comm.bcast(sorted({key for each in told for key in each}))
    figures = np.array([own.get(key, (0.0, 0)) for key in keys], float)
    every = np.empty((comm.size, *figures.shape)) if comm.rank == 0 else None
    comm.Gather(figures, every)
    if every is None:
        return
    yield f"{'own seconds':<12}{'min':>10}{'median':>10}{'max':>10}{'calls':>14}   over ranks"
    seconds, calls = every.transpose(2, 1, 0)
    for k in np.argsort(-seconds.max(axis=1), kind="stable")[:MOST]:
        least, most = int(calls[k].min()), int(calls[k].max())
        times = str(most) if least == most else f"{least}-{most}"
        yield f"{'':<12}{_three(seconds[k])}{times:>14}   {_named(keys[k])}"


def _phases(rank: Rank) -> Iterator[str]:
    """Yield the table of phases, on rank 0. Collective."""
    comm, seconds = rank.comm, rank.clock.seconds
    # As in the record, a rank that was not in a phase has no sample of it.
    own = np.where(np.isnan(seconds).all(axis=0), np.nan, np.nansum(seconds, axis=0))
    every = np.empty((comm.size, len(PHASES))) if comm.rank == 0 else None
    comm.Gather(own, every)
    if every is None:
        return
    yield f"{'phases':<12}{'min':>10}{'median':>10}{'max':>10}   seconds, over ranks"
    for name, seconds in zip(PHASES, every.T, strict=True):
        if len(ran := seconds[~np.isnan(seconds)]):
            yield f"{name:<12}{_three(ran)}"


def _three(values: np.ndarray) -> str:
    return "".join(f"{each:>10.4f}" for each in (values.min(), np.median(values), values.max()))


def _named(function: Function) -> str:
    file, line, name = function
    # Of what is not written in Python, cProfile knows the name alone.
    if file == "~":
        return name
    return f"{near(file)}:{line}({name})"
