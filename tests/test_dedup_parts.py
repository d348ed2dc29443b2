"""Components beyond the bound: parts, then leaders across parts; and nothing else within it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup.leaders import leaders, member_dtype
from filters.dedup.parts import leaders_to_compare, place_of, split_components

SIZE = 10
BOUND = 0.7


def component(
    signatures: list[list[int]], max_members: int, name: int = 1, first: int = 0
) -> np.ndarray:
    """A component as it comes to the step that chooses leaders."""
    found = np.zeros(len(signatures), member_dtype(SIZE))
    refs = np.arange(first, first + len(signatures), dtype=np.uint64)
    found["component"], found["ref"], found["length"] = name, refs, 100
    found["id"] = [int(ref).to_bytes(16, "big") for ref in refs]
    sizes = np.full(len(refs), len(refs), dtype=np.uint64)
    found["part"], found["parts"] = split_components(refs, sizes, max_members)
    found["signature"] = np.array(signatures).reshape(-1, SIZE)
    return found


def compare(members: np.ndarray, max_members: int, partitions: int, rng: random.Random) -> list:
    """Both levels as the graph has them: (ref, leader, similarity) of all that is removed."""
    found = []
    # Each part sends one leader at least.
    most_parts = members["parts"].max()
    for _ in range(2):
        members = members[np.array(rng.sample(range(len(members)), len(members)), dtype=int)]
        places, ahead = place_of(members, partitions), []
        for place in range(partitions):
            here = members[places == place]
            removed = leaders(here, BOUND)
            found += removed[["ref", "leader_ref", "jaccard"]].tolist()
            ahead.append(leaders_to_compare(here, removed, max_members))
        members = np.concatenate(ahead)
        assert (members["parts"] == 1).all()
        if len(members):
            groups = members[["component", "part"]].tolist()
            assert max(map(groups.count, groups)) <= max(max_members, most_parts)
    assert len(found) == len({ref for ref, _, _ in found})
    return sorted(found)


def agree(one: list[int], other: list[int]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=True))


MARKS = st.lists(st.lists(st.integers(1, 3), min_size=SIZE, max_size=SIZE), min_size=1, max_size=40)
SEEDS = st.randoms(use_true_random=False)


@settings(deadline=None)
@given(MARKS, st.integers(1, 50), SEEDS)
def test_within_the_bound_nothing_changes(
    marks: list[list[int]], most: int, rng: random.Random
) -> None:
    members = component(marks, max(most, len(marks)))
    assert (members["part"] == 0).all()
    whole = leaders(members, BOUND)[["ref", "leader_ref", "jaccard"]].tolist()
    assert compare(members, max(most, len(marks)), rng.randint(1, 7), rng) == sorted(whole)


@settings(deadline=None)
@given(MARKS, st.integers(1, 12), st.integers(1, 7), SEEDS)
def test_beyond_the_bound_every_removal_has_direct_evidence(
    marks: list[list[int]], most: int, partitions: int, rng: random.Random
) -> None:
    removed = compare(component(marks, most), most, partitions, rng)
    leader_of = {ref: leader for ref, leader, _ in removed}
    for ref, leader, jaccard in removed:
        assert agree(marks[ref], marks[leader]) == round(jaccard * SIZE) > BOUND * SIZE
        # A leader that is removed has a leader that is kept.
        assert leader_of.get(leader_of.get(leader, -1), -1) == -1
    assert compare(component(marks, most), most, 1, rng) == removed


def test_the_bound_is_the_last_size_of_one_part() -> None:
    refs = np.arange(8, dtype=np.uint64)
    sizes = np.array([1, 3, 4, 5, 8, 9, 400, 2**30], dtype=np.uint64)
    part, parts = split_components(refs, sizes, 4)
    assert parts.tolist() == [1, 1, 1, 2, 2, 3, 100, 2**28]
    assert (part[:3] == 0).all()
    with pytest.raises(ValueError, match="max_members is 0: give at least 1"):
        split_components(refs, sizes, 0)


def test_parts_are_even() -> None:
    refs = np.arange(100_000, dtype=np.uint64) << np.uint64(3)
    part, _ = split_components(refs, np.full(100_000, 100_000, np.uint64), 12_500)
    assert np.bincount(part).max() < 12_500 * 1.03
    assert len(np.bincount(part)) == 8


def test_parts_of_a_component_lie_at_different_places() -> None:
    members = component([[1] * SIZE] * 200, 20)
    assert members["parts"][0] == 10
    places = {(int(p), int(q)) for p, q in zip(members["part"], place_of(members, 16), strict=True)}
    assert len(places) == 10
    assert len({place for _, place in places}) == 10


def templates(count: int, each: int) -> list[list[int]]:
    """Clusters of equal signatures that have nothing in common."""
    return [[number + 1] * SIZE for number in range(count) for _ in range(each)]


def test_copies_across_parts_have_one_kept_document() -> None:
    """As long as the leaders of a part have room in the central group, no two kept are similar."""
    marks = templates(5, 40)
    removed = compare(component(marks, 60), 60, 3, random.Random(1))
    kept = set(range(len(marks))) - {ref for ref, _, _ in removed}
    assert len(kept) == 5
    assert sorted(marks[ref][0] for ref in kept) == [1, 2, 3, 4, 5]


def test_leaders_without_room_meet_by_signature() -> None:
    """More different documents than one place takes: equal ones still meet, some may not."""
    marks = templates(100, 2)
    removed = compare(component(marks, 40), 40, 3, random.Random(1))
    assert 60 < len(removed) <= 100
    pairs = {ref // 2 for ref, _, _ in removed}
    assert len(pairs) == len(removed)


def test_those_with_the_most_duplicates_are_central() -> None:
    marks = [*templates(30, 1), *[[99] * SIZE] * 30]
    members = component(marks, 30)
    found = leaders(members, BOUND)
    chosen = leaders_to_compare(members, found, 30)
    central = chosen[chosen["part"] == 0]
    assert (central["signature"][:, 0] == 99).sum() == 2
    assert len(central) <= 30


def test_components_of_one_part_are_final() -> None:
    small = component(templates(3, 2), 10)
    large = component(templates(3, 5), 10, name=2, first=100)
    members = np.concatenate((small, large))
    chosen = leaders_to_compare(members, leaders(members, BOUND), 10)
    assert set(chosen["component"].tolist()) == {2}
