"""Run a program at several rank counts, several times each, and note how every run went."""

import argparse
import fcntl
import glob
import os
import re
import shlex
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankwise.node import slurm
from rankwise.ranks.words import short
from rankwise.sweep import allocation, billing, interrupts, launchers, mpi, plan
from rankwise.sweep.case import Case
from rankwise.sweep.command import PLACES, Command
from rankwise.sweep.folder import (
    OK,
    PLAN,
    FolderError,
    Run,
    load,
    make,
    read_plan,
    remove_empty,
    stamped,
    write_json,
)
from rankwise.sweep.inputs import Inputs, differences
from rankwise.sweep.interrupts import Interrupted
from rankwise.sweep.launchers import Launcher, Resources, UsageError
from rankwise.sweep.measure import Measure
from rankwise.sweep.mpi import Linked
from rankwise.sweep.options import whole_number
from rankwise.sweep.runner import Runner

DESCRIPTION = "Run a program at several rank counts and note how long it takes."
USAGE = "rankwise sweep [options] -- COMMAND ..."
EXAMPLES = """examples:
  rankwise sweep --ranks 1,2,4 --mode both -- jobs/sum_squares.py --n 2e7
  rankwise sweep --ranks 1..64 --launches 10 -- jobs/sum_squares.py --n 1e9 --repeats 5
  rankwise sweep --ranks 1,2 -- ./any_mpi_program --size 1000
  rankwise sweep --mode weak --weak 'n=1000*ranks**0.5' -- ./program --size {n}
  rankwise sweep --launcher 'mpiexec -n {ranks}' --cores 128 -- ./program
  rankwise sweep --seconds 'Loop time of (\\S+)' --case lj --report -- lmp -in in.lj

In the command {ranks}, {threads}, {output} and {folder} are replaced by the rank count, the threads
per rank, a file for a record and the folder of the launch. PATTERN is a regular expression with one
group, whose last match in the output counts, or json:KEY. The same command goes on with a sweep
that was interrupted. docs/your-own-program.md leads from a program to the page.
"""


def add_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of ``rankwise sweep``, and return the group for those of a report."""
    add = parser.add_argument
    meaning = "1,2,4; 1..64: powers of two; all: the full count alone (powers of two up to that)"
    add("--ranks", metavar="LIST", help=meaning)
    meaning = "the same work at every point, the same work per rank, or both"
    add("--mode", choices=("strong", "weak", "both"), help=f"{meaning} (what it can do)")
    meaning = "for programs whose work does not grow by itself: how {n} in the command does"
    add("--weak", metavar="N=FORMULA", help=f"{meaning}, for example 'n=1000*ranks**0.5'")
    meaning = "starts of the program at each point; 6 are needed for a 95 %% interval (6)"
    add("--launches", type=whole_number, default=6, metavar="L", help=meaning)
    add("--threads", type=whole_number, default=1, metavar="T", help="threads per rank (1)")
    add("--gpus-per-rank", type=whole_number, default=0, metavar="G", help="GPUs per rank (none)")
    meaning = "end a launch after so many seconds (600)"
    add("--timeout", type=_seconds, default=600.0, metavar="S", help=meaning)
    meaning = "what starts the ranks (srun inside a Slurm allocation, else mpirun)"
    add("--launcher", metavar="TEMPLATE", help=meaning)
    meaning = "cores of all nodes, for a launcher that reaches further than this machine"
    add("--cores", type=whole_number, metavar="C", help=meaning)
    meaning = "cores of a node, for --cores over several nodes, and for what is billed by the node"
    add("--cores-per-node", type=whole_number, metavar="N", help=meaning)
    add("--seed", type=int, metavar="S", help="of the order of the launches (a random one)")
    meaning = "of this sweep (results/<program>-scaling-<UTC>)"
    add("--folder", type=Path, metavar="DIR", help=meaning)
    meaning = "repeat the launches that failed; they stay in the report"
    add("--retry-failed", action="store_true", help=meaning)
    meaning = (
        "what a reader must know: problem, compiler, build, version; may be given several times"
    )
    add("--note", metavar="KEY=VALUE", action="append", default=[], help=meaning)
    add("--dry-run", action="store_true", help="print the commands and what they may cost")
    _add_measure(parser.add_argument_group("what is measured"))
    _add_place(parser.add_argument_group("where a launch works"))
    billing.add_options(parser.add_argument_group("what it costs"))
    meaning = "make it when the sweep is over (no)"
    report = parser.add_argument_group("the report")
    report.add_argument("--report", action=argparse.BooleanOptionalAction, help=meaning)
    return report


def _add_measure(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    many: dict[str, Any] = {"action": "append", "default": []}
    meaning = "the time that counts, in seconds or as 01:02:03, 1h23m (of its record or JSON line, "
    meaning += "else of the whole process)"
    add("--seconds", metavar="PATTERN", help=meaning)
    meaning = "a speed that the program tells, in a unit of its own, shown beside the seconds"
    add("--rate", metavar="PATTERN", help=meaning)
    add("--work", metavar="PATTERN", help="the size of the problem that it tells")
    meaning = "seconds of a part of it; may be given several times"
    add("--phase", metavar="NAME=PATTERN", help=meaning, **many)
    meaning = "look there and not in the output; in its copy of the case, else in {folder}"
    add("--time-file", metavar="FILE", help=meaning)
    again = "may be given several times"
    meaning = f"without it in the output, or in the time file, a launch has failed; {again}"
    add("--require", metavar="REGEX", help=meaning, **many)
    meaning = f"with it a launch has failed, such as 'Error in routine'; {again}"
    add("--refuse", metavar="REGEX", help=meaning, **many)


def _add_place(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    meaning = "give each launch a copy of this folder to work in (all work in the present one)"
    add("--case", type=Path, metavar="FOLDER", help=meaning)
    meaning = "files of the case that launches get links to, not copies; may be given several times"
    add("--link", metavar="GLOB", help=meaning, action="append", default=[])
    add("--keep", action="store_true", help="keep the copies of launches that succeeded")
    meaning = "every rank is meant to run the program by itself: do not ask which MPI it has"
    add("--copies", action="store_true", help=meaning)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    # A longer wait overflows in the system call.
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def main(
    args: argparse.Namespace, rest: list[str], report: Callable[[argparse.Namespace, Path], int]
) -> int:
    """Run a sweep and return the exit status.

    0; 1 if a run failed; 2 for a mistake of the user.

    Parameters
    ----------
    args : argparse.Namespace
        The options.
    rest : list of str
        What is no option: ``--`` and the command of the program.
    report : callable
        ``report(args, folder)`` makes the report, for ``--report``, and returns its exit status.

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
    report: Callable[[argparse.Namespace, Path], int],
) -> int:
    measure = Measure.parse(args)
    case = _case(args)
    command = Command.parse(words, args.mode, args.weak, case)
    linked = mpi.linked(command.words, command.program, command.script)
    found, launcher = _means(args, linked)
    ranks = plan.rank_counts(args, found)
    made = plan.make(args, command, ranks, found, launcher, linked, measure)
    each = args.cores_per_node or _kept(args.folder).get("cores_per_node")
    billing.refuse_unknown(args.charge, made["billing"], each, args.gpus_per_rank)
    absent = command.program is None and not command.python
    if absent and args.launcher is None and not found.slurm and not args.dry_run:
        raise UsageError(_no_program(words[0]))
    inputs = Inputs.of(command, ranks, args.threads, case, linked.libraries)
    made["files"] = inputs.known
    runner = Runner(
        Path(), made, command, found, launcher, linked, measure, case, inputs, finished=finished
    )
    if args.dry_run:
        _show_dry_run(runner)
        return 0
    folder, new = _choose_folder(args, made)
    with _locked(folder) as lock:
        made = _write_plan(folder, args, made)
        runner = replace(
            runner, folder=folder, plan=made, lock=lock, inputs=inputs.only(made["files"])
        )
        status = _run(runner, args, new)
    # What is left takes seconds.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if args.report:
        status = max(status, report(args, folder))
    print(f"sweep: {folder}")
    return status


def _means(args: argparse.Namespace, linked: Linked) -> tuple[Resources, Launcher]:
    """Return what the ranks may use, and what starts them there."""
    found = launchers.resources(args.cores, args.cores_per_node)
    template = args.launcher or ""
    if not template and not slurm.inside():
        allocation.refuse_other_nodes(args, linked)
    if "{nodes}" in template and args.cores and not args.cores_per_node:
        raise UsageError("--cores alone does not tell {nodes} of --launcher: say --cores-per-node")
    launcher = launchers.choose(args.launcher, found, linked)
    if not args.copies and (wrong := mpi.mismatch(linked, launcher.path, launcher.family)):
        raise UsageError(wrong)
    return found, launcher


def _kept(folder: Path | None) -> dict[str, Any]:
    """Return the plan with which a sweep goes on in the folder that the user names, if one does."""
    earlier = read_plan(folder) if folder and (folder / PLAN).is_file() else {}
    return {} if earlier.get("refused") else earlier


def _no_program(word: str) -> str:
    if Path(word).is_file():
        return f"{word} cannot be executed: chmod +x {word}, or name what runs it"
    hint = ": leave out the quotes around the command" if " " in word else ""
    return f"there is no program {word}{hint}"


def _run(runner: Runner, args: argparse.Namespace, new: list[Path] | None) -> int:
    """Look at what is to be run and started, then run it; return the exit status."""
    try:
        if runner.case is not None:
            copies = len(runner.rest(args.retry_failed)) if runner.case.keep else 1
            runner.case.refuse_no_room(runner.folder, copies)
        runner.look_at_quota()
        if runner.launcher.starts_ranks:
            runner.probe()
    except UsageError:
        # Nothing was measured: what was made for it would be in the way.
        if new is not None:
            plan_and_lock = (runner.folder / name for name in (PLAN, ".lock"))
            with suppress(OSError):
                for path in (*runner.folder.glob("probe*"), *plan_and_lock):
                    path.unlink(missing_ok=True)
            remove_empty(new)
        raise
    _remark(runner)
    try:
        return runner.run(args.retry_failed)
    except UsageError:
        if not any(runner.folder.glob("runs/*/run.json")):
            write_json(runner.folder / PLAN, {**runner.plan, "refused": True})
        raise


def _case(args: argparse.Namespace) -> Case | None:
    if args.case is None:
        if args.link or args.keep:
            raise UsageError("--link and --keep are about the copies of a --case")
        return None
    return Case.parse(args.case, args.link, args.keep, args.folder)


def _write_plan(folder: Path, args: argparse.Namespace, wanted: dict[str, Any]) -> dict[str, Any]:
    """Write ``sweep.json`` and return it: the earlier one, if a sweep is to go on."""
    # With what cures it, a sweep that was refused in its first run is another one.
    goes_on = (folder / PLAN).exists() and not read_plan(folder).get("refused")
    if goes_on:
        earlier = _same_plan(folder, args, wanted)
        now = {name: wanted[name] for name in ("keep", "libraries", "timeout")}
        # What is not said again, or is not seen again, stays as it was.
        said = {name: wanted[name] for name in _MAY_CHANGE if wanted[name]}
        for name in ("mpi", "notes"):
            more = {key: value for key, value in wanted[name].items() if value}
            said[name] = (earlier.get(name) or {}) | more
        wanted = {**earlier, **now, **said}
    write_json(folder / PLAN, wanted)
    if goes_on:
        print(f"going on with {folder}", flush=True)
    return wanted


def _restarted() -> bool:
    """Tell whether Slurm has put this job back into the queue before."""
    return os.environ.get("SLURM_RESTART_COUNT", "") not in ("", "0")


def _remark(runner: Runner) -> None:
    """Say what is measured and started, and what a user may have meant otherwise."""
    command, launcher, linked = runner.command, runner.launcher, runner.linked
    print(runner.measure.told(command.job))
    if not launcher.starts_ranks:
        print(f"launcher: {launcher.path}, so the program starts its ranks itself")
    elif not runner.found.slurm or launcher.own:
        which = f"launcher: {launcher.path}" + (f" ({launcher.family})" if launcher.family else "")
        print(which + (f", as {linked.program} is linked to it" if linked.family else ""))
    if _input_is_a_file():
        print(
            "warning: standard input is a file, and the program does not get it: name the file in "
            "the command, as in sh -c 'program < FILE'"
        )
    for name in re.findall(r"(?:^| |=)\{([a-z]\w*)\}(?= |$)", " ".join(command.words)):
        if name not in PLACES and command.growth is None:
            print(f"warning: {{{name}}} stays as it is: --weak '{name}=...' gives it a value")
    for word in command.words[1:] if runner.case else ():
        if _only_here(word, runner.case, command):
            print(
                f"warning: {word} is a file here, and not one of the case, in whose copies the "
                "launches work: name it as it is called there, or with its whole path"
            )
    sys.stdout.flush()


def _input_is_a_file() -> bool:
    try:
        return stat.S_ISREG(os.fstat(0).st_mode)
    except OSError:
        return False


def _only_here(word: str, case: Case | None, command: Command) -> bool:
    """Whether a word means a file that a run in a copy of the case does not find."""
    path = Path(word)
    known = path.is_absolute() or path == command.script or (case is not None and case.has(word))
    return not known and path.is_file()


def _show_dry_run(runner: Runner) -> None:
    todo, cores = runner.plan, sum(runner.found.cores)
    for mode in todo["modes"]:
        for ranks in todo["ranks"]:
            words = runner.words(mode, ranks, Path())
            print(f"{todo['launches']} x  {shlex.join(words)}")
    launches, hours = len(todo["order"]), todo["timeout"] / 3600
    each, unit = todo["gpus_per_rank"] or todo["threads"], "core-hours"
    if todo["gpus_per_rank"]:
        unit = "GPU-hours"
    used = sum(ranks for _, ranks, _ in todo["order"]) * each * hours
    held = cores * launches * hours
    print(
        f"{launches} launches, each ended after {todo['timeout']:g} s at the latest: at most "
        f"{short(used)} {unit} of the ranks, and {short(held)} core-hours of the {cores} cores "
        f"that are held meanwhile{_most_charged(runner, launches * hours)}"
    )


def _most_charged(runner: Runner, hours: float) -> str:
    """Say what all nodes, cores and GPUs that are held for so long cost at most."""
    if not runner.plan["charge"]:
        return ""
    charge, nodes = billing.Charge.parse(runner.plan["charge"]), len(runner.found.cores)
    # Of nodes that are billed as a whole, Slurm may have given the job a part.
    whole = runner.plan["billing"] if runner.plan["billing"].get("whole_nodes") else {}
    each = runner.plan["cores_per_node"] or whole.get("cores_per_node", 0)
    cores = max(sum(runner.found.cores), nodes * each)
    gpus = nodes * max(runner.found.gpus, whole.get("gpus_per_node", 0))
    return f", charged as at most {short(charge.of(nodes, cores, gpus) * hours)} {charge.unit}"


_NO_PROGRESS = (
    "rankwise sweep: error: no launch was finished since the restart, so the next would not "
    "get further: ask for more time (sbatch --time)"
)

_NO_LOCK = (
    "{} is a link, or no file, and a sweep did not make it: remove it, or name another folder"
)

# What makes two sweeps one: what decides which launches there are, and what they measure.
_IDENTITY = ("command", "cwd", "modes", "weak", "ranks", "launches", "threads", "gpus_per_rank",
             "cores", "launcher", "measure", "case", "link", "copies")  # fmt: skip
# What is only about the bill.
_MAY_CHANGE = ("billing", "charge", "cores_per_node", "runs")


def _choose_folder(
    args: argparse.Namespace, wanted: dict[str, Any]
) -> tuple[Path, list[Path] | None]:
    """Return the folder of the same sweep, if it was interrupted, or a new one.

    And the folders that were made for a new one, the innermost first.
    """
    folder = args.folder
    if folder is None:
        pattern = f"{glob.escape(wanted['job'])}-scaling-*"
        for candidate in sorted(Path("results").glob(pattern), reverse=True):
            with suppress(FolderError):
                if _unfinished(candidate, args, wanted):
                    return candidate, None
        folder = stamped(f"{wanted['job']}-scaling")
    new = make(folder)
    return folder, None if (folder / PLAN).exists() else new


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
        raise UsageError(
            f"{folder} holds another sweep: it differs in {', '.join(names)}; name another folder"
        )
    return earlier


def _differences(
    earlier: dict[str, Any], args: argparse.Namespace, wanted: dict[str, Any]
) -> list[str]:
    names = (*_IDENTITY, *(() if args.seed is None else ("seed",)))
    found = [name for name in names if wanted[name] != earlier.get(name)]
    if "files" not in earlier:
        return [*found, "its files, of which an earlier version noted nothing"]
    return found + differences(earlier["files"], wanted["files"])


@contextmanager
def _locked(folder: Path) -> Iterator[int | None]:
    """Keep other sweeps out of a folder; yield the lock, or None where files have no locks."""
    handle = _lock_file(folder / ".lock")
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


def _lock_file(path: Path) -> int:
    """Open the file that is locked, an empty one; make it if it is not there."""
    # Where others can write, a link may lead to a file of their choice; a named pipe blocks.
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if path.is_symlink() or path.is_dir():
            raise FolderError(_NO_LOCK.format(path)) from None
        raise FolderError(f"cannot write to {path.parent}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FolderError(_NO_LOCK.format(path))
    return handle
