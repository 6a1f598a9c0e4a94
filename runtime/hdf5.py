"""Read HDF5 files that others have made: nothing outside of them, and no more than they hold.

A dataset may lie in another file, by an external link, as a virtual one or in raw storage, and may
declare a size that is nowhere stored. Whoever is sent such a file should not have to look.
"""

from typing import Any

import numpy as np

# What h5py may raise where a file is damaged.
ERRORS = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, MemoryError,
          ArithmeticError)  # fmt: skip

# Deflate packs 1032 bytes into one at most: https://zlib.net/zlib_tech.html
_MOST_PACKED = 1100
# What every node can hold: up to there a dataset may be mostly its fill value.
_HARMLESS_BYTES = 2**30
# As many as HDF5 itself follows.
_MOST_LINKS = 16


class Elsewhere(ValueError):
    """What a name stands for lies in another file."""


def find(file: Any, name: str, allow_external: bool = False) -> Any:
    """Return a group or dataset of an open file.

    Parameters
    ----------
    file : h5py.File
    name : str
        Its path in the file.
    allow_external : bool
        Whether it may lie in another file.

    Returns
    -------
    h5py.Group, h5py.Dataset, h5py.Datatype or None
        None if there is nothing of that name.

    Raises
    ------
    Elsewhere
        It lies in another file.
    ValueError
        Its links lead round in a circle.
    """
    import h5py

    if allow_external:
        return file.get(name)
    here, parts, links = file["/"], name.split("/")[::-1], 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.HardLink):
            here = here[part]
        elif isinstance(link, h5py.SoftLink) and links < _MOST_LINKS:
            links += 1
            parts += link.path.split("/")[::-1]
            here = file["/"] if link.path.startswith("/") else here
        elif isinstance(link, h5py.SoftLink):
            raise ValueError(f"{name!r} is a link that leads round in a circle")
        else:
            raise Elsewhere(f"{name!r} lies in another file, {link.filename!r}")
    if isinstance(here, h5py.Dataset) and (here.is_virtual or here.external):
        raise Elsewhere(f"{name!r} lies in other files, of which this one is a view")
    return here


def put(attributes: Any, **values: Any) -> None:
    """Set attributes of a group or dataset: numbers, texts or tuples of texts.

    Texts get a fixed length. Those of h5py have none, and lie in a heap on which HDF5 hangs if it
    is damaged.
    """
    import h5py

    for name, value in values.items():
        if isinstance(value, str | tuple):
            texts = np.char.encode(value, "utf-8")
            kind = h5py.string_dtype("utf-8", max(1, texts.itemsize))
            attributes.create(name, texts, dtype=kind)
        else:
            attributes[name] = value


def attributes(owner: Any) -> dict[str, Any]:
    """Return the attributes of a group or dataset as `put` took them.

    Raises
    ------
    ValueError
        One is a text without a fixed length.
    """
    return {name: attribute(owner, name) for name in owner.attrs}


def attribute(owner: Any, name: str) -> Any:
    """Return one of `attributes`.

    Raises
    ------
    KeyError
        There is none of that name.
    ValueError
        It is a text without a fixed length.
    """
    if owner.attrs.get_id(name).dtype.hasobject:
        raise ValueError(f"its attribute {name!r} has no fixed length")
    value = owner.attrs[name]
    if isinstance(value, np.ndarray):
        return tuple(text.decode() for text in value.tolist())
    return value.decode() if isinstance(value, bytes) else value.item()


def require_stored(dataset: Any) -> None:
    """Make sure that a dataset of `find` holds what it declares, before memory is asked for.

    Raises
    ------
    ValueError
        It declares far more.
    """
    declared = (dataset.size or 0) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    # What lies in other files is not counted here.
    elsewhere = dataset.is_virtual or dataset.external
    if declared > max(_HARMLESS_BYTES, _MOST_PACKED * stored) and not elsewhere:
        raise ValueError(
            f"{dataset.name!r} declares {declared / 1e9:.3g} GB, and {stored} bytes are stored"
        )


def whole(file: Any, name: str) -> np.ndarray:
    """Return all elements of a dataset of an open file.

    Raises
    ------
    ValueError
        It is no dataset of numbers or of fixed text, or not one that `find` and `require_stored`
        let pass.
    """
    import h5py

    dataset = find(file, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None or dataset.dtype.hasobject:
        raise ValueError(f"{name!r} is no dataset of numbers")
    require_stored(dataset)
    return dataset[()]
