"""MPI jobs whose answers are checked and recorded, and sweeps that show how they scale.

The code that runs is the code beside the program. The environment may have been made for another
clone, or hold only a wheel, or a stranger's package `kernels`.
"""

import os
import sys
from pathlib import Path
from stat import S_IWOTH

__version__ = "0.2.0"


def _program() -> str | None:
    """Return the file that says which clone is meant, or None where Python's own path says so."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    # While Python looks for `-m rankwise`, the name of the program is -m. The command stands for
    # the program that it starts; no file that this program is given may say what code runs here.
    if sys.argv[:1] == ["-m"] or (file and os.path.basename(file) == "rankwise"):
        words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
        if words and os.path.basename(words[0]).startswith("python"):
            words = words[1:]
        return words[0] if words and words[0].endswith(".py") else None
    spec = getattr(main, "__spec__", None)
    if spec and spec.name != "__main__":
        # -m of a profiler, which runs a file; or of another package, which is no job.
        run = sys.argv[0]
        return run if run.endswith(".py") and run != file else None
    # The program of a folder is its __main__.py. What an environment brings, as pytest, is no job.
    if not file or Path(file).resolve().parent == Path(sys.executable).parent.resolve():
        return None
    return file


def _root() -> Path | None:
    """Return the folder of the program's kernels: its own, or one or two above it."""
    program = _program()
    for folder in list(Path(program).resolve().parents)[:3] if program else ():
        # Into a folder like /tmp anybody may put kernels, and they are not the program's.
        theirs = folder.stat().st_mode & S_IWOTH
        if not theirs and os.path.isfile(folder / "kernels" / "__init__.py"):
            return folder
    return None


def _use(root: Path) -> None:
    """Make `kernels` those of a folder, and this package its own, if it has one."""
    if sys.path[:1] != [str(root)]:
        sys.path.insert(0, str(root))
    own = root / "rankwise" / "__init__.py"
    if own.is_file() and not own.samefile(__file__):
        from importlib.util import module_from_spec, spec_from_file_location

        # The import system returns what it finds under this name when this file is done.
        spec = spec_from_file_location(__name__, own)
        assert spec is not None and spec.loader is not None
        sys.modules[__name__] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[__name__])


_found = _root()
ROOT = _found or Path(__file__).resolve().parents[1]
if _found is not None:
    _use(_found)
