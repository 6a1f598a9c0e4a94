"""What is wrong with the values in the files of a sweep, before anybody computes with them."""

import math
from itertools import chain
from typing import Any

_NUMBER = (int, float)
_DICT, _LIST = (dict,), (list,)
_TEXT, _WHOLE = (str,), (int,)
# Of what is read from `sweep.json` besides the two lists that must be there.
_PLAN: dict[str, tuple[type, ...]] = {
    "job": _TEXT,
    "cwd": _TEXT,
    "modes": _LIST,
    "weak": _TEXT,
    "launches": _WHOLE,
    "threads": _WHOLE,
    "gpus_per_rank": _WHOLE,
    "cores_given": _WHOLE,
    "cores_per_node": _WHOLE,
    "seed": _WHOLE,
    "timeout": _NUMBER,
    "launcher": _TEXT,
    "started": _TEXT,
    "machine": _DICT,
    "versions": _DICT,
    "git": _TEXT,
    "slurm": _DICT,
    "billing": _DICT,
    "charge": _TEXT,
    "runs": _WHOLE,
    "measure": _DICT,
    "case": _TEXT,
    "link": _LIST,
    "files": _DICT,
    "mpi": _DICT,
    "places": _DICT,
    "warnings": _LIST,
    "cores": _LIST,
    "supplied": _DICT,
    "notes": _DICT,
}
_INSIDE: dict[str, dict[str, tuple[type, ...]]] = {
    "machine": {"cores": _WHOLE, "nodes": _WHOLE, "memory_bytes": _WHOLE},
    "billing": {
        "whole_nodes": _TEXT, "billing": _TEXT, "cores_per_node": _WHOLE, "gpus_per_node": _WHOLE,
    },
    "measure": {
        "seconds": _TEXT, "rate": _TEXT, "work": _TEXT, "time_file": _TEXT, "phases": _DICT,
        "require": _LIST, "refuse": _LIST,
    },
    "mpi": {"family": _TEXT, "library": _TEXT},
    "supplied": {"file": _TEXT, "sha256": _TEXT},
}  # fmt: skip
_POSITIVE = ("launches", "threads", "runs", "cores_given", "cores_per_node")
_EACH = {"command": _TEXT, "modes": _TEXT, "link": _TEXT, "warnings": _TEXT, "cores": _WHOLE}


def of_plan(plan: dict[str, Any]) -> str:
    """Say what is wrong with the content of ``sweep.json``; empty if all is well."""
    for name in ("command", "order"):
        if not isinstance(plan.get(name), list):
            return f"it has no list {name!r}"
    for name, kinds in _PLAN.items():
        if not _may_be(plan.get(name), kinds):
            return f"{name!r} is of the wrong type"
    for name in _POSITIVE:
        if plan.get(name) is not None and plan[name] < 1:
            return f"{name!r} is not above 0"
    for name, kinds in _EACH.items():
        if not all(isinstance(value, kinds) for value in plan.get(name) or ()):
            return f"{name!r} has a value of the wrong type"
    for name, inside in _INSIDE.items():
        values = plan.get(name) or {}
        if not all(_may_be(values.get(key), kinds) for key, kinds in inside.items()):
            return f"{name!r} has a value of the wrong type"
    if plan.get("supplied") is not None and not all(map(plan["supplied"].get, ("file", "sha256"))):
        return "'supplied' does not say which file"
    return ""


def _may_be(value: Any, kinds: tuple[type, ...]) -> bool:
    return value is None or isinstance(value, kinds)


def of_phases(phases: dict[str, Any]) -> str:
    """Say that phases are not seconds of as many ranks each; empty if they are."""
    lengths = {len(seconds) if _numbers(seconds) else 0 for seconds in phases.values()}
    return "'phases' are not seconds of each rank" if len(lengths) > 1 or 0 in lengths else ""


def of_facts(facts: dict[str, Any], ranks: int) -> str:
    """Say which of the facts of a run on so many ranks is none; empty if all are well."""
    lists = (
        ("devices", "names"),
        ("hosts", "names"),
        ("warnings", "sentences"),
        ("changed", "names"),
    )
    for name, of in lists:
        texts = facts.get(name, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return f"{name!r} is not a list of {of}"
    if not isinstance(facts.get("first_line", ""), str):
        return "'first_line' is not a line"
    if not _checks(facts.get("checks", [])):
        return "'checks' is not a list of checks"
    for name in ("kernel_bytes", "kernel_gbs", "printed"):
        if not isinstance(facts.get(name, 0), _NUMBER):
            return f"{name!r} is not a number"
    if not _sizes({name: facts.get(name, 0) for name in ("peak_memory_rank", "peak_memory_node")}):
        return "'peak_memory_rank' or 'peak_memory_node' is not a number of bytes"
    if not _usage(facts.get("usage", {"ranks": 0, "looks": 0})):
        return "'usage' is not what ranks used"
    if "queue" in facts and not _queue(facts["queue"], ranks):
        return "'queue' is not how the ranks shared tasks"
    return ""


def _checks(values: Any) -> bool:
    """Whether each of these says why a check allows what, and by how much the answer is off."""
    if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
        return False
    numbers = all(_numbers([each.get("error"), each.get("bound")]) for each in values)
    return numbers and all(isinstance(each.get("why"), str) for each in values)


def _usage(values: Any) -> bool:
    """Whether these are figures of ranks that were looked at, and perhaps those of Slurm."""
    if not isinstance(values, dict) or not {"ranks", "looks"} <= values.keys():
        return False
    unseen = values.get("unseen_seconds", 0)
    seconds = type(unseen) in _NUMBER and 0 <= unseen < math.inf
    here = {name: values[name] for name in values.keys() - {"sstat", "unseen_seconds"}}
    return seconds and _sizes(here) and _sizes(values.get("sstat", {}))


def _queue(values: Any, ranks: int) -> bool:
    """Whether these are the schedule of a queue of tasks and its figures, some of each rank."""
    if not isinstance(values, dict) or not isinstance(values.get("schedule"), str):
        return False
    of_ranks: list[Any] = [values.get(name) for name in ("busy", "chunks", "over_mean")]
    if not all(isinstance(each, list) and len(each) == ranks for each in of_ranks):
        return False
    of_all = [values.get(name) for name in ("tasks", "longest", "imbalance")]
    if type(values.get("tasks")) is not int:
        return False
    return all(type(x) in _NUMBER and 0 <= x < math.inf for x in chain(of_all, *of_ranks)) and (
        # Of one rank that does all.
        max(values["over_mean"]) <= ranks + 1e-6
    )


def _sizes(values: Any) -> bool:
    """Whether each of these is a number of bytes, or of something else that one can count."""
    if not isinstance(values, dict):
        return False
    return all(type(value) is int and value >= 0 for value in values.values())


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(x, int | float) for x in values)
