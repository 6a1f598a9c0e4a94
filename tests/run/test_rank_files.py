"""The names of the files of ranks, and folders that cannot be had."""

import os

import pytest

from rankwise.ranks.agreement import Stop
from rankwise.run import rank_files


@pytest.mark.parametrize(
    ("rank", "size", "name"),
    [(0, 1, "run-rank-0.log"), (9, 10, "run-rank-9.log"), (9, 11, "run-rank-09.log")],
)
def test_names_sort_by_rank(tmp_path, rank, size, name):
    folder = tmp_path / "new" / "er"
    assert rank_files.path("--log", folder, "run", rank, size, "log") == folder / name
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_what_a_killed_run_has_left_is_removed_by_rank_0(tmp_path, rank):
    left = tmp_path / f".run-rank-0.prof.9-9.{os.uname().nodename}.record-tmp"
    left.touch()
    rank_files.path("--profile", tmp_path, "run", rank, 2, "prof")
    assert left.exists() == (rank == 1)


def test_a_file_of_that_name_is_left_alone(tmp_path):
    there = tmp_path / "run-rank-0.log"
    there.write_text("of another run")
    with pytest.raises(Stop, match=r"^--log .*: cannot write there: File exists$"):
        rank_files.path("--log", tmp_path, "run", 0, 1, "log")
    assert there.read_text() == "of another run"


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("file", "^--log file is not a folder$"),
        ("file/logs", "^--log file/logs: cannot write there: Not a directory$"),
        ("/proc/logs", "^--log /proc/logs: cannot write there: No such file or directory$"),
    ],
)
def test_a_folder_that_cannot_be_had(tmp_path, monkeypatch, inside, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(Stop, match=message) as caught:
        rank_files.path("--log", type(tmp_path)(inside), "run", 0, 1, "log")
    assert caught.value.status == 2
