"""``cidermill train``: a small model on a corpus's shards, and what it is worth."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pipelines.amounts import parse_amount, parse_count
from pipelines.extras import need
from pipelines.hold import Interrupted, hold
from pipelines.inputs_error import InputError
from pipelines.resources import cache_folder
from pipelines.target import check_outside
from tokenizer.shard_set import ShardError

TOKENS = "10M"
MODELS = "models"
TEXT_LENGTH = 512
SEQUENCE_TOKENS = {"1m": 4096, "5m": 8192, "15m": 8192, "85m": 32768}
"""Tokens of a step, by preset."""
TYPES = ("f32", "bf16")
"""Of activations."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the command line."""
    train = commands.add_parser(
        "train",
        help="train a small model on a corpus, to judge it",
        description="Train a small decoder model on the token shards of a run and validate it in "
        "bits per byte, by source and language, on the documents that `cidermill pack` set aside. "
        "The same command again goes on where an earlier one was stopped, bit for bit.",
    )
    train.add_argument("output", nargs="?", default="out", help="folder of the run (default: out)")
    model = train.add_argument_group("the model")
    model.add_argument(
        "--preset", metavar="SIZE",
        help="1m, 5m, 15m or 85m: parameters without the embedding (default: 5m)",
    )  # fmt: skip
    model.add_argument(
        "--layer-wise", action="store_true",
        help="layers that grow from the first to the last, as OpenELM's; exports as openelm",
    )  # fmt: skip
    model.add_argument(
        "--start",
        metavar="MODEL",
        help="begin with the weights of a model that was trained before, or of a checkpoint",
    )
    data = train.add_argument_group("the data")
    data.add_argument(
        "--shards", metavar="FOLDER",
        help="token shards (default: OUTPUT/shards/LENGTH; without --recipe the only ones there)",
    )  # fmt: skip
    data.add_argument("--mixture", metavar="NAME", help="a mixture of the sources, or a YAML file")
    data.add_argument(
        "--texts", metavar="GLOB", action="append",
        help="instead of shards, JSONL or Parquet files that are tokenized while they are read; "
        "may be repeated",
    )  # fmt: skip
    data.add_argument("--field", help="with --texts: the text's field (default: text)")
    data.add_argument(
        "--sequence-length", type=int, metavar="N",
        help=f"with --texts: tokens a window (default: {TEXT_LENGTH})",
    )  # fmt: skip
    data.add_argument(
        "--tokenizer", metavar="MODEL",
        help="a tokenizer.model (default: OUTPUT/tokenizer/tokenizer.model)",
    )  # fmt: skip
    data.add_argument(
        "--validation", metavar="PATH",
        help="documents to validate on: a Parquet file with text, source and language, or shards "
        "(default: those that the shards set aside)",
    )  # fmt: skip
    how = train.add_argument_group("the training")
    how.add_argument(
        "--recipe", "-r", metavar="NAME",
        help="stages as a YAML file, or afm or laptop; --tokens and --batch-tokens scale them",
    )  # fmt: skip
    how.add_argument("--tokens", metavar="N", help=f"budget, such as 10M (default: {TOKENS})")
    how.add_argument(
        "--batch-tokens", metavar="N", help="tokens a step (default: 4k to 32k by preset)"
    )
    how.add_argument(
        "--optimizer", choices=("afm", "adamw"),
        help="afm: RMSProp with momentum on clipped updates; adamw (default: afm)",
    )  # fmt: skip
    how.add_argument("--rate", metavar="X", help="peak learning rate (default: 0.01; adamw 3e-4)")
    how.add_argument("--labels", metavar="FOLDER", help="labels of a teacher (`cidermill label`)")
    how.add_argument(
        "--prune", metavar="SHARE",
        help="learn masks that keep this share of the feed-forward hidden values, and remove the "
        "rest at the end",
    )  # fmt: skip
    how.add_argument("--seed", type=int, help="of weights and order of windows (default: 0)")
    how.add_argument(
        "--compute", choices=TYPES, default="f32",
        help="type of activations; weights stay f32. bf16 is taken only where a measurement shows "
        "that it is faster on this machine (default: f32)",
    )  # fmt: skip
    how.add_argument(
        "--keep", type=int, default=3, metavar="N", help="checkpoints that stay (default: 3)"
    )
    devices = train.add_argument_group("several devices")
    devices.add_argument(
        "--mesh", metavar="DxFxTxS",
        help="devices for data x fsdp x tensor x sequence, such as 2x4x1x1 (default: one device, "
        "or all for fsdp)",
    )  # fmt: skip
    devices.add_argument("--coordinator", metavar="HOST:PORT", help="address of the first process")
    devices.add_argument("--processes", type=int, default=1, help="processes in all (default: 1)")
    devices.add_argument("--process", type=int, default=0, help="which this one is (default: 0)")
    where = train.add_argument_group("where")
    where.add_argument("--name", help="folder in OUTPUT/models (default: preset or recipe)")
    where.add_argument("--target", metavar="FOLDER", help="folder of the run, instead of --name")
    where.add_argument(
        "--restart", action="store_true", help="remove what an earlier run left there, and begin"
    )
    train.set_defaults(perform=perform)


def perform(arguments: argparse.Namespace) -> int:
    """Train, validate, and write the model, ``train.json`` and ``loss.png``."""
    need("train", "jax", "safetensors", "matplotlib")
    from tokenizer.reader import StateError
    from tokenizer.texts import TextFileError
    from trainer.checkpoint import CheckpointError
    from trainer.labels import LabelError
    from trainer.loop import NoSteps, Stopped
    from trainer.model_files import ModelError
    from trainer.shape import ShapeError
    from trainer.sharding import MeshError
    from trainer.watch import Diverged

    bad = (
        CheckpointError, LabelError, ModelError, NoSteps, ShapeError, MeshError, StateError,
        TextFileError,
    )  # fmt: skip
    try:
        return _train(arguments)
    except (InputError, ShardError):
        raise
    except bad as error:
        raise InputError(str(error)) from None
    except Stopped as error:
        raise Interrupted(str(error)) from None
    except Diverged as error:
        print(f"cidermill: {error}", file=sys.stderr)
        return 1


def _train(arguments: argparse.Namespace) -> int:
    from pipelines import training_report
    from pipelines.training_show import Show
    from trainer import bits, compute
    from trainer.loop import Training

    _check(arguments)
    hosts = _hosts(arguments)
    recipe = _recipe(arguments)
    target = arguments.target or os.path.join(
        arguments.output, MODELS, arguments.name or recipe.name
    )
    if arguments.start:
        check_outside(arguments.start, target)
    with _held(target, arguments.process), _asked_to_stop() as stop:
        compute.start(cache_folder(), hosts)
        run = _Plan(arguments, recipe, target)
        if arguments.restart:
            _begin_anew(target, arguments.process)
        with Show(arguments.process == 0) as show:
            for note in run.notes:
                show.say(note)
            training = Training(
                target, run.settings, run.tokenizer, run.open, run.texts,
                start=run.start, layout=run.layout, tell=show, stop=stop,
            )  # fmt: skip
            show.begin(run.settings)
            found, report = _run(training, target, run.settings, show, arguments.process)
    if report is not None:
        if found is None:
            print("nothing was set aside to validate on: pack with --held-out, or --validation")
        else:
            print("\n".join(bits.lines(found, report["before"])))
        print("\n".join(training_report.lines(report)))
        print(f"model    {os.path.join(target, 'model')}")
        print(f"curve    {os.path.join(target, 'loss.png')}")
    return 0


def _run(training: Any, target: str, settings: Any, show: Any, process: int) -> tuple[Any, Any]:
    """Train, and write the report wherever the run has ended; not where it was refused, as the
    folder is then another run's. Gives what the model is worth, and in the first process the
    report."""
    from pipelines.training_report import write_report
    from trainer.loop import NoSteps, Stopped
    from trainer.watch import Diverged

    def report() -> Any:
        return write_report(target, settings, show.facts()) if process == 0 else None

    try:
        found = training.run()
    except (Stopped, Diverged, NoSteps, KeyboardInterrupt):
        report()
        raise
    return found, report()


class _Plan:
    """Everything that a run needs, made ready and checked before its first step."""

    def __init__(self, arguments: argparse.Namespace, recipe: Any, target: str) -> None:
        from pipelines.tokenizer_file import load
        from pipelines.training_data import (
            check_set_aside,
            held_out_texts,
            shard_data,
            text_data,
        )
        from trainer.loop import Settings
        from trainer.prune import check_shares
        from trainer.starts import load_start

        self.start = None
        self.notes: list[str] = []
        path = arguments.tokenizer or arguments.output
        self.tokenizer = load(path)
        shape = recipe.shape(self.tokenizer.vocab_size)
        begun, context = None, 0
        if arguments.start:
            start = load_start(arguments.start, None if arguments.restart else target)
            if start.tokenizer != self.tokenizer.sha256:
                raise InputError(
                    f"{arguments.start} was trained with another tokenizer than {path}"
                )
            if arguments.recipe and shape != start.shape:
                self.notes.append(
                    f"the model is {arguments.start} as it is, and not the one that the recipe "
                    f"{recipe.name} describes"
                )
            shape, self.start, begun = start.shape, start.params, start.sha256
            context = start.context
        check_shares(shape, [stage.keep for stage in recipe.stages if stage.keep is not None])
        self.layout = _layout(arguments)
        host, hosts = _share(self.layout, recipe)
        folders = [_shards(arguments, stage) for stage in recipe.stages]
        self._data = [
            text_data(arguments.texts, stage, self.tokenizer, recipe.seed,
                      field=arguments.field or "text", hosts=hosts, host=host)
            if arguments.texts
            else shard_data(folder, stage, self.tokenizer, recipe.seed, hosts=hosts, host=host)
            for stage, folder in zip(recipe.stages, folders, strict=True)
        ]  # fmt: skip
        self.notes += [note for data in self._data for note in data.notes]
        where = arguments.validation or _set_aside(folders[0])
        self.texts = held_out_texts(where, self.tokenizer) if where else []
        if where and (arguments.texts or not check_set_aside(where, folders)):
            self.notes.append(
                "nothing tells whether documents that are validated on are trained on as well: "
                "only shards name the documents they hold, and only files with ids those set aside"
            )
        self.settings = Settings(
            shape=shape,
            stages=recipe.stages,
            seed=recipe.seed,
            sources=tuple(data.identity for data in self._data),
            tokenizer=self.tokenizer.sha256,
            compute=self._compute(arguments, shape, target),
            start=begun,
            context=context,
            keep=arguments.keep,
        )

    def open(self, stage: int) -> Any:
        """The data of a stage, from its start."""
        return self._data[stage].open()

    def _compute(self, arguments: argparse.Namespace, shape: Any, target: str) -> str:
        """The type of activations. All processes measure, at the same time, as none waits long for
        another; the answer of the first is taken, as two may differ, and then they would wait for
        each other without end."""
        from trainer.arrays import everyone

        return TYPES[everyone(TYPES.index(self._own_compute(arguments, shape, target)))[0]]

    def _own_compute(self, arguments: argparse.Namespace, shape: Any, target: str) -> str:
        """bf16 where it was asked for and is faster here; what a run began with stays."""
        from trainer import checkpoint
        from trainer.checkpoint import CHECKPOINTS
        from trainer.compute import GAIN, bf16_pays, bf16_ratio

        if arguments.compute == "f32":
            return "f32"
        begun = checkpoint.listed(os.path.join(target, CHECKPOINTS))
        if begun and not arguments.restart:
            state = checkpoint.read_state(begun[-1])
            settings = checkpoint.field(begun[-1], state, "settings", dict)
            return str(checkpoint.field(begun[-1], settings, "compute", str))
        ratio = bf16_ratio(shape.width, max(layer.hidden for layer in shape.layers))
        if not bf16_pays(ratio):
            self.notes.append(
                f"bf16 is {ratio:.2f} times as fast as f32 on this machine, and below {GAIN} times "
                "f32 is used"
            )
            return "f32"
        return "bf16"


def _recipe(arguments: argparse.Namespace) -> Any:
    """The stages: of a recipe, or the one that the options describe."""
    from pipelines.training_recipes import Recipe, load_training
    from trainer.shape import preset
    from trainer.stages import Stage, make_optimizer

    try:
        tokens = _count(arguments.tokens, "--tokens")
        step = _count(arguments.batch_tokens, "--batch-tokens")
        if arguments.recipe:
            recipe = load_training(arguments.recipe).scaled(tokens, step)
            model = {"preset": arguments.preset} if arguments.preset else dict(recipe.model)
            if arguments.layer_wise or recipe.model.get("layer_wise"):
                model["layer_wise"] = True
            recipe = replace(recipe, model=model)
        else:
            size = arguments.preset or "5m"
            preset(size, 1)  # A wrong name is told before what hangs on it.
            length = _length(arguments)
            settings: dict[str, Any] = {}
            if arguments.rate is not None:
                settings["rate"] = parse_amount(arguments.rate, "--rate")
            stage = Stage(
                name="core",
                tokens=tokens or parse_count(TOKENS, "--tokens"),
                length=length,
                batch=max(1, (step or SEQUENCE_TOKENS.get(size, 8192)) // length),
                optimizer=make_optimizer(arguments.optimizer or "afm", settings),
                mixture=arguments.mixture,
                labels=arguments.labels,
                keep=None if arguments.prune is None else parse_amount(arguments.prune, "--prune"),
            )
            model = {"preset": size, "layer_wise": arguments.layer_wise}
            name = f"{size}-layer-wise" if arguments.layer_wise else size
            recipe = Recipe(name, model, (stage,))
        if arguments.seed is not None:
            recipe = replace(recipe, seed=arguments.seed)
    except ValueError as error:
        raise InputError(str(error)) from None
    return recipe


def _count(text: str | None, what: str) -> int | None:
    """A number of tokens, where it is given. Raises ``ValueError``."""
    if text is None:
        return None
    found = parse_count(text, what)
    if found < 1:
        raise ValueError(f"{what} is {found}; it must be at least 1")
    return found


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what is out of its bounds, and options that another one leaves without meaning."""
    if arguments.keep < 1:
        raise InputError(f"--keep is {arguments.keep}; it must be at least 1")
    if arguments.seed is not None and arguments.seed < 0:
        raise InputError(f"--seed is {arguments.seed}; it must be at least 0")
    if arguments.sequence_length is not None and arguments.sequence_length < 2:
        raise InputError(f"--sequence-length is {arguments.sequence_length}; it must be at least 2")
    if arguments.recipe:
        beside = ("mixture", "optimizer", "rate", "labels", "prune", "sequence_length")
        _refuse(arguments, beside, "--recipe", "a recipe tells it for each stage")
    if arguments.texts:
        _refuse(arguments, ("shards", "mixture", "labels"), "--texts", "it is for shards")
    else:
        for name in ("field", "sequence_length"):
            if getattr(arguments, name) is not None:
                raise InputError(f"{_option(name)} without --texts; shards have their own")
    if arguments.start:
        _refuse(arguments, ("preset", "layer_wise"), "--start", "the model has its dimensions")


def _refuse(arguments: argparse.Namespace, names: Sequence[str], beside: str, why: str) -> None:
    for name in names:
        if getattr(arguments, name) not in (None, False):
            raise InputError(f"{_option(name)} and {beside}; {why}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _hosts(arguments: argparse.Namespace) -> Any:
    """The processes that train together, if there are several."""
    from trainer.compute import Hosts

    if not arguments.coordinator and (arguments.processes, arguments.process) == (1, 0):
        return None
    if not arguments.coordinator and arguments.processes > 1:
        raise InputError(
            f"--processes is {arguments.processes}, which needs --coordinator HOST:PORT, the "
            "address of the first one"
        )
    try:
        return Hosts(arguments.coordinator or "", arguments.processes, arguments.process)
    except ValueError as error:
        raise InputError(str(error)) from None


def _length(arguments: argparse.Namespace) -> int:
    """Tokens a window: of the shards, or as asked for with --texts."""
    from tokenizer.shard_set import ShardSet

    if arguments.texts:
        return arguments.sequence_length or TEXT_LENGTH
    folder = arguments.shards or _only_shards(arguments.output)
    return ShardSet.open(folder).length


def _only_shards(output: str) -> str:
    folder = os.path.join(output, "shards")
    found = sorted(
        name for name in (os.listdir(folder) if os.path.isdir(folder) else ())
        if os.path.isfile(os.path.join(folder, name, "index.json"))
    )  # fmt: skip
    if not found:
        raise InputError(f"{output} holds no shards; run `cidermill pack {output}` first")
    if len(found) > 1:
        raise InputError(
            f"{folder} holds shards of several kinds ({', '.join(found)}); choose with --shards"
        )
    return os.path.join(folder, found[0])


def _shards(arguments: argparse.Namespace, stage: Any) -> str:
    if arguments.shards or arguments.texts:
        return str(arguments.shards or "")
    if not arguments.recipe:
        return _only_shards(arguments.output)
    return os.path.join(arguments.output, "shards", str(stage.length))


def _set_aside(folder: str) -> str | None:
    """The shards' folder, if documents are set aside there."""
    from pipelines.held_out_file import FILE

    return folder if folder and os.path.isfile(os.path.join(folder, FILE)) else None


def _layout(arguments: argparse.Namespace) -> Any:
    import jax

    from trainer.sharding import make_layout, parse_mesh

    if arguments.mesh:
        return make_layout(parse_mesh(arguments.mesh))
    return None if jax.device_count() == 1 else make_layout((1, jax.device_count()))


def _share(layout: Any, recipe: Any) -> tuple[int, int]:
    """Which share of the rows of a batch this process loads, of how many; every stage's batches
    must fit the mesh."""
    from trainer.step import parts_of

    for stage in recipe.stages:
        parts_of(stage.batch, stage.length, layout)
    return (0, 1) if layout is None else (layout.share.host, layout.share.hosts)


@contextmanager
def _held(target: str, process: int) -> Iterator[None]:
    """The folder of the run is the first process's; the others write nothing."""
    if process == 0:
        with hold(target):
            yield
    else:
        yield


@contextmanager
def _asked_to_stop() -> Iterator[Any]:
    """Gives what tells whether Ctrl-C or SIGTERM came: the step is finished, a checkpoint written.

    A second Ctrl-C ends at once.
    """
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        print("stopping behind this step; once more to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _begin_anew(target: str, process: int) -> None:
    """Remove what an earlier run left in its folder, and nothing else that may lie there."""
    import jax

    from pipelines.training_report import PICTURE, REPORT
    from trainer.checkpoint import CHECKPOINTS
    from trainer.loop import LOSSES, MODEL, VALIDATIONS

    if process == 0:
        for name in (CHECKPOINTS, MODEL, LOSSES, VALIDATIONS, REPORT, PICTURE):
            path = os.path.join(target, name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.exists(path):
                os.unlink(path)
    if jax.process_count() > 1:
        from jax.experimental.multihost_utils import sync_global_devices

        # No process may look for a checkpoint that the first is about to remove.
        sync_global_devices("restart")
