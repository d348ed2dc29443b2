"""A training recipe: stages one after the other, each with its budget, data and schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trainer.optimizer import AFM, Optimizer, adamw
from trainer.shape import ShapeError, check_rope_base, kept_share_error

OPTIMIZERS = ("afm", "adamw")


@dataclass(frozen=True)
class Stage:
    """One stage. It starts from the weights of the one before; the optimizer starts anew.

    Args:
      tokens: the budget; as many whole batches as fit in it are trained on.
      length: tokens a window; the shards have it.
      batch: windows a step.
      warmup: steps over which the rate rises, or below 1 the share of the stage's steps.
      floor: what the schedule's factor ends at.
      mixture: a mixture of the sources by name or file; without, each source in its own size.
      rope_base: turn positions by this base from here on.
      keep: learn masks that keep this share of the feed-forward hidden values, and remove the rest
        at the end.
      labels: a folder of a teacher's labels; ``teacher_share`` is how much of the target they are.
    """

    name: str
    tokens: int
    length: int
    batch: int
    optimizer: Optimizer = AFM
    warmup: float = 0.02
    floor: float = 0.005
    mixture: str | None = None
    rope_base: float | None = None
    keep: float | None = None
    labels: str | None = None
    teacher_share: float = 0.9

    def __post_init__(self) -> None:
        for name, least in (("tokens", 1), ("length", 2), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("mixture", "labels"):
            if getattr(self, name) == "":
                raise ValueError(f"{name} is empty; name what it is, or leave it out")
        if self.steps < 1:
            raise ValueError(
                f"the stage {self.name!r} has {self.tokens} tokens, and one step takes "
                f"{self.batch * self.length}; give it more tokens or smaller batches"
            )
        if not 0.0 <= self.warmup <= self.steps:
            raise ValueError(
                f"warmup is {self.warmup:g}; give a share below 1 or at most {self.steps} steps"
            )
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f"floor is {self.floor:g}; it must be from 0 to 1")
        if self.keep is not None and not 0.0 < self.keep < 1.0:
            raise ShapeError(kept_share_error(self.keep))
        if self.rope_base is not None:
            check_rope_base(self.rope_base)
        if not 0.0 <= self.teacher_share <= 1.0:
            raise ValueError(f"teacher_share is {self.teacher_share:g}; it must be from 0 to 1")

    @property
    def step_tokens(self) -> int:
        """Places of a batch, padding included."""
        return self.batch * self.length

    @property
    def steps(self) -> int:
        """Steps of the stage."""
        return self.tokens // self.step_tokens

    @property
    def warmup_steps(self) -> int:
        """Steps over which the rate rises."""
        return max(1, int(self.warmup * self.steps if self.warmup < 1 else self.warmup))

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "optimizer": self.optimizer.to_dict()}


def make_optimizer(kind: str, settings: Mapping[str, Any]) -> Optimizer:
    """An optimizer of ``OPTIMIZERS`` with some settings changed.

    Raises:
      ValueError: there is no such kind or setting, or one is out of its bounds.
    """
    try:
        if kind == "afm":
            return Optimizer(**settings)
        if kind == "adamw":
            return adamw(**settings)
    except TypeError as error:
        raise ValueError(f"no such setting of an optimizer: {error}") from None
    raise ValueError(f"no optimizer {kind!r}; there are {', '.join(OPTIMIZERS)}")
