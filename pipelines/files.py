"""Files through Beam's file systems: opened raw, written whole or not at all.

Every path may be local or on any store that Beam knows (``s3://``, ``gs://``, ``hdfs://``).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

PIECE = 1 << 20


def join(base: str, *parts: str) -> str:
    """A path below ``base``, for local paths and URLs alike."""
    return FileSystems.join(base, *parts) if parts else base


def is_local(path: str) -> bool:
    """Whether the path is on this machine's own file system."""
    return FileSystems.get_scheme(path) is None


def open_raw(path: str) -> BinaryIO:
    """Open for reading without Beam's decompression, which is many times slower than ours."""
    if is_local(path):
        return open(path, "rb", buffering=PIECE)
    handle = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return cast(BinaryIO, handle)


@contextlib.contextmanager
def write_whole(path: str) -> Iterator[BinaryIO]:
    """Write a file that is seen complete or not at all.

    A local file is written under a temporary name beside the target, synced, and renamed. On an
    object store the object appears when its upload is finished, under its final name, and an
    upload that fails is dropped with its buffer.
    """
    if is_local(path):
        folder = os.path.dirname(path)
        os.makedirs(folder or ".", exist_ok=True)
        temporary = os.path.join(folder, f".{os.path.basename(path)}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb", buffering=PIECE) as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        return
    buffer = io.BytesIO()
    yield buffer
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as target:
        target.write(buffer.getvalue())


def write_bytes(path: str, content: bytes) -> None:
    """Write ``content`` whole or not at all."""
    with write_whole(path) as handle:
        handle.write(content)


def write_json(path: str, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values are equal bytes."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1)
    write_bytes(path, (text + "\n").encode())


def read_json(path: str) -> Any:
    """Read a JSON file. Raises ``FileNotFoundError`` where there is none."""
    if not exists(path):
        raise FileNotFoundError(path)
    with open_raw(path) as handle:
        return json.loads(handle.read())


def exists(path: str) -> bool:
    """Whether there is a file or object of that name."""
    return os.path.exists(path) if is_local(path) else bool(FileSystems.exists(path))


def listing(pattern: str) -> list[tuple[str, int, float]]:
    """Path, size in bytes and time of change of every file that matches, sorted by path."""
    found = FileSystems.match([pattern])[0].metadata_list
    return sorted((m.path, m.size_in_bytes, m.last_updated_in_seconds or 0.0) for m in found)


def remove(paths: list[str]) -> None:
    """Delete files; those that are gone already are no error."""
    present = [path for path in paths if exists(path)]
    if present:
        FileSystems.delete(present)


def remove_temporary(folder: str) -> None:
    """Delete what attempts that died in mid-write left below a local folder.

    Only for a folder that no other process writes to. Object stores keep no such files.
    """
    if not is_local(folder):
        return
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith(".tmp"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(place, name))


def sha256(path: str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open_raw(path) as handle:
        while piece := handle.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


class HashingReader(io.RawIOBase):
    """Passes reads through and keeps the SHA-256 of what was read, in order."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        piece = self._handle.read(-1 if size is None else size)
        self._digest.update(piece)
        self.count += len(piece)
        return piece

    def readinto(self, buffer: Any, /) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def finish(self) -> str:
        """Read what is left, and give the digest of the whole file."""
        while self.read(PIECE):
            pass
        return self._digest.hexdigest()
