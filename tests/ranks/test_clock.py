import time

import numpy as np
import pytest

from rankwise.ranks import clock
from rankwise.ranks.clock import PHASES, Clock


def test_process_start_is_before_now():
    first = clock.since_process_start()
    time.sleep(0.05)
    assert clock.since_process_start() - first == pytest.approx(0.05, abs=0.03)


def test_samples_fall_to_their_repeat_and_the_warm_up_to_none():
    watch = Clock(3)
    seen = []
    for repeat in watch.repeats():
        seen.append(repeat)
        with watch.phase("kernel"):
            time.sleep(0.01 if repeat >= 0 else 0.2)
    with watch.phase("write"):
        pass
    assert seen == [-1, 0, 1, 2]
    kernel = watch.seconds[:, PHASES.index("kernel")]
    assert ((kernel >= 0.01) & (kernel < 0.2)).all()
    assert np.isfinite(watch.seconds[:, PHASES.index("write")]).tolist() == [True, False, False]


def test_parts_of_a_phase_add_up():
    watch = Clock(1)
    for _ in range(3):
        with watch.phase("scatter"):
            time.sleep(0.01)
    assert watch.seconds[0, PHASES.index("scatter")] >= 0.03


def test_a_phase_ends_when_the_device_has_finished():
    watch = Clock(1)
    watch.synchronize = lambda: time.sleep(0.02)
    with watch.phase("kernel"):
        pass
    assert watch.seconds[0, PHASES.index("kernel")] >= 0.02


def test_an_unknown_phase_is_refused():
    with pytest.raises(ValueError, match="unknown phase 'lunch': choose from import"):
        with Clock(1).phase("lunch"):
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
