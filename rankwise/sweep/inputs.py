"""What a run starts from: whether two runs of a sweep had the same, and whether one changed it."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rankwise.node import code
from rankwise.sweep.case import Case, is_log
from rankwise.sweep.command import Command

# Larger files are told apart by size and time alone: to read them before each sweep takes long.
_MOST_BYTES = 2**26
_MOST_ENTRIES = 10_000
_JOB, _BY_CONTENT = "the code of the job", "sha256 "
# What is written beside a program without being an input: results of jobs and sweeps, and caches.
_NO_INPUTS = {"results", "__pycache__", ".git"}

Stat = tuple[int, int]


@dataclass(frozen=True)
class Inputs:
    """The files that decide what a program computes, as they were before the first run.

    Attributes
    ----------
    known : dict of str to str
        What tells two versions apart, by name: for ``sweep.json``.
    files : dict of str to tuple of Path
        Those behind each name.
    stats : dict of Path to tuple
        Size and time of each.
    """

    known: dict[str, str]
    files: dict[str, tuple[Path, ...]]
    stats: dict[Path, Stat | None]

    @classmethod
    def of(
        cls,
        command: Command,
        ranks: list[int],
        threads: int,
        case: Case | None,
        libraries: Iterable[str],
    ) -> "Inputs":
        """Look at the files that a command names at any rank count, at its case and libraries."""
        named = command.files(case, ranks, threads)
        files: dict[str, tuple[Path, ...]] = {str(path): (path,) for path in named}
        known: dict[str, str] = {}
        if case is not None:
            folder = case.folder.name
            files |= {f"{folder}/{name}": (case.folder / name,) for name in case.all}
            # A file that is new there is an input too.
            known[f"the list of files in {folder}"] = code.digest((), *sorted(case.all))
        files |= {path: (Path(path),) for path in libraries}
        if own := _code(command):
            files[_JOB] = tuple(own)
        known |= {name: _fingerprint(name, paths, libraries) for name, paths in files.items()}
        return cls(known, files, {path: stat(path) for each in files.values() for path in each})

    def only(self, names: Iterable[str]) -> "Inputs":
        """Return those with certain names: what a run has written since is no input."""
        kept = set(names)
        files = {name: paths for name, paths in self.files.items() if name in kept}
        known = {name: text for name, text in self.known.items() if name in kept}
        stats = {path: self.stats[path] for paths in files.values() for path in paths}
        return Inputs(known, files, stats)

    def changed(self) -> list[str]:
        """Return the names of files that are not what they were; a touched one is the same."""
        touched = {path for path, before in self.stats.items() if stat(path) != before}
        names = [name for name, paths in self.files.items() if touched & set(paths)]
        return [name for name in names if self.known[name] != self._again(name)]

    def _again(self, name: str) -> str:
        by_time = [] if self.known[name].startswith(_BY_CONTENT) else [name]
        return _fingerprint(name, self.files[name], by_time)


def differences(earlier: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the names of what a sweep that goes on would find changed."""
    return [name for name, known in earlier.items() if now.get(name) != known]


def _fingerprint(name: str, paths: tuple[Path, ...], by_time: Iterable[str]) -> str:
    """Return what tells two versions of a file, or of some files, apart."""
    try:
        if name == _JOB:
            return _BY_CONTENT + code.digest(paths)
        (path,) = paths
        if name in by_time or path.stat().st_size > _MOST_BYTES:
            return _size_and_time(path)
        with path.open("rb") as file:
            return _BY_CONTENT + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _size_and_time(path: Path) -> str:
    found = stat(path)
    return "absent" if found is None else f"{found[0]} bytes, {found[1]} ns"


def stat(path: Path) -> Stat | None:
    """Return size and time of the last change of a file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _code(command: Command) -> list[Path]:
    """Return the files that a job is made of besides its own."""
    if not command.job or command.script is None:
        return []
    kernels = command.script.resolve().parents[1] / "kernels"
    return [*sorted(kernels.rglob("[!.]*.py")), *code.package_files()]


def snapshot(folder: Path, ours: Path) -> dict[str, Stat]:
    """Return size and time of the files in a folder, two levels deep.

    Parameters
    ----------
    folder : Path
    ours : Path
        The folder of the sweep, which is left out.
    """
    found: dict[str, Stat] = {}
    _look_into(folder, "", 2, ours.resolve(), found)
    return found


def _look_into(folder: Path, prefix: str, levels: int, ours: Path, found: dict[str, Stat]) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if len(found) >= _MOST_ENTRIES or entry.name in _NO_INPUTS:
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                if levels > 1 and Path(entry.path).resolve() != ours:
                    inside = f"{prefix}{entry.name}/"
                    _look_into(Path(entry.path), inside, levels - 1, ours, found)
            elif not is_log(Path(entry.path)):
                status = entry.stat()
                found[prefix + entry.name] = (status.st_size, status.st_mtime_ns)
        except OSError:
            continue


def changes(before: dict[str, Stat], after: dict[str, Stat]) -> list[str]:
    """Return the names of files that are new, gone, or changed between two snapshots."""
    names = set(before) | set(after)
    if max(len(before), len(after)) >= _MOST_ENTRIES:
        # One more or less moves the end.
        names = set(before) & set(after)
    return sorted(name for name in names if before.get(name) != after.get(name))
