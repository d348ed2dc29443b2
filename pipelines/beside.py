"""Names of what lies beside a quantized model: ``m.recovery`` and ``m.quantize.json`` of
``m.cider``."""

from __future__ import annotations

ENDING = ".cider"


def beside(model: str, what: str) -> str:
    """The path of what belongs to a model's file."""
    return f"{model.removesuffix(ENDING)}.{what}"
