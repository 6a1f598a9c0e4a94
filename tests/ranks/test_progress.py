import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankwise.ranks import progress
from rankwise.ranks.progress import Progress
from rankwise.ranks.words import counted, duration, short

JOB = """
import os, time
import rankwise.ranks.guard
from mpi4py import MPI
from rankwise.ranks import progress
progress._LOG_SECONDS = progress._TERMINAL_SECONDS = 0.1
with progress.Progress(5, "step", MPI.COMM_WORLD.rank == 0) as bar:
    for n in bar.over(range(5)):
        time.sleep(0.15)
"""
MPIRUN = Path(sys.executable).parent / "mpirun"


def on_a_terminal(*command, status=0, output=False):
    """Run a command with its standard error on a terminal, and return what came out there.

    So with its standard output, if that is asked for.
    """
    outer, inner = pty.openpty()
    try:
        stdout = inner if output else None
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=inner)
        os.close(inner)
        shown, end = b"", time.monotonic() + 30
        while time.monotonic() < end:
            if select.select([outer], [], [], 0.1)[0]:
                try:
                    shown += os.read(outer, 4096)
                except OSError:
                    break
        assert process.wait(10) == status
        return shown.decode()
    finally:
        os.close(outer)


@pytest.mark.parametrize("launcher", [[], [str(MPIRUN), "-n", "2"]], ids=["bare", "mpirun"])
def test_on_a_terminal_one_line_changes(launcher):
    shown = on_a_terminal(*launcher, sys.executable, "-c", JOB)
    assert "\n" not in shown
    parts = [part.strip() for part in shown.split("\r") if part.strip()]
    assert parts == [f"step {n} of 5, {20 * n} %, {duration(0.15 * (5 - n))} left" for n in
                     (1, 2, 3, 4)]  # fmt: skip
    # Nothing of it stays.
    assert shown.endswith("\r")


def test_a_failure_leaves_no_line_on_a_terminal():
    shown = on_a_terminal(sys.executable, "-c", JOB.replace("0.15)", "0.15); n > 2 and 1 / 0", 1)
                          + "\n", status=1)  # fmt: skip
    before, _, error = shown.partition("Traceback")
    assert "40 %" in before and before.endswith("\r")
    assert "ZeroDivisionError" in error


def test_lines_stand_above_the_one_that_changes():
    script = """
from rankwise.ranks.progress import Progress
import time
with Progress(3, "run", True) as bar:
    bar.show()
    bar.say("before")
    time.sleep(0.3)
    bar.advance()
    bar.say("after the first")
"""
    shown = on_a_terminal(sys.executable, "-c", script, output=True)
    # What a terminal keeps of it: each line end follows text that begins a line.
    text = "run 0 of 3, 0 %"
    lines = shown.replace("\r\n", "\n").split("\n")
    assert lines[0] == f"\r{text}\r{'':{len(text)}}\rbefore"
    assert lines[1].startswith(f"\r{text}\rrun 1 of 3, 33 %, 1 s left\r")
    assert lines[1].endswith("\rafter the first")
    assert lines[2].strip("\r ") == "run 1 of 3, 33 %, 1 s left"


def test_a_rank_that_does_not_tell_shows_nothing(capsys):
    with Progress(3, "run", False) as bar:
        bar.show()
        bar.advance()
        bar.say("a line")
    assert capsys.readouterr() == ("a line\n", "")


@pytest.mark.parametrize("ranks", [None, 2])
def test_in_a_log_there_are_lines(start, ranks):
    done = start(ranks, "-c", JOB)
    assert "\r" not in done.stderr
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 4
    assert all(re.fullmatch(r"step \d of 5, \d0 %, \d s left", line) for line in lines)


def test_a_pipe_of_the_users_own_is_a_log():
    command = f"{MPIRUN} -n 1 {sys.executable} -c '{JOB}' 2>&1 | cat >&2"
    shown = on_a_terminal("bash", "-c", command)
    # The terminal itself makes \r\n of each line end.
    assert "\r" not in shown.replace("\r\n", "") and shown.count("\n") >= 2


def test_a_long_run_leaves_a_short_log(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "on_terminal", lambda: False)
    # A step a second, for a day.
    for _ in Progress(86400, "step", True).over(range(86400)):
        now[0] += 1
    lines = capsys.readouterr().err.splitlines()
    assert 50 < len(lines) < 120
    assert lines[0] == "step 10 of 86400, 0 %, 24.0 h left"


def test_a_run_of_seconds_says_nothing(capsys):
    with Progress(100, "step", True) as bar:
        assert list(bar.over(range(100))) == list(range(100))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89.4, "89 s"), (91, "2 min"), (5399, "90 min"), (7200, "2.0 h")],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("n", "thing", "words"),
    [(1, "launch", "1 launch"), (3, "launch", "3 launches"), (0, "rank", "0 ranks")],
)
def test_counted(n, thing, words):
    assert counted(n, thing) == words


def test_what_an_earlier_run_has_done_counts_as_done_but_took_no_time():
    script = "from rankwise.ranks import progress; import time; progress._LOG_SECONDS = 0.1\n"
    script += "for n in progress.Progress(100, 'step', True, 96).over(range(4)): time.sleep(0.2)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("step 97 of 100, 97 %, ") and len(lines) == 3
    # Three more, not a twenty-fourth of what is done.
    assert re.fullmatch(r"step 97 of 100, 97 %, [1-9] s left", lines[0])


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.02264, "0.0226"), (83.14, "83.1"), (999.4, "999"), (999.7, "1000"), (1370.2, "1370"),
     (12345.6, "12346"), (-1370.2, "-1370"), (0.0, "0")],
)  # fmt: skip
def test_numbers_have_no_exponent_from_a_thousand_on(number, text):
    assert short(number) == text


def test_of_uneven_parts_nobody_knows_how_long_the_rest_takes(capsys):
    for even in (True, False):
        progress = Progress(4, "task", True, even=even)
        progress.done = 2
        progress.show()
        assert ("left" in capsys.readouterr().err) == even
