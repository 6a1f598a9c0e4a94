"""What a sweep shows: every point with its interval, the laws, a recommendation, in numbers."""

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankwise.analysis import laws, statistics
from rankwise.analysis.laws import AMDAHL, GUSTAFSON, USL, Law
from rankwise.analysis.statistics import NOTHING, Estimate
from rankwise.report import sentences
from rankwise.sweep.folder import FAILED, OK, Limit, Run, Sweep

__all__ = ["Analysis", "Estimate", "Fit", "Point", "Series", "analyse"]

_LAWS = {"strong": (AMDAHL, USL), "weak": (GUSTAFSON,)}
# An efficiency without interval counts as superlinear from here on.
_SUPERLINEAR = 1.05
# A kernel that is faster than memory by more than the noise of both has its data in cache.
_CACHED = 1.05
# A parameter is not identifiable if the upper end of its interval is more often the lower end.
_WIDEST = 10
_CURVE_COUNTS = 50


@dataclass(frozen=True)
class Point:
    """All launches at one rank count.

    Attributes
    ----------
    ranks, nodes, threads, gpus, cores : int
        `gpus`: of all ranks together. `cores`: that the point could use, not that it used.
    launches : int
        Successful ones.
    failed : tuple of Run
        The others: failed, timed out, killed.
    samples : tuple of float
        Seconds of each successful launch [s].
    seconds, speedup, efficiency, serial_fraction : Estimate
        Median over launches [s]; relative to the baseline. `serial_fraction` is Karp and Flatt's;
        NaN at the baseline and in weak scaling. All NaN where no launch succeeded.
    work : float
        Of all ranks together, median; NaN if the program does not tell.
    process_seconds : float
        Of the whole program, from the start of the launcher to its end; median over launches [s].
    cost : float
        Core-hours of one run, or GPU-hours if the sweep has GPUs: of the whole program, which is
        what is charged.
    phases : dict of str to float
        Mean over ranks, median over launches [s]; empty without records.
    busiest : dict of str to float
        Of the rank that works longest, for which the others wait; median over launches [s].
    imbalance : tuple of float
        Kernel seconds of each rank over the mean of all ranks, median over launches; empty without
        records.
    oversubscribed : bool
        More ranks x threads than cores.
    kernel_gbs : float
        Bytes of the kernels of all ranks over the seconds of the slowest, median over launches
        [GB/s]; NaN without records and where `oversubscribed`.
    limit_share : float
        `kernel_gbs` over what the memory of all nodes delivers to reads; NaN if that was not
        measured, for GPUs, which it does not limit, and where `kernel_gbs` is.
    bound : float
        The speedup there would be if a repeat only moved the kernel's bytes, as fast as memory
        delivers them; NaN if that was not measured, and for GPUs.
    notes : tuple of str
        What a referee would ask about this point, each a few words: "oversubscribed",
        "superlinear", "cache-resident", "2 of 6 launches failed", ...
    """

    ranks: int
    nodes: int
    threads: int
    gpus: int
    cores: int
    launches: int
    failed: tuple[Run, ...]
    samples: tuple[float, ...]
    seconds: Estimate
    speedup: Estimate
    efficiency: Estimate
    serial_fraction: Estimate
    work: float
    process_seconds: float
    cost: float
    phases: dict[str, float]
    busiest: dict[str, float]
    imbalance: tuple[float, ...]
    oversubscribed: bool
    kernel_gbs: float
    limit_share: float
    bound: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """A law fitted to a series.

    Attributes
    ----------
    law : str
        ``Amdahl``, ``USL`` or ``Gustafson``.
    parameters : dict of str to Estimate
        By name; empty if nothing could be fitted.
    identifiable : bool
        Whether the data determine the parameters: enough rank counts, and intervals that exclude 0
        and span less than a factor of 10. Without intervals only the counts, and that no parameter
        is 0, can tell.
    statement : str
        What the fit says, or why it says nothing, in one sentence.
    ranks : tuple of int
        Through which points.
    curve : tuple of (ranks, speedup, low, high)
        The fitted speedup with its 95 % band, at 50 counts from the baseline to the largest point
        measured; empty if nothing could be fitted. `low` and `high` are NaN without intervals.
    """

    law: str
    parameters: dict[str, Estimate]
    identifiable: bool
    statement: str
    ranks: tuple[int, ...]
    curve: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Series:
    """Strong or weak scaling.

    Attributes
    ----------
    mode : str
        ``strong`` or ``weak``.
    points : tuple of Point
        By ranks. The first with a successful launch is the baseline.
    baseline : Point or None
        None if no launch of any point succeeded.
    axis : str
        ``nodes`` if the points differ in nodes throughout, else ``ranks``.
    fits : tuple of Fit
    recommendation : str
        One sentence: rank count at the chosen efficiency, and what it costs.
    recommended : int or None
        That rank count.
    bottleneck : str
        One sentence: which phase stops the scaling; empty without records.
    """

    mode: str
    points: tuple[Point, ...]
    baseline: Point | None
    axis: str
    fits: tuple[Fit, ...]
    recommendation: str
    recommended: int | None
    bottleneck: str


@dataclass(frozen=True)
class Analysis:
    """All that a report shows.

    Attributes
    ----------
    title : str
        The command, as it was given.
    machine : str
        One line: host or cluster, processors, GPUs.
    series : tuple of Series
        Strong first.
    failures : tuple of Run
        Every run that did not succeed.
    missing : tuple of str
        What was planned and not run.
    warnings : tuple of str
        What a referee must know: mixed commits, different results, a busy machine, oversubscribed
        points, fewer than six launches.
    limit : str
        One sentence: what memory delivers, and how much of it the kernel takes; empty if that was
        not measured.
    method : str
        One paragraph for a proposal.
    cost_unit : str
        ``core-hours`` or ``GPU-hours``.
    target : float
        The efficiency that the recommendation is made for.
    """

    title: str
    machine: str
    series: tuple[Series, ...]
    failures: tuple[Run, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    limit: str
    method: str
    cost_unit: str
    target: float


@dataclass(frozen=True)
class _Medians:
    """The points of a series with a successful launch, as arrays over them, the baseline first.

    `rate` is work per rank and second, which is what both kinds of scaling compare: the work is the
    same at every count in strong scaling (here 1), and grows with the ranks in weak scaling.
    """

    ranks: np.ndarray
    launches: np.ndarray
    seconds: np.ndarray
    rate: np.ndarray
    resampled_seconds: np.ndarray
    resampled_rate: np.ndarray

    def fewest(self, *points: int) -> int:
        """Return the number of launches of the point that has the fewest."""
        return int(self.launches[list(points)].min())

    def of(self, law: Law) -> tuple[np.ndarray, np.ndarray]:
        """Return what the law is fitted to, and the same of each resample."""
        if law is GUSTAFSON:
            return self.rate, self.resampled_rate
        return self.seconds, self.resampled_seconds


def analyse(sweep: Sweep, efficiency: float = 0.7, oversubscribed: bool = False) -> Analysis:
    """Reduce a sweep to what its report shows. Never fails for what runs have or have not done.

    Parameters
    ----------
    sweep : Sweep
    efficiency : float
        The recommended rank count is the largest measured one with at least this efficiency.
    oversubscribed : bool
        Fit laws through, and recommend, points with more ranks x threads than cores as well.

    Returns
    -------
    Analysis
    """
    runs = [_checked(run) for run in sweep.runs]
    series = []
    for mode in ("strong", "weak"):
        chosen = [run for run in runs if run.mode == mode]
        if chosen:
            series.append(_series(mode, chosen, sweep.limit, efficiency, oversubscribed))
    command = sweep.plan.get("command") or ["unknown command"]
    return Analysis(
        title=shlex.join(map(str, command)),
        machine=sentences.machine(sweep.plan, runs),
        series=tuple(series),
        failures=tuple(run for run in runs if run.outcome != OK),
        missing=tuple(sweep.missing),
        warnings=sentences.warnings(sweep.plan, runs, sweep.missing, series, sweep.limit),
        limit=sentences.limit(sweep.limit, series),
        method=sentences.method(sweep.plan, runs, series, oversubscribed, sweep.limit),
        cost_unit="GPU-hours" if any(run.gpus for run in runs) else "core-hours",
        target=efficiency,
    )


def _checked(run: Run) -> Run:
    """Return the run, as a failed one if it succeeded without a time that can be compared."""
    if run.outcome != OK or (run.seconds and 0 < run.seconds < math.inf):
        return run
    return replace(run, outcome=FAILED, reason=f"its seconds are {run.seconds}")


def _series(
    mode: str, runs: Sequence[Run], limit: Limit | None, target: float, oversubscribed: bool
) -> Series:
    groups = {
        ranks: [run for run in runs if run.ranks == ranks]
        for ranks in sorted({run.ranks for run in runs})
    }
    bare = [_bare(group) for group in groups.values()]
    measured = [point for point in bare if point.launches]
    if not measured:
        rest = sentences.recommendation(mode, (), target, oversubscribed)
        return Series(mode, tuple(bare), None, _axis(bare), (), *rest, "")
    medians = _medians(mode, measured)
    scaled = [
        _limited(_scaled(mode, point, i, medians), groups[point.ranks], limit)
        for i, point in enumerate(measured)
    ]
    by_ranks = {point.ranks: point for point in scaled}
    points = tuple(by_ranks.get(point.ranks, point) for point in bare)
    through = [i for i, p in enumerate(scaled) if oversubscribed or not p.oversubscribed]
    fits = tuple(_fit(law, medians, through) for law in _LAWS[mode])
    return Series(
        mode,
        points,
        scaled[0],
        _axis(points),
        fits,
        *sentences.recommendation(mode, scaled, target, oversubscribed),
        sentences.bottleneck(scaled),
    )


def _axis(points: Sequence[Point]) -> str:
    nodes = {point.nodes for point in points}
    return "nodes" if 1 < len(nodes) == len(points) else "ranks"


def _bare(runs: Sequence[Run]) -> Point:
    """Return a point without what needs the baseline."""
    good = [run for run in runs if run.outcome == OK]
    first = (good or runs)[0]
    samples = tuple(run.seconds for run in good if run.seconds is not None)
    seconds = statistics.median(samples)
    whole = float(np.median([run.process_seconds for run in good])) if good else math.nan
    works = [run.work for run in good if run.work is not None]
    oversubscribed = first.ranks * first.threads > first.cores
    notes = sentences.launches(runs)
    if oversubscribed:
        notes = (f"oversubscribed: {first.ranks * first.threads} on {first.cores} cores", *notes)
    return Point(
        first.ranks,
        first.nodes,
        first.threads,
        first.gpus,
        first.cores,
        launches=len(good),
        failed=tuple(run for run in runs if run.outcome != OK),
        samples=samples,
        seconds=seconds,
        speedup=NOTHING,
        efficiency=NOTHING,
        serial_fraction=NOTHING,
        work=float(np.median(works)) if works else math.nan,
        process_seconds=whole,
        cost=(first.gpus or first.ranks * first.threads) * whole / 3600,
        phases=_phases(good, _mean),
        busiest=_phases(good, _of_busiest),
        imbalance=_imbalance(good),
        oversubscribed=oversubscribed,
        # Ranks that take turns on a core are not in their kernels at the same time.
        kernel_gbs=math.nan if oversubscribed else _median_fact(good, "kernel_gbs"),
        limit_share=math.nan,
        bound=math.nan,
        notes=notes,
    )


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


def _imbalance(runs: Sequence[Run]) -> tuple[float, ...]:
    kernels = [np.array(run.phases.get("kernel", []), float) for run in runs]
    over_mean = [k / k.mean() for k in kernels if k.size == runs[0].ranks and k.mean() > 0]
    return tuple(np.median(over_mean, axis=0).tolist()) if over_mean else ()


def _medians(mode: str, measured: Sequence[Point]) -> _Medians:
    ranks = np.array([point.ranks for point in measured], float)
    work = np.ones_like(ranks) if mode == "strong" else _weak_work(measured)
    seconds = np.array([point.seconds.value for point in measured])
    resampled = statistics.resampled_medians([point.samples for point in measured])
    per_rank = work / ranks
    return _Medians(
        ranks,
        np.array([point.launches for point in measured]),
        seconds,
        per_rank / seconds,
        resampled,
        per_rank / resampled,
    )


def _weak_work(measured: Sequence[Point]) -> np.ndarray:
    """Return the work that the records tell, or, if one does not, as many units as ranks."""
    work = np.array([point.work for point in measured])
    return work if (work > 0).all() else np.array([point.ranks for point in measured], float)


def _scaled(mode: str, point: Point, i: int, medians: _Medians) -> Point:
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
    notes = point.notes
    if i and (efficiency.low > 1 or (math.isnan(efficiency.low) and value > _SUPERLINEAR)):
        notes = (*notes, "superlinear")
    return replace(
        point,
        speedup=statistics.estimate(value * ratio, resampled * ratio, fewest),
        efficiency=efficiency,
        serial_fraction=serial,
        notes=notes,
    )


def _limited(point: Point, runs: Sequence[Run], limit: Limit | None) -> Point:
    """Return a point with what the memory of its nodes allows, if its kernel ran on the hosts."""
    good = [run for run in runs if run.outcome == OK]
    if limit is None or any(run.facts.get("devices") != ["host"] for run in good):
        return point
    delivered = limit.read_gbs * point.nodes
    least_seconds = _median_fact(good, "kernel_bytes") / 1e9 / delivered
    share, notes = point.kernel_gbs / delivered, point.notes
    # A limit that few cores measured may be too low.
    if share > _CACHED and not sentences.beyond(limit, point):
        notes = (*notes, "cache-resident")
    return replace(
        point,
        limit_share=share,
        bound=point.speedup.value * point.seconds.value / least_seconds,
        notes=notes,
    )


def _fit(law: Law, medians: _Medians, through: list[int]) -> Fit:
    """Fit a law through some of the points."""
    ranks = medians.ranks[through]
    counts = tuple(int(p) for p in ranks)
    if len(counts) <= len(law.parameters) + 1:
        statement = sentences.too_few(law, len(counts), len(medians.ranks))
        return Fit(law.name, {}, False, statement, counts, ())
    values, resampled = (x[..., through] for x in medians.of(law))
    fewest = medians.fewest(0, *through)
    coefficients = laws.fit(law, ranks, values)
    # Of no use without an interval, so one row is enough.
    resampled = resampled if fewest >= statistics.FEWEST else resampled[:1]
    spread = laws.fit(law, ranks, resampled)
    found, spreads = laws.parameters(coefficients), laws.parameters(spread)
    estimates = {
        name: statistics.estimate(found[j], spreads[:, j], fewest)
        for j, name in enumerate(law.parameters)
    }
    identifiable = all(_identifiable(each, fewest) for each in estimates.values())
    fitted = laws.evaluate(law, coefficients, ranks)
    statement = sentences.fit(law, estimates, spreads, fewest, int(medians.ranks[0]), identifiable)
    off = np.where(_explained(fitted, resampled, fewest), 0.0, np.abs(fitted / values - 1))
    if (misfit := sentences.misfit(off, counts)) and fewest >= statistics.FEWEST:
        # Its numbers would be those of another program.
        statement, estimates, identifiable = misfit, {}, False
    elif misfit:
        statement += " " + misfit
    curve = _curve(law, medians, coefficients, spread, fewest)
    return Fit(law.name, estimates, identifiable, statement, counts, curve)


def _explained(fitted: np.ndarray, resampled: np.ndarray, fewest: int) -> np.ndarray:
    """Tell at which points noise explains how far the fitted value is from the median.

    All points together are to be explained with 95 %, so each is given more.
    """
    if fewest < statistics.FEWEST:
        return np.zeros(len(fitted), bool)
    rest = (1 - statistics.LEVEL) / len(fitted)
    low, high = np.quantile(resampled, (rest / 2, 1 - rest / 2), axis=0)
    return (low <= fitted) & (fitted <= high)


def _identifiable(parameter: Estimate, fewest: int) -> bool:
    if fewest < statistics.FEWEST:
        return parameter.value > 0
    return 0 < parameter.low and parameter.high <= _WIDEST * parameter.low


def _curve(
    law: Law, medians: _Medians, coefficients: np.ndarray, spread: np.ndarray, fewest: int
) -> tuple[tuple[float, float, float, float], ...]:
    """Return the fitted speedup over the measured baseline, which is what the points show too."""
    grid = np.geomspace(medians.ranks[0], medians.ranks[-1], _CURVE_COUNTS)
    values, resampled = medians.of(law)

    def speedup(coefficients: np.ndarray, baseline: np.ndarray) -> np.ndarray:
        fitted = laws.evaluate(law, coefficients, grid)
        if law is GUSTAFSON:
            return grid / grid[0] * fitted / baseline
        return baseline / fitted

    low, high = statistics.interval(speedup(spread, resampled[: len(spread), :1]), fewest)
    rows = np.stack((grid, speedup(coefficients, values[:1]), low, high), axis=1)
    return tuple((p, value, low, high) for p, value, low, high in rows.tolist())
