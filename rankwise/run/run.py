"""One run of a job, from its command line to its record."""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.data.rows import Rows
from rankwise.disk import record
from rankwise.disk.record import SNAPSHOT
from rankwise.node import compilation, variants
from rankwise.ranks import start
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES
from rankwise.ranks.words import printable
from rankwise.run import provenance
from rankwise.run.begin import Begun
from rankwise.run.results import results as checked_results
from rankwise.run.results import whole
from rankwise.run.source import Fill, Source

if TYPE_CHECKING:
    from rankwise.data.halo import HaloRows
    from rankwise.data.queue import Queue
    from rankwise.run.loop import Loop


_log = logging.getLogger("rankwise")


# What some jobs need, or rank 0 alone, is imported where it is needed: imports count on all ranks.
class Run(Begun):
    """A run, and what a job does with it. Parameters and attributes: see `Begun`."""

    _loop: "Loop | None" = None
    _queue: "Queue | None" = None
    _first_value: bytes | None = None

    def kernel(self, function: str, **constants: Any) -> Callable[..., None]:
        """Import the chosen variant of the kernel; return a function of it, its constants bound.

        Phase ``import``.

        Parameters
        ----------
        function : str
        **constants
            Arguments of it that are the same in all calls.
        """
        if self._kernel is None:
            raise TypeError("this run has no kernel: Run(..., kernel=...) names it")
        with self.phase("import"):
            module = variants.load(self._kernel, self.device.variant)
        return functools.partial(getattr(module, function), **constants)

    def compile(self, call: Callable[..., None], *arrays: np.ndarray) -> None:
        """Call a kernel on small arrays, so that it is compiled, once a node. Collective.

        Phase ``compile``.

        Parameters
        ----------
        call : callable
            From `kernel`.
        *arrays : arrays of the host
            Of the types that the kernel is going to see.
        """
        function = getattr(call, "func", call)
        types = "-".join(f"{array.dtype}x{array.ndim}" for array in arrays)
        there = [self.device.to_device(array) for array in arrays]
        with self.phase("compile"):
            name = f"{function.__module__}.{function.__name__}-{types}"
            problems = compilation.warm_up(self.device.node, name, lambda: call(*there))
        for text in next(filter(None, self.comm.gather(problems) or []), []):
            if text not in self.warnings:
                self.warn(text)

    def source(
        self,
        make: Fill,
        shape: int | Sequence[int],
        dtypes: tuple[Any, ...] = (np.float64,),
        largest: float | None = None,
        least: int = 0,
        sizes: tuple[str, ...] = (),
    ) -> Source:
        """Return where the data come from: ``make`` or the ``--input``. See `Source`."""
        return Source(self, make, shape, dtypes, largest, least, sizes)

    def rows(self, source: Source, block: int = 1) -> Rows:
        """Return rows of the shape of a source, in whole blocks. See `Rows`."""
        return Rows(self, source.shape, source.dtype, block)

    def halo_rows(self, source: Source) -> "HaloRows":
        """Return the rows of a 2-D source, with halo. See `HaloRows`. Collective."""
        from rankwise.data.halo import HaloRows

        return HaloRows(self, *source.shape)

    def queue(
        self, tasks: int, shape: int | Sequence[int] = (), dtype: Any = np.float64
    ) -> "Queue":
        """Return the tasks of this run; it has one queue at most. See `Queue`. Collective.

        The parser had `add_queue`.
        """
        from rankwise.data.queue import Queue

        if not hasattr(self.args, "schedule"):
            raise TypeError("this job has no --schedule: add_queue(parser, ...) adds it")
        schedule, chunk = self.args.schedule, self.args.chunk
        self._queue = Queue(self, tasks, shape, dtype, schedule, chunk)
        return self._queue

    def loop(self, problem: dict[str, Any], nbytes: int, source: Source | None = None) -> "Loop":
        """Return the steps of this run; it has one loop at most. See `Loop`. Collective."""
        from rankwise.run.loop import Loop

        self._loop = Loop(self, problem, nbytes, source)
        return self._loop

    def repeats(self) -> Iterator[int]:
        """Yield -1 for the warm-up, then the numbers of the timed repeats. Collective.

        All ranks begin a repeat together. Its time is the wall clock of the loop's body.
        """
        return self.clock.repeats(self.comm.Barrier)

    def same(self, value: Any) -> Any:
        """Return a value of this repeat, after making sure that the first one gave the same bits.

        Raises
        ------
        Stop
            They differ; status 1.
        """
        if value is not None and not self.clock.warming_up:
            octets = np.asarray(value).tobytes()
            if self._first_value is None:
                self._first_value = octets
            if octets != self._first_value:
                raise Stop("check failed: the repeats give different bits", status=1)
        return value

    def check(self, error: float, bound: float, why: str) -> None:
        """Compare an error with its bound, and keep both. On rank 0, inside `on_root`.

        Parameters
        ----------
        error : float
            Distance of the result from an independent one.
        bound : float
            The largest one that is no mistake.
        why : str
            What the bound is: "rounding of both sums", "five standard errors", "exact".

        Raises
        ------
        Stop
            The error is larger or negative, or either is not a number, or the bound is infinite;
            status 1.
        """
        if not 0 <= error <= bound or not math.isfinite(bound):
            raise Stop(f"check failed: off by {error}, bound {bound}: {why}", status=1)
        self.checks.append({"why": printable(why), "error": float(error), "bound": float(bound)})

    def finish(
        self,
        results: Mapping[str, tuple[Any, ...]] | None,
        *,
        work: int,
        kernel_bytes: int,
        kernel_flops: int = 0,
    ) -> None:
        """Write the record and print what it says. Collective.

        A mistake of the job in these lines, or before them, does not lose its answer: the record is
        written and marked as unchecked, and the run ends with status 1.

        Parameters
        ----------
        results : mapping of str to (value, unit, description) or (value, unit, description, axes)
            Numbers and arrays; significant on rank 0. Single numbers are printed as well. ``axes``
            is a tuple of names, one for each dimension of an array. If a result has such a name, it
            holds the coordinates.
        work : int
            Operations of all ranks in one repeat, up to a constant factor: what weak scaling holds
            constant per rank.
        kernel_bytes, kernel_flops : int
            Bytes that the kernels of all ranks read or write in one repeat; their additions and
            multiplications, if the job tells.

        Raises
        ------
        Stop
            The record could not be written, or is marked as unchecked; status 1.
        """
        figures = {"work": work, "kernel_bytes": kernel_bytes, "kernel_flops": kernel_flops}
        facts, path = self.keep(results, figures)
        if self.comm.rank == 0:
            from rankwise.disk import summary

            summary.show(facts, path, self.args.json, warned=True)
        if self._loop is not None:
            self._loop.checkpoint.remove()
        self.on_root(_refuse_unchecked, facts, path)

    def keep(
        self, results: Mapping[str, tuple[Any, ...]] | None, figures: dict[str, Any]
    ) -> tuple[dict[str, Any], Path]:
        """Write the record, and print nothing. Collective. See `finish`.

        Returns
        -------
        facts : dict
            See `rankwise.disk.summary.summary`; empty on all ranks but 0.
        path : Path
            Where the record is.
        """
        start.unfinished.clear()
        snapshots = np.empty(0, SNAPSHOT)
        if self._loop is not None:
            self._loop.checkpoint.require_owner()
            snapshots = self._loop.snapshots.table()
        kept, problems = checked_results(results if self.comm.rank == 0 else {})
        for name, value in figures.items():
            figures[name], more = whole(name, value)
            problems += more
        problems += _problems_of_the_answer(kept, self.checks)
        balance = self._queue.balance() if self._queue is not None else None
        made = provenance.collect(self, kept, figures | {"unchecked": ""}, snapshots, balance)
        if made is not None:
            problems += _problems_of_the_clock(made)
            made.attributes["unchecked"] = "; ".join(problems)
        # Before there is a file: this fails where a record lacks what its reader needs.
        _summary(made)
        # A job may have left its repeats early.
        self.clock.repeat = None
        # Only rank 0 writes. The record has the seconds of it by itself.
        with self.phase("write" if self.comm.rank == 0 else "wait"):
            path = record.write(self.comm, self.path, made, self.args.force)
        _log.info("record %s", path)
        return _summary(made), path


def _problems_of_the_answer(
    results: dict[str, record.Result], checks: list[dict[str, Any]]
) -> list[str]:
    """Return why an answer is not one that was checked."""
    failed = [each["why"] for each in checks if not each["error"] <= each["bound"]]
    # In an array it may stand for what is missing.
    single = [name for name, each in results.items() if each.values.ndim == 0]
    lost = [name for name in single if np.isnan(results[name].values)]
    problems = [f"the check failed: {why}" for why in failed]
    problems += [f"the result {name!r} is not a number" for name in lost]
    if not checks:
        problems.append("no check was made: run.check(error, bound, why) on rank 0")
    return problems


def _problems_of_the_clock(made: record.Record) -> list[str]:
    """Return what is wrong with the times of all ranks."""
    other, kernel = (made.timings[:, PHASES.index(name)] for name in ("other", "kernel"))
    moved = made.attributes["kernel_bytes"] or made.attributes["kernel_flops"]
    problems = {
        "not all repeats were run to their end, so there are no seconds: "
        "for repeat in run.repeats()": np.isnan(other).any(),
        "no rank was in the phase 'kernel'": moved and not np.nansum(kernel) > 0,
    }
    return [text for text, true in problems.items() if true]


def _summary(made: record.Record | None) -> dict[str, Any]:
    if made is None:
        return {}
    from rankwise.disk import summary

    return summary.summary(made)


def _refuse_unchecked(facts: dict[str, Any], path: Path) -> None:
    if facts["unchecked"]:
        raise Stop(f"{path} is marked as unchecked: {facts['unchecked']}", status=1)
