"""The log of each rank: what is in it, what it leaves alone, and what it does without a disk."""

import io
import json
import logging
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys

import pytest

from rankwise.ranks import start as ends
from rankwise.ranks.agreement import Stop
from rankwise.run import log

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z rank (\d+)  (.*)")

PROGRAM = """
from rankwise.job import Run, Stop, add_loop, launch
import logging, os, signal, time
import numpy as np
from rankwise.ranks import signals

def options(parser):
    add_loop(parser, 6, "numbers")

def main(comm, argv):
    logging.debug("of no interest")
    run = Run(comm, argv, __file__, "Add numbers.", options)
    logging.info("the job has begun")
    total = np.zeros(1)
    with run.loop({}, total.nbytes) as loop:
        loop.resume_on_all("total", total)
        for _ in run.repeats():
            for step in loop.steps(lambda: {"total": (total, "1", "so far")}):
                with run.phase("kernel"):
                    total += step
                {body}
        run.on_root(run.check, 0.0, 1.0, "exact")
        run.finish({"total": (total[0], "1", "of all")}, work=6, kernel_bytes=8)

launch(main)
"""


def content(path):
    """Return the ranks and the texts of the lines of a log, each of which has a stamp."""
    lines = [LINE.fullmatch(line) for line in path.read_text().splitlines()]
    assert lines and all(lines)
    return [(int(line[1]), line[2]) for line in lines]


def texts(path):
    return [text for _, text in content(path)]


@pytest.fixture
def begin(comm, mpi_tmp_path):
    """Return a function that begins a log and returns its path; the log ends with the test."""

    def make(name="run"):
        log.begin(comm, mpi_tmp_path / "logs", name)
        return mpi_tmp_path / "logs" / f"{name}-rank-{comm.rank}.log"

    yield make
    ends.end_earlier()


@pytest.fixture
def started(start, tmp_path):
    """Return a function that runs a job on two ranks which does ``body`` in each step."""

    def run(body, *words):
        (tmp_path / "adder.py").write_text(PROGRAM.replace("{body}", body))
        own = ("--variant", "numpy", "--output", "r.h5", "--log", "logs", "--profile", "p")
        return start(2, "adder.py", *own, *words)

    return run


@pytest.mark.mpi
def test_each_rank_writes_lines_with_a_stamp(comm, begin, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["heat.py", "--output", "a b.h5"])
    path = begin()
    logging.info("%d tasks", 3)
    logging.getLogger("library").info("heard")
    logging.getLogger("library").warning("one\ntwo\n\nfour")
    logging.debug("of no interest")
    logging.info("")
    logging.info("name\udcff.h5")
    ends.end_earlier()
    logging.error("too late")
    assert set(content(path)) >= {(comm.rank, "heard")}
    where = f"rank {comm.rank} of {comm.size}, process {os.getpid()} on {os.uname().nodename}"
    assert texts(path) == [
        *(f"{where}: heat.py --output 'a b.h5'", "3 tasks", "heard"),
        *("one", "two", "", "four", "", r"name\udcff.h5"),
    ]
    assert len(comm.allgather(path)) == len(list(path.parent.iterdir()))


@pytest.mark.mpi
def test_what_is_for_debugging_stays_out_where_a_job_asks_for_it(begin, caplog):
    caplog.set_level(logging.DEBUG)
    path = begin()
    logging.debug("of no interest")
    logging.info("step")
    # Before pytest puts its level back.
    ends.end_earlier()
    assert texts(path)[1:] == ["step"]
    assert caplog.messages == ["of no interest", "step"]


@pytest.mark.mpi
def test_what_was_set_up_before_shows_what_it_did_and_is_as_it_was(begin):
    root, shown = logging.getLogger(), io.StringIO()
    own, more = logging.StreamHandler(shown), logging.NullHandler(logging.ERROR)
    root.addHandler(own)
    root.addHandler(more)
    try:
        before = root.level, [(each, each.level) for each in root.handlers]
        path = begin()
        logging.info("step 1")
        logging.warning("hot")
        ends.end_earlier()
        assert (root.level, [(each, each.level) for each in root.handlers]) == before
    finally:
        root.removeHandler(own)
        root.removeHandler(more)
    assert shown.getvalue() == "hot\n"
    assert texts(path)[1:] == ["step 1", "hot"]


def test_what_python_prints_without_a_handler_it_still_prints(start, tmp_path):
    (tmp_path / "job.py").write_text(
        "from rankwise.job import launch\nimport logging\nfrom pathlib import Path\n"
        "from rankwise.run import log\n"
        "def main(comm, argv):\n"
        "    log.begin(comm, Path('logs'), 'job')\n"
        "    logging.info('step 1')\n"
        "    logging.getLogger('library').warning('hot')\n"
        "launch(main)\n"
    )
    done = start(None, "job.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "hot\n")
    ended = "main has ended, status 0"
    assert texts(tmp_path / "logs" / "job-rank-0.log")[1:] == ["step 1", "hot", ended]


@pytest.mark.mpi
def test_a_log_that_cannot_be_written_ends_with_one_warning(begin, capsys):
    path = begin()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        for _ in range(3):
            logging.info("step")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    # It has ended, also where there is room again.
    logging.info("step")
    ends.end_earlier()
    program = os.path.basename(sys.argv[0])
    text = f"{program}: warning: the log {path} ends here: File too large\n"
    assert capsys.readouterr().err == text
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("path", "why"),
    [("/dev/full", "No space left on device"), ("/proc/x/a.log", "No such file or directory")],
)
def test_what_cannot_be_written_is_told_once_and_ends_nothing(capsys, path, why):
    file, root = log._File(path, "rank 0"), logging.getLogger()
    root.addHandler(file)
    try:
        for _ in range(3):
            logging.error("lost")
        file.close()
    finally:
        root.removeHandler(file)
    told = capsys.readouterr().err
    assert told.count("warning: ") == told.count(f"the log {path} ends here: {why}\n") == 1


def test_a_log_that_cannot_be_closed_ends_nothing():
    # As a network's file system tells at last that it had no room.
    file = log._File("/dev/full", "rank 0")
    file.stream = open("/dev/full", "w")
    file.stream.write("step")
    file.close()


@pytest.mark.mpi
def test_a_message_that_does_not_fit_its_arguments_does_not_end_the_log(begin, capsys):
    # Given to this handler alone: those of pytest raise the error.
    root, path = logging.getLogger(), begin()
    (file,) = (each for each in root.handlers if isinstance(each, log._File))
    file.handle(logging.LogRecord("job", logging.INFO, "job.py", 7, "%d", ("one",), None))
    logging.info("step")
    assert texts(path)[1:] == ["step"]
    assert "job.py" in capsys.readouterr().err


@pytest.mark.mpi
def test_of_a_long_log_the_end_is_kept(comm, begin, monkeypatch):
    monkeypatch.setattr(log, "MOST_BYTES", 1000)
    path = begin()
    for number in range(100):
        logging.info("step %d", number)
    ends.end_earlier()
    files = [path.with_name(f"{path.name}.1"), path]
    full, last = (each.read_bytes() for each in files)
    # It ends with the line that makes it so long.
    assert len(full[: full.rstrip().rindex(b"\n") + 1]) < 1000 <= len(full)
    assert 0 < len(last) < 1000
    # Each says whose it is.
    assert texts(path)[0] == texts(files[0])[0]
    assert texts(path)[0].startswith(f"rank {comm.rank} of {comm.size}, process {os.getpid()} on ")
    kept = [text for each in files for text in texts(each)[1:]]
    assert kept == [f"step {number}" for number in range(100 - len(kept), 100)]
    # More than one file holds.
    assert len(kept) * len(path.read_text().splitlines()[0]) > 1000


@pytest.mark.mpi
def test_a_folder_that_goes_away_is_told_once(begin, monkeypatch, capsys):
    monkeypatch.setattr(log, "MOST_BYTES", 1000)
    path = begin()
    shutil.rmtree(path.parent, ignore_errors=True)
    for number in range(100):
        logging.info("step %d", number)
    ends.end_earlier()
    assert capsys.readouterr().err.count("warning: ") == 1


@pytest.mark.mpi
def test_two_runs_in_one_folder_have_logs_of_their_own(comm, begin):
    first = begin("run-1")
    ends.end_earlier()
    whole = first.read_bytes()
    second = begin("run-2")
    logging.info("step")
    ends.end_earlier()
    assert first.read_bytes() == whole
    assert texts(second)[1:] == ["step"]


@pytest.mark.mpi
@pytest.mark.parametrize("who", ["all", "the last rank"])
def test_a_folder_that_cannot_be_had_is_refused_on_all_ranks(comm, mpi_tmp_path, who):
    root, good, bad = logging.getLogger(), mpi_tmp_path / "logs", mpi_tmp_path / "file"
    before, handlers = root.level, list(root.handlers)
    if comm.rank == 0:
        bad.touch()
    comm.Barrier()
    wrong = who == "all" or comm.rank == comm.size - 1
    with pytest.raises(Stop, match=f"^--log {bad} is not a folder$") as caught:
        log.begin(comm, bad if wrong else good, "run")
    assert caught.value.status == 2 and caught.value.agreed
    assert (root.level, root.handlers, ends.endings) == (before, handlers, [])
    comm.Barrier()
    assert list(good.glob("*")) == []


STOPPED = """
                if step == 3 and comm.rank == 1:
                    os.kill(os.getpid(), signal.SIGUSR1)
                    while not signals.weight(): time.sleep(0.001)
"""


def test_a_run_that_a_signal_stops_and_that_goes_on(started, tmp_path):
    done = started(STOPPED.strip(), "--checkpoint", "c.h5", "--checkpoint-every", "1")
    assert done.returncode == 75
    logs = sorted((tmp_path / "logs").iterdir())
    assert [path.name[-10:] for path in logs] == ["rank-0.log", "rank-1.log"]
    lines, others = map(texts, logs)
    stopped = "adder.py: stopped by SIGUSR1 after step 3: the same command goes on from c.h5"
    assert done.stderr.count(f"{stopped}\n") == 1
    rest = iter(lines)
    expected = [
        "warning: the times contain what --profile takes",
        *("warning: the times contain what --log takes", "the job has begun"),
        *("warm-up", "repeat 0", "step 1", "begin kernel", "begin checkpoint"),
        *("checkpoint of step 1 in c.h5", "step 2", "checkpoint of step 2 in c.h5", "step 3"),
        *("checkpoint of step 3 in c.h5", stopped),
    ]
    assert [text for text in expected if text not in rest] == []
    assert re.fullmatch(r"rank 0 of 2, process \d+ on \S+: adder.py .* --log logs .*", lines[0])
    assert re.fullmatch(r"end kernel after \d+\.\d{6} s", lines[lines.index("begin kernel") + 1])
    assert "of no interest" not in lines
    rest = iter(others)
    expected = ["the job has begun", "warm-up", "repeat 0", "step 1", "begin kernel", "step 3"]
    assert [text for text in expected if text not in rest] == []
    # A profile is written, too, and takes nothing from the status.
    assert len(list((tmp_path / "p").iterdir())) == 3

    whole = [path.read_bytes() for path in logs]
    done = started("pass", "--checkpoint", "c.h5", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{") and done.stdout.count("\n") == 1
    assert [path.read_bytes() for path in logs] == whole
    (second,) = set((tmp_path / "logs").glob("*-rank-0.log")) - set(logs)
    (table,) = (tmp_path / "p").glob(f"{second.name[:-11]}-profile.txt")
    table = table.relative_to(tmp_path)
    assert any(text.startswith("goes on after step 3 of c.h5") for text in texts(second))
    assert texts(second)[-4] == "main has ended, status 0"
    assert texts(second)[-1] == f"a profile of all ranks: {table}"
    assert "record r.h5" in texts(second)
    warned = [f"the times contain what --{option} takes" for option in ("profile", "log")]
    assert json.loads(done.stdout)["warnings"] == warned
    assert all(done.stderr.count(f"adder.py: warning: {text}\n") == 1 for text in warned)
    assert f"adder.py: a profile of all ranks: {table}\n" in done.stderr


def test_a_rank_that_raises_tells_its_log_and_leaves_no_profile(started, tmp_path):
    done = started("if step == 2 and comm.rank == 1: raise ValueError('wrong turn')")
    assert done.returncode == 1
    assert list((tmp_path / "p").iterdir()) == []
    logs = sorted((tmp_path / "logs").iterdir())
    lines = [text for rank, text in content(logs[1]) if rank == 1]
    told = lines[lines.index("Traceback (most recent call last):") - 1 :]
    assert told[0].startswith("rank 1 of 2 on ") and told[-1] == "ValueError: wrong turn"
    assert "\n".join(told) in done.stderr
    # All in the order of time, and what has several lines in their order.
    words = f"sort -m {shlex.join(map(str, logs))}"
    merged = subprocess.run(words, shell=True, capture_output=True, text=True, check=True).stdout
    every = [LINE.fullmatch(line) for line in merged.splitlines()]
    stamps = [line[0][:27] for line in every]
    assert stamps == sorted(stamps)
    assert len(every) == sum(len(texts(each)) for each in logs)
    assert [line[2] for line in every if line[1] == "1"] == lines
