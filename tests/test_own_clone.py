"""The code that runs is the code beside the program, whichever clone the environment is of."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rankwise.disk import record
from tests.copies import copy_clone

ROOT = Path(__file__).resolve().parent.parent

INSTALLED = Path(sys.executable).parent / "rankwise"

# A program that says whose code it runs.
WHOSE = """\
import rankwise.node.code
import json, os, subprocess, sys
import kernels
import rankwise

child = [sys.executable, "-P", "-c", "import rankwise; print(rankwise.__file__)"]
environment = rankwise.node.code.child_environment()
its = subprocess.run(child, env=environment, capture_output=True, text=True, check=True).stdout
files = [kernels.__file__, rankwise.__file__, rankwise.node.code.__file__, its.strip()]
print(json.dumps([str(rankwise.node.code.root()), *files]))
"""
# What the environment may bring under that name: a package of somebody else's.
STRANGER = "raise RuntimeError('kernels of a stranger')"


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", folder, *identity, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def commit(folder):
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "a")
    return git(folder, "rev-parse", "HEAD").strip()


@pytest.fixture
def second(tmp_path):
    """A second clone, without an environment of its own, which has a job `jobs/whose.py` more."""
    clone = copy_clone(tmp_path / "second")
    write(clone / "jobs" / "whose.py", WHOSE)
    git(tmp_path, "init", "--quiet", clone)
    return clone


@pytest.fixture
def stranger(tmp_path):
    """A folder like that of installed packages, with a stranger's `kernels`."""
    write(tmp_path / "packages" / "kernels" / "__init__.py", STRANGER)
    return tmp_path / "packages"


def whose(done):
    """Return the root, and the folders of kernels, rankwise, a room of it, and a child's."""
    assert done.returncode == 0, done.stderr
    root, *files = map(Path, json.loads(done.stdout.splitlines()[-1]))
    return root, *(path.parents[1] for path in files[:2]), files[2].parents[2], files[3].parents[1]


@pytest.mark.parametrize("before", ["nothing", "first clone", "stranger"])
def test_a_job_runs_its_own_clone(start, second, stranger, before):
    path = {"nothing": "", "first clone": str(ROOT), "stranger": str(stranger)}[before]
    done = start(None, second / "jobs" / "whose.py", env={"PYTHONPATH": path})
    assert whose(done) == (second,) * 5


@pytest.mark.parametrize(
    "name", ["benchmarks/whose.py", "tests/failures/whose.py", "whose.py", "folder/__main__.py"]
)
def test_so_does_any_program_of_the_clone(start, second, name):
    program = write(second / name, WHOSE)
    # Python runs a folder by its __main__.py.
    program = program.parent if program.stem == "__main__" else program
    assert whose(start(None, program)) == (second,) * 5


def test_so_does_a_job_under_another_program(start, second):
    # It sets the name of the main program, as profilers and debuggers do.
    done = start(None, "-m", "mpi4py", second / "jobs" / "whose.py")
    assert whose(done) == (second,) * 5


def test_a_link_to_a_job_is_the_job(start, second, tmp_path):
    write(tmp_path / "kernels" / "__init__.py", STRANGER)
    (tmp_path / "link.py").symlink_to(second / "jobs" / "whose.py")
    assert whose(start(None, tmp_path / "link.py")) == (second,) * 5


def test_the_kernel_of_the_second_clone_is_reached(start, second):
    write(second / "kernels" / "sum_squares" / "numpy_.py", "raise SystemExit('second clone')")
    job = [second / "jobs" / "sum_squares.py", "--variant", "numpy", "--n", "1000"]
    for path in ("", str(ROOT)):
        done = start(2, *job, env={"PYTHONPATH": path})
        assert done.returncode != 0 and "second clone" in done.stderr


def test_a_worktree_has_its_own_commit_in_the_record(start, second, tmp_path):
    first = commit(second)
    git(second, "worktree", "add", "--quiet", "-b", "other", tmp_path / "worktree")
    write(tmp_path / "worktree" / "jobs" / "new.py", "")
    own = commit(tmp_path / "worktree")
    for name, expected in {"worktree": own, "second": first}.items():
        job = [tmp_path / name / "jobs" / "sum_squares.py", "--variant", "numpy", "--n", "1000"]
        done = start(2, *job, "--output", f"{name}.h5")
        assert done.returncode == 0, done.stderr
        assert record.read(tmp_path / f"{name}.h5").attributes["git"] == expected


@pytest.mark.parametrize("folder", [".", "jobs"])
def test_an_installed_package_runs_the_kernels_beside_the_job(start, stranger, tmp_path, folder):
    # As a wheel would be: no clone, and nothing but a path says where the package is.
    shutil.copytree(ROOT / "rankwise", stranger / "rankwise")
    work = tmp_path / "work"
    write(work / "kernels" / "__init__.py", "")
    job = write(work / folder / "my_job.py", WHOSE)
    # -S: without the packages of this environment, the first clone among them.
    done = start(None, "-S", job, env={"PYTHONPATH": str(stranger)})
    assert whose(done) == (work, work, stranger, stranger, stranger)


def test_a_clone_replaces_an_installed_package(start, second, stranger):
    shutil.copytree(ROOT / "rankwise", stranger / "rankwise")
    done = start(None, "-S", second / "jobs" / "whose.py", env={"PYTHONPATH": str(stranger)})
    assert whose(done) == (second,) * 5


def test_a_folder_open_to_all_is_no_clone(start, tmp_path):
    # Like /tmp: what lies there may be anybody's.
    write(tmp_path / "all" / "kernels" / "__init__.py", STRANGER)
    write(tmp_path / "all" / "rankwise" / "__init__.py", STRANGER)
    (tmp_path / "all").chmod(0o1777)
    job = write(tmp_path / "all" / "mine" / "job.py", "import rankwise; print(rankwise.__file__)")
    done = start(None, job)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stdout


def test_a_module_is_found_by_pythons_own_path(start, stranger, tmp_path):
    write(stranger / "tool.py", "import rankwise, sys; print(sys.path[0])")
    done = start(None, "-m", "tool", env={"PYTHONPATH": str(stranger)})
    assert done.stdout == f"{tmp_path}\n", done.stderr


def test_a_program_of_an_environment_is_no_job_of_the_clone_that_holds_it(second):
    venv = second / ".venv"
    pytest_ = write(venv / "bin" / "pytest", "import rankwise; print(rankwise.__file__)")
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", venv)
    command = [venv / "bin" / "python", pytest_]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert str(second) not in done.stdout


COMMAND = "import sys\ndef run(): print('second', sys.argv[1])\nif __name__ == '__main__': run()\n"


@pytest.mark.parametrize(
    "command", [["-m", "rankwise"], [Path(sys.executable).parent / "rankwise"]]
)
def test_the_command_is_that_of_the_program_it_starts(start, second, command):
    write(second / "rankwise" / "__main__.py", COMMAND)
    done = start(None, *command, "sweep", "--dry-run", "--", second / "jobs" / "whose.py")
    assert (done.stdout, done.stderr) == ("second sweep\n", "")
    # Options of the command are none.
    done = start(None, *command, "sweep", second / "jobs" / "whose.py")
    assert done.returncode == 2 and "second" not in done.stdout


def test_to_read_data_runs_no_code_that_lies_beside_them(start, second):
    write(second / "rankwise" / "__main__.py", COMMAND)
    done = start(None, INSTALLED, "report", "results", cwd=second)
    assert done.returncode == 2 and "second" not in done.stdout


def test_a_sweep_runs_the_second_clone(start, second, tmp_path):
    script = f"import rankwise, kernels, sys\nsys.exit({str(second)!r} not in kernels.__file__)"
    job = write(second / "jobs" / "own.py", script)
    own = commit(second)
    options = ["--ranks", "2", "--launches", "1", "--mode", "strong", "--folder", "sweep"]
    done = start(None, INSTALLED, "sweep", *options, "--", job)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["git"] == own


def test_two_clones_share_no_compiled_kernel(start, second, tmp_path):
    script = "from rankwise.node import compilation; print(compilation._code_digest())"
    write(second / "jobs" / "digest.py", script)
    # The same contents, with the same times.
    shutil.copytree(second, tmp_path / "third")
    clones = (second, second, tmp_path / "third")
    digests = [start(None, clone / "jobs" / "digest.py").stdout for clone in clones]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("profiler", ["cProfile", "trace --listfuncs", "pdb -c continue"])
def test_a_job_under_a_profiler_is_of_its_own_clone(second, tmp_path, profiler):
    module, *options = profiler.split()
    command = [sys.executable, "-m", module, *options, second / "jobs" / "whose.py"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("["))
    assert set(json.loads(line)[1:]) == {
        str(second / name)
        for name in ("kernels/__init__.py", "rankwise/__init__.py", "rankwise/node/code.py")
    }


def test_no_file_that_the_swept_program_is_given_says_what_code_runs(start, second):
    (second / "rankwise" / "__init__.py").write_text("raise SystemExit('code beside data')")
    data = write(second / "jobs" / "data.py", "")
    command = ["sweep", "--dry-run", "--ranks", "1", "--", "/bin/echo", data]
    done = subprocess.run([INSTALLED, *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_kernels_far_above_a_program_are_not_its_own(second, stranger):
    program = write(second / "a" / "b" / "c" / "plot.py", WHOSE)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert str(second) not in done.stdout
