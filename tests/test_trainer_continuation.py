"""How a model goes on with a text: by its own logits, by chance that a seed decides, to an end."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import numpy_twin as twin
import pytest
from tokenizers_here import own_texts, small_tokenizer
from training_here import random_model

from tokenizer.special import EOS_ID
from trainer import continuation
from trainer.continuation import SPECIAL, go_on
from trainer.model_files import Model

PROMPT = "The length of"


@functools.cache
def model() -> Model:
    return random_model(gain=3.0)


def leaning_to(ids: list[int]) -> Model:
    """A model that finds some ids likelier than all others, the first the most, whatever went
    before."""
    own = model()
    params = {name: np.zeros_like(value) for name, value in own.params.items()}
    params |= {name: np.ones_like(v) for name, v in own.params.items() if v.ndim == 1}
    params["embedding"][:] = 1e-3
    for number, place in enumerate(ids):
        params["embedding"][place] = 1.0 - 0.1 * number
    return replace(own, params=params)


def test_the_likeliest_tokens_are_the_twins():
    ids = [int(n) for n in small_tokenizer().encode(PROMPT)]
    begun = len(ids)
    held = {name: twin.T(value) for name, value in model().params.items()}
    for _ in range(6):
        row = np.array([ids])
        batch = {"tokens": row, "segments": row * 0 + 1, "positions": np.arange(len(ids))[None]}
        found = twin.logits(held, model().shape, batch).data[0, -1]
        found[[n for n in range(SPECIAL) if n != EOS_ID]] = -np.inf
        ids.append(int(found.argmax()))
    assert EOS_ID not in ids
    expected = small_tokenizer().decode(ids[begun:])
    assert go_on(model(), PROMPT, 6, temperature=0.0) == expected
    # Chance has no part in it.
    assert go_on(model(), PROMPT, 6, temperature=0.0, seed=9) == expected


def test_a_prompt_in_the_middle_of_a_document():
    """A prompt that ends in a token and one that was cut in a word; both are gone on with."""
    text = own_texts()[1]
    for prompt in (text[101:160], text[103:161], "\n\n", " ", "é"):
        ids = small_tokenizer().encode(go_on(model(), prompt, 5, temperature=0.0))
        assert 0 < len(ids) <= 12


def test_a_seed_decides():
    found = [go_on(model(), PROMPT, 12, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert go_on(model(), PROMPT, 12, temperature=1.0) == go_on(
        model(), PROMPT, 12, temperature=1.0, seed=0
    )


def test_it_ends_with_the_document():
    a = small_tokenizer().pieces.index("a")
    assert go_on(leaning_to([EOS_ID, a]), PROMPT, 8, temperature=0.0) == ""
    assert go_on(leaning_to([a, EOS_ID]), PROMPT, 8, temperature=0.0) == "a" * 8
    # By chance: as long as it draws the letter, and then no more.
    drawn = [
        go_on(leaning_to([a, EOS_ID]), PROMPT, 50, temperature=0.6, seed=seed) for seed in range(4)
    ]
    assert all(set(text) <= {"a"} for text in drawn)
    assert len({len(text) for text in drawn}) > 1


def test_pieces_that_are_no_text_are_never_added():
    a = small_tokenizer().pieces.index("a")
    for temperature in (0.0, 1e-3):
        found = go_on(leaning_to([0, 2, 3, 63, a]), PROMPT, 4, temperature=temperature)
        assert found == "aaaa"
    assert small_tokenizer().pieces[63] == "<reserved_59>"
    assert SPECIAL == 64


def test_a_draw_has_the_shares_of_the_weights():
    random = np.random.Generator(np.random.PCG64(0))
    logits = np.log(np.array([1e-300, 0.1, 0.6, 0.3]))
    logits[0] = -np.inf
    drawn = [continuation._draw(logits, 1.0, random) for _ in range(4000)]
    shares = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(shares, [0, 0.1, 0.6, 0.3], atol=0.03)
    # At half the temperature the odds are squared.
    drawn = [continuation._draw(logits, 0.5, random) for _ in range(4000)]
    np.testing.assert_allclose(
        np.bincount(drawn, minlength=4) / 4000, np.array([0, 1, 36, 9]) / 46, atol=0.03
    )


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_ends_of_chance_draw_what_can_be_drawn(number):
    class Fixed:
        def random(self):
            return number

    # Sums of many small weights differ by the order in which they are added.
    logits = np.concatenate([[-np.inf], np.log(np.full(100_000, 0.1)), [-np.inf]])
    found = continuation._draw(logits, 1.0, Fixed())
    assert found == (1 if number == 0.0 else 100_000)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, "the prompt is empty; give a word to go on from"),
        ("a", {"temperature": -0.1}, "a temperature of -0.1; it must be a number from 0"),
        ("a", {"temperature": float("nan")}, "a temperature of nan"),
        ("a", {"temperature": float("inf")}, "a temperature of inf"),
        ("a", {"tokens": 0}, "0 tokens to add to a prompt of 1; it must be at least 1"),
        ("a", {"tokens": 1 << 15}, "32768 tokens to add .* together at most 32768"),
    ],
)
def test_what_cannot_be_gone_on_with(prompt, options, message):
    with pytest.raises(ValueError, match=message):
        go_on(model(), prompt, **options)
