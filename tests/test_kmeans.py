"""Optimal k-means on a line: against all partitions, against Lloyd, and in palettes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.kmeans import cluster, palettize, weighted_error
from runtime.palette import PaletteError


def error_of(values, weights, means, owner) -> float:
    return float((weights * (values - means[owner]) ** 2).sum())


def brute_force(values, weights, count) -> float:
    """The least error of all ways to cut the sorted values."""
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    best = np.inf
    for cuts in combinations(range(1, len(values)), min(count, len(values)) - 1):
        total = 0.0
        for a, b in zip((0, *cuts), (*cuts, len(values)), strict=True):
            mean = np.average(values[a:b], weights=weights[a:b])
            total += float((weights[a:b] * (values[a:b] - mean) ** 2).sum())
        best = min(best, total)
    return best


NUMBERS = st.lists(
    st.tuples(st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 1.5, 2.0, 7.0, 100.0]),
              st.floats(0.01, 10)),
    min_size=1, max_size=11,
)  # fmt: skip


@given(NUMBERS, st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_no_partition_is_better(pairs, count):
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    means, owner = cluster(values, weights, [count])[count]
    assert (np.diff(means) >= 0).all()
    best = brute_force(values, weights, count)
    assert error_of(values, weights, means, owner) == pytest.approx(best, rel=1e-9, abs=1e-9)


def lloyd(values, weights, means, rounds: int = 30):
    for _ in range(rounds):
        owner = np.abs(values[:, None] - means).argmin(1)
        for c in range(len(means)):
            if (owner == c).any():
                means[c] = np.average(values[owner == c], weights=weights[owner == c])
    return means, np.abs(values[:, None] - means).argmin(1)


@given(st.integers(0, 2**32 - 1), st.integers(17, 400))
@settings(max_examples=30, deadline=None)
def test_never_worse_than_lloyd(seed, size):
    drawn = np.random.default_rng(seed)
    values = drawn.standard_t(3, size)
    weights = drawn.random(size) + 0.05
    for count, (means, owner) in cluster(values, weights, [4, 8, 16]).items():
        ours = error_of(values, weights, means, owner)
        theirs = error_of(values, weights, *lloyd(values, weights, drawn.choice(values, count)))
        assert ours <= theirs * (1 + 1e-9)
        # Nor does a step of Lloyd's make it better: each value is with its nearest mean.
        again = error_of(values, weights, *lloyd(values, weights, means.copy(), 1))
        assert again == pytest.approx(ours, rel=1e-9)


def test_values_far_from_zero_keep_their_digits():
    values = 1e6 + np.repeat([0.0, 1.0, 2.0, 3.0], 50) + np.tile(np.linspace(0, 1e-3, 50), 4)
    means, owner = cluster(values, np.ones(200), [4])[4]
    np.testing.assert_array_equal(owner, np.repeat(np.arange(4), 50))
    np.testing.assert_allclose(means - 1e6, np.arange(4) + 5e-4, atol=1e-9)


def test_fewer_values_than_clusters_are_kept_as_they_are():
    values = np.array([2.0, -1.0, 2.0, 5.0])
    means, owner = cluster(values, np.ones(4), [8])[8]
    np.testing.assert_array_equal(means, [-1, 2, 5, 5, 5, 5, 5, 5])
    np.testing.assert_array_equal(means[owner], values)


@pytest.mark.parametrize(
    ("values", "weights"), [([np.nan], [1]), ([1], [0]), ([1], [np.inf]), ([], []), ([1, 2], [1])]
)
def test_what_cannot_be_clustered_is_refused(values, weights):
    with pytest.raises(PaletteError):
        cluster(np.array(values), np.array(weights), [2])


def matrix(rows: int = 48, columns: int = 40) -> np.ndarray:
    drawn = np.random.default_rng(3).standard_normal((rows, columns)).astype(np.float32)
    return drawn * np.linspace(0.5, 2, rows, dtype=np.float32)[:, None]


def test_a_group_of_rows_has_the_palette_that_it_has_alone():
    whole = palettize(matrix())
    for bits, found in whole.items():
        assert found.bits == bits
        for group in range(3):
            rows = slice(16 * group, 16 * group + 16)
            alone = palettize(matrix()[rows], widths=[bits])[bits]
            np.testing.assert_array_equal(alone.indices, found.indices[rows])
            np.testing.assert_array_equal(alone.tables[0], found.tables[group])
    errors = [weighted_error(matrix(), whole[bits].dequantized(), None) for bits in (2, 3, 4)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


@pytest.mark.parametrize("shape", [(40,), (48, 40)])
def test_importance_makes_its_own_error_least(shape):
    importance = np.random.default_rng(5).random(shape) ** 4
    weighted = palettize(matrix(), importance, [2])[2].dequantized()
    plain = palettize(matrix(), None, [2])[2].dequantized()
    assert weighted_error(matrix(), weighted, importance) < 0.99 * weighted_error(
        matrix(), plain, importance
    )
    assert weighted_error(matrix(), plain, None) < weighted_error(matrix(), weighted, None)


def test_inputs_that_never_vary_have_a_value_all_the_same():
    importance = np.zeros(40)
    importance[:20] = 1
    found = palettize(matrix(), importance, [4])[4]
    assert weighted_error(matrix(), found.dequantized(), None) < 0.05
    found = palettize(matrix(), np.zeros(40), [4])[4]
    np.testing.assert_array_equal(found.indices, palettize(matrix(), None, [4])[4].indices)


@pytest.mark.parametrize(
    ("importance", "message"),
    [(np.ones(3), "importance of"), (np.full(40, -1.0), "at least 0"),
     (np.full(40, np.nan), "finite")],
)  # fmt: skip
def test_importance_that_is_none_is_refused(importance, message):
    with pytest.raises(PaletteError, match=message):
        palettize(matrix(), importance)


def test_work_is_told():
    told: list[int] = []
    palettize(matrix(), seen=told.append)
    assert told == [640, 640, 640]
