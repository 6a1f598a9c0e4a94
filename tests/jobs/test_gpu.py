"""The jobs on a real GPU. Without one there is no test here: see what is marked `cudasim`."""

from pathlib import Path

import pytest

from rankwise.disk import record
from rankwise.node import device

pytestmark = pytest.mark.cuda_compile

JOBS = Path(__file__).parents[2] / "jobs"
SIZES = {
    "sum_squares": ["--n", "1234567"],
    "heat": ["--n", "101", "--rows", "64", "--steps", "30"],
    "k_means": ["--n", "12345", "--k", "7", "--start", "random", "--steps", "9"],
    "mandelbrot": ["--n", "200", "--limit", "300"],
}

if device.visible_gpus() and not device._simulated():

    @pytest.mark.parametrize("ranks", [1, 3])
    @pytest.mark.parametrize("variant", ["cuda", "cupy"])
    @pytest.mark.parametrize("job", SIZES)
    def test_bits_are_those_of_numpy(start, tmp_path, job, variant, ranks):
        digests = set()
        for name, count in ((variant, ranks), ("numpy", 1)):
            path = tmp_path / f"{name}.h5"
            words = [*SIZES[job], "--variant", name, "--output", path]
            done = start(count, JOBS / f"{job}.py", *words)
            assert done.returncode == 0, done.stderr
            run = record.read(path)
            assert run.attributes["variant"] == name
            digests.add(run.attributes["results_sha256"])
        assert len(digests) == 1
