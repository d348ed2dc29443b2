"""Training a part of a model, the rest of which stays as it is.

What is trained need not be parameters of the model: tables of which weights are made, or factors
beside weights. The embedding never is, so that a gradient goes to the hidden values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tokenizer.reader import Batch
from trainer import optimizer as optimizers
from trainer.loss import Targets, next_tokens
from trainer.model import Apply, Params, Windows, hidden_states, plain
from trainer.optimizer import schedule_at
from trainer.shape import Shape
from trainer.stages import Stage
from trainer.step import parts_of, to_parts
from trainer.watch import Diverged, Watch

Array = jax.Array
Arrays = Mapping[str, NDArray[Any]]
Row = dict[str, Any]

LEARNED = "learned"
"""Of a batch, (rows, tokens): 1 for the tokens that are to be learned, 0 for those that are only
read. Without, all are learned but the first of each segment, which nothing stands before."""

Loss = Callable[[Array, Array, Windows, Targets, Params], Mapping[str, Array]]
"""From hidden values (rows, tokens, width), the embedding, windows, what follows each place with
its weight, and what the loss needs besides, to sums over a part of a batch. ``objective`` is what
is trained on; the others are told. Weights of a whole batch add up to 1."""


@dataclass(frozen=True)
class Student:
    """What of a model is trained, and how the model follows from it.

    Args:
      trained: the arrays that are trained, as they are before the first step.
      frozen: parameters of the model that are not.
      fixed: other arrays that ``live`` needs.
      live: from the trained and the fixed arrays the parameters that depend on them; computed once
        a step. Together with ``frozen`` they are what ``apply`` is given.
    """

    trained: Arrays
    frozen: Arrays
    fixed: Arrays
    live: Callable[[Params, Params], Params]
    apply: Apply = plain


def train_student(
    shape: Shape,
    student: Student,
    stage: Stage,
    batches: Iterator[Batch],
    loss: Loss,
    beside: Arrays,
    tell: Callable[[Row], None] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Train a student for the steps of a stage; gives what was trained.

    Args:
      stage: tokens, batch, schedule, optimizer.
      batches: as ``tokenizer.reader`` gives them, with ``LEARNED`` if not all is learned.
      beside: arrays for the loss.
      tell: is told each step: ``step``, what the loss gave, and ``tokens``, those learned.

    Raises:
      Diverged: the objective is no number, or runs away.
      ValueError: the data ends before the stage does.
    """
    step = make_step(shape, student, stage, loss)
    constant = tuple(
        {name: jnp.asarray(value) for name, value in arrays.items()}
        for arrays in (student.frozen, student.fixed, beside)
    )
    trained = {name: jnp.asarray(value, jnp.float32) for name, value in student.trained.items()}
    state = optimizers.start(trained)
    watch = Watch()
    parts = parts_of(stage.batch, stage.length, None)
    for number in range(stage.steps):
        batch = next(batches, None)
        if batch is None or len(batch["tokens"]) < stage.batch:
            raise ValueError(
                f"the data of {stage.name} ended after {number} of {stage.steps} steps"
            )
        factor = schedule_at(number, stage.steps, stage.warmup_steps, stage.floor)
        shaped = {name: jnp.asarray(value) for name, value in to_parts(batch, parts).items()}
        trained, state, told = step(trained, state, *constant, shaped, jnp.float32(factor))
        row = {"step": number + 1, **{name: value.item() for name, value in told.items()}}
        wrong = watch.look(number + 1, row["objective"], row["norm"], row["applied"])
        if wrong is not None:
            raise Diverged(wrong)
        if tell is not None:
            tell(row)
    return {name: np.asarray(value) for name, value in trained.items()}


def make_step(shape: Shape, student: Student, stage: Stage, loss: Loss) -> Callable[..., Any]:
    """One compiled step: trained arrays, optimizer state, the frozen and fixed arrays, those of the
    loss, a batch (parts, rows, tokens) and the schedule's factor to trained arrays, state, and what
    to tell."""

    def part(
        live: Params, frozen: Params, beside: Params, windows: Windows, targets: Targets
    ) -> tuple[Array, Mapping[str, Array]]:
        params = {**frozen, **live}
        hidden = hidden_states(params, shape, windows, apply=student.apply)
        sums = loss(hidden, params["embedding"], windows, targets, beside)
        return sums["objective"], sums

    gradient = jax.grad(part, has_aux=True)

    def step(
        trained: Params, state: Any, frozen: Params, fixed: Params, beside: Params,
        batch: Mapping[str, Array], schedule: Array,
    ) -> tuple[Params, Any, dict[str, Array]]:  # fmt: skip
        windows = Windows(batch["tokens"], batch["segments"], batch["positions"])
        targets, count = _targets(batch)
        live, pull = jax.vjp(lambda own: student.live(own, fixed), trained)

        def one(summed: Params, own: tuple[Windows, Targets]) -> tuple[Params, Any]:
            found, sums = gradient(live, frozen, beside, *own)
            return jax.tree.map(jnp.add, summed, found), sums

        found, sums = jax.lax.scan(one, jax.tree.map(jnp.zeros_like, live), (windows, targets))
        trained, state, told = optimizers.update(
            stage.optimizer, shape.width, trained, pull(found)[0], state, schedule
        )
        whole = {name: value.sum() for name, value in sums.items()}
        return trained, state, {**told, **whole, "tokens": count}

    return jax.jit(step, donate_argnums=(0, 1))


def _targets(batch: Mapping[str, Array]) -> tuple[Targets, Array]:
    """What follows each place, with weights whose sum is 1, and how many tokens are learned."""
    targets = jax.vmap(next_tokens)(batch["tokens"], batch["segments"])
    weights = targets.weights
    if LEARNED in batch:
        # The token behind the last place of a window is none, and has no weight already.
        weights = weights * jnp.roll(batch[LEARNED], -1, axis=-1)
    count = weights.sum()
    return targets._replace(weights=weights / jnp.maximum(count, 1.0)), count
