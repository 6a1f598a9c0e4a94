import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.data import partition

ROWS = st.integers(0, 10**13)
SIZES = st.integers(1, 300)
BLOCKS = st.integers(1, 10**5)


@given(ROWS, SIZES, BLOCKS)
def test_every_row_has_one_owner(n, size, block):
    counts = partition.counts(n, size, block)
    assert len(counts) == size
    assert sum(counts) == n
    assert min(counts) >= 0


@given(ROWS, SIZES, BLOCKS)
def test_ranks_own_whole_blocks(n, size, block):
    starts = partition.displs(partition.counts(n, size, block))
    assert all(start % block == 0 or start == n for start in starts)


@given(ROWS, SIZES, BLOCKS)
def test_blocks_of_ranks_differ_by_one_at_most(n, size, block):
    blocks = [-(-count // block) for count in partition.counts(n, size, block)]
    assert max(blocks) - min(blocks) <= 1
    assert blocks == sorted(blocks, reverse=True)


@given(st.lists(st.integers(0, 100), min_size=1))
def test_displs_are_the_sums_before(counts):
    assert partition.displs(counts) == [sum(counts[:rank]) for rank in range(len(counts))]


@pytest.mark.parametrize(("n", "size", "block"), [(-1, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_refuses_what_cannot_be_divided(n, size, block):
    with pytest.raises(ValueError, match="cannot divide"):
        partition.counts(n, size, block)
