"""The steps that connect candidates, each from what is grouped at a key to rows for other keys.

    star_edges -> small_star -> (large_star -> small_star) x rounds -> settle -> join
                                                                         `-> resolve -'

Any engine that groups ``(int, bytes)`` pairs by key can run them; between two steps stands one
grouping. The keys are those of ``partitions`` hash partitions, and ``ASIDE``. What the steps do
and why the result is exact is told in ``stars``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from filters.dedup import bands, components, stars

Partitioned = tuple[int, bytes]

ASIDE = -1
"""The key of rows that a step gives besides those for partitions, and that take another way."""


def ahead(key: int, blob: bytes) -> Iterator[Partitioned]:
    """The rows for partitions, of a step that gives others too."""
    if key != ASIDE:
        yield key, blob


def aside(key: int, blob: bytes) -> Iterator[Partitioned]:
    """The other rows of such a step, all at one key."""
    if key == ASIDE:
        yield 0, blob


def star_edges(_band: int, blobs: Iterable[bytes], partitions: int) -> Iterator[Partitioned]:
    """Edges from each member of a bucket to its first, for ``small_star``."""
    return stars.by_member(np.frombuffer(bands.star_edges(blobs), bands.EDGE), partitions)


def small_star(_place: int, blobs: Iterable[bytes], partitions: int) -> Iterator[Partitioned]:
    """A small-star step, for ``large_star`` or ``settle``."""
    return stars.by_both_ends(stars.small_star(blobs), partitions)


def large_star(_place: int, blobs: Iterable[bytes], partitions: int) -> Iterator[Partitioned]:
    """A large-star step, for ``small_star``."""
    return stars.by_member(stars.large_star(blobs), partitions)


def settle(_place: int, blobs: Iterable[bytes], partitions: int) -> Iterator[Partitioned]:
    """Contracted nodes for ``join``, and aside the edges of the remainder for ``resolve``."""
    found, remainder = stars.settle(blobs)
    yield from stars.by_component(found, partitions)
    if len(remainder):
        yield ASIDE, remainder.tobytes()


def resolve(_place: int, blobs: Iterable[bytes], partitions: int) -> Iterator[Partitioned]:
    """The components of the remainder for ``join``, from all edges of the remainder."""
    return stars.by_component(stars.resolution(components.components(blobs)), partitions)


def join(_place: int, blobs: Iterable[bytes], partitions: int) -> Iterator[Partitioned]:
    """All nodes by their components, from what ``settle`` and ``resolve`` found."""
    return stars.by_component(stars.settled(blobs), partitions)
