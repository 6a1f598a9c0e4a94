import hashlib
import os
import subprocess
import sys
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from rankwise.disk.dataset import Dataset
from rankwise.ranks.agreement import Stop

VALUES = np.arange(1000.0)


@pytest.fixture
def files(tmp_path):
    """Write the same values in every form that is read, and files that are no input at all."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = VALUES
        file["group/big"] = VALUES.astype(">f8")
        file.create_dataset("packed", data=VALUES.astype("f4"), chunks=(100,), compression="gzip")
        file["integers"] = np.arange(10)
        file["matrix"] = np.ones((3, 3))
        file["scalar"] = 1.0
        file["nothing"] = h5py.Empty("f8")
        large = (100 * 2**17,)
        file.create_dataset("large", shape=large, dtype="f8", chunks=large, compression="gzip")
    np.save(tmp_path / "x.npy", VALUES)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.ones((3, 3))))
    np.savez(tmp_path / "zip", x=VALUES)
    (tmp_path / "zip.npz").rename(tmp_path / "zip.npy")
    np.save(tmp_path / "swapped.npy", VALUES.astype(">f4"))
    np.save(tmp_path / "empty.npy", VALUES[:0])
    (tmp_path / "two.npy").write_bytes((tmp_path / "x.npy").read_bytes() * 2)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe.npy").symlink_to("pipe")
    (tmp_path / "text.h5").write_text("not HDF5")
    (tmp_path / "text.npy").write_text("not NumPy")
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(whole[: len(whole) // 2])
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "half.npy").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.mark.parametrize(
    "where", ["a.h5:/x", "a.h5:x", "a.h5:/group/big", "a.h5:packed", "x.npy", "swapped.npy"]
)
def test_reads_any_piece(files, where):
    data = Dataset(f"{files}/{where}", 1, (np.float64, np.float32))
    assert data.shape == (1000,)
    assert data.dtype.isnative
    rows = np.empty(300, data.dtype)
    data.read(450, rows)
    np.testing.assert_array_equal(rows, VALUES[450:750])
    data.read(1000, rows[:0])
    octets = VALUES.astype(data.dtype).tobytes()
    assert data.sha256() == hashlib.sha256(octets).hexdigest()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("missing.h5:/x", "no such file"),
        ("missing.npy", "no such file"),
        (".:/x", "it is a folder"),
        ("pipe:/x", "it is no regular file"),
        ("pipe.npy", "it is no regular file"),
        ("a.h5", "neither FILE.h5:/dataset nor FILE.npy"),
        ("a.h5:", "neither FILE.h5:/dataset nor FILE.npy"),
        ("a.h5:/y", "no dataset '/y'; it holds /group, /integers"),
        ("a.h5:/large", "packed chunks of 100 MiB, and 64 MiB is the most"),
        ("fortran.npy", "Fortran order"),
        ("zip.npy", "not a whole .npy file"),
        ("a.h5:/group", "a group"),
        ("a.h5:/integers", "int64: float64 or float32 is needed"),
        ("a.h5:/matrix", r"shape \(3, 3\)"),
        ("a.h5:/scalar", r"shape \(\)"),
        ("a.h5:/nothing", "shape None"),
        ("text.h5:/x", "not a whole HDF5 file"),
        ("half.h5:/x", "not a whole HDF5 file"),
        ("text.npy", "not a whole .npy file"),
        ("half.npy", "not a whole .npy file"),
        ("objects.npy", "not a whole .npy file"),
        ("two.npy", "not a single .npy file: 8128 bytes follow its last row"),
    ],
)
def test_says_what_is_wrong(files, where, message):
    with pytest.raises(Stop, match=message) as caught:
        Dataset(f"{files}/{where}", 1, (np.float64, np.float32))
    assert caught.value.status == 2


def test_rows_of_a_matrix(tmp_path):
    values = np.arange(30.0).reshape(10, 3)
    np.save(tmp_path / "x.npy", values)
    rows = np.empty((4, 3))
    Dataset(f"{tmp_path}/x.npy", 2, (np.float64,)).read(5, rows)
    np.testing.assert_array_equal(rows, values[5:9])


def test_a_digest_in_pieces(tmp_path, monkeypatch):
    values = np.random.default_rng(1).random((7, 5))
    np.save(tmp_path / "m.npy", values)
    data = Dataset(str(tmp_path / "m.npy"), 2, (np.float64,))
    # Rows, two rows, all.
    for size in (1, 100, 1000):
        monkeypatch.setattr("rankwise.disk.dataset._BLOCK_BYTES", size)
        assert data.sha256() == hashlib.sha256(values.tobytes()).hexdigest()


def test_an_empty_file_has_no_rows(files):
    assert Dataset(f"{files}/empty.npy", 1, (np.float64,)).shape == (0,)


def test_a_file_that_shrinks_is_found_while_reading(files):
    data = Dataset(f"{files}/x.npy", 1, (np.float64,))
    with open(files / "x.npy", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(Stop, match="ends before its last row"):
        data.read(0, np.empty(1000))


@pytest.mark.parametrize("where", ["x.npy", "a.h5:/x"])
def test_a_file_that_changes_is_found_while_reading(files, where):
    data = Dataset(f"{files}/{where}", 1, (np.float64,))
    data.read(0, np.empty(1000))
    path = files / where.partition(":")[0]
    whole = path.read_bytes()
    # Another file of that name changes nothing: the one that was opened is read.
    path.rename(files / "renamed")
    path.write_bytes(whole[:-8] + bytes(8))
    rows = np.empty(1000)
    data.read(0, rows)
    np.testing.assert_array_equal(rows, VALUES)
    with open(files / "renamed", "r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(bytes(8))
    with pytest.raises(Stop, match="at row 5: another process has changed the file since this run"):
        data.read(5, np.empty(10))


def test_a_file_of_another_user_is_not_read(files):
    (files / "x.npy").chmod(0)
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(65534)
        with pytest.raises(Stop, match="Permission denied"):
            Dataset(f"{files}/x.npy", 1, (np.float64,))
    finally:
        os.seteuid(me)


def test_a_file_that_is_being_written_is_named(files):
    script = (
        "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"
    )
    command = [sys.executable, "-c", script, files / "a.h5"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as writer:
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(Stop, match="is open for writing in another process"):
            Dataset(f"{files}/a.h5:/x", 1, (np.float64,))
        writer.communicate(b"\n")


def test_damage_inside_is_found_while_reading(files):
    path = files / "a.h5"
    with h5py.File(path) as file:
        chunk = file["packed"].id.get_chunk_info(5)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    data = Dataset(f"{path}:packed", 1, (np.float32,))
    rows = np.empty(1000, np.float32)
    with pytest.raises(Stop, match="cannot read"):
        data.read(0, rows)


@pytest.mark.parametrize("form", ["a.npy", "a.h5:/a"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.5e10])
def test_elements_that_are_too_large_are_named(tmp_path, form, bad):
    values = np.ones((5, 3))
    values[3, 1] = bad
    np.save(tmp_path / "a.npy", values)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = values
    data = Dataset(f"{tmp_path}/{form}", 2, (np.float64,), largest=1e10)
    data.read(0, np.empty((3, 3)))
    words = rf"element \(3, 1\) of .* is {bad}: a number is needed, up to 1e\+10"
    with pytest.raises(Stop, match=words):
        data.read(2, np.empty((3, 3)))
    Dataset(f"{tmp_path}/{form}", 2, (np.float64,)).read(2, np.empty((3, 3)))


def test_what_the_file_says_of_the_size_of_a_chunk_is_not_needed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(1000,))
    whole = bytearray((tmp_path / "a.h5").read_bytes())
    # The first key of the tree of chunks, which begins with the size of the chunk.
    key = whole.index(b"TREE\x01") + 24
    assert whole[key : key + 4] == (8000).to_bytes(4, "little")
    whole[key : key + 4] = bytes(4)
    (tmp_path / "a.h5").write_bytes(whole)
    rows = np.empty(1000)
    Dataset(f"{tmp_path}/a.h5:/x", 1, (np.float64,)).read(0, rows)
    np.testing.assert_array_equal(rows, VALUES)


def test_a_packed_chunk_that_is_too_short_is_found_while_reading(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        packed = file.create_dataset("x", data=VALUES, chunks=(100,), compression="gzip")
        packed.id.write_direct_chunk((500,), zlib.compress(bytes(796)))
    data = Dataset(f"{tmp_path}/a.h5:/x", 1, (np.float64,))
    data.read(0, np.empty(500))
    for start, rows in ((450, 51), (599, 1), (0, 1000)):
        with pytest.raises(Stop, match=r"cannot read .*: the chunk at \(500,\) of '/x' is damaged"):
            data.read(start, np.empty(rows))


@pytest.mark.parametrize("chunks", [(8, 3), (30, 7), (1, 7)])
@pytest.mark.parametrize("packing", [{}, {"compression": "gzip", "shuffle": True}])
def test_pieces_of_a_matrix_in_chunks(tmp_path, chunks, packing):
    values = np.random.default_rng(0).random((30, 7))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=chunks, **packing)
    data = Dataset(f"{tmp_path}/a.h5:/x", 2, (np.float64,))
    for start in (0, 5, 12, 24, 0):
        rows = np.empty((6, 7))
        data.read(start, rows)
        np.testing.assert_array_equal(rows, values[start : start + 6])


def test_types_in_types_are_refused(tmp_path):
    kind = np.dtype("f8")
    for _ in range(300):
        kind = np.dtype([("a", kind)])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (3,), kind)
    with pytest.raises(Stop, match="of type object: float64 is needed"):
        Dataset(f"{tmp_path}/a.h5:/x", 1, (np.float64,))


def npy(path, text, version=1, declared=None):
    """Write a .npy file with a header of this text, and ten numbers."""
    header = text.encode("latin-1")
    size = (len(header) if declared is None else declared).to_bytes(2 * version, "little")
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + header + bytes(80))
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "'", "[" * 9000, "(" * 150 + ")" * 150, "-" * 9000 + "1", "{" * 300, "1j", "\0"),
        "{'descr': '<f8', 'fortran_order': False, 'shape': (10L,)",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1.0,)}",
        "{'descr': '\xff', 'fortran_order': False, 'shape': (10,)}",
        "{'descr': [[[]]], 'fortran_order': False, 'shape': (10,)}",
        "{'descr': 'U9999999999', 'fortran_order': False, 'shape': (10,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (11,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775808,)}",
    ],
)
def test_hostile_headers(tmp_path, text):
    with pytest.raises(Stop, match=r"^\S* is not a whole \.npy file( of numbers|: it ends .*)$"):
        Dataset(npy(tmp_path / "x.npy", text), 1, (np.float64,))


def test_a_header_of_python_2_is_read_without_a_warning(tmp_path):
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (10L,)}"
    assert Dataset(npy(tmp_path / "x.npy", text, version=2), 1, (np.float64,)).shape == (10,)


def test_a_header_that_declares_gigabytes_is_not_read(tmp_path):
    path = npy(tmp_path / "x.npy", "{", version=2, declared=2**30)
    # With a hole, which takes no space.
    os.truncate(path, 2**30 + 100)
    tracemalloc.start()
    try:
        with pytest.raises(Stop, match=r"is not a whole \.npy file"):
            Dataset(path, 1, (np.float64,))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
