"""The program of a sweep: what its command line becomes at each rank count."""

import ast
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scaling.launchers import UsageError, substitute

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
    python : bool
        It is a Python program.
    job : bool
        It is one of this project's jobs, or a copy: it takes their common options.
    growth : Growth, optional
        What ``--weak`` said.
    """

    words: tuple[str, ...]
    name: str
    python: bool
    job: bool
    growth: Growth | None

    @classmethod
    def parse(cls, words: list[str], modes: tuple[str, ...], weak: str | None) -> "Command":
        """Look at the user's command.

        Raises
        ------
        UsageError
            It cannot be swept like that.
        """
        if not words:
            raise UsageError("no command: put it after --, for example -- jobs/sum_squares.py")
        growth = None if weak is None else Growth.parse(weak)
        script = _script(words)
        job = script is not None and _is_job(script)
        if job:
            options = {word.partition("=")[0] for word in words}
            if options & {"--threads", "--weak"}:
                raise UsageError("--threads and --weak go to the sweep, before --, not to the job")
            if "--output" in options and not _any(words, "output"):
                raise UsageError("leave out the job's --output: each run has a record of its own")
        if weak is not None and "weak" not in modes:
            raise UsageError("--weak says how the work grows: it goes with --mode weak or both")
        if growth is not None and not _any(words, growth.name):
            raise UsageError(
                f"--weak {weak!r} and no {{{growth.name}}} in the command to put it in"
            )
        if "weak" in modes and growth is None and not job:
            raise UsageError(
                "this program's work does not grow by itself: for weak scaling write its size as "
                "{n} in the command and say --weak 'n=1000*ranks'; for strong: --mode strong"
            )
        name = Path(script or words[0]).stem
        return cls(tuple(words), name, _is_python(words[0]), job, growth)

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


def _any(words: list[str] | tuple[str, ...], name: str) -> bool:
    return any(f"{{{name}}}" in word for word in words)


def _script(words: list[str]) -> Path | None:
    """Return the Python program that a command runs, with or without naming the interpreter."""
    if words[0].endswith(".py"):
        script = Path(words[0])
        if not script.is_file():
            raise UsageError(f"there is no file {script}")
        return script
    if _is_python(words[0]):
        return next((Path(word) for word in words[1:] if word.endswith(".py")), None)
    return None


def _is_python(word: str) -> bool:
    return word.endswith(".py") or Path(word).name.startswith("python")


def _is_job(script: Path) -> bool:
    """Tell whether a program is launched by `runtime.program`: then it takes `--output` etc."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("runtime", "runtime.program"):
            return True
        if isinstance(node, ast.Import) and any(n.name == "runtime.program" for n in node.names):
            return True
    return False
