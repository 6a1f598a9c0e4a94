"""What a sweep shows, in numbers: every point with its interval, laws, a recommended count."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rankwise.analysis import laws, statistics, usage
from rankwise.analysis.cost import Billing
from rankwise.analysis.fits import fit
from rankwise.analysis.laws import AMDAHL, GUSTAFSON, USL
from rankwise.analysis.medians import Medians, medians_of
from rankwise.analysis.recommendation import billed, recommended
from rankwise.analysis.series import AS_ASKED, Analysis, Bottleneck, Point, Series
from rankwise.analysis.statistics import NOTHING
from rankwise.sweep.folder import FAILED, OK, Limit, Run, Sweep

_LAWS = {"strong": (AMDAHL, USL), "weak": (GUSTAFSON,)}
# An efficiency without interval counts as superlinear from here on.
_SUPERLINEAR = 1.05
# A kernel that is faster than memory by more than the noise of both has its data in cache.
_CACHED = 1.05
# Less lost time than this has no cause worth naming.
_LOSS = 0.05


def analyse(
    sweep: Sweep,
    efficiency: float = 0.7,
    oversubscribed: bool = False,
    billing: Billing = AS_ASKED,
) -> Analysis:
    """Reduce a sweep to what its report shows. Never fails for what runs have or have not done.

    Parameters
    ----------
    sweep : Sweep
    efficiency : float
        The recommended rank count is the largest measured one with at least this efficiency.
    oversubscribed : bool
        Fit laws through, and recommend, points with more ranks x threads than cores as well.
    billing : Billing
        What is billed for a run.

    Returns
    -------
    Analysis
    """
    runs = tuple(_checked(run) for run in sweep.runs)
    series = []
    for mode in ("strong", "weak"):
        chosen = [run for run in runs if run.mode == mode]
        if chosen:
            analysed = _series(mode, chosen, sweep.limit, oversubscribed, billing)
            best = recommended(analysed, efficiency, oversubscribed, billing.whole_nodes)
            series.append(replace(analysed, recommended=best))
    return Analysis(
        sweep.plan,
        runs,
        tuple(sweep.missing),
        tuple(series),
        sweep.limit,
        efficiency,
        oversubscribed,
        tuple(sweep.damaged),
        billing,
    )


def _checked(run: Run) -> Run:
    """Return the run, as a failed one if it succeeded without a time that can be compared."""
    if run.outcome != OK or (run.seconds and 0 < run.seconds < math.inf):
        return run
    return replace(run, outcome=FAILED, reason=f"its seconds are {run.seconds}")


def _series(
    mode: str, runs: Sequence[Run], limit: Limit | None, oversubscribed: bool, billing: Billing
) -> Series:
    groups = {
        ranks: [run for run in runs if run.ranks == ranks]
        for ranks in sorted({run.ranks for run in runs})
    }
    bare = [_bare(group, billing) for group in groups.values()]
    measured = [point for point in bare if point.launches]
    if not measured:
        return Series(mode, tuple(bare), None, _axis(bare), (), None, None, ())
    medians = medians_of(mode, measured)
    scaled = [
        _limited(_scaled(mode, point, i, medians), groups[point.ranks], limit)
        for i, point in enumerate(measured)
    ]
    through = [i for i, p in enumerate(scaled) if oversubscribed or not p.oversubscribed]
    fits = tuple(fit(law, medians, through) for law in _LAWS[mode])
    scaled = billed(scaled, medians, through)
    by_ranks = {point.ranks: point for point in scaled}
    points = tuple(by_ranks.get(point.ranks, point) for point in bare)
    return Series(
        mode,
        points,
        scaled[0],
        _axis(points),
        fits,
        None,
        _bottleneck(scaled),
        tuple(sorted({run.source for run in runs if run.outcome == OK})),
    )


def _bottleneck(measured: Sequence[Point]) -> Bottleneck | None:
    fair = [point for point in measured if not point.oversubscribed]
    first, last = measured[0], (fair if len(fair) > 1 else measured)[-1]
    if first is last or not first.busiest or not last.busiest:
        return None
    enough = not math.isnan(last.efficiency.high)
    if last.efficiency.high >= 1 if enough else last.efficiency.value > 1 - _LOSS:
        return Bottleneck(first.ranks, last, "", math.nan, math.nan)
    # Of what the baseline took; efficiency is the same ratio over that of the seconds.
    ideal = last.efficiency.value * last.seconds.value / first.seconds.value
    names = list({**first.busiest, **last.busiest})
    lost = {name: last.busiest.get(name, 0) - first.busiest.get(name, 0) * ideal for name in names}
    worst = max(lost, key=lambda name: lost[name])
    if lost[worst] <= 0:
        return None
    time_share = last.busiest[worst] / sum(last.busiest.values())
    loss_share = lost[worst] / sum(x for x in lost.values() if x > 0)
    return Bottleneck(first.ranks, last, worst, time_share, loss_share)


def _axis(points: Sequence[Point]) -> str:
    nodes = {point.nodes for point in points}
    return "nodes" if 1 < len(nodes) == len(points) else "ranks"


def _bare(runs: Sequence[Run], billing: Billing) -> Point:
    """Return a point without what needs the baseline."""
    good = [run for run in runs if run.outcome == OK]
    first = (good or runs)[0]
    samples = tuple(run.seconds for run in good if run.seconds is not None)
    whole = float(np.median([run.process_seconds for run in good])) if good else math.nan
    oversubscribed = first.ranks * first.threads > first.cores
    schedule = _schedule(good)
    return Point(
        *(first.ranks, first.nodes, first.threads, first.gpus, first.cores),
        launches=len(good),
        failed=tuple(run for run in runs if run.outcome != OK),
        samples=samples,
        seconds=statistics.median(samples),
        speedup=NOTHING,
        efficiency=NOTHING,
        serial_fraction=NOTHING,
        work=_median_of([run.work for run in good]),
        process_seconds=whole,
        cost=billing.cost(first, whole),
        billed_efficiency=NOTHING,
        phases=_phases(good, _mean),
        busiest=_phases(good, _of_busiest),
        by_rank=all(len(told) == run.ranks for run in good for told in run.phases.values()),
        rate=_median_of([run.rate for run in good]),
        imbalance=_imbalance(good, schedule),
        oversubscribed=oversubscribed,
        # Ranks that take turns on a core are not in their kernels at the same time.
        kernel_gbs=math.nan if oversubscribed else _median_fact(good, "kernel_gbs"),
        limit_share=math.nan,
        bound=math.nan,
        superlinear=False,
        cache_resident=False,
        usage=usage.of(good),
        schedule=schedule,
        longest=_longest(good) if schedule else 0.0,
    )


def _median_of(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else math.nan


def _median_fact(runs: Sequence[Run], name: str) -> float:
    values = [run.facts.get(name, math.nan) for run in runs]
    known = [value for value in values if 0 < value < math.inf]
    return float(np.median(known)) if known else math.nan


def _phases(
    runs: Sequence[Run], reduce: Callable[[list[str], np.ndarray], np.ndarray]
) -> dict[str, float]:
    """Return the median over launches of ``reduce(names, (phases, ranks) array of seconds)``."""
    recorded = [run.phases for run in runs if run.phases]
    names = list(dict.fromkeys(name for phases in recorded for name in phases))
    found = []
    for phases in recorded:
        nothing = [0.0] * max(map(len, phases.values()))
        # A rank that never was in a phase spent no time in it.
        seconds = np.nan_to_num(np.array([phases.get(name, nothing) for name in names], float))
        found.append(reduce(names, seconds))
    medians = np.median(found, axis=0) if found else ()
    return {name: float(value) for name, value in zip(names, medians, strict=True)}


def _mean(names: list[str], seconds: np.ndarray) -> np.ndarray:
    return seconds.mean(axis=1)


def _of_busiest(names: list[str], seconds: np.ndarray) -> np.ndarray:
    work = seconds[[name != "wait" for name in names]].sum(axis=0)
    return seconds[:, work.argmax()]


def _schedule(runs: Sequence[Run]) -> str:
    told = {run.facts["queue"]["schedule"] if "queue" in run.facts else "" for run in runs}
    return told.pop() if len(told) == 1 else ""


def _longest(runs: Sequence[Run]) -> float:
    queues = [run.facts["queue"] for run in runs]
    return float(np.median([q["longest"] / (np.mean(q["busy"]) or 1.0) for q in queues]))


def _imbalance(runs: Sequence[Run], schedule: str) -> tuple[float, ...]:
    if schedule:
        queues = [run.facts["queue"]["over_mean"] for run in runs]
        return tuple(np.median(queues, axis=0).tolist())
    kernels = [np.array(run.phases.get("kernel", []), float) for run in runs]
    over_mean = [k / k.mean() for k in kernels if k.size == runs[0].ranks and k.mean() > 0]
    return tuple(np.median(over_mean, axis=0).tolist()) if over_mean else ()


def _scaled(mode: str, point: Point, i: int, medians: Medians) -> Point:
    """Return a point with what is relative to the baseline."""
    ratio = float(medians.ranks[i] / medians.ranks[0])
    value = medians.rate[i] / medians.rate[0]
    resampled = medians.resampled_rate[:, i] / medians.resampled_rate[:, 0]
    fewest = medians.fewest(0, i)
    efficiency = statistics.estimate(value, resampled, fewest)
    serial = NOTHING
    if mode == "strong" and i:
        serial = statistics.estimate(
            float(laws.karp_flatt(value * ratio, ratio)),
            laws.karp_flatt(resampled * ratio, ratio),
            fewest,
        )
    surely = value > _SUPERLINEAR if math.isnan(efficiency.low) else efficiency.low > 1
    return replace(
        point,
        speedup=statistics.estimate(value * ratio, resampled * ratio, fewest),
        efficiency=efficiency,
        serial_fraction=serial,
        superlinear=bool(i and surely),
    )


def _limited(point: Point, runs: Sequence[Run], limit: Limit | None) -> Point:
    """Return a point with what the memory of its nodes allows, if its kernel ran on the hosts."""
    good = [run for run in runs if run.outcome == OK]
    if limit is None or any(run.facts.get("devices") != ["host"] for run in good):
        return point
    delivered = limit.read_gbs * point.nodes
    least_seconds = _median_fact(good, "kernel_bytes") / 1e9 / delivered
    share = point.kernel_gbs / delivered
    return replace(
        point,
        limit_share=share,
        bound=point.speedup.value * point.seconds.value / least_seconds,
        # A limit that few cores measured may be too low.
        cache_resident=share > _CACHED and not beyond(limit, point),
    )


def beyond(measured: Limit, point: Point) -> bool:
    """Whether a point uses more cores of a node than measured what memory delivers."""
    used = min(point.ranks * point.threads, point.cores) / point.nodes
    return used > measured.ranks * measured.threads / measured.nodes
