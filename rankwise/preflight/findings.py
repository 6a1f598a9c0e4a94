"""What a job that checks things has found: OK, a warning, or wrong, and what to do about it."""

from typing import TYPE_CHECKING

from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.words import printable

if TYPE_CHECKING:
    from mpi4py import MPI


class Findings:
    """The checks so far; rank 0 knows them all and tells.

    Parameters
    ----------
    tell : bool
        Whether to print each as soon as it is known.

    Attributes
    ----------
    checks : list of dict
        ``check``, its name; ``verdict``: ``OK``, ``warning`` or ``wrong``; ``text``.
    """

    def __init__(self, tell: bool) -> None:
        self.tell, self.checks = tell, list[dict[str, str]]()

    def add(self, check: str, text: str, *problems: str | None, verdict: str = "warning") -> None:
        """Note how a check went.

        Parameters
        ----------
        check : str
            Its name.
        text : str
            What was found; may be empty if there is a problem.
        *problems : str or None
            What is wrong with it and what to do, a finding each; it is OK if there are none.
        verdict : str
            Of the problems.
        """
        for problem in [problem for problem in problems if problem] or [""]:
            found = verdict if problem else "OK"
            words = ": ".join(part for part in (text, problem) if part)
            self.checks.append({"check": check, "verdict": found, "text": words})
            self.show(f"  {found:<8} {check:<9} {words}")

    def show(self, line: str) -> None:
        """Print a line, if anything is to be printed."""
        if self.tell:
            print(printable(line), flush=True)

    def of(self, verdict: str) -> list[str]:
        """Return the findings of a verdict, each with the name of its check."""
        chosen = [row for row in self.checks if row["verdict"] == verdict]
        return [f"{row['check']}: {row['text']}" for row in chosen]

    def end(self, comm: "MPI.Comm") -> None:
        """End the run if anything is wrong. Collective over `comm`.

        Raises
        ------
        Stop
            Naming the checks; status 1.
        """
        wrong = sorted({row["check"] for row in self.checks if row["verdict"] == "wrong"})
        with agreement(comm):
            if wrong:
                number = len(self.of("wrong"))
                names = ", ".join(wrong)
                raise Stop(f"{number} of {len(self.checks)} checks failed: {names}", status=1)
