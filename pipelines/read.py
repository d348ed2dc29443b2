"""Read: one input in, its records out in batches, each record accounted for."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, cast

import pyarrow.parquet as pq

from filters.batch import Batch
from filters.document import DeadLetter, Document
from pipelines import files
from pipelines.inputs import MAX_RECORDS, Input, document_id
from pipelines.inputs_error import InputError
from pipelines.probe import Probe, attempt_at
from pipelines.read_caps import read_caps
from pipelines.run import Run, batch_file, done_file
from pipelines.sources.caps import Input as ReaderInput
from pipelines.sources.html import read_html
from pipelines.sources.records import read_records

BATCH_RECORDS = 256
BATCH_CHARACTERS = 32 << 20
"""A batch ends at either bound, so that its size in memory does not depend on the pages."""


def read_batches(text: str, run: Run) -> Iterator[Batch]:
    """The batches of one input that are still to be measured, and a sealed one for what is done.

    An input whose measured batches are complete is not opened at all. After a crash, whole
    batches that were written stay, and reading goes on behind them. Where earlier attempts took
    their workers down, the records are first tried under a probe.
    """
    item = Input.from_json(text)
    if _is_current(run, item):
        yield Batch(item.key, -1, 0, 0, [], last=True, sealed=True)
        return
    number, start, taken = _written(run, item)
    with attempt_at(item, "measure", run.reading_notes(item), run) as probe:
        records = Records(run, item, item.first + start, taken, probe)
        yield from _batches(records, item, number, start, run)


def _batches(records: Records, item: Input, number: int, start: int, run: Run) -> Iterator[Batch]:
    """Records gathered in batches; places in a batch count from the input's first record."""
    batch = Batch(item.key, number, start, start, [])
    characters = 0
    for position, record in records:
        place = position - item.first
        batch.offset = records.offset
        full = place - batch.first >= BATCH_RECORDS or characters >= BATCH_CHARACTERS
        if full:
            yield batch
            batch = Batch(item.key, batch.number + 1, place, place, [])
            batch.offset = records.offset
            characters = 0
        batch.end = place + 1
        if isinstance(record, DeadLetter):
            batch.letters.append(record)
        else:
            characters += len(record.html) + len(record.text)
            batch.documents.append(record)
    batch.end = max(batch.end, records.seen)
    batch.last = True
    files.write_json(_facts_file(run, item), {"sha256": records.sha256, "records": records.seen})
    yield batch


def _facts_file(run: Run, item: Input) -> str:
    return files.join(run.measured_folder(item), "read.json")


def _is_current(run: Run, item: Input) -> bool:
    """Whether the measured batches are complete and of the file as it is now."""
    marker = done_file(run.measured_folder(item))
    facts = files.find_json(marker)
    if facts is None:
        return False
    if facts["updated"] == item.updated:
        return True
    if (item.sha256 or digest_of(item)) == facts["sha256"]:
        files.write_json(marker, {**facts, "updated": item.updated})
        return True
    forget(run, item)
    return False


def forget(run: Run, item: Input) -> None:
    """Remove all stored work on an input whose content has changed behind its key."""
    patterns = [
        files.join(run.work, "measured", item.key, "*", "*"),
        files.join(run.work, "screened", item.key, "*", "*"),
        run.finished_marker(item.key),
    ]
    # The markers go first: what is left after a crash in between must not look complete.
    found = [path for pattern in patterns for path, _, _ in files.listing(pattern)]
    files.remove([path for path in found if path.endswith(".json")])
    files.remove(found)


def digest_of(item: Input) -> str:
    """The SHA-256 of an input: of its file, or of its files one after another."""
    if len(item.paths) == 1:
        return files.sha256(item.paths[0])
    return hashlib.sha256("".join(map(files.sha256, item.paths)).encode()).hexdigest()


def _written(run: Run, item: Input) -> tuple[int, int, int]:
    """What an interrupted run left: whole batches, the first record behind them, records in them.

    Batches of a file that has changed since are not taken over.
    """
    folder = run.measured_folder(item)
    seen = {"size": item.size, "updated": item.updated}
    note = files.join(folder, "reading.json")
    known = files.find_json(note)
    if known != seen:
        if known is not None:
            forget(run, item)
        files.write_json(note, seen)
        return 0, 0, 0
    number = start = taken = 0
    while files.exists(path := batch_file(folder, number)):
        with files.open_raw(path) as handle:
            table = pq.read_metadata(io.BytesIO(handle.read()))
        facts = table.metadata
        if facts[b"last"] == b"1":
            # The end was reached but not sealed: read on from its beginning to seal it.
            return number, int(facts[b"first"]), taken
        start = int(facts[b"end"])
        taken += table.num_rows
        number += 1
    return number, start, taken


class _EndOfPart(Exception):
    """The reader has come to the first record that belongs to the next part."""


class Records:
    """Iterates over (position, record) from position ``start`` on; knows the digest at the end.

    Every record has a position in its file, wanted or not; ``seen`` is how many of them belong to
    this input. ``taken`` is how many wanted ones lie before ``start``, and ``offset`` how many
    bytes have been read. With a ``probe``, each record is tried there before it is decoded here.
    """

    def __init__(
        self, run: Run, item: Input, start: int, taken: int, probe: Probe | None = None
    ) -> None:
        self._run = run
        self._item = item
        self._start = start
        self._position = item.first - 1
        self._taken = taken
        self._probe = probe
        self._condemned: list[tuple[int, DeadLetter]] = []
        self._hashing: files.HashingReader | None = None
        self.seen = 0
        self.sha256 = item.sha256

    def __iter__(self) -> Iterator[tuple[int, Document | DeadLetter]]:
        limit = self._item.limit
        if limit == self._taken:
            return
        for position, record in self._with_condemned():
            if isinstance(record, Document):
                record.metadata["input"] = self._item.name
            yield position, record
            self._taken += 1
            if self.seen >= MAX_RECORDS:
                raise InputError(
                    f"{self._item.paths[0]} has more than {MAX_RECORDS} records that cannot be "
                    "shared out; split the file"
                )
            if self._taken == limit:
                break
        if not self.sha256:
            self.sha256 = "" if limit >= 0 else digest_of(self._item)

    def _with_condemned(self) -> Iterator[tuple[int, Document | DeadLetter]]:
        """The reader's records, and dead letters in place of those the probe condemned."""
        with contextlib.suppress(_EndOfPart):
            for record in self._all():
                yield from self._drain()
                if self._position >= self._start:
                    yield self._position, record
        yield from self._drain()

    def _drain(self) -> Iterator[tuple[int, DeadLetter]]:
        while self._condemned:
            yield self._condemned.pop(0)

    @property
    def offset(self) -> int:
        """Bytes of the input read so far, as far as that is known."""
        return self._hashing.count if self._hashing else 0

    def _identify(self, position: int) -> str:
        if position == self._item.end:
            raise _EndOfPart
        self._position = position
        self.seen = position + 1 - self._item.first
        return document_id(self._item.key, position).hex()

    def _accept(self, identifier: str) -> bool:
        if self._position < self._start:
            return False
        if not _sampled(identifier, self._run.sample, self._run.seed):
            return False
        found = self._probe.try_record(self._position) if self._probe else None
        if found is None:
            return True
        self._condemned.append((self._position, found.letter(identifier)))
        return False

    def _all(self) -> Iterator[Document | DeadLetter]:
        if self._item.kind == "html":
            yield from self._html_files()
            return
        item = self._item
        source = self._run.recipe.source(item.source)
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(files.open_raw(item.paths[0]))
            if item.kind != "parquet":
                raw.seek(item.offset)
                self._hashing = files.HashingReader(raw)
                raw = cast(BinaryIO, io.BufferedReader(self._hashing, files.PIECE))
            yield from read_records(
                item.kind,
                raw,
                name=item.name,
                source=item.source,
                identify=self._identify,
                accept=self._accept,
                caps=read_caps(self._run),
                options=source.options,
                offset=item.offset,
                first=item.first,
                end=item.end,
            )
            if self._hashing is not None and not self.sha256:
                self.sha256 = self._hashing.finish()

    def _html_files(self) -> Iterator[Document | DeadLetter]:
        options = self._run.recipe.source(self._item.source).options
        pairs = zip(self._item.paths, self._item.names, strict=True)
        for position, (path, name) in enumerate(pairs):
            identifier = self._identify(position)
            if not self._accept(identifier):
                continue
            given = ReaderInput(
                name=name,
                source=self._item.source,
                identify=partial(_same, identifier),
                caps=read_caps(self._run),
                options={"url": f"file:{name}", **options},
            )
            with files.open_raw(path) as handle:
                yield from read_html(handle, given)


def _same(identifier: str, _position: int) -> str:
    return identifier


def _sampled(identifier: str, share: float, seed: int) -> bool:
    """Whether a record is in the sample: a hash of seed and id below the share."""
    if share >= 1:
        return True
    digest = hashlib.blake2b(f"{seed}:{identifier}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
