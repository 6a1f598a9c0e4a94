"""Input files that are damaged at random or made to do harm."""

import json
import random
import resource
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from rankwise.disk import files, record, summary
from rankwise.disk.dataset import Dataset
from rankwise.ranks.agreement import Stop
from tests.cases import long
from tests.failures.seed import SEED

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "sum_squares.py"
RECORD = "a record"
# Of address space; the libraries themselves map one GiB.
LIMIT_BYTES = 4 * 2**30

pytestmark = pytest.mark.failures


def make_inputs(folder):
    """Write small files of every form that is read; return what is read of them."""
    values = np.arange(300.0)
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = values
        file.create_dataset("group/chunked", data=values, chunks=(50,), fillvalue=-2.0)
        file["group/chunked"].attrs.update({"_FillValue": -1.0, "valid_range": [0.0, 300.0]})
        file.create_dataset("packed", data=values, chunks=(100,), compression="gzip", shuffle=True)
        file.create_dataset("summed", data=values, chunks=(100,), fletcher32=True)
        file.create_dataset("shuffled", data=values, chunks=(300,), shuffle=True)
        file["link"] = h5py.SoftLink("/group/chunked")
    with h5py.File(folder / "b.h5", "w", libver="latest") as file:
        file.create_dataset("x", data=values.astype("f4"), chunks=(100,), maxshape=(None,))
        file["x"].attrs["units"] = "K"
    np.save(folder / "c.npy", values)
    names = ["a.h5:/x", "a.h5:/link", "a.h5:/packed", "a.h5:/summed", "a.h5:/shuffled"]
    names += ["b.h5:/x", "c.npy"]
    return [(folder / file, name) for file, _, name in (n.partition(":") for n in names)]


def mutated(whole, rng):
    """Return bytes that differ from a whole file somewhere."""
    damaged = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 5])):
        # Headers are where harm is done.
        where = rng.randrange(rng.choice([2500, len(whole)]))
        kind, size = rng.randrange(5), rng.choice([1, 2, 4, 8, 16])
        if kind == 0:
            damaged[where : where + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            damaged[where : where + size] = rng.randbytes(size)
        elif kind == 2:
            damaged[where : where + size] = rng.choice([b"\xff", b"\0", b"\x7f"]) * size
        elif kind == 3:
            there = rng.randrange(len(whole))
            damaged[where : where + size] = whole[there : there + size]
        elif rng.randrange(4) == 0:
            del damaged[where:]
    return bytes(damaged)


def read_all(path, name):
    """Read a file as a job does, or as the report does a record."""
    if name is RECORD:
        summary.text(summary.summary(record.read(path)), path)
    else:
        data = Dataset(f"{path}:{name}" if name else str(path), 1, (np.float64, np.float32))
        data.read(0, np.empty(min(data.shape[0], 1000), data.dtype))


def mutate(folder, seed, mutations):
    """Read many damaged files in this process, where what is not refused as it should be ends it.

    Prints how many were refused.
    """
    rng, refused = random.Random(seed), 0
    inputs = [(path, name, path.read_bytes()) for path, name in make_inputs(folder)]
    whole = (folder / "r.h5").read_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    for number in range(mutations):
        # Records take longer to read.
        path, name, whole_file = (
            rng.choice(inputs) if number % 5 else (folder / "r.h5", RECORD, whole)
        )
        damaged = path.with_stem("damaged")
        damaged.write_bytes(mutated(whole_file, rng))
        # Whoever sees the end of this process sees which file it was.
        print(number, path.name, name, file=sys.stderr)
        signal.alarm(10)
        try:
            read_all(damaged, name)
        except (Stop, OSError, ValueError) as error:
            assert isinstance(error, Stop) == (name is not RECORD), repr(error)
            assert "\n" not in str(error) and not isinstance(error.__context__, MemoryError)
            refused += 1
        signal.alarm(0)
    print(refused)


@pytest.mark.parametrize("mutations", [500, long(2500)])
def test_damaged_at_random(comm, tmp_path, mutations):
    (tmp_path / "r.h5").write_bytes(files.hdf5_image(lambda file: record._fill(file, example())))
    command = [sys.executable, "-m", "tests.failures.test_input", tmp_path, SEED, str(mutations)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"FAILURES_SEED={SEED}\n{done.stderr[-2000:]}"
    # Of the others some change what is read, which nobody can see, and some change nothing.
    assert int(done.stdout) > mutations / 10


def example():
    """Return a record with some of everything."""
    results = {
        "state": record.Result(np.arange(600.0).reshape(20, 30), "K", "at the points", ("y", "x")),
        "y": record.Result(np.arange(20.0), "m", "of the rows"),
        "total": record.Result(np.float64(1.5), "1", "a sum"),
    }
    facts = {"schema": record.SCHEMA, "job": "heat", "command": "heat.py", "folder": "/"}
    facts |= {"variant": "numpy", "start": "2026", "git": "unknown", "mpi": "MPICH", "ranks": 2}
    facts |= dict.fromkeys(("nodes", "threads", "peak_memory_rank", "peak_memory_node"), 1)
    numbers = ("work", "kernel_bytes", "kernel_flops", "first_step", "restarts")
    facts |= dict.fromkeys(numbers, 5) | {"unchecked": ""}
    facts |= {"arguments": {"n": 5}, "versions": {"numpy": "2"}, "slurm": {}, "warnings": ["w"]}
    facts |= {"results_sha256": record.digest(results)}
    kinds = [("rank", "i8"), ("host", "S5"), ("cores", "S3"), ("threads", "i8")]
    kinds += [("device", "S4"), ("peak_memory", "i8")]
    ranks = np.array([(k, b"node1", b"0-1", 1, b"host", 1) for k in range(2)], kinds)
    checks, phases = [{"why": "rounding", "error": 0.0, "bound": 1.0}], ("kernel", "write")
    return record.Record(facts, results, checks, phases, np.ones((2, 2, 2)), ranks)


@pytest.fixture
def hostile(tmp_path):
    """Return a folder with an input that refers to other files in every way there is."""
    values = np.arange(1000.0)
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["x"] = values
    values.tofile(tmp_path / "outside.raw")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("outside.h5", "/x")
        file["group/link"] = h5py.SoftLink("/link")
        file.create_dataset("raw", (1000,), "f8", external=[("outside.raw", 0, 8000)])
        layout = h5py.VirtualLayout((1000,), "f8")
        layout[:] = h5py.VirtualSource("outside.h5", "x", (1000,))
        file.create_virtual_dataset("view", layout)
        file["round"] = h5py.SoftLink("/about")
        file["about"] = h5py.SoftLink("/round")
        file.create_dataset("huge", (10**13,), "f8", chunks=(10**6,))
        file.create_dataset("never", (10**13,), "f8")
        file.create_dataset("packed", (10**13,), "f8", chunks=(1000,), compression="gzip")
        file.create_dataset("many", (10**8,), "f8", chunks=(1,))
        short = file.create_dataset("short", (10**6,), "f8", chunks=(10**6,), compression="gzip")
        short.id.write_direct_chunk((0,), zlib.compress(bytes(8)))
        file.create_dataset("scaled", data=values, chunks=(100,), scaleoffset=2)
        file["objects"] = np.array(["a", "b"], dtype=h5py.string_dtype())
        file["pairs"] = np.zeros(3, [("a", "f8"), ("b", "i4")])
        file["type"] = np.dtype("f8")
        file["nan"] = np.where(values == 7, np.nan, values)
    return tmp_path


REFUSED = {
    "link": "'/link' lies in another file, 'outside.h5': --allow-external",
    "group/link": "'/group/link' lies in another file, 'outside.h5': --allow-external",
    "raw": "'/raw' lies in other files, of which this one is a view: --allow-external",
    "view": "'/view' lies in other files, of which this one is a view: --allow-external",
    "round": "is a link that leads round in a circle",
    "huge": "declares 8e+04 GB, and at most ",
    "never": "declares 8e+04 GB, and at most 0 bytes are stored",
    "packed": "declares 8e+04 GB, and at most ",
    "many": "'/many' has 100000000 chunks of 8 bytes: h5repack --layout",
    "short": "at row 0: the chunk at (0,) of '/short' is damaged",
    "scaled": "is packed by filters [6] of HDF5, and only gzip",
    "objects": "has elements of type object: float64 or float32 is needed",
    "pairs": "float64 or float32 is needed",
    "type": "a group, not a dataset, '/type'",
    "nan": "element 7 of the input is nan",
}


QUICK = ("group/link", "packed", "short")


@pytest.mark.parametrize("name", [n if n in QUICK else long(n) for n in REFUSED])
def test_made_to_do_harm(start, hostile, name):
    before = sorted(path.name for path in hostile.iterdir())
    done = run(start, hostile, name)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("sum_squares.py: error: ") == 1 and REFUSED[name] in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert sorted(path.name for path in hostile.iterdir()) == before


@pytest.mark.parametrize(
    "name",
    ["view", *(long(n) for n in ("link", "group/link", "raw"))],
)
def test_other_files_are_read_if_that_is_wanted(start, hostile, name):
    done = run(start, hostile, name, "--allow-external", "--json")
    assert done.returncode == 0, done.stderr
    # The sum of the first n squares.
    assert json.loads(done.stdout)["results"]["total"] == 999 * 1000 * 1999 / 6


def test_open_for_writing_in_another_process(start, hostile):
    script = (
        "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"
    )
    command, pipe = [sys.executable, "-c", script, hostile / "outside.h5"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as writer:
        assert writer.stdout.readline() == b"open\n"
        done = run(start, hostile, "x", file="outside.h5")
        writer.communicate(b"\n")
    assert done.returncode == 2
    assert "outside.h5 is open for writing in another process\n" in done.stderr


def run(start, folder, name, *options, file="a.h5"):
    arguments = ["--input", f"{file}:/{name}", "--variant", "numpy", "--output", "r.h5"]
    return start(2, JOB, *arguments, *options, cwd=folder)


if __name__ == "__main__":
    mutate(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
