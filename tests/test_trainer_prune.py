"""Soft-Top-K masks: their sum, their limit, their gradient; and the smaller model they leave."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from trainer.model import Windows, hidden_states, initialise, shapes
from trainer.prune import (
    check_shares,
    kept_widths,
    mask_shapes,
    masks_of,
    materialise,
    soft_top_k,
    with_scores,
)
from trainer.shape import Layer, Shape, ShapeError, preset


def published(scores: np.ndarray, k: int, eps: float, iterations: int) -> np.ndarray:
    """The paper's iteration, in 64 bits."""
    b, e = -scores, max(4.0, eps)
    for _ in range(iterations):
        a = e * np.log(k) - e * logsumexp((scores + b) / e)
        b = -np.maximum(scores + a, 0)
        found = np.exp((scores + a + b) / e)
        e = max(0.7 * e, eps)
    return found


# Each pair of sizes is a program to compile, so there are few, and many scores for each.
SIZES = [(2, 1), (2, 2), (3, 2), (40, 1), (40, 13), (40, 39), (300, 1), (300, 150), (300, 299)]
compiled = jax.jit(soft_top_k, static_argnums=1)


@st.composite
def cases(draw):
    n, k = draw(st.sampled_from(SIZES))
    scale = draw(st.sampled_from([0.0, 0.01, 0.3, 1.0, 5.0, 100.0]))
    seed = draw(st.integers(0, 1000))
    scores = np.random.default_rng(seed).normal(size=n).astype(np.float32) * np.float32(scale)
    return scores, k, draw(st.sampled_from([0.1, 0.5, 2.0]))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_a_mask_sums_to_k_and_keeps_the_order(case):
    scores, k, eps = case
    mask = np.asarray(compiled(scores, k, eps))
    assert abs(mask.sum() - k) < 0.05
    assert mask.min() >= 0
    assert mask.max() <= 1 + 1e-5
    order = np.argsort(scores, kind="stable")
    assert (np.diff(mask[order]) >= -1e-6).all()


@pytest.mark.parametrize(("n", "k", "scale"), [(64, 16, 1.0), (300, 150, 0.05), (50, 49, 3.0)])
def test_it_is_what_the_published_iteration_tends_to(n, k, scale):
    scores = np.random.default_rng(n).normal(size=n) * scale
    found = compiled(jnp.asarray(scores, jnp.float32), k)
    np.testing.assert_allclose(found, published(scores, k, 0.1, 20_000), atol=1e-5)


def test_scores_far_apart_give_the_hard_choice():
    scores = np.random.default_rng(1).permutation(40).astype(np.float32) * 10
    mask = np.asarray(soft_top_k(jnp.asarray(scores), 13))
    np.testing.assert_allclose(mask, scores >= 270, atol=1e-6)


@pytest.mark.parametrize(("n", "k", "scale"), [(30, 10, 1.0), (200, 100, 0.1), (8, 7, 100.0)])
def test_the_gradient_is_that_of_differences(n, k, scale):
    random = np.random.default_rng(n)
    scores, weight, way = random.normal(size=(3, n)) * [[scale], [1], [1]]

    def value(s):
        return (soft_top_k(s, k, 0.5) * weight.astype(np.float32)).sum()

    found = jax.jit(jax.grad(value))(jnp.asarray(scores, jnp.float32))
    assert np.isfinite(found).all()
    h = 1e-4
    ends = [published(scores + s * h * way, k, 0.5, 5000) @ weight for s in (1, -1)]
    assert float(found @ way) == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=2e-3)


@pytest.mark.parametrize("k", [0, 6])
def test_a_mask_keeps_some_and_at_most_all(k):
    with pytest.raises(ValueError, match=f"keeps {k} of 5"):
        soft_top_k(jnp.zeros(5), k)


def test_kept_widths_are_multiples_where_they_can_be():
    assert kept_widths(preset("15m", 100), 0.5) == (512,) * 8
    assert kept_widths(preset("15m", 100), 0.3) == (320,) * 8
    assert kept_widths(preset("1m", 100), 0.01) == (64,) * 5
    assert kept_widths(Shape(9, 8, 4, (Layer(1, 1, 40),)), 0.5) == (20,)
    with pytest.raises(ShapeError, match="pruning to a share of 1;"):
        kept_widths(preset("1m", 100), 1.0)
    assert kept_widths(preset("1m", 100), 0.91) == (320,) * 5
    with pytest.raises(ShapeError, match=r"to keep 0\.92 of 384 hidden values removes none"):
        kept_widths(preset("1m", 100), 0.92)


def test_stages_that_prune_are_checked_one_after_the_other():
    check_shares(preset("1m", 100), [0.5, 0.5])
    with pytest.raises(ShapeError, match=r"to keep 0\.9 of 192 hidden values removes none"):
        check_shares(preset("1m", 100), [0.5, 0.9])


def test_the_smaller_model_computes_what_the_masked_one_did():
    shape = Shape(50, 16, 8, (Layer(2, 1, 24), Layer(2, 2, 40)))
    keep = (10, 30)
    params = with_scores(initialise(shape, 0), shape)
    assert {n: params[n].shape for n in mask_shapes(shape)} == mask_shapes(shape)
    random = np.random.default_rng(5)
    for name in mask_shapes(shape):
        # Far apart, so that what is removed was not used.
        params[name] = random.permutation(params[name].size).astype(np.float32) * 5
    small, smaller = materialise(params, shape, keep)
    assert [layer.hidden for layer in smaller.layers] == [10, 30]
    assert {name: value.shape for name, value in small.items()} == shapes(smaller)
    tokens = jnp.asarray(random.integers(0, 50, (2, 12)))
    windows = Windows(tokens, jnp.ones_like(tokens), jnp.broadcast_to(jnp.arange(12), (2, 12)))
    held = {name: jnp.asarray(value) for name, value in params.items()}
    run = jax.jit(hidden_states, static_argnums=1)
    masked = run(held, shape, windows, masks_of(held, keep))
    found = run({k: jnp.asarray(v) for k, v in small.items()}, smaller, windows)
    np.testing.assert_allclose(found, masked, atol=1e-5)
    whole = run(held, shape, windows)
    assert float(jnp.abs(whole - masked).max()) > 0.05
