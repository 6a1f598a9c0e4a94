import argparse
import itertools
import json
import os
import resource
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from rankwise.disk import record
from rankwise.disk.record import Result
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES
from rankwise.run.snapshots import Snapshots
from tests.run.pretended import Pretended

STATE = {"temperature": Result(np.arange(12.0).reshape(3, 4), "K", "at the points")}


def make(comm, folder, every=10, last=35, octets=96, checkpoint=None, **options):
    args = argparse.Namespace(**{"force": False, "repeats": 1, "output": None, **options})
    run = Pretended(comm, "job", args, Path(folder, "r.h5"))
    return Snapshots(run, every, last, octets, checkpoint or goes_on(0, again=False))


def goes_on(step, *snapshots, again=True, path=None, repeats=1):
    """Stand in for the checkpoint of a run whose problem is its number of repeats."""
    table = np.array(list(snapshots), record.SNAPSHOT)
    problem = {"repeats": repeats}
    return argparse.Namespace(step=step, snapshots=table, again=again, path=path, problem=problem)


@pytest.mark.mpi
def test_each_is_a_file_and_listed(comm, mpi_tmp_path):
    snapshots = make(comm, mpi_tmp_path, last=100)
    clock = snapshots.run.clock
    assert list(snapshots.steps)[:2] == [10, 20] and len(snapshots.steps) == 10
    for step in (10, 20):
        snapshots.write(step, STATE if comm.rank == 0 else {})
    table = snapshots.table()
    assert len(table) == (2 if comm.rank == 0 else 0)
    if comm.rank == 0:
        assert table["step"].tolist() == [10, 20]
        assert table["file"].tolist() == [b"r-step000000010.h5", b"r-step000000020.h5"]
        assert {path.name for path in mpi_tmp_path.iterdir()} == {
            "r-step000000010.h5",
            "r-step000000020.h5",
        }
        with h5py.File(mpi_tmp_path / "r-step000000020.h5") as file:
            values = file["temperature"][()]
            np.testing.assert_array_equal(values, STATE["temperature"].values)
            assert file["temperature"].attrs["units"] == b"K"
            assert (file.attrs["job"], file.attrs["step"], file.attrs["record"]) == (
                b"job", 20, b"r.h5",
            )  # fmt: skip
            assert file.attrs["sha256"] == table["sha256"][1]
            assert json.loads(file.attrs["arguments"]) == vars(snapshots.run.args)
        assert record.digest(STATE).encode() == table["sha256"][0]
        assert clock.seconds[0, PHASES.index("snapshot")] > 0
    # The others wait for rank 0.
    assert np.isnan(clock.seconds[0, PHASES.index("snapshot")]) == (comm.rank > 0)
    assert clock.seconds[0, PHASES.index("wait")] > 0


@pytest.mark.parametrize(("every", "last"), [(None, 10), (None, 0)])
def test_none(comm, tmp_path, every, last):
    snapshots = make(comm, tmp_path, every, last)
    assert list(snapshots.steps) == [] and len(snapshots.table()) == 0
    assert 0 not in snapshots.steps


def test_a_file_in_the_way_is_kept(comm, tmp_path):
    (tmp_path / "r-step000000020.h5").write_text("mine")
    with pytest.raises(Stop, match=r"step000000020.h5 exists; --force replaces a snapshot"):
        make(comm, tmp_path)
    with pytest.raises(Stop, match=r"step000000020.h5 is not a snapshot, and --force replaces"):
        make(comm, tmp_path, force=True)
    assert (tmp_path / "r-step000000020.h5").read_text() == "mine"
    (tmp_path / "r-step000000020.h5").unlink()
    make(comm, tmp_path).write(20, STATE)
    make(comm, tmp_path, force=True).write(20, STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["r-step000000020.h5"]


def test_other_files_are_not_in_the_way(comm, tmp_path):
    for name in (
        "r-step000000015.h5",
        "r-step20.h5",
        "r-step000000020.h5.bak",
        "r-stepx.h5",
        "s-step20.h5",
    ):
        (tmp_path / name).write_text("mine")
    assert make(comm, tmp_path).steps


def test_of_very_many_steps_each_is_not_looked_at(comm, tmp_path, monkeypatch):
    right, looks = Snapshots._path, itertools.count()

    def path(self, step):
        assert next(looks) < 10
        return right(self, step)

    monkeypatch.setattr(Snapshots, "_path", path)
    make(comm, tmp_path, every=1, last=10**12, octets=0)


def test_a_name_that_is_not_utf8(comm, tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(folder)
    snapshots = make(comm, folder)
    snapshots.run.path = Path(folder, "r\udcff.h5")
    snapshots.write(10, STATE)
    (name,) = snapshots.table()["file"].tolist()
    assert name == b"r\xff-step000000010.h5"
    with h5py.File(os.fsencode(folder) + b"/" + name) as file:
        assert file.attrs["record"] == b"r\\udcff.h5"


def test_a_file_that_appears_meanwhile_is_kept_too(comm, tmp_path):
    snapshots = make(comm, tmp_path)
    (tmp_path / "r-step000000010.h5").write_text("mine")
    snapshots.write(10, STATE)
    (name,) = snapshots.table()["file"].tolist()
    assert (tmp_path / "r-step000000010.h5").read_text() == "mine"
    assert name.startswith(b"r-step000000010-") and h5py.is_hdf5(tmp_path / name.decode())


@pytest.mark.mpi
def test_too_little_space_is_told_before_the_run(comm, mpi_tmp_path):
    free = shutil.disk_usage(mpi_tmp_path).free
    with pytest.raises(Stop, match=r"3 snapshots need .* GB in .*, which has .* GB left"):
        make(comm, mpi_tmp_path, octets=free)
    make(comm, mpi_tmp_path, octets=free // 10)


@pytest.mark.mpi
def test_no_step_that_is_kept_is_a_mistake(comm, mpi_tmp_path):
    with pytest.raises(Stop, match="every 11 steps is none, since there are 10 steps"):
        make(comm, mpi_tmp_path, every=11, last=10)


@pytest.mark.mpi
def test_repeats_would_write_them_over(comm, mpi_tmp_path):
    with pytest.raises(Stop, match="not for --repeats"):
        make(comm, mpi_tmp_path, repeats=2)


@pytest.mark.mpi
def test_those_of_an_earlier_start_stay_listed(comm, mpi_tmp_path):
    earlier = [(10, b"r-step000000010.h5", b"0" * 64), (20, b"r-step000000020.h5", b"1" * 64)]
    listed = goes_on(25, *(earlier if comm.rank == 0 else []))
    snapshots = make(comm, mpi_tmp_path, last=50, checkpoint=listed)
    assert list(snapshots.steps) == [30, 40, 50]
    snapshots.write(30, STATE if comm.rank == 0 else {})
    if comm.rank == 0:
        assert snapshots.table()["step"].tolist() == [10, 20, 30]
        assert snapshots.table()[:2].tolist() == earlier


@pytest.mark.parametrize("step", [0, 15])
def test_those_after_the_checkpoint_are_made_anew(comm, tmp_path, step):
    make(comm, tmp_path).write(20, STATE)
    again = make(comm, tmp_path, checkpoint=goes_on(step))
    other = {"temperature": Result(np.ones(3), "K", "another")}
    again.write(20, other)
    assert [path.name for path in tmp_path.iterdir()] == ["r-step000000020.h5"]
    assert again.table()["sha256"].tolist() == [record.digest(other).encode()]


@pytest.mark.parametrize("other", ["problem", "record", "kind"])
def test_those_of_another_run_are_in_the_way(comm, tmp_path, other):
    first = make(comm, tmp_path)
    if other == "record":
        first.run.path = tmp_path / "s.h5"
    first.write(20, STATE)
    (path,) = tmp_path.iterdir()
    path = path.rename(tmp_path / "r-step000000020.h5")
    if other == "kind":
        path.write_text("mine")
    before = path.read_bytes()
    listed = goes_on(15, repeats=7 if other == "problem" else 1)
    with pytest.raises(Stop, match=r"step000000020.h5 exists; --force replaces a snapshot"):
        make(comm, tmp_path, checkpoint=listed)
    assert path.read_bytes() == before


@pytest.mark.mpi
def test_with_a_checkpoint_their_names_must_be_given(comm, mpi_tmp_path):
    listed = goes_on(0, path=mpi_tmp_path / "c.h5")
    with pytest.raises(Stop, match="--snapshot-every and --checkpoint want --output too"):
        make(comm, mpi_tmp_path, checkpoint=listed)
    make(comm, mpi_tmp_path, checkpoint=listed, output=mpi_tmp_path / "r.h5")


@pytest.mark.mpi
def test_a_checkpoint_has_another_name(comm, mpi_tmp_path):
    for name, message in (
        ("r-step000000020.h5", "--checkpoint .*step000000020.h5 is the name of a snapshot"),
        (f"../{mpi_tmp_path.name}/r-step000000020.h5", "is the name of a snapshot"),
        ("r-step000000021.h5", None),
        ("r-step20.h5", None),
    ):
        options = {"checkpoint": goes_on(0, path=mpi_tmp_path / name), "output": "r.h5"}
        if message is None:
            make(comm, mpi_tmp_path, **options)
        else:
            with pytest.raises(Stop, match=message):
                make(comm, mpi_tmp_path, **options)


def test_earlier_ones_that_are_gone_are_told(comm, tmp_path):
    first = make(comm, tmp_path)
    for step in (10, 20, 30):
        first.write(step, STATE)
    table = first.table()
    assert make(comm, tmp_path, checkpoint=goes_on(30, *table)).run.warnings == []
    (tmp_path / "r-step000000020.h5").unlink()
    (warning,) = make(comm, tmp_path, checkpoint=goes_on(30, *table)).run.warnings
    assert warning.startswith("1 of 3 earlier snapshots are not beside the record")
    assert warning.endswith(": r-step000000020.h5")


@pytest.mark.parametrize("limit", [0, 1000])
def test_a_write_that_fails_leaves_nothing(comm, tmp_path, limit):
    snapshots = make(comm, tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(
            Stop, match=r"cannot write .*step000000010.h5: File too large"
        ) as caught:
            snapshots.write(10, STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.status == 1
    assert list(tmp_path.iterdir()) == []
