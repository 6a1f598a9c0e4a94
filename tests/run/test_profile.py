"""The profiles of the ranks, and the table of all of them."""

import pstats
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rankwise.node.rank import Rank
from rankwise.ranks import start
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES, Clock
from rankwise.run import profile


def spin():
    for _ in range(100_000):
        pass


def spin_alone():
    for _ in range(100_000):
        pass


@pytest.fixture
def rank(comm):
    return Rank.on_host(comm)


@pytest.fixture
def folder(mpi_tmp_path):
    yield mpi_tmp_path / "p"
    start.endings.clear()
    sys.setprofile(None)


def row(lines, function):
    """Return calls, seconds and rank of the only row of a table that is of this function."""
    (found,) = (line for line in lines if line.endswith(f"({function})"))
    return found.split()[:-1]


def part(lines, title):
    """Return the rows below a title, without the head of the table."""
    at = lines.index(title)
    return lines[at + 2 : lines.index("", at)]


def table(folder):
    return (folder / "run-profile.txt").read_text().splitlines()


@pytest.mark.mpi
def test_each_rank_has_a_profile_and_all_have_one_table(comm, rank, folder):
    profile.begin(rank, folder, "run")
    for _ in range(2 * comm.rank + 1):
        spin()
    if comm.rank == comm.size - 1:
        spin_alone()
    start.end_earlier()
    assert sys.getprofile() is None
    stats = pstats.Stats(str(folder / f"run-rank-{comm.rank}.prof")).stats
    (((file, _, _), (_, calls, own, *_)),) = (x for x in stats.items() if x[0][2] == "spin")
    assert (Path(file), calls) == (Path(__file__), 2 * comm.rank + 1)
    every, lines = comm.allgather(own), table(folder)
    three = [f"{each:.4f}" for each in (min(every), np.median(every), max(every))]
    ours = part(lines, "Functions of the program, by own seconds")
    calls = "1" if comm.size == 1 else f"1-{2 * comm.size - 1}"
    assert row(ours, "spin") == [calls, *three, str(np.argmax(every))]
    calls, least, *_, slowest = row(ours, "spin_alone")
    assert (calls, slowest) == ("1" if comm.size == 1 else "0-1", str(comm.size - 1))
    assert comm.size == 1 or least == "0.0000"
    assert all("test_profile.py" in line for line in ours)
    theirs = part(lines, "Functions of libraries, by own seconds")
    assert theirs and not any("test_profile.py" in line for line in theirs)
    assert lines[0] == f"run-profile of {comm.size} rank{'s' * (comm.size > 1)}"
    assert "cProfile does not see calls of\nmpi4py and of compiled kernels" in "\n".join(lines)
    names = [f"run-rank-{each}.prof" for each in range(comm.size)]
    assert sorted(each.name for each in folder.iterdir()) == ["run-profile.txt", *names]


@pytest.mark.mpi
def test_phases_are_those_of_the_clock(comm, rank, folder):
    rank.clock = Clock(2)
    rank.clock.seconds[:, PHASES.index("kernel")] = comm.rank + 1, 0.5
    rank.clock.seconds[0, PHASES.index("init")] = 0.25
    # As on the rank that reads for all; the others are not in this phase, as in the record.
    if comm.rank == 0:
        rank.clock.seconds[1, PHASES.index("read")] = 4.0
    profile.begin(rank, folder, "run")
    start.end_earlier()
    size = comm.size
    three = [f"{each:.4f}" for each in (1.5, (size + 1) / 2 + 0.5, size + 0.5)]
    assert [line.split() for line in part(table(folder), "Phases")] == [
        [*["0.2500"] * 3, "0", "init"],
        [*["4.0000"] * 3, "0", "read"],
        [*three, f"{size - 1}", "kernel"],
    ]


@pytest.mark.mpi
def test_ranks_that_differ_all_have_their_functions_in_the_table(comm, rank, monkeypatch):
    monkeypatch.setattr(profile, "MOST", 1)
    own = {("a.py", comm.rank, f"only_{comm.rank}"): (1.0 + comm.rank, 1)}
    lines = list(profile._functions(rank, own | {("a.py", 99, "small"): (0.5, 2)}))
    if comm.rank:
        assert lines == []
        return
    # That of the highest rank took the longest, and there is room for one.
    last, most = comm.size - 1, f"{comm.size}.0000"
    least, calls = ("0.0000", "0-1") if comm.size > 1 else (most, "1")
    median = f"{comm.size * (comm.size < 3) / min(comm.size, 2):.4f}"
    assert row(lines, f"only_{last}") == [calls, least, median, most, f"{last}"]
    assert len(lines) == 2


@pytest.mark.mpi
def test_a_rank_proposes_those_that_took_longest_and_the_table_is_short(comm, rank):
    own = {("a.py", each, f"f{each}"): (float(each), 1) for each in range(200)}
    lines = list(profile._functions(rank, own))
    if comm.rank == 0:
        last = [f"a.py:{each}(f{each})" for each in range(199, 199 - profile.MOST, -1)]
        assert [line.split()[-1] for line in lines[1:]] == last


def test_a_function_whose_name_has_an_address_is_one():
    new = "<built-in method __new__ of type object at 0x{}>"
    own = profile._own(
        {
            ("~", 0, new.format("9a4f20")): (1, 2, 0.5, 0.7, {}),
            ("~", 0, new.format("7f02b")): (3, 3, 0.25, 0.25, {}),
            ("a.py", 3, "fall"): (1, 5, 2.0, 3.0, {}),
        }
    )
    assert own == {
        ("~", 0, "<built-in method __new__ of type object>"): (0.75, 5),
        ("a.py", 3, "fall"): (2.0, 5),
    }


@pytest.mark.mpi
@pytest.mark.parametrize("who", ["all", "the last rank"])
def test_a_folder_that_cannot_be_had_is_refused_on_all_ranks(comm, rank, folder, who):
    bad = folder.with_name("file")
    if comm.rank == 0:
        bad.touch()
    comm.Barrier()
    wrong = who == "all" or comm.rank == comm.size - 1
    with pytest.raises(Stop, match=f"^--profile {bad} is not a folder$") as caught:
        profile.begin(rank, bad if wrong else folder, "run")
    assert caught.value.status == 2 and caught.value.agreed
    assert (sys.getprofile(), start.endings) == (None, [])
    comm.Barrier()
    assert list(folder.glob("*")) == []


@pytest.mark.mpi
@pytest.mark.parametrize("who", ["all", "the last rank"])
def test_a_folder_that_goes_away_is_told_in_one_sentence(comm, rank, folder, capsys, who):
    culprit = 0 if who == "all" else comm.size - 1
    own = folder if who == "all" else folder.with_name(f"p{comm.rank}")
    profile.begin(rank, own, "run")
    comm.Barrier()
    if comm.rank == culprit:
        shutil.rmtree(own)
    comm.Barrier()
    assert start._status(comm, start.endings.pop()) == 1
    gone = comm.bcast(own, culprit)
    text = f"{Path(sys.argv[0]).name}: error: cannot write to {gone}: No such file or directory\n"
    assert capsys.readouterr().err == (text if comm.rank == 0 else "")


SLOW = """
from rankwise.job import Run, launch
import sys, time

def work():
    time.sleep(0.01)

def hang():
    print("ready", flush=True)
    time.sleep(60)

def main(comm, argv):
    run = Run(comm, argv, __file__, "Work.", lambda parser: None)
    for _ in run.repeats():
        work()
        hang()

launch(main)
"""


def test_a_signal_leaves_the_profile_of_a_rank(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, "slow.py", "--profile", "p", "--output", "r.h5"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
    (path,) = (tmp_path / "p").iterdir()
    assert path.suffix == ".prof"
    names = {name for _, _, name in pstats.Stats(str(path)).stats}
    # Also the one that has not returned.
    assert names >= {"work", "hang"}
