"""The CPU variants and the order of summation; the GPU variants have files of their own."""

import math
from fractions import Fraction

import numpy as np
import pytest

from kernels import sum_squares
from kernels.sum_squares import (
    BLOCK,
    LANES,
    ROWS,
    STREAMS,
    check,
    error_bound,
    find_not_finite,
    roundings,
)
from kernels.sum_squares.numpy_ import block_sums as reference
from rankwise.data.sums import add_rest, add_subtrees
from rankwise.node.variants import load

SIZES = [0, 1, LANES - 1, LANES, ROWS * LANES + 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK]
SIZES += [100 * BLOCK + 77]


def sums_of(block_sums, x):
    out = np.full(-(-len(x) // BLOCK), np.nan)
    block_sums(x, out)
    return out


def total_of(block_sums, x):
    """Return the sum as a rank that has all blocks adds it."""
    sums = sums_of(block_sums, x)
    return float(add_rest([0, len(sums)], add_subtrees(0, sums)))


def in_plain_python(x):
    """Follow the definition in `kernels.sum_squares` one addition at a time."""
    sums = []
    for first in range(0, len(x), BLOCK):
        block = [0.0] * (STREAMS * LANES)
        for i, value in enumerate(x[first : first + BLOCK].astype(float).tolist()):
            stream, place = divmod(i, ROWS * LANES)
            block[stream * LANES + place % LANES] += value * value
        while len(block) > 1:
            half = len(block) // 2
            block = [block[k] + block[k + half] for k in range(half)]
        sums += block
    return np.array(sums)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", SIZES[:-1])
def test_reference_follows_the_definition(n, dtype):
    x = np.random.default_rng(n).normal(size=n).astype(dtype)
    assert sums_of(reference, x).tobytes() == in_plain_python(x).tobytes()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", SIZES)
def test_numba_has_the_bits_of_the_reference(n, dtype):
    numba = load(sum_squares, "numba")
    x = np.random.default_rng(n).normal(size=n).astype(dtype)
    assert sums_of(numba.block_sums, x).tobytes() == sums_of(reference, x).tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_the_bits(threads):
    import numba

    x = np.random.default_rng(0).random(50 * BLOCK + 3)
    numba.set_num_threads(threads)
    block_sums = load(sum_squares, "numba").block_sums
    assert sums_of(block_sums, x).tobytes() == sums_of(reference, x).tobytes()


@pytest.mark.parametrize("variant", ["numpy", "numba"])
def test_extreme_values_have_the_bits_of_the_reference(variant):
    block_sums = load(sum_squares, variant).block_sums
    x = np.array([1e-170, 5e-324, -0.0, 1e150, -1e150, 1e-200] * 1000)
    assert sums_of(block_sums, x).tobytes() == in_plain_python(x).tobytes()


@pytest.mark.parametrize("variant", ["numpy", "numba"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_what_is_not_finite_shows_in_its_block_alone(variant, bad):
    x = np.ones(3 * BLOCK)
    x[BLOCK + 5] = bad
    finite = np.isfinite(sums_of(load(sum_squares, variant).block_sums, x))
    assert finite.tolist() == [True, False, True]


@pytest.mark.parametrize("variant", ["numpy", "numba"])
@pytest.mark.parametrize("n", [1, 10, BLOCK, 10**5, 2 * 10**5])
def test_closed_form(variant, n):
    # 1^2 + ... + n^2 = n (n + 1) (2 n + 1) / 6, and all terms and sums are exact in float64.
    total = total_of(load(sum_squares, variant).block_sums, np.arange(1.0, n + 1))
    assert total == n * (n + 1) * (2 * n + 1) // 6


@pytest.mark.parametrize("n", [1, 100, BLOCK + 1, 30 * BLOCK])
def test_error_stays_within_its_bound(n):
    x = np.random.default_rng(n).random(n)
    exact = sum(Fraction(value) ** 2 for value in x.tolist())
    total = total_of(reference, x)
    assert abs(Fraction(total) - exact) <= Fraction(error_bound(n, total, roundings(n)))
    # Tight enough to notice one element more or less.
    assert error_bound(n, total, roundings(n)) < 1e-12 * total


def test_error_comes_close_to_its_bound():
    # Each small square is lost to the 1 that its sum began with: nearly half a unit per addition.
    small = math.sqrt(2.0**-53 * 0.999)
    x = np.full(BLOCK, small)
    x.reshape(STREAMS, ROWS, LANES)[:, 0] = 1.0
    exact = sum(Fraction(value) ** 2 for value in x.tolist())
    total = total_of(reference, x)
    error = abs(Fraction(total) - exact)
    bound = Fraction(error_bound(BLOCK, total, roundings(BLOCK)))
    assert 0.9 * bound < error <= bound


@pytest.mark.parametrize("n", [0, 1, BLOCK, 5 * BLOCK + 1])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sums_agree_with_dot_products(n, dtype):
    x = np.random.default_rng(n).random(n).astype(dtype)
    exact = sum(Fraction(value) ** 2 for value in x.tolist())
    found = check.examine(x, sums_of(reference, x))
    assert abs(Fraction(found.total) - exact) <= Fraction(error_bound(n, found.total, ROWS + 7))
    assert found.error <= found.bound <= 4e-12 * found.total
    for error, bound, _ in check.judge([found, check.examine(x[:0], x[:0])], found.total, n):
        assert error <= bound


@pytest.mark.parametrize("wrong", [1 + 1e-11, 0.0, np.nan, np.inf])
def test_one_wrong_block_sum_is_found(wrong):
    x = np.random.default_rng(3).random(5 * BLOCK)
    sums = sums_of(reference, x)
    total = float(sums.sum())
    sums[3] *= wrong
    evidence = [check.examine(x[: 2 * BLOCK], sums[:2]), check.examine(x[2 * BLOCK :], sums[2:])]
    for ranks in (evidence, evidence[::-1]):
        # The total was another one, too.
        for error, bound, _ in check.judge(ranks, total, len(x)):
            assert not error <= bound


def test_squares_that_underflow_are_told():
    assert check.remarks(0.0, 0) == check.remarks(1e-290, 10**6) == []
    for total in (0.0, 1e-320):
        assert "so the check says little" in check.remarks(total, 5)[0]


def test_a_total_that_is_a_little_wrong_is_found():
    x = np.random.default_rng(3).random(1000 * BLOCK)
    found = check.examine(x, sums_of(reference, x))
    total = total_of(reference, x)
    for wrong in (total * (1 + 1e-14), total * (1 - 1e-14), np.nan):
        block, (error, bound, _) = check.judge([found], wrong, len(x))
        assert not error <= bound
        assert block == check.judge([found], total, len(x))[0]


def test_find_not_finite():
    x = np.ones(3 * BLOCK)
    assert find_not_finite(x, sums_of(reference, x)) is None
    x[2 * BLOCK + 7] = np.nan
    assert find_not_finite(x, sums_of(reference, x)) == 2 * BLOCK + 7
    x[BLOCK + 9] = 1e200
    assert find_not_finite(x, sums_of(reference, x)) == BLOCK


def test_error_bound_covers_squares_that_underflow():
    n = 1000
    x = np.full(n, 1.4e-162)
    exact = n * Fraction(x[0]) ** 2
    total = total_of(reference, x)
    assert abs(Fraction(total) - exact) <= Fraction(error_bound(n, total, roundings(n)))
