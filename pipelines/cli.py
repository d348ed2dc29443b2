"""The command line: ``cidermill curate | why | report | recipes | benchmarks | tokenizer | pack
| shards | stream | train
| evaluate | export | label | quantize | adapt | generate | score``.

Exit codes: 0 done; 1 the run failed; 2 wrong use or unusable input; 3 documents were lost or
invented; 130 interrupted. Errors are one line on standard error; with ``CIDERMILL_DEBUG=1`` in the
environment the traceback stands before it.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

import pyarrow as pa

import pipelines.quiet  # noqa: F401 - before Beam is imported
from pipelines import (
    command_adapt,
    command_benchmarks,
    command_curate,
    command_generate,
    command_model,
    command_pack,
    command_quantize,
    command_recipes,
    command_score,
    command_shards,
    command_stream,
    command_tokenizer,
    command_train,
)
from pipelines.account import ConservationError
from pipelines.engines import EngineFailed
from pipelines.hold import Interrupted
from pipelines.inputs_error import InputError
from pipelines.local import WorkerFailed
from pipelines.why import NotFound, explain
from pipelines.yaml_tree import RecipeError
from tokenizer.shard_set import ShardError
from tokenizer.train import TrainingFailed


def parser() -> argparse.ArgumentParser:
    """The whole command line, for ``main`` and for the reference."""
    top = argparse.ArgumentParser(
        prog="cidermill",
        description="Raw crawls in, audited pretraining corpora out.",
        epilog="cidermill COMMAND --help tells more about each.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command_curate.add_parser(commands)
    _add_why(commands)
    _add_report(commands)
    command_recipes.add_parser(commands)
    command_benchmarks.add_parser(commands)
    command_tokenizer.add_parser(commands)
    command_pack.add_parser(commands)
    command_shards.add_parser(commands)
    command_stream.add_parser(commands)
    command_train.add_parser(commands)
    command_model.add_parser(commands)
    command_quantize.add_parser(commands)
    command_adapt.add_parser(commands)
    command_generate.add_parser(commands)
    command_score.add_parser(commands)
    return top


def _add_why(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    why = commands.add_parser(
        "why",
        help="tell why a page was kept, dropped or edited",
        description="Tell the whole story of a document: each rule it broke with the measured "
        "value and the bound, each edit, what it is a duplicate of.",
    )
    why.add_argument("document", metavar="URL-or-id", help="the page's URL, or a document id")
    why.add_argument("--output", "-o", default="out", help="folder of the run (default: out)")
    why.set_defaults(perform=_why)


def _why(arguments: argparse.Namespace) -> int:
    for line in explain(arguments.output, arguments.document):
        print(line)
    return 0


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report",
        help="print the funnel of a finished run and write its report anew",
        description="Print the funnel of a finished run, and write report.html anew from its "
        "manifest.",
    )
    report.add_argument("output", nargs="?", default="out", help="folder of the run (default: out)")
    report.set_defaults(perform=command_curate.report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    top = parser()
    known, rest = top.parse_known_args(arguments)
    known.beam_options = rest
    try:
        if known.command != "curate":
            command_curate.set_store_options(rest, known.command, strict=True)
        return int(known.perform(known))
    except (InputError, RecipeError, NotFound, ShardError) as error:
        return _fail(error, 2)
    except ConservationError as error:
        return _fail(error, 3)
    except (WorkerFailed, EngineFailed, TrainingFailed) as error:
        return _fail(error, 1)
    except (Interrupted, KeyboardInterrupt):
        return _fail(Interrupted("interrupted; the same command goes on from here"), 130)
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


def _fail(error: BaseException, code: int) -> int:
    if os.environ.get("CIDERMILL_DEBUG"):
        traceback.print_exception(error)
    print(f"cidermill: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
