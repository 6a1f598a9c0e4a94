"""What a launcher starts, by the probe and in running ranks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rankwise.sweep import probe
from rankwise.sweep.launchers import Launcher, Resources
from rankwise.sweep.mpi import MPICH, OPEN_MPI, Linked
from rankwise.sweep.probe import Place, Wanted

SCRIPT = Path(probe.__file__).with_name(probe.SCRIPT)
MPIRUN = str(Path(sys.executable).parent / "mpirun")
SRUN = Launcher("srun", lambda *_: ["srun"], "srun")
HYDRA = Launcher("mpirun of MPICH", lambda ranks, *_: [MPIRUN, "-n", str(ranks)], MPIRUN, MPICH)
LMP = Linked("lmp", OPEN_MPI, "/lib/libmpi.so.40", sure=True)
CORES = sorted(os.sched_getaffinity(0))
PMI = frozenset({"PMI_RANK", "PMI_SIZE"})


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
def test_script_needs_nothing_but_a_shell(shell, tmp_path):
    path = shutil.which(shell)
    # Without any program on the path, as in a container that has none.
    env = {"PATH": str(tmp_path), "PMI_RANK": "0", "X": "a\nPMI_NO"}
    env |= {"PMIX_NAMESPACE": "x", "OMPI_MCA_long": "x" * 9999, "CUDA_VISIBLE_DEVICES": "0,1"}
    done = subprocess.run([path, SCRIPT], capture_output=True, text=True, env=env, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    # One write, so that lines of ranks do not mix.
    assert len(done.stdout) < 4096 and done.stdout.count("\n") == 1
    (place,) = probe.read(done.stdout)
    assert place.host == os.uname().nodename
    assert place.cpus == tuple(CORES)
    assert place.online >= len(CORES)
    assert place.gpus == "0,1" and place.sees_gpus
    assert place.variables == {"PMI_RANK", "PMIX_NAMESPACE"}


@pytest.mark.parametrize("gpus", ["", "-1", "NoDevFiles", "all of 0"])
def test_no_gpu_is_seen(gpus):
    assert not Place("n", (0,), 1, gpus).sees_gpus


def test_probe_of_a_real_launcher(tmp_path):
    places, failure = probe.start([MPIRUN, "-n", "3"], dict(os.environ), tmp_path, 3)
    assert (len(places), failure) == (3, "")
    assert all(probe.told(MPICH, place.variables) for place in places)
    assert not any(probe.told(OPEN_MPI, place.variables) for place in places)


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        (["sh", "-c", "echo no such option; exit 1"], "exit status 1, no such option"),
        (["sh", "-c", "exit 0"], "it printed nothing"),
        (["/none"], "/none cannot be started: No such file or directory"),
    ],
)
def test_probe_that_says_nothing(tmp_path, words, failure):
    assert probe.start(words, dict(os.environ), tmp_path, 1) == ([], failure)


def test_probe_that_takes_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_SECONDS", 0.2)
    places, failure = probe.start(["sh", "-c", "sleep 60"], dict(os.environ), tmp_path, 1)
    assert (places, failure) == ([], "ended after 0.2 s")
    # Unless all have said where they are: then it is the launcher that does not come to its end.
    words = ["sh", "-c", '"$@"; exec sleep 60', "sh"]
    monkeypatch.setattr(probe, "_SECONDS", 1.0)
    places, failure = probe.start(words, dict(os.environ), tmp_path, 1)
    assert (len(places), failure) == (1, "")


def placed(*cpus, hosts=("n1",), online=8, variables=PMI):
    return [
        Place(hosts[k % len(hosts)], tuple(each), online, "all of 0", variables)
        for k, each in enumerate(cpus)
    ]


@pytest.mark.parametrize(
    ("places", "point", "words"),
    [
        (placed([0], [1]), Wanted(2, 1, 1, 8), ""),
        (placed([0], [1]), Wanted(2, 1, None, 8), ""),
        (placed([0]), Wanted(2, 1, 1, 8), "srun started 1 process instead of 2 ranks"),
        (placed([0], [1]), Wanted(1, 1, 1, 8), "srun started 2 processes instead of 1 rank"),
        (placed([0], [1]), Wanted(2, 1, 2, 8), "started 2 ranks on 1 node (n1) instead of 2 nodes"),
        (
            placed([0], [0], hosts=("n1", "n2")),
            Wanted(2, 1, 1, 8),
            "started 2 ranks on 2 nodes (n1, n2) instead of 1 node",
        ),
        # One rank on each of two nodes shares nothing.
        (placed([0], [0], hosts=("n1", "n2")), Wanted(2, 1, None, 8), ""),
        (placed([0], [0]), Wanted(2, 1, 1, 8), "2 ranks with 1 thread each on n1 may use core 0"),
        # There is no other core.
        (placed([0], [0]), Wanted(2, 1, 1, 1), ""),
        (placed([0], [0], online=1), Wanted(2, 1, 1, 8), ""),
        (placed([0], [0], [1], [1]), Wanted(4, 1, 1, 8), "may use cores 0-1 only, of 8"),
        (placed([0]), Wanted(1, 4, 1, 8), "1 rank with 4 threads on n1 may use core 0 only"),
        # Floating ranks have all cores, oversubscribed ones share all that there are.
        (placed([0, 1, 2, 3], [0, 1, 2, 3]), Wanted(2, 1, 1, 4), ""),
        (placed([0, 1], [0, 1], [0, 1], online=2), Wanted(3, 1, 1, 2), ""),
    ],
)
def test_a_launch_is_what_its_point_says(places, point, words):
    # No hardware threads share a core here, whatever this machine has.
    said = probe.fault(places, point, SRUN, Linked())
    assert words in said and bool(words) == bool(said)


@pytest.mark.parametrize(
    ("family", "variables", "told"),
    [
        (OPEN_MPI, {"PMIX_NAMESPACE"}, True),
        (OPEN_MPI, {"OMPI_COMM_WORLD_SIZE"}, True),
        (OPEN_MPI, {"OMPI_ALLOW_RUN_AS_ROOT", "PMI_RANK"}, False),
        (MPICH, {"PMI_FD"}, True),
        (MPICH, {"PMIX_RANK"}, True),
        (MPICH, {"PMIX_RANK", "OMPI_COMM_WORLD_SIZE"}, False),
        (MPICH, {"PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK"}, True),
        (MPICH, set(), False),
    ],
)
def test_what_tells_a_process_which_rank_it_is(family, variables, told):
    assert probe.told(family, variables) == told


def test_ranks_that_are_not_told_are_refused():
    places, point = placed([0], [1]), Wanted(2, 1, 1, 8)
    said = probe.fault(places, point, SRUN, LMP)
    assert said.startswith("srun does not tell lmp, whose MPI is Open MPI (/lib/libmpi.so.40)")
    assert "SLURM_MPI_TYPE=pmix" in said
    assert "SLURM" not in probe.fault(places, point, HYDRA, LMP)
    # One rank is alone in any case; and Slurm's own libraries ask Slurm.
    assert probe.fault(places[:1], Wanted(1, 1, 1, 8), SRUN, LMP) == ""
    own = Linked("p", MPICH, "/lib/libmpi.so.12", sure=True, own_way=True)
    untold = placed([0], [1], variables=frozenset())
    assert probe.fault(untold, point, SRUN, own) == ""
    # So do Open MPI's with Flux.
    flux = Launcher("flux run {ranks}", SRUN.words, "/usr/bin/flux", own=True)
    assert probe.fault(places, point, flux, LMP) == ""
    # Copies need not be told; but they are still to be as many, and where they should be.
    assert probe.fault(untold, point, SRUN, LMP) != ""
    assert probe.fault(untold, point, SRUN, LMP, True) == ""
    assert "instead of" in probe.fault(untold[:1], point, SRUN, LMP, True)


def test_threads_of_a_core_on_nodes_of_another_kind(monkeypatch):
    siblings = {0: (0, 4), 4: (0, 4), 1: (1, 5), 5: (1, 5)}
    monkeypatch.setattr(probe, "hardware_threads", siblings.__getitem__)
    assert Place("n", (0, 4), 8, siblings=(0, 4)).cores == {(0, 4)}
    # There, 0 and 4 are cores of their own.
    assert Place("n", (0, 4), 8, siblings=(0,)).cores == {(0,), (4,)}


def test_a_container_may_allow_less_than_there_is(monkeypatch):
    host = os.uname().nodename
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    places = [Place(host, (0,), 64), Place(host, (0,), 64)]
    assert probe.crowded(places, Wanted(2, 1, 1, 16)) == ""
    elsewhere = [Place("other", (0,), 64), Place("other", (0,), 64)]
    assert "may use core 0 only, of 16" in probe.crowded(elsewhere, Wanted(2, 1, 1, 16))


def test_what_is_kept_of_a_probe():
    bound = probe.noted(placed([0], [1]))
    assert bound == {
        "hosts": ["n1"],
        "floating": False,
    }
    assert probe.noted(placed([0, 1], [0, 1]))["floating"]
    assert probe.noted(placed([0, 1]))["floating"]
    assert not probe.noted(placed([0], [0], hosts=("a", "b")))["floating"]


def test_points_of_a_launcher_that_reaches_further():
    found = Resources((16,), 0, slurm=False)
    assert probe.wanted(SRUN, Resources((4, 8), 0, True), 6, 1, 0) == Wanted(6, 1, 2, 4)
    own = Launcher("x {ranks}", SRUN.words, "x", own=True)
    assert probe.wanted(own, found, 6, 1, 0) == Wanted(6, 1, None, 16)
    # A launcher may place ranks by its own mind, also where the nodes are known.
    several = Resources((4, 4, 2), 0, slurm=False)
    assert probe.wanted(own, several, 6, 1, 0) == Wanted(6, 1, None, 4)
    assert probe.wanted(HYDRA, several, 6, 1, 0) == Wanted(6, 1, 2, 4)
