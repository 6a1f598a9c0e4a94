"""The CPU variants, Lloyd's method with them, and its checks; the GPU variants: `test_cuda.py`."""

import functools
import importlib
import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import PCG64, Generator

from kernels import k_means
from kernels.k_means import (
    BLOCK,
    LARGEST,
    blobs,
    check,
    means,
    round_points,
    shift,
    start_rows,
)
from kernels.k_means.numpy_ import assign as reference
from rankwise.data.sums import add_rest, add_subtrees
from rankwise.node.variants import load
from tests.kernels.cuda_cases import CASES, Case, need, outputs, points
from tests.kernels.cuda_on_cpu import RawKernel

DATA = Path(__file__).parents[1] / "data"
ROWS = [case.values[0] for case in CASES if case.values[0].folder == "k_means"]
TOO_LARGE = points(70, 2, 3)
# Squared distances overflow.
OVERFLOW = Case(
    "k_means", "assign", (TOO_LARGE[0] * 1e160, TOO_LARGE[1] * 1e160, *outputs(70, 2, 3, 2.0**-530))
)
both_variants = pytest.mark.parametrize("variant", ["numpy", "numba"])


def in_plain_python(x, centres, labels, totals, inertia, scale):
    """Follow the definition in `kernels.k_means` one operation at a time."""
    sums, blocks = [[0] * totals.shape[1] for _ in centres], [[] for _ in inertia]
    for i, point in enumerate(x.tolist()):
        distances = []
        for centre in centres.tolist():
            distance = 0.0
            for a, b in zip(point, centre, strict=True):
                distance += (a - b) * (a - b)
            distances.append(distance)
        labels[i] = distances.index(min(distances))
        blocks[i // BLOCK].append(min(distances))
        for t, value in enumerate((*point, 1 / scale)):
            sums[labels[i]][t] += int(Fraction(value) * Fraction(scale))
    for i, block in enumerate(blocks):
        block += [0.0] * (BLOCK - len(block))
        while len(block) > 1:
            half = len(block) // 2
            block = [block[k] + block[k + half] for k in range(half)]
        inertia[i] = block[0]
    totals[...] = sums


def lloyd(x, k, how="spread", assign=reference, steps=300, average=means):
    """Do what the job does on one rank, and return the last iteration and the checks of all."""
    x = np.array(x, np.float64)
    n, d = x.shape
    ends = k_means.extent(x)
    s = shift(float(np.abs(x).max()), n)
    came = x.copy()
    round_points(x, 2.0**s)
    new, inertias = came[start_rows(n, k, 0, how)], []
    labels, totals = np.zeros(n, np.int32), np.zeros((k, d + 1), np.int64)
    sums = np.zeros(-(-n // BLOCK))
    for _ in range(steps):
        centres = new
        assign(x, centres, labels, totals, sums, 2.0**s)
        inertias.append(float(add_rest([0, len(sums)], add_subtrees(0, sums))))
        new = average(totals, centres, 2.0**s)
        if np.array_equal(new, centres):
            break
    # As two ranks, the second of which has more.
    parts = (slice(n // 3 // BLOCK * BLOCK), slice(n // 3 // BLOCK * BLOCK, n))
    evidence = [
        check.examine(came[part].copy(), labels[part], centres, part.start or 0, n, 2.0**s, 0)
        for part in parts
    ]
    checks = check.judge(evidence, labels, totals, centres, new, inertias, ends)
    told = check.remarks(evidence, totals, centres, new, ends)
    failed = [why.split(":")[0] for error, bound, why in checks if not error <= bound]
    return SimpleNamespace(
        x=x, centres=new, labels=labels, inertia=inertias[-1], iterations=len(inertias), s=s,
        told=told, checks=checks, failed=failed,
    )  # fmt: skip


def drawn(n, d, k, seed=0):
    x = np.empty((n, d))
    blobs(seed, d, k)(0, x)
    return x


@pytest.mark.parametrize("case", [*ROWS, OVERFLOW], ids=lambda case: str(case.arguments[0].shape))
def test_reference_follows_the_definition(case):
    expected = [np.array(a) for a in case.arguments]
    in_plain_python(*expected[:5], float(expected[5]))
    found = case.run("numpy")
    assert [a.tobytes() for a in found[2:5]] == [a.tobytes() for a in expected[2:5]]


@pytest.mark.parametrize("case", [*ROWS, OVERFLOW], ids=lambda case: str(case.arguments[0].shape))
def test_numba_has_the_bits_of_the_reference(case):
    case.check("numba")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n", [5, 1000, 10**4 + 17])
def test_threads_do_not_change_the_bits(n, threads):
    import numba

    numba.set_num_threads(threads)
    Case("k_means", "assign", points(n, 4, 7)).check("numba")


@both_variants
def test_pieces_in_whole_blocks_have_the_bits_of_the_whole(variant):
    assign = load(k_means, variant).assign
    x, centres, labels, totals, inertia, scale = points(10 * BLOCK + 5, 3, 4)
    reference(x, centres, labels, totals, inertia, scale)
    for blocks in (0, 1, 7):
        totals_of, found = np.empty((2, *totals.shape), np.int64), np.empty_like(inertia)
        label = np.empty_like(labels)
        for i, part in enumerate((slice(0, blocks), slice(blocks, None))):
            rows = slice(*(p if p is None else p * BLOCK for p in (part.start, part.stop)))
            assign(x[rows], centres, label[rows], totals_of[i], found[part], scale)
        assert label.tobytes() == labels.tobytes()
        assert found.tobytes() == inertia.tobytes()
        assert np.array_equal(totals_of.sum(axis=0), totals)


@pytest.mark.cudasim
def test_cuda_goes_on_with_later_points(monkeypatch):
    cuda = need("numba.cuda")
    monkeypatch.setattr(importlib.import_module("kernels.k_means.cuda_"), "GRID", 2)
    Case("k_means", "assign", points(600, 1, 2)).check(
        "cuda", cuda.to_device, lambda array: array.copy_to_host()
    )


@pytest.mark.cuda_compile
@pytest.mark.parametrize("reverse", [False, True])
def test_cupy_goes_on_with_later_points(monkeypatch, reverse):
    monkeypatch.setattr(need("cupy"), "RawKernel", functools.partial(RawKernel, reverse=reverse))
    module = importlib.import_module("kernels.k_means.cupy_")
    monkeypatch.setattr(module, "_kernel", module._kernel.__wrapped__)
    monkeypatch.setattr(module, "GRID", 2)
    for n, d, k in ((1000, 3, 5), (600, 40, 60)):
        Case("k_means", "assign", points(n, d, k)).check("cupy")


@given(st.floats(0, allow_infinity=False), st.integers(1, 2**60 - 1))
def test_shift_leaves_room_for_every_sum(largest, n):
    s = shift(largest, n)
    sum_of_all = n * math.ceil(Fraction(largest) * Fraction(2) ** s)
    assert sum_of_all <= 2**62
    assert s == 1022 or largest == 0 or sum_of_all >= 2**60 - n
    assert math.isfinite(2.0**s) and 2.0**-s >= 2.0**-1022


@given(st.lists(st.floats(-1e300, 1e300), min_size=1), st.integers(1, 10**9))
def test_rounded_points_are_near_and_whole_multiples(values, n):
    x = np.array(values)[:, None]
    s = shift(max(map(abs, values)), n)
    unit = Fraction(2) ** -s
    rounded = x.copy()
    change = round_points(rounded, 2.0**s)
    for before, after in zip(values, rounded[:, 0].tolist(), strict=True):
        assert (Fraction(after) / unit).denominator == 1
        assert abs(Fraction(after) - Fraction(before)) <= unit / 2
        assert abs(after - before) <= change <= unit / 2
    assert round_points(rounded, 2.0**s) == 0


def test_rounding_goes_through_all_pieces(monkeypatch):
    x = np.random.default_rng(0).random((70, 3))
    whole = x.copy()
    change = round_points(whole, 2.0**20)
    monkeypatch.setattr(k_means, "VALUES", 16)
    assert round_points(x, 2.0**20) == change
    assert x.tobytes() == whole.tobytes()


@pytest.mark.parametrize("s", [-960, -3, 0, 45, 1022])
def test_means(s):
    rng = np.random.default_rng(s + 960)
    # Sums from small to the largest, of either sign.
    sums = rng.integers(-(2**62), 2**62, (200, 3)) >> rng.integers(0, 62, (200, 3))
    counts = rng.integers(1, 10**6, 200)
    totals = np.column_stack([sums, counts])
    totals[7] = 0
    centres = rng.random((200, 3))
    found = means(totals, centres, 2.0**s)
    assert found[7].tobytes() == centres[7].tobytes()
    for j, t in np.ndindex(found.shape):
        exact = Fraction(int(sums[j, t]), int(counts[j])) * Fraction(2) ** -s
        error = abs(Fraction(found[j, t]) - exact)
        assert j == 7 or error <= Fraction(check.gamma(2)) * abs(exact) + Fraction(2) ** -1075


def test_start_rows():
    assert start_rows(150, 3, 0, "spread") == [0, 50, 100]
    assert start_rows(10, 4, 0, "spread") == [0, 2, 5, 7]
    assert start_rows(10, 4, 0, "first") == [0, 1, 2, 3]
    assert sorted(start_rows(5, 5, 1, "random")) == [0, 1, 2, 3, 4]
    many = start_rows(10**12, 20, 1, "random")
    assert len(set(many)) == 20 and 0 <= min(many) and max(many) < 10**12
    assert many == start_rows(10**12, 20, 1, "random") != start_rows(10**12, 20, 2, "random")


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_first_centres(dtype):
    x = np.random.default_rng(0).integers(0, 99, (20, 3)).astype(dtype)

    def fill(start, rows):
        assert rows.dtype == x.dtype
        rows[...] = x[start : start + len(rows)]

    centres = k_means.first_centres(fill, x.dtype, 20, 3, 4, 0, "spread")
    assert centres.dtype == np.float64 and centres.tolist() == x[[0, 5, 10, 15]].tolist()


def test_one_point_is_enough_to_call_a_kernel():
    arrays = k_means.one_point(3)
    reference(*arrays, scale=1.0)
    assert arrays[3].tolist() == [[0, 0, 0, 1]]


def test_blobs_are_the_same_in_any_pieces(monkeypatch):
    whole = drawn(100, 3, 4, seed=5)
    monkeypatch.setattr(k_means, "VALUES", 64)
    fill = blobs(5, 3, 4)
    for first, rows in ((0, 100), (0, 1), (1, 40), (99, 1), (50, 0), (13, 77)):
        part = np.empty((rows, 3))
        fill(first, part)
        assert part.tobytes() == whole[first : first + rows].tobytes()
    assert not np.array_equal(drawn(100, 3, 4, seed=6), whole)


def test_blobs_are_round_clusters(monkeypatch):
    monkeypatch.setattr(k_means, "CUBE", 10.0)
    centres = k_means.CUBE * Generator(PCG64(1)).random((4, 5))
    labels, offsets = np.empty(20000, np.int32), drawn(20000, 5, 4, seed=1)
    reference(offsets, centres, labels, np.empty((4, 6), np.int64), np.empty(625), 1.0)
    np.testing.assert_allclose(np.bincount(labels), 5000, rtol=0.05)
    offsets -= centres[labels]
    assert np.abs(offsets).max() < 1.5
    # The variance of a sum of three uniform numbers is 3 / 12.
    np.testing.assert_allclose(offsets.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(offsets.T), np.eye(5) / 4, atol=0.01)


# What scikit-learn 1.9.1 finds from the same starts, `KMeans(k, init=x[rows], n_init=1, tol=0)`.
@both_variants
def test_iris_as_scikit_learn_has_it(variant):
    iris = np.load(DATA / "iris.npy")
    assert iris.shape == (150, 4) and iris.dtype == np.float64
    # Fisher's values of the rows in which copies of the data differ.
    assert iris[[34, 37]].tolist() == [[4.9, 3.1, 1.5, 0.2], [4.9, 3.6, 1.4, 0.1]]
    found = lloyd(iris, 3, assign=load(k_means, variant).assign)
    assert found.inertia == pytest.approx(78.851441426146, rel=1e-12)
    assert (found.iterations, np.bincount(found.labels).tolist()) == (4, [50, 62, 38])
    centres = [
        [5.006, 3.428, 1.462, 0.246],
        [5.901612903225807, 2.748387096774194, 4.393548387096774, 1.4338709677419357],
        [6.85, 3.0736842105263156, 5.742105263157895, 2.0710526315789475],
    ]
    np.testing.assert_allclose(found.centres, centres, rtol=1e-12)
    assert found.failed == []


@both_variants
def test_digits_as_scikit_learn_has_them(variant):
    digits = np.load(DATA / "digits.npy")
    assert digits.shape == (1797, 64) and digits.dtype == np.uint8
    found = lloyd(digits, 10, "first", load(k_means, variant).assign)
    assert found.inertia == pytest.approx(1167859.3840065985, rel=1e-12)
    assert found.iterations == 14
    sizes = [179, 120, 89, 178, 163, 370, 181, 199, 164, 154]
    assert np.bincount(found.labels).tolist() == sizes
    assert (found.told, found.failed) == ([], [])


RNG = np.random.default_rng(0)
INPUTS = {
    "blobs": drawn(3000, 3, 5),
    "one dimension": drawn(500, 1, 5),
    "overlap": RNG.random((2000, 2)),
    "far away": 1e8 + RNG.random((1000, 3)),
    "tiny": RNG.standard_normal((300, 2)) * 1e-300,
    "subnormal": np.full((100, 2), 5e-324) * RNG.integers(0, 9, (100, 1)),
    "huge": RNG.uniform(-LARGEST, LARGEST, (300, 2)),
    "whole": RNG.integers(0, 3, (400, 2)).astype(float),
    "zeros": np.zeros((200, 2)),
    "equal": np.full((200, 3), 0.1),
    "one point": np.array([[1.0, 2.0]]),
}


@both_variants
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("how", ["spread", "first", "random"])
@pytest.mark.parametrize("steps", [1, 3, 300])
def test_checks_pass(variant, name, how, steps):
    k = min(5, len(INPUTS[name]))
    found = lloyd(INPUTS[name], k, how, load(k_means, variant).assign, steps)
    assert found.failed == []
    assert all(map(math.isfinite, [number for *numbers, _ in found.checks for number in numbers]))


@pytest.mark.parametrize("name", INPUTS)
def test_a_user_is_told_where_rounding_of_the_points_may_show(name):
    told = [text for text in lloyd(INPUTS[name], 1).told if "the points are rounded by" in text]
    assert len(told) == (name in ("far away", "tiny", "subnormal"))


def test_a_user_is_told_what_an_answer_means():
    assert lloyd(INPUTS["blobs"], 5).told == []
    (text,) = lloyd(INPUTS["blobs"], 5, steps=2).told
    assert "the centres still move" in text
    (text,) = lloyd([[1.0], [1.0], [5.0]], 3).told
    assert "1 of the 3 clusters have no points" in text
    texts = lloyd(INPUTS["equal"], 3).told
    assert "all points are equal" in texts[0] and "2 of the 3" in texts[1] and len(texts) == 2


def test_extent():
    x = np.array([[1.0, -2], [5, -7]])
    assert k_means.extent(x).tolist() == [[5, -2], [-1, 7]]
    assert (k_means.extent(x[:0]) == -np.inf).all()


@pytest.mark.parametrize("name", INPUTS)
def test_bounds_of_the_inertia(name):
    x = INPUTS[name]
    n, d = x.shape
    found = lloyd(x, min(3, n), steps=300)
    own, centres = found.x.tolist(), found.centres.tolist()
    exact = sum(
        (Fraction(a) - Fraction(b)) ** 2
        for point, label in zip(own, found.labels, strict=True)
        for a, b in zip(point, centres[label], strict=True)
    )
    underflow = Fraction(n * d * 2.0**-1074)
    again = check.dot_inertia(found.x, found.labels, found.centres)
    relative = check.gamma(check.inertia_roundings(n, d))
    assert abs(Fraction(found.inertia) - exact) <= Fraction(relative) * exact + underflow
    bound = Fraction(check.inertia_bound(n, d, again))
    assert abs(Fraction(again) - Fraction(found.inertia)) <= bound
    # Tight enough to notice one point more or less.
    assert found.inertia < 1e-300 or bound < exact / (10 * n)


@pytest.mark.parametrize("n", [5, 600, 10**4, 10**6])
def test_exact_sums(n):
    rng = np.random.default_rng(n)
    # Close to the largest, all of one sign, so that the sums need all of their bits.
    x = rng.uniform(0.9, 1, (min(n, 3000), 2))
    scale = 2.0 ** shift(1.0, n)
    round_points(x, scale)
    labels = rng.integers(0, 3, len(x))
    high, low = check.exact_sums(x, labels, 4, n)
    for j in range(4):
        members = x[labels == j].tolist()
        columns = [*zip(*members, strict=True), [1] * len(members)] if members else [[], [], []]
        exact = [sum(map(Fraction, column)) for column in columns]
        assert [Fraction(a) + Fraction(b) for a, b in zip(high[j], low[j], strict=True)] == exact


def test_excess_is_that_of_the_label():
    x, centres = np.array([[0.0], [1.0], [7.0]]), np.array([[0.0], [2.0], [6.0]])
    assert check.excess(x, np.array([0, 0, 2]), centres) == pytest.approx((0, 0), abs=1e-14)
    # The second point is as near to the first centre as to the second.
    assert check.excess(x, np.array([0, 1, 2]), centres)[0] == 0
    error, bound = check.excess(x, np.array([0, 2, 2]), centres)
    assert error == 24 and bound < 1e-14
    assert check.excess(x[:0], np.zeros(0, int), centres) == (0, 0)


def test_excess_samples_large_inputs(monkeypatch):
    monkeypatch.setattr(check, "SAMPLE", 40)
    x, centres = np.arange(100.0)[:, None], np.array([[0.0], [99.0]])
    labels = (x[:, 0] > 49).astype(int)
    labels[[0, 15]] = 1
    # 20 points, every fifth one.
    assert check.excess(x, labels, centres)[0] == 99**2
    labels[0] = 0
    assert check.excess(x, labels, centres)[0] == 84**2 - 15**2
    labels[15], labels[16] = 0, 1
    assert check.excess(x, labels, centres)[0] == 0


def test_rise():
    assert check.rise(1.0, 1.0, 100, 3, 1.0)[0] == 0
    assert check.rise(2.0, 1.0, 100, 3, 1.0)[0] == 0
    error, bound = check.rise(1.0, 1 + 1e-12, 100, 3, 1.0)
    assert error == pytest.approx(1e-12, rel=1e-3) and 1e-15 < bound < error
    error, bound = check.rise(0.0, 1e-300, 100, 3, 1e-150)
    assert bound < error == 1e-300
    assert not np.less_equal(*check.rise(1.0, math.nan, 100, 3, 1.0))


def test_rise_by_rounding_stays_within_its_bound():
    # Far from 0 the rounding of the means is the larger part.
    x = np.array([[2.0**40], [2.0**40 + 1], [2.0**40 + 1]])
    mean = (x[0, 0] + 2 / 3) * (1 + check.gamma(2))
    before, after = (float(np.square(x - c).sum()) for c in (x[0, 0] + 2 / 3, mean))
    error, bound = check.rise(before, after, 3, 1, 2.0**41)
    assert 0 < error <= bound < 1e-6


def test_worst():
    assert check.worst([]) == (0, 0)
    assert check.worst([(1.0, 2.0), (3.0, 4.0), (0.0, 9.0)]) == (3, 4)
    assert check.worst([(0.0, 1.0), (0.0, 2.0)]) == (0, 2)
    assert math.isnan(check.worst([(5.0, 1.0), (math.nan, 1.0), (9.0, 1.0)])[0])


def fault(change):
    """Return a kernel whose answer is changed by ``change(x, centres, scale, outputs)``."""

    def assign(x, centres, labels, totals, inertia, scale):
        reference(x, centres, labels, totals, inertia, scale)
        change(x, centres, scale, SimpleNamespace(labels=labels, totals=totals, inertia=inertia))

    return assign


def in_float32(x, centres, labels, totals, inertia, scale):
    """Compute the distances in float32, and all else as it should be."""
    with np.errstate(over="ignore", invalid="ignore"):
        difference = x.astype(np.float32)[:, None] - centres.astype(np.float32)
        distances = np.square(difference).sum(axis=-1)
    labels[:] = distances.argmin(axis=1)
    sums = np.zeros(len(inertia) * BLOCK)
    sums[: len(x)] = distances.min(axis=1)
    inertia[:] = sums.reshape(-1, BLOCK).sum(axis=1)
    recount(x, centres, scale, SimpleNamespace(labels=labels, totals=totals))


def recount(x, centres, scale, to):
    to.totals[...] = 0
    whole = np.column_stack([x * scale, np.ones(len(x))]).astype(np.int64)
    np.add.at(to.totals, to.labels, whole)


def no_operation(x, centres, labels, totals, inertia, scale):
    pass


def swapped_labels(x, centres, scale, to):
    other = np.flatnonzero(to.labels != to.labels[0])[0]
    to.labels[[0, other]] = to.labels[[other, 0]]


def swapped_clusters(x, centres, scale, to):
    """Swap two clusters of some points, totals and all."""
    to.labels[40:60] = np.array([1, 0, *range(2, len(centres))])[to.labels[40:60]]
    recount(x, centres, scale, to)


def dropped_block(x, centres, scale, to):
    """Leave out a block, as if the loop over the blocks had skipped it."""
    rows = slice(BLOCK, 2 * BLOCK)
    whole = np.column_stack([x[rows] * scale, np.ones(BLOCK)]).astype(np.int64)
    np.subtract.at(to.totals, to.labels[rows], whole)
    to.labels[rows] = 0
    to.inertia[1] = 0


def dropped_block_of_the_totals(x, centres, scale, to):
    labels = to.labels.copy()
    dropped_block(x, centres, scale, to)
    to.labels[...] = labels


def dropped_block_of_the_inertia(x, centres, scale, to):
    to.inertia[1] = 0


def lost_point(x, centres, scale, to):
    to.totals[to.labels[5], :-1] -= (x[5] * scale).astype(np.int64)


def stale_totals(x, centres, scale, to):
    """Do not begin at 0."""
    to.totals *= 2


def swapped_dimensions(x, centres, scale, to):
    to.totals[:, [0, 1]] = to.totals[:, [1, 0]]


def last_of_equal_ones(x, centres, scale, to):
    distances = np.square(x[:, None] - centres).sum(axis=-1)
    to.labels[:] = len(centres) - 1 - distances[:, ::-1].argmin(axis=1)
    recount(x, centres, scale, to)


def no_label(x, centres, scale, to):
    to.labels[-1] = -1


def other_rows(x, centres, labels, totals, inertia, scale):
    """Work on the points of a wrong place, as after a wrong scatter."""
    reference(np.roll(x, BLOCK, axis=0), centres, labels, totals, inertia, scale)


FAULTS = {
    "in_float32": in_float32,
    "no_operation": no_operation,
    "other_rows": other_rows,
    **{
        change.__name__: fault(change)
        for change in (
            swapped_labels,
            swapped_clusters,
            dropped_block,
            dropped_block_of_the_totals,
            dropped_block_of_the_inertia,
            lost_point,
            stale_totals,
            swapped_dimensions,
            no_label,
        )
    },
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("data", ["blobs", "overlap", "far away", "huge"])
@pytest.mark.parametrize("steps", [1, 20])
def test_checks_find_a_wrong_kernel(name, data, steps):
    assert lloyd(INPUTS[data], 4, assign=FAULTS[name], steps=steps).failed != []


def test_which_check_finds_what():
    def failed(name):
        return lloyd(INPUTS["blobs"], 5, assign=FAULTS[name], steps=20).failed

    assert failed("in_float32") == ["inertia"]
    assert "inertia" in failed("dropped_block_of_the_inertia")
    assert "centres" in failed("lost_point")
    assert failed("swapped_clusters") == ["inertia", "labels of a sample"]
    assert "points by cluster" in failed("dropped_block")


@pytest.mark.parametrize("name", ["zeros", "equal"])
@pytest.mark.parametrize(
    "change", [dropped_block, dropped_block_of_the_totals, last_of_equal_ones, no_label]
)
def test_checks_find_a_wrong_kernel_where_all_points_are_equal(name, change):
    assert "points by cluster" in lloyd(INPUTS[name], 3, assign=fault(change), steps=5).failed


def test_of_equal_centres_the_first_has_the_points():
    # Nothing but the number of the label differs.
    x = np.repeat(np.arange(4.0), 100)[:, None]
    assert lloyd(x, 5, "first").failed == []
    assert lloyd(x, 5, "first", fault(last_of_equal_ones)).failed == ["points by cluster"]


@pytest.mark.parametrize("data", ["blobs", "overlap", "far away"])
def test_checks_find_wrong_means(data):
    def in_float32(totals, centres, scale):
        return means(totals, centres, scale).astype(np.float32).astype(np.float64)

    def of_one_more(totals, centres, scale):
        return means(totals + (np.arange(totals.shape[1]) == totals.shape[1] - 1), centres, scale)

    def emptied(totals, centres, scale):
        return np.where(totals[:, -1:] > 0, means(totals, centres, scale), 0.0)

    assert "centres" in lloyd(INPUTS[data], 4, average=in_float32, steps=3).failed
    assert "centres" in lloyd(INPUTS[data], 4, average=of_one_more, steps=3).failed
    x = np.array([[1.0], [1.0], [5.0]])
    assert lloyd(x, 3).failed == []
    assert lloyd(x, 3, average=emptied, steps=1).failed == ["centres"]


def test_checks_find_a_rise():
    calls = []

    def wrong_once(totals, centres, scale):
        calls.append(1)
        return means(totals, centres, scale) + (0.01 if len(calls) == 9 else 0)

    assert lloyd(INPUTS["overlap"], 4, average=wrong_once, steps=15).failed == [
        "rise of the inertia"
    ]
