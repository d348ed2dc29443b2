"""Small runs of training for tests: shards of the project's own texts, models of a few thousand
parameters."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from shards_here import EOS, PAD, rows_of
from tokenizers_here import own_texts, small_tokenizer

from tokenizer.packing import pack
from tokenizer.reader import WindowReader
from tokenizer.shard_set import ShardSet
from tokenizer.shards import INDEX, build, make_index
from trainer.bits import prepare
from trainer.loop import Settings, Training
from trainer.model import initialise
from trainer.model_files import Model
from trainer.optimizer import Optimizer
from trainer.shape import Layer, Shape
from trainer.stages import Stage

# A program that one test has compiled is not compiled again in the next.
jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)

LENGTH = 32
SHAPE = Shape(2000, 16, 8, (Layer(2, 1, 64),) * 2)
TEXTS = [
    {"text": text[:600], "source": source, "language": "en"}
    for source, text in zip("abab", own_texts()[:4], strict=True)
]


def random_model(shape: Shape = SHAPE, seed: int = 3, gain: float = 1.0) -> Model:
    """A model as it is drawn, but for its norms, which would hide a fault if they were all 1.

    ``gain`` is times the last norm: the greater, the surer the model is.
    """
    params = initialise(shape, seed)
    random = np.random.default_rng(seed)
    for name, value in params.items():
        if value.ndim == 1:
            params[name] = random.uniform(0.5, 1.5, value.shape).astype(np.float32)
    params["norm"] *= np.float32(gain)
    return Model(params, shape, small_tokenizer(), {"weights_sha256": f"{shape} {seed} {gain}"})


def write_text_shards(folder: Path, length: int = LENGTH, texts: int = 12) -> ShardSet:
    """Shards of the project's own texts."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = small_tokenizer()
    tokens = [
        np.append(tokenizer.encode(text[:3000]), EOS).astype("<u2")
        for text in own_texts()[4 : 4 + texts]
    ]
    packed = pack(np.array([len(ids) for ids in tokens], np.int64), length, "best-fit")
    shard = build(
        "web-00000", "web", packed, tokens, rows_of("web", tokens), pad=PAD, dtype=np.dtype("<u2")
    )
    contents = shard.files()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    index = make_index(
        [shard.entry(contents)],
        length=length,
        dtype=np.dtype("<u2"),
        tokenizer={"sha256": tokenizer.sha256, "vocab_size": 2000, "pad": PAD, "eos": EOS},
        packing={"method": "best-fit"},
    )
    (folder / INDEX).write_text(json.dumps(index))
    return ShardSet.open(str(folder))


def stage(name: str = "core", steps: int = 12, **changes: Any) -> Stage:
    settings = {
        "tokens": steps * 4 * LENGTH, "length": LENGTH, "batch": 4,
        "optimizer": Optimizer(rate=0.05), "warmup": 0.1,
    }  # fmt: skip
    return Stage(name, **{**settings, **changes})  # type: ignore[arg-type]


def training(
    folder: Path, shards: ShardSet, stages: tuple[Stage, ...] = (stage(),), **options: Any
) -> Training:
    """A run over some shards, validated on four texts."""
    settings = Settings(
        shape=options.pop("shape", SHAPE),
        stages=stages,
        seed=options.pop("seed", 0),
        sources=tuple(options.pop("source", shards.digest) for _ in stages),
        tokenizer=small_tokenizer().sha256,
        saves=options.pop("saves", 4),
        validations=options.pop("validations", 2),
        keep=options.pop("keep", 3),
        context=options.pop("context", 0),
    )
    beside = options.pop("beside", None)
    return Training(
        str(folder),
        settings,
        small_tokenizer(),
        options.pop(
            "open_source",
            lambda _: WindowReader(shards, seed=settings.seed, batch=4, beside=beside),
        ),
        prepare(options.pop("texts", TEXTS), small_tokenizer()),
        **options,
    )
