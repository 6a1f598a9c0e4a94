"""Snapshots of a running job: each a file of its own beside the record, complete or absent.

One HDF5 file for each step that is kept::

    /                  attributes: snapshot (int, version of this layout), job, record (name of its
                       file), step, sha256 (`runtime.record.digest` of the datasets)
    /<name>            datasets with attributes `units` and `description`

The record lists all of a run, with their digests.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime import files
from runtime.clock import Clock
from runtime.program import Stop, agreement
from runtime.record import SNAPSHOT, Result, digest
from runtime.run import Run

if TYPE_CHECKING:
    from mpi4py import MPI

VERSION = 1


class Snapshots:
    """Writes the snapshots of one run.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job. Collective.
    run : Run
        From `runtime.run.begin`.
    every, last : int
        A snapshot is kept after every so many steps, up to the last one; none if `every` is None.

    Attributes
    ----------
    steps : range
        The steps that are kept.

    Raises
    ------
    Stop
        A file of that name exists, and ``--force`` was not given or it is no snapshot. Or the run
        repeats its steps, which would write them over.
    """

    def __init__(self, comm: "MPI.Comm", run: Run, every: int | None, last: int) -> None:
        self.run, self.steps = run, range(every, last + 1, every) if every else range(0)
        self._written: list[tuple[int, bytes, bytes]] = []
        with agreement(comm):
            if every and run.args.repeats > 1:
                raise Stop("snapshots are for a single run of the steps, not for --repeats")
            if comm.rank == 0:
                for step in self.steps:
                    path, force = self._path(step), run.args.force
                    # One look at the folder is enough where no file is in the way.
                    if path.exists() or step == self.steps[0]:
                        files.require_writable(path, force, "snapshot", _is_snapshot, "snapshot")

    def _path(self, step: int) -> Path:
        digits = len(str(self.steps[-1]))
        return self.run.path.with_name(f"{self.run.path.stem}-step{step:0{digits}}.h5")

    def write(self, comm: "MPI.Comm", step: int, results: dict[str, Result], clock: Clock) -> None:
        """Write one snapshot. Collective over `comm`.

        Parameters
        ----------
        comm : MPI.Comm
            All ranks of the job.
        step : int
        results : dict of str to Result
            Significant on rank 0.
        clock : Clock
            Phase ``snapshot``.

        Raises
        ------
        Stop
            The file system failed; status 1, and no file is left behind.
        """
        with agreement(comm), clock.phase("snapshot"):
            if comm.rank == 0:
                path, whole = self._path(step), digest(results)
                try:
                    image = files.hdf5_image(lambda file: self._fill(file, step, results, whole))
                    path = files.write(path, image, self.run.args.force)
                except (OSError, MemoryError) as error:
                    reason = getattr(error, "strerror", "too little memory")
                    raise Stop(f"cannot write {path}: {reason}", status=1) from None
                self._written.append((step, path.name.encode(), whole.encode()))

    def _fill(self, file: Any, step: int, results: dict[str, Result], whole: str) -> None:
        facts = {"snapshot": VERSION, "job": self.run.job, "record": self.run.path.name}
        file.attrs.update({**facts, "step": step, "sha256": whole})
        for name, result in results.items():
            result.put(file, name)

    def table(self) -> np.ndarray:
        """Return what the record lists of the snapshots; empty on all ranks but 0."""
        return np.array(self._written, SNAPSHOT)


def _is_snapshot(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path) as file:
            return "snapshot" in file.attrs
    except OSError:
        return False
