"""What a program's command line becomes at each rank count."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from rankwise.sweep.command import Command, Growth
from rankwise.sweep.launchers import UsageError

JOBS = Path(__file__).parents[2] / "jobs"
BOTH = "both"


@pytest.fixture
def job():
    """The path of a job as a user types it."""
    return os.path.relpath(JOBS / "sum_squares.py")


def at(words, mode="strong", ranks=4, weak=None, of="both"):
    command = Command.parse(list(words), of, weak)
    return command.at(mode, ranks, 2, Path("o.h5"))


def test_job_gets_the_common_options(job):
    common = ["--threads", "2", "--output", "o.h5"]
    assert at([job, "--n", "5"]) == [sys.executable, job, "--n", "5", *common]
    common.insert(2, "--weak")
    assert at([job, "--n", "5"], "weak") == [sys.executable, job, "--n", "5", *common]


def test_interpreter_of_the_user_stays(job):
    assert at(["python3", "-u", job])[:3] == ["python3", "-u", job]
    assert Command.parse(["python3", job], BOTH, None).job
    assert Command.parse(["python3", job], BOTH, None).name == "sum_squares"


def test_job_with_its_own_place_for_the_output(job):
    assert at([job, "--output={output}"]) == [
        sys.executable, job, "--output=o.h5", "--threads", "2"
    ]  # fmt: skip


def test_copy_of_a_job_is_a_job(tmp_path):
    copy = tmp_path / "my code.py"
    copy.write_text((JOBS / "sum_squares.py").read_text())
    assert Command.parse([str(copy)], BOTH, None).job


def test_modes_are_what_the_program_can_do(job):
    assert Command.parse([job], None, None).modes == ("strong", "weak")
    assert Command.parse(["p"], None, None).modes == ("strong",)
    assert Command.parse(["p", "{n}"], None, "n=ranks").modes == ("strong", "weak")
    assert Command.parse([job], "weak", None).modes == ("weak",)


def test_only_the_script_itself_is_looked_at(job):
    for words in (
        ["python", "-m", "timeit", job],
        ["python", "-c", "0", job],
        ["python", "a", job],
    ):
        assert not Command.parse(words, "strong", None).job
    assert Command.parse(["python", "-X", "dev", "-u", job], "strong", None).job


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from rankwise.job import Run, launch", True),
        ("from rankwise.job import *", True),
        ("import rankwise.job", True),
        ("import rankwise.job as door", True),
        ("from rankwise import job", True),
        ("def main():\n    from rankwise.job import Run", True),
        ("from rankwise.ranks.start import launch", False),
        ("from rankwise import jobs", False),
        ("import rankwise.jobs", False),
        ("from .rankwise.job import Run", False),
        ("import rankwise", False),
        ("'from rankwise.job import Run'", False),
    ],
)
def test_what_makes_a_job(tmp_path, text, expected):
    program = tmp_path / "p.py"
    program.write_text(text)
    assert Command.parse([str(program)], "strong", None).job is expected


DOOR = "from rankwise.job import Run\n"


@pytest.mark.parametrize(
    ("text", "grows"),
    [
        (DOOR + "run = Run(comm, argv, __file__, __doc__, options, grow='n')", True),
        (DOOR + "run = Run(comm, argv, kernel=k, grow=larger)", True),
        (DOOR + "def main():\n    with Run(comm, grow=lambda a, n: None) as run: pass", True),
        ("import rankwise.job\nrun = rankwise.job.Run(comm, grow='n')", True),
        (DOOR + "run = Run(comm, argv, grow=None)", False),
        (DOOR + "run = Run(comm, argv, __file__)", False),
        (DOOR + "run = other(comm, grow='n')", False),
        (DOOR + "# Run(comm, grow='n')", False),
        ("def Run(**words): pass\nRun(grow='n')", False),
    ],
)
def test_what_grows_by_itself(tmp_path, text, grows):
    program = tmp_path / "p.py"
    program.write_text(text)
    command = Command.parse([str(program)], None, None)
    assert command.grows is grows
    assert command.modes == (("strong", "weak") if grows else ("strong",))


@pytest.fixture
def fixed(tmp_path):
    """The path of a job that has no ``--weak``."""
    program = tmp_path / "fixed.py"
    program.write_text(DOOR + "Run(None, [])\n")
    return str(program)


@pytest.mark.parametrize("mode", ["weak", "both"])
def test_job_that_does_not_grow_is_refused_in_weak_mode(fixed, mode):
    with pytest.raises(UsageError) as refused:
        Command.parse([fixed, "--n", "5"], mode, None)
    said = str(refused.value)
    assert 'grow="n"' in said and "Run(...)" in said
    assert "{n}" in said and "--weak 'n=" in said
    assert "\n" not in said


def test_job_that_does_not_grow_is_swept_in_strong_mode(fixed):
    assert Command.parse([fixed], None, None).modes == ("strong",)
    words = at([fixed, "--n", "5"], of=None)
    assert words == [sys.executable, fixed, "--n", "5", "--threads", "2", "--output", "o.h5"]


@pytest.mark.parametrize("of", [None, "both", "weak"])
def test_size_in_the_command_lets_such_a_job_grow(fixed, of):
    words = at([fixed, "--n={n}"], "weak", 4, "n=10*ranks", of)
    # It has no --weak to be given.
    assert words == [sys.executable, fixed, "--n=40", "--threads", "2", "--output", "o.h5"]
    assert "weak" in Command.parse([fixed, "{n}"], of, "n=ranks").modes


def test_files_that_a_command_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("p.py", "in.1", "in.2", "more.txt", "unnamed"):
        (tmp_path / name).write_text("")

    def names(*words, weak=None):
        command = Command.parse(list(words), None, weak)
        return {str(path) for path in command.files(None, [1, 2], 1)}

    assert names("p.py", "in.{ranks}", "--more=more.txt") >= {"p.py", "in.1", "in.2", "more.txt"}
    assert names("python", "p.py") >= {"p.py"}
    assert names("sh", "-c", "cat unnamed") == {shutil.which("sh")}
    assert names("./none", "in.{n}", weak="n=ranks") == {"in.1"} | {"in.2"}
    assert names("python", "-m", "p") == set()


@pytest.mark.parametrize("text", ["import sys\n", "import numpy\n", "not python at all", "\0"])
def test_foreign_python_program_gets_no_options(tmp_path, text):
    program = tmp_path / "p.py"
    program.write_text(text)
    command = Command.parse([str(program), "-x"], "strong", None)
    assert command.python
    assert command.at("strong", 4, 2, Path("o.h5")) == [sys.executable, str(program), "-x"]


def test_foreign_program_as_it_is():
    words = ["./a b", "{x}", '{"a": 1}', "{}", "$(touch x); {ranksx} {{", "{output}-{ranks}"]
    expected = [*words[:5], "o.h5-4"]
    assert at(words, of="strong") == expected
    assert not Command.parse(words, "strong", None).python


@pytest.mark.parametrize(
    ("formula", "ranks", "expected"),
    [
        ("n=1000*ranks", 8, 8000),
        ("n=1000*ranks**0.5", 2, 1414),
        ("n = (2 + ranks // 3) * 10 - 1", 7, 39),
        ("n=-(-ranks)*1e6/3", 1, 333333),
        ("n=2**ranks", 40, 2**40),
    ],
)
def test_growth(formula, ranks, expected):
    assert Growth.parse(formula)(ranks) == expected
    words = ["p", "--size={n}"]
    assert at(words, "weak", ranks, formula) == ["p", f"--size={expected}"]
    assert at(words, "strong", ranks, formula) == ["p", f"--size={Growth.parse(formula)(1)}"]


@pytest.mark.parametrize(
    "formula",
    [
        *(
            "",
            "n",
            "=3",
            "n=",
            "n=1+",
            "n=x",
            "n=ranks()",
            "n='a'",
            "n=[1]",
            "n=1j",
            "n=ranks.real",
        ),
        *("n=__import__('os')", "n=(lambda: 1)()", "n=0*ranks", "n=-5", "n=1/0", "n=1e999", "2n=3"),
        *(
            "n=9**9**9**9",
            "n=9.**9**9",
            "ranks=5",
            "output=3",
            "n=(-8)**0.5",
            "n=1 if ranks else 2",
        ),
        *("n=" + "(" * 500 + "1" + ")" * 500, "n=" + "-" * 5000 + "1", "n=\0"),
    ],
)
def test_growth_refuses(formula):
    with pytest.raises(UsageError, match="--weak"):
        Growth.parse(formula)


def test_growth_names_the_point_without_a_size():
    growth = Growth.parse("n=10-3*ranks")
    assert growth(3) == 1
    with pytest.raises(UsageError, match="at 4 ranks"):
        growth(4)


@pytest.mark.parametrize(
    ("words", "weak", "message"),
    [
        ([], None, "no command"),
        (["none.py"], None, "no file none.py"),
        (["p"], None, "does not grow by itself"),
        (["mpirun", "-n", "2", "p"], None, "leave out mpirun"),
        (["/usr/bin/srun", "p"], None, "leave out /usr/bin/srun"),
        (["p"], "n=ranks", "no {n} in the command"),
    ],
)
def test_refused(words, weak, message):
    with pytest.raises(UsageError, match=message):
        Command.parse(words, BOTH, weak)


@pytest.mark.parametrize("option", ["--threads=3", "--weak", "--output=x.h5"])
def test_options_that_are_the_sweeps(job, option):
    with pytest.raises(UsageError, match=option.partition("=")[0]):
        Command.parse([job, option], BOTH, None)


def test_weak_formula_without_weak_mode():
    with pytest.raises(UsageError, match="--mode weak or both"):
        Command.parse(["p", "{n}"], "strong", "n=ranks")
