"""What becomes of a run that has ended: its figures, or why it failed."""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rankwise.disk import record as records
from rankwise.disk.summary import seconds_of_ranks, summary
from rankwise.ranks.words import counted
from rankwise.sweep import inputs, output
from rankwise.sweep.execute import Ended
from rankwise.sweep.folder import FAILED, OK, Run
from rankwise.sweep.look import Look
from rankwise.sweep.measure import Figures, Measure, MeasureError, read_output


@dataclass(frozen=True)
class Written:
    """A file at some time.

    Attributes
    ----------
    path : Path or None
    status : tuple or None
        Size and time; None if there is no file.
    text : str
    """

    path: Path | None
    status: inputs.Stat | None = None
    text: str = ""

    @classmethod
    def of(cls, path: Path | None) -> "Written":
        """Look at a file, which need not be there."""
        if path is None or not path.is_file():
            return cls(path)
        return cls(path, inputs.stat(path), read_output(path))


@dataclass(frozen=True)
class Made:
    """A run that has ended.

    Attributes
    ----------
    run : Run
        Without figures.
    ended : Ended
    printed : str
        Standard output and error.
    look : Look or None
        What looked at its ranks.
    times : Written
        The file for its figures, before it began.
    """

    run: Run
    ended: Ended
    printed: str
    look: Look | None
    times: Written


def of(made: Made, measure: Measure, folder: Path, job: bool) -> Run:
    """Return a run that succeeded with its figures, from its record, its words or its process.

    Parameters
    ----------
    made : Made
    measure : Measure
    folder : Path
        Of the run.
    job : bool
        Whether it must have left a record.

    Returns
    -------
    Run
        A failed one if it does not tell what it was to tell, or tells that it failed.
    """
    run = made.run
    if ended := output.aborted(made.printed):
        return replace(run, outcome=FAILED, reason=f"its ranks were ended: {ended}")
    try:
        written = _written(made.times, folder)
        measure.judge(f"{made.printed}\n{written or ''}")
        if (recorded := _recorded(run, folder, job)) is not None:
            run = recorded
            if run.outcome != OK or not measure.asks:
                return run
        figures = measure.figures(made.printed, written)
        return _with(run, figures, bool(measure.seconds) or recorded is None)
    except MeasureError as error:
        return replace(run, outcome=FAILED, reason=str(error), seconds=None)


def _with(run: Run, figures: Figures, seconds_too: bool) -> Run:
    """Return a run with what the program says; the rest is from a record, if there is one."""
    more: dict[str, Any] = {}
    if seconds_too:
        seconds = run.process_seconds if figures.seconds is None else figures.seconds
        # Phases of a record are of other seconds.
        more = {"seconds": seconds, "source": figures.source, "phases": {}}
        more["facts"] = run.facts | ({"printed": figures.printed} if figures.printed else {})
    for name in ("rate", "work"):
        if (value := getattr(figures, name)) is not None:
            more[name] = value
    if figures.phases:
        whole = more.get("seconds", run.seconds) or math.nan
        more["phases"] = _with_other(figures.phases, whole)
    return replace(run, **more)


def _with_other(phases: dict[str, list[float]], seconds: float) -> dict[str, list[float]]:
    """Return the phases that a program tells of, and what is left of its seconds."""
    if "other" in phases:
        return phases
    ranks = len(next(iter(phases.values())))
    told = [sum(values[k] for values in phases.values()) for k in range(ranks)]
    return {**phases, "other": [max(0.0, seconds - part) for part in told]}


def _written(old: Written, folder: Path) -> str | None:
    """Return what this run wrote into its file of figures; a copy stays with the run.

    Raises
    ------
    MeasureError
        It wrote nothing.
    """
    if old.path is None:
        return None
    new = Written.of(old.path)
    beside = old.path.parent == folder
    if new.status in (None, old.status):
        cure = " (give each launch a folder with --case, or name {folder}/... in the command)"
        what = f"it did not write {old.path}, which --time-file names"
        raise MeasureError(what + cure * beside)
    if not beside:
        try:
            shutil.copyfile(old.path, folder / "times.txt")
        except OSError as error:
            raise MeasureError(f"{old.path} cannot be copied: {error.strerror}") from None
    # Some programs add lines to what they find.
    added = len(new.text) > len(old.text) and old.text.endswith("\n")
    return new.text.removeprefix(old.text) if added else new.text


def _recorded(run: Run, folder: Path, job: bool) -> Run | None:
    """Return the run with what its record says; None if there is none."""
    path = folder / "record.h5"
    if not (path.exists() or job):
        return None
    try:
        return of_record(run, records.read(path))
    except (OSError, ValueError) as error:
        # Whatever another program leaves at {output} is its own affair.
        return replace(run, outcome=FAILED, reason=f"no usable record: {error}") if job else None


def of_record(run: Run, record: records.Record) -> Run:
    """Add what a record says to a run, or that it is not of this run."""
    figures = summary(record)
    if reason := _reason_against(run, figures):
        return replace(run, outcome=FAILED, reason=reason)
    # Without a kernel phase there is no bandwidth.
    facts = {name: figures[name] for name in _FACTS if figures[name] is not None}
    return replace(
        run,
        # A launcher of the user's own may reach further than this machine.
        nodes=figures["nodes"],
        seconds=figures["seconds"],
        source="record",
        work=float(figures["work"]),
        phases=seconds_of_ranks(record),
        facts=run.facts | facts | {name: record.attributes[name] for name in ("git", "versions")},
    )


_FACTS = ("job", "variant", "devices", "mpi", "results_sha256", "kernel_gbs", "kernel_bytes",
          "checks", "warnings", "hosts", "peak_memory_rank", "peak_memory_node",
          "queue")  # fmt: skip


def _reason_against(run: Run, figures: dict[str, Any]) -> str:
    """Say why the figures of a record do not count as those of a run; empty if they do."""
    if figures["ranks"] != run.ranks:
        said = counted(figures["ranks"], "rank")
        return f"the record says {said}: is {run.argv[0]} of another MPI than the program?"
    if run.gpus and figures["devices"] == ["host"]:
        return "GPUs were asked for, and the record says that none was used"
    if figures["first_step"]:
        return "it went on from a checkpoint, so its seconds are those of a part"
    if not figures["seconds"] > 0:
        return "its record has no seconds"
    return str(figures["unchecked"])
