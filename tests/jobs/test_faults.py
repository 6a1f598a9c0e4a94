"""The checks of the jobs find the faults of `tests/faults.py`; `docs/checks.md` tells which."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from rankwise.ranks.agreement import Stop
from tests import faults
from tests.faults import FAULTS, FOUND, LEFT, NONE, NOT_FOUND, STATUS

PAGE = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()
RNG = np.random.default_rng(5)
WINDOW = "--centre=-0.1010963638,0.9562865109 --width=1e-7"
# Random states, in which no mode, cluster or value is singled out.
INPUTS = {
    "heat": RNG.normal(size=(24, 33)),
    "k_means": RNG.normal(size=(1000, 3)),
    "sum_squares": RNG.normal(size=13 * 2**14 + 11),
}
# With them, and for data that are made. Of `mandelbrot`, points that differ from their neighbours,
# and a schedule in which nothing is up to chance.
OPTIONS = {
    "heat": {"input": "--input=x.npy --steps=12", "made": "--rows=24 --n=33 --steps=12"},
    "k_means": {"input": "--input=x.npy --k=4 --steps=3", "made": "--n=1000 --k=4 --steps=3"},
    "mandelbrot": {"made": f"--n=32 --limit=100 {WINDOW} --schedule=cyclic"},
    "sum_squares": {"input": "--input=x.npy", "made": "--n=2e5"},
}
# A fault that these options cannot have; `ONE` has it.
ELSEWHERE = {("mandelbrot", "no-reset")}

# A job is started some hundred times in one launch.
LIMIT_SECONDS = 240


@pytest.fixture
def try_faults(start, tmp_path):
    """Return a function that tries faults of a job, in one launch on three ranks.

    Ranks that wait for others spin. On one core, and without being woken one after the other all
    the time, they take a third of the time that they take on two.
    """
    cores = os.sched_getaffinity(0)

    def run(job, words, *lists):
        if job in INPUTS:
            np.save(tmp_path / "x.npy", INPUTS[job])
        options = [word for each in lists for word in f"-- {each} --variant=numpy".split()]
        command = [faults.__file__, job, *words.split(), "--json", *options]
        os.sched_setaffinity(0, {max(cores)})
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        try:
            done = start(None, *command, limit=LIMIT_SECONDS)
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os.sched_setaffinity(0, cores)
        assert done.returncode in (0, STATUS[NOT_FOUND]), done.stderr
        return [json.loads(line)["faults"] for line in done.stdout.splitlines()]

    return run


def left(job, kind):
    """Return the faults that are said not to be found, and which of them are none."""
    return {
        name: outcome
        for (its_job, name, *kinds), (outcome, _) in LEFT.items()
        if its_job == job and kind in (kinds or (kind,))
    }


@pytest.mark.parametrize("job", OPTIONS)
def test_a_check_finds_every_fault_but_those_that_are_named(try_faults, job):
    kinds = OPTIONS[job]
    for kind, tried in zip(kinds, try_faults(job, "all", *kinds.values()), strict=True):
        outcomes = {name: outcome for name, (outcome, _) in tried.items()}
        assert {n: o for n, o in outcomes.items() if o != FOUND} == left(job, kind)
        for name in FAULTS:
            known = name in outcomes or (job, name) in ELSEWHERE
            assert cell(job, name) == (said(job, name) if known else "-"), name


def said(job, name):
    """Return what the page is to say of a fault."""
    outcomes = {kind: left(job, kind).get(name, FOUND) for kind in OPTIONS[job]}
    worst = NOT_FOUND if NOT_FOUND in outcomes.values() else FOUND
    return NONE if set(outcomes.values()) == {NONE} else worst


def cell(job, name):
    """Return what the page says of a fault."""
    (head, _, *rows) = rows_of("faults").splitlines()
    columns = [word.strip(" `") for word in head.split("|")]
    (row,) = [row for row in rows if row.startswith(f"| `{name}` |")]
    return row.split("|")[columns.index(job)].strip()


def rows_of(table):
    """Return a table of the page, from its mark to the next line without a row."""
    return re.search(rf"<!-- {table} -->\n\n((?:\|.*\n)+)", PAGE)[1]


def test_the_page_says_what_the_faults_do_and_why_some_are_left():
    lines = rows_of("faults").splitlines()[2:]
    assert [line.split("|")[1:3] for line in lines] == [
        [f" `{name}` ", f" {faults.described(fault)} "] for name, fault in FAULTS.items()
    ]
    assert rows_of("left").splitlines()[2:] == [
        f"| `{job}` | `{name}` | {outcome}{', of made data' * bool(kinds)} | {reason} |"
        for (job, name, *kinds), (outcome, reason) in LEFT.items()
    ]


@pytest.mark.long
def test_the_page_has_the_smallest_faults_that_are_found(try_faults):
    tried = {}
    for job, kinds in OPTIONS.items():
        (tried[job],) = try_faults(job, "smallest", next(iter(kinds.values())))
    names = dict.fromkeys(name for found in tried.values() for name in found)
    lines = ["| fault | " + " | ".join(f"`{job}`" for job in tried) + " |"]
    lines.append("| --- |" + " --- |" * len(tried))
    for name in names:
        cells = [size(name, found.get(name)) for found in tried.values()]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    assert rows_of("smallest") == table, f"docs/checks.md is to have:\n{table}"


def size(name, found):
    """Return the size of a fault as the page has it."""
    if found is None:
        return "-"
    number, _ = found
    if number is None:
        return "not found"
    return f"bit {number}" if "-bit" in name else f"2^-{number}"


# Where a rank has one row or block, or none, a fault there is none.
CASES = [
    ("heat", "all rank=0", "--rows=2 --n=4 --steps=1"),
    ("heat", "all rank=1", "--rows=4 --n=70 --steps=1"),
    ("heat", "all rank=all bit=45", "--rows=61 --n=17 --steps=25"),
    ("heat", "all rank=0 when=last", "--input=x.npy --steps=7"),
    ("heat", "all bit=51 call=0", "--input=x.npy --steps=7"),
    ("heat", "all", "--n=200 --steps=20"),
    ("k_means", "all", "--n=70 --d=1 --k=2 --steps=2"),
    ("k_means", "all rank=1 bit=40", "--n=3000 --k=7 --d=5 --steps=3 --start=random"),
    ("k_means", "all rank=0 when=last", "--input=x.npy --distribute=local --k=4 --steps=3"),
    ("mandelbrot", "all rank=1 bit=3", f"--n=60 --limit=100 {WINDOW} --schedule=cyclic"),
    ("mandelbrot", "all rank=all", f"--n=48 --limit=100 {WINDOW} --schedule=dynamic --repeats=2"),
    ("sum_squares", "all rank=0", "--n=3"),
    ("sum_squares", "all rank=0 when=last bit=30", "--input=x.npy"),
    ("sum_squares", "all rank=1", "--input=x.npy --distribute=local"),
    ("sum_squares", "all rank=all", "--n=1e6 --distribute=local"),
    ("sum_squares", "all", "--n=3e6"),
]


@pytest.mark.long
@pytest.mark.parametrize(("job", "words", "options"), CASES)
def test_faults_of_other_ranks_and_sizes_are_found(try_faults, job, words, options):
    (tried,) = try_faults(job, words, options)
    named = {name for its_job, name, *_ in LEFT if its_job == job}
    missed = {name for name, (outcome, _) in tried.items() if outcome == NOT_FOUND}
    assert missed <= named
    assert sum(outcome == FOUND for outcome, _ in tried.values()) > 5


ONE = {
    "found": ("heat no-op -- --n 9 --steps 4", 1, "check failed: off by 0."),
    "found in the last repeat": ("sum_squares kernel-drop when=last -- --n 2e5", 1, "check failed"),
    "below the bound": ("heat kernel-bit bit=0 -- --n 30 --steps 2", 3, "nothing has found it"),
    "of no effect": ("k_means input-old -- --n 300 --steps 2", 4, "leaves all values as they are"),
    "no such place": ("heat sum-drop -- --n 9", 2, "heat cannot have sum-drop"),
    "checkpoint": ("heat no-op -- --n 9 --checkpoint c.h5", 2, "each run would go on from the one"),
    "snapshots": ("heat no-op -- --n 9 --steps 4 --snapshot-every 2", 1, "check failed: off by 0."),
    "no such job": ("cold no-op", 2, "no job cold: choose from heat, k_means, "),
    "no such fault": ("heat nop", 2, "no fault nop: faults.py --help lists them"),
    "no such setting": ("heat no-op bits=3", 2, "'bits=3' is none of bit=N"),
    "no answer": ("preflight no-op", 2, "preflight takes no faults: it measures"),
    "no such option": ("heat no-op -- --m 9", 2, "heat.py: error: unrecognized arguments: --m"),
    "no such bit": ("heat kernel-bit bit=64 -- --n 9 --steps 4", 2, "there are 64 bits and "),
    "no such rank": ("heat no-op rank=99 -- --n 9 --steps 4", 2, " ranks, counted from 0"),
    "counter": (
        "mandelbrot no-reset -- --n 9 --limit 9 --schedule dynamic --repeats 2",
        1,
        "check failed: off by 9, bound 0: rows that were not done once",
    ),
    "other steps": ("k_means reduced-old -- --n 500", 1, "check failed: off by "),
    "job stops": ("heat no-op -- --dt 1", 2, "without a fault, heat.py says: a time step of 1.0"),
}


@pytest.mark.mpi
@pytest.mark.parametrize("name", ONE)
def test_a_status_says_what_came_of_a_fault(comm, capsys, name):
    words, status, message = ONE[name]
    words += " --variant numpy" if " -- " in words else ""
    with pytest.raises(Stop) as caught:
        faults.main(comm, words.split())
    assert (caught.value.status, caught.value.agreed) == (status, True)
    if comm.rank == 0:
        assert message in str(caught.value) + "".join(capsys.readouterr())


def test_it_starts_itself_on_three_ranks(start, tmp_path):
    # Modes that a check of low ones does not see.
    i = np.arange(1, 257) / 257
    np.save(tmp_path / "m45.npy", np.outer(np.sin(4 * np.pi * i), np.sin(5 * np.pi * i)))
    options = "heat no-op -- --input m45.npy --steps 200".split()
    done = start(None, faults.__file__, *options)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("no-op: found: check failed: off by ")
    assert list(tmp_path.iterdir()) == [tmp_path / "m45.npy"]


MISTAKEN = """
from rankwise.job import Run, count, launch

import numpy as np


def main(comm, argv):
    run = Run(comm, argv, __file__, __doc__, lambda parser: parser.add_argument("--n", type=count))
    for _ in run.repeats():
        with run.phase("kernel"):
            {mistake}
    run.on_root(run.check, 0, 0, "exact")
    run.finish({{"x": (1.0, "1", "one")}}, work=1, kernel_bytes=0)
"""


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("absent", "NameError"),
        # A rank that got another array does not come.
        ("comm.bcast(np.array([1.0, 2.0])).sum() == 3 and comm.Barrier()", "does not end within "),
    ],
)
def test_a_job_that_has_a_mistake_or_does_not_end(start, tmp_path, mistake, said):
    (tmp_path / "mine.py").write_text(MISTAKEN.format(mistake=mistake))
    words = "mine.py broadcast-drop -- --n 0"
    script = (
        "import rankwise.job, runpy, sys; from tests import faults; faults.PATIENCE_SECONDS = 1.0; "
        "sys.argv[0] = 'faults.py'; rankwise.job.launch(faults.main)"
    )
    env = {"PYTHONPATH": str(Path(faults.__file__).parents[1])}
    done = start(3, "-c", script, *words.split(), env=env)
    assert done.returncode == 5, done.stderr
    assert said in done.stderr


def test_help_lists_jobs_and_faults(start):
    done = start(None, faults.__file__, "--help")
    assert done.returncode == 0, done.stderr
    assert "heat, k_means, mandelbrot, sum_squares, or a file" in done.stdout
    assert [name for name in FAULTS if f"\n    {name} " not in done.stdout] == []
