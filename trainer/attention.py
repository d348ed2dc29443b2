"""Causal attention inside documents, a block of queries at a time.

A block of queries meets the keys up to its own end only, so that the masked half of the scores is
never computed, and never held: the forward pass keeps one number a query (the logarithm of the sum
of its exponentials) and the backward pass computes the weights anew (Dao et al., FlashAttention,
arXiv 2205.14135, section 3.1). Costs a fifth more products than keeping the weights.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

BLOCK = 128
MASKED = -1e30


def attend(q: Array, k: Array, v: Array, segments: Array, block: int = BLOCK) -> Array:
    """Attention of each query to the keys of its own segment up to its own place.

    Args:
      q: (batch, heads, tokens, head); head ``h`` uses the keys of head ``h * kv_heads // heads``.
      k, v: (batch, kv_heads, tokens, head).
      segments: (batch, tokens), whole numbers.
      block: queries at a time.

    Returns:
      (batch, heads, tokens, head), in the type of ``q``.
    """
    batch, heads, tokens, head = q.shape
    kv_heads = k.shape[1]
    grouped = q.reshape(batch, kv_heads, heads // kv_heads, tokens, head)
    found = _attend(grouped, k, v, segments, min(block, tokens))
    return found.reshape(batch, heads, tokens, head)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: Array, k: Array, v: Array, segments: Array, block: int) -> Array:
    return _forward(q, k, v, segments, block)[0]


def _blocks(tokens: int, block: int) -> list[tuple[int, int]]:
    return [(start, min(start + block, tokens)) for start in range(0, tokens, block)]


def _scores(q: Array, k: Array, segments: Array, start: int, end: int) -> Array:
    """Masked scores of one block in f32: (batch, kv_heads, group, queries, keys)."""
    scores = jnp.einsum(
        "bkgqd,bksd->bkgqs",
        q[:, :, :, start:end],
        k[:, :, :end],
        preferred_element_type=jnp.float32,
    )
    scale = 1.0 / float(np.sqrt(q.shape[-1]))
    allowed = _allowed(segments, start, end)[:, None, None]
    return jnp.where(allowed, scores * scale, MASKED)


def _allowed(segments: Array, start: int, end: int) -> Array:
    """Which keys each query of a block meets: (batch, queries, keys)."""
    causal = jnp.asarray(np.arange(start, end)[:, None] >= np.arange(end))
    return causal & (segments[:, start:end, None] == segments[:, None, :end])


def _forward(
    q: Array, k: Array, v: Array, segments: Array, block: int
) -> tuple[Array, tuple[Array, ...]]:
    outs, sums = [], []
    for start, end in _blocks(q.shape[3], block):
        scores = _scores(q, k, segments, start, end)
        top = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(-1, keepdims=True)
        out = jnp.einsum("bkgqs,bksd->bkgqd", weights.astype(v.dtype), v[:, :, :end],
                         preferred_element_type=jnp.float32)  # fmt: skip
        outs.append((out / total).astype(q.dtype))
        sums.append(top + jnp.log(total))
    out, logsum = jnp.concatenate(outs, 3), jnp.concatenate(sums, 3)
    return out, (q, k, v, segments, out, logsum)


def _backward(block: int, saved: tuple[Array, ...], g: Array) -> tuple[Array, Array, Array, None]:
    """Gradients, a block of queries at a time.

    XLA's CPU backend is slow where a product contracts over the first dimension of both factors, as
    the gradients of keys and values do over queries. The narrow factor is transposed beforehand,
    and the result, as narrow, afterwards.
    """
    q, k, v, segments, out, logsum = saved
    delta = (out.astype(jnp.float32) * g.astype(jnp.float32)).sum(-1, keepdims=True)
    batch, kv_heads, group, _, head = q.shape
    scale = 1.0 / float(np.sqrt(head))
    dk = jnp.zeros(k.shape, jnp.float32)
    dv = jnp.zeros(v.shape, jnp.float32)
    dqs = []
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    for start, end in _blocks(q.shape[3], block):
        keys, values = k[:, :, :end], v[:, :, :end]
        own, g_own, sums, deltas = (
            a[:, :, :, start:end].reshape(batch, kv_heads, group * (end - start), -1)
            for a in (q, g, logsum, delta)
        )
        allowed = jnp.tile(_allowed(segments, start, end)[:, None], (1, 1, group, 1))
        scores = product("bkqd,bksd->bkqs", own, keys) * scale
        weights = jnp.where(allowed, jnp.exp(scores - sums), 0.0)
        dweights = product("bkqd,bksd->bkqs", g_own, values)
        dscores = (weights * (dweights - deltas) * scale).astype(q.dtype)
        dv = dv.at[:, :, :end].add(_over_queries(weights.astype(g.dtype), g_own))
        dk = dk.at[:, :, :end].add(_over_queries(dscores, own))
        dq = product("bkqs,bksd->bkqd", dscores, keys)
        dqs.append(dq.reshape(batch, kv_heads, group, end - start, head))
    dq = jnp.concatenate(dqs, 3)
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


def _over_queries(weights: Array, x: Array) -> Array:
    """(..., queries, keys) and (..., queries, head) to (..., keys, head), in f32."""
    # Without the barriers the compiler turns the product around again.
    turned = jax.lax.optimization_barrier(x.swapaxes(2, 3))
    found = jnp.einsum("bkdq,bkqs->bkds", turned, weights, preferred_element_type=jnp.float32)
    return jax.lax.optimization_barrier(found).swapaxes(2, 3)


_attend.defvjp(_forward, _backward)
