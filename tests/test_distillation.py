"""Losses by layer, tuned tables, recovery adapters: each against what it is made of, and together
on a small model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quantizing_here import ROWS, SHAPE, Endless, trained
from training_here import LENGTH

from runtime.allocate import Choice, allocate
from runtime.kmeans import palettize
from runtime.layout import TOP, snapped
from runtime.palette import Palette
from tokenizer.reader import WindowReader
from trainer import recover, tune_tables
from trainer.distill import Teacher, distill, distilled
from trainer.loss import loss_sum, next_tokens
from trainer.model import Windows, hidden_states, linear_names
from trainer.model_files import Model
from trainer.optimizer import Optimizer
from trainer.sensitivity import Calibration, sensitivity
from trainer.stages import Stage
from trainer.tune_tables import Table, look_up, table_student, tuned_tables


@pytest.fixture(scope="module")
def small() -> tuple[Model, Calibration, Endless]:
    """A trained model, windows to measure on, and a stream to train on."""
    _, model, shards = trained()
    batch = next(iter(WindowReader(shards, seed=9, batch=65)))
    return model, Calibration(model.params, SHAPE, batch), Endless(shards, seed=50)


@pytest.fixture(scope="module")
def palettes(small) -> dict[str, dict[int, Palette]]:
    model, calibration, _ = small
    energy = calibration.energy()
    return {
        name: {
            width: snapped(own)
            for width, own in palettize(weight(model, name), energy[name]).items()
        }
        for name in linear_names(SHAPE)
    }


def weight(model: Model, name: str) -> np.ndarray:
    return np.ascontiguousarray(model.params[name].T)


def at_two_bits(model: Model, palettes) -> dict[str, np.ndarray]:
    return {**model.params, **{name: own[2].dequantized().T for name, own in palettes.items()}}


def learning(optimizer: Optimizer, steps: int = 50) -> Stage:
    return Stage("quantized", steps * ROWS * LENGTH, LENGTH, ROWS, optimizer, warmup=0.1)


# --- the loss -----------------------------------------------------------------------------------


def test_the_loss_and_its_gradient_are_those_of_its_formula():
    drawn = np.random.default_rng(0)
    hidden, taught = (jnp.asarray(drawn.standard_normal((2, 9, 8)), jnp.float32) for _ in range(2))
    own, theirs = (jnp.asarray(drawn.standard_normal((21, 8)), jnp.float32) for _ in range(2))
    ids = jnp.asarray(drawn.integers(0, 21, (2, 9)))
    weights = jnp.asarray(drawn.random((2, 9)), jnp.float32)

    def formula(h):
        a, b = jax.nn.log_softmax(h @ own.T), jax.nn.log_softmax(taught @ theirs.T)
        divergence = (weights * (jnp.exp(b) * (b - a)).sum(-1)).sum()
        loss = -(weights * jnp.take_along_axis(a, ids[..., None], -1)[..., 0]).sum()
        return 0.7 * divergence + 0.3 * loss, (divergence, loss)

    def ours(h):
        found = distilled(h, own, Teacher(taught, theirs), ids, weights, 0.7)
        return 2 * found.objective, found

    (value, parts), gradient = jax.jit(jax.value_and_grad(formula, has_aux=True))(hidden)
    (twice, sums), own_gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(hidden)
    np.testing.assert_allclose(twice, 2 * value, rtol=1e-5)
    np.testing.assert_allclose([sums.divergence, sums.loss], parts, rtol=1e-5)
    np.testing.assert_allclose(own_gradient, 2 * gradient, atol=1e-5)
    # Not differentiated it goes another way.
    np.testing.assert_allclose(ours(hidden)[1], sums, rtol=1e-5)


def test_a_model_does_not_diverge_from_itself(small):
    _, calibration, _ = small
    lost = calibration.lost({})
    assert abs(lost.divergence) < 1e-6
    assert abs(lost.loss) < 1e-6


# --- what is measured ---------------------------------------------------------------------------


def test_energy_is_the_mean_square_of_inputs_without_padding(small):
    model, _, _ = small
    tokens = np.array([[5, 9, 7, 0], [8, 5, 0, 0]])
    batch = {"tokens": tokens, "segments": (tokens > 0) * 1, "positions": np.arange(4) + 0 * tokens}
    found = Calibration(model.params, SHAPE, batch).energy()
    x = model.params["embedding"][[5, 9, 7, 8, 5]].astype(np.float64)
    x /= np.sqrt((x**2).mean(1, keepdims=True) + SHAPE.norm_eps)
    wanted = ((x * model.params["layers.0.attention_norm"]) ** 2).mean(0)
    np.testing.assert_allclose(found["layers.0.q"], wanted, rtol=1e-4)
    np.testing.assert_array_equal(found["layers.0.q"], found["layers.0.v"])
    assert {name: len(value) for name, value in found.items()} == {
        name: model.params[name].shape[0] for name in linear_names(SHAPE)
    }


def test_fisher_is_the_mean_square_of_a_windows_gradient(small):
    model, _, stream = small
    batch = {name: value[:3] for name, value in next(iter(stream)).items()}
    found = Calibration(model.params, SHAPE, batch).fisher()["layers.0.up"]

    @jax.jit
    @jax.grad
    def gradient(own, windows):
        params = {**jax.tree.map(jnp.asarray, model.params), "layers.0.up": own}
        hidden = hidden_states(params, SHAPE, windows)
        targets = next_tokens(windows.tokens, windows.segments)
        return loss_sum(hidden, params["embedding"], targets, z_loss=0.0)[0]

    wanted = np.zeros_like(found)
    for row in range(3):
        windows = Windows(*(jnp.asarray(batch[name][row : row + 1]) for name in Windows._fields))
        wanted += np.asarray(gradient(model.params["layers.0.up"], windows)).T ** 2 / 3
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-8)


@pytest.fixture(scope="module")
def choices(small, palettes) -> list[Choice]:
    _, calibration, _ = small
    lost = sensitivity(
        calibration, dict.fromkeys(palettes, (2, 3, 4)),
        lambda name, width: palettes[name][width].dequantized().T,
    )  # fmt: skip
    return [
        Choice(
            name, own[2].indices.size, {width: own[width].stored_bits for width in own},
            {width: lost[name][width].divergence for width in own},
        )
        for name, own in palettes.items()
    ]  # fmt: skip


def test_fewer_bits_lose_more(choices):
    for own in choices:
        assert own.loss[2] > own.loss[3] > own.loss[4] > 0, own.name


def test_measured_losses_choose_better_than_chance(small, palettes, choices):
    _, calibration, _ = small

    def lost(widths) -> float:
        changed = {name: palettes[name][width].dequantized().T for name, width in widths.items()}
        return calibration.lost(changed).divergence

    found = lost(allocate(choices, 3.0))
    drawn = np.random.default_rng(4)
    others = []
    for _ in range(24):
        # The same model, each matrix with another's losses.
        order = drawn.permutation(len(choices))
        shuffled = [
            Choice(own.name, own.weights, own.bits, choices[other].loss)
            for own, other in zip(choices, order, strict=True)
        ]
        others.append(lost(allocate(shuffled, 3.0)))
    # What two matrices lose together is not quite the sum, so that chance may win now and then.
    assert found < 0.95 * np.mean(others)


def test_windows_with_nothing_to_predict_are_refused(small):
    model, _, _ = small
    batch = dict.fromkeys(("tokens", "segments", "positions"), np.zeros((2, 4), np.int32))
    with pytest.raises(ValueError, match="no token to predict"):
        Calibration(model.params, SHAPE, batch)


# --- tables -------------------------------------------------------------------------------------


def test_the_gradient_of_a_table_sums_over_the_weights_that_use_it():
    drawn = np.random.default_rng(2)
    tables = jnp.asarray(drawn.standard_normal((3, 8)), jnp.float32)
    indices = jnp.asarray(drawn.integers(0, 8, (48, 10)), jnp.uint8)
    g = jnp.asarray(drawn.standard_normal((48, 10)), jnp.float32)

    def plainly(tables):
        grouped = indices.reshape(3, -1).astype(jnp.int32)
        return jnp.take_along_axis(tables, grouped, 1).reshape(48, 10)

    np.testing.assert_array_equal(look_up(tables, indices), plainly(tables))
    ours = jax.grad(lambda t: (look_up(t, indices) * g).sum())(tables)
    theirs = jax.grad(lambda t: (plainly(t) * g).sum())(tables)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def student_of(model: Model, palettes, top: int | None = TOP):
    frozen = {name: value for name, value in model.params.items() if name not in palettes}
    tables = {name: Table(own[2].indices, own[2].tables) for name, own in palettes.items()}
    return table_student(tables, frozen, top)


def test_training_computes_with_what_a_file_will_hold(small, palettes):
    model, _, _ = small
    student = student_of(model, palettes)
    drawn = np.random.default_rng(3)
    moved = {
        name: drawn.standard_normal(v.shape).astype("f") for name, v in student.trained.items()
    }
    live = student.live(moved, student.fixed)
    for name, tables in tuned_tables(student, moved).items():
        held = snapped(Palette(palettes[name][2].indices, tables, 2))
        np.testing.assert_allclose(live[name].T, held.dequantized(), atol=1e-6)


@pytest.fixture(scope="module")
def tuned(small, palettes) -> dict[str, Palette]:
    model, _, stream = small
    student = student_of(model, palettes)
    stage = learning(tune_tables.optimizer())
    tables = tuned_tables(student, distill(SHAPE, model.params, student, stage, iter(stream)))
    return {
        name: snapped(Palette(own[2].indices, tables[name], 2)) for name, own in palettes.items()
    }


def test_tuning_moves_entries_and_keeps_assignments(small, palettes, tuned):
    model, calibration, _ = small
    for name, own in tuned.items():
        before = palettes[name][2]
        np.testing.assert_array_equal(own.indices, before.indices)
        assert not np.array_equal(own.tables, before.tables)
    before = calibration.lost(at_two_bits(model, palettes)).divergence
    after = calibration.lost({name: own.dequantized().T for name, own in tuned.items()}).divergence
    assert after < 0.97 * before


# --- adapters -----------------------------------------------------------------------------------


def test_an_adapter_changes_nothing_before_it_is_trained_and_adds_its_product_after(small):
    model, _, stream = small
    windows = Windows(*(jnp.asarray(next(iter(stream))[name][:2]) for name in Windows._fields))
    factors = recover.draw(SHAPE, 4, 1)
    student = recover.adapter_student(factors, model.params)

    hidden = jax.jit(lambda own: hidden_states(own, SHAPE, windows))
    adapted = jax.jit(lambda own: hidden_states(own, SHAPE, windows, apply=recover.adapted))
    plain = hidden(model.params)
    began = adapted({**model.params, **student.trained})
    np.testing.assert_array_equal(plain, began)
    drawn = np.random.default_rng(0)
    moved = {k: v + 0.1 * drawn.standard_normal(v.shape).astype("f")
             for k, v in student.trained.items()}  # fmt: skip
    after = adapted({**model.params, **moved})
    merged = recover.merged(model.params, recover.trained_factors(moved))
    np.testing.assert_allclose(after, hidden(merged), atol=2e-4)
    assert float(jnp.abs(after - plain).max()) > 0.1


def test_factors_are_drawn_by_name():
    one, two = recover.draw(SHAPE, 4, 1), recover.draw(SHAPE, 4, 2)
    assert list(one) == linear_names(SHAPE)
    a, b = one["layers.0.down"]
    assert (a.shape, b.shape) == ((4, 64), (32, 4))
    assert a.std() == pytest.approx(1 / 8, rel=0.2)
    assert not b.any()
    assert not np.array_equal(a, two["layers.0.down"][0])
    assert not np.array_equal(one["layers.0.gate"][0], one["layers.0.up"][0])
    with pytest.raises(ValueError, match=r"rank 17 on layers.0.k, a matrix of \(32, 16\); .* 16"):
        recover.draw(SHAPE, 17, 0)


def test_recovery_lies_between_the_float_and_the_quantized_model(small, palettes, tuned):
    model, calibration, stream = small
    base = {**model.params, **{name: own.dequantized().T for name, own in tuned.items()}}
    student = recover.adapter_student(recover.draw(SHAPE, 8, 0), base)
    stage = learning(recover.optimizer(0.003))
    told: list[dict] = []
    trained = distill(SHAPE, model.params, student, stage, iter(stream), told.append)
    assert trained.keys() == student.trained.keys()
    recovered = recover.merged(base, recover.trained_factors(trained))
    quantized = calibration.lost(at_two_bits(model, palettes))
    found = calibration.lost(recovered)
    assert 0 < found.loss < 0.7 * calibration.lost(base).loss < quantized.loss
    assert found.divergence < 0.7 * quantized.divergence
    assert told[-1]["step"] == stage.steps
    assert told[-1]["divergence"] < told[0]["divergence"]


def test_data_that_ends_early_is_an_error(small):
    model, _, stream = small
    student = recover.adapter_student(recover.draw(SHAPE, 8, 0), model.params)
    two = [next(iter(stream)) for _ in range(2)]
    with pytest.raises(ValueError, match="ended after 2 of 50 steps"):
        distill(SHAPE, model.params, student, learning(recover.optimizer(0.003)), iter(two))
