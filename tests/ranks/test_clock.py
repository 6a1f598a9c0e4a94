import logging
import time
from types import SimpleNamespace

import numpy as np
import pytest

from rankwise.ranks import clock
from rankwise.ranks.clock import ONCE, PHASES, REPEATED, Clock


@pytest.fixture
def sleep(monkeypatch):
    """Return a function that lets seconds pass, by a clock on which nothing else takes time."""
    now = [0.0]

    def pass_time(seconds):
        now[0] += seconds

    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return pass_time


def timed(body, before=lambda: None):
    """Return the clock of a run that calls ``body(watch)`` in its warm-up and in one repeat."""
    watch = Clock(1)
    for _ in watch.repeats(before):
        body(watch)
    return watch


def seconds(watch, repeat=0):
    """Return the seconds of the phases that ran in a repeat, by name."""
    row = zip(PHASES, watch.seconds[repeat].tolist(), strict=True)
    return {name: pytest.approx(each) for name, each in row if not np.isnan(each)}


def test_process_start_is_before_now():
    outside = time.monotonic()
    first = clock.since_process_start()
    inside = time.monotonic()
    time.sleep(0.05)
    inside = time.monotonic() - inside
    found = clock.since_process_start() - first
    outside = time.monotonic() - outside
    assert inside - 1e-3 <= found <= outside + 1e-3


def test_samples_fall_to_their_repeat_and_the_warm_up_to_none(sleep):
    watch = Clock(3)
    seen = []
    for repeat in watch.repeats():
        seen.append(repeat)
        with watch.phase("kernel"):
            sleep(2 + repeat)
    with watch.phase("write"):
        pass
    assert seen == [-1, 0, 1, 2]
    assert watch.seconds[:, PHASES.index("kernel")].tolist() == [2, 3, 4]
    assert np.isfinite(watch.seconds[:, PHASES.index("write")]).tolist() == [True, False, False]


def test_a_repeat_is_wall_clock():
    """Also what no phase covers counts: it is in `other`, and the phases add up to the whole."""
    watch, outside, inside = Clock(2), [], []
    for repeat in watch.repeats(lambda: outside.append(time.perf_counter())):
        begin = time.perf_counter()
        if repeat >= 0:
            with watch.phase("kernel"):
                time.sleep(0.02)
            time.sleep(0.05)
            with watch.phase("halo"):
                time.sleep(0.01)
        inside.append(time.perf_counter() - begin)
    outside = np.diff([*outside, time.perf_counter()])
    columns = [PHASES.index(name) for name in REPEATED]
    wall = np.nansum(watch.seconds[:, columns], axis=1)
    assert (wall >= inside[1:]).all() and (wall <= outside[1:]).all()
    assert (wall >= 0.08).all()
    other = watch.seconds[:, PHASES.index("other")]
    assert (other >= 0.05).all()
    assert (other <= wall - 0.03 + 1e-9).all()


def test_other_is_what_no_phase_covers(sleep):
    def body(watch):
        sleep(1)
        with watch.phase("kernel"):
            sleep(2)
        sleep(4)
        watch.add("halo", 0.5)

    assert seconds(timed(body)) == {"kernel": 2, "halo": 0.5, "other": 4.5}


def test_what_is_measured_otherwise_leaves_no_less_than_nothing(sleep):
    # On another clock, as that of a GPU.
    def body(watch):
        sleep(1)
        watch.add("kernel", 1.25)

    assert seconds(timed(body)) == {"kernel": 1.25, "other": 0}


def test_waiting_for_the_others_before_a_repeat_is_not_in_it(sleep):
    def body(watch):
        with watch.phase("kernel"):
            sleep(2)

    assert seconds(timed(body, lambda: sleep(8))) == {"kernel": 2, "other": 0}


def test_parts_of_a_phase_add_up(sleep):
    def body(watch):
        for _ in range(3):
            with watch.phase("scatter"):
                sleep(1)
        watch.add("scatter", 0.25)

    watch = timed(body)
    assert seconds(watch)["scatter"] == 3.25
    assert watch.total("scatter") == pytest.approx(3.25)


def test_a_phase_inside_another_counts_once(sleep):
    def body(watch):
        with watch.phase("checkpoint"):
            sleep(1)
            with watch.phase("gather"):
                sleep(2)
                with watch.phase("to_host"):
                    sleep(4)
                with watch.phase("gather"):
                    sleep(8)
            sleep(16)
        sleep(32)

    expected = {"checkpoint": 17, "gather": 10, "to_host": 4, "other": 32}
    assert seconds(timed(body)) == expected


@pytest.mark.parametrize("name", ONCE)
def test_a_phase_that_runs_once_is_none_of_a_timed_repeat(name):
    watch = Clock(1)
    for repeat in watch.repeats():
        if repeat == -1:
            # Kernels that compile themselves do so here.
            with watch.phase(name):
                pass
        else:
            with pytest.raises(ValueError, match=f"'{name}' runs once: put it before or after"):
                with watch.phase(name):
                    raise AssertionError("is not reached")
    assert seconds(watch).keys() == {"other"}


def test_outside_of_the_repeats_counts_what_runs_once_alone(sleep):
    watch = Clock(2)
    with watch.phase("import"):
        sleep(1)
        # Of those that run in each repeat; the first one is not over.
        with watch.phase("read"):
            sleep(2)
    with watch.phase("kernel"):
        sleep(4)
    for _ in watch.repeats():
        with watch.phase("kernel"):
            sleep(8)
    with watch.phase("gather"):
        sleep(16)
    with watch.phase("import"):
        sleep(32)
    assert seconds(watch, 0) == {"import": 33, "kernel": 8, "other": 0}
    assert seconds(watch, 1) == {"kernel": 8, "other": 0}


def test_what_came_before_the_clock_is_in_it(monkeypatch):
    monkeypatch.setattr(clock, "startup", {"import": 2.0, "init": 0.5})
    watch = Clock(2)
    assert seconds(watch, 0) == {"import": 2, "init": 0.5}
    assert seconds(watch, 1) == {}
    watch.add("import", 1)
    assert watch.total("import") == pytest.approx(3)


def test_an_exception_in_a_phase_leaves_the_clock_usable(sleep):
    def body(watch):
        with pytest.raises(OSError, match="lost"):
            with watch.phase("gather"), watch.phase("to_host"):
                sleep(1)
                raise OSError("lost")
        with watch.phase("kernel"):
            sleep(2)
        with watch.phase("read"):
            with pytest.raises(OSError, match="lost"), watch.phase("scatter"):
                sleep(4)
                raise OSError("lost")
            sleep(8)

    found = seconds(timed(body))
    # What fails is no sample of its phase; the repeat is as long as it was.
    assert found == {"kernel": 2, "read": 12, "other": 1}


def test_the_warm_up_is_known():
    watch = Clock(2)
    assert not watch.warming_up
    assert [watch.warming_up for _ in watch.repeats()] == [True, False, False]
    assert not watch.warming_up


def test_a_phase_ends_when_the_device_has_finished(sleep):
    # The kernel is started, and takes a second.
    started = []

    def synchronize():
        sleep(len(started))
        started.clear()

    def body(watch):
        watch.synchronize = synchronize
        with watch.phase("kernel"):
            started.append("kernel")
        # And so does the repeat.
        started.append("kernel")

    assert seconds(timed(body)) == {"kernel": 1, "other": 1}


@pytest.mark.parametrize("name", ["lunch", "other"])
def test_an_unknown_phase_is_refused(name):
    with pytest.raises(ValueError, match=f"unknown phase '{name}': choose from import, .*, write$"):
        with Clock(1).phase(name):
            pass


@pytest.mark.mpi
def test_gather_orders_repeats_phases_ranks(comm):
    watch = Clock(2)
    watch.seconds[:] = comm.rank
    timings = watch.gather(comm)
    if comm.rank == 0:
        assert timings.shape == (2, len(PHASES), comm.size)
        assert (timings == np.arange(comm.size)).all()
    else:
        assert timings is None


def test_total_adds_the_repeats():
    clock = Clock(3)
    assert clock.total("kernel") == 0
    clock.seconds[:, PHASES.index("kernel")] = [1.0, np.nan, 2.5]
    assert clock.total("kernel") == 3.5


def test_what_is_added_inside_a_phase_counts_once(sleep):
    def body(watch):
        with watch.phase("read"):
            sleep(5)
            # As a device measures its kernel.
            watch.add("kernel", 3)

    assert seconds(timed(body)) == {"read": 2, "kernel": 3, "other": 0}


def test_the_counter_moves_with_each_step_and_phase():
    watch, moves = Clock(1), []
    for _ in watch.repeats():
        moves.append(watch.moves)
        watch.begin_step(7)
        moves.append(watch.moves)
        with watch.phase("kernel"):
            moves.append(watch.moves)
            with watch.phase("halo"):
                moves.append(watch.moves)
            moves.append(watch.moves)
        moves.append(watch.moves)
        # What is measured otherwise was no move of its own.
        watch.add("kernel", 1)
        assert watch.moves == moves[-1]
    # The ranks wait for each other before a repeat: two more.
    assert moves == [*range(2, 8), *range(9, 15)]


def test_a_phase_that_fails_has_moved_and_is_left():
    watch = Clock(1)
    with pytest.raises(OSError, match="lost"), watch.phase("gather"):
        watch.waits_for = 3
        raise OSError("lost")
    assert (watch.moves, watch.current, watch.waits_for) == (2, "other", None)


def test_the_clock_knows_where_its_rank_is():
    watch = Clock(1)
    assert (watch.current, watch.step, watch.waits_for) == ("other", None, None)
    with watch.phase("exchange"):
        watch.waits_for = 1
        assert (watch.current, watch.waits_for) == ("exchange", 1)
        with watch.phase("to_host"):
            assert watch.current == "to_host"
        assert (watch.current, watch.waits_for) == ("exchange", None)
        watch.waits_for = 2
    assert (watch.current, watch.waits_for) == ("other", None)
    for step in (4, 5):
        watch.begin_step(step)
        assert watch.step == step


def test_what_the_clock_measures_is_logged(sleep, caplog):
    def body(watch):
        watch.begin_step(12)
        # That of the read is told with what is inside.
        with watch.phase("read"):
            sleep(2)
            with watch.phase("to_host"):
                sleep(0.5)
            with pytest.raises(OSError, match="lost"), watch.phase("wait"):
                sleep(0.25)
                raise OSError("lost")

    caplog.set_level(logging.INFO, "rankwise")
    timed(body)
    inside = [
        *("begin read", "begin to_host", "end to_host after 0.500000 s"),
        *("begin wait", "end wait after 0.250000 s", "end read after 2.750000 s"),
    ]
    before = ["begin wait", "end wait after 0.000000 s"]
    warm_up = [*before, "warm-up", "step 12", *inside]
    assert caplog.messages == [*warm_up, *before, "repeat 0", "step 12", *inside]
    assert {each.levelname for each in caplog.records} == {"INFO"}
