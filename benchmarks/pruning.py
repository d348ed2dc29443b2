"""A small model that was cut out of a larger one and taught by it, beside one trained from scratch.

    python benchmarks/pruning.py --shards FOLDER --tokenizer FOLDER --to WORK [--seeds 3]

FOLDER holds shards with documents set aside. One **parent**, the 1m preset with twice its
feed-forward width, is trained with ``--parent-tokens``. For each seed, with the dimensions of the
preset:

* **scratch**: the preset from drawn weights, with ``--tokens``;
* **distilled**: the preset from drawn weights, with ``--tokens`` and the parent's labels;
* **pruned**: the parent, masks learned over a quarter of ``--tokens`` that keep half of its
  feed-forward values, then three quarters of training without labels;
* **pruned, distilled**: the same with the parent's labels (AFM 2024, section 4.1).

All have the same size and are trained on the same number of tokens; those that were pruned have
the parent's before that, and decay their rate twice. Seeds draw weights and the order of windows;
the parent is one, so deviations of pruned models do not tell how parents differ. Bits per byte on
the documents set aside and the share of tokens that a model finds likeliest, mean and standard
deviation over seeds. Labels of a teacher are its choice alone, and have nine tenths of the weight,
so what is trained on them learns to choose, and is too sure of its choice: the better the teacher,
the less that costs in bits. What is done is kept in WORK.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

# The tokenizer's benchmark has the name of the package, so the package must come first.
ROOT = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(ROOT), str(ROOT / "benchmarks")]

BATCH_TOKENS = 4096
RATE = 0.01


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    shards: Any
    tokenizer: Any
    texts: Sequence[Any]
    folder: Path

    def train(
        self, name: str, seed: int, shape: Any, stages: Sequence[Any], start: Any = None,
        labels: str | None = None,
    ) -> Any:  # fmt: skip
        """Train one model, or take it from an earlier run."""
        from tokenizer.reader import WindowReader
        from trainer.labels import open_labels
        from trainer.loop import Settings, Training
        from trainer.model_files import load_model

        folder = self.folder / f"{name}-{seed}"
        if not (folder / "model" / "model.json").exists():
            beside = {"teacher": open_labels(labels, self.shards)} if labels else None
            batch = stages[0].batch
            settings = Settings(
                shape, tuple(stages), seed, (self.shards.digest,) * len(stages),
                self.tokenizer.sha256,
                start=None if start is None else start.card["weights_sha256"],
                saves=1, validations=1,
            )  # fmt: skip
            Training(
                str(folder), settings, self.tokenizer,
                # Later stages read on with another order, not the same windows again.
                lambda stage: WindowReader(
                    self.shards, seed=100 * seed + stage, batch=batch, beside=beside
                ),
                self.texts, start=None if start is None else start.params,
            ).run()  # fmt: skip
        return load_model(str(folder))

    def judge(self, name: str, seed: int, model: Any) -> tuple[float, float]:
        """Bits per byte of a model, and the share of tokens that it finds likeliest."""
        from trainer.bits import judge
        from trainer.scoring import Scorer

        total = judge(Scorer(model.params, model.shape, self.shards.length), self.texts).total
        print(f"{name:<20}seed {seed}  {total.per_byte:.4f}  {total.accuracy:.2%}", flush=True)
        return total.per_byte, total.accuracy


def stage_of(bench: Bench, name: str, budget: int, **changes: Any) -> Any:
    """A stage of ``budget`` tokens."""
    from trainer.optimizer import Optimizer
    from trainer.stages import Stage

    length = bench.shards.length
    return Stage(
        name, budget, length, BATCH_TOKENS // length, Optimizer(rate=RATE), warmup=0.1, **changes
    )


def widened(small: Any) -> Any:
    """A model with twice the feed-forward width."""
    layers = tuple(replace(layer, hidden=2 * layer.hidden) for layer in small.layers)
    return replace(small, layers=layers)


def students(bench: Bench, small: Any, parent: Any, labels: str, tokens: int, seed: int) -> Any:
    """What every kind of small model is worth, by name."""
    masks = stage_of(bench, "masks", tokens // 4, keep=0.5)
    rest = tokens - tokens // 4
    plain, taught = (stage_of(bench, "core", tokens, labels=own) for own in (None, labels))
    after, after_taught = (stage_of(bench, "core", rest, labels=own) for own in (None, labels))
    runs = {
        "scratch": ([plain], None, None),
        "distilled": ([taught], None, labels),
        "pruned": ([masks, after], parent, None),
        "pruned, distilled": ([masks, after_taught], parent, labels),
    }
    found = {}
    for name, (stages, start, own) in runs.items():
        shape = small if start is None else start.shape
        found[name] = bench.judge(name, seed, bench.train(name, seed, shape, stages, start, own))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", required=True)
    parser.add_argument("--tokenizer", required=True, help="folder with tokenizer.model")
    parser.add_argument("--to", required=True)
    parser.add_argument("--parent-tokens", default="600k")
    parser.add_argument("--tokens", default="400k")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    os.makedirs(arguments.to, exist_ok=True)

    from stepping import same_settings

    from pipelines.amounts import parse_count
    from pipelines.training_data import held_out_texts
    from tokenizer.model import Tokenizer
    from tokenizer.shard_set import ShardSet
    from trainer import compute
    from trainer.labels import write_labels
    from trainer.shape import preset

    compute.start(arguments.to)
    same_settings(
        arguments.to, shards=ShardSet.open(arguments.shards).digest, tokens=arguments.tokens,
        parent_tokens=arguments.parent_tokens,
    )  # fmt: skip
    tokenizer = Tokenizer.load(os.path.join(arguments.tokenizer, "tokenizer.model"))
    bench = Bench(
        ShardSet.open(arguments.shards), tokenizer, held_out_texts(arguments.shards, tokenizer),
        Path(arguments.to),
    )  # fmt: skip
    small = preset("1m", tokenizer.vocab_size)
    budget = parse_count(arguments.parent_tokens, "--parent-tokens")
    held = sum(bench.shards.windows().values()) * bench.shards.length
    if held < max(budget, parse_count(arguments.tokens, "--tokens")):
        # A run would end with its data, and be compared with one that had more.
        sys.exit(f"the shards hold {held} tokens; give --tokens and --parent-tokens below that")
    parent = bench.train("parent", 0, widened(small), [stage_of(bench, "core", budget)])
    bench.judge("parent", 0, parent)
    labels = str(bench.folder / "labels")
    write_labels(parent, bench.shards, labels)
    tokens = parse_count(arguments.tokens, "--tokens")
    found = [
        students(bench, small, parent, labels, tokens, seed) for seed in range(arguments.seeds)
    ]
    for name in found[0]:
        values = [one[name][0] for one in found]
        gaps = [one[name][0] - one["scratch"][0] for one in found]
        right = [one[name][1] for one in found]
        spread = [stdev(v) if len(v) > 1 else 0.0 for v in (values, gaps, right)]
        print(
            f"{name:<20}{mean(values):.4f} ± {spread[0]:.4f} bits/byte, to scratch "
            f"{mean(gaps):+.4f} ± {spread[1]:.4f}; {mean(right):.2%} ± {spread[2]:.2%} of tokens"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
