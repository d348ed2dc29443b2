"""Accuracy recovery: low-rank adapters on all linear maps, trained to undo what quantizing lost.

AFM 2024 (arXiv 2407.21075, section 5.3) recovers most of a palettized model's accuracy with LoRA
(Hu et al., arXiv 2106.09685) of rank 16 on every linear map, on a thousandth of the training's
tokens, and starts task adapters from it. The quantized weights stay as they are. Here the loss is
that of ``trainer.distill``: the float model is the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trainer.linear import linear
from trainer.model import Array, Params, linear_names, shapes
from trainer.optimizer import Optimizer, adamw
from trainer.shape import Shape
from trainer.student import Arrays, Student

RANKS = (8, 16, 32)
"""What AFM publishes figures of; any other rank works as well."""

RATE = 1e-3

Factors = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""By the name of a weight: A (rank, in) and B (out, rank)."""


def optimizer(rate: float = RATE) -> Optimizer:
    """Adam without decay."""
    return adamw(rate, 0.0, square_decay=0.99)


def draw(shape: Shape, rank: int, seed: int) -> Factors:
    """Factors that change nothing yet: A from N(0, 1/in), B of zeros.

    Each has its own stream by name, as in ``trainer.model.initialise``.

    Raises:
      ValueError: a rank below 1, or above a matrix's own.
    """
    found = {}
    for name, dims in _linear_shapes(shape).items():
        if not 1 <= rank <= min(dims):
            raise ValueError(
                f"adapters of rank {rank} on {name}, a matrix of {dims}; from 1 to {min(dims)}"
            )
        stream = np.random.Generator(np.random.PCG64([seed, *f"{name}.lora_a".encode()]))
        a = stream.standard_normal((rank, dims[0]), np.float32) / np.float32(np.sqrt(dims[0]))
        found[name] = a, np.zeros((dims[1], rank), np.float32)
    return found


def _linear_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    all_shapes = shapes(shape)
    return {name: all_shapes[name] for name in linear_names(shape)}


def adapter_student(factors: Factors, frozen: Arrays) -> Student:
    """The student whose adapters are trained; ``frozen`` is the whole quantized model."""
    trained = {}
    for name, (a, b) in factors.items():
        trained[f"{name}.lora_a"] = np.ascontiguousarray(a.T)
        trained[f"{name}.lora_b"] = np.ascontiguousarray(b.T)
    return Student(trained, frozen, {}, lambda own, _: own, adapted)


def adapted(params: Params, name: str, x: Array) -> Array:
    """A linear map with the adapter that lies beside its weight."""
    low = linear(x, params[f"{name}.lora_a"])
    return linear(x, params[name]) + linear(low, params[f"{name}.lora_b"])


def trained_factors(trained: Arrays) -> Factors:
    """The factors as PEFT holds them, from what ``distill`` gives."""
    names = [name.removesuffix(".lora_a") for name in trained if name.endswith(".lora_a")]
    return {
        name: (
            np.ascontiguousarray(trained[f"{name}.lora_a"].T, np.float32),
            np.ascontiguousarray(trained[f"{name}.lora_b"].T, np.float32),
        )
        for name in names
    }


def merged(
    params: Arrays, factors: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> dict[str, NDArray[np.float32]]:
    """Parameters (in, out) with the adapters' products added: for scoring, not for keeping."""
    found = dict(params)
    for name, (a, b) in factors.items():
        found[name] = params[name] + (b @ a).T
    return found
