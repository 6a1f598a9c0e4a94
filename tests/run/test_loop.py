"""The steps of a run whose state is small and the same on all ranks, as an iteration's is."""

from rankwise.job import Run, Stop, add_input, add_loop

import itertools
import logging

import numpy as np
import pytest

from rankwise.disk import record
from rankwise.ranks import signals

pytestmark = pytest.mark.mpi


def job(comm, folder, *options, enough=1000):
    """Add up the numbers of the steps until the sum is ``enough``; return the loop and the sums."""

    def state():
        return {"total": (total, "1", "sum of the steps so far")}

    argv = ["--output", str(folder / "r.h5"), "--variant", "numpy", *options]
    run = Run(comm, argv, "adder.py", "Add.", lambda parser: add_loop(parser, 20, "numbers"))
    first, totals = np.zeros(3), []
    with run.loop({"enough": enough}, first.nbytes) as loop:
        loop.resume_on_all("total", first)
        for _ in run.repeats():
            total = first.copy()
            for step in loop.steps(state):
                with run.phase("kernel"):
                    total += step
                if total[0] >= enough:
                    break
            totals.append(total.tolist())
        run.on_root(run.check, abs(totals[-1][0] - totals[-1][1]), 0.0, "exact")
        run.finish(state(), work=loop.done, kernel_bytes=0)
    return loop, totals


def test_all_steps_are_done_and_the_warm_up_does_two(comm, mpi_tmp_path):
    loop, totals = job(comm, mpi_tmp_path, "--repeats", "2")
    assert totals == [[-1.0] * 3, [210.0] * 3, [210.0] * 3]
    assert (loop.first, loop.done, loop.last) == (0, 20, 20)


def test_it_may_end_early_in_each_repeat(comm, mpi_tmp_path):
    loop, totals = job(comm, mpi_tmp_path, "--repeats", "3", enough=30)
    assert totals[1:] == [[36.0] * 3] * 3
    assert loop.done == 8


def test_steps_are_logged_and_counted(comm, mpi_tmp_path, caplog):
    caplog.set_level(logging.INFO, "rankwise")
    loop, _ = job(comm, mpi_tmp_path, "--repeats", "2", enough=6)
    steps = [text for text in caplog.messages if text.startswith(("step ", "repeat ", "warm-up"))]
    numbers = ["step 1", "step 2", "step 3"]
    assert steps == ["warm-up", "repeat 0", *numbers, "repeat 1", *numbers]
    clock = loop._run.clock
    phases = sum(text.startswith(("begin ", "end ")) for text in caplog.messages)
    # Behind the loop there is no step.
    assert (clock.step, clock.moves) == (None, 2 * len(numbers) + phases)


def test_rank_0_alone_reads_the_input_for_a_checkpoint(comm, mpi_tmp_path, caplog):
    # Else a rank that never comes here would not be told: those that read are no standstill.
    caplog.set_level(logging.INFO, "rankwise")
    if comm.rank == 0:
        np.save(mpi_tmp_path / "x.npy", np.ones(9))
    comm.Barrier()

    def options(parser):
        add_input(parser, "elements")
        add_loop(parser, 20, "numbers")

    files = {"output": "r.h5", "input": "x.npy", "checkpoint": "c.h5"}
    argv = [f"--{name}={mpi_tmp_path / file}" for name, file in files.items()]
    run = Run(comm, [*argv, "--variant=numpy"], "adder.py", "Add.", options)
    source = run.source(lambda start, rows: None, 9)
    del caplog.records[:]
    run.loop({}, 8, source)
    begun = [each.getMessage() for each in caplog.records if each.msg == "begin %s"]
    assert begun.count("begin read") == (comm.rank == 0)


def tell(monkeypatch, looks, weight=1):
    """Let a rank see a signal after so many looks; the first one is before the first step."""
    count = itertools.count()
    monkeypatch.setattr(signals, "weight", lambda: weight * (next(count) >= looks))


@pytest.mark.parametrize("looks", [1, 2])
def test_it_goes_on_where_a_signal_has_stopped_it(comm, mpi_tmp_path, monkeypatch, looks):
    options = ("--checkpoint", str(mpi_tmp_path / "c.h5"))
    tell(monkeypatch, looks)
    with pytest.raises(Stop, match="stopped by SIGUSR1 after step") as caught:
        job(comm, mpi_tmp_path, *options, enough=100)
    assert caught.value.status == 75
    monkeypatch.undo()
    loop, totals = job(comm, mpi_tmp_path, *options, enough=100)
    assert 0 < loop.first < loop.done == 14
    assert totals[-1] == [105.0] * 3
    if comm.rank == 0:
        kept = record.read(mpi_tmp_path / "r.h5")
        assert kept.attributes["first_step"] == loop.first
        assert kept.results["total"].values.tolist() == [105.0] * 3
    assert not (mpi_tmp_path / "c.h5").exists()


@pytest.mark.parametrize("before", [0, 1], ids=["new", "restarted"])
def test_told_before_a_step_it_is_not_to_be_put_back(comm, mpi_tmp_path, monkeypatch, before):
    path = mpi_tmp_path / "c.h5"
    options = ("--checkpoint", str(path))
    if before:
        tell(monkeypatch, 1)
        with pytest.raises(Stop, match="after step 1: the same command"):
            job(comm, mpi_tmp_path, *options, enough=100)
        monkeypatch.undo()
    kept = path.read_bytes() if before else None
    comm.Barrier()
    if comm.rank == comm.size - 1:
        tell(monkeypatch, 0)
    message = "no step was done before SIGUSR1 came, so another start would not get further"
    with pytest.raises(Stop, match=message) as caught:
        job(comm, mpi_tmp_path, *options, enough=100)
    assert caught.value.status == 1 and caught.value.agreed
    monkeypatch.undo()
    assert (path.read_bytes() if path.exists() else None) == kept
    assert not (mpi_tmp_path / "r.h5").exists()
    comm.Barrier()
    loop, totals = job(comm, mpi_tmp_path, *options, enough=100)
    assert (loop.first, totals[-1]) == (before, [105.0] * 3)


def test_sigterm_before_a_step_is_answered_after_it(comm, mpi_tmp_path, monkeypatch):
    tell(monkeypatch, 0, weight=2)
    with pytest.raises(Stop, match="stopped by SIGTERM after step 1: the same") as caught:
        job(comm, mpi_tmp_path, "--checkpoint", str(mpi_tmp_path / "c.h5"))
    assert caught.value.status == 143


def test_without_a_checkpoint_usr1_ends_no_repeat(comm, mpi_tmp_path, monkeypatch):
    tell(monkeypatch, 0)
    assert job(comm, mpi_tmp_path, "--repeats", "2")[1][1:] == [[210.0] * 3] * 2


def test_another_run_that_has_taken_over_is_noticed_at_an_early_end(comm, mpi_tmp_path):
    path = mpi_tmp_path / "c.h5"

    def options(parser):
        add_loop(parser, 20, "numbers")

    argv = ["--output", str(mpi_tmp_path / "r.h5"), "--variant", "numpy", "--checkpoint", str(path)]
    run = Run(comm, argv, "adder.py", "Add.", options)
    with run.loop({}, 8) as loop:
        for _ in run.repeats():
            for step in loop.steps(dict):
                if step == 5:
                    break
        if comm.rank == 0:
            (mpi_tmp_path / ".c.h5.owner").write_text("somebody else")
        run.on_root(run.check, 0.0, 1.0, "exact")
        with pytest.raises(Stop, match="another run has taken over"):
            run.finish({}, work=1, kernel_bytes=0)
    assert not (mpi_tmp_path / "r.h5").exists()


def test_a_state_that_is_none_is_a_mistake_of_the_job(comm, mpi_tmp_path):
    # Also under `python -O`, which leaves out assertions: such a checkpoint would lack it.
    loop, _ = job(comm, mpi_tmp_path)
    if comm.rank == 0:
        with pytest.raises(TypeError, match="the result 'total' is left out"):
            loop._kept(lambda: {"total": 1.0})
