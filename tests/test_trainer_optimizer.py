"""The optimizer against plain formulas: its special cases, skipping, clipping, muP, schedule."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from trainer import optimizer
from trainer.optimizer import AFM, Optimizer, adamw, mup_factor, schedule_at

SHAPES = {"embedding": (7, 4), "layers.0.q": (4, 6), "norm": (4,)}


def arrays(seed: int, scale: float = 1.0) -> dict:
    random = np.random.default_rng(seed)
    return {name: scale * random.normal(size=dims) for name, dims in SHAPES.items()}


def run(settings: Optimizer, gradients: list[dict], schedule: float = 0.7, width: int = 4):
    params = {k: jnp.asarray(v, jnp.float32) for k, v in arrays(99).items()}
    state = optimizer.start(params)
    for found in gradients:
        held = {k: jnp.asarray(v, jnp.float32) for k, v in found.items()}
        params, state, told = optimizer.update(
            settings, width, params, held, state, jnp.float32(schedule)
        )
    return params, state, told


def test_with_momentum_on_the_gradient_it_is_adamw():
    gradients = [arrays(n, 0.01) for n in range(6)]
    found, _, _ = run(adamw(rate=0.02, decay=0.1), gradients)
    for name, begun in arrays(99).items():
        weight, m, v, decay = begun, 0.0, 0.0, 0.0 if name == "norm" else 0.1
        for t, g in enumerate(gradients, 1):
            m, v = 0.9 * m + 0.1 * g[name], 0.95 * v + 0.05 * g[name] ** 2
            step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
            weight = weight - 0.7 * 0.02 * (step + decay * weight)
        np.testing.assert_allclose(found[name], weight, atol=2e-6)


def test_without_momentum_it_is_adafactor_that_does_not_factor():
    """Shazeer and Stern, arXiv 1804.04235, algorithm 4: clipped by the RMS of the update."""
    settings = Optimizer(
        rate=0.02, decay=0.0, update_decay=0.0, square_decay=0.9, clip=1e9, update_clip=0.5,
        mup_width=None,
    )  # fmt: skip
    gradients = [arrays(n, 2.0 ** (n - 3)) for n in range(6)]
    found, _, _ = run(settings, gradients)
    for name, begun in arrays(99).items():
        weight, v = begun, 0.0
        for t, g in enumerate(gradients, 1):
            v = 0.9 * v + 0.1 * (g[name] ** 2 + 1e-30)
            u = g[name] / np.sqrt(v / (1 - 0.9**t))
            weight = weight - 0.7 * 0.02 * u / max(1, np.sqrt(np.mean(u**2)) / 0.5)
        np.testing.assert_allclose(found[name], weight, atol=2e-6)


@pytest.mark.parametrize(("norm", "applied"), [(99.9, True), (100.1, False), (np.nan, False)])
def test_a_step_with_gradients_too_large_changes_nothing(norm, applied):
    whole = arrays(1)
    size = np.sqrt(sum((g**2).sum() for g in whole.values()))
    params, state, told = run(AFM, [arrays(2), {k: v * norm / size for k, v in whole.items()}])
    before, was, _ = run(AFM, [arrays(2)])
    assert bool(told["applied"]) is applied
    for name in SHAPES:
        assert bool((params[name] != before[name]).any()) is applied
        assert bool((state["square"][name] != was["square"][name]).any()) is applied
    assert int(state["applied"]) == 1 + applied


def test_gradients_are_clipped_together():
    small, _, told = run(adamw(eps=1.0), [arrays(3, 1e-3)])
    assert float(told["norm"]) < 1
    large = arrays(3, 50.0)
    size = np.sqrt(sum((g**2).sum() for g in large.values()))
    clipped, _, _ = run(adamw(eps=1.0), [large])
    expected, _, _ = run(adamw(eps=1.0), [{k: v / size for k, v in large.items()}])
    for name in SHAPES:
        np.testing.assert_allclose(clipped[name], expected[name], rtol=1e-5)
        assert (clipped[name] != small[name]).any()


@pytest.mark.parametrize(
    ("name", "width", "factor"),
    [
        ("layers.0.q", 768, 1.0),
        ("layers.0.q", 3072, 0.25),
        ("layers.11.down", 1536, 0.5),
        ("layers.0.q", 64, 1.0),
        ("embedding", 3072, 1.0),
        ("layers.0.q_norm", 3072, 1.0),
    ],
)
def test_wide_models_take_smaller_steps_in_linear_maps(name, width, factor):
    assert mup_factor(AFM, name, width) == factor
    assert mup_factor(Optimizer(mup_width=None), name, width) == 1.0


def test_the_schedule_rises_falls_and_ends():
    found = [schedule_at(n, 100, 10, 0.005) for n in range(100)]
    assert found[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert found[10] == 1.0
    assert found[-1] == pytest.approx(0.005)
    assert all(a >= b for a, b in itertools.pairwise(found[10:]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0; it must be above 0"),
        ({"square_decay": 1.0}, "square_decay is 1.0; it must be from 0 to below 1"),
        ({"decay": -1.0}, "decay is -1.0; it must be at least 0"),
        ({"gradient_decay": 0.9}, "there is one buffer"),
        ({"mup_width": 0}, "mup_width is 0"),
    ],
)
def test_settings_out_of_bounds(settings, message):
    with pytest.raises(ValueError, match=message):
        Optimizer(**settings)
