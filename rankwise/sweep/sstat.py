"""What Slurm says of the memory, reading and writing of a step, while it runs, on all its nodes."""

import os
import re
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

# After so many seconds of a launch, then after as long again each time, a minute at most. Each
# question goes to all nodes of the step, and sites ask for few.
_FIRST_SECONDS = 2.0
_LONGEST_SECONDS = 60.0
# srun may still wait for its step at the first.
_FAILURES = 3
_KILL_SECONDS = 1.0
_MOST_BYTES = 2**20
_STEP = re.compile(r"\.(\d{1,18})$")
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)([KMGTP]?)$")
# Where Slurm has no value it may write the largest one.
_MOST = 2**60


@dataclass
class Sstat:
    """Asks ``sstat`` about the step of a run, and waits for no answer.

    Slurm looks at ranks by itself, as a rule every 30 seconds.

    Attributes
    ----------
    job : str
    step : str
        Empty if it is not known: then the latest.
    figures : dict
        Of all ranks [bytes]: ``largest_rank_bytes``, the most of any rank when Slurm looked;
        ``read_bytes`` and ``written_bytes``, by system calls. The largest of all answers; what it
        does not tell is absent.
    """

    job: str
    step: str = ""
    figures: dict[str, int] = field(default_factory=dict)
    _due: float = _FIRST_SECONDS
    _asked: "subprocess.Popen[bytes] | None" = None
    # Not a pipe: whatever a site's wrapper leaves behind would hold that open.
    _answer: IO[bytes] | None = None
    _failures: int = 0

    def __call__(self, passed: float) -> None:
        """Take an answer if there is one, and ask if it is time.

        Parameters
        ----------
        passed : float
            Since the run began [s].
        """
        self._take()
        if self._asked is None and passed >= self._due:
            self._due = passed + min(passed, _LONGEST_SECONDS)
            self._ask()

    def end(self) -> dict[str, int]:
        """Return the figures; an answer that has not come is not waited for."""
        self._take()
        if self._asked is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._asked.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._asked.wait(_KILL_SECONDS)
            self._asked = None
        if self._answer is not None:
            self._answer.close()
        return self.figures

    def _ask(self) -> None:
        words = ["sstat", "--allsteps", "--noheader", "--parsable2", "--noconvert"]
        words += [f"--jobs={self.job}.{self.step}" if self.step else f"--jobs={self.job}"]
        words += ["--format=JobID,MaxRSS,TRESUsageInTot,TRESUsageOutTot"]
        nothing = subprocess.DEVNULL
        try:
            self._answer = tempfile.TemporaryFile()
            self._asked = subprocess.Popen(
                words, stdin=nothing, stdout=self._answer, stderr=nothing, start_new_session=True
            )
        except OSError:
            self._due = float("inf")

    def _take(self) -> None:
        if self._asked is None or self._answer is None or self._asked.poll() is None:
            return
        self._asked = None
        with self._answer:
            self._answer.seek(0)
            answer = read(self._answer.read(_MOST_BYTES).decode(errors="replace"))
        # It fails with status 0.
        self._failures = 0 if answer else self._failures + 1
        if self._failures == _FAILURES:
            self._due = float("inf")
        for name, value in answer.items():
            self.figures[name] = max(value, self.figures.get(name, 0))


def read(text: str) -> dict[str, int]:
    """Read what ``sstat`` prints, of the latest step that is numbered; nothing if there is none."""
    lines = [line.split("|") for line in text.splitlines()]
    steps = [(int(found[1]), line) for line in lines if (found := _STEP.search(line[0]))]
    if not steps or len(line := max(steps)[1]) != 4:
        return {}
    into, out = (dict(part.split("=", 1) for part in each.split(",") if "=" in part)
                 for each in line[2:])  # fmt: skip
    told = {
        "largest_rank_bytes": line[1],
        "read_bytes": into.get("fs/disk", ""),
        "written_bytes": out.get("fs/disk", ""),
    }
    sizes = {name: _bytes(value) for name, value in told.items()}
    return {name: size for name, size in sizes.items() if size is not None}


def _bytes(text: str) -> int | None:
    """Read ``8007680``, ``7820K`` or ``1.00M``; None if it is no size."""
    found = _SIZE.match(text)
    size = int(float(found[1]) * 1024 ** " KMGTP".index(found[2] or " ")) if found else _MOST
    return size if size < _MOST else None
