"""The code that runs: where it is, its commit, its versions, and a digest that tells two apart."""

import hashlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import rankwise

# With these Git, whatever folder it is called in, means a clone or files of somebody else's choice:
# those of a hook, or of the shell that a program is started in. See git(1) and
# `git rev-parse --local-env-vars`. GIT_CONFIG_* stay: a container may say there which clones are
# safe.
_ELSEWHERE = re.compile(
    r"GIT_(DIR|(IMPLICIT_)?WORK_TREE|INDEX_FILE|COMMON_DIR|NAMESPACE|PREFIX|CEILING_DIRECTORIES"
    r"|(ALTERNATE_)?OBJECT_DIRECTOR(Y|IES)|(SHALLOW|GRAFT)_FILE|\w+_PATHSPECS)"
)


def root() -> Path:
    """Return the folder that holds the kernels of this program; see ``rankwise/__init__.py``."""
    return rankwise.ROOT


def child_environment() -> dict[str, str]:
    """Return the environment of a child ``python -m rankwise...``, which is to run the same code.

    A child that runs a program's file needs none: it finds the code by that file.
    """
    others = os.environ.get("PYTHONPATH")
    path = [str(root()), *([others] if others else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def git_commit(program: Path | None) -> str:
    """Return the commit of the clone, or worktree, that holds a program.

    Parameters
    ----------
    program : Path, optional
        Its file.

    Returns
    -------
    str
        Ends with ``-dirty`` if Python files there differ from it, or are not in it. ``unknown`` if
        there is no such file, or Git cannot be asked, or does not track a file that is no Python.
    """
    if program is None:
        return "unknown"
    # As Python does with a program that is a link.
    program = program.resolve()
    # Python files alone, but all of them: data and records lie about in many clones.
    every = ["--porcelain=v2", "--branch", "--untracked-files=all", "--", ":(top)*.py"]
    names = ["ls-files", "--", f":(literal){program.name}"]
    tracked, lines = _git(program.parent, names, ["status", *every])
    if not tracked and (program.suffix != ".py" or not program.is_file()):
        return "unknown"
    headers = [line for line in lines if line.startswith("# ")]
    commit = headers[0].split()[2] if headers else ""
    # Before the first commit it is "(initial)".
    if not commit.isalnum():
        return "unknown"
    clean = tracked and len(headers) == len(lines)
    return commit if clean else f"{commit}-dirty"


def _git(folder: Path, *commands: list[str]) -> list[list[str]]:
    """Return the lines that Git prints for each command, none if it fails."""
    # Rank 0 alone needs it, and every import counts while all ranks start.
    import subprocess

    kept = {name: x for name, x in os.environ.items() if not _ELSEWHERE.fullmatch(name)}
    answers, asked = [], []
    try:
        # At the same time, since the other ranks wait.
        for words in commands:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            git = ["git", *words]
            asked.append(subprocess.Popen(git, cwd=folder, env=kept, **pipes))  # type: ignore[call-overload]
        for process in asked:
            lines = process.communicate(timeout=10)[0].splitlines()
            answers.append(lines if process.returncode == 0 else [])
    except (OSError, ValueError, subprocess.SubprocessError):
        for process in asked:
            process.kill()
            process.communicate()
        return [[] for _ in commands]
    return answers


def versions(*names: str) -> dict[str, str]:
    """Return the versions of Python and of libraries, as far as this process has imported them."""
    loaded = {name: sys.modules[name].__version__ for name in names if name in sys.modules}
    python = {"python": ".".join(map(str, sys.version_info[:3]))} if "python" in names else {}
    return {**python, **loaded}


def package_files() -> list[Path]:
    """Return the Python files of `rankwise`."""
    return _python_files(Path(__file__).parents[1])


def kernel_files() -> list[Path]:
    """Return the Python files of the kernels of this program."""
    return _python_files(root() / "kernels")


def _python_files(folder: Path) -> list[Path]:
    # Not what editors keep under hidden names, which may be no files at all.
    return sorted(folder.rglob("[!.]*.py"))


def digest(files: Iterable[Path], *words: str) -> str:
    """Return the SHA-256 of words, and of files with their names."""
    whole = hashlib.sha256("\n".join(words).encode())
    for file in files:
        whole.update(f"{file.name}\n".encode())
        whole.update(file.read_bytes())
    return whole.hexdigest()
