"""One step of training as one compiled function: gradients in parts, then the optimizer.

A batch goes through the model a few rows at a time and gradients are summed: what is held of
activations is that of a part, so that memory does not grow with the batch, and on a CPU a part's
products stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trainer import optimizer as optimizers
from trainer.loss import Targets, loss_sum, next_tokens
from trainer.model import Params, Windows, hidden_states
from trainer.optimizer import Optimizer
from trainer.prune import masks_of
from trainer.shape import Shape
from trainer.sharding import ROWS, Layout, MeshError

Array = jax.Array
State = dict[str, Any]
COMPUTE = {"f32": jnp.float32, "bf16": jnp.bfloat16}
PART_TOKENS = 1024
"""Tokens that go through the model at a time, on one device."""


@dataclass(frozen=True)
class StepSettings:
    """What one step is made of.

    ``teacher_share`` above 0 needs ``teacher`` in the batches; ``keep`` tells how many hidden
    values of each layer a learned mask keeps.
    """

    shape: Shape
    optimizer: Optimizer
    compute: str = "f32"
    teacher_share: float = 0.0
    keep: tuple[int, ...] | None = None
    layout: Layout | None = field(default=None, compare=False)


def parts_of(rows: int, length: int, layout: Layout | None) -> int:
    """In how many parts a batch of ``rows`` windows goes through the model.

    Raises:
      MeshError: the rows, or the tokens of a window, cannot be shared by the devices.
    """
    pieces = 1 if layout is None else layout.size(("sequence",))
    if length % pieces:
        raise MeshError(
            f"windows of {length} tokens on {pieces} devices for sequence; give a mesh whose "
            "last size divides them"
        )
    devices = 1 if layout is None else layout.size(ROWS)
    if rows % devices:
        raise MeshError(
            f"batches of {rows} windows on {devices} devices for rows; give a multiple of {devices}"
        )
    own = rows // devices
    wanted = max(1, min(own, PART_TOKENS // length))
    while own % wanted:
        wanted -= 1
    return own // wanted


def make_step(
    settings: StepSettings,
) -> Callable[[Params, State, Mapping[str, Array], Array], tuple[Params, State, dict[str, Array]]]:
    """The compiled step: parameters, optimizer state, batch and schedule's factor to parameters,
    state and what to tell: ``loss`` (plain cross-entropy, nats a token), ``objective`` (what was
    trained on), ``tokens`` predicted, ``norm`` of the gradients and whether it was ``applied``.

    Batches are (parts, rows, tokens), see ``to_parts``. Parameters and state are given up.
    """

    def step(
        params: Params, state: State, batch: Mapping[str, Array], schedule: Array
    ) -> tuple[Params, State, dict[str, Array]]:
        (objective, loss, count), gradients = _gradients(settings, params, batch)
        params, state, told = optimizers.update(
            settings.optimizer, settings.shape.width, params, gradients, state, schedule
        )
        return params, state, {**told, "loss": loss, "objective": objective, "tokens": count}

    return jax.jit(step, donate_argnums=(0, 1))


def _gradients(
    settings: StepSettings, params: Params, batch: Mapping[str, Array]
) -> tuple[tuple[Array, Array, Array], Params]:
    """Means over the predicted tokens of the whole batch, and their gradients in f32."""
    layout = settings.layout
    dtype = COMPUTE[settings.compute]

    def part_loss(params: Params, windows: Windows, targets: Targets, count: Array) -> Any:
        masks = None
        if settings.keep is not None:
            masks = masks_of(params, settings.keep)
        used = {name: value.astype(dtype) for name, value in params.items()}
        hidden = hidden_states(used, settings.shape, windows, masks, layout)
        hidden = hidden if layout is None else layout.gathered(hidden)
        trained, plain = loss_sum(hidden, used["embedding"], targets, settings.teacher_share)
        return trained / count, plain / count

    windows = Windows(batch["tokens"], batch["segments"], batch["positions"])
    targets = jax.vmap(next_tokens)(windows.tokens, windows.segments, batch.get("teacher"))
    count = jnp.maximum(targets.weights.sum(), 1.0)
    gradient = jax.value_and_grad(part_loss, has_aux=True)

    def one(carry: Any, part: tuple[Windows, Targets]) -> tuple[Any, None]:
        (objective, loss), found = gradient(params, *part, count)
        summed = jax.tree.map(jnp.add, carry[1], found)
        return ((carry[0][0] + objective, carry[0][1] + loss), summed), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    if windows.tokens.shape[0] == 1:
        first = jax.tree.map(lambda a: a[0], (windows, targets))
        (objective, loss), found = gradient(params, *first, count)
    else:
        begin = ((jnp.float32(0), jnp.float32(0)), zeros)
        ((objective, loss), found), _ = jax.lax.scan(one, begin, (windows, targets))
    return (objective, loss, count), found


def to_parts(batch: Mapping[str, NDArray[Any]], parts: int) -> dict[str, NDArray[Any]]:
    """A reader's batch (rows, tokens) as (parts, rows of a part, tokens)."""
    return {
        name: np.ascontiguousarray(value.reshape(parts, -1, value.shape[-1]))
        for name, value in batch.items()
    }
