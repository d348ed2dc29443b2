"""Decide: hold a document's signals against the rules of a recipe.

A rule bounds one signal. It may be lifted where another signal is true (``unless``), which is how
C4's brace rule leaves mathematics and code alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from filters.document import Decision, Document, Value
from filters.signal import Bound

Evidence = Callable[[Document, str], str]
"""Gives a short, impersonal piece of what a signal saw: ``evidence(document, signal)``."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A bound on one signal, and what follows where it is not met.

    ``name`` identifies the rule in every log and table; by default it is the signal's name.
    ``unless`` lists signals of which a true one lifts the rule for that document.
    """

    stage: str
    name: str
    signal: str
    bound: Bound
    action: Literal["drop", "tag"] = "drop"
    unless: tuple[str, ...] = ()

    def broken_by(self, signals: Mapping[str, Value]) -> bool:
        """Whether a document with these signals fails the rule."""
        if self.bound.admits(signals.get(self.signal)):
            return False
        return not any(signals.get(name) for name in self.unless)


def no_evidence(_document: Document, _signal: str) -> str:
    """The evidence of a signal whose value says all there is to say."""
    return ""


def decide(
    document: Document, rules: Iterable[Rule], evidence: Evidence = no_evidence
) -> list[Decision]:
    """Every rule the document does not meet, in the order of the rules.

    All broken rules are returned, not only the first that drops: a reader who wants to know
    what a looser bound would have kept needs the others as well.
    """
    return [
        Decision(
            document=document.id,
            stage=rule.stage,
            rule=rule.name,
            value=document.signals.get(rule.signal),
            bound=rule.bound.describe(),
            action=rule.action,
            evidence=evidence(document, rule.signal),
        )
        for rule in rules
        if rule.broken_by(document.signals)
    ]


def removed_by(decisions: Sequence[Decision]) -> Decision | None:
    """The decision that removed the document: the first that drops, or ``None``."""
    return next((decision for decision in decisions if decision.action == "drop"), None)
