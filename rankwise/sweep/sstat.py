"""What Slurm says of the memory, reading and writing of a step, while it runs, on all its nodes."""

import re
import subprocess
from dataclasses import dataclass, field

# After so many seconds of a run, and after twice as many again and again: each question goes to all
# nodes of the step, and sites ask for few.
_FIRST_SECONDS = 2.0
_STEP = re.compile(r"\.(\d+)$")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)$")
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
        ``all_ranks_bytes``, of all at a time; ``read_bytes`` and ``written_bytes``, by system
        calls. The largest of all answers; what it does not tell is absent.
    """

    job: str
    step: str = ""
    figures: dict[str, int] = field(default_factory=dict)
    _due: float = _FIRST_SECONDS
    _asked: "subprocess.Popen[str] | None" = None

    def __call__(self, passed: float) -> None:
        """Take an answer if there is one, and ask if it is time.

        Parameters
        ----------
        passed : float
            Since the run began [s].
        """
        self._take()
        if self._asked is None and passed >= self._due:
            self._due = 2 * passed
            self._ask()

    def end(self) -> dict[str, int]:
        """Return the figures; an answer that has not come is not waited for."""
        self._take()
        if self._asked is not None:
            self._asked.kill()
            self._asked.communicate()
        return self.figures

    def _ask(self) -> None:
        words = ["sstat", "--allsteps", "--noheader", "--parsable2", "--noconvert"]
        words += [f"--jobs={self.job}.{self.step}" if self.step else f"--jobs={self.job}"]
        words += ["--format=JobID,MaxRSS,TRESUsageInTot,TRESUsageOutTot"]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        try:
            self._asked = subprocess.Popen(
                words, stdin=nothing, stdout=pipe, stderr=nothing, text=True, errors="replace"
            )
        except OSError:
            self._due = float("inf")

    def _take(self) -> None:
        if self._asked is None or self._asked.poll() is None:
            return
        answer = read(self._asked.communicate()[0])
        self._asked = None
        if not answer:
            # It fails with status 0. What has failed is not asked for again.
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
        "all_ranks_bytes": into.get("mem", ""),
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
