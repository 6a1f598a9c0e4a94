"""All that this project claims of its speed, beside what others deliver, in one run.

    make bench                                        # all of it, 25 minutes
    python benchmarks/bench.py --only kernel,start
    python benchmarks/bench.py --n 1e6 --rounds 2 --output /tmp/bench.json

Each line of the table sets a way of this project beside another one. Both are measured in turn, one
sample a round; a sample of several processes is the median of three repeats within a launch.
Figures are medians, with the least and the largest in parentheses. The ratio is ours over the
other's, of times that are to be shorter ("asked >=") the other way round. Where other programs
disturb the machine there is no verdict.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from comparison import CORES, Comparison, disturbances, machine, note, table

from rankwise.data.schedules import DYNAMIC, GUIDED, SCHEDULES
from rankwise.node import device
from rankwise.ranks import streams
from rankwise.run import options

FOLDER = Path(__file__).parent
JOBS, ENGINES = FOLDER.parent / "jobs", FOLDER.parent / "engines"
REPEATS = 3


def kernel(bench):
    _, line = bench.python(
        FOLDER / "one_process.py",
        bench.n,
        bench.rounds,
        variables=dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(CORES)),
    )
    rates = {name: np.array(samples) / 1e9 for name, samples in json.loads(line).items()}
    for what, ways in {
        "sum_squares": (("dot", "np.dot", ">= 0.97"), ("read", "limit: plain read", ">= 0.9")),
        "heat": (("copy loop", "limit: copy loop", ">= 0.85"), ("copyto", "np.copyto", "")),
    }.items():
        for way, other, asked in ways:
            text = f"{what} kernel, {CORES} threads"
            bench.add(text, rates[what], "GB/s", other, rates[way], asked)


def ranks(bench):
    memory = {}

    def way(name, n=bench.n):
        def sample():
            _, line = bench.python(FOLDER / "ranks.py", name, n, REPEATS, ranks=bench.ranks)
            found = json.loads(line)
            bench.mpi = found["mpi"]
            memory.setdefault((name, n), []).append(found["memory"] / 1e6)
            return np.median(found["seconds"])

        return sample

    def engine(script):
        def sample():
            options = ("--work", "sum", "--data", "sent", "--n", bench.n, "--workers", bench.ranks)
            _, line = bench.python(ENGINES / script, *options, "--repeats", REPEATS, "--json")
            return np.median(json.loads(line)["seconds"])

        return sample

    names = ("shared", "kernel", "private", "local", "scatterv", "scatterv drawn", "pickle")
    ways = {name: way(name) for name in names}
    ways |= {f"{name} idle": way(name, 1000) for name in ("shared", "scatterv")}
    ways |= {"pool": engine("multiprocessing_.py"), "dask": engine("dask_.py")}
    seconds = bench.in_turn(ways)
    plain = "Scatterv, np.dot, reduce"
    shared = "scatter avoided: memory shared"
    rows = (
        (shared, "shared", "limit: kernel alone", "kernel", "<= 1.25"),
        (shared, "shared", plain, "scatterv", ">= 5"),
        ("scatter of rank 0's array", "private", plain, "scatterv", ">= 2"),
        ("drawn, --distribute local", "local", f"drawn, {plain}", "scatterv drawn", ">= 2"),
        (shared, "shared", "pickle scatter, gather", "pickle", ">= 30"),
        (shared, "shared", "multiprocessing.Pool", "pool", ">= 30"),
        (shared, "shared", "Dask distributed", "dask", ">= 30"),
        ("scatter of rank 0's array", "private", "pickle scatter, gather", "pickle", ""),
        ("scatter of rank 0's array", "private", "multiprocessing.Pool", "pool", ""),
        ("scatter of rank 0's array", "private", "Dask distributed", "dask", ""),
    )
    for what, ours, other, others, asked in rows:
        inverse = not asked.startswith("<=")
        bench.add(what, seconds[ours], "s", other, seconds[others], asked, inverse)
    data = [8e-6 * bench.n] * bench.rounds
    for name, text, asked in (
        ("shared", "memory of all ranks", "<= 1.1"),
        ("scatterv", "the same, of Scatterv", ""),
    ):
        used = np.array(memory[name, bench.n]) - memory[name, 1000]
        bench.add(text, used, "MB", "limit: the data", data, asked)


def start(bench):
    def ours(variant):
        def sample():
            record = Path(folder, f"{variant}-{time.time_ns()}.h5")
            options = ("--n", 1000, "--variant", variant, "--output", record)
            return bench.python(JOBS / "sum_squares.py", *options, ranks=4)[0]

        return sample

    def plain(variant):
        script, path = FOLDER / "start_plain.py", Path(folder, "plain.h5")
        return lambda: bench.python(script, variant, path, ranks=4, variables=cache)[0]

    def cold(ranks):
        def sample():
            with tempfile.TemporaryDirectory() as empty:
                record = Path(folder, f"cold-{time.time_ns()}.h5")
                options = ("--n", 1000, "--variant", "numba", "--json", "--output", record)
                variables = {"NUMBA_CACHE_DIR": empty}
                script = JOBS / "sum_squares.py"
                _, line = bench.python(script, *options, ranks=ranks, variables=variables)
            return json.loads(line)["phases"]["compile"]["max"]

        return sample

    with tempfile.TemporaryDirectory() as folder:
        cache = {"NUMBA_CACHE_DIR": folder}
        ways = {f"ours {v}": ours(v) for v in ("numba", "numpy")}
        ways |= {f"plain {v}": plain(v) for v in ("numba", "numpy")}
        for sample in ways.values():
            sample()  # fills the caches
        ways |= {"cold 4": cold(4), "cold 1": cold(1)}
        seconds = bench.in_turn(ways)
    for variant in ("numba", "numpy"):
        what, samples = f"start, 4 ranks, {variant}", seconds[f"ours {variant}"]
        other = "the same libraries alone"
        bench.add(what, samples, "s", other, seconds[f"plain {variant}"], "<= 1.15")
    what = "compile, 4 ranks, no cache"
    bench.add(what, seconds["cold 4"], "s", "1 rank, no cache", seconds["cold 1"], "<= 1.5")


def free_shared_memory():
    try:
        shared = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return shared.f_bavail * shared.f_frsize


def growth(bench):
    most = min(10 * bench.n, free_shared_memory() // 8)
    sizes = [n for n in (10**6, 10**7, 10**8, 10**9) if n <= most]

    def way(n):
        def sample():
            _, line = bench.python(FOLDER / "ranks.py", "shared", n, REPEATS, ranks=bench.ranks)
            return np.median(json.loads(line)["seconds"]) / n * 1e9

        return sample

    nanoseconds = bench.in_turn({n: way(n) for n in sizes})
    for n in sizes:
        asked = "<= 1.15" if n > 10**7 else ""
        base = min(10**7, sizes[-1])
        what = f"{n:.0e} elements, scatter avoided"
        bench.add(what, nanoseconds[n], "ns each", f"{base:.0e}", nanoseconds[base], asked)


def heat(bench):
    side = 4096 if bench.n >= 10**8 else 256

    def job(ranks):
        def sample():
            with tempfile.TemporaryDirectory() as folder:
                options = ("--n", side, "--steps", 40, "--repeats", REPEATS, "--variant", "numba")
                options += ("--threads", 1, "--json", "--output", f"{folder}/r.h5")
                _, line = bench.python(JOBS / "heat.py", *options, ranks=ranks)
            phases = json.loads(line)["phases"]
            return (phases["kernel"]["max"] + phases["halo"]["max"]) / 40

        return sample

    def copies(ranks):
        def sample():
            _, line = bench.python(FOLDER / "copy_processes.py", side, REPEATS, ranks=ranks)
            return np.median(json.loads(line)["seconds"])

        return sample

    ways = {
        f"{what} {ranks}": way(ranks)
        for what, way in (("heat", job), ("copy", copies))
        for ranks in (1, 2)
    }
    seconds = bench.in_turn(ways)
    ours, others = (
        np.array(seconds[f"{what} 1"]) / seconds[f"{what} 2"] for what in ("heat", "copy")
    )
    bench.add("heat, speedup of 2 ranks", ours, "", "limit: copies", others, ">= 0.95")


def inside(bench):
    steps = 2000 if bench.n >= 10**8 else 20

    def job(*options):
        def sample():
            with tempfile.TemporaryDirectory() as folder:
                fixed = ("--n", 512, "--steps", steps, "--threads", 1, "--variant", "numba")
                fixed += ("--repeats", REPEATS, "--json", "--output", f"{folder}/r.h5")
                more = (str(option).format(folder) for option in options)
                _, line = bench.python(JOBS / "heat.py", *fixed, *more, ranks=bench.ranks)
            return 1e6 * json.loads(line)["seconds"] / steps

        return sample

    ways = {
        "plain": (),
        "--stall-seconds 1": ("--stall-seconds", 1),
        "--log": ("--log", "{}"),
        "--profile": ("--profile", "{}"),
    }
    microseconds = bench.in_turn({name: job(*options) for name, options in ways.items()})
    plain = microseconds.pop("plain")
    for name, samples in microseconds.items():
        asked = "<= 1.02" if "stall" in name else ""
        bench.add(f"heat, a step, {name}", samples, "us", "without it", plain, asked)


def queue(bench):
    side, tasks = (2048, 4096) if bench.n >= 10**8 else (64, 100)

    def mandelbrot(ranks, schedule, **variables):
        def sample():
            with tempfile.TemporaryDirectory() as folder:
                options = ("--n", side, "--schedule", schedule, "--threads", 1)
                options += ("--variant", "numba", "--json", "--output", f"{folder}/r.h5")
                script = JOBS / "mandelbrot.py"
                _, line = bench.python(script, *options, ranks=ranks, variables=variables)
            return json.loads(line)

        return sample

    def empty(way):
        def sample():
            _, line = bench.python(FOLDER / "empty_tasks.py", way, tasks, REPEATS, ranks=2)
            return 1e6 * np.median(json.loads(line)["seconds"]) / tasks

        return sample

    far = {"MPIR_CVAR_NOLOCAL": "1"}
    ways = {f"2 {schedule}": mandelbrot(2, schedule) for schedule in SCHEDULES}
    ways |= {"2 dynamic far": mandelbrot(2, "dynamic", **far)}
    ways |= {f"4 {schedule}": mandelbrot(4, schedule) for schedule in ("block", "guided")}
    ways |= {f"{way} tasks": empty(way) for way in ("guided", "dynamic", "futures")}
    found = bench.in_turn(ways)
    seconds = {
        name: [one["seconds"] for one in found[name]] for name in ways if "tasks" not in name
    }
    shared = {name: [one["queue"] for one in found[name]] for name in seconds}
    for schedule in SCHEDULES:
        each, what = shared[f"2 {schedule}"], f"Mandelbrot, 2 ranks, {schedule}"
        limits = [np.mean(one["busy"]) + one["longest"] for one in each]
        other = "limit: mean busy + longest chunk"
        # Of the other two no rank takes what another one has no time for.
        asked = "<= 1.05" if schedule in (GUIDED, DYNAMIC) else ""
        bench.add(what, seconds[f"2 {schedule}"], "s", other, limits, asked)
    near, what = seconds["2 dynamic"], "dynamic, as between nodes"
    bench.add(what, seconds["2 dynamic far"], "s", "in one node", near)
    guided, block = ([max(one["busy"]) for one in shared[f"4 {s}"]] for s in ("guided", "block"))
    bench.add("busiest of 4 ranks, guided", guided, "s", "block", block, ">= 1.7", True)
    futures = "mpi4py.futures, chunksize 1"
    for way, asked in (("guided", ">= 20"), ("dynamic", "")):
        what, ours = f"an empty task, {way}", found[f"{way} tasks"]
        bench.add(what, ours, "us", futures, found["futures tasks"], asked, True)


def gpu(bench):
    if not device.visible_gpus():
        note("no GPU")
        return
    _, line = bench.python(FOLDER / "gpu.py", bench.n, bench.rounds)
    rates = {name: np.array(samples) / 1e9 for name, samples in json.loads(line).items()}
    rows = (
        ("sum_squares kernel, GPU", "sum_squares", "cupy.dot", "dot"),
        ("sum_squares kernel, GPU", "sum_squares", "limit: device copy", "device copy"),
        ("heat kernel, GPU", "heat", "limit: device copy", "device copy"),
        ("sum_squares from the host, GPU", "staged", "copied first", "copied first"),
        ("sum_squares from the host, GPU", "staged", "limit: page-locked copy", "page-locked copy"),
    )
    for what, ours, other, others in rows:
        bench.add(what, rates[ours], "GB/s", other, rates[others])


GROUPS = {
    "kernel": kernel,
    "ranks": ranks,
    "start": start,
    "growth": growth,
    "heat": heat,
    "inside": inside,
    "queue": queue,
    "gpu": gpu,
}


def main():
    streams.open_closed()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    count = {"type": lambda text: options.count(text, 1), "metavar": "N"}
    parser.add_argument("--n", default=10**8, help="float64 elements (default: 1e8)", **count)
    parser.add_argument("--rounds", default=9, help="samples of each (default: 9)", **count)
    parser.add_argument("--ranks", default=2, help="MPI ranks (default: 2)", **count)
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="all samples, as JSON")
    args = parser.parse_args()
    chosen = args.only.split(",") if args.only else list(GROUPS)
    if unknown := set(chosen) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}: choose from {', '.join(GROUPS)}")

    if args.output:
        # Now, and not when all is measured.
        try:
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.touch()
        except OSError as error:
            parser.error(f"cannot write {args.output}: {error.strerror}")
    noise = disturbances()
    if noise:
        print(f"warning: {'; '.join(noise)}", file=sys.stderr)
    bench = Comparison(args)
    for name in chosen:
        GROUPS[name](bench)
        noise += disturbances()
    facts = machine(bench)
    # Before it is printed: that may fail, and the samples took long.
    if args.output:
        content = {"machine": facts, "noise": noise, "arguments": vars(args) | {"output": None}}
        args.output.write_text(json.dumps({**content, "lines": bench.lines}, indent=1) + "\n")
    print(", ".join(f"{name} {value}" for name, value in facts.items() if value))
    print(
        f"{args.n:.3g} float64, {args.ranks} ranks x {bench.threads} threads, {args.rounds} samples"
    )
    print("", *table(bench.lines, bool(noise)), sep="\n")
    print("\nratio: ours over the other's; where a time is to be shorter (asked >=), the reverse")
    if noise:
        print(f"no verdict: {'; '.join(dict.fromkeys(noise))}")


if __name__ == "__main__":
    main()
