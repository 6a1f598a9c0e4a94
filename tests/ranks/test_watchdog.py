"""Ranks that stand still are reported, and those that work are not."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rankwise.data.halo import HaloRows
from rankwise.node import device
from rankwise.node.rank import Rank
from rankwise.ranks import places, watchdog
from rankwise.ranks.clock import Clock
from rankwise.ranks.places import Place
from rankwise.ranks.watchdog import Watchdog

ROOT = Path(__file__).resolve().parents[2]
MISMATCH = ROOT / "docs" / "examples" / "mismatch.py"
HEADER = r"for [\d.]+ s no phase and no step has begun or ended on any rank:"
OF_SOME = HEADER.replace("rank:", "rank that answers:")
LIMIT_SECONDS = 30


class Told:
    """What the watchdog of this rank has told, and files by which all ranks learn of it."""

    def __init__(self, folder):
        self.folder, self.texts = folder, []

    def __call__(self, text):
        self.texts.append(text)
        (self.folder / f"told-{len(self.texts)}").touch()

    def wait(self, number):
        """Wait until some rank has told so many things."""
        end = time.monotonic() + LIMIT_SECONDS
        while not (self.folder / f"told-{number}").exists():
            assert time.monotonic() < end, "nothing was told"
            time.sleep(0.005)


@pytest.fixture
def told(mpi_tmp_path, monkeypatch):
    # On a busy machine too only rank 0 asks, where a test does not say otherwise.
    monkeypatch.setattr(watchdog, "_ANSWER_SECONDS", 20.0)
    found = Told(mpi_tmp_path)
    monkeypatch.setattr(watchdog, "_tell", found)
    return found


@pytest.mark.mpi
def test_ranks_are_reported_where_they_stand(comm, told):
    clock, last = Clock(1), comm.size - 1
    pids = comm.allgather(os.getpid())
    watch = Watchdog(comm, clock, 0.3)
    clock.begin_step(7)
    if comm.rank == last:
        with clock.phase("exchange"):
            told.wait(1)
    with clock.phase("reduce"):
        comm.Barrier()
    told.wait(2)
    with clock.phase("reduce"):
        time.sleep(0.3)
    watch.end()
    if comm.rank == 0:
        header, *lines = told.texts[0].splitlines()
        assert re.fullmatch(HEADER, header)
        here = r"tests/ranks/test_watchdog\.py:\d+ "
        alone = rf" +process {pids[last]} on {os.uname().nodename}"
        expected = [rf"  rank {last} +exchange  step 7  {here} \S.*{alone}"]
        if last:
            several = f"ranks 0-{last - 1}" if last > 1 else "rank 0"
            alone = "" if last > 1 else alone.replace(str(pids[1]), str(pids[0]))
            expected.append(rf"  {several} +reduce +step 7  {here} +comm\.Barrier\(\){alone}")
        assert len(lines) == len(expected)
        assert all(any(re.fullmatch(each, line) for line in lines) for each in expected)
        assert told.texts[1:] == ["the ranks move again"]
    else:
        assert told.texts == []


@pytest.mark.mpi
def test_a_rank_at_work_is_no_stall(comm, told):
    clock = Clock(1)
    watch = Watchdog(comm, clock, 0.1)
    if comm.rank == comm.size - 1:
        for phase in ("import", "compile", "read", "kernel", "snapshot", "checkpoint", "write"):
            with clock.phase(phase):
                time.sleep(0.5)
    comm.Barrier()
    watch.end()
    assert told.texts == []


@pytest.mark.mpi
@pytest.mark.parametrize("move", ["phase", "step"])
def test_one_rank_that_moves_is_enough(comm, told, move):
    clock = Clock(1)
    watch = Watchdog(comm, clock, 1.0)
    if comm.rank == comm.size - 1:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            time.sleep(0.01)
            if move == "phase":
                with clock.phase("exchange"):
                    pass
            else:
                clock.begin_step(1)
    comm.Barrier()
    watch.end()
    assert told.texts == []


@pytest.mark.mpi
def test_a_move_of_another_rank_is_told_too(comm, told):
    clock = Clock(1)
    watch = Watchdog(comm, clock, 0.3)
    if comm.rank == comm.size - 1:
        told.wait(1)
        clock.begin_step(1)
        told.wait(2)
    comm.Barrier()
    watch.end()
    assert told.texts[1:2] == ["the ranks move again"] * (comm.rank == 0)


@pytest.mark.mpi
def test_the_next_look_is_when_the_last_move_is_old_enough(comm, told, monkeypatch):
    watch = Watchdog(comm, Clock(1), 1000.0)
    answer = watch._own()
    ages = {0: answer._replace(idle=990.0), 1: answer._replace(idle=900.0)}
    monkeypatch.setattr(watch, "_ask", lambda: ages)
    watch._look()
    assert 50 < watch._due - time.monotonic() <= 100
    watch.end()
    assert told.texts == []


@pytest.mark.mpi
def test_a_stall_is_told_once(comm, told, monkeypatch):
    monkeypatch.setattr(watchdog, "_ANSWER_SECONDS", 2.0)
    watch = Watchdog(comm, Clock(1), 0.2)
    told.wait(1)
    # Nor by another rank, whose turn to ask would come after two seconds.
    time.sleep(2.7)
    watch.end()
    assert len(told.texts) == (comm.rank == 0)


@pytest.mark.mpi
def test_ranks_that_answer_at_times_are_reported_once(comm, told, monkeypatch):
    ask, asked = Watchdog._ask, []

    def some(watch):
        answers = ask(watch)
        asked.append(len(answers))
        if len(asked) % 2 and comm.size > 1:
            del answers[comm.size - 1]
        return answers

    monkeypatch.setattr(Watchdog, "_ask", some)
    watch = Watchdog(comm, Clock(1), 0.1)
    end = time.monotonic() + LIMIT_SECONDS
    while comm.rank == 0 and len(asked) < 6:
        assert time.monotonic() < end
        time.sleep(0.01)
    comm.Barrier()
    watch.end()
    # All but the last one, then all.
    assert len(told.texts) == (comm.rank == 0) * min(comm.size, 2)


@pytest.mark.mpi
def test_ranks_that_ask_at_once_answer_each_other(comm, told):
    watch = Watchdog(comm, Clock(1), 0.3)
    watch._delay = 0.3
    comm.Barrier()
    watch._due = time.monotonic() + 0.3
    told.wait(1)
    comm.Barrier()
    watch.end()
    assert not any("no answer" in text for text in told.texts)


@pytest.mark.mpi
def test_the_neighbour_without_which_a_rank_cannot_go_on_is_named(comm, told):
    clock = Clock(1)
    plate = HaloRows(Rank(comm, clock, device.choose(comm, "numpy")), 8, 3)
    u = np.zeros((plate.counts[comm.rank] + 2, 5))
    watch = Watchdog(comm, clock, 0.3)
    if comm.rank == comm.size - 1:
        told.wait(1)
    plate.start_exchange(u)
    plate.finish_exchange(u)
    watch.end()
    if comm.rank == 0:
        named = re.findall(r"waits for rank (\d+)", told.texts[0])
        # Those before it have what they need.
        assert named == [f"{comm.size - 1}"] * (comm.size > 1)


@pytest.mark.mpi
def test_the_end_leaves_no_thread(comm, told):
    before = threading.active_count()
    watch = Watchdog(comm, Clock(1), 60)
    assert threading.active_count() == before + 1
    watch.end()
    assert threading.active_count() == before


# The rank of the first argument keeps Python's lock, so that no thread of it runs, until a report
# has been told: it opens a pipe for reading, which another process must open for writing.
SILENT = """
from rankwise.job import launch
import ctypes, os
from rankwise.ranks import start, watchdog
from rankwise.ranks.clock import Clock

def main(comm, argv):
    told = watchdog._tell

    def tell(text):
        told(text)
        if "no answer" in text:
            open(argv[1], "w").close()

    watchdog._tell = tell
    silent = int(argv[0])
    if comm.rank == silent:
        os.mkfifo(argv[1])
    comm.Barrier()
    watch = watchdog.Watchdog(comm, Clock(1), 0.3)
    start.endings.append(watch.end)
    if comm.rank == silent:
        # To an earlier question of the rank that is going to ask: it comes too late.
        late = 0, watch._own()._replace(idle=99.0)
        watch._comm.send(late, 0 if silent else 1, watchdog._ANSWER)
        ctypes.PyDLL(None).open(argv[1].encode(), os.O_RDONLY)
    comm.Barrier()

launch(main)
"""


@pytest.mark.parametrize("silent", [0, 2])
def test_a_rank_that_cannot_answer_is_reported_as_such(start, tmp_path, silent):
    (tmp_path / "job.py").write_text(SILENT)
    done = start(3, "job.py", silent, tmp_path / "pipe")
    assert done.returncode == 0
    others = "ranks 1-2" if silent == 0 else "ranks 0-1"
    header, lost, stand, *rest = done.stderr.splitlines()
    assert re.fullmatch(f"job.py: {OF_SOME}", header)
    assert re.match(rf"  {others}  other  job\.py:\d+  comm\.Barrier\(\)$", stand)
    assert lost.startswith(f"  rank {silent}: no answer within 2 s; ")
    # What it was kept from was work.
    assert rest in ([], ["job.py: the ranks move again"])


# MPI is asked for less than it can.
FUNNELED = """
from rankwise.job import launch
import threading, mpi4py
mpi4py.rc(initialize=False)
from mpi4py import MPI
from rankwise.ranks import start, watchdog
from rankwise.ranks.clock import Clock

MPI.Init_thread(MPI.THREAD_FUNNELED)

def main(comm, argv):
    told, watched = threading.Event(), watchdog._tell
    watchdog._tell = lambda text: (watched(text), told.set())
    start.endings.append(watchdog.Watchdog(comm, Clock(1), 0.3).end)
    told.wait(30)

launch(main)
"""


def test_below_thread_multiple_each_rank_speaks_for_itself(start, tmp_path):
    (tmp_path / "job.py").write_text(FUNNELED)
    done = start(2, "job.py")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    for rank in range(2):
        assert sum(f" on rank {rank} of 2:" in line for line in lines) == 1
        assert sum(line.startswith(f"  rank {rank}  other  ") for line in lines) == 1
    assert sum("nothing is known of the others" in line for line in lines) == 2


def test_the_example_of_a_deadlock_is_explained(mpirun):
    command = [mpirun, "-n", "3", sys.executable, MISMATCH, "--stall-seconds", "1"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(LIMIT_SECONDS, process.kill)
        killer.start()
        told = (line for line in process.stderr if "take turns" not in line)
        header, receives, wait = (next(told, "").rstrip() for _ in range(3))
        process.send_signal(signal.SIGTERM)
        rest = list(told)
        killer.cancel()
    assert re.fullmatch(f"mismatch.py: {HEADER}", header)
    receive = r"  rank 0     exchange  docs/examples/mismatch\.py:\d+  comm\.Recv\(before, .*\) .*"
    assert re.fullmatch(receive, receives)
    assert wait.startswith("  ranks 1-2  wait      docs/examples/mismatch.py:")
    # It goes on, until somebody ends it.
    assert rest == [] and process.returncode != 0


def test_the_example_ends_once_it_is_mended(start, tmp_path):
    text = MISMATCH.read_text()
    receive = "            comm.Recv("
    assert text.count(receive) == 1
    mended = text.replace(receive, "            if comm.rank > 0:\n                comm.Recv(")
    (tmp_path / "mended.py").write_text(mended)
    done = start(3, "mended.py", "--output", "a.h5", "--stall-seconds", "60")
    assert (done.returncode, "sum       1.0" in done.stdout) == (0, True), done.stderr


def test_equal_places_are_one_line_and_those_of_few_ranks_come_first():
    far = Place("halo", 3, "jobs/heat.py:54", "plate.finish_exchange(u)", 1)
    near = Place("other", None, "jobs/heat.py:9", "comm.Barrier()", None)
    stand = {rank: far if rank in (2, 3, 5) else near for rank in range(20)}
    stand[7] = far._replace(step=2)
    # Only of a rank that stands alone one can say where a debugger finds it.
    processes = [f"process {rank} on node1" for rank in range(20)]
    assert list(places.table(stand, processes)) == [
        "  rank 7              halo   step 2  jobs/heat.py:54  plate.finish_exchange(u)"
        "  waits for rank 1  process 7 on node1",
        "  ranks 2-3,5         halo   step 3  jobs/heat.py:54  plate.finish_exchange(u)"
        "  waits for rank 1",
        "  ranks 0-1,4,6,8-19  other          jobs/heat.py:9   comm.Barrier()",
    ]


def test_eight_places_at_most_are_shown():
    stand = {rank: Place("other", rank // 2, "a.py:1", "x", None) for rank in range(30)}
    processes = [""] * 30
    lines = list(places.table(stand, processes))
    assert len(lines) == 9
    assert lines[-1] == "  ranks 16-29: at 7 other places"
    assert len(list(places.table({rank: stand[rank] for rank in range(16)}, processes))) == 8


def test_the_place_is_the_innermost_line_of_the_program():
    inside, go_on = threading.Event(), threading.Event()

    def work():
        inside.set()
        go_on.wait(LIMIT_SECONDS)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    # In a line of the library, sooner or later.
    while places.of(Clock(1), thread.ident).text == "inside.set()":
        time.sleep(0.001)
    place = places.of(Clock(1), thread.ident)
    go_on.set()
    thread.join()
    assert place.text == "go_on.wait(LIMIT_SECONDS)"
    assert re.fullmatch(r"tests/ranks/test_watchdog\.py:\d+", place.line)
    assert places.of(Clock(1), thread.ident)[2:4] == ("", "")


def test_paths_are_short(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert places.near(f"{tmp_path}/jobs/heat.py") == "jobs/heat.py"
    assert places.near(np.__file__) == "numpy/__init__.py"
    assert places.near(threading.__file__) == "threading.py"
    assert places.near("/elsewhere/a.py") == "/elsewhere/a.py"


def test_what_is_not_of_the_program():
    packages = ["/usr/lib/python3/dist-packages/h5py/a.py", "/home/x/.local/x/site-packages/y.py"]
    for file in (np.__file__, threading.__file__, watchdog.__file__, "<string>", *packages):
        assert places.is_foreign(file)
    assert not places.is_foreign(__file__)
    assert not places.is_foreign("/home/x/jobs/heat.py")
