"""From a quantized model and examples to an adapter: the runtime holds, the trainer trains."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.quantizing import Bar
from pipelines.runtime_scores import runtime_scores
from runtime.adapter_files import Adapter, read_adapter, write_adapter
from runtime.adapters import load_adapter
from runtime.file import Contents
from runtime.model import Model as RuntimeModel
from runtime.shape import matrices
from trainer import adapt, recover
from trainer.completions import Known, judge
from trainer.examples import Example, digest, example_batches, windows_of
from trainer.model_files import Model
from trainer.shape import Shape
from trainer.stages import Stage
from trainer.step import PART_TOKENS
from trainer.student import Row
from trainer.watch import Diverged

EPOCHS = 3.0
LEAST_STEPS = 100
"""Without a budget all examples are seen so many times, and of few examples so many steps made."""

LEAST_LENGTH = 64


@dataclass(frozen=True)
class Settings:
    """How an adapter is trained.

    Args:
      rank: of an adapter that starts from nothing.
      rate: the peak learning rate.
      epochs: how many times all examples are seen; ``None`` for ``EPOCHS``, or more of few.
      batch_tokens: of a step, padding included.
      seed: of the order of examples, of first values, and of what is set aside.
    """

    rank: int = 16
    rate: float = adapt.RATE
    epochs: float | None = None
    batch_tokens: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("rank", 1), ("batch_tokens", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.epochs is not None and not self.epochs > 0:
            raise ValueError(f"{self.epochs:g} epochs; there must be more than 0")


@dataclass(frozen=True)
class Start:
    """What training begins with.

    Args:
      factors: of every linear map, with a scale of 1.
      sha256: of the adapter's weights, ``None`` for a fresh one.
    """

    factors: recover.Factors = field(repr=False)
    sha256: str | None = None

    @property
    def rank(self) -> int:
        """Of the factors, the same for all."""
        return next(len(a) for a, _ in self.factors.values())


def fresh(shape: Shape, settings: Settings) -> Start:
    """Factors that change nothing yet. Raises ``ValueError`` for a rank above a matrix's own."""
    return Start(recover.draw(shape, settings.rank, settings.seed))


def begun(folder: str, contents: Contents, shape: Shape, settings: Settings) -> Start:
    """The factors of an adapter, with drawn ones for the maps that it leaves alone.

    Raises:
      AdapterError: there is none, it is damaged, or of another base.
      ValueError: its rank is above that of a map that it leaves alone.
    """
    own = read_adapter(folder, contents.digest, matrices(contents.shape))
    scaled = {name: (a, np.float32(own.scale) * b) for name, (a, b) in own.factors.items()}
    return Start(adapt.filled(scaled, shape, settings.seed), own.sha256)


def plan(examples: Sequence[Example], settings: Settings) -> Stage:
    """The stage. Windows are the least power of two that holds the longest example, so that none is
    cut."""
    longest = max(len(example) for example in examples)
    length = max(LEAST_LENGTH, 1 << (longest - 1).bit_length())
    windows = windows_of(examples, length)
    rows = min(max(1, settings.batch_tokens // length), windows)
    part = max(1, PART_TOKENS // length)
    if rows > part:
        # Whole parts: a batch of 17 rows would go through the model a row at a time.
        rows = part * round(rows / part)
    epochs = settings.epochs
    if epochs is None:
        epochs = max(EPOCHS, LEAST_STEPS * rows / windows)
    steps = max(1, math.ceil(epochs * windows / rows))
    return Stage(
        "adapting", steps * rows * length, length, rows, recover.optimizer(settings.rate),
        warmup=0.1, floor=0.05,
    )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """All that a task's adapter is made of, checked and ready.

    Args:
      model: the quantized one, with the weights that it stands for.
      examples: what is learned from.
      held_out: what is judged on; may be empty.
    """

    contents: Contents
    model: Model
    start: Start
    examples: Sequence[Example]
    held_out: Sequence[Example]
    settings: Settings

    @functools.cached_property
    def stage(self) -> Stage:
        """How training goes."""
        return plan(self.examples, self.settings)

    @property
    def epochs(self) -> float:
        """How many times it goes through all examples."""
        stage = self.stage
        return stage.steps * stage.batch / windows_of(self.examples, stage.length)

    def facts(self) -> dict[str, Any]:
        """What decides the adapter's bytes, as its configuration tells it."""
        stage, settings = self.stage, self.settings
        return {
            "examples": {"count": len(self.examples), "sha256": digest(self.examples)},
            "start": self.start.sha256, "rank": self.start.rank, "rate": settings.rate,
            "seed": settings.seed, "epochs": self.epochs, "steps": stage.steps,
            "batch": stage.batch, "length": stage.length,
        }  # fmt: skip

    def perform(self, bar: Bar) -> Adapted:
        """Judge, train, and judge again.

        Raises:
          Diverged: the loss is no number or runs away, or factors do.
        """
        judged = {}
        judge = Judge(self.contents, self.held_out, bar) if self.held_out else None
        if judge is not None:
            judged["base"] = judge("the base", None)
            if self.start.sha256 is not None:
                judged["start"] = judge("the start", self.start.factors)
        factors, losses = self._train(bar)
        if judge is not None:
            judged["adapted"] = judge("the adapter", factors)
        return Adapted(factors, losses, judged)

    def _train(self, bar: Bar) -> tuple[recover.Factors, list[float]]:
        stage, losses = self.stage, []
        batches = example_batches(self.examples, stage.length, stage.batch, self.settings.seed)
        with bar(stage.name, stage.tokens) as seen:

            def tell(row: Row) -> None:
                losses.append(row["loss"])
                seen(stage.step_tokens)

            factors = adapt.adapt(
                self.model.shape, self.model.params, self.start.factors, stage, batches, tell
            )
        if not all(_fit(part) for pair in factors.values() for part in pair):
            raise Diverged("factors have grown beyond what 16 bits hold")
        return factors, losses


def _fit(factor: NDArray[np.float32]) -> bool:
    return bool(np.abs(factor).max() <= np.finfo(np.float16).max)


@dataclass(frozen=True)
class Adapted:
    """What came of a task.

    Args:
      losses: of each step, in nats a token of completions.
      judged: on the examples held out: the base, the start if it is an adapter, and what came.
    """

    factors: recover.Factors = field(repr=False)
    losses: Sequence[float]
    judged: Mapping[str, Known]


def write(
    folder: str, contents: Contents, factors: recover.Factors, facts: Mapping[str, Any]
) -> None:
    """Write an adapter for a quantized model, whole or not at all."""
    name = str(contents.facts.get("model", ""))
    write_adapter(folder, factors, contents.digest, base_name=name, facts=facts)


class Judge:
    """What a quantized model makes of the same examples with one adapter and another."""

    def __init__(self, contents: Contents, examples: Sequence[Example], bar: Bar) -> None:
        self._window = max(len(example) for example in examples)
        self._model = RuntimeModel(contents, context=self._window, keep=0)
        self._examples, self._bar = examples, bar
        self._tokens = sum(len(example) for example in examples)

    def __call__(self, name: str, factors: recover.Factors | None) -> Known:
        """Score the base alone, or with factors in 16 bits as their file will hold them.

        Raises:
          AdapterError: factors are not finite in 16 bits.
        """
        contents = self._model.contents
        adapter = None
        if factors is not None:
            adapter = load_adapter(Adapter(factors, 1.0, contents.digest, ""), contents.shape)
        self._model.use(adapter)
        with self._bar(f"judging {name}", self._tokens) as seen:
            return judge(runtime_scores(self._model, self._window), self._examples, seen)
