"""A model goes on with a text: a look at what it has learned, not a way to serve it.

Every token is computed from the whole window anew, in one compiled function of fixed length.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tokenizer.special import CONTROLS, EOS_ID
from trainer.model import Params, Windows, hidden_states
from trainer.model_files import Model
from trainer.scoring import MAX_WINDOW
from trainer.shape import Shape

STEP = 64
"""Windows are a multiple of it, so that prompts of many lengths share a compiled function."""

SPECIAL = 3 + len(CONTROLS)
"""Ids below it are no text; of them only the end of the document may follow."""


def go_on(
    model: Model, prompt: str, tokens: int = 64, *, temperature: float = 0.8, seed: int = 0
) -> str:
    """What the model adds to a prompt, up to ``tokens`` tokens or the end of the document.

    Args:
      temperature: 0 takes the likeliest token each time.

    Raises:
      ValueError: the prompt has no token, the temperature is below 0 or no number, or the tokens
        to add are none or too many.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"a temperature of {temperature}; it must be a number from 0")
    ids = [int(number) for number in model.tokenizer.encode(prompt)]
    if not ids:
        raise ValueError("the prompt is empty; give a word to go on from")
    if not 1 <= tokens <= MAX_WINDOW - len(ids):
        raise ValueError(
            f"{tokens} tokens to add to a prompt of {len(ids)}; it must be at least 1, and "
            f"together at most {MAX_WINDOW}"
        )
    length = -(-(len(ids) + tokens) // STEP) * STEP
    window = np.zeros((1, length), np.int32)
    window[0, : len(ids)] = ids
    params = {name: jnp.asarray(value) for name, value in model.params.items()}
    positions = jnp.arange(length, dtype=jnp.int32)[None]
    random = np.random.Generator(np.random.PCG64(seed))
    begun = end = len(ids)
    for place in range(begun, begun + tokens):
        logits = _following(params, jnp.asarray(window), positions, place - 1, model.shape)
        found = np.array(logits, np.float64)
        found[[number for number in range(SPECIAL) if number != EOS_ID]] = -np.inf
        choice = _draw(found, temperature, random)
        if choice == EOS_ID:
            break
        window[0, place] = choice
        end = place + 1
    return model.tokenizer.decode(window[0, begun:end])


@partial(jax.jit, static_argnames="shape")
def _following(
    params: Params, tokens: jax.Array, positions: jax.Array, place: int, shape: Shape
) -> jax.Array:
    """Logits of what follows a place: (vocabulary,)."""
    windows = Windows(tokens, jnp.ones_like(tokens), positions)
    hidden = hidden_states(params, shape, windows)[0, place]
    return jnp.dot(params["embedding"], hidden)


def _draw(logits: np.ndarray, temperature: float, random: np.random.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / temperature)
    sums = np.cumsum(weights)
    # To the right, so that what has no weight is never drawn, not even by a 0.
    return int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
