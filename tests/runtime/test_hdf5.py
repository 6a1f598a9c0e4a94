import h5py
import numpy as np
import pytest

from runtime import hdf5

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


@pytest.mark.parametrize("chunks", [None, (100,)])
def test_what_is_declared_and_not_stored(file, chunks):
    empty = file.create_dataset("empty", (2**50,), "f8", chunks=chunks)
    words = r"'/empty' declares 9.01e\+06 GB, and 0 bytes are stored"
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
