"""The heat job as a user runs it, and its main function on the ranks of this test run."""

import hashlib
import importlib.util
import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from rankwise.data import halo as rows
from rankwise.disk import record
from rankwise.ranks import signals
from rankwise.ranks.agreement import Stop
from rankwise.ranks.clock import PHASES
from tests.jobs.mistakes import make_in_process, make_under_mpirun

JOB = Path(__file__).parents[2] / "jobs" / "heat.py"


@pytest.fixture(scope="module")
def job():
    """The job as a module; jobs are programs, which nothing imports but its test."""
    spec = importlib.util.spec_from_file_location("heat_job", JOB)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def state(run):
    return run.results["temperature"].values


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("shape", "steps", "variant"),
    [
        *[((1, 1), 1, "numpy"), ((1, 1), 25, "numba"), ((2, 5), 2, "numpy"), ((2, 5), 1, "numba")],
        *[((3, 3), 25, "numpy"), ((3, 3), 2, "numba"), ((5, 40), 1, "numpy")],
        *[((5, 40), 25, "numba"), ((61, 17), 2, "numba"), ((61, 17), 25, "numpy")],
    ],
)
def test_built_in_state_decays_by_the_known_factor(comm, job, mpi_tmp_path, shape, steps, variant):
    ny, nx = shape
    path = mpi_tmp_path / "r.h5"
    size = ["--rows", str(ny), "--n", str(nx), "--steps", str(steps)]
    job.main(comm, [*size, "--variant", variant, "--output", str(path)])
    if comm.rank == 0:
        run = record.read(path)
        r = run.attributes["arguments"]["alpha"] * run.attributes["arguments"]["dt"]
        r /= run.attributes["arguments"]["dx"] ** 2
        # The closed form, written down once more.
        y, x = (np.arange(1, n + 1) / (n + 1) for n in shape)
        start = np.outer(np.sin(2 * np.pi * y), np.sin(3 * np.pi * x))
        g = 1 - 4 * r * (np.sin(np.pi / (ny + 1)) ** 2 + np.sin(1.5 * np.pi / (nx + 1)) ** 2)
        np.testing.assert_allclose(state(run), g**steps * start, rtol=0, atol=1e-13)
        assert run.checks[0]["error"] <= run.checks[0]["bound"] < 1e-12
        assert run.results["hottest"].values == state(run).max()
        assert run.attributes["work"] == ny * nx * steps
        assert run.attributes["kernel_bytes"] == 16 * ny * nx * steps


@pytest.mark.mpi
def test_the_bits_are_those_of_every_version(comm, job, mpi_tmp_path):
    job.main(comm, ["--n", "1024", "--steps", "500", "--output", str(mpi_tmp_path / "r.h5")])
    if comm.rank == 0:
        digest = hashlib.sha256(state(record.read(mpi_tmp_path / "r.h5")).tobytes()).hexdigest()
        assert digest == "bda10bfcc5c09ea285edc480083ab77e20b90c6caf9fe3723991c27fd1b08d51"


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize(("variant", "threads"), [("numpy", "1"), ("numba", "1"), ("numba", "2")])
def test_the_bits_are_those_of_every_run(comm, job, mpi_tmp_path, variant, threads):
    path = mpi_tmp_path / "r.h5"
    size = ["--n", "101", "--rows", "64", "--steps", "30", "--snapshot-every", "15"]
    job.main(comm, [*size, "--variant", variant, "--threads", threads, "--output", str(path)])
    if comm.rank == 0:
        run = record.read(path)
        # Of what earlier versions kept too, which had no coordinates.
        state = {name: each for name, each in run.results.items() if name not in ("y", "x")}
        found = [record.digest(state), *map(bytes.decode, run.snapshots["sha256"])]
        assert [digest[:16] for digest in found] == [
            "546c2bfcd33d274f",
            "f05013778f9d458d",
            "ba79f00ffce1eb8b",
        ]


@pytest.mark.mpi
@pytest.mark.parametrize("form", ["x.npy", "x.h5:/group/x"])
def test_a_state_from_a_file(comm, job, mpi_tmp_path, form):
    u = np.random.default_rng(5).normal(size=(23, 9))
    if comm.rank == 0:
        np.save(mpi_tmp_path / "x.npy", u)
        with h5py.File(mpi_tmp_path / "x.h5", "w") as file:
            file["group/x"] = u
    path = mpi_tmp_path / "r.h5"
    options = ["--dx", "0.5", "--dt", "0.125", "--alpha", "0.4", "--steps", "12"]
    job.main(comm, ["--input", f"{mpi_tmp_path}/{form}", *options, "--output", str(path)])
    if comm.rank == 0:
        run = record.read(path)
        # The plain definition, on the whole plate.
        padded = np.pad(u, 1)
        for _ in range(12):
            around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
            padded[1:-1, 1:-1] += 0.4 * 0.125 / 0.25 * (around - 4 * padded[1:-1, 1:-1])
        np.testing.assert_allclose(state(run), padded[1:-1, 1:-1], rtol=0, atol=1e-14)
        assert run.checks[0]["error"] <= run.checks[0]["bound"] < 1e-10
        assert run.results["time"].values == 12 * 0.125
        assert run.results["temperature"].axes == ("y", "x")
        # The edges, of temperature 0, are at 0 and 12 by 0 and 5.
        for name, end in (("y", 12), ("x", 5)):
            assert run.results[name].units == "m"
            assert run.results[name].values.tolist() == np.arange(0.5, end, 0.5).tolist()
        assert (run.attributes["arguments"]["rows"], run.attributes["arguments"]["n"]) == (23, 9)


@pytest.mark.mpi
def test_a_run_goes_on_from_the_state_of_another(comm, job, mpi_tmp_path):
    def run(name, *options):
        path = mpi_tmp_path / f"{name}.h5"
        job.main(comm, [*options, "--variant", "numpy", "--output", str(path)])
        return record.read(path) if comm.rank == 0 else None

    whole = run("whole", "--n", "20", "--steps", "30")
    run("first", "--n", "20", "--steps", "10")
    second = run(
        "second", "--input", f"{mpi_tmp_path}/first.h5:/results/temperature", "--steps", "20"
    )
    if comm.rank == 0:
        assert state(second).tobytes() == state(whole).tobytes()


@pytest.mark.mpi
def test_snapshots_are_those_of_shorter_runs(comm, job, mpi_tmp_path):
    path = mpi_tmp_path / "r.h5"
    common = ["--n", "15", "--variant", "numpy", "--output"]
    job.main(comm, ["--steps", "10", "--snapshot-every", "4", *common, str(path)])
    for steps in (4, 8):
        job.main(comm, ["--steps", str(steps), *common, str(mpi_tmp_path / f"{steps}.h5")])
    if comm.rank == 0:
        run = record.read(path)
        assert run.snapshots["step"].tolist() == [4, 8]
        for step, name, digest in run.snapshots.tolist():
            with h5py.File(mpi_tmp_path / name.decode()) as file:
                assert list(file) == ["temperature"]
                assert file["temperature"].attrs["axes"].tolist() == [b"y", b"x"]
                values = file["temperature"][()]
            shorter = record.read(mpi_tmp_path / f"{step}.h5")
            assert values.tobytes() == state(shorter).tobytes()
            only = {"temperature": shorter.results["temperature"]}
            assert record.digest(only).encode() == digest
        assert run.timings[0, PHASES.index("snapshot"), 0] > 0


@pytest.mark.mpi
@pytest.mark.parametrize("kind", ["built-in", "input"])
def test_stopped_on_its_way_it_goes_on_to_the_same_bits(comm, job, mpi_tmp_path, monkeypatch, kind):
    options = ["--n", "30", "--steps", "50", "--snapshot-every", "8", "--variant", "numpy"]
    if kind == "input":
        if comm.rank == 0:
            np.save(mpi_tmp_path / "x.npy", np.random.default_rng(1).normal(size=(40, 30)))
        options = ["--input", f"{mpi_tmp_path}/x.npy", *options[2:]]
    paths = {name: mpi_tmp_path / f"{name}.h5" for name in ("whole", "parts")}
    job.main(comm, [*options, "--output", str(paths["whole"])])
    options += ["--output", str(paths["parts"]), "--checkpoint", str(mpi_tmp_path / "c.h5")]
    stops = []
    for _ in range(3):
        if comm.rank == comm.size - 1:
            looks = itertools.count()
            monkeypatch.setattr(signals, "weight", lambda looks=looks: int(next(looks) > 2))
        with pytest.raises(Stop, match="stopped by SIGUSR1 after step") as caught:
            job.main(comm, options)
        assert caught.value.status == 75
        monkeypatch.undo()
        stops.append(int(str(caught.value).split()[5].rstrip(":")))
    assert 0 < stops[0] < stops[1] < stops[2] < 50
    job.main(comm, options)
    if comm.rank == 0:
        whole, parts = (record.read(path) for path in paths.values())
        assert parts.attributes["results_sha256"] == whole.attributes["results_sha256"]
        assert parts.snapshots[["step", "sha256"]].tolist() == (
            whole.snapshots[["step", "sha256"]].tolist()
        )
        for name in parts.snapshots["file"]:
            assert (mpi_tmp_path / name.decode()).exists()
        assert (parts.attributes["first_step"], parts.attributes["restarts"]) == (stops[2], 3)
        points = parts.results["temperature"].values.size
        assert parts.attributes["work"] == points * (50 - stops[2])
        assert parts.attributes["kernel_bytes"] == 16 * points * (50 - stops[2])
        assert not list(mpi_tmp_path.glob("*c*.h5")) + list(mpi_tmp_path.glob(".*"))


@pytest.mark.mpi
def test_weak_gives_every_rank_the_work_of_one(comm, job, mpi_tmp_path):
    options = ["--steps", "3", "--variant", "numpy", "--output"]
    job.main(comm, ["--n", "12", "--weak", *options, str(mpi_tmp_path / "weak.h5")])
    size = ["--n", "12", "--rows", str(12 * comm.size)]
    job.main(comm, [*size, *options, str(mpi_tmp_path / "strong.h5")])
    if comm.rank == 0:
        weak, strong = (record.read(mpi_tmp_path / f"{name}.h5") for name in ("weak", "strong"))
        assert weak.attributes["work"] == 3 * 144 * comm.size
        assert weak.attributes["results_sha256"] == strong.attributes["results_sha256"]


@pytest.mark.mpi
def test_repeats_start_anew(comm, job, mpi_tmp_path):
    for repeats in (1, 3):
        path = mpi_tmp_path / f"{repeats}.h5"
        size = ["--n", "20", "--steps", "9", "--repeats", str(repeats)]
        job.main(comm, [*size, "--output", str(path)])
    if comm.rank == 0:
        one, three = (record.read(mpi_tmp_path / f"{repeats}.h5") for repeats in (1, 3))
        assert one.attributes["results_sha256"] == three.attributes["results_sha256"]
        assert (three.timings[:, PHASES.index("kernel"), 0] > 0).all()
        assert (three.timings[:, PHASES.index("halo")] > 0).all()


@pytest.mark.mpi
def test_points_inside_are_updated_while_halo_rows_are_on_their_way(
    comm, job, mpi_tmp_path, monkeypatch
):
    from kernels.heat import numpy_

    calls = []
    for name in ("start_exchange", "finish_exchange"):
        right = getattr(rows.HaloRows, name)

        def noted(self, u, name=name, right=right):
            calls.append(name)
            right(self, u)

        monkeypatch.setattr(rows.HaloRows, name, noted)
    right_step = numpy_.step

    def step(u, out, r):
        calls.append(len(u) - 2)
        right_step(u, out, r)

    monkeypatch.setattr(numpy_, "step", step)
    size = ["--rows", str(10 * comm.size), "--n", "5", "--steps", "1"]
    job.main(comm, [*size, "--variant", "numpy", "--output", str(mpi_tmp_path / "r.h5")])
    # Eight of ten rows, then the first and the last.
    assert calls[-5:] == ["start_exchange", 8, "finish_exchange", 1, 1]


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "too little memory"),
        (ImportError("no SciPy"), "no SciPy"),
        (Stop("x.npy has changed"), "x.npy has changed"),
    ],
)
def test_a_check_that_cannot_be_made_does_not_lose_the_answer(
    comm, job, mpi_tmp_path, monkeypatch, error, told
):
    def compare(*args):
        raise error

    monkeypatch.setattr(job, "compare", compare)
    path = mpi_tmp_path / "r.h5"
    with pytest.raises(Stop, match="is marked as unchecked: no check was made") as caught:
        job.main(comm, ["--n", "9", "--variant", "numpy", "--output", str(path)])
    assert caught.value.status == 1
    if comm.rank == 0:
        warning = record.read(path).attributes["warnings"][-1]
        assert warning.startswith("the last state is not checked: ") and told in warning


@pytest.mark.mpi
def test_nan_fails_the_check(comm, job, mpi_tmp_path, monkeypatch):
    from kernels.heat import numpy_

    monkeypatch.setattr(numpy_, "step", lambda u, out, r: out.fill(np.nan))
    with pytest.raises(Stop, match="check failed: off by nan"):
        job.main(comm, ["--n", "9", "--variant", "numpy", "--output", str(mpi_tmp_path / "r.h5")])


@pytest.mark.mpi
@pytest.mark.cudasim
def test_cuda_has_the_bits_of_the_reference(comm, job, mpi_tmp_path):
    digests = []
    for variant in ("numpy", "cuda"):
        path = mpi_tmp_path / f"{variant}.h5"
        size = ["--n", "5", "--rows", "7", "--steps", "2"]
        job.main(comm, [*size, "--variant", variant, "--output", str(path)])
        if comm.rank == 0:
            digests.append(record.read(path).attributes["results_sha256"])
    assert len(set(digests)) <= 1


@pytest.mark.long
def test_same_bits_for_every_rank_count_thread_count_and_variant(start, tmp_path):
    digests = {}
    # Of fewer ranks: test_the_bits_are_those_of_every_run.
    cases = [("numpy", 1, 1), ("numba", 4, 2), ("numba", 7, 1)]
    for variant, ranks, t in cases:
        path = tmp_path / f"{variant}-{ranks}.h5"
        size = ["--n", "101", "--rows", "64", "--steps", "30", "--snapshot-every", "15"]
        done = start(ranks, JOB, *size, "--variant", variant, "--threads", t, "--output", path)
        assert done.returncode == 0, done.stderr
        run = record.read(path)
        assert (run.attributes["ranks"], run.attributes["threads"]) == (ranks, t)
        snapshots = tuple(run.snapshots["sha256"].tolist())
        assert len(snapshots) == 2
        digests[ranks, variant] = (run.attributes["results_sha256"], *snapshots)
    assert len(digests) == len(cases)
    assert len(set(digests.values())) == 1


@pytest.mark.long
def test_more_ranks_than_rows_and_cores(start, tmp_path):
    digests = set()
    for ranks in (1, 16):
        path = tmp_path / f"{ranks}.h5"
        size = ["--rows", "5", "--n", "256", "--steps", "20", "--variant", "numpy"]
        done = start(ranks, JOB, *size, "--output", path)
        assert done.returncode == 0, done.stderr
        digests.add(record.read(path).attributes["results_sha256"])
    assert len(digests) == 1


def test_progress_in_a_log_and_json_apart(start, tmp_path):
    script = tmp_path / "quick.py"
    script.write_text(
        "import runpy, sys; from rankwise.ranks import progress; progress._LOG_SECONDS = 0.01\n"
        f"sys.argv[0] = {str(JOB)!r}; runpy.run_path({str(JOB)!r}, run_name='__main__')"
    )
    options = ["--n", "500", "--steps", "200", "--variant", "numpy", "--json"]
    done = start(2, script, *options, env={"PYTHONPATH": str(JOB.parents[1])})
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["results"]["hottest"] < 1
    lines = done.stderr.splitlines()
    assert len(lines) > 3
    assert all(words.startswith("step ") and words.endswith(" left") for words in lines)
    assert " of 200, " in lines[0]


def test_snapshots_are_named(start, tmp_path):
    arguments = ["--n", "20", "--steps", "30", "--snapshot-every", "10", "--variant", "numpy"]
    done = start(2, JOB, *arguments, "--output", "r.h5")
    names = [f"r-step0000000{step}.h5" for step in (10, 20, 30)]
    assert f"  snapshots 3, beside the record: {names[0]} to {names[2]}\n" in done.stdout
    done = start(None, "-m", "rankwise", "show", "r.h5", "--json")
    assert json.loads(done.stdout)["snapshots"] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "r.h5"]
    # Each can be the start of another run.
    again = ["--input", f"{names[0]}:/temperature", "--steps", "20", "--variant", "numpy"]
    # SciPy, which checks it, does not import where this is no number.
    odd = {"SOURCE_DATE_EPOCH": "soon"}
    done = start(2, JOB, *again, "--output", "again.h5", env=odd)
    assert done.returncode == 0, done.stderr
    one, other = (record.read(tmp_path / name) for name in ("r.h5", "again.h5"))
    assert state(one).tobytes() == state(other).tobytes()


def test_a_plate_that_is_cold_is_told(start, tmp_path):
    done = start(1, JOB, "--n", "10", "--steps", "1000", "--variant", "numpy", "--output", "r.h5")
    assert done.returncode == 0, done.stderr
    assert "heat.py: warning: little heat is left" in done.stderr
    (text,) = record.read(tmp_path / "r.h5").attributes["warnings"]
    assert f"heat.py: warning: {text}\n" == done.stderr


MISTAKES = {
    "no points": (["--n", "0"], "not a whole number from 1 to"),
    "no rows": (["--rows", "0"], "not a whole number from 1 to"),
    "no steps": (["--steps", "0"], "not a whole number from 1 to"),
    "not stable": (["--dt", "1"], "a time step of 1.0 s is not stable: the largest is 0.00"),
    "dt is no number": (["--dt", "soon"], "'soon' is not a number above 0"),
    "dt is 0": (["--dt", "0"], "'0' is not a number above 0"),
    "alpha is not finite": (["--alpha", "inf"], "'inf' is not a number above 0"),
    "dx is negative": (["--dx", "-1"], "'-1' is not a number above 0"),
    "dx is far too large": (["--dx", "1e200"], "out of range"),
    "dx is far too small": (["--dx", "1e-200", "--dt", "1"], "out of range"),
    "too large for the machine": (["--n", "1e7"], "Unable to allocate"),
    "snapshots of no step": (["--snapshot-every", "501"], "since there are 500 steps"),
    "empty input": (["--input", ""], "neither FILE.h5:/dataset nor FILE.npy"),
    "n and an input": (["--input", "x.h5:/x", "--n", "5"], "not allowed with"),
    "no snapshots": (["--snapshot-every", "0"], "not a whole number from 1 to"),
    "snapshots of repeats": (["--snapshot-every", "5", "--repeats", "2"], "not for --repeats"),
    "snapshot exists": (["--snapshot-every", "5", "--output", "s.h5"], "s-step000000005.h5 exists"),
    "checkpoints without a file": (["--checkpoint-every", "5"], "want a --checkpoint FILE.h5"),
    "checkpoints of no step": (["--checkpoint-every", "0"], "not a whole number from 1 to"),
    "checkpoints of no time": (["--checkpoint-seconds", "0"], "'0' is not a number above 0"),
    "checkpoint of repeats": (["--checkpoint", "c.h5", "--repeats", "2"], "not for --repeats"),
    "checkpoint is no such file": (["--checkpoint", "x.h5"], "x.h5 is no checkpoint"),
    "checkpoint is the record": (["--checkpoint", "r.h5"], "name the same file"),
    "rows and an input": (["--input", "x.h5:/x", "--rows", "5"], "--rows is for made data"),
    "weak with an input": (["--input", "x.h5:/x", "--weak"], "the size of an --input is fixed"),
    "input missing": (["--input", "/nonexistent.h5:/x"], "/nonexistent.h5: no such file"),
    "input of rank 1": (["--input", "x.h5:/line"], "2-D data are needed"),
    "input of float32": (["--input", "x.h5:/single"], "float64 is needed"),
    "input without points": (["--input", "x.h5:/empty"], "(0, 3), and one row"),
    "input with NaN": (["--input", "x.h5:/nan"], "element (2, 1) of x.h5:/nan is nan"),
    "input too large": (["--input", "x.h5:/huge"], "element (0, 0) of x.h5:/huge is 1e+300"),
    "no GPU": (["--variant", "cuda"], "--variant cuda: "),
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = np.ones((4, 3))
        file["line"] = np.ones(3)
        file["single"] = np.ones((3, 3), "f4")
        file["empty"] = np.ones((0, 3))
        file["nan"] = np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 1.0)
        file["huge"] = np.full((2, 2), 1e300)
    (folder / "s-step000000005.h5").write_text("mine")
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_changes_nothing(job, inputs, mistake, monkeypatch, capsys):
    make_in_process(job, inputs, MISTAKES[mistake], monkeypatch, capsys)


@pytest.mark.parametrize("mistake", ["not stable", "input with NaN", "checkpoint is no such file"])
def test_a_mistake_gives_one_message_and_status_2(start, inputs, mistake):
    make_under_mpirun(start, JOB, inputs, MISTAKES[mistake])


def test_help_shows_examples(start):
    done = start(2, JOB, "--help")
    assert done.returncode == 0
    assert done.stdout.count("usage:") == 1
    assert "mpirun -n 4 python jobs/heat.py" in done.stdout
