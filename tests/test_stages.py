"""The stages of `make test` and `make test-long` find every test."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAGES = runpy.run_path(str(ROOT / "tests" / "stages.py"))
FILES = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
del FILES[Path(__file__).resolve()]
PLACES = {
    "mpi": STAGES["PARALLEL"],
    "sizes": STAGES["SIZES"],
    "faults": STAGES["FAULTS"],
    "slurm": STAGES["SLURM"],
    "chromium": STAGES["PAGE"],
    "cuda_compile": STAGES["ON_GPU"],
    "cudasim": [*STAGES["KERNELS"], *STAGES["PARALLEL"]],
}


@pytest.mark.parametrize("mark", PLACES, ids="of {}".format)
def test_tests_with_a_mark_are_where_their_stage_looks(mark):
    marked = [path for path, text in FILES.items() if f"pytest.mark.{mark}" in text]
    places = [ROOT / folder for folder in PLACES[mark]]
    assert marked
    assert [p for p in marked if not any(p.is_relative_to(place) for place in places)] == []


def test_every_folder_is_in_one_stage_without_a_mark():
    # What is in none of these is in `rooms`.
    apart = [*STAGES["JOBS"], *STAGES["SCALING"]]
    assert STAGES["REST"] == [f"--ignore={folder}" for folder in apart]
    assert len(set(apart)) == len(apart)
    assert all((ROOT / folder).is_dir() for folder in apart)


@pytest.mark.parametrize("names", ["none", "rooms none"])
def test_an_unknown_stage_is_named(names, capsys):
    with pytest.raises(SystemExit) as ended:
        STAGES["main"](names.split())
    assert str(ended.value).startswith("no stage none: choose from rooms, scaling, jobs, faults, ")
