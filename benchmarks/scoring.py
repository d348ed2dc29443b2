"""Documents and tokens a second of scoring a crawl, beside the same model as floats in JAX.

    python benchmarks/scoring.py --data FOLDER --model m.cider

FOLDER holds ``crawl/*.warc.gz``. Every n-th page, so that there are about as many as asked for, is
taken as the text a reader sees, of each at most its first 32 KB, as the stage ``model`` does by
default. Both see windows of 512 tokens that overlap by half. JAX runs the trainer's scorer on the
weights that the file stands for, in f32, compiled before anything is measured. Rounds are
interleaved; figures are medians over rounds, and the best. Times are of the wall clock. ``with
text`` is what the stage costs a document: tokenizing, scoring, and adding up paragraphs.

Both use as many threads as there are processors for this process; with ``taskset -c 0`` it is one.
How far apart their bits per byte are is the cost of 8-bit activations.
"""

from __future__ import annotations

import argparse
import glob
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from curation import visible_texts  # noqa: E402

from filters.model_score import ModelOptions  # noqa: E402
from pipelines.resources import cache_folder  # noqa: E402
from runtime.bits import cut, measure  # noqa: E402
from runtime.file import Contents  # noqa: E402
from runtime.layout import unpack  # noqa: E402
from runtime.model import WINDOW, Model  # noqa: E402
from runtime.shape import matrices  # noqa: E402


def float_scorer(contents: Contents) -> Any:
    """The trainer's scorer on the weights that a file stands for."""
    from trainer.scoring import Scorer
    from trainer.shape import Layer, Shape

    params: dict[str, Any] = dict(contents.vectors)
    for name, packed in contents.matrices.items():
        weights = unpack(packed).dequantized()
        params[name] = weights if name == "embedding" else weights.T
    fields = contents.shape.to_dict()
    layers = tuple(Layer(**layer) for layer in fields.pop("layers"))
    return Scorer(params, Shape(layers=layers, **fields), WINDOW)


def pages(folder: Path, most: int) -> list[str]:
    """The beginnings of about so many pages, spread over the crawl."""
    texts = [row["text"] for row in visible_texts(folder)]
    step = max(1, len(texts) // most)
    return [cut(text, ModelOptions().most_bytes) for text in texts[::step]]


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
    parser.add_argument("--documents", type=int, default=200, help="about so many (default: 200)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    arguments = parser.parse_args()
    if not arguments.data or not glob.glob(f"{arguments.data}/crawl/*.warc.gz"):
        print("skipped: --data names no folder with crawl/*.warc.gz")
        return
    if not arguments.model:
        print("skipped: --model names no .cider file; see cidermill quantize")
        return
    from trainer import compute

    compute.start(cache_folder())
    model = Model.load(arguments.model, context=WINDOW, keep=0)
    texts = pages(Path(arguments.data), arguments.documents)
    ids = [model.tokenizer.encode(text) for text in texts]
    plain = [own.tolist() for own in ids]
    scorer = float_scorer(model.contents)
    parameters = sum(rows * columns for rows, columns in matrices(model.shape).values())
    calls: dict[str, Callable[[], Any]] = {
        "runtime": lambda: model.score_ids(plain, window=WINDOW),
        "runtime, with text": lambda: [measure(model, [text], window=WINDOW) for text in texts],
        "JAX, f32": lambda: scorer(ids),
    }
    tokens, size = (
        sum(map(len, ids)),
        sum(model.tokenizer.byte_lengths[own[1:]].sum() for own in ids),
    )
    print(
        f"{parameters} parameters, {model.contents.bits_per_weight():.2f} bits a "
        f"weight, kernels {model.kernels}; {len(texts)} documents of {tokens} tokens"
    )
    found = {name: call() for name, call in calls.items() if name != "runtime, with text"}
    for name, scores in found.items():
        print(f"{name}: {bits(scores) / size:.4f} bits per byte")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            seconds[name].append(timed(call)[0])
    print(f"{'':20}{'documents/s':>20}{'tokens/s':>22}{'over JAX':>10}")
    for name, own in seconds.items():
        middle, best = float(np.median(own)), min(own)
        ratio = np.median(np.array(seconds["JAX, f32"]) / np.array(own))
        documents = f"{len(texts) / middle:.1f} ({len(texts) / best:.1f})"
        rate = f"{tokens / middle:.0f} ({tokens / best:.0f})"
        print(f"{name:20}{documents:>20}{rate:>22}{ratio:>10.2f}")


if __name__ == "__main__":
    main()
