import resource
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from rankwise.disk import hdf5

VALUES = np.arange(10.0)


@pytest.fixture
def file(tmp_path):
    """An open file with links of every kind, and beside it one that they lead to."""
    with h5py.File(tmp_path / "outside.h5", "w") as other:
        other["x"] = VALUES
    with h5py.File(tmp_path / "a.h5", "w") as made:
        made["x"] = VALUES
        made["group/y"] = VALUES + 1
        made["group/near"] = h5py.SoftLink("y")
        made["group/far"] = h5py.SoftLink("/x")
        made["folder"] = h5py.SoftLink("/group")
        made["nowhere"] = h5py.SoftLink("/absent")
        made["outside"] = h5py.ExternalLink("outside.h5", "/x")
        made["others"] = h5py.ExternalLink("outside.h5", "/")
        made["group/hidden"] = h5py.SoftLink("/others/x")
        for k in range(20):
            made[f"chain{k + 1}"] = h5py.SoftLink(f"/chain{k}" if k else "/x")
        # Its source is in the same file, and a link from there is not.
        layout = h5py.VirtualLayout((10,), "f8")
        layout[:] = h5py.VirtualSource(".", "/outside", (10,))
        made.create_virtual_dataset("view", layout)
        yield made


@pytest.mark.parametrize(
    ("name", "first"),
    [
        *[("x", 0), ("/x", 0), ("//group//y", 1), ("./x", 0), ("group/near", 1)],
        *[("group/far", 0), ("folder/y", 1), ("folder/near", 1), ("chain16", 0)],
    ],
)
def test_follows_links_inside(file, name, first):
    assert hdf5.find(file, name)[0] == first


@pytest.mark.parametrize("name", ["absent", "x/y", "nowhere", "group/absent", "absent/x"])
def test_what_is_not_there(file, name):
    assert hdf5.find(file, name) is None


@pytest.mark.parametrize("name", ["outside", "others/x", "group/hidden", "folder/hidden", "view"])
def test_follows_no_link_to_another_file(file, name):
    with pytest.raises(hdf5.Elsewhere, match=r"lies in (another|other) file"):
        hdf5.find(file, name)
    assert hdf5.find(file, name, allow_external=True)[1] == 1


def test_links_that_go_on_and_on(file):
    with pytest.raises(ValueError, match="'chain17' is a link that leads round in a circle"):
        hdf5.find(file, "chain17")
    file["group/up"] = file["group"]
    file["long"] = h5py.SoftLink("/group/" + "up/" * 1000 + "y")
    with pytest.raises(ValueError, match="'long' is a link that leads round in a circle, or too"):
        hdf5.find(file, "long")


def test_what_is_packed_as_tightly_as_can_be_passes(file, monkeypatch):
    monkeypatch.setattr(hdf5, "_HARMLESS_BYTES", 0)
    zeros = np.zeros(10**7)
    packed = file.create_dataset("packed", data=zeros, chunks=(10**6,), compression="gzip")
    assert packed.nbytes / packed.id.get_storage_size() > 900
    hdf5.require_stored(packed)
    assert hdf5.whole(file, "packed").nbytes == 8 * 10**7
    hdf5.require_stored(file.create_dataset("of no element", data=np.zeros(0)))


def test_what_is_mostly_fill_value_passes_up_to_a_gibibyte(file):
    sparse = file.create_dataset("sparse", (2**27,), "f8", chunks=(1000,))
    hdf5.require_stored(sparse)
    sparse = file.create_dataset("larger", (2**27 + 1,), "f8", chunks=(1000,))
    with pytest.raises(ValueError, match="declares"):
        hdf5.require_stored(sparse)


@pytest.mark.parametrize(("chunks", "most"), [(None, "0"), ((100,), "[1-9]\\d+")])
def test_what_is_declared_and_not_stored(file, chunks, most):
    empty = file.create_dataset("empty", (2**50,), "f8", chunks=chunks)
    words = rf"'/empty' declares 9.01e\+06 GB, and at most {most} bytes are stored"
    with pytest.raises(ValueError, match=words):
        hdf5.require_stored(empty)
    with pytest.raises(ValueError, match=words):
        hdf5.whole(file, "empty")


def test_whole_is_for_numbers(file):
    file["texts"] = np.array(["a"], h5py.string_dtype())
    file["nothing"] = h5py.Empty("f8")
    np.testing.assert_array_equal(hdf5.whole(file, "group/y"), VALUES + 1)
    for name in ("texts", "nothing", "group", "absent"):
        with pytest.raises(ValueError, match=f"'{name}' is no dataset of numbers"):
            hdf5.whole(file, name)


def test_attributes(file):
    made = {"n": 3, "x": 0.1, "name": "\N{GREEK SMALL LETTER ALPHA} 1", "none": "", "yes": True}
    made["phases"] = ("kernel", "w\N{LATIN SMALL LETTER A WITH DIAERESIS}it")
    hdf5.put(file["x"].attrs, **made)
    assert hdf5.attributes(file["x"]) == made
    kind = file["x"].attrs.get_id("name").get_type()
    assert not kind.is_variable_str() and kind.get_cset() == h5py.h5t.CSET_UTF8


def test_attributes_in_a_heap_are_not_read(file):
    file["x"].attrs["name"] = "of no fixed length"
    with pytest.raises(ValueError, match="'name' has no fixed length"):
        hdf5.attributes(file["x"])


def test_types_in_types_are_not_looked_at(file):
    kind = h5py.h5t.IEEE_F64LE
    # h5py takes ten seconds and two gigabytes for these, minutes for three times as many.
    for _ in range(3000):
        kind = h5py.h5t.vlen_create(kind)
    space = h5py.h5s.create_simple((3,))
    dataset = h5py.h5d.create(file.id, b"deep", kind, space)
    h5py.h5a.create(file["x"].id, b"deep", kind, space)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, before[1]))
    try:
        assert hdf5.element_type(dataset).hasobject
        with pytest.raises(ValueError, match="'deep' is no dataset of numbers"):
            hdf5.whole(file, "deep")
        with pytest.raises(ValueError, match="'deep' has no fixed length"):
            hdf5.attributes(file["x"])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    table = np.zeros(3, [("a", "f8"), ("b", "S3"), ("c", "?")])
    file["table"] = table
    assert hdf5.whole(file, "table").dtype == table.dtype


def odd_float():
    """A double of another bias, which h5py takes for a float of sixteen bytes in eight."""
    kind = h5py.h5t.IEEE_F64LE.copy()
    kind.set_ebias(919)
    return kind


@pytest.mark.parametrize("table", [False, True])
def test_floats_of_another_format_are_not_read(tmp_path, table):
    """One damaged byte of a record made HDF5 write beyond its memory."""
    kind = odd_float()
    if table:
        kind = h5py.h5t.create(h5py.h5t.COMPOUND, 16)
        kind.insert(b"odd", 0, odd_float())
        kind.insert(b"plain", 8, h5py.h5t.IEEE_F64LE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"x", kind, space)
        assert hdf5.element_type(file["x"].id) == np.dtype(object)
        with pytest.raises(ValueError, match="'x' is no dataset of numbers"):
            hdf5.whole(file, "x")


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", ">f8"])
def test_floats_of_ieee_are_read(tmp_path, kind):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3, dtype=kind)
        assert hdf5.whole(file, "x").tolist() == [0, 1, 2]


def test_many_names_of_one_dataset_count_each(file, monkeypatch):
    monkeypatch.setattr(hdf5, "_HARMLESS_BYTES", 10**6)
    file.create_dataset("packed", data=np.zeros(10**6), compression="gzip")
    file.flush()
    names = ["packed", *(f"packed{k}" for k in range(9))]
    for name in names[1:]:
        file[name] = file["packed"]
    monkeypatch.setattr(hdf5, "_MOST_PACKED", 3 * 8 * 10**6 / file.id.get_filesize())
    assert [len(values) for values in hdf5.arrays(file, names[:3])] == [10**6] * 3
    with pytest.raises(ValueError, match=r"'/packed\d?' declares 0.032 GB"):
        hdf5.arrays(file, names[:4])


def damaged_chunk(file, name, octets, **packing):
    """Create a dataset of one chunk, 800,000 bytes long, that is stored as these bytes."""
    dataset = file.create_dataset(name, (10**5,), "f8", chunks=(10**5,), **packing)
    dataset.id.write_direct_chunk((0,), octets)
    return dataset


# Without care HDF5 2.0 ends the process for each of these but the last.
@pytest.mark.parametrize(
    ("packing", "octets"),
    [
        ({"compression": "gzip"}, zlib.compress(bytes(799_999))),
        ({"compression": "gzip"}, zlib.compress(b"")),
        ({"compression": "gzip", "shuffle": True}, zlib.compress(bytes(8))),
        ({"shuffle": True}, bytes(8)),
        ({"fletcher32": True}, bytes(2)),
        ({"fletcher32": True}, bytes(799_999)),
        ({"compression": "gzip"}, zlib.compress(bytes(5 * 10**8))),
    ],
)
def test_chunks_of_another_size(file, packing, octets):
    dataset = damaged_chunk(file, "short", octets, **packing)
    hdf5.require_stored(dataset)
    with pytest.raises(ValueError, match=r"the chunk at \(0,\) of '/short' is damaged"):
        hdf5.require_chunks(dataset, 0)
    with pytest.raises(ValueError, match="is damaged"):
        hdf5.whole(file, "short")


def test_chunks_that_are_not_packed_though_others_are(tmp_path):
    values = np.random.default_rng(0).random(1000)
    with h5py.File(tmp_path / "b.h5", "w") as made:
        for name, octets in (("whole", values.tobytes()), ("short", values.tobytes()[:-1])):
            dataset = made.create_dataset(name, (1000,), "f8", chunks=(1000,), compression="gzip")
            dataset.id.write_direct_chunk((0,), octets, filter_mask=1)
    with h5py.File(tmp_path / "b.h5") as made:
        np.testing.assert_array_equal(hdf5.whole(made, "whole"), values)
        with pytest.raises(ValueError, match="is damaged"):
            hdf5.require_chunks(made["short"], 0)


@pytest.mark.parametrize(
    "packing", [{"compression": "gzip"}, {"shuffle": True}, {"fletcher32": True}]
)
def test_whole_chunks_pass(file, packing):
    values = np.random.default_rng(0).random((30, 7)).round(1)
    sound = file.create_dataset("sound", (30, 7), chunks=(8, 3), dtype="f8", **packing)
    # The last chunks are not stored.
    sound[:20] = values[:20]
    for row in range(0, 30, 8):
        hdf5.require_chunks(sound, row)
    np.testing.assert_array_equal(hdf5.whole(file, "sound")[:20], values[:20])


@pytest.mark.parametrize("more", [{}, {"shuffle": True}, {"fletcher32": True}])
def test_a_large_chunk_of_what_does_not_pack_passes(file, more):
    values = np.random.default_rng(0).random(40_000)
    large = file.create_dataset("large", data=values, chunks=(40_000,), compression="gzip", **more)
    # It is looked at in pieces.
    assert large.id.get_storage_size() > 3 * 2**16
    hdf5.require_chunks(large, 0)
    np.testing.assert_array_equal(hdf5.whole(file, "large"), values)


@pytest.mark.parametrize("library", ["earliest", "latest"])
@pytest.mark.parametrize("options", [{}, {"maxshape": (None, 7)}, {"chunks": (30, 7)}])
def test_no_chunk_is_stored(tmp_path, library, options):
    with h5py.File(tmp_path / "b.h5", "w", libver=library) as made:
        options = {"chunks": (8, 3), "compression": "gzip", "fillvalue": 2.0, **options}
        made.create_dataset("none", (30, 7), "f8", **options)
    with h5py.File(tmp_path / "b.h5") as made:
        np.testing.assert_array_equal(hdf5.whole(made, "none"), np.full((30, 7), 2.0))


@pytest.mark.parametrize(
    ("shape", "chunks", "few"),
    [
        ((100_000,), (1,), True),
        ((100_001,), (1,), False),
        ((11_000, 11_000), (1, 1), False),
        ((10**8, 1), (1, 512), False),
        ((200_000, 600), (1, 512), True),
        ((10**8,), (511,), False),
        ((10**8,), (512,), True),
    ],
)
def test_small_chunks(file, shape, chunks, few):
    # Without a limit of the shape a chunk may be larger.
    made = file.create_dataset("made", shape, "f8", chunks=chunks, maxshape=(None,) * len(shape))
    if few:
        hdf5.require_stored(made)
    else:
        with pytest.raises(ValueError, match=r"'/made' has \d+ chunks of \d+ bytes: h5repack"):
            hdf5.require_stored(made)


@pytest.mark.parametrize("packing", [{"scaleoffset": 2}, {"compression": "lzf"}])
def test_filters_on_which_hdf5_crashes(file, packing):
    other = file.create_dataset("other", data=np.ones(100), chunks=(10,), **packing)
    with pytest.raises(ValueError, match=r"packed by filters \[\d+\] of HDF5, and only gzip"):
        hdf5.require_stored(other)
