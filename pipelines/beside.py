"""Names of what lies beside a quantized model: ``m.recovery`` and ``m.quantize.json`` of
``m.cider``."""

from __future__ import annotations

ENDING = ".cider"
RECOVERY = "recovery"
REPORT = "quantize"
WORK = "quantize.work"
RESERVED = (RECOVERY, REPORT, WORK)
"""What ``cidermill quantize`` writes there, so that no other command does."""


def beside(model: str, what: str) -> str:
    """The path of what belongs to a model's file."""
    return f"{model.removesuffix(ENDING)}.{what}"
