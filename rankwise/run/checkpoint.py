"""Checkpoints: the state of a long run on its way, from which the same command goes on.

There are two, each complete or absent: ``FILE``, and the one before it, ``FILE`` with ``-previous``
before its suffix; `rankwise.disk.checkpoint_file` says what is in them.
A third file, ``.FILE.owner``, names the run that writes them. A run that finds another one's name
there stops: a requeued job may meet what is left of itself on a node that was thought down.
"""

import glob
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rankwise.disk import checkpoint_file, files, hdf5
from rankwise.disk.record import SNAPSHOT, Result
from rankwise.node.slurm import slurm_ids
from rankwise.ranks import signals
from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.words import short
from rankwise.run.begin import Begun
from rankwise.run.options import CHECKPOINT_SECONDS

_log = logging.getLogger("rankwise")
# How often the ranks ask each other whether one has received a signal: often enough for the grace
# of half a minute that batch systems give, seldom enough to cost nothing.
_LOOK_SECONDS = 0.1


class Checkpoint:
    """The checkpoints of one run: where it goes on, when to write, when to leave.

    Parameters
    ----------
    run : Begun
        Its parser had `add_loop`. Receives where it goes on. Collective.
    problem : dict
        What the state depends on, in plain numbers and text; not the ranks or the variant.
        Significant on rank 0.
    last : int
        Steps of the whole run.
    octets : int
        Size of the state [bytes].

    Attributes
    ----------
    step : int
        The step after which this run goes on; 0 for a new one.
    again : bool
        Whether a run with this file has been started before and has not ended well; on rank 0.
    snapshots : structured array
        Snapshots of the run until then, see `rankwise.disk.record`; on rank 0.

    Raises
    ------
    Stop
        The options do not fit together, the file system refuses or has too little space, or there
        are checkpoints and none of them is whole and of this problem.
    """

    def __init__(self, run: Begun, problem: dict[str, Any], last: int, octets: int) -> None:
        comm = run.comm
        self.comm, self.run, self.problem, self.last = comm, run, problem, last
        self.path: Path | None = run.args.checkpoint
        self.every, self.seconds = run.args.checkpoint_every, run.args.checkpoint_seconds
        self.snapshots = np.empty(0, SNAPSHOT)
        self._owner, self.again, self._rotate = "", False, False
        self._found: checkpoint_file.Found | None = None
        self._refused: dict[Path, str] = {}
        with agreement(comm):
            self._check_options()
            if comm.rank == 0 and self.path is not None:
                with run.clock.phase("checkpoint"), self._closed_by_errors():
                    self._open(self.path, octets)
        self.step, run.restarts = comm.bcast(self._go_on())
        run.first_step = self.step
        # Of the last checkpoint, and whether this run has written one.
        self._kept_step, self._wrote = self.step, False
        # The step after which the ranks look for signals next, and when they last did.
        self._look, self._looked_step, self._looked = self.step + 1, self.step, time.monotonic()
        self._written = self._looked
        self._weight = 0

    def _check_options(self) -> None:
        if self.path is None and (self.every or self.seconds):
            raise Stop("--checkpoint-every and --checkpoint-seconds want a --checkpoint FILE.h5")
        if self.path is not None and not self.path.name:
            raise Stop(f"--checkpoint {self.path} is a folder")
        if self.path is not None and os.path.islink(self.path):
            # Where the space is, and not the link, is what the user wants to fill.
            self.path = Path(os.path.realpath(self.path))
        if self.path is not None and self.run.args.repeats > 1:
            raise Stop("checkpoints are for a single run of the steps, not for --repeats")
        names = [self.path.resolve(), _previous(self.path).resolve()] if self.path else []
        if self.run.path.resolve() in names:
            raise Stop("--checkpoint and --output name the same file, or that of the one before")
        if self.every is None and self.seconds is None:
            self.seconds = CHECKPOINT_SECONDS

    def _open(self, path: Path, octets: int) -> None:
        """Find where to go on. Nothing is changed yet: the start may fail. On rank 0."""
        files.require_writable(path, True, "checkpoint", lambda _: True, "--checkpoint")
        for candidate in (path, _previous(path)):
            # Absent, or just being renamed by another run, and then the second one is there.
            with suppress(FileNotFoundError):
                try:
                    self._found = self._found or checkpoint_file.read(
                        candidate, self.run.job, self.problem
                    )
                    checkpoint_file.require_magic(candidate)
                except checkpoint_file.Unusable as error:
                    self._refused[candidate] = f"{candidate} {error}"
        found = self._found
        if found is not None and found.step >= self.last:
            raise Stop(
                f"{found.path} is of step {found.step}, and this run ends at {self.last}: take "
                "more steps, or another --checkpoint"
            )
        if self._refused and found is None:
            reasons = "; ".join(self._refused.values())
            names = " and ".join(map(str, self._refused))
            raise Stop(f"{reasons}: name another --checkpoint, or remove {names} to start anew")
        _require_space(path, octets)
        self.again = found is not None or _owner_file(path).exists()
        self._rotate = found is not None and found.path == path
        if found is not None:
            self.snapshots = found.snapshots

    def _take_over(self, path: Path) -> None:
        """Make the files those of this run. On rank 0."""
        self._owner = _own_name()
        files.write(_owner_file(path), memoryview(self._owner.encode()), force=True)
        # Who writes them may live on, on another node, but is not to finish.
        record = self.run.path
        snapshots = f"{glob.escape(record.stem)}-step{'[0-9]' * 9}.h5"
        files.remove_temporaries(path.parent, glob.escape(path.name))
        files.remove_temporaries(record.parent, glob.escape(record.name))
        files.remove_temporaries(record.parent, snapshots)
        found = self._found
        if found is None:
            return
        for candidate, reason in self._refused.items():
            aside = candidate.with_stem(f"{candidate.stem}-refused-{time.time_ns()}")
            candidate.rename(aside)
            self.run.warn(f"{reason}; it is now {aside.name}, and {found.path} is used")
        self.run.tell(f"goes on after step {found.step} of {found.path}, written by {found.author}")

    @contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        """Close what was found, and end with one sentence, if the file system fails inside."""
        try:
            yield
        except OSError as error:
            self.close()
            reason = error.strerror or error
            raise Stop(f"cannot use {self.path} for checkpoints: {reason}") from None
        except Stop:
            self.close()
            raise

    def _go_on(self) -> tuple[int, int]:
        """Return the step after which the run goes on, and how often it has done so."""
        found = self._found
        return (0, 0) if found is None else (found.step, found.restarts + 1)

    def fill(self, name: str) -> Callable[[int, np.ndarray], None] | None:
        """Return ``fill(start, rows)``, which reads rows of the state that the run goes on from.

        None on all ranks but 0, and for a new run.
        """
        return self._found.fill(name) if self._found is not None else None

    @contextmanager
    def answering_signals(self) -> Iterator[None]:
        """Take the files over, and answer signals with a checkpoint, inside. Collective.

        From the last step on a signal waits for the record, without which that step would be lost.

        Raises
        ------
        Stop
            The file system failed.
        """
        if self.path is None:
            yield
            return
        try:
            with signals.kept():
                with agreement(self.comm):
                    if self.comm.rank == 0:
                        with self._closed_by_errors():
                            self._take_over(self.path)
                self._written = time.monotonic()
                yield
        finally:
            self.close()

    def require_time(self) -> None:
        """Stop before the first step if time is up already. Collective.

        Raises
        ------
        Stop
            SIGUSR1 was received; status 1, since a batch system that puts the job back would do so
            for ever.
        """
        if self.path is None:
            return
        with self.run.clock.phase("wait"), agreement(self.comm):
            if signals.weight() == signals.OUT_OF_TIME:
                raise Stop(
                    "no step was done before SIGUSR1 came, so another start would not get further: "
                    "ask for more time",
                    status=1,
                )

    def due(self, step: int) -> bool:
        """Tell whether a checkpoint is to be written after a step. Collective.

        All ranks find the same. After the last step none is due: the record follows.
        """
        if self.path is None:
            self._remark()
            return False
        if not 0 < step < self.last:
            return False
        by_step = self.every is not None and step % self.every == 0
        if step < self._look and not by_step:
            return False
        now = time.monotonic()
        by_time = self.seconds is not None and now - self._written >= self.seconds
        # Rank 0 decides what depends on the time.
        first = self.comm.rank == 0
        found = np.array([signals.weight(), first and by_time, first and self._pace(step, now)])
        from mpi4py import MPI

        with self.run.clock.phase("wait"):
            self.comm.Allreduce(MPI.IN_PLACE, found, MPI.MAX)
        self._weight, timed, steps = found.tolist()
        self._look, self._looked_step, self._looked = step + steps, step, now
        return by_step or timed > 0 or self._weight > 0

    def require_owner(self) -> None:
        """Make sure that the files are still those of this run. Collective.

        Raises
        ------
        Stop
            Another run has taken over; status 1.
        """
        with agreement(self.comm):
            if self.comm.rank == 0 and self.path is not None:
                self._require_owner(self.path)

    def _pace(self, step: int, now: float) -> int:
        """Return after how many steps to look next; at most twice as many as the last time."""
        steps = step - self._looked_step
        seconds = max(now - self._looked, 1e-9)
        return max(1, min(2 * steps, int(steps * _LOOK_SECONDS / seconds)))

    def _remark(self) -> None:
        # Another signal ends this rank, which may take some time.
        if self.comm.rank == 0 and signals.weight() == signals.OUT_OF_TIME > self._weight:
            self._weight = signals.OUT_OF_TIME
            self.run.warn("SIGUSR1 does nothing to a run without --checkpoint: it goes on")

    def write(self, step: int, state: dict[str, Result], snapshots: np.ndarray) -> None:
        """Write a checkpoint, and leave if a signal asked for it. Collective.

        Rank 0 spends the phase ``checkpoint``, the others wait for it. If the file system fails,
        the earlier checkpoints stay and the run goes on, with a warning.

        Parameters
        ----------
        step : int
        state : dict of str to Result
            Significant on rank 0.
        snapshots : structured array
            Snapshots of the run so far, see `rankwise.disk.record`; significant on rank 0.

        Raises
        ------
        Stop
            A signal was received, with its status; or with status 1: another run has taken over,
            or the file system failed when a signal had been received.
        """
        failure = None
        if self.comm.rank == 0:
            with self.run.clock.phase("checkpoint"):
                failure = self._write(step, state, snapshots)
        with self.run.clock.phase("wait"):
            self.comm.Barrier()
        self._written = time.monotonic()
        with agreement(self.comm):
            if failure is not None:
                raise failure
            if self._weight:
                number = signals.of_weight(self._weight)
                raise Stop(
                    f"stopped by {number.name} after step {step}: the same command goes on from "
                    f"{self.path}",
                    signals.STATUS[number],
                )

    def _write(self, step: int, state: dict[str, Result], snapshots: np.ndarray) -> Stop | None:
        """Write the file, or return what the run is to end with."""
        assert self.path is not None
        path = self.path
        try:
            self._require_owner(path)
            # The state that it went on from is no longer needed, and its space may be.
            self.close()
            image = checkpoint_file.image(lambda file: self._fill(file, step, state, snapshots))
            files.write(path, image, True, lambda _: self._keep_previous(path))
        except Stop as stop:
            return stop
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", "too little memory") or error
            have = any(os.path.exists(each) for each in (path, _previous(path)))
            kept = f"that of step {self._kept_step} is kept" if have else "there is none"
            text = f"cannot write the checkpoint {path}: {reason}"
            if self._weight:
                return Stop(f"{text}; {kept}", status=1)
            # Told each time, but kept once: a record holds 64 KiB of warnings.
            self.run.tell(f"warning: {text}; {kept}")
            if text not in self.run.warnings:
                self.run.warnings.append(text)
            return None
        self._kept_step, self._rotate, self._wrote = step, True, True
        _log.info("checkpoint of step %d in %s", step, path)
        return None

    def _keep_previous(self, path: Path) -> None:
        """Make the last checkpoint the previous one. The new one is on the disk by now."""
        # Once more: to get there may have taken minutes.
        self._require_owner(path)
        if self._rotate:
            # Somebody may have removed it.
            with suppress(FileNotFoundError):
                os.replace(path, _previous(path))
            self._rotate = False

    def _fill(self, file: Any, step: int, state: dict[str, Result], snapshots: np.ndarray) -> None:
        hdf5.put(
            file.attrs,
            job=self.run.job,
            problem=json.dumps(self.problem),
            step=step,
            restarts=self.run.restarts,
            written_by=self._owner,
            slurm=json.dumps(slurm_ids()),
        )
        for name, result in state.items():
            result.put(file, f"state/{name}")
        file["snapshots"] = snapshots

    def _other_owner(self, path: Path) -> str:
        """Return why the files are no longer those of this run, or an empty string."""
        try:
            owner = _owner_file(path).read_text(errors="replace")
        except FileNotFoundError:
            # Some sites remove what is old. With the checkpoints it was another run, at its end.
            gone = _is_gone(path) and _is_gone(_previous(path))
            if gone and self._wrote and _is_there(path.parent):
                return f"another run has ended and removed {path}, or somebody else has"
            return ""
        except OSError:
            # Out of order, which says nothing of other runs.
            return ""
        return f"another run has taken over {path}: {owner}" if owner != self._owner else ""

    def _require_owner(self, path: Path) -> None:
        if reason := self._other_owner(path):
            raise Stop(f"{reason}; so this one ends", status=1)

    def close(self) -> None:
        """Close the checkpoint that the run went on from. `fill` has no more to read."""
        if self._found is not None:
            self._found.close()
            self._found = None

    def remove(self) -> None:
        """Remove the checkpoints of a run whose record is written. Only rank 0 does something."""
        if self.comm.rank == 0 and self.path is not None and not self._other_owner(self.path):
            for path in (self.path, _previous(self.path), _owner_file(self.path)):
                with suppress(OSError):
                    path.unlink()


def _previous(path: Path) -> Path:
    return path.with_stem(f"{path.stem}-previous")


def _owner_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.owner")


def _is_gone(path: Path) -> bool:
    """Tell whether a file is not there; where the file system does not say, it is."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _is_there(folder: Path) -> bool:
    """Tell whether a folder has not been removed; one that a process is in stays without a name."""
    with suppress(OSError):
        return folder.stat().st_nlink > 0
    return False


def _own_name() -> str:
    """Return words for people that no other run has."""
    ids = slurm_ids()
    job = f"job {ids['SLURM_JOB_ID']}, " if "SLURM_JOB_ID" in ids else ""
    restart = f"restart {ids['SLURM_RESTART_COUNT']}, " if "SLURM_RESTART_COUNT" in ids else ""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return f"{job}{restart}process {os.getpid()} on {os.uname().nodename}, since {now}"


def _require_space(path: Path, octets: int) -> None:
    """Stop unless there is room for both checkpoints and the one that is being written."""
    have = sum(each.exists() for each in (path, _previous(path)))
    need, free = (3 - have) * octets, shutil.disk_usage(path.parent).free
    if need > free:
        raise Stop(
            f"checkpoints need {short(need / 1e9)} GB more in {path.parent}, which has "
            f"{short(free / 1e9)} GB left"
        )
