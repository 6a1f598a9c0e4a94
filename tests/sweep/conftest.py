"""The command in this process, where it need not start Python once more."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rankwise.__main__ import main
from rankwise.sweep import interrupts


@pytest.fixture(autouse=True)
def first_on_the_path(monkeypatch):
    """The launcher of this environment, also where the machine has one of another MPI."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    monkeypatch.setenv("PATH", path)


@pytest.fixture
def rankwise(tmp_path, monkeypatch, capfd):
    """Return a function that runs ``rankwise ...`` in a folder of its own, as a process would."""

    def run(*words, env=None):
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            before = {number: signal.getsignal(number) for number in interrupts._NUMBERS}
            received = []
            patch.setattr(interrupts, "_received", received)
            capfd.readouterr()
            try:
                status = main([str(word) for word in words])
            except SystemExit as end:
                status = end.code
            finally:
                # What ignores a signal hands that on to all that it starts.
                for number, handler in before.items():
                    signal.signal(number, handler)
            if received:
                # Meant for pytest.
                pytest.exit("terminated", returncode=128 + received[0])
        shown = capfd.readouterr()
        return subprocess.CompletedProcess(words, status, shown.out, shown.err)

    return run
