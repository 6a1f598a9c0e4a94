"""The ranks of real runs, looked at while they run."""

import os
import sys
from pathlib import Path

from rankwise.sweep import look as looks
from rankwise.sweep.execute import execute
from rankwise.sweep.launchers import Launcher
from rankwise.sweep.look import Look
from rankwise.sweep.mpi import MPICH, Linked
from rankwise.sweep.probe import Wanted
from rankwise.sweep.processes import MARK

MPIRUN = str(Path(sys.executable).parent / "mpirun")
HYDRA = Launcher("mpirun of MPICH", lambda ranks, *_: [MPIRUN, "-n", str(ranks)], MPIRUN, MPICH)
CORES = sorted(os.sched_getaffinity(0))


def run_with_look(tmp_path, words, ranks, launcher=HYDRA, threads=1, **variables):
    cores = len(CORES)
    look = Look("mark", Wanted(ranks, threads, 1, cores), launcher)
    env = {**os.environ, MARK: "mark", **variables}
    return look, execute(words, env, tmp_path / "output.txt", 60, looks=[look])


MPI = "from mpi4py import MPI; import time; time.sleep({})"


def test_ranks_that_work_together_are_seen(tmp_path):
    words = [*HYDRA.words(2, 1, 0, 1), sys.executable, "-c", MPI.format(1)]
    look, ended = run_with_look(tmp_path, words, 2)
    assert (ended.outcome, ended.refused) == ("ok", "")
    assert look.library.startswith(sys.prefix)


ALONE = f"unset PMI_RANK PMI_SIZE PMI_FD; exec {sys.executable} -c"


def test_singletons_are_ended_while_they_run(tmp_path):
    # What a launcher of another MPI does: it starts two processes, and tells them nothing.
    alone = f"({ALONE} '{MPI.format(300)}')"
    look, ended = run_with_look(tmp_path, ["sh", "-c", f"{alone} & {alone}; wait"], 2)
    assert ended.outcome == "failed"
    assert "does not tell the program, whose MPI is MPICH" in ended.refused
    assert sys.prefix in ended.refused and look.library
    # It says how to do it.
    assert "; say --launcher '/" in ended.refused


def test_flux_may_tell_ranks_by_a_library(tmp_path):
    flux = Launcher("flux run {ranks}", lambda *_: [], "flux", own=True)
    alone = f"({ALONE} '{MPI.format(1)}')"
    words = ["sh", "-c", f"{alone} & {alone}; wait"]
    look, ended = run_with_look(tmp_path, words, 2, flux)
    assert (ended.outcome, ended.refused, look.alone) == ("ok", "", "")
    assert look.library


ENSEMBLE = """
import subprocess
from mpi4py import MPI
if MPI.COMM_WORLD.rank == 0:
    subprocess.run(["sh", "child.sh"])
MPI.COMM_WORLD.barrier()
"""
FORKS = """
import os, time
from mpi4py import MPI
os.fork(), os.fork()
time.sleep(1)
os._exit(0)
"""


def test_a_serial_program_that_a_rank_starts_is_none_of_the_ranks(tmp_path, monkeypatch):
    """As codes do that run another one for each member of an ensemble."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "child.sh").write_text(f"{ALONE} '{MPI.format(1)}'\n")
    words = [*HYDRA.words(2, 1, 0, 1), sys.executable, "-c", ENSEMBLE]
    look, ended = run_with_look(tmp_path, words, 2)
    assert (ended.outcome, ended.refused, look.alone) == ("ok", "", "")
    assert look.ranks == 2


def test_forked_workers_are_no_ranks(tmp_path):
    words = [*HYDRA.words(2, 1, 0, 1), "-bind-to", "core", sys.executable, "-c", FORKS]
    look, ended = run_with_look(tmp_path, words, 2)
    assert ended.refused == "" and look.ranks == 2


def test_ranks_that_end_while_they_are_looked_at(tmp_path, monkeypatch):
    # Their environment is gone before their libraries are.
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "environ").write_bytes(b"")
    (tmp_path / "7" / "maps").write_text("0-1 r-xp 0 0:0 1 /lib/libmpi.so.12\n")
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "environ").write_bytes(b"RANKWISE_RUN=mark\0")
    monkeypatch.setattr(looks, "Path", lambda name: tmp_path)
    assert looks._ranks("mark") == []
    (tmp_path / "8" / "maps").write_text("0-1 r-xp 0 0:0 1 /lib/libmpi.so.12\n")
    (tmp_path / "8" / "status").write_text("PPid:\t2\n")
    assert [rank.told for rank in looks._ranks("mark")] == [False]
    # Nobody is refused for what was seen a few times.
    look = Look("mark", Wanted(2, 1, 1, 2), HYDRA)
    seen = [look() for _ in range(looks._LOOKS + 1)]
    assert set(seen[:-1]) == {""} and "does not tell" in seen[-1]
    # Slurm's own libraries, and copies that are meant, need nothing.
    for allowed in ({"linked": Linked(own_way=True)}, {"copies": True}):
        look = Look("mark", Wanted(2, 1, 1, 2), HYDRA, **allowed)
        assert {look() for _ in range(looks._LOOKS + 1)} == {""}

    # One that has left its parents is none.
    (tmp_path / "8" / "status").write_text("PPid:\t1\n")
    assert looks._ranks("mark") == []


def test_threads_that_have_not_begun_are_waited_for():
    # OpenMP may have bound the first thread of each before the others are there.
    look = Look("mark", Wanted(2, 4, 1, 8), HYDRA)

    def seen(cpus, threads):
        return look._crowded([looks._Rank("l", True, each, threads) for each in cpus])

    assert seen([(0,), (0,)], 1) == ""
    assert "in the running program 2 ranks with 4 threads each" in seen([(0,), (0,)], 4)


def test_one_rank_is_looked_at_too(tmp_path):
    inner = f"{MPIRUN} -n 2 {sys.executable} -c '{MPI.format(300)}'"
    _, ended = run_with_look(tmp_path, [*HYDRA.words(1, 1, 0, 1), "sh", "-c", inner], 1)
    assert "on 1 rank the program started 2 ranks" in ended.refused


def test_mpi_of_either_family_is_mpi(tmp_path, monkeypatch):
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "environ").write_bytes(b"RANKWISE_RUN=mark\0")
    (tmp_path / "8" / "maps").write_text("0-1 r-xp 0 0:0 1 /lib/libmpi_abi.so.1\n")
    (tmp_path / "8" / "status").write_text("PPid:\t2\n")
    monkeypatch.setattr(looks, "Path", lambda name: tmp_path)
    look = Look("mark", Wanted(2, 1, 1, 2), HYDRA)
    assert {look() for _ in range(looks._LOOKS + 1)} == {""}
    assert (look.library, look.alone) == ("/lib/libmpi_abi.so.1", "")


def test_mpirun_inside_of_the_program_is_found(tmp_path):
    inner = f"{MPIRUN} -n 2 {sys.executable} -c '{MPI.format(300)}'"
    _, ended = run_with_look(tmp_path, [*HYDRA.words(2, 1, 0, 1), "sh", "-c", inner], 2)
    assert "on 2 ranks the program started 4 ranks: leave mpirun out of it" in ended.refused


def test_a_program_without_mpi_is_left_alone(tmp_path):
    look, ended = run_with_look(tmp_path, [*HYDRA.words(2, 1, 0, 1), "sleep", "0.7"], 2)
    assert (ended.outcome, look.library) == ("ok", "")


def test_binding_is_looked_at_again_in_the_running_program(tmp_path):
    # As libgomp does with OMP_PROC_BIND=true, after the launcher has bound nobody.
    assert len(CORES) > 1, "needs two cores"
    move = f"import os; os.sched_setaffinity(0, {{{CORES[0]}}}); {MPI.format(300)}"
    words = [*HYDRA.words(2, 1, 0, 1), "-bind-to", "none", sys.executable, "-c", move]
    _, ended = run_with_look(tmp_path, words, 2)
    assert "in the running program 2 ranks with 1 thread each" in ended.refused
    assert f"may use core {CORES[0]} only" in ended.refused
