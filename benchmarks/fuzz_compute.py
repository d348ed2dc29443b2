"""All that a model can be asked for, with any number of threads: it is the same or an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runtime.adapters import LoadedAdapter
from runtime.file import CiderFileError
from runtime.model import Model
from tokenizer.overlap import Scored

THREADS = (1, 2)
RAN, OVERFLOWED = "ran", "overflowed"


def same(models: Sequence[Model], adapter: LoadedAdapter | None = None) -> str:
    """What comes of models that differ in their threads alone: ``RAN`` or ``OVERFLOWED``.

    Raises:
      ArithmeticError: numbers that are not finite, or differ between the models.
    """
    found = [[_told(ask) for ask in _asked(model, adapter)] for model in models]
    if any(other != found[0] for other in found[1:]):
        raise ArithmeticError("numbers that depend on the threads")
    return OVERFLOWED if OVERFLOWED in found[0] else RAN


def _asked(model: Model, adapter: LoadedAdapter | None) -> list[Callable[[], Any]]:
    ids = [number % model.shape.vocabulary for number in (70, 1999, 3, 512)]
    model.use(adapter)
    return [
        lambda: model.logits(ids),
        lambda: model.score_ids([ids], window=4),
        lambda: model.embeddings(["The tide"]),
        lambda: model.complete(["The tide", "is"], tokens=4, stop=["e", "high"]),
        lambda: model.complete(["The tide"] * 2, tokens=2, adapters=[adapter, None]),
    ]


def _told(ask: Callable[[], Any]) -> Any:
    """Numbers as bytes, texts as they are, or ``OVERFLOWED``."""
    try:
        numbers = ask()
    except CiderFileError:
        return OVERFLOWED
    arrays = [own.nats if isinstance(own, Scored) else own for own in numbers]
    if any(isinstance(own, np.ndarray) and not np.isfinite(own).all() for own in arrays):
        raise ArithmeticError("numbers that are not finite")
    return [own.tobytes() if isinstance(own, np.ndarray) else own for own in arrays]
