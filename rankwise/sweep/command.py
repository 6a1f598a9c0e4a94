"""The program of a sweep: what its command line becomes at each rank count."""

import ast
import hashlib
import operator
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankwise.sweep.launchers import UsageError, substitute

_LAUNCHERS = {"aprun", "flux", "jsrun", "mpiexec", "mpiexec.hydra", "mpirun", "orterun", "prun",
              "prterun", "srun"}  # fmt: skip

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
        if not equals or not name.isidentifier() or name in ("ranks", "threads", "output"):
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
    modes: tuple[str, ...]
    python: bool
    job: bool
    grows: bool
    growth: Growth | None

    @classmethod
    def parse(cls, words: list[str], mode: str | None, weak: str | None) -> "Command":
        """Look at the user's command, ``--mode`` and ``--weak``.

        Raises
        ------
        UsageError
            It cannot be swept like that.
        """
        if not words:
            raise UsageError("no command: put it after --, for example -- jobs/sum_squares.py")
        if Path(words[0]).name in _LAUNCHERS:
            raise UsageError(
                f"leave out {words[0]}: the sweep starts the ranks itself; see --launcher"
            )
        growth = None if weak is None else Growth.parse(weak)
        script = _script(words)
        tree = _tree(script)
        job, grows = _is_job(tree), _is_job(tree) and _grows(tree)
        if job:
            _refuse_options_of_the_sweep(words)
        if growth is not None and mode == "strong":
            raise UsageError("--weak says how the work grows: it goes with --mode weak or both")
        if growth is not None and not _any(words, growth.name):
            missing = f"no {{{growth.name}}} in the command to put it in"
            raise UsageError(f"--weak {weak!r} and {missing}")
        modes = _modes(mode, grows or growth is not None, job)
        found = None if _is_python(words[0]) else shutil.which(words[0])
        program = script or (Path(found) if found else None)
        name = Path(script or words[0]).stem
        return cls(tuple(words), name, program, modes, _is_python(words[0]), job, grows, growth)

    def digest(self) -> str:
        """Return the SHA-256 of the program's file, so that an old and a new one are not mixed."""
        if self.program is None or not self.program.is_file():
            return "unknown"
        with self.program.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def at(self, mode: str, ranks: int, threads: int, output: Path) -> list[str]:
        """Return the words to execute for a point, without the launcher."""
        values: dict[str, object] = {"ranks": ranks, "threads": threads, "output": output}
        if self.growth is not None:
            values[self.growth.name] = self.growth(ranks if mode == "weak" else 1)
        words = [substitute(word, values) for word in self.words]
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
        raise UsageError("leave out the job's --output: each run has a record of its own")


def _any(words: list[str] | tuple[str, ...], name: str) -> bool:
    return any(f"{{{name}}}" in word for word in words)


def _script(words: list[str]) -> Path | None:
    """Return the Python program that a command runs, with or without naming the interpreter."""
    if words[0].endswith(".py"):
        script = Path(words[0])
        if not script.is_file():
            raise UsageError(f"there is no file {script}")
        return script
    if not _is_python(words[0]):
        return None
    # The interpreter's own options; -c and -m run something else than a file.
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0][:2] not in ("-c", "-m"):
        rest = rest[2:] if rest[0] in ("-W", "-X") else rest[1:]
    return Path(rest[0]) if rest and rest[0].endswith(".py") else None


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
