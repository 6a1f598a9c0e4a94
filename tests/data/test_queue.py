import json
import logging
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.data import collectives
from rankwise.data import queue as queues
from rankwise.data.queue import Queue
from rankwise.data.schedules import SCHEDULES, Chunks
from rankwise.node import device
from rankwise.node.rank import Rank
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES, Clock
from rankwise.ranks.progress import Progress
from tests.data.pretended import NamingClock, running_clock

ROOT = Path(__file__).parents[2]
SIZES = st.integers(1, 40)


def chunks_of(schedule, tasks, ranks, size):
    chunks = Chunks(schedule, tasks, ranks, size)
    return chunks, [chunks[number] for number in range(len(chunks))]


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(tasks=st.integers(0, 300), ranks=SIZES, size=SIZES)
def test_chunks_hold_each_task_once_and_in_order(schedule, tasks, ranks, size):
    chunks, bounds = chunks_of(schedule, tasks, ranks, size)
    ends = [0, *(stop for _, stop in bounds)]
    assert [first for first, _ in bounds] == ends[:-1]
    assert ends[-1] == tasks
    for number, (first, stop) in enumerate(bounds):
        assert {chunks.number_of(task) for task in range(first, stop)} <= {number}
    dealt = [chunks.of(rank) for rank in range(ranks)]
    if schedule in ("block", "cyclic"):
        assert sorted(number for each in dealt for number in each) == list(range(len(chunks)))
    else:
        assert set(dealt) == {None}


@given(tasks=st.integers(1, 300), ranks=SIZES, size=SIZES)
def test_chunks_have_the_sizes_of_their_schedule(tasks, ranks, size):
    sizes = {}
    for schedule in SCHEDULES:
        _, bounds = chunks_of(schedule, tasks, ranks, size)
        sizes[schedule] = [stop - first for first, stop in bounds]
    assert len(sizes["block"]) == ranks
    assert max(sizes["block"]) - min(sizes["block"]) <= 1
    assert sizes["cyclic"] == sizes["dynamic"]
    assert set(sizes["dynamic"][:-1]) <= {size}
    assert sizes["dynamic"][-1] <= size
    guided, left = sizes["guided"], tasks
    for each in guided:
        assert each == min(left, max(size, left // (2 * ranks)))
        left -= each
    assert all(one >= other for one, other in pairwise(guided))


def test_a_rank_of_a_cyclic_schedule_has_every_so_manieth_chunk():
    assert list(Chunks("cyclic", 20, 3, 2).of(1)) == [1, 4, 7]


@pytest.fixture
def rank(comm):
    return Rank(comm, running_clock(), device.choose(comm, "numpy", 1))


def numbers(first, out):
    out[:] = np.arange(first, first + len(out))


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("shape", "message_bytes"), [((), 100), (3, 2**26), ((2, 5), 1)])
def test_results_come_in_the_order_of_the_tasks(rank, schedule, shape, message_bytes, monkeypatch):
    monkeypatch.setattr(collectives, "MESSAGE_BYTES", message_bytes)
    for tasks, at_once in ((0, None), (1, None), (50, 1), (50, 7), (50, 1000)):
        with Queue(rank, tasks, shape, np.int32, schedule) as queue:
            queue.compute(numbers, at_once)
            every = queue.gather()
            assert queue.wrong_tasks(every) == queue.other_results(every, numbers, 3) == 0
        if rank.comm.rank == 0:
            width = (shape,) if isinstance(shape, int) else shape
            assert every.dtype == np.int32 and every.shape == (tasks, *width)
            np.testing.assert_array_equal(every.reshape(-1), np.arange(every.size))
        else:
            assert every is None


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_call_gets_no_more_than_at_once_and_none_of_two_chunks(rank, schedule):
    asked = []

    def call(first, out):
        asked.append((first, len(out)))

    with Queue(rank, 40, 6, schedule=schedule) as queue:
        queue.compute(call, 4)
        assert max((length for _, length in asked), default=0) <= 4
        del asked[:]
        # By default those of a task, with no result of another one.
        queue.compute(call)
        assert {(first % 6, length) for first, length in asked} <= {(0, 6)}
        done = [first // 6 for first, _ in asked]
        assert done == sorted(done)
        assert sorted(task for each in rank.comm.allgather(done) for task in each) == [*range(40)]


@pytest.mark.mpi
def test_a_queue_can_be_computed_again(rank):
    with Queue(rank, 30, schedule="dynamic") as queue:
        for factor in (1, 2):
            queue.compute(lambda first, out: np.copyto(out, factor * first))  # noqa: B023
            every = queue.gather()
            if every is not None:
                np.testing.assert_array_equal(every, factor * np.arange(30))


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_chunks_are_logged_by_the_rank_that_does_them(rank, schedule, caplog):
    caplog.set_level(logging.INFO, "rankwise")
    with Queue(rank, 10, schedule=schedule) as queue:
        queue.compute(numbers)
        own = {number: queue._chunks[number] for number in queue._own}
    told = [text for text in caplog.messages if text.startswith("chunk ")]
    assert told == [f"chunk {n}: tasks {first} to {end - 1}" for n, (first, end) in own.items()]
    both = rank.comm.allgather(told)
    assert len({text for each in both for text in each}) == len(queue._chunks)


@pytest.mark.mpi
def test_the_warm_up_does_one_piece_and_leaves_nothing(comm):
    rank = Rank(comm, Clock(1), device.choose(comm, "numpy", 1))
    calls = []
    with Queue(rank, 50, 8) as queue:
        for repeat in rank.clock.repeats():
            queue.compute(lambda first, out: calls.append((first, len(out))), 4)
            every = queue.gather()
            if repeat < 0:
                assert calls == [(comm.rank * 8, 4)]
                assert every is None or not every.any()
        balance = queue.balance()
    if balance is not None:
        assert balance.chunks.shape == (1, comm.size)


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_balance_tells_who_was_busy(rank, schedule):
    def call(first, out):
        end = time.process_time() + (0.004 if first < 4 else 0.0005)
        while time.process_time() < end:
            pass

    began = time.perf_counter()
    with Queue(rank, 20, schedule=schedule) as queue:
        queue.compute(call)
        balance = queue.balance()
        own = len(queue._own)
    owns = rank.comm.gather(own)
    if balance is not None:
        assert (balance.schedule, balance.tasks) == (schedule, 20)
        assert balance.chunks.tolist() == [owns]
        # Four tasks of 4 ms and sixteen of half a millisecond, by the time of their processors.
        assert 0.024 <= balance.busy.sum() < rank.comm.size * (time.perf_counter() - began)
        assert (balance.longest <= balance.busy).all()
        assert balance.longest.max() >= 0.004


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", ["cyclic", "dynamic"])
def test_phases_of_a_queue(rank, schedule):
    with Queue(rank, 3 * rank.comm.size, schedule=schedule) as queue:
        queue.compute(numbers)
        queue.gather()
    spent = dict(zip(PHASES, rank.clock.seconds[0], strict=True))
    # Of a dynamic queue the others may have taken all.
    kernel = {"kernel"} if queue._own else set()
    assert schedule == "dynamic" or kernel
    assert {name for name, seconds in spent.items() if seconds > 0} == {
        *("queue", "wait", "gather"),
        *kernel,
    }


@pytest.mark.mpi
def test_the_clock_knows_which_rank_is_waited_for(comm, monkeypatch):
    monkeypatch.setattr(collectives, "MESSAGE_BYTES", 8)
    rank = Rank(comm, NamingClock(), device.choose(comm, "numpy", 1))
    with Queue(rank, 2 * comm.size, schedule="cyclic") as queue:
        queue.compute(numbers)
        before = rank.clock.moves
        queue.gather()
    # Two results of each rank, a message each.
    others = sorted(list(range(1, comm.size)) * 2)
    assert rank.clock.named == (others if comm.rank == 0 else [0])
    assert rank.clock.moves - before == 2 + (len(others) if comm.rank == 0 else 2)
    with Queue(rank, comm.size, schedule="dynamic") as queue:
        rank.clock.named.clear()
        queue.compute(numbers)
        # One answer for each chunk, and at last that there is none.
        assert rank.clock.named == [0] * (len(queue._own) + 1)


@pytest.mark.mpi
def test_busy_seconds_are_those_of_processors_and_add_up(comm):
    rank = Rank(comm, Clock(2), device.choose(comm, "numpy", 1))
    with Queue(rank, 4 * comm.size, schedule="cyclic") as queue:
        for _ in rank.clock.repeats():
            for _ in range(2):
                queue.compute(lambda first, out: time.sleep(0.01))
        balance = queue.balance()
    if balance is not None:
        # Two times four tasks each in both repeats, in which a processor has next to nothing to do.
        assert (balance.chunks == 8).all() and balance.chunks.shape == (2, comm.size)
        assert (balance.busy > 0).all() and (balance.busy < 0.04).all()
        assert (balance.longest < balance.busy).all() and (balance.longest > 0).all()


@pytest.mark.mpi
def test_the_next_chunk_is_asked_for_before_the_last_piece(rank, monkeypatch):
    order = []
    right = queues._Counter.ask
    monkeypatch.setattr(queues._Counter, "ask", lambda self: (order.append("ask"), right(self)))
    with Queue(rank, 3, 4, schedule="dynamic") as queue:
        queue.compute(lambda first, out: order.append(first % 4), 2)
    assert "".join(map(str, order)) == "ask" + "0ask2" * len(queue._own)


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_task_that_is_wrong_on_rank_0_lost_or_done_twice_is_counted(rank, schedule):
    with Queue(rank, 33, 4, np.int32, schedule) as queue:
        queue.compute(numbers)
        every = queue.gather()
        if every is not None:
            every[32, 3] ^= 1
            every[[4, 5]] = every[[5, 4]]
        assert queue.wrong_tasks(every) == 3
        every = queue.gather()
        # As if nobody, and then all ranks, had done the first chunk.
        first, stop = queue._chunks[0]
        queue._done = [done[done != 0] for done in queue._done]
        queue._own.pop(0, None)
        assert queue.wrong_tasks(every) == stop - first
        queue._done = [np.array([0, *done]) for done in queue._done]
        queue._own = {0: np.arange(4 * stop, dtype=np.int32), **queue._own}
        assert queue.wrong_tasks(every) == (stop - first if rank.comm.size > 1 else 0)


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_sample_is_done_again_on_another_rank(rank, schedule):
    comm, first_time, again = rank.comm, [], []
    with Queue(rank, 100, 2, np.int32, schedule) as queue:
        queue.compute(lambda first, out: (numbers(first, out), first_time.append(first // 2)))
        every = queue.gather()

        def other(first, out):
            again.append(first // 2)
            numbers(first, out)
            if first // 2 in (0, 99):
                out[1] += 1

        before = rank.clock.moves
        # The first and the last task are in it: groups of 16, one of each.
        assert queue.other_results(every, other) == 2
    assert rank.clock.moves - before == len(again)
    both = comm.allgather((first_time, again))
    sample = sorted(task for _, tasks in both for task in tasks)
    assert len(sample) == len(set(sample))
    # And the last one of each rank.
    groups = [0, 23, 46, 53, 76, 83, 99]
    assert set(sample) == {*groups, *(max(done) for done, _ in both if done)}
    for done, tasks in both:
        assert comm.size == 1 or not set(done) & set(tasks)


@pytest.mark.mpi
def test_too_little_memory_for_all_results_is_told_before(rank, monkeypatch):
    share = 1 + rank.device.node.size / rank.comm.size
    monkeypatch.setattr(queues.memory, "available", lambda: int(8000 * share))
    monkeypatch.setattr(queues, "_CHUNK_BYTES", 0)
    Queue(rank, 1000, schedule="block")
    with pytest.raises(
        Stop, match=r"the results of 1001 tasks in \d+ chunks? take 1.\de-05 GB on the "
    ):
        Queue(rank, 1001, schedule="block")


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", ["cyclic", "guided", "dynamic"])
def test_a_chunk_has_no_more_tasks_than_there_are(rank, schedule):
    with Queue(rank, 9, schedule=schedule, chunk=9) as queue:
        queue.compute(numbers)
    with pytest.raises(Stop, match="a chunk of 10 tasks cannot be had: there are 9 tasks") as stop:
        Queue(rank, 9, schedule=schedule, chunk=10)
    assert stop.value.agreed and stop.value.status == 2


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_computes_inside_its_context_only(rank, schedule):
    queue = Queue(rank, 9, schedule=schedule)
    with pytest.raises(RuntimeError, match="inside its context only: with queue:"):
        queue.compute(numbers)
    with queue:
        queue.compute(numbers)
        with pytest.raises(ValueError, match="a call cannot have -1 results at once"):
            queue.compute(numbers, -1)
    with pytest.raises(RuntimeError, match="inside its context only: with queue:"):
        queue.compute(numbers)


@pytest.mark.mpi
def test_chunks_take_memory_too(rank, monkeypatch):
    monkeypatch.setattr(queues.memory, "available", lambda: 10**6)
    Queue(rank, 10**4, dtype=np.int8, schedule="guided")
    with pytest.raises(Stop, match="tasks in 10000 chunks take"):
        Queue(rank, 10**4, dtype=np.int8, schedule="dynamic")


@pytest.mark.mpi
def test_a_block_has_no_size(rank):
    with pytest.raises(Stop, match="with the schedule block each rank has one chunk"):
        Queue(rank, 9, schedule="block", chunk=1)
    for wrong, message in (
        ({"schedule": "static"}, "no schedule 'static': choose from block, cyclic, "),
        ({"shape": 0}, "there are no 9 tasks with 0 results each"),
        ({"tasks": -1}, "there are no -1 tasks with 1 results each"),
    ):
        with pytest.raises(ValueError, match=message):
            Queue(rank, **({"tasks": 9} | wrong))


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_exception_has_the_number_of_its_task(rank, schedule):
    """On one rank the others would wait, and `launch` ends them; so here all ranks raise."""
    with Queue(rank, 4 * rank.comm.size, 3, schedule=schedule) as queue:
        raised = []

        def call(first, out):
            raised.append(first // 3)
            raise error

        error = ValueError("no such thing")
        with pytest.raises(ValueError, match="no such thing") as caught:
            queue._compute_chunk(rank.comm.rank, call, 2)
        total = 4 * rank.comm.size
        assert caught.value.__notes__ == [f"in task {raised[0]} of {total}, counted from 0"]
        with pytest.raises(ValueError, match="no such thing") as caught:
            queue._call(call, 3, np.empty(9))
        assert caught.value.__notes__[-1] == f"in tasks 1 to 3 of {total}, counted from 0"
        error = Stop("no number", 7)
        with pytest.raises(Stop, match=rf"^task {raised[0]} of {total}, counted from 0: no number"):
            queue._compute_chunk(rank.comm.rank, call, 2)


@pytest.mark.mpi
def test_the_counter_is_freed_unless_one_rank_fails_alone(rank, monkeypatch):
    from mpi4py import MPI

    freed = []
    right = queues._Counter.free
    monkeypatch.setattr(queues._Counter, "free", lambda self: freed.append(right(self)))
    with Queue(rank, 2) as queue:
        pass
    assert len(freed) == 1
    assert queue._counter._window == MPI.WIN_NULL
    agreed = Stop("all ranks")
    agreed.agreed = True
    for error, times in ((agreed, 2), (Stop("this one"), 2), (KeyError(), 2)):
        with pytest.raises(type(error)), Queue(rank, 2) as queue:
            raise error
        assert len(freed) == times
        if not getattr(error, "agreed", False):
            right(queue._counter)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_progress_goes_up_to_all_tasks(schedule, monkeypatch):
    from mpi4py import MPI

    reached = []
    monkeypatch.setattr(Progress, "reach", lambda self, done: reached.append(done))
    rank = Rank(MPI.COMM_SELF, Clock(2), device.choose(MPI.COMM_SELF, "numpy", 1))
    with Queue(rank, 30, 2, schedule=schedule) as queue:
        for _ in rank.clock.repeats():
            queue.compute(numbers, 1)
    assert not queue._progress.even
    # On one rank: each task is done when its second result is there.
    assert reached == [number // 2 for number in range(1, 121)]


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_progress_counts_what_the_other_ranks_have_done(rank, schedule, monkeypatch):
    reached = []
    monkeypatch.setattr(Progress, "reach", lambda self, done: reached.append(done))
    with Queue(rank, 12 * rank.comm.size, schedule=schedule) as queue:
        queue.compute(numbers)
    if rank.comm.rank == 0 and schedule in ("block", "cyclic"):
        assert reached == [rank.comm.size * number for number in range(1, 13)]
    elif rank.comm.rank == 0:
        assert max(reached, default=0) <= 12 * rank.comm.size
    else:
        assert reached == []


def test_a_task_that_raises_ends_all_ranks(start, tmp_path):
    script = (
        "from rankwise.job import launch, Stop\n"
        "from rankwise.data.queue import Queue\n"
        "from rankwise.node import device\n"
        "from rankwise.node.rank import Rank\n"
        "from tests.data.pretended import running_clock\n"
        "def call(first, out):\n"
        "    if first == 17: raise ValueError('the thing')\n"
        "def main(comm, argv):\n"
        "    rank = Rank(comm, running_clock(), device.choose(comm, 'numpy', 1))\n"
        "    with Queue(rank, 50) as queue: queue.compute(call)\n"
        "launch(main)\n"
    )
    (tmp_path / "task.py").write_text(script)
    done = start(3, "task.py", env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert "ValueError: the thing\nin task 17 of 50, counted from 0\n" in done.stderr
    assert done.stderr.count("Traceback") == 1


def test_between_nodes_rank_0_answers_while_it_computes(start):
    """Without that, the other rank would get one task while rank 0 does one, 20 in all."""
    env = {"MPIR_CVAR_NOLOCAL": "1", "PYTHONPATH": str(ROOT)}
    done = start(2, ROOT / "tests" / "data" / "stalling_tasks.py", env=env)
    assert done.returncode == 0, done.stderr
    ((first, second),) = json.loads(done.stdout)
    assert first + second == 40
    assert second > 3 * first


def test_a_task_that_leaves_python_is_a_failure(start, tmp_path):
    (tmp_path / "leaves.py").write_text(LEAVES)
    done = start(2, "leaves.py")
    assert done.returncode != 0
    assert "RuntimeError: sys.exit in task 3 of 6, counted from 0" in done.stderr


LEAVES = """
from rankwise.job import Queue, Rank
import sys
from mpi4py import MPI

with Queue(Rank.on_host(MPI.COMM_WORLD), 6, schedule="cyclic") as queue:
    queue.compute(lambda first, out: sys.exit("leaving") if first == 3 else None)
"""
