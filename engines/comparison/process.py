"""An engine in processes of its own: it starts, is asked, and ends with all that it has started."""

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from engines.comparison.served import ANSWER

SERVED = Path(__file__).with_name("served.py")

# A variable of this name is inherited by all that an engine starts, daemons included.
MARK = "RANKWISE_ENGINE"

# How long an engine may take to end by itself, and then what it has started [s].
PATIENCE_SECONDS, HELPER_SECONDS = 5.0, 2.0

# An engine may need a rank more than there are cores, which Open MPI, 5 and 4, allows only then.
OVERSUBSCRIBE = {
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


@dataclass(frozen=True)
class Engine:
    """What is known of an engine before it is measured.

    Attributes
    ----------
    name : str
        Its module is ``engines/<name>_.py``.
    package : str
        That has to be there.
    nodes : str
        Whether its workers can be on several nodes.
    limit : float
        How long it may take in all [s].
    other_ranks : int or None
        If it runs under mpirun, how many ranks it needs besides those of the workers.
    words : tuple of str
        What stands between Python and the program.
    """

    name: str
    package: str = "numba"
    nodes: str = "no"
    limit: float = 30.0
    other_ranks: int | None = None
    words: tuple[str, ...] = ()

    def command(self, workers):
        """Return what starts it."""
        program = [sys.executable, *self.words, str(SERVED), self.name, str(workers)]
        if self.other_ranks is None:
            return program
        return [mpirun(), "--bind-to", "none", "-n", str(workers + self.other_ranks), *program]


def mpirun():
    """Return the launcher of this environment, or else the one on PATH; None if there is none."""
    return shutil.which("mpirun", path=Path(sys.executable).parent) or shutil.which("mpirun")


# How Python tells of an exception, and our programs of a mistake.
TOLD = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)\b|\w+(\.py)?: error: ")


class Gone(Exception):
    """The program of the engine has ended; the text says how."""


class Raised(Exception):
    """A task has raised an exception, which the engine has handed on."""


class Silent(Exception):
    """There was no answer in time."""


Failure = (Gone, Raised, Silent)


class Running:
    """An engine that runs; as a context, after which nothing of it does.

    Parameters
    ----------
    engine : Engine
    workers : int
    deadline : float
        When it has to have answered, by `time.monotonic` [s].

    Attributes
    ----------
    start_up : float
        From its start, Python and imports included, until every worker has done tasks [s].
    killed : int
        Processes that had to be killed at the end.
    """

    def __init__(self, engine, workers, deadline):
        self._deadline, self._mark = deadline, uuid.uuid4().hex
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        self._lines = queue.SimpleQueue()
        self.killed = 0
        start = time.monotonic()
        self._process = subprocess.Popen(
            engine.command(workers),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            errors="replace",
            env={**OVERSUBSCRIBE, **os.environ, MARK: self._mark},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._answer(deadline)
        except BaseException:
            self._end()
            raise
        self.start_up = time.monotonic() - start

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end()

    def ask(self, name, within=float("inf"), **arguments):
        """Let the workers do tasks; return what is answered.

        Parameters
        ----------
        name : str
        **arguments
            See `engines.comparison.tasks.named`.
        within : float
            How long that may take [s].

        Raises
        ------
        Gone, Raised, Silent
        """
        with suppress(OSError):
            print(json.dumps({"name": name, **arguments}), file=self._process.stdin, flush=True)
        return self._answer(min(self._deadline, time.monotonic() + within))

    def memory(self):
        """Return the memory of all its processes now; what they share counts once [bytes]."""
        total = 0
        for process in self._members():
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total

    def _read(self):
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                self._lines.put(json.loads(line.removeprefix(ANSWER)))
        self._lines.put(None)

    def _answer(self, until):
        try:
            facts = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise Silent from None
        if facts is None:
            raise Gone(self._how_it_ended())
        if "error" in facts:
            raise Raised(facts["error"])
        return facts

    def _how_it_ended(self):
        status = self._process.wait()
        self._errors.seek(0)
        # Of a traceback the last line says what it was; launchers add lines of their own.
        told = [line.strip() for line in self._errors if TOLD.match(line)]
        signal = f"signal {-status}" if status < 0 else f"status {status}"
        return f"{signal}: {told[-1]}" if told else signal

    def _members(self):
        """Return all processes that carry the mark, however they were started."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
        return found

    def _end(self):
        with suppress(OSError, ValueError):
            # The last request. Not every launcher tells its ranks that standard input has ended.
            print("null", file=self._process.stdin, flush=True)
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_SECONDS)
        # Helpers end after the program, and clean up; those that Python starts ignore SIGTERM.
        for ask in (None, psutil.Process.terminate, psutil.Process.kill):
            members = self._members()
            self.killed += len(members) if ask is psutil.Process.terminate else 0
            for process in members if ask else ():
                with suppress(psutil.Error):
                    ask(process)
            psutil.wait_procs(members, timeout=HELPER_SECONDS)
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._errors.close()
