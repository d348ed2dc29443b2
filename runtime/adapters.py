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
from runtime.shape import ROWS, Shape, matrices

RANKS = 4
"""Ranks are filled up with zeros to a multiple of this: a step of the kernels."""

Half = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter that is ready to run. Any number of them fits a model, each is of one base.

    Args:
      factors: by the name of a map: A (rank, in) and B (out / 16, rank, 16).
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
    factors = {}
    for name, (a, b) in adapter.factors.items():
        if name not in own or (b.shape[0], a.shape[1]) != own[name] or len(a) != b.shape[1]:
            raise AdapterError(f"factors of {a.shape} and {b.shape} do not fit the model's {name}")
        more = -len(a) % RANKS
        rows = np.pad(b, ((0, 0), (0, more))).reshape(len(b) // ROWS, ROWS, -1)
        factors[name] = (
            _half(name, np.pad(a, ((0, more), (0, 0)))), _half(name, rows.transpose(0, 2, 1))
        )  # fmt: skip
    return LoadedAdapter(factors, adapter.scale, adapter.base, adapter.sha256)


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
