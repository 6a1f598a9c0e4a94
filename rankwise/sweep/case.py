"""The case of a program: a folder of its input, of which each run gets a copy to work in.

A second run in the folder of the first may go on from what that one left, and be faster for it.
"""

import fcntl
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from rankwise.ranks.words import short
from rankwise.sweep.launchers import UsageError

# From linux/fs.h: share the blocks of a file until one of the two is written to.
_FICLONE = 0x40049409


@dataclass(frozen=True)
class Case:
    """A folder that is copied for each run.

    Attributes
    ----------
    folder : Path
        Absolute.
    folders, files : tuple of str
        To be made and copied, relative to it.
    links : tuple of str
        Files to which the copy gets symbolic links.
    octets : int
        Bytes of `files`.
    keep : bool
        Whether copies stay after runs that succeeded.
    """

    folder: Path
    folders: tuple[str, ...]
    files: tuple[str, ...]
    links: tuple[str, ...]
    octets: int
    keep: bool

    @property
    def all(self) -> tuple[str, ...]:
        """Every file, copied or linked."""
        return self.files + self.links

    @classmethod
    def parse(cls, folder: Path, globs: list[str], keep: bool, ours: Path | None) -> "Case":
        """Look at a folder.

        Parameters
        ----------
        folder : Path
        globs : list of str
            What is to be linked: patterns of names, or of paths in the folder.
        keep : bool
        ours : Path, optional
            The folder of the sweep, which is left out, as are the results of others here.

        Raises
        ------
        UsageError
            It is no folder, or cannot be copied.
        """
        whole = folder.resolve()
        if not whole.is_dir():
            raise UsageError(f"--case {folder} is no folder")
        out = {Path("results").resolve(), *([ours.resolve()] if ours else [])}
        folders, files, links, octets = [], [], [], 0
        try:
            for name, is_folder in _entries(whole, out):
                if is_folder:
                    folders.append(name)
                elif any(_matches(name, glob) for glob in globs):
                    links.append(name)
                else:
                    files.append(name)
                    octets += (whole / name).stat().st_size
        except OSError as error:
            raise UsageError(f"--case {folder}: {error.filename}: {error.strerror}") from None
        for glob in globs:
            if not any(_matches(name, glob) for name in links):
                raise UsageError(f"--link {glob!r} is no file in {folder}")
        return cls(whole, tuple(folders), tuple(files), tuple(links), octets, keep)

    def has(self, word: str) -> bool:
        """Whether a word of a command names a file of the case, relative to it."""
        return word in self.all or os.path.normpath(word) in self.all

    def refuse_no_room(self, where: Path, copies: int) -> None:
        """Raise `UsageError` unless there is room for copies at a place that may not exist yet."""
        while not where.exists():
            where = where.parent
        free = shutil.disk_usage(where).free
        if self.octets * copies > free:
            raise UsageError(
                f"{copies} copies of {self.folder} take {short(self.octets * copies / 1e9)} GB and "
                f"{where} has {short(free / 1e9)} GB free: --link large inputs, or name another "
                "place with --folder"
            )

    def copy(self, to: Path) -> None:
        """Make a copy."""
        for name in ("", *self.folders):
            (to / name).mkdir()
        for name in self.files:
            _copy(self.folder / name, to / name)
        for name in self.links:
            (to / name).symlink_to(self.folder / name)


def _entries(folder: Path, out: set[Path]) -> list[tuple[str, bool]]:
    """Return the names of all that is in a folder, and whether each is a folder; links followed."""
    found: list[tuple[str, bool]] = []
    for where, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        here = Path(where)
        inside = here.relative_to(folder)
        folders[:] = sorted(name for name in folders if here / name not in out)
        for name in folders:
            target = (here / name).resolve()
            if target == here or target in here.parents:
                raise OSError(0, "a link to a folder around it", str(here / name))
            found.append((str(inside / name), True))
        for name in sorted(files):
            path = here / name
            if is_log(path):
                continue
            if not path.is_file():
                raise OSError(0, "neither a file nor a folder", str(path))
            if not os.access(path, os.R_OK):
                raise OSError(0, "cannot be read", str(path))
            found.append((str(inside / name), False))
    return found


def is_log(path: Path) -> bool:
    """Whether a file is what this sweep, or a batch job of Slurm, prints: no input."""
    if fnmatch(path.name, "slurm-*.out"):
        return True
    with suppress(OSError):
        return any(os.path.samestat(path.stat(), os.fstat(number)) for number in (1, 2))
    return False


def _raise(error: OSError) -> None:
    raise error


def _matches(name: str, glob: str) -> bool:
    """Whether a pattern is of a file: of its name, its path, or a folder that it is in."""
    parts = name.split("/")
    paths = ["/".join(parts[:k]) for k in range(1, len(parts) + 1)]
    return fnmatch(parts[-1], glob) or any(fnmatch(path, glob.rstrip("/")) for path in paths)


def _copy(source: Path, to: Path) -> None:
    """Copy a file, at no cost where the file system can. Never a hard link.

    A program that opens its input for writing would write through one into the original.
    """
    with suppress(OSError), source.open("rb") as old, to.open("wb") as new:
        fcntl.ioctl(new, _FICLONE, old.fileno())
        shutil.copystat(source, to)
        return
    shutil.copy2(source, to)
