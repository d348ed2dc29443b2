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
    for position, line in enumerate(_lines(stream, given.caps.max_line_bytes)):
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


def _lines(stream: BinaryIO, max_bytes: int) -> Iterator[bytes | _Bad]:
    """Lines that are not blank; damage and overlong lines in their place."""
    parts: list[bytes] = []  # the line that no block has ended yet
    held = 0
    too_long = False
    first = True
    for block in decoded_blocks(stream):
        data = block.data.removeprefix(b"\xef\xbb\xbf") if first and block.data else block.data
        first = first and not block.data
        *ended, rest = data.split(b"\n")
        for piece in ended:
            if too_long or held + len(piece) > max_bytes:
                yield _too_long(max_bytes)
            elif line := (b"".join([*parts, piece]) if parts else piece).strip():
                yield line
            parts, held, too_long = [], 0, False
        held += len(rest)
        too_long = too_long or held > max_bytes
        parts = [] if too_long else [*parts, rest] if rest else parts
        if block.error:
            yield _Bad(block.error, block.message)
            parts, held, too_long = [], 0, False
    if too_long:
        yield _too_long(max_bytes)
    elif line := b"".join(parts).strip():
        yield line


def _too_long(max_bytes: int) -> _Bad:
    return _Bad("LineTooLong", f"a line exceeds max_line_bytes = {max_bytes}")
