"""llama.cpp through ctypes, from the shared libraries of npm's ``@node-llama-cpp/linux-x64``.

    npm pack @node-llama-cpp/linux-x64 && tar xzf node-llama-cpp-linux-x64-*.tgz
    ... --llama-cpp package/bins/linux-x64

Parameters are structures that are handed over by value and grow with each release. Here they are
as many bytes as ever they may have, of which the library reads as many as it knows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FTYPES = {"Q4_0": 2, "Q8_0": 7, "Q3_K_M": 12, "Q4_K_M": 15, "IQ4_NL": 25}
"""Of ``enum llama_ftype``."""


class _Parameters(ctypes.Structure):
    _fields_ = (("words", c_uint32 * 256),)


class _Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", c_int32), ("token", POINTER(c_int32)), ("embd", c_void_p), ("pos", c_void_p),
        ("n_seq_id", c_void_p), ("seq_id", c_void_p), ("logits", POINTER(c_int8)),
    )  # fmt: skip


_QUIET = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)(lambda level, text, data: None)


class LlamaCpp:
    """The libraries of a folder."""

    def __init__(self, folder: str) -> None:
        names = ("libggml-base*.so*", "libggml.*so*", "libllama.*so*")
        loaded = [
            ctypes.CDLL(str(sorted(Path(folder).glob(name))[0]), mode=ctypes.RTLD_GLOBAL)
            for name in names
        ]
        loaded[1].ggml_backend_load_all_from_path(folder.encode())
        self.lib: Any = loaded[2]
        self.lib.llama_log_set(_QUIET, None)
        self.lib.llama_backend_init()
        for name in ("model", "context", "model_quantize"):
            getattr(self.lib, f"llama_{name}_default_params").restype = _Parameters
        self.lib.llama_model_load_from_file.argtypes = [c_char_p, _Parameters]
        self.lib.llama_model_load_from_file.restype = c_void_p
        self.lib.llama_model_quantize.argtypes = [c_char_p, c_char_p, POINTER(_Parameters)]
        self.lib.llama_init_from_model.argtypes = [c_void_p, _Parameters]
        self.lib.llama_init_from_model.restype = c_void_p
        self.lib.llama_batch_get_one.argtypes = [POINTER(c_int32), c_int32]
        self.lib.llama_batch_get_one.restype = _Batch
        self.lib.llama_decode.argtypes = [c_void_p, _Batch]
        self.lib.llama_get_logits_ith.argtypes = [c_void_p, c_int32]
        self.lib.llama_get_logits_ith.restype = POINTER(c_float)
        self.lib.llama_get_logits.argtypes = [c_void_p]
        self.lib.llama_get_logits.restype = POINTER(c_float)
        self.lib.llama_set_n_threads.argtypes = [c_void_p, c_int32, c_int32]
        self.lib.llama_get_memory.argtypes = [c_void_p]
        self.lib.llama_get_memory.restype = c_void_p
        self.lib.llama_memory_clear.argtypes = [c_void_p, c_bool]
        self.lib.llama_memory_seq_rm.argtypes = [c_void_p, c_int32, c_int32, c_int32]

    def quantize(self, source: str, target: str, kind: str) -> None:
        """Write a GGUF of F16 as another kind, with llama.cpp's own choices for each tensor."""
        given = self.lib.llama_model_quantize_default_params()
        given.words[0], given.words[1] = 2, FTYPES[kind]
        if self.lib.llama_model_quantize(source.encode(), target.encode(), given):
            raise RuntimeError(f"llama.cpp cannot quantize to {kind}")

    def model(self, path: str, context: int, threads: int) -> LlamaModel:
        """Load a GGUF."""
        return LlamaModel(self.lib, path, context, threads)


class LlamaModel:
    """A model with one sequence in its cache."""

    def __init__(self, lib: Any, path: str, context: int, threads: int) -> None:
        self.lib = lib
        loaded = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not loaded:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        given = lib.llama_context_default_params()
        given.words[0] = context
        self._context = lib.llama_init_from_model(loaded, given)
        self._vocabulary = 0
        lib.llama_set_n_threads(self._context, threads, threads)

    def decode(self, ids: list[int]) -> None:
        """Go on with ids."""
        tokens = (c_int32 * len(ids))(*ids)
        if self.lib.llama_decode(self._context, self.lib.llama_batch_get_one(tokens, len(ids))):
            raise RuntimeError("llama.cpp cannot decode")

    def each(self, ids: Sequence[int], first: int, vocabulary: int) -> NDArray[np.float32]:
        """Logits of a text of its own, of what follows the places from ``first`` on, but for the
        last: (places, vocabulary). They last until the next call."""
        self.forget()
        count = len(ids)
        tokens = (c_int32 * count)(*ids)
        wanted = (c_int8 * count)(*(int(first <= place < count - 1) for place in range(count)))
        batch = _Batch(count, tokens, None, None, None, None, wanted)
        if self.lib.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp cannot decode")
        found = self.lib.llama_get_logits(self._context)
        return np.ctypeslib.as_array(found, (count - 1 - first, vocabulary))

    def logits(self, vocabulary: int) -> NDArray[np.float32]:
        """Of the last token."""
        found = self.lib.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(found, (vocabulary,)).copy()

    def forget(self, after: int = 0) -> None:
        """Keep the first ``after`` tokens of the cache."""
        memory = self.lib.llama_get_memory(self._context)
        self.lib.llama_memory_seq_rm(memory, 0, after, -1)
