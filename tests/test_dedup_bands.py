from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup.bands import (
    EDGE,
    RECORD,
    band_hashes,
    pack,
    partition,
    partition_of,
    records,
    star_edges,
    unpack,
)
from filters.dedup.components import COMPONENT, components
from filters.dedup.signatures import SignatureParams, minhash

REFS = st.integers(0, 12).map(lambda number: number * 0x0123456789 + number)
BUCKETS = st.lists(st.tuples(st.integers(0, 5), REFS), max_size=40)


def blob(rows: list[tuple[int, int]], dtype: np.dtype = RECORD) -> bytes:
    return np.array(rows, dtype=dtype).tobytes()


def edges(content: bytes) -> list[tuple[int, int]]:
    return [tuple(row) for row in np.frombuffer(content, EDGE).tolist()]


# --- hashes -------------------------------------------------------------------------------------


def test_a_band_depends_on_its_rows_alone() -> None:
    one = minhash(np.arange(50, dtype=np.uint32), SignatureParams())
    other = one.copy()
    other[8] += 1
    same = band_hashes(one, 14, 8) == band_hashes(other, 14, 8)
    assert same.tolist() == [True, False] + [True] * 12


def test_rows_of_a_band_have_an_order() -> None:
    one = np.array([1, 2, 3, 4], dtype=np.uint32)
    other = np.array([2, 1, 3, 4], dtype=np.uint32)
    assert band_hashes(one, 1, 4) != band_hashes(other, 1, 4)


def test_equal_numbers_in_different_bands_do_not_meet() -> None:
    hashes = band_hashes(np.ones(112, dtype=np.uint32), 14, 8)
    assert len(np.unique(hashes)) == 14


def test_many_signatures_at_once_are_the_same() -> None:
    table = np.random.default_rng(1).integers(0, 2**32, (5, 112), dtype=np.uint32)
    together = band_hashes(table, 14, 8)
    assert together.shape == (5, 14)
    for row, hashes in zip(table, together, strict=True):
        np.testing.assert_array_equal(band_hashes(row, 14, 8), hashes)


def test_numbers_beyond_the_bands_are_not_used() -> None:
    table = np.arange(20, dtype=np.uint32)
    np.testing.assert_array_equal(band_hashes(table, 2, 8), band_hashes(table[:16], 2, 8))


def test_a_signature_too_short() -> None:
    message = "14 bands of 8 rows need 112 numbers; the signature has 100"
    with pytest.raises(ValueError, match=message):
        band_hashes(np.zeros(100, dtype=np.uint32), 14, 8)


# --- packing ------------------------------------------------------------------------------------


def test_records_repeat_the_reference_for_each_band() -> None:
    hashes = np.array([[1, 2], [3, 4]], dtype=np.uint64)
    refs = np.array([70, 80], dtype=np.uint64)
    assert unpack([pack(hashes, refs)]).tolist() == [(1, 70), (2, 70), (3, 80), (4, 80)]
    assert records(hashes[:, 0], refs).tolist() == [(1, 70), (3, 80)]
    assert len(pack(hashes[:0], refs[:0])) == 0


def test_one_reference_a_document() -> None:
    with pytest.raises(ValueError, match="2 rows of hashes for 1 references"):
        records(np.zeros((2, 3), dtype=np.uint64), np.zeros(1, dtype=np.uint64))


def test_a_blob_that_is_cut_off() -> None:
    with pytest.raises(ValueError, match="a blob of 15 bytes does not hold whole records of 16"):
        star_edges([b"\0" * 16, b"\0" * 15, b"\0"])


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(1, 7))
def test_partitions_hold_every_record_once(hashes: list[int], partitions: int) -> None:
    rows = [(value, number) for number, value in enumerate(hashes)]
    parts = partition(blob(rows), partitions)
    assert sorted(row for part in parts.values() for row in unpack([part]).tolist()) == sorted(rows)
    assert all(0 <= place < partitions for place in parts)
    for place, part in parts.items():
        assert (partition_of(unpack([part])["hash"], partitions) == place).all()


def test_partitions_are_even() -> None:
    hashes = np.random.default_rng(3).integers(0, 2**64, 30_000, dtype=np.uint64)
    counts = np.bincount(partition_of(hashes, 3))
    assert counts.min() > 9_600


@pytest.mark.parametrize("partitions", [0, 2**31 + 1])
def test_impossible_partitions(partitions: int) -> None:
    with pytest.raises(ValueError, match=f"{partitions} partitions: give a number from 1"):
        partition_of(np.zeros(1, dtype=np.uint64), partitions)


# --- edges --------------------------------------------------------------------------------------


def test_star_around_the_smallest() -> None:
    content = star_edges([blob([(9, 30), (9, 10), (5, 30)]), blob([(9, 20), (7, 1), (7, 2)])])
    assert edges(content) == [(2, 1), (20, 10), (30, 10)]


def test_no_edge_alone_or_with_itself() -> None:
    assert star_edges([blob([(1, 5), (1, 5), (2, 6)])]) == b""
    assert star_edges([]) == b""


@settings(deadline=None)
@given(BUCKETS, st.integers(0, 40), st.randoms())
def test_edges_do_not_depend_on_order_or_cuts(
    rows: list[tuple[int, int]], cut: int, rng: random.Random
) -> None:
    shuffled = rng.sample(rows, len(rows))
    assert star_edges([blob(shuffled[:cut]), blob(shuffled[cut:])]) == star_edges([blob(rows)])


@settings(deadline=None)
@given(BUCKETS)
def test_a_bucket_gives_one_edge_less_than_members(rows: list[tuple[int, int]]) -> None:
    expected = set()
    for bucket in {value for value, _ in rows}:
        members = {ref for value, ref in rows if value == bucket}
        expected |= {(ref, min(members)) for ref in members if ref != min(members)}
    assert edges(star_edges([blob(rows)])) == sorted(expected)


# --- components ---------------------------------------------------------------------------------


def union_find(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Components the plain way: each reference with the smallest it is connected with."""
    parent = {ref: ref for pair in pairs for ref in pair}

    def root(ref: int) -> int:
        while parent[ref] != ref:
            ref = parent[ref]
        return ref

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return sorted((ref, root(ref)) for ref in parent)


@settings(deadline=None)
@given(st.lists(st.tuples(REFS, REFS), max_size=30), st.integers(0, 30), st.randoms())
def test_components_are_those_of_union_find(
    pairs: list[tuple[int, int]], cut: int, rng: random.Random
) -> None:
    shuffled = rng.sample(pairs, len(pairs))
    found = components([blob(shuffled[:cut], EDGE), blob(shuffled[cut:], EDGE)])
    assert found.dtype == COMPONENT
    assert [tuple(row) for row in found.tolist()] == union_find(pairs)


def test_a_long_chain_is_one_component() -> None:
    order = np.random.default_rng(5).permutation(20_000).astype(np.uint64) + np.uint64(2**60)
    chain = np.empty(len(order) - 1, dtype=EDGE)
    chain["member"], chain["root"] = order[1:], order[:-1]
    found = components([chain.tobytes()])
    assert len(found) == 20_000
    assert (found["component"] == 2**60).all()


def test_references_use_all_64_bits() -> None:
    found = components([blob([(2**64 - 1, 2**64 - 2), (2**63, 2**63 + 1)], EDGE)])
    assert found["component"].tolist() == [2**63, 2**63, 2**64 - 2, 2**64 - 2]


def test_no_edges_no_components() -> None:
    assert len(components([])) == 0


def test_an_edge_blob_that_is_cut_off() -> None:
    with pytest.raises(ValueError, match="a blob of 17 bytes"):
        components([b"\0" * 17])
