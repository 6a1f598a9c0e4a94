"""Sweeps in allocations of PBS, LSF and Flux, of which only the variables and files are here."""

import os
import re
import shlex
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from rankwise.sweep import allocation, launchers
from rankwise.sweep.folder import load
from rankwise.sweep.launchers import UsageError
from rankwise.sweep.mpi import MPICH, OPEN_MPI, Linked

HOST = os.uname().nodename
CORES = sum(launchers.resources().cores)
OURS = str(Path(sys.executable).parent / "mpirun")
BOUND = " -bind-to core:{threads}" if launchers.may_bind() else " -bind-to none"


@pytest.fixture(autouse=True)
def outside(monkeypatch):
    """Outside of every batch system."""
    for name in list(os.environ):
        if name.startswith(("PBS_", "LSB_", "FLUX_", "SLURM_")):
            monkeypatch.delenv(name)


def refused(linked=None, threads=1, gpus=0):
    args = Namespace(threads=threads, gpus_per_rank=gpus)
    with pytest.raises(UsageError) as error:
        allocation.refuse_other_nodes(args, linked or Linked())
    return str(error.value)


def pbs(monkeypatch, folder, text):
    (folder / "nodefile").write_text(text)
    monkeypatch.setenv("PBS_NODEFILE", str(folder / "nodefile"))


def goes_on():
    allocation.refuse_other_nodes(Namespace(threads=1, gpus_per_rank=0), Linked())


@pytest.mark.parametrize(
    "text", [f"{HOST}\n", f"{HOST}.site.org\n{HOST.upper()}\n\n", f"{HOST}\n" * 64]
)
def test_one_node_of_pbs_is_like_a_laptop(monkeypatch, tmp_path, text):
    pbs(monkeypatch, tmp_path, text)
    goes_on()


@pytest.mark.parametrize("text", ["", f"{HOST} 4", f"{HOST} 4 {HOST}.site.org 8"])
def test_one_node_of_lsf_is_like_a_laptop(monkeypatch, text):
    monkeypatch.setenv("LSB_MCPU_HOSTS", text)
    goes_on()


def test_nodes_of_pbs(monkeypatch, tmp_path):
    # However many slots of each.
    for text, nodes in [
        (f"{HOST}\nn2\nn3\nn4\n", "4 nodes"),
        (f"{HOST}.site.org\n" * 3 + "n2.site.org\n" * 3, "2 nodes"),
    ]:
        pbs(monkeypatch, tmp_path, text)
        cores = int(nodes[0]) * CORES
        assert refused() == (
            f"this allocation of PBS has {nodes}, and without --launcher a sweep uses this machine "
            f"alone: add --launcher '{OURS} -n {{ranks}} -ppn {CORES}{BOUND}' --cores {cores} "
            f"--cores-per-node {CORES}; each node is taken to have as many cores as this machine"
        )


def test_threads_and_gpus_of_a_rank_leave_room_for_fewer(monkeypatch, tmp_path):
    pbs(monkeypatch, tmp_path, f"{HOST}\nn2\n")
    monkeypatch.setattr(launchers, "_local_cores", lambda: (48, 1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert " -ppn 9 " in refused(threads=5)
    assert " -ppn 4 " in refused(gpus=1)
    assert " -ppn 1 " in refused(threads=49)


def test_launcher_is_of_the_mpi_of_the_program(monkeypatch, tmp_path):
    path = tmp_path / "with space" / "mpirun"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 4.1.4'\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(launchers, "_local_cores", lambda: (8, 1))
    monkeypatch.setattr(launchers, "may_bind", lambda: True)
    wants = Linked("lmp", OPEN_MPI, "/lib/libmpi.so.40")

    def words():
        line = re.search(r"add (.*?);", refused(wants, threads=2))[1]
        (_, template, *_) = shlex.split(line)
        assert shlex.split(template)[0] == str(path)
        return template.partition("{ranks} ")[2]

    # Open MPI starts no more ranks on a node than the batch system has slots there.
    pbs(monkeypatch, tmp_path, f"{HOST}\n" * 4 + "n2\n" * 4)
    assert words() == "--map-by ppr:4:node:PE={threads} --bind-to core"
    pbs(monkeypatch, tmp_path, f"{HOST}\n" * 4 + "n2\n" * 3)
    assert words() == "--oversubscribe --map-by ppr:4:node:PE={threads} --bind-to core"
    monkeypatch.setattr(launchers, "may_bind", lambda: False)
    assert words() == "--oversubscribe --map-by ppr:4:node --bind-to none"
    assert "-n {ranks} -ppn 4 -bind-to none' " in refused(Linked("p", MPICH, "/m"), threads=2)


def test_slots_of_lsf_are_cores(monkeypatch):
    monkeypatch.setattr(launchers, "_local_cores", lambda: (8, 1))
    # Other nodes may have more cores than this machine.
    for text, cores in [("{} 4 n2 4 n3 4", 4), ("{} 16 n2 16 n3 16", 16)]:
        monkeypatch.setenv("LSB_MCPU_HOSTS", text.format(HOST))
        said = refused()
        assert said.startswith("this allocation of LSF has 3 nodes, ")
        assert f"-ppn {cores}" in said
        assert said.endswith(
            f"' --cores {3 * cores} --cores-per-node {cores}; a slot is taken for a core"
        )


@pytest.mark.parametrize("text", ["launch 1 n2 4 n3 4", f"{HOST} 1 n2 4 n3 2"])
def test_unequal_slots_of_lsf_are_for_the_user(monkeypatch, text):
    monkeypatch.setenv("LSB_MCPU_HOSTS", text)
    said = refused()
    assert said.startswith("the 3 nodes of this allocation of LSF have unequal slots, 1 to 4, and")
    assert said.endswith("with the numbers of those nodes that are to compute")
    assert "{ranks}" not in said


def test_one_node_that_is_another_machine(monkeypatch, tmp_path):
    def told(system):
        return (
            f"this machine, {HOST.partition('.')[0].lower()}, is not in this allocation of "
            f"{system}, whose only node is elsewhere: start the sweep there, or name a launcher "
            "with --launcher"
        )

    monkeypatch.setenv("LSB_MCPU_HOSTS", "elsewhere.site.org 8")
    assert refused() == told("LSF")
    pbs(monkeypatch, tmp_path, "elsewhere\n" * 8)
    assert refused() == told("PBS")


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_no_node_of_pbs(monkeypatch, tmp_path, text):
    pbs(monkeypatch, tmp_path, text)
    assert refused() == (
        f"PBS_NODEFILE is {tmp_path / 'nodefile'}, which names no node: name a launcher with "
        "--launcher"
    )


@pytest.mark.parametrize(
    "text",
    [
        "n1",
        "n1 4 n2",
        "n1 four",
        "4 n1",
        "n1 0",
        "n1 -1",
        "n1 4.5",
        "n1 \u0664",
        "n1 99999999",
        f"n1 {'9' * 5000}",
    ],
)
def test_unreadable_hosts_of_lsf(monkeypatch, text):
    monkeypatch.setenv("LSB_MCPU_HOSTS", text)
    assert f"LSB_MCPU_HOSTS is '{text}', and not hosts with their slots" in refused()


def test_unreadable_hosts_of_pbs(monkeypatch, tmp_path):
    monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "none"))
    assert "none, which cannot be read (No such file or directory): name a " in refused()
    monkeypatch.setenv("PBS_NODEFILE", str(tmp_path))
    assert "which cannot be read (Is a directory): " in refused()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "bytes"))
    assert "which cannot be read (it is no text): " in refused()


@pytest.fixture
def flux(monkeypatch, tmp_path):
    """Return a function that puts a `flux` on the path, which runs a line of shell."""

    def put(line):
        path = tmp_path / "bin" / "flux"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("FLUX_URI", "local:///tmp/flux")

    return put


def test_nodes_of_flux(flux):
    # What it is asked is what it answers.
    flux('[ "$*" = "resource list -n -o {nnodes} {ncores}" ] && echo 4 256')
    line = "add --launcher 'flux run -N {nodes} -n {ranks} -c {threads}{}' --cores 256 "
    assert refused().endswith(line.replace("{}", "") + "--cores-per-node 64")
    assert refused(gpus=2).endswith(line.replace("{}", " -g 2") + "--cores-per-node 64")
    flux("echo 1 64")
    goes_on()


@pytest.mark.parametrize("line", ["exit 1", "echo", "echo 4", "echo four 256", "echo 4 256 0"])
def test_flux_that_tells_nothing(flux, line):
    flux(line)
    assert refused().startswith("FLUX_URI is set, and `flux resource list` does not tell ")


def test_flux_that_is_not_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("FLUX_URI", "local:///tmp/flux")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "does not tell the nodes" in refused()


def test_job_of_flux(monkeypatch, flux):
    flux("echo 4 256")
    monkeypatch.setenv("FLUX_JOB_ID", "f2D")
    goes_on()
    monkeypatch.setenv("FLUX_JOB_NNODES", "1")
    goes_on()
    monkeypatch.setenv("FLUX_JOB_NNODES", "2")
    assert refused() == "a job of Flux starts no other: use flux alloc, or --launcher"


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_refused_on_the_command_line(rankwise, tmp_path, more):
    (tmp_path / "nodes").write_text(f"{HOST}\nn2\n")
    words = [*more, "--ranks", "1", "--launches", "1", "--", "true"]
    env = {"PBS_NODEFILE": str(tmp_path / "nodes")}
    done = rankwise("sweep", *words, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("rankwise sweep: error: this allocation of PBS has 2 nodes, ")
    assert [path.name for path in tmp_path.iterdir()] == ["nodes"]
    # Whoever names a launcher knows.
    done = rankwise("sweep", "--launcher", f"{OURS} -n {{ranks}} -hosts {HOST}", *words, env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_slurm_is_asked_for_its_own_nodes(rankwise, tmp_path):
    # Some sites' Slurm writes the file of PBS as well.
    (tmp_path / "nodes").write_text(f"{HOST}\nn2\n")
    env = {"PBS_NODEFILE": str(tmp_path / "nodes"), "SLURM_JOB_ID": "1"}
    env |= {"SLURM_JOB_CPUS_PER_NODE": "4(x2)"}
    done = rankwise("sweep", "--dry-run", "--cores", "2", "--", "true", env=env)
    assert (done.returncode, done.stderr) == (0, "")


# Instead of ssh: the other node is this machine under another name.
SSH = """#!/bin/sh
host=$2
shift 2
exec unshare --uts sh -c "hostname $host; $*"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives this machine another name")
def test_the_line_of_the_refusal_fits(rankwise, tmp_path):
    """MPICH's launcher finds the nodes of PBS by itself, and fills one after the other."""
    (tmp_path / "nodes").write_text(f"{HOST}\nn2\n")
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    env = {
        "PBS_NODEFILE": str(tmp_path / "nodes"),
        "HYDRA_LAUNCHER_EXEC": str(tmp_path / "ssh"),
    }
    counts = f"1,{CORES},{CORES + 1},{2 * CORES}"
    words = ["--ranks", counts, "--launches", "1", "--folder", "s", "--", "true"]
    said = rankwise("sweep", *words, env=env).stderr
    added = shlex.split(re.search(r"add (.*?);", said)[1])
    done = rankwise("sweep", *added, *words, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    sweep = load(tmp_path / "s")
    assert sweep.plan["places"][str(2 * CORES)]["hosts"] == sorted([HOST, "n2"])
    assert {run.ranks: run.nodes for run in sweep.runs} == {
        1: 1,
        CORES: 1,
        CORES + 1: 2,
        2 * CORES: 2,
    }
    assert {run.cores // run.nodes for run in sweep.runs} == {CORES}
