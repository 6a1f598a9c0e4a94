"""Which MPI a program wants, and which one a launcher starts programs for.

The libraries of Open MPI, and those of MPICH and its relatives (Intel, Cray, MVAPICH), which share
one binary interface, do not know each other's launchers: each rank is then the only one of a world
of its own, and the whole program runs once a rank.
"""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

OPEN_MPI, MPICH = "Open MPI", "MPICH"
# MPICH's own launcher, whose options its relatives do not all have.
HYDRA = "HYDRA"
_FAMILIES = {
    OPEN_MPI: re.compile(r"^libmpi(_\w+)?\.so\.[2-9]\d(\.|$)"),
    MPICH: re.compile(r"^libmpi(ch)?(_\w+)?\.so\.1\d(\.|$)"),
}
# What each gives to the processes that it starts. Other variables of Open MPI are its users'.
GIVEN = {
    OPEN_MPI: re.compile(r"(PMIX_(NAMESPACE|RANK)|OMPI_COMM_WORLD_SIZE)$"),
    MPICH: re.compile(r"PMIX?_"),
}
# With the number of a rank, in either family.
NUMBERS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
# Slurm's own libraries find what they need without such variables.
_SLURM_PMI = re.compile(r"^libpmi2?\.so")
_RELATIVES = "MPICH or one of its relatives (Intel, Cray, MVAPICH)"
# They start the word after their own options.
_WRAPPERS = {"chrt", "env", "ionice", "nice", "numactl", "perf", "setarch", "stdbuf", "taskset",
             "time", "timeout"}  # fmt: skip
_LAUNCHERS = re.compile(
    r"(mpirun|mpiexec|orterun|prterun)([._-](hydra|intel|mpich\d?|mvapich\d?|openmpi))?"
)
# Names of files are bytes.
_ANY = "surrogateescape"
_LOADED = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
MPI.Get_library_version()
print(*{line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps") if "libmpi" in line},
      sep="\\n")
"""


@dataclass(frozen=True)
class Linked:
    """What a program is linked to, as far as it can be seen without starting it.

    Attributes
    ----------
    program : str
        For messages: ``lmp``, or the Python that runs a script.
    family : str or None
        ``Open MPI`` or ``MPICH``; None if nothing is known.
    library : str
        Its file; empty if nothing is known.
    libraries : tuple of str
        Files of all libraries.
    beside : Path or None
        Where a launcher of the same installation may be.
    sure : bool
        Whether it surely uses that MPI; a Python program need not import what is there.
    own_way : bool
        It finds its ranks without variables, by a library of Slurm or of the site.
    """

    program: str = ""
    family: str | None = None
    library: str = ""
    libraries: tuple[str, ...] = ()
    beside: Path | None = None
    sure: bool = False
    own_way: bool = False


def family_of(library: str) -> str | None:
    """Return the family of an MPI library by the name of its file; None if it is none."""
    name = library.rpartition("/")[2]
    return next((family for family, names in _FAMILIES.items() if names.match(name)), None)


def is_mpi(library: str) -> bool:
    """Whether a file is a library of MPI, also one that may belong to either family."""
    return family_of(library) is not None or "/libmpi_abi.so" in library


def given(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which launchers tell a process which rank it is."""
    of_either = GIVEN.values()
    return {k: v for k, v in variables.items() if any(names.match(k) for names in of_either)}


def described(family: str | None) -> str:
    """Return a family in words."""
    return _RELATIVES if family == MPICH else str(family)


def linked(words: Sequence[str], program: Path | None, script: Path | None) -> Linked:
    """Look at a program: the libraries of a binary, or what its Python loads.

    Parameters
    ----------
    words : sequence of str
        Its command.
    program, script : Path, optional
        Its file; the Python program that it runs.
    """
    interpreter = _interpreter(words, program)
    if interpreter is not None:
        return _of_python(interpreter, script)
    program = _binary(words, program)
    if program is None:
        return Linked()
    libraries = _ldd(program)
    names = [path.rpartition("/")[2] for path in libraries]
    library = next((path for path in libraries if family_of(path)), "")
    own_way = any(map(_SLURM_PMI.match, names)) or "I_MPI_PMI_LIBRARY" in os.environ
    found = Linked(program.name, family_of(library), library, tuple(libraries))
    return replace(found, sure=bool(library), own_way=own_way)


def _interpreter(words: Sequence[str], program: Path | None) -> str | None:
    """Return the Python that runs a command, if that is what runs it."""
    if words[0].endswith(".py"):
        return sys.executable
    if Path(words[0]).name.startswith("python"):
        return shutil.which(words[0])
    if program is None:
        return None
    try:
        with program.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return None
    hashbang = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    if hashbang and hashbang[0].endswith("/env"):
        hashbang = [word for word in hashbang[1:] if word[0] != "-"]
    if not hashbang or not Path(hashbang[0]).name.startswith("python"):
        return None
    return shutil.which(hashbang[0])


def _of_python(interpreter: str, script: Path | None) -> Linked:
    nothing = Linked(interpreter, beside=Path(interpreter).parent)
    imported = None if script is None else _imports(script)
    if imported is not None and not imported - sys.stdlib_module_names:
        return nothing
    try:
        done = subprocess.run(
            [interpreter, "-c", _LOADED], capture_output=True, text=True, timeout=60, errors=_ANY
        )
    except (OSError, subprocess.SubprocessError):
        return nothing
    for library in sorted(done.stdout.split("\n")):
        if family := family_of(library):
            sure = bool((imported or set()) & {"mpi4py", "rankwise"})
            own_way = "I_MPI_PMI_LIBRARY" in os.environ
            name = f"the mpi4py of {interpreter}"
            return Linked(name, family, library, (library,), nothing.beside, sure, own_way)
    return nothing


def _imports(script: Path) -> set[str] | None:
    """Return the packages that a Python program imports itself; None if it cannot be read."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    froms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    names += [node.module or "." for node in froms]
    return {name.partition(".")[0] for name in names}


def started(words: Sequence[str]) -> str:
    """Return the word of a command that is the program, also behind `env`, `numactl` and so on."""
    rest = list(words)
    if Path(rest[0]).name == "perf":
        rest = [rest[0], *rest[2:]]
    if Path(rest[0]).name not in _WRAPPERS:
        return rest[0]
    for k, word in enumerate(rest[1:], 1):
        if word[:1] != "-" and "=" not in word and (is_launcher(word) or shutil.which(word)):
            return started(rest[k:])
    return rest[0]


def _binary(words: Sequence[str], program: Path | None) -> Path | None:
    """Return the file of the program that a command starts."""
    word = started(words)
    if word == words[0]:
        return program
    found = shutil.which(word)
    return Path(found) if found else program


def _ldd(program: Path) -> list[str]:
    """Return the files of the libraries of a binary; none of what is none, or is static."""
    try:
        done = subprocess.run(
            ["ldd", program], capture_output=True, text=True, timeout=60, errors=_ANY
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"=> (/\S+)", done.stdout)


@functools.cache
def banner(launcher: str) -> str:
    """Return what a launcher says of itself.

    Raises
    ------
    OSError, subprocess.TimeoutExpired
        It cannot be asked.
    """
    words = [launcher, "--version"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, errors=_ANY)
    return done.stdout + done.stderr


def family_of_launcher(path: str) -> str | None:
    """Return the MPI that a launcher belongs to; None if it is not known. Raises as `banner`."""
    said = banner(path)
    if any(name in said for name in ("Open MPI", "OpenRTE", "PRRTE", "prterun")):
        return OPEN_MPI
    if any(name in said for name in (HYDRA, "Intel(R) MPI", "MVAPICH")):
        return MPICH
    return None


def launchers_on_path(linked: Linked) -> list[str]:
    """Return the launchers of MPI that are on the search path, best first, ours at last."""
    beside = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    folders = [str(linked.beside)] if linked.beside else []
    folders += [*path.split(os.pathsep), beside]
    names = ("mpirun", "mpirun.openmpi", "mpirun.mpich", "mpiexec", "mpiexec.hydra")
    found = [shutil.which(name, path=folder) for name in names for folder in folders if folder]
    return list(dict.fromkeys(path for path in found if path))


def is_launcher(word: str) -> bool:
    """Whether a word is the name of a launcher that can be asked what it belongs to."""
    return _LAUNCHERS.fullmatch(Path(word).name) is not None


def mismatch(linked: Linked, launcher: str, family: str | None) -> str:
    """Say that a launcher is of another MPI than the program; empty if it is not known to be."""
    if not linked.sure or linked.family in (None, family) or family is None:
        return ""
    return (
        f"{linked.program} is linked to {described(linked.family)} ({linked.library}), and "
        f"{launcher} belongs to {described(family)}: every rank would run the whole program by "
        f"itself; {cure(linked.family)}, or say --copies if that is meant"
    )


def cure(family: str) -> str:
    """Say how to start programs of a family of MPI."""
    for path in launchers_on_path(Linked()):
        with suppress(OSError, subprocess.TimeoutExpired):
            if family_of_launcher(path) == family:
                return f"say --launcher '{path} -n {{ranks}}'"
    return f"name a launcher of {family} with --launcher"
