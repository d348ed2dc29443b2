"""JSON Lines, plain or compressed: one object a line, one document an object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from filters.document import DeadLetter, Document
from pipelines.sources.caps import Input
from pipelines.sources.compression import decoded_blocks
from pipelines.sources.rows import FIELD_OPTIONS, row_document

OPTIONS = FIELD_OPTIONS | {"robots_agents"}


@dataclass(frozen=True, slots=True)
class _Bad:
    error: str
    message: str


def read_jsonl(stream: BinaryIO, given: Input) -> Iterator[Document | DeadLetter]:
    """One item for each line that is not blank.

    Options ``text_field``, ``html_field``, ``url_field``, ``id_field``, ``language_field`` and
    ``date_field`` name the fields of an object.
    """
    found = lines_of(stream, given.caps.max_line_bytes, given.offset)
    for position, (_, line) in enumerate(found, given.first):
        if isinstance(line, _Bad):
            yield given.dead(position, line.error, line.message)
        elif given.accept(given.identify(position)):
            yield _document(line, position, given)


def _document(line: bytes, position: int, given: Input) -> Document | DeadLetter:
    where = f"record {position}"
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        return given.dead(position, "BadJson", f"{where}: byte {error.start} is not valid Unicode")
    except json.JSONDecodeError as error:
        return given.dead(position, "BadJson", f"{where}: {error.msg} at character {error.pos}")
    except (RecursionError, ValueError) as error:
        return given.dead(position, "BadJson", f"{where}: not readable ({type(error).__name__})")
    if not isinstance(row, dict):
        return given.dead(
            position, "BadJson", f"{where}: a JSON {type(row).__name__}, not an object"
        )
    return row_document(row, position, given, where)


def lines_of(stream: BinaryIO, max_bytes: int, base: int = 0) -> Iterator[tuple[int, bytes | _Bad]]:
    """Lines that are not blank, each behind the offset it begins at; damage and overlong lines in
    their place.

    ``base`` is where the stream begins in its file. Without compression an offset is one in the
    file, at which reading can start; with it, offsets mean nothing and are -1.
    """
    parts: list[bytes] = []  # the line that no block has ended yet
    held = 0
    began = base
    too_long = False
    fresh = base == 0
    for block in decoded_blocks(stream, base):
        data = block.data.removeprefix(b"\xef\xbb\xbf") if fresh else block.data
        fresh = fresh and not block.data
        *ended, rest = data.split(b"\n")
        at = block.offset + len(block.data) - len(data)
        for piece in ended:
            start = -1 if block.compressed else began
            at += len(piece) + 1
            began = at
            if too_long or held + len(piece) > max_bytes:
                yield start, _too_long(max_bytes)
            elif line := (b"".join([*parts, piece]) if parts else piece).strip():
                yield start, line
            parts, held, too_long = [], 0, False
        held += len(rest)
        too_long = too_long or held > max_bytes
        parts = [] if too_long else [*parts, rest] if rest else parts
        if block.error:
            yield -1, _Bad(block.error, block.message)
            parts, held, too_long = [], 0, False
    if too_long:
        yield began, _too_long(max_bytes)
    elif line := b"".join(parts).strip():
        yield began, line


def _too_long(max_bytes: int) -> _Bad:
    return _Bad("LineTooLong", f"a line exceeds max_line_bytes = {max_bytes}")
