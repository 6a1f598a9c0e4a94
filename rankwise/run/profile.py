"""A profile of each rank, by cProfile, and one table of all."""

import cProfile
import marshal
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from rankwise.disk import files
from rankwise.node.rank import Rank
from rankwise.ranks import signals, start
from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.clock import PHASES
from rankwise.ranks.places import is_foreign, near
from rankwise.ranks.words import counted, printable
from rankwise.run import rank_files

# A function as cProfile names it: file, line, name.
Function = tuple[str, int, str]
# Rows of a table; each rank proposes so many for it, by their own time.
MOST = 20
_NOTE = """\
Own seconds are without those of other functions that are called. cProfile does not see calls of
mpi4py and of compiled kernels: their time is that of the function which calls them, and waiting in
MPI is part of it. The phases tell these apart. They are of the timed repeats and of what runs once;
the functions are of the whole run, with the warm-up. The lines of main itself are in no row."""


def begin(rank: Rank, folder: Path, name: str) -> None:
    """Profile this rank from here on; write the profiles when the run has ended. Collective.

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

    def save() -> None:
        # It ends the calls that are open now, which would be left out.
        profile.create_stats()
        files.write(path, memoryview(marshal.dumps(profile.stats)), force=False)

    # A signal leaves no time for a table, since the ranks may no longer be able to meet.
    ended = ExitStack()
    ended.enter_context(signals.undone(save))

    def end() -> None:
        ended.close()
        _finish(rank, folder / f"{name}-profile.txt", save, profile)

    start.endings.append(end)


def _finish(rank: Rank, path: Path, save: Callable[[], None], profile: cProfile.Profile) -> None:
    """Write the profiles, and the table of all. Collective."""
    profile.create_stats()
    own = _own(profile.stats)
    theirs = {key: each for key, each in own.items() if key[0] == "~" or is_foreign(key[0])}
    ours = {key: each for key, each in own.items() if key not in theirs}
    text = "\n".join(
        [
            *(f"{path.stem} of {counted(rank.comm.size, 'rank')}", ""),
            *("Functions of the program, by own seconds", *_functions(rank, ours), ""),
            *("Functions of libraries, by own seconds", *_functions(rank, theirs), ""),
            *("Phases", *_phases(rank), "", _NOTE, ""),
        ]
    )
    # The run may have been stopped in a repeat.
    rank.clock.repeat = None
    with agreement(rank.comm), rank.phase("write"):
        try:
            save()
            if rank.comm.rank == 0:
                files.write(path, memoryview(printable(text).encode()), force=False)
        except OSError as error:
            raise Stop(f"cannot write to {path.parent}: {error.strerror}", status=1) from None
    rank.tell(f"a profile of all ranks: {path}")


def _own(stats: Any) -> dict[Function, tuple[float, int]]:
    """Return the own seconds and the calls of each function, without addresses in its name."""
    found: dict[Function, tuple[float, int]] = {}
    for (file, line, name), (_, calls, seconds, *_) in stats.items():
        key = file, line, re.sub(" at 0x[0-9a-f]+", "", name)
        before = found.get(key, (0.0, 0))
        found[key] = before[0] + seconds, before[1] + calls
    return found


def _functions(rank: Rank, own: dict[Function, tuple[float, int]]) -> Iterator[str]:
    """Yield a table of functions, on rank 0. Collective."""
    comm = rank.comm
    proposed = sorted(own, key=lambda key: own[key], reverse=True)[:MOST]
    # Rank 0 alone holds what all propose, which is mostly the same; the others get the union.
    told = comm.gather(proposed) or []
    keys = comm.bcast(sorted({key for each in told for key in each}))
    figures = np.array([own.get(key, (0.0, 0)) for key in keys], float).reshape(-1, 2)
    every = np.empty((comm.size, *figures.shape)) if comm.rank == 0 else None
    comm.Gather(figures, every)
    if every is None:
        return
    yield f"{'calls':>14}{_HEAD}  function"
    seconds, calls = every.transpose(2, 1, 0)
    for k in np.argsort(-seconds.max(axis=1), kind="stable")[:MOST]:
        least, most = int(calls[k].min()), int(calls[k].max())
        times = str(most) if least == most else f"{least}-{most}"
        yield f"{times:>14}{_row(seconds[k])}  {_named(keys[k])}"


def _phases(rank: Rank) -> Iterator[str]:
    """Yield the table of phases, on rank 0. Collective."""
    comm, seconds = rank.comm, rank.clock.seconds
    # As in the record, a rank that was not in a phase has no sample of it.
    own = np.where(np.isnan(seconds).all(axis=0), np.nan, np.nansum(seconds, axis=0))
    every = np.empty((comm.size, len(PHASES))) if comm.rank == 0 else None
    comm.Gather(own, every)
    if every is None:
        return
    yield f"{'':14}{_HEAD}  phase"
    for name, values in zip(PHASES, every.T, strict=True):
        if not np.isnan(values).all():
            yield f"{'':14}{_row(values)}  {name}"


_HEAD = f"{'min s':>10}{'median s':>10}{'max s':>10}{'on rank':>9}"


def _row(values: np.ndarray) -> str:
    """Return the least, the median and the largest figure of the ranks, and who has the last."""
    three = np.nanmin(values), np.nanmedian(values), np.nanmax(values)
    return "".join(f"{each:>10.4f}" for each in three) + f"{np.nanargmax(values):>9}"


def _named(function: Function) -> str:
    file, line, name = function
    # Of what is not written in Python, cProfile knows the name alone.
    if file == "~":
        return name
    return f"{near(file)}:{line}({name})"
