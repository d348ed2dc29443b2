"""Requests from a file, each with an adapter of its own: ``cidermill generate --requests``.

Adapters lie in folders of one folder and are read when a batch needs them, those of a batch are
held, and others stay in memory as long as the budget allows (``runtime.adapter_store``).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TextIO

from pipelines.amounts import parse_count
from pipelines.inputs_error import InputError
from runtime.adapter_config import CONFIG, AdapterError
from runtime.adapter_files import check_base
from runtime.adapter_store import AdapterStore, StoreError, compare
from runtime.model import KEPT, Model
from runtime.sampling import Sampling
from tokenizer.shown import shown

MAX_LINE = 64 << 20
MAX_REQUESTS = 1 << 20
MAX_BATCH = 256
BATCH, MEMORY = 8, "256M"
ANSWER = ("text", "end")
"""Fields that are added to a request."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes for this."""
    parser.add_argument(
        "--requests", metavar="FILE", help="instead of --prompt: JSONL of objects with prompt and, "
        "if any, adapter, the name of a folder in --adapters; - for standard input. Each is "
        "written as a line of JSON with text and end (eos, stop, length) added",
    )  # fmt: skip
    parser.add_argument("--adapters", metavar="FOLDER",
                        help="with --requests: a folder of folders of adapters")  # fmt: skip
    parser.add_argument(
        "--adapter-memory", metavar="BYTES",
        help="with --requests: of adapters that are kept for later ones, those of a batch "
        "included, such as 64M or 2G "
        f"(default: {MEMORY})",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, metavar="N",
                        help="with --requests: so many at a time "
                        f"(default: {BATCH}). What a "
                        f"prompt shares with others of its batch or with one of the last {KEPT} "
                        "is not read again")  # fmt: skip
    parser.add_argument("--by-adapter", action="store_true",
                        help="with --requests: work off those of one adapter after those of "
                        "another, and write them in their own order")  # fmt: skip


def check_options(arguments: argparse.Namespace) -> None:
    """Raises ``InputError`` for options that do not go together."""
    if arguments.requests is None:
        if arguments.adapters is not None or arguments.by_adapter:
            raise InputError("--adapters and --by-adapter are for --requests; use --adapter")
        if arguments.batch is not None or arguments.adapter_memory is not None:
            raise InputError("--batch and --adapter-memory are for --requests; leave them out")
    elif arguments.prompt or arguments.adapter is not None:
        raise InputError("--requests has prompts and adapters; leave out --prompt and --adapter")


def perform(arguments: argparse.Namespace, model: Model, sampling: Sampling, bits: int) -> int:
    """Answers to standard output, counts of the store to standard error; returns the exit code.

    Args:
      bits: of adapters in memory.
    """
    named = MEMORY if arguments.adapter_memory is None else arguments.adapter_memory
    number = named.strip()
    number = f"{number[:-1]}B" if number[-1:] in ("g", "G") else number
    memory = parse_count(number, "--adapter-memory")
    requests = _read(arguments.requests)
    folders = find_adapters(arguments.adapters) if arguments.adapters is not None else {}
    check_requests(requests, model, folders)
    store = AdapterStore(folders, model.shape, model.contents.digest, memory, bits=bits)
    batch = BATCH if arguments.batch is None else arguments.batch
    answers = Answers(model, store, batch=batch, grouped=arguments.by_adapter)
    found = answers.answer(
        requests, tokens=arguments.tokens, stop=arguments.stop, sampling=sampling
    )  # fmt: skip
    for row in found:
        print(json.dumps(row, ensure_ascii=False, allow_nan=False), flush=True)
    for line in answers.summary():
        print(line, file=sys.stderr)
    return 0


def _read(path: str) -> list[Request]:
    try:
        if path == "-":
            return read_requests(_decoded(sys.stdin.buffer), path)
        with open(path, "rb") as raw:
            return read_requests(_decoded(raw), path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _decoded(raw: BinaryIO) -> TextIO:
    """A file's text. What is no UTF-8 becomes lone surrogates, which are told with their line."""
    return io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape")


@dataclass(frozen=True)
class Request:
    """One line of a file.

    Args:
      number: from 0, and with the seed all that what is drawn depends on.
      where: file and line, for messages.
      fields: as the line has them.
    """

    number: int
    where: str
    prompt: str
    adapter: str | None
    fields: dict[str, Any]


def read_requests(lines: TextIO, name: str) -> list[Request]:
    """All requests of a file: an object a line, with ``prompt`` and, if any, ``adapter``.

    Raises:
      InputError: a line is none, or there is none; it names file and line.
    """
    found: list[Request] = []
    number = 0
    while line := lines.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InputError(f"{name}:{number}: a line of more than {MAX_LINE} characters")
        if line.strip():
            found.append(_request(len(found), f"{name}:{number}", line))
        if len(found) > MAX_REQUESTS:
            raise InputError(f"{name} has more than {MAX_REQUESTS} requests; split it")
    if not found:
        raise InputError(f"{name} has no request")
    return found


def _request(number: int, where: str, line: str) -> Request:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: no JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str):
        raise InputError(f"{where}: a request is an object with a text as its prompt")
    adapter = fields.get("adapter")
    if adapter is not None and not isinstance(adapter, str):
        raise InputError(f"{where}: adapter is {adapter!r}; it must be a name, or null for none")
    for field in ANSWER:
        if field in fields:
            raise InputError(f"{where}: the field {field!r} is where the answer goes; rename it")
    for name, value in fields.items():
        _check_writable(where, name, value)
    return Request(number, where, fields["prompt"], adapter, fields)


def _check_writable(where: str, name: str, value: Any) -> None:
    """Raises ``InputError`` for a field that no line of JSON in UTF-8 can hold, though Python's
    reader takes it: the answer is written with all fields."""
    try:
        json.dumps({name: value}, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        odd = ord(error.object[error.start])
        raise InputError(
            f"{where}: the field {shown(name)} holds U+{odd:04X}, half of a surrogate pair, or "
            "bytes that are not UTF-8; mend the text"
        ) from None
    except RecursionError:
        raise InputError(f"{where}: the field {shown(name)} is nested too deep") from None
    except ValueError:
        raise InputError(
            f"{where}: the field {shown(name)} holds a number that is not finite, which is no "
            "JSON; leave it out or write it as text"
        ) from None


def find_adapters(folder: str) -> dict[str, str]:
    """Folders of adapters in a folder, by name; hidden ones, as a writer's, are not among them."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}") from None
    found = {name: os.path.join(folder, name) for name in names if not name.startswith(".")}
    found = {name: own for name, own in found.items() if os.path.isfile(os.path.join(own, CONFIG))}
    if not found:
        raise InputError(f"{folder} has no folder with an {CONFIG}")
    return found


def check_requests(requests: list[Request], model: Model, folders: dict[str, str]) -> None:
    """All that can be known before anything is said.

    Raises:
      InputError: an adapter is not there or of another base, or a prompt does not fit.
    """
    checked: set[str] = set()
    for request in requests:
        tokens = len(model.tokenizer.encode(request.prompt))
        if not 1 <= tokens < model.context:
            raise InputError(
                f"{request.where}: a prompt of {tokens} tokens; with this context it has 1 to "
                f"{model.context - 1}"
            )
        name = request.adapter
        if name is None or name in checked:
            continue
        if name not in folders:
            there = f"there are {', '.join(folders)}" if folders else "give --adapters"
            raise InputError(f"{request.where}: no adapter {name!r}; {there}")
        try:
            check_base(folders[name], model.contents.digest)
        except AdapterError as error:
            raise InputError(f"{request.where}: {error}") from None
        checked.add(name)


class Answers:
    """Goes on with requests, some at a time, through a store of adapters.

    Args:
      batch: requests at a time.
      grouped: work off those of one adapter after those of another; else in their order.
    """

    def __init__(
        self, model: Model, store: AdapterStore, *, batch: int, grouped: bool = False
    ) -> None:
        if not 1 <= batch <= MAX_BATCH:
            raise InputError(f"--batch is {batch}; it must be from 1 to {MAX_BATCH}")
        self._model, self._store, self._batch, self._grouped = model, store, batch, grouped
        self._trace: list[str] = []
        self._largest = 0

    def answer(
        self, requests: list[Request], *, tokens: int, stop: list[str], sampling: Sampling
    ) -> Iterator[dict[str, Any]]:
        """Each request with ``text`` and ``end``, in their order, as soon as it and all before it
        are complete.

        Raises:
          InputError: the adapters of a batch exceed the budget, or one is damaged.
        """
        order = sorted(requests, key=lambda own: own.adapter or "") if self._grouped else requests
        done: dict[int, dict[str, Any]] = {}
        written = 0
        for begin in range(0, len(order), self._batch):
            some = order[begin : begin + self._batch]
            for request, answer in zip(some, self._some(some, tokens, stop, sampling), strict=True):
                done[request.number] = {**request.fields, **answer}
            while written in done:
                yield done.pop(written)
                written += 1

    def _some(
        self, some: list[Request], tokens: int, stop: list[str], sampling: Sampling
    ) -> list[dict[str, Any]]:
        names = list(dict.fromkeys(own.adapter for own in some if own.adapter is not None))
        held = self._store.held
        names.sort(key=lambda name: name not in held)  # what is there is not dropped for others
        try:
            with self._store.active(*names) as adapters:
                self._trace += names
                by_name = dict(zip(names, adapters, strict=True))
                self._largest = max([self._largest, *(own.nbytes for own in adapters)])
                pieces = self._model.generate(
                    [own.prompt for own in some], tokens=tokens, stop=stop, sampling=sampling,
                    adapters=[None if own.adapter is None else by_name[own.adapter]
                              for own in some],
                    streams=[own.number for own in some],
                )  # fmt: skip
                texts, ends = [""] * len(some), [""] * len(some)
                for piece in pieces:
                    texts[piece.prompt] += piece.text
                    ends[piece.prompt] = piece.end or ""
        except StoreError as error:
            raise InputError(
                f"{some[0].where} and what is in its batch: {error} (--batch, --adapter-memory)"
            ) from None
        except AdapterError as error:
            raise InputError(str(error)) from None
        return [dict(zip(ANSWER, own, strict=True)) for own in zip(texts, ends, strict=True)]

    def summary(self) -> list[str]:
        """What the store did, and what others would have read of the same uses."""
        if not self._trace:
            return []
        counts = self._store.counts
        slots = max(1, self._store.budget // max(1, self._largest))
        others = compare(self._trace, slots)
        return [
            f"adapters: {len(self._trace)} uses, {counts.hits} hits, {counts.misses} misses, "
            f"{counts.evictions} evictions; {self._store.nbytes} of {self._store.budget} bytes",
            f"read from disk with room for {slots} of the largest: least recently used "
            f"{others['lru'].misses}, Belady's optimum {others['belady'].misses}, "
            f"grouped by adapter {others['grouped'].misses}",
        ]
