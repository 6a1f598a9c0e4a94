"""What the kernel says of processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from rankwise.sweep.processes import status

NAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, eval(sys.argv[1]), 0, 0, 0)
print(flush=True)
input()
"""


@pytest.mark.parametrize("end", [b"\x0b", b"\x0c", b"\x1c", b"\r", b"\n", b"\xe2\x80\xa8"])
def test_a_process_cannot_say_by_its_name_what_it_holds(end):
    words = [sys.executable, "-c", NAMED, repr(b"a" + end + b"VmHWM:x")]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as process:
        process.stdout.readline()
        found = status(Path(f"/proc/{process.pid}"))
        process.stdin.close()
    assert found["VmHWM"].endswith(" kB") and "VmHWM:x" in found["Name"]


def test_the_first_of_two_lines_counts(tmp_path):
    (tmp_path / "status").write_text("PPid:\t7\nPPid:\t8\n")
    assert status(tmp_path)["PPid"] == "7"


def test_nothing_is_known_of_a_process_that_has_ended(tmp_path):
    assert status(tmp_path) == {}
