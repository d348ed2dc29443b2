"""Mixtures: how many windows of which sources a stage of training sees.

Shares count windows, all of one length, so they are shares of tokens but for padding. A plan is
exact to one window in all (largest remainder); ``tokenizer.schedule`` puts it in order.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

LONG = ".long"
"""Ends the name of a source's shards that hold its long documents alone."""


class MixtureError(ValueError):
    """A mixture that cannot be had of these shards; the message says why and what to do."""


@dataclass(frozen=True)
class Component:
    """Sources that share one part of a mixture.

    ``sources`` are names or globs. ``share`` is relative to the other components; none has one, or
    all have. Windows are seen at most ``max_repeats`` times, on average over the component. An
    ``optional`` component may be absent; the others then share its part.
    """

    name: str
    sources: tuple[str, ...]
    share: Fraction | None = None
    max_repeats: Fraction = Fraction(1)
    optional: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError(f"the component {self.name!r} names no source")
        if self.share is not None and self.share <= 0:
            raise ValueError(
                f"the share of {self.name!r} is {float(self.share):g}; it must be above 0"
            )
        if self.max_repeats <= 0:
            raise ValueError(
                f"max_repeats of {self.name!r} is {float(self.max_repeats):g}; it must be above 0"
            )

    def takes(self, source: str) -> bool:
        """Whether a source belongs here, by its name."""
        return any(fnmatch.fnmatchcase(source, glob) for glob in self.sources)


@dataclass(frozen=True)
class Mixture:
    """A stage's recipe: the length of its windows and its components, in order of precedence.

    With ``long_tokens``, documents of at least so many tokens are packed as a source of their own,
    called ``SOURCE.long``. Sources that match ``ignore`` are left out.
    """

    name: str
    description: str
    sequence_length: int
    components: tuple[Component, ...]
    long_tokens: int | None = None
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [component.name for component in self.components]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two components are called {name!r}")
        if not names:
            raise ValueError("the mixture has no component")
        if len({component.share is None for component in self.components}) > 1:
            raise ValueError(
                "give every component a share, or none: then each is as large as it is"
            )
        if self.sequence_length < 2:
            raise ValueError(f"a sequence length of {self.sequence_length}; it must be at least 2")
        if self.long_tokens is not None and self.long_tokens < 2:
            raise ValueError(f"long_tokens is {self.long_tokens}; it must be at least 2")

    def assign(self, sources: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The sources of each component; the first that takes a source has it.

        Raises:
          MixtureError: no component takes a source, or a component that is not optional has none.
        """
        found: dict[str, list[str]] = {component.name: [] for component in self.components}
        for source in sorted(sources):
            owner = next((c for c in self.components if c.takes(source)), None)
            if owner is not None:
                found[owner.name].append(source)
            elif not any(fnmatch.fnmatchcase(source, glob) for glob in self.ignore):
                raise MixtureError(
                    f"no component of the mixture {self.name!r} takes the source {source!r}; add "
                    "it to one, or to `ignore`"
                )
        for component in self.components:
            if not found[component.name] and not component.optional:
                raise MixtureError(
                    f"the mixture {self.name!r} needs {component.name!r} "
                    f"({', '.join(component.sources)}), which these shards lack; pack such a "
                    "source, or set `optional: true`"
                )
        return {name: tuple(members) for name, members in found.items()}


@dataclass(frozen=True)
class Part:
    """What a plan takes of a component: ``windows`` of ``available`` ones."""

    name: str
    sources: tuple[str, ...]
    available: int
    windows: int
    max_repeats: Fraction

    @property
    def repeats(self) -> float:
        """How often each window is seen on average."""
        return self.windows / self.available


@dataclass(frozen=True)
class Plan:
    """How many windows of each component. ``absent`` names optional components without sources."""

    name: str
    sequence_length: int
    parts: tuple[Part, ...]
    absent: tuple[str, ...] = ()

    @property
    def windows(self) -> int:
        """Windows in all."""
        return sum(part.windows for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        parts = [
            {
                "name": part.name,
                "sources": list(part.sources),
                "available": part.available,
                "windows": part.windows,
                "max_repeats": str(part.max_repeats),
            }
            for part in self.parts
        ]
        return {
            "name": self.name,
            "sequence_length": self.sequence_length,
            "parts": parts,
            "absent": list(self.absent),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Plan:
        """The inverse of ``to_dict``. Raises ``MixtureError`` for what is no plan."""
        try:
            parts = tuple(
                Part(
                    str(part["name"]),
                    tuple(map(str, part["sources"])),
                    int(part["available"]),
                    int(part["windows"]),
                    Fraction(part["max_repeats"]),
                )
                for part in found["parts"]
            )
            absent = tuple(map(str, found["absent"]))
            return cls(str(found["name"]), int(found["sequence_length"]), parts, absent)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise MixtureError(f"this is no plan of a mixture: {error!r}") from None

    def lines(self) -> list[str]:
        """The plan as a table for people."""
        rows = [
            f"{'component':<16}{'windows':>12}{'tokens':>16}{'share':>8}{'repeats':>9}  sources"
        ]
        for part in self.parts:
            share = part.windows / self.windows if self.windows else 0.0
            rows.append(
                f"{part.name:<16}{part.windows:>12}{part.windows * self.sequence_length:>16}"
                f"{share:>8.1%}{part.repeats:>9.2f}  {', '.join(part.sources)}"
            )
        rows.extend(f"{name:<16}{'absent; the others share its part':>33}" for name in self.absent)
        return rows


def natural(name: str, windows: Mapping[str, int], length: int) -> Plan:
    """Every window of every source once."""
    parts = [
        Part(source, (source,), n, n, Fraction(1)) for source, n in sorted(windows.items()) if n
    ]
    return Plan(name, length, tuple(parts))


def plan(mixture: Mixture, windows: Mapping[str, int], total: int | None = None) -> Plan:
    """Share out ``total`` windows; without it, as many as the bounds on repeats allow.

    ``windows`` is the number of windows of each source.

    Raises:
      MixtureError: see ``Mixture.assign``; or a component would be repeated beyond its bound.
    """
    assigned = mixture.assign(source for source, count in windows.items() if count)
    present = [c for c in mixture.components if assigned[c.name]]
    available = {c.name: sum(windows[s] for s in assigned[c.name]) for c in present}
    weights = [Fraction(available[c.name]) if c.share is None else c.share for c in present]
    bounds = [math.floor(available[c.name] * c.max_repeats) for c in present]
    counts = _largest(weights, bounds) if total is None else share_out(weights, total)
    for component, count, bound in zip(present, counts, bounds, strict=True):
        if count > bound:
            most = sum(_largest(weights, bounds))
            raise MixtureError(
                f"{total} windows of the mixture {mixture.name!r} are {count} of "
                f"{component.name!r}, which has {available[component.name]} and may repeat them "
                f"{float(component.max_repeats):g} times; ask for at most {most} windows "
                f"({most * mixture.sequence_length} tokens), or raise max_repeats"
            )
    parts = tuple(
        Part(c.name, assigned[c.name], available[c.name], count, c.max_repeats)
        for c, count in zip(present, counts, strict=True)
    )
    absent = tuple(c.name for c in mixture.components if not assigned[c.name])
    return Plan(mixture.name, mixture.sequence_length, parts, absent)


def share_out(weights: Sequence[Fraction], total: int) -> list[int]:
    """``total`` in whole numbers in proportion to weights, each within one of its share.

    By largest remainder; of equal remainders the first.
    """
    whole = sum(weights, Fraction(0))
    quotas = [weight * total / whole for weight in weights]
    counts = [math.floor(quota) for quota in quotas]
    order = sorted(range(len(weights)), key=lambda n: (counts[n] - quotas[n], n))
    for number in order[: total - sum(counts)]:
        counts[number] += 1
    return counts


def _largest(weights: Sequence[Fraction], bounds: Sequence[int]) -> list[int]:
    """The largest shares that stay within the bounds."""
    whole = sum(weights, Fraction(0))
    total = min(
        math.floor((bound + 1) * whole / weight)
        for weight, bound in zip(weights, bounds, strict=True)
    )
    while True:
        counts = share_out(weights, total)
        if all(count <= bound for count, bound in zip(counts, bounds, strict=True)):
            return counts
        total -= 1
