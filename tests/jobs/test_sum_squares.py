"""The job as a user runs it, and its main function on the ranks of this test run."""

import importlib.util
import itertools
import json
import math
import os
import re
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from kernels.sum_squares import BLOCK
from rankwise.disk import record
from rankwise.ranks.agreement import Stop
from tests.cases import long
from tests.jobs.mistakes import make_in_process, make_under_mpirun

JOB = Path(__file__).parents[2] / "jobs" / "sum_squares.py"
# With so many elements the total is another one if ranks add their blocks one after the other, or
# in a tree of their own, whether there are 1, 2, 3, 4 or 7 of them.
TELLING = 2100773
SIZES = [0, 1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 20 * BLOCK + 5]


@pytest.fixture(scope="module")
def job():
    """The job as a module; jobs are programs, which nothing imports but its test."""
    spec = importlib.util.spec_from_file_location("sum_squares_job", JOB)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exact(x):
    return math.fsum((x.astype(float) ** 2).tolist())


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("n", "variant"), list(zip(SIZES, itertools.cycle(["numpy", "numba"]), strict=False))
)
def test_drawn_elements(comm, job, mpi_tmp_path, n, variant):
    path = mpi_tmp_path / "r.h5"
    job.main(comm, ["--n", str(n), "--seed", "7", "--variant", variant, "--output", str(path)])
    if comm.rank == 0:
        run = record.read(path)
        x = np.random.Generator(np.random.PCG64(7)).random(n)
        assert run.results["total"].values == pytest.approx(exact(x), rel=1e-14)
        assert all(check["error"] <= check["bound"] for check in run.checks)
        assert [check["why"].split(":")[0] for check in run.checks] == [
            "blocks that are not as they were drawn or read",
            "block sums",
            "total of the block sums",
        ]
        assert run.attributes["ranks"] == comm.size


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize(("variant", "threads"), [("numpy", "1"), ("numba", "1"), ("numba", "2")])
def test_the_bits_are_those_of_every_run(comm, job, mpi_tmp_path, variant, threads):
    path = mpi_tmp_path / "r.h5"
    options = ["--variant", variant, "--threads", threads, "--repeats", "2"]
    job.main(comm, ["--n", str(TELLING), *options, "--output", str(path)])
    if comm.rank == 0:
        total = float(record.read(path).results["total"].values)
        assert total == float.fromhex("0x1.5614707bceec3p+19")


@pytest.mark.mpi
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", ["x.npy", "x.h5:/x"])
def test_input_file(comm, job, mpi_tmp_path, form, dtype):
    x = np.random.default_rng(3).normal(size=5 * BLOCK + 11).astype(dtype)
    if comm.rank == 0:
        np.save(mpi_tmp_path / "x.npy", x)
        with h5py.File(mpi_tmp_path / "x.h5", "w") as file:
            file["x"] = x
    job.main(comm, ["--input", f"{mpi_tmp_path}/{form}", "--output", f"{mpi_tmp_path}/r.h5"])
    if comm.rank == 0:
        total = record.read(mpi_tmp_path / "r.h5").results["total"].values
        assert total == pytest.approx(exact(x), rel=1e-14)


@pytest.mark.mpi
@pytest.mark.parametrize("form", ["drawn", "x.npy", "x.h5:/x"])
def test_local_has_the_bits_of_scatter(comm, job, mpi_tmp_path, form):
    source = ["--n", str(5 * BLOCK + 11)]
    if form != "drawn":
        x = np.random.default_rng(3).normal(size=5 * BLOCK + 11).astype("f4")
        if comm.rank == 0:
            np.save(mpi_tmp_path / "x.npy", x)
            with h5py.File(mpi_tmp_path / "x.h5", "w") as file:
                file["x"] = x
        comm.Barrier()
        source = ["--input", f"{mpi_tmp_path}/{form}"]
    for way in ("scatter", "local"):
        options = ["--distribute", way, "--output", str(mpi_tmp_path / f"{way}.h5")]
        job.main(comm, [*source, *options])
    if comm.rank == 0:
        runs = [record.read(mpi_tmp_path / f"{way}.h5") for way in ("scatter", "local")]
        assert len({run.attributes["results_sha256"] for run in runs}) == 1


@pytest.mark.mpi
@pytest.mark.parametrize("other", ["length", "type", "first", "last"])
def test_local_refuses_another_file_of_that_name(comm, job, mpi_tmp_path, monkeypatch, other):
    x = np.ones(5 * BLOCK)
    y = {"length": x[1:], "type": x.astype("f4")}.get(other, x.copy())
    y[{"first": 0, "last": -1}.get(other, slice(0))] = 2.0
    # As on nodes whose paths lead to disks of their own.
    (mpi_tmp_path / str(comm.rank)).mkdir()
    monkeypatch.chdir(mpi_tmp_path / str(comm.rank))
    np.save("x.npy", x if comm.rank == 0 else y)
    options = ["--input", "x.npy", "--distribute", "local", "--output", f"{mpi_tmp_path}/r.h5"]
    if comm.size == 1:
        job.main(comm, options)
    else:
        with pytest.raises(Stop, match=r"x\.npy of rank 1 is another one than that of rank 0"):
            job.main(comm, options)
    assert (comm.size == 1) == (mpi_tmp_path / "r.h5").exists()


@pytest.mark.mpi
def test_memory_that_ranks_share_counts_once(comm, job, mpi_tmp_path):
    job.main(comm, ["--n", "2e6", "--variant", "numpy", "--output", str(mpi_tmp_path / "r.h5")])
    if comm.rank == 0:
        run = record.read(mpi_tmp_path / "r.h5")
        twice = run.ranks["peak_memory"].sum() - run.attributes["peak_memory_node"]
        # Rank 0 sees all of it, each other rank its part.
        assert twice >= 0.99 * 16e6 * (comm.size - 1) / comm.size


@pytest.mark.mpi
def test_statistics_of_the_drawn_elements(comm, job, mpi_tmp_path):
    # For x uniform in [0, 1), x^2 has the mean 1/3 and the variance 4/45.
    n = 10**6
    job.main(comm, ["--n", "1e6", "--output", str(mpi_tmp_path / "r.h5")])
    if comm.rank == 0:
        total = record.read(mpi_tmp_path / "r.h5").results["total"].values
        assert abs(total - n / 3) < 5 * math.sqrt(n * 4 / 45)


@pytest.mark.mpi
def test_message_size_does_not_change_the_elements(comm, job, mpi_tmp_path, monkeypatch):
    # As where there is no memory to share.
    monkeypatch.setattr("rankwise.data.window._FOLDER", "/proc/none")
    digests = set()
    for number, octets in enumerate((80, 1000, 2**26)):
        from rankwise.data import collectives

        defaults = (octets,)
        monkeypatch.setattr(collectives.scatter, "__defaults__", defaults)
        path = mpi_tmp_path / f"{number}.h5"
        job.main(comm, ["--n", "20001", "--variant", "numpy", "--output", str(path)])
        if comm.rank == 0:
            digests.add(record.read(path).attributes["results_sha256"])
    assert len(digests) == (1 if comm.rank == 0 else 0)


@pytest.mark.mpi
def test_weak_gives_every_rank_the_work_of_one(comm, job, mpi_tmp_path):
    options = ["--variant", "numpy", "--output"]
    job.main(comm, ["--n", "50000", "--weak", *options, str(mpi_tmp_path / "weak.h5")])
    job.main(comm, ["--n", str(50000 * comm.size), *options, str(mpi_tmp_path / "strong.h5")])
    if comm.rank == 0:
        weak, strong = (record.read(mpi_tmp_path / f"{name}.h5") for name in ("weak", "strong"))
        assert weak.attributes["work"] == strong.attributes["work"] == 50000 * comm.size
        assert weak.attributes["arguments"]["weak"] and not strong.attributes["arguments"]["weak"]
        assert weak.attributes["results_sha256"] == strong.attributes["results_sha256"]


@pytest.mark.mpi
def test_every_repeat_is_kept(comm, job, mpi_tmp_path):
    path = mpi_tmp_path / "r.h5"
    job.main(comm, ["--n", "1e5", "--repeats", "4", "--output", str(path)])
    if comm.rank == 0:
        run = record.read(path)
        for phase in ("kernel", "reduce"):
            assert (run.timings[:, run.phases.index(phase)] > 0).all()
        assert (run.timings[:, run.phases.index("read"), 0] > 0).all()
        assert run.timings[0, run.phases.index("compile")].min() > 0


@pytest.mark.mpi
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, BLOCK, 4 * BLOCK + 9])
def test_an_element_that_is_not_finite_is_named(comm, job, mpi_tmp_path, bad, where):
    x = np.ones(4 * BLOCK + 10)
    x[where] = bad
    if comm.rank == 0:
        np.save(mpi_tmp_path / "x.npy", x)
    with pytest.raises(Stop, match=f"element {where} of the input is {bad}") as caught:
        job.main(comm, ["--input", f"{mpi_tmp_path}/x.npy", "--output", f"{mpi_tmp_path}/r.h5"])
    assert caught.value.status == 2
    assert not (mpi_tmp_path / "r.h5").exists()


@pytest.mark.mpi
@pytest.mark.cudasim
@pytest.mark.parametrize("n", [0, 1, 2 * BLOCK + 3])
def test_cuda_has_the_bits_of_the_reference(comm, job, mpi_tmp_path, n):
    digests = []
    for variant in ("numpy", "cuda"):
        path = mpi_tmp_path / f"{variant}.h5"
        job.main(comm, ["--n", str(n), "--variant", variant, "--output", str(path)])
        if comm.rank == 0:
            run = record.read(path)
            assert run.attributes["variant"] == variant
            digests.append(run.attributes["results_sha256"])
    assert len(set(digests)) <= 1


@pytest.mark.long
def test_same_bits_for_every_rank_count_thread_count_and_variant(start, tmp_path):
    digests = {}
    # Of fewer ranks: test_the_bits_are_those_of_every_run.
    cases = [("numpy", 1, 1), ("numba", 4, 2), ("numba", 7, 1)]
    for variant, ranks, t in cases:
        path = tmp_path / f"{variant}-{ranks}.h5"
        arguments = ["--n", str(TELLING), "--variant", variant, "--threads", t, "--output", path]
        done = start(ranks, JOB, *arguments, "--repeats", 2)
        assert done.returncode == 0, done.stderr
        run = record.read(path)
        assert (run.attributes["ranks"], run.attributes["threads"]) == (ranks, t)
        digests[ranks, variant] = run.attributes["results_sha256"]
    assert len(digests) == len(cases)
    assert len(set(digests.values())) == 1


def test_json_is_one_line_and_nothing_else(start):
    done = start(2, JOB, "--n", "1e5", "--json", "--repeats", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    facts = json.loads(line)
    assert (facts["ranks"], facts["nodes"], facts["repeats"], facts["auto"]) == (2, 1, 2, True)
    assert facts["results"]["total"] == pytest.approx(1e5 / 3, rel=0.01)
    assert len(facts["checks"]) == 3
    assert all(check["error"] <= check["bound"] for check in facts["checks"])
    kernel = facts["phases"]["kernel"]
    assert 0 < kernel["min"] <= kernel["median"] <= kernel["max"] < facts["seconds"]
    assert facts["kernel_gbs"] > 0
    assert facts["peak_memory_rank"] <= facts["peak_memory_node"]


def test_text_says_what_a_user_wants_to_know(start, tmp_path):
    done = start(2, JOB, "--n", "1e5")
    assert done.returncode == 0, done.stderr
    for word in ("2 ranks, 1 node", "chosen by auto", "total", "check", "GB/s", "MiB", "kernel"):
        assert word in done.stdout
    assert re.search(r"^  repeat +\d\S* s$", done.stdout, re.MULTILINE)
    (path,) = (tmp_path / "results").iterdir()
    assert f"results/{path.name}" in done.stdout


@pytest.mark.parametrize(
    ("variant", "source"), [("numpy", "drawn"), ("numpy", "h5"), long("numba", "npy")]
)
def test_the_vector_is_there_once_and_no_rank_holds_another_ones_block(
    start, tmp_path, variant, source
):
    ranks, n = 3, 4 * 10**7
    if source == "h5":
        with h5py.File(tmp_path / "x.h5", "w") as file:
            # In chunks, all of which are one that is packed once.
            shape = {"shape": (n,), "dtype": "f8", "chunks": (2**19,), "compression": "gzip"}
            large = file.create_dataset(f"{n}", **shape)
            chunk = zlib.compress(np.ones(2**19))
            for start_row in range(0, n, 2**19):
                large.id.write_direct_chunk((start_row,), chunk)
            file.create_dataset("1", data=np.ones(1))
    if source == "npy":
        np.lib.format.open_memmap(tmp_path / f"{n}.npy", "w+", "f8", (n,))
        np.save(tmp_path / "1.npy", np.ones(1))

    def run(size):
        options = {
            "drawn": ["--n", size],
            "h5": ["--input", f"x.h5:{size}"],
            "npy": ["--input", f"{size}.npy"],
        }[source]
        path = tmp_path / f"record-{size}.h5"
        done = start(ranks, JOB, *options, "--variant", variant, "--output", path)
        assert done.returncode == 0, done.stderr
        return record.read(path)

    # What the imports, the compiler and MPI itself take is in both runs.
    large, small = run(n), run(1)
    # Pieces on their way, and what HDF5 keeps.
    beside = 144 * 2**20
    used = large.ranks["peak_memory"] - small.ranks["peak_memory"]
    # Rank 0 sees the blocks of all, in memory that it shares with their ranks.
    assert (used[1:] <= 8 * n / ranks + beside).all()
    node = large.attributes["peak_memory_node"] - small.attributes["peak_memory_node"]
    assert node <= 8 * n + beside
    # Where rank 0 held the vector besides, the bound would have been missed.
    assert beside < 8 * n / 2


MISTAKES = {
    "unknown variant": (["--variant", "fortran"], "invalid choice: 'fortran'"),
    "negative n": (["--n", "-5"], "not a whole number from 0"),
    "fractional n": (["--n", "1.5"], "not a whole number from 0"),
    "n not a number": (["--n", "many"], "not a number"),
    "n too large for the machine": (["--n", "1e18"], "Unable to allocate"),
    "no threads": (["--threads", "0"], "not a whole number from 1 to 1024"),
    "too many threads": (["--threads", "1e6"], "not a whole number from 1 to 1024"),
    "no repeats": (["--repeats", "0"], "not a whole number from 1"),
    "too many repeats": (["--repeats", "1e17"], "not a whole number from 1"),
    "n and input": (["--n", "5", "--input", "x.npy"], "not allowed with"),
    "unknown option": (["--sizes", "5"], "unrecognized arguments"),
    "input missing": (["--input", "/nonexistent.h5:/x"], "/nonexistent.h5: no such file"),
    "input without dataset": (["--input", "x.h5"], "neither FILE.h5:/dataset"),
    "dataset missing": (["--input", "x.h5:/y"], "no dataset '/y'"),
    "input truncated": (["--input", "half.h5:/x"], "not a whole HDF5 file"),
    "input not HDF5": (["--input", "text.h5:/x"], "not a whole HDF5 file"),
    "input of integers": (["--input", "x.h5:/integers"], "float64 or float32"),
    "input of rank 2": (["--input", "x.h5:/matrix"], "1-D data are needed"),
    "input damaged": (["--input", "damaged.h5:/x"], "cannot read damaged.h5:/x"),
    "input with a source missing": (
        ["--input", "view.h5:/x", "--allow-external"],
        "view.h5 cannot be read: '/x' shows 'x' of 'gone.h5', and there is no such file",
    ),
    "input half written": (["--input", "x.h5:/half"], "1 of the 2 chunks of '/half' were written"),
    "input packed by netCDF": (["--input", "x.h5:/packed"], "see its scale_factor: `python -c"),
    "squares overflow": (["--input", "x.h5:/huge"], "the squares from element 0 on overflow"),
    "sum overflows": (["--input", "x.h5:/large"], "the sum of the squares overflows"),
    "weak with an input": (["--input", "x.h5:/x", "--weak"], "the size of an --input is fixed"),
    "output folder missing": (["--output", "no/r.h5"], "there is no folder no"),
    "output not writable": (["--output", "/sys/r.h5"], "cannot write to /sys"),
    "output exists": (["--output", "x.h5"], "--output x.h5 exists; --force"),
    "output is a folder": (["--output", "."], "is a folder"),
    "output is the input": (
        ["--input", "x.h5:/x", "--output", "x.h5", "--force"],
        "--output x.h5 is not a record",
    ),
    "no GPU": (["--variant", "cuda"], "--variant cuda: "),
    "no GPU for CuPy": (["--variant", "cupy"], "--variant cupy: "),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = np.random.default_rng(0).random(10**5)
        file["integers"] = np.arange(10)
        file["matrix"] = np.ones((3, 3))
        file["huge"] = np.full(10**5, 1e154)
        file["large"] = np.full(3 * 10**4, 1e152)
        file.create_dataset("half", (10,), "f8", chunks=(5,))[:5] = 1
        file["packed"] = np.ones(10)
        file["packed"].attrs["scale_factor"] = 0.01
    layout = h5py.VirtualLayout((20,), "f8")
    layout[:10] = h5py.VirtualSource("x.h5", "packed", (10,))
    layout[10:] = h5py.VirtualSource("gone.h5", "x", (10,))
    with h5py.File(folder / "view.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    whole = (folder / "x.h5").read_bytes()
    (folder / "half.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "text.h5").write_text("not HDF5")
    np.save(folder / "x.npy", np.ones(3))
    with h5py.File(folder / "damaged.h5", "w") as file:
        data = np.random.default_rng(0).random(10**5)
        packed = file.create_dataset("x", data=data, chunks=(10**4,), compression="gzip")
        chunk = packed.id.get_chunk_info(9)
    with open(folder / "damaged.h5", "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_changes_nothing(job, inputs, mistake, monkeypatch, capsys):
    make_in_process(job, inputs, MISTAKES[mistake], monkeypatch, capsys)


@pytest.mark.parametrize(
    "mistake",
    ["unknown variant", "input damaged", "input with a source missing", "output exists"],
)
def test_a_mistake_gives_one_message_and_status_2(start, inputs, mistake):
    make_under_mpirun(start, JOB, inputs, MISTAKES[mistake])


# What a module file, a container or an outer run may leave behind, and means nothing here.
FOREIGN = {
    "HOME": "/proc",
    "TMPDIR": "/none",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "LC_ALL": "xx_YY.none",
    "TZ": "No/Where",
    "GIT_DIR": "/none",
    "OMPI_COMM_WORLD_SIZE": "many",
    "SLURM_STEP_NUM_TASKS": "abc",
    **dict.fromkeys(("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_CPUS_ON_NODE"), ""),
}


@pytest.mark.parametrize("variant", ["numpy", long("numba")])
def test_odd_places(start, tmp_path, variant):
    path = os.fsencode(tmp_path) + b"/r\xe9.h5"
    arguments = ["--n", "10", "--variant", variant, "--output", os.fsdecode(path)]
    folder = str(tmp_path / "none" / "yet")
    environment = {"NUMBA_CACHE_DIR": folder, "PYTHONIOENCODING": "utf-8:strict"}
    done = start(2, JOB, *arguments, env=environment | FOREIGN)
    assert (done.returncode, done.stderr) == (0, "")
    assert record.read(os.fsdecode(path)).attributes["arguments"]["output"].endswith("e9.h5")


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_overflow_is_no_crash(start, inputs, tmp_path, ranks):
    arguments = ["--input", "x.h5:/large", "--variant", "numpy", "--output", tmp_path / "r.h5"]
    done = start(ranks, JOB, *arguments, cwd=inputs)
    assert done.returncode == 2
    assert done.stderr == "sum_squares.py: error: the sum of the squares overflows float64\n"


def test_force_replaces_the_record(start, tmp_path):
    path = tmp_path / "r.h5"
    first = start(1, JOB, "--n", "3", "--variant", "numpy", "--output", path)
    assert first.returncode == 0, first.stderr
    done = start(2, JOB, "--n", "10", "--variant", "numpy", "--output", path, "--force")
    assert done.returncode == 0, done.stderr
    assert record.read(path).attributes["arguments"]["force"] is True
    assert os.listdir(tmp_path) == ["r.h5"]


def test_help_shows_examples(start):
    done = start(2, JOB, "--help")
    assert done.returncode == 0
    assert done.stdout.count("usage:") == 1
    assert "mpirun -n 4 python jobs/sum_squares.py" in done.stdout
    assert "--device-buffers" in done.stdout
