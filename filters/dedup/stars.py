"""Connected components by steps that each see a part of the graph.

Alternating large-star and small-star (Kiveris, Lattanzi, Mirrokni, Rastogi and Vassilvitskii,
"Connected Components in MapReduce and Beyond", 2014) turns every component into a star around its
smallest node. A step takes the edges at the nodes of one hash partition and gives edges for the
next one, never more than it took; ``steps`` has their order.

No number of rounds is enough for every graph, so ``settle`` contracts what they have left. A node
with smaller neighbours only joins the smallest of them; what connects the other nodes, the
*remainder*, goes through ``components`` in one place; and ``settled`` joins the answer to the nodes
that were contracted. That is exact after any number of rounds, none included: rounds only make the
remainder small. Its edges in percent of the nodes, after 0 to 4 rounds (200,000 documents with 14
bands of 8 where nothing else is said):

    clusters of similar documents, sizes Pareto       6.8   .35   .01   .00   .00
    a third of them chains of revisions              13.9  2.8    .94   .35   .12
    chains of revisions only                         27.7 10.2   3.8   1.2    .29
    random graph, .6 edges a node (threshold .5)     29.5 14.5   5.9   2.1    .67
    chain of 20,000 nodes                            46   26    13     6.0   2.6

Nodes are references mixed by a bijection. Revisions often lie in a row, and a chain in order of
its nodes is the worst case of the steps: it halves with a round, and no node can be contracted
before the last. In mixed order it is the chain of the table.

Between steps travel ``(partition, packed rows)``; the order of rows and blobs does not matter.
Memory of a step: 6 times the bytes of its rows (measured). A partition has its share of the edges,
and in ``large_star``, ``settle`` and ``settled`` the whole stars of its nodes: 16 bytes for each
neighbour of a node, so 1.6 GB of rows where one component has 100 million members.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from filters.dedup.bands import EDGE, partition_of, split, unpack_as
from filters.dedup.components import COMPONENT
from filters.dedup.normalize import Hashes, mix

ROUNDS = 3
"""Pairs of steps before what is left goes to one place."""

Partitioned = tuple[int, bytes]


def nodes_of(references: Hashes) -> Hashes:
    """The node of each document reference: a bijection after which no order is left."""
    return mix(references)


def references_of(nodes: Hashes) -> Hashes:
    """The document reference of each node."""
    shift = np.uint64(33)
    # What ``mix`` does, backwards: a shift by more than half of the bits undoes itself.
    values = nodes ^ (nodes >> shift)
    values *= np.uint64(pow(0xC4CEB9FE1A85EC53, -1, 1 << 64))
    values ^= values >> shift
    values *= np.uint64(pow(0xFF51AFD7ED558CCD, -1, 1 << 64))
    values ^= values >> shift
    return values


# --- where rows go ------------------------------------------------------------------------------


def by_member(edges: NDArray[np.void], partitions: int) -> Iterator[Partitioned]:
    """``EDGE`` rows for the partitions of their members, which is what ``small_star`` takes."""
    yield from split(edges, partition_of(edges["member"], partitions)).items()


def by_both_ends(edges: NDArray[np.void], partitions: int) -> Iterator[Partitioned]:
    """``EDGE`` rows for the partitions of both ends, each end once as the member.

    That is what ``large_star`` and ``settle`` take.
    """
    yield from by_member(
        np.concatenate((edges, _edges(edges["root"], edges["member"]))), partitions
    )


def by_component(rows: NDArray[np.void], partitions: int) -> Iterator[Partitioned]:
    """``COMPONENT`` rows for the partitions of their components, which ``settled`` takes."""
    yield from split(rows, partition_of(rows["component"], partitions)).items()


# --- rounds -------------------------------------------------------------------------------------


def small_star(blobs: Iterable[bytes]) -> NDArray[np.void]:
    """Connect each node, and its smaller neighbours, with the smallest of these instead.

    ``blobs`` hold the edges from the nodes of a partition, as members, to smaller ones.
    """
    edges = _rows(blobs)
    first, lowest = _lowest(edges)
    # The edge to the smallest stays; of any other, the far end is connected with the smallest.
    return _unique(_edges(np.where(first, edges["member"], edges["root"]), lowest))


def large_star(blobs: Iterable[bytes]) -> NDArray[np.void]:
    """Connect each larger neighbour of a node with the node's smallest neighbour instead.

    ``blobs`` hold all edges at the nodes of a partition. A node that has no smaller neighbour
    counts as its own.
    """
    edges = _rows(blobs)
    lowest = np.minimum(_lowest(edges)[1], edges["member"])
    larger = edges["root"] > edges["member"]
    return _unique(_edges(edges["root"][larger], lowest[larger]))


# --- the exact end ------------------------------------------------------------------------------


def settle(blobs: Iterable[bytes]) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Contract the nodes of a partition: ``COMPONENT`` rows, and the remainder's ``EDGE`` rows.

    ``blobs`` hold all edges at the nodes of a partition. Each node has one row: one with smaller
    neighbours only is contracted into the smallest, and edges from the others to it go to the
    remainder. Any other node stays, and so do its edges to smaller ones.
    """
    edges = _rows(blobs)
    first, lowest = _lowest(edges)
    last = np.ones(len(edges), dtype=bool)
    last[:-1] = first[1:]
    nodes, counts = edges["member"][first], np.diff(np.flatnonzero(first), append=len(edges))
    leaf = edges["root"][last] < nodes
    found = np.empty(len(nodes), dtype=COMPONENT)
    found["ref"] = nodes
    found["component"] = np.where(leaf, lowest[first], nodes)
    of_leaf = np.repeat(leaf, counts)
    others = of_leaf & ~first
    smaller = ~of_leaf & (edges["root"] < edges["member"])
    remainder = (_edges(edges["root"][others], lowest[others]), edges[smaller])
    return found, _unique(np.concatenate(remainder))


def resolution(remainder: NDArray[np.void]) -> NDArray[np.void]:
    """The components of the remainder's nodes, as rows unlike those of contracted nodes.

    A component's name is never larger than a node of it. So the row (component, node), with the
    two the other way round, can say that what was contracted into ``node`` is of ``component``.
    A node that is its component's name needs no row.
    """
    rows = remainder[remainder["component"] < remainder["ref"]]
    found = np.empty(len(rows), dtype=COMPONENT)
    found["ref"], found["component"] = rows["component"], rows["ref"]
    return found


def settled(blobs: Iterable[bytes]) -> NDArray[np.void]:
    """The nodes contracted into those of a partition, with the names of their components.

    ``blobs`` hold rows of ``settle`` and of ``resolution``, by component.
    """
    rows = unpack_as(COMPONENT, blobs)
    turned = rows["ref"] < rows["component"]
    named = rows[turned]
    named = named[np.argsort(named["component"])]
    found = rows[~turned]
    if len(named):
        place = np.searchsorted(named["component"], found["component"]).clip(max=len(named) - 1)
        known = named["component"][place] == found["component"]
        found["component"][known] = named["ref"][place[known]]
    return found


# --- packed edges -------------------------------------------------------------------------------


def _rows(blobs: Iterable[bytes]) -> NDArray[np.void]:
    """Edges sorted by member and root, each once."""
    return _unique(unpack_as(EDGE, blobs))


def _edges(members: NDArray[np.uint64], roots: NDArray[np.uint64]) -> NDArray[np.void]:
    found = np.empty(len(members), dtype=EDGE)
    found["member"], found["root"] = members, roots
    return found


def _unique(edges: NDArray[np.void]) -> NDArray[np.void]:
    edges = edges[np.lexsort((edges["root"], edges["member"]))]
    members, roots = edges["member"], edges["root"]
    new = np.ones(len(edges), dtype=bool)
    new[1:] = (members[1:] != members[:-1]) | (roots[1:] != roots[:-1])
    return edges[new]


def _lowest(edges: NDArray[np.void]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
    """Of sorted edges: which are their member's first, and the root of that one for each."""
    members = edges["member"]
    first = np.ones(len(edges), dtype=bool)
    first[1:] = members[1:] != members[:-1]
    begins = np.flatnonzero(first)
    return first, np.repeat(edges["root"][begins], np.diff(begins, append=len(edges)))
