"""``cidermill evaluate``, ``export`` and ``label``: what a trained model is good for."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tqdm import tqdm

from pipelines import files
from pipelines.inputs_error import InputError
from pipelines.target import check_apart, check_folder, check_own, is_report
from pipelines.with_trainer import with_trainer

LENGTH = 512
FORMATS = ("hf", "gguf-f16", "gguf-q8_0", "gguf-lora")
LABELS = "labels"
EVALUATION = "cidermill-evaluation"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three commands to the command line."""
    evaluate = commands.add_parser(
        "evaluate",
        help="tell what a model is worth: bits per byte, multiple choice",
        description="Score a model that `cidermill train` made: bits per byte of documents, by "
        "source and language, and multiple-choice questions by log-likelihood.",
    )
    evaluate.add_argument("model", help="folder of a model or of a training run")
    evaluate.add_argument(
        "--validation", metavar="PATH", help="documents: a Parquet file with text, source and "
        "language, or shards that set some aside",
    )  # fmt: skip
    evaluate.add_argument(
        "--tasks", metavar="FILE", action="append", default=[],
        help="questions as JSONL: query, choices, which go on right where it ends (let them begin "
        "with a space), gold (from 0), and task if any; may be repeated",
    )  # fmt: skip
    evaluate.add_argument(
        "--prompt", metavar="TEXT", action="append", default=[],
        help="show how the model goes on with a text; may be repeated",
    )  # fmt: skip
    evaluate.add_argument("--prompt-tokens", type=int, default=64, metavar="N",
                          help="tokens to add to a prompt (default: 64)")  # fmt: skip
    evaluate.add_argument("--temperature", type=float, default=0.8, metavar="X",
                          help="with --prompt; 0 for the likeliest (default: 0.8)")  # fmt: skip
    evaluate.add_argument("--seed", type=int, default=0, help="with --prompt (default: 0)")
    evaluate.add_argument(
        "--sequence-length", type=int, metavar="N",
        help="tokens a window (default: that of the last stage of its training)",
    )  # fmt: skip
    evaluate.add_argument("--json", metavar="FILE", help="write the results there as well")
    evaluate.set_defaults(perform=_guarded(_evaluate))

    export = commands.add_parser(
        "export",
        help="write a model for transformers, vLLM, MLX, llama.cpp",
        description="Write a model in Hugging Face's layout (Qwen3ForCausalLM; layer-wise models "
        "as OpenELM) or as GGUF (qwen3, openelm). A quantized model is written as the weights that "
        "it stands for, and its adapter with them, or alone as gguf-lora.",
    )
    export.add_argument("model", help="folder of a model or of a training run, or a .cider file")
    export.add_argument("--adapter", metavar="FOLDER",
                        help="of a .cider file: add it to the weights, or with --format gguf-lora "
                        "write it alone")  # fmt: skip
    export.add_argument("--format", choices=FORMATS, default="hf", help="default: hf")
    export.add_argument(
        "--to", metavar="PATH",
        help="folder, or file of a GGUF (default: beside the model, with --adapter beside that)",
    )  # fmt: skip
    export.add_argument("--dtype", choices=("float32", "float16"),
                        help="of weights in --format hf (default: float32)")  # fmt: skip
    export.set_defaults(perform=_guarded(_export))

    label = commands.add_parser(
        "label",
        help="write a teacher's labels beside token shards",
        description="Compute what a model takes to be the next token at each place of token "
        "shards, one id a token, for `cidermill train --labels`.",
    )
    label.add_argument("model", help="folder of the teacher, or of its training run")
    label.add_argument("shards", help="folder of token shards")
    label.add_argument("--to", metavar="FOLDER", help=f"default: SHARDS/{LABELS}")
    label.add_argument(
        "--restart", action="store_true", help="label anew, in place of any labels that are there"
    )
    label.set_defaults(perform=_guarded(_label))


def _guarded(perform: Callable[[argparse.Namespace], None]) -> Callable[..., int]:
    """The command, where the trainer is at hand."""

    def done(arguments: argparse.Namespace) -> int:
        perform(arguments)
        return 0

    return partial(with_trainer, done)


def _evaluate(arguments: argparse.Namespace) -> None:
    from pipelines.training_data import held_out_texts
    from trainer import bits, choices
    from trainer.continuation import go_on
    from trainer.model_files import load_model
    from trainer.scoring import Scorer

    if not (arguments.validation or arguments.tasks or arguments.prompt):
        raise InputError("nothing to evaluate: give --validation, --tasks or --prompt")
    if arguments.prompt_tokens < 1:
        raise InputError(f"--prompt-tokens is {arguments.prompt_tokens}; it must be at least 1")
    if arguments.seed < 0:
        raise InputError(f"--seed is {arguments.seed}; it must be at least 0")
    if arguments.json:
        check_folder(arguments.json, "--json")
        check_apart(arguments.json, arguments.validation, *arguments.tasks, option="--json")
        check_own(
            arguments.json, lambda path: is_report(path, EVALUATION), "report of `evaluate`",
            "--json",
        )  # fmt: skip
    model = load_model(arguments.model)
    stages = model.card.get("training", {}).get("stages", [])
    own = stages[-1]["length"] if stages else LENGTH
    length = own if arguments.sequence_length is None else arguments.sequence_length
    scorer = Scorer(model.params, model.shape, length)
    content: dict[str, Any] = {
        "format": EVALUATION,
        "version": 1,
        "model": model.card["weights_sha256"],
    }
    if arguments.validation:
        texts = held_out_texts(arguments.validation, model.tokenizer)
        if not texts:
            raise InputError(f"{arguments.validation} holds no document of two tokens or more")
        with _bar("documents", sum(len(text.ids) for text in texts)) as seen:
            judgement = bits.judge(scorer, texts, seen)
        content["bits"] = judgement.to_dict()
        print("\n".join(bits.lines(judgement)))
    if arguments.tasks:
        questions = [q for path in arguments.tasks for q in choices.read_questions(path)]
        joined = sum(choices.joined(question) for question in questions)
        if joined:
            print(f"cidermill: {joined} of {len(questions)} questions have choices that go on "
                  "without a space: nothing is put between, so let choices begin with one",
                  file=sys.stderr)  # fmt: skip
        with _bar("questions", None) as seen:
            found = choices.results(choices.answer(scorer, model.tokenizer, questions, seen))
        content["tasks"] = {name: result.to_dict() for name, result in found.items()}
        print("\n".join(choices.lines(found)))
    for prompt in arguments.prompt:
        text = go_on(
            model, prompt, arguments.prompt_tokens,
            temperature=arguments.temperature, seed=arguments.seed,
        )  # fmt: skip
        content.setdefault("continuations", []).append({"prompt": prompt, "text": text})
        print(f"{prompt}|{text}")
    if arguments.json:
        files.write_json(arguments.json, content)


def _export(arguments: argparse.Namespace) -> None:
    from pipelines.exporting import export

    export(arguments)


def _label(arguments: argparse.Namespace) -> None:
    from pipelines.training_data import checked_shards
    from trainer.labels import write_labels
    from trainer.model_files import load_model

    shards = checked_shards(arguments.shards)
    target = arguments.to or os.path.join(arguments.shards, LABELS)
    total = sum(shard.tokens.size for shard in shards.shards)
    with _bar("labelling", total) as seen:
        index = write_labels(
            load_model(arguments.model), shards, target, seen, anew=arguments.restart
        )
    done = index["shards_done"].values()
    agreed, predicted = (sum(entry[key] for entry in done) for key in ("agreed", "predicted"))
    print(f"labels   {target}; {agreed / max(1, predicted):.1%} of them are the next token")


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar of tokens, where there is a terminal."""
    with tqdm(total=total, desc=what, unit=" tokens", unit_scale=True,
              disable=not sys.stderr.isatty()) as bar:  # fmt: skip
        yield lambda count: _advance(bar, count)


def _advance(bar: Any, count: int) -> None:
    bar.update(count)
