"""Whose words are whose in the output of a run: the program's, or those of what started it."""

import re
from collections import Counter

END_LINES, END_CHARACTERS = 40, 4000
_LONGEST_LINE = 200

# Open MPI and MPICH print blocks between such lines when a rank ends badly, or the launcher was
# ended. They tell that it did, which is known, and not why.
_RULE = re.compile(r"-{40,}|={40,}")
_STARTED = re.compile(r"BAD TERMINATION OF ONE OF YOUR|Primary job|processes? exited|MPI_ABORT")
_LONGEST_BLOCK = 60
_BANNER = re.compile(
    r"mpirun|prterun|mpiexec|orterun|Primary job|MPI_ABORT|BAD TERMINATION OF ONE OF YOUR"
)
_LINES = re.compile(
    r"^(?:\d+: )?(?:srun: .*|slurmstepd: .*|\[(?:proxy|mpiexec|prterun|prted)[^\]]*\].*"
    r"|Abort\(\d+\) on node \d+ .*application called MPI_Abort.*"
    r"|YOUR APPLICATION TERMINATED WITH .*|This typically refers to a problem with your .*"
    r"|Please see the FAQ page for .*)$\n?",
    re.MULTILINE,
)
_ERROR = re.compile(r"error|exception|fatal|abort|cannot|failed|not found|no such", re.IGNORECASE)
# With these words launchers say that they ended the ranks, whatever the status is that they return.
_ABORTED = re.compile(
    r"^(?:\d+: )?(?:"
    r"srun: (?:Job step aborted|Force Terminated|Terminating|error: .*(?:[Kk]illed|Terminated|"
    r"Exited with exit code|Segmentation fault|Aborted|Bus error|Terminating))"
    r"|slurmstepd: error: \*\*\* (?:STEP|JOB) .* CANCELLED"
    r"|=\s+BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES).*$",
    re.MULTILINE,
)
# Lines that two copies of a program share, of all that they print.
_COPIED_SHARE, _COPIED_LINES = 0.75, 10


def of_program(text: str) -> str:
    """Return an output without what the launcher says when a rank ends badly.

    If nothing else is there and no rank was started, the launcher itself failed: then all of it.
    """
    lines, kept, k = text.splitlines(keepends=True), [], 0
    while k < len(lines):
        block = _block(lines[k : k + _LONGEST_BLOCK])
        if not _BANNER.search("".join(block)):
            block = lines[k : k + 1]
            kept += block
        k += len(block)
    rest = _LINES.sub("", "".join(kept))
    return rest if rest.strip() or _STARTED.search(text) else text


def _block(lines: list[str]) -> list[str]:
    """Return the lines from a rule to the next one; none if the first is no rule."""
    if not _RULE.fullmatch(lines[0].strip()):
        return []
    ends = (k for k, line in enumerate(lines[1:], 1) if line[:1] == lines[0][0])
    last = next((k for k in ends if _RULE.fullmatch(lines[k].strip())), None)
    return [] if last is None else lines[: last + 1]


def end_of(text: str) -> str:
    """Return the last lines that the program printed."""
    lines = of_program(text[-(2**16) :]).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return "\n".join(lines[-END_LINES:])[-END_CHARACTERS:]


def first_line(text: str) -> str:
    """Return the first line that the program printed: many tell their name and version there."""
    lines = of_program(text[: 2**16]).splitlines()
    line = next((line for line in lines if any(map(str.isalnum, line))), "")
    return line.strip()[:_LONGEST_LINE]


def error_line(end: str) -> str:
    """Return the line that says best what went wrong, of the last lines of a program."""
    lines = [line.strip() for line in end.splitlines() if any(map(str.isalnum, line))]
    errors = [line for line in lines if _ERROR.search(line)]
    chosen = (errors or lines or [""])[-1]
    return "".join(c for c in chosen if c.isprintable())[:_LONGEST_LINE]


def aborted(text: str) -> str:
    """Return the line in which a launcher says that it ended the ranks; empty if none does."""
    match = _ABORTED.search(text)
    return match[0].strip(" =")[:200] if match else ""


def copies(text: str, ranks: int) -> tuple[bool, bool]:
    """Tell whether every rank seems to have printed the whole output of a program.

    Two serial runs of LAMMPS have 88 of 104 lines in common, all but times and memory; ranks that
    share their work have none.

    Returns
    -------
    alike : bool
        Three quarters of the lines are there as often as there are ranks, or a multiple of it.
    sure : bool
        And these are ten different lines or more.
    """
    counts = Counter(line.strip() for line in text.splitlines() if line.strip())
    repeated = {line: n for line, n in counts.items() if n % ranks == 0}
    alike = sum(repeated.values()) >= _COPIED_SHARE * sum(counts.values()) > 0
    return alike, alike and len(repeated) >= _COPIED_LINES
