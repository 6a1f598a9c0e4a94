"""A mistake of the user, made with a job: one message, status 2, and nothing else changes."""

import pytest
from mpi4py import MPI

from rankwise.ranks.agreement import Stop


def completed(arguments):
    """Return the options, with a record and a variant if they name none."""
    output = [] if "--output" in arguments else ["--output", "r.h5"]
    return [*arguments, *output, *([] if "--variant" in arguments else ["--variant", "numpy"])]


def make_in_process(job, inputs, mistake, monkeypatch, capsys):
    """Call a job's main function on one rank, in the folder of its inputs."""
    arguments, message = mistake
    before = {path.name: path.stat().st_mtime_ns for path in inputs.iterdir()}
    # No GPU, wherever the test runs.
    monkeypatch.setattr("rankwise.node.device.visible_gpus", list)
    monkeypatch.chdir(inputs)
    with pytest.raises(Stop) as caught:
        job.main(MPI.COMM_SELF, completed(arguments))
    printed = capsys.readouterr()
    assert caught.value.status == 2
    # Either argparse has told it or the caller is going to.
    assert printed.err.count("usage:") == (not str(caught.value))
    assert message in printed.err + str(caught.value)
    assert printed.out == ""
    assert {path.name: path.stat().st_mtime_ns for path in inputs.iterdir()} == before


def make_under_mpirun(start, program, inputs, mistake):
    """Start a job on three ranks, in the folder of its inputs."""
    arguments, message = mistake
    no_gpu = {"CUDA_VISIBLE_DEVICES": ""}
    done = start(3, program, *completed(arguments), cwd=inputs, env=no_gpu)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(f"{program.name}: error: ") == 1
    assert done.stderr.count("usage:") <= 1
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    assert message in done.stderr
    assert done.stdout == ""
