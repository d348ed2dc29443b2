"""``cidermill score``: bits per byte of documents under a quantized model."""

from __future__ import annotations

import argparse
import contextlib
import glob
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from tqdm import tqdm

from pipelines.adapter_options import adapter_bits, add_adapter
from pipelines.hold import Interrupted
from pipelines.inputs_error import InputError
from pipelines.resumable_lines import resumable_lines
from pipelines.target import check_apart, check_folder, check_own, is_same
from runtime.adapter_config import CONFIG
from runtime.adapter_files import WEIGHTS
from runtime.bits import Measured, Part, cut, measure
from runtime.build import NoLibrary
from runtime.file import CiderFileError
from runtime.model import WINDOW, Model
from tokenizer.texts import Row, TextFileError, read_rows, read_whole

VERSION = 1
"""Of the rows: those of another one are not gone on with."""
PLAIN = (".txt", ".txt.gz", ".txt.zst", ".md")
NAMES = ("id", "url")
MAX_ROW_BYTES = 1 << 26
GROUP, GROUP_CHARACTERS = 64, 1 << 20
"""Documents that are scored at a time, and their characters; what is found does not hang on it."""


@dataclass(frozen=True)
class Document:
    """A text to be scored, and what its row of output begins with."""

    text: str
    facts: Mapping[str, Any]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "score",
        help="tell how likely a quantized model finds documents",
        description="Write a line of JSON for each document: its bits per byte under a model of "
        "`cidermill quantize`, and the bytes and tokens that count. A text's first token is given, "
        "and does not. With --to the same command again goes on where an earlier one was stopped.",
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT",
        help="JSONL or Parquet with a field of text, or plain text by the endings .txt and .md; "
        ".gz and .zst; globs; the folder of a run of `curate`, for the documents that it kept",
    )  # fmt: skip
    parser.add_argument("--model", "-m", required=True, metavar="FILE", help="a .cider file")
    add_adapter(parser)
    parser.add_argument("--to", metavar="FILE", help="default: standard output")
    parser.add_argument("--paragraphs", action="store_true", help="of each paragraph as well")
    parser.add_argument("--text-field", default="text", metavar="NAME", help="default: text")
    parser.add_argument(
        "--most-bytes", type=int, metavar="N", help="only the beginning of each text (default: all)"
    )
    parser.add_argument(
        "--window", type=int, default=WINDOW, metavar="N",
        help=f"tokens that the model sees at a time (default: {WINDOW})",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N", help="default: one a processor")
    parser.set_defaults(perform=perform)


def perform(arguments: argparse.Namespace) -> int:
    """Perform the command; returns the exit code."""
    if arguments.most_bytes is not None and arguments.most_bytes < 1:
        raise InputError(f"--most-bytes is {arguments.most_bytes}; it must be at least 1")
    if arguments.window < 2:
        raise InputError(f"--window is {arguments.window}; it must be at least 2")
    bits = adapter_bits(arguments)
    paths = _paths(arguments.inputs, arguments.to)
    if arguments.to is not None:
        _check_target(arguments, paths)
    try:
        model = Model.load(
            arguments.model, threads=arguments.threads, context=arguments.window, keep=0
        )
        adapter = None
        if arguments.adapter is not None:
            adapter = model.adapter(arguments.adapter, bits=bits)
        model.use(adapter)
        base = [model.contents.digest, adapter and (adapter.sha256, adapter.scale, adapter.bits)]
        with _output(arguments, base, paths) as (done, out):
            _score(arguments, model, paths, out, done)
    except UnicodeEncodeError:
        raise
    except KeyboardInterrupt:
        goes_on = "" if arguments.to is None else "; the same command goes on from here"
        raise Interrupted(f"interrupted{goes_on}") from None
    except (CiderFileError, NoLibrary, TextFileError, ValueError) as error:
        raise InputError(str(error)) from None
    return 0


def _check_target(arguments: argparse.Namespace, paths: Sequence[str]) -> None:
    """Raises ``InputError`` where the output has no folder, is no file, or is what is read."""
    check_folder(arguments.to)
    adapter = [] if arguments.adapter is None else [
        os.path.join(arguments.adapter, name) for name in (CONFIG, WEIGHTS)
    ]  # fmt: skip
    check_apart(arguments.to, arguments.model, *adapter, *paths)
    check_own(arguments.to, _is_scores, "file of scores")


def _is_scores(path: str) -> bool:
    """Whether an earlier command wrote a file: its first line is a row of scores, if it has one."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as handle:
        line = handle.readline(MAX_ROW_BYTES)
    try:
        row = json.loads(line) if line else {"bits_per_byte": None, "bytes": 0}
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"bits_per_byte", "bytes"} <= set(row)


def _score(
    arguments: argparse.Namespace, model: Model, paths: Sequence[str], out: IO[str], done: int
) -> None:
    """Write the rows, but for those of the first documents, which are done."""
    size = sum(os.path.getsize(path) for path in paths)
    # A bar over what is written to the terminal would tear it.
    quiet = True if arguments.to is None and sys.stdout.isatty() else None
    with tqdm(total=size, unit="B", unit_scale=True, disable=quiet, leave=False) as bar:
        for path in paths:
            documents = _documents(path, arguments.text_field, arguments.most_bytes)
            done -= sum(1 for _ in islice(documents, done))
            for group in _groups(documents):
                texts = [document.text for document in group]
                found = measure(model, texts, window=arguments.window)
                for document, measured in zip(group, found, strict=True):
                    row = {**document.facts, **_row(measured, arguments.paragraphs)}
                    out.write(json.dumps(row, default=str) + "\n")
                out.flush()
                bar.set_postfix_str(f"{os.path.basename(path)}, row {group[-1].facts['row']}")
            bar.update(os.path.getsize(path))


def _row(found: Measured, paragraphs: bool) -> dict[str, Any]:
    row: dict[str, Any] = {**_part(found.whole), "tokens": found.tokens}
    if paragraphs:
        row["paragraphs"] = [
            {"start": part.start, "end": part.end, **_part(part)} for part in found.paragraphs
        ]
    return row


def _part(part: Part) -> dict[str, Any]:
    return {"bits_per_byte": part.per_byte, "bytes": part.bytes}


def _paths(patterns: Sequence[str], target: str | None) -> list[str]:
    """Files by name, glob or folder of a run, in the order they were named; of what a glob matches,
    not the target, which may be there from before.

    Raises:
      InputError: one names no file.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if os.path.isdir(pattern):
            names = _tables(pattern)
        else:
            names = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern))
            names = [
                name for name in names
                if os.path.isfile(name)
                and (name == pattern or target is None or not is_same(name, target))
            ]  # fmt: skip
        if not names:
            raise InputError(f"{pattern} matches no file")
        found.update(dict.fromkeys(names))
    return list(found)


def _tables(folder: str) -> list[str]:
    """The documents of a finished run. Raises ``InputError`` for another folder."""
    from pipelines.conclude import manifest_file
    from pipelines.corpus import Corpus

    if not os.path.isfile(manifest_file(folder)):
        raise InputError(
            f"{folder} is a folder and no finished run of `cidermill curate`; give its files, such "
            f"as {os.path.join(folder, 'documents', '*.parquet')}"
        )
    return [table.path for table in Corpus.open(folder).documents]


def _documents(path: str, field: str, most: int | None) -> Iterator[Document]:
    """The documents of a file; ``row`` counts them from 0."""
    rows: Iterable[Row]
    if path.endswith(PLAIN):
        rows = [(read_whole(path), {})]
    else:
        rows = read_rows(path, field, beside=NAMES)
    for number, (text, beside) in enumerate(rows):
        facts = {"input": os.path.basename(path), "row": number}
        named = {name: value for name, value in beside.items() if value is not None}
        _check_names(named, f"{path}, row {number}")
        yield Document(text if most is None else cut(text, most), {**facts, **named})


def _check_names(named: Mapping[str, Any], place: str) -> None:
    """Raises ``InputError`` for what no line of JSON can hold: numbers that are not finite."""
    try:
        json.dumps(named, default=str, allow_nan=False)
    except ValueError:
        raise InputError(
            f"{place}: {' or '.join(named)} holds a number that is not finite, which is no JSON; "
            "leave it out"
        ) from None


def _groups(documents: Iterator[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    characters = 0
    for document in documents:
        group.append(document)
        characters += len(document.text)
        if len(group) == GROUP or characters >= GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


@contextlib.contextmanager
def _output(
    arguments: argparse.Namespace, base: object, paths: Sequence[str]
) -> Iterator[tuple[int, IO[str]]]:
    """How many rows there are already, and where the others go: standard output, or a file that
    appears under its name once it is whole."""
    if arguments.to is None:
        yield 0, sys.stdout
        return
    with resumable_lines(arguments.to, _identity(arguments, base, paths)) as (done, raw):
        if done:
            print(f"cidermill: going on after {done} documents", file=sys.stderr)
        text = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
        try:
            yield done, text
        finally:
            text.detach()


def _identity(arguments: argparse.Namespace, base: object, paths: Sequence[str]) -> str:
    """All that the rows depend on. Of the inputs place, size and time stand for what is in them."""
    inputs = [(os.path.abspath(path), os.stat(path)) for path in paths]
    return json.dumps([
        VERSION, base, arguments.paragraphs, arguments.text_field, arguments.most_bytes,
        arguments.window, [(path, found.st_size, found.st_mtime_ns) for path, found in inputs],
    ])  # fmt: skip
