"""What a job does with its run, by the door that jobs use."""

import importlib
import json
import logging
import math
import threading

import numpy as np
import pytest

from rankwise.disk import record
from rankwise.ranks import start

TOTAL = {"total": (2.5, "K", "of all")}
FIGURES = {"work": 10, "kernel_bytes": 80}


def first_on_all_ranks(first, *others):
    """Return the cases of a test of which rank 0 alone judges each: the first is for all ranks."""
    values = first if isinstance(first, tuple) else (first,)
    return [pytest.param(*values, marks=pytest.mark.mpi), *others]


@pytest.fixture
def door():
    """What jobs import, which takes the signals of this process over: not before it is needed."""
    return importlib.import_module("rankwise.job")


def add_n(parser):
    parser.add_argument("--n", type=int, default=10)


@pytest.fixture
def begin(comm, door, mpi_tmp_path):
    """Return a function that begins a run, ``begin(*words, **what a Run takes)``."""

    def make(*words, options=add_n, **more):
        argv = ["--variant", "numpy", "--output", f"{mpi_tmp_path}/r.h5", *words]
        return door.Run(comm, argv, "jobs/small.py", "A small job.", options, **more)

    return make


def compute(run):
    """Be in the phase of the kernel, once in each repeat."""
    for _ in run.repeats():
        with run.phase("kernel"):
            pass


def on_rank_0(comm, results):
    return results if comm.rank == 0 else None


def unchecked(comm, door, run, results, figures, words):
    """Make sure that a run ends with one sentence and status 1; return its record on rank 0."""
    with pytest.raises(door.Stop) as caught:
        run.finish(on_rank_0(comm, results), **figures)
    message = str(caught.value)
    assert caught.value.status == 1 and caught.value.agreed
    assert message.startswith(f"{run.path} is marked as unchecked: ") and words in message
    assert "\n" not in message
    if comm.rank:
        return None
    found = record.read(run.path)
    assert words in found.attributes["unchecked"]
    return found


@pytest.mark.mpi
def test_finish_takes_numbers_and_arrays(comm, begin, capsys):
    run = begin("--json")
    compute(run)
    run.on_root(run.check, np.float32(0.5), 1, "rounding")
    values = {
        "int": 3,
        "float": 2.5,
        "bool": True,
        "numpy": np.float32(1.5),
        "unsigned": np.uint64(2**64 - 1),
        "list": [1, 2, 3],
        "array": np.arange(6.0).reshape(2, 3),
        "empty": np.empty((0, 2)),
    }
    results = {name: (value, "1", f"a {name}") for name, value in values.items()}
    run.finish(
        on_rank_0(comm, results), work=np.int64(10), kernel_bytes=8e1, kernel_flops=np.uint8(7)
    )
    shown = capsys.readouterr()
    if comm.rank == 0:
        found = record.read(run.path)
        for name, value in values.items():
            np.testing.assert_array_equal(found.results[name].values, value)
            assert found.results[name].values.dtype == np.asarray(value).dtype
            assert found.results[name].description == f"a {name}"
        assert found.checks == [{"why": "rounding", "error": 0.5, "bound": 1.0}]
        figures = [found.attributes[name] for name in ("work", "kernel_bytes", "kernel_flops")]
        assert figures == [10, 80, 7]
        assert found.attributes["unchecked"] == ""
        facts = json.loads(shown.out)
        assert (facts["results"]["int"], facts["results"]["unsigned"]) == (3, 2**64 - 1)
        assert set(facts["results"]) == {"int", "float", "bool", "numpy", "unsigned"}
    else:
        assert shown.out == ""


@pytest.mark.mpi
@pytest.mark.parametrize("number", [0, 2])
def test_checks_are_kept_and_shown(comm, begin, capsys, number):
    run = begin()
    compute(run)
    for k in range(1, 1 + number):
        run.on_root(run.check, 0, 2.0**-k, f"standard errors: {k}")
    run.on_root(run.check, 0, 0, "exact")
    run.finish(on_rank_0(comm, TOTAL), **FIGURES)
    shown = capsys.readouterr().out
    if comm.rank == 0:
        whys = [f"standard errors: {k}" for k in range(1, 1 + number)] + ["exact"]
        assert [check["why"] for check in record.read(run.path).checks] == whys
        assert all(
            f"bound {2.0**-k:.3g}: standard errors: {k}\n" in shown for k in range(1, number)
        )
        assert "  check     off by 0, bound 0: exact\n" in shown and "unchecked" not in shown


@pytest.mark.mpi
@pytest.mark.parametrize("as_json", [False, True])
def test_a_forgotten_check_loses_no_answer(comm, door, begin, capsys, as_json):
    run = begin(*["--json"] * as_json)
    compute(run)
    words = "no check was made: run.check(error, bound, why) on rank 0"
    found = unchecked(comm, door, run, TOTAL, FIGURES, words)
    shown = capsys.readouterr().out
    if found:
        assert (found.results["total"].values, found.results["total"].units) == (2.5, "K")
        assert found.checks == []
        if as_json:
            assert json.loads(shown)["unchecked"] == words
        else:
            assert f"  unchecked {words}\n" in shown


@pytest.mark.mpi
def test_a_check_on_another_rank_than_0_is_none(comm, door, begin):
    run = begin()
    compute(run)
    if comm.rank:
        run.check(0, 1, "rounding")
    unchecked(comm, door, run, TOTAL, FIGURES, "no check was made")


@pytest.mark.mpi
@pytest.mark.parametrize("figures", [{"kernel_bytes": 8}, {"kernel_bytes": 0, "kernel_flops": 1}])
def test_a_missing_kernel_phase_loses_no_answer(comm, door, begin, figures):
    run = begin()
    for _ in run.repeats():
        pass
    run.on_root(run.check, 0, 0, "exact")
    words = "no rank was in the phase 'kernel'"
    found = unchecked(comm, door, run, TOTAL, {"work": 1, **figures}, words)
    if found:
        assert found.results["total"].values == 2.5


@pytest.mark.mpi
def test_the_kernel_phase_of_one_rank_is_enough(comm, begin):
    run = begin()
    for _ in run.repeats():
        if comm.rank == comm.size - 1:
            with run.phase("kernel"):
                pass
    run.on_root(run.check, 0, 0, "exact")
    run.finish(on_rank_0(comm, TOTAL), **FIGURES)


@pytest.mark.mpi
def test_a_job_without_a_kernel_has_no_kernel_phase(comm, begin, capsys):
    run = begin()
    for _ in run.repeats():
        pass
    run.on_root(run.check, 0, 0, "exact")
    run.finish(on_rank_0(comm, TOTAL), work=5, kernel_bytes=0)
    if comm.rank == 0:
        assert "  kernel    not timed\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    first_on_all_ranks(
        *[("work", "many"), ("work", -1), ("work", math.nan), ("work", 2**63)],
        *[("kernel_bytes", 1.5), ("kernel_bytes", math.inf), ("kernel_bytes", np.arange(2))],
        *[("kernel_flops", None), ("kernel_flops", 10**400), ("kernel_flops", -1)],
    ),
    ids=repr,
)
def test_a_figure_that_is_no_count_loses_no_answer(comm, door, begin, name, value):
    run = begin()
    compute(run)
    run.on_root(run.check, 0, 0, "exact")
    words = f"{name} is {value!r}, which is no whole number from 0 to 2^63 - 1"
    found = unchecked(comm, door, run, TOTAL, {**FIGURES, name: value}, words)
    if found:
        assert found.results["total"].values == 2.5
        assert found.attributes[name] == 0


@pytest.mark.mpi
def test_a_result_that_is_not_a_number_is_unchecked(comm, door, begin):
    run = begin()
    compute(run)
    run.on_root(run.check, 0, 0, "exact")
    results = {
        "gaps": (np.array([1.0, np.nan]), "1", "with a missing value"),
        "total": (np.float32("nan"), "1", "of nothing"),
    }
    words = "the result 'total' is not a number"
    found = unchecked(comm, door, run, results, FIGURES, words)
    assert found is None or found.attributes["unchecked"] == words


@pytest.mark.parametrize(
    "value",
    first_on_all_ranks(
        None,
        ("text", "1", "a string"),
        (2.5, "K"),
        (2.5,),
        2.5,
        (None, "1", "nothing"),
        ([[1, 2], [3]], "1", "of no shape"),
        (1j, "1", "complex"),
        (np.datetime64("2026-01-01"), "1", "a date"),
        ({"a": 1}, "1", "a dictionary"),
        (10**30, "1", "more than 64 bits"),
        # HDF5 holds it, and JSON does not.
        (np.longdouble(1), "1", "another one with more"),
    ),
    ids=repr,
)
def test_a_result_that_is_none_loses_no_other(comm, door, begin, value):
    run = begin("--json")
    compute(run)
    run.on_root(run.check, 0, 0, "exact")
    words = (
        "the result 'bad' is left out: it is not (number or array of numbers, unit, description)"
    )
    found = unchecked(comm, door, run, {"bad": value, **TOTAL}, FIGURES, words)
    if found:
        assert found.results.keys() == {"total"}
        assert found.results["total"].values == 2.5


@pytest.mark.parametrize(
    "name", first_on_all_ranks("group/bad", "", ".", "\0", "\udc80", 3), ids=repr
)
def test_a_result_of_no_name_loses_no_other(comm, door, begin, name):
    run = begin()
    compute(run)
    run.on_root(run.check, 0, 0, "exact")
    results, words = {name: (1.5, "1", "bad"), **TOTAL}, f"the result {name!r} is left out: "
    found = unchecked(comm, door, run, results, FIGURES, words)
    if found:
        assert found.results.keys() == {"total"}


PLATE = (np.ones((2, 3)), "K", "of a plate", ("y", "x"))


@pytest.mark.mpi
def test_axes_are_kept_and_leave_the_digest_alone(comm, begin):
    digests = []
    for plate in (PLATE, PLATE[:3], (*PLATE[:3], ())):
        run = begin("--force")
        compute(run)
        run.on_root(run.check, 0, 0, "exact")
        # An axis may come after what it is an axis of, and needs no coordinates.
        given = {"plate": plate, "x": (np.arange(3.0), "m", "of the columns", ("x",)), **TOTAL}
        run.finish(on_rank_0(comm, given), **FIGURES)
        if comm.rank == 0:
            found = record.read(run.path)
            assert found.results["plate"].axes == (plate[3:] or ((),))[0]
            assert found.results["x"].axes == ("x",) and found.results["total"].axes == ()
            digests.append(found.attributes["results_sha256"])
    assert len(set(digests)) <= 1


@pytest.mark.parametrize(
    ("axes", "why"),
    first_on_all_ranks(
        ("yx", "'yx' is no tuple of names, such as ('y', 'x')"),
        (["y", "x"], "['y', 'x'] is no tuple"),
        (("y", 3), "('y', 3) is no tuple of names"),
        (("y", "a b"), "('y', 'a b') is no tuple of names"),
        (("y",), "('y',) is not one name for each of 2 dimensions"),
        (("x", "y"), "the result 'x' has the shape (3,), and not (2,)"),
        (("y", "total"), "the result 'total' has the shape (), and not (3,)"),
    ),
    ids=repr,
)
def test_axes_that_cannot_be_lose_no_result(comm, door, begin, axes, why):
    run = begin()
    compute(run)
    run.on_root(run.check, 0, 0, "exact")
    given = {"x": (np.arange(3), "m", "of columns"), "plate": (*PLATE[:3], axes), **TOTAL}
    words = f"the axes of the result 'plate' are left out: {why}"
    found = unchecked(comm, door, run, given, FIGURES, words)
    if found:
        assert found.results["plate"].axes == ()
        np.testing.assert_array_equal(found.results["plate"].values, PLATE[0])


@pytest.mark.mpi
@pytest.mark.parametrize("results", [{}, {"bad": "text"}], ids=repr)
def test_a_record_without_results_can_be_read(comm, door, begin, results):
    run = begin()
    compute(run)
    found = unchecked(comm, door, run, results, FIGURES, "no check was made")
    if found:
        assert found.results == {}


@pytest.mark.mpi
@pytest.mark.parametrize("words", ["", "\udc80"], ids=repr)
def test_words_that_a_record_cannot_hold_lose_no_answer(comm, begin, words):
    run = begin()
    compute(run)
    run.on_root(run.check, 0, 0, words)
    run.finish(on_rank_0(comm, {"total": (2.5, words, words)}), **FIGURES)
    if comm.rank == 0:
        found = record.read(run.path)
        assert found.results["total"].values == 2.5 and len(found.checks) == 1


@pytest.mark.mpi
def test_all_slips_are_told_at_once(comm, door, begin):
    run = begin()
    figures = {"work": "many", "kernel_bytes": 8}
    found = unchecked(comm, door, run, {"bad": "text", **TOTAL}, figures, "no check was made")
    if found:
        text = found.attributes["unchecked"]
        assert "'bad' is left out" in text and "work is 'many'" in text and "'kernel'" in text


SLIPS = """\
from rankwise.job import Run, launch

def main(comm, argv):
    run = Run(comm, argv, __file__, "", lambda parser: None)
    for repeat in run.repeats():
        with run.phase("kernel"):
            pass
    run.finish({"total": (2.5, "K", "of all")}, work="many", kernel_bytes=8)

launch(main)
"""


def test_slips_are_one_sentence_and_no_traceback(start, tmp_path):
    (tmp_path / "job.py").write_text(SLIPS)
    done = start(2, "job.py", "--output", "r.h5", "--variant", "numpy")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("job.py: error: r.h5 is marked as unchecked: work is 'many'")
    assert record.read(tmp_path / "r.h5").results["total"].values == 2.5
    assert "  total     2.5\n" in done.stdout


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("error", "bound"),
    [
        *[(1.5, 1.0), (math.nan, 1.0), (0.0, math.nan), (0.0, math.inf), (math.inf, math.inf)],
        # No distance: a difference whose sign was forgotten, of which only one can fail.
        *[(-1.5, 1.0), (-math.inf, 1.0)],
    ],
)
def test_a_check_that_fails_ends_all(comm, door, begin, error, bound):
    run = begin()
    with pytest.raises(door.Stop) as caught:
        run.on_root(run.check, error, bound, "rounding of both sums")
    words = f"check failed: off by {error}, bound {bound}: rounding of both sums"
    assert (str(caught.value), caught.value.status) == (words, 1)
    assert run.checks == []
    comm.Barrier()
    assert not run.path.exists()


@pytest.mark.mpi
def test_repeats_give_the_same_bits(door, begin):
    run = begin("--repeats", "3")
    for repeat in run.repeats():
        # That of the warm-up does not count: it may be of fewer steps.
        value = np.array([0.1 if repeat < 0 else 0.3, np.nan])
        assert run.same(value) is value
        assert run.same(None) is None
    run = begin("--repeats", "3")
    with pytest.raises(
        door.Stop, match=r"^check failed: the repeats give different bits$"
    ) as caught:
        for repeat in run.repeats():
            run.same(0.0 if repeat < 1 else -0.0)
    assert repeat == 1 and caught.value.status == 1


@pytest.mark.mpi
def test_on_root_is_rank_0_alone(comm, door, begin):
    run, calls = begin(), []

    def call(*words):
        calls.append(words)
        if words == ("wrong",):
            raise door.Stop("that is missing", status=1)
        return len(words)

    assert run.on_root(call, "a", "b") == on_rank_0(comm, 2)
    with pytest.raises(door.Stop, match=r"^that is missing$") as caught:
        run.on_root(call, "wrong")
    assert caught.value.status == 1
    assert calls == ([("a", "b"), ("wrong",)] if comm.rank == 0 else [])


@pytest.mark.mpi
@pytest.mark.parametrize("mistake", [ValueError, (OSError, ValueError)])
def test_ranks_agree_on_a_mistake(comm, door, begin, mistake):
    run, last = begin(), comm.size - 1

    def read(text):
        return int(text if comm.rank == last else "3")

    assert run.agree(read, "7", mistake=mistake) == (7 if comm.rank == last else 3)
    with pytest.raises(door.Stop, match=r"^invalid literal for .*: 'x'$") as caught:
        run.agree(read, "x", mistake=mistake)
    assert caught.value.status == 2


@pytest.mark.mpi
def test_what_is_no_mistake_passes_through(begin):
    with pytest.raises(ValueError, match="invalid literal"):
        begin().agree(int, "x", mistake=OSError)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("shape", "least", "words"),
    [
        ((0,), 1, "one row"),
        ((0, 3), 1, "one row"),
        ((5, 0), 1, "one row"),
        ((2, 3), 3, "3 rows"),
        ((0,), 0, None),
        ((5, 0), 0, None),
        ((3, 3), 3, None),
    ],
)
@pytest.mark.parametrize("kind", ["input", "made"])
def test_a_source_has_the_rows_that_a_job_needs(
    comm, door, begin, mpi_tmp_path, shape, least, words, kind
):
    path = mpi_tmp_path / "x.npy"
    if comm.rank == 0:
        np.save(path, np.ones(shape))
    run = begin(
        *(["--input", str(path)] if kind == "input" else []),
        options=lambda parser: door.add_input(parser, "numbers"),
    )
    made = (7,) * len(shape) if kind == "input" else shape
    if words is None:
        source = run.source(lambda start, rows: rows.fill(0), made, least=least)
        assert (source.shape, source.nbytes) == (shape, 8 * math.prod(shape))
        if kind == "made":
            before = run.clock.moves
            source(0, np.empty(shape))
            assert run.clock.moves == before + 1
        return
    with pytest.raises(door.Stop) as caught:
        run.source(lambda start, rows: None, made, least=least)
    message = str(caught.value)
    assert message.startswith(f"{path}: " if kind == "input" else "the data: ")
    assert str(shape) in message and words in message and "\n" not in message
    assert caught.value.status == 2


@pytest.mark.mpi
def test_a_job_that_cannot_grow_has_no_weak(comm, door, begin, capsys):
    with pytest.raises(door.Stop) as caught:
        begin("--weak")
    assert caught.value.status == 2
    told = capsys.readouterr().err
    assert ("unrecognized arguments: --weak" in told) == (comm.rank == 0)
    with pytest.raises(door.Stop) as caught:
        begin("--help")
    assert caught.value.status == 0
    assert "--weak" not in capsys.readouterr().out


def grow(args, ranks):
    args.n = args.n + 100 * ranks


@pytest.mark.mpi
def test_sizes_grow_with_the_ranks_if_that_is_wanted(comm, begin):
    for how, grown in (("n", 7 * comm.size), (grow, 7 + 100 * comm.size)):
        assert begin("--n", "7", "--weak", grow=how).args.n == grown
        assert begin("--n", "7", grow=how).args.n == 7


@pytest.mark.mpi
def test_what_cannot_grow_so_far_is_one_sentence(door, begin):
    def refuse(args, ranks):
        raise door.Stop(f"no more than {ranks - 1}")

    with pytest.raises(door.Stop, match=r"^no more than \d+$"):
        begin("--weak", grow=refuse)


@pytest.mark.mpi
@pytest.mark.parametrize("how", ["n", grow])
def test_an_input_does_not_grow(comm, door, begin, mpi_tmp_path, how):
    def options(parser):
        door.add_input(parser, "numbers").add_argument("--n", type=int, default=10)

    if comm.rank == 0:
        np.save(mpi_tmp_path / "x.npy", np.ones(3))
    words = ["--input", f"{mpi_tmp_path}/x.npy"]
    assert begin(*words, options=options, grow=how).args.n == 10
    with pytest.raises(door.Stop, match=r"^--weak lets the size grow .* an --input is fixed$"):
        begin(*words, "--weak", options=options, grow=how)


@pytest.mark.mpi
def test_help_is_what_stands_before_the_communication(comm, door, capsys):
    doc = "Sum of it.\n\n    mpirun -n 4 python jobs/x.py\n\nCommunication: none\nCheck: exact\n"
    with pytest.raises(door.Stop) as caught:
        door.Run(comm, ["--help"], "jobs/x.py", doc, add_n)
    assert (str(caught.value), caught.value.status) == ("", 0)
    shown = capsys.readouterr().out
    if comm.rank == 0:
        assert "mpirun -n 4 python jobs/x.py" in shown and "Communication" not in shown
        assert "--n N" in shown


@pytest.mark.mpi
def test_the_kernel_is_that_of_the_variant_with_its_constants(comm, begin):
    from kernels import heat
    from kernels.heat import numpy_

    run = begin(kernel=heat)
    step = run.kernel("step", r=0.125)
    assert (step.func, step.keywords) == (numpy_.step, {"r": 0.125})
    seen = []
    # It is called once on arrays of the device, in a phase of its own.
    run.compile(seen.append, np.ones((3, 3)))
    assert [array.shape for array in seen] == [(3, 3)]
    assert run.clock.total("compile") > 0


@pytest.mark.mpi
@pytest.mark.parametrize("results", [None, [1.0], {"x": np.arange(3.0)}, {"x": [1.0, "K", "x"]}])
def test_results_of_another_form_are_not_taken_for_results(comm, door, begin, results):
    run = begin()
    compute(run)
    run.on_root(run.check, 0, 0, "exact")
    found = unchecked(comm, door, run, results, FIGURES, "unit, description)")
    assert found is None or found.results == {}


@pytest.mark.mpi
@pytest.mark.parametrize("left", ["at the second", "before the first"])
def test_repeats_that_were_not_run_to_their_end_have_no_seconds(comm, door, begin, left):
    run = begin("--repeats", "3")
    if left == "at the second":
        for repeat in run.repeats():
            with run.phase("kernel"):
                pass
            if repeat == 1:
                break
    run.on_root(run.check, 0, 0, "exact")
    figures = {"work": 1, "kernel_bytes": 0}
    found = unchecked(comm, door, run, TOTAL, figures, "not all repeats were run to their end")
    assert found is None or found.results["total"].values == 2.5


@pytest.mark.mpi
def test_a_check_that_failed_is_told_though_the_record_is_written(comm, door, begin):
    run = begin()
    compute(run)
    # As preflight does, whose figures are worth keeping.
    run.checks.append({"why": "exact", "error": 2.0, "bound": 0.0})
    unchecked(comm, door, run, TOTAL, FIGURES, "the check failed: exact")


@pytest.mark.mpi
def test_an_input_that_one_rank_has_opened_is_not_made_by_the_others(
    comm, door, begin, mpi_tmp_path
):
    if comm.rank == 0:
        np.save(mpi_tmp_path / "x.npy", np.ones(10))
    run = begin("--input", f"{mpi_tmp_path}/x.npy", options=lambda p: door.add_input(p, "numbers"))
    source = run.source(lambda start, rows: rows.fill(7.0), (5,))
    x = run.rows(source)
    if comm.size == 1:
        assert (x.each(source) == 1).all()
    else:
        with pytest.raises(door.Stop, match=r"add_input\(\.\.\., local=True\)"):
            x.each(source)


@pytest.mark.mpi
def test_a_warning_of_all_ranks_is_one(comm, begin, capsys):
    run = begin()
    before = list(run.warnings)
    run.warn("little heat")
    run.tell("half way")
    told = capsys.readouterr().err
    assert told.count("warning: little heat") == told.count("half way") == (comm.rank == 0)
    assert run.warnings == before + ["little heat"] * (comm.rank == 0)


@pytest.mark.mpi
@pytest.mark.parametrize("form", ["no variant", "no folder"])
def test_a_kernel_without_variants_is_one_sentence(door, begin, tmp_path, monkeypatch, form):
    name = f"bare_{form[3:]}"
    path = tmp_path / (f"{name}/__init__.py" if form == "no variant" else f"{name}.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(door.Stop, match=r"no folder with a variant: one of numpy_\.py") as caught:
        begin(kernel=importlib.import_module(name))
    assert caught.value.status == 2


@pytest.mark.mpi
def test_rows_that_depend_on_where_a_rank_begins_are_found(comm, door, begin):
    def draw(start, rows):
        # Three numbers a row, and the stream is moved by one.
        np.random.Generator(np.random.PCG64(0).advance(start)).random(out=rows)

    run = begin()
    x = run.rows(run.source(draw, (100, 3)))
    for bring in (x.scatter, x.each):
        with pytest.raises(door.Stop, match="depends on where a rank begins") as caught:
            bring(run.source(draw, (100, 3)))
        assert caught.value.status == 1


@pytest.mark.mpi
def test_rows_that_have_not_arrived_are_told(begin):
    run = begin()
    x = run.rows(run.source(lambda start, rows: rows.fill(1.0), 10))
    with pytest.raises(RuntimeError, match="call scatter"):
        x.compute(lambda rows, out: None, x.per_block())


@pytest.mark.mpi
def test_a_size_that_grows_is_an_option(begin):
    with pytest.raises(TypeError, match="grow='m' is no option of this job"):
        begin(grow="m")


@pytest.mark.parametrize("ends", ["nowhere", "on rank 0", "on rank 1"])
def test_a_job_that_is_not_finished_ends_with_1_and_hangs_nobody(start, tmp_path, ends):
    (tmp_path / "job.py").write_text(
        "from rankwise.job import Run, launch\n"
        "def main(comm, argv):\n"
        "    run = Run(comm, argv, __file__, '', lambda parser: None)\n"
        "    run.on_root(run.check, 0, 0, 'exact')\n"
        f"    if f'on rank {{comm.rank}}' == {ends!r}:\n"
        "        run.finish({}, work=1, kernel_bytes=0)\n"
        "launch(main)\n"
    )
    done = start(2, "job.py", "--variant", "numpy")
    assert done.returncode == 1
    assert done.stderr.count("main ended without run.finish on rank ") == 1
    assert not list(tmp_path.rglob("*.h5"))


def test_a_rank_that_waits_for_the_end_of_others_hears_a_signal_in_time(start, tmp_path):
    (tmp_path / "job.py").write_text(
        "from rankwise.job import launch\n"
        "import os, signal, threading, time\n"
        "from rankwise.ranks import start\n"
        "start._PATIENCE_SECONDS = 1.0\n"
        "def main(comm, argv):\n"
        "    if comm.rank == 1:\n"
        "        time.sleep(600)\n"
        "    threading.Timer(2, os.kill, [os.getpid(), signal.SIGTERM]).start()\n"
        "launch(main)\n"
    )
    # `start` gives up long before rank 1 ends by itself.
    assert start(2, "job.py").returncode != 0


@pytest.mark.mpi
def test_a_queue_needs_its_options(comm, door, mpi_tmp_path):
    run = door.Run(
        comm, ["--output", f"{mpi_tmp_path}/r.h5"], "jobs/job.py", "", lambda parser: None
    )
    with pytest.raises(TypeError, match=r"this job has no --schedule: add_queue\(parser"):
        run.queue(9)


@pytest.mark.mpi
@pytest.mark.parametrize("option", ["--log", "--profile", "--stall-seconds"])
def test_the_record_tells_that_looking_inside_took_time(comm, begin, mpi_tmp_path, capsys, option):
    run = begin(option, "60" if option == "--stall-seconds" else str(mpi_tmp_path / "inside"))
    try:
        text = f"the times contain what {option} takes"
        warned = [] if option == "--stall-seconds" else [text]
        said = capsys.readouterr().err.count(f": warning: {text}\n")
        assert said == (len(warned) if comm.rank == 0 else 0)
        compute(run)
        run.on_root(run.check, 0.0, 1, "rounding")
        run.finish(on_rank_0(comm, TOTAL), **FIGURES)
    finally:
        start.end_earlier()
    if comm.rank == 0:
        # Besides that of too few cores.
        kept = record.read(run.path).attributes["warnings"]
        assert [each for each in kept if each.startswith("the times contain")] == warned


@pytest.mark.mpi
def test_a_second_run_of_a_process_ends_what_looks_into_the_first(begin, mpi_tmp_path):
    options = ("--log", str(mpi_tmp_path / "logs"), "--stall-seconds", "60", "--force")
    threads, handlers = threading.active_count(), logging.getLogger().handlers[:]
    try:
        for _ in range(2):
            run = begin(*options)
            compute(run)
            run.on_root(run.check, 0.0, 1, "rounding")
            run.finish(on_rank_0(run.comm, TOTAL), **FIGURES)
            assert (threading.active_count(), len(start.endings)) == (threads + 1, 2)
    finally:
        start.end_earlier()
    assert (threading.active_count(), start.endings) == (threads, [])
    logs = sorted((mpi_tmp_path / "logs").glob(f"*-rank-{run.comm.rank}.log"))
    assert [each.read_text().count("repeat 0") for each in logs] == [1, 1]
    assert logging.getLogger().handlers == handlers


@pytest.mark.mpi
def test_rank_0_is_known_to_write_and_the_others_to_wait(comm, begin, caplog):
    # Else a long write would be told as a standstill.
    caplog.set_level(logging.INFO, "rankwise")
    run = begin()
    compute(run)
    run.on_root(run.check, 0.0, 1, "rounding")
    del caplog.records[:]
    run.finish(on_rank_0(comm, TOTAL), **FIGURES)
    begun = [each.getMessage() for each in caplog.records if each.msg == "begin %s"]
    assert begun == ["begin write" if comm.rank == 0 else "begin wait"]
    if comm.rank == 0:
        kept = record.read(run.path)
        assert np.isfinite(kept.timings[0, kept.phases.index("write"), 0])
