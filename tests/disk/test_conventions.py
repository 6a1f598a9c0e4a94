"""What netCDF, MATLAB and HDF5 say of elements beside them."""

import re
import shlex
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest

from rankwise.disk.dataset import Dataset
from rankwise.ranks.agreement import Stop

VALUES = np.random.default_rng(0).random(1000)
# netCDF's default fill value of floating point.
FILL = 9.969209968386869e36
FLOATS = (np.float64, np.float32)


@pytest.fixture(params=["x.h5", "x.nc"])
def path(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return request.param


def make(path, values, attributes, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("t", data=values, **options).attrs.update(attributes)
    return f"{path}:/t"


def read(where, ndim=1, dtypes=FLOATS):
    data = Dataset(where, ndim, dtypes)
    rows = np.empty(data.shape, data.dtype)
    for start in range(0, len(rows), 300):
        data.read(start, rows[start : start + 300])
    return rows


def follow(message):
    """Do what the command in a message does, and return what it wrote."""
    (command,) = re.findall("`(python .*)`", message)
    python, option, code = shlex.split(command)
    assert (python, option) == ("python", "-c")
    exec(code, {})
    return re.search(r'numpy\.save\("([^"]*)"', code)[1]


def refuse(where, words, ndim=1, dtypes=FLOATS):
    with pytest.raises(Stop, match=words) as caught:
        read(where, ndim, dtypes)
    message = str(caught.value)
    assert caught.value.status == 2 and "\n" not in message
    # With it the file is closed, which tests write again.
    del caught
    return message


@pytest.mark.parametrize(
    "attributes",
    [
        {"_FillValue": FILL},
        {"_FillValue": np.nan, "missing_value": np.array([-999.0, 1e20])},
        {"scale_factor": 1.0, "add_offset": np.array([0.0])},
        {"valid_min": 0.0, "valid_max": 1.0, "valid_range": np.array([0.0, 1.0])},
        {"_FillValue": h5py.Empty("f8"), "units": "K"},
    ],
)
def test_what_says_nothing_of_these_elements(path, attributes):
    where = make(path, VALUES, attributes, chunks=(300,), fillvalue=FILL)
    np.testing.assert_array_equal(read(where), VALUES)


@pytest.mark.parametrize(
    ("attributes", "value", "words"),
    [
        ({"_FillValue": np.array([FILL])}, FILL, "its _FillValue"),
        ({"_FillValue": 0.0}, 0.0, "its _FillValue"),
        ({"missing_value": np.array([5.0, -999.0])}, -999.0, "its missing_value"),
        ({"valid_min": 0.0}, -1.0, "outside of its valid_min"),
        ({"valid_max": 1.0}, 2.0, "outside of its valid_max"),
        ({"valid_range": np.array([0.0, 1.0])}, 2.0, "outside of its valid_range"),
        ({"valid_range": np.array([0.0, 1.0])}, -1.0, "outside of its valid_range"),
    ],
)
def test_an_element_that_is_missing_is_named(path, attributes, value, words):
    values = np.where(np.arange(1000) == 700, value, VALUES)
    message = refuse(make(path, values, attributes), rf"element 700 of {path}:/t is .*: {words}, ")
    np.testing.assert_array_equal(read(follow(message)), values)


def test_a_missing_value_of_another_type(path):
    values = np.where(np.arange(1000) == 700, 1e20, VALUES).astype("f4")
    refuse(make(path, values, {"missing_value": 1e20}), "element 700 .* its missing_value")
    # -999 is no number of eight bits, in which it would be 25.
    pixels = np.full((5, 5), 25, "u1")
    where = make(path, pixels, {"missing_value": np.int16(-999), "_FillValue": np.int16(255)})
    np.testing.assert_array_equal(read(where, 2, (np.uint8,)), pixels)
    pixels[3, 1] = 255
    where = make(path, pixels, {"_FillValue": np.int16(255)})
    refuse(where, r"element \(3, 1\) of .* is 255: its _FillValue", 2, (np.uint8,))


@pytest.mark.parametrize("value", ["0.01", np.zeros(2000)])
def test_an_attribute_that_is_no_number(path, value):
    for name in ("scale_factor", "_FillValue"):
        refuse(make(path, VALUES, {name: value}), f"the attribute {name} of '/t' is no number")
        message = refuse(f"{path}:/t", "if its elements are numbers as they are, `python -c")
        np.testing.assert_array_equal(read(follow(message)), VALUES)
    refuse(make(path, VALUES, {"valid_range": 1.0}), "the attribute valid_range .* has 1 numbers")


@pytest.mark.parametrize(
    ("attributes", "wrong"),
    [({"valid_max": 3.5}, 4), ({"valid_range": np.array([0.5, 4.5])}, 0), ({"valid_min": 0}, None)],
)
def test_limits_that_no_element_can_equal(path, attributes, wrong):
    where = make(path, np.arange(5), attributes)
    if wrong is None:
        np.testing.assert_array_equal(read(where, 1, (np.int64,)), np.arange(5))
    else:
        refuse(where, f"element {wrong} of .* outside of its valid_", 1, (np.int64,))


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("f4", {"scale_factor": 0.01, "add_offset": 273.15}),
        ("f8", {"add_offset": np.array([1.0])}),
        (">i2", {"scale_factor": np.float32(0.5), "_FillValue": np.int16(-1)}),
        ("i2", {"scale_factor": 0.5, "add_offset": 1.0, "valid_range": np.array([2, 90], "i2")}),
        ("i2", {"scale_factor": 2.0, "valid_min": np.int16(3), "valid_max": np.int16(70)}),
        (
            "i1",
            {"scale_factor": 0.5, "missing_value": np.array([-1, 4], "i1"), "_Unsigned": "true"},
        ),
    ],
)
def test_packed_numbers_are_refused_and_unpacked(path, kind, attributes):
    packed = (VALUES[:100] * 100).astype(kind)
    packed[5] = -1
    words = " and ".join(name for name in ("scale_factor", "add_offset") if name in attributes)
    message = refuse(make(path, packed, attributes), f"holds packed numbers, see its {words}: `")
    whole = packed.view("u1") if "_Unsigned" in attributes else packed
    meant = whole.astype("f8") * attributes.get("scale_factor", 1) + attributes.get("add_offset", 0)
    missing = np.isin(packed, [attributes.get(n, 1000) for n in ("_FillValue",)])
    missing |= np.isin(packed, attributes.get("missing_value", 1000))
    low, high = attributes.get("valid_range", (-1000, 1000))
    low, high = attributes.get("valid_min", low), attributes.get("valid_max", high)
    meant[missing | (packed < low) | (packed > high)] = np.nan
    np.testing.assert_array_equal(read(follow(message)), meant)
    assert np.isnan(meant).any() == (len(attributes) > 2 or ">" in kind)


@pytest.mark.parametrize("packing", [{}, {"compression": "gzip"}])
@pytest.mark.parametrize(("size", "stored"), [(0, 0), (500, 2), (900, 3)])
def test_what_was_not_written_is_refused(path, size, stored, packing):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("t", (1000,), "f8", chunks=(300,), **packing)
        dataset[:size] = VALUES[:size]
    message = refuse(f"{path}:/t", f"{stored} of the 4 chunks of '/t' were written: if the rest ")
    expected = np.append(VALUES[:size], np.zeros(1000 - size))
    np.testing.assert_array_equal(read(follow(message)), expected)
    with h5py.File(path, "r+") as file:
        file["t"][size:] = VALUES[size:]
    np.testing.assert_array_equal(read(f"{path}:/t"), VALUES)


@pytest.mark.parametrize("marked", ["fill value", "_FillValue", "missing_value"])
def test_of_what_is_missing_no_command_makes_numbers(path, marked):
    with h5py.File(path, "w") as file:
        fill = 9.97e36 if marked == "fill value" else 0.0
        dataset = file.create_dataset("t", (1000,), "f8", chunks=(300,), fillvalue=fill)
        dataset[:500] = VALUES[:500]
        if marked != "fill value":
            dataset.attrs[marked] = 0.0
    message = refuse(f"{path}:/t", "2 of the 4 chunks of '/t' were written, and the rest is missi")
    assert "python" not in message


def test_what_was_never_written_is_refused(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("t", (1000,), "f8")
        file.create_dataset("none", (0,), "f8", chunks=(5,), maxshape=(None,))
    refuse(f"{path}:/t", "nothing of '/t' was written: if the rest is meant to be 0, `py")
    assert read(f"{path}:/none").size == 0


@pytest.mark.parametrize("chunks", [None, (300,)])
def test_a_fill_value_within_what_was_written_is_refused(path, chunks):
    with h5py.File(path, "w") as file:
        made = file.create_dataset("t", (1000,), "f8", chunks=chunks, fillvalue=FILL)
        made[:950] = VALUES[:950]
    words = r"element 950 of \S* is 9\.969\S*: its fill value, which stands where none was written"
    refuse(f"{path}:/t", words)
    # Zeros are no sign.
    where = make(path, np.zeros(1000), {}, chunks=chunks, fillvalue=0.0)
    assert not read(where).any()


@pytest.mark.parametrize("packing", [{}, {"compression": "gzip", "chunks": True}])
@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (1, 1, 1000), (1000, 1, 1)])
def test_a_vector_of_matlab_is_one(path, shape, packing):
    where = make(path, VALUES.reshape(shape), {"MATLAB_class": np.bytes_("double")}, **packing)
    data = Dataset(where, 1, FLOATS)
    assert data.shape == (1000,) and not data.warnings
    np.testing.assert_array_equal(read(where), VALUES)
    np.save("x.npy", VALUES.reshape(shape))
    np.testing.assert_array_equal(read("x.npy"), VALUES)
    if len(shape) == 2:
        # In pieces only along the first.
        assert Dataset(where, 2, FLOATS).shape == Dataset("x.npy", 2, FLOATS).shape == shape


@pytest.mark.parametrize("axis", [0, 1])
def test_damage_in_a_vector_of_matlab(path, axis):
    shape, chunks, damaged = ((n, 1) if axis == 0 else (1, n) for n in (1000, 100, 300))
    damaged = damaged[axis] * (1 - axis), damaged[axis] * axis
    where = make(path, VALUES.reshape(shape), {}, chunks=chunks, compression="gzip")
    with h5py.File(path, "r+") as file:
        file["t"].id.write_direct_chunk(damaged, zlib.compress(bytes(8)))
    place = re.escape(str(damaged))
    refuse(where, f"cannot read .* at row 300: the chunk at {place} of '/t' is damaged")


@pytest.mark.parametrize(("shape", "length"), [((1, 1), 1), ((0, 1), 0), ((1, 0), 0)])
def test_short_vectors_of_matlab(path, shape, length):
    assert read(make(path, VALUES[:length].reshape(shape), {})).tolist() == VALUES[:length].tolist()
    refuse(make(path, np.ones((2, 3)), {}), r"has the shape \(2, 3\): 1-D data are needed")
    refuse(make(path, np.ones((0, 3)), {}), r"has the shape \(0, 3\): 1-D data are needed")


def test_a_matrix_of_matlab_is_told_of(path):
    where = make(path, np.ones((3, 150)), {"MATLAB_class": np.bytes_("double")})
    (warning,) = Dataset(where, 2, FLOATS).warnings
    assert "whose 150 x 3 matrix has the shape (3, 150) here" in warning


@pytest.mark.parametrize("packing", [{"compression": "lzf"}, {"scaleoffset": 4}])
def test_what_is_packed_otherwise_is_refused_and_unpacked(path, packing):
    message = refuse(make(path, VALUES, {}, chunks=(100,), **packing), r"only gzip \(1\), shuffle")
    np.testing.assert_allclose(read(follow(message)), VALUES, atol=1e-4)
    assert "hdf5plugin" not in message


def test_what_a_plugin_has_packed_names_it(path):
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((100,))
        # Zstandard: https://github.com/HDFGroup/hdf5_plugins
        properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple((100,))
        h5py.h5d.create(file.id, b"t", h5py.h5t.IEEE_F64LE, space, properties)
    words = (
        r"filters \[32015\].*: after `pip install hdf5plugin`, `python -c 'import hdf5plugin, h5py"
    )
    refuse(f"{path}:/t", words)


def test_odd_names_in_a_command(path):
    with h5py.File('it\'s $HOME "é".h5', "w") as file:
        file.create_dataset("a b/`x`'", data=VALUES, chunks=(100,), compression="lzf")
    with pytest.raises(Stop) as caught:
        Dataset("it's $HOME \"é\".h5:/a b/`x`'", 1, FLOATS)
    command, _, end = str(caught.value).partition(": `")[2].rpartition("` writes ")
    assert end == 'it\'s $HOME "é"-a-b-x.npy, for --input'
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True)
    np.testing.assert_array_equal(read('it\'s $HOME "é"-a-b-x.npy'), VALUES)


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"CDF\x01", "is netCDF-3: `nccopy -k nc4 OLD NEW`"),
        (b"MATLAB 5.0 MAT-file, Platform: ", "is an old MAT-file"),
        (b"\x0e\x03\x13\x01", "is HDF4"),
        (b"\x93NUMPY\x01\x00", "is a .npy file: its name must end so"),
        (b"\x1f\x8b\x08", "is compressed"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is only a pointer of Git LFS"),
        (b"", "is not a whole HDF5 file"),
    ],
)
def test_another_kind_of_file_is_named(path, begin, words):
    with open(path, "wb") as file:
        file.write(begin + bytes(600))
    refuse(f"{path}:/t", f"^{path} {words}")
