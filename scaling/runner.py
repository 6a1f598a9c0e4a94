"""Execute the runs of a plan one after the other, and note how each went."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from runtime import record as records
from runtime import report as record_report
from scaling import launchers
from scaling.command import Command
from scaling.folder import FAILED, KILLED, OK, TIMED_OUT, Run, load, name_of, write_run
from scaling.launchers import Launcher, Resources

# How long the machine is watched before a run.
_LOAD_SECONDS = 0.2
_END_LINES, _END_CHARACTERS = 40, 4000
# A cancelled batch job kills its steps and this process in either order: wait before a run counts
# as failed.
_GRACE_SECONDS = 1.0
_KILL_SECONDS = 10.0
# If not one of the first runs succeeds, hardly any will.
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
    """

    folder: Path
    plan: dict[str, Any]
    command: Command
    found: Resources
    launcher: Launcher

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
        earlier = load(self.folder).runs
        done = {
            (run.mode, run.ranks, run.launch)
            for run in earlier
            if run.outcome == OK or not retry_failed
        }
        rest = [point for point in map(tuple, self.plan["order"]) if point not in done]
        succeeded = any(run.outcome == OK for run in earlier)
        progress = Progress(len(self.plan["order"]), len(done))
        outcomes = []
        for mode, ranks, launch in rest:
            run = self.run_one(mode, ranks, launch)
            progress.show(run)
            outcomes.append(run.outcome)
            if not succeeded and len(outcomes) == _FIRST_FAILURES and OK not in outcomes:
                progress.say(f"the first {_FIRST_FAILURES} runs failed; the rest is not tried")
                progress.say(run.output_end)
                break
        progress.close()
        latest = {(run.mode, run.ranks, run.launch): run.outcome for run in load(self.folder).runs}
        return int(any(outcome != OK for outcome in latest.values()))

    def run_one(self, mode: str, ranks: int, launch: int) -> Run:
        """Start the program once and write down how it went."""
        name = name_of(mode, ranks, launch)
        folder = self.folder / "runs" / name
        _clear(folder)
        threads, gpus = self.plan["threads"], self.plan["gpus_per_rank"]
        nodes = self.found.nodes(ranks, threads, gpus)
        words = self.words(mode, ranks, folder / "record.h5")
        load_before, start = busy_cores(), datetime.now(UTC).isoformat(timespec="milliseconds")
        env = launchers.environment(threads)
        reason, timed_out, seconds = execute(
            words, env, folder / "output.txt", self.plan["timeout"]
        )
        outcome = OK
        if reason:
            outcome = KILLED if reason.startswith("killed") else FAILED
        if timed_out:
            outcome, reason = TIMED_OUT, f"ended after {self.plan['timeout']:g} s"
        run = Run(
            mode=mode,
            ranks=ranks,
            threads=threads,
            launch=launch,
            nodes=nodes,
            gpus=ranks * gpus,
            cores=sum(self.found.cores[:nodes]),
            argv=words,
            start=start,
            outcome=outcome,
            reason=reason,
            process_seconds=seconds,
            seconds=None,
            source="process",
            work=None,
            load=load_before,
        )
        if outcome == OK:
            run = self._measured(run, folder)
        if run.outcome != OK:
            run = replace(run, output_end=_end_of(folder / "output.txt"))
            time.sleep(_GRACE_SECONDS)
        write_run(folder, run)
        return run

    def _measured(self, run: Run, folder: Path) -> Run:
        """Add the seconds to a run that succeeded, from its record, its output or its process."""
        problem, record = "", None
        path = folder / "record.h5"
        if path.exists() or self.command.job:
            try:
                record = records.read(path)
            except (OSError, ValueError) as error:
                problem = f"no usable record: {error}"
        if record is not None:
            summary = record_report.summary(record)
            if summary["ranks"] == run.ranks:
                facts = {name: summary[name] for name in _FACTS}
                facts |= {name: record.attributes[name] for name in ("git", "versions")}
                return replace(
                    run,
                    seconds=summary["seconds"],
                    source="record",
                    work=float(summary["work"]),
                    phases=record_report.seconds_of_ranks(record),
                    facts=facts,
                )
            problem = f"the record says {summary['ranks']} ranks: is {run.argv[0]} of another MPI?"
        if problem and self.command.job:
            return replace(run, outcome=FAILED, reason=problem)
        printed = _printed_seconds(folder / "output.txt")
        if printed is None:
            return replace(run, seconds=run.process_seconds)
        if not 0 < printed < math.inf:
            return replace(run, outcome=FAILED, reason=f"it printed {printed} seconds")
        return replace(run, seconds=printed, source="json")


_FACTS = ("job", "variant", "devices", "mpi", "results_sha256", "kernel_gbs")


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


def execute(
    words: list[str], env: dict[str, str], output: Path, timeout: float
) -> tuple[str, bool, float]:
    """Execute a command in a session of its own, with its output in a file.

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

    Returns
    -------
    reason : str
        Why it did not succeed; empty if it did.
    timed_out : bool
    seconds : float
        From its start to its end [s].
    """
    expired = threading.Event()
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
            )
        except OSError as error:
            return f"{words[0]} cannot be started: {error.strerror}", False, 0.0

        def expire() -> None:
            expired.set()
            _end(process)

        # Not wait(timeout): it polls, and would round the seconds up to the next look.
        timer = threading.Timer(timeout, expire)
        timer.start()
        try:
            status = process.wait()
        finally:
            timer.cancel()
            if process.returncode is None:
                _end(process)
        seconds = time.perf_counter() - start
    return _reason(status), expired.is_set(), seconds


def _reason(status: int) -> str:
    # A launcher tells of a killed rank the way a shell does: 128 + signal.
    number = -status if status < 0 else status - 128
    if number > 0:
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            pass
    return f"exit status {status}" if status else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a launcher and, through it, its ranks, which may be in sessions of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_KILL_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def busy_cores() -> float:
    """Return how many cores of this machine are busy, over a fifth of a second."""

    def read() -> tuple[int, int]:
        with open("/proc/stat") as file:
            # user nice system idle iowait irq softirq steal: see proc_stat(5).
            ticks = list(map(int, file.readline().split()[1:9]))
        return sum(ticks), ticks[3] + ticks[4]

    before = read()
    time.sleep(_LOAD_SECONDS)
    total, idle = (b - a for a, b in zip(before, read(), strict=True))
    return (os.cpu_count() or 1) * (total - idle) / total if total else 0.0


def _end_of(output: Path) -> str:
    text = _tail(output, 4 * _END_CHARACTERS)
    return "\n".join(text.splitlines()[-_END_LINES:])[-_END_CHARACTERS:]


def _tail(output: Path, octets: int) -> str:
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - octets))
        return file.read().decode("utf-8", "backslashreplace")


def _printed_seconds(output: Path) -> float | None:
    """Return ``seconds`` of the last line of output that is a JSON object with it."""
    for line in reversed(_tail(output, 2**20).splitlines()):
        if line.lstrip().startswith("{"):
            try:
                value = json.loads(line)["seconds"]
            except (ValueError, KeyError, RecursionError):
                continue
            if type(value) in (int, float):
                return float(value)
    return None


class Progress:
    """A bar on a terminal, a line per run in a batch log."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.fresh = total, done, 0
        self.start = time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=done, unit="run", file=sys.stderr)
        elif done:
            self.say(f"{done} of {total} runs are done already")

    @property
    def say(self) -> Callable[[str], None]:
        """What prints a line without tearing the bar."""
        return tqdm.write if self.bar is not None else lambda line: print(line, flush=True)

    def show(self, run: Run) -> None:
        """Tell how a run went and how long the rest may take."""
        self.done, self.fresh = self.done + 1, self.fresh + 1
        plural = "" if run.ranks == 1 else "s"
        name = f"{run.mode}, {run.ranks} rank{plural}, launch {run.launch}"
        how = f"{run.seconds:.4g} s" if run.seconds is not None else _failure(run)
        if self.bar is not None:
            self.bar.update()
            if run.outcome != OK:
                self.say(f"{name}: {how}")
            return
        each = (time.monotonic() - self.start) / self.fresh
        left = (
            f", {_duration(each * (self.total - self.done))} left" if self.done < self.total else ""
        )
        self.say(f"[{self.done:>{len(str(self.total))}}/{self.total}] {name}: {how}{left}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


def _failure(run: Run) -> str:
    """Say how a run failed, with the last words of its output."""
    lines = [line for line in run.output_end.splitlines() if line.strip()]
    last = "".join(c for c in lines[-1] if c.isprintable())[:200] if lines else ""
    return f"{run.outcome}, {run.reason}" + (f": {last}" if last else "")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
