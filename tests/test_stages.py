"""The stages of `make test` and `make test-long` find every test."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest

ROOT = Path(__file__).resolve().parent.parent
STAGES = runpy.run_path(str(ROOT / "tests" / "stages.py"))
FILES = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
del FILES[Path(__file__).resolve()]
PLACES = {
    "mpi": STAGES["PARALLEL"],
    "sizes": STAGES["SIZES"],
    "failures": STAGES["FAILURES"],
    "slurm": STAGES["SLURM"],
    "chromium": STAGES["REPORT"],
    "programs": STAGES["SWEEP"],
    "cuda_compile": STAGES["ON_GPU"],
    "engines": STAGES["ENGINES"],
    "cudasim": [*STAGES["KERNELS"], *STAGES["PARALLEL"]],
}


@pytest.mark.parametrize("mark", PLACES, ids="of {}".format)
def test_tests_with_a_mark_are_where_their_stage_looks(mark):
    marked = [path for path, text in FILES.items() if f"pytest.mark.{mark}" in text]
    places = [ROOT / folder for folder in PLACES[mark]]
    assert marked
    assert [p for p in marked if not any(p.is_relative_to(place) for place in places)] == []


def test_rooms_leaves_out_what_other_stages_run():
    words = {name: STAGES["STAGES"][name][0] for name in ("rooms", "jobs", "scaling", "report")}
    left_out = [word.removeprefix("--ignore=") for word in words["rooms"] if "--ignore" in word]
    names = [name for name in words if name != "rooms"]
    run = [word for name in names for word in words[name] if "tests/" in word]
    assert left_out == run
    assert all((ROOT / folder).is_dir() for folder in run)


@pytest.mark.parametrize(
    ("marks", "refused"),
    [
        *[({"mpi"}, False), ({"mpi", "sizes"}, False), ({"mpi", "cudasim"}, False)],
        *[({"failures", "long"}, False), ({"slurm", "long"}, False), ({"long"}, False)],
        *[({"sizes"}, True), ({"mpi", "long"}, True), ({"chromium", "long"}, True)],
        *[({"engines"}, False), ({"engines", "long"}, True)],
        *[({"mpi", "sizes", "cudasim"}, True), ({"cuda_compile", "long"}, True)],
    ],
)
def test_marks_that_no_stage_runs_are_refused(marks, refused):
    found = [SimpleNamespace(name=mark) for mark in marks]
    item = SimpleNamespace(nodeid="test_x", iter_markers=lambda: found)
    if refused:
        with pytest.raises(pytest.UsageError, match="test_x: no stage runs tests"):
            conftest.pytest_itemcollected(item)
    else:
        conftest.pytest_itemcollected(item)


@pytest.mark.parametrize(
    ("environment", "target"),
    [("CUDA", "make test"), ("OPENMPI", "make test-long"), ("OTHERS", "make test-long")],
)
def test_an_environment_that_is_not_there_is_told_with_what_makes_it(environment, target, tmp_path):
    path = STAGES[environment] / "nothing"
    with (tmp_path / "log").open("wb") as log:
        problem, _ = STAGES["execute"]([str(path)], {}, log)
    assert problem == f"not installed: {path}, which `{target}` installs"


@pytest.mark.parametrize("names", ["none", "rooms none"])
def test_an_unknown_stage_is_named(names, capsys):
    with pytest.raises(SystemExit) as ended:
        STAGES["main"](names.split())
    assert str(ended.value).startswith("no stage none: choose from rooms, scaling, jobs, report")
