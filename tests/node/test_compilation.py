import errno
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import pytest

from rankwise.node import code, compilation, kernel_files

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


def folder_of():
    """Return the folder, after making sure that there is one."""
    folder, problem = compilation.private_folder()
    assert problem == ""
    return folder


def refusal():
    """Return why there is no folder."""
    folder, problem = compilation.private_folder()
    assert folder is None
    start, _, why = problem.partition(": ")
    assert start.startswith("cannot keep compiled kernels in ")
    return why


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_folder_is_private_and_found_again(tmp_path, monkeypatch, umask):
    monkeypatch.setenv("NUMBA_CACHE_DIR", f"{tmp_path}/new/one/")
    before = os.umask(umask)
    try:
        folder = folder_of()
    finally:
        os.umask(before)
    assert folder.parent == tmp_path / "new" / "one"
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert folder_of() == folder


def test_a_relative_name_is_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "../here")
    assert folder_of().samefile(tmp_path.parent / "here" / folder_of().name)


def test_without_a_name_it_is_among_the_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    assert folder_of().parent == tmp_path / "a"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert folder_of().parent == tmp_path / "a"

    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert refusal() == "No usable temporary directory found"


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


def test_a_setting_that_makes_no_other_code_has_no_other_folder(place, monkeypatch):
    before = folder_of()
    for name in compilation._NO_MATTER:
        monkeypatch.setattr(numba.config, name, 77)
    assert folder_of() == before


def test_a_folder_that_cannot_be_made_is_done_without(place, monkeypatch):
    (place / "file").touch()
    for name, why in {
        "/proc/none": "No such file or directory",
        f"{place}/file": "Not a directory",
        f"{place}/{'x' * 300}": "File name too long",
    }.items():
        monkeypatch.setenv("NUMBA_CACHE_DIR", name)
        assert refusal() == why


@pytest.mark.parametrize("trap", ["link", "file", "open to all", "of another"])
def test_a_folder_that_someone_else_may_have_prepared_is_not_used(place, trap):
    folder = folder_of()
    if trap == "link":
        folder.rename(place / "elsewhere")
        folder.symlink_to(place / "elsewhere")
    elif trap == "file":
        folder.rmdir()
        folder.touch()
    elif trap == "open to all":
        folder.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    else:
        return
    before = sorted(place.rglob("*"))
    assert refusal()
    # Nor is there another one at every start.
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("mode", "trusted"), [(0o755, True), (0o777, False), (0o775, False), (0o1777, True)]
)
@pytest.mark.parametrize("way", ["above", "through a link"])
def test_a_folder_that_others_may_exchange_is_not_used(tmp_path, monkeypatch, mode, trusted, way):
    shared = tmp_path / "shared"
    (shared / "mine").mkdir(parents=True)
    shared.chmod(mode)
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to(shared)
    name = "shared" if way == "above" else "first"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / name / "mine"))
    if trusted:
        assert folder_of().is_dir()
    else:
        assert refusal() == f"others may write to {shared}"
        assert list((shared / "mine").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
@pytest.mark.parametrize("what", ["folder", "link"])
def test_a_way_that_belongs_to_another_user_is_not_used(tmp_path, monkeypatch, what):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to("theirs")
    chosen = tmp_path / ("theirs" if what == "folder" else "link")
    os.chown(chosen, 65534, 65534, follow_symlinks=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "link"))
    assert refusal() == f"{chosen} belongs to another user"


def test_links_that_have_no_end(tmp_path, monkeypatch):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "a"))
    assert refusal().endswith("is a link without an end")


def test_the_root_of_a_container_without_root_is_trusted(monkeypatch):
    right = Path.read_text

    def read(self):
        # As podman and Apptainer have it: the only user that there is, under another number.
        return "         0       1234          1\n" if self.name == "uid_map" else right(self)

    users = right(Path("/proc/self/uid_map")).split()
    nobody = int(right(Path("/proc/sys/kernel/overflowuid")))
    assert (nobody in compilation._trusted()) == (users != ["0", "0", "4294967295"])
    monkeypatch.setattr(Path, "read_text", read)
    assert compilation._trusted() == {0, os.geteuid(), nobody}


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
    folder = comm.bcast(tmp_path)
    monkeypatch.setattr(compilation, "_folder", folder)
    monkeypatch.setattr(kernel_files, "problems", ["a problem"])

    def compile():
        spans.append(time.monotonic())
        comm.Barrier() if at_once else time.sleep(0.2 if comm.rank == 0 else 0)
        spans.append(time.monotonic())

    # What is in the cache, all load at once: else this barrier would never end.
    for name, at_once in (("kernel-f8", False), ("kernel-f8", True), ("kernel-f4", False)):
        spans = []
        problems = compilation.warm_up(comm, name, compile)
        assert problems == (["a problem"] if name == "kernel-f8" and not at_once else [])
        begins, ends = zip(*comm.allgather(spans), strict=True)
        assert at_once or all(begin >= ends[0] for begin in begins[1:])
