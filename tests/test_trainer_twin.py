"""Twenty steps of training give the losses of the plain twin; so do its parts one by one."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy_twin as twin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import attention, optimizer
from trainer.loss import Targets, loss_sum, next_tokens
from trainer.model import Windows, hidden_states, initialise, logits, shapes
from trainer.optimizer import Optimizer, adamw, mup_factor, schedule_at
from trainer.shape import Layer, Shape
from trainer.step import StepSettings, make_step, to_parts

UNIFORM = Shape(61, 24, 8, (Layer(4, 2, 40),) * 2)
LAYERWISE = Shape(61, 24, 8, (Layer(2, 1, 16), Layer(4, 2, 48)), rope_base=10_000.0)


def batch_of(seed: int, rows: int = 4, length: int = 24, vocabulary: int = 61) -> dict:
    """Windows of two documents and some padding."""
    random = np.random.default_rng(seed)
    cuts = random.integers(4, length - 8, rows)
    places = np.arange(length)
    second = places >= cuts[:, None]
    segments = np.where(second, 2, 1)
    segments[:, -3:] = 0
    positions = np.where(second, places - cuts[:, None], places)
    return {
        "tokens": random.integers(0, vocabulary, (rows, length)).astype(np.int32),
        "segments": segments.astype(np.int32),
        "positions": positions.astype(np.int32),
        "teacher": random.integers(0, vocabulary, (rows, length)).astype(np.int32),
    }


def twin_losses(shape, settings, steps, share=0.0):
    params = {k: v.astype(np.float64) for k, v in initialise(shape, 7).items()}
    state, losses = {}, []
    for step in range(steps):
        held = {k: twin.T(v) for k, v in params.items()}
        objective, plain = twin.loss(held, shape, batch_of(step), teacher_share=share)
        objective.backward()
        grads = {k: v.grad for k, v in held.items()}
        factor = schedule_at(step, steps, 3, 0.1)
        if settings.decay_by_rate:
            twin.adamw_step(params, state, grads, step + 1, settings.rate, settings.decay, factor)
        else:
            twin.afm_step(
                params, state, grads, step + 1, settings.rate, settings.decay, factor,
                lambda name: mup_factor(settings, name, shape.width),
            )  # fmt: skip
        losses.append((plain, float(objective.data.squeeze())))
    return losses, params


def our_losses(shape, settings, steps, parts=1, share=0.0):
    params = {k: jnp.asarray(v) for k, v in initialise(shape, 7).items()}
    state = optimizer.start(params)
    step = make_step(StepSettings(shape, settings, teacher_share=share))
    losses = []
    for number in range(steps):
        batch = {k: jnp.asarray(v) for k, v in to_parts(batch_of(number), parts).items()}
        factor = jnp.float32(schedule_at(number, steps, 3, 0.1))
        params, state, told = step(params, state, batch, factor)
        losses.append((float(told["loss"]), float(told["objective"])))
    return losses, params


CASES = {
    "uniform, afm": (UNIFORM, Optimizer(rate=0.02, mup_width=12), 1, 0.0),
    "layer-wise, afm": (LAYERWISE, Optimizer(rate=0.02), 2, 0.0),
    "uniform, adamw": (UNIFORM, adamw(0.01), 4, 0.0),
    "a teacher": (UNIFORM, Optimizer(rate=0.02), 2, 0.9),
}


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_give_the_losses_of_the_twin(name):
    shape, settings, parts, share = CASES[name]
    expected, weights = twin_losses(shape, settings, 20, share)
    found, params = our_losses(shape, settings, 20, parts, share)
    assert expected[0][0] - expected[-1][0] < 3  # it is a real run, not a collapse
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for key, value in weights.items():
        np.testing.assert_allclose(params[key], value, atol=2e-3, err_msg=key)


def test_logits_are_the_twins():
    """Beyond the loss: each logit, by the gradient of the objective by the embedding."""
    params = initialise(LAYERWISE, 3)
    batch = batch_of(1)
    held = {k: twin.T(v) for k, v in params.items()}
    objective, _ = twin.loss(held, LAYERWISE, batch)
    objective.backward()

    def ours(values):
        windows = Windows(*(jnp.asarray(batch[k]) for k in Windows._fields))
        found = logits(values, LAYERWISE, windows)
        targets = next_tokens(windows.tokens, windows.segments)
        logsum = jax.nn.logsumexp(found, -1)
        right = jnp.take_along_axis(found, targets.ids[..., None], -1)[..., 0]
        each = logsum - right + 1e-6 * logsum**2
        return (targets.weights * each).sum() / targets.weights.sum()

    value, grads = jax.jit(jax.value_and_grad(ours))({k: jnp.asarray(v) for k, v in params.items()})
    assert float(value) == pytest.approx(float(objective.data.squeeze()), abs=1e-5)
    for key in shapes(LAYERWISE):
        np.testing.assert_allclose(grads[key], held[key].grad, atol=1e-5, err_msg=key)


def test_attention_is_the_same_for_any_block():
    random = np.random.default_rng(0)
    q = jnp.asarray(random.normal(size=(2, 6, 24, 8)), jnp.float32)
    k, v = (jnp.asarray(random.normal(size=(2, 3, 24, 8)), jnp.float32) for _ in range(2))
    weight = jnp.asarray(random.normal(size=q.shape), jnp.float32)
    segments = jnp.asarray(batch_of(0)["segments"][:2])

    def plain(q, k, v):
        scores = jnp.einsum("bhqd,bhsd->bhqs", q, jnp.repeat(k, 2, 1)) / 8**0.5
        allowed = jnp.tril(jnp.ones((24, 24), bool)) & (
            segments[:, None, :, None] == segments[:, None, None, :]
        )
        weights = jax.nn.softmax(jnp.where(allowed, scores, -1e30), -1)
        return jnp.einsum("bhqs,bhsd->bhqd", weights, jnp.repeat(v, 2, 1))

    def outcome(attend):
        """What it gives, and its gradients; compiled as a whole."""

        def run(q, k, v):
            found, back = jax.vjp(attend, q, k, v)
            return found, *back(weight)

        return jax.jit(run)(q, k, v)

    expected = outcome(plain)
    # By block and spans: a span a block, several blocks to a span, and what is left over.
    for cut in ((3, 8), (64, 8), (3, 1), (2, 5), (7, 2)):
        found = outcome(partial(attention.attend, segments=segments, block=cut[0], spans=cut[1]))
        np.testing.assert_allclose(found[0], expected[0], atol=2e-6, err_msg=str(cut))
        for a, b in zip(found[1:], expected[1:], strict=True):
            np.testing.assert_allclose(a, b, atol=5e-6, err_msg=str(cut))


@given(tokens=st.integers(1, 5000), block=st.integers(1, 300), spans=st.integers(1, 9))
def test_spans_hold_every_query_once(tokens, block, spans):
    found = attention.cut(tokens, block, spans)
    assert [a.end for a in found[:-1]] == [b.start for b in found[1:]]
    assert (found[0].start, found[-1].end) == (0, tokens)
    assert len(found) <= spans + 1
    for span in found:
        assert span.block <= block
        assert (span.end - span.start) % span.block == 0


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_the_loss_and_its_gradients_are_the_same_for_any_chunk(chunk, share):
    random = np.random.default_rng(1)
    hidden = jnp.asarray(random.normal(size=(3, 10, 8)), jnp.float32)
    table = jnp.asarray(random.normal(size=(17, 8)), jnp.float32)
    ids, teacher = (jnp.asarray(random.integers(0, 17, (3, 10))) for _ in range(2))
    targets = Targets(ids, teacher, jnp.asarray(random.integers(0, 2, (3, 10)), jnp.float32))

    def plain(hidden, table):
        found = jax.nn.log_softmax(hidden @ table.T)
        logsum = jax.nn.logsumexp(hidden @ table.T, -1)
        own = (1 - share) * jax.nn.one_hot(ids, 17) + share * jax.nn.one_hot(teacher, 17)
        return (targets.weights * (-(own * found).sum(-1) + 0.01 * logsum**2)).sum()

    def ours(hidden, table):
        return loss_sum(hidden, table, targets, share, z_loss=0.01, chunk=chunk)[0]

    expected = jax.jit(jax.value_and_grad(plain, (0, 1)))(hidden, table)
    found = jax.jit(jax.value_and_grad(ours, (0, 1)))(hidden, table)
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    for a, b in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_bf16_follows_f32():
    settings = Optimizer(rate=0.02)
    expected, _ = our_losses(UNIFORM, settings, 10)
    params = {k: jnp.asarray(v) for k, v in initialise(UNIFORM, 7).items()}
    state = optimizer.start(params)
    step = make_step(StepSettings(UNIFORM, settings, compute="bf16"))
    for number in range(10):
        batch = {k: jnp.asarray(v) for k, v in to_parts(batch_of(number), 1).items()}
        factor = jnp.float32(schedule_at(number, 10, 3, 0.1))
        params, state, told = step(params, state, batch, factor)
        assert float(told["loss"]) == pytest.approx(expected[number][0], abs=0.03)
    assert {value.dtype for value in params.values()} == {jnp.dtype("float32")}


def long_model(length: int, hold: int) -> tuple[Any, Any]:
    """The compiled loss and gradients of a small model on one window of ``length``, with masks as
    pruning has them, that holds what is between the layers alone where it is longer than ``hold``;
    and its arguments."""
    shape = Shape(61, 16, 8, (Layer(2, 1, 32),) * 2)
    random = np.random.default_rng(0)
    tokens = jnp.asarray(random.integers(0, 61, (1, length)), jnp.int32)
    places = jnp.arange(length, dtype=jnp.int32)[None]
    windows = Windows(tokens, 1 + places // (length // 2 + 1), places)
    params = {k: jnp.asarray(v) for k, v in initialise(shape, 0).items()}
    masks = {f"layers.{n}": jnp.full(32, 0.5 + n) for n in range(2)}

    def loss(params, masks, windows):
        hidden = hidden_states(params, shape, windows, masks)
        found = loss_sum(hidden, params["embedding"], next_tokens(tokens, windows.segments))
        return found[0] / length

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr("trainer.model.HELD_TOKENS", hold)
        run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(params, masks, windows)
    return run.compile(), (params, masks, windows)


def test_layers_that_are_computed_anew_give_the_same_gradients():
    anew, given_to = long_model(40, hold=39)
    held, _ = long_model(40, hold=40)
    found, expected = (run(*given_to) for run in (anew, held))
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-6)
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(expected[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert np.abs(b).max() > 0


def test_memory_does_not_grow_faster_than_windows_and_long_ones_hold_less():
    def held(length: int, hold: int) -> int:
        return int(long_model(length, hold)[0].memory_analysis().temp_size_in_bytes)

    short, long = held(2048, 2048), held(8192, 8192)
    assert long < 4.4 * short
    # Two layers; with more the share is less.
    assert held(8192, 2048) < 0.8 * long
