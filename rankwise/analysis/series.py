"""What an analysis finds: points, fits, series. Numbers, which `rankwise.report` makes words of."""

from dataclasses import dataclass
from typing import Any

from rankwise.analysis.cost import Billing, Cost
from rankwise.analysis.statistics import Estimate
from rankwise.analysis.usage import Usage
from rankwise.sweep.folder import OK, PROCESS, Limit, Run

AS_ASKED, _NOT_KNOWN = Billing(), Usage()


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
        are compared, on what is billed. NaN for a point that may not be recommended.
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
        records. With a `schedule`, busy seconds, from the least busy rank to the busiest: ranks
        that share cores are in their kernels equally long.
    longest : float
        With a `schedule`, the busy seconds of the longest chunk over the mean of all ranks, median
        over launches; else 0.
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
    schedule : str
        Which rank does which tasks of a queue, see `rankwise.data.schedules`; empty without a
        queue, or if the launches differ in it.
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
    schedule: str = ""
    longest: float = 0.0


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
        that is no faster than a smaller one, and never one that is superlinear without an interval.
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
    def queued(self) -> bool:
        """Whether the ranks shared a queue of tasks, so that each one's busy seconds are known."""
        return any(point.schedule for point in self.points)

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
    billing: Billing = AS_ASKED

    @property
    def failures(self) -> tuple[Run, ...]:
        """Every run that did not succeed."""
        return tuple(run for run in self.runs if run.outcome != OK)
