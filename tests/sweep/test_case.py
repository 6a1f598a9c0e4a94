"""A folder for every run, and what runs start from."""

import fcntl
import os
from pathlib import Path

import pytest

from rankwise.sweep import case as cases
from rankwise.sweep import inputs
from rankwise.sweep.case import Case
from rankwise.sweep.command import Command
from rankwise.sweep.inputs import Inputs, differences
from rankwise.sweep.launchers import UsageError


@pytest.fixture
def folder(tmp_path):
    """A case with folders, a link to a file outside, and a large input."""
    whole = tmp_path / "lj"
    (whole / "empty" / "deep").mkdir(parents=True)
    (whole / "data").mkdir()
    (whole / "in.lj").write_text("run 100\n")
    (whole / "data" / "large.bin").write_bytes(b"x" * 1000)
    (tmp_path / "outside").write_text("theirs")
    (whole / "potential").symlink_to("../outside")
    (whole / "run.sh").write_text("#!/bin/sh\n")
    (whole / "run.sh").chmod(0o755)
    return whole


def test_copy(folder, tmp_path):
    case = Case.parse(folder, [], False, None)
    assert case.octets == 8 + 1000 + 6 + 10
    case.copy(tmp_path / "copy")
    names = {str(p.relative_to(folder)) for p in folder.rglob("*")}
    assert {str(p.relative_to(tmp_path / "copy")) for p in (tmp_path / "copy").rglob("*")} == names
    assert os.access(tmp_path / "copy" / "run.sh", os.X_OK)
    # Nothing that is written there reaches an original: neither hard links nor symbolic ones.
    for path in (tmp_path / "copy").rglob("*"):
        assert not path.is_symlink()
        if path.is_file():
            path.write_text("changed")
    assert (folder / "in.lj").read_text() == "run 100\n"
    assert (tmp_path / "outside").read_text() == "theirs"


def test_blocks_are_shared_where_the_file_system_can(folder, tmp_path, monkeypatch):
    asked = []

    def clone(new, request, old):
        asked.append(request)
        os.write(new.fileno(), os.pread(old, 10**6, 0))

    monkeypatch.setattr(fcntl, "ioctl", clone)
    monkeypatch.setattr(cases.shutil, "copy2", None)
    Case.parse(folder, [], False, None).copy(tmp_path / "copy")
    # FICLONE of linux/fs.h: _IOW(0x94, 9, int)
    assert set(asked) == {(1 << 30) | (4 << 16) | (0x94 << 8) | 9}
    assert (tmp_path / "copy" / "data" / "large.bin").read_bytes() == b"x" * 1000


@pytest.mark.parametrize("glob", ["*.bin", "data/large.bin", "data", "data/", "dat*"])
def test_links(folder, tmp_path, glob):
    case = Case.parse(folder, [glob], False, None)
    assert case.links == ("data/large.bin",)
    assert case.octets == 8 + 6 + 10
    case.copy(tmp_path / "copy")
    link = tmp_path / "copy" / "data" / "large.bin"
    assert link.is_symlink() and link.resolve() == folder / "data" / "large.bin"


def test_our_results_in_a_case_are_left_out(folder, tmp_path, monkeypatch):
    (folder / "data" / "results").mkdir()
    (folder / "data" / "results" / "theirs").touch()
    (folder / "results" / "s").mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "mine").mkdir()
    (folder / "mine" / "sweep.json").touch()
    case = Case.parse(folder, [], False, folder / "mine")
    found = [name for name in case.all if "results" in name or "mine" in name]
    assert found == ["data/results/theirs"]


def test_folders_that_cannot_be_copied(folder, tmp_path):
    with pytest.raises(UsageError, match="is no folder"):
        Case.parse(tmp_path / "none", [], False, None)
    with pytest.raises(UsageError, match=r"--link '\*\.none' is no file in"):
        Case.parse(folder, ["*.none"], False, None)
    os.mkfifo(folder / "pipe")
    with pytest.raises(UsageError, match="pipe: neither a file nor a folder"):
        Case.parse(folder, [], False, None)
    (folder / "pipe").unlink()
    (folder / "data" / "up").symlink_to("..")
    with pytest.raises(UsageError, match="data/up: a link to a folder around it"):
        Case.parse(folder, [], False, None)


def test_room_is_looked_for_first(folder, tmp_path, monkeypatch):
    case = Case.parse(folder, [], False, None)
    case.refuse_no_room(tmp_path / "not" / "yet", 10)
    monkeypatch.setattr(cases.shutil, "disk_usage", lambda path: type("D", (), {"free": 5000}))
    case.refuse_no_room(tmp_path, 4)
    with pytest.raises(UsageError, match=r"5 copies of .*lj take 5.12e-06 GB and .* has 5e-06 GB"):
        case.refuse_no_room(tmp_path, 5)


def test_program_of_the_case_and_of_here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prog").write_text("#!/bin/sh\n")
    (tmp_path / "prog").chmod(0o755)
    (tmp_path / "p.py").write_text("")
    case = Case.parse(Path("lj"), [], False, None)

    def at(*words):
        command = Command.parse(list(words), None, None, case)
        return command.at("strong", 1, 1, Path("/r/record.h5"), Path("/r/case"))

    # What the copy has is taken from there, what it lacks is named in full.
    assert at("./run.sh", "in.lj") == ["./run.sh", "in.lj"]
    assert at("./prog", "in.lj") == [str(tmp_path / "prog"), "in.lj"]
    assert at("python", "p.py", "{folder}") == ["python", str(tmp_path / "p.py"), "/r/case"]


def inputs_of(tmp_path, *words, case=None, libraries=()):
    command = Command.parse(list(words), None, None, case)
    return Inputs.of(command, [1, 2], 1, case, libraries)


def test_inputs_are_told_apart_by_their_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run.sh", "in.txt", "lib.so"):
        Path(name).write_text("1")
    library = str(tmp_path / "lib.so")
    first = inputs_of(tmp_path, "sh", "run.sh", "--in=in.txt", libraries=[library])
    assert first.known["run.sh"].startswith("sha256 ")
    assert first.known[library].startswith("1 bytes, ")
    assert first.changed() == []
    # Touched, and still the same; but a library is told by its time.
    for name in ("run.sh", "lib.so"):
        os.utime(name, ns=(1, 1))
    assert first.changed() == [library]
    again = inputs_of(tmp_path, "sh", "run.sh", "--in=in.txt", libraries=[library])
    assert differences(first.known, again.known) == [library]
    Path("in.txt").write_text("2")
    assert first.changed() == ["in.txt", library]
    # What a run has written since the sweep began is no input of it.
    assert first.only(["run.sh"]).changed() == []
    again = inputs_of(tmp_path, "sh", "run.sh", "--in=in.txt", libraries=[library])
    assert differences(first.known, again.known) == ["in.txt", library]
    Path("in.txt").unlink()
    assert "in.txt" in differences(first.known, inputs_of(tmp_path, "sh", "run.sh").known)
    # What appears later was no input.
    assert differences({}, again.known) == []


def test_large_inputs_are_told_by_size_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "_MOST_BYTES", 3)
    Path("big").write_text("1234")
    assert inputs_of(tmp_path, "cat", "big").known["big"].startswith("4 bytes, ")


def test_every_file_of_a_case_counts(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = Case.parse(folder, ["*.bin"], False, None)
    known = inputs_of(tmp_path, "lmp", "-in", "in.lj", case=case).known
    named = {"in.lj", "data/large.bin", "potential", "run.sh"}
    assert {f"lj/{name}" for name in named} <= set(known)
    # A new one, such as a restart file, is an input of the next run.
    (folder / "restart").touch()
    case = Case.parse(folder, ["*.bin"], False, None)
    again = inputs_of(tmp_path, "lmp", "-in", "in.lj", case=case).known
    assert differences(known, again) == ["the list of files in lj"]


def test_the_kernels_of_a_job_count(tmp_path):
    for name in ("jobs/j.py", "kernels/k/numba_.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("import rankwise.job\n")
    job = str(tmp_path / "jobs" / "j.py")
    first = inputs_of(tmp_path, job)
    (tmp_path / "kernels" / "k" / "numba_.py").write_text("x = 1\n")
    assert differences(first.known, inputs_of(tmp_path, job).known) == ["the code of the job"]


def test_what_a_run_leaves_behind(tmp_path, monkeypatch):
    for name in ("a", "sub/b", "sub/deep/c", "results/r", "sub/__pycache__/x", "ours/sweep.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    before = inputs.snapshot(tmp_path, tmp_path / "ours")
    assert set(before) == {"a", "sub/b"}
    (tmp_path / "a").write_text("22")
    (tmp_path / "sub" / "new").touch()
    (tmp_path / "sub" / "b").unlink()
    after = inputs.snapshot(tmp_path, tmp_path / "ours")
    assert inputs.changes(before, after) == ["a", "sub/b", "sub/new"]
    # Of very many files only those that were seen both times can be compared.
    monkeypatch.setattr(inputs, "_MOST_ENTRIES", 2)
    first = inputs.snapshot(tmp_path, tmp_path / "ours")
    (tmp_path / "Z").touch()
    (tmp_path / "a").write_text("333")
    assert inputs.changes(first, inputs.snapshot(tmp_path, tmp_path / "ours")) == ["a"]
