"""The Mandelbrot job as a user runs it, and its main function on the ranks of this test run."""

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from kernels.mandelbrot import PUBLISHED_AREA, numpy_
from rankwise.data.queue import Queue
from rankwise.data.schedules import SCHEDULES, Chunks
from rankwise.disk import record
from rankwise.node import memory
from rankwise.ranks.agreement import Stop
from tests.jobs.mistakes import make_in_process, make_under_mpirun

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "mandelbrot.py"


@pytest.fixture(scope="module")
def job():
    """The job as a module; jobs are programs, which nothing imports but its test."""
    spec = importlib.util.spec_from_file_location("mandelbrot_job", JOB)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(job, comm, path, options):
    """Run the job on all ranks; return its record on rank 0, and None elsewhere."""
    arguments = [*options.split(), "--output", str(path), "--force"]
    if "--variant" not in arguments:
        arguments += ["--variant", "numpy"]
    job.main(comm, arguments)
    return record.read(path) if comm.rank == 0 else None


def values(found):
    return {name: result.values for name, result in found.results.items()}


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize(
    ("schedule", "how"),
    [*((each, "--variant numpy") for each in SCHEDULES), ("guided", "--variant numba --threads 2")],
)
def test_the_bits_are_those_of_every_run(comm, job, mpi_tmp_path, schedule, how):
    options = f"--n 64 --limit 100 --schedule {schedule} {how}"
    found = run(job, comm, mpi_tmp_path / "r.h5", options)
    if comm.rank == 0:
        assert found.attributes["results_sha256"][:16] == "9209666564abb523"
        assert [check["error"] for check in found.checks] == [0, 0]
        counts = values(found)["counts"]
        assert counts.dtype == np.int32
        assert found.attributes["work"] == counts.sum()
        assert found.attributes["kernel_flops"] == 8 * counts.sum()
        assert found.attributes["kernel_bytes"] == 4 * 64 * 64
        assert (found.balance.schedule, found.balance.tasks) == (schedule, 64)
        chunks = Chunks(schedule, 64, comm.size, 1)
        assert found.balance.chunks.sum() == len(chunks)
        assert (found.balance.busy > 0).any()


@pytest.mark.mpi
def test_counts_are_those_of_the_definition(comm, job, mpi_tmp_path):
    options = "--n 20 --limit 40 --centre -0.7,0.3 --width 1.5"
    found = run(job, comm, mpi_tmp_path / "r.h5", options)
    if comm.rank == 0:
        result = values(found)
        # Midpoints of the window; rows go up.
        np.testing.assert_allclose(result["x"], -0.7 + 1.5 * ((np.arange(20) + 0.5) / 20 - 0.5))
        np.testing.assert_allclose(result["y"], 0.3 + 1.5 * ((np.arange(20) + 0.5) / 20 - 0.5))
        expected = np.full((20, 20), 40)
        for i, j in np.ndindex(20, 20):
            c, z = complex(result["x"][j], result["y"][i]), 0j
            for k in range(40):
                if abs(z) > 2:
                    expected[i, j] = k
                    break
                z = z * z + c
        np.testing.assert_array_equal(result["counts"], expected)
        # The window cuts the set: its area would be of a part.
        assert set(result) == {"counts", "x", "y"}


@pytest.mark.mpi
def test_the_area_stands_beside_the_published_one(comm, job, mpi_tmp_path):
    options = "--n 200 --limit 300 --variant numba"
    found = run(job, comm, mpi_tmp_path / "r.h5", options)
    if comm.rank == 0:
        result = values(found)
        assert result["published"] == PUBLISHED_AREA
        square = (3.25 / 200) ** 2
        assert result["area"] == pytest.approx((result["counts"] == 300).sum() * square, rel=1e-12)
        # A few hundred squares of the edge, of either sign, and 1/300 too slow to leave.
        assert abs(result["area"] - PUBLISHED_AREA) < 0.02


@pytest.mark.mpi
def test_weak_scaling_keeps_the_points_of_a_rank(comm, job, mpi_tmp_path):
    found = run(job, comm, mpi_tmp_path / "r.h5", "--n 30 --limit 9 --weak")
    if comm.rank == 0:
        n = round(30 * comm.size**0.5)
        assert values(found)["counts"].shape == (n, n)
        assert found.attributes["arguments"]["n"] == n


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_kernel_that_ends_too_early_is_found(comm, job, mpi_tmp_path, monkeypatch, schedule):
    right = numpy_.counts

    def early(first, out, x, y, limit):
        right(first, out, x, y, limit)
        out[out == limit] -= 1

    monkeypatch.setattr(numpy_, "counts", early)
    with pytest.raises(Stop, match=r"check failed: off by \d, bound 0: rows of a sample"):
        run(job, comm, mpi_tmp_path / "r.h5", f"--n 64 --limit 50 --schedule {schedule}")


@pytest.mark.mpi
def test_the_check_takes_the_other_algorithm_and_both_take_pieces(
    comm, job, mpi_tmp_path, monkeypatch
):
    asked = {"counts": [], "counts_by_period": []}

    def noting(name, right, first, out, **given):
        asked[name].append(out.size)
        right(first, out, **given)

    for name in asked:
        right = getattr(numpy_, name)
        monkeypatch.setattr(numpy_, name, functools.partial(noting, name, right))
    monkeypatch.setattr(numpy_, "at_once", lambda limit: 7)
    run(job, comm, mpi_tmp_path / "r.h5", "--n 40 --limit 9 --schedule cyclic")
    # A rank may have no row of the sample.
    assert [max(comm.allgather(max(sizes))) for sizes in asked.values()] == [7, 7]
    points, again = (sum(comm.allgather(sum(sizes))) for sizes in asked.values())
    # Besides a point that each compiles, and a piece of the warm-up.
    assert points == 40 * 40 + comm.size * (1 + 7)
    # Three rows of the sample and the last ones of the ranks.
    rows = {0, 23, 39, *(39 - rank for rank in range(comm.size))}
    assert again == 40 * len(rows) + comm.size


@pytest.mark.mpi
@pytest.mark.cudasim
@pytest.mark.parametrize("schedule", ["block", "guided"])
def test_on_a_gpu_that_is_simulated(comm, job, mpi_tmp_path, schedule):
    options = f"--n 12 --limit 20 --schedule {schedule} --variant"
    runs = [run(job, comm, mpi_tmp_path / f"{v}.h5", f"{options} {v}") for v in ("cuda", "numpy")]
    if comm.rank == 0:
        digests = {found.attributes["results_sha256"] for found in runs}
        assert len(digests) == 1
        phases = dict(zip(runs[0].phases, runs[0].timings[0], strict=True))
        assert np.nanmax(phases["to_host"]) > 0


@pytest.mark.mpi
def test_a_row_that_rank_0_has_not_got_is_found(comm, job, mpi_tmp_path, monkeypatch):
    right = Queue.gather

    def wrong(self):
        every = right(self)
        if every is not None:
            every[7, 5] += 1
        return every

    monkeypatch.setattr(Queue, "gather", wrong)
    with pytest.raises(Stop, match="check failed: off by 1, bound 0: rows that were not done once"):
        run(job, comm, mpi_tmp_path / "r.h5", "--n 64 --limit 50")


@pytest.mark.mpi
def test_counts_that_rank_0_cannot_hold_are_refused(comm, job, mpi_tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    with pytest.raises(
        Stop, match=r"the results of 20000 tasks in \d+ chunks take .* GB on the node of rank 0, "
    ):
        run(job, comm, mpi_tmp_path / "r.h5", "--n 2e4")


MISTAKES = {
    "no steps": ("--limit 0", "argument --limit: '0' is not a whole number from 1 to 2.1"),
    "too many steps": ("--limit 2147483648", "argument --limit: '2147483648' is not a whole "),
    "no width": ("--width 0", "argument --width: '0' is not a number above 0"),
    "negative width": ("--width -1", "argument --width: '-1' is not a number above 0"),
    "width that is none": ("--width nan", "argument --width: 'nan' is not a number above 0"),
    "centre that is none": ("--centre nan,0", "the centre and the width of a window must be fin"),
    "half a centre": ("--centre 1", "argument --centre: '1' is not X,Y, such as -0.5,0.5"),
    "words": ("--centre a,b", "argument --centre: 'a,b' is not X,Y, such as -0.5,0.5"),
    "no points": ("--n 0", "argument --n: '0' is not a whole number from 1 to 1"),
    "points too close": ("--width 1e-15", "are too close for float64: take a larger width or"),
    "large chunk": ("--n 9 --chunk 10", "a chunk of 10 tasks cannot be had: there are 9 tasks"),
    "no chunk": ("--chunk 0", "argument --chunk: '0' is not a whole number from 1 to 1e"),
    "block": ("--schedule block --chunk 2", "with the schedule block each rank has one chunk"),
    "no schedule": ("--schedule static", "argument --schedule: invalid choice: 'static'"),
    "too large": ("--n 1e7", "the results of 10000000 tasks in "),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gives_one_message(job, tmp_path, monkeypatch, capsys, name):
    words, message = MISTAKES[name]
    make_in_process(job, tmp_path, (words.split(), message), monkeypatch, capsys)


def test_a_mistake_on_three_ranks(start, tmp_path):
    words, message = MISTAKES["points too close"]
    make_under_mpirun(start, JOB, tmp_path, (words.split(), message))


def test_as_a_user_starts_it(start):
    options = "--n 48 --limit 30 --centre -0.5,.5 --schedule dynamic --chunk 5 --variant numpy"
    done = start(2, JOB, *options.split(), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    queue = found["queue"]
    assert (queue["schedule"], queue["tasks"], sum(queue["chunks"])) == ("dynamic", 48, 10)
    assert queue["imbalance"] == pytest.approx(max(queue["busy"]) / np.mean(queue["busy"]))
    assert set(found["results"]) == {"area", "published"}
