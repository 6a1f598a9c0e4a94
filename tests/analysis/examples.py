"""Sweeps and analyses made by hand, for the tests of the report."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from rankwise.analysis.analysis import analyse
from rankwise.analysis.cost import Cost
from rankwise.analysis.series import Analysis, Bottleneck, Fit, Point, Series
from rankwise.analysis.statistics import Estimate
from rankwise.disk import files, summary
from rankwise.disk import record as records
from rankwise.report.recommendation import recommendation
from rankwise.sweep.folder import Limit, Run, Sweep, name_of, write_json, write_run

NOTHING = Estimate(math.nan, math.nan, math.nan)
WIGGLE = (1.02, 0.99, 1.0, 1.01, 0.985, 1.03)
LIMIT = Limit(30.0, 25.0, 8, 1, 1, "2026-11-25T01:02:03.000+00:00")


def run(**changes):
    """Return a run that took a second on one rank."""
    plain = Run(
        mode="strong",
        ranks=1,
        threads=1,
        launch=1,
        nodes=1,
        gpus=0,
        cores=8,
        argv=["mpirun", "-n", "1", "jobs/demo.py"],
        start="2026-01-02T03:04:05.000+00:00",
        outcome="ok",
        reason="",
        process_seconds=2.0,
        seconds=1.0,
        source="process",
        work=None,
        load=0.1,
        cpu="Example CPU 9000",
        commit="0123abcd",
    )
    whole = {"process_seconds": (changes.get("seconds") or 1.0) + 1}
    changed = replace(plain, **(whole | changes))
    return changed if changed.outcome == "ok" else replace(changed, seconds=None)


def plan(ranks, modes=("strong",), launches=6, **more):
    """Return a ``sweep.json``."""
    order = [[m, r, launch + 1] for launch in range(launches) for m in modes for r in ranks]
    machine = {"host": "n001", "cpu": "Example CPU 9000", "cores": 8, "memory_bytes": 2**36}
    return {
        "schema": 1,
        "command": ["jobs/demo.py", "--n", "1e6"],
        "job": "demo",
        "cwd": "/home/user/code",
        "modes": list(modes),
        "weak": "--weak" if "weak" in modes else None,
        "ranks": list(ranks),
        "launches": launches,
        "threads": 1,
        "gpus_per_rank": 0,
        "seed": 7,
        "timeout": 600.0,
        "launcher": "mpirun (MPICH)",
        "order": order,
        "started": "2026-01-02T03:04:05+00:00",
        "machine": {**machine, "nodes": 1, "cluster": None, "partition": None, "kernel": "6.1"},
        "versions": {"python": "3.12.1", "numpy": "2.4.6"},
        "git": "0123456789abcdef",
        "slurm": {},
        "warnings": [],
        **more,
    }


def write_sweep(folder, planned, runs):
    """Write the folder of a sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "sweep.json", planned)
    for each in runs:
        inside = folder / "runs" / name_of(each.mode, each.ranks, each.launch)
        inside.mkdir(parents=True)
        write_run(inside, each)


def record(results=(), **attributes):
    """Return the record of a job that ran for a second, on one rank if nothing else is said."""
    kinds = [("rank", "i8"), ("host", "S4"), ("cores", "S1"), ("threads", "i8"), ("device", "S4")]
    ranks = [(k, b"n001", b"0", 1, b"host", 2**26) for k in range(attributes.get("ranks", 1))]
    return records.Record(
        attributes={
            "schema": records.SCHEMA,
            **{"job": "demo", "command": "demo.py", "folder": "/home/user/code"},
            "arguments": {"variant": "numpy"},
            **{"ranks": 1, "nodes": 1, "threads": 1, "variant": "numpy", "mpi": "MPICH 4.3"},
            "start": "2026-11-25T01:02:03.000+00:00",
            **{"git": "0123abcd", "versions": {"numpy": "2.4"}, "slurm": {}},
            **{"peak_memory_rank": 2**26, "peak_memory_node": 2**26},
            **{"work": 10, "kernel_bytes": 8 * 10**9, "warnings": [], "results_sha256": ""},
            **{"first_step": 0, "restarts": 0, "kernel_flops": 0, "unchecked": ""},
            **attributes,
        },
        results={
            name: records.Result(np.array(x), "GB/s", name) for name, x in dict(results).items()
        },
        checks=[{"why": "rounding", "error": 0.0, "bound": 0.0}],
        phases=("kernel", "write"),
        timings=np.array([[[1.0] * len(ranks), [math.nan] * len(ranks)]]),
        ranks=np.array(ranks, [*kinds, ("peak_memory", "i8")]),
    )


def balance(busy, schedule="block", chunks=2):
    """Return how a queue of 40 tasks went in one repeat: the busy seconds of each rank."""
    busy = np.array([busy], float)
    return records.Balance(schedule, 40, busy, busy / chunks, np.full(busy.shape, chunks))


def write_limit(path, read=(30.0,), copy=(25.0,), **attributes):
    """Write a record of what memory delivers, one value per node, by the schema of records."""
    bandwidths = {"read_bandwidth": read, "copy_bandwidth": copy}
    made = record({name: x for name, x in bandwidths.items() if x is not None}, **attributes)
    made.attributes["results_sha256"] = records.digest(made.results)
    path.write_bytes(files.hdf5_image(lambda file: records._fill(file, made)))


def phases_of(ranks, seconds):
    """Return what a record holds of a run: the kernel shrinks, gathering does not."""
    kernel = [seconds * 0.9 * (1 + 0.02 * math.sin(7 * rank)) for rank in range(ranks)]
    return {"read": [0.001 * seconds] * ranks, "kernel": kernel, "gather": [0.1 * seconds] * ranks}


def point(ranks, samples, base=None, mode="strong", **changes):
    """Return a point with its figures relative to a baseline, itself if None."""
    cores = changes.get("cores", 8)
    seconds = _estimate(samples)
    first = seconds if base is None else base.seconds
    ratio = 1.0 if base is None else ranks / base.ranks
    over = first.value / seconds.value
    efficiency = over / ratio if mode == "strong" else over
    relative = Estimate(efficiency, 0.97 * efficiency, 1.03 * efficiency)
    serial = NOTHING
    if base is not None and mode == "strong":
        value = (1 / (efficiency * ratio) - 1 / ratio) / (1 - 1 / ratio)
        serial = Estimate(value, 0.8 * value, 1.2 * value)
    phases = phases_of(ranks, seconds.value)
    kernel = np.array(phases["kernel"])
    plain = Point(
        ranks=ranks,
        nodes=1,
        threads=1,
        gpus=0,
        cores=cores,
        launches=len(samples),
        failed=(),
        samples=tuple(samples),
        seconds=seconds,
        speedup=Estimate(*(ratio * x for x in (relative.value, relative.low, relative.high))),
        efficiency=relative,
        serial_fraction=serial,
        work=math.nan,
        process_seconds=seconds.value + 1,
        cost=cost(ranks * seconds.value / 3600),
        billed_efficiency=relative,
        phases={name: float(np.mean(values)) for name, values in phases.items()},
        busiest={name: max(values) for name, values in phases.items()},
        by_rank=True,
        rate=math.nan,
        imbalance=tuple((kernel / kernel.mean()).tolist()),
        oversubscribed=ranks > cores,
        kernel_gbs=math.nan,
        limit_share=math.nan,
        bound=math.nan,
        superlinear=False,
        cache_resident=False,
    )
    return replace(plain, **changes)


def cost(core_hours):
    """Return the cost of a run on shared nodes of unknown size."""
    return Cost(math.nan, math.nan, core_hours, 0.0, math.nan, math.nan)


def failed_point(ranks, *failed, **changes):
    """Return a point where no launch succeeded."""
    empty = {"phases": {}, "busiest": {}, "imbalance": (), "cost": cost(math.nan)}
    names = ("seconds", "speedup", "efficiency", "serial_fraction", "billed_efficiency")
    nothing = dict.fromkeys(names, NOTHING)
    plain = replace(point(ranks, [1.0]), launches=0, samples=(), failed=failed)
    return replace(plain, **empty, **nothing, **changes)


def _estimate(samples):
    spread = (min(samples), max(samples)) if len(samples) > 5 else (math.nan, math.nan)
    return Estimate(float(np.median(samples)), *spread)


def strong(counts=(1, 2, 4, 8, 16), serial=0.04, **changes):
    """Return a series that follows Amdahl's law, its last point oversubscribed."""
    points = []
    for ranks in counts:
        seconds = 12.5 * (serial + (1 - serial) / ranks)
        base = points[0] if points else None
        points.append(point(ranks, [seconds * wiggle for wiggle in WIGGLE], base))
    curve = []
    for ranks in np.geomspace(counts[0], counts[-1], 50):
        start = serial + (1 - serial) / counts[0]
        value = start / (serial + (1 - serial) / ranks)
        curve.append((float(ranks), value, value**0.97, value**1.03))
    s = Estimate(serial, 0.9 * serial, 1.1 * serial)
    amdahl = fit("Amdahl", {"s": s}, Estimate(25.0, 22.7, 27.8), counts, curve)
    usl = replace(fit("USL", {}, NOTHING, counts, ()), wanted=4, ranks=tuple(counts[:3]))
    plain = Series(
        "strong",
        tuple(points),
        points[0],
        "ranks",
        (amdahl, usl),
        counts[-2] if len(counts) > 1 else None,
        Bottleneck(counts[0], points[-1], "gather", 0.1, 0.9),
        ("record",),
    )
    return replace(plain, **changes)


def fit(law, parameters, derived, counts, curve):
    """Return a fit through all points that describes them."""
    return Fit(
        law,
        wanted=3,
        ranks=tuple(counts),
        measured=len(counts),
        baseline=counts[0],
        fewest=6,
        parameters=parameters,
        derived=derived,
        identifiable=bool(parameters),
        misfit=None,
        curve=tuple(curve),
    )


def limited(series, bound=6.0):
    """Return a series whose kernel takes 5 GB/s a rank of the 30 that memory delivers."""
    points = tuple(
        replace(p, kernel_gbs=5.0 * p.ranks, limit_share=p.ranks / 6, bound=bound)
        for p in series.points
    )
    return replace(series, points=points, baseline=points[0])


def weak(counts=(1, 2, 4, 8), serial=0.05, **changes):
    """Return a series that follows Gustafson's law, with a work of 1000 per rank."""
    points = []
    for ranks in counts:
        seconds = 3.0 * ranks / (ranks - serial * (ranks - 1))
        base = points[0] if points else None
        samples = [seconds * wiggle for wiggle in WIGGLE]
        points.append(point(ranks, samples, base, "weak", work=1000.0 * ranks))
    curve = []
    for ranks in np.geomspace(counts[0], counts[-1], 50):
        value = float((ranks - serial * (ranks - 1)) / counts[0])
        curve.append((float(ranks), value, value**0.97, value**1.03))
    s = Estimate(serial, 0.8 * serial, 1.2 * serial)
    gustafson = fit("Gustafson", {"s": s}, Estimate(0.95, 0.94, 0.96), counts, curve)
    plain = Series(
        "weak", tuple(points), points[0], "ranks", (gustafson,), counts[-1], None, ("record",)
    )
    return replace(plain, **changes)


def analysis(*series, **changes):
    """Return an analysis of some series, or one without any."""
    plain = Analysis(
        plan=plan([1, 2], ("strong", "weak")),
        runs=tuple(one for each in series for p in each.points for one in runs_of(each.mode, p)),
        missing=(),
        series=series,
        limit=None,
        target=0.7,
        oversubscribed=False,
    )
    return replace(plain, **changes)


def runs_of(mode, point):
    """Return the runs of a point, which tell the work if the point does."""
    names = ("ranks", "nodes", "threads", "gpus", "cores")
    shared = {"mode": mode, "source": "record", **{name: getattr(point, name) for name in names}}
    work = None if math.isnan(point.work) else point.work
    good = [run(**shared, launch=i + 1, seconds=x, work=work) for i, x in enumerate(point.samples)]
    return (*good, *point.failed)


def write_example(folder, modes=("strong", "weak"), launches=6, records=True):
    """Write a sweep in which one launch failed and one is missing."""
    runs = []
    for mode in modes:
        for ranks in (1, 2, 4):
            for launch in range(1, launches + 1):
                ideal = 8 / ranks if mode == "strong" else 8
                seconds = (ideal + 0.2) * WIGGLE[launch - 1]
                one = run(mode=mode, ranks=ranks, launch=launch, seconds=seconds)
                if records:
                    phases = phases_of(ranks, seconds)
                    one = replace(one, phases=phases, source="record", work=1.0 * ranks)
                runs.append(one)
    if launches > 2:
        runs[-1] = replace(runs[-1], outcome="timed out", seconds=None, output_end="the end")
        del runs[1]
    write_sweep(folder, plan([1, 2, 4], modes, launches), runs)


COUNTS = (1, 2, 4, 8, 16, 32)


def amdahl(p, s=0.05):
    """Return the seconds of a program of which a part is serial."""
    return 10 * (s + (1 - s) / p)


def runs(seconds=amdahl, counts=COUNTS, launches=6, noise=0.01, mode="strong", **changes):
    """Return the runs of a sweep whose seconds scatter around a function of the rank count."""
    random = np.random.default_rng(1)
    return [
        run(
            mode=mode,
            ranks=p,
            launch=launch,
            seconds=seconds(p) * random.lognormal(sigma=noise),
            **{"cores": 64, "source": "record", **changes},
        )
        for p in counts
        for launch in range(1, launches + 1)
    ]


def analysed(some, missing=(), planned=None, limit=None, **options):
    """Return the analysis of the sweep of some runs."""
    if planned is None:
        planned = plan(sorted({run.ranks for run in some}))
    return analyse(Sweep(Path("sweep"), planned, list(some), list(missing), limit), **options)


def only(some, **options):
    """Return the series of a sweep that has one."""
    (series,) = analysed(some, **options).series
    return series


def by_ranks(series):
    """Return the points of a series by their rank count."""
    return {point.ranks: point for point in series.points}


def with_phases(some, phases):
    """Return runs with ``phases(run)`` in their records."""
    return [replace(run, phases=phases(run)) for run in some]


def with_queue(some, busy, schedule="block", chunks=2):
    """Return runs whose ranks were busy with the tasks of a queue for ``busy(run)`` seconds."""
    return [
        replace(
            run, facts=run.facts | {"queue": summary._queue(balance(busy(run), schedule, chunks))}
        )
        for run in some
    ]


def failed(some):
    """Return runs that failed."""
    return [replace(run, outcome="failed", reason="exit 1", seconds=None) for run in some]


FACTS = {
    "job": "demo",
    "variant": "numba",
    "devices": ["host"],
    "git": "a" * 40,
    "mpi": "MPICH 4.3",
    "versions": {"numpy": "2.4"},
    "results_sha256": "f" * 64,
}


def hosted(seconds=amdahl, kernel_bytes=lambda p: 24e9, gbs=lambda p: 4.0 * p, **changes):
    """Return runs on hosts whose records tell of the kernel; see `LIMIT`."""
    return [
        replace(
            run,
            facts={**FACTS, "kernel_bytes": kernel_bytes(run.ranks), "kernel_gbs": gbs(run.ranks)},
        )
        for run in runs(seconds, **{"counts": (1, 2, 4, 8), "cores": 8, **changes})
    ]


def advice(series, target=0.7):
    """Return what is recommended."""
    return recommendation(analysis(series, target=target), series).replace("\u00a0", " ")
