"""Task adapters: low-rank factors trained on completions, with the quantized weights as they are.

LoRA (Hu et al., arXiv 2106.09685) on every linear map, as AFM 2024 (arXiv 2407.21075, section 5.3)
has it: a task's adapter begins as the recovery adapter, so that it need not learn anew what
quantizing lost. The loss is the cross-entropy of the completions' tokens and their ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax

from tokenizer.reader import Batch
from trainer.loss import Targets, loss_sum
from trainer.model import Params, Windows, linear_names
from trainer.recover import Factors, adapter_student, draw, trained_factors
from trainer.shape import Shape
from trainer.stages import Stage
from trainer.student import Arrays, Row, train_student

Array = jax.Array

RATE = 1e-3
"""Peak learning rate. Two classes of short texts, 79 steps, a model of 1M parameters: 0.37 nats a
token of held-out completions; 0.34 at three times the rate, 0.38 at ten times."""


def filled(factors: Factors, shape: Shape, seed: int) -> Factors:
    """Factors for every linear map: where there are none, drawn ones that change nothing yet.

    Raises:
      ValueError: their rank is above that of a map which has none.
    """
    names = linear_names(shape)
    if all(name in factors for name in names):
        return factors
    rank = next(len(a) for a, _ in factors.values())
    drawn = draw(shape, rank, seed)
    return {name: factors.get(name, drawn[name]) for name in names}


def adapt(
    shape: Shape, base: Arrays, factors: Factors, stage: Stage, batches: Iterator[Batch],
    tell: Callable[[Row], None] | None = None,
) -> Factors:  # fmt: skip
    """Train factors for the steps of a stage.

    Args:
      base: the quantized model's parameters, as ``trainer.model`` has them.
      factors: what is begun with, of every linear map.
      batches: see ``trainer.examples.example_batches``.
      tell: is told each step: ``step``, ``loss`` (nats a token of completions) and ``tokens``.

    Raises:
      Diverged: the loss is no number, or runs away.
      ValueError: the data ends before the stage does.
    """
    student = adapter_student(factors, base)
    return trained_factors(train_student(shape, student, stage, batches, _loss, {}, tell))


def _loss(
    hidden: Array, embedding: Array, windows: Windows, targets: Targets, beside: Params
) -> dict[str, Array]:
    objective, loss = loss_sum(hidden, embedding, targets, z_loss=0.0)
    return {"objective": objective, "loss": loss}
