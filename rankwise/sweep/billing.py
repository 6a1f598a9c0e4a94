"""What is billed for a run: whole nodes or what it asked for, and at which rate."""

import argparse
import os
import re
from dataclasses import dataclass
from typing import Any

from rankwise.node import slurm
from rankwise.sweep.launchers import UsageError
from rankwise.sweep.options import whole_number

NODE, CORE, GPU = "node-hour", "core-hour", "GPU-hour"
_RATE = re.compile(
    r"((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)\s*([^\s\d.,'^][^\d]*?|)\s*"
    r"\bper\s+(node|core|gpu)-hours?",
    re.IGNORECASE,
)
_PER = {"node": NODE, "core": CORE, "gpu": GPU}
_LONGEST_UNIT = 16
# What a report counts by the same words.
_COUNTED = {"core", "gpu", "hour", "launch", "launche", "node", "rank", "run", "thread"}
_MOST = 1e12


@dataclass(frozen=True)
class Charge:
    """A rate of charge.

    Attributes
    ----------
    number : float
        Above 0.
    unit : str
        What a centre counts in, such as ``EUR``; ``units`` if the user names none.
    per : str
        ``node-hour``, ``core-hour`` or ``GPU-hour``.
    text : str
        As it was given.
    """

    number: float
    unit: str
    per: str
    text: str

    @classmethod
    def parse(cls, text: str) -> "Charge":
        """Read ``NUMBER [UNIT] per node-hour``, or ``core-hour`` or ``GPU-hour``.

        Raises
        ------
        ValueError
            It is something else.
        """
        match = _RATE.fullmatch(text.strip())
        if match is None or not 0 < float(match[1]) <= _MOST:
            raise ValueError(
                f"{text!r} is not 'NUMBER [UNIT] per node-hour', core-hour or GPU-hour, such as "
                "'0.02 EUR per core-hour'"
            )
        if len(match[2]) > _LONGEST_UNIT or not match[2].isprintable():
            raise ValueError(f"{text!r}: a unit has at most {_LONGEST_UNIT} characters")
        one = match[2].lower().removesuffix("s")
        if one in _COUNTED or one in map(str.lower, (NODE, CORE, GPU)):
            raise ValueError(f"{text!r}: {match[2]} are no unit of a charge")
        return cls(float(match[1]), match[2] or "units", _PER[match[3].lower()], text.strip())

    def of(self, nodes: float, cores: float, gpus: float) -> float:
        """Return what an hour of so many nodes, cores and GPUs costs, in `unit`."""
        return self.number * {NODE: nodes, CORE: cores, GPU: gpus}[self.per]


def add_options(parser: argparse._ActionsContainer) -> None:
    """Add the options about cost, of a sweep and of its report."""
    meaning = "what the centre bills: 'NUMBER [UNIT] per node-hour', core-hour or GPU-hour"
    parser.add_argument("--charge", metavar="RATE", type=_charge, help=meaning)
    meaning = "show what so many runs of the recommended count cost together"
    parser.add_argument("--runs", metavar="N", type=whole_number, help=meaning)


def _charge(text: str) -> Charge:
    try:
        return Charge.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def of_allocation() -> dict[str, Any]:
    """Return what Slurm says of how this job is billed; empty outside, or if it does not answer.

    Returns
    -------
    dict
        ``whole_nodes``: why whole nodes are billed, empty if they are not. ``billing``: Slurm's own
        figure for the allocation, empty if it has none. ``cores_per_node``, ``gpus_per_node``: of
        the node that has the fewest.
    """
    fields = slurm.own_job()
    nodes = slurm.known("node", os.environ.get("SLURM_JOB_NODELIST", ""))
    if not fields or not nodes:
        return {}
    cpus = sum(_whole(node.get("CPUTot")) for node in nodes)
    why = ""
    if fields.get("OverSubscribe") == "NO":
        why = "OverSubscribe=NO"
    elif cpus and fields.get("NumCPUs") == str(cpus):
        why = "every CPU of the nodes is allocated"
    # Slurm 23.02 has renamed the first.
    resources = fields.get("AllocTRES") or fields.get("TRES") or ""
    billing = re.search(r"\bbilling=(\d+)", resources)
    return {
        "whole_nodes": why,
        "billing": billing[1] if billing else "",
        "cores_per_node": min(map(_cores, nodes)),
        "gpus_per_node": min(map(_gpus, nodes)),
    }


def _cores(node: dict[str, str]) -> int:
    return _whole(node.get("CoresPerSocket")) * _whole(node.get("Sockets"))


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _gpus(node: dict[str, str]) -> int:
    """Read ``Gres=gpu:a100:4(S:0-1),gpu:t4:2``."""
    kinds = re.findall(r"\bgpu(?::[^:,()]+)?:(\d+)", node.get("Gres", ""))
    return sum(map(int, kinds))


def refuse_unknown(
    charge: Charge | None, facts: dict[str, Any], each: int | None, gpus: int
) -> None:
    """Refuse a rate by what is not known, or is not there.

    Parameters
    ----------
    charge : Charge, optional
    facts : dict
        From `of_allocation`.
    each : int, optional
        Cores of a node, as the user says.
    gpus : int
        GPUs of a rank.

    Raises
    ------
    UsageError
        The rate is by the node, and nobody says how large one is, or Slurm says something else; or
        it is by the GPU, and there is none.
    """
    known = facts.get("cores_per_node")
    if known and each and each != known:
        raise UsageError(f"--cores-per-node {each}: Slurm says that a node has {known} cores")
    if charge is None:
        return
    if charge.per == NODE and not (facts.get("cores_per_node") or each):
        cure = "say how many cores a node has, with --cores-per-node"
        if slurm.inside():
            cure = "scontrol does not tell how many cores a node has, so charge by the core-hour"
        raise UsageError(f"--charge by the node-hour: {cure}")
    whole = facts.get("whole_nodes") and facts.get("gpus_per_node")
    if charge.per == GPU and not (gpus or whole):
        raise UsageError("--charge by the GPU-hour, and no GPU is used")
