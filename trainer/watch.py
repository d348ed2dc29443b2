"""When a run has gone wrong and must stop: no numbers, a loss that runs away, steps all skipped."""

from __future__ import annotations

import math

MEMORY = 0.95
"""The loss is averaged over about twenty steps."""

WORSE = 1.5
"""Nats that the average may rise above its best: more than any good run shows after its start."""

SKIPPED = 20
"""Steps in a row whose gradients were too large to apply."""


class Diverged(RuntimeError):
    """Training has diverged; the message says how, and names the last good checkpoint."""


class Watch:
    """Looks at each step's loss. Its state is two numbers and a count, kept in checkpoints."""

    def __init__(self, state: dict[str, float] | None = None) -> None:
        found = state or {}
        self._mean = found.get("mean")
        self._best = found.get("best", math.inf)
        self._skipped = int(found.get("skipped", 0))

    def state(self) -> dict[str, float]:
        """As JSON holds it."""
        if self._mean is None:
            return {"skipped": self._skipped}
        return {"mean": self._mean, "best": self._best, "skipped": self._skipped}

    def look(self, step: int, loss: float, norm: float, applied: bool) -> str | None:
        """What is wrong after a step, or ``None``."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return f"the loss of step {step} is {loss}, its gradients' norm {norm}"
        self._skipped = 0 if applied else self._skipped + 1
        if self._skipped >= SKIPPED:
            return f"{SKIPPED} steps in a row had gradients too large to apply, the last {norm:.3g}"
        self._mean = loss if self._mean is None else MEMORY * self._mean + (1 - MEMORY) * loss
        self._best = min(self._best, self._mean)
        if self._mean > self._best + WORSE:
            return f"the loss has risen to {self._mean:.2f} from {self._best:.2f} by step {step}"
        return None
