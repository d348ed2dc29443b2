"""What quantizing a model came to: ``quantize.json`` beside its file, and the same as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = "cidermill-quantize"
VERSION = 1


@dataclass(frozen=True)
class Variant:
    """One of: float, quantized, tuned, recovered.

    Args:
      bits: of a weight of the linear maps, tables included.
      bytes: of a file of it, adapter included.
      perplexity, bits_per_byte: on the held-out documents, ``None`` where there are none.
    """

    name: str
    bits: float
    bytes: int
    perplexity: float | None = None
    bits_per_byte: float | None = None


@dataclass(frozen=True)
class Matrix:
    """A matrix of the file: its bits, its bytes, and what the model loses by it alone in nats a
    token: divergence from the float model and rise of the loss on the calibration windows."""

    name: str
    rows: int
    columns: int
    bits: int
    bytes: int
    divergence: float | None = None
    loss: float | None = None


@dataclass
class Report:
    """All of it; ``facts`` are settings and digests, ``measured`` differs from run to run."""

    variants: list[Variant] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    def write(self, path: str) -> None:
        """Write it as JSON."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        temporary = f"{path}.writing"
        with open(temporary, "w", encoding="utf-8") as handle:
            json.dump(content, handle, indent=1, sort_keys=True, allow_nan=False)
            handle.write("\n")
        os.replace(temporary, path)

    def lines(self) -> list[str]:
        """Layers, then variants, as tables for people."""
        return [*layer_lines(self.matrices), "", *variant_lines(self.variants)]


def layer_lines(matrices: Sequence[Matrix]) -> list[str]:
    """A line for each layer: bits of its matrices, bytes, and the sum of what each loses alone."""
    layers: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        layers.setdefault(matrix.name.rpartition(".")[0] or matrix.name, []).append(matrix)
    short = [m.name.rpartition(".")[2] for m in matrices if m.name.startswith("layers.0.")]
    head = f"{'bits':<12}" + "".join(f"{name:>6}" for name in short)
    found = [f"{head}{'bytes':>12}{'loss change':>14}"]
    for name, own in layers.items():
        bits = [f"{matrix.bits:>6}" for matrix in own]
        cells = "".join(bits) if len(own) > 1 else f"{own[0].bits:>6}" + " " * 6 * (len(short) - 1)
        lost = [matrix.divergence for matrix in own if matrix.divergence is not None]
        change = f"{sum(lost):>+14.5f}" if lost else ""
        found.append(f"{name:<12}{cells}{sum(m.bytes for m in own):>12}{change}")
    return found


def variant_lines(variants: Sequence[Variant]) -> list[str]:
    """A line for each variant, beside the first."""
    found = [
        f"{'':<22}{'bits/weight':>12}{'bytes':>12}{'perplexity':>12}{'change':>10}{'bits/byte':>11}"
    ]
    first = variants[0].perplexity if variants else None
    for own in variants:
        line = f"{own.name:<22}{own.bits:>12.3f}{own.bytes:>12}"
        if own.perplexity is not None and own.bits_per_byte is not None and first:
            change = own.perplexity / first - 1
            line += f"{own.perplexity:>12.4f}{change:>+10.2%}{own.bits_per_byte:>11.4f}"
        found.append(line)
    return found
