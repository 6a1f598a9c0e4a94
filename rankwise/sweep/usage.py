"""What the ranks of a running program use: memory, and what they read and write.

The memory of a rank is what its processes had in memory at most (``VmHWM``), from where their
program began to the last look. Pages that processes share, of libraries, of MPI's windows or of
workers that were forked, count in each.

What a rank reads and writes is ``/proc/PID/io`` of its processes and of the children that they have
waited for. ``rchar`` and ``wchar`` count the bytes of system calls such as read and write: files,
also those that are in memory, pipes, terminals, and MPI where it reads and writes sockets. They
leave out files that are mapped into memory, and what is sent and received by other calls.
``read_bytes`` and ``write_bytes`` count what was fetched from storage and what is to go there, also
of mapped files and of files that are removed before. That is accurate where storage is a block
device; a network file system may count there, or not.

``ru_maxrss`` would be another figure: it begins with the peak of the process that started the
program, and of a launcher that has its ranks started by a daemon it tells nothing of them.

References
----------
proc_pid_status(5) and proc_pid_io(5); Documentation/filesystems/proc.rst of the Linux kernel.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rankwise.sweep import mpi
from rankwise.sweep.launchers import Launcher
from rankwise.sweep.processes import MARK, environment, status
from rankwise.sweep.sstat import Sstat

_MEMORY = "memory"
# In `status` and `io` of a process.
_FIGURES = {
    "VmHWM": _MEMORY,
    "rchar": "read_bytes",
    "wchar": "written_bytes",
    "read_bytes": "storage_read_bytes",
    "write_bytes": "storage_written_bytes",
}
# A process, by its number and by that of its folder in /proc: another one that gets the number
# later has another folder.
_Process = tuple[str, int]
# What a rank was told of its number; nothing if it was told none.
_Number = tuple[str, ...]


@dataclass
class Usage:
    """Looks at what the ranks of a run use, on this node; Slurm is asked about others.

    To be made before the run begins. A rank is all processes that were told the same number. If
    the program starts its ranks by itself, and tells none a number, all its processes are together.

    Attributes
    ----------
    env : dict
        What the run is started with; the mark is in it.
    launcher : Launcher
    ranks : int
        That the run has on all its nodes.
    """

    env: dict[str, str]
    launcher: Launcher
    ranks: int
    # What is there before belongs to something else, and need not be looked into each time.
    _known: dict[_Process, _Number | None] = field(
        default_factory=lambda: dict.fromkeys(_processes())
    )
    _begun: float = field(default_factory=time.monotonic)
    _seen: float = field(default_factory=time.monotonic)
    _before: set[_Process] = field(default_factory=set)
    _peaks: dict[_Number, dict[str, int]] = field(default_factory=dict)
    _looks: int = 0
    _due: float = 0.0
    _slurm: Sstat | None = None

    def __post_init__(self) -> None:
        if self.launcher.path == "srun" and (job := self.env.get("SLURM_JOB_ID")):
            self._slurm = Sstat(job)

    def __call__(self) -> str:
        """Look, if it is time: once a second, every ten after the first minute; say nothing."""
        now = time.monotonic()
        if now >= self._due:
            passed = now - self._begun
            # A short program may be over soon.
            self._due = now + (0.0 if passed < 1 else 1.0 if passed < 60 else 10.0)
            self._look()
            if self._slurm is not None and len(self._peaks) < self.ranks:
                self._slurm(passed)
        return ""

    def end(self) -> dict[str, int]:
        """Return what Slurm has said; what it has not answered yet is not waited for."""
        return self._slurm.end() if self._slurm is not None else {}

    def facts(self, over: float) -> dict[str, Any]:
        """Return the figures under the name ``usage`` when the run is over; nothing if none is.

        ``ranks`` that were seen on this node, and ``looks`` at which they were; 0 ranks if several
        were to run and no process was told which it is. ``unseen_seconds``: from the last of these
        looks to the end. The memory of the largest rank, and that of all these ranks; what they
        read and wrote, as the kernel counts system calls and as it counts storage [bytes]. Of each
        rank that is the most at any look. Under ``sstat``, if there are ranks elsewhere, what Slurm
        says of all of them, see `Sstat`.

        Parameters
        ----------
        over : float
            When the run ended, by `time.monotonic` [s]: what was asked of Slurm since takes time.
        """
        unseen = round(max(0.0, over - self._seen), 3)
        elsewhere = self.end()
        # A script that starts ranks has no number, and is none.
        numbered = [peak for number, peak in self._peaks.items() if number]
        peaks = numbered or [*self._peaks.values()]
        ranks = len(numbered) or (len(peaks) if self.ranks == 1 else 0)
        usage: dict[str, Any] = {"ranks": ranks, "looks": self._looks, "unseen_seconds": unseen}
        total = _each(sum, peaks)
        if _MEMORY in total:
            usage["all_ranks_bytes"] = total.pop(_MEMORY)
            if ranks:
                usage["largest_rank_bytes"] = _each(max, peaks)[_MEMORY]
        usage |= total
        if elsewhere:
            usage["sstat"] = elsewhere
        return {"usage": usage} if peaks or elsewhere else {}

    def _look(self) -> None:
        members: dict[_Number, list[_Process]] = {}
        now = time.monotonic()
        for process in _processes():
            number = self._number(process)
            if number or (number is not None and not self.launcher.starts_ranks):
                members.setdefault(number, []).append(process)
        for number, processes in members.items():
            self._peaks[number] = _each(max, [self._peaks.get(number, {}), self._use(processes)])
        if members:
            self._looks, self._seen = self._looks + 1, now
        self._before = {process for processes in members.values() for process in processes}

    def _number(self, process: _Process) -> _Number | None:
        """Return what a process was told of its number; None if it is no process of this run."""
        if process not in self._known:
            env = environment(_folder(process[0]))
            # Nodes can share what they show of processes.
            node = env.get("SLURMD_NODENAME") == self.env.get("SLURMD_NODENAME")
            if not node or env.get(MARK) != self.env[MARK]:
                return None
            if not (number := self._told(env)):
                # It may start a program that is told one.
                return ()
            self._known[process] = number
            if self._slurm is not None:
                self._slurm.step = env.get("SLURM_STEP_ID", "")
        return self._known[process]

    def _told(self, env: dict[str, str]) -> _Number:
        # A batch script has a number, too, and so has all that it starts.
        if self.launcher.path == "srun":
            return (env["SLURM_PROCID"],) if "SLURM_PROCID" in env else ()
        if mpi.given(env) == mpi.given(self.env):
            return ()
        return tuple(f"{name}={env[name]}" for name in mpi.NUMBERS if name in env)

    def _use(self, processes: list[_Process]) -> dict[str, int]:
        """Return what the processes of a rank have used so far."""
        told = {process: status(_folder(process[0])) for process in processes}
        names = {process[0] for process in processes}
        used = []
        for process, lines in told.items():
            parent = lines.get("PPid", "")
            # A process that was forked has the memory of its parent until it starts its program.
            if process not in self._before and parent in names and _same(process[0], parent):
                continue
            # One that has ended, and was not waited for yet, has no memory.
            lines |= status(_folder(process[0]), "io")
            used.append(
                {figure: _count(lines[name]) for name, figure in _FIGURES.items() if name in lines}
            )
        return _each(sum, used)


def _processes() -> list[_Process]:
    with os.scandir("/proc") as entries:
        return [(entry.name, entry.inode()) for entry in entries if entry.name.isdecimal()]


def _folder(name: str) -> Path:
    return Path("/proc", name)


def _same(process: str, parent: str) -> bool:
    """Whether a process has the command line of its parent."""
    try:
        one, other = ((_folder(name) / "cmdline").read_bytes() for name in (process, parent))
    except OSError:
        return False
    return one == other


def _count(text: str) -> int:
    """Return the bytes of ``52 kB`` or ``52``."""
    number, *unit = text.split()
    return int(number) * (1024 if unit else 1)


def _each(how: Callable[[Iterable[int]], int], parts: list[dict[str, int]]) -> dict[str, int]:
    """Join figures name by name."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: how(part[name] for part in parts if name in part) for name in names}
