"""Snapshots of a running job: each a file of its own beside the record, complete or absent.

One HDF5 file for each step that is kept::

    /                  attributes: snapshot (int, version of this layout), job, record (name of its
                       file), arguments and problem (JSON objects; of the latter see
                       `rankwise.run.checkpoint`), step, sha256 (of the datasets, see
                       `rankwise.disk.record.digest`)
    /<name>            datasets with attributes `units` and `description`

The record lists all of a run, with their digests.
"""

import glob
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rankwise.disk import files, hdf5
from rankwise.disk.record import SNAPSHOT, Result, digest
from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.words import printable, short
from rankwise.run.begin import Begun
from rankwise.run.checkpoint import Checkpoint
from rankwise.run.provenance import plain

VERSION = 1


class Snapshots:
    """Writes the snapshots of one run.

    Parameters
    ----------
    run : Begun
        Collective.
    every, last : int
        A snapshot is kept after every so many steps, up to the last one; none if `every` is None.
    octets : int
        Size of a snapshot [bytes].
    checkpoint : Checkpoint
        Where the run goes on: the snapshots until then are there, later ones are made anew.

    Attributes
    ----------
    steps : range
        The steps that are kept, after that of the checkpoint.

    Raises
    ------
    Stop
        A file of that name exists, and ``--force`` was not given or it is no snapshot; there is too
        little space; no step is kept; or the run repeats its steps, which would write them over.
    """

    def __init__(
        self,
        run: Begun,
        every: int | None,
        last: int,
        octets: int,
        checkpoint: Checkpoint,
    ) -> None:
        comm = run.comm
        self.comm, self.run = comm, run
        first = checkpoint.step // every * every + every if every else 0
        self.steps = range(first, last + 1, every) if every else range(0)
        self._written: list[Any] = checkpoint.snapshots.tolist()
        self.problem = checkpoint.problem
        # What an earlier start of this run has left after its checkpoint comes again as it is.
        self._force = run.args.force or checkpoint.again
        with agreement(comm):
            if every and run.args.repeats > 1:
                raise Stop("snapshots are for a single run of the steps, not for --repeats")
            if every and checkpoint.path is not None and run.args.output is None:
                raise Stop(
                    "--snapshot-every and --checkpoint want --output too: each start would give "
                    "the snapshots another name"
                )
            if every and every > last:
                raise Stop(f"a snapshot every {every} steps is none, since there are {last} steps")
            if comm.rank == 0:
                path = checkpoint.path
                if path and self._is_named(path.name) and _same_folder(path, run.path):
                    raise Stop(f"--checkpoint {path} is the name of a snapshot")
            if comm.rank == 0 and self.steps:
                for path in {self._path(self.steps[0]), *self._in_the_way()}:
                    force = run.args.force or (checkpoint.again and self._is_own(path))
                    files.require_writable(path, force, "snapshot", _is_snapshot, "snapshot")
                need, free = len(self.steps) * octets, shutil.disk_usage(run.path.parent).free
                if need > free:
                    raise Stop(
                        f"{len(self.steps)} snapshots need {short(need / 1e9)} GB in "
                        f"{run.path.parent}, which has {short(free / 1e9)} GB left"
                    )
            if comm.rank == 0:
                self._warn_of_missing()

    def _in_the_way(self) -> Iterator[Path]:
        """Yield the files that have the name of a snapshot."""
        pattern = f"{glob.escape(self.run.path.stem)}-step*.h5"
        return (path for path in self.run.path.parent.glob(pattern) if self._is_named(path.name))

    def _is_named(self, name: str) -> bool:
        """Tell whether a snapshot is going to have this name."""
        number = name.removeprefix(f"{self.run.path.stem}-step").removesuffix(".h5")
        is_step = number.isdecimal() and int(number) in self.steps
        return is_step and name == self._path(int(number)).name

    def _warn_of_missing(self) -> None:
        names = [os.fsdecode(name) for _, name, _ in self._written]
        missing = [name for name in names if not os.path.exists(self.run.path.parent / name)]
        if missing:
            self.run.warn(
                f"{len(missing)} of {len(names)} earlier snapshots are not beside the record, "
                f"which is going to list them: {missing[0]}"
            )

    def _is_own(self, path: Path) -> bool:
        """Tell whether a file is a snapshot of the same problem, for the same record."""
        facts = _facts(path)
        if facts.get("record") != printable(self.run.path.name):
            return False
        return facts.get("problem") == json.dumps(self.problem)

    def _path(self, step: int) -> Path:
        # As many digits for every run, so that names sort by step.
        return self.run.path.with_name(f"{self.run.path.stem}-step{step:09}.h5")

    def write(self, step: int, results: dict[str, Result]) -> None:
        """Write one snapshot. Collective over the ranks of the job.

        Rank 0 spends the phase ``snapshot``, the others wait for it.

        Parameters
        ----------
        step : int
        results : dict of str to Result
            Significant on rank 0.

        Raises
        ------
        Stop
            The file system failed; status 1, and no file is left behind.
        """
        failure = None
        if self.comm.rank == 0:
            with self.run.clock.phase("snapshot"):
                failure = self._write(step, results)
        with self.run.clock.phase("wait"):
            self.comm.Barrier()
        with agreement(self.comm):
            if failure is not None:
                raise failure

    def _write(self, step: int, results: dict[str, Result]) -> Stop | None:
        """Write the file, or return what the run is to end with."""
        path, whole = self._path(step), digest(results)
        try:
            image = files.hdf5_image(lambda file: self._fill(file, step, results, whole))
            path = files.write(path, image, self._force)
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", "too little memory") or error
            return Stop(f"cannot write {path}: {reason}", status=1)
        self._written.append((step, os.fsencode(path.name), whole.encode()))
        return None

    def _fill(self, file: Any, step: int, results: dict[str, Result], whole: str) -> None:
        arguments = {name: plain(value) for name, value in vars(self.run.args).items()}
        hdf5.put(
            file.attrs,
            snapshot=VERSION,
            job=self.run.job,
            record=printable(self.run.path.name),
            arguments=json.dumps(arguments),
            problem=json.dumps(self.problem),
            step=step,
            sha256=whole,
        )
        for name, result in results.items():
            result.put(file, name)

    def table(self) -> np.ndarray:
        """Return what the record lists of the snapshots; empty on all ranks but 0."""
        return np.array(self._written, SNAPSHOT)


def _same_folder(one: Path, other: Path) -> bool:
    return os.path.realpath(one.parent) == os.path.realpath(other.parent)


def _is_snapshot(path: Path) -> bool:
    return "snapshot" in _facts(path)


def _facts(path: Path) -> dict[str, Any]:
    """Return the attributes of a file; none if it cannot be read."""
    try:
        with hdf5.opened(path) as file:
            return hdf5.attributes(file)
    except hdf5.ERRORS:
        return {}
