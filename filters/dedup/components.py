"""Connected components of the graph of candidates.

Runs on one worker: 16 bytes and about half a microsecond an edge, so that a hundred million edges
take a minute. The answer is a property of the graph alone, whatever the order of the edges.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from filters.dedup.bands import EDGE, unpack_as

COMPONENT = np.dtype([("ref", "<u8"), ("component", "<u8")])
"""A document and the smallest reference of its component."""


def components(blobs: Iterable[bytes]) -> NDArray[np.void]:
    """Each document that has an edge, with its component, sorted by reference.

    ``blobs`` are packed ``EDGE`` records. A component's name is its smallest reference.
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    edges = unpack_as(EDGE, blobs)
    refs, places = np.unique(np.concatenate((edges["member"], edges["root"])), return_inverse=True)
    found = np.empty(len(refs), dtype=COMPONENT)
    found["ref"] = refs
    if not len(refs):
        return found
    ones = np.ones(len(edges), dtype=np.uint8)
    ends = places[: len(edges)], places[len(edges) :]
    graph = coo_array((ones, ends), shape=(len(refs), len(refs)))
    labels = connected_components(graph, directed=False)[1]
    # References are sorted: the first document with a label is the smallest.
    _, first = np.unique(labels, return_index=True)
    found["component"] = refs[first[labels]]
    return found
