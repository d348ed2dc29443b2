"""The decisions that a recipe's rules take on one document."""

from __future__ import annotations

from collections.abc import Iterable

from filters.document import Decision, Document
from filters.rules import Evidence, decide, no_evidence
from pipelines.recipe import StageSettings


def local_decisions(document: Document, stages: Iterable[StageSettings]) -> list[Decision]:
    """What the rules of these stages say of a document, in order.

    Stages behind the first one that dropped the document are asked as well: where they measured
    it, the log tells what else stood against it.
    """
    return [
        decision
        for stage in stages
        for decision in decide(document, stage.rules, evidence_of(stage))
    ]


def evidence_of(stage: StageSettings) -> Evidence:
    """What gives the evidence for a stage's signals, under the stage's options."""
    give = stage.spec.evidence
    if give is None:
        return no_evidence
    return lambda document, signal: give(document, signal, stage.options)
