"""The job of `docs/your-own-job.md` runs as it stands there, and what pages name is there."""

import inspect
import json
import math
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kernels import mandelbrot
from kernels.mandelbrot import numba_ as mandelbrot_numba
from rankwise import job as door
from rankwise.disk import record
from tests.copies import copy_clone, work

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "your-own-job.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
ENGINES = (ROOT / "docs" / "engines.md").read_text()
UNEVEN = (ROOT / "docs" / "uneven-tasks.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# A file of the page: its path, then its text.
FILES = dict(re.findall(r"\n`([\w/]+\.py)`\n\n```python\n(.*?)```", PAGE, re.DOTALL))
# A block that cannot run here says so in a comment above it.
BLOCK = re.compile(
    r"(<!-- not run: [^\n]+ -->\n)?```bash\n(.*?)```\n(?:[^`]*?\n```text\n(.*?)```)?", re.DOTALL
)
COMMANDS = [commands for excuse, commands, _ in BLOCK.findall(PAGE) if not excuse]


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """Do what the page says in a copy of the clone; return it and what each block printed."""
    clone = copy_clone(tmp_path_factory.mktemp("clone"))
    for name, text in FILES.items():
        assert not (clone / name).exists()
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text(text)
    return clone, [work(clone, commands) for commands in COMMANDS]


def test_the_page_has_the_files_of_a_job():
    assert sorted(FILES) == [
        "jobs/integral.py",
        *(f"kernels/integral/{name}.py" for name in ("__init__", "numba_", "numpy_")),
        "tests/jobs/test_integral.py",
    ]
    assert len(FILES["jobs/integral.py"].splitlines()) <= 60
    assert (PAGE.count("```bash"), len(COMMANDS)) == (6, 5)


@pytest.mark.long
def test_any_ranks_and_variants_give_the_same_bits(worked):
    runs = [record.read(worked[0] / f"{name}.h5") for name in ("one", "three", "numba")]
    assert [run.attributes["ranks"] for run in runs] == [1, 3, 2]
    assert [run.attributes["variant"] for run in runs] == ["numpy", "numpy", "numba"]
    assert len({run.attributes["results_sha256"] for run in runs}) == 1
    # f has the variance 2 pi + 4 - pi^2 over [0, 1].
    error = math.sqrt((2 * math.pi + 4 - math.pi**2) / 10**6)
    assert abs(runs[0].results["integral"].values - math.pi) < 5 * error
    assert runs[0].results["error"].values == pytest.approx(error, rel=0.01)


@pytest.mark.long
def test_both_runs_print_what_is_shown(worked):
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    for line in shown.splitlines():
        # One rank, three ranks, and the record of the latter.
        assert worked[1][0].count(f"{line}\n") == 3


@pytest.mark.long
def test_its_tests_run(worked):
    assert "2 passed" in worked[1][1]


@pytest.mark.long
def test_it_is_swept(worked):
    files = (worked[0] / "scaling" / "runs").glob("*/run.json")
    runs = [json.loads(file.read_text()) for file in files]
    assert sorted((run["mode"], run["ranks"]) for run in runs) == [
        *(("strong", ranks) for ranks in (1, 2)),
        *(("weak", ranks) for ranks in (1, 2)),
    ]
    assert {run["outcome"] for run in runs} == {"ok"}
    assert (worked[0] / "scaling" / "report.html").exists()


def test_the_queue_on_the_page_runs(start, tmp_path):
    (text,) = re.findall(r"`cases.py`:\n\n```python\n(.*?)```", UNEVEN, re.DOTALL)
    (tmp_path / "cases.py").write_text(text)
    done = start(3, *"cases.py --schedule dynamic --chunk 7 --output r.h5".split())
    assert done.returncode == 0, done.stderr
    case, found = np.arange(1000.0), record.read(tmp_path / "r.h5")
    np.testing.assert_array_equal(
        found.results["results"].values, np.stack([case, case**2, case**3], axis=1)
    )
    assert found.balance.chunks.sum() == -(-1000 // 7)


def test_a_function_of_ones_own_runs_through_an_engine(start, tmp_path):
    (text,) = re.findall(r"```python\n(.*?)```", ENGINES, re.DOTALL)
    (tmp_path / "mine.py").write_text(text)
    done = start(None, "mine.py", env={"PYTHONPATH": str(ROOT)})
    assert (done.stdout, done.returncode) == ("[1, 8, 27]\n", 0), done.stderr


@pytest.mark.long
def test_the_imbalances_on_the_page_are_those_of_the_default_window(capsys, monkeypatch):
    counts = np.empty(1024 * 1024, np.int32)
    x, y = mandelbrot.coordinates(1024, (-0.5, 0.5), 3.25)
    mandelbrot_numba.counts(0, counts, x, y, 5000)
    found = SimpleNamespace(results={"counts": SimpleNamespace(values=counts.reshape(1024, -1))})
    monkeypatch.setattr(record, "read", lambda path: found)
    main = runpy.run_path(str(ROOT / "benchmarks" / "imbalance.py"))["main"]
    main("m.h5", "2,4,8,16,64")
    (table,) = re.findall(r"<!-- imbalance -->\n\n((?:\|.*\n)+)", UNEVEN)
    assert capsys.readouterr().out == table


def test_stream_of_a_block_does_not_depend_on_the_pieces():
    (text,) = re.findall(r"  ```python\n(  def draw_normals.*?)  ```", PAGE, re.DOTALL)
    names = {"np": np}
    exec(re.sub("^  ", "", text, flags=re.MULTILINE), names)
    whole, pieces = np.empty(5000), np.empty(5000)
    names["draw_normals"](0, whole)
    for start, stop in ((0, 1), (1, 1024), (1024, 1025), (1025, 4000), (4000, 5000)):
        names["draw_normals"](start, pieces[start:stop])
    assert (whole == pieces).all()
    assert abs(whole.mean()) < 5 / math.sqrt(whole.size)


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        *(("run", door.Run), ("x", door.Rows), ("plate", door.HaloRows), ("loop", door.Loop)),
        ("queue", door.Queue),
    ],
)
def test_methods_on_the_pages_are_there(name, owner):
    # `run.args` and `x.start` are set when one is made; its docstring tells.
    told = set(re.findall(rf"\b{name}\.(\w+)", PAGE + UNEVEN))
    # From Python 3.13 on a docstring has lost its indentation.
    said = "\n".join(inspect.cleandoc(base.__doc__) for base in owner.__mro__[:-1])
    assert told
    assert [word for word in told if not hasattr(owner, word) and not is_told(word, said)] == []


def is_told(word, doc):
    """Tell whether a docstring lists an attribute."""
    return re.search(rf"^(\w+, )*{word}\b", doc, re.MULTILINE) is not None


def test_every_name_of_the_door_is_explained():
    (line,) = re.findall("from rankwise.job import (.*)", FILES["jobs/integral.py"])
    names = {*line.split(", "), *re.findall(r"\b(?:run|x)\.\w+(?=\()", FILES["jobs/integral.py"])}
    table = "\n".join(re.findall(r"^\| `.*", PAGE, re.MULTILINE))
    assert [name for name in names if f"`{name}" not in table] == []


def test_architecture_names_the_rooms_in_their_order():
    below = runpy.run_path(str(ROOT / "tests" / "test_architecture.py"))["BELOW"]
    assert set(re.findall(r"^\| `(\w+)(?:/|\.py)`", ARCHITECTURE, re.MULTILINE)) == set(below)
    chains = re.findall(r"^    (ranks < .*)$", ARCHITECTURE, re.MULTILINE)
    told = {}
    for chain in chains:
        under = set()
        for level in chain.split(" < "):
            told |= {room: set(under) for room in level.split(", ")}
            under |= set(level.split(", "))
    assert told == below


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_on_a_page_are_there(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    # A file of the package may be told without its name.
    files = set(re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|sh|md|h))`", text)) - set(FILES)
    homes = (ROOT, ROOT / "rankwise")
    assert missing + [f for f in files if not any((home / f).exists() for home in homes)] == []


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().split()) <= 500
