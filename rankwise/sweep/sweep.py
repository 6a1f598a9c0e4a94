"""Run a program at several rank counts, several times each, and note how every run went."""

import argparse
import fcntl
import glob
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rankwise.sweep import interrupts, launchers, plan
from rankwise.sweep.command import Command
from rankwise.sweep.folder import LIMIT, OK, PLAN, FolderError, Run, load, write_json
from rankwise.sweep.interrupts import Interrupted
from rankwise.sweep.launchers import UsageError
from rankwise.sweep.runner import Runner

DESCRIPTION = "Run a program at several rank counts and note how long it takes."
USAGE = "rankwise sweep [options] -- COMMAND ..."
EXAMPLES = """examples:
  rankwise sweep --ranks 1,2,4 --mode both -- jobs/sum_squares.py --n 2e7
  rankwise sweep --ranks 1..64 --launches 10 -- jobs/sum_squares.py --n 1e9 --repeats 5
  rankwise sweep --ranks 1,2 -- ./any_mpi_program --size 1000
  rankwise sweep --mode weak --weak 'n=1000*ranks**0.5' -- ./program --size {n}
  rankwise sweep --launcher 'mpiexec -n {ranks}' --cores 128 -- ./program

In the command {ranks}, {threads} and {output} are replaced by the rank count, the threads per rank
and a file for a record. Seconds are those of the record, else `seconds` of the last line of JSON
that the program prints, else those of the whole process. The same command goes on with a sweep that
was interrupted.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``rankwise sweep``, which stand before ``--``."""
    add = parser.add_argument
    meaning = "1,2,4; 1..64: powers of two; all: the full count alone (powers of two up to that)"
    add("--ranks", metavar="LIST", help=meaning)
    meaning = "the same work at every point, the same work per rank, or both"
    add("--mode", choices=("strong", "weak", "both"), help=f"{meaning} (what it can do)")
    meaning = "for programs whose work does not grow by itself: how {n} in the command does"
    add("--weak", metavar="N=FORMULA", help=f"{meaning}, for example 'n=1000*ranks**0.5'")
    meaning = "starts of the program at each point; 6 are needed for a 95 %% interval (6)"
    add("--launches", type=_positive, default=6, metavar="L", help=meaning)
    add("--threads", type=_positive, default=1, metavar="T", help="threads per rank (1)")
    add("--gpus-per-rank", type=_positive, default=0, metavar="G", help="GPUs per rank (none)")
    meaning = "end a run after so many seconds (600)"
    add("--timeout", type=_seconds, default=600.0, metavar="S", help=meaning)
    meaning = "what starts the ranks (srun inside a Slurm allocation, else mpirun)"
    add("--launcher", metavar="TEMPLATE", help=meaning)
    meaning = "cores of all nodes, for a launcher that reaches further than this machine"
    add("--cores", type=_positive, metavar="C", help=meaning)
    add("--seed", type=int, metavar="S", help="of the order of the runs (a random one)")
    meaning = "of this sweep (results/<program>-scaling-<UTC>)"
    add("--folder", type=Path, metavar="DIR", help=meaning)
    meaning = "repeat the runs that failed; they stay in the report"
    add("--retry-failed", action="store_true", help=meaning)
    add("--dry-run", action="store_true", help="print the commands and what they may cost")
    add("--report", action=argparse.BooleanOptionalAction, help="make the report at the end (no)")


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10**7:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    # A longer wait overflows in the system call.
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def main(args: argparse.Namespace, rest: list[str], report: Callable[[Path], int]) -> int:
    """Run a sweep and return the exit status.

    0; 1 if a run failed; 2 for a mistake of the user.

    Parameters
    ----------
    args : argparse.Namespace
        The options.
    rest : list of str
        What is no option: ``--`` and the command of the program.
    report : callable
        ``report(folder)`` makes the report, for ``--report``, and returns its exit status.

    Raises
    ------
    Interrupted
        A signal ended the sweep; the same command goes on with it.
    """
    finished: list[Run] = []
    try:
        if rest[:1] not in ([], ["--"]):
            raise UsageError(f"{rest[0]} is no option of a sweep; the program goes after --")
        return _prepare_and_run(args, rest[1:], finished, report)
    except Interrupted:
        # Out of time again, with nothing to show for it: not to be put back for ever.
        if finished or not _restarted() or interrupts.status() != os.EX_TEMPFAIL:
            raise
        print(_NO_PROGRESS, file=sys.stderr)
        return 1
    except (UsageError, FolderError) as error:
        print(f"rankwise sweep: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"rankwise sweep: error: {error}", file=sys.stderr)
        return 1


def _prepare_and_run(
    args: argparse.Namespace,
    words: list[str],
    finished: list[Run],
    report: Callable[[Path], int],
) -> int:
    command = Command.parse(words, args.mode, args.weak)
    found = launchers.resources(args.cores)
    ranks = plan.rank_counts(args, found)
    launcher = launchers.choose(args.launcher, found, command.python)
    made = plan.make(args, command, ranks, found, launcher)
    if args.dry_run:
        _show_dry_run(Runner(Path(), made, command, found, launcher))
        return 0
    absent = command.program is None and not command.python
    if absent and args.launcher is None and not found.slurm:
        raise UsageError(f"there is no program {words[0]}")
    folder = _choose_folder(args, made)
    with _locked(folder) as lock:
        made = _write_plan(folder, args, made)
        _remark(command)
        runner = Runner(folder, made, command, found, launcher, lock, finished)
        status = runner.run(args.retry_failed)
    # What is left takes seconds.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if args.report:
        status = max(status, report(folder))
    print(f"sweep: {folder}")
    return status


def _write_plan(folder: Path, args: argparse.Namespace, wanted: dict[str, Any]) -> dict[str, Any]:
    """Write ``sweep.json`` and return it: the earlier one, if a sweep is to go on."""
    goes_on = (folder / PLAN).exists()
    if goes_on:
        wanted = {**_same_plan(folder, args, wanted), "timeout": args.timeout}
    write_json(folder / PLAN, wanted)
    if goes_on:
        print(f"going on with {folder}", flush=True)
    return wanted


def _restarted() -> bool:
    """Tell whether Slurm has put this job back into the queue before."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def _remark(command: Command) -> None:
    """Say what a user may have meant otherwise."""
    if not command.job:
        print("not a rankwise job: timed by a record at {output}, JSON seconds, or as a whole")
    for name in re.findall(r"(?:^| |=)\{([a-z]\w*)\}(?= |$)", " ".join(command.words)):
        if name not in ("ranks", "threads", "output") and command.growth is None:
            print(f"{{{name}}} stays as it is: --weak '{name}=...' gives it a value")


def _show_dry_run(runner: Runner) -> None:
    todo, cores = runner.plan, sum(runner.found.cores)
    for mode in todo["modes"]:
        for ranks in todo["ranks"]:
            words = runner.words(mode, ranks, Path("record.h5"))
            print(f"{todo['launches']} x  {shlex.join(words)}")
    runs, hours = len(todo["order"]), todo["timeout"] / 3600
    each, unit = todo["gpus_per_rank"] or todo["threads"], "core-hours"
    if todo["gpus_per_rank"]:
        unit = "GPU-hours"
    used = sum(ranks for _, ranks, _ in todo["order"]) * each * hours
    print(
        f"{runs} runs, each ended after {todo['timeout']:g} s at the latest: at most {used:.3g} "
        f"{unit} of the ranks, and {cores * runs * hours:.3g} core-hours of the {cores} cores that "
        "are held meanwhile"
    )


_NO_PROGRESS = (
    "rankwise sweep: error: no run was finished since the restart, so the next would not "
    "get further: ask for more time (sbatch --time)"
)

# What makes two sweeps one: all of the plan that the user or the machine decides.
_IDENTITY = ("command", "program", "cwd", "modes", "weak", "ranks", "launches", "threads",
             "gpus_per_rank", "cores", "launcher")  # fmt: skip


def _choose_folder(args: argparse.Namespace, wanted: dict[str, Any]) -> Path:
    """Return the folder of the same sweep, if it was interrupted, or a new one."""
    folder = args.folder
    if folder is None:
        pattern = f"{glob.escape(wanted['job'])}-scaling-*"
        for candidate in sorted(Path("results").glob(pattern), reverse=True):
            with suppress(FolderError):
                if _unfinished(candidate, args, wanted):
                    return candidate
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        folder = Path("results") / f"{wanted['job']}-scaling-{stamp}Z"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = {path.name for path in folder.iterdir()} - {".lock", LIMIT}
        if not (folder / PLAN).exists() and foreign:
            raise UsageError(f"{folder} holds something else: name a new folder, or an empty one")
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from None
    return folder


def _unfinished(folder: Path, args: argparse.Namespace, wanted: dict[str, Any]) -> bool:
    """Tell whether a folder is of the same sweep, has something to go and nobody is at it."""
    sweep = load(folder)
    failed = any(run.outcome != OK for run in sweep.runs)
    # A job that is put back while it writes its report has nothing to measure again.
    unwritten = _restarted() and args.report and not (folder / "report.html").exists()
    if _differences(sweep.plan, args, wanted) or not (
        sweep.missing or (args.retry_failed and failed) or unwritten
    ):
        return False
    try:
        with _locked(folder) as lock:
            if lock is None:
                print(f"no file locks here: to go on with {folder}, name it with --folder")
            return lock is not None
    except FolderError as error:
        print(f"{error}: this one gets a folder of its own")
        return False


def _same_plan(folder: Path, args: argparse.Namespace, wanted: dict[str, Any]) -> dict[str, Any]:
    earlier = load(folder).plan
    if names := _differences(earlier, args, wanted):
        raise UsageError(f"{folder} holds another sweep: it differs in {', '.join(names)}")
    return earlier


def _differences(
    earlier: dict[str, Any], args: argparse.Namespace, wanted: dict[str, Any]
) -> list[str]:
    names = (*_IDENTITY, *(() if args.seed is None else ("seed",)))
    return [name for name in names if wanted[name] != earlier.get(name)]


@contextmanager
def _locked(folder: Path) -> Iterator[int | None]:
    """Keep other sweeps out of a folder; yield the lock, or None where files have no locks."""
    try:
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise FolderError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        lock: int | None = handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderError(
                f"another sweep, or a process that one has left, is running in {folder}"
            ) from None
        except OSError:
            lock = None
        yield lock
    finally:
        os.close(handle)
