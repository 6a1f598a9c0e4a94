"""The k-means job as a user runs it, and its main function on the ranks of this test run."""

import importlib.util
import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from kernels.k_means import BLOCK, blobs
from rankwise.disk import record
from rankwise.ranks import signals
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES
from tests.jobs.mistakes import make_in_process, make_under_mpirun

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "k_means.py"
IRIS, DIGITS = (ROOT / "tests" / "data" / f"{name}.npy" for name in ("iris", "digits"))


@pytest.fixture(scope="module")
def job():
    """The job as a module; jobs are programs, which nothing imports but its test."""
    spec = importlib.util.spec_from_file_location("k_means_job", JOB)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(job, comm, path, *options):
    """Run the job on all ranks; return its record on rank 0, and None elsewhere."""
    arguments = [*map(str, options), "--output", str(path), "--force"]
    if "--variant" not in arguments:
        arguments += ["--variant", "numpy"]
    job.main(comm, arguments)
    return record.read(path) if comm.rank == 0 else None


def values(found):
    return {name: result.values for name, result in found.results.items()}


def digest(found):
    return found.attributes["results_sha256"]


@pytest.mark.mpi
@pytest.mark.parametrize("variant", ["numpy", "numba"])
def test_iris(comm, job, mpi_tmp_path, variant):
    found = run(job, comm, mpi_tmp_path / "r.h5", "--input", IRIS, "--variant", variant)
    if comm.rank == 0:
        result = values(found)
        # As scikit-learn has it, see tests/kernels/test_k_means.py.
        assert result["inertia"] == pytest.approx(78.851441426146, rel=1e-12)
        assert result["counts"].tolist() == [50, 62, 38]
        assert np.bincount(result["labels"]).tolist() == [50, 62, 38]
        assert result["labels"].dtype == np.int32
        # n < 2^8 and 7.9 < 2^3.
        assert (result["iterations"], result["shift"]) == (4, 62 - 8 - 3)
        x = np.load(IRIS)
        means = [x[result["labels"] == j].mean(axis=0) for j in range(3)]
        np.testing.assert_allclose(result["centres"], means, rtol=1e-13)
        assert (found.attributes["arguments"]["n"], found.attributes["arguments"]["d"]) == (150, 4)
        assert found.attributes["work"] == 150 * 4
        assert found.attributes["kernel_bytes"] == (4 * 8 + 4) * 150 * 4
        assert found.attributes["kernel_flops"] == 3 * 3 * 4 * 150 * 4
        assert [check["why"].split(":")[0] for check in found.checks] == [
            "blocks that are not as they were drawn or read", "steps too few or too many",
            "points by cluster", "labels where they belong", "ranks with other centres",
            "centres", "inertia", "labels of a sample", "rise of the inertia",
        ]  # fmt: skip


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("value", "told"), [(1.0, False), (1e6, False), (1e12, True), (1e36, True)]
)
def test_a_point_that_takes_the_digits_of_the_others_is_told(comm, job, mpi_tmp_path, value, told):
    if comm.rank == 0:
        x = np.random.default_rng(0).random((40, 5))
        x[3, 3] = value
        np.save(mpi_tmp_path / "x.npy", x)
    path = mpi_tmp_path / "r.h5"
    options = ["--input", f"{mpi_tmp_path}/x.npy", "--variant", "numpy", "--output", str(path)]
    job.main(comm, options)
    if comm.rank == 0:
        warnings = record.read(path).attributes["warnings"]
        assert sum("half of them lie within 0." in text for text in warnings) == told


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize(("variant", "threads"), [("numpy", 1), ("numba", 1), ("numba", 2)])
def test_the_bits_are_those_of_every_run(comm, job, mpi_tmp_path, variant, threads):
    options = ["--variant", variant, "--threads", threads]
    size = ["--n", 12345, "--k", 7, "--start", "random", "--steps", 9]
    runs = [run(job, comm, mpi_tmp_path / "r.h5", *options, *o) for o in (["--input", IRIS], size)]
    if comm.rank == 0:
        assert [digest(found)[:16] for found in runs] == ["07776d69f87c8dbb", "f2e658ece4d82440"]


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("form", "dtype"), [("x.npy", "float32"), ("x.h5:/a/x", "uint8"), ("x.h5:/a/x", "float64")]
)
def test_digits(comm, job, mpi_tmp_path, dtype, form):
    x = np.load(DIGITS).astype(dtype)
    if comm.rank == 0:
        np.save(mpi_tmp_path / "x.npy", x)
        with h5py.File(mpi_tmp_path / "x.h5", "w") as file:
            file["a/x"] = x
    options = ["--input", mpi_tmp_path / form, "--k", 10, "--start", "first"]
    found = run(job, comm, mpi_tmp_path / "r.h5", *options)
    same = run(job, comm, mpi_tmp_path / "r.h5", *options[:1], DIGITS, *options[2:])
    if comm.rank == 0:
        result = values(found)
        assert result["inertia"] == pytest.approx(1167859.3840065985, rel=1e-12)
        assert result["iterations"] == 14
        assert digest(found) == digest(same)


@pytest.mark.mpi
@pytest.mark.parametrize("form", ["drawn", "x.npy", "x.h5:/x"])
def test_local_has_the_bits_of_scatter(comm, job, mpi_tmp_path, form):
    options = ["--n", 5 * BLOCK + 11, "--k", 5]
    if form != "drawn":
        if comm.rank == 0:
            x = np.random.default_rng(3).normal(size=(5 * BLOCK + 11, 3)).astype("f4")
            np.save(mpi_tmp_path / "x.npy", x)
            with h5py.File(mpi_tmp_path / "x.h5", "w") as file:
                file["x"] = x
        comm.Barrier()
        options[:2] = ["--input", mpi_tmp_path / form]
    runs = [
        run(job, comm, mpi_tmp_path / f"{way}.h5", *options, "--distribute", way)
        for way in ("scatter", "local")
    ]
    if comm.rank == 0:
        assert len({digest(found) for found in runs}) == 1


@pytest.mark.mpi
def test_drawn_points_are_those_of_a_file(comm, job, mpi_tmp_path):
    size = ["--k", 4, "--start", "random", "--seed", 9]
    drawn = run(job, comm, mpi_tmp_path / "r.h5", "--n", 1000, "--d", 3, *size)
    if comm.rank == 0:
        x = np.empty((1000, 3))
        blobs(9, 3, 4)(0, x)
        np.save(mpi_tmp_path / "x.npy", x)
    read = run(job, comm, mpi_tmp_path / "r.h5", "--input", mpi_tmp_path / "x.npy", *size)
    if comm.rank == 0:
        assert digest(drawn) == digest(read)


@pytest.mark.mpi
@pytest.mark.parametrize("kind", ["drawn", "input"])
def test_stopped_on_its_way_it_goes_on_to_the_same_bits(comm, job, mpi_tmp_path, monkeypatch, kind):
    options = ["--n", "3000", "--k", "12", "--seed", "3"]
    if kind == "input":
        if comm.rank == 0:
            np.save(mpi_tmp_path / "x.npy", np.random.default_rng(1).random((3000, 2)))
        options = ["--input", mpi_tmp_path / "x.npy", *options[2:]]
    whole = run(job, comm, mpi_tmp_path / "whole.h5", *options)
    options += ["--checkpoint", mpi_tmp_path / "c.h5"]
    stops = []
    for _ in range(2):
        if comm.rank == comm.size - 1:
            looks = itertools.count()
            monkeypatch.setattr(signals, "weight", lambda looks=looks: int(next(looks) > 2))
        with pytest.raises(Stop, match="stopped by SIGUSR1 after step") as caught:
            run(job, comm, mpi_tmp_path / "parts.h5", *options)
        assert caught.value.status == 75
        monkeypatch.undo()
        stops.append(int(str(caught.value).split()[5].rstrip(":")))
    parts = run(job, comm, mpi_tmp_path / "parts.h5", *options)
    if comm.rank == 0:
        assert 0 < stops[0] < stops[1] < values(whole)["iterations"]
        assert digest(parts) == digest(whole)
        assert (parts.attributes["first_step"], parts.attributes["restarts"]) == (stops[1], 2)
        steps = int(values(whole)["iterations"]) - stops[1]
        assert parts.attributes["work"] == 3000 * steps
        assert not list(mpi_tmp_path.glob("*c*.h5")) + list(mpi_tmp_path.glob(".*"))


@pytest.mark.mpi
def test_weak_gives_every_rank_the_work_of_one(comm, job, mpi_tmp_path):
    options = ["--steps", 2, "--k", 5]
    weak = run(job, comm, mpi_tmp_path / "r.h5", "--n", 500, "--weak", *options)
    strong = run(job, comm, mpi_tmp_path / "r.h5", "--n", 500 * comm.size, *options)
    if comm.rank == 0:
        assert weak.attributes["work"] == strong.attributes["work"] == 2 * 500 * comm.size
        assert digest(weak) == digest(strong)


@pytest.mark.mpi
def test_repeats_start_anew(comm, job, mpi_tmp_path):
    runs = [run(job, comm, mpi_tmp_path / "r.h5", "--n", 999, "--repeats", r) for r in (1, 3)]
    if comm.rank == 0:
        assert digest(runs[0]) == digest(runs[1])
        for phase in ("kernel", "reduce"):
            assert (runs[1].timings[:, PHASES.index(phase), 0] > 0).all()


def dropped_block(right, x, centres, labels, totals, inertia, scale):
    rest = slice(BLOCK, None)
    inertia[:1], labels[:BLOCK] = 0, 0
    right(x[rest], centres, labels[rest], totals, inertia[1:], scale)


def no_operation(right, x, centres, labels, totals, inertia, scale):
    for out in (labels, totals, inertia):
        out[...] = 0


@pytest.mark.mpi
@pytest.mark.parametrize("points", [0.0, 7.0])
@pytest.mark.parametrize("fault", [dropped_block, no_operation])
def test_a_wrong_kernel_fails_the_check_where_all_points_are_equal(
    comm, job, mpi_tmp_path, monkeypatch, points, fault
):
    from kernels.k_means import numpy_

    right = numpy_.assign
    monkeypatch.setattr(numpy_, "assign", lambda *args, **scale: fault(right, *args, **scale))
    if comm.rank == 0:
        np.save(mpi_tmp_path / "x.npy", np.full((300, 2), points))
    with pytest.raises(Stop, match=r"check failed: .* points by cluster"):
        run(job, comm, mpi_tmp_path / "r.h5", "--input", mpi_tmp_path / "x.npy", "--steps", 5)


@pytest.mark.mpi
@pytest.mark.cudasim
@pytest.mark.parametrize("n", [5, 3 * BLOCK + 3])
def test_cuda_has_the_bits_of_the_reference(comm, job, mpi_tmp_path, n):
    size = ["--n", n, "--d", 2, "--steps", 2]
    runs = [
        run(job, comm, mpi_tmp_path / "r.h5", *size, "--variant", variant)
        for variant in ("numpy", "cuda")
    ]
    if comm.rank == 0:
        assert runs[1].attributes["variant"] == "cuda"
        assert digest(runs[0]) == digest(runs[1])


@pytest.mark.long
@pytest.mark.parametrize(
    "source", [["--input", IRIS], ["--n", 12345, "--k", 7, "--start", "random", "--steps", 9]]
)
def test_same_bits_for_every_rank_count_thread_count_and_variant(start, tmp_path, source):
    digests = {}
    # Of fewer ranks: test_the_bits_are_those_of_every_run.
    cases = [("numpy", 1, 1), ("numba", 5, 2), ("numpy", 7, 1)]
    for variant, ranks, t in cases:
        path = tmp_path / f"{variant}-{ranks}.h5"
        done = start(ranks, JOB, *source, "--variant", variant, "--threads", t, "--output", path)
        assert done.returncode == 0, done.stderr
        found = record.read(path)
        assert (found.attributes["ranks"], found.attributes["threads"]) == (ranks, t)
        digests[ranks, variant] = digest(found)
    assert len(digests) == len(cases)
    assert len(set(digests.values())) == 1


def test_what_is_printed(start):
    done = start(2, JOB, "--input", IRIS, "--k", "3", "--variant", "numpy")
    assert done.returncode == 0, done.stderr
    assert "  inertia   78.85144142614" in done.stdout
    assert done.stderr == ""
    done = start(1, JOB, "--input", IRIS, "--variant", "numpy", "--json")
    (line,) = done.stdout.splitlines()
    facts = json.loads(line)
    assert facts["results"]["iterations"] == 4
    assert facts["kernel_gflops"] > 0
    assert len(facts["checks"]) == 9


WARNINGS = {
    "steps": (["--input", str(IRIS), "--steps", "2"], "the centres still move"),
    "empty": (["--input", "x.h5:/twice"], "1 of the 3 clusters have no points"),
    "equal": (["--input", "x.h5:/equal", "--k", "1"], "all points are equal"),
    "rounded": (["--input", "x.h5:/far"], "the points are rounded by up to"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_a_user_is_warned(job, inputs, name, tmp_path, monkeypatch):
    options, text = WARNINGS[name]
    monkeypatch.chdir(inputs)
    found = run(job, MPI.COMM_SELF, tmp_path / "r.h5", *options)
    (warning,) = found.attributes["warnings"]
    assert text in warning


MISTAKES = {
    "no clusters": (["--k", "0"], "not a whole number from 1 to"),
    "no dimensions": (["--d", "0"], "not a whole number from 1 to"),
    "no points": (["--n", "0"], "(0, 4), and 3 rows are needed"),
    "more clusters than points": (["--n", "5", "--k", "6"], "(5, 4), and 6 rows are needed"),
    "and in an input": (["--input", str(IRIS), "--k", "151"], "and 151 rows are needed"),
    "no steps": (["--steps", "0"], "not a whole number from 1 to"),
    "another start": (["--start", "best"], "invalid choice: 'best'"),
    "too large for the machine": (["--n", "1e15"], "Unable to allocate"),
    "d and an input": (["--input", "x.h5:/far", "--d", "2"], "--d is for made data"),
    "n and an input": (["--input", "x.h5:/far", "--n", "5"], "not allowed with"),
    "weak with an input": (["--input", "x.h5:/far", "--weak"], "the size of an --input is fixed"),
    "input missing": (["--input", "/nonexistent.npy"], "/nonexistent.npy: no such file"),
    "input of rank 1": (["--input", "x.h5:/line"], "2-D data are needed"),
    "input of another type": (["--input", "x.h5:/int"], "float64 or float32 or uint8 is needed"),
    "input without dimensions": (["--input", "x.h5:/flat"], "(9, 0), and 3 rows"),
    "input with NaN": (["--input", "x.h5:/nan"], "element (2, 1) of x.h5:/nan is nan"),
    "input with infinity": (["--input", "x.h5:/inf"], "element (0, 0) of x.h5:/inf is -inf"),
    "input too large": (["--input", "x.h5:/huge"], "element (0, 0) of x.h5:/huge is 1e+300"),
    "checkpoint of repeats": (["--checkpoint", "c.h5", "--repeats", "2"], "not for --repeats"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    with h5py.File(folder / "x.h5", "w") as file:
        file["line"] = np.ones(3)
        file["int"] = np.ones((3, 3), int)
        file["flat"] = np.ones((9, 0))
        file["nan"] = np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 1.0)
        file["inf"] = np.full((4, 2), -np.inf, "f4")
        file["huge"] = np.full((4, 2), 1e300)
        file["equal"] = np.full((40, 2), 0.1)
        file["twice"] = np.array([[1.0], [1.0], [5.0]])
        file["far"] = 1e9 + np.random.default_rng(0).random((1000, 2))
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_changes_nothing(job, inputs, mistake, monkeypatch, capsys):
    make_in_process(job, inputs, MISTAKES[mistake], monkeypatch, capsys)


@pytest.mark.parametrize("mistake", ["another start", "input with NaN", "and in an input"])
def test_a_mistake_gives_one_message_and_status_2(start, inputs, mistake):
    make_under_mpirun(start, JOB, inputs, MISTAKES[mistake])


def test_help_shows_examples(start):
    done = start(2, JOB, "--help")
    assert done.returncode == 0
    assert done.stdout.count("usage:") == 1
    assert "mpirun -n 4 python jobs/k_means.py" in done.stdout
