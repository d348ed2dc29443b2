"""Files through Beam's file systems: opened raw, written whole or not at all.

Beam is imported where it is needed, which takes seconds: no local file needs it but in a listing.

Every path may be local or on any store that Beam knows (``s3://``, ``gs://``, ``hdfs://``). What
"whole or not at all" rests on, locally and on an object store, is told in docs/commit.md.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, TypeVar, cast

from pipelines.s3 import share_clients

PIECE = 1 << 20

ATTEMPTS = 5
BACKOFF_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
"""An operation on a remote store is tried so often, with pauses that double."""

_SCHEME = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]*://")
"""What a path begins with that is none of this machine's, as Beam has it."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_waiting: list[list[str]] = []
"""Options of a command line that Beam has not been given yet: at most one."""

Result = TypeVar("Result")


def _beam() -> Any:
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    if _waiting:
        FileSystems.set_options(PipelineOptions(_waiting.pop()))
    return FileSystems


def store_options() -> dict[str, Any]:
    """The options of this process's file systems, for another process to use."""
    options = _beam()._pipeline_options
    if options is None:
        return {}
    return dict(options.get_all_options(drop_default=True))


def set_options(flags: list[str]) -> None:
    """Have file systems use the options of a command line, from their next use on."""
    _waiting[:] = [flags]


def use_store_options(options: dict[str, Any]) -> None:
    """Have file systems use these options of Beam, such as ``s3_endpoint_url``."""
    from apache_beam.options.pipeline_options import PipelineOptions

    _beam().set_options(PipelineOptions.from_dictionary(options))


class CarriesStore:
    """What travels to workers with the options of its submitter's file systems in ``store``.

    A worker that a pool starts is told nothing of Beam's options.
    """

    store: tuple[tuple[str, Any], ...]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a worker: its file systems get the options, where it has none."""
        self.__dict__.update(state)
        if self.store and not store_options():
            use_store_options(dict(self.store))


def on_store(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function, for a graph, with the options of this process's file systems."""
    return _OnStore(function, tuple(sorted(store_options().items())))


class _OnStore(CarriesStore):
    """A class and not a closure, for Beam pickles what a graph holds."""

    def __init__(self, function: Callable[..., Any], store: tuple[tuple[str, Any], ...]) -> None:
        self._function = function
        self.store = store

    def __call__(self, *given: Any) -> Any:
        return self._function(*given)


def join(base: str, *parts: str) -> str:
    """A path below ``base``, for local paths and URLs alike."""
    if is_local(base):
        return os.path.join(base, *parts)
    return str(_beam().join(base, *parts)) if parts else base


def is_local(path: str) -> bool:
    """Whether the path is on this machine's own file system."""
    return _SCHEME.match(path.strip()) is None


def absolute(path: str) -> str:
    """A path that means the same file to a worker that runs in another folder."""
    return os.path.abspath(path) if is_local(path) else path


def open_raw(path: str) -> BinaryIO:
    """Open for reading without Beam's decompression, which is many times slower than ours."""
    if is_local(path):
        return open(path, "rb", buffering=PIECE)
    from apache_beam.io.filesystem import CompressionTypes

    return _persist(
        path,
        lambda: cast(BinaryIO, _beam().open(path, compression_type=CompressionTypes.UNCOMPRESSED)),
    )


def read_bytes(path: str) -> bytes:
    """A whole file. Raises ``FileNotFoundError`` where there is none."""

    def read() -> bytes:
        with open_raw(path) as handle:
            return handle.read()

    return read() if is_local(path) else _persist(path, read)


def _persist(path: str, operation: Callable[[], Result], *, reads: bool = True) -> Result:
    """Try an operation on a remote store again when it fails, unless trying cannot help.

    Every operation here may be done twice: it reads, or it writes the same bytes to the same name.

    Raises:
      FileNotFoundError: there is no such object.
      OSError: it failed ``ATTEMPTS`` times; the message names the path and the last error.
    """
    if path.startswith("s3://"):
        share_clients()
    began = time.monotonic()
    for attempt in range(ATTEMPTS):
        try:
            return operation()
        except Exception as error:
            # A write that is told "not found" may have been done: an upload that was completed, and
            # answered with an error, is gone when its completion is asked for again.
            if reads and _is_missing(error):
                raise FileNotFoundError(errno.ENOENT, "no such object", path) from error
            if _is_final(error):
                raise OSError(f"{path}: {_reason(error)}") from error
            last = error
        if time.monotonic() - began > PATIENCE_SECONDS:
            # Beam's own retries have waited already, up to ten minutes for some operations.
            raise OSError(f"{path}: {_reason(last)}") from last
        if attempt + 1 < ATTEMPTS:
            time.sleep(BACKOFF_SECONDS * 2**attempt)
    raise OSError(f"{path}: failed {ATTEMPTS} times; the last time: {_reason(last)}") from last


def _codes(error: BaseException) -> set[int]:
    """The HTTP statuses that an error and what caused it carry."""
    found: set[int] = set()
    seen: BaseException | None = error
    while seen is not None:
        for part in (seen, *getattr(seen, "exception_details", {}).values()):
            code = getattr(part, "code", None)
            if isinstance(code, int):
                found.add(code)
        seen = seen.__cause__ or seen.__context__
    return found


def _is_missing(error: BaseException) -> bool:
    return isinstance(error, FileNotFoundError) or 404 in _codes(error)


def _is_final(error: BaseException) -> bool:
    """Errors that say no, and not: not now."""
    return isinstance(error, (ImportError, ValueError)) or bool(_codes(error) & {400, 401, 403})


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


@contextlib.contextmanager
def write_whole(path: str) -> Iterator[BinaryIO]:
    """Write a file that is seen complete or not at all.

    A local file is written under a temporary name beside the target, synced, and renamed. For a
    remote store the content is gathered in memory, handed over in one piece and put under its
    final name, where it appears when the upload is complete. It must not be empty there.
    """
    if is_local(path):
        with _local_whole(path) as handle:
            yield handle
        return
    buffer = io.BytesIO()
    yield buffer
    content = buffer.getvalue()
    if not content:
        raise ValueError(f"{path}: an empty object; some stores cannot take one")
    _persist(path, lambda: _put(path, content), reads=False)


@contextlib.contextmanager
def _local_whole(path: str) -> Iterator[BinaryIO]:
    folder = os.path.dirname(path)
    os.makedirs(folder or ".", exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{uuid.uuid4().hex}.tmp")
    try:
        with full_disk_named(path):
            with open(temporary, "wb", buffering=PIECE) as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def full_disk_named(path: str) -> Iterator[None]:
    """A full disk says so without a name; the user must know which one."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            raise OSError(error.errno, error.strerror, path) from error
        raise


def _put(path: str, content: bytes) -> None:
    """One upload, in one call: an uploader closed after a failed call must not hold a part."""
    from apache_beam.io.filesystem import CompressionTypes

    target = _beam().create(path, compression_type=CompressionTypes.UNCOMPRESSED)
    target.write(content)
    target.close()


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
    return json.loads(read_bytes(path))


def find_json(path: str) -> Any | None:
    """The content of a JSON file, or ``None`` where there is none: one request to a store."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


def exists(path: str) -> bool:
    """Whether there is a file or object of that name."""
    if is_local(path):
        return os.path.exists(path)
    return _persist(path, lambda: bool(_beam().exists(path)))


def size(path: str) -> int | None:
    """The bytes of a file, or ``None`` where there is none."""
    try:
        if is_local(path):
            return os.path.getsize(path)
        found = listing(path)
        return found[0][1] if found else None
    except FileNotFoundError:
        return None


def listing(pattern: str) -> list[tuple[str, int, float]]:
    """Path, size in bytes and time of change of every file that matches, sorted by path."""

    def match() -> list[tuple[str, int, float]]:
        found = _beam().match([pattern])[0].metadata_list
        return sorted((m.path, m.size_in_bytes, m.last_updated_in_seconds or 0.0) for m in found)

    return match() if is_local(pattern) else _persist(pattern, match)


def remove(paths: Sequence[str]) -> None:
    """Delete files; those that are gone already are no error."""
    remote = []
    for path in paths:
        if is_local(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        elif exists(path):
            remote.append(path)
    if remote:
        # One that was deleted and answered with an error is missing when it is asked for again.
        with contextlib.suppress(FileNotFoundError):
            _persist(remote[0], lambda: _beam().delete(remote))


def remove_temporary(folder: str) -> None:
    """Delete what attempts that died in mid-write left below a local folder.

    Only for a folder that no other process writes to. Object stores show no such files: what
    an upload that never ended holds there, the store itself gives up by its lifecycle rule.
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
