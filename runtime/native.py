"""The engine in C, called with ctypes: whole tokens at a time, without the interpreter's lock."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int32, c_ssize_t, c_void_p
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from runtime.adapters import TOGETHER, LoadedAdapter, Outer
from runtime.build import NoLibrary, library, remade
from runtime.engine import Engine, Step, Steps
from runtime.file import Contents
from runtime.layout import Packed, padded
from runtime.shape import LINEAR, NORMS


class Matrix(Structure):
    """``matrix`` of cider.h."""

    _fields_ = (
        ("bits", c_int32), ("rows", c_int32), ("columns", c_int32), ("unused", c_int32),
        ("codes", c_void_p), ("tables", c_void_p), ("affine", c_void_p),
    )  # fmt: skip


class Activations(Structure):
    """``activations`` of cider.h."""

    _fields_ = (
        ("values", c_void_p), ("stride", c_ssize_t), ("scales", c_void_p), ("sums", c_void_p),
    )  # fmt: skip


class Factor(Structure):
    """``factor`` of cider.h."""

    _fields_ = (
        ("rank", c_int32), ("first", c_int32), ("bits", c_int32), ("unused", c_int32),
        ("codes", c_void_p), ("table", c_void_p), ("scales", c_void_p),
    )  # fmt: skip


class Kernels(Structure):
    """``kernels`` of cider.h, as far as they are called from here."""

    _fields_ = (
        ("name", c_char_p),
        ("multiply", ctypes.CFUNCTYPE(
            None, POINTER(Matrix), c_int, c_int, POINTER(Activations), c_int, c_void_p,
            c_ssize_t, c_int)),
        ("quantize", ctypes.CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_void_p, c_void_p)),
        *((name, c_void_p) for name in (
            "norm", "turn", "store_key", "store_value", "attend", "gate", "nats")),
        ("lift", ctypes.CFUNCTYPE(
            None, POINTER(Factor), c_int, c_int, POINTER(Activations), c_int, c_void_p,
            c_ssize_t)),
    )  # fmt: skip


class _Layer(Structure):
    _fields_ = (
        ("heads", c_int32), ("kv_heads", c_int32), ("hidden", c_int32), ("unused", c_int32),
        *((name, c_void_p) for name in NORMS),
        *((name, Matrix) for name in LINEAR),
    )  # fmt: skip


class _Model(Structure):
    _fields_ = (
        ("vocabulary", c_int32), ("width", c_int32), ("head", c_int32), ("layers", c_int32),
        ("norm_eps", c_float), ("query_factor", c_float), ("cache_bits", c_int32),
        ("unused", c_int32), ("norm", c_void_p), ("embedding", Matrix),
        ("layer", POINTER(_Layer)),
    )  # fmt: skip


class _Job(Structure):
    _fields_ = (
        ("tokens", c_int32), ("outputs", c_int32), ("ids", c_void_p), ("positions", c_void_p),
        ("blocks", c_void_p), ("cos", c_void_p), ("sin", c_void_p), ("output_rows", c_void_p),
        ("logits", c_void_p), ("hidden", c_void_p), ("targets", c_void_p), ("nats", c_void_p),
        ("first", c_void_p), ("adapters", c_void_p),
    )  # fmt: skip


class _Adapted(Structure):
    _fields_ = (
        ("a", Matrix * len(TOGETHER)), ("ranks", c_void_p * len(TOGETHER)),
        ("b", Factor * len(LINEAR)),
    )  # fmt: skip


def _open() -> Any:
    """The library; one in the cache that cannot be loaded is compiled anew, once."""
    path = library()
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return ctypes.CDLL(str(remade(path)))


@functools.cache
def load(path: str | None = None) -> Any:
    """The library of the kernels. Raises ``NoLibrary``."""
    try:
        found = ctypes.CDLL(path) if path else _open()
    except OSError as error:
        raise NoLibrary(f"the kernels cannot be loaded: {error}") from None
    found.cider_kernels.restype = POINTER(Kernels)
    found.cider_kernels.argtypes = [c_char_p]
    found.cider_engine.restype = c_void_p
    found.cider_engine.argtypes = [POINTER(_Model), c_int, c_int, c_int, c_char_p]
    found.cider_engine_free.argtypes = [c_void_p]
    found.cider_engine_free.restype = None
    found.cider_engine_kernels.restype = c_char_p
    found.cider_engine_kernels.argtypes = [c_void_p]
    found.cider_forward.argtypes = [c_void_p, POINTER(_Job)]
    found.cider_forward.restype = c_int
    return found


def matrix(packed: Packed) -> Matrix:
    """A matrix as C takes it; ``packed`` must outlive it."""
    return Matrix(
        packed.bits, padded(packed.rows), packed.columns, 0, packed.codes.ctypes.data,
        packed.tables.ctypes.data, packed.affine.ctypes.data,
    )  # fmt: skip


def factor(outer: Outer) -> Factor:
    """What lifts an adapter's ranks, as C takes it; ``outer`` must outlive it."""
    return Factor(
        outer.rank, outer.first, outer.bits, 0, outer.codes.ctypes.data, outer.table.ctypes.data,
        outer.scales.ctypes.data,
    )  # fmt: skip


class NativeEngine(Engine):
    """``Engine`` in C."""

    def __init__(
        self, contents: Contents, *, threads: int, context: int, cache_bits: int,
        kernels: str | None = None,
    ) -> None:  # fmt: skip
        """Raises ``NoLibrary``, or ``MemoryError`` if there is no room or no thread to be had.

        Args:
          kernels: a set by name (scalar, avx2, avxvnni, avx512, neon); else the best there is.
        """
        super().__init__(contents, context=context, cache_bits=cache_bits)
        self._process = os.getpid()
        self._library = load()
        name = kernels.encode() if kernels else None
        if not self._library.cider_kernels(name):
            raise NoLibrary(f"this processor has no {kernels!r}")
        self._layers = (_Layer * len(contents.shape.layers))()
        for number, layer in enumerate(contents.shape.layers):
            own = self._layers[number]
            own.heads, own.kv_heads, own.hidden = layer.heads, layer.kv_heads, layer.hidden
            for part in NORMS:
                setattr(own, part, contents.vectors[f"layers.{number}.{part}"].ctypes.data)
            for part in LINEAR:
                setattr(own, part, matrix(contents.matrices[f"layers.{number}.{part}"]))
        shape = contents.shape
        self._model = _Model(
            shape.vocabulary, shape.width, shape.head, len(shape.layers), shape.norm_eps,
            float(self.query_factor), cache_bits, 0, contents.vectors["norm"].ctypes.data,
            matrix(contents.matrices["embedding"]), self._layers,
        )  # fmt: skip
        self._adapters: WeakKeyDictionary[LoadedAdapter, Any] = WeakKeyDictionary()
        self._engine = self._library.cider_engine(
            ctypes.byref(self._model), threads, self.capacity, context, name
        )
        if not self._engine:
            raise MemoryError(f"no room for an engine of {threads} threads and {context} tokens")

    def __del__(self, process: Callable[[], int] = os.getpid) -> None:
        # A process that was forked has none of the threads that would be waited for. At the end of
        # one the names of this module may be gone: what is called is bound here.
        if getattr(self, "_engine", None) and self._process == process():
            self._library.cider_engine_free(self._engine)
            self._engine = None

    @property
    def name(self) -> str:
        return str(self._library.cider_engine_kernels(self._engine).decode())

    def _forward(self, steps: Steps, job: Step) -> None:
        """Fill the outputs of ``job``."""
        tables = [
            np.array([block.ctypes.data for block in sequence.blocks], np.uint64)
            for sequence, _ in steps
        ]
        counts = [len(ids) for _, ids in steps]
        blocks = np.repeat(np.array([t.ctypes.data for t in tables], np.uint64), counts)
        adapters = None
        if any(sequence.adapter is not None for sequence, _ in steps):
            own = [self._adapted(sequence.adapter) for sequence, _ in steps]
            adapters = np.repeat(np.array(own, np.uint64), counts)
        given = _Job(
            len(job.ids), len(job.output_rows), job.ids.ctypes.data, job.positions.ctypes.data,
            blocks.ctypes.data, self.cos.ctypes.data, self.sin.ctypes.data,
            job.output_rows.ctypes.data, job.logits.ctypes.data, _address(job.hidden),
            _address(job.targets), _address(job.nats), _address(job.first), _address(adapters),
        )  # fmt: skip
        if self._library.cider_forward(self._engine, ctypes.byref(given)):
            raise ValueError("tokens or positions are out of bounds")

    def _adapted(self, adapter: LoadedAdapter | None) -> int:
        """Address of an adapter as C takes it, 0 for none; made once for each."""
        if adapter is None:
            return 0
        found = self._adapters.get(adapter)
        if found is None:
            found = (_Adapted * len(self._layers))()
            for number, own in enumerate(found):
                for place, parts in enumerate(TOGETHER):
                    if (inner := adapter.inner.get(f"layers.{number}.{parts[0]}")) is not None:
                        own.a[place] = matrix(inner.packed)
                        own.ranks[place] = _address(inner.ranks)
                for place, part in enumerate(LINEAR):
                    if (outer := adapter.outer.get(f"layers.{number}.{part}")) is not None:
                        own.b[place] = factor(outer)
            self._adapters[adapter] = found
        return ctypes.addressof(found)


def _address(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
