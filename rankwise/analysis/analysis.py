"""What a sweep shows, in numbers: every point with its interval, laws, a recommended count.

`rankwise.report.sentences` makes words of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rankwise.analysis import laws, statistics, usage
from rankwise.analysis.cost import Billing, Cost
from rankwise.analysis.laws import AMDAHL, GUSTAFSON, USL, Law
from rankwise.analysis.statistics import NOTHING, Estimate
from rankwise.analysis.usage import Usage
from rankwise.sweep.folder import FAILED, OK, PROCESS, Limit, Run, Sweep

__all__ = ["Analysis", "Bottleneck", "Estimate", "Fit", "Misfit", "Point", "Series", "analyse"]

_LAWS = {"strong": (AMDAHL, USL), "weak": (GUSTAFSON,)}
# An efficiency without interval counts as superlinear from here on.
_SUPERLINEAR = 1.05
# A kernel that is faster than memory by more than the noise of both has its data in cache.
_CACHED = 1.05
# A parameter is not identifiable if the upper end of its interval is more often the lower end.
_WIDEST = 10
# A law that is further off than this, at any point it was fitted through, does not describe it.
_MISFIT = 0.1
# Less lost time than this has no cause worth naming.
_LOSS = 0.05
_CURVE_COUNTS = 50
_AS_ASKED, _NOT_KNOWN = Billing(), Usage()


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
    cost : Cost
        Of one run, of the whole program.
    billed_efficiency : Estimate
        What the same work costs at the cheapest point, over what it costs here: of the seconds that
        are compared, on what is billed. NaN where it is not known what is.
    phases : dict of str to float
        Mean over ranks, median over launches [s]; empty without records.
    busiest : dict of str to float
        Of the rank that works longest, for which the others wait; median over launches [s].
    by_rank : bool
        Whether phases are known of each rank, or are one figure of the whole program.
    rate : float
        Of its speed, what the program says, median over launches; NaN if it does not tell.
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
    superlinear : bool
        The efficiency is above 1, by more than noise explains.
    cache_resident : bool
        The kernel is faster than memory, by more than noise explains.
    usage : Usage
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
    cost: Cost
    billed_efficiency: Estimate
    phases: dict[str, float]
    busiest: dict[str, float]
    by_rank: bool
    rate: float
    imbalance: tuple[float, ...]
    oversubscribed: bool
    kernel_gbs: float
    limit_share: float
    bound: float
    superlinear: bool
    cache_resident: bool
    usage: Usage = _NOT_KNOWN


@dataclass(frozen=True)
class Misfit:
    """Where a law is furthest off.

    Attributes
    ----------
    off : float
        Distance of the law from the median, over the median.
    ranks : int
    """

    off: float
    ranks: int


@dataclass(frozen=True)
class Fit:
    """A law fitted to a series.

    Attributes
    ----------
    law : str
        ``Amdahl``, ``USL`` or ``Gustafson``.
    wanted : int
        Rank counts that it wants at least.
    ranks : tuple of int
        Through which points.
    measured : int
        Number of points that could be fitted if none were oversubscribed.
    baseline : int
        The rank count that speedups are relative to.
    fewest : int
        The smallest number of launches of a point that enters the fit.
    parameters : dict of str to Estimate
        By name; empty if nothing could be fitted, or what was describes the data so badly that the
        numbers are those of another program.
    derived : Estimate
        What follows from the parameters: of Amdahl's law the limit of the speedup over the
        baseline, infinite for s = 0; of the USL the rank count with the least time, infinite for
        kappa = 0; of Gustafson's law the speedup gained with each rank. NaN without parameters.
    identifiable : bool
        Whether the data determine the parameters: enough rank counts, and intervals that exclude 0
        and span less than a factor of 10. Without intervals only the counts, and that no parameter
        is 0, can tell.
    misfit : Misfit or None
        None if the law describes the data.
    curve : tuple of (ranks, speedup, low, high)
        The fitted speedup with its 95 % band, at 50 counts from the baseline to the largest point
        measured; empty if nothing could be fitted. `low` and `high` are NaN without intervals.
    """

    law: str
    wanted: int
    ranks: tuple[int, ...]
    measured: int
    baseline: int
    fewest: int
    parameters: dict[str, Estimate]
    derived: Estimate
    identifiable: bool
    misfit: Misfit | None
    curve: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Bottleneck:
    """The phase that loses the most time between the baseline and the largest count.

    A phase loses what it takes beyond the ideal: the baseline's seconds, times the growth of the
    work of a rank. Times are those of the rank that works longest: the others' waiting for it is
    the effect and not the cause.

    Attributes
    ----------
    baseline : int
        The rank count that the loss is against.
    point : Point
        The largest with a core for every thread, or the largest of all if there is no other such.
    phase : str
        Empty if no time is surely lost.
    time_share : float
        Of the phase in all that this rank does there; NaN without a phase.
    loss_share : float
        Of the phase in all that is lost; NaN without a phase.
    """

    baseline: int
    point: Point
    phase: str
    time_share: float
    loss_share: float


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
    recommended : int or None
        The largest measured rank count with the chosen efficiency, in strong scaling never one
        that is slower than a smaller one, and never one that is superlinear without an interval.
        Where whole nodes are billed, that is the efficiency of what is billed, and of counts on as
        many nodes the fastest is taken. None if there is no such count, or only one was measured.
    bottleneck : Bottleneck or None
        None without records, and where no phase takes more than its ideal.
    sources : tuple of str
        Where the seconds come from, see `rankwise.sweep.folder.Run`.
    """

    mode: str
    points: tuple[Point, ...]
    baseline: Point | None
    axis: str
    fits: tuple[Fit, ...]
    recommended: int | None
    bottleneck: Bottleneck | None
    sources: tuple[str, ...]

    @property
    def whole_process(self) -> bool:
        """Whether the seconds are those of the whole process, start-up included."""
        return self.sources == (PROCESS,)

    @property
    def measured(self) -> tuple[Point, ...]:
        """Points with a successful launch."""
        return tuple(point for point in self.points if point.launches)


@dataclass(frozen=True)
class Analysis:
    """All that a report shows.

    Attributes
    ----------
    plan : dict
        ``sweep.json``.
    runs : tuple of Run
        A run that succeeded without a time that can be compared is one that failed.
    missing : tuple of str
        What was planned and not run.
    damaged : tuple of str
        Runs that cannot be read.
    billing : Billing
    series : tuple of Series
        Strong first.
    limit : Limit or None
        What memory delivers; None if nobody measured it.
    target : float
        The efficiency that a rank count is recommended for.
    oversubscribed : bool
        Whether points with more ranks x threads than cores were fitted, and may be recommended.
    """

    plan: dict[str, Any]
    runs: tuple[Run, ...]
    missing: tuple[str, ...]
    series: tuple[Series, ...]
    limit: Limit | None
    target: float
    oversubscribed: bool
    damaged: tuple[str, ...] = ()
    billing: Billing = _AS_ASKED

    @property
    def failures(self) -> tuple[Run, ...]:
        """Every run that did not succeed."""
        return tuple(run for run in self.runs if run.outcome != OK)


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


def analyse(
    sweep: Sweep,
    efficiency: float = 0.7,
    oversubscribed: bool = False,
    billing: Billing = _AS_ASKED,
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
            best = _recommended(analysed, efficiency, oversubscribed, billing.whole_nodes)
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
    medians = _medians(mode, measured)
    scaled = [
        _limited(_scaled(mode, point, i, medians), groups[point.ranks], limit)
        for i, point in enumerate(measured)
    ]
    through = [i for i, p in enumerate(scaled) if oversubscribed or not p.oversubscribed]
    fits = tuple(_fit(law, medians, through) for law in _LAWS[mode])
    scaled = _billed(scaled, groups, medians, through, billing)
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


def _billed(
    points: Sequence[Point],
    groups: dict[int, list[Run]],
    medians: _Medians,
    through: list[int],
    billing: Billing,
) -> list[Point]:
    """Return the points with the efficiency of what is billed."""
    hours = [billing.cost(groups[point.ranks][0], 3600.0) for point in points]
    each = np.array([x.node_hours if billing.whole_nodes else x.core_hours for x in hours])
    # Work per hour that is billed, relative to any of the points.
    value, resampled = (x * medians.ranks / each for x in (medians.rate, medians.resampled_rate))
    sure = [i for i in through or range(len(points)) if not doubtful(points[i])]
    if not sure:
        return list(points)
    cheapest = max(sure, key=lambda i: value[i])
    return [
        replace(
            point,
            billed_efficiency=statistics.estimate(
                value[i] / value[cheapest],
                resampled[:, i] / resampled[:, cheapest],
                medians.fewest(i, cheapest),
            ),
        )
        for i, point in enumerate(points)
    ]


def _recommended(
    series: Series, target: float, oversubscribed: bool, whole_nodes: bool
) -> int | None:
    if not series.measured[1:]:
        return None
    best = None
    for point in considered(series, oversubscribed, whole_nodes):
        # At a low target a count may be efficient enough and yet slower than a smaller one.
        slower = series.mode == "strong" and best and point.speedup.value < best.speedup.value
        if asked_for(point, whole_nodes).value >= target and not slower:
            best = point
    return best.ranks if best else None


def cheapest(series: Series) -> Point | None:
    """Return the point that efficiency as billed is relative to; None if nothing was measured."""
    known = [p for p in series.measured if p.billed_efficiency.value == 1]
    return known[0] if known else None


def asked_for(point: Point, whole_nodes: bool) -> Estimate:
    """Return the efficiency that a recommended count must have."""
    return point.billed_efficiency if whole_nodes else point.efficiency


def considered(series: Series, oversubscribed: bool, whole_nodes: bool) -> list[Point]:
    """Return the points that may be recommended; of those billed alike the fastest."""
    sure = [p for p in series.measured if oversubscribed or not p.oversubscribed]
    sure = [point for point in sure if not doubtful(point)]
    if not whole_nodes:
        return sure
    fastest: dict[int, Point] = {}
    for point in sure:
        best = fastest.setdefault(point.nodes, point)
        if point.speedup.value > best.speedup.value:
            fastest[point.nodes] = point
    return [point for point in sure if fastest[point.nodes] is point]


def doubtful(point: Point) -> bool:
    """Whether a point is faster than it can be, and no interval tells that it really is.

    Such as a run that failed without saying so.
    """
    return point.superlinear and math.isnan(point.efficiency.low)


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
        imbalance=_imbalance(good),
        oversubscribed=oversubscribed,
        # Ranks that take turns on a core are not in their kernels at the same time.
        kernel_gbs=math.nan if oversubscribed else _median_fact(good, "kernel_gbs"),
        limit_share=math.nan,
        bound=math.nan,
        superlinear=False,
        cache_resident=False,
        usage=usage.of(good),
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


def _fit(law: Law, medians: _Medians, through: list[int]) -> Fit:
    """Fit a law through some of the points."""
    counts = tuple(int(p) for p in medians.ranks[through])
    nothing = Fit(
        law.name,
        wanted=len(law.parameters) + 2,
        ranks=counts,
        measured=len(medians.ranks),
        baseline=int(medians.ranks[0]),
        fewest=medians.fewest(0, *through),
        parameters={},
        derived=NOTHING,
        identifiable=False,
        misfit=None,
        curve=(),
    )
    return _through(nothing, law, medians, through) if len(counts) >= nothing.wanted else nothing


def _through(nothing: Fit, law: Law, medians: _Medians, through: list[int]) -> Fit:
    """Return the fit with what the points say; there are enough."""
    ranks, fewest = medians.ranks[through], nothing.fewest
    values, resampled = (x[..., through] for x in medians.of(law))
    coefficients = laws.fit(law, ranks, values)
    # Of no use without an interval, so one row is enough.
    resampled = resampled if fewest >= statistics.FEWEST else resampled[:1]
    spread = laws.fit(law, ranks, resampled)
    curve = _curve(law, medians, coefficients, spread, fewest)
    fitted = laws.evaluate(law, coefficients, ranks)
    off = np.where(_explained(fitted, resampled, fewest), 0.0, np.abs(fitted / values - 1))
    worst = int(off.argmax())
    misfit = Misfit(float(off[worst]), nothing.ranks[worst]) if off[worst] > _MISFIT else None
    drawn = replace(nothing, misfit=misfit, curve=curve)
    if misfit and fewest >= statistics.FEWEST:
        # Its numbers would be those of another program.
        return drawn
    return _with_parameters(drawn, law, laws.parameters(coefficients), laws.parameters(spread))


def _with_parameters(fit: Fit, law: Law, found: np.ndarray, spreads: np.ndarray) -> Fit:
    """Return the fit with its parameters, those of the medians and of each resample."""
    estimates = {
        name: statistics.estimate(found[j], spreads[:, j], fit.fewest)
        for j, name in enumerate(law.parameters)
    }
    derived = _derived(law, fit, estimates, spreads)
    identifiable = all(_identifiable(each, fit.fewest) for each in estimates.values())
    return replace(fit, parameters=estimates, derived=derived, identifiable=identifiable)


def _derived(law: Law, fit: Fit, known: dict[str, Estimate], spreads: np.ndarray) -> Estimate:
    """Return what follows from the parameters; see `Fit`."""
    if law is USL:
        sigma, kappa = known["sigma"].value, known["kappa"].value
        resampled = _slowness(spreads[:, 0], spreads[:, 1])
        inverse = statistics.estimate(_slowness(sigma, kappa), resampled, fit.fewest)
        ends = (inverse.value, inverse.high, inverse.low)
        return Estimate(*(float(np.round(1 / x)) if x else math.inf for x in ends))
    # Both fall as s grows.
    of = laws.limit if law is AMDAHL else laws.slope
    s = known["s"]
    return Estimate(*(of(x, fit.baseline) for x in (s.value, s.high, s.low)))


def _slowness(sigma: Any, kappa: Any) -> Any:
    """Return one over the rank count with the least time: 0, not infinite, for kappa = 0."""
    # Nothing is faster than at one rank.
    return 1 / np.maximum(laws.fastest(np.minimum(sigma, 1 - 1e-12), kappa), 1)


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
        # Data that no law describes may be fitted best by no time at all.
        with np.errstate(divide="ignore"):
            return baseline / fitted

    drawn = speedup(coefficients, values[:1])
    if not np.isfinite(drawn).all():
        return ()
    low, high = statistics.interval(speedup(spread, resampled[: len(spread), :1]), fewest)
    rows = np.stack((grid, drawn, low, high), axis=1)
    return tuple((p, value, low, high) for p, value, low, high in rows.tolist())
