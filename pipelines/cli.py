"""The command line: ``cidermill curate | why | report | recipes | benchmarks | tokenizer | pack
| shards | stream | train
| evaluate | export | label | quantize | adapt | generate | score``.

Exit codes: 0 done; 1 the run failed; 2 wrong use or unusable input; 3 documents were lost or
invented; 130 interrupted. Errors are one line on standard error; with ``CIDERMILL_DEBUG=1`` in the
environment the traceback stands before it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import pyarrow as pa

import pipelines.quiet  # noqa: F401 - before Beam is imported
from pipelines import files
from pipelines.account import ConservationError
from pipelines.hold import Interrupted
from pipelines.inputs_error import InputError, RunFailed
from pipelines.yaml_tree import RecipeError
from tokenizer.shard_set import ShardError
from tokenizer.train import TrainingFailed

COMMANDS = {
    "curate": ("command_curate", "turn raw inputs into an audited corpus"),
    "why": ("command_report", "tell why a page was kept, dropped or edited"),
    "report": ("command_report", "print the funnel of a finished run and write its report anew"),
    "recipes": ("command_recipes", "list and explain recipes"),
    "benchmarks": ("command_benchmarks", "build and list indexes of benchmark items"),
    "tokenizer": (
        "command_tokenizer",
        "train a tokenizer on a curated corpus, and look at what it does",
    ),
    "pack": ("command_pack", "turn a curated corpus into token shards"),
    "shards": ("command_shards", "look at token shards, check them, export them"),
    "stream": ("command_stream", "measure tokenizing on the fly, without shards"),
    "train": ("command_train", "train a small model on a corpus, to judge it"),
    "evaluate": ("command_model", "tell what a model is worth: bits per byte, multiple choice"),
    "export": ("command_model", "write a model for transformers, vLLM, MLX, llama.cpp"),
    "label": ("command_model", "write a teacher's labels beside token shards"),
    "quantize": ("command_quantize", "bring a trained model to 3.5 bits a weight, for the runtime"),
    "adapt": ("command_adapt", "teach a quantized model a task, by examples"),
    "generate": ("command_generate", "go on with a text, with a quantized model"),
    "score": ("command_score", "tell how likely a quantized model finds documents"),
}
"""By name the module whose ``add_parser`` describes the command, and its line in the help. Some
modules take seconds to import, for the sake of Beam, and some have several commands."""

GO_ON = frozenset({"curate", "pack", "train", "label", "quantize"})
"""Commands that find what an earlier call of theirs has done."""


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line.

    Args:
      command: the one that is asked for, so that no other need be imported; ``""`` for none, whose
        parser lists commands and takes none of their options; default: all of them.
    """
    top = argparse.ArgumentParser(
        prog="cidermill",
        description="Raw crawls in, audited pretraining corpora out.",
        epilog="cidermill COMMAND --help tells more about each.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    if command == "":
        for name, (_, line) in COMMANDS.items():
            commands.add_parser(name, help=line)
        return top
    wanted = COMMANDS if command is None else {command: COMMANDS[command]}
    for module in dict.fromkeys(module for module, _ in wanted.values()):
        importlib.import_module(f"pipelines.{module}").add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    known, rest = parser(_asked(given)).parse_known_args(given)
    known.beam_options = rest
    try:
        if rest and known.command != "curate":
            from pipelines.command_curate import set_store_options

            set_store_options(rest, known.command, strict=True)
        elif not rest:
            files.set_options([])
        return int(known.perform(known))
    except (InputError, RecipeError, ShardError) as error:
        return _fail(error, 2)
    except ConservationError as error:
        return _fail(error, 3)
    except (RunFailed, TrainingFailed) as error:
        return _fail(error, 1)
    except (Interrupted, KeyboardInterrupt) as error:
        told = str(error) or "interrupted"
        return _fail(Interrupted(f"{told}{_going_on(known)}"), 130)
    except UnicodeEncodeError as error:
        odd = error.object[error.start]
        return _fail(
            InputError(
                f"a file or a terminal of the encoding {error.encoding} cannot hold "
                f"U+{ord(odd):04X}; set PYTHONIOENCODING=utf-8"
            ),
            2,
        )
    except MemoryError as error:
        return _fail(MemoryError(f"not enough memory{f': {error}' if str(error) else ''}"), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except pa.ArrowException as error:
        first = str(error).split("\n")[0]
        return _fail(RuntimeError(f"a table cannot be read: {first}"), 1)
    except OSError as error:
        return _fail(error, 1)


def _asked(arguments: Sequence[str]) -> str:
    """The command that some arguments begin with, or none."""
    return arguments[0] if arguments and arguments[0] in COMMANDS else ""


def _going_on(arguments: argparse.Namespace) -> str:
    """What to say behind the word that a command was stopped."""
    if arguments.command not in GO_ON:
        return ""
    option = " without --restart" if getattr(arguments, "restart", False) else ""
    return f"; the same command{option} goes on from here"


def _fail(error: BaseException, code: int) -> int:
    if os.environ.get("CIDERMILL_DEBUG"):
        traceback.print_exception(error)
    print(f"cidermill: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
