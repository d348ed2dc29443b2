"""Bits by layer: the best of all choices where all can be tried, within the budget always."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.allocate import AllocationError, Choice, allocate, mean_bits, palette_bits

WIDTHS = (2, 3, 4)


def choice(name: str, rows: int, columns: int, losses) -> Choice:
    bits = {width: palette_bits(rows, columns, width) for width in WIDTHS}
    return Choice(name, rows * columns, bits, dict(zip(WIDTHS, losses, strict=True)))


LAYERS = st.lists(
    st.tuples(st.sampled_from([16, 48, 128]), st.sampled_from([64, 96, 320]),
              st.lists(st.floats(0, 1), min_size=3, max_size=3).map(lambda x: sorted(x)[::-1])),
    min_size=1, max_size=6,
)  # fmt: skip


def loss_of(choices, widths) -> float:
    return sum(own.loss[widths[own.name]] for own in choices)


@given(LAYERS, st.floats(2.3, 4.4))
@settings(max_examples=150, deadline=None)
def test_no_choice_within_the_budget_loses_less(layers, target):
    choices = [choice(str(n), *layer) for n, layer in enumerate(layers)]
    names = [own.name for own in choices]
    every = [dict(zip(names, widths, strict=True)) for widths in product(WIDTHS, repeat=len(names))]
    allowed = [widths for widths in every if mean_bits(choices, widths) <= target + 1e-9]
    if not allowed:
        with pytest.raises(AllocationError):
            allocate(choices, target)
        return
    found = allocate(choices, target)
    assert mean_bits(choices, found) <= target + 1e-9
    least = min(loss_of(choices, widths) for widths in allowed)
    assert loss_of(choices, found) == pytest.approx(least, abs=1e-12)
    # And nothing could be widened.
    for name, width in found.items():
        if width < 4:
            assert mean_bits(choices, {**found, name: width + 1}) > target


def model(layers: int = 24) -> list[Choice]:
    drawn = np.random.default_rng(11)
    found = []
    for n in range(layers):
        for name, rows, columns in (("q", 768, 768), ("k", 384, 768), ("down", 768, 2304)):
            at_two = float(np.exp(drawn.normal()))
            # Each bit more takes three quarters of the error away.
            losses = (at_two, at_two / 4, at_two / 16)
            found.append(choice(f"layers.{n}.{name}", rows, columns, losses))
    return found


@pytest.mark.parametrize("target", [2.5, 3.0, 3.5, 3.7])
def test_a_model_comes_within_a_hundredth_of_the_target(target):
    choices = model()
    found = allocate(choices, target)
    assert target - 0.01 < mean_bits(choices, found) <= target
    assert list(found) == [own.name for own in choices]


def test_measured_losses_beat_chance():
    choices = model()
    found = loss_of(choices, allocate(choices, 3.5))
    drawn = np.random.default_rng(0)
    for _ in range(8):
        # The same widths, each given to another matrix of that size.
        shuffled = [
            Choice(own.name, own.weights, own.bits, dict.fromkeys(WIDTHS, 0.0) | {
                2: float(drawn.random()) + 2, 3: float(drawn.random()) + 1,
            })
            for own in choices
        ]  # fmt: skip
        assert found < 0.9 * loss_of(choices, allocate(shuffled, 3.5))


def test_a_loss_that_grows_with_bits_is_chance_and_does_not_hold_bits_back():
    choices = [choice("a", 16, 320, (0.2, 0.3, 0.4)), choice("b", 16, 320, (0.5, 0.5, 0.5))]
    assert allocate(choices, 4.9) == {"a": 4, "b": 4}


@pytest.mark.parametrize("seed", range(5))
def test_matrices_of_odd_sizes_keep_to_the_budget(seed):
    """Sizes with no common unit are rounded; the budget holds all the same."""
    drawn = np.random.default_rng(seed)
    choices = [
        choice(str(n), 16 * int(drawn.integers(1, 400)), int(drawn.integers(64, 5000)),
               sorted(drawn.random(3))[::-1])
        for n in range(60)
    ]  # fmt: skip
    found = mean_bits(choices, allocate(choices, 3.5))
    assert 3.49 < found <= 3.5


def test_what_cannot_be_had_is_told():
    with pytest.raises(AllocationError, match=r"2 bits a weight; .* take 2\.\d+ at least and 4\."):
        allocate(model(1), 2.0)
    with pytest.raises(AllocationError, match="no matrices"):
        allocate([], 3.5)
    with pytest.raises(AllocationError, match="b loses nan at 2 bits"):
        allocate([choice("b", 16, 64, (np.nan, 0, 0))], 4.0)


def test_bits_of_a_palette():
    assert palette_bits(768, 3072, 4) / (768 * 3072) == pytest.approx(4.0052, abs=5e-5)
    assert palette_bits(16, 64, 4) / (16 * 64) == 4.25
    assert palette_bits(16, 64, 2) == 16 * 64 * 2 + 4 * 16
