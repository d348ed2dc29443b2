"""Components in steps are those of union-find: any graph, rounds, partitions and order."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from collections.abc import Callable, Iterator

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup import stars, steps
from filters.dedup.bands import EDGE, band_hashes, pack, star_edges, unpack_as
from filters.dedup.components import COMPONENT, MEMBERSHIP, components, memberships
from filters.dedup.steps import ASIDE
from pipelines.deduplicate import ConnectCandidates, connect

Pairs = list[tuple[int, int]]
Grouped = dict[int, list[bytes]]


def edges_of(pairs: Pairs) -> np.ndarray:
    """Edges between the nodes of some references, the larger node first."""
    nodes = stars.nodes_of(np.array(pairs, dtype=np.uint64).reshape(-1, 2))
    nodes = nodes[nodes[:, 0] != nodes[:, 1]]
    found = np.empty(len(nodes), EDGE)
    found["member"], found["root"] = nodes.max(axis=1), nodes.min(axis=1)
    return found


def chain(order: list[int]) -> Pairs:
    return list(itertools.pairwise(order))


def lsh(seed: int, clusters: int = 30, bands: int = 14, rows: int = 2) -> Pairs:
    """Edges that bands give for clusters of signatures, a third of them chains of revisions."""
    chance = np.random.default_rng(seed)
    marks = []
    for number in range(clusters):
        mark = chance.integers(0, 2**32, bands * rows, dtype=np.uint32)
        for _ in range(int(chance.pareto(1.1)) % 40 + 1):
            changed = chance.random(bands * rows) < 0.3
            other = np.where(changed, chance.integers(0, 2**32, bands * rows), mark)
            marks.append(other.astype(np.uint32))
            mark = marks[-1] if number % 3 == 0 else mark
    hashes = band_hashes(np.array(marks), bands, rows)
    refs = chance.permutation(len(marks)).astype(np.uint64)
    found = [unpack_as(EDGE, [star_edges([pack(hashes[:, b], refs)])]) for b in range(bands)]
    return [(int(a), int(b)) for a, b in np.concatenate(found).tolist()]


SIZES = st.integers(2, 40)
GRAPHS = st.one_of(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40),
    SIZES.map(lambda size: chain(list(range(size)))),
    SIZES.flatmap(lambda size: st.permutations(range(size))).map(chain),
    SIZES.map(lambda size: [(0, other) for other in range(1, size)]),
    SIZES.map(lambda size: [(size, other) for other in range(size)]),
    st.integers(0, 1000).map(lambda seed: lsh(seed, clusters=8)),
)


def union_find(edges: np.ndarray) -> Pairs:
    """Components the plain way: each node with the smallest it is connected with."""
    parent = {int(node): int(node) for name in EDGE.names for node in edges[name]}

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for one, other in edges.tolist():
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return sorted((node, root(node)) for node in parent)


def group(rows: Iterator[tuple[int, bytes]], rng: random.Random) -> Grouped:
    """What a shuffle does: blobs by key, in any order."""
    found: Grouped = {}
    for key, blob in rng.sample(pairs := list(rows), len(pairs)):
        found.setdefault(key, []).append(blob)
    return found


def perform(grouped: Grouped, step: Callable, partitions: int) -> Iterator[tuple[int, bytes]]:
    for key, blobs in grouped.items():
        assert ASIDE < key < partitions
        # An iterator, as an engine may give: no second pass, no length.
        yield from step(key, iter(blobs), partitions=partitions)


def connected(edges: np.ndarray, partitions: int, rounds: int, rng: random.Random) -> np.ndarray:
    """Components by all steps, each followed by a shuffle of its own."""

    def run(grouped: Grouped, step: Callable) -> Grouped:
        return group(perform(grouped, step, partitions), rng)

    shuffled = edges[np.array(rng.sample(range(len(edges)), len(edges)), dtype=int)]
    halves = np.split(shuffled, [len(edges) // 2])
    grouped = group((row for half in halves for row in stars.by_member(half, partitions)), rng)
    for _ in range(rounds):
        grouped = run(run(grouped, steps.small_star), steps.large_star)
    settled = list(perform(run(grouped, steps.small_star), steps.settle, partitions))
    left = group((row for pair in settled for row in steps.aside(*pair)), rng)
    ahead = [row for pair in settled for row in steps.ahead(*pair)]
    resolved = list(perform(left, steps.resolve, partitions))
    joined = run(group(iter(ahead + resolved), rng), steps.join)
    blobs = [blob for place in joined.values() for blob in place]
    for place, parts in joined.items():
        names = unpack_as(COMPONENT, parts)["component"]
        assert (stars.partition_of(names, partitions) == place).all()
    return np.sort(unpack_as(COMPONENT, blobs))


@settings(deadline=None)
@given(GRAPHS, st.integers(1, 7), st.integers(0, 3), st.randoms(use_true_random=False))
def test_steps_give_the_components_of_union_find(
    pairs: Pairs, partitions: int, rounds: int, rng: random.Random
) -> None:
    edges = edges_of(pairs)
    found = connected(edges, partitions, rounds, rng)
    assert [tuple(row) for row in found.tolist()] == union_find(edges)
    assert found.tobytes() == components([edges.tobytes()]).tobytes()


def large_graphs() -> dict[str, Pairs]:
    chance = np.random.default_rng(2)
    ends = chance.integers(0, 4000, (2400, 2))
    return {
        "chain": chain(list(range(3000))),
        "permuted chain": chain(chance.permutation(3000).tolist()),
        "star": [(1500, n) for n in range(3000)],
        "near the threshold": [(int(a), int(b)) for a, b in ends],
        "bands": lsh(1, clusters=600),
    }


@pytest.mark.parametrize("name", list(large_graphs()))
@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_large_graphs(name: str, rounds: int) -> None:
    edges = edges_of(large_graphs()[name])
    found = connected(edges, 5, rounds, random.Random(1))
    assert found.tobytes() == components([edges.tobytes()]).tobytes()


def remainder_after(edges: np.ndarray, rounds: int) -> int:
    """Edges of the remainder, and on the way that no step gives more than it took."""
    for _ in range(rounds):
        taken = len(edges)
        edges = stars.small_star([edges.tobytes()])
        assert len(edges) <= taken
        both = (blob for _, blob in stars.by_both_ends(edges, 1))
        taken = len(edges)
        edges = stars.large_star(both)
        assert len(edges) <= taken
    both = (blob for _, blob in stars.by_both_ends(stars.small_star([edges.tobytes()]), 1))
    return len(stars.settle(both)[1])


def test_rounds_leave_next_to_nothing() -> None:
    graphs = {name: edges_of(pairs) for name, pairs in large_graphs().items()}
    left = {name: remainder_after(e, stars.ROUNDS) / len(e) for name, e in graphs.items()}
    assert left["star"] == 0
    assert left["bands"] < 0.01
    assert left["near the threshold"] < 0.05
    # References of a chain follow one another; that nodes do not is what makes it shrink.
    assert left["chain"] < 0.1
    assert all(left[n] <= remainder_after(e, 1) / len(e) for n, e in graphs.items())


def test_a_converged_graph_leaves_nothing() -> None:
    for pairs in ([], [(3, 5)], [(0, n) for n in range(9)], large_graphs()["bands"]):
        edges = edges_of(pairs)
        found = components([edges.tobytes()])
        inner = found[found["ref"] != found["component"]]
        star = np.array(list(zip(inner["ref"], inner["component"], strict=True)), dtype=EDGE)
        both = [blob for _, blob in stars.by_both_ends(star, 1)]
        contracted, remainder = stars.settle(both)
        assert len(remainder) == 0
        assert np.sort(contracted).tobytes() == found.tobytes()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_references_come_back_from_nodes(refs: list[int]) -> None:
    given_refs = np.array(refs, dtype=np.uint64)
    assert (stars.references_of(stars.nodes_of(given_refs)) == given_refs).all()


# --- names and sizes ----------------------------------------------------------------------------


def test_memberships_have_smallest_references_and_sizes() -> None:
    refs = np.array([7, 3, 2**64 - 1, 5, 9], dtype=np.uint64)
    found = memberships(refs, np.array([1, 8, 1, 8, 1], dtype=np.uint64))
    expected = [(3, 3, 2), (5, 3, 2), (7, 7, 3), (9, 7, 3), (2**64 - 1, 7, 3)]
    assert found.dtype == MEMBERSHIP
    assert sorted(found.tolist()) == expected
    assert len(memberships(refs[:0], refs[:0])) == 0


# --- bound --------------------------------------------------------------------------------------


def test_more_edges_than_one_place_takes() -> None:
    edges = edges_of(chain(list(range(6))))
    blobs = [edges[:3].tobytes(), edges[3:].tobytes()]
    assert len(components(blobs, max_edges=5)) == 6
    message = "^5 edges .* takes 4: use more partitions .* more rounds, .* fewer bands or more rows"
    with pytest.raises(ValueError, match=message):
        components(blobs, max_edges=4)


def test_edges_beyond_the_bound_are_counted_but_not_held() -> None:
    size = 1 << 16
    blobs = (bytes(size * EDGE.itemsize) for _ in range(40))
    components([])  # What is imported at the first call does not count.
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"^{40 * size} edges"):
        components(blobs, max_edges=2 * size)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * size * EDGE.itemsize


# --- in a graph ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("partitions", "rounds"), [(1, 3), (2, 0), (5, 0), (5, 1), (3, 2), (5, 3)])
def test_the_composite(partitions: int, rounds: int) -> None:
    pairs = [(one << 20, other << 20) for one, other in lsh(4, clusters=40)]
    edges = edges_of(pairs)
    expected = {key: sorted(rows([blob])) for key, blob in connect(0, [edges.tobytes()])}
    assert len(expected) > 5

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        sent = [
            row for part in np.split(edges, 3 * [1]) for row in stars.by_member(part, partitions)
        ]
        found = (
            pipeline
            | beam.Create(sent).with_output_types(steps.Partitioned)
            | ConnectCandidates(partitions, rounds)
            | beam.MapTuple(lambda key, blobs: (key, sorted(rows(blobs))))
        )
        assert_that(found, equal_to(list(expected.items())))


def rows(blobs: list[bytes]) -> list[tuple[int, ...]]:
    return unpack_as(MEMBERSHIP, blobs).tolist()


def test_names_are_the_smallest_references() -> None:
    """What was one key's union-find over references is the same over nodes."""
    pairs = lsh(9, clusters=100)
    plain = np.array([(max(p), min(p)) for p in pairs if p[0] != p[1]], dtype=EDGE)
    expected = [tuple(row) for row in components([plain.tobytes()]).tolist()]
    found = [row for _, blob in connect(0, [edges_of(pairs).tobytes()]) for row in rows([blob])]
    assert sorted((ref, name) for ref, name, _ in found) == expected
