"""What a job is written with: import it first, so that a rank that fails ends the others.

A job has a `Run`, which knows the command line, the ranks and the device. The run gives it a
`Source`, where its data come from; `Rows` or `HaloRows`, which travel to the ranks and back; a
`Loop`, if it takes many steps; a `Queue`, if its tasks take unequal times. `docs/your-own-job.md`
shows a whole one.
"""

from rankwise.ranks import guard  # noqa: I001  # before anything that may fail

import importlib
from typing import TYPE_CHECKING, Any

from rankwise.data.rows import Rows
from rankwise.node.rank import Rank
from rankwise.ranks.agreement import Stop
from rankwise.ranks.start import launch
from rankwise.run.options import add_loop, add_queue, count, positive
from rankwise.run.run import Run
from rankwise.run.source import Source, add_input

if TYPE_CHECKING:
    from rankwise.data.halo import HaloRows
    from rankwise.data.queue import Queue
    from rankwise.preflight.preflight import Preflight
    from rankwise.run.loop import Loop

__all__ = [
    "HaloRows",
    "Loop",
    "Preflight",
    "Queue",
    "Rank",
    "Rows",
    "Run",
    "Source",
    "Stop",
    "add_input",
    "add_loop",
    "add_queue",
    "count",
    "guard",
    "launch",
    "positive",
]

# What some jobs need, and import by this name: every import counts on every rank.
_LATER = {
    "HaloRows": "rankwise.data.halo",
    "Loop": "rankwise.run.loop",
    "Preflight": "rankwise.preflight.preflight",
    "Queue": "rankwise.data.queue",
}


def __getattr__(name: str) -> Any:
    """Import what was not imported at once."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
