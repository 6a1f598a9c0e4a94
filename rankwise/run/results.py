"""What a job hands over at its end: results and figures, and what is wrong with them."""

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rankwise.disk.record import Result
from rankwise.ranks.words import counted, printable

# HDF5 and JSON hold no larger whole numbers.
_MOST = 2**63 - 1


def results(given: Any) -> tuple[dict[str, Result], list[str]]:
    """Return what a record holds of what a job gives, and what is wrong.

    Parameters
    ----------
    given : mapping
        By name ``(value, unit, description)`` or ``(value, unit, description, axes)``: values are
        Python or NumPy numbers, or arrays of them; axes are names, one for each dimension.
    """
    if not isinstance(given, Mapping):
        form = "{name: (value, unit, description)}"
        return {}, [f"the results are {type(given).__name__}, and not {form}"]
    kept, axes, problems = {}, {}, []
    for name, value in given.items():
        try:
            # An array of three numbers could be taken apart, too.
            if not (isinstance(value, tuple) and len(value) in (3, 4)):
                raise ValueError(f"a {type(value).__name__}")
            kept[name] = _result(name, *value[:3])
            axes[name] = value[3] if len(value) == 4 else ()
        except (TypeError, ValueError) as error:
            problems.append(
                f"the result {name!r} is left out: it is not (number or array of numbers, unit, "
                f"description), but {error}"
            )
    # When all are known: an axis may be a result that comes later.
    for name, names in axes.items():
        try:
            kept[name] = replace(kept[name], axes=_axes(kept, name, names))
        except ValueError as error:
            problems.append(f"the axes of the result {name!r} are left out: {error}")
    return kept, problems


def _result(name: Any, values: Any, unit: Any, description: Any) -> Result:
    if not (isinstance(unit, str) and isinstance(description, str)):
        raise ValueError("without a unit and a description in words")
    array = np.asarray(values)
    # HDF5 holds numbers of more bits, and JSON does not.
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise ValueError(f"of type {array.dtype}")
    if not _is_word(name):
        raise ValueError("of a name that is no word of letters, digits and _")
    return Result(array, printable(unit), printable(description))


def _axes(kept: dict[str, Result], name: str, given: Any) -> tuple[str, ...]:
    """Return the axes of a result, after making sure that they can be."""
    shape = kept[name].values.shape
    if not (isinstance(given, tuple) and all(map(_is_word, given))):
        raise ValueError(f"{given!r} is no tuple of names, such as ('y', 'x')")
    if not given:
        return ()
    if len(given) != len(shape):
        raise ValueError(
            f"{given!r} is not one name for each of {counted(len(shape), 'dimension')}"
        )
    for axis, n in zip(given, shape, strict=True):
        if axis in kept and kept[axis].values.shape != (n,):
            raise ValueError(
                f"the result {axis!r} has the shape {kept[axis].values.shape}, and not {(n,)}"
            )
    return given


def _is_word(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier()


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
