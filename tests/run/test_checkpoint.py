import argparse
import errno
import hashlib
import json
import logging
import os
import re
import resource
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from rankwise.disk import checkpoint_file, files
from rankwise.disk.record import SNAPSHOT, Result
from rankwise.ranks import signals
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES
from rankwise.run.checkpoint import Checkpoint
from tests.run.pretended import Pretended

SHAPE = (6, 5)
PROBLEM = {"n": 5, "dt": 0.1, "input": None}
NONE = np.empty(0, SNAPSHOT)
OPEN = []


def state(step):
    return {"u": Result(np.full(SHAPE, step) + np.arange(30.0).reshape(SHAPE), "K", "all points")}


def make(comm, folder, problem=PROBLEM, job="job", last=1000, octets=240, start=True, **options):
    """Return the checkpoint of a run that is at its steps, or about to be."""
    args = {"checkpoint": Path(folder, "c.h5"), "checkpoint_every": None}
    args |= {"checkpoint_seconds": None, "repeats": 1, **options}
    run = Pretended(comm, job, argparse.Namespace(**args), Path(folder, "r.h5"))
    checkpoint = Checkpoint(run, problem, last, octets)
    OPEN.append(checkpoint)
    if start and comm.rank == 0 and checkpoint.path is not None:
        checkpoint._take_over(checkpoint.path)
    return checkpoint


@pytest.fixture(autouse=True)
def closed():
    yield
    while OPEN:
        OPEN.pop().close()


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".owner"))


def content(checkpoint):
    """Return the state that it goes on from."""
    u = np.empty(SHAPE)
    fill = checkpoint.fill("u")
    fill(0, u[:2])
    fill(2, u[2:])
    return u


def written(comm, folder, *steps):
    """Write checkpoints as one run does."""
    checkpoint = make(comm, folder)
    for step in steps:
        checkpoint.write(step, state(step), NONE)


@pytest.mark.mpi
@pytest.mark.sizes
def test_goes_on_where_it_was(comm, mpi_tmp_path):
    first = make(comm, mpi_tmp_path)
    assert (first.step, first.run.first_step, first.run.restarts) == (0, 0, 0)
    assert first.fill("u") is None
    table = np.array([(7, b"r-step7.h5", b"0" * 64)], SNAPSHOT)
    first.write(7, state(7) if comm.rank == 0 else {}, table if comm.rank == 0 else NONE)
    second = make(comm, mpi_tmp_path)
    assert (second.step, second.run.first_step, second.run.restarts) == (7, 7, 1)
    if comm.rank == 0:
        np.testing.assert_array_equal(content(second), state(7)["u"].values)
        assert second.snapshots.tolist() == table.tolist()
        assert second.again and not first.again
        assert second.run.clock.total("checkpoint") > 0
    else:
        assert second.fill("u") is None
    second.write(9, state(9), NONE)
    third = make(comm, mpi_tmp_path)
    assert (third.step, third.run.restarts) == (9, 2)
    third.remove()
    comm.Barrier()
    assert list(mpi_tmp_path.iterdir()) == []
    assert make(comm, mpi_tmp_path).step == 0


@pytest.mark.mpi
def test_what_was_written_is_logged_on_rank_0(comm, mpi_tmp_path, caplog):
    caplog.set_level(logging.INFO, "rankwise")
    checkpoint = make(comm, mpi_tmp_path)
    checkpoint.write(7, state(7), NONE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        checkpoint.write(8, state(8), NONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    wrote = f"checkpoint of step 7 in {mpi_tmp_path}/c.h5"
    failed = (
        f"warning: cannot write the checkpoint {mpi_tmp_path}/c.h5: File too large; that of step 7 "
        "is kept"
    )
    told = [text for text in caplog.messages if text.startswith(("checkpoint", "warning"))]
    assert told == ([wrote, failed] if comm.rank == 0 else [])


def test_two_generations(comm, tmp_path):
    written(comm, tmp_path, 10, 20, 30)
    assert names(tmp_path) == ["c-previous.h5", "c.h5"]
    (tmp_path / "c.h5").unlink()
    checkpoint = make(comm, tmp_path)
    assert checkpoint.step == 20
    # The only whole one stays until there is another.
    checkpoint.write(25, state(25), NONE)
    (tmp_path / "c.h5").unlink()
    assert make(comm, tmp_path).step == 20


def test_what_is_inside(comm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    written(comm, tmp_path, 10)
    whole = (tmp_path / "c.h5").read_bytes()
    digest = hashlib.sha256(whole[512:]).hexdigest()
    assert whole[:512].rstrip(b"\0").decode() == f"rankwise checkpoint 1\nsha256 {digest}\n"
    with h5py.File(tmp_path / "c.h5") as file:
        assert (file.attrs["job"], file.attrs["step"], file.attrs["restarts"]) == (b"job", 10, 0)
        assert json.loads(file.attrs["problem"]) == PROBLEM
        ids = json.loads(file.attrs["slurm"])
        assert (ids["SLURM_JOB_ID"], ids["SLURM_RESTART_COUNT"]) == ("77", "2")
        words = rf"job 77, restart 2, process {os.getpid()} on \S+, since 20\S+"
        author = file.attrs["written_by"].decode()
        assert re.fullmatch(words, author)
        assert file["state/u"].attrs["units"] == b"K"
    assert (tmp_path / ".c.h5.owner").read_text() == author


def damages(whole):
    """Yield files that differ from a whole one, by what was done to it."""
    rng = np.random.default_rng(3)
    for bit in [0, 180, 4095, *rng.integers(8 * len(whole), size=200).tolist()]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(damaged)
    for size in [0, 1, 511, 512, len(whole) - 1, *rng.integers(len(whole), size=20).tolist()]:
        yield f"{size} bytes", whole[:size]
    yield "one byte more", whole + b"\0"


def test_any_damage_is_seen_and_the_older_one_used(comm, tmp_path, capsys):
    written(comm, tmp_path, 10, 20)
    whole = (tmp_path / "c.h5").read_bytes()
    for name, damaged in damages(whole):
        (tmp_path / "c.h5").write_bytes(damaged)
        checkpoint = make(comm, tmp_path)
        assert checkpoint.step == 10, name
        (refused,) = tmp_path.glob("c-refused-*.h5")
        assert refused.read_bytes() == damaged
        (warning,) = checkpoint.run.warnings
        assert re.search("is damaged|is no checkpoint|has the version", warning), warning
        assert f"it is now {refused.name}, and {tmp_path}/c-previous.h5 is used" in warning
        assert names(tmp_path) == ["c-previous.h5", refused.name]
        refused.unlink()
    assert "goes on after step 10 of" in capsys.readouterr().err


def test_none_that_is_whole_is_a_mistake_that_changes_nothing(comm, tmp_path):
    written(comm, tmp_path, 10, 20)
    for name in ("c.h5", "c-previous.h5"):
        with open(tmp_path / name, "r+b") as file:
            file.truncate(1000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Stop, match=r"c.h5 is damaged.*c-previous.h5 is damaged.*remove") as caught:
        make(comm, tmp_path)
    assert caught.value.status == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"problem": PROBLEM | {"n": 6}}, "is of another problem: n is 5 there and 6 here"),
        (
            {"problem": PROBLEM | {"dt": 0.1 + 2e-17}},
            "dt is 0.1 there and 0.10000000000000002 here",
        ),
        ({"problem": PROBLEM | {"dt": 0.2}}, "dt is 0.1 there and 0.2 here"),
        # What was said first: other numbers follow from it.
        ({"problem": {"n": 6, "dt": 0.2, "input": None}}, "problem: n is 5 there and 6 here"),
        ({"problem": PROBLEM | {"input": "x.h5"}}, "input is None there and x.h5 here"),
        ({"job": "other"}, "is of another job, job"),
        ({"last": 10}, "is of step 10, and this run ends at 10"),
        ({"last": 11}, None),
    ],
)
def test_of_another_problem(comm, mpi_tmp_path, other, message):
    written(comm, mpi_tmp_path, 10)
    if message is None:
        assert make(comm, mpi_tmp_path, **other).step == 10
        return
    owner = (mpi_tmp_path / ".c.h5.owner").read_text()
    with pytest.raises(Stop, match=re.escape(message)) as caught:
        make(comm, mpi_tmp_path, **other)
    assert caught.value.status == 2
    # The run that it belongs to is not disturbed.
    assert (mpi_tmp_path / ".c.h5.owner").read_text() == owner


def test_of_another_problem_beside_an_older_one_of_this(comm, tmp_path):
    written(comm, tmp_path, 10)
    (tmp_path / "other").mkdir()
    make(comm, tmp_path / "other", PROBLEM | {"n": 6}).write(50, state(50), NONE)
    (tmp_path / "c.h5").rename(tmp_path / "c-previous.h5")
    shutil.copy(tmp_path / "other" / "c.h5", tmp_path / "c.h5")
    checkpoint = make(comm, tmp_path)
    assert checkpoint.step == 10
    (warning,) = checkpoint.run.warnings
    assert "is of another problem: n is 6 there and 5 here; it is now c-refused-" in warning
    (refused,) = tmp_path.glob("c-refused-*.h5")
    assert refused.read_bytes() == (tmp_path / "other" / "c.h5").read_bytes()


def test_of_another_version(comm, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "VERSION", 2)
    written(comm, tmp_path, 10)
    monkeypatch.undo()
    with pytest.raises(Stop, match="has the version 2, and this program reads 1"):
        make(comm, tmp_path)


@pytest.mark.parametrize("name", ["c.h5", "c-previous.h5"])
def test_a_file_that_is_none_is_never_lost(comm, tmp_path, name):
    if name == "c-previous.h5":
        written(comm, tmp_path, 10)
    (tmp_path / name).write_text("mine")
    if name == "c.h5":
        with pytest.raises(Stop, match=r"c.h5 is no checkpoint, or damaged: name another"):
            make(comm, tmp_path)
        assert (tmp_path / name).read_text() == "mine"
    else:
        checkpoint = make(comm, tmp_path)
        checkpoint.write(20, state(20), NONE)
        (refused,) = tmp_path.glob("c-previous-refused-*.h5")
        assert refused.read_text() == "mine"
        assert checkpoint.step == 10


@pytest.mark.mpi
@pytest.mark.sizes
def test_every_so_many_steps(comm, mpi_tmp_path):
    checkpoint = make(comm, mpi_tmp_path, checkpoint_every=30, last=120)
    assert [step for step in range(-1, 121) if checkpoint.due(step)] == [30, 60, 90]


@pytest.mark.mpi
@pytest.mark.sizes
def test_every_so_many_seconds(comm, mpi_tmp_path):
    checkpoint = make(comm, mpi_tmp_path, checkpoint_seconds=1e-9)
    assert checkpoint.due(1)
    checkpoint = make(comm, mpi_tmp_path, checkpoint_seconds=1e6)
    assert not any(checkpoint.due(step) for step in range(1, 1000))
    checkpoint = make(comm, mpi_tmp_path)
    # Ten minutes, where nothing is said.
    assert not checkpoint.due(1)
    checkpoint._written -= 600
    assert checkpoint.due(2 + comm.bcast(checkpoint._look))


@pytest.mark.mpi
@pytest.mark.sizes
def test_looks_are_seldom_where_steps_are_quick(comm, mpi_tmp_path):
    checkpoint = make(comm, mpi_tmp_path, last=10**6)
    looks = set()
    for step in range(1, 20_000):
        checkpoint.due(step)
        looks.add(checkpoint._look)
    assert len(looks) < 200
    # One step takes long: the next look is not far.
    checkpoint._looked -= 100
    looked = checkpoint._look
    for step in range(20_000, looked + 1):
        checkpoint.due(step)
    assert checkpoint._look - looked < 10_000


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize(("weight", "name", "status"), [(1, "SIGUSR1", 75), (2, "SIGTERM", 143)])
def test_a_signal_to_one_rank_stops_all_at_one_step(
    comm, mpi_tmp_path, monkeypatch, weight, name, status
):
    checkpoint = make(comm, mpi_tmp_path)
    if comm.rank == comm.size - 1:
        monkeypatch.setattr(signals, "_weight", weight)
    step = next(step for step in range(1, 1000) if checkpoint.due(step))
    assert comm.allgather(step) == [step] * comm.size
    with pytest.raises(
        Stop, match=f"stopped by {name} after step {step}: the same command"
    ) as caught:
        checkpoint.write(step, state(step), NONE)
    assert caught.value.status == status and caught.value.agreed
    monkeypatch.undo()
    assert make(comm, mpi_tmp_path).step == step


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("weight", [1, 2])
def test_a_run_without_a_checkpoint_says_so_and_goes_on(comm, mpi_tmp_path, monkeypatch, weight):
    checkpoint = make(comm, mpi_tmp_path, checkpoint=None)
    monkeypatch.setattr(signals, "_weight", weight)
    with checkpoint.answering_signals():
        assert not any(checkpoint.due(step) for step in range(1, 50))
    warnings = checkpoint.run.warnings
    assert warnings == (
        # SIGTERM is about to end it.
        ["SIGUSR1 does nothing to a run without --checkpoint: it goes on"]
        * (comm.rank == 0 and weight == signals.OUT_OF_TIME)
    )


@pytest.mark.mpi
@pytest.mark.sizes
def test_signals_are_kept_inside_only(comm, mpi_tmp_path):
    checkpoint = make(comm, mpi_tmp_path)
    with checkpoint.answering_signals():
        assert signals._kept
    assert not signals._kept
    with make(comm, mpi_tmp_path, checkpoint=None).answering_signals():
        assert not signals._kept


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("when", ["at a checkpoint", "at the end"])
def test_another_run_has_taken_over(comm, mpi_tmp_path, when):
    first = make(comm, mpi_tmp_path)
    first.write(10, state(10), NONE)
    second = make(comm, mpi_tmp_path)
    before = (mpi_tmp_path / "c.h5").read_bytes()
    message = r"another run has taken over .*c.h5: process \d+ on .*; so this one ends"
    with pytest.raises(Stop, match=message) as caught:
        if when == "at a checkpoint":
            first.write(20, state(20), NONE)
        else:
            assert not first.due(first.last)
            first.require_owner()
    assert caught.value.status == 1
    assert (mpi_tmp_path / "c.h5").read_bytes() == before
    first.remove()
    comm.Barrier()
    assert (mpi_tmp_path / "c.h5").exists()
    second.write(15, state(15), NONE)
    assert not second.due(second.last)
    second.require_owner()


def test_an_owner_file_that_was_cleaned_away_stops_nobody(comm, tmp_path):
    checkpoint = make(comm, tmp_path)
    (tmp_path / ".c.h5.owner").unlink()
    checkpoint.write(10, state(10), NONE)
    (tmp_path / ".c.h5.owner").unlink(missing_ok=True)
    checkpoint.require_owner()
    checkpoint.write(20, state(20), NONE)


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("when", ["at a checkpoint", "at the end"])
def test_another_run_has_ended_meanwhile(comm, mpi_tmp_path, when):
    first = make(comm, mpi_tmp_path)
    first.write(10, state(10), NONE)
    make(comm, mpi_tmp_path).remove()
    comm.Barrier()
    with pytest.raises(Stop, match=r"another run has ended and removed .*c.h5, or somebody"):
        if when == "at a checkpoint":
            first.write(20, state(20), NONE)
        else:
            first.require_owner()
    assert list(mpi_tmp_path.iterdir()) == []


@pytest.mark.mpi
@pytest.mark.sizes
def test_a_start_that_fails_later_disturbs_nobody(comm, mpi_tmp_path):
    running = make(comm, mpi_tmp_path)
    running.write(10, state(10), NONE)
    running.write(20, state(20), NONE)
    if comm.rank == 0:
        (mpi_tmp_path / "c-previous.h5").write_text("no checkpoint")
        before = {path.name: path.read_bytes() for path in mpi_tmp_path.iterdir()}
    comm.Barrier()
    make(comm, mpi_tmp_path, start=False)
    if comm.rank == 0:
        assert {path.name: path.read_bytes() for path in mpi_tmp_path.iterdir()} == before
    assert not running.due(running.last)


def test_a_file_that_is_renamed_just_now_is_absent(comm, tmp_path, monkeypatch):
    written(comm, tmp_path, 10, 20)
    right = checkpoint_file.read

    def late(path, *arguments):
        if path.name == "c.h5":
            path.rename(tmp_path / "c-previous.h5")
        return right(path, *arguments)

    monkeypatch.setattr(checkpoint_file, "read", late)
    assert make(comm, tmp_path).step == 20


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_leads_to_where_the_files_are(comm, tmp_path, dangling):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    if not dangling:
        written(comm, there, 10)
    (here / "c.h5").symlink_to("../there/c.h5")
    checkpoint = make(comm, here)
    assert checkpoint.step == (0 if dangling else 10)
    checkpoint.write(20, state(20), NONE)
    assert (here / "c.h5").is_symlink() and names(here) == ["c.h5"]
    assert names(there) == (["c.h5"] if dangling else ["c-previous.h5", "c.h5"])
    assert make(comm, there).step == 20


def test_a_checkpoint_that_was_removed_is_no_hindrance(comm, tmp_path):
    checkpoint = make(comm, tmp_path)
    checkpoint.write(10, state(10), NONE)
    (tmp_path / "c.h5").unlink()
    checkpoint.write(20, state(20), NONE)
    assert checkpoint.run.warnings == [] and names(tmp_path) == ["c.h5"]
    assert make(comm, tmp_path).step == 20


def test_temporary_files_of_other_nodes_are_removed(comm, tmp_path):
    end = ".1-2.node9.record-tmp"
    kept = [f".{name}.h5{end}" for name in ("d", "s", "r2", "r-c", "c.h5.x", "r-step", "r-step2")]
    for name in (f".c.h5{end}", f".r.h5{end}", f".r-step000000010.h5{end}", *kept):
        (tmp_path / name).write_text("half")
    make(comm, tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_a_file_system_out_of_order_is_no_other_run(comm, tmp_path, monkeypatch):
    checkpoint = make(comm, tmp_path)
    checkpoint.write(10, state(10), NONE)

    def stale(*_, **__):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    right = os.stat

    def stale_inside(path, **options):
        return right(path, **options) if Path(path) == tmp_path else stale()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", stale)
        # Of the files alone, and of the folder too.
        patch.setattr(os, "stat", stale_inside)
        checkpoint.due(checkpoint.last)
        patch.setattr(os, "stat", stale)
        checkpoint.due(checkpoint.last)
        # The record is written by now: no status but 0.
        checkpoint.remove()


@pytest.mark.parametrize("signalled", [False, True])
def test_a_write_that_fails(comm, tmp_path, monkeypatch, capsys, signalled):
    checkpoint = make(comm, tmp_path)
    checkpoint.write(10, state(10), NONE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if signalled:
        monkeypatch.setattr(signals, "_weight", 1)
        assert checkpoint.due(19)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    text = r"cannot write the checkpoint .*c.h5: File too large; that of step 10 is kept"
    try:
        if signalled:
            with pytest.raises(Stop, match=text) as caught:
                checkpoint.write(19, state(19), NONE)
            assert caught.value.status == 1
        else:
            checkpoint.write(19, state(19), NONE)
            assert re.search(text, capsys.readouterr().err)
            (warning,) = checkpoint.run.warnings
            assert re.fullmatch(text.partition("; ")[0], warning)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    if not signalled:
        checkpoint.write(20, state(20), NONE)
        assert make(comm, tmp_path).step == 20


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_error_anywhere_leaves_a_whole_one(comm, tmp_path, monkeypatch, call, number):
    checkpoint = make(comm, tmp_path)
    checkpoint.write(10, state(10), NONE)
    calls = 0
    right = getattr(os, call)

    def fails(*arguments):
        nonlocal calls
        calls += 1
        if calls == number:
            raise OSError(5, "Input/output error")
        # A disk takes as much as it likes.
        return right(*arguments) if call != "write" else right(arguments[0], arguments[1][:1024])

    monkeypatch.setattr(os, call, fails)
    checkpoint.write(20, state(20), NONE)
    monkeypatch.undo()
    assert calls >= number
    assert ["Input/output error" in text for text in checkpoint.run.warnings] == [True]
    assert not list(tmp_path.glob("*tmp"))
    assert make(comm, tmp_path).step == 10
    checkpoint = make(comm, tmp_path)
    checkpoint.write(30, state(30), NONE)
    assert make(comm, tmp_path).step == 30


def test_its_seconds_are_a_phase(comm, tmp_path):
    checkpoint = make(comm, tmp_path)
    checkpoint.write(10, state(10), NONE)
    assert checkpoint.run.clock.seconds[0, PHASES.index("checkpoint")] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": None, "checkpoint_every": 5}, "want a --checkpoint FILE.h5"),
        ({"checkpoint": None, "checkpoint_seconds": 5.0}, "want a --checkpoint FILE.h5"),
        ({"repeats": 2}, "not for --repeats"),
        ({"checkpoint": Path("/nonexistent/c.h5")}, "there is no folder /nonexistent"),
        ({"checkpoint": Path("/tmp")}, "--checkpoint /tmp is a folder"),
        # As by an empty variable of the shell.
        ({"checkpoint": Path("")}, "--checkpoint . is a folder"),
        ({"checkpoint": Path("/")}, "--checkpoint / is a folder"),
        ({"octets": 10**16}, r"checkpoints need 30000000 GB more in .*, which has .* GB left"),
    ],
)
def test_mistakes(comm, tmp_path, options, message):
    with pytest.raises(Stop, match=message) as caught:
        make(comm, tmp_path, **options)
    assert caught.value.status == 2
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_at_the_start_is_told(comm, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "write", fails)
    with pytest.raises(Stop, match=r"cannot use .*c.h5 for checkpoints: Input/output error"):
        with make(comm, tmp_path, start=False).answering_signals():
            pass


def test_the_record_is_no_checkpoint(comm, tmp_path):
    for output in ("c.h5", "c-previous.h5"):
        args = {"checkpoint": tmp_path / "x" / ".." / "c.h5", "checkpoint_every": None}
        space = argparse.Namespace(**args, checkpoint_seconds=None, repeats=1)
        run = Pretended(comm, "job", space, tmp_path / output)
        with pytest.raises(Stop, match="--checkpoint and --output name the same file"):
            Checkpoint(run, PROBLEM, 1000, 240)


def test_the_record_is_not_behind_a_link(comm, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "c.h5").symlink_to("there/x.h5")
    for output in ("x.h5", "x-previous.h5"):
        args = {"checkpoint": tmp_path / "c.h5", "checkpoint_every": None}
        space = argparse.Namespace(**args, checkpoint_seconds=None, repeats=1)
        run = Pretended(comm, "job", space, tmp_path / "there" / output)
        with pytest.raises(Stop, match="--checkpoint and --output name the same file"):
            Checkpoint(run, PROBLEM, 1000, 240)


def test_a_checkpoint_that_may_not_be_read(comm):
    # Not pytest's own folder, which is closed to others.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        written(comm, folder, 10)
        Path(folder, "c.h5").chmod(0)
        me = os.geteuid()
        try:
            if me == 0:
                os.seteuid(65534)
            with pytest.raises(Stop, match=r"cannot read .*c.h5: Permission denied"):
                make(comm, folder)
        finally:
            os.seteuid(me)
        assert Path(folder, "c.h5").exists()
