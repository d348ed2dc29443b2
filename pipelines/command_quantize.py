"""``cidermill quantize``: a trained model as palettes of a few bits, and an adapter to recover."""

from __future__ import annotations

import argparse
import os
from typing import Any

from pipelines.amounts import parse_amount, parse_count
from pipelines.bars import bar, say
from pipelines.beside import ENDING, RECOVERY, REPORT, WORK, beside
from pipelines.inputs_error import InputError
from pipelines.own_adapters import RECOVERED, base_of
from pipelines.target import begins_with, check_apart, check_folder, check_own, is_report
from pipelines.with_trainer import with_trainer
from runtime.file import MAGIC
from tokenizer.shard_set import ShardSet

PNG = b"\x89PNG"
"""How a picture begins."""

LEAST_TOKENS = 200_000
BITS = "3.5"
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
        "--bits", metavar="X",
        help="mean of a weight of the linear maps, tables included; AFM 3.5 or 3.7 "
        f"(default: {BITS})",
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
    how.add_argument(
        "--teacher-share", metavar="X", default="0.9",
        help="part of the loss that is divergence from the float model; the rest is cross-entropy "
        "on the data, which trains a model further that was trained on little (default: 0.9)",
    )  # fmt: skip
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
    from pipelines.quantize_run import Run
    from trainer.model_files import find_model, load_model

    folder = find_model(arguments.model)
    target = _target(arguments, folder)
    model = load_model(folder)
    settings = _settings(arguments, model)
    _check_beside(arguments, target, folder, bool(settings.recover_tokens))
    quantizing.runtime_shape(model.shape)
    if settings.recover_tokens:
        quantizing.check_rank(model.shape, settings.rank)
    if settings.bits is not None:
        quantizing.check_bits(model.shape, settings.bits)
    shards = ShardSet.open(arguments.shards)
    stream = quantizing.Stream(arguments.shards, model, shards.length, settings)
    for note in stream.notes:
        say(note)
    judge = _judge(arguments, model, shards.length)
    report = Run(model, settings, stream, judge, folder, target, say, bar).perform()
    print("\n".join(report.lines()))
    print(f"model    {target}")
    if settings.recover_tokens:
        print(f"adapter  {beside(target, RECOVERY)}")
    print(f"report   {beside(target, REPORT)}.json and {beside(target, REPORT)}.png")
    return 0


def _settings(arguments: argparse.Namespace, model: Any) -> Any:
    from pipelines.quantizing import Settings

    own = max(LEAST_TOKENS, int(SHARE * int(model.card.get("tokens", 0))))
    tune = own if arguments.tune_tokens is None else _count(arguments, "tune_tokens")
    recover = tune if arguments.recover_tokens is None else _count(arguments, "recover_tokens")
    if arguments.int8:
        if arguments.bits is not None:
            raise InputError("--bits is the mean of palettes; leave it out with --int8")
        tune = 0 if arguments.tune_tokens is None else tune
        recover = 0 if arguments.recover_tokens is None else recover
    bits = BITS if arguments.bits is None else arguments.bits
    return Settings(
        bits=None if arguments.int8 else parse_amount(bits, "--bits"),
        importance=arguments.weights,
        calibration_tokens=_count(arguments, "calibration_tokens"),
        tune_tokens=tune,
        recover_tokens=recover,
        batch_tokens=_count(arguments, "batch_tokens"),
        rank=arguments.rank,
        teacher_share=parse_amount(arguments.teacher_share, "--teacher-share"),
        seed=arguments.seed,
    )


def _count(arguments: argparse.Namespace, name: str) -> int:
    return parse_count(getattr(arguments, name), f"--{name.replace('_', '-')}")


def _target(arguments: argparse.Namespace, folder: str) -> str:
    target = arguments.to or f"{os.path.abspath(folder)}{ENDING}"
    if os.path.isdir(target):
        raise InputError(f"--to is {target}, a folder; name a file such as m{ENDING}")
    check_folder(target)
    check_own(target, lambda path: begins_with(path, MAGIC), f"{ENDING} model")
    return str(target)


def _check_beside(arguments: argparse.Namespace, target: str, folder: str, recovers: bool) -> None:
    """Raises ``InputError`` where what lies beside the target is none of ours, or is read."""
    from pipelines.quantize_report import FORMAT
    from pipelines.quantize_work import is_work

    report, recovery, work = (beside(target, name) for name in (REPORT, RECOVERY, WORK))
    told = is_report(f"{report}.json", FORMAT)
    check_own(f"{report}.json", lambda _: told, "report of `quantize`")
    check_own(
        f"{report}.png", lambda path: told and begins_with(path, PNG), "picture of such a report"
    )
    check_own(work, is_work, "unfinished work of `quantize`")
    if recovers:
        check_own(
            recovery, lambda path: base_of(path, RECOVERED) is not None,
            "adapter of `quantize` alone",
        )  # fmt: skip
    for place in (work, recovery):
        check_apart(place, folder, arguments.shards, arguments.validation)


def _judge(arguments: argparse.Namespace, model: Any, length: int) -> Any:
    from pipelines.held_out_file import FILE
    from pipelines.quantizing import Judge, thinned
    from pipelines.training_data import held_out_texts

    most = None
    if arguments.validation_tokens is not None:
        most = _count(arguments, "validation_tokens")
        if most < 1:
            raise InputError(f"--validation-tokens is {most}; it must be at least 1")
    if arguments.validation is None and not os.path.isfile(os.path.join(arguments.shards, FILE)):
        say("the shards set no documents aside: pack with --held-out, or give --validation")
        return None
    texts = held_out_texts(arguments.validation or arguments.shards, model.tokenizer)
    if not texts:
        return None
    return Judge(model, thinned(texts, most), length, bar)
