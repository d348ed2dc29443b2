"""A training run on the terminal: one line that moves, and what is worth a line of its own."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from pipelines.amounts import show_count
from tokenizer.stream import Costs
from trainer.journal import Row
from trainer.loop import Settings, Tell
from trainer.stages import Stage

MEMORY = 0.9
LINES = 20
"""Without a terminal, a line so often in a stage."""


class Show(Tell):
    """Progress bar with loss, tokens a second and time left; lines where there is no terminal.

    Use as a context manager.
    """

    def __init__(self, active: bool) -> None:
        self._active = active
        self._bar: tqdm[Any] | None = None
        self._stage: Stage | None = None
        self._mean: float | None = None
        self._done = self._seen = 0
        self._total = 0.0
        self._begun = 0
        self._texts: dict[str, dict[str, int]] = {}
        # Speed is told without the first step, which compiles, and without validation.
        self._since: float | None = None

    def __enter__(self) -> Show:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def begin(self, settings: Settings) -> None:
        """Tell what is trained."""
        shape = settings.shape
        body = shape.parameters - shape.embedding_parameters
        total = sum(stage.steps * stage.step_tokens for stage in settings.stages)
        self.say(
            f"model of {show_count(body)} parameters and {show_count(shape.embedding_parameters)} "
            f"in the embedding; {show_count(total)} tokens in "
            f"{sum(stage.steps for stage in settings.stages)} steps, {settings.compute}"
        )

    def stage(self, stage: Stage, done: int) -> None:
        self._close()
        self._stage, self._done, self._begun = stage, done, done
        self._since = None
        if done:
            self.say(f"{stage.name}: going on after step {done} of {stage.steps}")
        if self._active and sys.stderr.isatty():
            self._bar = tqdm(
                total=stage.steps * stage.step_tokens, initial=done * stage.step_tokens,
                desc=stage.name, unit=" tokens", unit_scale=True, smoothing=0.05,
            )  # fmt: skip

    def step(self, row: Row) -> None:
        assert self._stage is not None
        now = time.monotonic()
        if self._since is not None:
            self._seen += row["seen"]
            self._total += now - self._since
        self._since = now
        self._done += 1
        loss = row["loss"]
        self._mean = loss if self._mean is None else MEMORY * self._mean + (1 - MEMORY) * loss
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {self._mean:.3f}", refresh=False)
            self._bar.update(row["seen"])
        elif self._done % max(1, self._stage.steps // LINES) == 0:
            left = (
                (self._stage.steps - self._done) * (self._total / max(1, self._seen)) * row["seen"]
            )
            self.say(
                f"{self._stage.name}: step {self._done} of {self._stage.steps}, loss "
                f"{self._mean:.3f}, {self.speed():.0f} tokens/s, {left:.0f} s left"
            )

    def validated(self, row: Row) -> None:
        self._since = time.monotonic()
        self.say(f"step {row['step']}: {row['bits_per_byte']:.4f} bits/byte on held-out documents")

    def read(self, stage: Stage, costs: Costs) -> None:
        since = f" since step {self._begun} of it" if self._begun else ""
        self.say("\n".join([f"{stage.name}: the texts that were read{since}", *costs.lines()]))
        self._texts[stage.name] = {"since_step": self._begun, **asdict(costs)}

    def say(self, text: str) -> None:
        if self._active:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def speed(self) -> float:
        """Tokens a second."""
        return self._seen / self._total if self._total else 0.0

    def facts(self) -> dict[str, Any]:
        """What this process has measured; differs from run to run. ``texts`` are by stage."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unit = 1 if sys.platform == "darwin" else 1024
        texts = {"texts": self._texts} if self._texts else {}
        return {"tokens_per_second": self.speed(), "peak_memory_bytes": peak * unit, **texts}

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
