"""Cross-entropy over the vocabulary without ever holding all logits.

Tokens go through the output layer in chunks, and gradients are taken in the same pass: the loss is
a sum over tokens, so its gradient by each logit is known as soon as the logits are. What is held is
the logits of one chunk; a second pass over the vocabulary is not needed.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from trainer.linear import product_over_tokens

Array = jax.Array

CHUNK = 512
"""Tokens at a time: of a vocabulary of 49,152 their logits are 96 MB."""

Z_LOSS = 1e-6
"""AXLearn's ``honeycrisp``."""


class Targets(NamedTuple):
    """What is to be predicted, each (batch, tokens): ids, the teacher's ids, and how much each
    place counts (0 where nothing is to be learned)."""

    ids: Array
    teacher: Array
    weights: Array


def next_tokens(tokens: Array, segments: Array, teacher: Array | None = None) -> Targets:
    """The targets of windows as the readers give them: the token that follows in its segment.

    ``teacher`` (batch, tokens) has at each place the teacher's choice of what follows it.
    """
    following = jnp.concatenate([tokens[:, 1:], jnp.zeros_like(tokens[:, :1])], 1)
    same = jnp.concatenate([segments[:, 1:] == segments[:, :-1], segments[:, :1] < 0], 1)
    weights = (same & (segments > 0)).astype(jnp.float32)
    return Targets(following, following if teacher is None else teacher, weights)


def loss_sum(
    hidden: Array,
    embedding: Array,
    targets: Targets,
    share: float = 0.0,
    *,
    z_loss: float = Z_LOSS,
    chunk: int = CHUNK,
) -> tuple[Array, Array]:
    """The sum of the training loss, and of the plain cross-entropy, in nats.

    The training loss is cross-entropy with ``share`` of the target on the teacher's label and the
    rest on the data's (AFM 2024, arXiv 2407.21075, section 4.1), and ``z_loss`` times the square of
    the logarithm of the partition function (PaLM, arXiv 2204.02311, section 5). Only the first
    result has a gradient.

    Args:
      hidden: (batch, tokens, width), behind the last norm.
      embedding: (vocabulary, width).
    """
    cut = Targets(*(to_chunks(array, chunk) for array in targets))
    return _loss(to_chunks(hidden, chunk), embedding, cut, share, z_loss)


def to_chunks(array: Array, chunk: int = CHUNK) -> Array:
    """(batch, tokens, ...) as (chunks, batch, tokens of a chunk, ...), padded with zeros.

    Every chunk has every row, so that a mesh that shards the batch shards each chunk.
    """
    batch, tokens = array.shape[:2]
    own = max(1, min(chunk // batch, tokens))
    rest = -tokens % own
    if rest:
        array = jnp.pad(array, ((0, 0), (0, rest)) + ((0, 0),) * (array.ndim - 2))
    return array.reshape(batch, -1, own, *array.shape[2:]).swapaxes(0, 1)


def from_chunks(array: Array, tokens: int) -> Array:
    """The inverse of ``to_chunks``, without its padding."""
    found = array.swapaxes(0, 1)
    return found.reshape(found.shape[0], -1, *found.shape[3:])[:, :tokens]


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _loss(
    hidden: Array, embedding: Array, targets: Targets, share: float, z_loss: float
) -> tuple[Array, Array]:
    def one(
        sums: tuple[Array, Array], at: tuple[Array, Targets]
    ) -> tuple[tuple[Array, Array], None]:
        found = _sums(logits_of(at[0], embedding), at[1], share, z_loss)
        return (sums[0] + found[0], sums[1] + found[1]), None

    return jax.lax.scan(one, (jnp.float32(0), jnp.float32(0)), (hidden, targets))[0]


def logits_of(hidden: Array, embedding: Array) -> Array:
    """(batch, tokens, width) to (batch, tokens, vocabulary), in f32."""
    return jnp.einsum("btd,vd->btv", hidden, embedding, preferred_element_type=jnp.float32)


def _sums(logits: Array, targets: Targets, share: float, z_loss: float) -> tuple[Array, Array]:
    logsum = jax.nn.logsumexp(logits, -1)
    right = _at(logits, targets.ids)
    wanted = right if share == 0.0 else (1 - share) * right + share * _at(logits, targets.teacher)
    trained = logsum - wanted + z_loss * logsum**2
    return (targets.weights * trained).sum(), (targets.weights * (logsum - right)).sum()


def _at(logits: Array, ids: Array) -> Array:
    return jnp.take_along_axis(logits, ids[..., None], -1)[..., 0]


def _forward(
    hidden: Array, embedding: Array, targets: Targets, share: float, z_loss: float
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    Carry = tuple[Array, Array, Array]

    def one(carry: Carry, at: tuple[Array, Targets]) -> tuple[Carry, Array]:
        h, own = at
        logits = logits_of(h, embedding)
        trained, plain = _sums(logits, own, share, z_loss)
        dlogits = _gradient(logits, own, share, z_loss).astype(h.dtype)
        dembedding = carry[2] + product_over_tokens(h, dlogits)
        return (carry[0] + trained, carry[1] + plain, dembedding), dlogits @ embedding

    # The sum is kept as the products come, (width, vocabulary), and transposed once.
    start = (jnp.float32(0), jnp.float32(0), jnp.zeros(embedding.T.shape, jnp.float32))
    (trained, plain, dembedding), dhidden = jax.lax.scan(one, start, (hidden, targets))
    return (trained, plain), (dhidden, dembedding.T.astype(embedding.dtype))


def _gradient(logits: Array, targets: Targets, share: float, z_loss: float) -> Array:
    """Of the training loss by the logits, in closed form."""
    logsum = jax.nn.logsumexp(logits, -1, keepdims=True)
    found = jnp.exp(logits - logsum) * (1 + 2 * z_loss * logsum)
    places = jnp.arange(logits.shape[-1])
    found = found - (1 - share) * (places == targets.ids[..., None])
    if share:
        found = found - share * (places == targets.teacher[..., None])
    return found * targets.weights[..., None]


def _backward(
    share: float, z_loss: float, saved: tuple[Array, Array], g: tuple[Array, Array]
) -> tuple[Array, Array, None]:
    dhidden, dembedding = saved
    return dhidden * g[0].astype(dhidden.dtype), dembedding * g[0].astype(dembedding.dtype), None


_loss.defvjp(_forward, _backward)
