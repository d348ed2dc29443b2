"""Small helpers over the readers' decompression: whole text files and their lines."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines import files
from pipelines.inputs_error import InputError
from pipelines.sources.compression import decoded_blocks

MAX_LINE_BYTES = 64 << 20


def lines(path: str) -> Iterator[bytes]:
    """The lines of a file, plain or compressed (gzip, zstd, LZ4), without their ends.

    Raises:
      InputError: the file cannot be read, is damaged, or has a line beyond ``MAX_LINE_BYTES``.
    """
    try:
        with files.open_raw(path) as handle:
            rest = b""
            for block in decoded_blocks(handle):
                if block.error:
                    raise InputError(f"{path}: {block.error} {block.message}".rstrip())
                *whole, rest = (rest + block.data).split(b"\n")
                yield from whole
                if len(rest) > MAX_LINE_BYTES:
                    raise InputError(f"{path}: a line is longer than {MAX_LINE_BYTES} bytes")
            if rest:
                yield rest
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
