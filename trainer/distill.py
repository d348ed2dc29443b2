"""Training a part of a model to what the whole float model says.

The loss is ``share`` of the divergence of the student's distribution from the teacher's (Hinton et
al., arXiv 1503.02531, at temperature 1) and the rest cross-entropy with the data. Both share their
vocabulary; neither's embedding is trained, so that a gradient goes to the hidden values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tokenizer.reader import Batch
from trainer import optimizer as optimizers
from trainer.loss import logits_of, next_tokens, to_chunks
from trainer.model import Apply, Params, Windows, hidden_states, plain
from trainer.optimizer import schedule_at
from trainer.shape import Shape
from trainer.stages import Stage
from trainer.step import parts_of, to_parts
from trainer.watch import Diverged, Watch

Array = jax.Array
Arrays = Mapping[str, NDArray[Any]]
Row = dict[str, Any]


class Teacher(NamedTuple):
    """What the float model makes of some windows: its hidden values (batch, tokens, width), and its
    embedding."""

    hidden: Array
    embedding: Array


class Sums(NamedTuple):
    """Over all predicted tokens, in nats: the loss, the divergence from the teacher, the plain
    cross-entropy, and the teacher's own."""

    objective: Array
    divergence: Array
    loss: Array
    teacher_loss: Array


def distilled(
    hidden: Array, embedding: Array, teacher: Teacher, ids: Array, weights: Array, share: float
) -> Sums:
    """The sums of the loss over a batch. Only ``objective`` has a gradient, by ``hidden``.

    Args:
      hidden: the student's, (batch, tokens, width), behind the last norm.
      embedding: the student's, (vocabulary, width).
      ids, weights: what follows each place, and how much it counts, (batch, tokens).
    """
    cut = [to_chunks(a) for a in (hidden, teacher.hidden, ids, weights)]
    return _distilled(cut[0], (embedding, teacher.embedding), cut[1], cut[2], cut[3], share)


Chunk = tuple[Array, Array, Array, Array]
Pair = tuple[Array, Array]


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _distilled(
    hidden: Array, embeddings: Pair, taught: Array, ids: Array, weights: Array, share: float
) -> Sums:
    def one(sums: Sums, at: Chunk) -> tuple[Sums, None]:
        return _chunk(sums, at, embeddings, share)[0], None

    return jax.lax.scan(one, _nothing(), (hidden, taught, ids, weights))[0]


def _nothing() -> Sums:
    return Sums(*(jnp.float32(0) for _ in Sums._fields))


def _chunk(sums: Sums, at: Chunk, embeddings: Pair, share: float) -> tuple[Sums, Pair]:
    """The sums with those of a chunk, and the logarithms of both models' chances."""
    hidden, taught, ids, weights = at
    own = jax.nn.log_softmax(logits_of(hidden, embeddings[0]))
    wanted = jax.nn.log_softmax(logits_of(taught, embeddings[1]))
    divergence = (jnp.exp(wanted) * (wanted - own)).sum(-1)
    loss, theirs = (-jnp.take_along_axis(a, ids[..., None], -1)[..., 0] for a in (own, wanted))
    found = Sums(share * divergence + (1 - share) * loss, divergence, loss, theirs)
    return Sums(*(a + (weights * b).sum() for a, b in zip(sums, found, strict=True))), (own, wanted)


def _forward(
    hidden: Array, embeddings: Pair, taught: Array, ids: Array, weights: Array, share: float
) -> tuple[Sums, Array]:
    """A chunk of tokens at a time, gradients in the same pass, as ``trainer.loss`` does."""

    def one(sums: Sums, at: Chunk) -> tuple[Sums, Array]:
        sums, (own, wanted) = _chunk(sums, at, embeddings, share)
        hit = jnp.arange(own.shape[-1]) == at[2][..., None]
        gradient = jnp.exp(own) - share * jnp.exp(wanted) - (1 - share) * hit
        gradient = (gradient * at[3][..., None]).astype(at[0].dtype)
        return sums, gradient @ embeddings[0]

    return jax.lax.scan(one, _nothing(), (hidden, taught, ids, weights))


def _backward(share: float, saved: Array, g: Sums) -> tuple[Array, None, None, None, None]:
    return saved * g.objective.astype(saved.dtype), None, None, None, None


_distilled.defvjp(_forward, _backward)


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


def distill(
    shape: Shape,
    teacher: Arrays,
    student: Student,
    stage: Stage,
    batches: Iterator[Batch],
    tell: Callable[[Row], None] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Train a student for the steps of a stage; gives what was trained.

    Args:
      teacher: the float model's parameters.
      stage: tokens, batch, schedule, optimizer, and ``teacher_share``, the divergence's share.
      tell: is told each step: ``step``, ``objective``, ``divergence``, ``loss`` (nats a token) and
        ``tokens``.

    Raises:
      Diverged: the loss is no number, or runs away.
      ValueError: the data ends before the stage does.
    """
    step = make_step(shape, student, stage)
    constant = tuple(
        {name: jnp.asarray(value) for name, value in arrays.items()}
        for arrays in (student.frozen, student.fixed, teacher)
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


def make_step(shape: Shape, student: Student, stage: Stage) -> Callable[..., Any]:
    """One compiled step: trained arrays, optimizer state, the frozen and fixed arrays, the
    teacher, a batch (parts, rows, tokens) and the schedule's factor to trained arrays, state, and
    what to tell."""

    def part(
        live: Params, frozen: Params, teacher: Params, windows: Windows, count: Array
    ) -> tuple[Array, Sums]:
        params = {**frozen, **live}
        hidden = hidden_states(params, shape, windows, apply=student.apply)
        taught = Teacher(hidden_states(teacher, shape, windows), teacher["embedding"])
        targets = next_tokens(windows.tokens, windows.segments)
        sums = distilled(
            hidden, params["embedding"], taught, targets.ids, targets.weights / count,
            stage.teacher_share,
        )  # fmt: skip
        return sums.objective, sums

    gradient = jax.grad(part, has_aux=True)

    def step(
        trained: Params, state: Any, frozen: Params, fixed: Params, teacher: Params,
        batch: Mapping[str, Array], schedule: Array,
    ) -> tuple[Params, Any, dict[str, Array]]:  # fmt: skip
        windows = Windows(batch["tokens"], batch["segments"], batch["positions"])
        weights = jax.vmap(next_tokens)(windows.tokens, windows.segments).weights
        count = jnp.maximum(weights.sum(), 1.0)
        live, pull = jax.vjp(lambda own: student.live(own, fixed), trained)

        def one(carry: Any, own: Windows) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, carry, gradient(live, frozen, teacher, own, count)), None

        zeros = (jax.tree.map(jnp.zeros_like, live), _nothing())
        (found, sums), _ = jax.lax.scan(one, zeros, windows)
        trained, state, told = optimizers.update(
            stage.optimizer, shape.width, trained, pull(found)[0], state, schedule
        )
        return trained, state, {**told, **sums._asdict(), "tokens": count}

    return jax.jit(step, donate_argnums=(0, 1))
