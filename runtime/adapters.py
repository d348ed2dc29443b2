"""Adapters as the engines compute with them: in half precision, in the order of the kernels.

Each linear map gains ``scale * B (A x)`` (Hu et al., arXiv 2106.09685, section 4.1) of inputs
before these are quantized. Factors lie in memory in 16 bits, which is what files of
``write_adapter`` hold and half of what is read for a token; products and sums are in 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.adapter_files import Adapter, AdapterError
from runtime.layout import ALIGNMENT
from runtime.shape import ROWS, Shape, matrices

RANKS = 4
"""Ranks are filled up with zeros to a multiple of this: a step of the kernels."""

TOGETHER = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))
"""Maps in the order in which they are read; those of one input at a time."""

Half = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter that is ready to run. Any number of them fits a model, each is of one base.

    Args:
      factors: by the name of a map: A (rank / 4, in / 16, 4, 16), B (out / 16, rank, 16).
      scale: of the products.
      base: SHA-256 of the quantized model that it was trained on.
      sha256: of the file of its weights.
    """

    factors: Mapping[str, tuple[Half, Half]]
    scale: float
    base: str
    sha256: str

    @property
    def nbytes(self) -> int:
        """Bytes of its factors in memory."""
        return sum(a.nbytes + b.nbytes for a, b in self.factors.values())

    def check(self, base: str) -> None:
        """Raises ``AdapterError`` for another base than its own."""
        if self.base != base:
            raise AdapterError(
                f"the adapter is for the base {self.base[:16]}, and this model is {base[:16]}; an "
                "adapter works with the quantized model that it was trained on alone"
            )


def load_adapter(adapter: Adapter, shape: Shape) -> LoadedAdapter:
    """Lay out the factors of an adapter for the kernels.

    Values between two of half precision are rounded, by at most 2**-11 of their size.

    Raises:
      AdapterError: a map is not the model's, or a value leaves the range of 16 bits.
    """
    own = matrices(shape)
    for name, (a, b) in adapter.factors.items():
        if name not in own or (b.shape[0], a.shape[1]) != own[name] or len(a) != b.shape[1]:
            raise AdapterError(f"factors of {a.shape} and {b.shape} do not fit the model's {name}")
    layers = range(len(shape.layers))
    names = [[f"layers.{n}.{part}" for part in parts] for n in layers for parts in TOGETHER]
    laid: list[tuple[str, Half]] = []
    for together in names:
        some = [name for name in together if name in adapter.factors]
        laid += [(name, _half(name, _inner(adapter.factors[name][0]))) for name in some]
        laid += [(name, _half(name, _outer(adapter.factors[name][1]))) for name in some]
    found: dict[str, tuple[Half, ...]] = {}
    for (name, _), part in zip(laid, _joined([half for _, half in laid]), strict=True):
        found[name] = (*found.get(name, ()), part)
    factors = {name: (a, b) for name, (a, b) in found.items()}
    return LoadedAdapter(factors, adapter.scale, adapter.base, adapter.sha256)


def _inner(a: NDArray[np.float32]) -> NDArray[np.float32]:
    """A (rank, in) as (rank / 4, in / 16, 4, 16)."""
    filled = np.pad(a, ((0, -len(a) % RANKS), (0, 0)))
    return filled.reshape(len(filled) // RANKS, RANKS, -1, ROWS).transpose(0, 2, 1, 3)


def _outer(b: NDArray[np.float32]) -> NDArray[np.float32]:
    """B (out, rank) as (out / 16, rank, 16)."""
    filled = np.pad(b, ((0, 0), (0, -b.shape[1] % RANKS)))
    return filled.reshape(len(filled) // ROWS, ROWS, -1).transpose(0, 2, 1)


def _joined(parts: list[Half]) -> list[Half]:
    """The same arrays back to back in one, at a multiple of 64 bytes: what is read next is what
    lies next, and is fetched ahead."""
    whole = np.empty(sum(part.size for part in parts) + ALIGNMENT, np.float16)
    place = -whole.ctypes.data % ALIGNMENT // whole.itemsize
    found = []
    for part in parts:
        own = whole[place : place + part.size].reshape(part.shape)
        own[:] = part
        found.append(own)
        place += part.size
    return found


def same(a: LoadedAdapter | None, b: LoadedAdapter | None) -> bool:
    """Whether two compute the same: what one has read, the other goes on with."""
    if a is None or b is None:
        return a is b
    return (a.sha256, a.scale, a.base) == (b.sha256, b.scale, b.base)


def _half(name: str, values: NDArray[np.float32]) -> Half:
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(values, np.float16)
    if not np.isfinite(found).all():
        raise AdapterError(f"{name}: factors that are not finite in 16 bits")
    return found
