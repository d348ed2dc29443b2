"""Files of named arrays in the layout of safetensors, of the types that adapters have.

Eight bytes with the length of a header of JSON, the header with type, dimensions and place of each
array, then the arrays, back to back (huggingface/safetensors, README, "Format"). All of it is
checked before an array is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.shown import shown

SIZES = {"F32": 4, "F16": 2, "BF16": 2}
MAX_HEADER_BYTES = 16 << 20
MAX_DIMENSION = 1 << 32
META = "__metadata__"

Floats = NDArray[np.float32]


class TensorFileError(ValueError):
    """Bytes that are no such file; the message names the fault."""


def decode(content: bytes) -> dict[str, Floats]:
    """The arrays of a file by name, as f32.

    Raises:
      TensorFileError: it is damaged, or has arrays of other types than ``SIZES``.
    """
    if len(content) < 8:
        raise TensorFileError(f"{len(content)} bytes are too few for a header")
    length = int.from_bytes(content[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise TensorFileError(
            f"a header of {length} bytes in a file of {len(content)}; at most {MAX_HEADER_BYTES}"
        )
    try:
        header = json.loads(content[8 : 8 + length].decode("utf-8"))
    except (ValueError, RecursionError):
        raise TensorFileError("the header is no JSON") from None
    if not isinstance(header, dict):
        raise TensorFileError("the header must be an object")
    header.pop(META, None)
    data = memoryview(content)[8 + length :]
    places = {name: _place(name, entry) for name, entry in header.items()}
    end = 0
    for name, (start, stop) in sorted(places.items(), key=lambda item: item[1]):
        if start != end:
            raise TensorFileError(
                f"{shown(name)} begins at {start}, and what is before it ends at {end}"
            )
        end = stop
    if end != len(data):
        raise TensorFileError(f"arrays of {end} bytes in a file with {len(data)} of them")
    kinds = {entry["dtype"] for entry in header.values()}
    if len(kinds) == 1:  # as a rule: all at once takes a fraction of the time
        kind = kinds.pop()
        whole, size = _floats(kind, data), SIZES[kind]
        return {
            name: whole[start // size : stop // size].reshape(header[name]["shape"])
            for name, (start, stop) in places.items()
        }
    return {
        name: _floats(header[name]["dtype"], data[start:stop]).reshape(header[name]["shape"])
        for name, (start, stop) in places.items()
    }


def _place(name: str, entry: object) -> tuple[int, int]:
    """Where an array begins and ends, after all that its entry says was checked."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise TensorFileError(f"the entry of {shown(name)} must be dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in SIZES:
        raise TensorFileError(
            f"{shown(name)} is of type {shown(kind)}; {', '.join(SIZES)} are read"
        )
    if not _wholes(shape) or not _wholes(offsets) or len(offsets) != 2:
        raise TensorFileError(f"{shown(name)} has dimensions {shown(shape)} at {shown(offsets)}")
    if offsets[1] - offsets[0] != math.prod(shape) * SIZES[kind]:
        raise TensorFileError(
            f"{shown(name)} has {offsets[1] - offsets[0]} bytes for {kind} of {shown(shape)}"
        )
    return offsets[0], offsets[1]


def _wholes(found: object) -> bool:
    return isinstance(found, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < MAX_DIMENSION for n in found
    )


def _floats(kind: str, data: memoryview) -> Floats:
    if kind == "BF16":
        # The upper half of an f32.
        return (np.frombuffer(data, "<u2").astype("<u4") << np.uint32(16)).view("<f4")
    return np.frombuffer(data, "<f4" if kind == "F32" else "<f2").astype(np.float32)


def encode(
    arrays: Mapping[str, NDArray[np.float16]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A file of f16 arrays, by name in order, so that the same arrays give the same bytes."""
    header: dict[str, Any] = {} if metadata is None else {META: dict(metadata)}
    sections, place = [], 0
    for name in sorted(arrays):
        section = np.ascontiguousarray(arrays[name], "<f2").tobytes()
        header[name] = {
            "dtype": "F16",
            "shape": list(arrays[name].shape),
            "data_offsets": [place, place + len(section)],
        }
        place += len(section)
        sections.append(section)
    content = json.dumps(header, separators=(",", ":")).encode()
    # Arrays begin at a multiple of eight bytes.
    content += b" " * (-len(content) % 8)
    return b"".join([len(content).to_bytes(8, "little"), content, *sections])
