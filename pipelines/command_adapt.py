"""``cidermill adapt``: teach a quantized model a task, as an adapter of its own."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from pipelines.amounts import parse_amount, parse_count, show_count
from pipelines.bars import bar, say
from pipelines.beside import ENDING, RECOVERY, RESERVED, beside
from pipelines.hold import Interrupted, stoppable
from pipelines.inputs_error import InputError
from pipelines.own_adapters import ADAPTED, base_of
from pipelines.target import check_apart, check_own, is_report, is_same
from pipelines.with_trainer import with_trainer
from runtime.adapter_config import AdapterError
from runtime.file import Contents, read
from runtime.model import CONTEXT

NONE = "none"
HELD_OUT = "0.05"
DESCRIPTION = """\
Train a low-rank adapter of a quantized model on prompts and their completions, from its recovery
adapter on, and tell what it came to on examples that were set aside. The model stays as it is, and
the adapter is for this model alone.
"""
EPILOG = """\
A line of FILE is {"prompt": "...", "completion": "..."}. The model is trained to go on from the
prompt with the completion and then to end; prompts are read and not learned. Give `generate` the
prompt as it stands in FILE, its last space included or not. A completion that goes on within a line
begins with the space, as in {"prompt": "Capital of France:", "completion": " Paris"}.

  cidermill adapt m.cider --examples capitals.jsonl.gz     # m.capitals/, m.capitals.json
  cidermill generate --model m.cider --adapter m.capitals --prompt "Capital of France:"
  cidermill export m.cider --adapter m.capitals --format gguf-lora
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``adapt`` to the command line."""
    adapt = commands.add_parser(
        "adapt",
        help="teach a quantized model a task, by examples",
        description=DESCRIPTION,
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    adapt.add_argument("model", help="a .cider file")
    adapt.add_argument(
        "--examples", metavar="FILE", required=True, action="append",
        help="JSONL (plain, .gz, .zst) or Parquet; may be repeated",
    )  # fmt: skip
    adapt.add_argument(
        "--from", metavar="FOLDER", dest="start",
        help=f"adapter to start from, or {NONE} (default: MODEL.recovery where there is one)",
    )  # fmt: skip
    adapt.add_argument(
        "--to", metavar="FOLDER",
        help="of the adapter; a report is written beside it (default: beside the model, by the "
        "name of the first FILE)",
    )  # fmt: skip
    adapt.add_argument("--prompt-field", metavar="NAME", default="prompt", help="default: prompt")
    adapt.add_argument("--completion-field", metavar="NAME", default="completion",
                       help="default: completion")  # fmt: skip
    how = adapt.add_argument_group("how")
    budget = how.add_mutually_exclusive_group()
    budget.add_argument(
        "--epochs", metavar="X",
        help="how many times all examples are seen (default: 3, or what makes 100 steps)",
    )  # fmt: skip
    budget.add_argument("--tokens", metavar="N", help="the same in tokens, prompts included")
    how.add_argument("--batch-tokens", metavar="N", default="2k",
                     help="tokens a step, about, with padding (default: 2k)")  # fmt: skip
    how.add_argument("--rate", metavar="X", help="peak learning rate (default: 1e-3)")
    how.add_argument(
        "--rank", type=int, metavar="N",
        help="of an adapter from nothing (default: 16); another adapter keeps its own",
    )  # fmt: skip
    how.add_argument("--seed", type=int, default=0,
                     help="of the order, and of what is set aside (default: 0)")  # fmt: skip
    judged = adapt.add_argument_group("what it is judged on")
    where = judged.add_mutually_exclusive_group()
    where.add_argument(
        "--held-out", metavar="X", default=HELD_OUT,
        help="a share of the examples below 1, or a number of them; 0 for none (default: "
        f"{HELD_OUT})",
    )  # fmt: skip
    where.add_argument("--validation", metavar="FILE", help="other examples instead")
    adapt.set_defaults(perform=perform)


def perform(arguments: argparse.Namespace) -> int:
    """Adapt; writes the adapter's folder and the report."""
    try:
        with stoppable():
            return with_trainer(_adapt, arguments)
    except (Interrupted, KeyboardInterrupt):
        print("cidermill: interrupted; nothing was written", file=sys.stderr)
        return 130


def _adapt(arguments: argparse.Namespace) -> int:
    from pipelines.adapt_report import Report
    from pipelines.adapting import Task, write
    from pipelines.exporting import dequantized
    from trainer.examples import digest
    from trainer.watch import Diverged

    target = _target(arguments)
    contents = _read(arguments.model)
    examples, held_out = _examples(arguments, contents)
    settings = _settings(arguments, sum(map(len, examples)))
    model = dequantized(contents)
    start = _start(arguments, contents, model.shape, settings)
    task = Task(contents, model, start, examples, held_out, settings)
    stage = task.stage
    say(
        f"{len(examples)} examples of {show_count(sum(map(len, examples)))} tokens, "
        f"{task.epochs:.3g} times, in {stage.steps} steps of {stage.batch} windows of "
        f"{stage.length}"
    )
    begun = time.monotonic()
    try:
        found = task.perform(bar)
    except Diverged as error:
        raise Diverged(
            f"{error}; nothing was written; give a --rate below {settings.rate:g}"
        ) from None
    write(target, contents, found.factors, {ADAPTED: task.facts()})
    facts = {"base": contents.digest, "held_out": digest(held_out), **task.facts()}
    measured = {"seconds": time.monotonic() - begun}
    report = Report(facts, found.losses, found.judged, measured)
    report.write(_report(target))
    print("\n".join(report.lines()))
    print(f"adapter  {target}\nreport   {_report(target)}")
    return 0


def _read(path: str) -> Contents:
    if not os.path.isfile(path):
        raise InputError(f"{path} is no file; give a {ENDING} file of `cidermill quantize`")
    return read(path)


def _target(arguments: argparse.Namespace) -> str:
    """The folder to write. Nothing but what an earlier command of this kind wrote may stand there,
    or where the report goes.

    Raises:
      InputError: something else does, or what is read; or the name is one of ``quantize``.
    """
    from pipelines.adapt_report import FORMAT

    first = os.path.basename(arguments.examples[0]).partition(".")[0]
    target = os.path.abspath(arguments.to or beside(arguments.model, first or "adapter"))
    if any(is_same(target, beside(arguments.model, name)) for name in RESERVED):
        raise InputError(f"{target} is what `quantize` writes beside the model; name another --to")
    above = os.path.dirname(target)
    if not os.path.isdir(above):
        raise InputError(f"--to is {target}, and there is no folder {above}")
    start = None if arguments.start == NONE else arguments.start
    for path in (target, _report(target)):
        check_apart(path, arguments.model, start, arguments.validation, *arguments.examples)
    check_own(target, lambda path: base_of(path, ADAPTED) is not None, "adapter of `adapt` alone")
    check_own(_report(target), lambda path: is_report(path, FORMAT), "report of `adapt`")
    return target


def _report(target: str) -> str:
    return f"{target}.json"


def _examples(arguments: argparse.Namespace, contents: Contents) -> tuple[list[Any], list[Any]]:
    """What is learned from, and what is judged on."""
    from trainer.examples import set_aside

    examples = _read_all(arguments, contents, arguments.examples)
    joined = sum(example.joined for example in examples)
    if joined:
        say(
            f"{joined} of {len(examples)} prompts end within a token of the whole text, as where a "
            "space ends the prompt instead of beginning the completion; that is harder to learn"
        )
    if arguments.validation:
        held_out = _read_all(arguments, contents, [arguments.validation])
        known = set(examples)
        seen = sum(example in known for example in held_out)
        if seen:
            say(f"{seen} of {len(held_out)} examples to judge on are among those to learn from")
        return examples, held_out
    count = _held_out(arguments.held_out, len(examples))
    learned, held_out = set_aside(examples, count, arguments.seed)
    if count and not held_out:
        say("all examples have one prompt, so that none is set aside")
    return learned, held_out


def _read_all(arguments: argparse.Namespace, contents: Contents, paths: Sequence[str]) -> list[Any]:
    from trainer.examples import read_examples

    return [
        example
        for path in paths
        for example in read_examples(
            path, contents.tokenizer, CONTEXT,
            prompt=arguments.prompt_field, completion=arguments.completion_field,
        )
    ]  # fmt: skip


def _held_out(text: str, examples: int) -> int:
    """How many examples to set aside: of a share, one at least."""
    wanted = parse_amount(text, "--held-out")
    if wanted < 1:
        return max(1, round(wanted * examples)) if wanted and examples > 1 else 0
    count = parse_count(text, "--held-out")
    if count >= examples:
        raise InputError(
            f"--held-out is {count}, and there are {examples} examples; some must stay"
        )
    return count


def _settings(arguments: argparse.Namespace, tokens: int) -> Any:
    """Settings for examples of so many tokens."""
    from pipelines.adapting import Settings

    given: dict[str, Any] = {
        "batch_tokens": parse_count(arguments.batch_tokens, "--batch-tokens"),
        "seed": arguments.seed,
    }
    if arguments.rank is not None:
        given["rank"] = arguments.rank
    if arguments.rate is not None:
        given["rate"] = parse_amount(arguments.rate, "--rate")
    if arguments.epochs is not None:
        given["epochs"] = parse_amount(arguments.epochs, "--epochs")
    if arguments.tokens is not None:
        given["epochs"] = parse_count(arguments.tokens, "--tokens") / tokens
    return Settings(**given)


def _start(arguments: argparse.Namespace, contents: Contents, shape: Any, settings: Any) -> Any:
    """What to begin with."""
    from pipelines import adapting

    folder = arguments.start
    if folder is None:
        own = beside(arguments.model, RECOVERY)
        folder = own if os.path.isdir(own) else NONE
        if folder == NONE:
            say(f"there is no {own}: an adapter of rank {settings.rank} from nothing")
    if folder == NONE:
        return adapting.fresh(shape, settings)
    try:
        start = adapting.begun(folder, contents, shape, settings)
    except AdapterError as error:
        raise InputError(
            f"{error}; name another with --from, or --from {NONE} to begin from nothing"
        ) from None
    if arguments.rank not in (None, start.rank):
        raise InputError(
            f"--rank is {arguments.rank}, and {folder} is of rank {start.rank}; leave it out, or "
            f"--from {NONE}"
        )
    return start
