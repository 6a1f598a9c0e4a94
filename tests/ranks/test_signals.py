"""Signals to a process that has imported `rankwise.ranks.guard`, whatever its main thread does."""

import signal
import subprocess
import sys
import time

import pytest

START = """\
import rankwise.ranks.guard, contextlib, ctypes, os, threading, time
from rankwise.ranks import signals

def in_c(seconds):
    # A read from a pipe: no handler of Python's is called meanwhile, and no signal interrupts it.
    reader, writer = os.pipe()
    threading.Timer(seconds, os.write, (writer, b"x")).start()
    print("ready", flush=True)
    ctypes.CDLL(None).read(reader, ctypes.create_string_buffer(1), 1)
    print("over", flush=True)

"""
# Lets the watching thread see a signal that has been sent, and then tells what it saw.
SEEN = "time.sleep(0.3); print(signals.weight(), flush=True)\n"


def run(script, *numbers):
    """Start a script, send it signals once it is ready; return its status and its output."""
    command = [sys.executable, "-c", START + script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            for number in numbers:
                process.send_signal(number)
                # Two of the same that are pending at once are one.
                time.sleep(0.1)
            output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert errors == ""
    return process.returncode, output


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_ends_at_once_also_in_c(number, status):
    # Not after half an hour: `run` waits for 20 s.
    assert run("in_c(1800)", number) == (status, "")


def test_usr1_is_remembered_and_interrupts_nothing():
    assert run("in_c(1)\n" + SEEN, signal.SIGUSR1) == (0, "over\n1\n")


@pytest.mark.parametrize(
    ("numbers", "weight"),
    [
        ([signal.SIGTERM], 2),
        ([signal.SIGINT], 3),
        ([signal.SIGUSR1, signal.SIGTERM], 2),
        ([signal.SIGTERM, signal.SIGUSR1], 2),
        ([signal.SIGTERM, signal.SIGTERM], 2),
        ([signal.SIGINT, signal.SIGTERM], 3),
    ],
)
def test_inside_kept_the_heaviest_counts(numbers, weight):
    script = f"with signals.kept():\n    in_c(1)\n    {SEEN}"
    script += "    os._exit(7)"
    assert run(script, *numbers) == (7, f"over\n{weight}\n")


@pytest.mark.parametrize("first", [[], [signal.SIGUSR1]])
def test_a_second_sigint_ends_at_once(first):
    script = "with signals.kept():\n    in_c(1800)\n"
    assert run(script, *first, signal.SIGINT, signal.SIGINT) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_what_was_not_answered_inside_kept_is_forgotten(number):
    script = "with signals.kept(): in_c(1)\nprint('after', flush=True)"
    assert run(script, number) == (0, "over\nafter\n")


def test_what_an_exception_answers_does_not_end():
    script = "with contextlib.suppress(ValueError), signals.kept():\n"
    script += "    in_c(1)\n    raise ValueError\n"
    script += "print('after', flush=True)"
    assert run(script, signal.SIGTERM) == (0, "over\nafter\n")


@pytest.mark.parametrize("inside", [True, False])
def test_undone(tmp_path, inside):
    path = tmp_path / "temporary"
    script = f"path = {str(path)!r}; open(path, 'w').close()\n"
    script += (
        f"with signals.undone(lambda: os.unlink(path)):\n    {'in_c(30)' if inside else 'pass'}\n"
    )
    assert run(script + ("" if inside else "in_c(30)"), signal.SIGTERM)[0] == 143
    assert path.exists() == (not inside)


@pytest.mark.parametrize("action", ["fail", "never_end"])
def test_what_is_done_before_the_end_cannot_keep_it_from_ending(action):
    script = "signals._UNDO_SECONDS = 0.5\n"
    script += "def fail():\n    raise MemoryError\n"
    script += "def never_end():\n    time.sleep(1800)\n"
    script += f"with signals.undone({action}):\n    in_c(1800)\n"
    assert run(script, signal.SIGTERM) == (143, "")


def test_the_last_is_undone_first_and_may_undo_itself():
    script = "said = lambda text: lambda: os.write(1, text)\n"
    script += "def write():\n    with signals.undone(said(b'never ')): os.write(1, b'write ')\n"
    script += "with signals.undone(write), signals.undone(said(b'remove ')):\n    in_c(1800)\n"
    assert run(script, signal.SIGTERM) == (143, "remove write ")


def test_weights_and_names():
    from rankwise.ranks import signals

    numbers = [signals.of_weight(weight) for weight in (1, 2, 3)]
    assert numbers == [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT]
    assert [signals.STATUS[number] for number in numbers] == [75, 143, 130]
