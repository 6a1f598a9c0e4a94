"""Execute the runs of a plan one after the other, and note how each went."""

import json
import math
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from rankwise.disk import record as records
from rankwise.disk.summary import seconds_of_ranks, summary
from rankwise.node.code import git_commit
from rankwise.node.load import busy_cores
from rankwise.ranks.progress import Progress, on_terminal
from rankwise.ranks.words import counted, duration
from rankwise.sweep import launchers, plan
from rankwise.sweep.command import Command
from rankwise.sweep.folder import FAILED, KILLED, OK, TIMED_OUT, Run, load, name_of, write_run
from rankwise.sweep.launchers import Launcher, Resources

# Of standard output and standard error together, in bytes.
_MOST_OUTPUT = 2**28
_END_LINES, _END_CHARACTERS = 40, 4000
# A cancelled batch job kills its steps and this process in either order: wait before a run counts
# as failed.
_GRACE_SECONDS = 5.0
_KILL_SECONDS = 10.0
# If none of so many runs succeeds, nor any of a whole round, hardly one will.
_FIRST_FAILURES = 3


@dataclass(frozen=True)
class Runner:
    """Runs what a plan says.

    Attributes
    ----------
    folder : Path
        Of the sweep.
    plan : dict
        ``sweep.json``.
    command, found, launcher : Command, Resources, Launcher
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
    lock: int | None = None
    finished: list[Run] = field(default_factory=list)

    def words(self, mode: str, ranks: int, output: Path) -> list[str]:
        """Return what is executed at a point, launcher included."""
        threads, gpus = self.plan["threads"], self.plan["gpus_per_rank"]
        nodes = self.found.nodes(ranks, threads, gpus)
        before = self.launcher.words(ranks, threads, gpus, nodes)
        return before + self.command.at(mode, ranks, threads, output)

    def run(self, retry_failed: bool) -> int:
        """Run what has not been run, and return 1 if any run of the sweep failed, else 0.

        Parameters
        ----------
        retry_failed : bool
            Repeat the runs that failed as well.
        """
        order = [tuple(point) for point in self.plan["order"]]
        outcomes = self._outcomes()
        rest = [p for p in order if outcomes.get(p) != OK and (retry_failed or p not in outcomes)]
        round_of_all = max(_FIRST_FAILURES, len({point[:2] for point in order}))
        # A log gets a line for each run, see `_tell`.
        with Progress(len(order), "run", on_terminal(), len(order) - len(rest)) as progress:
            _begin(progress)
            for tried, point in enumerate(rest, 1):
                run = self.run_one(*point)
                if run.outcome == OK or point not in outcomes:
                    self.finished.append(run)
                outcomes[point] = run.outcome
                _tell(progress, run)
                # Status 2: a job has refused its command line, which is the same in all runs.
                refused = self.command.job and run.reason == "exit status 2"
                enough = refused or tried == round_of_all
                if OK not in outcomes.values() and enough and tried < len(rest):
                    what = "the first run was" if tried == 1 else f"none of the first {tried} runs"
                    how = " refused" if tried == 1 else " succeeded"
                    progress.say(f"{what}{how}; the rest is not tried")
                    progress.say(run.output_end)
                    break
        return int(any(outcome != OK for outcome in self._outcomes().values()))

    def _outcomes(self) -> dict[tuple[str, int, int], str]:
        """Return how each run went, when it was last tried."""
        return {(run.mode, run.ranks, run.launch): run.outcome for run in load(self.folder).runs}

    def run_one(self, mode: str, ranks: int, launch: int) -> Run:
        """Start the program once and write down how it went."""
        folder = self.folder / "runs" / name_of(mode, ranks, launch)
        _clear(folder)
        run = self._execute(mode, ranks, launch, folder)
        if run.outcome == OK:
            run = self._measured(run, folder)
        if run.outcome != OK:
            run = replace(run, output_end=_end_of(folder / "output.txt"))
            time.sleep(_GRACE_SECONDS if "SLURM_JOB_ID" in os.environ else 0)
        write_run(folder, run)
        return run

    def _execute(self, mode: str, ranks: int, launch: int, folder: Path) -> Run:
        """Start the program once in a folder; the seconds and the work are still to be found."""
        threads, gpus = self.plan["threads"], self.plan["gpus_per_rank"]
        nodes = self.found.nodes(ranks, threads, gpus)
        words = self.words(mode, ranks, folder / "record.h5")
        env, output = launchers.environment(threads), folder / "output.txt"
        load_before, start = busy_cores(), datetime.now(UTC).isoformat(timespec="milliseconds")
        ended = execute(words, env, output, self.plan["timeout"], self.lock)
        return Run(
            mode=mode,
            ranks=ranks,
            threads=threads,
            launch=launch,
            nodes=nodes,
            gpus=ranks * gpus,
            cores=sum(self.found.cores[:nodes]),
            argv=words,
            start=start,
            outcome=ended.outcome,
            reason=ended.reason,
            process_seconds=ended.seconds,
            seconds=None,
            source="process",
            work=None,
            load=load_before,
            cpu=plan.processor(),
            commit=git_commit(self.command.program),
        )

    def _measured(self, run: Run, folder: Path) -> Run:
        """Add the seconds to a run that succeeded, from its record, its output or its process."""
        path = folder / "record.h5"
        if path.exists() or self.command.job:
            try:
                return _of_record(run, records.read(path))
            except (OSError, ValueError) as error:
                # Whatever another program leaves at {output} is its own affair.
                if self.command.job:
                    return replace(run, outcome=FAILED, reason=f"no usable record: {error}")
        printed = _printed_seconds(folder / "output.txt")
        if not printed:
            return replace(run, seconds=run.process_seconds)
        if not 0 < printed[-1] < math.inf:
            return replace(run, outcome=FAILED, reason=f"it printed {printed[-1]} seconds")
        return replace(run, seconds=printed[-1], source="json", facts={"printed": len(printed)})


def _of_record(run: Run, record: records.Record) -> Run:
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
        facts=facts | {name: record.attributes[name] for name in ("git", "versions")},
    )


_FACTS = ("job", "variant", "devices", "mpi", "results_sha256", "kernel_gbs", "kernel_bytes",
          "checks", "warnings", "hosts")  # fmt: skip


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


def _clear(folder: Path) -> None:
    """Make an empty folder for a run; what failed in it before is kept beside it."""
    if (folder / "run.json").exists():
        k = 1
        while (kept := folder.with_name(f"{folder.name}.failed{k}")).exists():
            k += 1
        folder.rename(kept)
    # Without run.json the run was interrupted: nothing in it counts.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@dataclass(frozen=True)
class Ended:
    """How a command ended: an outcome, why if it is not ``ok``, and its seconds [s]."""

    outcome: str
    reason: str
    seconds: float


def execute(
    words: list[str], env: dict[str, str], output: Path, timeout: float, lock: int | None = None
) -> Ended:
    """Execute a command in a session of its own, with its output in a file, and end all of it.

    Parameters
    ----------
    words : list of str
        The command.
    env : dict
        Its environment.
    output : Path
        For standard output and standard error.
    timeout : float
        Seconds after which it is ended.
    lock : int, optional
        File descriptor that it inherits.
    """
    with output.open("wb") as log:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
                pass_fds=() if lock is None else (lock,),
            )
        except OSError as error:
            return Ended(FAILED, f"{words[0]} cannot be started: {error.strerror}", 0.0)
        watch = None
        try:
            watch = Watch(process, log, timeout)
            # Not wait(timeout): it polls, and would round the seconds up to the next look.
            status = process.wait()
            seconds = time.perf_counter() - start
        finally:
            if watch is not None:
                watch.stop()
            _end(process)
    if watch.outcome:
        return Ended(watch.outcome, watch.reason, seconds)
    return Ended(*_judged(status), seconds)


def _judged(status: int) -> tuple[str, str]:
    # A launcher tells of a killed rank the way a shell does: 128 + signal.
    number = -status if status < 0 else status - 128
    if number > 0:
        try:
            return KILLED, f"killed by {signal.Signals(number).name}"
        except ValueError:
            pass
    return (FAILED, f"exit status {status}") if status else (OK, "")


class Watch(threading.Thread):
    """Ends a process that takes too long or prints too much, and says which."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes], timeout: float) -> None:
        super().__init__(daemon=True)
        self.process, self.log, self.timeout = process, log, timeout
        self.outcome, self.reason = "", ""
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        """Look once a second."""
        left = self.timeout
        while not self._over.wait(min(left, 1.0)):
            left -= min(left, 1.0)
            if left <= 0:
                self.outcome, self.reason = TIMED_OUT, f"ended after {self.timeout:g} s"
            elif os.fstat(self.log.fileno()).st_size > _MOST_OUTPUT:
                self.outcome, self.reason = FAILED, f"it printed more than {_MOST_OUTPUT >> 20} MiB"
            if self.outcome:
                _signal_and_wait(self.process)
                return

    def stop(self) -> None:
        """End the watch."""
        self._over.set()
        self.join()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a launcher and, through it, of its ranks."""
    if process.returncode is None:
        _signal_and_wait(process)
    # Children that a program has left in the background would disturb the next run.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _signal_and_wait(process: subprocess.Popen[bytes]) -> None:
    """Ask first: ranks may be in sessions of their own, which only their launcher can end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_SECONDS)
            return


def _end_of(output: Path) -> str:
    text = _tail(output, 4 * _END_CHARACTERS)
    return "\n".join(text.splitlines()[-_END_LINES:])[-_END_CHARACTERS:]


def _tail(output: Path, octets: int) -> str:
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - octets))
        return file.read().decode("utf-8", "backslashreplace")


def _printed_seconds(output: Path) -> list[float]:
    """Return ``seconds`` of all lines of output that are JSON objects with it."""
    found = []
    for line in _tail(output, 2**20).splitlines():
        if line.lstrip().startswith("{"):
            # A number with hundreds of digits is too large for a float.
            with suppress(ValueError, KeyError, RecursionError, OverflowError):
                value = json.loads(line)["seconds"]
                if type(value) in (int, float):
                    found.append(float(value))
    return found


def _begin(progress: Progress) -> None:
    """Tell what an earlier sweep has done: the first run of this one may take long."""
    if progress.terminal:
        progress.show()
    elif progress.done:
        progress.say(f"{progress.done} of {counted(progress.total, 'run')} are done already")


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
    """Say how a run failed, with the last words of its output."""
    lines = [line for line in run.output_end.splitlines() if line.strip()]
    # After a time-out it is the launcher's, on its having been ended.
    last = lines[-1] if lines and run.outcome != TIMED_OUT else ""
    last = "".join(c for c in last if c.isprintable())[:200]
    return f"{run.outcome}, {run.reason}" + (f": {last}" if last else "")
