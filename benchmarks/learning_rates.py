"""Whether the best learning rate stays where it is as a model grows wider, as a plot.

    python benchmarks/learning_rates.py --shards FOLDER --tokenizer FOLDER [--tokens 1M --seeds 3]
                                        --to WORK

Models of width 64, 128 and 256 and two layers are trained with AFM's optimizer at rates a factor
of two apart, with muP-simple (steps of linear maps scaled by 64 / width) and without. The loss is
the mean over the last tenth of the steps, and over seeds, which draw weights and the order of
windows. What is done is kept in WORK, so that the same command goes on. The best rate of each width
is the vertex of the parabola through the three points around the least loss, in the logarithm of
the rate. The embedding's steps are the same at every width, so a tokenizer with few pieces shows
better what the linear maps need.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from statistics import mean
from typing import Any

# The tokenizer's benchmark has the name of the package, so the package must come first.
ROOT = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(ROOT), str(ROOT / "benchmarks")]

WIDTHS = (64, 128, 256)
RATES = "0.0025,0.005,0.01,0.02,0.04"
BASE = 64
LAYERS, HEAD, BATCH_TOKENS = 2, 32, 1024
KINDS = {"muP-simple": BASE, "one rate for all": None}


def loss_of(
    arguments: argparse.Namespace, width: int, rate: float, base: int | None, seed: int
) -> float:
    """Train one model; gives the loss of the last tenth of its steps."""
    from pipelines.amounts import parse_count
    from tokenizer.model import Tokenizer
    from tokenizer.reader import WindowReader
    from tokenizer.shard_set import ShardSet
    from trainer.loop import Settings, Training
    from trainer.optimizer import Optimizer
    from trainer.shape import uniform
    from trainer.stages import Stage
    from trainer.watch import Diverged

    shards = ShardSet.open(arguments.shards)
    tokenizer = Tokenizer.load(os.path.join(arguments.tokenizer, "tokenizer.model"))
    batch = BATCH_TOKENS // shards.length
    stage = Stage(
        "core", parse_count(arguments.tokens, "--tokens"), shards.length, batch,
        Optimizer(rate=rate, mup_width=base), warmup=0.1,
    )  # fmt: skip
    heads = width // HEAD
    shape = uniform(tokenizer.vocab_size, width, LAYERS, heads, heads, HEAD, 3 * width)
    settings = Settings(shape, (stage,), seed, (shards.digest,), tokenizer.sha256, saves=1)
    # At the base's own width both ways are the same run.
    scaled = "scaled" if base is not None and base < width else "plain"
    folder = Path(arguments.to) / f"{width}-{rate:g}-{scaled}-{seed}"
    losses = folder / "losses.jsonl"
    if not (folder / "model" / "model.json").exists():
        try:
            Training(
                str(folder),
                settings,
                tokenizer,
                lambda _: WindowReader(shards, seed=seed, batch=batch),
            ).run()
        except Diverged:
            return math.inf
    rows = [json.loads(line)["loss"] for line in losses.read_text().splitlines()]
    last = rows[-max(1, len(rows) // 10) :]
    return sum(last) / len(last)


def vertex(losses: dict[float, float]) -> float:
    """The rate at the lowest point of the parabola through the best rate and its neighbours."""
    rates = sorted(losses)
    best = min(range(len(rates)), key=lambda n: losses[rates[n]])
    if best in (0, len(rates) - 1):
        return rates[best]
    a, b, c = (losses[rates[best + n]] for n in (-1, 0, 1))
    if math.inf in (a, c):
        return rates[best]
    step = math.log(rates[1] / rates[0])
    return rates[best] * math.exp(step * 0.5 * (a - c) / (a - 2 * b + c))


def draw(path: str, found: dict[str, dict[int, dict[float, float]]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (kind, by_width) in zip(
        figure.subplots(1, 2, sharey=True), found.items(), strict=True
    ):
        for (width, losses), colour in zip(
            by_width.items(), ("#7fb3c8", "#1f5a7a", "#b5542c"), strict=True
        ):
            rates = sorted(losses)
            axes.plot(rates, [losses[r] for r in rates], color=colour, marker="o", markersize=4,
                      label=f"width {width}")  # fmt: skip
            axes.axvline(vertex(losses), color=colour, linestyle=":", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.set_title(kind)
        axes.set_xlabel("peak learning rate")
        axes.grid(alpha=0.25)
        axes.legend()
    figure.axes[0].set_ylabel("nats a token, last tenth")
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", required=True)
    parser.add_argument("--tokenizer", required=True, help="folder with tokenizer.model")
    parser.add_argument("--tokens", default="1M")
    parser.add_argument("--rates", default=RATES, help=f"each twice the last (default: {RATES})")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--to", required=True)
    arguments = parser.parse_args()
    from stepping import same_settings

    from tokenizer.shard_set import ShardSet
    from trainer import compute

    compute.start(arguments.to)
    same_settings(
        arguments.to,
        shards=ShardSet.open(arguments.shards).digest,
        tokens=arguments.tokens,
        batch_tokens=BATCH_TOKENS,
    )
    found: dict[str, Any] = {}
    seeds = range(arguments.seeds)
    rates = [float(rate) for rate in arguments.rates.split(",")]
    for kind, base in KINDS.items():
        found[kind] = {}
        for width in WIDTHS:
            own = {
                rate: mean(loss_of(arguments, width, rate, base, seed) for seed in seeds)
                for rate in rates
            }
            found[kind][width] = own
            told = "  ".join(f"{rate:g}: {loss:.3f}" for rate, loss in own.items())
            if min(own, key=lambda rate: own[rate]) in (rates[0], rates[-1]):
                told += "   (at the edge: the best one may lie beyond)"
            print(f"{kind:<18}width {width:<5}best rate {vertex(own):.4f}   {told}", flush=True)
    draw(os.path.join(arguments.to, "learning_rates.png"), found)
    print(os.path.join(arguments.to, "learning_rates.png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
