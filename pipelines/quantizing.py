"""From a trained model to a quantized one: palettes, bits by layer, tables, recovery adapter.

The trainer knows weights as (in, out) and no palettes; the runtime knows palettes and no training.
Here they meet.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.runtime_scores import runtime_scores
from pipelines.training_data import shard_data
from runtime.adapter_files import MAX_RANK, read_adapter, write_adapter
from runtime.adapters import ADAPTER_BITS
from runtime.allocate import AllocationError, Choice, allocate, mean_bits
from runtime.file import Contents, read, write
from runtime.kmeans import palettize
from runtime.layout import ALIGNMENT, TOP, sizes, snapped
from runtime.model import CONTEXT
from runtime.model import Model as RuntimeModel
from runtime.palette import WIDTHS, Palette, RowInt8, quantize_rows
from runtime.shape import Shape, matrices
from tokenizer.reader import Batch
from trainer import recover, tune_tables
from trainer.bits import Judgement, Text, judge
from trainer.distill import distill
from trainer.model import linear_names
from trainer.model_files import Model
from trainer.scoring import Scorer
from trainer.sensitivity import Calibration, Lost, sensitivity
from trainer.shape import Shape as TrainedShape
from trainer.stages import Stage
from trainer.student import Student

EMBEDDING = "embedding"
IMPORTANCE = ("energy", "fisher", "plain")
Weights = dict[str, Palette | RowInt8]
Arrays = dict[str, NDArray[Any]]
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""A bar of progress: what is done and how much there is, to what is told of each advance."""


@dataclass(frozen=True)
class Settings:
    """How a model is quantized.

    Args:
      bits: the mean of a weight of the linear maps, tables included; ``None`` for 8 bits by row.
      importance: what squared errors are weighted by, one of ``IMPORTANCE``.
      calibration_tokens: on which losses and importance are measured.
      tune_tokens, recover_tokens: on which tables and adapter are trained; 0 for not at all.
      batch_tokens: of a step.
      rank: of the adapter.
      tune_rate, recover_rate: peak learning rates.
      teacher_share: of the loss that both are trained with: the part of the divergence from the
        float model. The rest is cross-entropy on the data, which is further training: a model that
        was trained on little gains by it whatever quantizing has lost.
      seed: of the order of windows and of the adapter's first values.
    """

    bits: float | None = 3.5
    importance: str = "energy"
    calibration_tokens: int = 8192
    tune_tokens: int = 0
    recover_tokens: int = 0
    batch_tokens: int = 4096
    rank: int = 16
    tune_rate: float = tune_tables.RATE
    recover_rate: float = recover.RATE
    teacher_share: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.importance not in IMPORTANCE:
            raise ValueError(f"weights are {self.importance!r}; one of {', '.join(IMPORTANCE)}")
        for name, least in (("calibration_tokens", 1), ("batch_tokens", 1), ("tune_tokens", 0),
                            ("recover_tokens", 0), ("rank", 1), ("seed", 0)):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not 0.0 <= self.teacher_share <= 1.0:
            raise ValueError(f"teacher_share is {self.teacher_share:g}; it must be from 0 to 1")
        if self.bits is None and self.tune_tokens:
            raise ValueError("8 bits by row have no tables to tune; leave out --tune-tokens")


class Stream:
    """The windows of some shards in their shuffled order: calibration first, then what is trained
    on, none twice before all were read."""

    def __init__(self, folder: str, model: Model, length: int, settings: Settings) -> None:
        """Raises ``InputError`` for shards of another tokenizer."""
        self.length, self._share = length, settings.teacher_share
        self.rows = max(1, settings.batch_tokens // length)
        steps = [
            math.ceil(tokens / (self.rows * length))
            for tokens in (settings.calibration_tokens, settings.tune_tokens,
                           settings.recover_tokens)
        ]  # fmt: skip
        self._steps = steps
        stage = Stage("quantize", sum(steps) * self.rows * length, length, self.rows)
        data = shard_data(folder, stage, model.tokenizer, settings.seed)
        self.identity, self.notes, self._open = data.identity, data.notes, data.open

    def calibration(self) -> Batch:
        """The first windows, as one batch."""
        found = list(self._part(0))
        return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}

    def tuning(self) -> Iterator[Batch]:
        """The batches that tables are trained on."""
        return self._part(1)

    def recovery(self) -> Iterator[Batch]:
        """The batches that an adapter is trained on."""
        return self._part(2)

    def _part(self, number: int) -> Iterator[Batch]:
        """Always the same batches, whatever was read before: another part may have been done in
        an earlier process."""
        before = sum(self._steps[:number])
        return islice(self._open(), before, before + self._steps[number])

    def stage(self, name: str, tokens: int, optimizer: Any) -> Stage:
        """A stage of so many tokens."""
        step = self.rows * self.length
        steps = math.ceil(tokens / step)
        return Stage(
            name, steps * step, self.length, self.rows, optimizer, warmup=0.1, floor=0.05,
            teacher_share=self._share,
        )  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Palettes of every linear map at every width, and what the model loses by each alone."""

    palettes: Mapping[str, Mapping[int, Palette]]
    lost: Mapping[str, Mapping[int, Lost]]

    def choices(self) -> list[Choice]:
        """As the allocation of bits takes them."""
        return [
            Choice(
                name,
                own[WIDTHS[0]].indices.size,
                {width: stored_bits(*own[width].shape, width) for width in own},
                {width: lost.divergence for width, lost in self.lost[name].items()},
            )
            for name, own in self.palettes.items()
        ]

    def chosen(self, target: float) -> dict[str, Palette]:
        """The palettes of a mean of so many bits. Raises ``AllocationError``."""
        widths = allocate(self.choices(), target)
        return {name: self.palettes[name][width] for name, width in widths.items()}


def stored_bits(rows: int, columns: int, bits: int) -> int:
    """Bits of a matrix in a file: codes, tables, and what aligns these."""
    codes, tables, affine = sizes(rows, columns, bits)
    return 8 * (codes + sum(-(-part // ALIGNMENT) * ALIGNMENT for part in (tables, affine)))


def check_bits(shape: TrainedShape, bits: float) -> None:
    """Raises ``AllocationError`` where no widths reach a mean, before anything is measured."""
    nothing = dict.fromkeys(WIDTHS, 0.0)
    choices = [
        Choice(name, dims[0] * dims[1], {w: stored_bits(*dims, w) for w in WIDTHS}, nothing)
        for name, dims in matrices(runtime_shape(shape)).items()
        if name != EMBEDDING
    ]
    most = mean_bits(choices, {own.name: max(WIDTHS) for own in choices})
    if bits > most:
        raise AllocationError(
            f"{bits:g} bits a weight; with {max(WIDTHS)} in every matrix these have {most:.3f}, "
            "tables included: ask for no more, or for 8 with --int8"
        )
    allocate(choices, bits)


def check_rank(shape: TrainedShape, rank: int) -> None:
    """Raises ``ValueError`` for adapters that cannot be written, before anything is measured."""
    own = {n: d for n, d in matrices(runtime_shape(shape)).items() if n != EMBEDDING}
    name = min(own, key=lambda name: min(own[name]))
    most = min(MAX_RANK, *own[name])
    if rank > most:
        raise ValueError(
            f"a rank of {rank}; adapters of this model have 1 to {most}, for {name} is "
            f"{own[name][0]} times {own[name][1]} and none has more than {MAX_RANK}"
        )


def measure(model: Model, calibration: Calibration, importance: str, bar: Bar) -> Measured:
    """Palettize every linear map at each width, and measure what each loses."""
    names = linear_names(model.shape)
    weights = important(calibration, importance, bar)
    palettes: dict[str, dict[int, Palette]] = {}
    with bar("palettes", sum(model.params[name].size for name in names)) as seen:
        for name in names:
            found = palettize(_rows(model.params[name]), weights.get(name), WIDTHS, seen)
            palettes[name] = {width: snapped(own) for width, own in found.items()}
    with bar("sensitivity", len(names) * len(WIDTHS)) as seen:
        lost = sensitivity(
            calibration, dict.fromkeys(names, WIDTHS),
            lambda name, width: palettes[name][width].dequantized().T, seen,
        )  # fmt: skip
    return Measured(palettes, lost)


def important(calibration: Calibration, importance: str, bar: Bar) -> dict[str, NDArray[Any]]:
    """What squared errors of each linear map are weighted by; nothing for all alike."""
    if importance == "energy":
        return calibration.energy()
    if importance == "fisher":
        with bar("gradients", calibration.tokens) as seen:
            return calibration.fisher(seen)
    return {}


def by_rows(model: Model) -> Weights:
    """Every linear map in 8 bits by row."""
    return {name: quantize_rows(_rows(model.params[name])) for name in linear_names(model.shape)}


def embedding_of(model: Model) -> RowInt8:
    """The embedding in 8 bits by row."""
    return quantize_rows(model.params[EMBEDDING].astype(np.float32))


def _rows(weight: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(weight.T, np.float32)


def to_arrays(weights: Mapping[str, Palette | RowInt8]) -> Arrays:
    """Quantized matrices as named arrays."""
    found: Arrays = {}
    for name, own in weights.items():
        if isinstance(own, Palette):
            found[f"{name}.indices"], found[f"{name}.tables"] = own.indices, own.tables
        else:
            found[f"{name}.values"], found[f"{name}.scales"] = own.values, own.scales
    return found


def from_arrays(arrays: Mapping[str, NDArray[Any]], names: Iterable[str]) -> Weights:
    """The inverse of ``to_arrays``, for matrices of these names."""
    found: Weights = {}
    for name in names:
        if f"{name}.tables" in arrays:
            tables = arrays[f"{name}.tables"]
            bits = tables.shape[1].bit_length() - 1
            found[name] = Palette(arrays[f"{name}.indices"], tables, bits)
        else:
            found[name] = RowInt8(arrays[f"{name}.values"], arrays[f"{name}.scales"])
    return found


def dequantized(model: Model, weights: Mapping[str, Palette | RowInt8]) -> Arrays:
    """The trainer's parameters, (in, out), with what the quantized weights stand for."""
    found: Arrays = dict(model.params)
    for name, own in weights.items():
        found[name] = own.dequantized() if name == EMBEDDING else own.dequantized().T
    return found


def tune(model: Model, weights: Weights, stream: Stream, settings: Settings, bar: Bar) -> Weights:
    """The palettes with tables trained against the float model; indices as they are.

    Raises:
      Diverged: training went wrong.
    """
    palettes = {name: own for name, own in weights.items() if isinstance(own, Palette)}
    frozen = {k: v for k, v in dequantized(model, weights).items() if k not in palettes}
    student = tune_tables.table_student(
        {name: tune_tables.Table(own.indices, own.tables) for name, own in palettes.items()},
        frozen,
        TOP,
    )
    stage = stream.stage("tables", settings.tune_tokens, tune_tables.optimizer(settings.tune_rate))
    trained = _distill(model, student, stage, stream.tuning(), bar)
    tables = tune_tables.tuned_tables(student, trained)
    return {
        **weights,
        **{
            name: snapped(Palette(own.indices, tables[name], own.bits))
            for name, own in palettes.items()
        },
    }


def recovery(
    model: Model, weights: Weights, stream: Stream, settings: Settings, bar: Bar
) -> recover.Factors:
    """An adapter on all linear maps, trained to undo what quantizing lost.

    Raises:
      Diverged: training went wrong.
      ValueError: the rank is above a matrix's own.
    """
    factors = recover.draw(model.shape, settings.rank, settings.seed)
    student = recover.adapter_student(factors, dequantized(model, weights))
    stage = stream.stage(
        "recovery", settings.recover_tokens, recover.optimizer(settings.recover_rate)
    )
    return recover.trained_factors(_distill(model, student, stage, stream.recovery(), bar))


def _distill(
    model: Model, student: Student, stage: Stage, batches: Iterator[Batch], bar: Bar
) -> Arrays:
    with bar(stage.name, stage.steps * stage.step_tokens) as seen:
        return dict(
            distill(
                model.shape, model.params, student, stage, batches,
                lambda _: seen(stage.step_tokens),
            )
        )  # fmt: skip


def runtime_shape(shape: TrainedShape) -> Shape:
    """The dimensions as the runtime has them. Raises ``ShapeError`` where kernels take them not."""
    return Shape.from_dict(shape.to_dict())


def write_model(path: str, model: Model, weights: Weights, facts: Mapping[str, Any]) -> Contents:
    """Write the file of a quantized model, and open it."""
    vectors = {
        name: value.astype(np.float32) for name, value in model.params.items() if value.ndim == 1
    }
    write(path, runtime_shape(model.shape), model.tokenizer, weights, vectors, facts)
    return read(path)


def write_recovery(
    folder: str, model: Model, base: str, factors: recover.Factors, facts: Mapping[str, Any]
) -> recover.Factors:
    """Write an adapter for a base, and give it as its file holds it."""
    write_adapter(folder, factors, base, base_name=str(model.card["weights_sha256"]), facts=facts)
    return dict(read_adapter(folder, base).factors)


class Judge:
    """What variants of one model are worth on the same documents."""

    def __init__(self, model: Model, texts: Sequence[Text], length: int, bar: Bar) -> None:
        self._scorer, self._length = Scorer(model.params, model.shape, length), length
        self._texts, self._bar = texts, bar
        self._tokens = sum(len(text.ids) for text in texts)

    @property
    def identity(self) -> str:
        """A digest of the documents' tokens and of the windows that they are scored in."""
        found = hashlib.sha256(f"{self._length}".encode())
        for text in self._texts:
            ids = np.asarray(text.ids, "<i4")
            found.update(f" {len(ids)} {text.bytes} ".encode())
            found.update(ids.tobytes())
        return found.hexdigest()

    def __call__(self, name: str, params: Arrays) -> Judgement:
        """Score one variant."""
        self._scorer.use(params)
        with self._bar(f"judging {name}", self._tokens) as seen:
            return judge(self._scorer, self._texts, seen)

    def in_runtime(
        self, path: str, adapter: str | None = None, bits: int = ADAPTER_BITS
    ) -> Judgement:
        """Score a file as the runtime computes it, with activations in 8 bits; with the adapter in
        a folder, if any, and its factors in so many ``bits``."""
        model = RuntimeModel.load(path, context=max(self._length, CONTEXT))
        if adapter is not None:
            model.use(model.adapter(adapter, bits=bits))
        with self._bar("judging in the runtime", self._tokens) as seen:
            return judge(runtime_scores(model, self._length), self._texts, seen)


def thinned(texts: Sequence[Text], tokens: int | None) -> list[Text]:
    """Documents of about so many tokens in all: every n-th, so that all sources are among them."""
    total = sum(len(text.ids) for text in texts)
    if tokens is None or total <= tokens:
        return list(texts)
    return list(texts[:: math.ceil(total / tokens)])


def perplexity(judgement: Judgement) -> float:
    """The inverse of a token's geometric mean chance."""
    return float(2.0 ** (judgement.total.bits / judgement.total.tokens))
