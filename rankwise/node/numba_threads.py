"""Start Numba and its threads, whatever the environment tells it."""

import os
import re
import sys
import warnings
from pathlib import Path

from rankwise.ranks.agreement import Stop
from rankwise.ranks.mpi import is_number
from rankwise.ranks.words import printable

# What lets kernels be compiled otherwise, and the values with which they are not.
_USUAL = {
    "NUMBA_BOUNDSCHECK": ("", "0"),
    "NUMBA_CPU_FEATURES": ("",),
    "NUMBA_CPU_NAME": ("",),
    "NUMBA_DEBUG": ("", "0"),
    "NUMBA_DEBUGINFO": ("", "0"),
    "NUMBA_DISABLE_JIT": ("", "0"),
    "NUMBA_ENABLE_AVX": ("", "1"),
    "NUMBA_ENABLE_PROFILING": ("", "0"),
    "NUMBA_LOOP_VECTORIZE": ("", "1"),
    "NUMBA_OPT": ("", "3", "max"),
}
_SETTINGS = Path(".numba_config.yaml")
# More threads than any machine has cores for.
_MOST_THREADS = 10_000


def start(threads: int) -> list[str]:
    """Import Numba, and let its kernels run on some threads.

    Parameters
    ----------
    threads : int

    Returns
    -------
    list of str
        What to warn of.

    Raises
    ------
    Stop
        Numba refuses what it is told.
    """
    notes = [] if "numba" in sys.modules else _prepare(threads)
    try:
        with warnings.catch_warnings(record=True) as told:
            import numba

            _require_room(threads, numba.config.NUMBA_NUM_THREADS)
            numba.set_num_threads(threads)
    except Stop:
        raise
    # It raises what comes: its variables are read as it is imported, and when threads start.
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise Stop(printable(f"Numba does not start: {reason}{_obeyed()}")) from None
    ignored = set(filter(None, map(_ignored, told)))
    notes += [f"{name} means nothing to Numba, which ignores it" for name in sorted(ignored)]
    return notes + _unusual(ignored)


def _require_room(threads: int, most: int) -> None:
    if threads > most:
        raise Stop(
            f"{threads} threads a rank, and Numba was imported with room for {most}: import "
            f"rankwise.job first, or export NUMBA_NUM_THREADS={threads}"
        )


def _prepare(threads: int) -> list[str]:
    """Set the size of the pool of threads, which is fixed when Numba is imported."""
    notes, asked = [], os.environ.get("NUMBA_NUM_THREADS", "")
    good = is_number(asked) and 0 < int(asked) <= _MOST_THREADS
    os.environ["NUMBA_NUM_THREADS"] = str(max(threads, int(asked) if good else 0))
    if asked and not good:
        notes.append(f"NUMBA_NUM_THREADS={asked} is not used: it is no number of threads")
    features = os.environ.get("NUMBA_CPU_FEATURES", "")
    # LLVM ends the process at anything else.
    if not all(re.fullmatch(r"[+-][\w.-]+", each) for each in features.split(",") if features):
        del os.environ["NUMBA_CPU_FEATURES"]
        notes.append(f"NUMBA_CPU_FEATURES={features} is not used: it is no list of +name or -name")
    if os.environ.pop("NUMBA_CACHE_LOCATOR_CLASSES", ""):
        notes.append("NUMBA_CACHE_LOCATOR_CLASSES is not used: NUMBA_CACHE_DIR names a folder")
    return notes


def _ignored(told: warnings.WarningMessage) -> str:
    """Return what a warning of Numba says that it ignores; show others as they are."""
    text = str(told.message)
    if match := re.match(r"Environment variable '(\w+)'", text):
        return f"{match[1]}={os.environ.get(match[1], '')}"
    # There is no PyYAML.
    if "config file is found" in text:
        return str(_SETTINGS)
    warnings.showwarning(told.message, told.category, told.filename, told.lineno)
    return ""


def _unusual(ignored: set[str]) -> list[str]:
    """Say what makes kernels slower, and may be set for something else."""
    values = {name: os.environ.get(name, "").strip() for name in _USUAL}
    obeyed = [f"{name}={value}" for name, value in values.items() if value not in _USUAL[name]]
    obeyed += [str(_SETTINGS)] if _SETTINGS.exists() else []
    obeyed = [each for each in obeyed if each not in ignored]
    if not obeyed:
        return []
    return [
        f"Numba obeys {', '.join(obeyed)}, so kernels may be slower than usual: remove it if it is "
        "not meant"
    ]


def _obeyed() -> str:
    """Name what Numba was told."""
    names = sorted(name for name in os.environ if name.startswith("NUMBA_"))
    told = [f"{name}={os.environ[name]}" for name in names if name != "NUMBA_NUM_THREADS"]
    told += [f"{_SETTINGS} of the working folder"] if _SETTINGS.exists() else []
    return f"; it was told {', '.join(told)}" if told else ""
