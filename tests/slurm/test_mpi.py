"""An MPI library that srun cannot start says so in our one sentence, and not in its own pages."""

import json
from glob import glob
from pathlib import Path

import pytest

from tests.cases import long

pytestmark = pytest.mark.slurm

# Open MPI 4.1, as Debian has it.
OPEN_MPI = glob("/usr/lib/*/libmpi.so.40")


@pytest.fixture
def srun(cluster, clone):
    """Return a function that starts a job on ranks of the library with a kind of PMI."""

    def run(library, kind, ranks):
        if library == "Open MPI" and not OPEN_MPI:
            pytest.skip("not installed: libopenmpi3")
        env = {"MPI4PY_LIBMPI": OPEN_MPI[0]} if library == "Open MPI" else None
        job = [".venv/bin/python", "jobs/sum_squares.py", "--n", "1e4", "--variant", "numpy"]
        options = ["--output", "r.h5", "--json"]
        step = ["srun", f"--mpi={kind}", f"--ntasks={ranks}"]
        return cluster.run(*step, *job, *options, cwd=clone, env=env, check=False)

    return run


@pytest.mark.parametrize(
    ("library", "kind", "ranks", "wanted"),
    [
        ("MPICH", "pmix", 2, "pmi2"),
        ("Open MPI", "none", 2, "pmix"),
        long("MPICH", "pmix", 1, "pmi2"),
        long("Open MPI", "none", 1, "pmix"),
        long("Open MPI", "pmi2", 2, "pmix"),
    ],
)
def test_what_does_not_fit_is_told_once_before_mpi_starts(
    srun, clone, library, kind, ranks, wanted
):
    done = srun(library, kind, ranks)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("srun: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"sum_squares.py: error: srun and the MPI library, {library} ")
    cure = f"use srun --mpi={wanted}, or export SLURM_MPI_TYPE={wanted} (this Slurm offers --mpi="
    assert f" do not fit together; {cure}" in lines[0]
    assert not Path(clone, "r.h5").exists()


@pytest.mark.parametrize(
    ("library", "kind", "ranks"),
    [
        ("Open MPI", "pmix", 2),
        long("Open MPI", "pmix", 1),
        long("MPICH", "none", 1),
        long("MPICH", "pmi2", 2),
    ],
)
def test_what_fits_runs(srun, library, kind, ranks):
    done = srun(library, kind, ranks)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ranks"] == ranks
