"""A model goes on with a text: a look at what it has learned, not a way to serve it.

Every token is computed from the whole window anew, in one compiled function of fixed length.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tokenizer.special import EOS_ID, FIXED, WHITESPACE
from trainer.model import Params, Windows, hidden_states
from trainer.model_files import Model
from trainer.shape import Shape


def go_on(
    model: Model, prompt: str, tokens: int = 64, *, temperature: float = 0.8, seed: int = 0
) -> str:
    """What the model adds to a prompt, up to ``tokens`` tokens or the end of the document.

    Args:
      temperature: 0 takes the likeliest token each time.

    Raises:
      ValueError: the prompt has no token, or the temperature is below 0 or no number.
    """
    if not 0 <= temperature < np.inf:
        raise ValueError(f"a temperature of {temperature}; it must be at least 0 and finite")
    ids = [int(number) for number in model.tokenizer.encode(prompt)]
    if not ids:
        raise ValueError("the prompt is empty; give a word to go on from")
    length = -(-(len(ids) + tokens) // 64) * 64
    window = np.zeros((1, length), np.int32)
    window[0, : len(ids)] = ids
    params = {name: jnp.asarray(value) for name, value in model.params.items()}
    positions = jnp.arange(length, dtype=jnp.int32)[None]
    following = jax.jit(partial(_following, shape=model.shape))
    random = np.random.Generator(np.random.PCG64(seed))
    begun = end = len(ids)
    for place in range(begun, begun + tokens):
        found = np.asarray(following(params, jnp.asarray(window), positions, place - 1), np.float64)
        found[2 : FIXED - 256 - len(WHITESPACE)] = -np.inf
        choice = _draw(found, temperature, random)
        if choice == EOS_ID:
            break
        window[0, place] = choice
        end = place + 1
    return model.tokenizer.decode(window[0, begun:end])


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
    return int(np.searchsorted(np.cumsum(weights), random.random() * weights.sum()))
