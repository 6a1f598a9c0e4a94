"""How much work something is, where seconds would tell of the machine."""

import sys


def calls(function, *args):
    """Return what a function returns, and how many functions of Python and of C were called."""
    counted = [0]

    def count(frame, event, arg):
        counted[0] += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        result = function(*args)
    finally:
        sys.setprofile(before)
    return result, counted[0]
