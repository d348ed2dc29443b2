"""From what the user names to a sorted list of inputs with stable keys.

An *input* is the unit of work: one archive or table, a part of a large one (``pipelines.parts``),
or a group of small HTML files. Its key is taken from its content and size, never from where it
lies or where it stands in a list: the same files give the same document ids, and so the same
bytes, on any machine and in any order, and a new file changes nothing about the old ones. A group
of HTML files is one input: its key is of the names and sizes in it, and a page more or less in the
folder makes other groups.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from pipelines import files
from pipelines.inputs_error import InputError
from pipelines.plain import lines

FILE_BITS = 32
PART_BITS = 8
"""An input's key: so many bits of its file, and of the part; the other 24 bits of a document
reference number the records of the part."""

MAX_PARTS = 1 << PART_BITS
MAX_RECORDS = 1 << 24
HTML_GROUP = 512
FINGERPRINT_PIECE = 1 << 16

KINDS = {
    "warc": (".warc", ".arc"),
    "wet": (".wet", ".warc.wet"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet",),
    "html": (".html", ".htm", ".xhtml"),
}
COMPRESSED = (".gz", ".zst", ".lz4", ".bz2")


@dataclass(frozen=True, slots=True)
class Input:
    """One unit of work. ``paths`` has one file, or the files of a group of HTML pages, whose
    ``names`` below the folder that was named stand beside them.

    ``limit`` is the number of records to read at most, or -1. ``updated`` is the latest time of
    change of its files; it serves only to notice that a file was changed in place.

    A part of a file begins at byte ``offset`` with the record at position ``first`` of the file and
    stops before that at ``end`` (-1: at the end of the file). ``sha256`` is the digest of the whole
    file, where the pass that looked for parts has learnt it.
    """

    key: str
    source: str
    kind: str
    name: str
    paths: tuple[str, ...]
    size: int
    updated: float
    limit: int = -1
    names: tuple[str, ...] = ()
    offset: int = 0
    first: int = 0
    end: int = -1
    sha256: str = ""

    @property
    def place(self) -> str:
        """Where it lies, for a message."""
        return self.paths[0]

    @property
    def is_part(self) -> bool:
        """Whether other parts of the same file exist."""
        return self.first > 0 or self.end >= 0

    def to_json(self) -> str:
        """The form in which an input travels through the graph."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Input:
        """The inverse of ``to_json``."""
        fields = json.loads(text)
        return cls(**{**fields, "paths": tuple(fields["paths"]), "names": tuple(fields["names"])})


def kind_of(path: str) -> str | None:
    """The kind of input a file's name tells, or ``None``."""
    name = path.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    if name.endswith(".wet"):
        return "wet"
    return next((kind for kind, ends in KINDS.items() if name.endswith(ends)), None)


def read_list(path: str, prefix: str) -> list[str]:
    """The paths in a list file, plain or compressed, one a line.

    A relative path gets ``prefix`` in front: Common Crawl's lists name paths below the bucket.
    """
    found = [line.decode("utf-8", "replace").strip() for line in lines(path)]
    names = [line for line in found if line and not line.startswith("#")]
    if not names:
        raise InputError(f"the list {path} names no file")
    return [n if "://" in n or n.startswith("/") else prefix + n for n in names]


def _local(path: str) -> tuple[str, int, float]:
    facts = os.stat(path)
    return path, facts.st_size, facts.st_mtime


def _walk(folder: str) -> list[tuple[str, int, float]]:
    """Every file below a local folder."""
    return sorted(
        _local(os.path.join(place, name)) for place, _, names in os.walk(folder) for name in names
    )


def _expand(pattern: str, prefix: str, kind: str) -> Iterator[tuple[str, str, int, float]]:
    """(path, name below what was named, size, time of change) of every file ``pattern`` means."""
    if pattern.startswith("@"):
        for path in read_list(pattern[1:], prefix):
            yield from _expand(path, prefix, kind)
        return
    folder = files.is_local(pattern) and os.path.isdir(pattern)
    try:
        if folder:
            found = _walk(pattern)
        elif files.is_local(pattern) and os.path.exists(pattern):
            # A name as it stands, whatever signs of a glob are in it.
            found = [_local(pattern)]
        else:
            found = files.listing(pattern)
    except Exception as error:
        raise InputError(f"cannot list {pattern}: {error}") from None
    if folder:
        known = [row for row in found if kind in ("auto", kind_of(row[0])) and kind_of(row[0])]
        # Files whose names tell nothing are taken where the kind was named.
        found = known or (found if kind != "auto" else [])
    if not found:
        hint = "holds no file of a known kind" if folder else "matches no file"
        raise InputError(f"{pattern} {hint}; known endings: {', '.join(known_endings())}")
    for path, size, updated in found:
        name = os.path.relpath(path, pattern) if folder else path.rpartition("/")[2]
        yield path, name, size, updated


def known_endings() -> list[str]:
    """The endings by which a kind is told, for messages."""
    return [end for ends in KINDS.values() for end in ends]


def _fingerprint(path: str, size: int) -> bytes:
    """A digest of a file's size, beginning and end: cheap on any store, and free of its place."""
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
    with files.open_raw(path) as handle:
        digest.update(handle.read(FINGERPRINT_PIECE))
        if size > 2 * FINGERPRINT_PIECE:
            handle.seek(size - FINGERPRINT_PIECE)
            digest.update(handle.read(FINGERPRINT_PIECE))
    return digest.digest()


def _group_fingerprint(rows: Sequence[tuple[str, str, int, float]]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for _path, name, size, _updated in rows:
        digest.update(f"{name}\0{size}\n".encode())
    return digest.digest()


def _inside(path: str, folders: Sequence[str]) -> bool:
    """Whether a local file lies in one of the folders."""
    if not files.is_local(path):
        return False
    real = os.path.realpath(path)
    return any(real.startswith(os.path.join(os.path.realpath(folder), "")) for folder in folders)


def find(
    source: str,
    patterns: Iterable[str],
    *,
    kind: str = "auto",
    prefix: str = "",
    without: Sequence[str] = (),
) -> list[Input]:
    """Every input that ``patterns`` mean, with keys still to be made unique.

    A pattern is a path, a glob, a folder (searched through) or ``@list``. HTML files are grouped,
    because a task a page would cost more than the page. A file that several patterns name is one
    input; files in the folders ``without`` are left out.

    Raises:
      InputError: a pattern matches nothing, or only files in the folders ``without``, or a file's
        kind cannot be told.
    """
    if kind != "auto" and kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}; known: auto, {', '.join(KINDS)}")
    rows = _distinct(
        row
        for pattern in patterns
        for row in _outside(pattern, _expand(pattern, prefix, kind), without)
    )
    singles: list[tuple[str, str, str, int, float]] = []
    pages: list[tuple[str, str, int, float]] = []
    for path, name, size, updated in rows:
        this = kind if kind != "auto" else kind_of(path)
        if this is None:
            raise InputError(
                f"cannot tell the kind of {path}; name it with --kind {'|'.join(KINDS)}"
            )
        if this == "html":
            pages.append((path, name, size, updated))
        else:
            singles.append((this, path, name, size, updated))
    with ThreadPoolExecutor(16) as threads:
        prints = list(threads.map(lambda row: _fingerprint(row[1], row[3]), singles))
    found = [
        Input(mark.hex(), source, this, name, (files.absolute(path),), size, updated)
        for (this, path, name, size, updated), mark in zip(singles, prints, strict=True)
    ]
    pages.sort(key=lambda row: row[1])
    for start in range(0, len(pages), HTML_GROUP):
        group = pages[start : start + HTML_GROUP]
        found.append(
            Input(
                key=_group_fingerprint(group).hex(),
                source=source,
                kind="html",
                name=group[0][1] if len(group) == 1 else f"{group[0][1]} and {len(group) - 1} more",
                paths=tuple(files.absolute(row[0]) for row in group),
                size=sum(row[2] for row in group),
                updated=max(row[3] for row in group),
                names=tuple(row[1] for row in group),
            )
        )
    return found


def _outside(
    pattern: str, rows: Iterable[tuple[str, str, int, float]], without: Sequence[str]
) -> list[tuple[str, str, int, float]]:
    """The files of a pattern that lie in none of the folders ``without``."""
    every = list(rows)
    found = [row for row in every if not _inside(row[0], without)]
    if every and not found:
        raise InputError(
            f"{pattern} names only files in the output or work directory, whose files are no "
            "inputs; move them, or name another --output"
        )
    return found


def _distinct(
    rows: Iterable[tuple[str, str, int, float]],
) -> list[tuple[str, str, int, float]]:
    """Each file once, under the first of its names in sorted order."""
    found: dict[str, tuple[str, str, int, float]] = {}
    for row in sorted(rows):
        real = os.path.realpath(row[0]) if files.is_local(row[0]) else row[0]
        found.setdefault(real, row)
    return list(found.values())


def with_unique_keys(found: Iterable[Input]) -> list[Input]:
    """Shorten fingerprints to keys of ``FILE_BITS`` bits, unique over the run, sorted by key.

    The bits of the part behind them are zero: a file is its own first part.

    The same file named under two paths, or two fingerprints that share their beginning, get
    different keys by their order among equals, which does not depend on any other file.
    """
    taken: set[str] = set()
    result = []
    for item in sorted(found, key=lambda i: (i.key, i.source, i.name, i.paths)):
        occurrence = 0
        while True:
            text = f"{item.key}\0{item.source}\0{item.kind}\0{occurrence}".encode()
            key = hashlib.blake2b(text, digest_size=FILE_BITS // 8).hexdigest()
            key += "00"
            if key not in taken:
                break
            occurrence += 1
        taken.add(key)
        result.append(replace(item, key=key))
    return sorted(result, key=lambda i: i.key)


def with_limit(found: Sequence[Input], limit: int | None) -> list[Input]:
    """Spread a limit on the records of the whole run evenly over its inputs, exactly.

    Every input gets its share before anything is read, so the result does not depend on the
    number of workers; inputs whose share is nothing are left out.
    """
    if limit is None:
        return list(found)
    share, rest = divmod(limit, len(found))
    shares = [share + (index < rest) for index in range(len(found))]
    return [replace(item, limit=count) for item, count in zip(found, shares, strict=True) if count]


def part_key(key: str, part: int) -> str:
    """The key of a part of the input ``key``."""
    return f"{key[: FILE_BITS // 4]}{part:02x}"


def document_id(key: str, position: int) -> bytes:
    """The 16-byte id of the record at ``position`` of the file that ``key`` or its parts mean.

    It does not depend on how the file was cut in parts.
    """
    text = f"{key[: FILE_BITS // 4]}:{position}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
