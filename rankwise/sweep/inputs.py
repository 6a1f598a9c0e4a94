"""What a run starts from: whether two runs of a sweep had the same, and whether one changed it."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rankwise.node import code
from rankwise.sweep.case import Case
from rankwise.sweep.command import Command

# Larger files are told apart by size and time alone: to read them before each sweep takes long.
_MOST_BYTES = 2**26
_MOST_ENTRIES = 10_000
# What is written beside a program without being an input: results of jobs and sweeps, and caches.
_NO_INPUTS = {"results", "__pycache__", ".git"}

Stat = tuple[int, int]


@dataclass(frozen=True)
class Inputs:
    """The files that decide what a program computes, as they were before the first run.

    Attributes
    ----------
    known : dict of str to str
        What tells two versions of a file apart, by its name: for ``sweep.json``.
    stats : dict of Path to tuple
        Size and time of each.
    """

    known: dict[str, str]
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
        named = {str(path): path for path in command.files(case, ranks, threads)}
        if case is not None:
            named |= {f"{case.folder.name}/{name}": case.folder / name for name in case.all}
        known = {name: _fingerprint(path) for name, path in named.items()}
        loaded = {path: Path(path) for path in libraries}
        known |= {name: _size_and_time(path) for name, path in loaded.items()}
        own = _code(command)
        if own:
            known["code of the job"] = code.digest(own)
        files = [*named.values(), *loaded.values(), *own]
        return cls(known, {path: stat(path) for path in files})

    def changed(self) -> list[str]:
        """Return the names of files whose size or time is not what it was."""
        return [str(path) for path, before in self.stats.items() if stat(path) != before]


def differences(earlier: dict[str, str] | None, now: dict[str, str]) -> list[str]:
    """Return the names of what a sweep that goes on would find changed; none if nobody noted it."""
    return [name for name, known in (earlier or {}).items() if now.get(name) != known]


def _fingerprint(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return _size_and_time(path)
        with path.open("rb") as file:
            return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
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
            else:
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
