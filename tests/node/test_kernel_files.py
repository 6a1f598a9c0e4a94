"""Compiled kernels on disks that fail, and in files that are damaged: compiled again, and right."""

import errno
import importlib.util
import os
import pickle
import resource
import shutil
import sys
from pathlib import Path

import numba
import pytest

from rankwise.node import kernel_files

KERNEL = """
import numba

@numba.njit(cache=True)
def twice(x):
    return 2 * x + OFFSET

OFFSET = 1
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Return a function that imports a kernel anew, calls it, and says how often it was kept."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "one.py").write_text(KERNEL)
    before = kernel_files.folder
    monkeypatch.setattr(kernel_files, "problems", [])
    # Else Python would make a folder beside the kernel.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    kernel_files.use(tmp_path / "kept")

    def call(*values, path=tmp_path / "one.py"):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = [(result := module.twice(value), type(result)) for value in values]
        assert found == [(2 * value + 1, type(value)) for value in values]
        return sum(module.twice.stats.cache_hits.values())

    yield call
    kernel_files.use(before)


def kept():
    return sorted(kernel_files.folder.iterdir())


def test_each_version_has_a_file_of_its_own(kernel, tmp_path):
    # Made one after the other by processes that know nothing of each other: no index is lost.
    assert kernel(3) == 0 and kernel(3.5) == 0
    assert len(kept()) == 2 and kernel(3, 3.5) == 2
    # Another file of the same name, and this one changed.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "one.py").write_text(KERNEL)
    assert kernel(3, path=tmp_path / "other" / "one.py") == 0
    (tmp_path / "one.py").write_text(f"{KERNEL}# changed\n")
    assert kernel(3) == 0
    assert kernel_files.problems == []


DAMAGES = {
    "empty": lambda octets: b"",
    "cut off": lambda octets: octets[:-1],
    "not of this kind": lambda octets: b"garbage" * 100,
    "a bit": lambda octets: octets[:-500] + bytes([octets[-500] ^ 1]) + octets[-499:],
    "zeros": lambda octets: octets[: len(octets) // 2].ljust(len(octets), b"\0"),
    "of something else": lambda octets: octets[:32] + pickle.dumps(("key", [1, 2])),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_again(kernel, damage):
    assert kernel(3) == 0
    (path,) = kept()
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert kernel(3) == 0
    assert kernel_files.problems == [
        f"the compiled kernel {path} was damaged, and is compiled again"
    ]
    assert kept() == [path] and kernel(3) == 1
    assert len(kernel_files.problems) == 1


def test_a_file_of_other_types_is_not_taken(kernel):
    kernel(3), kernel(3.5)
    whole, broken = kept()
    broken.write_bytes(whole.read_bytes())
    assert kernel(3, 3.5) == 1 and kernel_files.problems == []


@pytest.mark.parametrize("number", ["EIO", "ESTALE", "EACCES"])
def test_a_file_that_cannot_be_read(kernel, monkeypatch, number):
    kernel(3)
    (path,) = kept()
    right = Path.read_bytes

    def refuse(self):
        if self == path:
            raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))
        return right(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert kernel(3) == 0
    (problem,) = kernel_files.problems
    assert problem.startswith(f"cannot read compiled kernels in {path.parent}: ")
    assert os.strerror(getattr(errno, number)) in problem and "NUMBA_CACHE_DIR" in problem


def test_a_file_that_cannot_be_written(kernel):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        assert kernel(3) == kernel(3) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (problem,) = kernel_files.problems
    assert problem.startswith(f"cannot keep compiled kernels in {kernel_files.folder}: File too la")
    assert kept() == []
    # As if the folder had gone.
    kernel_files.folder.rmdir()
    assert kernel(3) == 0 and not kernel_files.folder.exists()


def test_without_a_folder_nothing_is_kept(kernel, tmp_path, monkeypatch):
    kernel_files.use(None)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    assert kernel(3) == kernel(3) == 0
    # Not beside the kernel either, where Numba would, and where ranks are in each other's way.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "one.py"]
    assert kernel_files.problems == []


@pytest.mark.parametrize("name", ["IndexDataCacheFile", "CompileResultCacheImpl"])
def test_a_numba_of_other_names_compiles_each_time(kernel, monkeypatch, name):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delattr(kernel_files.caching, name)
    kernel_files.use(kernel_files.folder)
    folder = Path(numba.config.CACHE_DIR)
    assert folder.is_dir() and folder.stat().st_mode & 0o77 == 0
    (problem,) = kernel_files.problems
    assert problem.startswith(f"Numba {numba.__version__} keeps compiled kernels in a way that")
    shutil.rmtree(folder)


def test_versions_are_forgotten_where_numba_asks_for_it(kernel, tmp_path):
    kernel(3, 3.5)
    assert len(kept()) == 2
    function = importlib.util.spec_from_file_location("one", tmp_path / "one.py")
    module = importlib.util.module_from_spec(function)
    function.loader.exec_module(module)
    assert module.twice(4) == 9
    module.twice.recompile()
    # That with which it was called is there again.
    assert module.twice(4) == 9 and len(kept()) == 1 and kernel(3) == 1
