import os
import sys
import types

import numpy as np
import pytest

from rankwise.node import device
from rankwise.ranks.agreement import Stop


class Node:
    """The ranks of a node, as far as the division of its cores asks for them."""

    def __init__(self, everyone, rank, quotas=None):
        self.everyone = [(cores, (quotas or {}).get(n, {})) for n, cores in enumerate(everyone)]
        self.rank = rank

    def allgather(self, mine):
        assert mine == self.everyone[self.rank]
        return self.everyone


@pytest.mark.parametrize(
    ("cores", "shares"),
    [
        ([{0, 1, 2, 3}] * 4, [1, 1, 1, 1]),
        ([{0, 1, 2, 3}] * 2, [2, 2]),
        ([{0, 1, 2, 3}] * 3, [1, 1, 1]),
        ([{0, 1}] * 7, [1] * 7),
        ([{0}, {1}, {2, 3}], [1, 1, 2]),
        ([set(range(30))] * 3, [10, 10, 10]),
        ([{0, 1, 2, 3}, {2, 3}], [3, 1]),
    ],
)
def test_cores_are_divided_among_the_ranks_bound_to_them(monkeypatch, cores, shares):
    monkeypatch.setattr(device, "physical_core", lambda cpu: cpu)
    monkeypatch.setattr(device.groups, "cpu_quotas", dict)
    for rank, share in enumerate(shares):
        assert device.share_of_cores(Node(cores, rank), tuple(cores[rank])) == share


def test_hardware_threads_of_a_core_count_once(monkeypatch):
    monkeypatch.setattr(device, "physical_core", lambda cpu: cpu % 4)
    monkeypatch.setattr(device.groups, "cpu_quotas", dict)
    assert device.share_of_cores(Node([{0, 1, 2, 3}], 0), tuple(range(8))) == 4


@pytest.mark.parametrize(
    ("quotas", "shares"),
    [
        # All in one group; a group for each; one rank in a container.
        ({0: {"job": 4.0}, 1: {"job": 4.0}}, [2, 2]),
        ({0: {"job": 1.5}, 1: {"job": 1.5}}, [1, 1]),
        ({0: {"a": 3.9}, 1: {"b": 1.0}}, [3, 1]),
        ({0: {"job": 9.0, "step": 2.0}}, [2, 4]),
    ],
)
def test_a_quota_is_divided_among_the_ranks_that_have_it(monkeypatch, quotas, shares):
    monkeypatch.setattr(device, "physical_core", lambda cpu: cpu)
    cores = [set(range(8))] * 2
    for rank, share in enumerate(shares):
        monkeypatch.setattr(device.groups, "cpu_quotas", lambda rank=rank: quotas.get(rank, {}))
        assert device.share_of_cores(Node(cores, rank, quotas), tuple(range(8))) == share


@pytest.mark.parametrize(
    ("value", "simulated"), [("", 0), ("0", 0), ("1", 1), ("2", 1), ("true", 0), ("-", 0)]
)
def test_the_simulator_is_asked_for_as_numba_reads_it(monkeypatch, value, simulated):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", value)
    assert device._simulated() == bool(simulated)


@pytest.mark.mpi
def test_default_threads_leave_no_core_to_two_ranks(comm):
    chosen = device.choose(comm, "numba")
    assert chosen.node.size == comm.size
    assert chosen.nodes == 1
    cores = len({device.physical_core(cpu) for cpu in os.sched_getaffinity(0)})
    total = comm.allreduce(chosen.threads)
    assert total <= max(cores, comm.size)
    assert total > cores - comm.size


def test_ranks_of_a_host_share_its_cores_whatever_mpi_takes_for_a_node(start):
    script = (
        "from rankwise.job import launch\n"
        "from rankwise.node import device\n"
        "def main(comm, argv):\n"
        "    chosen = device.choose(comm, 'numba')\n"
        # In one piece, since both ranks print at once.
        "    print(f'{chosen.node.size} {chosen.threads}\\n', end='', flush=True)\n"
        "launch(main)\n"
    )
    both = len({device.physical_core(cpu) for cpu in os.sched_getaffinity(0)})
    done = start(2, "-c", script, env={"MPIR_CVAR_NOLOCAL": "1"})
    assert done.stdout == f"1 {max(1, both // 2)}\n" * 2


@pytest.mark.mpi
def test_auto_is_the_same_on_every_rank(comm):
    variants = comm.allgather(device.choose(comm, "auto").variant)
    assert len(set(variants)) == 1
    assert variants[0] in (("cuda", "cupy") if device.visible_gpus() else ("numba",))


@pytest.mark.mpi
def test_numba_runs_with_the_threads_asked_for(comm):
    import numba

    assert device.choose(comm, "numba", threads=2).threads == 2
    assert numba.get_num_threads() == 2


@pytest.mark.mpi
@pytest.mark.parametrize("number", [1, 2, 4])
def test_ranks_of_a_node_take_its_gpus_in_turn(comm, monkeypatch, number):
    taken = []
    monkeypatch.setattr(device, "visible_gpus", lambda: [f"GPU {i}" for i in range(number)])
    monkeypatch.setattr(device, "_installed", lambda variant: True)
    monkeypatch.setattr(device, "_select_gpu", lambda variant, gpu: taken.append(gpu))
    chosen = device.choose(comm, "cupy")
    assert taken == [chosen.node.rank % number]
    assert chosen.name == f"GPU {taken[0]}"


@pytest.mark.mpi
def test_a_library_that_fails_is_named(comm, monkeypatch):
    def fail(name):
        raise RuntimeError("CUDA driver version is insufficient")

    fake = types.SimpleNamespace(cuda=types.SimpleNamespace(Device=fail))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(device, "visible_gpus", lambda: ["A GPU"])
    monkeypatch.setattr(device, "_installed", lambda variant: True)
    with pytest.raises(Stop, match="driver version is insufficient; pip install"):
        device.choose(comm, "cupy")


@pytest.mark.mpi
def test_variants_of_one_thread_say_so(comm):
    assert device.choose(comm, "numpy", threads=8).threads == 1


@pytest.mark.mpi
def test_one_rank_without_a_gpu_is_enough_for_auto_to_take_the_cpu(comm, monkeypatch):
    gpus = ["A GPU"] if comm.rank < comm.size - 1 else []
    monkeypatch.setattr(device, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(device, "_installed", lambda variant: True)
    assert device.choose(comm, "auto").variant == "numba"


@pytest.mark.mpi
def test_a_missing_gpu_is_named(comm, monkeypatch):
    gpus = ["A GPU"] if comm.rank < comm.size - 1 else []
    monkeypatch.setattr(device, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(device, "_installed", lambda variant: True)
    with pytest.raises(Stop, match=f"rank {comm.size - 1} sees no NVIDIA GPU"):
        device.choose(comm, "cupy")


@pytest.mark.mpi
@pytest.mark.cudasim
@pytest.mark.parametrize("variant", ["auto", "cuda"])
def test_arrays_go_to_the_device_and_back(comm, variant):
    place = device.choose(comm, variant)
    assert (place.variant, place.name) == ("cuda", "CUDA simulator")
    x = np.arange(10.0)
    on_device = place.to_device(x)
    assert on_device is not x
    np.testing.assert_array_equal(place.to_host(on_device), x)
    assert place.empty((2, 3), np.float32).shape == (2, 3)
    assert isinstance(place.mpi_buffer(3), np.ndarray)
    assert isinstance(place.for_mpi(on_device), np.ndarray)
    direct = device.choose(comm, variant, device_buffers=True)
    assert direct.for_mpi(on_device) is on_device
    assert not isinstance(direct.mpi_buffer(3), np.ndarray)


@pytest.mark.parametrize(
    ("variant", "module", "extra"),
    [("cuda", "numba_cuda", "cuda13"), ("cupy", "cupy", "cuda13"), ("numba", "numba", "jobs")],
)
def test_a_missing_library_is_named(monkeypatch, variant, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    with pytest.raises(Stop, match=rf"missing on rank 5; pip install -e '.\[{extra}\]'"):
        device._require(5, variant, ["A GPU"])
