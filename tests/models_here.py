"""Small quantized models for tests, of random weights."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy_twin import T, rms, rope
from tokenizers_here import small_tokenizer

from runtime.adapter_files import Adapter
from runtime.file import Contents, write
from runtime.layout import unpack
from runtime.palette import Palette, RowInt8, quantize_rows
from runtime.shape import Layer, Shape, matrices, vectors

SHAPE = Shape(2000, 96, 32, (Layer(4, 2, 160), Layer(2, 1, 96)), 5e5, 1e-6)
"""Layers that differ; a width and hidden widths that no power of two divides."""


def some_matrix(rng: np.random.Generator, rows: int, columns: int, bits: int) -> Palette | RowInt8:
    """A matrix of about the size of weights that keep what they multiply."""
    scale = np.float32(columns**-0.5)
    if bits == 8:
        return quantize_rows(rng.standard_normal((rows, columns), np.float32) * scale)
    tables = np.sort(rng.standard_normal((rows // 16, 1 << bits), np.float32), axis=1) * scale
    indices = rng.integers(0, 1 << bits, (rows, columns), np.uint8)
    return Palette(indices, tables, bits)


def some_weights(shape: Shape, seed: int, bits: tuple[int, ...]) -> dict[str, Any]:
    """Matrices and norms of a model; the matrices take ``bits`` in turn."""
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = {
        name: some_matrix(rng, *dims, 8 if name == "embedding" else bits[number % len(bits)])
        for number, (name, dims) in enumerate(matrices(shape).items())
    }
    norms = {
        name: rng.uniform(0.5, 1.5, length).astype(np.float32)
        for name, length in vectors(shape).items()
    }
    return {"weights": weights, "scales": norms}


def write_model(
    path: str, shape: Shape = SHAPE, seed: int = 0, bits: tuple[int, ...] = (4, 3, 2, 8),
    **facts: object,
) -> str:  # fmt: skip
    """A model's file; the path."""
    facts = {"seed": seed, **facts}
    write(path, shape, small_tokenizer(), **some_weights(shape, seed, bits), facts=facts)
    return path


def write_absurd(path: str, changes: dict[str, float], seed: int = 0) -> str:
    """A model's file whose checks pass, with norms or, by rows of 8 bits, matrices that are so many
    times too large; the path."""
    made = some_weights(SHAPE, seed, (8,))
    for name, times in changes.items():
        for group in made.values():
            if name in group:
                own = group[name]
                large = own.scales if isinstance(own, RowInt8) else own
                large[:] = large / large.max() * np.float32(times)
    write(path, SHAPE, small_tokenizer(), **made, facts={})
    return path


def float_logits(
    contents: Contents, ids: list[int], adapter: Adapter | None = None
) -> tuple[Any, Any]:
    """The model in 64 bits, spelled out, with weights as the file holds them, and an adapter's
    products added to them."""
    weights = {name: unpack(p).dequantized() for name, p in contents.matrices.items()}
    for name, (a, b) in adapter.factors.items() if adapter else ():
        weights[name] = weights[name] + adapter.scale * (b.astype(np.float64) @ a)
    w = {name: T(value.T) for name, value in weights.items()}
    scale = {name: T(value) for name, value in contents.vectors.items()}
    shape, eps = contents.shape, contents.shape.norm_eps
    x = T(weights["embedding"]).at(np.array(ids)).view(1, len(ids), shape.width)
    unseen = np.triu(np.ones((len(ids), len(ids)), bool), 1)
    positions = np.arange(len(ids))[None]
    for n, layer in enumerate(shape.layers):
        own = f"layers.{n}."
        h = rms(x, scale[own + "attention_norm"], eps)
        q, k, v = (
            (h @ w[own + part]).view(1, len(ids), -1, shape.head).swap(1, 2) for part in "qkv"
        )
        q = rope(rms(q, scale[own + "q_norm"], eps), positions, shape.rope_base)
        k = rope(rms(k, scale[own + "k_norm"], eps), positions, shape.rope_base)
        group = np.repeat(np.arange(layer.kv_heads), layer.heads // layer.kv_heads)
        k, v = k.at(np.s_[:, group]), v.at(np.s_[:, group])
        seen = ((q @ k.swap(2, 3)) * shape.head**-0.5).exp() * ~unseen
        mixed = (seen * seen.sum(-1).power(-1)) @ v
        x = x + mixed.swap(1, 2).view(1, len(ids), -1) @ w[own + "o"]
        h = rms(x, scale[own + "ffn_norm"], eps)
        gate = h @ w[own + "gate"]
        x = x + (gate * ((gate * -1).exp() + 1).power(-1) * (h @ w[own + "up"])) @ w[own + "down"]
    last = rms(x, scale["norm"], eps)
    return (last @ w["embedding"]).data[0], last.data[0]


@functools.cache
def a_model() -> str:
    """A model's file that no test changes, made once a process."""
    import atexit
    import shutil
    import tempfile

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return write_model(f"{folder}/m.cider")


def tokens_computed(one, monkeypatch) -> list[int]:
    """How many tokens each call of a model's engine takes, from now on."""
    found, forward = [], one._engine._forward

    def counted(steps, job):
        found.append(len(job.ids))
        forward(steps, job)

    monkeypatch.setattr(one._engine, "_forward", counted)
    return found
