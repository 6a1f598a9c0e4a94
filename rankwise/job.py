"""What a job is written with: import it first, so that a rank that fails ends the others.

A job has a `Run`, which knows the command line, the ranks and the device. The run gives it a
`Source`, where its data come from; `Rows` or `HaloRows`, which travel to the ranks and back; and a
`Loop`, if it takes many steps. `docs/your-own-job.md` shows a whole one.
"""

from rankwise.ranks import guard  # noqa: I001  # before anything that may fail

from typing import TYPE_CHECKING, Any

from rankwise.data.halo import HaloRows
from rankwise.data.rows import Rows
from rankwise.ranks.agreement import Stop
from rankwise.ranks.start import launch
from rankwise.run.loop import Loop, add_loop
from rankwise.run.options import count, positive
from rankwise.run.run import Run
from rankwise.run.source import Source, add_input

if TYPE_CHECKING:
    from rankwise.preflight.preflight import Preflight

__all__ = [
    "HaloRows",
    "Loop",
    "Preflight",
    "Rows",
    "Run",
    "Source",
    "Stop",
    "add_input",
    "add_loop",
    "count",
    "guard",
    "launch",
    "positive",
]


def __getattr__(name: str) -> Any:
    """Import what one job alone needs when it asks for it: every import counts on every rank."""
    if name != "Preflight":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rankwise.preflight.preflight import Preflight

    return Preflight
