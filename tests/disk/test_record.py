import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from rankwise.disk import files, record, summary
from rankwise.disk.record import SNAPSHOT, Balance, Result
from rankwise.ranks import signals
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES
from rankwise.ranks.words import numbers, ranges
from rankwise.run import provenance
from rankwise.run.begin import Begun
from tests.cases import long

RESULTS = {
    "total": Result(np.float64(2.5), "1", "a sum"),
    "parts": Result(
        np.arange(6.0).reshape(2, 3), "K", "its parts", ("side", "\N{GREEK SMALL LETTER PHI}")
    ),
    "side": Result(np.arange(2.0), "m", "of the parts"),
}
CHECKS = [
    {"why": "rounding", "error": 0.5, "bound": 1.0},
    {"why": "five standard errors of \N{GREEK SMALL LETTER PI}", "error": 0.25, "bound": 0.75},
]


@pytest.fixture
def make(comm, tmp_path):
    """Return a function that collects a record of a run that did nothing."""
    folder = comm.bcast(tmp_path)

    def add_n(parser):
        parser.add_argument("--n", type=int)

    def collect(results=RESULTS, balance=None):
        argv = ["--variant", "numpy", "--n", "3", "--repeats", "3"]
        run = Begun(comm, [*argv, "--output", f"{folder}/made.h5"], "jobs/job.py", "", add_n)
        for _ in run.clock.repeats():
            with run.phase("kernel"):
                pass
        run.warnings, run.checks = ["too few cores"], CHECKS
        facts = {"work": 50, "kernel_bytes": 100, "kernel_flops": 20, "unchecked": ""}
        return provenance.collect(run, results, facts, np.empty(0, SNAPSHOT), balance)

    return collect


def balance_of(ranks):
    """Return how three repeats of a queue went."""
    chunks = 1 + np.arange(3 * ranks).reshape(3, ranks)
    return Balance("guided", 99, 2.5 * chunks, 1.5 * chunks, chunks)


@pytest.mark.mpi
def test_what_is_written_is_read(comm, make, mpi_tmp_path):
    path = record.target(comm, "job", mpi_tmp_path / "a.h5", force=False)
    made = make()
    assert record.write(comm, path, made, force=False) == mpi_tmp_path / "a.h5"
    if comm.rank == 0:
        assert os.listdir(path.parent) == ["a.h5"]
        back = record.read(path)
        assert back.attributes == made.attributes
        assert back.checks == CHECKS
        assert back.phases == PHASES
        np.testing.assert_array_equal(back.timings, made.timings)
        np.testing.assert_array_equal(back.ranks, made.ranks)
        for name, result in RESULTS.items():
            np.testing.assert_array_equal(back.results[name].values, result.values)
            assert back.results[name].units == result.units
            assert back.results[name].description == result.description
            assert back.results[name].axes == result.axes
        with h5py.File(path) as file:
            # A reader that knows nothing of axes finds none where none are named.
            assert "axes" in file["results/parts"].attrs
            assert set(file["results/side"].attrs) == {"units", "description"}
        assert back.balance is None


@pytest.mark.mpi
def test_a_queue_that_is_written_is_read(comm, make, mpi_tmp_path):
    balance = balance_of(comm.size)
    path = record.write(comm, mpi_tmp_path / "a.h5", make(balance=balance), force=False)
    if comm.rank == 0:
        back = record.read(path).balance
        assert (back.schedule, back.tasks) == ("guided", 99)
        for name in ("busy", "longest", "chunks"):
            np.testing.assert_array_equal(getattr(back, name), getattr(balance, name))


@pytest.mark.mpi
def test_schema(comm, make, mpi_tmp_path):
    path = record.write(comm, mpi_tmp_path / "a.h5", make(), force=False)
    if comm.rank == 0:
        with h5py.File(path) as file:
            assert set(file) == {"results", "checks", "timings", "ranks", "snapshots"}
            assert set(file.attrs) == {
                *("schema", "job", "command", "arguments", "ranks", "nodes", "threads", "variant"),
                *("start", "folder", "git", "mpi", "versions", "slurm", "peak_memory_rank"),
                *("peak_memory_node", "work", "kernel_bytes", "kernel_flops", "results_sha256"),
                *("unchecked", "warnings", "first_step", "restarts"),
            }
            assert file["checks"].dtype.names == ("why", "error", "bound")
            assert file["timings"].shape == (3, len(PHASES), comm.size)
            seconds = dict(zip(PHASES, np.moveaxis(file["timings"][()], 1, 0), strict=True))
            assert (seconds["kernel"] >= 0).all()
            assert np.isnan(seconds["read"]).all()
            assert seconds["write"][0, 0] > 0
            assert np.isnan(seconds["write"]).sum() == 3 * comm.size - 1
            assert (seconds["other"] >= 0).all()
            assert [row["rank"] for row in file["ranks"]] == list(range(comm.size))
            assert (file["ranks"]["peak_memory"] > 2**20).all()
            assert file.attrs["peak_memory_rank"] == file["ranks"]["peak_memory"].max()
            assert 0 < file.attrs["peak_memory_node"] <= file["ranks"]["peak_memory"].sum()


@pytest.mark.mpi
def test_provenance(comm, make, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    made = make()
    if comm.rank == 0:
        facts = made.attributes
        assert facts["slurm"]["SLURM_JOB_ID"] == "42"
        assert facts["arguments"] == {
            **{"variant": "numpy", "output": f"{tmp_path}/made.h5", "n": 3, "repeats": 3},
            **{"threads": None, "force": False, "json": False, "device_buffers": False},
            **dict.fromkeys(("stall_seconds", "profile", "log")),
        }
        assert facts["ranks"] == comm.size
        assert facts["versions"]["numpy"] == np.__version__
        assert facts["start"].endswith("+00:00")
        assert facts["versions"]["h5py"] == h5py.__version__
        assert facts["folder"] == os.getcwd()
        assert "hunter2" not in repr(made)


@pytest.mark.mpi
def test_a_record_is_replaced_only_with_force(comm, make, mpi_tmp_path):
    path = record.write(comm, mpi_tmp_path / "a.h5", make(), force=False)
    with pytest.raises(Stop, match="--force replaces a record"):
        record.target(comm, "job", path, force=False)
    assert record.target(comm, "job", path, force=True) == path
    # As if it had appeared after the check: both are kept.
    before = path.read_bytes()
    other = record.write(comm, path, make(), force=False)
    assert other != path
    comm.Barrier()
    assert path.read_bytes() == before
    comm.Barrier()
    assert record.write(comm, path, make(), force=True) == path
    if comm.rank == 0:
        assert record.read(path).results.keys() == record.read(other).results.keys()


@pytest.mark.parametrize("content", ["text", "data"])
def test_force_replaces_nothing_but_a_record(comm, tmp_path, content):
    path = tmp_path / "a.h5"
    if content == "data":
        with h5py.File(path, "w") as file:
            file["x"] = np.ones(3)
    else:
        path.write_text("mine")
    before = path.read_bytes()
    with pytest.raises(Stop, match="is not a record"):
        record.target(comm, "job", path, force=True)
    assert path.read_bytes() == before


def test_runs_in_one_folder_leave_each_others_files_alone(tmp_path):
    # Three runs that begin at once remove no file of each other.
    script = """
import os, time
from pathlib import Path
from rankwise.disk import files
for _ in range(2000):
    temporary, handle = files._create_temporary(Path("a.h5"))
    time.sleep(2e-4)
    assert os.fstat(handle).st_nlink == 1
    temporary.unlink()
    os.close(handle)
    files.remove_stale(Path("."))
"""
    runs = [subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) for _ in range(3)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_what_looks_like_a_left_file_and_is_a_link_is_left_alone(tmp_path):
    target = tmp_path / "theirs"
    target.write_text("kept")
    link = tmp_path / f".a.h5.1-2.{os.uname().nodename}.record-tmp"
    link.symlink_to(target)
    files.remove_stale(tmp_path)
    assert link.is_symlink() and target.read_text() == "kept"


@pytest.mark.parametrize(
    ("path", "message"),
    [("no/such/a.h5", "there is no folder"), ("/sys/a.h5", "cannot write"), (".", "is a folder")],
)
def test_a_place_that_cannot_be_written_is_refused(comm, tmp_path, path, message):
    with pytest.raises(Stop, match=message) as caught:
        record.target(comm, "job", tmp_path / path, force=False)
    assert caught.value.status == 2


@pytest.mark.mpi
def test_a_run_has_one_name_on_all_ranks_and_no_other_has_it(comm):
    first = record.run_name(comm, "heat")
    assert re.fullmatch(r"heat-\d{8}T\d{6}\.\d{3}Z", first)
    assert set(comm.allgather(first)) == {first}
    time.sleep(0.002)
    assert first < record.run_name(comm, "heat")


def test_default_path_names_job_and_time(comm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = record.target(comm, record.run_name(comm, "job"), None, force=False)
    assert path.parent == Path("results")
    assert path.name.startswith(time.strftime("job-%Y", time.gmtime()))
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("limit", [0, 1, 4096, 50_000, 500_000])
def test_a_write_that_fails_leaves_nothing(comm, make, tmp_path, limit):
    big = {"x": Result(np.zeros(10**5), "1", "too much for the limit on file sizes")}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    made = make(big)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(Stop, match=r"cannot write .*: File too large$") as caught:
            record.write(comm, tmp_path / "a.h5", made, force=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.status == 1
    assert list(tmp_path.iterdir()) == []


SLOW_WRITER = """
from rankwise.job import Run, launch
import numpy as np

def main(comm, argv):
    run = Run(comm, argv, __file__, "", lambda parser: None)
    results = {f"x{i}": (np.zeros(10**7), "1", "large") for i in range(5)}
    run.check(0, 0, "exact")
    run.finish(results, work=0, kernel_bytes=0)

launch(main)
"""


def size_of(path):
    """Return the size of a file, 0 if it has just been removed: one tries whether it can write."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("number", [signal.SIGTERM, long(signal.SIGINT), signal.SIGKILL])
def test_an_interrupted_write_leaves_no_record(comm, tmp_path, number):
    script = tmp_path / "writer.py"
    script.write_text(SLOW_WRITER)
    folder = tmp_path / "out"
    folder.mkdir()
    writer = subprocess.Popen([sys.executable, script, "--output", folder / "a.h5"])
    give_up = time.monotonic() + 30
    while not any(size_of(file) > 10**7 for file in folder.iterdir()):
        assert time.monotonic() < give_up
        assert writer.poll() is None
        time.sleep(0.002)
    if number == signal.SIGKILL:
        # A live writer's file is left alone.
        record.target(comm, "job", folder / "b.h5", force=False)
        assert len(list(folder.iterdir())) == 1
    writer.send_signal(number)
    status = writer.wait(timeout=30)
    assert status == signals.STATUS.get(number, -number)
    if number == signal.SIGKILL:
        assert len(list(folder.iterdir())) == 1
        record.target(comm, "job", folder / "b.h5", force=False)
    assert list(folder.iterdir()) == []


def test_digest_sees_every_bit_and_nothing_else():
    digest = record.digest(RESULTS)
    assert record.digest(dict(reversed(RESULTS.items()))) == digest
    swapped = {
        name: Result(result.values.astype(">f8"), "", "") for name, result in RESULTS.items()
    }
    assert record.digest(swapped) == digest
    parts = RESULTS["parts"].values
    one = Result(np.array([2.5]), "1", "a sum")
    assert record.digest({**RESULTS, "total": one}) != digest
    for changed in (parts.T, parts.ravel(), parts.astype("f4"), np.nextafter(parts, 9)):
        assert record.digest({**RESULTS, "parts": Result(changed, "K", "its parts")}) != digest
    without = {**RESULTS, "parts": Result(parts, "K", "its parts")}
    assert record.digest(without) == digest
    renamed = {"part" if name == "parts" else name: each for name, each in RESULTS.items()}
    assert record.digest(renamed) != digest


def test_a_digest_is_what_its_docstring_says():
    from hashlib import sha256

    values = np.arange(3 * 2**20, dtype="<f8")
    octets, piece = values.tobytes(), 16 * 2**20
    expected = sha256(b"x <f8 3145728\n" + sha256(octets[:piece]).digest())
    expected.update(sha256(octets[piece:]).digest())
    assert record.digest({"x": Result(values, "1", "")}) == expected.hexdigest()


def test_damage_is_found_by_the_reader(comm, make, tmp_path):
    path = record.write(comm, tmp_path / "a.h5", make(), force=False)
    with h5py.File(path, "r+") as file:
        file["results/parts"][0, 0] = 99.0
    with pytest.raises(ValueError, match="damaged"):
        record.read(path)


def test_other_files_are_not_records(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="not a record of schema 5: its schema is none"):
        record.read(tmp_path / "a.h5")
    with pytest.raises(OSError, match="no such file"):
        record.read(tmp_path / "b.h5")
    (tmp_path / "c.h5").write_text("text")
    with pytest.raises(OSError, match=r"c.h5 is not a whole HDF5 file"):
        record.read(tmp_path / "c.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["schema"] = record.SCHEMA
        file["results"] = 1
    with pytest.raises(ValueError, match=r"a.h5 is damaged"):
        record.read(tmp_path / "a.h5")


def test_the_report_reads_a_record_from_disk(comm, make, tmp_path, start):
    made = make()
    path = record.write(comm, tmp_path / "a.h5", made, force=False)
    facts = summary.summary(made)
    done = start(None, "-m", "rankwise", "show", path)
    assert (done.returncode, done.stdout) == (0, summary.text(facts, path) + "\n")
    done = start(None, "-m", "rankwise", "show", path, "--json")
    assert json.loads(done.stdout) == {**facts, "record": str(path)}
    assert facts["results"] == {"total": 2.5}
    assert facts["checks"] == CHECKS and facts["unchecked"] == ""
    done = start(None, "-m", "rankwise", "show", tmp_path / "b.h5")
    assert done.returncode == 2
    assert "no such file" in done.stderr


def test_the_report_tells_that_a_run_went_on(make):
    made = make()
    assert "went on" not in summary.text(summary.summary(made), Path("a.h5"))
    made.attributes |= {"first_step": 1200, "restarts": 3}
    text = summary.text(summary.summary(made), Path("a.h5"))
    assert "\n  went on   after step 1200, restart 3: seconds are of the steps since\n" in text


def test_the_report_tells_how_fast_the_kernel_was(make):
    made = make()
    made.timings[:, PHASES.index("kernel")] = [[0.5], [0.25], [0.75]]
    made.attributes |= {"kernel_bytes": 10**9, "kernel_flops": 3 * 10**9}
    facts = summary.summary(made)
    assert (facts["kernel_gbs"], facts["kernel_gflops"]) == (2, 6)
    assert "  kernel    2.00 GB/s, 6.00 Gflop/s\n" in summary.text(facts, Path("a.h5"))
    made.attributes["kernel_flops"] = 0
    text = summary.text(summary.summary(made), Path("a.h5"))
    assert "  kernel    2.00 GB/s\n" in text
    made.timings[:, PHASES.index("kernel")] = np.nan
    facts = summary.summary(made)
    assert facts["kernel_gbs"] is facts["kernel_gflops"] is None
    assert "  kernel    not timed\n" in summary.text(facts, Path("a.h5"))


def test_the_report_tells_how_the_ranks_shared_the_tasks(make):
    assert summary.summary(make())["queue"] is None
    busy = np.array([[2.0, 4.0, 0.0], [1.0, 3.0, 2.0], [3.0, 3.5, 1.0]])
    chunks = np.array([[5, 4, 1], [5, 5, 1], [7, 2, 1]])
    made = make(balance=Balance("dynamic", 40, busy, busy / 4, chunks))
    # What it prints as JSON.
    facts = json.loads(json.dumps(summary.summary(made)))
    assert facts["queue"] == {
        **{"schedule": "dynamic", "tasks": 40, "busy": [2, 3.5, 1], "chunks": [5, 4, 1]},
        # Of the repeats 2, 1.5 and 1.4, and not 3.5 over the mean of these busy seconds.
        **{"longest": 0.875, "imbalance": 1.5},
        "over_mean": [pytest.approx(0.4), pytest.approx(1.0), 1.5],
    }
    text = summary.text(facts, Path("a.h5"))
    assert text.endswith(
        "\n\n  tasks            min    median       max   "
        "40, schedule dynamic; imbalance 1.50, max / mean\n"
        "  busy          1.0000    2.0000    3.5000   CPU seconds in the calls of the kernel\n"
        "  chunks             1         4         5"
    )
    facts["devices"] = ["NVIDIA H200 GPU-1"]
    assert "3.5000   seconds in the calls" in summary.text(facts, Path("a.h5"))


def test_of_no_work_nobody_has_more_than_others(make):
    nothing = np.zeros((2, 3))
    made = make(balance=Balance("block", 0, nothing, nothing, nothing.astype(int)))
    assert summary.summary(made)["queue"]["imbalance"] == 1


def test_the_report_tells_every_check_and_what_is_not_checked(make):
    made = make()
    made.attributes["unchecked"] = "no rank was in the phase 'kernel'"
    text = summary.text(summary.summary(made), Path("a.h5"))
    for check in CHECKS:
        assert f"  check     off by {check['error']}, bound {check['bound']:.3g}: " in text
        assert f": {check['why']}\n" in text
    assert "  unchecked no rank was in the phase 'kernel'\n" in text


def test_cores_are_written_as_ranges():
    assert ranges((0, 1, 2, 5, 7, 8)) == "0-2,5,7-8"
    assert numbers("0-2,5,7-8") == [0, 1, 2, 5, 7, 8]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(b"a", b"0-1", 1), (b"a", b"0-1", 1), (b"b", b"0", 1)], False),
        ([(b"a", b"0-1", 1), (b"a", b"0-1", 2), (b"b", b"0-7", 1)], True),
        ([(b"a", b"0-3", 4)], False),
        ([(b"a", b"0", 1), (b"a", b"0", 1)], True),
    ],
)
def test_no_bandwidth_where_ranks_take_turns(comm, make, rows, expected):
    made = make()
    kinds = [("host", "S1"), ("cores", "S3"), ("threads", "i8"), ("device", "S4")]
    made.ranks = np.array([(*row, b"host") for row in rows], kinds)
    facts = summary.summary(made)
    assert facts["oversubscribed"] == expected
    assert ("no GB/s, since ranks take turns" in summary.text(facts, Path("x.h5"))) == expected


@pytest.mark.parametrize(
    "name", ["results", "results/parts", "checks", "timings", "ranks", "snapshots"]
)
def test_nothing_outside_of_a_record_is_read(comm, make, tmp_path, name):
    path = record.write(comm, tmp_path / "a.h5", make(), force=False)
    (tmp_path / "whole.h5").write_bytes(path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = h5py.ExternalLink("whole.h5", f"/{name}")
    with pytest.raises(ValueError, match=r"a.h5 is damaged: .* lies in another file"):
        record.read(path)
    record.read(tmp_path / "whole.h5")


def test_records_of_earlier_schemas_are_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["schema"], file.attrs["job"] = 4, "with a text of no fixed length"
    with pytest.raises(ValueError, match="not a record of schema 5: its schema is 4"):
        record.read(tmp_path / "a.h5")


def damages():
    """Return ways to make a record one that is refused, with what is said then."""

    def remove(name):
        return lambda file: file.pop(name)

    def replace(name, *arguments, **options):
        def act(file):
            del file[name]
            file.create_dataset(name, *arguments, **options)

        return act

    def names_of_one(file):
        packed = file.create_dataset("packed", data=np.zeros(10**7), compression="gzip")
        for k in range(20):
            file[f"results/x{k}"] = packed

    def one_huge_chunk(file):
        shape = {"shape": (1,), "maxshape": (None,), "chunks": (2**27,)}
        file.create_dataset("results/x", dtype="f8", compression="gzip", **shape)

    def nested(file):
        file.attrs["arguments"] = np.bytes_(b"[" * 60_000)

    def axes(value):
        return lambda file: file["results/parts"].attrs.create("axes", value)

    def about(**changes):
        return lambda file: file["results/parts"].attrs.update(changes)

    def no_units(file):
        del file["results/parts"].attrs["units"]

    def no_such_attribute(file):
        del file.attrs["job"]

    def text_for_a_number(file):
        file.attrs["ranks"] = np.bytes_(b"two")

    def a_rank_too_many(file):
        ranks = file["ranks"][...]
        del file["ranks"]
        file["ranks"] = np.tile(ranks, 2)

    def text_for_seconds(file):
        values, phases = file["timings"][...], file["timings"].attrs["phases"]
        del file["timings"]
        file["timings"] = values.astype("S3")
        file["timings"].attrs["phases"] = phases

    def numbers_for_hosts(file):
        ranks = file["ranks"][...]
        del file["ranks"]
        kinds = [
            (name, "i8" if name == "host" else ranks.dtype[name]) for name in ranks.dtype.names
        ]
        file["ranks"] = np.zeros(ranks.shape, kinds)

    def other_phases(file):
        phases = file["timings"].attrs["phases"]
        file["timings"].attrs["phases"] = phases[::-1].astype("S3")

    def failed_check(file):
        del file["checks"]
        file["checks"] = np.array([(b"exact", 5.0, 1.0)], [("why", "S5"), *kinds])

    def queue(without="", **changes):
        def act(file):
            Balance(**{**vars(balance_of(1)), **changes}).put(file)
            file["queue"].attrs.pop(without, None)
            file["queue"].pop(without, None)

        return act

    seconds = np.ones((3, 1))
    kinds = [("error", "f8"), ("bound", "f8")]
    no_text = np.zeros(2, [("why", "f8"), *kinds])
    no_utf8 = np.array([(b"\xff", 0.0, 1.0)], [("why", "S1"), *kinds])
    return {
        "results missing": (remove("results"), "it has no 'results'"),
        "checks missing": (remove("checks"), "'checks' is no dataset of numbers"),
        "checks no table": (replace("checks", data=np.ones(3)), "its checks are no table"),
        "checks of no text": (replace("checks", data=no_text), "its checks are no table"),
        "checks not UTF-8": (replace("checks", data=no_utf8), "can't decode byte 0xff"),
        "timings missing": (remove("timings"), "'timings' is no dataset of numbers"),
        "results no group": (replace("results", data=np.ones(3)), "is no dataset of numbers"),
        "results of groups": (lambda file: file.create_group("results/x"), "is no dataset"),
        "huge": (replace("timings", (2**50,), "f8"), "declares 9.01e.06 GB"),
        "huge in chunks": (replace("ranks", (2**50,), "f8", chunks=(8,)), "declares 9.01e.06 GB"),
        "texts of any length": (replace("ranks", (3,), h5py.string_dtype()), "no dataset of num"),
        "one large dataset with many names": (names_of_one, "declares 1.12 GB, and at most"),
        "a large packed chunk": (one_huge_chunk, "packed chunks of 1024 MiB"),
        "too few axes": (axes(np.array([b"y"])), "axes of 'parts' are not one for each dimension"),
        "axes in one text": (axes(np.bytes_(b"yx")), "axes of 'parts' are not one for each dim"),
        "axes of no text": (axes(np.arange(2)), "has no attribute 'decode'"),
        "axes of any length": (axes(["y", "x"]), "attribute 'axes' has no fixed length"),
        "coordinates of another length": (
            axes(np.array([b"y", b"side"])),
            "'side' is an axis of 'parts', and of another length",
        ),
        "a number for a description": (about(description=7), "description of 'parts' are missing"),
        "two units": (about(units=np.array([b"K", b"m"])), "the units or the description of 'par"),
        "no units": (no_units, "the units or the description of 'parts' are missing or no text"),
        "attribute missing": (no_such_attribute, "its attribute 'job' is missing or no str"),
        "text for a number": (text_for_a_number, "its attribute 'ranks' is missing or no int"),
        "text for seconds": (text_for_seconds, "its timings are no seconds of phases"),
        "numbers for hosts": (numbers_for_hosts, "ranks or snapshots are no tables"),
        "phases missing": (other_phases, "its timings are no seconds of phases"),
        "a check that failed": (failed_check, "a check failed in it, and it does not say so"),
        "other tables": (replace("ranks", data=np.ones(1)), "ranks or snapshots are no tables"),
        "a rank too many": (a_rank_too_many, "timings are not those of its phases and ranks"),
        "a queue without schedule": (queue("schedule"), "its queue has no schedule or no tasks"),
        "many tasks": (queue(tasks="many"), "its queue has no schedule or no tasks"),
        "a queue without chunks": (queue("chunks"), "'queue/chunks' is no dataset of numbers"),
        "a queue no group": (lambda file: file.create_dataset("queue", data=1.0), "no schedule"),
        "a queue of other ranks": (queue(busy=np.ones((3, 2))), "queue is not that of its repeats"),
        "a queue of one repeat": (
            queue(busy=seconds[:1], longest=seconds[:1], chunks=np.ones((1, 1), int)),
            "its queue is not that of its repeats and ranks",
        ),
        "half a chunk": (queue(chunks=seconds / 2), "holds no seconds and numbers of chunks"),
        "text for busy": (queue(busy=seconds.astype("S3")), "holds no seconds and numbers of ch"),
        "busy without end": (queue(busy=seconds * np.inf), "holds what is negative or no number"),
        "no longest": (queue(longest=seconds * np.nan), "holds what is negative or no number"),
        "chunks below 0": (queue(chunks=-seconds.astype(int)), "holds what is negative or no num"),
        "tasks below 0": (queue(tasks=-1), "its queue holds what is negative or no number"),
        "nested JSON": (nested, "maximum recursion depth"),
    }


@pytest.mark.parametrize("damage", damages())
def test_hostile_records(comm, make, tmp_path, damage):
    act, words = damages()[damage]
    path = record.write(comm, tmp_path / "a.h5", make(), force=False)
    with h5py.File(path, "r+") as file:
        act(file)
    with pytest.raises(ValueError, match=f"^{path} is damaged: .*{words}"):
        record.read(path)
