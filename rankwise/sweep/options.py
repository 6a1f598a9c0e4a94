"""Whole numbers, as users give them in options, tables and variables."""

import argparse
import re

_MOST = 10**7
WHOLE = f"a whole number from 1 to {_MOST}"


def whole(text: str) -> int:
    """Read a whole number from 1 to ten million.

    Raises
    ------
    ValueError
        It is none, or has other digits than 0 to 9.
    """
    # Python reads digits of other scripts too, and refuses thousands of them in words of its own.
    if not re.fullmatch("[0-9]{1,8}", text) or not 1 <= int(text) <= _MOST:
        raise ValueError(f"{text!r} is not {WHOLE}")
    return int(text)


def whole_number(text: str) -> int:
    """Read the value of an option, for `argparse`."""
    try:
        return whole(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
