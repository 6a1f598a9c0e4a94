"""Datasets whose elements lie in other files: virtual ones, and those in raw files.

Where a source of a virtual dataset is missing, or a raw file ends early, HDF5 reads the fill value
or zeros, and says nothing. So all that such a dataset refers to is looked at first.
"""

import math
import os
from collections.abc import Iterator
from typing import Any

from rankwise.disk import hdf5

# Sources can be virtual, too.
_MOST_LEVELS = 16


def sources(dataset: Any, levels: int = _MOST_LEVELS) -> list[Any]:
    """Return the datasets that a virtual one shows, all of them if some are virtual themselves.

    Parameters
    ----------
    dataset : h5py.Dataset
        If it is not virtual, it has no sources.
    levels : int
        How deep they may lie.

    Returns
    -------
    list of h5py.Dataset
        As long as they are kept, so are the locks of their files.

    Raises
    ------
    ValueError
        A file or dataset is missing or too small, or nothing is shown in a part of the dataset.
    """
    if not dataset.is_virtual:
        return []
    if levels == 0:
        raise ValueError(f"{dataset.name!r} shows virtual datasets that lead round in a circle")
    found = []
    for part in dataset.virtual_sources():
        source = _source(dataset, part)
        found += [source, *sources(source, levels - 1)]
    _require_covered(dataset)
    return found


def raw_files(dataset: Any) -> list[str]:
    """Return the paths of the raw files in which a dataset lies.

    Raises
    ------
    ValueError
        One is missing or too short.
    """
    left, paths = math.prod(dataset.shape or ()) * dataset.id.get_type().get_size(), []
    for name, offset, size in dataset.external or ():
        # HDF5 takes a name as it is, and not from beside its own file; see H5Pset_efile_prefix.
        path = os.path.join(_prefix(dataset.file, "HDF5_EXTFILE_PREFIX"), name)
        size = min(size, left)
        there = os.path.getsize(path) if os.path.isfile(path) else None
        if there is None:
            raise ValueError(f"{dataset.name!r} lies in {path}, and there is no such file")
        if there < offset + size:
            raise ValueError(
                f"{dataset.name!r} lies in {path}, which has {there} bytes, and "
                f"{offset + size} are needed"
            )
        left -= size
        paths.append(path)
    return paths


def _source(dataset: Any, part: Any) -> Any:
    """Return a source of a virtual dataset, open.

    Parameters
    ----------
    part : h5py.VDSmap
        ``vspace`` of the dataset shows ``src_space`` of ``dset_name`` in ``file_name``.
    """
    import h5py

    what = f"{dataset.name!r} shows {part.dset_name!r} of {part.file_name!r}, "
    if part.vspace.shape != dataset.shape or h5py.h5s.UNLIMITED in (
        *_counts(part.vspace),
        *_counts(part.src_space),
    ):
        raise ValueError(
            f"{what}without a limit, and then nobody knows how much is missing: "
            f"{hdf5.as_npy(dataset)}"
        )
    try:
        file = _open(dataset.file, part.file_name)
        source = file and hdf5.find(file, part.dset_name, allow_external=True)
    except hdf5.ERRORS as error:
        raise ValueError(f"{what}which cannot be opened: {error}") from None
    if file is None:
        raise ValueError(f"{what}and there is no such file")
    if not isinstance(source, h5py.Dataset):
        raise ValueError(f"{what}and that file has no such dataset")
    if not _holds(source, part):
        raise ValueError(f"{what}and more of it than its shape, {source.shape}")
    return source


def _counts(space: Any) -> tuple[int, ...]:
    from h5py import h5s

    regular = space.get_select_type() == h5s.SEL_HYPERSLABS and space.is_regular_hyperslab()
    if not regular:
        return ()
    _, _, count, block = space.get_regular_hyperslab()
    return (*count, *block)


def _holds(source: Any, part: Any) -> bool:
    """Return whether a dataset has all that is shown of it."""
    from h5py import h5s

    space, shape = part.src_space, source.shape or ()
    if space.get_select_type() == h5s.SEL_ALL:
        # Which does not say how many there were.
        return bool(math.prod(shape) == part.vspace.get_select_npoints())
    if len(space.shape) != len(shape) or space.get_select_npoints() == 0:
        return len(space.shape) == len(shape)
    _, last = space.get_select_bounds()
    return all(k < n for k, n in zip(last, shape, strict=True))


def _require_covered(dataset: Any) -> None:
    from h5py import h5s

    covered = None
    for part in dataset.virtual_sources():
        if part.vspace.get_select_type() == h5s.SEL_ALL:
            return
        if covered is None:
            covered = part.vspace
        else:
            covered.modify_select(part.vspace, h5s.SELECT_OR)
    number = 0 if covered is None else covered.get_select_npoints()
    total = math.prod(dataset.shape)
    if number < total:
        raise ValueError(
            f"{dataset.name!r} is virtual, and shows nothing in {total - number} of its {total} "
            "elements"
        )


def _open(file: Any, name: str) -> Any:
    """Open a file that a virtual dataset of another names, or return None if it is missing.

    As HDF5 opens it, which otherwise would open it a second time and in another way.
    """
    import h5py

    if name == ".":
        return file
    properties = file.id.get_access_plist()
    properties.set_fclose_degree(h5py.h5f.CLOSE_WEAK)
    for path in _places(file, name.replace("%%", "%")):
        if os.path.isfile(path):
            opened = h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY, properties)
            return h5py.File(opened)
    return None


def _places(file: Any, name: str) -> Iterator[str]:
    """Yield the paths at which HDF5 looks for a source, in its order.

    References
    ----------
    H5Pset_virtual_prefix in HDF5's reference manual, and H5F_prefix_open_file in its H5Fint.c.
    """
    path = os.path.abspath(os.fsdecode(file.filename))
    if os.path.isabs(name):
        yield name
        name = os.path.basename(name)
    prefixes = os.environ.get("HDF5_VDS_PREFIX", "").split(":")
    for prefix in (*prefixes, _prefix(file, "HDF5_VDS_PREFIX")):
        if prefix:
            yield os.path.join(prefix, name)
    yield os.path.join(os.path.dirname(path), name)
    yield name
    yield os.path.join(os.path.dirname(os.path.realpath(path)), name)


def _prefix(file: Any, variable: str) -> str:
    """Return a prefix of file names that the user has set, with the folder of a file put in."""
    prefix, origin = os.environ.get(variable, ""), "${ORIGIN}"
    if prefix.startswith(origin):
        folder = os.path.dirname(os.path.abspath(os.fsdecode(file.filename)))
        return folder + prefix.removeprefix(origin)
    return prefix
