"""Components too large for one place: parts of them first, then the leaders of the parts.

``leaders`` holds a component in memory and compares its members with its leaders. A component of
more than ``MAX_MEMBERS`` is therefore split into parts by a hash of the reference, as many as its
size asks for. The leaders of the parts are compared once more, in groups that again have at most
``MAX_MEMBERS``:

* each part sends ``max_members / parts`` of its leaders, but one at least, to one *central* group,
  those with the most duplicates first, so that what was copied most meets across all parts;
* the others go to groups by the first number of their signature. Documents of similarity ``s``
  agree on it with probability ``s``, so most pairs that are left meet there. Of one such group a
  part again has at most ``max_members / parts`` leaders; any others are kept as they are.

A component within the bound has one part, and its leaders are final: nothing of this changes it.
What is lost for larger ones:

* A leader of a part may turn out to be a duplicate of another part's leader. Its own duplicates
  still name it. So they name a document on direct evidence, but one that is itself removed, and
  with the kept document that it names they may agree less.
* Where a part has more than ``max_members / parts`` leaders, one of them and a kept document of
  another part can be similar beyond the bound. Otherwise, as within the bound, no two are.
  Measured on one component of 8,000 members in 4 and in 8 parts, against the whole at once: of
  the documents to remove 82 and 83 % were found where duplicates come in twos, 89 % where they
  come in eights, and all where they come in hundreds.

All follows from references, ids, ranks, lengths and signatures of the members, so it depends
neither on partitions nor on order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filters.dedup.bands import partition_of
from filters.dedup.exact import preference_keys
from filters.dedup.normalize import Hashes, mix

MAX_MEMBERS = 1 << 17
"""Members of a component, or of a part of one, that are compared in one place; parts are even
but for chance, which adds less than 2 percent. With 112 numbers 65 MB; if all are kept, a quarter
of an hour."""

CENTRAL = 0
"""The group of the leaders with the most duplicates; the others have groups from 1 on."""


def split_components(
    refs: Hashes, sizes: Hashes, max_members: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """For documents of components of these sizes: the part of each, and of how many.

    Raises ValueError where ``max_members`` is not at least 1.
    """
    if max_members < 1:
        raise ValueError(f"max_members is {max_members}: give at least 1")
    parts = -(-sizes.astype(np.int64) // max_members)
    return _choose(mix(refs), parts), parts.astype(np.uint32)


def _choose(hashes: Hashes, counts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """One of ``counts`` places for each hash, from its low 32 bits; the high ones choose keys."""
    low = hashes & np.uint64(0xFFFFFFFF)
    return ((low * counts.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def place_of(members: NDArray[np.void], partitions: int) -> NDArray[np.int64]:
    """The partition of each member: one for each part, and different ones for parts that follow.

    So of one component no partition has two parts as long as there are partitions for them.
    """
    first = partition_of(mix(members["component"]), partitions)
    places: NDArray[np.int64] = (first + members["part"].astype(np.int64)) % partitions
    return places


def leaders_to_compare(
    members: NDArray[np.void], duplicates: NDArray[np.void], max_members: int
) -> NDArray[np.void]:
    """The leaders of parts that are to be compared with those of other parts, in new groups.

    ``members`` hold whole parts, and ``duplicates`` what ``leaders`` found among them. The new
    groups are final: each is the one part of its component.
    """
    kept = members[(members["parts"] > 1) & ~np.isin(members["ref"], duplicates["ref"])]
    if not len(kept):
        return kept
    followed = -_followers(kept["ref"], duplicates)
    kept = kept[np.lexsort((*preference_keys(kept), followed, kept["part"], kept["component"]))]
    room = np.maximum(1, max_members // kept["parts"].astype(np.int64))
    central = _ranks(kept["component"], kept["part"]) < room
    similar = 1 + _choose(mix(kept["signature"][:, 0].astype(np.uint64)), kept["parts"])
    group = np.where(central, CENTRAL, similar).astype(np.uint32)
    order = np.lexsort((group, kept["part"], kept["component"]))
    kept, group, room = kept[order], group[order], room[order]
    within = _ranks(kept["component"], kept["part"], group) < room
    found = kept[within]
    found["part"], found["parts"] = group[within], 1
    return found


def _followers(refs: NDArray[np.uint64], duplicates: NDArray[np.void]) -> NDArray[np.int64]:
    """How many duplicates each leader has."""
    leaders, counts = np.unique(duplicates["leader_ref"], return_counts=True)
    found = np.zeros(len(refs), dtype=np.int64)
    if len(leaders):
        place = np.searchsorted(leaders, refs).clip(max=len(leaders) - 1)
        known = leaders[place] == refs
        found[known] = counts[place[known]]
    return found


def _ranks(*keys: NDArray[np.generic]) -> NDArray[np.int64]:
    """The place of each row within its run of rows that are equal in all keys."""
    places = np.arange(len(keys[0]))
    begins = np.zeros(len(places), dtype=bool)
    begins[:1] = True
    for key in keys:
        begins[1:] |= key[1:] != key[:-1]
    return places - np.maximum.accumulate(np.where(begins, places, 0))
