"""Verified near-duplicates: within a component, who is a duplicate of whom, on direct evidence.

A component is a chain of candidates, and its ends may have nothing in common: removing all of a
component but one document has emptied whole collections elsewhere. Here the members of a component
are taken in order of preference (earlier source, longer text, smaller id). A member whose signature
agrees with that of an earlier leader beyond the bound is a duplicate of the leader it agrees with
most; any other member becomes a leader and is kept. So every removed document is similar to one
that is kept, which is named, and no two kept documents of a component are similar beyond the bound.

All components advance together, one leader each a round, so the work is done in numpy whatever the
sizes of components. Cost: about 0.1 microseconds for each pair of a leader and a later member of
its component: a component of 100,000 members of which 10,000 are kept takes about two minutes.
Memory: the members three times, and ``BLOCK`` pairs of signatures. How components beyond a bound
are handled is the matter of ``parts``; here a part is as good as a component.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filters.dedup.exact import preference_keys

MEMBER_FIELDS = (
    ("component", "<u8"),
    ("part", "<u4"),
    ("parts", "<u4"),
    ("ref", "<u8"),
    ("id", "V16"),
    ("source_rank", "<u2"),
    ("length", "<u4"),
)
"""What is known of a member of a component, besides its signature. ``part`` is its part of the
component, of which there are ``parts``; both may be left at zero where components are whole."""

NEAR_DUPLICATE = np.dtype(
    [("ref", "<u8"), ("leader", "V16"), ("leader_ref", "<u8"), ("jaccard", "<f4")]
)
"""A document that is removed; the id and reference of the leader it is a duplicate of; and the
estimated Jaccard similarity of the two."""

BLOCK = 4096
"""Pairs of signatures compared at a time: 4 MB at 112 numbers."""


def member_dtype(permutations: int) -> np.dtype[np.void]:
    """The record of one member, with a signature of so many 32-bit numbers."""
    return np.dtype([*MEMBER_FIELDS, ("signature", "<u4", (permutations,))])


def leaders(members: NDArray[np.void], bound: float) -> NDArray[np.void]:
    """The near-duplicates among the members, sorted by reference.

    ``members`` holds whole parts of components, of type ``member_dtype``, in any order. Documents
    of one part are duplicates where the share of equal numbers in their signatures is above
    ``bound``; a share of exactly the bound is not, as for the rule ``max: bound``. Of leaders that
    agree equally the earlier one counts. Raises ValueError for a bound outside 0 to 1.
    """
    if not 0.0 <= bound <= 1.0:
        raise ValueError(f"bound is {bound}: give a similarity from 0 to 1")
    keys = (*preference_keys(members), members["part"], members["component"])
    members = members[np.lexsort(keys)]
    signatures = np.ascontiguousarray(members["signature"])
    best, chosen = _follow(_groups(members), signatures, bound)
    removed = np.flatnonzero(chosen >= 0)
    found = np.empty(len(removed), dtype=NEAR_DUPLICATE)
    found["ref"] = members["ref"][removed]
    found["leader"] = members["id"][chosen[removed]]
    found["leader_ref"] = members["ref"][chosen[removed]]
    found["jaccard"] = best[removed] / signatures.shape[1]
    return found[np.argsort(found["ref"], kind="stable")]


def _groups(members: NDArray[np.void]) -> NDArray[np.int64]:
    """A number for each part of a component, of sorted members."""
    component, part = members["component"], members["part"]
    new = np.zeros(len(members), dtype=bool)
    new[1:] = (component[1:] != component[:-1]) | (part[1:] != part[:-1])
    return np.cumsum(new)


def _follow(
    groups: NDArray[np.int64], signatures: NDArray[np.uint32], bound: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each member: numbers shared with its leader, and the leader's row (-1: none).

    ``groups`` is sorted and each group's members are in order of preference.
    """
    size = signatures.shape[1]
    # The least count that is above the bound: 1e-9 absorbs that .57 x 100 is 56.99999999999999.
    needed = int(np.floor(bound * size + 1e-9)) + 1
    best = np.zeros(len(groups), dtype=np.int64)
    chosen = np.full(len(groups), -1, dtype=np.int64)
    # Rows still in play, in order: of each group, those after its latest leader.
    rows = np.arange(len(groups))
    while len(rows):
        leader = _next_leaders(groups[rows], chosen[rows] >= 0)
        # Before its group's next leader, or without one, a row has met all its leaders.
        rows, leader = rows[leader >= 0], rows[leader[leader >= 0]]
        shared = _shared(signatures, rows, leader)
        closer = (shared >= needed) & (shared > best[rows])
        best[rows[closer]] = shared[closer]
        chosen[rows[closer]] = leader[closer]
        # Nothing can agree more than a copy does.
        rows = rows[best[rows] < size]
    return best, chosen


def _next_leaders(groups: NDArray[np.int64], covered: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The place of the next leader each row has to meet, or -1.

    A group's next leader is its first row that no leader covers; rows before it, and the
    leader itself, have nothing to meet.
    """
    places = np.arange(len(groups))
    begins = np.concatenate(([True], groups[1:] != groups[:-1]))
    first = np.flatnonzero(begins)
    uncovered = np.where(covered, len(groups), places)
    earliest = np.minimum.reduceat(uncovered, first)
    leader = np.repeat(earliest, np.diff(first, append=len(groups)))
    return np.where(places > leader, leader, -1)


def _shared(
    signatures: NDArray[np.uint32], rows: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many numbers the signatures of each pair of rows have in common."""
    shared = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        equal = signatures[rows[part]] == signatures[others[part]]
        shared[part] = equal.sum(axis=1, dtype=np.uint32)
    return shared
