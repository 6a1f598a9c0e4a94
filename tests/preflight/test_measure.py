import os
import threading
import time

import numpy as np
import pytest

from rankwise.node import device, memory
from rankwise.preflight import measure
from rankwise.preflight.measure import Memory, messages_between, messages_within
from rankwise.ranks.agreement import sleep_until_all
from rankwise.ranks.clock import Clock

CORES = tuple(sorted(os.sched_getaffinity(0)))


@pytest.fixture
def small(monkeypatch):
    """Measure with little, so that the ranks of a test need no second."""
    monkeypatch.setattr(measure, "_LEAST_BYTES", 2**22)
    monkeypatch.setattr(measure, "_CACHES", 0)
    monkeypatch.setattr(measure, "_ROUND_TRIP_SECONDS", 0.02)
    monkeypatch.setattr(measure, "_LONG_MESSAGE", 2**18)


@pytest.mark.mpi
@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_read_and_copied(comm, small, threads):
    memory = Memory(comm, threads, CORES, Clock(1))
    assert comm.allreduce(memory.octets) == pytest.approx(2 * 2**22, rel=0.01)
    assert 0 < memory.read() < 1000
    assert memory.wrong() == memory.source.nbytes
    assert 0 < memory.copy() < 1000
    assert memory.wrong() == 0
    # The same figure on every rank.
    assert len(set(comm.allgather(memory.read()))) == 1


@pytest.fixture
def now(monkeypatch):
    """The seconds of a clock on which nothing takes time by itself, as a list of one."""
    seconds = [1000.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: seconds[0])
    return seconds


@pytest.mark.mpi
def test_bandwidth_is_all_bytes_over_the_slowest_rank(comm, small, now):
    memory = Memory(comm, 1, CORES, Clock(1))

    def slow_on_the_last_rank(part):
        now[0] += 0.05 if comm.rank == comm.size - 1 else 0.01

    expected = comm.allreduce(memory.octets) / 0.05 / 1e9
    assert memory._best(slow_on_the_last_rank) == pytest.approx(expected)
    assert memory.clock.moves == measure.SAMPLES


@pytest.mark.mpi
def test_bandwidths_are_in_gigabytes_a_second(comm, small, now, monkeypatch):
    """Each rank reads 8 GB/s, and copies 4 GB/s, half of them read and half of them written."""
    dot, copyto = np.dot, np.copyto

    def read(x, y):
        now[0] += x.nbytes / 8e9
        return dot(x, y)

    def copy(to, x):
        now[0] += 2 * x.nbytes / 4e9
        copyto(to, x)

    memory = Memory(comm, 1, CORES, Clock(1))
    monkeypatch.setattr(measure.np, "dot", read)
    monkeypatch.setattr(measure.np, "copyto", copy)
    assert memory.read() == pytest.approx(8 * comm.size)
    assert memory.copy() == pytest.approx(4 * comm.size)


def test_arrays_are_larger_than_the_caches(comm, monkeypatch):
    monkeypatch.setattr(measure, "_LEAST_BYTES", 2**22)
    monkeypatch.setattr(measure, "_cache_bytes", lambda: 2**20 - 2**10)
    assert Memory(comm, 1, CORES, Clock(1)).source.nbytes == 2**22
    monkeypatch.setattr(measure, "_cache_bytes", lambda: 2**21)
    assert Memory(comm, 1, CORES, Clock(1)).source.nbytes == 2**23
    assert not Memory(comm, 1, CORES, Clock(1)).cached
    monkeypatch.setattr(measure.memory, "available", lambda: 2**20)
    assert Memory(comm, 1, CORES, Clock(1)).source.nbytes == 2**17
    assert Memory(comm, 1, CORES, Clock(1)).cached


def test_arrays_are_not_small_where_caches_are():
    assert measure._LEAST_BYTES == 2**28


def test_sizes_are_those_of_the_machine():
    assert 0 <= measure._cache_bytes() < 2**34
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**26 < memory.available() <= total


def test_memory_of_the_job_counts(monkeypatch):
    monkeypatch.setattr(memory.groups, "memory_limits", lambda: [2**27])
    assert memory.available() == 2**27


@pytest.mark.mpi
def test_messages_within_a_node(comm, small):
    node = device.choose(comm, "numpy").node
    found = messages_within(comm, node)
    assert len(found) == (comm.rank == 0 and comm.size > 1)
    for connection in found:
        assert 0 < connection.latency < 1
        assert connection.bandwidth > 0
        assert connection.wrong == 0
        assert connection.hosts == os.uname().nodename


@pytest.mark.mpi
def test_messages_between_nodes(comm, small):
    # Each rank a node of its own.
    found = messages_between(comm, comm.Split(comm.rank))
    assert len(found) == (comm.size - 1 if comm.rank == 0 else 0)
    assert all(0 < connection.latency < 1 and connection.wrong == 0 for connection in found)


@pytest.mark.mpi
def test_wrong_bytes_are_counted(comm, small):
    class Broken:
        """A communicator that loses a bit of what comes back to rank 0."""

        rank, size = comm.rank, comm.size

        def Recv(self, message, partner):
            comm.Recv(message, partner)
            if self.rank == 0:
                message[5] ^= 1

        Send, sendrecv = staticmethod(comm.Send), staticmethod(comm.sendrecv)

    if comm.rank < 2 <= comm.size:
        found = measure._ping_pong(Broken(), 1 - comm.rank)
        assert (found is None) == (comm.rank == 1)
        if comm.rank == 0:
            # Of the short and of the long messages.
            assert found.wrong == 2


@pytest.mark.mpi
def test_bytes_that_never_travel_are_wrong(comm, small):
    class Forgetful:
        """A communicator that delivers the first byte only."""

        rank, size = comm.rank, comm.size

        def Recv(self, message, partner):
            whole = np.empty_like(message)
            comm.Recv(whole, partner)
            message[0] = whole[0]

        Send, sendrecv = staticmethod(comm.Send), staticmethod(comm.sendrecv)

    if comm.rank < 2 <= comm.size:
        found = measure._ping_pong(Forgetful(), 1 - comm.rank)
        assert comm.rank == 1 or found.wrong > 2**17


@pytest.mark.mpi
def test_a_message_of_the_round_before_is_wrong(comm, small):
    class Late:
        """A communicator that delivers, after the first byte, what was to come a round before."""

        rank, size = comm.rank, comm.size

        def __init__(self):
            self.before = {}

        def Recv(self, message, partner):
            comm.Recv(message, partner)
            now = message.copy()
            message[1:] = self.before.get(message.size, now)[1:]
            self.before[message.size] = now

        Send, sendrecv = staticmethod(comm.Send), staticmethod(comm.sendrecv)

    if comm.rank < 2 <= comm.size:
        found = measure._ping_pong(Late(), 1 - comm.rank)
        assert comm.rank == 1 or found.wrong == 1 + 2**18 // measure._CHANGED


@pytest.mark.mpi
def test_elements_that_are_copied_to_another_place_are_wrong(comm, small):
    memory = Memory(comm, 2, CORES, Clock(1))
    first, second = memory.parts
    memory.copy()
    size = min(first.stop - first.start, second.stop - second.start)
    memory.target[second.start : second.start + size] = memory.source[first.start :][:size]
    assert memory.wrong() == 8 * size


@pytest.mark.mpi
def test_figures_of_a_connection(comm, monkeypatch):
    # Round trips of 2, 4 and 6 us, then of 8 and 4 ms.
    taken = {8: [2e-6, 6e-6, 4e-6], measure._LONG_MESSAGE: [8e-3, 4e-3]}
    seconds = (lambda octets: taken[octets]) if comm.rank == 0 else (lambda octets: [])
    monkeypatch.setattr(measure, "_round_trips", lambda c, p, octets: (seconds(octets), 0))
    if comm.rank < 2 <= comm.size:
        found = measure._ping_pong(comm, 1 - comm.rank)
        assert (found is None) == (comm.rank == 1)
        if comm.rank == 0:
            assert found.latency == 2e-6
            assert found.bandwidth == pytest.approx(2**24 / 2e-3 / 1e9)


def test_a_file_is_written_renamed_and_removed(tmp_path):
    speed, rename, locks, wrong = measure.file_system(tmp_path)
    assert speed > 0 and 0 < rename < 1
    assert (locks, wrong) == (True, 0)
    assert list(tmp_path.iterdir()) == []


def test_figures_of_a_file_system(tmp_path, monkeypatch):
    # Written from 10 s to 10.5 s, renamed until 10.75 s.
    times = iter([10.0, 10.5, 10.75])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(times))
    speed, rename, _, _ = measure.file_system(tmp_path)
    assert (speed, rename) == (pytest.approx(2**26 / 0.5 / 1e9), 0.25)


def test_each_part_has_one_thread(comm, small):
    memory, seen = Memory(comm, 3, CORES, Clock(1)), {}
    for _ in range(20):
        memory._each(lambda part: seen.setdefault(part.start, set()).add(threading.get_ident()))
    assert [len(threads) for threads in seen.values()] == [1, 1, 1]
    assert len(set.union(*seen.values())) == 3


def test_its_threads_are_not_where_openmp_has_bound_the_first(comm, small):
    os.sched_setaffinity(0, CORES[:1])
    try:
        memory, seen = Memory(comm, 2, CORES, Clock(1)), []
        memory._each(lambda part: seen.append(os.sched_getaffinity(0)))
    finally:
        os.sched_setaffinity(0, CORES)
    assert seen == [set(CORES)] * 2


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError):
        measure.file_system(tmp_path / "none")


def test_no_locks_are_noticed(tmp_path, monkeypatch):
    import fcntl

    def refuse(file, operation):
        raise OSError(524, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / "x").touch()
    assert not measure._locks(tmp_path / "x")


@pytest.mark.mpi
@pytest.mark.parametrize("measured", [messages_within, messages_between])
def test_who_sends_nothing_sleeps_meanwhile(comm, small, monkeypatch, measured):
    slept = []
    right = measure.sleep_until_all
    monkeypatch.setattr(measure, "sleep_until_all", lambda c: slept.append(c) or right(c))
    measured(comm, comm.Split(comm.rank))
    assert slept == [comm]


@pytest.mark.mpi
def test_waiting_takes_no_core(comm):
    comm.Barrier()
    begin, used = time.monotonic(), time.process_time()
    if comm.rank == 0:
        time.sleep(0.5)
    sleep_until_all(comm)
    assert time.monotonic() - begin >= 0.5
    assert time.process_time() - used < 0.25


def test_only_first_ranks_count_for_nodes(comm):
    assert measure.of_nodes(comm, comm, "a") == ["a"]
