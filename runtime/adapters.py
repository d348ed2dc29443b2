"""Adapters as the engines compute with them: in whole numbers of 8 bits, in the kernels' order.

Each linear map gains ``scale * B (A x)`` (Hu et al., arXiv 2106.09685, section 4.1). Both products
are of whole numbers, as those of the base are. A takes the very input that the base takes, and has
a scale for each of its rows, the ranks. What comes out is rounded to 8 bits with one scale for each
map, and B has a scale for every 16 of its rows. Columns of B are brought to one size beforehand, so
that none is rounded more coarsely than another: what one is larger by goes to its row of A.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Mapping
from collections.abc import Sequence as Listed
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.adapter_config import AdapterError
from runtime.adapter_files import Adapter
from runtime.layout import ALIGNMENT, Packed, pack
from runtime.palette import RowInt8
from runtime.shape import ROWS, Shape, matrices

RANKS = 4
"""Ranks of a map are filled up with zeros to a multiple of this: a step of the kernels."""

TOGETHER = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))
"""Maps of a layer that have the same input."""

HUGE_PAGE = 2 << 20

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outer:
    """What the ranks of one map are multiplied with: B.

    Args:
      rank: a multiple of ``RANKS``.
      first: where its ranks begin among those of all maps of the same input.
      codes: (out / 16, rank / 4, 16, 4).
      scales: (out / 16,).
    """

    rank: int
    first: int
    codes: NDArray[np.int8]
    scales: F32

    def integers(self) -> NDArray[np.int8]:
        """The whole numbers as a matrix, (out, rank)."""
        return self.codes.transpose(0, 2, 1, 3).reshape(-1, self.rank)


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter that is ready to run. Any number of them fits a model, each is of one base.

    Args:
      inner: by the first of the maps of an input: A of all of them, of 8 bits, the ranks of one
        after those of another.
      outer: by the name of a map.
      base: SHA-256 of the quantized model that it was trained on.
      sha256: of the file of its weights.
      scale: of the products; it is part of the scales of ``inner``.
      nbytes: of its factors in memory.
    """

    inner: Mapping[str, Packed]
    outer: Mapping[str, Outer]
    scale: float
    base: str
    sha256: str
    nbytes: int

    def check(self, base: str) -> None:
        """Raises ``AdapterError`` for another base than its own."""
        if self.base != base:
            raise AdapterError(
                f"the adapter is for the base {self.base[:16]}, and this model is {base[:16]}; an "
                "adapter works with the quantized model that it was trained on alone"
            )


def load_adapter(adapter: Adapter, shape: Shape) -> LoadedAdapter:
    """Round the factors of an adapter to 8 bits, and lay them out for the kernels.

    Raises:
      AdapterError: a map is not the model's, or its factors' products leave the range of f32.
    """
    own = matrices(shape)
    for name, (a, b) in adapter.factors.items():
        if name not in own or (b.shape[0], a.shape[1]) != own[name] or len(a) != b.shape[1]:
            raise AdapterError(f"factors of {a.shape} and {b.shape} do not fit the model's {name}")
    inner: dict[str, Packed] = {}
    outer: dict[str, Outer] = {}
    layers = range(len(shape.layers))
    for parts in TOGETHER:
        for names in _alike(adapter, layers, parts):
            stack: list[F32] = []
            first = 0
            for own_names in zip(*names, strict=True):
                a, b = _even(adapter, own_names)
                outer |= zip(own_names, _outer(b, first), strict=True)
                stack.append(a)
                first += a.shape[1]
            keys = [f"{own_names[0].rpartition('.')[0]}.{parts[0]}" for own_names in names]
            inner |= zip(keys, _inner(keys, np.concatenate(stack, 1)), strict=True)
    order = [[f"layers.{n}.{part}" for part in parts] for n in layers for parts in TOGETHER]
    inner, outer, size = _joined(order, inner, outer)
    return LoadedAdapter(inner, outer, adapter.scale, adapter.base, adapter.sha256, size)


def _alike(adapter: Adapter, layers: range, parts: tuple[str, ...]) -> list[list[tuple[str, ...]]]:
    """Names of the maps of one input that are adapted, of layers whose factors have the same
    dimensions together: these are worked on in one go."""
    found: dict[Any, list[tuple[str, ...]]] = {}
    for number in layers:
        names = [f"layers.{number}.{part}" for part in parts]
        some = tuple(name for name in names if name in adapter.factors)
        if some:
            dims = [[half.shape for half in adapter.factors[name]] for name in some]
            kinds = [name.rpartition(".")[2] for name in some]
            found.setdefault(repr((kinds, dims)), []).append(some)
    return list(found.values())


def _even(adapter: Adapter, names: tuple[str, ...]) -> tuple[F32, F32]:
    """Factors of the same products times the scale, each column of B of the greatest magnitude 1,
    with as many ranks as the kernels take: A (maps, rank, in) and B (maps, out, rank)."""
    a, b = (np.stack([adapter.factors[name][half] for name in names]) for half in (0, 1))
    # Sixteen rows side by side, so that much is compared at a time.
    grouped = b.reshape(len(b), -1, ROWS * b.shape[2])
    most = np.maximum(grouped.max(1), -grouped.min(1)).reshape(len(b), ROWS, -1).max(1)
    with np.errstate(over="ignore", invalid="ignore"):
        a *= (most * np.float32(adapter.scale))[:, :, None]
    b /= np.where(most > 0, most, np.float32(1))[:, None]
    if more := -a.shape[1] % RANKS:
        a, b = np.pad(a, ((0, 0), (0, more), (0, 0))), np.pad(b, ((0, 0), (0, 0), (0, more)))
    return a, b


def _inner(names: list[str], a: F32) -> list[Packed]:
    """A of some layers, (layers, ranks, in)."""
    a = np.pad(a, ((0, 0), (0, -a.shape[1] % ROWS), (0, 0)))
    layers, rows, columns = a.shape
    values, scales = _rounded(a.reshape(-1, columns))
    packed = pack(RowInt8(values, scales))
    codes, scales = packed.codes.reshape(layers, -1), scales.reshape(layers, -1)
    for name, own in zip(names, scales, strict=True):
        if not np.isfinite(own).all():
            raise AdapterError(f"{name}: factors whose products are not finite in 32 bits")
    return [
        Packed(rows, columns, 8, own, packed.tables, affine)
        for own, affine in zip(codes, scales, strict=True)
    ]


def _outer(b: F32, first: int) -> list[Outer]:
    """B of some layers, (layers, out, rank)."""
    layers, rows, rank = b.shape
    values, scales = _rounded(b.reshape(-1, ROWS * rank))
    # Four numbers of a row stay together.
    fours = values.view(np.int32).reshape(layers, rows // ROWS, ROWS, rank // RANKS)
    codes = np.ascontiguousarray(fours.transpose(0, 1, 3, 2)).view(np.int8)
    codes = codes.reshape(layers, rows // ROWS, rank // RANKS, ROWS, RANKS)
    scales = scales.reshape(layers, -1)
    return [Outer(rank, first, *own) for own in zip(codes, scales, strict=True)]


def _rounded(rows: F32) -> tuple[NDArray[np.int8], F32]:
    """Rows as whole numbers from -127 to 127 and a scale for each, as activations are rounded;
    overwrites them."""
    most = np.maximum(rows.max(1), -rows.min(1))
    small = most <= np.float32(1e-30)  # not so what is no number: it must be seen in the scale
    with np.errstate(all="ignore"):
        rows *= np.where(small, np.float32(0), np.float32(127) / most)[:, None]
        values = np.rint(rows, out=rows).astype(np.int8)
    return values, np.where(small, np.float32(0), most / np.float32(127))


def _joined(
    names: Listed[Listed[str]], inner: Mapping[str, Packed], outer: Mapping[str, Outer]
) -> tuple[dict[str, Packed], dict[str, Outer], int]:
    """The same numbers back to back in one array, each at a multiple of 64 bytes, and its bytes:
    what is read next is what lies next, and is fetched ahead.

    Args:
      names: of maps in the order in which they are read, those of one input together.
    """
    parts: list[NDArray[Any]] = []
    for together in names:
        if (a := inner.get(together[0])) is not None:
            parts += a.codes, a.affine
        for own in (outer[name] for name in together if name in outer):
            parts += own.codes, own.scales
    room, place, moved = _room(sum(_filled(part) for part in parts)), 0, []
    for part in parts:
        new = room[place : place + part.nbytes].view(part.dtype).reshape(part.shape)
        new[...] = part
        moved.append(new)
        place += _filled(part)
    now = iter(moved)
    found_inner, found_outer = {}, {}
    for together in names:
        if (a := inner.get(together[0])) is not None:
            found_inner[together[0]] = replace(a, codes=next(now), affine=next(now))
        for name in together:
            if (b := outer.get(name)) is not None:
                found_outer[name] = replace(b, codes=next(now), scales=next(now))
    return found_inner, found_outer, room.nbytes


def _filled(part: NDArray[Any]) -> int:
    return -(-part.nbytes // ALIGNMENT) * ALIGNMENT


def _room(size: int) -> NDArray[np.uint8]:
    """So many bytes or somewhat more, at a multiple of 64: in whole huge pages, of which a token
    looks up fewer, where at least one is filled and the system has them."""
    if size < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        room = np.empty(size + ALIGNMENT, np.uint8)
        place = -room.ctypes.data % ALIGNMENT
        return room[place : place + size]
    size = -(-size // HUGE_PAGE) * HUGE_PAGE
    mapped = mmap.mmap(-1, size + HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    room = np.frombuffer(mapped, np.uint8)
    place = -room.ctypes.data % HUGE_PAGE
    with contextlib.suppress(OSError):  # a system that was built without them
        mapped.madvise(mmap.MADV_HUGEPAGE, place, size)
    return room[place : place + size]


Identity = tuple[str, float, str] | None
"""What an adapter computes, without its factors; ``None`` is the base alone."""


def identity(adapter: LoadedAdapter | None) -> Identity:
    """Equal for two that compute the same: what one has read, the other goes on with."""
    return None if adapter is None else (adapter.sha256, adapter.scale, adapter.base)
