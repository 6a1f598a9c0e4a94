"""One run of a job, from its command line to its record."""

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.disk import record
from rankwise.disk import summary as report
from rankwise.node import device, shared_memory
from rankwise.node import placement as launch
from rankwise.node.code import git_commit
from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.clock import Clock
from rankwise.ranks.words import printable
from rankwise.run import provenance
from rankwise.run.options import parse

if TYPE_CHECKING:
    from mpi4py import MPI


@dataclass
class Run:
    """What every rank knows of its run.

    Attributes
    ----------
    job : str
        Name of the job.
    args : argparse.Namespace
        Arguments, equal on every rank.
    path : Path
        Where the record is going to be.
    clock : Clock
        Timings of this rank.
    device : Device
        What this rank runs on.
    commit : str
        Of the code, when the run began; known on rank 0.
    errors, warnings : lists of str
        What is wrong with the launch; known on rank 0.
    first_step, restarts : int
        The step after which the run goes on, and how often it has done so; see
        `rankwise.run.checkpoint`.
    """

    job: str
    args: argparse.Namespace
    path: Path
    clock: Clock
    device: device.Device
    commit: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    first_step: int = 0
    restarts: int = 0

    def warn(self, text: str) -> None:
        """Print a warning, and keep it for the record. Significant on rank 0."""
        self.tell(f"warning: {text}")
        self.warnings.append(text)

    def tell(self, text: str) -> None:
        """Print a line on standard error, if there is still one. Significant on rank 0."""
        # The log may be on a disk that is full by now: the run is worth more.
        with suppress(OSError):
            print(f"{Path(sys.argv[0]).name}: {printable(text)}", file=sys.stderr, flush=True)


def begin(
    comm: "MPI.Comm",
    job: str,
    parser: argparse.ArgumentParser,
    argv: list[str],
    grow: Callable[[argparse.Namespace, int], None] | None = None,
    refuse: bool = True,
) -> Run:
    """Parse the command line, make sure of the record's place, choose the device. Collective.

    Then look at the launch as a whole, and refuse it or print warnings.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    job : str
        Name of the job, for its record.
    parser : argparse.ArgumentParser
        The job's own options; the common ones are added.
    argv : list of str
        Command line without the program's name; significant on rank 0.
    grow : callable, optional
        ``grow(args, ranks)`` turns sizes that mean the work of one rank into those of the whole
        problem; with it the job has ``--weak``.
    refuse : bool
        Whether a wrong launch ends the run, and warnings are printed. Otherwise the job does so.

    Returns
    -------
    Run

    Raises
    ------
    Stop
        Something that the user asked for cannot be had, or the launch is wrong.
    """
    args = parse(comm, parser, argv, weak=grow is not None)
    if grow is not None and args.weak:
        with agreement(comm):
            grow(args, comm.size)
    path = record.target(comm, job, args.output, args.force)
    with agreement(comm, MemoryError):
        clock = Clock(args.repeats)
    with clock.phase("import"):
        place = device.choose(comm, args.variant, args.threads, args.device_buffers)
    clock.synchronize = place.synchronize
    if place.node.rank == 0:
        shared_memory.remove_stale()
    errors, warnings = launch.look(comm, place, args.variant)
    commit = git_commit() if comm.rank == 0 else ""
    run = Run(job, args, path, clock, place, commit, errors, warnings)
    if refuse:
        launch.refuse(comm, errors)
        for text in warnings:
            run.tell(f"warning: {text}")
    return run


def checked(error: float, bound: float) -> dict[str, float]:
    """Return what a record holds of the check.

    Parameters
    ----------
    error, bound : float
        Distance of the result from an independent one, and the largest that rounding explains.

    Raises
    ------
    Stop
        Rounding does not explain the distance; status 1.
    """
    if not error <= bound:
        raise Stop(f"check failed: off by {error}, rounding explains {bound}", status=1)
    return {"error": error, "bound": bound}


def keep(
    comm: "MPI.Comm",
    run: Run,
    results: dict[str, record.Result],
    check: dict[str, float],
    work: int,
    kernel_bytes: int,
    snapshots: np.ndarray | None = None,
) -> tuple[dict[str, Any], Path]:
    """Write the record. Collective over `comm`.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    run : Run
        From `begin`.
    results : dict of str to rankwise.disk.record.Result
        Significant on rank 0.
    check : dict
        From `checked`; significant on rank 0.
    work : int
        Operations of all ranks in one repeat, up to a constant factor: what weak scaling holds
        constant per rank.
    kernel_bytes : int
        Bytes that the kernels of all ranks read or write in one repeat.
    snapshots : structured array, optional
        From `rankwise.run.snapshots`; significant on rank 0.

    Returns
    -------
    facts : dict
        See `rankwise.disk.summary.summary`; empty on all ranks but 0.
    path : Path
        Where the record is.

    Raises
    ------
    Stop
        The record could not be written; status 1.
    """
    whole = provenance.collect(comm, run, results, check, work, kernel_bytes, snapshots)
    # Before there is a file: this fails where a job leaves out what a record needs.
    facts = {} if whole is None else report.summary(whole)
    path = record.write(comm, run.path, whole, run.args.force)
    return facts if whole is None else report.summary(whole), path


def finish(
    comm: "MPI.Comm",
    run: Run,
    results: dict[str, record.Result],
    check: dict[str, float],
    work: int,
    kernel_bytes: int,
    snapshots: np.ndarray | None = None,
) -> None:
    """Write the record and print what it says. See `keep`. Collective over `comm`.

    Results that are single numbers are printed as well.
    """
    facts, path = keep(comm, run, results, check, work, kernel_bytes, snapshots)
    if comm.rank == 0:
        report.show(facts, path, run.args.json, warned=True)
