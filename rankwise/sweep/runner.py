"""Execute the runs of a plan one after the other, and note how each went."""

import math
import os
import shutil
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rankwise.node import groups, slurm
from rankwise.node.code import git_commit
from rankwise.node.load import busy_cores
from rankwise.ranks.progress import Progress, on_terminal
from rankwise.ranks.words import counted, duration
from rankwise.sweep import inputs, launchers, mpi, outcome, output, plan, probe
from rankwise.sweep.case import Case
from rankwise.sweep.command import Command
from rankwise.sweep.execute import TRIES, Ended, execute
from rankwise.sweep.folder import (
    FAILED,
    OK,
    PLAN,
    PROCESS,
    TIMED_OUT,
    FolderError,
    Run,
    load,
    name_of,
    read_run,
    write_json,
    write_run,
)
from rankwise.sweep.inputs import Inputs
from rankwise.sweep.launchers import Launcher, Resources, UsageError
from rankwise.sweep.look import Look
from rankwise.sweep.measure import Measure, read_output
from rankwise.sweep.mpi import Linked
from rankwise.sweep.outcome import Made, Written
from rankwise.sweep.processes import MARK
from rankwise.sweep.usage import Usage

# A cancelled batch job kills its steps and this process in either order: wait before a run counts
# as failed.
_GRACE_SECONDS = 5.0
# If none of so many runs succeeds, nor any of a whole round, hardly one will.
_FIRST_FAILURES = 3
_MOST_NAMES = 10
_TOO_LONG = "The program says that it took longer than its launch"


@dataclass
class Runner:
    """Runs what a plan says.

    Attributes
    ----------
    folder : Path
        Of the sweep.
    plan : dict
        ``sweep.json``.
    command : Command
        The program.
    found : Resources
        What its ranks may use.
    launcher : Launcher
        What starts them.
    linked : Linked
        Which MPI the program wants.
    measure : Measure
        What is looked for in its output.
    case : Case or None
        What each run gets a copy of.
    inputs : Inputs
        The files that must stay as they are.
    lock : int, optional
        Descriptor of the folder's lock. Launchers inherit it: should this process be killed, the
        folder stays locked for as long as one of them lives.
    finished : list of Run
        What this process has run, but for failures of what had failed before.
    """

    folder: Path
    plan: dict[str, Any]
    command: Command
    found: Resources
    launcher: Launcher
    linked: Linked
    measure: Measure
    case: Case | None
    inputs: Inputs
    lock: int | None = None
    finished: list[Run] = field(default_factory=list)
    _looked: set[int] = field(default_factory=set)
    _told_changes: bool = False
    _progress: Progress | None = None

    def before(self, ranks: int) -> list[str]:
        """Return what stands before the program at a rank count."""
        threads, gpus = self.plan["threads"], self.plan["gpus_per_rank"]
        nodes = self.found.nodes(ranks, threads, gpus)
        return self.launcher.words(ranks, threads, gpus, nodes)

    def words(self, mode: str, ranks: int, folder: Path) -> list[str]:
        """Return what is executed in the folder of a run, launcher included."""
        threads, record, own = self.plan["threads"], folder / "record.h5", None
        if self.case is not None:
            record, own = record.absolute(), self._place(folder).absolute()
        return self.before(ranks) + self.command.at(mode, ranks, threads, record, own)

    def _place(self, folder: Path) -> Path:
        """Return where the files of a run are: its copy of the case, or its own folder."""
        return folder if self.case is None else folder / "case"

    def probe(self) -> None:
        """Start every point's ranks once, without the program, and look at what they get.

        Raises
        ------
        UsageError
            It is not what a point says.
        """
        env, threads, gpus = self._environment(), self.plan["threads"], self.plan["gpus_per_rank"]
        seen: dict[str, Any] = {}
        failures: dict[int, str] = {}
        for ranks in self.plan["ranks"]:
            places, failure = probe.start(self.before(ranks), env, self.folder, ranks)
            if failure:
                failures[ranks] = failure
                # Each may take a minute.
                if len(failures) > 1:
                    break
                continue
            point = probe.wanted(self.launcher, self.found, ranks, threads, gpus)
            copies = bool(self.plan["copies"])
            if fault := probe.fault(places, point, self.launcher, self.linked, copies):
                raise UsageError(fault)
            seen[str(ranks)] = probe.noted(places)
            if gpus and not any(place.sees_gpus for place in places):
                self._warn("GPUs were asked for, and no rank sees one")
        if failures:
            ranks, failure = next(iter(failures.items()))
            self._warn(
                f"The launcher did not start a small script on {counted(ranks, 'rank')} ({failure})"
                ", so how it places ranks is not known"
            )
        self.plan["places"] = seen
        write_json(self.folder / PLAN, self.plan)

    def look_at_quota(self) -> None:
        """Say at which rank counts the threads have less time than cores, as in a container."""
        threads, gpus = self.plan["threads"], self.plan["gpus_per_rank"]
        quota = min(groups.cpu_quotas().values(), default=math.inf)
        # Of this node: what a launcher of the user's reaches is not known.
        here = [n for n in self.plan["ranks"] if self.found.nodes(n, threads, gpus) == 1]
        short = [str(n) for n in here if n * threads > quota and not self.plan["cores_given"]]
        if short:
            self._warn(
                f"With {', '.join(short)} ranks there are more threads than the {quota:.3g} cores "
                "whose time they have (the CPU quota of a container or job), so they stand still "
                "in between"
            )

    def _warn(self, text: str) -> None:
        """Say something once, here and in the report."""
        if text not in self.plan["warnings"]:
            self.plan["warnings"].append(text)
            write_json(self.folder / PLAN, self.plan)
            self._say(f"warning: {text}")

    def _say(self, text: str) -> None:
        """Print a line, above the one that shows progress if there is one."""
        if self._progress is None:
            print(text, flush=True)
        else:
            self._progress.say(text)

    def _environment(self, **more: str) -> dict[str, str]:
        return launchers.environment(self.plan["threads"], self.launcher) | more

    def run(self, retry_failed: bool) -> int:
        """Run what has not been run, and return 1 if any run of the sweep failed, else 0.

        Parameters
        ----------
        retry_failed : bool
            Repeat the launches that failed as well.
        """
        order = [tuple(point) for point in self.plan["order"]]
        outcomes, rest = self._outcomes(), self.rest(retry_failed)
        round_of_all = max(_FIRST_FAILURES, len({point[:2] for point in order}))
        # A log gets a line for each launch, see `_tell`.
        with Progress(len(order), "launch", on_terminal(), len(order) - len(rest)) as progress:
            self._progress = progress
            _begin(progress)
            for tried, point in enumerate(rest, 1):
                run = self.run_one(*point)
                if run.outcome == OK or point not in outcomes:
                    self.finished.append(run)
                outcomes[point] = run.outcome
                _tell(progress, run)
                # Status 2: a job has refused its command line, which is the same in all launches.
                refused = self.command.job and run.reason == "exit status 2"
                enough = refused or tried == round_of_all
                if OK not in outcomes.values() and enough and tried < len(rest):
                    what = "the first launch was refused"
                    if tried > 1:
                        what = f"none of the first {tried} launches succeeded"
                    progress.say(f"{what}; the rest is not tried")
                    progress.say(run.output_end)
                    break
        return int(any(outcome != OK for outcome in self._outcomes().values()))

    def rest(self, retry_failed: bool) -> list[tuple[str, int, int]]:
        """Return what is still to be started: mode, ranks and launch of each."""
        outcomes, order = self._outcomes(), [tuple(point) for point in self.plan["order"]]
        return [p for p in order if outcomes.get(p) != OK and (retry_failed or p not in outcomes)]

    def _outcomes(self) -> dict[tuple[str, int, int], str]:
        """Return how each run went, when it was last tried."""
        return {(run.mode, run.ranks, run.launch): run.outcome for run in load(self.folder).runs}

    def run_one(self, mode: str, ranks: int, launch: int) -> Run:
        """Start the program once and write down how it went.

        Raises
        ------
        UsageError
            What it starts from has changed, or its ranks are not what they should be.
        """
        folder = self.folder / "runs" / name_of(mode, ranks, launch)
        made = self._steady(mode, ranks, launch, folder)
        run = self._measured(made, folder) if made.run.outcome == OK else made.run
        if run.outcome != OK:
            run = replace(run, output_end=output.end_of(made.printed))
            time.sleep(_GRACE_SECONDS if slurm.inside() else 0)
        write_run(folder, run)
        if run.outcome == OK and self.case is not None and not self.case.keep:
            # What the program has left running may still write there.
            shutil.rmtree(self._place(folder), ignore_errors=True)
        self._refuse_written_links()
        return run

    def _steady(self, mode: str, ranks: int, launch: int, folder: Path) -> Made:
        """Start the program, and again if the machine stood still or the launcher failed."""
        for tried in range(1, TRIES + 1):
            self._refuse_changes()
            _clear(folder)
            made = self._execute(mode, ranks, launch, folder)
            if made.ended.refused:
                raise UsageError(f"{made.ended.refused} (its output: {folder / 'output.txt'})")
            if not made.ended.not_its_own:
                if made.look is not None and made.run.outcome == OK:
                    self._judge(made.look, made.printed)
                return made
            if tried < TRIES:
                self._say(f"{folder.name}: {made.ended.not_its_own}: once more")
        reason = f"given up after {TRIES} starts: {made.ended.not_its_own}"
        return replace(made, run=replace(made.run, outcome=FAILED, reason=reason))

    def _refuse_changes(self) -> None:
        """Raise `UsageError` if a file that decides what is computed is not what it was."""
        if names := self.inputs.changed():
            cure = " (if a launch itself writes it, give each a folder of its own with --case)"
            raise UsageError(
                f"{_listed(names)} changed since the sweep began, so that further launches would "
                "be of another program or input: restore it, or begin a new sweep"
                + cure
                * (self.case is None)
            )

    def _refuse_written_links(self) -> None:
        links = self.case.links if self.case is not None else ()
        originals = [self.case.folder / name for name in links] if self.case is not None else []
        written = [str(p) for p in originals if inputs.stat(p) != self.inputs.stats.get(p)]
        if written:
            raise UsageError(
                f"the launch wrote into {_listed(written)}, which --link gives to every launch: "
                "leave it out of --link, so that each gets a copy"
            )

    def _execute(self, mode: str, ranks: int, launch: int, folder: Path) -> Made:
        """Start the program once in a folder; the seconds and the work are still to be found."""
        words, mark = self.words(mode, ranks, folder), f"{os.getpid()}-{time.monotonic_ns()}"
        env, cwd, shared = self._environment(**{MARK: mark}), None, Path()
        if self.case is not None:
            cwd, shared = self._place(folder), self.case.folder
            self.case.copy(cwd)
            env["PWD"] = str(cwd.absolute())
        before = inputs.snapshot(shared, self.folder)
        old = Written.of(self.measure.place_of_times(self._place(folder)))
        load_before, start = busy_cores(), datetime.now(UTC).isoformat(timespec="milliseconds")
        timeout, file = self.plan["timeout"], folder / "output.txt"
        usage, look = Usage(env, self.launcher, ranks), self._look(ranks, mark)
        looks = (usage,) if look is None else (usage, look)
        try:
            ended = execute(words, env, file, timeout, self.lock, cwd, looks)
        finally:
            usage.end()
        if not self.launcher.starts_ranks:
            # What was started is the program.
            ended = replace(ended, launcher_failed=False)
        for text in ended.warnings:
            self._warn(text)
        changed = inputs.changes(before, inputs.snapshot(shared, self.folder))
        self._tell_changes(changed)
        facts: dict[str, Any] = usage.facts(ended.over)
        facts |= {"changed": changed[:_MOST_NAMES]} if changed else {}
        printed = read_output(file)
        if line := output.first_line(printed):
            facts["first_line"] = line
        run = self._noted(mode, ranks, launch, words, ended)
        run = replace(run, start=start, load=load_before, facts=facts)
        return Made(run, ended, printed, look, old)

    def _noted(self, mode: str, ranks: int, launch: int, words: list[str], ended: Ended) -> Run:
        """Return what is known of a run by itself, but for when it started."""
        nodes = self._nodes(ranks)
        return Run(
            mode=mode,
            ranks=ranks,
            threads=self.plan["threads"],
            launch=launch,
            nodes=nodes,
            gpus=ranks * self.plan["gpus_per_rank"],
            cores=sum(self.found.cores[:nodes]),
            argv=words,
            start="",
            outcome=ended.outcome,
            reason=ended.reason,
            process_seconds=ended.seconds,
            seconds=None,
            source=PROCESS,
            work=None,
            load=0.0,
            cpu=plan.processor(),
            commit=git_commit(self.command.program),
        )

    def _tell_changes(self, changed: list[str]) -> None:
        """Say once that a run changed files from which another may go on."""
        if not changed or self._told_changes:
            return
        self._told_changes = True
        where, cure = "the working folder", ": --case gives each launch a folder of its own"
        if self.case is not None:
            where, cure = f"{self.case.folder}, and not in its copy", ""
        self._say(
            f"warning: a launch changed {_listed(changed)} in {where}, and the next may go on from "
            f"there{cure}"
        )

    def _nodes(self, ranks: int) -> int:
        """Return the nodes of a point: as its launcher filled them, if it chooses by itself."""
        hosts = (self.plan.get("places") or {}).get(str(ranks), {}).get("hosts")
        if hosts and self.launcher.own:
            return len(hosts)
        return self.found.nodes(ranks, self.plan["threads"], self.plan["gpus_per_rank"])

    def _look(self, ranks: int, mark: str) -> Look | None:
        """Return what looks at the running ranks, in the first run of each rank count."""
        # A job looks by itself, and its record tells how many ranks it had.
        if ranks in self._looked or self.command.job:
            return None
        sizes = (ranks, self.plan["threads"], self.plan["gpus_per_rank"])
        point = probe.wanted(self.launcher, self.found, *sizes)
        return Look(mark, point, self.launcher, self.linked, bool(self.plan["copies"]))

    def _judge(self, look: Look, text: str) -> None:
        """See whether the ranks of a run that succeeded worked together.

        Raises
        ------
        UsageError
            They surely did not.
        """
        ranks = look.point.ranks
        self._looked.add(ranks)
        if look.alone:
            raise UsageError(look.alone)
        if look.library:
            self.plan["mpi"] = {**self.plan["mpi"], "library": look.library}
            write_json(self.folder / PLAN, self.plan)
            if not self.launcher.starts_ranks and look.ranks != ranks:
                self._warn(
                    f"Where {counted(ranks, 'rank')} were to be started, the program started "
                    f"{look.ranks} on this node"
                )
        elif ranks > 1 and not look.copies and not any(map(mpi.is_mpi, self.linked.libraries)):
            self._judge_output(ranks, text)

    def _judge_output(self, ranks: int, text: str) -> None:
        """See whether each rank printed the same; raises `UsageError` if they surely did."""
        alike, sure = output.copies(text, ranks)
        each = f"prints each of its lines {ranks} times on {counted(ranks, 'rank')}"
        if sure:
            raise UsageError(
                f"the program {each}: every rank seems to run the whole of it by itself, so it may "
                "have no MPI, or another one than the launcher; name the right one with "
                "--launcher, or say --copies if copies are meant"
            )
        what = ", so it is not known whether its ranks share the work"
        if alike:
            what = f", and it {each}: every rank may run the whole of it by itself"
        self._warn(f"No MPI library was seen in the program{what}")

    def _measured(self, made: Made, folder: Path) -> Run:
        """Return a run that succeeded with its figures; warn of a time that cannot be."""
        run = outcome.of(made, self.measure, folder, self.command.job)
        # Programs round to whole seconds.
        said = any(text.startswith(_TOO_LONG) for text in self.plan["warnings"])
        if run.seconds and run.seconds > 1.05 * run.process_seconds + 1 and not said:
            self._warn(
                f"{_TOO_LONG}, {run.seconds:g} s and not {run.process_seconds:.3g} s: the figure "
                "is of something else, or in another unit"
            )
        return run


def _listed(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def _clear(folder: Path) -> None:
    """Make an empty folder for a run; what failed in it before is kept beside it."""
    try:
        had_one = (folder / "run.json").exists() and read_run(folder)
    except FolderError:
        # Damaged: nothing in it counts either.
        had_one = None
    if had_one:
        k = 1
        while (kept := folder.with_name(f"{folder.name}.failed{k}")).exists():
            k += 1
        folder.rename(kept)
    # Without run.json the run was interrupted: nothing in it counts.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _begin(progress: Progress) -> None:
    """Tell what an earlier sweep has done: the first run of this one may take long."""
    if progress.terminal:
        progress.show()
    elif progress.done:
        progress.say(f"{progress.done} of {counted(progress.total, 'launch')} are done already")


def _tell(progress: Progress, run: Run) -> None:
    """Count a run and tell how it went; on a terminal, whose line shows progress, if it failed."""
    progress.advance()
    name = f"{run.mode}, {counted(run.ranks, 'rank')}, launch {run.launch}"
    how = f"{run.seconds:.4g} s" if run.seconds is not None else _failure(run)
    if progress.terminal:
        if run.outcome != OK:
            progress.say(f"{name}: {how}")
        return
    done, total = progress.done, progress.total
    left = f", {duration(progress.left())} left" if done < total else ""
    progress.say(f"[{done:>{len(str(total))}}/{total}] {name}: {how}{left}")


def _failure(run: Run) -> str:
    """Say how a run failed, with the program's own words."""
    # Other reasons say themselves what is wrong; after a time-out it may be of what ended it.
    by_status = run.outcome != TIMED_OUT and run.reason.startswith(("exit status", "killed"))
    last = output.error_line(run.output_end) if by_status else ""
    return f"{run.outcome}, {run.reason}" + (f": {last}" if last else "")
