"""Causal attention inside documents, a block of queries at a time.

A block of queries meets the keys up to the end of its span only, so that most of the masked half of
the scores is never computed, and none of it is held: the forward pass keeps one number a query (the
logarithm of the sum of its exponentials) and the backward pass computes the weights anew (Dao et
al., FlashAttention, arXiv 2205.14135, section 3.1). Costs a fifth more products than keeping the
weights.

A window has at most ``SPANS`` spans. Up to ``SPANS`` blocks each span is one block, and the masked
half costs nothing but the corners on the diagonal. The blocks of longer spans follow each other in
a loop, so that what is compiled does not grow with the window, and what is held beside queries,
keys and values is one block's scores; an eighth of the masked half is computed then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

BLOCK = 128
SPANS = 8
MASKED = -1e30
TOKENS = 3
"""The axis of tokens in queries: (batch, kv_heads, group, tokens, head)."""


class Span(NamedTuple):
    """Queries ``start`` to ``end``, ``block`` at a time; ``block`` divides them."""

    start: int
    end: int
    block: int


def attend(
    q: Array, k: Array, v: Array, segments: Array, block: int = BLOCK, spans: int = SPANS
) -> Array:
    """Attention of each query to the keys of its own segment up to its own place.

    Args:
      q: (batch, heads, tokens, head); head ``h`` uses the keys of head ``h * kv_heads // heads``.
      k, v: (batch, kv_heads, tokens, head).
      segments: (batch, tokens), whole numbers.
      block: queries at a time.
      spans: how many parts of a window are compiled apart.

    Returns:
      (batch, heads, tokens, head), in the type of ``q``.
    """
    batch, heads, tokens, head = q.shape
    kv_heads = k.shape[1]
    grouped = q.reshape(batch, kv_heads, heads // kv_heads, tokens, head)
    found = _attend(grouped, k, v, segments, cut(tokens, block, spans))
    return found.reshape(batch, heads, tokens, head)


def cut(tokens: int, block: int, spans: int) -> tuple[Span, ...]:
    """A window in at most ``spans`` spans of whole blocks, and one more for what is left over."""
    whole = tokens // block * block
    own = -(-tokens // (block * spans)) * block
    found = [Span(start, min(start + own, whole), block) for start in range(0, whole, own)]
    if whole < tokens:
        found.append(Span(whole, tokens, tokens - whole))
    return tuple(found)


def _over_blocks(
    span: Span, body: Callable[[Any, Array | int, Any], Any], carry: Any, by_query: Any
) -> Any:
    """``body(carry, first query, block of each of by_query)`` for each block of a span.

    ``body`` gives the carry and arrays of the block's queries; these are put side by side.
    """
    own = jax.tree.map(lambda a: a[:, :, :, span.start : span.end], by_query)
    count = (span.end - span.start) // span.block
    if count == 1:
        return body(carry, span.start, own)

    def in_blocks(a: Array) -> Array:
        cut = a.reshape(*a.shape[:TOKENS], count, span.block, *a.shape[TOKENS + 1 :])
        return jnp.moveaxis(cut, TOKENS, 0)

    def side_by_side(a: Array) -> Array:
        a = jnp.moveaxis(a, 0, TOKENS)
        return a.reshape(*a.shape[:TOKENS], count * span.block, *a.shape[TOKENS + 2 :])

    starts = jnp.arange(span.start, span.end, span.block, dtype=jnp.int32)
    carry, found = jax.lax.scan(
        lambda carry, x: body(carry, *x), carry, (starts, jax.tree.map(in_blocks, own))
    )
    return carry, jax.tree.map(side_by_side, found)


def _allowed(segments: Array, own: Array, start: Array | int) -> Array:
    """Which keys each query of a block meets: (batch, 1, 1, queries, keys).

    Args:
      segments: of the keys, (batch, keys).
      own: of the queries, (batch, 1, 1, queries, 1).
      start: the place of the first query.
    """
    queries = start + np.arange(own.shape[TOKENS], dtype=np.int32)
    causal = jnp.asarray(queries)[:, None] >= np.arange(segments.shape[1], dtype=np.int32)
    return causal & (own == segments[:, None, None, None])


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: Array, k: Array, v: Array, segments: Array, spans: tuple[Span, ...]) -> Array:
    return _forward(q, k, v, segments, spans)[0]


def _forward(
    q: Array, k: Array, v: Array, segments: Array, spans: tuple[Span, ...]
) -> tuple[Array, tuple[Array, ...]]:
    scale = 1.0 / float(np.sqrt(q.shape[-1]))
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)

    def block(span: Span, start: Array | int, own: Any) -> tuple[Array, Array]:
        keys, values = k[:, :, : span.end], v[:, :, : span.end]
        queries, own_segments = own
        scores = product("bkgqd,bksd->bkgqs", queries, keys) * scale
        allowed = _allowed(segments[:, : span.end], own_segments, start)
        scores = jnp.where(allowed, scores, MASKED)
        top = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(-1, keepdims=True)
        out = product("bkgqs,bksd->bkgqd", weights.astype(v.dtype), values)
        return (out / total).astype(q.dtype), top + jnp.log(total)

    by_query = (q, _by_query(segments))
    found = [
        _over_blocks(
            span, lambda carry, *x, span=span: (carry, block(span, *x)), None, by_query
        )[1]
        for span in spans
    ]  # fmt: skip
    out, logsum = (jnp.concatenate(parts, TOKENS) for parts in zip(*found, strict=True))
    return out, (q, k, v, segments, out, logsum)


def _by_query(segments: Array) -> Array:
    """(batch, tokens) as (batch, 1, 1, tokens, 1)."""
    return segments[:, None, None, :, None]


def _backward(
    spans: tuple[Span, ...], saved: tuple[Array, ...], g: Array
) -> tuple[Array, Array, Array, None]:
    """Gradients, a block of queries at a time.

    XLA's CPU backend is slow where a product contracts over the first dimension of both factors, as
    the gradients of keys and values do over queries. The narrow factor is transposed beforehand,
    and the result, as narrow, afterwards.
    """
    q, k, v, segments, out, logsum = saved
    delta = (out.astype(jnp.float32) * g.astype(jnp.float32)).sum(-1, keepdims=True)
    batch, kv_heads, group, _, head = q.shape
    scale = 1.0 / float(np.sqrt(head))
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)

    def block(
        span: Span, carry: tuple[Array, Array], start: Array | int, own: Any
    ) -> tuple[tuple[Array, Array], Array]:
        keys, values = k[:, :, : span.end], v[:, :, : span.end]
        rows = group * span.block
        *narrow, own_segments = own
        queries, own_g, sums, deltas = (a.reshape(batch, kv_heads, rows, -1) for a in narrow)
        allowed = _allowed(segments[:, : span.end], own_segments, start)[:, :, 0]
        allowed = jnp.tile(allowed, (1, 1, group, 1))
        scores = product("bkqd,bksd->bkqs", queries, keys) * scale
        weights = jnp.where(allowed, jnp.exp(scores - sums), 0.0)
        dweights = product("bkqd,bksd->bkqs", own_g, values)
        dscores = (weights * (dweights - deltas) * scale).astype(q.dtype)
        dk, dv = carry
        dv = dv.at[:, :, : span.end].add(_over_queries(weights.astype(g.dtype), own_g))
        dk = dk.at[:, :, : span.end].add(_over_queries(dscores, queries))
        dq = product("bkqs,bksd->bkqd", dscores, keys)
        return (dk, dv), dq.reshape(batch, kv_heads, group, span.block, head)

    carry = (jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32))
    dqs = []
    for span in spans:
        carry, dq = _over_blocks(
            span, partial(block, span), carry, (q, g, logsum, delta, _by_query(segments))
        )
        dqs.append(dq)
    dk, dv = carry
    dq = jnp.concatenate(dqs, TOKENS)
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


def _over_queries(weights: Array, x: Array) -> Array:
    """(..., queries, keys) and (..., queries, head) to (..., keys, head), in f32."""
    # Without the barriers the compiler turns the product around again.
    turned = jax.lax.optimization_barrier(x.swapaxes(2, 3))
    found = jnp.einsum("bkdq,bkqs->bkds", turned, weights, preferred_element_type=jnp.float32)
    return jax.lax.optimization_barrier(found).swapaxes(2, 3)


_attend.defvjp(_forward, _backward)
