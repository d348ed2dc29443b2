"""``cidermill benchmarks``: build and look at indexes to decontaminate against."""

from __future__ import annotations

import argparse
import glob
import json
from collections.abc import Iterator

from tqdm import tqdm

from filters.decontamination.index import build_index, open_index
from filters.decontamination.items import Item
from pipelines.inputs_error import InputError
from pipelines.plain import lines


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``benchmarks`` to the command line."""
    benchmarks = commands.add_parser(
        "benchmarks",
        help="build and list indexes of benchmark items",
        description="Decontamination removes pages that contain items of evaluation sets. An "
        "index holds the n-grams of such items.",
    )
    actions = benchmarks.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser(
        "build",
        help="build an index from JSONL files",
        description="Each line is an object with the fields benchmark, id and text "
        "(other names: --benchmark-field, --id-field, --text-field). Plain, .gz or .zst.",
    )
    build.add_argument("items", nargs="+", metavar="JSONL", help="files or globs")
    build.add_argument("--output", "-o", required=True, help="folder of the index")
    for name in ("benchmark", "id", "text"):
        build.add_argument(f"--{name}-field", default=name, help=f"default: {name}")
    build.set_defaults(perform=_build)
    show = actions.add_parser("list", help="list the benchmarks in an index")
    show.add_argument("index", help="folder of the index")
    show.set_defaults(perform=_list)


def _build(arguments: argparse.Namespace) -> int:
    paths = sorted({path for pattern in arguments.items for path in glob.glob(pattern)})
    if not paths:
        raise InputError(f"{' '.join(arguments.items)} matches no file")
    items = (item for path in paths for item in read_items(path, arguments))
    summary = build_index(
        tqdm(items, desc="items", unit="", disable=None, leave=False), arguments.output
    )
    if not summary.ngrams:
        raise InputError(f"{' '.join(paths)}: no item of at least 4 words; the index is useless")
    print(
        f"{summary.items} items of {summary.benchmarks} benchmarks, {summary.ngrams} n-grams, "
        f"{summary.skipped} items too short; index {arguments.output}"
    )
    return 0


def read_items(path: str, arguments: argparse.Namespace) -> Iterator[Item]:
    """The items of one JSONL file.

    Raises:
      InputError: a line is no JSON object or lacks a field; the message names file and line.
    """
    names = (arguments.benchmark_field, arguments.id_field, arguments.text_field)
    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            benchmark, identifier, text = (row[name] for name in names)
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}:{number}: needs a JSON object with the fields {', '.join(names)}"
            ) from None
        if not isinstance(text, str):
            raise InputError(f"{path}:{number}: the field {names[2]!r} must be text")
        yield Item(str(benchmark), str(identifier), text)


def _list(arguments: argparse.Namespace) -> int:
    index = open_index(arguments.index)
    for name, count in index.benchmarks():
        print(f"{count:>8}  {name}")
    return 0
