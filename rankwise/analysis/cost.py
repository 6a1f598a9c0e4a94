"""What a run costs, as it is billed: whole nodes, or the cores and GPUs that it asked for."""

import math
from dataclasses import dataclass
from typing import Any

from rankwise.sweep import billing
from rankwise.sweep.billing import Charge
from rankwise.sweep.folder import SUPPLIED, Run
from rankwise.sweep.launchers import UsageError


@dataclass(frozen=True)
class Cost:
    """What one run costs.

    Attributes
    ----------
    nodes : float
        That are billed; NaN if it is not known how large a node is, a fraction where nodes are
        shared.
    node_hours : float
        NaN if `nodes` is.
    core_hours, gpu_hours : float
    charge : float
        In the unit of the rate; NaN without one.
    hour : float
        What an hour costs: in the unit of the rate, else in nodes or, where these are not billed as
        a whole, in cores.
    """

    nodes: float
    node_hours: float
    core_hours: float
    gpu_hours: float
    charge: float
    hour: float


@dataclass(frozen=True)
class Billing:
    """How runs are billed.

    Attributes
    ----------
    whole_nodes : bool
        All of each node that a run uses, or only what it asks for.
    why : str
        What Slurm says that makes whole nodes be billed; empty outside Slurm.
    cores_per_node, gpus_per_node : int
        0 if it is not known.
    charge : Charge or None
    runs : int or None
        How many runs are wanted.
    """

    whole_nodes: bool = False
    why: str = ""
    cores_per_node: int = 0
    gpus_per_node: int = 0
    charge: Charge | None = None
    runs: int | None = None

    @classmethod
    def of(
        cls,
        plan: dict[str, Any],
        charge: Charge | None = None,
        runs: int | None = None,
        cores_per_node: int | None = None,
    ) -> "Billing":
        """Return how the runs of a plan are billed; what is None is as the plan says.

        Raises
        ------
        UsageError
            See `rankwise.sweep.billing.refuse_unknown`.
        """
        facts = plan.get("billing") or {}
        # Slurm knows better than a plan, but what is said now is not to be passed over.
        each = cores_per_node or facts.get("cores_per_node") or plan.get("cores_per_node")
        if charge is None and plan.get("charge"):
            try:
                charge = Charge.parse(plan["charge"])
            except ValueError as error:
                raise UsageError(f"the plan of the sweep is damaged: {error}") from None
        billing.refuse_unknown(charge, facts, each, plan.get("gpus_per_rank") or 0)
        # Outside Slurm nobody but the user can know.
        by_node = charge is not None and charge.per == billing.NODE and not facts
        return cls(
            bool(facts.get("whole_nodes")) or by_node,
            facts.get("whole_nodes") or "",
            each or 0,
            facts.get("gpus_per_node") or 0,
            charge,
            runs or plan.get("runs"),
        )

    def billed(self, run: Run) -> tuple[float, float, float]:
        """Return the nodes, cores and GPUs that are billed; of the nodes NaN if not known."""
        if self.whole_nodes:
            nodes = run.nodes if self.why else max(run.nodes, self._filled(run))
            cores = max(run.cores, nodes * self.cores_per_node)
            return nodes, cores, max(run.gpus, nodes * self.gpus_per_node)
        cores = _asked_for(run)
        if not self.cores_per_node:
            return math.nan, cores, run.gpus
        gpus = run.gpus / self.gpus_per_node if self.gpus_per_node else 0.0
        return max(cores / self.cores_per_node, gpus), cores, run.gpus

    def _filled(self, run: Run) -> int:
        """Return how many nodes the cores of a run fill, which nobody but the user can know."""
        used = min(_asked_for(run), run.cores)
        return math.ceil(used / self.cores_per_node) if self.cores_per_node else 0

    def cost(self, run: Run, seconds: float) -> Cost:
        """Return what a run of so many seconds costs."""
        hours = seconds / 3600
        nodes, cores, gpus = self.billed(run)
        node_hours = math.nan if math.isnan(nodes) else nodes * hours
        charge, hour = math.nan, nodes if self.whole_nodes else cores
        if self.charge is not None:
            hour = self.charge.of(nodes, cores, gpus)
            charge = hour * hours
        return Cost(nodes, node_hours, cores * hours, gpus * hours, charge, hour)


def _asked_for(run: Run) -> int:
    """Return the cores that a run asked for."""
    # A table says what a run was given; of a sweep, `Run.cores` is what it could have used.
    return run.cores if run.source == SUPPLIED else run.ranks * run.threads
