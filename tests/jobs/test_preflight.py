"""Preflight as a user runs it, and its judgement on figures that this machine does not have."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

from rankwise.disk import record
from rankwise.node import device
from rankwise.preflight import device_buffers, measure, preflight
from rankwise.preflight.measure import Connection
from rankwise.preflight.preflight import Preflight
from rankwise.ranks.agreement import Stop
from rankwise.sweep.folder import load
from tests.analysis import examples

JOB = Path(__file__).parents[2] / "jobs" / "preflight.py"
SMALL = {"_LEAST_BYTES": 2**22, "_CACHES": 0, "_ROUND_TRIP_SECONDS": 0.02, "_FILE_BYTES": 2**20}
CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture
def job(monkeypatch):
    """The job as a module, which measures with little."""
    for name, value in SMALL.items():
        monkeypatch.setattr(measure, name, value)
    spec = importlib.util.spec_from_file_location("preflight_job", JOB)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_line_has_a_verdict_and_the_record_the_figures(start, tmp_path):
    done = start(2, JOB, "--output", "p.h5")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    found = {words[1]: words[0] for words in lines if words[0] in ("OK", "warning", "wrong")}
    assert set(found) == {"launch", "load", "MPI", "GPU", "memory", "messages", "imports", "files",
                          "data"}  # fmt: skip
    assert "wrong" not in found.values()
    assert (tmp_path / "p.h5").exists() and "p.h5" in done.stdout
    assert done.stdout.count(os.uname().nodename) >= 2
    run = record.read(tmp_path / "p.h5")
    for name in ("read_bandwidth", "copy_bandwidth", "latency_within", "bandwidth_within"):
        assert run.results[name].values.shape == (1,)
        assert run.results[name].values[0] > 0
    assert run.results["latency_between"].values.shape == (0,)
    assert run.results["write_bandwidth"].values > 0
    assert 0 < run.results["import_seconds"].values < 60
    assert run.attributes["threads"] == max(1, len({*map(device.physical_core, CORES)}) // 2)
    assert [path.name for path in tmp_path.iterdir()] == ["p.h5"]


@pytest.mark.mpi
def test_figures_of_memory_are_those_that_were_measured(
    comm, job, mpi_tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(measure.Memory, "read", lambda self: 12.5)
    monkeypatch.setattr(measure.Memory, "_best", lambda self, work: self._each(work) or 11.0)
    path = mpi_tmp_path / "r.h5"
    job.main(comm, ["--variant", "numpy", "--output", str(path)])
    if comm.rank == 0:
        assert "read 12.5 GB/s and copy 11 GB/s" in capsys.readouterr().out
        results = record.read(path).results
        assert [results[f"{what}_bandwidth"].values for what in ("read", "copy")] == [12.5, 11.0]


@pytest.fixture
def quick(tmp_path):
    """Return the path of the program, changed so that it measures with little."""
    path = tmp_path / "program" / "preflight.py"
    path.parent.mkdir()
    path.write_text(
        "import runpy, sys; from rankwise.preflight import measure\n"
        f"vars(measure).update({SMALL})\n"
        f"sys.argv[0] = {str(JOB)!r}; runpy.run_path({str(JOB)!r}, run_name='__main__')"
    )
    return path


def test_json_is_one_line_for_other_tools(start, quick):
    done = start(2, quick, "--json", "--variant", "numpy")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    facts = json.loads(line)
    assert (facts["job"], facts["ranks"], facts["hosts"]) == ("preflight", 2, [os.uname().nodename])
    assert {check["check"] for check in facts["checks"]} >= {"launch", "memory", "files"}
    assert {check["verdict"] for check in facts["checks"]} <= {"OK", "warning"}
    assert facts["results"]["read_bandwidth"][0] > 0
    assert facts["record"].startswith("results/preflight-")


def test_ranks_on_one_core_are_wrong_and_the_rest_is_measured(start, tmp_path, quick):
    bind = f"import os, sys; os.sched_setaffinity(0, [{CORES[0]}]); os.execv(sys.executable, "
    wrapped = ["-c", f"{bind}[sys.executable, *sys.argv[1:]])", quick, "--variant", "numpy"]
    done = start(2, *wrapped, "--output", "p.h5")
    assert done.returncode == 1
    assert done.stderr == "preflight.py: error: 1 of 9 checks failed: launch\n"
    assert "  wrong    launch    all 2 ranks on" in done.stdout
    assert "--bind-to core" in done.stdout
    run = record.read(tmp_path / "p.h5")
    assert run.attributes["warnings"][0].startswith("launch: all 2 ranks on")
    assert run.results["read_bandwidth"].values[0] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "/sys/p.h5"], "cannot write to /sys"),
        (["--variant", "cuda"], "--variant cuda: "),
    ],
)
def test_what_keeps_it_from_beginning_is_a_finding(start, arguments, message):
    done = start(2, JOB, *arguments, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert done.stderr.startswith("preflight.py: error: ") and message in done.stderr
    assert done.stdout.startswith("  wrong    start ") and message in done.stdout
    done = start(2, JOB, *arguments, "--json", env={"CUDA_VISIBLE_DEVICES": ""})
    (check,) = json.loads(done.stdout)["checks"]
    assert check["verdict"] == "wrong" and message in check["text"]


@pytest.mark.mpi
@pytest.mark.parametrize("busy", [0.1, 1.5])
def test_a_busy_node_is_told(comm, job, mpi_tmp_path, monkeypatch, capsys, busy):
    last = comm.rank == comm.size - 1
    monkeypatch.setattr(preflight, "busy_cores", lambda: busy if last else 0.0)
    monkeypatch.setattr(preflight.os, "cpu_count", lambda: 2)
    job.main(comm, ["--variant", "numpy", "--output", str(mpi_tmp_path / "r.h5")])
    if comm.rank == 0:
        (line,) = [line for line in capsys.readouterr().out.splitlines() if " load " in line]
        assert f"{busy} of 2 cores are busy with something else" in line
        assert line.startswith("  OK " if busy < 0.5 else "  warning ")
        assert ("--exclusive" in line) == (busy > 0.5)


def test_copies_are_refused(start):
    env = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}
    done = start(None, JOB, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("preflight.py: error: srun started 4 copies") == 1


@pytest.mark.mpi
@pytest.mark.parametrize("fault", ["message", "copy"])
def test_bytes_that_are_wrong_are_found(comm, job, mpi_tmp_path, monkeypatch, fault):
    right = measure._round_trips
    if fault == "message":
        monkeypatch.setattr(measure, "_round_trips", lambda *args: (right(*args)[0], 1))
    else:
        monkeypatch.setattr(measure.Memory, "copy", lambda self: 1.0)
    path = mpi_tmp_path / "r.h5"
    options = ["--variant", "numpy", "--output", str(path)]
    if comm.size == 1 and fault == "message":
        job.main(comm, options)
        return
    with pytest.raises(Stop, match=r"1 of \d+ checks failed: data") as caught:
        job.main(comm, options)
    assert caught.value.status == 1
    if comm.rank == 0:
        run = record.read(path)
        (check,) = run.checks
        assert check["error"] == 2 if fault == "message" else check["error"] > 1000
        assert (check["bound"], check["why"]) == (0, "exact")
        assert "bytes arrived otherwise than they went" in run.attributes["warnings"][0]


@pytest.mark.mpi
def test_a_record_that_cannot_be_written_is_one_more_finding(
    comm, job, mpi_tmp_path, monkeypatch, capsys
):
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record.files, "write", refuse)
    monkeypatch.setattr(measure, "file_system", full)
    options = ["--variant", "numpy", "--json", "--output", str(mpi_tmp_path / "r.h5")]
    with pytest.raises(Stop, match=r"2 of \d+ checks failed: files, record"):
        job.main(comm, options)
    shown = capsys.readouterr().out
    if comm.rank == 0:
        # Strict: no NaN.
        facts = json.loads(shown, parse_constant=lambda text: pytest.fail(text))
        assert facts["record"] is None
        wrong = [check["check"] for check in facts["checks"] if check["verdict"] == "wrong"]
        assert wrong == ["files", "record"]


@pytest.mark.mpi
@pytest.mark.parametrize("works", [True, False])
def test_gpus_are_shown_and_tried(comm, job, mpi_tmp_path, monkeypatch, capsys, works):
    gpus = [f"NVIDIA X100 GPU-{i:08d}-0000" for i in range(4)]
    tried = []
    monkeypatch.setattr(device, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(device, "_installed", lambda variant: True)
    monkeypatch.setattr(device, "_select_gpu", lambda variant, number: None)
    monkeypatch.setattr(device._CuPy, "synchronize", lambda self: None)
    monkeypatch.setattr(device_buffers, "work", lambda variant: tried.append(variant) or works)
    job.main(comm, ["--variant", "cupy", "--output", str(mpi_tmp_path / "r.h5")])
    shown = capsys.readouterr().out
    assert tried == (["cupy"] if comm.rank == 0 else [])
    if comm.rank == 0:
        for rank in range(comm.size):
            assert gpus[rank % 4] in shown.splitlines()[1 + rank]
        assert "4 in sight of rank 0" in shown
        assert ("--device-buffers works" in shown) == works
        assert ("warning  GPU       --device-buffers fails: data pass" in shown) == (not works)
        run = record.read(mpi_tmp_path / "r.h5")
        assert [row.decode() for row in run.ranks["device"]] == [
            gpus[rank % 4] for rank in range(comm.size)
        ]


@pytest.mark.mpi
def test_a_folder_that_fails_is_wrong(comm, job, mpi_tmp_path, monkeypatch):
    def refuse(folder):
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(measure, "file_system", refuse)
    with pytest.raises(Stop, match=r"1 of \d+ checks failed: files") as caught:
        job.main(comm, ["--variant", "numpy", "--output", str(mpi_tmp_path / "r.h5")])
    assert caught.value.status == 1
    if comm.rank == 0:
        warnings = record.read(mpi_tmp_path / "r.h5").attributes["warnings"]
        assert any("Disk quota exceeded; choose another place" in text for text in warnings)


@pytest.fixture
def checks(comm, tmp_path):
    """The checks of a run that has found nothing yet."""
    options = ["--variant", "numpy", "--json", "--output", f"{tmp_path}/r.h5"]
    return Preflight(comm, options, str(JOB), "")


def verdicts(checks):
    return [(row["verdict"], row["text"]) for row in checks.findings.checks]


@pytest.mark.mpi
def test_what_takes_long_is_in_a_phase(checks, job, monkeypatch):
    # Else the watchdog of a large node would tell of a standstill.
    seen = {}

    def noted(name):
        call = getattr(measure, name)

        def note(*args):
            seen[name] = checks.run.clock.current
            return call(*args)

        return note

    for name in ("Memory", "messages_within", "messages_between"):
        monkeypatch.setattr(measure, name, noted(name))
    checks.measure_memory()
    checks.measure_messages()
    messages = dict.fromkeys(("messages_within", "messages_between"), "exchange")
    assert seen == {"Memory": "kernel", **messages}


def test_slow_messages_are_told(checks):
    for latency, bandwidth, verdict in (
        (1e-6, 10, "OK"),
        (1e-4, 10, "warning"),
        (1e-6, 1, "warning"),
    ):
        checks.findings.checks.clear()
        connection = Connection("n1 - n2", latency, bandwidth, 0)
        checks._judge([connection], "between nodes", "between", "one way")
        ((found, text),) = verdicts(checks)
        assert found == verdict
        assert ("UCX_TLS" in text) == (verdict == "warning")


def test_a_slow_connection_is_named(checks):
    speeds = [12.0, 12.0, 12.0, 4.0, 12.0, 12.0]
    connections = [Connection(f"n{i} - n{i + 1}", 1e-6, x, 0) for i, x in enumerate(speeds)]
    checks._judge(connections, "between nodes", "between", "one way")
    ((found, text),) = verdicts(checks)
    assert found == "warning"
    assert "n3 - n4 has 4 GB/s, the fastest 12" in text and "--exclude" in text
    latency, unit, _ = checks.results["latency_between"]
    assert (latency.shape, unit, checks.wrong) == ((6,), "s", 0)
    bandwidth, unit, _ = checks.results["bandwidth_between"]
    assert (bandwidth.tolist(), unit) == (speeds, "GB/s")


def test_no_connection_is_no_check(checks):
    checks._judge([], "between nodes", "between", "one way")
    assert (verdicts(checks), checks.wrong) == ([], 0)
    assert checks.results["latency_between"][0].size == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"speed": 0.01}, "slow; write to the parallel file system"),
        ({"free": 2**20}, "nearly full"),
        ({"locks": False}, "HDF5_USE_FILE_LOCKING=FALSE"),
    ],
)
def test_file_systems_are_judged(checks, monkeypatch, tmp_path, changes, words):
    figures = {"speed": 1.0, "rename": 1e-3, "locks": True, "free": 10**12, **changes}
    values = (figures["speed"], figures["rename"], figures["locks"], 0)
    monkeypatch.setattr(measure, "file_system", lambda folder: values)
    usage = type(preflight.shutil.disk_usage(tmp_path))(10**13, 0, figures["free"])
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage)
    checks.try_files()
    assert checks.results["write_bandwidth"][:2] == (figures["speed"], "GB/s")
    assert checks.results["rename_seconds"][:2] == (1e-3, "s")
    assert checks.wrong == 0
    ((verdict, text),) = verdicts(checks)
    assert verdict == ("warning" if words else "OK")
    assert (words or str(tmp_path)) in text


def test_a_node_out_of_step_is_named():
    assert preflight.out_of_step(np.array([30.0, 31.0, 29.0]), ["a", "b", "c"]) == []
    (text,) = preflight.out_of_step(np.array([30.0, 31.0, 15.0]), ["a", "b", "c"])
    assert text.startswith("c has 15 GB/s, the fastest 31")


def test_the_limit_beside_a_sweep_is_what_preflight_writes(start, tmp_path, quick):
    examples.write_sweep(tmp_path / "sweep", examples.plan([1]), [examples.run()])
    path = tmp_path / "sweep" / "preflight.h5"
    done = start(2, quick, "--variant", "numpy", "--output", path)
    assert done.returncode == 0, done.stderr
    limit = load(tmp_path / "sweep").limit
    results = record.read(path).results
    assert limit.read_gbs == results["read_bandwidth"].values[0]
    assert limit.copy_gbs == results["copy_bandwidth"].values[0]
    assert (limit.ranks, limit.nodes) == (2, 1)


def test_help_shows_examples(start):
    done = start(2, JOB, "--help")
    assert done.returncode == 0
    assert "mpirun -n 4 python jobs/preflight.py" in done.stdout
