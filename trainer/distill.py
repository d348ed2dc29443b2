"""Training a part of a model to what the whole float model says.

The loss is ``share`` of the divergence of the student's distribution from the teacher's (Hinton et
al., arXiv 1503.02531, at temperature 1) and the rest cross-entropy with the data. Both share their
vocabulary; neither's embedding is trained, so that a gradient goes to the hidden values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tokenizer.reader import Batch
from trainer.loss import Targets, logits_of, to_chunks
from trainer.model import Params, Windows, hidden_states
from trainer.shape import Shape
from trainer.stages import Stage
from trainer.student import Arrays, Row, Student, train_student

Array = jax.Array


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
      stage: as ``train_student`` takes it, and ``teacher_share``, the divergence's share.
      tell: is told each step, as by ``train_student``, with ``Sums`` a token.

    Raises:
      Diverged, ValueError: as ``train_student``.
    """

    def loss(
        hidden: Array, embedding: Array, windows: Windows, targets: Targets, theirs: Params
    ) -> dict[str, Array]:
        taught = Teacher(hidden_states(theirs, shape, windows), theirs["embedding"])
        return distilled(
            hidden, embedding, taught, targets.ids, targets.weights, stage.teacher_share
        )._asdict()

    return train_student(shape, student, stage, batches, loss, teacher, tell)
