import os
import subprocess

import pytest

from rankwise.node import code


@pytest.fixture
def git(tmp_path):
    """A function that calls Git in a repository with one job and one kernel, both committed."""

    def call(*words, cwd=tmp_path):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", *identity, *words]
        done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    for name in ("jobs/job.py", "kernels/one/numpy_.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("1")
    call("init", "--quiet")
    call("add", ".")
    call("commit", "--quiet", "--message", "a")
    return call


def test_commit_is_that_of_the_program(git, tmp_path):
    commit = git("rev-parse", "HEAD")
    assert code.git_commit(tmp_path / "jobs" / "job.py") == commit
    (tmp_path / "jobs" / "data.h5").touch()
    assert code.git_commit(tmp_path / "jobs" / "job.py") == commit


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GIT_DIR", "{other}/.git"),
        ("GIT_DIR", "/none"),
        ("GIT_WORK_TREE", "{other}"),
        ("GIT_INDEX_FILE", "{other}/.git/index"),
        ("GIT_OBJECT_DIRECTORY", "/none"),
        ("GIT_COMMON_DIR", "/none"),
        ("GIT_CEILING_DIRECTORIES", "{here}"),
        ("GIT_LITERAL_PATHSPECS", "1"),
    ],
)
def test_commit_is_that_of_the_program_whatever_git_is_told(
    git, tmp_path, tmp_path_factory, monkeypatch, name, value
):
    # As a hook of another clone tells it, or the shell that a program is started in.
    commit, other = git("rev-parse", "HEAD"), tmp_path_factory.mktemp("other")
    git("init", "--quiet", cwd=other)
    monkeypatch.setenv(name, value.format(other=other, here=tmp_path))
    assert code.git_commit(tmp_path / "jobs" / "job.py") == commit


@pytest.mark.parametrize("change", ["kernels/one/numpy_.py", "new.py", "kernels/two/numpy_.py"])
def test_python_files_that_are_not_in_the_commit_make_it_dirty(git, tmp_path, change):
    # A new folder is seen too, and from another folder than that of the program.
    git("config", "status.showUntrackedFiles", "no")
    (tmp_path / change).parent.mkdir(exist_ok=True)
    (tmp_path / change).write_text("2")
    dirty = f"{git('rev-parse', 'HEAD')}-dirty"
    assert code.git_commit(tmp_path / "jobs" / "job.py") == dirty


def test_a_worktree_has_its_own_commit(git, tmp_path):
    worktree = tmp_path / "results" / "worktree"
    git("worktree", "add", "--quiet", "-b", "other", str(worktree))
    (worktree / "jobs" / "job.py").write_text("2")
    git("commit", "--quiet", "--all", "--message", "b", cwd=worktree)
    commit = git("rev-parse", "other")
    assert commit != git("rev-parse", "HEAD")
    assert code.git_commit(worktree / "jobs" / "job.py") == commit


def test_a_link_to_a_program_stands_for_it(git, tmp_path, tmp_path_factory):
    link = tmp_path_factory.mktemp("elsewhere") / "job.py"
    link.symlink_to(tmp_path / "jobs" / "job.py")
    assert code.git_commit(link) == git("rev-parse", "HEAD")


def test_a_program_that_no_commit_holds_is_a_change(git, tmp_path):
    # Of Python only: what a compiler has made is of no commit at all.
    (tmp_path / ".gitignore").write_text("mine.py\nresults/\n")
    (tmp_path / "results").mkdir()
    for name in ("mine.py", "results/job.py", "jobs/new.py", "jobs/a.out"):
        (tmp_path / name).touch()
        dirty = f"{git('rev-parse', 'HEAD')}-dirty"
        assert code.git_commit(tmp_path / name) == (dirty if name[-3:] == ".py" else "unknown")


def test_commit_is_unknown_where_there_is_no_program_or_git(git, tmp_path, monkeypatch):
    assert code.git_commit(tmp_path / "no" / "job.py") == "unknown"
    assert code.git_commit(None) == "unknown"
    monkeypatch.setenv("PATH", "")
    assert code.git_commit(tmp_path / "jobs" / "job.py") == "unknown"


def test_commit_is_unknown_before_the_first_one(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "job.py").touch()
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    assert code.git_commit(tmp_path / "job.py") == "unknown"


def test_digest_tells_names_contents_and_words_apart(tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("1")
    other.write_text("1")
    digests = {code.digest([one]), code.digest([other]), code.digest([one], "word")}
    one.write_text("2")
    assert len({*digests, code.digest([one]), code.digest([])}) == 5


def test_files_of_every_room_and_kernel_count(tmp_path, monkeypatch):
    names = {path.relative_to(code.root()).as_posix() for path in code.package_files()}
    assert {"rankwise/__init__.py", "rankwise/node/code.py"} <= names
    for name in ("kernels/__init__.py", "kernels/one/numpy_.py", "kernels/one/.#numpy_.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(code, "root", lambda: tmp_path)
    assert [path.name for path in code.kernel_files()] == ["__init__.py", "numpy_.py"]


def test_a_child_gets_the_root_before_what_the_user_has_set(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert code.child_environment() == {**os.environ, "PYTHONPATH": str(code.root())}
    monkeypatch.setenv("PYTHONPATH", "/a:/b")
    assert code.child_environment()["PYTHONPATH"] == f"{code.root()}:/a:/b"
