"""Limits of control groups: on folders like the real ones, and in a real group where one can be."""

import os

import pytest

from rankwise.node import device, groups, placement
from rankwise.preflight.preflight import Preflight


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes files of groups and returns what `groups` is called with."""

    def make(own, files):
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "own").write_text(own)
        return tmp_path / "cgroup", tmp_path / "own"

    return make


@pytest.mark.parametrize(
    ("own", "files"),
    [
        (
            "0::/slurm/job_1\n",
            {"slurm/job_1/memory.max": "max\n", "slurm/memory.max": f"{2**27}\n"},
        ),
        (
            "3:cpuset:/x\n4:hugetlb,memory:/slurm/job_1\n",
            {
                "memory/slurm/job_1/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/slurm/memory.limit_in_bytes": f"{2**27}\n",
            },
        ),
    ],
)
def test_the_least_memory_of_all_groups_counts(tree, own, files):
    assert min(groups.memory_limits(*tree(own, files))) == 2**27


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        # Version 2: docker --cpus=1.5 in a container that sees its own group as the root.
        ("0::/\n", {"cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        # A parent may have less, and neither the root nor every group has the file.
        (
            "0::/kube/pod1/box\n",
            {"kube/pod1/box/cpu.max": "400000 100000\n", "kube/cpu.max": "50000 25000\n"},
            [4.0, 2.0],
        ),
        # Version 1, with controllers that share a tree, and beside an empty tree of version 2.
        (
            "5:cpu,cpuacct:/docker/ab\n0::/\n",
            {
                "cpu/docker/ab/cpu.cfs_quota_us": "250000\n",
                "cpu/docker/ab/cpu.cfs_period_us": "100000\n",
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            [2.5],
        ),
        # A container that is told the name its group has outside.
        (
            "5:cpu,cpuacct:/docker/ab\n",
            {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            [0.5],
        ),
        # Nothing that can be read is no limit.
        ("0::/\n", {"cpu.max": "\n"}, []),
        ("", {}, []),
    ],
)
def test_cores_whose_time_a_group_has(tree, own, files, cores):
    assert list(groups.cpu_quotas(*tree(own, files)).values()) == cores


def test_without_any_groups(tmp_path):
    assert groups.cpu_quotas(tmp_path, tmp_path / "none") == {}


def test_launch_and_preflight_tell_of_a_real_quota(comm, quota, tmp_path, monkeypatch, capsys):
    quota(1.5)
    assert min(groups.cpu_quotas().values()) == 1.5
    assert device.choose(comm, "numba").threads == 1
    _, warnings = placement.look(comm, device.choose(comm, "numba", threads=2), "numba")
    host = os.uname().nodename
    words = f"2 threads on {host} have the time of 1.5 cores (the CPU quota of a container or job)"
    assert sum(text.startswith(words) for text in warnings) == 1
    options = ["--variant", "numpy", "--output", str(tmp_path / "p.h5")]
    checks = Preflight(comm, options, "preflight.py", "")
    capsys.readouterr()
    checks.look_at_launch()
    (line,) = (x for x in capsys.readouterr().out.splitlines() if "quota" in x)
    assert line.split()[:2] == ["warning", "launch"] and "the time of 1.5 (the CPU quota" in line
    # With the time of all cores there is nothing to tell.
    quota(2 * (os.cpu_count() or 1))
    _, warnings = placement.look(comm, device.choose(comm, "numba", threads=1), "numba")
    assert warnings == [] and checks._quotas(host) == []
