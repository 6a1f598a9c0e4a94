"""The steps of a long run, with what goes with them: checkpoints, signals, snapshots, progress."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from rankwise.disk.record import Result
from rankwise.ranks.progress import Progress
from rankwise.run.begin import Begun
from rankwise.run.checkpoint import Checkpoint
from rankwise.run.results import results
from rankwise.run.snapshots import Snapshots
from rankwise.run.source import Source

# State that is kept: value, unit and description by name. Significant on rank 0.
State = Mapping[str, tuple[Any, ...]]


class Loop:
    """The steps of one run. As a context: signals lead to a checkpoint inside. Collective.

    Parameters
    ----------
    run : Begun
        Its parser had `add_loop`.
    problem : dict
        What the state depends on, in plain numbers and text; not the ranks or the variant. The
        content of an input is added.
    nbytes : int
        Size of the state [bytes].
    source : Source, optional
        Of the first state.

    Attributes
    ----------
    first, done, last : int
        The step after which this run goes on, 0 for a new one; the last step that was done; the
        last one that may be.

    Raises
    ------
    Stop
        See `rankwise.run.checkpoint.Checkpoint` and `rankwise.run.snapshots.Snapshots`.
    """

    def __init__(
        self, run: Begun, problem: dict[str, Any], nbytes: int, source: Source | None = None
    ) -> None:
        self._run, self.last = run, run.args.steps
        if source is not None:
            kept = run.args.checkpoint is not None
            digest = run.on_root(lambda: source.sha256() if kept else None)
            problem = problem | {"sha256 of the input": digest}
        self.checkpoint = Checkpoint(run, problem, self.last, nbytes)
        every = getattr(run.args, "snapshot_every", None)
        self.snapshots = Snapshots(run, every, self.last, nbytes, self.checkpoint)
        self.first = self.done = self.checkpoint.step
        total = self.last * run.args.repeats
        self._progress = Progress(total, "step", run.comm.rank == 0, self.first)
        self._inside = ExitStack()

    def __enter__(self) -> "Loop":
        self._inside.enter_context(self.checkpoint.answering_signals())
        self._inside.enter_context(self._progress)
        return self

    def __exit__(self, *failure: Any) -> None:
        self._run.clock.step = None
        self._inside.close()

    def resume(self, name: str, source: Any) -> Any:
        """Return what fills rows with the part ``name`` of the state that the run goes on from.

        Parameters
        ----------
        name : str
            As `steps` has kept it.
        source : callable
            Returned for a new run, and on all ranks but 0.
        """
        return self.checkpoint.fill(name) or source

    def resume_on_all(self, name: str, state: np.ndarray) -> None:
        """Fill an array that all ranks have alike from the checkpoint, if any. Collective.

        Parameters
        ----------
        name : str
        state : array, contiguous
            Its own content for a new run, on all ranks.
        """
        run = self._run
        if self.first:
            run.on_root(lambda: self.checkpoint.fill(name)(0, state))  # type: ignore[misc]
            run.comm.Bcast(state)

    def steps(self, save: Callable[[], State]) -> Iterator[int]:
        """Yield the numbers of the steps of a repeat; for the warm-up two, which leave nothing.

        The job may leave the loop early, on all ranks after the same step.

        Parameters
        ----------
        save : callable
            Returns the state after a step, where it is to be kept; called on all ranks, so that it
            may gather, and significant on rank 0.

        Raises
        ------
        Stop
            See `rankwise.run.checkpoint.Checkpoint.require_time` and its ``write``.
        """
        if self._run.clock.warming_up:
            yield from range(-1, 1)
            return
        self.checkpoint.require_time()
        for step in self._progress.over(range(self.first + 1, self.last + 1)):
            self.done = step
            self._run.clock.begin_step(step)
            yield step
            if step in self.snapshots.steps:
                self.snapshots.write(step, self._kept(save))
            if self.checkpoint.due(step):
                self.checkpoint.write(step, self._kept(save), self.snapshots.table())

    def _kept(self, save: Callable[[], State]) -> dict[str, Result]:
        state = save()
        if self._run.comm.rank != 0:
            return {}
        kept, problems = results(state)
        if problems:
            raise TypeError("; ".join(problems))
        return kept
