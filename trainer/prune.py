"""Pruning of feed-forward hidden values by learned masks, and their removal.

AFM 2024 (arXiv 2407.21075, section 4.1) prunes only these, by Soft-Top-K masks (Lei et al.,
Conditional Adapters, arXiv 2304.04947, section 3.2) learned with the loss of training. A mask is
the solution of an entropic optimal transport problem: values from 0 to 1 that sum to ``k`` and
tend to the hard choice of the ``k`` greatest scores as ``eps`` goes to 0, with a gradient by every
score that is not settled.

The paper finds it by coordinate descent, which after its twenty or fifty iterations is short of
``k`` by up to a tenth of it on a thousand scores. Here it is solved exactly: at the solution a
value is ``min(1, exp((score + a) / eps))`` with one ``a`` for all, and of the sorted scores the
first ``m`` are at 1, so that ``a`` follows in closed form for each ``m`` and one ``m`` fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trainer.shape import Shape, ShapeError, kept_share_error

Array = jax.Array

EPS = 0.1
MULTIPLE = 64
"""What kept widths are a multiple of, so that products stay fast."""

MASK = "mask"
"""The last part of the name of a layer's scores among the parameters, while they are learned."""


def soft_top_k(scores: Array, k: int, eps: float = EPS) -> Array:
    """A mask (n,) from scores (n,): values from 0 to 1, whose sum is ``k``.

    Raises:
      ValueError: ``k`` is not from 1 to n.
    """
    n = scores.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"a mask that keeps {k} of {n}; it must keep at least one and at most all")
    if k == n:
        return jnp.ones(n, jnp.float32)
    scores = scores.astype(jnp.float32)
    fixed = jax.lax.stop_gradient(scores)
    order = jnp.sort(fixed)[::-1]
    # A shift changes nothing, and where the last to be kept is at 0 rounding is least.
    scaled, sorted_ = (scores - order[k - 1]) / eps, (order - order[k - 1]) / eps
    # Of all but the first m: the logarithm of the sum of exponentials, for m from 0 to k - 1.
    tails = jax.lax.cumlogsumexp(sorted_, reverse=True)[:k]
    offsets = jnp.log(jnp.float32(k) - jnp.arange(k)) - tails
    # The first m whose greatest value that is not settled is at most 1. The last one fits always,
    # but for rounding.
    fits = (sorted_[:k] + offsets <= 0).at[k - 1].set(True)
    # Told by the scores as they came, which no compiler rounds in two ways.
    free = fixed <= order[jnp.argmax(fits)]
    rest = jnp.float32(k) - (~free).sum()
    offset = jnp.log(rest) - jax.nn.logsumexp(scaled, where=free)
    # What is not free must not overflow: its gradient would be 0 times infinity.
    return jnp.where(free, jnp.exp(jnp.where(free, scaled + offset, 0.0)), 1.0)


def kept_widths(shape: Shape, share: float) -> tuple[int, ...]:
    """How many hidden values each layer keeps: a share, to a multiple of 64 where that is less.

    Raises:
      ShapeError: the share is not between 0 and 1, or so near to 1 that nothing is removed.
    """
    if not 0.0 < share < 1.0:
        raise ShapeError(kept_share_error(share))
    found = []
    for layer in shape.layers:
        unit = MULTIPLE if layer.hidden >= 2 * MULTIPLE else 1
        found.append(min(layer.hidden, max(unit, round(layer.hidden * share / unit) * unit)))
    if all(own == layer.hidden for own, layer in zip(found, shape.layers, strict=True)):
        raise ShapeError(
            f"to keep {share:g} of {shape.layers[0].hidden} hidden values removes none, as they go "
            f"in groups of {MULTIPLE}; give less"
        )
    return tuple(found)


def check_shares(shape: Shape, shares: Iterable[float]) -> None:
    """Raises ``ShapeError`` where stages that prune one after the other could not."""
    for share in shares:
        widths = kept_widths(shape, share)
        layers = zip(shape.layers, widths, strict=True)
        shape = replace(shape, layers=tuple(replace(own, hidden=n) for own, n in layers))


def mask_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and dimensions of the scores of each layer."""
    return {f"layers.{n}.{MASK}": (layer.hidden,) for n, layer in enumerate(shape.layers)}


def has_masks(params: Iterable[str]) -> bool:
    """Whether parameters of these names hold scores to learn, as within a stage that prunes."""
    return any(name.endswith(f".{MASK}") for name in params)


def with_scores(params: Mapping[str, NDArray[Any]], shape: Shape) -> dict[str, NDArray[Any]]:
    """The parameters with scores to learn beside them, all 0: every value is kept alike."""
    scores = {name: np.zeros(dims, np.float32) for name, dims in mask_shapes(shape).items()}
    return {**params, **scores}


def masks_of(params: Mapping[str, Array], keep: Sequence[int]) -> dict[str, Array]:
    """The mask of each layer, ``layers.N`` to (hidden,), from scores among the parameters."""
    return {
        f"layers.{number}": soft_top_k(params[f"layers.{number}.{MASK}"], k)
        for number, k in enumerate(keep)
    }


def materialise(
    params: Mapping[str, NDArray[Any]], shape: Shape, keep: Sequence[int]
) -> tuple[dict[str, NDArray[Any]], Shape]:
    """The smaller model: of each layer the ``k`` hidden values of the greatest scores.

    What is left of a mask below 1 goes into the rows of ``down``, so that the model computes what
    it computed with its masks, but for what was removed. Of equal scores the first are kept.
    """
    found = {name: value for name, value in params.items() if not name.endswith(f".{MASK}")}
    layers = []
    for number, (layer, k) in enumerate(zip(shape.layers, keep, strict=True)):
        own = f"layers.{number}"
        scores = np.asarray(params[f"{own}.{MASK}"], np.float32)
        mask = np.asarray(soft_top_k(jnp.asarray(scores), k))
        chosen = np.sort(np.argsort(-scores, kind="stable")[:k])
        for name in ("gate", "up"):
            found[f"{own}.{name}"] = np.ascontiguousarray(params[f"{own}.{name}"][:, chosen])
        found[f"{own}.down"] = params[f"{own}.down"][chosen] * mask[chosen, None]
        layers.append(replace(layer, hidden=k))
    return found, replace(shape, layers=tuple(layers))
