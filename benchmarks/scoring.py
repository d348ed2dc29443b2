"""Documents and tokens a second of scoring a crawl, beside the same model in JAX and llama.cpp.

    npm pack @node-llama-cpp/linux-x64 && tar xzf node-llama-cpp-linux-x64-*.tgz
    python benchmarks/scoring.py --data FOLDER --model m.cider --llama-cpp package/bins/linux-x64

FOLDER holds ``crawl/*.warc.gz``. Every n-th page, so that there are about as many as asked for, is
taken as the text a reader sees, of each at most its first 32 KB, as the stage ``model`` does by
default. All see windows of 512 tokens that overlap by half. JAX runs the trainer's scorer on the
weights that the file stands for, in f32, compiled before anything is measured. llama.cpp has the
same weights in 16 bits, and in types of about 4 and 8 bits that it makes of them itself; it is
called for one window at a time and asked for the logits that count, and of these the likelihoods
are taken in numpy. ``decode`` is its own part of that alone. Rounds are interleaved; figures are
medians over rounds, and the best. Times are of the wall clock. ``with text`` is what the stage
costs a document: tokenizing, scoring, and adding up paragraphs.

All use as many threads as there are processors for this process; with ``taskset -c 0`` it is one.
How far apart the bits per byte of the runtime and of JAX are is the cost of 8-bit activations.
"""

from __future__ import annotations

import argparse
import glob
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from curation import pages, visible_text  # noqa: E402

from filters.model_score import ModelOptions  # noqa: E402
from pipelines.resources import cache_folder  # noqa: E402
from runtime.bits import cut, measure  # noqa: E402
from runtime.model import WINDOW, Model  # noqa: E402
from runtime.shape import matrices  # noqa: E402
from tokenizer.overlap import Scored, overlapping  # noqa: E402

JAX = "JAX, f32"
KINDS = ("F16", "Q8_0", "Q4_0")


class Llama:
    """llama.cpp with the weights that a file stands for, in one of its types."""

    def __init__(self, library: Any, path: str, vocabulary: int, texts: list[list[int]]) -> None:
        threads = len(os.sched_getaffinity(0))
        self._model, self._vocabulary = library.model(path, WINDOW, threads), vocabulary
        self._texts = texts
        self.decoding = 0.0

    def __call__(self) -> list[Scored]:
        """Score all texts; ``decoding`` tells the seconds without the likelihoods."""
        found, self.decoding = [], 0.0
        for ids in self._texts:
            nats = np.zeros(max(0, len(ids) - 1), np.float32)
            for start, end, counted in overlapping(len(ids), WINDOW):
                seconds, logits = timed(
                    partial(self._model.each, ids[start:end], counted - start, self._vocabulary)
                )
                self.decoding += seconds
                nats[counted : end - 1] = nats_of(logits, ids[counted + 1 : end])
            found.append(Scored(nats, np.zeros(0, np.bool_)))
        return found


def nats_of(logits: NDArray[np.float32], targets: list[int]) -> NDArray[np.float32]:
    """How unlikely each target is, by logits (targets, vocabulary)."""
    most = logits.max(1)
    total = np.exp(logits - most[:, None]).sum(1)
    found: NDArray[np.float32] = np.log(total) + most - logits[np.arange(len(targets)), targets]
    return found


def exported(weights: Any, library: Any, folder: str) -> dict[str, str]:
    """Files of a model, by llama.cpp's names of their types."""
    from trainer.export_gguf import export_gguf

    found = {kind: os.path.join(folder, f"{kind}.gguf") for kind in KINDS}
    export_gguf(weights, found["F16"], "f16")
    for kind in KINDS[1:]:
        library.quantize(found["F16"], found[kind], kind)
    return found


def beginnings(folder: Path, most: int) -> list[str]:
    """The beginnings of about so many pages, spread over the crawl."""
    found = list(pages(folder))
    texts = [visible_text(page) for page in found[:: max(1, len(found) // most)]]
    return [cut(text, ModelOptions().most_bytes) for text in texts if text]


def bits(scores: Any) -> float:
    """The bits of all texts together."""
    return sum(float(found.nats.sum(dtype=np.float64)) for found in scores) / math.log(2)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it gave."""
    begun = time.perf_counter()
    found = call()
    return time.perf_counter() - begun, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="FOLDER", help="with crawl/*.warc.gz")
    parser.add_argument("--model", metavar="FILE", help="a .cider file")
    parser.add_argument("--llama-cpp", metavar="FOLDER", help="its shared libraries")
    parser.add_argument("--documents", type=int, default=200, help="about so many (default: 200)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    arguments = parser.parse_args()
    if not arguments.data or not glob.glob(f"{arguments.data}/crawl/*.warc.gz"):
        print("skipped: --data names no folder with crawl/*.warc.gz")
    elif not arguments.model:
        print("skipped: --model names no .cider file; see cidermill quantize")
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(arguments, folder)


def compare(arguments: argparse.Namespace, folder: str) -> None:
    """Score the same pages with all there is, in turns, and print the table."""
    from trainer import compute

    compute.start(cache_folder())
    model = Model.load(arguments.model, context=WINDOW, keep=0)
    texts = beginnings(Path(arguments.data), arguments.documents)
    ids = [model.tokenizer.encode(text) for text in texts]
    parameters = sum(rows * columns for rows, columns in matrices(model.shape).values())
    tokens = sum(map(len, ids))
    size = sum(model.tokenizer.byte_lengths[own[1:]].sum() for own in ids)
    print(
        f"{parameters} parameters, {model.contents.bits_per_weight():.2f} bits a "
        f"weight, kernels {model.kernels}; {len(texts)} documents of {tokens} tokens",
        flush=True,
    )
    calls = scorers(model, ids, arguments.llama_cpp, folder)
    for name, call in calls.items():
        print(f"{name}: {bits(call()) / size:.4f} bits per byte", flush=True)
    calls["runtime, with text"] = lambda: [measure(model, [t], window=WINDOW) for t in texts]
    seconds: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            seconds.setdefault(name, []).append(timed(call)[0])
            if isinstance(call, Llama):
                seconds.setdefault(f"{name}, decode", []).append(call.decoding)
    print(f"{'':24}{'documents/s':>16}{'tokens/s':>18}{'over JAX':>10}")
    for name, own in seconds.items():
        middle, best = float(np.median(own)), min(own)
        ratio = np.median(np.array(seconds[JAX]) / np.array(own))
        documents = f"{len(texts) / middle:.1f} ({len(texts) / best:.1f})"
        rate = f"{tokens / middle:.0f} ({tokens / best:.0f})"
        print(f"{name:24}{documents:>16}{rate:>18}{ratio:>10.2f}")


def scorers(
    model: Model, ids: list[Any], libraries: str | None, folder: str
) -> dict[str, Callable[[], Any]]:
    """What is compared, by name: each scores all texts, which are ids."""
    from pipelines.exporting import dequantized
    from trainer.scoring import Scorer

    weights = dequantized(model.contents)
    scorer = Scorer(weights.params, weights.shape, WINDOW)
    listed = [own.tolist() for own in ids]
    found: dict[str, Callable[[], Any]] = {
        "runtime": lambda: model.score_ids(listed, window=WINDOW),
        JAX: lambda: scorer(ids),
    }
    if libraries:
        from llama_library import LlamaCpp

        library = LlamaCpp(libraries)
        for kind, path in exported(weights, library, folder).items():
            found[f"llama.cpp, {kind}"] = Llama(library, path, model.shape.vocabulary, listed)
    return found


if __name__ == "__main__":
    main()
