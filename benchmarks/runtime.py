"""Decode, prefill and memory traffic of the runtime, beside llama.cpp on the same model.

    npm pack @node-llama-cpp/linux-x64 && tar xzf node-llama-cpp-linux-x64-*.tgz
    python benchmarks/runtime.py --llama-cpp package/bins/linux-x64 --threads 1 2

A model of 100 million parameters with random weights: 14 layers of width 768, 12 heads and 4
key-value heads of 64, hidden width 2,048, a vocabulary of 16,384. Ours has 4 bits a weight, and 2
in the matrices `down`: 3.5. llama.cpp quantizes the same weights itself. Rounds are interleaved: in
each, every engine adds tokens behind a prompt of 32, then behind 2,000, and reads 512 tokens. The
figures are medians over rounds, and the best; a machine that does other things as well is told by
how far they are apart. Without ``--llama-cpp`` only ours is measured.

``read`` is how fast the machine reads memory: the sum or the maximum of 256 MB of whole numbers,
the best of many.
Decoding reads the whole file but for the rows of the embedding that are not looked up, and these
are read as the output layer: bytes a second are tokens a second (the median) times the size of the
file. Of a file of 50 MB a large cache keeps a part, so they can be above what memory gives; the
line ``ours, 4 times the layers`` is of a file that no such cache holds.

``generating`` is the whole of `Model.generate`, with what it draws: greedy, and by its defaults.

What adapters cost is told last: see ``benchmarks/runtime_adapters.py``. ``--only-adapters`` tells
nothing else.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import runtime_adapters  # noqa: E402
from models_here import some_matrix, some_weights  # noqa: E402
from tokenizers_here import small_tokenizer  # noqa: E402

from runtime.cache import Sequence  # noqa: E402
from runtime.file import Contents, read, write  # noqa: E402
from runtime.model import Model  # noqa: E402
from runtime.native import NativeEngine  # noqa: E402
from runtime.sampling import Sampling  # noqa: E402
from runtime.shape import Layer, Shape, matrices  # noqa: E402
from tokenizer import model_proto  # noqa: E402
from tokenizer.model import Tokenizer  # noqa: E402

SHAPE = Shape(16_384, 768, 64, (Layer(12, 4, 2048),) * 14, 5e5, 1e-6)
PROMPT, LONG, PREFILL, TOKENS = 32, 2000, 512, 24
DEEPER, GENERATED = 4, 64
KINDS = ("Q4_0", "Q4_K_M", "IQ4_NL")


def tokenizer_of(size: int) -> Tokenizer:
    """A tokenizer of as many pieces, most of which no text is made of."""
    model = model_proto.parse(small_tokenizer().content)
    for number in range(size - len(model.pieces)):
        piece = model.pieces.add()
        piece.piece, piece.score, piece.type = f"filler {number}", -1e6 - number, 1
    return Tokenizer(model.SerializeToString())


def make(path: str, shape: Shape = SHAPE) -> Contents:
    """The model at 3.5 bits a weight, made if it is not there yet."""
    if os.path.exists(path):
        return read(path)
    given = some_weights(shape, 0, (4,))
    rng = np.random.Generator(np.random.PCG64(1))
    for name, dims in matrices(shape).items():
        if name.endswith(".down"):
            given["weights"][name] = some_matrix(rng, *dims, 2)
    write(path, shape, tokenizer_of(shape.vocabulary), **given, facts={})
    return read(path)


def export(contents: Contents, folder: str, library: Any) -> dict[str, str]:
    """The same weights as llama.cpp's files, by kind."""
    from pipelines.exporting import dequantized
    from trainer.export_gguf import export_gguf

    source = os.path.join(folder, "f16.gguf")
    export_gguf(dequantized(contents), source, "f16")
    found = {}
    for kind in KINDS:
        found[kind] = os.path.join(folder, f"{kind}.gguf")
        library.quantize(source, found[kind], kind)
    os.remove(source)
    return found


class Ours:
    """Our engine, as an entry of the table."""

    def __init__(self, contents: Contents, threads: int, bits: int) -> None:
        self._engine = NativeEngine(contents, threads=threads, context=4096, cache_bits=bits)
        self.size = os.path.getsize(contents.path)
        self._new = lambda: Sequence(contents.shape, bits)
        self._long, self._short = self._new(), self._new()

    def prepare(self, ids: list[int]) -> None:
        self._engine.logits([(self._long, ids)])
        self._engine.logits([(self._short, ids[:PROMPT])])

    def step(self, long: bool, number: int) -> None:
        """One token behind the prompt; what an earlier round added is forgotten."""
        kept = self._long if long else self._short
        count = LONG if long else PROMPT
        if number == 0:
            self._now = kept.beginning(count)
        self._engine.logits([(self._now, [70 + number])])

    def prefill(self, ids: list[int]) -> None:
        self._engine.logits([(self._new(), ids)])


class Theirs:
    """llama.cpp, as an entry of the table. One context holds both prompts as one text, so that the
    short one is what the long one begins with."""

    def __init__(self, library: Any, path: str, threads: int) -> None:
        self.size = os.path.getsize(path)
        self._model = library.model(path, 4096, threads)
        self._other = library.model(path, 1024, threads)

    def prepare(self, ids: list[int]) -> None:
        self._model.decode(ids)
        self._other.decode(ids[:PROMPT])

    def step(self, long: bool, number: int) -> None:
        model = self._model if long else self._other
        if number == 0:
            model.forget(LONG if long else PROMPT)
        model.decode([70 + number])

    def prefill(self, ids: list[int]) -> None:
        self._other.forget()
        self._other.decode(ids)
        self._other.forget(PROMPT)


def read_limit(threads: int) -> float:
    """Bytes a second that so many threads read together, the best of 40."""
    parts = [np.ones((256 << 20) // threads // 8, np.int64) for _ in range(threads)]
    best = 0.0
    for number in range(40):
        # Which of the two reads faster differs between processors.
        calls = [part.sum if number % 2 else part.view(np.int32).max for part in parts]
        workers = [threading.Thread(target=call) for call in calls]
        begun = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, (256 << 20) / (time.perf_counter() - begun))
    return best


def beyond_caches(contents: Contents, threads: int, rounds: int) -> str:
    """A line of decoding a model of several times the size."""
    engine = Ours(contents, threads, 16)
    engine.prepare(list(range(70, 70 + PROMPT)))
    seconds = []
    for _ in range(rounds):
        for number in range(TOKENS):
            seconds.append(timed(lambda: engine.step(False, number)))  # noqa: B023
    return _line(f"ours, {DEEPER} times the layers", engine.size, [seconds[4:], [], []])


def generating(path: str, threads: int, rounds: int) -> list[str]:
    """Lines of whole tokens a second of ``Model.generate``."""
    model = Model.load(path, threads=threads, keep=0)
    ways = {"greedy": Sampling(temperature=0), "defaults": Sampling()}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, how in ways.items():
            begun = time.perf_counter()
            pieces = model.generate("The tide", tokens=GENERATED, sampling=how)
            while next(pieces, None) is not None:
                now = time.perf_counter()
                found[name].append(now - begun)
                begun = now
    return [f"generating, {name:12}{rate(own[GENERATED:]):>31}" for name, own in found.items()]


def timed(call: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def rate(seconds: list[float], count: int = 1) -> str:
    return f"{count / float(np.median(seconds)):7.0f} ({count / min(seconds):5.0f})"


def measure(entries: dict[str, Any], rounds: int, ids: list[int]) -> dict[str, list[list[float]]]:
    """Seconds of each entry: a token behind the short prompt, behind the long one, a prefill."""
    found: dict[str, list[list[float]]] = {name: [[], [], []] for name in entries}
    for entry in entries.values():
        entry.prepare(ids[:LONG])
    for _ in range(rounds):
        for name, entry in entries.items():
            for long in (False, True):
                for number in range(TOKENS):
                    seconds = timed(lambda: entry.step(long, number))  # noqa: B023
                    if number > 3:  # the first few find the caches of others
                        found[name][int(long)].append(seconds)
            found[name][2].append(timed(lambda: entry.prefill(ids[:PREFILL])))  # noqa: B023
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama-cpp", metavar="FOLDER", help="its shared libraries")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only-adapters", action="store_true")
    parser.add_argument("--work", metavar="FOLDER", help="keep the models there for the next time")
    arguments = parser.parse_args()
    ids = np.random.default_rng(0).integers(64, SHAPE.vocabulary, LONG).tolist()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or temporary
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "m.cider")
        contents = make(path)
        files, library = {}, None
        if arguments.llama_cpp:
            from llama_library import LlamaCpp

            library = LlamaCpp(arguments.llama_cpp)
            files = {kind: os.path.join(folder, f"{kind}.gguf") for kind in KINDS}
            if not all(os.path.exists(file) for file in files.values()):
                files = export(contents, folder, library)
        loads = [timed(lambda: read(path)) for _ in range(5)]
        quick = [timed(lambda: read(path, verify=False)) for _ in range(5)]
        megabytes = os.path.getsize(path) / 1e6
        print(f"{contents.bits_per_weight():.3f} bits a weight, {megabytes:.1f} MB")
        print(f"loads in {min(loads) * 1e3:.0f} ms, {min(quick) * 1e3:.0f} ms unverified")
        if not arguments.only_adapters:
            deeper = replace(SHAPE, layers=SHAPE.layers * DEEPER)
            deep = make(os.path.join(folder, "deep.cider"), deeper)
        for threads in arguments.threads:
            if arguments.only_adapters:
                runtime_adapters.report(contents, threads, arguments.rounds, ids, temporary)
                continue
            limit = read_limit(threads)
            entries: dict[str, Any] = {
                f"ours, cache of {bits} bits": Ours(contents, threads, bits) for bits in (16, 8)
            }
            entries |= {kind: Theirs(library, files[kind], threads) for kind in files}
            found = measure(entries, arguments.rounds, ids)
            print(
                f"\n{threads} threads; read {limit / 1e9:.1f} GB/s; tokens a second, median (best)"
            )
            print(f"{'':24}{'MB':>7}{'at 32':>16}{'at 2,000':>16}{'prefill 512':>16}{'GB/s':>8}")
            for name, seconds in found.items():
                print(_line(name, entries[name].size, seconds))
            entries.clear()
            gc.collect()
            print(beyond_caches(deep, threads, arguments.rounds))
            print("\n".join(generating(path, threads, arguments.rounds)))
            _ratios(found)
            runtime_adapters.report(contents, threads, arguments.rounds, ids, temporary)


def _line(name: str, size: int, seconds: list[list[float]]) -> str:
    short, long, prefill = seconds
    rates = rate(short), rate(long) if long else "", rate(prefill, PREFILL) if prefill else ""
    told = "".join(f"{own:>16}" for own in rates)
    return f"{name:24}{size / 1e6:7.1f}{told}{size / float(np.median(short)) / 1e9:8.1f}"


def _ratios(found: dict[str, list[list[float]]]) -> None:
    """Ours over each of theirs."""
    ours, *_ = found.values()
    for name, theirs in found.items():
        if not name.startswith("ours"):
            parts = [np.median(b) / np.median(a) for a, b in zip(ours, theirs, strict=True)]
            print(f"ours over {name:14}{parts[0]:31.2f}{parts[1]:16.2f}{parts[2]:16.2f}")


if __name__ == "__main__":
    main()
