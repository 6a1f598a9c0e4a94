"""What attributes and fill values say of a dataset's elements, as netCDF and MATLAB use them.

A dataset can hold numbers that stand for others (``scale_factor``, ``add_offset``). These are
refused, with a command that unpacks them. It can hold numbers that stand for nothing
(``_FillValue``, ``missing_value``, what lies outside of ``valid_range``, and the fill value that
HDF5 puts where nothing was written). These are looked for in whatever is read.

References
----------
NetCDF Users Guide, appendix A, attribute conventions:
https://docs.unidata.ucar.edu/nug/current/attribute_conventions.html
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rankwise.disk import hdf5

Mark = tuple[str, Callable[[np.ndarray], np.ndarray]]

_MISSING = ("_FillValue", "missing_value")
# In Python, what is outside of them.
_VALID = (
    ("valid_min", '< raw(d.attrs["valid_min"])'),
    ("valid_max", '> raw(d.attrs["valid_max"])'),
    ("valid_range", '< raw(d.attrs["valid_range"])[0]'),
    ("valid_range", '> raw(d.attrs["valid_range"])[1]'),
)
# Where they do not change a number.
_HARMLESS = {"scale_factor": 1, "add_offset": 0}
# An attribute holds a number or a few.
_MOST_NUMBERS = 1000


def require_unpacked(dataset: Any) -> None:
    """Make sure that the elements of a dataset are the numbers that are meant.

    Raises
    ------
    ValueError
        They stand for others; the text has a command that unpacks them.
    """
    packed = [n for n, number in _HARMLESS.items() if np.any(_numbers(dataset, n) != number)]
    if packed:
        raise ValueError(
            f"{dataset.name!r} holds packed numbers, see its {' and '.join(packed)}: "
            f"{_unpacking(dataset)}"
        )


def _unpacking(dataset: Any) -> str:
    """Return a command that unpacks a dataset, with NaN for what is missing in it."""
    there, view = dataset.attrs, ""
    # netCDF's classic format has no unsigned integers; all is said of these then.
    if "_Unsigned" in there and hdf5.element_type(dataset.id).kind == "i":
        view = '.view(d.dtype.str.replace("i", "u"))'
    times = ' * d.attrs["scale_factor"]' if "scale_factor" in there else ""
    plus = ' + d.attrs["add_offset"]' if "add_offset" in there else ""
    tests = [f'numpy.isin(x, raw(d.attrs["{name}"]))' for name in _MISSING if name in there]
    tests += [f"x {test}" for name, test in _VALID if name in there]
    steps = [f"raw = lambda a: numpy.array(a, d.dtype){view}"] if tests or view else []
    steps.append("x = raw(d[()])" if steps else "x = d[()]")
    steps.append(f'y = x.astype("f8"){times}{plus}')
    steps += [f"y[{test}] = numpy.nan" for test in tests]
    return hdf5.as_npy(dataset, *steps, values="y")


def marks(dataset: Any) -> list[Mark]:
    """Return what marks elements of a dataset that are no numbers.

    Returns
    -------
    list of (str, callable)
        What such an element is, and a function that finds them in an array.

    Raises
    ------
    ValueError
        An attribute that should say so is no number.
    """
    found: list[Mark] = []
    for name in _MISSING:
        found += [_equal(value, f"its {name}") for value in _own(dataset, name)]
    for name in ("valid_min", "valid_max", "valid_range"):
        limits = _cast(dataset, _numbers(dataset, name)).tolist()
        if len(limits) != 1 + (name == "valid_range") and limits:
            raise ValueError(f"the attribute {name} of {dataset.name!r} has {len(limits)} numbers")
        low = limits[0] if limits and name != "valid_max" else -math.inf
        high = limits[-1] if limits and name != "valid_min" else math.inf
        if limits:
            found.append(_outside(low, high, f"outside of its {name}"))
    properties = dataset.id.get_create_plist()
    # Some libraries set 0, and many files hold zeros: of these, what is not written is not seen.
    if properties.fill_value_defined() == _user_defined() and dataset.fillvalue != 0:
        found.append(
            _equal(dataset.fillvalue, "its fill value, which stands where none was written")
        )
    return found


def written_by_matlab(dataset: Any) -> bool:
    """Return whether rows are columns in a dataset, as MATLAB stores them."""
    return "MATLAB_class" in dataset.attrs


def _user_defined() -> int:
    from h5py import h5d

    return h5d.FILL_VALUE_USER_DEFINED


def _equal(value: Any, what: str) -> Mark:
    return what, lambda elements: elements == value


def _outside(low: float, high: float, what: str) -> Mark:
    return what, lambda elements: (elements < low) | (elements > high)


def _own(dataset: Any, name: str) -> np.ndarray:
    """Return the numbers of an attribute that the elements of a dataset can equal."""
    numbers = _cast(dataset, _numbers(dataset, name))
    with np.errstate(all="ignore"):
        own = numbers.astype(dataset.dtype)
    return own if own.dtype.kind == "f" else own[own == numbers]


def _cast(dataset: Any, numbers: np.ndarray) -> np.ndarray:
    """Round numbers as the elements of a dataset are, if these are floats."""
    with np.errstate(all="ignore"):
        return numbers.astype(dataset.dtype) if dataset.dtype.kind == "f" else numbers


def _numbers(dataset: Any, name: str) -> np.ndarray:
    """Return the numbers of an attribute, none if there is none."""
    if name not in dataset.attrs:
        return np.empty(0)
    identifier = dataset.attrs.get_id(name)
    if identifier.shape is None:
        return np.empty(0)
    if (
        hdf5.element_type(identifier).kind not in "iuf"
        or math.prod(identifier.shape) > _MOST_NUMBERS
    ):
        raise ValueError(
            f"the attribute {name} of {dataset.name!r} is no number; if its elements are numbers "
            f"as they are, {hdf5.as_npy(dataset)}"
        )
    return np.ravel(dataset.attrs[name])
