"""Datasets that show other files: without a source, HDF5 reads the fill value and says nothing."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from rankwise.disk import views
from rankwise.disk.dataset import Dataset
from rankwise.ranks.agreement import Stop
from tests.cases import long

VALUES = np.arange(1.0, 101)
# Reads as HDF5 and as we do, until nothing is left of what either has found.
SCRIPT = """
import os, sys, h5py, numpy
from rankwise.disk.dataset import Dataset
from rankwise.ranks.agreement import Stop
path, *places = sys.argv[1:]
while True:
    rows = numpy.empty(100)
    with h5py.File(path) as file:
        theirs = file["v"][0]
    try:
        data = Dataset(path + ":/v", 1, (numpy.float64,), allow_external=True)
        data.read(0, rows)
    except Stop as error:
        sys.exit(f"{theirs} {error}")
    # What was looked at is what is read.
    assert rows[0] == data._sources[0][0] == theirs, (rows[0], data._sources, theirs)
    del data
    print(places[int(theirs) - 1])
    os.unlink(f"../{places[int(theirs) - 1]}/a.h5")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def source(path, values=VALUES, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, **options)
    return path


def virtual(path, *parts, length=100, **options):
    """Write a virtual dataset; parts are (where, file, name, shape of the source, which of it)."""
    layout = h5py.VirtualLayout((length,), "f8", **options)
    for where, file, name, shape, which in parts:
        layout[where] = h5py.VirtualSource(file, name, shape, **options)[which]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("v", layout)


def halves(path="v.h5", *, second="b.h5"):
    """Write a virtual dataset of two sources, and the first of these."""
    source("a.h5", VALUES[:60])
    virtual(
        path,
        (np.s_[:60], "a.h5", "x", (60,), np.s_[:]),
        (np.s_[60:], second, "x", (40,), np.s_[:]),
    )


def read(where="v.h5:/v"):
    data = Dataset(where, 1, (np.float64,), allow_external=True)
    rows = np.empty(data.shape)
    data.read(0, rows)
    return rows


def refuse(words, where="v.h5:/v"):
    with pytest.raises(Stop, match=words) as caught:
        read(where)
    assert caught.value.status == 2 and "\n" not in str(caught.value)
    del caught


def test_whole_sources_are_read(folder):
    halves()
    source("b.h5", VALUES[60:], chunks=(7,), compression="gzip")
    np.testing.assert_array_equal(read(), VALUES)
    # Larger sources, of which parts are shown in turn, and the file itself.
    source("c.h5", np.repeat(VALUES, 2))
    virtual(
        "v.h5",
        (np.s_[::2], "c.h5", "x", (200,), np.s_[::4]),
        (np.s_[1::2], "./c.h5", "x", (200,), np.s_[2::4]),
    )
    np.testing.assert_array_equal(read(), VALUES)
    with h5py.File("v.h5", "r+") as file:
        layout = h5py.VirtualLayout((100,), "f8")
        layout[:] = h5py.VirtualSource(".", "/v", (100,))
        file.create_virtual_dataset("w", layout)
    np.testing.assert_array_equal(read("v.h5:/w"), VALUES)


def test_a_missing_source_is_named(folder):
    halves()
    refuse("v.h5 cannot be read: '/v' shows 'x' of 'b.h5', and there is no such file")
    source("b.h5", VALUES[60:])
    with h5py.File("b.h5", "r+") as file:
        file.move("x", "y")
    refuse("shows 'x' of 'b.h5', and that file has no such dataset")
    with h5py.File("b.h5", "r+") as file:
        file.create_group("x")
    refuse("shows 'x' of 'b.h5', and that file has no such dataset")


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (VALUES[61:], {}, r"shows 'x' of 'b.h5', and more of it than its shape, \(39,\)"),
        (np.ones((40, 2)), {}, r"and more of it than its shape, \(40, 2\)"),
        (VALUES[60:], {"chunks": (5,), "compression": "lzf"}, "'/x' is packed by filters"),
        (VALUES[60:].astype("S5"), {}, "'/x' of .*b.h5 holds no numbers"),
    ],
)
def test_a_source_that_does_not_fit(folder, values, options, words):
    halves()
    source("b.h5", values, **options)
    refuse(words)


def test_a_source_has_conventions_too(folder):
    halves()
    with h5py.File("b.h5", "w") as file:
        half = file.create_dataset("x", (40,), "f8", chunks=(10,))
        half[:20] = 1
    refuse("2 of the 4 chunks of '/x' were written: .*b.h5")
    source("b.h5", VALUES[60:])
    with h5py.File("b.h5", "r+") as file:
        file["x"].attrs["_FillValue"] = 71.0
    refuse("element 70 of v.h5:/v is 71.0: its _FillValue")
    with h5py.File("b.h5", "r+") as file:
        file["x"].attrs["scale_factor"] = 2.0
    refuse("'/x' holds packed numbers, see its scale_factor")


def test_a_source_that_is_no_hdf5_or_being_written(folder):
    halves()
    (folder / "b.h5").write_text("text")
    refuse("shows 'x' of 'b.h5', which cannot be opened: .*signature")
    (folder / "b.h5").unlink()
    os.mkfifo("b.h5")
    refuse("and there is no such file")
    (folder / "b.h5").unlink()
    source("b.h5", VALUES[60:])
    script = "import h5py; f = h5py.File('b.h5', 'r+'); print('open', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as writer:
        assert writer.stdout.readline() == b"open\n"
        refuse("which cannot be opened: .*unable to lock file")
        writer.communicate(b"\n")
    np.testing.assert_array_equal(read(), VALUES)


def test_sources_stay_locked(folder):
    halves()
    source("b.h5", VALUES[60:])
    data = Dataset("v.h5:/v", 1, (np.float64,), allow_external=True)
    script = "import h5py; h5py.File('b.h5', 'r+')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "BlockingIOError" in done.stderr
    rows = np.empty(100)
    data.read(0, rows)
    np.testing.assert_array_equal(rows, VALUES)


@pytest.mark.parametrize(
    ("parts", "left"),
    [
        ([(np.s_[:99], "a.h5", "x", (100,), np.s_[:99])], 1),
        # As many elements as there are, some twice.
        (
            [
                (np.s_[:60], "a.h5", "x", (100,), np.s_[:60]),
                (np.s_[50:90], "a.h5", "x", (100,), np.s_[:40]),
            ],
            10,
        ),
        ([(np.s_[::2], "a.h5", "x", (100,), np.s_[:50])], 50),
        ([], 100),
    ],
)
def test_what_no_source_covers(folder, parts, left):
    source("a.h5")
    virtual("v.h5", *parts)
    refuse(f"'/v' is virtual, and shows nothing in {left} of its 100 elements")


def test_without_a_limit(folder):
    source("a.h5", maxshape=(None,))
    whole = np.s_[: h5py.h5s.UNLIMITED]
    virtual("v.h5", (whole, "a.h5", "x", (100,), whole), maxshape=(None,))
    refuse("'/v' shows 'x' of 'a.h5', without a limit, .*: `python -c ")
    with h5py.File("v.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        shown = h5py.h5s.create_simple((100,), (h5py.h5s.UNLIMITED,))
        shown.select_hyperslab((0,), (h5py.h5s.UNLIMITED,), (100,), (100,))
        properties.set_virtual(shown, b"part%b.h5", b"x", h5py.h5s.create_simple((100,)))
        h5py.h5d.create(file.id, b"v", h5py.h5t.IEEE_F64LE, shown, properties)
    refuse("'/v' shows 'x' of 'part%b.h5', without a limit")


def test_views_of_views(folder):
    halves("first.h5")
    virtual("v.h5", (np.s_[:], "first.h5", "v", (100,), np.s_[:]))
    refuse("'/v' shows 'x' of 'b.h5', and there is no such file")
    source("b.h5", VALUES[60:])
    np.testing.assert_array_equal(read(), VALUES)
    virtual("first.h5", (np.s_[:], "v.h5", "v", (100,), np.s_[:]))
    refuse("virtual datasets that lead round in a circle")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (VALUES, None),
        (VALUES[:70], "'/v' lies in raw.bin, which has 560 bytes, and 800 are needed"),
        (None, "'/v' lies in raw.bin, and there is no such file"),
    ],
)
def test_raw_files(folder, values, words):
    parts = [("head.bin", 8, 240), ("raw.bin", 240, h5py.h5f.UNLIMITED)]
    with h5py.File("v.h5", "w") as file:
        file.create_dataset("v", (100,), "f8", external=parts)
    VALUES[-1:].tofile("head.bin")
    with open("head.bin", "ab") as file:
        VALUES[:30].tofile(file)
    if values is not None:
        values.tofile("raw.bin")
    if words is None:
        np.testing.assert_array_equal(read(), VALUES)
    else:
        refuse(words)


def test_a_raw_file_that_is_cut_while_it_is_read(folder):
    VALUES.tofile("raw.bin")
    with h5py.File("v.h5", "w") as file:
        file.create_dataset("v", (100,), "f8", external=[("raw.bin", 0, 800)])
    data = Dataset("v.h5:/v", 1, (np.float64,), allow_external=True)
    data.read(0, np.empty(100))
    os.truncate("raw.bin", 400)
    with pytest.raises(Stop, match="another process has changed the file"):
        data.read(0, np.empty(100))


def test_links_to_what_is_missing(folder):
    source("a.h5")
    with h5py.File("v.h5", "w") as file:
        file["v"] = h5py.ExternalLink("a.h5", "/x")
        file["file"] = h5py.ExternalLink("b.h5", "/x")
        file["name"] = h5py.ExternalLink("a.h5", "/y")
        file["soft"] = h5py.SoftLink("/file")
    np.testing.assert_array_equal(read(), VALUES)
    refuse("'file' is a link to '/x' in 'b.h5', which cannot be opened", "v.h5:/file")
    refuse("'file' is a link to '/x' in 'b.h5', which cannot be opened", "v.h5:/soft")
    refuse("'name' is a link to '/y' in 'a.h5', which cannot be .*doesn't exist", "v.h5:/name")


PLACES = {
    "real": "beside the file itself",
    "link": "beside the link to it",
    "here": "in the working folder",
    "here/one": "at the first prefix",
    "here/two": "at the second prefix",
    "link/origin": "in a folder beside it",
    "named": "where its name says",
}


@pytest.mark.parametrize(
    ("absolute", "prefix"),
    [
        (True, "one:two"),
        long(False, "one:two"),
        long(True, "${ORIGIN}/origin"),
        *(long(absolute, "") for absolute in (False, True)),
    ],
)
def test_sources_are_found_where_hdf5_finds_them(folder, absolute, prefix):
    for number, place in enumerate(PLACES):
        (folder / place).mkdir(parents=True, exist_ok=True)
        source(folder / place / "a.h5", VALUES + number)
    name = str(folder / "named" / "a.h5") if absolute else "a.h5"
    virtual("real/v.h5", (np.s_[:], name, "x", (100,), np.s_[:]))
    (folder / "link" / "v.h5").symlink_to("../real/v.h5")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "../link/v.h5", *PLACES],
        cwd="here",
        env={**os.environ, "HDF5_VDS_PREFIX": prefix},
        capture_output=True,
        text=True,
    )
    assert done.stderr.startswith("0.0 ") and "no such file" in done.stderr, done.stderr
    first = ["named"] * absolute + ["here/one", "here/two"] * (prefix == "one:two")
    first += ["link/origin"] * ("ORIGIN" in prefix)
    assert done.stdout.split() == [*first, "link", "here", "real"]


def test_the_places_of_raw_files(folder, monkeypatch):
    monkeypatch.setenv("HDF5_EXTFILE_PREFIX", "${ORIGIN}/origin")
    with h5py.File("v.h5", "w") as file:
        dataset = file.create_dataset("v", (100,), "f8", external=[("raw.bin", 0, 800)])
        with pytest.raises(ValueError, match=f"lies in {folder}/origin/raw.bin, and there is no"):
            views.raw_files(dataset)
