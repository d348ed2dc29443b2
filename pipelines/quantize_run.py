"""One model on its way to a quantized file: the steps in their order, and the report as it grows.

What a step gave is kept in ``MODEL.quantize.work`` until all is done, so that a command that was
ended goes on from there, to the same bytes.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from pipelines import quantizing
from pipelines.beside import RECOVERY, REPORT, WORK, beside
from pipelines.hold import hold
from pipelines.own_adapters import RECOVERED, base_of
from pipelines.quantize_report import RUNTIME, Matrix, Report, Variant, write_report
from pipelines.quantize_work import Made, Work
from pipelines.quantizing import EMBEDDING, Arrays, Bar, Judge, Settings, Stream, Weights
from pipelines.run import code_hash
from runtime.file import Contents
from runtime.palette import Palette
from runtime.timing import matrix_milliseconds
from trainer.bits import Judgement
from trainer.model import linear_names
from trainer.model_files import WEIGHTS, Model
from trainer.recover import merged
from trainer.sensitivity import Calibration, Lost

CODE = ("pipelines", "runtime", "tokenizer", "trainer")


class Run:
    """Quantizes one model into one file."""

    def __init__(
        self, model: Model, settings: Settings, stream: Stream, judge: Judge | None, folder: str,
        target: str, say: Callable[[str], None], bar: Bar,
    ) -> None:  # fmt: skip
        """``folder`` is the model's; ``say`` is told of steps that are not done again, and of what
        is removed."""
        self.model, self.settings, self.stream, self._judge = model, settings, stream, judge
        self.target, self._say, self._bar = target, say, bar
        self.report = Report()
        self._seconds: dict[str, float] = {}
        self._float_bytes = os.path.getsize(os.path.join(folder, WEIGHTS))
        self._place = beside(target, WORK)
        self._work = Work(self._place, self._key(), say)

    def _key(self) -> Mapping[str, Any]:
        """All that the outcome of a step depends on."""
        return {
            **self._facts(),
            "documents": None if self._judge is None else self._judge.identity,
            "code": code_hash(*CODE),
            "libraries": {"jax": jax.__version__, "numpy": np.__version__},
        }

    def _facts(self) -> dict[str, Any]:
        return {
            "model": self.model.card["weights_sha256"],
            "data": self.stream.identity,
            "settings": asdict(self.settings),
        }

    def perform(self) -> Report:
        """All steps; the file is written when it holds what was tuned.

        Raises:
          Diverged: training went wrong.
          InputError: another run is writing there.
        """
        with hold(self._place, "--to"):
            self._perform()
            self._work.remove()
        return self.report

    def _perform(self) -> None:
        model, settings = self.model, self.settings
        self._add("float", 32.0, self._float_bytes, lambda: dict(model.params))
        weights, lost = self._quantized()
        tuned = self._tuned(weights) if settings.tune_tokens else weights
        facts = self._facts()
        replaced = os.path.exists(self.target)
        contents = quantizing.write_model(
            self.target, model, tuned,
            {"model": facts["model"], "data": facts["data"], "quantized": facts["settings"],
             "context": model.context},
        )  # fmt: skip
        if replaced:
            self._remove_stale(contents.digest)
        size, mean = os.path.getsize(self.target), contents.bits_per_weight()
        if settings.tune_tokens:
            # A file of what is not tuned is as large, but for nothing.
            self._add("quantized", mean, size, lambda: quantizing.dequantized(model, weights))
        stored = "tables tuned" if settings.tune_tokens else "quantized"
        self._add(stored, mean, size, lambda: quantizing.dequantized(model, tuned))
        judge = self._judge
        if judge is not None:
            self._told(RUNTIME, mean, size, lambda: judge.in_runtime(self.target))
        self._tell_matrices(contents, lost, tuned)
        if settings.recover_tokens:
            self._recover(tuned, contents.digest, mean, size)
        self.report.facts = {**facts, "base": contents.digest}
        with self._timed("timing"):
            milliseconds = matrix_milliseconds(contents)
        self.report.measured = {"seconds": self._seconds, "milliseconds": milliseconds}
        write_report(beside(self.target, REPORT), self.report)

    def _remove_stale(self, base: str) -> None:
        """The recovery adapter of the file that was replaced fits no other, and `adapt` would begin
        with it."""
        folder = beside(self.target, RECOVERY)
        if base_of(folder, RECOVERED) not in (None, base):
            shutil.rmtree(folder)
            self._say(f"{folder} was for the model that is replaced: removed")

    def _quantized(self) -> tuple[Weights, dict[str, Lost]]:
        """All matrices as they are first quantized, and what is lost by each."""

        def make() -> Made:
            weights, lost = self._measured()
            told = {name: [own.divergence, own.loss] for name, own in lost.items()}
            return quantizing.to_arrays(weights), {"lost": told}

        arrays, state = self._step("palettes and sensitivity", "measuring", make)
        names = [EMBEDDING, *linear_names(self.model.shape)]
        lost = {name: Lost(*state["lost"][name]) for name in names}
        return quantizing.from_arrays(arrays, names), lost

    def _measured(self) -> tuple[Weights, dict[str, Lost]]:
        model, settings = self.model, self.settings
        embedding = quantizing.embedding_of(model)
        calibration = Calibration(model.params, model.shape, self.stream.calibration())
        if settings.bits is None:
            weights = quantizing.by_rows(model)
            lost = {
                name: calibration.lost({name: own.dequantized().T}) for name, own in weights.items()
            }
        else:
            measured = quantizing.measure(model, calibration, settings.importance, self._bar)
            chosen = measured.chosen(settings.bits)
            weights = dict(chosen)
            lost = {name: measured.lost[name][own.bits] for name, own in chosen.items()}
        lost[EMBEDDING] = calibration.lost({EMBEDDING: embedding.dequantized()})
        return {EMBEDDING: embedding, **weights}, lost

    def _tuned(self, weights: Weights) -> Weights:
        def make() -> Made:
            found = quantizing.tune(self.model, weights, self.stream, self.settings, self._bar)
            return quantizing.to_arrays(found), {}

        return quantizing.from_arrays(self._step("tables", "tuning", make)[0], weights)

    def _recover(self, weights: Weights, base: str, mean: float, size: int) -> None:
        def make() -> Made:
            factors = quantizing.recovery(
                self.model, weights, self.stream, self.settings, self._bar
            )
            halves = {f"{n}.a": a for n, (a, _) in factors.items()}
            return {**halves, **{f"{n}.b": b for n, (_, b) in factors.items()}}, {}

        arrays = self._step("adapter", "recovery", make)[0]
        names = linear_names(self.model.shape)
        folder = beside(self.target, RECOVERY)
        factors = quantizing.write_recovery(
            folder, self.model, base, {n: (arrays[f"{n}.a"], arrays[f"{n}.b"]) for n in names},
            {RECOVERED: self.settings.recover_tokens},
        )  # fmt: skip
        added = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
        self._add(
            f"recovered, rank {self.settings.rank}", mean, size + added,
            lambda: merged(quantizing.dequantized(self.model, weights), factors),
        )  # fmt: skip
        judge = self._judge
        if judge is not None:
            # What `--adapter` computes: factors and activations in 8 bits.
            self._told(
                f"recovered, {RUNTIME}", mean, size + added,
                lambda: judge.in_runtime(self.target, folder),
            )  # fmt: skip

    def _add(self, name: str, bits: float, size: int, params: Callable[[], Arrays]) -> None:
        """Judge one variant, where there is anything to judge it by."""
        judge = self._judge
        if judge is None:
            self.report.variants.append(Variant(name, bits, size))
        else:
            self._told(name, bits, size, lambda: judge(name, params()))

    def _told(self, name: str, bits: float, size: int, judged: Callable[[], Judgement]) -> None:
        def make() -> Made:
            found = judged()
            return {}, {"found": [quantizing.perplexity(found), found.total.per_byte]}

        state = self._step(f"judgement of {name}", "judging", make)[1]
        self.report.variants.append(Variant(name, bits, size, *state["found"]))

    def _tell_matrices(
        self, contents: Contents, lost: Mapping[str, Lost], weights: Weights
    ) -> None:
        for name, packed in contents.matrices.items():
            stored, own = weights[name], lost[name]
            bits = stored.bits if isinstance(stored, Palette) else 8
            self.report.matrices.append(
                Matrix(name, packed.rows, packed.columns, bits, contents.sizes[name],
                       own.divergence, own.loss)
            )  # fmt: skip

    def _step(self, name: str, what: str, make: Callable[[], Made]) -> Made:
        arrays, state = self._work.step(name, make)
        self._seconds[what] = self._seconds.get(what, 0.0) + state["seconds"]
        return arrays, state

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._seconds[what] = time.monotonic() - begun
