"""What adapters cost the runtime: a part of ``benchmarks/runtime.py``.

Four adapters of rank 16 on all linear maps, of random factors. In each round four dozen tokens are
added of each kind: without an adapter, with one, and batches of four texts with none, with one for
all, with four. Tokens of one kind follow each other, as in use, so that each finds in the caches
what its own kind has left there: the first are left out, and so are tokens during which the system
has put a thread off. Ratios are medians over the same tokens of a round.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from runtime.adapter_files import read_adapter, write_adapter
from runtime.adapters import ADAPTER_BITS, WIDTHS, LoadedAdapter, load_adapter
from runtime.cache import Sequence
from runtime.file import Contents
from runtime.model import Model
from runtime.native import NativeEngine
from runtime.shape import matrices

RANK, ADAPTERS = 16, 4
PROMPT, PREFILL, TOKENS = 32, 512, 48
SETTLED = 16
"""Tokens of a kind that are left out: the caches hold what another has read."""


def write_all(contents: Contents, folder: str) -> list[str]:
    """Folders of adapters that change outputs by about a tenth."""
    found = []
    for seed in range(ADAPTERS):
        rng = np.random.Generator(np.random.PCG64(seed))
        factors = {}
        for name, (rows, columns) in matrices(contents.shape).items():
            if name != "embedding":
                a = rng.standard_normal((RANK, columns), np.float32) / np.float32(columns**0.5)
                b = rng.standard_normal((rows, RANK), np.float32) * np.float32(0.025)
                factors[name] = (a, b)
        found.append(os.path.join(folder, f"adapter{seed}"))
        write_adapter(found[-1], factors, contents.digest)
    return found


def from_disk(contents: Contents, folder: str, bits: int = ADAPTER_BITS) -> LoadedAdapter:
    """An adapter that is ready to run; its file lies in the system's cache."""
    dims = matrices(contents.shape)
    return load_adapter(read_adapter(folder, contents.digest, dims), contents.shape, bits=bits)


class Text:
    """Some sequences that go on together, again and again from behind the same prompt."""

    def __init__(
        self, engine: NativeEngine, contents: Contents, ids: list[int],
        adapters: list[LoadedAdapter | None],
    ) -> None:  # fmt: skip
        self._engine, self._adapters = engine, adapters
        self._contents, self._ids = contents, ids
        self._prompts = [self._new(adapter) for adapter in adapters]
        engine.logits([(prompt, ids[:PROMPT]) for prompt in self._prompts])

    def _new(self, adapter: LoadedAdapter | None) -> Sequence:
        return Sequence(self._contents.shape, 16, adapter=adapter)

    def step(self, number: int) -> None:
        """A token of each; the first is the first behind the prompt."""
        if number == 0:
            self._now = [prompt.beginning(PROMPT) for prompt in self._prompts]
        self._engine.logits([(one, [70 + number]) for one in self._now])

    def prefill(self) -> None:
        """A prompt of 512 tokens with the first adapter."""
        self._engine.logits([(self._new(self._adapters[0]), self._ids[:PREFILL])])


def measure(texts: dict[str, Text], rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of a step of each, and of a prefill."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in texts}
    for _ in range(rounds):
        for name, text in texts.items():
            for number in range(TOKENS):
                before = interruptions()
                seconds = timed(lambda: text.step(number))  # noqa: B023
                left_out = number < SETTLED or interruptions() != before
                found[name][0].append(float("nan") if left_out else seconds)
        for name in ("none", "one"):
            found[name][1].append(timed(texts[name].prefill))
    return found


def interruptions() -> int:
    """How often threads of this process have been put off for others."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def timed(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def slower(of: list[float], over: list[float]) -> str:
    """By how much, as the median over the same tokens of a round."""
    ratios = np.array(of) / np.array(over)
    ratios = ratios[np.isfinite(ratios)]
    return f"{100 * (np.median(ratios) - 1):+6.1f} %" if ratios.size else "never undisturbed"


def report(contents: Contents, threads: int, rounds: int, ids: list[int], folder: str) -> None:
    """Measure, and print a table for each width of factors."""
    folders = write_all(contents, folder)
    for bits in WIDTHS:
        table(contents, threads, rounds, ids, folders, bits)


def table(
    contents: Contents, threads: int, rounds: int, ids: list[int], folders: list[str], bits: int
) -> None:
    """Measure with factors of one width, and print a table."""
    adapters = [from_disk(contents, own, bits) for own in folders]
    reads = [timed(lambda: from_disk(contents, folders[0], bits)) for _ in range(20)]
    engine = NativeEngine(contents, threads=threads, context=1024, cache_bits=16)
    batches: dict[str, list[LoadedAdapter | None]] = {
        "none": [None],
        "one": adapters[:1],
        "4 texts, none": [None] * 4,
        "4 texts, one": adapters[:1] * 4,
        "4 texts, four": list(adapters),
    }
    texts = {name: Text(engine, contents, ids, own) for name, own in batches.items()}
    found = measure(texts, rounds)
    size = adapters[0].nbytes / 1e6
    print(
        f"\n{threads} threads; adapters of rank {RANK} on all maps, factors of {bits} bits, "
        f"{size:.1f} MB in memory"
    )
    print(f"{'ms, median (best)':24}{'a token of each':>22}{'prefill 512':>22}")
    for name, parts in found.items():
        told = [f"{np.nanmedian(own) * 1e3:9.3f} ({np.nanmin(own) * 1e3:7.3f})"
                for own in parts if not np.isnan(own).all()]  # fmt: skip
        print(f"{name:24}" + "".join(f"{text:>22}" for text in told))
    for what, part, name, base in (
        ("a token with an adapter", 0, "one", "none"),
        ("prefill with an adapter", 1, "one", "none"),
        ("4 texts with one adapter", 0, "4 texts, one", "4 texts, none"),
        ("four adapters over one", 0, "4 texts, four", "4 texts, one"),
    ):
        print(f"{what:32}{slower(found[name][part], found[base][part])}")
    print(f"an adapter from disk: {np.median(reads) * 1e3:.1f} ms (best {min(reads) * 1e3:.1f})")
    print(f"a switch of a resident adapter: {switch(contents, adapters) * 1e6:.0f} us")


def switch(contents: Contents, adapters: list[LoadedAdapter]) -> float:
    """Seconds from the wish for another adapter to when a token could begin with it, both having
    been used before: median."""
    model = Model(contents, threads=1, context=64)
    for adapter in adapters:
        model.use(adapter)
        model.logits([70])
    engine = model._ready()
    assert isinstance(engine, NativeEngine)
    found = []
    for number in range(200):
        own = adapters[number % len(adapters)]
        begun = time.perf_counter()
        model.use(own)
        engine._adapted(own)  # what a call hands to the kernels
        found.append(time.perf_counter() - begun)
    return float(np.median(found))
