"""Sweeps of programs that nobody here wrote: LAMMPS and HPCC of Debian, which use its Open MPI."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rankwise.sweep import mpi, output
from rankwise.sweep.command import Command
from rankwise.sweep.folder import load
from tests.copies import ROOT, copy_clone

pytestmark = pytest.mark.programs

LJ = ROOT / "docs" / "examples" / "lj"
LOOP = r"Loop time of (\S+)"
OURS = str(Path(sys.executable).parent / "mpirun")
ROOT_MAY = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


@pytest.fixture(autouse=True)
def lammps(tmp_path, monkeypatch):
    """The case; the test is skipped where there is no LAMMPS."""
    if not (shutil.which("lmp") and shutil.which("hpcc")):
        pytest.skip("no lmp and hpcc: apt-get install lammps hpcc")
    for name, value in ROOT_MAY.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(LJ, tmp_path / "lj")


def only(tmp_path):
    (folder,) = tmp_path.glob("results/*")
    return load(folder)


@pytest.mark.parametrize("program", ["lmp", "hpcc"])
def test_debians_programs_are_linked_to_open_mpi(program):
    # lmp is a small front end: the library that it loads is the one that is linked to MPI.
    command = Command.parse([program], None, None)
    found = mpi.linked(command.words, command.program, command.script)
    assert (found.program, found.family) == (program, mpi.OPEN_MPI)
    assert found.library.endswith("libmpi.so.40")
    assert found.library in found.libraries


def test_an_unmodified_program_from_its_case_to_the_report(rankwise, tmp_path):
    phases = [f"--phase={name}=^{name} *\\|[^|]*\\| *(\\S+)" for name in ("Pair", "Neigh", "Comm")]
    words = ["--ranks", "1,2", "--launches", "2", "--seconds", LOOP, *phases]
    words += ["--rate", r"(\S+) timesteps/s", "--work", r"with (\d+) atoms", "--case", "lj"]
    words += ["--require", "Total wall time", "--report"]
    done = rankwise("sweep", *words, "--", "lmp", "-in", "in.lj")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"time: the last match of '{LOOP}' in its output" in done.stdout
    assert "(Open MPI), as lmp is linked to it" in done.stdout
    whole = only(tmp_path)
    for run in whole.runs:
        # Debian's own, though ours comes first on the search path.
        assert run.argv[0] != OURS and run.argv[0].endswith("mpirun")
        printed = (
            whole.folder / "runs" / f"strong-{run.ranks}-{run.launch}" / "output.txt"
        ).read_text()
        loop = printed.partition("Loop time of ")[2].split()
        assert (run.seconds, run.source) == (float(loop[0]), "output")
        # One program on so many ranks, and not so many programs.
        assert loop[2] == str(run.ranks) and printed.count("Loop time") == 1
        assert run.seconds < run.process_seconds
        assert run.work == 4000 and run.rate > 0
        assert set(run.phases) == {"Pair", "Neigh", "Comm", "other"}
        assert sum(sum(told) for told in run.phases.values()) == pytest.approx(
            run.seconds, rel=1e-3
        )
        assert not (whole.folder / "runs" / f"strong-{run.ranks}-{run.launch}" / "case").exists()
    assert "libmpi.so.40" in whole.plan["mpi"]["library"]
    assert whole.plan["warnings"] == []
    # LAMMPS writes a log: into the copy.
    assert [path.name for path in (tmp_path / "lj").iterdir()] == ["in.lj"]
    assert not (tmp_path / "log.lammps").exists()
    method = " ".join((whole.folder / "scaling.md").read_text().partition("## Method")[2].split())
    for text in ("Open MPI, libmpi.so.40", "mpirun of Open MPI", "Loop time of", "fresh copy"):
        assert text in method
    for text in ("seed", "{ranks}", "repeats"):
        assert text not in method


def test_a_launcher_of_another_mpi_is_refused_before_anything_runs(rankwise, tmp_path):
    words = ["--launcher", f"{OURS} -n {{ranks}}", "--cores", "2", "--ranks", "1,2"]
    done = rankwise("sweep", *words, "--", "lmp", "-in", "lj/in.lj")
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("rankwise sweep: error: lmp is linked to Open MPI (")
    assert f"{OURS} belongs to MPICH" in said
    assert [path.name for path in tmp_path.iterdir()] == ["lj"]


@pytest.mark.parametrize("shown", ["maps", "lines"])
def test_serial_copies_are_found_while_they_run_or_by_their_output(rankwise, tmp_path, shown):
    """Behind a shell nothing is known beforehand."""
    words = ["--launcher", f"{OURS} -n {{ranks}}", "--cores", "2", "--ranks", "2"]
    script = "lmp -in lj/in.lj -log none"
    if shown == "lines":
        # As a serial build does, which has no MPI library to be seen.
        text = subprocess.run(["lmp", "-in", LJ / "in.lj", "-log", "none"], capture_output=True)
        (tmp_path / "printed").write_bytes(text.stdout)
        script = "cat printed"
    done = rankwise("sweep", *words, "--launches", "1", "--", "sh", "-c", script)
    assert done.returncode == 2, done.stdout
    if shown == "maps":
        assert "does not tell the program, whose MPI is Open MPI" in done.stderr
    else:
        assert "prints each of its lines 2 times on 2 ranks" in done.stderr
        assert "--copies" in done.stderr
    assert only(tmp_path).runs == []
    done = rankwise("sweep", "--copies", *words, "--launches", "1", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr


def test_two_serial_runs_share_their_lines_and_a_right_one_has_none(tmp_path):
    def printed(*words):
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    program = ["lmp", "-in", "lj/in.lj", "-log", "none"]
    mpirun = shutil.which("mpirun.openmpi")
    right = printed(mpirun, "-n", "2", "--oversubscribe", *program)
    assert output.copies(right, 2) == (False, False)
    assert output.copies(printed(OURS, "-n", "2", *program), 2) == (True, True)


def test_the_programs_error_is_shown_and_not_the_launchers(rankwise, tmp_path):
    (tmp_path / "lj" / "in.bad").write_text("units lj\nno_such_command\n")
    words = ["--ranks", "1,2", "--launches", "1", "--case", "lj", "--report"]
    done = rankwise("sweep", *words, "--", "lmp", "-in", "in.bad")
    assert done.returncode == 1
    for run in only(tmp_path).runs:
        assert "ERROR: Unknown command: no_such_command" in run.output_end
        assert "MPI_ABORT" not in run.output_end
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == 2 and all("ERROR: Unknown command" in line for line in lines)
    page = (only(tmp_path).folder / "report.html").read_text()
    assert "Unknown command" in page and "MPI_ABORT" not in page
    # The folder of a run that failed stays, to be looked at.
    assert (only(tmp_path).folder / "runs" / "strong-1-1" / "case" / "in.bad").exists()


def test_lammps_writes_into_a_copy_and_not_into_the_original(rankwise, tmp_path):
    # Its log has the name of a file of the case.
    (tmp_path / "lj" / "log.lammps").write_text("precious")
    words = ["--ranks", "1", "--launches", "2", "--case", "lj", "--keep", "--seconds", LOOP]
    done = rankwise("sweep", *words, "--time-file", "log.lammps", "--", "lmp", "-in", "in.lj")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "lj" / "log.lammps").read_text() == "precious"
    for run in only(tmp_path).runs:
        folder = only(tmp_path).folder / "runs" / f"strong-1-{run.launch}"
        assert run.source == "file"
        assert "Loop time" in (folder / "case" / "log.lammps").read_text()
        assert (folder / "times.txt").read_text() == (folder / "case" / "log.lammps").read_text()


def test_a_link_that_is_written_through_ends_the_sweep(rankwise, tmp_path):
    (tmp_path / "lj" / "log.lammps").write_text("precious")
    words = ["--ranks", "1", "--launches", "2", "--case", "lj", "--link", "log.*"]
    done = rankwise("sweep", *words, "--", "lmp", "-in", "in.lj")
    assert done.returncode == 2
    assert "the launch wrote into" in done.stderr and "lj/log.lammps" in done.stderr
    assert len(only(tmp_path).runs) == 1


def words_of(text):
    """Return the lines of a text without numbers and paths, which are of the day."""
    return [" ".join(re.sub(r"[\d.]+|e-\d+|/\S+", " ", line).split()) for line in text.splitlines()]


def test_the_commands_of_the_page(tmp_path):
    clone = copy_clone(tmp_path / "clone")
    page = (clone / "docs" / "your-own-program.md").read_text()
    block = r"(<!-- not run: [^\n]+ -->\n)?```bash\n(.*?)```\n(?:[^`]*?\n```text\n(.*?)```)?"
    blocks = [found[1:] for found in re.findall(block, page, re.DOTALL) if not found[0]]
    assert len(blocks) == 3
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # In one shell, as somebody types them: what one of them changes is there for the next.
    bash = ["bash", "-euo", "pipefail", "-c", "".join(commands for commands, _ in blocks)]
    options = {"cwd": clone, "capture_output": True, "text": True, "timeout": 400}
    done = subprocess.run(bash, env={**os.environ, "PATH": path}, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    told = words_of(done.stdout)
    assert [line for _, shown in blocks for line in words_of(shown) if line not in told] == []
    runs = load(clone / "scaling").runs
    assert len(runs) == 12 and {run.outcome for run in runs} == {"ok"}
    old = load(clone / "old")
    assert [run.seconds for run in old.runs if run.ranks == 128] == [3.84, 3.79]
    assert all((folder / "report.html").exists() for folder in (clone / "scaling", old.folder))


def test_hpcc_tells_its_figures_in_a_file(rankwise, tmp_path):
    case = tmp_path / "case"
    case.mkdir()
    (case / "hpccinf.txt").write_text(HPCC)
    words = ["--ranks", "2", "--launches", "1", "--case", "case", "--time-file", "hpccoutf.txt"]
    words += ["--seconds", r"^HPL_time=(\S+)", "--rate", r"^StarSTREAM_Triad=(\S+)"]
    done = rankwise("sweep", *words, "--", "hpcc")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = only(tmp_path).runs
    assert run.source == "file" and run.seconds > 0 and run.rate > 0


# Its smallest problem: N=200 in blocks of 40 on a grid of 1 x 2.
HPCC = """\
HPLinpack benchmark input file
Innovative Computing Laboratory, University of Tennessee
HPL.out      output file name (if any)
8            device out (6=stdout,7=stderr,file)
1            # of problems sizes (N)
200          Ns
1            # of NBs
40           NBs
0            PMAP process mapping (0=Row-,1=Column-major)
1            # of process grids (P x Q)
1            Ps
2            Qs
16.0         threshold
1            # of panel fact
2            PFACTs (0=left, 1=Crout, 2=Right)
1            # of recursive stopping criterium
4            NBMINs (>= 1)
1            # of panels in recursion
2            NDIVs
1            # of recursive panel fact.
1            RFACTs (0=left, 1=Crout, 2=Right)
1            # of broadcast
1            BCASTs (0=1rg,1=1rM,2=2rg,3=2rM,4=Lng,5=LnM)
1            # of lookahead depth
1            DEPTHs (>=0)
2            SWAP (0=bin-exch,1=long,2=mix)
64           swapping threshold
0            L1 in (0=transposed,1=no-transposed) form
0            U  in (0=transposed,1=no-transposed) form
1            Equilibration (0=no,1=yes)
8            memory alignment in double (> 0)
"""
