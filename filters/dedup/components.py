"""Connected components in one place, and what they are once found: names and sizes.

``components`` sees all edges it is given at once: about 120 bytes and a microsecond an edge. So
it refuses more than ``MAX_EDGES``. Graphs larger than that come here through the steps of
``stars``, which leave it a remainder. The answer is a property of the graph alone, whatever the
order of the edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from filters.dedup.bands import EDGE, unpack_as

COMPONENT = np.dtype([("ref", "<u8"), ("component", "<u8")])
"""A node and the smallest node of its component."""

MEMBERSHIP = np.dtype([("ref", "<u8"), ("component", "<u8"), ("size", "<u8")])
"""A document, the smallest reference of its component, and how many documents that has."""

MAX_EDGES = 1 << 25
"""Edges that one place takes: 0.5 GB of rows, 4 GB at the peak of memory."""


def components(blobs: Iterable[bytes], max_edges: int = MAX_EDGES) -> NDArray[np.void]:
    """Each node that has an edge, with its component, sorted by node.

    ``blobs`` are packed ``EDGE`` records. A component's name is its smallest node. Raises
    ValueError for more than ``max_edges`` edges, before they are held in memory.
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    edges = unpack_as(EDGE, _at_most(blobs, max_edges))
    nodes, places = np.unique(np.concatenate((edges["member"], edges["root"])), return_inverse=True)
    found = np.empty(len(nodes), dtype=COMPONENT)
    found["ref"] = nodes
    if not len(nodes):
        return found
    ones = np.ones(len(edges), dtype=np.uint8)
    ends = places[: len(edges)], places[len(edges) :]
    graph = coo_array((ones, ends), shape=(len(nodes), len(nodes)))
    labels = connected_components(graph, directed=False)[1]
    # Nodes are sorted: the first one with a label is the smallest.
    _, first = np.unique(labels, return_index=True)
    found["component"] = nodes[first[labels]]
    return found


def _at_most(blobs: Iterable[bytes], max_edges: int) -> Iterator[bytes]:
    """The blobs as long as they are within the bound; beyond it all are counted, for the error."""
    size = 0
    for blob in blobs:
        size += len(blob)
        if size <= max_edges * EDGE.itemsize:
            yield blob
    if size > max_edges * EDGE.itemsize:
        raise ValueError(
            f"{size // EDGE.itemsize} edges between candidates for near-duplicates come to one "
            f"place, which takes {max_edges}: use more partitions if there is only one, else more "
            "rounds, or propose fewer candidates with fewer bands or more rows"
        )


def memberships(refs: NDArray[np.uint64], components: NDArray[np.uint64]) -> NDArray[np.void]:
    """The documents of whole components, each with its component's name and size.

    ``components`` may use any names; here each gets its smallest reference.
    """
    found = np.empty(len(refs), dtype=MEMBERSHIP)
    if not len(refs):
        return found
    order = np.lexsort((refs, components))
    refs, components = refs[order], components[order]
    begins = np.flatnonzero(np.concatenate(([True], components[1:] != components[:-1])))
    sizes = np.diff(begins, append=len(refs))
    found["ref"] = refs
    found["component"] = np.repeat(refs[begins], sizes)
    found["size"] = np.repeat(sizes, sizes)
    return found
