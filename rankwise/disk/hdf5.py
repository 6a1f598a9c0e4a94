"""Read HDF5 files that others have made: nothing outside of them, and no more than they hold.

A dataset may lie in another file, by an external link, as a virtual one or in raw storage, and may
declare a size that is nowhere stored. Whoever is sent such a file should not have to look.

HDF5 itself reads beyond its memory, and ends the process, where a chunk is shorter than it should
be (2.0; https://github.com/HDFGroup/hdf5/pull/6184 and 6585). Packed chunks are looked at first;
others are safe in a file that is opened with ``rdcc_nbytes=0``, since it is its cache that trusts
what the file says of their sizes.
"""

import errno
import itertools
import json
import math
import os
import re
import shlex
import zlib
from pathlib import Path
from typing import Any

import numpy as np

# What h5py may raise where a file is damaged.
ERRORS = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, MemoryError,
          ArithmeticError, zlib.error)  # fmt: skip

# Where a file system has no locks, or its lock service is down. Cray's DVS says 524, which
# is ENOTSUPP of the Linux kernel, for which Python has no name.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, 524)
_SWITCH = "HDF5_USE_FILE_LOCKING"

# Largest packed chunk of a dataset that is read, and size of the memory that keeps one.
CHUNK_BYTES = 64 * 2**20

# Deflate packs 1032 bytes into one at most: https://zlib.net/zlib_tech.html
_MOST_PACKED = 1100
# What every node can hold: up to there a dataset may be mostly its fill value.
_HARMLESS_BYTES = 2**30
# Chunks that are read whatever their size, and the smallest size of more than these.
_MANY_CHUNKS = 100_000
_SMALL_CHUNK_BYTES = 4096
# As many as HDF5 itself follows.
_MOST_LINKS = 16
# Names in a path: a link can hold millions.
_MOST_NAMES = 1000


class Elsewhere(ValueError):
    """What a name stands for lies in another file."""


# Of IEEE 754: positions of sign, exponent and mantissa with the sizes of the latter two, and bias.
_FLOATS = ((15, 10, 5, 0, 10, 15), (31, 23, 8, 0, 23, 127), (63, 52, 11, 0, 52, 1023))


class Unlockable(OSError):
    """A file lies where there are no locks; its text says why."""


def opened(path: str | Path, locking: bool | None = False, cache_bytes: int = 0) -> Any:
    """Open a file for reading.

    Parameters
    ----------
    path : str or Path
    locking : bool, optional
        Whether HDF5 locks the file against writers: None leaves that to the user, False is right
        for files that never change under their name, as ours.
    cache_bytes : int
        See above.

    Returns
    -------
    h5py.File

    Raises
    ------
    Unlockable
        The file system has no locks.
    OSError
        The lock is refused for another reason, somebody writes to the file, or may have died in
        doing so, or it is not a whole HDF5 file; the text is a sentence about ``path`` that says
        which.
    """
    import h5py

    try:
        return h5py.File(path, "r", rdcc_nbytes=cache_bytes, locking=locking)
    except BlockingIOError:
        raise OSError(f"{path} is open for writing in another process") from None
    except ERRORS as error:
        if "unable to lock file" in str(error):
            raise _unlockable(path, getattr(error, "errno", 0)) from None
        # So says the file itself, which SWMR and libver="latest" mark: no lock is needed for it.
        if "already open for" in str(error):
            raise OSError(
                f"{path} is marked as open for writing: another process is writing it, or ended "
                f"without closing it, and then `h5clear -s {shlex.quote(str(path))}` removes the "
                "mark"
            ) from None
        raise OSError(f"{path} is not a whole HDF5 file: {error}") from None


def _unlockable(path: str | Path, number: int) -> OSError:
    asked = os.environ.get(_SWITCH)
    advice = f": {_SWITCH}={asked} asks for a lock, set it to FALSE" if asked else ""
    kind = Unlockable if number in _NO_LOCKS else OSError
    return kind(f"{path} cannot be locked against writers ({os.strerror(number)}){advice}")


def as_npy(dataset: Any, *steps: str, values: str = "d[()]", first: str = "") -> str:
    """Say which command writes a dataset to a .npy file, in which all elements are numbers.

    Parameters
    ----------
    dataset : h5py.Dataset
    *steps : str
        Statements of Python, which may use the dataset as ``d``.
    values : str
        Expression for what is written.
    first : str
        A module to import before h5py.
    """
    path, name = os.fsdecode(dataset.file.filename), dataset.name
    made = f"{Path(path).stem}-{re.sub('[^0-9A-Za-z]+', '-', name).strip('-')}.npy"
    code = [f"import {first}h5py, numpy", f"d = h5py.File({_text(path)})[{_text(name)}]", *steps]
    code.append(f"numpy.save({_text(made)}, {values})")
    return f"`python -c {shlex.quote('; '.join(code))}` writes {made}, for --input"


def _text(text: str) -> str:
    """Return a literal of Python with double quotes, which a shell leaves alone between single."""
    return json.dumps(text, ensure_ascii=False)


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
        Its links lead round in a circle, or down too many groups, or into a file that is missing.
    """
    import h5py

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
        elif isinstance(link, h5py.SoftLink):
            links += 1
            parts += link.path.split("/")[::-1]
            here = here.file["/"] if link.path.startswith("/") else here
            if links > _MOST_LINKS or len(parts) > _MOST_NAMES:
                raise ValueError(f"{name!r} is a link that leads round in a circle, or too far")
        elif allow_external:
            here = _follow(here, part, link)
        else:
            raise Elsewhere(f"{name!r} lies in another file, {link.filename!r}")
    elsewhere = isinstance(here, h5py.Dataset) and (here.is_virtual or here.external)
    if elsewhere and not allow_external:
        raise Elsewhere(f"{name!r} lies in other files, of which this one is a view")
    return here


def _follow(group: Any, name: str, link: Any) -> Any:
    """Return what an external link stands for, from where HDF5 finds it."""
    try:
        return group[name]
    except ERRORS as error:
        raise ValueError(
            f"{name!r} is a link to {link.path!r} in {link.filename!r}, which cannot be opened "
            f"from here: {error.args[-1]}"
        ) from None


def put(attributes: Any, **values: Any) -> None:
    """Set attributes of a group or dataset: numbers, texts or tuples of texts.

    Texts get a fixed length. Those of h5py have none, and lie in a heap on which HDF5 hangs if it
    is damaged.
    """
    import h5py

    for name, value in values.items():
        if isinstance(value, str | tuple):
            each = [text.encode() for text in ((value,) if isinstance(value, str) else value)]
            texts = np.array(each[0] if isinstance(value, str) else each, "S")
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
    if element_type(owner.attrs.get_id(name)).hasobject:
        raise ValueError(f"its attribute {name!r} has no fixed length")
    value = owner.attrs[name]
    if isinstance(value, np.ndarray):
        return tuple(text.decode() for text in value.tolist())
    return value.decode() if isinstance(value, bytes) else value.item()


def element_type(identifier: Any) -> np.dtype:
    """Return the type of the elements of a dataset or attribute.

    Parameters
    ----------
    identifier : h5py.h5d.DatasetID or h5py.h5a.AttrID

    Returns
    -------
    numpy.dtype
        That of objects, unless they are numbers, texts or tables of these.
    """
    from h5py import h5t

    kind = identifier.get_type()
    kinds = [kind]
    if kind.get_class() == h5t.COMPOUND:
        kinds = [kind.get_member_type(k) for k in range(kind.get_nmembers())]
    # For a type of 64 KiB that nests thousands of others h5py takes minutes and all memory.
    plain = {each.get_class() for each in kinds} <= {h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM}
    # h5py takes floats of other formats for larger ones, which then lie one over the other.
    floats = [each for each in kinds if each.get_class() == h5t.FLOAT]
    plain = plain and all((*f.get_fields(), f.get_ebias()) in _FLOATS for f in floats)
    return identifier.dtype if plain else np.dtype(object)


def require_stored(*datasets: Any) -> None:
    """Make sure that datasets of `find` hold what they declare, before memory is asked for.

    Parameters
    ----------
    *datasets : h5py.Dataset
        Of one file, to be held at the same time.

    Raises
    ------
    ValueError
        They declare far more, or are packed in a way that is not read.
    """
    declared = stored = 0
    for dataset in datasets:
        # What lies in other files is not counted here.
        if dataset.shape is None or dataset.is_virtual or dataset.external:
            continue
        declared += math.prod(dataset.shape) * _itemsize(dataset)
        most = dataset.file.id.get_filesize()
        # HDF5 would ask for each of the chunks that a file declares, of which there may be 2^60.
        here = most if dataset.chunks else dataset.id.get_storage_size()
        # Not more than all of the file: many names can stand for one dataset.
        stored = min(stored + here, most)
        if declared > max(_HARMLESS_BYTES, _MOST_PACKED * stored):
            raise ValueError(
                f"{dataset.name!r} declares {declared / 1e9:.3g} GB, and at most {stored} bytes "
                "are stored"
            )
        _require_few_chunks(dataset)
        _require_known_packing(dataset)


def _require_few_chunks(dataset: Any) -> None:
    """Refuse what HDF5 reads slowly, and with some 5 kB of memory for each chunk, stored or not."""
    if not dataset.chunks:
        return
    number = _chunks(dataset)
    if number <= _MANY_CHUNKS:
        return
    # A chunk may be larger than all the data; where the data end, some are partly filled.
    mean = math.prod(dataset.shape) * _itemsize(dataset) // number
    if min(_chunk_bytes(dataset), 2 * mean) < _SMALL_CHUNK_BYTES:
        raise ValueError(
            f"{dataset.name!r} has {number} chunks of {mean} bytes: h5repack --layout makes "
            "larger ones"
        )


def _require_known_packing(dataset: Any) -> None:
    from h5py import h5z

    filters = packing(dataset)
    size = _chunk_bytes(dataset) if filters else 0
    # A packed chunk is unpacked whole, twice its size in memory, however little is read of it.
    if size > CHUNK_BYTES:
        raise ValueError(
            f"{dataset.name!r} has packed chunks of {size / 2**20:.0f} MiB, and "
            f"{CHUNK_BYTES // 2**20} MiB is the most: h5repack --layout makes smaller ones"
        )
    # HDF5 and its plugins unpack others without care for the end of their memory, see above.
    known = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
    if not known.issuperset(filters) or len(set(filters)) < len(filters):
        # Not h5repack: it does not know LZF, and drops Zstandard and Blosc without a word.
        plugin = not all(map(h5z.filter_avail, filters))
        command = as_npy(dataset, first="hdf5plugin, " if plugin else "")
        raise ValueError(
            f"{dataset.name!r} is packed by filters {filters} of HDF5, and only gzip (1), "
            "shuffle (2) and fletcher32 (3) are read: "
            f"{'after `pip install hdf5plugin`, ' * plugin}{command}"
        )


def packing(dataset: Any) -> list[int]:
    """Return the numbers of the filters that pack the chunks of a dataset."""
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]


def require_complete(dataset: Any) -> None:
    """Make sure that all of a dataset that lies in its file was written.

    Space may be taken and not written, as parallel HDF5 does: then its elements are the fill value,
    which `rankwise.disk.conventions.marks` looks for unless it is 0.

    Raises
    ------
    ValueError
        Chunks are missing, in whose place HDF5 reads the fill value.
    """
    if dataset.shape is None or 0 in dataset.shape:
        return
    if dataset.chunks:
        stored, declared = dataset.id.get_num_chunks(), _chunks(dataset)
        if stored >= declared:
            return
        what = f"{stored} of the {declared} chunks of {dataset.name!r} were written"
    elif dataset.id.get_storage_size() == 0:
        what = f"nothing of {dataset.name!r} was written"
    else:
        return
    if dataset.fillvalue != 0 or not {"_FillValue", "missing_value"}.isdisjoint(dataset.attrs):
        raise ValueError(f"{what}, and the rest is missing")
    raise ValueError(f"{what}: if the rest is meant to be 0, {as_npy(dataset)}")


def require_chunks(dataset: Any, row: int, axis: int = 0) -> None:
    """Make sure that packed chunks are of their size when unpacked.

    Parameters
    ----------
    dataset : h5py.Dataset
        That passed `require_stored`.
    row : int
        Where the chunks begin: a multiple of the rows of a chunk.
    axis : int
        Along which the rows are counted.

    Raises
    ------
    ValueError, zlib.error
        One is not.
    """
    filters = packing(dataset)
    # Where no chunk is stored, reading one fails, with an exception that depends on h5py's build.
    if not filters or dataset.id.get_num_chunks() == 0:
        return
    size = _chunk_bytes(dataset)
    # What did not get smaller is not packed; what is larger than this is refused.
    buffer = np.empty(size + 64, np.uint8)
    begins = [range(0, n, step) for n, step in zip(dataset.shape, dataset.chunks, strict=True)]
    begins[axis] = range(row, row + 1)
    for place in itertools.product(*begins):
        try:
            skipped, chunk = dataset.id.read_direct_chunk(place, out=buffer)
        except RuntimeError:
            # It is not stored: all its elements are the fill value.
            continue
        if _unpacked_size(chunk, filters, skipped, size) != size:
            raise ValueError(f"the chunk at {place} of {dataset.name!r} is damaged")


def _unpacked_size(chunk: Any, filters: list[int], skipped: int, most: int) -> int:
    """Return how many bytes HDF5 will have of a chunk; of a bomb, more than the most."""
    from h5py import h5z

    octets = len(chunk)
    for k in reversed(range(len(filters))):
        if skipped >> k & 1:
            continue
        if filters[k] == h5z.FILTER_FLETCHER32:
            octets -= 4
        elif filters[k] == h5z.FILTER_DEFLATE:
            inflate, packed, octets = zlib.decompressobj(), chunk[: max(octets, 0)], 0
            # In pieces, which only are counted: none takes more than 64 MiB.
            for start in range(0, len(packed), 2**16):
                octets += len(inflate.decompress(packed[start : start + 2**16]))
                if octets > most + 4:
                    break
    return octets


def _chunks(dataset: Any) -> int:
    sizes = zip(dataset.shape, dataset.chunks, strict=True)
    return math.prod(-(-n // step) for n, step in sizes)


def _chunk_bytes(dataset: Any) -> int:
    return math.prod(dataset.chunks) * _itemsize(dataset)


def _itemsize(dataset: Any) -> int:
    return dataset.id.get_type().get_size()


def whole(file: Any, name: str) -> np.ndarray:
    """Return all elements of a dataset of an open file. See `arrays`."""
    return arrays(file, [name])[0]


def arrays(file: Any, names: list[str]) -> list[np.ndarray]:
    """Return all elements of datasets of an open file.

    Raises
    ------
    ValueError
        One is no dataset of numbers or of fixed text, or they are not such that `find` and
        `require_stored` let them pass.
    """
    import h5py

    datasets = [find(file, name) for name in names]
    for name, dataset in zip(names, datasets, strict=True):
        if (
            not isinstance(dataset, h5py.Dataset)
            or dataset.shape is None
            or element_type(dataset.id).hasobject
        ):
            raise ValueError(f"{name!r} is no dataset of numbers")
    require_stored(*datasets)
    for dataset in datasets:
        for row in range(0, dataset.shape[0], dataset.chunks[0]) if dataset.chunks else ():
            require_chunks(dataset, row)
    return [dataset[()] for dataset in datasets]
