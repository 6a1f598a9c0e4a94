"""The command `rankwise`: its help, what it imports, and the subcommands that are short."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.analysis import examples

ROOT = Path(__file__).parents[2]
COMMANDS = ("sweep", "import", "report", "compare", "show", "templates")
TEMPLATES = sorted((ROOT / "slurm").glob("*.sh"))


@pytest.fixture
def process(tmp_path):
    """Return a function that runs ``rankwise ...`` in a folder and in a process of its own."""

    def run(*words, before=("-m", "rankwise")):
        return subprocess.run(
            [sys.executable, *before, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
        )

    return run


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids="-".join)
def test_help_has_examples(rankwise, command):
    done = rankwise(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {' '.join(('rankwise', *command))} [")
    examples = re.split(r"^examples?:$", done.stdout, flags=re.MULTILINE)[1]
    assert f"\n  {' '.join(('rankwise', *command))} " in examples
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_help_names_every_command(rankwise):
    said = rankwise("--help").stdout
    assert all(re.search(rf"^ +{name}\b", said, re.MULTILINE) for name in COMMANDS)


def test_version(rankwise):
    done = rankwise("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"rankwise \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output_is_one_error(words, unbuffered):
    command = [sys.executable, "-m", "rankwise", *words]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    said = "rankwise: error: cannot write to standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_without_docstrings_it_works_as_ever(process):
    done = process("sweep", "--help", before=("-OO", "-m", "rankwise"))
    assert (done.returncode, done.stdout) == (0, process("sweep", "--help").stdout)


def test_installed_command_is_the_same(process):
    words = [Path(sys.executable).parent / "rankwise", "show", "none.h5"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, process("show", "none.h5").stderr)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage: rankwise "),
        (["swep"], "rankwise: error: argument COMMAND: invalid choice: 'swep'"),
        (["import"], "rankwise import: error: the following arguments are required: TIMES.csv"),
        (["report"], "rankwise report: error: the following arguments are required: FOLDER"),
        (["report", "a", "b"], "rankwise: error: unrecognized arguments: b"),
        (["report", "none"], "none"),
        (["compare", "a"], "rankwise compare: error: the following arguments are required: B"),
        (["compare", "none", "b"], "rankwise compare: error: none: No such file or directory"),
        (["show", "none.h5"], "rankwise show: error: "),
        (["templates"], "rankwise templates: error: the following arguments are required: FOLDER"),
    ],
)
def test_mistakes(rankwise, words, message):
    done = rankwise(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


ASK = """
import sys
from rankwise.__main__ import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
names = ("h5py", "jinja2", "matplotlib", "mpi4py.MPI", "numba", "numpy", "rankwise.analysis",
         "rankwise.report", "rankwise.sweep.sweep", "scipy")
print("imports", status, *(name for name in names if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--version"], ""),
        (["templates", "there"], ""),
        (["import", "none.csv"], "h5py numpy"),
        (["show", "none.h5"], "h5py numpy rankwise.report"),
        (["compare", "--help"], "rankwise.report"),
        (
            ["sweep", "--dry-run", "--ranks", "1", "--", "true"],
            # The options of a report, which a sweep takes too.
            "h5py numpy rankwise.report rankwise.sweep.sweep",
        ),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_subcommand_imports_its_own_rooms_only(process, words, expected):
    shown = process(*words, before=("-c", ASK)).stdout.splitlines()[-1].split()
    assert shown[0] == "imports"
    assert set(shown[2:]) <= set(expected.split())


def test_package_alone_imports_nothing(process):
    script = "import sys; before = set(sys.modules); import rankwise\n"
    script += "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    imported = set(process(before=("-c", script)).stdout.split())
    assert "rankwise" in imported
    assert not imported & {"h5py", "jinja2", "matplotlib", "mpi4py", "numba", "numpy", "scipy"}


@pytest.mark.parametrize("words", [["sweep", "--", "true"], ["report", "."]], ids=lambda w: w[0])
def test_libraries_are_looked_for_before_anything_runs(process, tmp_path, words):
    hide = "import sys, importlib.util as u; find = u.find_spec\n"
    hide += "u.find_spec = lambda name: None if name in ('scipy', 'jinja2') else find(name)\n"
    hide += "from rankwise.__main__ import run; run()"
    done = process(*words, before=("-c", hide))
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("rankwise: error: no jinja2, scipy: ")
    assert said.endswith("make run, or pip install -e .")
    assert list(tmp_path.iterdir()) == []


def test_other_programs_need_no_mpi_for_python(process, tmp_path):
    """What the base install brings sweeps a program, and reports."""
    hide = "import sys; sys.modules.update(dict.fromkeys(['mpi4py', 'numba', 'llvmlite']))\n"
    hide += "from rankwise.__main__ import run; run()"
    words = ["--ranks", "1,2", "--launches", "1", "--folder", "s", "--report", "--", "true"]
    done = process("sweep", *words, before=("-c", hide))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "s" / "report.html").exists()


def test_show(rankwise, tmp_path):
    examples.write_limit(tmp_path / "p.h5")
    done = rankwise("show", "p.h5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo on 1 rank, 1 node" in done.stdout
    facts = json.loads(rankwise("show", "p.h5", "--json").stdout)
    assert (facts["job"], facts["record"]) == ("demo", "p.h5")


def test_templates_are_those_of_the_clone(rankwise, tmp_path):
    done = rankwise("templates", "new/slurm")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"new/slurm/{path.name}" for path in TEMPLATES]
    written = sorted((tmp_path / "new" / "slurm").iterdir())
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in TEMPLATES]
    modes = [[os.access(path, os.X_OK) for path in paths] for paths in (written, TEMPLATES)]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("name", ["env.sh", "scaling_nodes.sh"])
def test_templates_replace_nothing(rankwise, tmp_path, name):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / name).write_text("mine")
    done = rankwise("templates", "slurm")
    assert (done.returncode, done.stdout) == (2, "")
    said = f"slurm/{name}: it is there already, and no file is replaced"
    assert done.stderr == f"rankwise templates: error: {said}\n"
    assert [path.read_text() for path in (tmp_path / "slurm").iterdir()] == ["mine"]


@pytest.mark.parametrize("folder", ["file", "file/slurm"])
def test_templates_into_no_folder(rankwise, tmp_path, folder):
    (tmp_path / "file").touch()
    done = rankwise("templates", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"rankwise templates: error: {folder}: [\w ]+\n", done.stderr)
