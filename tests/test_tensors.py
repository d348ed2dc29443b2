"""Files of named arrays: as safetensors reads and writes them; damaged and hostile ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from runtime.tensors import TensorFileError, decode, encode

ARRAYS = {
    "b": np.arange(6, dtype=np.float16).reshape(2, 3),
    "a": np.array([[-1.5]], np.float16),
    "none": np.zeros((0, 4), np.float16),
}


def test_the_library_reads_what_is_written_and_writes_what_is_read():
    content = encode(ARRAYS, {"format": "pt"})
    theirs = safetensors.numpy.load(content)
    ours = decode(safetensors.numpy.save({k: v.astype(np.float32) for k, v in ARRAYS.items()}))
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(theirs[name], value)
        np.testing.assert_array_equal(ours[name], value)
        np.testing.assert_array_equal(decode(content)[name], value)
    assert int.from_bytes(content[:8], "little") % 8 == 0


def file_of(header: object, data: bytes = b"") -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content + data


def entry(kind="F16", shape=(1, 2), offsets=(0, 4)) -> dict:
    return {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1234567", "too few"),
        (b"\xff" * 16, "a header of 18446744073709551615"),
        (file_of(b"{"), "no JSON"),
        (file_of(b"[" * 100_000), "no JSON"),
        (file_of([]), "must be an object"),
        (file_of({"a": []}), "entry of 'a' must be"),
        (file_of({"a": entry("I32")}, bytes(4)), "of type 'I32'"),
        (file_of({"a": entry(["F16"])}, bytes(4)), "of type"),
        (file_of({"a": entry(shape=(1, 3))}, bytes(4)), r"4 bytes for F16 of \[1, 3\]"),
        (file_of({"a": entry(shape=(-1, -2))}, bytes(4)), "dimensions"),
        (file_of({"a": entry(shape=(True, 2))}, bytes(4)), "dimensions"),
        (file_of({"a": entry(offsets=(4, 8))}, bytes(8)), "begins at 4"),
        (file_of({"a": entry(), "b": entry()}, bytes(4)), "begins at 0"),
        (file_of({"a": entry()}, bytes(5)), "4 bytes in a file with 5"),
        (file_of({"a": entry()}, bytes(3)), "4 bytes in a file with 3"),
    ],
)
def test_what_is_none_is_told(content, message):
    with pytest.raises(TensorFileError, match=message):
        decode(content)


WHOLE = encode(ARRAYS)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_an_error_or_other_numbers(place, value):
    content = bytearray(WHOLE)
    content[place] = value
    try:
        found = decode(bytes(content))
    except TensorFileError:
        return
    assert sum(array.size for array in found.values()) == 7
