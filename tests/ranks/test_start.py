import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.mpi import mpi_library
from rankwise.run.options import count, folder, parse

JOB = Path(__file__).parents[2] / "jobs" / "sum_squares.py"
PROGRAM = """
from rankwise.job import Stop, launch
import signal, sys, os, time
from contextlib import suppress
from rankwise.ranks.agreement import agreement

def main(comm, argv):
    {body}
    comm.Barrier()

if __name__ == "__main__":
    launch(main)
"""


@pytest.fixture
def launch(start, tmp_path):
    """Return a function that runs a program whose main function is ``body`` on so many ranks.

    Ranks that were left waiting would reach the limit of ``start``.
    """

    def run(ranks, body):
        path = tmp_path / "job.py"
        path.write_text(PROGRAM.format(body=body))
        return start(ranks, path)

    return run


@pytest.mark.parametrize("ranks", [None, 1, 2, 4])
def test_launch_ends_well(launch, ranks):
    done = launch(ranks, "pass")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_start_up_is_a_part_of_the_life_of_the_process(launch):
    # In one piece, since both ranks print at once.
    told = "'{import} {init}\\n'.format(**clock.startup)"
    body = f"from rankwise.ranks import clock; print({told}, end='')"
    begin = time.monotonic()
    done = launch(2, body)
    life = time.monotonic() - begin
    assert (done.returncode, done.stderr) == (0, "")
    lines = [list(map(float, line.split())) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for each in lines:
        assert min(each) > 0
        assert sum(each) < life


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("sys.modules['mpi4py']", "no mpi4py: is the environment active? Else, in the clone, pip "),
        ("sys.modules['mpi4py.MPI']", "no MPI library: load the site's module, or, in the clone, "),
    ],
)
def test_without_mpi_there_is_one_sentence(start, missing, said):
    script = f"import runpy, sys; {missing} = None; sys.argv = [{str(JOB)!r}, '--n', '5']\n"
    script += f"runpy.run_path({str(JOB)!r}, run_name='__main__')"
    done = start(None, "-c", script)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"sum_squares.py: error: {said}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MPICH Version:      5.0.2\nMPICH Release date: today\n\0", "MPICH Version: 5.0.2"),
        ("Open MPI v5.0.11, package: X\0\0", "Open MPI v5.0.11, package: X"),
    ],
)
def test_the_library_is_told_in_its_first_line(monkeypatch, text, said):
    from mpi4py import MPI

    monkeypatch.setattr(MPI, "Get_library_version", lambda: text)
    assert mpi_library() == said


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_an_exception_on_one_rank_ends_all(launch, culprit):
    done = launch(3, f"if comm.rank == {culprit}: raise ValueError('wrong turn')")
    assert done.returncode == 1
    assert f"rank {culprit} of 3" in done.stderr
    assert "ValueError: wrong turn" in done.stderr
    assert done.stderr.count("Traceback") == 1


@pytest.mark.parametrize(
    "body",
    [
        "with agreement(comm):\n        if comm.rank == 2: raise Stop('that is missing')",
        "with agreement(comm, OSError):\n        if comm.rank: raise OSError('that is missing')",
    ],
)
def test_a_mistake_gives_one_message_and_status_2(launch, body):
    done = launch(3, body)
    assert done.returncode == 2
    assert done.stderr == "job.py: error: that is missing\n"
    assert done.stdout == ""


def test_a_mistake_that_one_rank_keeps_to_itself_hangs_nobody(launch):
    done = launch(2, "if comm.rank == 1: raise Stop('only I know')")
    assert done.returncode == 2
    assert "job.py: error: only I know" in done.stderr
    assert "Traceback" not in done.stderr


ENDINGS = r"""from rankwise.ranks import start
    def late():
        with agreement(comm):
            if comm.rank == 1: raise Stop("too late", 3)
    def tell(what):
        # In one piece, since both ranks print at once.
        return lambda: print(f"{what} {comm.rank}\n", end="", flush=True)
    start.endings += [tell("first"), late, tell("last")]
    """


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("pass", 3, ""),
        ("with agreement(comm): raise Stop('try again', 75)", 75, "job.py: try again\n"),
    ],
)
def test_endings_run_the_last_one_first_and_main_tells_the_status(launch, body, status, said):
    done = launch(2, ENDINGS + body)
    assert done.returncode == status
    assert done.stderr == f"{said}job.py: error: too late\n"
    for rank in (0, 1):
        own = [line for line in done.stdout.splitlines() if line.endswith(f" {rank}")]
        assert own == [f"last {rank}", f"first {rank}"]


def test_where_one_rank_fails_alone_there_are_no_endings(launch):
    done = launch(2, ENDINGS + "if comm.rank == 1: raise ValueError('wrong turn')")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("Traceback") == 1 and "too late" not in done.stderr


def test_an_ending_that_fails_on_one_rank_ends_all(launch):
    body = "from rankwise.ranks import start; start.endings.append(lambda: 1 / comm.rank)"
    done = launch(2, body)
    assert done.returncode == 1
    assert "rank 0 of 2 on " in done.stderr and "ZeroDivisionError" in done.stderr


def test_a_killed_rank_ends_the_others(launch):
    done = launch(2, "if comm.rank == 1: os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode != 0


def test_a_rank_that_cannot_import_numpy_ends_the_others(start, tmp_path):
    rank = "os.environ.get('PMI_RANK', os.environ.get('PMIX_RANK'))"
    (tmp_path / "numpy.py").write_text(
        "import os, time\n"
        f"if {rank} == '1': raise ImportError('broken')\n"
        "import mpi4py.MPI  # which waits for rank 1\ntime.sleep(600)\n"
    )
    done = start(2, JOB, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "ImportError: broken" in done.stderr


@pytest.mark.parametrize(
    ("stream", "body", "status"),
    [
        (1, "if comm.rank == 0: print('x')", 1),
        (1, "if comm.rank == 0: print('x'); assert comm.rank != 0", 1),
        (2, "for _ in range(2):\n        with suppress(OSError): print('x', file=sys.stderr)", 0),
        (2, "with agreement(comm): raise Stop('try again', 75)", 75),
        (2, "if comm.rank == 0: raise Stop('only I know')", 2),
        (2, "assert comm.rank != 0", 1),
    ],
)
def test_a_full_disk_behind_the_output_ends_all_ranks(start, tmp_path, stream, body, status):
    job = tmp_path / "job.py"
    job.write_text(PROGRAM.format(body=body))
    # With its own redirection: what mpirun itself cannot write is another matter.
    wrap = tmp_path / "wrap.py"
    wrap.write_text(
        "import os, runpy, sys\n"
        f"os.dup2(os.open('/dev/full', os.O_WRONLY), {stream})\n"
        f"sys.argv = [{str(job)!r}]; runpy.run_path({str(job)!r}, run_name='__main__')"
    )
    done = start(2, wrap, env={"PYTHONUNBUFFERED": ""})
    assert done.returncode == status
    if "print('x')" in body and stream == 1:
        full = "job.py: error: cannot write to standard output: No space left on device\n"
        assert done.stderr.startswith(full) or "AssertionError" in done.stderr
        assert done.stderr.count("Traceback") == ("assert" in body)


CLOSED = """
import sys
from rankwise.job import launch

def main(comm, argv):
    with open(f"file{comm.rank}", "w"):
        print("printed", flush=True)
        print("printed", file=sys.stderr, flush=True)
        if comm.rank == 1:
            raise ValueError("wrong turn")
    comm.Barrier()

launch(main)
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "0<&- >&- 2>&-"])
def test_a_rank_that_fails_with_closed_streams_ends_all(tmp_path, mpirun, closed):
    (tmp_path / "job.py").write_text(CLOSED)
    command = [mpirun, "-n", "2", "bash", "-c", f"exec {sys.executable} job.py {closed}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert ("ValueError: wrong turn" in done.stderr) == ("2>&-" not in closed)
    assert [path.read_text() for path in sorted(tmp_path.glob("file*"))] == ["", ""]


def test_a_rank_that_has_no_mpi_to_abort_with_ends_the_others(start, tmp_path):
    (tmp_path / "job.py").write_text(
        "from rankwise.job import launch\nimport os, sys\n"
        "class Broken:\n"
        "    def flush(self): raise RuntimeError\n"
        "if os.environ.get('PMI_RANK', os.environ.get('PMIX_RANK')) == '1':\n"
        "    sys.modules['mpi4py'], sys.stdout = None, Broken()\n"
        "    raise ValueError('wrong turn')\n"
        "from mpi4py import MPI\n"
    )
    done = start(2, "job.py")
    assert done.returncode != 0
    assert "ValueError: wrong turn" in done.stderr


@pytest.mark.parametrize("name", ["USR1", "TERM", "INT"])
def test_a_signal_at_the_end_does_not_change_the_status(start, tmp_path, name):
    # From when main has ended until the process is gone.
    (tmp_path / "job.py").write_text(
        "from rankwise.job import launch\nimport os, subprocess, threading\n"
        # Not to the output: the launcher waits until nobody has it open.
        "me = os.getpid()\n"
        f"script = f'exec > sent{{me}} 2>&1; while kill -{name} {{me}}; do echo; done'\n"
        "def main(comm, argv):\n"
        "    threading.Timer(0.2, subprocess.Popen, [['sh', '-c', script]]).start()\n"
        "launch(main)\n"
    )
    done = start(2, "job.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert any(path.read_text().startswith("\n" * 10) for path in tmp_path.glob("sent*"))


@pytest.mark.parametrize(("body", "status"), [("pass", 0), ("raise Stop('try again', 75)", 75)])
def test_no_standard_error(tmp_path, body, status):
    job = tmp_path / "job.py"
    job.write_text(PROGRAM.format(body=f"with agreement(comm): {body}"))
    command = f"exec {sys.executable} {job} 2>&-"
    assert subprocess.run(["bash", "-c", command], timeout=60).returncode == status


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path):
    job = tmp_path / "job.py"
    job.write_text(PROGRAM.format(body="[print('x' * 1000, flush=True) for _ in range(1000)]"))
    command = f"{sys.executable} {job} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout == "x" * 1000 + "\n"
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_reading_records_changes_nothing_in_the_process(start, tmp_path):
    script = tmp_path / "read.py"
    script.write_text(
        "import os, sys; before = dict(os.environ)\n"
        "import rankwise.disk.record, rankwise.disk.summary\n"
        "assert dict(os.environ) == before and sys.excepthook is sys.__excepthook__"
    )
    done = start(None, script)
    assert done.returncode == 0, done.stderr


def test_a_rank_that_leaves_on_its_own_ends_the_others(launch):
    done = launch(2, "if comm.rank == 1: sys.exit(0)")
    assert done.returncode != 0
    assert "SystemExit" in done.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1000", 1000), ("1e8", 10**8), ("2.5e3", 2500), ("1E+18", 10**18)],
)
def test_count_reads(text, value):
    assert count(text) == value


@pytest.mark.parametrize(
    "text", ["-1", "1.5", "ten", "", "nan", "inf", "-inf", "1e19", "1e999999999", "1e-3"]
)
def test_count_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError):
        count(text)


@pytest.mark.parametrize("text", ["0", "11"])
def test_count_keeps_to_its_limits(text):
    assert count("10", 1, 10) == 10
    with pytest.raises(argparse.ArgumentTypeError, match=r"from 1 to 10$"):
        count(text, 1, 10)


@pytest.mark.mpi
def test_agreement_raises_the_lowest_ranks_mistake_everywhere(comm):
    with pytest.raises(Stop, match=f"rank {comm.size // 2}$") as caught, agreement(comm):
        if comm.rank >= comm.size // 2:
            raise Stop(f"rank {comm.rank}", status=1)
    assert caught.value.status == 1


@pytest.mark.mpi
def test_agreement_passes_where_all_is_well(comm):
    with agreement(comm):
        pass


@pytest.mark.mpi
def test_every_rank_gets_the_arguments_of_rank_0(comm):
    argv = ["--threads", "3", "--repeats", "5"] if comm.rank == 0 else ["--nonsense"]
    args = parse(comm, argparse.ArgumentParser(), argv)
    assert (args.threads, args.repeats, args.variant) == (3, 5, "auto")
    assert len(set(comm.allgather(json.dumps(vars(args))))) == 1


@pytest.mark.mpi
def test_a_job_that_cannot_grow_has_no_weak(comm):
    assert parse(comm, argparse.ArgumentParser(), ["--weak"], weak=True).weak
    with pytest.raises(Stop):
        parse(comm, argparse.ArgumentParser(), ["--weak"])


@pytest.mark.mpi
@pytest.mark.parametrize(("argv", "status"), [(["--variant", "fortran"], 2), (["--help"], 0)])
def test_usage_is_printed_once(comm, capsys, argv, status):
    with pytest.raises(Stop) as caught:
        parse(comm, argparse.ArgumentParser(), argv)
    assert caught.value.status == status
    printed = "".join(capsys.readouterr())
    assert printed.count("usage:") == (1 if comm.rank == 0 else 0)


def test_the_name_of_a_folder_is_not_empty():
    assert folder("logs/a") == Path("logs/a")
    with pytest.raises(argparse.ArgumentTypeError, match="the name of the folder is empty"):
        folder("")
