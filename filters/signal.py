"""What a signal is, and the bound that a rule puts on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from filters.document import Value

Kind = Literal["int", "float", "bool", "str"]


@dataclass(frozen=True, slots=True)
class Bound:
    """What a rule asks of one signal: a closed range of numbers, or a set of words.

    A value that was not measured (``None``) always meets the bound: a rule decides on what is
    known. NaN never meets a range.
    """

    min: float | None = None
    max: float | None = None
    one_of: tuple[str, ...] | None = None
    none_of: tuple[str, ...] | None = None

    def admits(self, value: Value) -> bool:
        """Whether ``value`` lies inside the bound (both ends belong to it)."""
        if value is None:
            return True
        if self.one_of is not None and str(value) not in self.one_of:
            return False
        if self.none_of is not None and str(value) in self.none_of:
            return False
        if self.min is None and self.max is None:
            return True
        if isinstance(value, str) or math.isnan(value):
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def describe(self) -> str:
        """The bound as a reader would write it, such as ``>= 50 and <= 100000``."""
        parts = []
        if self.min is not None:
            parts.append(f">= {self.min:.12g}")
        if self.max is not None:
            parts.append(f"<= {self.max:.12g}")
        if self.one_of is not None:
            parts.append("one of " + ", ".join(self.one_of))
        if self.none_of is not None:
            parts.append("none of " + ", ".join(self.none_of))
        return " and ".join(parts)


@dataclass(frozen=True, slots=True)
class Signal:
    """A named value that a stage measures; the registry of signals is the reference page.

    ``name`` is ``stage.what``. ``unit`` is a word such as ``words`` or ``ratio``. ``source`` names
    the paper and section, or the implementation, whose meaning the signal has. ``default`` is the
    bound that source uses, where it uses one.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    source: str
    default: Bound | None = None

    @property
    def stage(self) -> str:
        """The part of the name before the first dot."""
        return self.name.partition(".")[0]
