"""``cidermill quantize``: a trained model as palettes of a few bits, and an adapter to recover."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.amounts import parse_amount, parse_count
from pipelines.bars import bar, say
from pipelines.beside import ENDING, beside
from pipelines.inputs_error import InputError
from pipelines.with_trainer import with_trainer
from tokenizer.shard_set import ShardSet

LEAST_TOKENS = 200_000
SHARE = 0.01
"""Of the model's own training tokens: what tables and adapter are trained on, but for small models.
AFM trains its adapters on 0.15 % of six trillion tokens."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``quantize`` to the command line."""
    quantize = commands.add_parser(
        "quantize",
        help="bring a trained model to 3.5 bits a weight, for the runtime",
        description="Cluster the weights of a model into tables that 16 rows share, give each "
        "layer 4, 3 or 2 bits by what the model loses there, train the tables and then a low-rank "
        "adapter against the float model, and tell what it came to on held-out documents.",
    )
    quantize.add_argument("model", help="folder of a model or of a training run")
    quantize.add_argument(
        "--shards", metavar="FOLDER", required=True,
        help="token shards to measure and train on, such as those of the training",
    )  # fmt: skip
    quantize.add_argument(
        "--to", metavar="FILE", help=f"file of the quantized model (default: MODEL{ENDING})"
    )
    how = quantize.add_argument_group("how")
    how.add_argument(
        "--bits", metavar="X", default="3.5",
        help="mean of a weight of the linear maps, tables included; AFM 3.5 or 3.7 (default: 3.5)",
    )  # fmt: skip
    how.add_argument(
        "--int8", action="store_true", help="8 bits by row instead of palettes, nothing trained"
    )
    how.add_argument(
        "--weights", choices=("energy", "fisher", "plain"), default="energy",
        help="what an error in a weight counts for: the energy of its input, its curvature in the "
        "loss, or all the same (default: energy)",
    )  # fmt: skip
    how.add_argument(
        "--calibration-tokens", metavar="N", default="8k",
        help="tokens that losses are measured on, each layer at each width (default: 8k)",
    )  # fmt: skip
    how.add_argument(
        "--tune-tokens", metavar="N",
        help="tokens to train tables on; 0 for none (default: 1%% of the model's own training, at "
        "least 200k)",
    )  # fmt: skip
    how.add_argument(
        "--recover-tokens", metavar="N",
        help="tokens to train the recovery adapter on; 0 for none (default: as --tune-tokens)",
    )  # fmt: skip
    how.add_argument("--rank", type=int, default=16, help="of the adapter (default: 16)")
    how.add_argument(
        "--batch-tokens", metavar="N", default="4k", help="tokens a step (default: 4k)"
    )
    how.add_argument("--seed", type=int, default=0, help="default: 0")
    judged = quantize.add_argument_group("what it is judged on")
    judged.add_argument(
        "--validation", metavar="PATH",
        help="documents: a Parquet file with text, source and language, or shards (default: those "
        "that the shards set aside)",
    )  # fmt: skip
    judged.add_argument(
        "--validation-tokens", metavar="N", help="every n-th document, about so many tokens"
    )
    quantize.set_defaults(perform=perform)


def perform(arguments: argparse.Namespace) -> int:
    """Quantize; writes the model, the adapter's folder and the report."""
    return with_trainer(_quantize, arguments)


def _quantize(arguments: argparse.Namespace) -> int:
    from pipelines import quantizing
    from trainer.model_files import find_model, load_model

    folder = find_model(arguments.model)
    model = load_model(folder)
    settings = _settings(arguments, model)
    target = _target(arguments, folder)
    quantizing.runtime_shape(model.shape)
    if settings.bits is not None:
        quantizing.check_bits(model.shape, settings.bits)
    shards = ShardSet.open(arguments.shards)
    stream = quantizing.Stream(arguments.shards, model, shards.length, settings)
    for note in stream.notes:
        say(note)
    judge = _judge(arguments, model, shards.length)
    run = _Run(model, settings, stream, judge, folder, target)
    run.perform()
    print("\n".join(run.report.lines()))
    print(f"model    {target}")
    if settings.recover_tokens:
        print(f"adapter  {beside(target, 'recovery')}")
    print(f"report   {beside(target, 'quantize.json')}")
    return 0


class _Run:
    """One model on its way, and the report as it grows."""

    def __init__(
        self, model: Any, settings: Any, stream: Any, judge: Any, folder: str, target: str
    ) -> None:
        from pipelines.quantize_report import Report
        from trainer.model_files import WEIGHTS

        self.model, self.settings, self.stream, self._judge = model, settings, stream, judge
        self.target = target
        self.report = Report()
        self._seconds: dict[str, float] = {}
        self._float_bytes = os.path.getsize(os.path.join(folder, WEIGHTS))

    def perform(self) -> None:
        """All steps in their order; the file is written when it holds what was tuned."""
        from dataclasses import asdict

        from pipelines import quantizing
        from runtime.palette import Palette

        model, settings = self.model, self.settings
        self._add("float", 32.0, self._float_bytes, dict(model.params))
        weights, lost = self._quantized()
        if settings.tune_tokens:
            # A file of what is not tuned is as large, but for nothing.
            untuned = quantizing.dequantized(model, weights)
            with self._timed("tuning"):
                tuned = quantizing.tune(model, weights, self.stream, settings, self._bar)
        else:
            untuned, tuned = None, weights
        contents = quantizing.write_model(
            self.target, model, tuned,
            {
                "model": model.card["weights_sha256"],
                "data": self.stream.identity,
                "quantized": asdict(settings),
            },
        )  # fmt: skip
        size, mean = os.path.getsize(self.target), contents.bits_per_weight()
        if untuned is not None:
            self._add("quantized", mean, size, untuned)
        stored = quantizing.dequantized(model, tuned)
        self._add("tables tuned" if untuned is not None else "quantized", mean, size, stored)
        if self._judge is not None:
            with self._timed("judging"):
                self._told("in the runtime", mean, size, self._judge.in_runtime(self.target))
        self._tell_matrices(contents, lost, {
            name: own.bits if isinstance(own, Palette) else 8 for name, own in tuned.items()
        })  # fmt: skip
        if settings.recover_tokens:
            self._recover(tuned, contents.digest, mean, size)
        self.report.facts = {
            "model": model.card["weights_sha256"],
            "base": contents.digest,
            "data": self.stream.identity,
            "settings": asdict(settings),
        }
        self.report.measured = {"seconds": self._seconds}
        self.report.write(beside(self.target, "quantize.json"))

    def _quantized(self) -> tuple[Any, Any]:
        """All matrices as they are first quantized, and what is lost by each."""
        from pipelines import quantizing
        from trainer.sensitivity import Calibration

        model, settings = self.model, self.settings
        embedding = quantizing.embedding_of(model)
        with self._timed("measuring"):
            calibration = Calibration(model.params, model.shape, self.stream.calibration())
            if settings.bits is None:
                weights = quantizing.by_rows(model)
                lost = {
                    name: calibration.lost({name: own.dequantized().T})
                    for name, own in weights.items()
                }
            else:
                measured = quantizing.measure(model, calibration, settings.importance, self._bar)
                chosen = measured.chosen(settings.bits)
                weights = dict(chosen)
                lost = {name: measured.lost[name][own.bits] for name, own in chosen.items()}
            lost["embedding"] = calibration.lost({"embedding": embedding.dequantized()})
        return {"embedding": embedding, **weights}, lost

    def _recover(self, weights: Any, base: str, mean: float, size: int) -> None:
        from pipelines import quantizing
        from trainer.recover import merged

        with self._timed("recovery"):
            factors = quantizing.recovery(
                self.model, weights, self.stream, self.settings, self._bar
            )
        folder = beside(self.target, "recovery")
        factors = quantizing.write_recovery(
            folder, self.model, base, factors,
            {"cidermill_recovery_tokens": self.settings.recover_tokens},
        )  # fmt: skip
        added = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
        params = merged(quantizing.dequantized(self.model, weights), factors)
        self._add(f"recovered, rank {self.settings.rank}", mean, size + added, params)

    def _add(self, name: str, bits: float, size: int, params: Any) -> None:
        from pipelines.quantize_report import Variant

        if self._judge is None:
            self.report.variants.append(Variant(name, bits, size))
            return
        with self._timed("judging"):
            found = self._judge(name, params)
        self._told(name, bits, size, found)

    def _told(self, name: str, bits: float, size: int, found: Any) -> None:
        from pipelines.quantize_report import Variant
        from pipelines.quantizing import perplexity

        self.report.variants.append(
            Variant(name, bits, size, perplexity(found), found.total.per_byte)
        )

    def _tell_matrices(self, contents: Any, lost: Any, bits: dict[str, int]) -> None:
        from pipelines.quantize_report import Matrix

        for name, packed in contents.matrices.items():
            own = lost[name]
            self.report.matrices.append(
                Matrix(name, packed.rows, packed.columns, bits[name], contents.sizes[name],
                       own.divergence, own.loss)
            )  # fmt: skip

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._seconds[what] = self._seconds.get(what, 0.0) + time.monotonic() - begun

    @staticmethod
    def _bar(what: str, total: int) -> Any:
        return bar(what, total)


def _settings(arguments: argparse.Namespace, model: Any) -> Any:
    from pipelines.quantizing import Settings

    own = max(LEAST_TOKENS, int(SHARE * int(model.card.get("tokens", 0))))
    tune = own if arguments.tune_tokens is None else _count(arguments, "tune_tokens")
    recover = tune if arguments.recover_tokens is None else _count(arguments, "recover_tokens")
    if arguments.int8:
        tune = 0 if arguments.tune_tokens is None else tune
        recover = 0 if arguments.recover_tokens is None else recover
    return Settings(
        bits=None if arguments.int8 else parse_amount(arguments.bits, "--bits"),
        importance=arguments.weights,
        calibration_tokens=_count(arguments, "calibration_tokens"),
        tune_tokens=tune,
        recover_tokens=recover,
        batch_tokens=_count(arguments, "batch_tokens"),
        rank=arguments.rank,
        seed=arguments.seed,
    )


def _count(arguments: argparse.Namespace, name: str) -> int:
    return parse_count(getattr(arguments, name), f"--{name.replace('_', '-')}")


def _target(arguments: argparse.Namespace, folder: str) -> str:
    target = arguments.to or f"{os.path.abspath(folder)}{ENDING}"
    if os.path.isdir(target):
        raise InputError(f"--to is {target}, a folder; name a file such as m{ENDING}")
    above = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(above):
        raise InputError(f"--to is {target}, and there is no folder {above}")
    return str(target)


def _judge(arguments: argparse.Namespace, model: Any, length: int) -> Any:
    from pipelines.held_out import FILE
    from pipelines.quantizing import Judge, thinned
    from pipelines.training_data import held_out_texts

    most = None
    if arguments.validation_tokens is not None:
        most = _count(arguments, "validation_tokens")
    if arguments.validation is None and not os.path.isfile(os.path.join(arguments.shards, FILE)):
        say("the shards set no documents aside: pack with --held-out, or give --validation")
        return None
    texts = held_out_texts(arguments.validation or arguments.shards, model.tokenizer)
    if not texts:
        return None
    return Judge(model, thinned(texts, most), length, bar)
