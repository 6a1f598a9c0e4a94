"""The program of a sweep: what its command line becomes at each rank count."""

import ast
import operator
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankwise.sweep import mpi
from rankwise.sweep.case import Case
from rankwise.sweep.launchers import UsageError, substitute

_LAUNCHERS = {"aprun", "flux", "jsrun", "mpiexec", "mpiexec.hydra", "mpirun", "orterun", "prun",
              "prterun", "srun"}  # fmt: skip

# What stands for itself in braces, in any command.
PLACES = ("ranks", "threads", "output", "folder")

_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


@dataclass(frozen=True)
class Growth:
    """How a program's size grows with the ranks: ``n=1000*ranks**0.5``.

    Attributes
    ----------
    text : str
        As it was given.
    name : str
        What is substituted into the command.
    """

    text: str
    name: str
    _tree: ast.expr

    @classmethod
    def parse(cls, text: str) -> "Growth":
        """Read ``name=formula``: numbers, ``ranks``, ``+ - * / // **`` and parentheses.

        Raises
        ------
        UsageError
            It is anything else.
        """
        name, equals, formula = (part.strip() for part in text.partition("="))
        if not equals or not name.isidentifier() or name in PLACES:
            raise UsageError(f"--weak {text!r} is not like 'n=1000*ranks**0.5'")
        try:
            growth = cls(text, name, ast.parse(formula, mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise UsageError(f"--weak: {formula!r} is not a formula") from None
        growth(1)
        return growth

    def __call__(self, ranks: int) -> int:
        """Return the size at a rank count, rounded to the nearest whole number."""
        try:
            value = round(_value(self._tree, ranks))
        except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
            raise UsageError(f"--weak {self.text!r} at {ranks} ranks: {error}") from None
        if value < 1:
            raise UsageError(f"--weak {self.text!r} is {value} at {ranks} ranks")
        return value


def _value(node: ast.expr, ranks: int) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        # In floating point: integers to the power of integers could grow without end.
        return float(node.value)
    if isinstance(node, ast.Name) and node.id == "ranks":
        return float(ranks)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, ranks), _value(node.right, ranks))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.operand, ranks))
    raise ValueError("only numbers, ranks, + - * / // ** and parentheses are understood")


@dataclass(frozen=True)
class Command:
    """The program of a sweep.

    Attributes
    ----------
    words : tuple of str
        As they were given.
    name : str
        Of the program, without folder and ending.
    program : Path, optional
        Its file, if it is here; None for ``python -m``.
    script : Path, optional
        The same, if it is written in Python and named.
    modes : tuple of str
        ``strong``, ``weak``: what is asked for; if nothing is, what the program can do.
    python : bool
        It is a Python program.
    job : bool
        It imports `rankwise.job`, so it takes the options that all jobs have.
    grows : bool
        It is a job whose ``Run(..., grow=...)`` says how its work grows, so it has ``--weak``.
    growth : Growth, optional
        What ``--weak`` said.
    """

    words: tuple[str, ...]
    name: str
    program: Path | None
    script: Path | None
    modes: tuple[str, ...]
    python: bool
    job: bool
    grows: bool
    growth: Growth | None

    @classmethod
    def parse(
        cls, words: list[str], mode: str | None, weak: str | None, case: Case | None = None
    ) -> "Command":
        """Look at the user's command, ``--mode`` and ``--weak``.

        In a copy of a case its files come first, and a program that is here is named in full.

        Raises
        ------
        UsageError
            It cannot be swept like that.
        """
        if not words:
            raise UsageError("no command: put it after --, for example -- jobs/sum_squares.py")
        if Path(first := mpi.started(words)).name in _LAUNCHERS or mpi.is_launcher(first):
            raise UsageError(
                f"leave out {first}: the sweep starts the ranks itself; see --launcher"
            )
        growth = None if weak is None else Growth.parse(weak)
        script = _script(words, case)
        tree = _tree(script)
        job, grows = _is_job(tree), _is_job(tree) and _grows(tree)
        if job:
            _refuse_options_of_the_sweep(words)
        if growth is not None and mode == "strong":
            raise UsageError("--weak says how the work grows: it goes with --mode weak or both")
        if growth is not None and not _any(words, growth.name):
            missing = f"no {{{growth.name}}} in the command to put it in"
            raise UsageError(f"--weak {weak!r} and {missing}")
        # Each rank count has an input of its own.
        by_ranks = not job and mode == "weak" and _any(words, "ranks")
        modes = _modes(mode, grows or growth is not None or by_ranks, job)
        found = None if _is_python(words[0]) else _which(words[0], case)
        program = script or found
        name = Path(script or words[0]).stem
        python = _is_python(words[0])
        return cls(tuple(words), name, program, script, modes, python, job, grows, growth)

    def _in_full(self, word: str) -> str:
        """Return a word for a run elsewhere: the program is the one that is seen from here."""
        here = [path for path in (self.program, self.script) if path and not path.is_absolute()]
        return str(Path(word).absolute()) if Path(word) in here else word

    def files(self, case: Case | None, ranks: list[int], threads: int) -> list[Path]:
        """Return the files here that the command names at any point, its program among them."""
        nowhere = Path("/nonexistent/record.h5")
        points = [(mode, count) for mode in self.modes for count in ranks]
        words = [word for point in points for word in self.at(*point, threads, nowhere)]
        words += [word.partition("=")[2] for word in words]
        named = [Path(word) for word in words if word and not (case and case.has(word))]
        own = [path for path in (self.program, self.script) if path is not None]
        return list(dict.fromkeys(path for path in (*own, *named) if _is_file(path)))

    def at(
        self, mode: str, ranks: int, threads: int, output: Path, folder: Path | None = None
    ) -> list[str]:
        """Return the words to execute for a point, without the launcher.

        Parameters
        ----------
        mode : str
        ranks, threads : int
        output : Path
            Of the record.
        folder : Path, optional
            Of the run; the one that holds the record if it is not given.
        """
        values: dict[str, object] = {"ranks": ranks, "threads": threads, "output": output}
        values["folder"] = output.parent if folder is None else folder
        if self.growth is not None:
            values[self.growth.name] = self.growth(ranks if mode == "weak" else 1)
        words = [substitute(word, values) for word in self.words]
        if folder is not None:
            words = [self._in_full(word) for word in words]
        if words[0].endswith(".py"):
            words.insert(0, sys.executable)
        if self.job:
            words += ["--threads", str(threads)]
            words += ["--weak"] if mode == "weak" and self.growth is None else []
            words += [] if _any(self.words, "output") else ["--output", str(output)]
        return words


def _modes(mode: str | None, grows: bool, job: bool) -> tuple[str, ...]:
    """Return what is swept: what is asked for; if nothing is, what the program can do."""
    if mode in ("weak", "both") and not grows:
        ways = "write its size as {n} in the command and say --weak 'n=1000*ranks'"
        if not job and mode == "weak":
            ways += ", or name an input for each count by {ranks}"
        if job:
            ways = f"""add grow="n" (the option that is its size) to its Run(...), or {ways}"""
        raise UsageError(
            f"this program's work does not grow by itself: for weak scaling {ways}; for strong: "
            "--mode strong"
        )
    if mode == "both" or (mode is None and grows):
        return ("strong", "weak")
    return (mode or "strong",)


def _refuse_options_of_the_sweep(words: list[str]) -> None:
    options = {word.partition("=")[0] for word in words}
    if options & {"--threads", "--weak"}:
        raise UsageError("--threads and --weak go to the sweep, before --, not to the job")
    if "--output" in options and not _any(words, "output"):
        raise UsageError("leave out the job's --output: each launch has a record of its own")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _any(words: list[str] | tuple[str, ...], name: str) -> bool:
    return any(f"{{{name}}}" in word for word in words)


def _which(word: str, case: Case | None) -> Path | None:
    """Return the file of a program, of the case or on the search path."""
    if case is not None and "/" in word and case.has(word):
        return case.folder / word
    found = shutil.which(word)
    return Path(found) if found else None


def _script(words: list[str], case: Case | None) -> Path | None:
    """Return the Python program that a command runs, with or without naming the interpreter."""

    def place(word: str) -> Path:
        return case.folder / word if case is not None and case.has(word) else Path(word)

    if words[0].endswith(".py"):
        script = place(words[0])
        if not script.is_file():
            raise UsageError(f"there is no file {script}")
        return script
    if not _is_python(words[0]):
        return None
    # The interpreter's own options; -c and -m run something else than a file.
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0][:2] not in ("-c", "-m"):
        rest = rest[2:] if rest[0] in ("-W", "-X") else rest[1:]
    return place(rest[0]) if rest and rest[0].endswith(".py") else None


def _is_python(word: str) -> bool:
    return word.endswith(".py") or Path(word).name.startswith("python")


def _tree(script: Path | None) -> ast.Module:
    """Return the syntax tree of a Python program; an empty one if there is none to read."""
    try:
        return ast.parse(script.read_bytes() if script else "")
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.parse("")


def _is_job(tree: ast.Module) -> bool:
    """Tell whether a program imports `rankwise.job`: then it takes ``--output`` and so on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        if any(f"{name}.".startswith("rankwise.job.") for name in names):
            return True
    return False


def _grows(tree: ast.Module) -> bool:
    """Tell whether a job says in its ``Run(..., grow=...)`` how its work grows with the ranks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) == "Run":
            grow = [word.value for word in node.keywords if word.arg == "grow"]
            if grow and not (isinstance(grow[0], ast.Constant) and grow[0].value is None):
                return True
    return False


def _name(function: ast.expr) -> str:
    """Return the last part of the name that is called."""
    return str(getattr(function, "attr", getattr(function, "id", "")))
