"""What a job hands over at its end: results and figures, and what is wrong with them."""

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from rankwise.disk.record import Result
from rankwise.ranks.words import printable

# HDF5 and JSON hold no larger whole numbers.
_MOST = 2**63 - 1


def results(given: Any) -> tuple[dict[str, Result], list[str]]:
    """Return what a record holds of ``name: (value, unit, description)``, and what is wrong.

    Parameters
    ----------
    given : mapping
        Values are Python or NumPy numbers, or arrays of them.
    """
    if not isinstance(given, Mapping):
        form = "{name: (value, unit, description)}"
        return {}, [f"the results are {type(given).__name__}, and not {form}"]
    kept, problems = {}, []
    for name, value in given.items():
        try:
            # An array of three numbers could be taken apart, too.
            if not (isinstance(value, tuple) and len(value) == 3):
                raise ValueError(f"a {type(value).__name__}")
            values, unit, description = value
            if not (isinstance(unit, str) and isinstance(description, str)):
                raise ValueError("without a unit and a description in words")
            array = np.asarray(values)
            # HDF5 holds numbers of more bits, and JSON does not.
            if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
                raise ValueError(f"of type {array.dtype}")
            if not str(name).isidentifier() or name != str(name):
                raise ValueError("of a name that is no word of letters, digits and _")
            kept[name] = Result(array, printable(unit), printable(description))
        except (TypeError, ValueError) as error:
            problems.append(
                f"the result {name!r} is left out: it is not (number or array of numbers, unit, "
                f"description), but {error}"
            )
    return kept, problems


def whole(name: str, value: Any) -> tuple[int, list[str]]:
    """Return a count that a record can hold, and what is wrong with it; 0 if something is.

    Parameters
    ----------
    name : str
    value : int
        Or a NumPy integer, or a float that is a whole number.
    """
    try:
        number = int(value) if float(value).is_integer() else operator.index(value)
        if 0 <= number <= _MOST:
            return number, []
    except (TypeError, ValueError, OverflowError):
        pass
    return 0, [f"{name} is {value!r}, which is no whole number from 0 to 2^63 - 1"]
