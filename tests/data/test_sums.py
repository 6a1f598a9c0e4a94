"""Sums over blocks have the bits of one tree, whatever ranks have the blocks."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.data.checksums import Checksums
from rankwise.data.rows import Rows
from rankwise.data.sums import add_rest, add_subtrees
from rankwise.node import device
from rankwise.node.rank import Rank
from rankwise.ranks.clock import Clock
from tests.data.pretended import come_late


@np.errstate(over="ignore")
def combine(parts):
    """Follow the definition: add neighbours until one is left, beyond the last block zeros."""
    if not len(parts):
        return np.zeros(parts.shape[1:], parts.dtype)
    tree = np.zeros((1 << (len(parts) - 1).bit_length(), *parts.shape[1:]), parts.dtype)
    tree[: len(parts)] = parts
    while len(tree) > 1:
        tree = tree[0::2] + tree[1::2]
    return tree[0]


def on_ranks(ends, parts):
    """Return the sum of the blocks as ranks add it that have those between the ends."""
    sums = [add_subtrees(first, parts[first:stop]) for first, stop in pairwise(ends)]
    for rank, (first, stop) in zip(sums, pairwise(ends), strict=True):
        assert len(rank) <= max(stop - first > 0, 2 * math.log2(max(1, stop - first)))
    return add_rest(ends, np.concatenate(sums))


def random_ends(rng, blocks):
    cuts = np.sort(rng.integers(0, blocks + 1, rng.integers(0, 40))).tolist()
    return [0, *cuts, blocks]


def assert_same_bits(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


def blocks_of(seed, *shape):
    """Return blocks in which the order of additions and every rounding tell."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) * 10.0 ** rng.integers(-8, 8, shape)


def test_any_partition_has_the_bits_of_the_definition():
    rng = np.random.default_rng(0)
    for trial in range(3000):
        parts = blocks_of(trial, rng.integers(1, 701))
        assert_same_bits(on_ranks(random_ends(rng, len(parts)), parts), combine(parts))


@pytest.mark.parametrize("dtype", ["float64", "int64"])
@pytest.mark.parametrize("shape", [(3, 4), (5,), (0, 4), ()])
def test_blocks_of_any_shape_and_integers(shape, dtype):
    rng = np.random.default_rng(0)
    for blocks in (0, 1, 2, 3, 7, 64, 65, 300):
        parts = blocks_of(blocks, blocks, *shape).astype(dtype)
        for _ in range(5):
            found = on_ranks(random_ends(rng, blocks), parts)
            assert_same_bits(found, combine(parts))
            if dtype == "int64":
                np.testing.assert_array_equal(found, parts.sum(axis=0))


def test_the_order_shows_in_the_bits():
    """Else the tests above would say nothing."""
    parts = blocks_of(1, 500)
    assert len({float(total) for total in (combine(parts), combine(parts[::-1]), sum(parts))}) == 3


@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("value", [-0.0, np.inf, -np.inf, np.nan, 1.7e308, 5e-324])
def test_extreme_values(value, blocks):
    rng = np.random.default_rng(0)
    for parts in (np.full(blocks, value), np.r_[np.full(blocks - 1, -0.0), value]):
        for _ in range(20):
            assert_same_bits(on_ranks(random_ends(rng, blocks), parts), combine(parts))


def test_neighbours_are_added_first():
    # 1 + 2^-53 is 1 again; two of the small ones together are not lost.
    small = 2.0**-53
    assert on_ranks([0, 3, 4], np.array([1.0, 0.0, small, small])) == 1 + 2 * small
    assert on_ranks([0, 3, 4], np.array([1.0, small, 0.0, small])) == 1.0


@given(st.lists(st.floats(0, 1e300), max_size=50))
def test_the_sum_is_within_rounding_of_the_exact_one(values):
    total = on_ranks([0, len(values) // 3, len(values)], np.array(values))
    assert total == pytest.approx(math.fsum(values), rel=1e-14)


def rank_of(comm, nodes="one"):
    """Return this rank; on one node with all others, or on one of its own."""
    place = device.choose(comm, "numpy")
    if nodes == "many":
        place = dataclasses.replace(place, node=comm.Split(comm.rank))
    return Rank(comm, Clock(1), place)


def own_blocks(rows, every):
    first = sum(rows.blocks[: rows.rank.comm.rank])
    return every[first : first + rows.blocks[rows.rank.comm.rank]]


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("shape", [(), (3, 4), (0,)])
@pytest.mark.parametrize("n", [0, 1, 16, 33, 5000])
def test_sums_of_all_ranks_have_the_bits_of_the_definition(comm, n, shape):
    rows = Rows(rank_of(comm), (n, 2), np.float32, block=16)
    every = blocks_of(n, -(-n // 16), *shape)
    parts = rows.per_block(*shape)
    parts[...] = own_blocks(rows, every)
    expected = combine(every)
    total = rows.sum_to_root(parts)
    assert (total is None) == (comm.rank != 0)
    if total is not None:
        assert_same_bits(total, expected)
    assert_same_bits(rows.sum_to_all(parts), expected)


@pytest.mark.mpi
@pytest.mark.sizes
def test_sums_of_integers_are_exact(comm):
    rows = Rows(rank_of(comm), (1000,), np.float64, block=1)
    # Neither a float64 nor the sum of some holds them exactly.
    every = np.arange(3000).reshape(1000, 3) + 2**53
    total = rows.sum_to_all(own_blocks(rows, every))
    assert_same_bits(total, every.sum(axis=0))


@pytest.mark.mpi
@pytest.mark.sizes
def test_a_sum_is_this_rank_s_own(comm):
    rows = Rows(rank_of(comm), (1,), np.float64, block=1)
    parts = np.ones(rows.blocks[comm.rank])
    total = rows.sum_to_all(parts)
    total += 1
    np.testing.assert_array_equal(parts, 1)


@pytest.mark.mpi
@pytest.mark.sizes
def test_the_phases_of_sums_are_counted(comm):
    rank = rank_of(comm)
    rows = Rows(rank, (10**4,), np.float64, block=1)
    parts = own_blocks(rows, np.ones(10**4))
    for _ in rank.clock.repeats():
        rows.sum_to_root(parts)
    assert rank.clock.total("reduce") > 0
    assert rank.clock.total("broadcast") == rank.clock.total("gather") == 0
    rank = rank_of(comm)
    rows = Rows(rank, (10**4,), np.float64, block=1)
    for _ in rank.clock.repeats():
        rows.sum_to_all(parts)
    assert rank.clock.total("reduce") > 0
    assert rank.clock.total("broadcast") > 0


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("nodes", ["one", "many"])
@pytest.mark.parametrize("how", ["array", "source", "each"])
@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (5, 0), (1, 2), (7, 5), (3000, 3, 2), (1000,)])
def test_an_array_travels_to_the_ranks_and_back(comm, shape, block, how, nodes):
    rows = Rows(rank_of(comm, nodes), shape, np.float32, block)
    assert rows.own is None
    for sign in (1, -1):
        whole = sign * np.arange(math.prod(shape), dtype=np.float32).reshape(shape)

        def source(start, part, whole=whole):
            part[...] = whole[start : start + len(part)]

        if how == "each":
            own = rows.each(source)
        elif comm.rank == 0:
            own = rows.scatter(whole if how == "array" else source)
        else:
            own = rows.scatter(None)
        assert own is rows.own
        assert rows.wrong_blocks(source if how == "each" else None) == 0
        stop = rows.start + rows.counts[comm.rank]
        assert_same_bits(own, whole[rows.start : stop])
        assert len(rows.per_block()) == -(-len(own) // block)
        back = rows.gather(rows.on_host())
        assert (back is None) == (comm.rank != 0)
        if back is not None:
            assert_same_bits(back, whole)


class Everywhere:
    """Rows that every rank can ask for."""

    everywhere = True

    def __init__(self, whole):
        self.whole = whole

    def __call__(self, start, part):
        part[...] = self.whole[start : start + len(part)]


def swap(part):
    part[:2] = part[1::-1].copy()


def flip_a_bit(part):
    part.reshape(-1).view(np.uint8)[-1] ^= 1


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("nodes", ["one", "many"])
@pytest.mark.parametrize("how", ["array", "source", "everywhere", "each"])
@pytest.mark.parametrize("fault", [swap, flip_a_bit])
def test_a_block_that_is_not_as_it_was_sent_is_counted(comm, how, nodes, fault, monkeypatch):
    # Pieces end within blocks.
    monkeypatch.setattr("rankwise.data.rows._AGAIN_BYTES", 1000)
    rank = rank_of(comm, nodes)
    rows = Rows(rank, (999, 2), np.float32, block=100)
    whole = np.random.default_rng(0).random((999, 2), np.float32)
    source = Everywhere(whole)
    given = {"array": whole.copy(), "source": lambda *where: source(*where)}.get(how, source)
    for repeat in rank.clock.repeats():
        (rows.each if how == "each" else rows.scatter)(given)
        if repeat >= 0 and len(rows.own):
            fault(rows.own)
    assert rows.wrong_blocks(given) == sum(count > 0 for count in rows.counts)
    if len(rows.own):
        fault(rows.own)
    assert rows.wrong_blocks(given) == 0


@pytest.mark.mpi
@pytest.mark.sizes
@pytest.mark.parametrize("nodes", ["one", "many"])
def test_blocks_of_a_source_that_rank_0_alone_has(comm, nodes):
    rows = Rows(rank_of(comm, nodes), (999,), np.float64, block=100)
    whole = np.random.default_rng(0).random(999)
    rows.each(Everywhere(whole))
    # Of another type, and not contiguous.
    for each in (Everywhere(whole), np.repeat(whole, 2)[::2], whole.astype(np.float32)):
        source = each if comm.rank == 0 else None
        own = rows.scatter(source)
        assert rows.wrong_blocks(source) == 0
        expected = whole[rows.start :][: len(own)]
        np.testing.assert_allclose(own, expected, rtol=1e-7)


@pytest.mark.mpi
@pytest.mark.sizes
def test_a_timed_repeat_takes_no_checksums(comm, monkeypatch):
    taken = []
    right = Checksums.add
    monkeypatch.setattr(Checksums, "add", lambda *where: (taken.append(where), right(*where)))
    rank = rank_of(comm)
    rows = Rows(rank, (999,), np.float64, block=100)
    for _ in rank.clock.repeats():
        rows.scatter(np.ones(999))
        rows.scatter(Everywhere(np.ones(999)))
    assert len(taken) == (comm.rank == 0)


@pytest.mark.mpi
@pytest.mark.sizes
def test_waiting_for_a_late_rank_is_waiting(comm):
    rank = rank_of(comm)
    rows = Rows(rank, (100,), np.float64, block=1)
    for repeat in rank.clock.repeats(comm.Barrier):
        if repeat == 0:
            come_late(rank, comm)
        rows.gather(np.zeros(rows.counts[comm.rank]))
    assert comm.rank == comm.size - 1 or rank.clock.total("wait") >= 0.2


@pytest.mark.mpi
@pytest.mark.sizes
def test_a_row_may_have_more_than_two_gigabytes(comm):
    rows = Rows(rank_of(comm), (0, 2**28 + 1, 2), np.float64, block=1)
    assert rows.scatter(np.empty((0, 2**28 + 1, 2))).shape[0] == 0
