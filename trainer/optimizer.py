"""One optimizer with AFM's and the usual settings: RMSProp with momentum on the update, and AdamW.

AXLearn's ``adastar``, with the settings of its public ``honeycrisp`` recipe for AFM (arXiv
2407.21075, section 3.2.1: RMSProp with momentum, clipped updates, decoupled weight decay, a
simplified muP). In order, for each parameter:

    g = g * min(1, clip / |g|)             |g| over all parameters; at |g| >= skip nothing changes
    m = b1 m + (1 - b1) g                  (AdamW) or m = g (AFM)
    v = b2 v + (1 - b2) (g^2 + tiny)       both debiased, where said
    u = m / (sqrt(v) + eps)
    u = u / max(1, rms(u) / update_clip)   by parameter
    a = b3 a + (1 - b3) u                  (AFM, not debiased) or a = u (AdamW)
    w = w - schedule (rate s a + decay w)

``s`` is muP-simple's factor for linear maps, min(base / width, 1): widths beyond the one that the
rate was found at take smaller steps there (Yang et al., arXiv 2203.03466, section 3, Adam's row of
table 8). AdamW multiplies its decay by the rate, as PyTorch does, and spares norms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from trainer.model import LINEAR

Array = jax.Array
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Optimizer:
    """Settings, in the terms above. ``mup_width`` is muP-simple's base, ``None`` for none."""

    rate: float = 0.01
    decay: float = 3.16e-4
    gradient_decay: float = 0.0
    square_decay: float = 0.95
    update_decay: float = 0.95
    eps: float = 0.0
    tiny: float = 1e-30
    clip: float = 1.0
    skip: float = 100.0
    update_clip: float = 1.0
    mup_width: int | None = 768
    decay_by_rate: bool = False
    decay_norms: bool = True

    def __post_init__(self) -> None:
        for name in ("gradient_decay", "square_decay", "update_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to below 1")
        for name in ("rate", "clip", "skip", "update_clip"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("decay", "eps", "tiny"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.gradient_decay and self.update_decay:
            raise ValueError(
                "momentum on the gradient and on the update; there is one buffer, so set one of "
                "gradient_decay and update_decay to 0"
            )
        if self.mup_width is not None and self.mup_width < 1:
            raise ValueError(f"mup_width is {self.mup_width}; it must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: what is without bound is null there."""
        return {k: None if v == math.inf else v for k, v in asdict(self).items()}


AFM = Optimizer()


def adamw(rate: float = 3e-4, decay: float = 0.1, **changes: Any) -> Optimizer:
    """AdamW (arXiv 1711.05101) with 0.9 and 0.95, clipped at a global norm of 1."""
    settings: dict[str, Any] = {
        "rate": rate, "decay": decay, "gradient_decay": 0.9, "update_decay": 0.0, "eps": 1e-8,
        "tiny": 0.0, "skip": math.inf, "update_clip": math.inf, "mup_width": None,
        "decay_by_rate": True, "decay_norms": False,
    }  # fmt: skip
    return Optimizer(**{**settings, **changes})


def start(params: Mapping[str, Array]) -> dict[str, Any]:
    """The state before the first step: ``momentum`` and ``square`` like the parameters, and how
    many steps were ``applied``."""
    return {
        "momentum": {name: jnp.zeros_like(value) for name, value in params.items()},
        "square": {name: jnp.zeros_like(value) for name, value in params.items()},
        "applied": jnp.zeros((), jnp.int32),
    }


def norm_of(arrays: Mapping[str, Array]) -> Array:
    """The Euclidean norm over all arrays together."""
    return jnp.sqrt(sum((jnp.sum(jnp.square(a)) for a in arrays.values()), jnp.float32(0)))


def update(
    settings: Optimizer,
    width: int,
    params: Arrays,
    gradients: Arrays,
    state: dict[str, Any],
    schedule: Array,
) -> tuple[Arrays, dict[str, Any], dict[str, Array]]:
    """One step. ``schedule`` is the factor of the rate, from 0 to 1.

    Returns parameters, state, and the norm of the gradients with whether the step was ``applied``.
    A step that is skipped (or whose norm is not a number) leaves parameters and state as they are.
    """
    norm = norm_of(gradients)
    applied = norm < settings.skip
    shrink = jnp.minimum(1.0, settings.clip / jnp.maximum(norm, 1e-38))
    count = state["applied"] + 1
    new_params, momentum, square = {}, {}, {}
    for name, weight in params.items():
        found = _one(settings, name, width, weight, gradients[name] * shrink,
                     state["momentum"][name], state["square"][name], count, schedule)  # fmt: skip
        before = (weight, state["momentum"][name], state["square"][name])
        new_params[name], momentum[name], square[name] = (
            jnp.where(applied, new, old) for new, old in zip(found, before, strict=True)
        )
    after = {
        "momentum": momentum,
        "square": square,
        "applied": jnp.where(applied, count, state["applied"]),
    }
    return new_params, after, {"norm": norm, "applied": applied}


def _one(
    settings: Optimizer, name: str, width: int, weight: Array, gradient: Array,
    momentum: Array, square: Array, count: Array, schedule: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    square = settings.square_decay * square + (1 - settings.square_decay) * (
        gradient * gradient + settings.tiny
    )
    scale = jnp.sqrt(square / (1 - settings.square_decay**count)) + settings.eps
    direction = gradient
    if settings.gradient_decay:
        momentum = settings.gradient_decay * momentum + (1 - settings.gradient_decay) * gradient
        direction = momentum / (1 - settings.gradient_decay**count)
    step = direction / scale
    if settings.update_clip < math.inf:
        rms = jnp.sqrt(jnp.mean(step * step))
        step = step / jnp.maximum(1.0, rms / settings.update_clip)
    if settings.update_decay:
        momentum = settings.update_decay * momentum + (1 - settings.update_decay) * step
        step = momentum
    step = settings.rate * mup_factor(settings, name, width) * step
    if settings.decay and (settings.decay_norms or not name.endswith("norm")):
        by = settings.rate if settings.decay_by_rate else 1.0
        step = step + by * settings.decay * weight
    return weight - schedule * step, momentum, square


def mup_factor(settings: Optimizer, name: str, width: int) -> float:
    """What the rate of a parameter is times: below 1 for linear maps of wide models only."""
    linear = name.rpartition(".")[2] in LINEAR
    return min(settings.mup_width / width, 1.0) if settings.mup_width and linear else 1.0


def schedule_at(step: int, steps: int, warmup: int, floor: float) -> float:
    """The factor of the rate at a step counted from 0: linear up over ``warmup``, then a cosine
    down to ``floor`` at the last of ``steps`` (arXiv 1608.03983, section 3)."""
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, steps - 1 - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
