import itertools
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import numba
import pytest

from rankwise.node import code, compilation

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_folder_is_private_and_found_again(place):
    folder = Path(compilation.private_folder())
    assert folder.parent == place
    assert folder.stat().st_mode & 0o777 == 0o700
    assert compilation.private_folder() == str(folder)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    assert compilation.private_folder() == str(folder)


@pytest.mark.parametrize("change", ["time", "processor", "CPU_NAME", "ENABLE_AVX", "DISABLE_JIT"])
def test_what_numba_compiles_anew_for_has_another_folder(tmp_path, monkeypatch, change):
    kernel = tmp_path / "kernels" / "one" / "numba_.py"
    kernel.parent.mkdir(parents=True)
    kernel.touch()
    monkeypatch.setattr(code, "root", lambda: tmp_path)
    before = compilation._code_digest()
    assert compilation._code_digest() == before
    if change == "time":
        os.utime(kernel, (1, 1))
    elif change == "processor":
        monkeypatch.setattr(compilation, "_processor", lambda: ["model name : another"])
    else:
        monkeypatch.setattr(numba.config, change, "another")
    assert compilation._code_digest() != before


def test_a_folder_that_cannot_be_made_is_replaced(monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/none")
    other = Path(compilation.private_folder())
    assert other.is_dir()
    other.rmdir()


@pytest.mark.parametrize("trap", ["link", "file", "open to all"])
def test_a_folder_that_someone_else_may_have_prepared_is_not_used(place, trap):
    folder = Path(compilation.private_folder())
    folder.rmdir()
    if trap == "link":
        (place / "elsewhere").mkdir()
        folder.symlink_to(place / "elsewhere")
    elif trap == "file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    other = Path(compilation.private_folder())
    assert other != folder
    assert other.stat().st_mode & 0o777 == 0o700
    other.rmdir()


def test_a_constant_that_changes_is_seen_by_the_compiled_kernel(tmp_path):
    # Numba itself compares the file of the kernel only, and would go on with the old constant.
    names = subprocess.check_output(["git", "ls-files", "kernels", "rankwise"], cwd=ROOT, text=True)
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    script = (
        "import numpy; from mpi4py import MPI; from rankwise.node import device, variants\n"
        "from kernels import sum_squares; device.choose(MPI.COMM_SELF, 'numba')\n"
        "out, kernel = numpy.zeros(4), variants.load(sum_squares, 'numba')\n"
        "kernel.block_sums(numpy.ones(10000), out); print(out)"
    )
    constants = tmp_path / "kernels" / "sum_squares" / "__init__.py"
    source = constants.read_text()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path)}
    sums = []
    for rows in (256, 128):
        constants.write_text(source.replace("ROWS = 512", f"ROWS = {rows}"))
        command = [sys.executable, "-c", script]
        sums.append(subprocess.check_output(command, cwd=tmp_path, env=environment, text=True))
    assert sums == ["[8192. 1808.    0.    0.]\n", "[4096. 4096. 1808.    0.]\n"]


@pytest.mark.mpi
def test_the_first_rank_of_a_node_compiles_alone(comm, tmp_path, monkeypatch):
    folder = comm.bcast(str(tmp_path))
    monkeypatch.setattr(compilation, "_folder", folder)

    def compile():
        spans.append(time.monotonic())
        comm.Barrier() if at_once else time.sleep(0.2 if comm.rank == 0 else 0)
        spans.append(time.monotonic())

    # What is in the cache, all load at once: else this barrier would never end.
    for name, at_once in (("kernel-f8", False), ("kernel-f8", True), ("kernel-f4", False)):
        spans = []
        compilation.warm_up(comm, name, compile)
        begins, ends = zip(*comm.allgather(spans), strict=True)
        assert at_once or all(begin >= ends[0] for begin in begins[1:])


@pytest.mark.parametrize(("patience", "told"), [(0.0, 1), (60.0, 0)])
def test_jobs_of_one_node_compile_one_after_the_other(place, capsys, monkeypatch, patience, told):
    monkeypatch.setattr(compilation, "_TELL_SECONDS", patience)
    script = (
        "import pathlib; from rankwise.node import compilation\n"
        f"with compilation._locked(pathlib.Path({str(place)!r})):\n"
        "    print('locked', flush=True); input(); print('still', flush=True)"
    )
    pipe = subprocess.PIPE
    other = subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True)
    assert other.stdout.readline() == "locked\n"
    right, looks = compilation._acquire, itertools.count(1)

    def acquire(lock):
        if next(looks) == 3:
            other.stdin.write("\n")
            other.stdin.flush()
        return right(lock)

    monkeypatch.setattr(compilation, "_acquire", acquire)
    with compilation._locked(place):
        # The other one has come to the end of its part.
        assert select.select([other.stdout], [], [], 0)[0]
    assert next(looks) > 3
    said = f"waiting for the job that compiles into {place}\n"
    assert capsys.readouterr().err.count(said) == told
    assert other.wait() == 0
    other.stdin.close()
    other.stdout.close()
