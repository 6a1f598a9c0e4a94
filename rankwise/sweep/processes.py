"""Processes of this machine, as far as this user may look at them."""

from pathlib import Path

# In the environment of all processes of a run, with another value in each run.
MARK = "RANKWISE_RUN"


def environment(process: Path) -> dict[str, str]:
    """Return the variables with which a process was started; none if it has ended.

    Parameters
    ----------
    process : Path
        Its folder in ``/proc``.
    """
    try:
        lines = (process / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def status(process: Path, file: str = "status") -> dict[str, str]:
    """Return what the kernel says of a process or thread in a file of lines ``name: value``.

    Nothing if it has ended. Of two lines of a name the first counts.
    """
    try:
        # A process may have any other character in its name, such as those that splitlines takes.
        lines = (process / file).read_bytes().decode(errors="replace").split("\n")
    except OSError:
        return {}
    parts = (line.partition(":") for line in reversed(lines))
    return {name: value.strip() for name, _, value in parts}
