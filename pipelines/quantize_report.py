"""What quantizing a model came to: ``quantize.json`` and ``quantize.png`` beside its file, and the
same as a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines import files
from pipelines.picture import picture

RUNTIME = "in the runtime"
"""What the names of variants end in that the runtime computed."""
FORMAT = "cidermill-quantize"
VERSION = 1
"""Of a quantized model's file."""


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
    """All of it. ``facts`` are settings and digests. ``measured`` differs from run to run:
    ``seconds`` of the steps, and ``milliseconds`` of a token by engine and matrix."""

    variants: list[Variant] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Layers, then variants, as tables for people."""
        times = self.measured.get("milliseconds", {})
        return [
            *layer_lines(self.matrices, times), "", *variant_lines(self.variants),
            *worse_lines(self.variants),
        ]  # fmt: skip


def write_report(base: str, report: Report) -> None:
    """Write a report as ``base``.json and draw it as ``base``.png."""
    files.write_json(f"{base}.json", {"format": FORMAT, "version": VERSION, **asdict(report)})
    draw(f"{base}.png", report)


@dataclass(frozen=True)
class Layer:
    """The matrices of a layer; or the embedding, which is one of its own."""

    name: str
    matrices: tuple[Matrix, ...]

    @property
    def bytes(self) -> int:
        """Of all its matrices in the file."""
        return sum(matrix.bytes for matrix in self.matrices)

    @property
    def divergence(self) -> float | None:
        """The sum of the divergences from the float model by each of its matrices alone, in nats a
        token; ``None`` where they were not measured."""
        return _sum_known(matrix.divergence for matrix in self.matrices)

    @property
    def loss(self) -> float | None:
        """The same of the rises of the loss, which may be below 0."""
        return _sum_known(matrix.loss for matrix in self.matrices)

    def milliseconds(self, times: Mapping[str, float]) -> float:
        """Of a token, all its matrices one after the other."""
        return sum(times[matrix.name] for matrix in self.matrices)


def _sum_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def layers_of(matrices: Sequence[Matrix]) -> list[Layer]:
    """The layers in the order of their first matrix."""
    layers: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        layers.setdefault(matrix.name.rpartition(".")[0] or matrix.name, []).append(matrix)
    return [Layer(name, tuple(own)) for name, own in layers.items()]


def layer_lines(matrices: Sequence[Matrix], times: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A line for each layer: bits of its matrices, bytes, milliseconds of a token by engine, and
    what was measured of its losses, the sums of what each matrix costs alone."""
    short = [m.name.rpartition(".")[2] for m in matrices if m.name.startswith("layers.0.")]
    head = f"{'bits':<12}" + "".join(f"{name:>6}" for name in short) + f"{'bytes':>12}"
    engines = "".join(f"{f'ms {engine}':>12}" for engine in times)
    layers = layers_of(matrices)
    losses = {
        "divergence": [_nats(layer.divergence, "") for layer in layers],
        "loss change": [_nats(layer.loss, "+") for layer in layers],
    }
    losses = {name: own for name, own in losses.items() if any(own)}
    found = [head + engines + "".join(f"{name:>13}" for name in losses)]
    for number, layer in enumerate(layers):
        own = layer.matrices
        bits = [f"{matrix.bits:>6}" for matrix in own]
        cells = "".join(bits) if len(own) > 1 else f"{own[0].bits:>6}" + " " * 6 * (len(short) - 1)
        took = "".join(f"{layer.milliseconds(by):>12.4f}" for by in times.values())
        lost = "".join(f"{column[number]:>13}" for column in losses.values())
        found.append(f"{layer.name:<12}{cells}{layer.bytes:>12}{took}{lost}".rstrip())
    return found


def _nats(value: float | None, sign: str) -> str:
    return "" if value is None else f"{value:{sign}.5f}"


def variant_lines(variants: Sequence[Variant]) -> list[str]:
    """A line for each variant, beside the first."""
    found = [
        f"{'':<26}{'bits/weight':>12}{'bytes':>12}{'perplexity':>12}{'change':>10}{'bits/byte':>11}"
    ]
    first = variants[0].perplexity if variants else None
    for own in variants:
        line = f"{own.name:<26}{own.bits:>12.3f}{own.bytes:>12}"
        if own.perplexity is not None and own.bits_per_byte is not None and first:
            change = own.perplexity / first - 1
            line += f"{own.perplexity:>12.4f}{change:>+10.2%}{own.bits_per_byte:>11.4f}"
        found.append(line)
    return found


def worse_lines(variants: Sequence[Variant]) -> list[str]:
    """A line for each step of training that has made held-out documents less likely."""
    steps = [own for own in variants[1:] if RUNTIME not in own.name and own.perplexity is not None]
    return [
        f"{after.name}: worse on these documents than {before.name}; train on more tokens, or on "
        "none"
        for before, after in itertools.pairwise(steps)
        if (after.perplexity or 0.0) > (before.perplexity or 0.0)
    ]


def draw(path: str, report: Report) -> None:
    """Bytes, time and loss of each layer, and what each variant comes to, as a picture."""
    layers = layers_of(report.matrices)
    rows = [("KiB", [layer.bytes / 1024 for layer in layers])]
    for engine, times in list(report.measured.get("milliseconds", {}).items())[:1]:
        rows.append((f"ms a token\n{engine}", [layer.milliseconds(times) for layer in layers]))
    rows.append(("nats a token\ndivergence", [layer.divergence or 0.0 for layer in layers]))
    judged = [
        (f"{own.name}, {own.bits:.2f} bits", own.bits_per_byte)
        for own in report.variants if own.bits_per_byte is not None
    ]  # fmt: skip
    names = [layer.name.removeprefix("layers.") for layer in layers]
    count = len(rows) + bool(judged)
    with picture(path, 9, 2 * count) as figure:
        axes = figure.subplots(count, squeeze=False)[:, 0]
        for place, (what, numbers) in zip(axes, rows, strict=False):
            place.bar(names, numbers, color="#1f5a7a")
            place.set_ylabel(what)
            place.grid(axis="y", alpha=0.25)
        axes[len(rows) - 1].set_xlabel("layer")
        if judged:
            least = min(bits for _, bits in judged)
            axes[-1].barh(
                [name for name, _ in judged[::-1]],
                [1e3 * (bits - least) for _, bits in judged[::-1]], color="#b5542c",
            )  # fmt: skip
            axes[-1].set_xlabel(f"thousandths of a bit a byte above {least:.4f}, held-out")
            axes[-1].grid(axis="x", alpha=0.25)
