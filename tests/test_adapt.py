"""Training an adapter: what its loss is of, what it leaves alone, and its start."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from examples_here import examples_of
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizing_here import SHAPE
from training_here import random_model

from tokenizer.special import EOS_ID
from tokenizer.windows import side_by_side
from trainer import recover
from trainer.adapt import adapt, filled
from trainer.completions import judge
from trainer.examples import example_batches, windows_of
from trainer.model import linear_names
from trainer.scoring import Scorer
from trainer.stages import Stage
from trainer.step import to_parts
from trainer.student import LEARNED, _targets
from trainer.watch import Diverged

LENGTH = 32
PAIRS = [(f"The sign of {n} is", f" {word}") for n, word in enumerate("fire water air".split() * 4)]


def stage(rows: int, steps: int, rate: float = 0.01) -> Stage:
    return Stage("adapting", steps * rows * LENGTH, LENGTH, rows, recover.optimizer(rate))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return examples_of(tmp_path_factory.mktemp("examples") / "a.jsonl", PAIRS)


@pytest.fixture(scope="module")
def model():
    return random_model(SHAPE, gain=3.0)


def run(model, examples, steps, factors=None, told=None, seed=0, rate=0.01):
    rows = windows_of(examples, LENGTH)
    return adapt(
        SHAPE, model.params, factors or recover.draw(SHAPE, 4, 1), stage(rows, steps, rate),
        example_batches(examples, LENGTH, rows, seed), None if told is None else told.append,
    )  # fmt: skip


# --- the loss -----------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(1, 8), max_size=4), min_size=3, max_size=3), st.randoms())
@settings(max_examples=30)
def test_a_place_counts_where_the_token_behind_it_is_learned(lengths, random):
    rows = [[np.arange(3, 3 + n) for n in own] for own in lengths]
    batch = side_by_side(rows, LENGTH)
    learned = side_by_side([[np.array([random.randint(0, 1) for _ in a]) for a in own]
                            for own in rows], LENGTH)["tokens"]  # fmt: skip
    parts = {k: jnp.asarray(v) for k, v in to_parts({**batch, LEARNED: learned}, 1).items()}
    targets, count = _targets(parts)
    # A segment's first token has none before it that could predict it.
    wanted = np.zeros((len(rows), LENGTH))
    wanted[:, :-1] = (learned * (batch["positions"] > 0))[:, 1:]
    assert count == wanted.sum()
    np.testing.assert_allclose(targets.weights[0], wanted / max(1, wanted.sum()), rtol=1e-6)
    assert (np.asarray(targets.ids[0])[:, :-1] == batch["tokens"][:, 1:]).all()


def test_the_first_loss_is_that_of_the_base_on_the_completions(model, examples):
    told = []
    run(model, examples, 1, told=told)
    known = judge(Scorer(model.params, SHAPE, LENGTH), examples)
    assert told[0]["tokens"] == known.tokens == sum(len(e) - e.first for e in examples)
    assert told[0]["loss"] == told[0]["objective"] == pytest.approx(known.loss, rel=1e-5)


def test_what_is_learned_of_an_example_is_what_the_loss_is_of(model, examples):
    """Where more than the completion is learned, or its end alone, it is another mean."""
    scored = Scorer(model.params, SHAPE, LENGTH)([e.ids for e in examples])
    whole, ends = (np.concatenate([own.nats[cut:] for own in scored]) for cut in (0, -1))
    assert all(example.ids[-1] == EOS_ID for example in examples)
    for wanted, first in ((whole, lambda e: 1), (ends, lambda e: len(e) - 1)):
        told: list[dict] = []
        run(model, [replace(e, first=first(e)) for e in examples], 1, told=told)
        assert told[0]["tokens"] == len(wanted)
        assert told[0]["loss"] == pytest.approx(wanted.mean(), rel=1e-5)


# --- training -----------------------------------------------------------------------------------


def test_it_learns_and_the_same_again_to_the_bit(model, examples):
    told: list[dict] = []
    before = {name: value.copy() for name, value in model.params.items()}
    found = run(model, examples, 30, told=told)
    again = run(model, examples, 30)
    other = run(model, examples, 30, seed=1)
    assert told[-1]["loss"] < 0.5 * told[0]["loss"]
    for name in linear_names(SHAPE):
        for a, b in zip(found[name], again[name], strict=True):
            np.testing.assert_array_equal(a, b)
    assert any((found[name][1] != other[name][1]).any() for name in found)
    for name, value in model.params.items():
        np.testing.assert_array_equal(value, before[name])
    # What was trained is what is merged: the judge finds the loss that training told.
    merged = recover.merged(model.params, found)
    assert judge(Scorer(merged, SHAPE, LENGTH), examples).loss < 1.02 * told[-1]["loss"]


def test_it_goes_on_from_where_it_starts(model, examples):
    told: list[dict] = []
    first = run(model, examples, 20)
    run(model, examples, 1, factors=first, told=told)
    known = judge(Scorer(recover.merged(model.params, first), SHAPE, LENGTH), examples)
    assert told[0]["loss"] == pytest.approx(known.loss, rel=1e-4)


def test_maps_without_factors_get_some_that_change_nothing():
    drawn = recover.draw(SHAPE, 4, 5)
    some = {name: drawn[name] for name in ("layers.0.q", "layers.0.v")}
    found = filled(some, SHAPE, 9)
    assert list(found) == linear_names(SHAPE)
    assert found["layers.0.q"] is some["layers.0.q"]
    assert found["layers.0.k"][0].shape == (4, 32)
    assert not any(found[name][1].any() for name in found.keys() - some.keys())
    assert filled(found, SHAPE, 9) is found
    wide = {"layers.0.q": (np.zeros((32, 32), "f"), np.zeros((32, 32), "f"))}
    with pytest.raises(ValueError, match=r"rank 32 on layers.0.k"):
        filled(wide, SHAPE, 0)


def test_a_rate_that_is_far_too_large_is_told(model, examples):
    with pytest.raises(Diverged, match="the loss of step 2 is nan"):
        run(model, examples, 5, rate=1e30)


def test_gradients_reach_the_factors_through_completions_alone(model, examples):
    """An example whose completion is not learned leaves the factors where they are."""
    batch = next(example_batches(examples, LENGTH, windows_of(examples, LENGTH), 0))
    silent = {**batch, LEARNED: np.zeros_like(batch[LEARNED])}
    begun = recover.draw(SHAPE, 4, 1)
    rows = len(batch["tokens"])
    found = adapt(SHAPE, model.params, begun, stage(rows, 1), iter([silent]))
    for name, (a, b) in found.items():
        np.testing.assert_array_equal(a, begun[name][0])
        np.testing.assert_array_equal(b, begun[name][1])
