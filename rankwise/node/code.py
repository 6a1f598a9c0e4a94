"""The code that runs: its commit, its versions, and a digest that tells two codes apart."""

import sys
from pathlib import Path


def git_commit() -> str:
    """Return the commit of this clone, ``-dirty`` if Python files differ, or ``unknown``."""
    # Rank 0 alone needs it, and every import counts while all ranks start.
    import subprocess

    # Python files alone: data and records lie about in many clones.
    command = ["git", "status", "--porcelain=v2", "--branch", "--", "*.py"]
    folder = Path(__file__).parents[2]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    headers = [line for line in done.stdout.splitlines() if line.startswith("# ")]
    commit = headers[0].split()[2] if headers else ""
    # Before the first commit it is "(initial)".
    if not commit.isalnum():
        return "unknown"
    return commit if len(headers) == len(done.stdout.splitlines()) else f"{commit}-dirty"


def versions(*names: str) -> dict[str, str]:
    """Return the versions of Python and of libraries, as far as this process has imported them."""
    loaded = {name: sys.modules[name].__version__ for name in names if name in sys.modules}
    python = {"python": ".".join(map(str, sys.version_info[:3]))} if "python" in names else {}
    return {**python, **loaded}
