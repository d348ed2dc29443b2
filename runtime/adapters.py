"""Adapters as the engines compute with them: whole numbers of 8 or 4 bits, in the kernels' order.

Each linear map gains ``scale * B (A x)`` (Hu et al., arXiv 2106.09685, section 4.1). Both products
are of whole numbers, as those of the base are. A takes the very input that the base takes, and has
a scale for each of its rows, the ranks. What comes out is rounded to 8 bits with one scale for each
map, and B has a scale for every 16 of its rows. Columns of B are brought to one size beforehand, so
that none is rounded more coarsely than another: what one is larger by goes to its row of A.

Reading factors is most of what an adapter costs a token. In 4 bits they are half as many bytes: the
whole numbers of 8 bits are each replaced by the nearest of 16, which are chosen for all A of an
adapter, and for all B, so that squared errors are least.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.adapter_config import AdapterError
from runtime.adapter_files import Adapter
from runtime.kmeans import cluster
from runtime.layout import ALIGNMENT, LANES, Packed, pack
from runtime.palette import RowInt8
from runtime.shape import ROWS, Shape, matrices

RANK_BITS = 32
"""Ranks of a map, times their bits, are filled up with zeros to a multiple of this: a step of the
kernels."""

WIDTHS = (8, 4)
"""Bits of factors in memory."""
ADAPTER_BITS = 8
TOP = 127
"""The greatest whole number. Of 4 bits a number is ``2 * entry - TOP``."""

TOGETHER = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))
"""Maps of a layer that have the same input."""

COUNTED = 1 << 18
"""Numbers of all that a table of 4 bits is chosen for: more change it no more."""

HUGE_PAGE = 2 << 20

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Inner:
    """What the input of some maps is multiplied with: A of all of them, the ranks of one after
    those of another.

    Args:
      packed: of 8 bits with a scale for each rank, or of 4 bits without.
      ranks: of 4 bits, what each rank is multiplied with.
    """

    packed: Packed
    ranks: F32 | None


@dataclass(frozen=True, eq=False)
class Outer:
    """What the ranks of one map are multiplied with: B.

    Args:
      rank: times ``bits`` a multiple of ``RANK_BITS``.
      first: where its ranks begin among those of all maps of the same input.
      bits: 8 or 4.
      codes: bytes, groups of 16 rows one after the other, each of (rank / 4) vectors of 16 rows
        times 4 ranks; of 4 bits two vectors share their bytes, the first has the low halves.
      table: of 4 bits, (16,) entries.
      scales: (out / 16,).
    """

    rank: int
    first: int
    bits: int
    codes: U8
    table: U8
    scales: F32

    def integers(self) -> NDArray[np.int8]:
        """The whole numbers as a matrix, (out, rank)."""
        lanes = self.codes.reshape(len(self.scales), -1, 1, LANES)
        if self.bits == 4:
            entries = self.table[np.concatenate([lanes & 15, lanes >> 4], 2)]
            lanes = (2 * entries.astype(np.int16) - TOP).astype(np.int8).view(np.uint8)
        vectors = lanes.reshape(len(self.scales), self.rank // 4, ROWS, 4)
        return vectors.transpose(0, 2, 1, 3).reshape(-1, self.rank).view(np.int8)


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter that is ready to run. Any number of them fits a model, each is of one base.

    Args:
      inner: by the first of the maps of an input.
      outer: by the name of a map.
      base: SHA-256 of the quantized model that it was trained on.
      sha256: of the file of its weights.
      scale: of the products; it is part of the scales of ``inner``.
      bits: of its factors.
      nbytes: of its factors in memory.
    """

    inner: Mapping[str, Inner]
    outer: Mapping[str, Outer]
    scale: float
    base: str
    sha256: str
    bits: int
    nbytes: int

    def check(self, base: str) -> None:
        """Raises ``AdapterError`` for another base than its own."""
        if self.base != base:
            raise AdapterError(
                f"the adapter is for the base {self.base[:16]}, and this model is {base[:16]}; an "
                "adapter works with the quantized model that it was trained on alone"
            )


def load_adapter(adapter: Adapter, shape: Shape, *, bits: int = ADAPTER_BITS) -> LoadedAdapter:
    """Round the factors of an adapter to 8 bits or 4, and lay them out for the kernels.

    Raises:
      AdapterError: a map is not the model's, or its factors' products leave the range of f32.
      ValueError: other bits.
    """
    if bits not in WIDTHS:
        raise ValueError(f"factors of {bits} bits; they have 8 or 4")
    own = matrices(shape)
    for name, (a, b) in adapter.factors.items():
        if name not in own or (b.shape[0], a.shape[1]) != own[name] or len(a) != b.shape[1]:
            raise AdapterError(f"factors of {a.shape} and {b.shape} do not fit the model's {name}")
    inner: dict[str, _Codes] = {}
    outer: dict[str, tuple[int, _Codes]] = {}
    layers = range(len(shape.layers))
    for parts in TOGETHER:
        for names in _alike(adapter, layers, parts):
            stack: list[F32] = []
            first = 0
            for own_names in zip(*names, strict=True):
                a, b = _even(adapter, own_names, RANK_BITS // bits)
                outer |= {
                    name: (first, codes) for name, codes in zip(own_names, _outer(b), strict=True)
                }
                stack.append(a)
                first += a.shape[1]
            keys = [f"{own_names[0].rpartition('.')[0]}.{parts[0]}" for own_names in names]
            inner |= zip(keys, _inner(keys, np.concatenate(stack, 1)), strict=True)
    order = [[f"layers.{n}.{part}" for part in parts] for n in layers for parts in TOGETHER]
    tables = None
    if bits == 4:
        tables = _halve(inner.values()), _halve(codes for _, codes in outer.values())
    found_inner, found_outer, size = _joined(order, inner, outer, tables)
    return LoadedAdapter(
        found_inner, found_outer, adapter.scale, adapter.base, adapter.sha256, bits, size
    )


@dataclass(eq=False)
class _Codes:
    """A factor's whole numbers as the kernels read them, and its scales."""

    rows: int
    columns: int
    codes: U8
    scales: F32


def _halve(factors: Iterable[_Codes]) -> U8:
    """Bring factors from 8 bits to 4, in place; gives the table of all, (16,) entries."""
    own = list(factors)
    if not own:
        return np.zeros(16, np.uint8)
    # An odd step comes by every rank and column, which lie in fours side by side.
    step = sum(one.codes.size for one in own) // COUNTED | 1
    seen = np.bincount(np.concatenate([one.codes[::step] for one in own]), minlength=256)
    numbers = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64)
    some = np.flatnonzero(seen)
    best, _ = cluster(numbers[some], seen[some].astype(np.float64), [16])[16]
    table = np.clip(np.rint((best + TOP) / 2), 0, TOP).astype(np.uint8)
    nearest = np.abs(numbers[:, None] - (2.0 * table - TOP)).argmin(1).astype(np.uint8).tobytes()
    for one in own:
        # Much faster than to index with an array.
        codes = np.frombuffer(one.codes.tobytes().translate(nearest), np.uint8)
        pairs = codes.reshape(-1, 2, LANES)
        one.codes = (pairs[:, 0] | pairs[:, 1] << np.uint8(4)).reshape(-1)
    return table


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


def _even(adapter: Adapter, names: tuple[str, ...], step: int) -> tuple[F32, F32]:
    """Factors of the same products times the scale, each column of B of the greatest magnitude 1,
    with a multiple of ``step`` ranks: A (maps, rank, in) and B (maps, out, rank)."""
    a, b = (np.stack([adapter.factors[name][half] for name in names]) for half in (0, 1))
    # Sixteen rows side by side, so that much is compared at a time.
    grouped = b.reshape(len(b), -1, ROWS * b.shape[2])
    most = np.maximum(grouped.max(1), -grouped.min(1)).reshape(len(b), ROWS, -1).max(1)
    with np.errstate(over="ignore", invalid="ignore"):
        a *= (most * np.float32(adapter.scale))[:, :, None]
    b /= np.where(most > 0, most, np.float32(1))[:, None]
    if more := -a.shape[1] % step:
        a, b = np.pad(a, ((0, 0), (0, more), (0, 0))), np.pad(b, ((0, 0), (0, 0), (0, more)))
    return a, b


def _inner(names: list[str], a: F32) -> list[_Codes]:
    """A of some layers, (layers, ranks, in)."""
    a = np.pad(a, ((0, 0), (0, -a.shape[1] % ROWS), (0, 0)))
    layers, rows, columns = a.shape
    values, scales = _rounded(a.reshape(-1, columns))
    codes = pack(RowInt8(values, scales)).codes.reshape(layers, -1)
    scales = scales.reshape(layers, -1)
    for name, own in zip(names, scales, strict=True):
        if not np.isfinite(own).all():
            raise AdapterError(f"{name}: factors whose products are not finite in 32 bits")
    return [_Codes(rows, columns, *own) for own in zip(codes, scales, strict=True)]


def _outer(b: F32) -> list[_Codes]:
    """B of some layers, (layers, out, rank)."""
    layers, rows, rank = b.shape
    values, scales = _rounded(b.reshape(-1, ROWS * rank))
    # Four numbers of a row stay together.
    fours = values.view(np.int32).reshape(layers, rows // ROWS, ROWS, rank // 4)
    codes = np.ascontiguousarray(fours.transpose(0, 1, 3, 2)).view(np.uint8).reshape(layers, -1)
    scales = scales.reshape(layers, -1)
    return [_Codes(rows, rank, *own) for own in zip(codes, scales, strict=True)]


def _rounded(rows: F32) -> tuple[NDArray[np.int8], F32]:
    """Rows as whole numbers from -127 to 127 and a scale for each, as activations are rounded;
    overwrites them."""
    most = np.maximum(rows.max(1), -rows.min(1))
    small = most <= np.float32(1e-30)  # not so what is no number: it must be seen in the scale
    with np.errstate(all="ignore"):
        rows *= np.where(small, np.float32(0), np.float32(TOP) / most)[:, None]
        values = np.rint(rows, out=rows).astype(np.int8)
    return values, np.where(small, np.float32(0), most / np.float32(TOP))


def _joined(
    names: Listed[Listed[str]], inner: Mapping[str, _Codes],
    outer: Mapping[str, tuple[int, _Codes]], tables: tuple[U8, U8] | None,
) -> tuple[dict[str, Inner], dict[str, Outer], int]:  # fmt: skip
    """The same numbers back to back in one array, each at a multiple of 64 bytes, and its bytes:
    what is read next is what lies next, and is fetched ahead.

    Args:
      names: of maps in the order in which they are read, those of one input together.
      tables: of 4 bits, those of all A and of all B.
    """
    parts: list[NDArray[Any]] = []
    for together in names:
        if (a := inner.get(together[0])) is not None:
            parts += a.codes, a.scales
        for _, b in (outer[name] for name in together if name in outer):
            parts += b.codes, b.scales
    room, place, moved = _room(sum(_filled(part) for part in parts)), 0, []
    for part in parts:
        new = room[place : place + part.nbytes].view(part.dtype).reshape(part.shape)
        new[...] = part
        moved.append(new)
        place += _filled(part)
    now = iter(moved)
    bits, table = (4, tables[1]) if tables else (8, np.zeros(0, np.uint8))
    found_inner, found_outer = {}, {}
    for together in names:
        if (a := inner.get(together[0])) is not None:
            found_inner[together[0]] = _as_inner(a, next(now), next(now), tables and tables[0])
        for name in together:
            if name in outer:
                first, b = outer[name]
                found_outer[name] = Outer(b.columns, first, bits, next(now), table, next(now))
    return found_inner, found_outer, room.nbytes


def _as_inner(a: _Codes, codes: U8, scales: F32, table: U8 | None) -> Inner:
    if table is None:
        none = np.zeros((0, 0), np.uint8)
        return Inner(Packed(a.rows, a.columns, 8, codes, none, scales), None)
    groups = a.rows // ROWS
    affine = np.tile(np.array([2, -TOP], np.float32), (groups, 1))
    return Inner(Packed(a.rows, a.columns, 4, codes, np.tile(table, (groups, 1)), affine), scales)


def _filled(part: NDArray[Any]) -> int:
    return -(-part.nbytes // ALIGNMENT) * ALIGNMENT


def _room(size: int) -> U8:
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


Identity = tuple[str, float, str, int] | None
"""What an adapter computes, without its factors; ``None`` is the base alone."""


def identity(adapter: LoadedAdapter | None) -> Identity:
    """Equal for two that compute the same: what one has read, the other goes on with."""
    if adapter is None:
        return None
    return adapter.sha256, adapter.scale, adapter.base, adapter.bits
