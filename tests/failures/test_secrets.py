"""What the environment holds and nobody else is to know is in no file and in no output."""

import base64
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from rankwise.disk import record
from tests.failures.seed import SEED

pytestmark = pytest.mark.failures

ROOT = Path(__file__).parents[2]
HEAT, SUM, PREFLIGHT = (ROOT / "jobs" / f"{n}.py" for n in ("heat", "sum_squares", "preflight"))
LIMIT_SECONDS = 60
# {}: a secret. Names may look harmless, or like those of Slurm that a record takes.
VALUES = {
    "MY_API_TOKEN": "{}",
    "AWS_SECRET_ACCESS_KEY": "{}",
    "GITHUB_TOKEN": "ghp_{}",
    "PASSWORD": "{}",
    "SLURM_JWT": "{}",
    "SLURM_JOB_COMMENT": "key={}",
    "SLURM_SPANK_LICENCE": "{}",
    "OMP_TOOL_KEY": "{}",
    "CUDA_LICENCE": "{}",
    "NUMBA_LICENCE": "{}",
    "KRB5CCNAME": "FILE:/tmp/krb5cc_{}",
    "HTTPS_PROXY": "http://user:{}@proxy.invalid:8080",
    "DATABASE_URL": "postgresql://user:{}@db.invalid/x?sslmode=require",
    "GIT_CONFIG_VALUE_0": "Authorization: Bearer {}",
    "THEME": "{}",
    "GREETING": 'two "words" & <{}>',
}
# Without these git takes no notice of the third.
GIT = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader"}
FAILS = """\
from rankwise.job import launch
import json, os, sys

def main(comm, argv):
    if comm.rank == comm.size - 1:
        missing = [name for name in json.loads(argv[0]) if name not in os.environ]
        raise ValueError(f"on purpose, without {missing}")
    comm.Barrier()

launch(main)
"""


def make_tokens(seed):
    """Return a secret by the name of each variable; letters and digits, which nothing escapes."""
    rng = random.Random(seed)
    letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return {name: "".join(rng.choices(letters, k=24)) for name in VALUES}


TOKENS = make_tokens(SEED)


def forms(token):
    """Yield the bytes by which a token would be known, wherever it stands in a text."""
    plain = token.encode()
    yield plain
    yield token.lower().encode()
    yield token.upper().encode()
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    # The letters that depend on what stands before and after are left out.
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + plain)
        yield whole[(0, 2, 3)[before] : -4]


KNOWN = {name: re.compile(b"|".join(map(re.escape, forms(t)))) for name, t in TOKENS.items()}
ANY = re.compile(b"|".join(known.pattern for known in KNOWN.values()))
# How what zlib or gzip packed may begin: streams of PDF, chunks of HDF5, pixels of PNG.
PACKED = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")
# Between the letters of a text: in PDF distances and fonts, there and in UTF-16 zeros.
BETWEEN = re.compile(rb"\)[^()]{,80}\(|\0")


def layers(data):
    """Yield bytes, and what is packed inside them."""
    yield data
    for found in PACKED.finditer(data):
        try:
            # 32: zlib or gzip, as it begins.
            inside = zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(data[found.start() :])
        except zlib.error:
            continue
        if len(inside) > 16:
            yield inside


def leaks(data):
    """Return the variables whose secrets are in some bytes."""
    texts = [text for layer in layers(data) for text in (layer, BETWEEN.sub(b"", layer))]
    texts = [text for text in texts if ANY.search(text)]
    return {name for name, known in KNOWN.items() for text in texts if known.search(text)}


def leaks_below(folder):
    """Return the files below a folder that hold or are named after a secret, each with which."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        content = path.read_bytes() if path.is_file() else b""
        if names := leaks(content) | leaks(os.fsencode(name)):
            found[name] = names
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Run everything that writes files, with secrets around; return folder and outputs."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tmp").mkdir()
    (folder / "fails.py").write_text(FAILS)
    planted = {name: value.format(TOKENS[name]) for name, value in VALUES.items()}
    env = os.environ | {"TMPDIR": str(folder / "tmp")} | planted | GIT
    outputs = {}

    def run(name, *command, ranks=None, status=0, when=None):
        launcher = [Path(sys.executable).with_name("mpirun"), "-n", str(ranks)] if ranks else []
        process = subprocess.Popen(
            [*map(str, launcher), sys.executable, *map(str, command)],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            end = time.monotonic() + LIMIT_SECONDS
            while when is not None and process.poll() is None and not when():
                assert time.monotonic() < end
                time.sleep(0.02)
            if when is not None:
                process.send_signal(signal.SIGUSR1)
            outputs[name] = process.communicate(timeout=LIMIT_SECONDS)[0]
        finally:
            process.kill()
            process.wait()
        assert process.returncode == status, outputs[name].decode()

    heat = [HEAT, "--variant", "numpy", "--threads", "1", "--n", "24", "--output", "heat.h5"]
    heat += ["--checkpoint", "c.h5", "--checkpoint-every", "500", "--snapshot-every", "1000"]
    # More steps than it will do; the second run needs to know how many it did.
    both = (folder / "c-previous.h5").exists
    run("stopped", *heat, "--steps", "1e6", ranks=2, status=75, when=both)
    (step,) = map(int, re.findall(rb"stopped by SIGUSR1 after step (\d+)", outputs["stopped"]))
    for name in ("c.h5", "c-previous.h5", ".c.h5.owner"):
        shutil.copy(folder / name, folder / f"copy-of-{name}")
    run("finished", *heat, "--steps", step + 1000, ranks=2)
    small = ["--variant", "numpy", "--n", "1e4"]
    run("sum", SUM, *small, "--json", "--output", "sum.h5", ranks=2)
    run("usage", SUM, "--n", "none", status=2)
    run("preflight", PREFLIGHT, "--json", "--output", "preflight.h5", ranks=2)
    names = json.dumps([*VALUES])
    run("failing", "fails.py", names, ranks=2, status=1)
    run("report of a record", "-m", "rankwise", "show", "heat.h5")
    sweep = ["-m", "rankwise", "sweep", "--ranks", "1,2", "--launches", "1", "--mode", "strong"]
    run("sweep", *sweep, "--report", "--", SUM, *small)
    run("failing sweep", *sweep, "--", "fails.py", names, status=1)
    return SimpleNamespace(folder=folder, outputs=outputs)


@pytest.mark.long
def test_no_secret_in_any_output(made):
    print("FAILURES_SEED", SEED)
    assert {name: found for name, text in made.outputs.items() if (found := leaks(text))} == {}


@pytest.mark.long
def test_no_secret_in_any_file(made):
    print("FAILURES_SEED", SEED)
    assert leaks_below(made.folder) == {}


@pytest.mark.long
def test_all_was_searched(made):
    """The secrets were there, and so are the files of which the tests above speak."""
    assert b"ValueError: on purpose, without []" in made.outputs["failing"]
    for text in ("stopped by SIGUSR1", "goes on after step"):
        assert text in b"".join(made.outputs.values()).decode()
    names = [path.name for path in made.folder.rglob("*") if path.is_file()]
    for name in ("heat.h5", "sum.h5", "preflight.h5", "sweep.json", "run.json", "output.txt"):
        assert name in names
    assert {"copy-of-c.h5", "copy-of-c-previous.h5", "copy-of-.c.h5.owner"} <= set(names)
    assert {"report.html", "scaling.md", "scaling.csv"} <= set(names)
    for form in ("heat-step*.h5", "*.svg", "*.pdf", "record.h5"):
        assert [*made.folder.rglob(form)], form
    assert record.read(made.folder / "heat.h5").attributes["restarts"] == 1
    # What a PDF shows is packed.
    pdf = next(made.folder.rglob("*.pdf")).read_bytes()
    assert any(b" Tf" in layer for layer in layers(pdf)) and b" Tf" not in pdf


def packed_page(token):
    """Return something like a page of a PDF, with a distance and a font between letters."""
    text = b"".join(b"\0%c" % letter for letter in token)
    parts = (
        b"BT [ (",
        text[:8],
        b") -0.68\n(",
        text[8:20],
        b") ] TJ /F2 12 Tf 8 0 Td [ (",
        text[20:],
    )
    stream = zlib.compress(b"".join(parts) + b") ] TJ ET")
    return b"%%PDF-1.4\n<< /Filter /FlateDecode >>\nstream\n%s\nendstream\n" % stream


@pytest.mark.parametrize(
    "hide",
    [
        lambda token: b"x" + token + b"y",
        lambda token: json.dumps({"Über": token.decode()}).encode(),
        lambda token: b"key=" + token.hex().encode(),
        lambda token: base64.b64encode(token),
        lambda token: base64.b64encode(b"u:" + token + b"@host"),
        lambda token: base64.b64encode(b"url:" + token),
        lambda token: base64.urlsafe_b64encode(b"?:" + token + b"??>"),
        lambda token: token.decode().encode("utf-16"),
        lambda token: token.lower(),
        lambda token: gzip.compress(b"before " + token + b" after"),
        packed_page,
    ],
    ids=range(11),
)
def test_the_search_finds_a_secret(tmp_path, hide):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(random.randbytes(1000) + hide(b"none" * 6))
    assert leaks_below(tmp_path) == {}
    for name in ("THEME", "SLURM_JWT"):
        hidden = hide(TOKENS[name].encode())
        (tmp_path / "sub" / "file").write_bytes(random.randbytes(1000) + hidden)
        assert leaks_below(tmp_path) == {"sub/file": {name}}


def test_the_search_finds_a_secret_in_hdf5_and_in_names(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["text"] = TOKENS["PASSWORD"]
        text = np.array([TOKENS["THEME"].encode()] * 100)
        file.create_dataset("packed", data=text, chunks=(10,), compression="gzip")
    (tmp_path / f"krb5cc_{TOKENS['KRB5CCNAME']}").mkdir()
    assert leaks_below(tmp_path) == {
        "a.h5": {"PASSWORD", "THEME"},
        f"krb5cc_{TOKENS['KRB5CCNAME']}": {"KRB5CCNAME"},
    }
