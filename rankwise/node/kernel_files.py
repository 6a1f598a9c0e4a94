"""Where Numba keeps compiled kernels: a file for each function and types, absent if it is damaged.

Numba's own way has an index that is read, changed and written back without a lock, after which it
may name the wrong machine code; and a full disk or a damaged file ends the program, see
https://github.com/numba/numba/issues/10434. Importing this module imports Numba.
"""

import atexit
import hashlib
import os
import pickle
import re
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core import caching, config
from numba.core.serialize import dumps

CURE = "; each start compiles again, unless NUMBA_CACHE_DIR names another folder"
# Where compiled kernels are; None if they are not kept.
folder: Path | None = None
# What went wrong with them, of each kind the first.
problems: list[str] = []


def use(place: Path | None) -> None:
    """Let Numba keep kernels that are imported from now on in a folder, or nowhere."""
    global folder
    folder = place
    base: Any = getattr(caching, "CompileResultCacheImpl", object).__base__
    if not (hasattr(caching, "IndexDataCacheFile") and hasattr(base, "_locator_classes")):
        # Numba's names, not ours: a later one may have others. What it keeps itself is then apart.
        config.CACHE_DIR = tempfile.mkdtemp(prefix="rankwise-numba-")
        atexit.register(shutil.rmtree, config.CACHE_DIR, ignore_errors=True)
        _note(f"Numba {numba.__version__} keeps compiled kernels in a way that is not known here; "
              "each start compiles again")  # fmt: skip
        return
    caching.IndexDataCacheFile = KernelFile
    config.CACHE_LOCATOR_CLASSES = ""
    if base._locator_classes[0] is not Source:
        # What has no file, as in a notebook, remains for Numba.
        base._locator_classes = [Source, *base._locator_classes]


class Source:
    """The file of a function, as Numba's locators tell of it; it has no folder to be made."""

    def __init__(self, function: Any, file: str) -> None:
        self._py_file, self._line = file, function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: Any, file: str) -> "Source | None":
        """Return that of a function; None if it has none."""
        return cls(function, file) if os.path.isfile(file) else None

    def ensure_cache_path(self) -> None:
        """Make no folder: `KernelFile` knows where its file is."""

    def get_cache_path(self) -> str:
        """Return what tells the file from another of the same name."""
        return os.path.abspath(self._py_file)

    def get_source_stamp(self) -> str:
        """Return what changes with the file."""
        return hashlib.sha256(Path(self._py_file).read_bytes()).hexdigest()

    def get_disambiguator(self) -> str:
        """Return what tells a function from another of the same name."""
        return str(self._line)


class KernelFile:
    """The compiled versions of one function, in the place of Numba's `IndexDataCacheFile`.

    Parameters
    ----------
    cache_path : str
        The file of the function.
    filename_base : str
        Its name.
    source_stamp : str
        What changes with the file.
    """

    def __init__(self, cache_path: str, filename_base: str, source_stamp: str) -> None:
        identity = repr((cache_path, source_stamp, numba.__version__))
        self._name = f"{filename_base}-{_short_digest(identity)}"

    def load(self, key: Any) -> Any:
        """Return what was saved for some types; None if it is not there, or is damaged."""
        if folder is None:
            return None
        path = self._path(folder, key)
        try:
            octets = path.read_bytes()
            # Before anything is made of it: machine code that has a wrong bit does anything.
            if hashlib.sha256(octets[32:]).digest() != octets[:32]:
                raise ValueError("wrong digest")
            of, data = pickle.loads(octets[32:])
        except FileNotFoundError:
            return None
        except OSError as error:
            _note(f"cannot read compiled kernels in {folder}: {error.strerror}{CURE}")
            return None
        except Exception:
            _note(f"the compiled kernel {path} was damaged, and is compiled again")
            return None
        return data if of == key else None

    def save(self, key: Any, data: Any) -> None:
        """Keep the machine code for some types, if there is room."""
        if folder is None:
            return
        path, octets = self._path(folder, key), dumps((key, data))
        # Others may write it at the same time.
        new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            new.write_bytes(hashlib.sha256(octets).digest() + octets)
            os.replace(new, path)
        except OSError as error:
            with suppress(OSError):
                new.unlink()
            _note(f"cannot keep compiled kernels in {folder}: {error.strerror}{CURE}")

    def flush(self) -> None:
        """Forget all versions of the function."""
        for path in folder.glob(f"{self._name}-*") if folder else ():
            with suppress(OSError):
                path.unlink()

    def _path(self, place: Path, key: Any) -> Path:
        # Types that are functions have their address in their name.
        types = re.sub(r"0x[0-9a-f]+", "", repr(key))
        return place / f"{self._name}-{_short_digest(types)}.kernel"


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _note(text: str) -> None:
    if text not in problems:
        problems.append(text)
