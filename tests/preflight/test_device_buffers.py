"""Without a GPU: what stands for one is host memory that looks like a GPU's."""

import os

import pytest

from rankwise.node import code
from rankwise.preflight import device_buffers

# Arrays at an address that MPI can read, or at one that nobody can.
FAKE_CUPY = """
import types
import numpy as np

__version__ = "13.0"

class Array:
    def __init__(self, values):
        self.values = np.array(values)
        address = self.values.ctypes.data if {readable} else 4096
        self.__cuda_array_interface__ = dict(
            shape=self.values.shape, typestr="<f8", data=(address, False), version=3)
    def get(self):
        return self.values if {intact} else self.values + 1

asarray = Array
stream = types.SimpleNamespace(synchronize=lambda: None)
cuda = types.SimpleNamespace(
    Device=lambda number: types.SimpleNamespace(use=lambda: None),
    get_current_stream=lambda: stream)
"""
# One GPU, as far as the driver is asked.
FAKE_DRIVER = """
import rankwise.node.device
rankwise.node.device.visible_gpus = lambda: ["A GPU GPU-0"]
"""


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Return a function that puts a CuPy into the way of the child process."""

    def make(readable=True, intact=True):
        (tmp_path / "cupy.py").write_text(FAKE_CUPY.format(readable=readable, intact=intact))
        (tmp_path / "sitecustomize.py").write_text(FAKE_DRIVER)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


def test_memory_that_mpi_can_read_works(pretend):
    pretend()
    assert device_buffers.work("cupy")


def test_memory_that_mpi_cannot_read_ends_the_child_alone(pretend):
    pretend(readable=False)
    assert not device_buffers.work("cupy")


def test_values_that_arrive_otherwise_do_not_work(pretend):
    pretend(intact=False)
    assert not device_buffers.work("cupy")


@pytest.mark.parametrize("name", ["PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"])
def test_the_child_takes_itself_for_no_rank_of_ours(pretend, monkeypatch, name):
    pretend()
    monkeypatch.setenv(name, "4")
    monkeypatch.setenv("PMI_FD", "77")
    before = dict(os.environ)
    assert device_buffers.work("cupy")
    assert dict(os.environ) == before


def test_settings_of_the_library_reach_the_child(pretend, monkeypatch, tmp_path):
    pretend()
    monkeypatch.setenv("OMPI_MCA_opal_cuda_support", "true")
    with open(tmp_path / "sitecustomize.py", "a") as file:
        file.write("import os; assert os.environ['OMPI_MCA_opal_cuda_support'] == 'true'\n")
    assert device_buffers.work("cupy")


def test_the_child_runs_the_code_of_this_process(pretend, monkeypatch, tmp_path):
    pretend()
    # Whatever clone the environment was made for.
    monkeypatch.setattr(code, "root", lambda: tmp_path / "clone")
    for room in ("rankwise", "rankwise/preflight"):
        (tmp_path / "clone" / room).mkdir(parents=True)
        (tmp_path / "clone" / room / "__init__.py").touch()
    (tmp_path / "clone" / "rankwise" / "preflight" / "device_buffers.py").touch()
    (tmp_path / "sitecustomize.py").unlink()
    assert device_buffers.work("cupy")


def test_a_folder_of_that_name_is_not_run(pretend, monkeypatch, tmp_path):
    pretend()
    other = tmp_path / "here" / "rankwise" / "preflight"
    other.mkdir(parents=True)
    for path in (other.parent / "__init__.py", other / "__init__.py", other / "device_buffers.py"):
        path.write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path / "here")
    assert device_buffers.work("cupy")


def test_a_child_that_hangs_is_ended(pretend, monkeypatch, tmp_path):
    pretend()
    (tmp_path / "cupy.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(device_buffers, "_SECONDS", 2)
    assert not device_buffers.work("cupy")
