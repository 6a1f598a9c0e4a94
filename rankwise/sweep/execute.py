"""Start a command, watch it, and end all of it."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rankwise.node import slurm
from rankwise.sweep.folder import FAILED, KILLED, OK, TIMED_OUT

# Of standard output and standard error together, in bytes.
_MOST_OUTPUT = 2**28
_KILL_SECONDS = 10.0
# How often a command is started, if it is not the program that fails.
TRIES = 3
# A thread that sleeps for a beat wakes 0.504 s later at worst beside eight busy processes. One that
# comes as late as this stood still, and so, as a rule, did all that ran here.
_BEAT_SECONDS, _LATE_SECONDS = 0.5, 2.0

Look = Callable[[], str]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes
    ----------
    outcome, reason : str
        See `rankwise.sweep.folder.Run`.
    seconds : float
        From its start to its end [s].
    stood_still : float
        For how long this machine or this process was suspended meanwhile [s].
    refused : str
        Why it was ended, if that makes the whole sweep useless; else empty.
    warnings : tuple of str
        Which looks failed.
    launcher_failed : bool
        The launcher itself was killed by SIGPIPE, which says nothing of the program.
    over : float
        When it ended, by `time.monotonic` [s].
    """

    outcome: str
    reason: str
    seconds: float
    stood_still: float = 0.0
    refused: str = ""
    warnings: tuple[str, ...] = ()
    launcher_failed: bool = False
    over: float = 0.0

    @property
    def not_its_own(self) -> str:
        """Which fault was not the program's own; empty if there was none."""
        if self.stood_still:
            return f"this machine stood still for {self.stood_still:.1f} s"
        return self.reason if self.launcher_failed else ""


def execute(
    words: list[str],
    env: dict[str, str],
    output: Path,
    timeout: float,
    lock: int | None = None,
    cwd: Path | None = None,
    looks: Sequence[Look] = (),
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
    cwd : Path, optional
        Where it runs; None: here.
    looks : sequence of callable
        Called again and again while it runs; each ends it by returning why. One that raises is not
        called again.
    """
    # Not through a link that leads to a file of somebody else's choice.
    output.unlink(missing_ok=True)
    with output.open("xb") as log:
        # Slurm takes its time to answer, which is not the program's.
        asleep, suspensions = _asleep(), _suspended_by_slurm()
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
                pass_fds=() if lock is None else (lock,),
            )
        except OSError as error:
            return Ended(FAILED, f"{words[0]} cannot be started: {error.strerror}", 0.0)
        watch = None
        try:
            watch = Watch(process, log, timeout, looks)
            # Not wait(timeout): it polls, and would round the seconds up to the next look.
            status = process.wait()
            seconds = time.perf_counter() - start
            over = time.monotonic()
        finally:
            if watch is not None:
                watch.stop()
            _end(process)
    stood_still = max(watch.stood_still, _asleep() - asleep)
    if _suspended_by_slurm() != suspensions:
        stood_still = max(stood_still, _LATE_SECONDS)
    how = (watch.outcome, watch.reason) if watch.outcome else _judged(status, words[0])
    # MPICH's launcher hands standard input on. Where ranks have ended before it comes to that, as
    # short ones do on a busy machine, SIGPIPE kills it (seen with 5.0.2).
    failed = not watch.outcome and status == -signal.SIGPIPE
    told = watch.refused, tuple(watch.warnings)
    return Ended(*how, seconds, stood_still, *told, failed, over)


def _asleep() -> float:
    """Return for how long this machine has slept since it was started, as with its lid closed [s].

    Not more than the noise of two clocks is 0.
    """
    behind = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return round(behind, 1)


def _suspended_by_slurm() -> str:
    """Return when Slurm last suspended this job, and for how long it did; empty if unknown."""
    job = slurm.own_job()
    return " ".join(job.get(name, "") for name in ("SuspendTime", "SecsPreSuspend"))


def _judged(status: int, started: str) -> tuple[str, str]:
    # A launcher tells of a killed rank the way a shell does: 128 + signal.
    number = -status if status < 0 else status - 128
    if number > 0:
        with suppress(ValueError):
            who = f"{Path(started).name} was " if status < 0 else ""
            return KILLED, f"{who}killed by {signal.Signals(number).name}"
    return (FAILED, f"exit status {status}") if status else (OK, "")


class Watch(threading.Thread):
    """Ends a process that takes too long, prints too much or is not what it should be."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        log: IO[bytes],
        timeout: float,
        looks: Sequence[Look] = (),
    ) -> None:
        super().__init__(daemon=True)
        self.process, self.log, self.timeout, self.looks = process, log, timeout, [*looks]
        self.outcome, self.reason, self.refused = "", "", ""
        self.stood_still = 0.0
        self.warnings: list[str] = []
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        """Look twice a second, and more often at first: a program may be over soon."""
        start, wait = time.monotonic(), 0.05 if self.looks else _BEAT_SECONDS
        while not self._over_within(wait, start):
            wait = min(2 * wait, _BEAT_SECONDS)
            if self._left(start) <= 0:
                self.outcome, self.reason = TIMED_OUT, f"ended after {self.timeout:g} s"
            elif os.fstat(self.log.fileno()).st_size > _MOST_OUTPUT:
                self.outcome, self.reason = FAILED, f"it printed more than {_MOST_OUTPUT >> 20} MiB"
            elif refused := self._refusal():
                self.outcome, self.reason, self.refused = FAILED, refused, refused
            if self.outcome:
                _signal_and_wait(self.process)
                return

    def _over_within(self, seconds: float, start: float) -> bool:
        """Wait; what comes late stood still. What looks take is no sign of that."""
        before = time.monotonic()
        over = self._over.wait(max(0.0, min(seconds, self._left(start))))
        waited = time.monotonic() - before
        self.stood_still += waited if waited > _LATE_SECONDS else 0.0
        return over

    def _left(self, start: float) -> float:
        return start + self.timeout + self.stood_still - time.monotonic()

    def _refusal(self) -> str:
        """Return why a look ends the launch; empty if none does."""
        for look in [*self.looks]:
            try:
                if refused := look():
                    return refused
            # Whatever it is, the time limit is still to be kept.
            except Exception as error:
                self.looks.remove(look)
                self.warnings.append(
                    "A look at a running program failed, and was not repeated in that launch "
                    f"({type(error).__name__}: {error})"
                )
        return ""

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
