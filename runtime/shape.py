"""The dimensions of a model as the runtime knows them, and what its kernels ask of them.

The architecture is the trainer's (after AFM 2024, arXiv 2407.21075, section 2.1): RMSNorm before
each block, norms of queries and keys per head before rotary positions, grouped-query attention,
SwiGLU, no biases, the embedding shared with the output layer. Layers may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tokenizer.shown import shown

MAX_VOCABULARY = 1 << 20
MAX_WIDTH = 1 << 16
"""Of every dimension of a matrix but the vocabulary: sums of products stay below 2**31."""
MAX_LAYERS = 1 << 10
MAX_HEAD = 256

COLUMNS = 32
"""Columns of a matrix are a multiple of this: a step of the kernels."""
ROWS = 16
"""Rows of a matrix are a multiple of this: they share a table."""

LINEAR = ("q", "k", "v", "o", "gate", "up", "down")
NORMS = ("attention_norm", "q_norm", "k_norm", "ffn_norm")


class ShapeError(ValueError):
    """Dimensions that the kernels do not take; the message names value and bound."""


@dataclass(frozen=True)
class Layer:
    """One layer: query heads, key-value heads, and the hidden width of its SwiGLU."""

    heads: int
    kv_heads: int
    hidden: int

    def __post_init__(self) -> None:
        _whole("heads", self.heads, MAX_WIDTH)
        _whole("kv_heads", self.kv_heads, MAX_WIDTH)
        _whole("hidden", self.hidden, MAX_WIDTH, COLUMNS)
        if self.heads % self.kv_heads:
            raise ShapeError(
                f"{self.heads} heads over {self.kv_heads} key-value heads; the first must be a "
                "multiple of the second"
            )


@dataclass(frozen=True)
class Shape:
    """A model's dimensions: ``width`` of the residual stream, ``head`` of each head.

    Raises:
      ShapeError: a value is out of bounds, or no multiple of what the kernels step by.
    """

    vocabulary: int
    width: int
    head: int
    layers: tuple[Layer, ...]
    rope_base: float
    norm_eps: float

    def __post_init__(self) -> None:
        _whole("vocabulary", self.vocabulary, MAX_VOCABULARY)
        _whole("width", self.width, MAX_WIDTH, COLUMNS)
        _whole("head", self.head, MAX_HEAD, ROWS)
        _whole("the number of layers", len(self.layers), MAX_LAYERS)
        for layer in self.layers:
            _whole("heads * head", layer.heads * self.head, MAX_WIDTH, COLUMNS)
        _between("rope_base", self.rope_base, 1.0, 1e12)
        _between("norm_eps", self.norm_eps, 0.0, 1e-2)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Shape:
        """The inverse of ``to_dict``. Raises ``ShapeError``."""
        _compare(cls, given)
        layers = given["layers"]
        if not isinstance(layers, list | tuple) or len(layers) > MAX_LAYERS:
            raise ShapeError(f"'layers' must be a list of at most {MAX_LAYERS}")
        for layer in layers:
            _compare(Layer, layer)
        return cls(**{**given, "layers": tuple(Layer(**layer) for layer in layers)})


def matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Name and (out, in) of every matrix, in the order of a file."""
    found = {"embedding": (shape.vocabulary, shape.width)}
    for number, layer in enumerate(shape.layers):
        queries, keys = layer.heads * shape.head, layer.kv_heads * shape.head
        own = {
            "q": (queries, shape.width),
            "k": (keys, shape.width),
            "v": (keys, shape.width),
            "o": (shape.width, queries),
            "gate": (layer.hidden, shape.width),
            "up": (layer.hidden, shape.width),
            "down": (shape.width, layer.hidden),
        }
        found |= {f"layers.{number}.{name}": dims for name, dims in own.items()}
    return found


def vectors(shape: Shape) -> dict[str, int]:
    """Name and length of every norm's scale, in the order of a file."""
    found = {}
    for number in range(len(shape.layers)):
        for name in NORMS:
            own = shape.head if name in ("q_norm", "k_norm") else shape.width
            found[f"layers.{number}.{name}"] = own
    return {**found, "norm": shape.width}


def _compare(kind: type[Shape | Layer], given: object) -> None:
    """Raises ``ShapeError`` where a file does not give the fields of a class, and these alone."""
    if not isinstance(given, Mapping):
        raise ShapeError(f"no dimensions of a model: {shown(given)}")
    for field in fields(kind):
        if field.name not in given:
            raise ShapeError(f"no dimensions of a model: {field.name!r} is missing")
    if len(given) > len(fields(kind)):
        odd = next(name for name in given if name not in kind.__dataclass_fields__)
        raise ShapeError(f"no dimensions of a model: {shown(odd)} is none of them")


def _whole(name: str, value: object, most: int, step: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ShapeError(f"{name} is {shown(value)}; it must be a whole number from 1 to {most}")
    if value % step:
        raise ShapeError(f"{name} is {value}; the kernels take multiples of {step}")


def _between(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low < value < high:
        raise ShapeError(f"{name} is {shown(value)}; it must be above {low:g} and below {high:g}")
