"""``cidermill stream``: what tokenizing on the fly makes of files, and what its thresholds cost."""

from __future__ import annotations

import argparse
import glob
import time

from tqdm import tqdm

from pipelines.inputs_error import InputError
from pipelines.tokenizer_file import load
from tokenizer.stream import MIN_CHARACTERS, MIN_TOKENS, TextStream


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``stream`` to the command line."""
    stream = commands.add_parser(
        "stream",
        help="measure tokenizing on the fly, without shards",
        description="Read texts, tokenize and pack them as a trainer does that reads them directly "
        "(tokenizer.stream.TextStream), and print what thresholds leave out and how fast it is.",
    )
    stream.add_argument("files", nargs="+", help="JSONL (plain, .gz, .zst) or Parquet; globs")
    stream.add_argument("--tokenizer", required=True, help="a tokenizer.model or a run's folder")
    stream.add_argument("--sequence-length", type=int, default=4096, help="default: 4096")
    stream.add_argument("--text-field", default="text", help="default: text")
    stream.add_argument(
        "--min-characters", type=int, default=MIN_CHARACTERS,
        help=f"without punctuation and repeated white space (default: {MIN_CHARACTERS})",
    )  # fmt: skip
    stream.add_argument(
        "--min-tokens", type=int, default=MIN_TOKENS, help=f"with eos (default: {MIN_TOKENS})"
    )
    stream.set_defaults(perform=perform)


def perform(arguments: argparse.Namespace) -> int:
    """Read everything once and count."""
    paths = sorted({path for pattern in arguments.files for path in glob.glob(pattern)})
    if not paths:
        raise InputError(f"{' '.join(arguments.files)} matches no file")
    try:
        reader = TextStream(
            paths,
            load(arguments.tokenizer),
            length=arguments.sequence_length,
            field=arguments.text_field,
            min_characters=arguments.min_characters,
            min_tokens=arguments.min_tokens,
        )
        began = time.perf_counter()
        windows = sum(1 for _ in tqdm(reader, unit=" windows", disable=None, leave=False))
    except ValueError as error:
        raise InputError(str(error)) from None
    seconds = time.perf_counter() - began
    print("\n".join(reader.costs.lines()))
    print(f"{windows} windows, {reader.costs.tokens / seconds:.0f} tokens/s")
    return 0
