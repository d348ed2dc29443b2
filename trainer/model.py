"""The model as pure functions over a flat dictionary of arrays.

A decoder as in AFM 2024 (arXiv 2407.21075, section 2.1): norm before each block (RMSNorm), norms of
queries and keys per head before rotary positions, grouped-query attention, SwiGLU, no biases, the
embedding shared with the output layer. Weights are (in, out).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trainer.attention import attend
from trainer.linear import linear
from trainer.recompute import recomputed
from trainer.shape import Shape
from trainer.sharding import Layout

Array = jax.Array
Params = dict[str, Array]


class Windows(NamedTuple):
    """Windows as ``tokenizer.reader`` gives them, each (batch, tokens) of whole numbers."""

    tokens: Array
    segments: Array
    positions: Array


Apply = Callable[[Params, str, Array], Array]
"""How a linear map is applied: parameters, the name of its weight, and its input (..., in)."""

HELD_TOKENS = 2048
"""Of longer windows only what enters each layer is held for the gradients, the rest is computed
anew."""

LINEAR = ("q", "k", "v", "o", "gate", "up", "down")
"""The weights of a layer that are linear maps, by the last part of their names."""


def linear_names(shape: Shape) -> list[str]:
    """The weights of all linear maps, in the order in which a file lists them."""
    return [name for name in shapes(shape) if name.rpartition(".")[2] in LINEAR]


def shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and dimensions of every parameter, in the order in which a file lists them."""
    found: dict[str, tuple[int, ...]] = {"embedding": (shape.vocabulary, shape.width)}
    for number, layer in enumerate(shape.layers):
        queries, keys = layer.heads * shape.head, layer.kv_heads * shape.head
        own: dict[str, tuple[int, ...]] = {
            "attention_norm": (shape.width,),
            "q": (shape.width, queries),
            "k": (shape.width, keys),
            "v": (shape.width, keys),
            "q_norm": (shape.head,),
            "k_norm": (shape.head,),
            "o": (queries, shape.width),
            "ffn_norm": (shape.width,),
            "gate": (shape.width, layer.hidden),
            "up": (shape.width, layer.hidden),
            "down": (layer.hidden, shape.width),
        }
        found |= {f"layers.{number}.{name}": dims for name, dims in own.items()}
    return {**found, "norm": (shape.width,)}


def initialise(shape: Shape, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights drawn from N(0, 1/fan_in), the embedding from N(0, 1/width), norms at 1.

    As ``honeycrisp``. Layer-wise models are drawn as OpenELM's code does: what is added to the
    residual stream, ``o`` and ``down``, from N(0, 1/(2 layers width)), as each layer adds twice.
    Each parameter has its own stream by name, so that it does not depend on the others; drawn by
    numpy, so that it does not depend on the device.
    """
    found = {}
    for name, dims in shapes(shape).items():
        if len(dims) == 1:
            found[name] = np.ones(dims, np.float32)
            continue
        stream = np.random.Generator(np.random.PCG64([seed, *name.encode()]))
        drawn = stream.standard_normal(dims, np.float32)
        found[name] = drawn / np.float32(np.sqrt(_precision(shape, name, dims[0])))
    return found


def _precision(shape: Shape, name: str, fan_in: int) -> int:
    """One over the variance that a weight is drawn with."""
    if name == "embedding":
        return shape.width
    if not shape.uniform and name.rpartition(".")[2] in ("o", "down"):
        return 2 * len(shape.layers) * shape.width
    return fan_in


def norm(x: Array, scale: Array, eps: float) -> Array:
    """RMSNorm over the last dimension, in f32."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + eps)
    return (wide * scale).astype(x.dtype)


def rotary(positions: Array, head: int, base: float) -> tuple[Array, Array]:
    """Cosine and sine of rotary positions (RoFormer, arXiv 2104.09864, section 3.2.2).

    Args: positions: (batch, tokens). Returns: two of (batch, 1, tokens, head // 2), f32.
    """
    frequencies = base ** (-np.arange(0, head, 2, dtype=np.float64) / head)
    angles = positions[:, None, :, None].astype(jnp.float32) * frequencies.astype(np.float32)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """Turn pairs (i, i + head / 2) of ``x`` (batch, heads, tokens, head)."""
    half = x.shape[-1] // 2
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    cos, sin = turn
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def plain(params: Params, name: str, x: Array) -> Array:
    """The input times the weight of that name."""
    return linear(x, params[name])


def hidden_states(
    params: Params,
    shape: Shape,
    windows: Windows,
    masks: Params | None = None,
    layout: Layout | None = None,
    apply: Apply = plain,
) -> Array:
    """What the last norm gives: (batch, tokens, width), in the type of the parameters.

    Args:
      masks: for pruning, ``layers.N`` to (hidden,), which the layer's hidden values are times.
      layout: where activations lie, if on more than one device.
      apply: what is done at each linear map, where it is more than the product.
    """
    turn = rotary(windows.positions, shape.head, shape.rope_base)

    def layer(
        x: Array, params: Params, mask: Array | None, segments: Array, turn: Any, own: str
    ) -> Array:
        x = x if layout is None else layout.residual(x)
        h = norm(x, params[f"{own}.attention_norm"], shape.norm_eps)
        x = x + _attention(params, own, shape, h, segments, turn, layout, apply)
        x = x if layout is None else layout.residual(x)
        h = norm(x, params[f"{own}.ffn_norm"], shape.norm_eps)
        return x + _ffn(params, own, h, mask, layout, apply)

    # What is done at linear maps may have gradients of its own.
    long = windows.tokens.shape[1] > HELD_TOKENS and apply is plain
    x = params["embedding"][windows.tokens]
    for number, _ in enumerate(shape.layers):
        own = f"layers.{number}"
        parts = {name: value for name, value in params.items() if name.startswith(f"{own}.")}
        run = partial(layer, own=own)
        x = (recomputed(run) if long else run)(
            x, parts, None if masks is None else masks[own], windows.segments, turn
        )
    return norm(x, params["norm"], shape.norm_eps)


def _attention(
    params: Params, own: str, shape: Shape, x: Array, segments: Array,
    turn: tuple[Array, Array], layout: Layout | None, apply: Apply,
) -> Array:  # fmt: skip
    batch, tokens, _ = x.shape
    kv_heads = params[f"{own}.k"].shape[1] // shape.head

    def heads(name: str) -> Array:
        found = apply(params, f"{own}.{name}", x)
        found = found.reshape(batch, tokens, -1, shape.head).transpose(0, 2, 1, 3)
        return found if layout is None else layout.heads(found, kv_heads)

    q = rotate(norm(heads("q"), params[f"{own}.q_norm"], shape.norm_eps), turn)
    k = rotate(norm(heads("k"), params[f"{own}.k_norm"], shape.norm_eps), turn)
    out = attend(q, k, heads("v"), segments)
    return apply(params, f"{own}.o", out.transpose(0, 2, 1, 3).reshape(batch, tokens, -1))


def _ffn(
    params: Params, own: str, x: Array, mask: Array | None, layout: Layout | None, apply: Apply
) -> Array:
    hidden = jax.nn.silu(apply(params, f"{own}.gate", x)) * apply(params, f"{own}.up", x)
    hidden = hidden if layout is None else layout.hidden(hidden)
    if mask is not None:
        hidden = hidden * mask.astype(hidden.dtype)
    return apply(params, f"{own}.down", hidden)


def logits(params: Params, shape: Shape, windows: Windows) -> Array:
    """Logits in f32: (batch, tokens, vocabulary). For generation; training never holds them."""
    hidden = hidden_states(params, shape, windows)
    return jnp.dot(hidden, params["embedding"].T, preferred_element_type=jnp.float32)
