"""The dimensions of a model: uniform layers as in AFM, or OpenELM's layer-wise scaling.

AFM 2024 (arXiv 2407.21075, section 2.1, with the dimensions of the configuration that its authors
published in AXLearn as ``honeycrisp``) and OpenELM (arXiv 2404.14619, section 2.1 and its code).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

ROPE_BASE = 500_000.0
"""AFM 2024, section 2.1."""

LONG_ROPE_BASE = 6_315_089.0
"""AFM 2024, section 3.4: of the stage that lengthens the context to 32,768."""

NORM_EPS = 1e-6
"""What GGUF's ``openelm`` and its converter assume; AXLearn's ``honeycrisp`` has 1e-5."""

MAX_DIMENSION = 1 << 20
MAX_LAYERS = 1 << 10


class ShapeError(ValueError):
    """Dimensions that no model can have; the message names value and bound."""


@dataclass(frozen=True)
class Layer:
    """One layer: query heads, key-value heads, and the hidden width of its SwiGLU."""

    heads: int
    kv_heads: int
    hidden: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            _check(name, value, MAX_DIMENSION)
        if self.heads % self.kv_heads:
            raise ShapeError(
                f"{self.heads} heads over {self.kv_heads} key-value heads; the first must be a "
                "multiple of the second"
            )


@dataclass(frozen=True)
class Shape:
    """A model's dimensions: ``width`` of the residual stream, vocabulary, and its layers."""

    vocabulary: int
    width: int
    head: int
    layers: tuple[Layer, ...]
    rope_base: float = ROPE_BASE
    norm_eps: float = NORM_EPS

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "head"):
            _check(name, getattr(self, name), MAX_DIMENSION)
        _check("layers", len(self.layers), MAX_LAYERS)
        if self.head % 2:
            raise ShapeError(
                f"heads of {self.head}; rotary positions turn pairs, so it must be even"
            )
        check_rope_base(self.rope_base)
        if not 0.0 < self.norm_eps < 1e-2:
            raise ShapeError(
                f"a norm epsilon of {self.norm_eps}; it must be above 0 and below 0.01"
            )

    @property
    def uniform(self) -> bool:
        """Whether all layers are alike, as ``qwen3`` demands."""
        return len(set(self.layers)) == 1

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding, which is the output layer as well."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All parameters."""
        per_head = self.head
        total = self.embedding_parameters + self.width
        for layer in self.layers:
            attention = self.width * per_head * 2 * (layer.heads + layer.kv_heads)
            total += attention + 3 * self.width * layer.hidden + 2 * self.width + 2 * per_head
        return total

    def with_rope_base(self, base: float) -> Shape:
        """The same model, its positions turned by another base."""
        return replace(self, rope_base=base)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Shape:
        """The inverse of ``to_dict``. Raises ``ShapeError``."""
        try:
            layers = tuple(Layer(**layer) for layer in fields["layers"])
            return cls(**{**fields, "layers": layers})
        except (TypeError, KeyError) as error:
            raise ShapeError(f"no dimensions of a model: {error}") from None


def _check(name: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ShapeError(f"{name} is {value!r}; it must be a whole number from 1 to {most}")


def check_rope_base(base: float) -> None:
    """Raises ``ShapeError`` for a base that no positions can be turned by."""
    if not 1.0 < base < 1e12:
        raise ShapeError(f"a RoPE base of {base:g}; it must be above 1 and below 1e12")


def kept_share_error(share: float) -> str:
    """What to say of a share of hidden values that no mask can keep."""
    return f"pruning to a share of {share:g}; it must be above 0 and below 1"


def uniform(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, head: int, hidden: int
) -> Shape:
    """A model of equal layers."""
    return Shape(vocabulary, width, head, (Layer(heads, kv_heads, hidden),) * layers)


def layerwise(
    vocabulary: int,
    width: int,
    layers: int,
    head: int,
    *,
    alpha: tuple[float, float] = (0.5, 1.0),
    beta: tuple[float, float] = (0.5, 4.0),
    group: int = 4,
    divisor: int = 256,
) -> Shape:
    """OpenELM's layer-wise scaling: heads and hidden widths grow from the first layer to the last.

    ``alpha`` scales the width of the queries, ``beta`` the hidden width, both between their first
    and last value; ``group`` query heads share a key-value head; ``divisor`` divides hidden widths.
    """
    found = []
    for a, b in zip(_steps(alpha, layers), _steps(beta, layers), strict=True):
        heads = make_divisible(width * a, head * group) // head
        found.append(Layer(heads, heads // group, make_divisible(b * width, divisor)))
    return Shape(vocabulary, width, head, tuple(found))


def _steps(ends: tuple[float, float], layers: int) -> Sequence[float]:
    return [round(float(value), 2) for value in np.linspace(ends[0], ends[1], layers)]


def make_divisible(value: float, divisor: int) -> int:
    """The multiple of ``divisor`` nearest to ``value``, and not below nine tenths of it.

    OpenELM's code has it from MobileNet.
    """
    found = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return found + divisor if found < 0.9 * value else found


def openelm(size: str, vocabulary: int = 32_000) -> Shape:
    """The dimensions of a published OpenELM: ``270m``, ``450m``, ``1.1b`` or ``3b``."""
    layers, width, head = {
        "270m": (16, 1280, 64),
        "450m": (20, 1536, 64),
        "1.1b": (28, 2048, 64),
        "3b": (36, 3072, 128),
    }[size]
    return layerwise(vocabulary, width, layers, head)


def honeycrisp(size: str, vocabulary: int = 49_152) -> Shape:
    """AFM's dimensions as published in AXLearn: ``85m`` or ``3b``."""
    if size == "85m":
        return uniform(vocabulary, 768, 12, 12, 6, 64, 2304)
    return uniform(vocabulary, 3072, 26, 24, 8, 128, 8064)


PRESETS = {
    "1m": "1M parameters without the embedding: seconds, for tests and demonstrations",
    "5m": "5M: a curation choice in minutes",
    "15m": "12.6M: a curation choice in an hour or two",
    "85m": "85M: AFM's smallest published dimensions",
}


def preset(name: str, vocabulary: int, *, layer_wise: bool = False) -> Shape:
    """A model by the name of its size, which tells millions of parameters.

    With ``layer_wise``, about as large a model of OpenELM's kind.

    Raises:
      ShapeError: there is no such preset.
    """
    if name not in PRESETS:
        raise ShapeError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    if layer_wise:
        width, layers = {"1m": (128, 5), "5m": (256, 6), "15m": (384, 8), "85m": (768, 12)}[name]
        head = 32 if name == "1m" else 64
        divisor = 64
        return layerwise(vocabulary, width, layers, head, group=2, divisor=divisor)
    if name == "1m":
        return uniform(vocabulary, 128, 5, 4, 2, 32, 384)
    if name == "5m":
        return uniform(vocabulary, 256, 6, 4, 2, 64, 768)
    if name == "15m":
        return uniform(vocabulary, 384, 8, 6, 2, 64, 1024)
    return honeycrisp("85m", vocabulary)
