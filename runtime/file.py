"""The file of a quantized model: mapped into memory and used where it lies. See docs/cider.md.

A preamble of 64 bytes, a header of JSON, then sections at multiples of 64 bytes, back to back. The
header names offset, size and SHA-256 of each. All of it is checked before anything is used, so that
a damaged or hostile file is an error and never a wrong address.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.layout import ALIGNMENT, Packed, pack, padded, sizes
from runtime.palette import Palette, RowInt8
from runtime.safe_folder import sync_folder
from runtime.shape import Shape, ShapeError, matrices, vectors
from tokenizer.model import MAX_FILE_BYTES, Tokenizer
from tokenizer.model_proto import ModelFileError
from tokenizer.shown import shown

MAGIC = b"CIDER\r\n\x1a"
VERSION = 1
PREAMBLE = struct.Struct("<8sIIQQ32s")
"""Magic, version, zero, bytes of the header, bytes of the file, SHA-256 of the header."""
MAX_HEADER_BYTES = 16 << 20
MAX_CONTEXT = (1 << 31) - 1
KINDS = {"palette2": 2, "palette3": 3, "palette4": 4, "int8": 8}
FIELDS = {"shape", "tokenizer", "tensors", "facts"}
PLACE = {"offset", "size", "sha256"}


class CiderFileError(ValueError):
    """A file that is no model, or a damaged one; the message names the file and the fault."""


@dataclass(frozen=True)
class Section:
    """Where some bytes of a file lie, and their digest."""

    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """A model's file, mapped. Arrays are views of the map, read only, as long as it is open.

    Args:
      facts: what the writer told besides: how the model was quantized, what of.
      digest: SHA-256 of the header, which holds the digests of everything else: two files of one
        digest are the same model.
    """

    path: str
    shape: Shape
    tokenizer: Tokenizer
    matrices: Mapping[str, Packed]
    vectors: Mapping[str, NDArray[np.float32]]
    facts: Mapping[str, Any]
    digest: str
    sizes: Mapping[str, int]

    @property
    def context(self) -> int | None:
        """Tokens of the longest window that the model was trained on, the fact ``context``;
        ``None`` where the file does not tell it.

        Raises:
          CiderFileError: it is no such number.
        """
        found = self.facts.get("context")
        if found is None:
            return None
        if type(found) is not int or not 1 <= found <= MAX_CONTEXT:
            raise CiderFileError(
                f"{self.path}: the fact 'context' is {shown(found)}; it must be a whole number "
                f"from 1 to {MAX_CONTEXT}"
            )
        return found

    def bits_per_weight(self) -> float:
        """Bits in the file of each weight of a linear map, tables included; the embedding aside."""
        names = [name for name in self.matrices if name != "embedding"]
        weights = sum(self.matrices[name].rows * self.matrices[name].columns for name in names)
        return sum(self.sizes[name] for name in names) * 8 / weights


def write(
    path: str, shape: Shape, tokenizer: Tokenizer, weights: Mapping[str, Palette | RowInt8],
    scales: Mapping[str, NDArray[np.float32]], facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write a model, whole or not at all; an earlier file of the name is replaced at the end.

    Args:
      weights: by the names of ``runtime.shape.matrices``, (out, in); the embedding in 8 bits.
      scales: of the norms, by the names of ``runtime.shape.vectors``.

    Raises:
      CiderFileError: a weight is missing, too much, not finite, or of other dimensions.
    """
    header, sections = _plan(path, shape, tokenizer, weights, scales, facts)
    content = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    if len(content) > MAX_HEADER_BYTES:
        raise CiderFileError(f"a header of {len(content)} bytes; at most {MAX_HEADER_BYTES}")
    start = _aligned(PREAMBLE.size + len(content))
    total = start + sum(_aligned(len(section)) for section in sections)
    digest = hashlib.sha256(content).digest()
    temporary = f"{path}.{os.getpid()}.writing"
    try:
        with open(temporary, "wb") as out:
            out.write(PREAMBLE.pack(MAGIC, VERSION, 0, len(content), total, digest))
            out.write(content)
            out.write(bytes(start - out.tell()))
            for section in sections:
                out.write(section)
                out.write(bytes(_aligned(len(section)) - len(section)))
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    sync_folder(os.path.dirname(os.path.abspath(path)))


def _plan(
    path: str, shape: Shape, tokenizer: Tokenizer, weights: Mapping[str, Palette | RowInt8],
    scales: Mapping[str, NDArray[np.float32]], facts: Mapping[str, Any],
) -> tuple[dict[str, Any], list[bytes]]:  # fmt: skip
    """The header, and the sections in order. Offsets count from the end of the header."""
    if tokenizer.vocab_size != shape.vocabulary:
        raise CiderFileError(
            f"a model of {shape.vocabulary} tokens with a tokenizer of {tokenizer.vocab_size}"
        )
    _compare(path, "matrices", weights, matrices(shape))
    _compare(path, "norms", scales, {n: (length,) for n, length in vectors(shape).items()})
    if not isinstance(weights["embedding"], RowInt8):
        raise CiderFileError("the embedding must be of 8 bits: rows of it are looked up")
    sections, place = [tokenizer.content], 0
    header: dict[str, Any] = {"shape": shape.to_dict(), "facts": dict(facts), "tensors": []}
    header["tokenizer"] = _entry(tokenizer.content, place)
    place += _aligned(len(tokenizer.content))
    for name in matrices(shape):
        packed = pack(weights[name])
        if not np.isfinite(packed.affine).all():
            raise CiderFileError(f"{name} holds values that are not finite")
        content = _bytes_of(packed)
        kind = "int8" if packed.bits == 8 else f"palette{packed.bits}"
        dims = [packed.rows, packed.columns]
        header["tensors"].append(
            {"name": name, "kind": kind, "dims": dims, **_entry(content, place)}
        )
        sections.append(content)
        place += _aligned(len(content))
    for name in vectors(shape):
        if not np.isfinite(scales[name]).all():
            raise CiderFileError(f"{name} holds values that are not finite")
        content = np.ascontiguousarray(scales[name], "<f4").tobytes()
        dims = [len(scales[name])]
        header["tensors"].append(
            {"name": name, "kind": "f32", "dims": dims, **_entry(content, place)}
        )
        sections.append(content)
        place += _aligned(len(content))
    return header, sections


def _compare(path: str, what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if found.keys() != wanted.keys():
        odd = sorted(found.keys() ^ wanted.keys())
        raise CiderFileError(
            f"{path}: {what} are missing or not of this model: {', '.join(odd[:5])}"
        )
    for name, dims in wanted.items():
        if tuple(found[name].shape) != dims:
            raise CiderFileError(f"{path}: {name} is {found[name].shape}; it must be {dims}")


def _entry(content: bytes, offset: int) -> dict[str, Any]:
    return {
        "offset": offset,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _bytes_of(packed: Packed) -> bytes:
    """Tables, affine numbers and codes, each at a multiple of 64 bytes."""
    parts = [packed.tables.tobytes(), packed.affine.astype("<f4").tobytes(), packed.codes.tobytes()]
    return b"".join(part + bytes(_aligned(len(part)) - len(part)) for part in parts[:-1]) + parts[2]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def read(path: str, *, verify: bool = True) -> Contents:
    """Map a model's file and check it.

    Args:
      verify: compare the digests of all sections, which reads the whole file once. Without, damage
        to weights goes unseen (and is harmless but for what the model says); all else is checked.

    Raises:
      CiderFileError: the file is none of ours, damaged, cut short, or inconsistent.
      OSError: it cannot be opened.
    """
    try:
        return _read(path, verify)
    except (ShapeError, ModelFileError) as error:
        raise CiderFileError(f"{path}: {error}") from None


def _read(path: str, verify: bool) -> Contents:
    with open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        if size < PREAMBLE.size:
            raise CiderFileError(f"{path} is no model: {size} bytes")
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    whole = np.frombuffer(mapped, np.uint8)
    if whole.size != size:
        raise CiderFileError(f"{path} changed its size while it was opened")
    header, start, digest = _header(path, whole)
    shape = Shape.from_dict(_object(path, header, "shape"))
    sections = _sections(path, header, start, size, shape)
    if verify:
        _verify(path, whole, sections)
    tokens = sections["tokenizer"]
    tokenizer = Tokenizer(whole[tokens.offset : tokens.offset + tokens.size].tobytes())
    if tokenizer.vocab_size != shape.vocabulary:
        raise CiderFileError(
            f"{path}: a model of {shape.vocabulary} tokens with a tokenizer of "
            f"{tokenizer.vocab_size}"
        )
    kinds = {entry["name"]: entry["kind"] for entry in header["tensors"]}
    found = {
        name: _matrix(path, name, whole, sections[name], dims, KINDS[kinds[name]])
        for name, dims in matrices(shape).items()
    }
    norms = {
        name: _finite(path, name, _numbers(whole, sections[name].offset, length))
        for name, length in vectors(shape).items()
    }
    return Contents(
        path, shape, tokenizer, found, norms, _object(path, header, "facts"), digest,
        {name: section.size for name, section in sections.items()},
    )  # fmt: skip


def _header(path: str, whole: NDArray[np.uint8]) -> tuple[dict[str, Any], int, str]:
    """The header, where sections begin, and the header's digest."""
    magic, version, zero, length, total, digest = PREAMBLE.unpack(whole[: PREAMBLE.size].tobytes())
    if magic != MAGIC:
        raise CiderFileError(f"{path} is no model of `cidermill quantize`")
    if version != VERSION or zero:
        raise CiderFileError(f"{path} is of version {version}; this code reads version {VERSION}")
    if total != whole.size:
        raise CiderFileError(f"{path} has {whole.size} bytes; its header tells {total}")
    if not 0 < length <= min(MAX_HEADER_BYTES, whole.size - PREAMBLE.size):
        raise CiderFileError(f"{path}: a header of {length} bytes; at most {MAX_HEADER_BYTES}")
    content = whole[PREAMBLE.size : PREAMBLE.size + length].tobytes()
    if hashlib.sha256(content).digest() != digest:
        raise CiderFileError(f"{path} is damaged: the digest of its header is another")
    try:
        header = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise CiderFileError(f"{path}: the header is no JSON") from None
    if not isinstance(header, dict) or header.keys() != FIELDS:
        raise CiderFileError(f"{path}: the header must hold {', '.join(sorted(FIELDS))}")
    return header, _aligned(PREAMBLE.size + length), digest.hex()


def _object(path: str, header: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = header[name]
    if not isinstance(found, dict):
        raise CiderFileError(f"{path}: {name!r} must be an object")
    return found


def _sections(
    path: str, header: Mapping[str, Any], start: int, end: int, shape: Shape
) -> dict[str, Section]:
    """Every section by name. They lie back to back, so that none overlaps another."""
    tensors = header["tensors"]
    wanted = [*matrices(shape), *vectors(shape)]
    if not isinstance(tensors, list) or len(tensors) != len(wanted):
        raise CiderFileError(f"{path}: 'tensors' must be a list of {len(wanted)}")
    found = {"tokenizer": _section(path, "tokenizer", header["tokenizer"], start)}
    if found["tokenizer"].size > MAX_FILE_BYTES:
        raise CiderFileError(f"{path}: a tokenizer of more than {MAX_FILE_BYTES} bytes")
    place = _aligned(found["tokenizer"].size)
    for name, size, entry in zip(wanted, _expected(path, shape, tensors), tensors, strict=True):
        section = _section(path, name, entry, start)
        if section.size != size:
            raise CiderFileError(f"{path}: {name} has {section.size} bytes; it must have {size}")
        if section.offset != start + place:
            raise CiderFileError(f"{path}: {name} does not begin where the one before it ends")
        place += _aligned(size)
        found[name] = section
    if found["tokenizer"].offset != start or start + place != end:
        raise CiderFileError(f"{path}: {end} bytes; its sections end at {start + place}")
    return found


def _section(path: str, name: str, entry: object, start: int) -> Section:
    wanted = PLACE if name == "tokenizer" else PLACE | {"name", "kind", "dims"}
    if not isinstance(entry, dict) or entry.keys() != wanted:
        raise CiderFileError(
            f"{path}: the entry of {name} must be an object of {', '.join(sorted(wanted))}"
        )
    offset, size, sha256 = (entry[key] for key in ("offset", "size", "sha256"))
    for value in (offset, size):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 48:
            raise CiderFileError(
                f"{path}: {name} lies at {shown(value)}, which is no place in a file"
            )
    if not isinstance(sha256, str):
        raise CiderFileError(f"{path}: {name} has no digest")
    return Section(start + int(str(offset)), int(str(size)), sha256)


def _expected(path: str, shape: Shape, tensors: Sequence[Any]) -> Iterator[int]:
    """The bytes that each tensor must have; names, kinds and dimensions are checked on the way."""
    both: dict[str, tuple[int, ...]] = {**matrices(shape)}
    both |= {name: (length,) for name, length in vectors(shape).items()}
    for (name, dims), entry in zip(both.items(), tensors, strict=True):
        if not isinstance(entry, dict) or entry.get("name") != name:
            raise CiderFileError(f"{path}: where {name} must be, the header has another tensor")
        kind = entry.get("kind")
        if not _are(entry.get("dims"), dims):
            raise CiderFileError(
                f"{path}: {name} is {shown(entry.get('dims'))}; it must be {list(dims)}"
            )
        if len(dims) == 1:
            if kind != "f32":
                raise CiderFileError(f"{path}: {name} is of kind {shown(kind)}; it must be 'f32'")
            yield dims[0] * 4
            continue
        allowed = ("int8",) if name == "embedding" else tuple(KINDS)
        if kind not in allowed:
            raise CiderFileError(f"{path}: {name} is of kind {shown(kind)}, not of {allowed}")
        codes, tables, affine = sizes(dims[0], dims[1], KINDS[kind])
        yield _aligned(tables) + _aligned(affine) + codes


def _are(given: object, dims: tuple[int, ...]) -> bool:
    """Whether a file gives these dimensions, as whole numbers: JSON's 128.0 and true are none."""
    return isinstance(given, list) and given == list(dims) and {*map(type, given)} == {int}


def _verify(path: str, whole: NDArray[np.uint8], sections: Mapping[str, Section]) -> None:
    """Compare digests, in threads: the library computes without the interpreter's lock."""

    def right(section: Section) -> bool:
        part = whole[section.offset : section.offset + section.size]
        return hashlib.sha256(part.data).hexdigest() == section.sha256

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for name, good in zip(sections, pool.map(right, sections.values()), strict=True):
            if not good:
                raise CiderFileError(f"{path} is damaged: the digest of {name} is another")


def _matrix(
    path: str, name: str, whole: NDArray[np.uint8], section: Section, dims: tuple[int, int],
    bits: int,
) -> Packed:  # fmt: skip
    codes, tables, affine = sizes(*dims, bits)
    place = section.offset
    entries = whole[place : place + tables]
    place += _aligned(tables)
    numbers = _finite(path, name, _numbers(whole, place, affine // 4))
    place += _aligned(affine)
    if bits == 8:
        entries = entries.reshape(0, 0)
    else:
        groups = padded(dims[0]) // 16
        entries, numbers = entries.reshape(groups, -1), numbers.reshape(groups, 2)
        if entries.size and int(entries.max()) > 127:
            raise CiderFileError(f"{path}: {name} has a table entry above 127")
    return Packed(*dims, bits, whole[place : place + codes], entries, numbers)


def _numbers(whole: NDArray[np.uint8], offset: int, count: int) -> NDArray[np.float32]:
    return whole[offset : offset + 4 * count].view("<f4")


def _finite(path: str, name: str, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(numbers).all():
        raise CiderFileError(f"{path}: {name} holds numbers that are not finite")
    return numbers
