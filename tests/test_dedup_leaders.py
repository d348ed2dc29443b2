from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup import leaders as module
from filters.dedup.exact import CONTENT, EXACT_DUPLICATE, exact_groups
from filters.dedup.leaders import NEAR_DUPLICATE, leaders, member_dtype

SIZE = 10


def identifier(number: int) -> bytes:
    return number.to_bytes(16, "big")


def member(
    ref: int,
    signature: list[int],
    *,
    component: int = 1,
    rank: int = 0,
    length: int = 100,
    name: int | None = None,
) -> tuple:
    return component, ref, identifier(ref if name is None else name), rank, length, signature


def table(rows: list[tuple]) -> np.ndarray:
    """Members of whole components."""
    whole = [(component, 0, 1, *rest) for component, *rest in rows]
    return np.array(whole, dtype=member_dtype(SIZE))


def found(rows: list[tuple], bound: float = 0.75) -> list[tuple[int, int, float]]:
    result = leaders(table(rows), bound)
    assert result.dtype == NEAR_DUPLICATE
    return [(int(r["ref"]), int(r["leader_ref"]), round(float(r["jaccard"]), 4)) for r in result]


def like(base: int, agree: int) -> list[int]:
    """A signature that agrees with ``[1] * SIZE`` in ``agree`` places, else is ``base``'s own."""
    return [1] * agree + [base] * (SIZE - agree)


ONES = like(1, SIZE)

# --- near ---------------------------------------------------------------------------------------


def test_above_the_bound_is_a_duplicate_and_at_the_bound_is_not() -> None:
    assert found([member(1, ONES), member(2, like(9, 8))], bound=0.7) == [(2, 1, 0.8)]
    assert found([member(1, ONES), member(2, like(9, 7))], bound=0.7) == []


def test_bound_one_removes_nothing_and_bound_zero_needs_one_number() -> None:
    assert found([member(1, ONES), member(2, ONES)], bound=1.0) == []
    assert found([member(1, ONES), member(2, like(9, 1))], bound=0.0) == [(2, 1, 0.1)]
    assert found([member(1, ONES), member(2, like(9, 0))], bound=0.0) == []


def test_the_bound_has_no_rounding_error() -> None:
    # .57 x 100 is less than 57 by one part in 10^16: 57 equal numbers are the bound, not above.
    assert 0.57 * 100 < 57
    rows = np.zeros(2, dtype=member_dtype(100))
    rows["ref"] = [1, 2]
    rows["signature"][0, 57:] = 5
    assert len(leaders(rows, 0.57)) == 0
    rows["signature"][0, 57] = 0
    assert len(leaders(rows, 0.57)) == 1


def test_chains_are_refused() -> None:
    # 1 ~ 2 ~ 3, but 1 and 3 share half: 3 has no evidence against it and is kept.
    one, two, three = [1] * 10, [1] * 8 + [2] * 2, [1] * 6 + [2] * 4
    assert found([member(1, one), member(2, two), member(3, three)]) == [(2, 1, 0.8)]


def test_the_closest_leader_counts_and_of_equals_the_earlier() -> None:
    first, second = [1] * 10, [1] * 7 + [2] * 3
    assert found([member(1, first), member(2, second), member(3, [1] * 8 + [2] * 2)]) == [
        (3, 2, 0.9)
    ]
    tie = [1] * 7 + [1, 2, 5]
    assert found([member(1, first), member(2, second), member(3, tie)]) == [(3, 1, 0.8)]


def test_components_do_not_meet() -> None:
    assert found([member(1, ONES, component=1), member(2, ONES, component=2)]) == []


def test_preference() -> None:
    def kept(*rows: tuple) -> int:
        ((_, leader, _),) = found(list(rows))
        return leader

    assert kept(member(1, ONES, rank=1), member(2, ONES, rank=0, length=1)) == 2
    assert kept(member(1, ONES, length=99), member(2, ONES, length=100)) == 2
    assert kept(member(1, ONES, name=300), member(2, ONES, name=4)) == 2
    assert kept(member(8, ONES, name=7), member(9, ONES, name=7)) == 8


def test_evidence_names_the_kept_document() -> None:
    (row,) = leaders(table([member(1, ONES, name=77), member(2, ONES, length=5)]), 0.75)
    assert row["leader"].tobytes() == identifier(77)
    assert row["jaccard"] == 1.0


def test_no_members() -> None:
    assert len(leaders(table([]), 0.75)) == 0


@pytest.mark.parametrize("bound", [-0.1, 1.1, float("nan")])
def test_impossible_bounds(bound: float) -> None:
    with pytest.raises(ValueError, match=r"bound is .*: give a similarity from 0 to 1"):
        leaders(table([]), bound)


SIGNATURES = st.lists(st.integers(1, 3), min_size=SIZE, max_size=SIZE)
MEMBERS = st.lists(
    st.tuples(st.integers(1, 3), SIGNATURES, st.integers(0, 1), st.integers(1, 3)), max_size=25
).map(
    lambda rows: [
        member(ref, signature, component=component, rank=rank, length=length, name=1000 - ref)
        for ref, (component, signature, rank, length) in enumerate(rows)
    ]
)


def plain_leaders(rows: list[tuple], bound: float) -> list[tuple[int, int, float]]:
    """The same, one member at a time."""
    kept: dict[int, list[tuple]] = {}
    out = []
    for row in sorted(rows, key=lambda r: (r[3], -r[4], r[2], r[1])):
        close = [
            (sum(a == b for a, b in zip(row[5], leader[5], strict=True)), -place)
            for place, leader in enumerate(kept.get(row[0], []))
        ]
        shared, place = max(close, default=(0, 0))
        if shared > bound * SIZE + 1e-9:
            out.append((row[1], kept[row[0]][-place][1], round(shared / SIZE, 4)))
        else:
            kept.setdefault(row[0], []).append(row)
    return sorted(out)


@settings(deadline=None)
@given(MEMBERS, st.sampled_from([0.3, 0.5, 0.7, 0.9]), st.randoms())
def test_leaders_are_those_of_the_plain_loop(
    rows: list[tuple], bound: float, rng: random.Random
) -> None:
    assert found(rng.sample(rows, len(rows)), bound) == plain_leaders(rows, bound)


@settings(deadline=None)
@given(MEMBERS, st.sampled_from([0.3, 0.5, 0.7]))
def test_no_two_kept_documents_of_a_component_are_similar(rows: list[tuple], bound: float) -> None:
    removed = {ref: leader for ref, leader, _ in found(rows, bound)}
    kept = [row for row in rows if row[1] not in removed]
    assert set(removed.values()) <= {row[1] for row in kept}
    for row in kept:
        for other in kept:
            if row[1] < other[1] and row[0] == other[0]:
                agree = sum(a == b for a, b in zip(row[5], other[5], strict=True))
                assert agree <= bound * SIZE + 1e-9


@settings(max_examples=20, deadline=None)
@given(MEMBERS)
def test_blocks_do_not_matter(rows: list[tuple]) -> None:
    whole = found(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 2)
        assert found(rows) == whole


# --- exact --------------------------------------------------------------------------------------


def content(
    value: int, ref: int, rank: int = 0, length: int = 100, name: int | None = None
) -> tuple:
    return identifier(value), ref, identifier(ref if name is None else name), rank, length


def exact(*blobs: list[tuple]) -> list[tuple[int, int]]:
    result = exact_groups([np.array(rows, dtype=CONTENT).tobytes() for rows in blobs])
    assert result.dtype == EXACT_DUPLICATE
    assert all(row["keeper"].tobytes()[-1] for row in result)
    return [(int(row["ref"]), int(row["keeper_ref"])) for row in result]


def test_equal_content_has_one_keeper() -> None:
    assert exact([content(7, 3), content(8, 4)], [content(7, 1), content(7, 2)]) == [(2, 1), (3, 1)]


def test_contents_are_compared_in_all_their_bytes() -> None:
    assert exact([content(1, 1), content(1 + (1 << 120), 2), content(1 + (1 << 60), 3)]) == []


def test_exact_preference() -> None:
    assert exact([content(7, 1, rank=1), content(7, 2, length=1)]) == [(1, 2)]
    assert exact([content(7, 1, length=99), content(7, 2)]) == [(1, 2)]
    assert exact([content(7, 1, name=1 << 70 | 1), content(7, 2, name=9)]) == [(1, 2)]
    assert exact([content(7, 1, name=256), content(7, 2, name=255)]) == [(1, 2)]
    assert exact([content(7, 1, name=256 << 64), content(7, 2, name=255 << 64 | 1)]) == [(1, 2)]


def test_nothing_is_no_duplicate() -> None:
    assert exact() == exact([]) == exact([content(1, 1)]) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(1, 3)), max_size=30),
    st.integers(0, 30),
    st.randoms(),
)
def test_exact_groups_do_not_depend_on_order(
    rows: list[tuple[int, int, int]], cut: int, rng: random.Random
) -> None:
    made = [
        content(value, ref, rank, length, name=500 - ref)
        for ref, (value, rank, length) in enumerate(rows, 1)
    ]
    shuffled = rng.sample(made, len(made))
    expected = []
    for value in {row[0] for row in made}:
        group = sorted((r for r in made if r[0] == value), key=lambda r: (r[3], -r[4], r[2]))
        expected += [(row[1], group[0][1]) for row in group[1:]]
    assert exact(shuffled[:cut], shuffled[cut:]) == sorted(expected)


def test_a_content_blob_that_is_cut_off() -> None:
    with pytest.raises(ValueError, match="a blob of 45 bytes does not hold whole records of 46"):
        exact_groups([b"\0" * 45])
