"""What a model loses where one of its matrices is quantized, and how much each weight counts.

All is measured on some windows of text, with the float model beside. What is lost is the divergence
of the model's distribution from the float one's: of tokens that the float model would draw it is
exactly the rise of the cross-entropy, and it has far less chance in it than the rise on the text
itself, which can be of either sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tokenizer.reader import Batch
from trainer.distill import Sums, Teacher, distilled
from trainer.loss import Targets, loss_sum, next_tokens
from trainer.model import Array, Params, Windows, hidden_states, linear_names, plain
from trainer.shape import Shape
from trainer.student import Arrays

PART_TOKENS = 2048


@dataclass(frozen=True)
class Lost:
    """Nats a token: divergence from the float model, and the rise of the cross-entropy."""

    divergence: float
    loss: float


class Calibration:
    """Windows of text, and what the float model makes of them."""

    def __init__(self, params: Arrays, shape: Shape, batch: Batch) -> None:
        """``batch`` has all windows, as ``tokenizer.reader`` gives them.

        Raises:
          ValueError: there is no token to predict.
        """
        self.shape = shape
        self._params = {name: jnp.asarray(value) for name, value in params.items()}
        self._parts = list(_parts(batch))
        count = sum(float(_targets(part).weights.sum()) for part in self._parts)
        if not count:
            raise ValueError("the calibration windows have no token to predict")
        self._count = count
        self.tokens = sum(part.tokens.size for part in self._parts)
        run = jax.jit(partial(hidden_states, shape=shape))
        self._taught = [np.asarray(run(self._params, windows=part)) for part in self._parts]
        self._compare = jax.jit(partial(_compare, shape=shape))

    def lost(self, changed: Mapping[str, NDArray[np.generic]]) -> Lost:
        """What the model loses where some of its parameters are others."""
        params = {**self._params, **{name: jnp.asarray(value) for name, value in changed.items()}}
        divergence = rise = 0.0
        for part, taught in zip(self._parts, self._taught, strict=True):
            teacher = Teacher(jnp.asarray(taught), self._params["embedding"])
            sums = self._compare(params, teacher, part)
            divergence += float(sums.divergence)
            rise += float(sums.loss) - float(sums.teacher_loss)
        return Lost(divergence / self._count, rise / self._count)

    def energy(self) -> dict[str, NDArray[Any]]:
        """The mean square of each input of each linear map, (in,): how much an error in a weight
        of that input shifts the output."""
        run = jax.jit(partial(_energy, shape=self.shape))
        total: dict[str, NDArray[Any]] = {}
        tokens = 0.0
        for part in self._parts:
            found, count = run(self._params, part)
            tokens += float(count)
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + np.asarray(value, np.float64)
        return {name: value / tokens for name, value in total.items()}

    def fisher(self, seen: Callable[[int], None] | None = None) -> dict[str, NDArray[Any]]:
        """The mean squared gradient of a window's loss by each weight, (out, in): the diagonal of
        Fisher's information, as SqueezeLLM (arXiv 2306.07629, section 4.1) takes it."""
        run = jax.jit(partial(_squared, shape=self.shape))
        total: dict[str, Array] = {}
        windows = 0
        for part in self._parts:
            for row in range(part.tokens.shape[0]):
                one = Windows(*(a[row : row + 1] for a in part))
                for name, value in run(self._params, one).items():
                    total[name] = total[name] + value if name in total else value
                windows += 1
                if seen is not None:
                    seen(one.tokens.size)
        return {name: np.asarray(value).T / windows for name, value in total.items()}


def sensitivity(
    calibration: Calibration,
    matrices: Mapping[str, Sequence[int]],
    quantized: Callable[[str, int], NDArray[np.float32]],
    seen: Callable[[int], None] | None = None,
) -> dict[str, dict[int, Lost]]:
    """What is lost by each matrix alone, at each of its widths.

    Args:
      matrices: the widths by the name of a weight.
      quantized: from name and width the weights (in, out) as they would be.
      seen: is told 1 after each measurement.
    """
    found: dict[str, dict[int, Lost]] = {}
    for name, widths in matrices.items():
        for width in widths:
            lost = calibration.lost({name: quantized(name, width)})
            found.setdefault(name, {})[width] = lost
            if seen is not None:
                seen(1)
    return found


def _parts(batch: Batch) -> list[Windows]:
    """All windows in parts of equal rows; the last is filled with empty ones."""
    count, length = batch["tokens"].shape
    rows = max(1, min(count, PART_TOKENS // length))
    arrays = [
        np.pad(batch[name], ((0, -count % rows), (0, 0)))
        for name in ("tokens", "segments", "positions")
    ]
    return [
        Windows(*(jnp.asarray(a[start : start + rows]) for a in arrays))
        for start in range(0, count, rows)
    ]


def _targets(windows: Windows) -> Targets:
    return next_tokens(windows.tokens, windows.segments)


def _compare(params: Params, teacher: Teacher, windows: Windows, shape: Shape) -> Sums:
    targets = _targets(windows)
    hidden = hidden_states(params, shape, windows)
    return distilled(hidden, params["embedding"], teacher, targets.ids, targets.weights, 1.0)


def _energy(params: Params, windows: Windows, shape: Shape) -> tuple[Params, Array]:
    counted = (windows.segments > 0).astype(jnp.float32)
    found: Params = {}

    def noted(params: Params, name: str, x: Array) -> Array:
        found[name] = jnp.einsum("btd,bt->d", x * x, counted)
        return plain(params, name, x)

    hidden_states(params, shape, windows, apply=noted)
    return found, counted.sum()


def _squared(params: Params, windows: Windows, shape: Shape) -> Params:
    names = linear_names(shape)

    def loss(own: Params) -> Array:
        used = {**params, **own}
        hidden = hidden_states(used, shape, windows)
        return loss_sum(hidden, used["embedding"], _targets(windows), z_loss=0.0)[0]

    gradients = jax.grad(loss)({name: params[name] for name in names})
    return {name: value * value for name, value in gradients.items()}
