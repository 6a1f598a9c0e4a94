"""Standard streams that may be closed, full, or without an encoding for what is written.

This module imports nothing that may fail: `rankwise.ranks.guard` imports it.
"""

import io
import os
import sys
from contextlib import suppress
from typing import Any


class OutputError(Exception):
    """Standard output cannot be written; the message is for the user."""


def open_closed() -> None:
    """Open what was closed when this process began, and let any text through.

    Else the next file that is opened takes its number, and gets what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # For the programs that this one starts, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def tell_failures() -> None:
    """Let a standard output that cannot be written raise `OutputError`; leave standard error."""
    sys.stdout, sys.stderr = _Telling(sys.stdout), _Enduring(sys.stderr)


def endure() -> None:
    """Go on where standard output or error can't be written: nobody reads it, or a disk is full.

    What is measured lies in files, and is worth more than the words about it.
    """
    sys.stdout, sys.stderr = _Enduring(sys.stdout), _Enduring(sys.stderr)


class _Enduring:
    """A stream whose writes do not fail."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or leave it."""
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Flush, or leave it."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: OSError | ValueError) -> None:
        # Python flushes at its end what is still to be written, and would fail there.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Telling(_Enduring):
    """A stream whose failure is told once, as what it is; what follows goes nowhere."""

    def _fail(self, error: OSError | ValueError) -> None:
        super()._fail(error)
        if isinstance(error, BrokenPipeError):
            raise error
        why = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot write to standard output: {why}") from None
