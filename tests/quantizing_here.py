"""A small model for tests of quantization, trained far enough that two bits hurt it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from training_here import stage, training, write_text_shards

from tokenizer.reader import Batch, WindowReader
from tokenizer.shard_set import ShardSet
from trainer.model_files import Model, load_model
from trainer.optimizer import Optimizer
from trainer.shape import Layer, Shape

SHAPE = Shape(2000, 32, 16, (Layer(2, 1, 64),))
"""Dimensions that the runtime's kernels take; one layer compiles in half the time of two."""

ROWS = 16
STEPS = 120


class Endless:
    """Batches of all windows, again and again, each time in another order."""

    def __init__(self, shards: ShardSet, rows: int = ROWS, seed: int = 0) -> None:
        self._shards, self._rows, self._seed = shards, rows, seed

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from WindowReader(self._shards, seed=self._seed, batch=self._rows)
            self._seed += 1

    def get_state(self) -> dict[str, object]:
        return {}


@functools.cache
def trained() -> tuple[Path, Model, ShardSet]:
    """The folder of a run, its model and its shards; made once a process, and changed by no
    test."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    shards = write_text_shards(folder / "shards", texts=40)
    learning = stage(steps=4 * STEPS, batch=ROWS, optimizer=Optimizer(rate=0.03))
    training(
        folder / "run", shards, (learning,), shape=SHAPE, saves=1, validations=1,
        open_source=lambda _: Endless(shards),
    ).run()  # fmt: skip
    return folder / "run", load_model(str(folder / "run")), shards
