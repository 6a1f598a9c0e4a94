"""A run that has begun: its command line is read, its device chosen, its launch looked at."""

import argparse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rankwise.disk import record
from rankwise.node import device, placement, shared_memory, variants
from rankwise.node.code import git_commit
from rankwise.node.rank import Rank
from rankwise.ranks import start
from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.clock import Clock
from rankwise.run import options as command_line

if TYPE_CHECKING:
    from mpi4py import MPI

Grow = str | Callable[[argparse.Namespace, int], None]


class Begun(Rank):
    """What every rank knows of its run. Collective.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    argv : list of str
        Command line without the program's name; significant on rank 0.
    file : str
        The program, ``__file__``; its name is that of the job.
    doc : str, optional
        Its docstring: what stands before "Communication" is the text of ``--help``. ``python -OO``
        leaves none.
    options : callable
        ``options(parser)`` adds what is special to this job; plain argparse.
    kernel : module, optional
        Package of the kernel; ``--variant auto`` chooses among the variants that it has.
    grow : str or callable, optional
        With it the job has ``--weak``, and can be swept in weak scaling: the name of the option
        whose size is multiplied by the number of ranks, or ``grow(args, ranks)``, which turns sizes
        that mean the work of one rank into those of all.
    refuse : bool
        Whether a wrong launch ends the run, and warnings are printed. Otherwise the job does so.

    Attributes
    ----------
    job : str
    args : argparse.Namespace
        Arguments, equal on every rank.
    path : Path
        Where the record is going to be.
    commit : str
        Of the code, when the run began; known on rank 0.
    errors : list of str
        What is wrong with the launch; known on rank 0.
    checks : list of dict
        ``why``, ``error`` and ``bound`` of the checks that were passed; those of rank 0 count.
    first_step, restarts : int
        The step after which the run goes on, and how often it has done so; see
        `rankwise.run.checkpoint`.

    Raises
    ------
    Stop
        Something that the user asked for cannot be had, or the launch is wrong.
    """

    def __init__(
        self,
        comm: "MPI.Comm",
        argv: list[str],
        file: str,
        doc: str | None,
        options: Callable[[argparse.ArgumentParser], object],
        *,
        kernel: ModuleType | None = None,
        grow: Grow | None = None,
        refuse: bool = True,
    ) -> None:
        self.job, self._kernel = Path(file).stem, kernel
        parser = argparse.ArgumentParser(
            prog=Path(file).name,
            description=(doc or "").partition("Communication")[0],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        options(parser)
        self.args = args = command_line.parse(comm, parser, argv, weak=grow is not None)
        if isinstance(grow, str) and not hasattr(args, grow):
            raise TypeError(f"grow={grow!r} is no option of this job")
        if grow is not None and args.weak:
            with agreement(comm):
                _grow(args, grow, comm.size)
        name = record.run_name(comm, self.job)
        start.end_earlier()
        if args.log is not None:
            from rankwise.run import log

            log.begin(comm, args.log, name)
        self.path = record.target(comm, name, args.output, args.force)
        with agreement(comm, MemoryError):
            clock = Clock(args.repeats)
        there = variants.VARIANTS if kernel is None else variants.of(kernel)
        with clock.phase("import"):
            place = device.choose(comm, args.variant, args.threads, args.device_buffers, there)
        if place.is_gpu:
            clock.synchronize = place.synchronize
        super().__init__(comm, clock, place)
        self._look_inside(name)
        start.unfinished.append(self.job)
        if place.node.rank == 0:
            shared_memory.remove_stale()
        self.errors, self.warnings = placement.look(comm, place, args.variant, there)
        for option in ("profile", "log"):
            if getattr(args, option) is not None:
                self.warnings.append(f"the times contain what --{option} takes")
        self.commit = git_commit(Path(file)) if comm.rank == 0 else ""
        self.checks: list[dict[str, Any]] = []
        self.first_step = self.restarts = 0
        if refuse:
            placement.refuse(comm, self.errors)
            for text in self.warnings:
                self.tell(f"warning: {text}")

    def _look_inside(self, name: str) -> None:
        """Begin with what is asked for, besides the log. Collective."""
        args = self.args
        if args.stall_seconds is not None:
            from rankwise.ranks.watchdog import Watchdog

            start.endings.append(Watchdog(self.comm, self.clock, args.stall_seconds).end)
        if args.profile is not None:
            from rankwise.run import profile

            profile.begin(self, args.profile, name)


def _grow(args: argparse.Namespace, grow: Grow, ranks: int) -> None:
    if getattr(args, "input", None) is not None:
        raise Stop("--weak lets the size grow with the ranks; the size of an --input is fixed")
    if callable(grow):
        grow(args, ranks)
    else:
        setattr(args, grow, getattr(args, grow) * ranks)
