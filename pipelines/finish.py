"""Finish: the verdicts of the global stages meet the stored texts, and the final files appear.

For each input: its measured batches are read back, decided on, joined with the verdicts on
duplicates and contamination, scrubbed, and written to ``documents``, ``rejected``, ``decisions``
and ``dead``. The marker with the account and the digests of these files comes last.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from filters.batch import Batch, apply
from filters.decontamination.hits import best_hit
from filters.decontamination.index import BenchmarkIndex
from filters.document import DeadLetter, Decision, Document, Edit
from filters.rules import decide, removed_by
from filters.stages import FINISH
from pipelines import attempts, files, guard, metrics, progress, tables, timing
from pipelines.account import Account
from pipelines.composite import Composite
from pipelines.decide import evidence_of, local_decisions
from pipelines.inputs import Input
from pipelines.probe import Condemned, Probe, attempt_at
from pipelines.recipe import StageSettings
from pipelines.run import Run, build_stage, done_file
from pipelines.screen import load_batch
from pipelines.sketch import load_input
from pipelines.verdicts import CLUSTER, EXACT, EXEMPT, NEAR, Keyed, rows


class WriteDocuments(Composite):
    """Write the final files of every input from its verdicts.

    Takes ``(key, verdicts)`` and gives ``(key, counts)``, the counts as JSON: an account may be
    large, and lies in the work directory.
    """

    def expand(self, verdicts: beam.PCollection) -> beam.PCollection:
        return verdicts | "Finish input" >> beam.MapTuple(
            partial(finish_input, run=self._run)
        ).with_output_types(Keyed)


@dataclass
class Verdicts:
    """The verdicts on one input, by record number."""

    duplicates: dict[int, tuple[str, float, bool]] = field(default_factory=dict)
    clusters: dict[int, int] = field(default_factory=dict)
    exempt: frozenset[int] = frozenset()

    @classmethod
    def unpack(cls, blob: bytes) -> Verdicts:
        """From the packed rows of the global stages."""
        found = cls()
        exempt = set()
        for row in rows(blob):
            kind, number = int(row["kind"]), int(row["number"])
            if kind in (EXACT, NEAR):
                other = row["other"].tobytes().hex()
                found.duplicates[number] = (other, float(row["value"]), kind == EXACT)
            elif kind == CLUSTER:
                found.clusters[number] = found.clusters.get(number, 0) + int(row["value"])
            elif kind == EXEMPT:
                exempt.add(int.from_bytes(row["other"].tobytes()[:8], "little"))
        found.exempt = frozenset(exempt)
        return found


NOTHING = Verdicts()


def finish_input(key: str, blob: bytes, run: Run) -> Keyed:
    """Write the final files of one input, unless they are there for just these verdicts."""
    guard.prepare(run)
    item = load_input(run.input_file(key))
    state = run.finished_hash(item, blob)
    done = finished(run, item, state)
    if done is None:
        run.check_current()
        # What the old marker stands for is gone with the first table that is written anew.
        files.remove([run.finished_marker(key)])
        done = _write(item, Verdicts.unpack(blob), state, run)
    metrics.account(done["account"])
    progress.tell("finished", input=key, counts=done["account"]["counts"])
    return key, json.dumps(done["account"]["counts"], sort_keys=True).encode()


def finished(run: Run, item: Input, state: str) -> dict[str, Any] | None:
    """The marker of an input whose final files are there, whole, and belong to ``state``."""
    path = run.finished_marker(item.key)
    marker: dict[str, Any] | None = files.find_json(path)
    if marker is None or marker["state"] != state:
        return None
    present = all(
        files.size(run.table(table, item.key, item.source)) == facts["bytes"]
        for table, facts in marker["files"].items()
    )
    return marker if present else None


class _Tables:
    """The open final tables of one input, each written whole or not at all."""

    def __init__(self, run: Run, item: Input, stack: contextlib.ExitStack) -> None:
        signals = run.all_signals()
        self.signals = signals
        schemas = {
            "documents": tables.document_schema(signals),
            "rejected": tables.document_schema(signals, rejected=True),
            "decisions": tables.DECISIONS,
            "dead": tables.DEAD,
        }
        if not run.recipe.keep_rejected:
            del schemas["rejected"]
        self.facts: dict[str, dict[str, Any]] = {name: {"rows": 0} for name in schemas}
        self._digests = {name: _DigestingWriter() for name in schemas}
        self._writers: dict[str, pq.ParquetWriter] = {}
        for name, schema in schemas.items():
            handle = stack.enter_context(files.write_whole(run.table(name, item.key, item.source)))
            self._digests[name].handle = handle
            self._writers[name] = stack.enter_context(
                tables.writer(self._digests[name], schema)  # type: ignore[arg-type]
            )

    def write(self, name: str, table: pa.Table) -> None:
        """Add rows to a table that this run keeps."""
        if name in self._writers and table.num_rows:
            self._writers[name].write_table(table)
            self.facts[name]["rows"] += table.num_rows

    def close(self) -> dict[str, dict[str, Any]]:
        """Close the tables; gives rows, bytes and SHA-256 of each file."""
        for name, out in self._writers.items():
            out.close()
            self.facts[name]["bytes"] = self._digests[name].count
            self.facts[name]["sha256"] = self._digests[name].digest.hexdigest()
        return self.facts


class _DigestingWriter:
    """A file-like object that passes bytes on and keeps their SHA-256."""

    closed = False

    def __init__(self) -> None:
        self.handle: BinaryIO | None = None
        self.digest = hashlib.sha256()
        self.count = 0

    def write(self, piece: bytes) -> int:
        assert self.handle is not None
        self.handle.write(piece)
        self.digest.update(piece)
        self.count += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self.count

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """The file below is closed by who opened it."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def _write(item: Input, verdicts: Verdicts, state: str, run: Run) -> dict[str, Any]:
    """Write the four tables of an input batch by batch, then its marker."""
    account = Account()
    seconds: timing.Seconds = {}
    facts = files.read_json(done_file(run.measured_folder(item)))
    notes = run.finishing_notes(item)
    with attempt_at(item, "finish", notes, run) as probe:
        with contextlib.ExitStack() as opened:
            out = _Tables(run, item, opened)
            for number in range(facts["batches"]):
                batch = load_batch(item, number, run)
                timing.add(seconds, batch.spent)
                condemned = _try_batch(batch, probe)
                _finish_batch(batch, item, verdicts, run, out, account, condemned)
                timing.add(seconds, {timing.worker_name(): batch.seconds})
            written = out.close()
        stages = [stage.name for stage in run.recipe.chain(item.source)]
        account.check(stages, item.name)
        account.trim()
        marker = {
            "key": item.key,
            "name": item.name,
            "source": item.source,
            "size": item.size,
            "sha256": facts["sha256"],
            "records": facts["records"],
            "state": state,
            "files": written,
            "account": account.to_dict(),
            "seconds": seconds,
        }
        run.check_current()
        files.write_json(run.finished_marker(item.key), marker)
    attempts.forget(notes)
    return marker


def _try_batch(batch: Batch, probe: Probe | None) -> dict[str, Condemned]:
    """The documents of a batch that took their probe down, by id."""
    if probe is None:
        return {}
    found = {
        document.id: probe.try_record(place)
        for place, document in enumerate(batch.documents, batch.first)
    }
    return {name: how for name, how in found.items() if how is not None}


@dataclass
class _Ends:
    """How the documents of a batch ended."""

    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    removed: dict[str, Decision] = field(default_factory=dict)

    def take(self, document: Document, found: list[Decision]) -> None:
        """Add decisions on a document; the first that drops removes it."""
        self.decisions.setdefault(document.id, []).extend(found)
        gone = removed_by(found)
        if gone is not None and document.id not in self.removed:
            self.removed[document.id] = gone


def _finish_batch(
    batch: Batch,
    item: Input,
    verdicts: Verdicts,
    run: Run,
    out: _Tables,
    account: Account,
    condemned: Mapping[str, Condemned],
) -> None:
    ends = _Ends()
    measuring = [run.local(stage) for stage in run.measuring(item.source)]
    for document in batch.active():
        ends.take(document, local_decisions(document, measuring))
    batch.rejected = {name: gone.rule for name, gone in ends.removed.items()}
    for stage in run.finishing(item.source):
        _bury_condemned(batch, stage, condemned)
        finish_stage(stage, batch, verdicts, run, account)
        for document in list(batch.active()):
            evidence = functools.partial(_evidence, stage, verdicts)
            ends.take(document, decide(document, stage.rules, evidence))
        batch.rejected = {name: gone.rule for name, gone in ends.removed.items()}
    started = time.perf_counter()
    _write_batch(batch, item, ends, run, out, account)
    batch.seconds["write"] = time.perf_counter() - started


def finish_stage(
    stage: StageSettings, batch: Batch, verdicts: Verdicts, run: Run, account: Account | None = None
) -> None:
    """Run a global or finishing stage over the active documents of a batch.

    A global stage turns the verdicts on a document into its signals; ``account`` gets what is
    counted of that.
    """
    counts = account or Account()
    if stage.spec.phase == FINISH:
        apply(batch, stage.name, build_stage(run.local(stage)), run.recipe.caps.seconds)
        return
    if stage.name == "duplicates":
        place = {document.id: batch.first + n for n, document in enumerate(batch.documents)}

        def measure(document: Document) -> list[Edit]:
            _measure_duplicates(document, place[document.id], verdicts, counts)
            return []

    else:
        # Opened here: an index that is damaged is no fault of a document.
        index = run.index(stage)

        def measure(document: Document) -> list[Edit]:
            _measure_contamination(document, index, verdicts, counts)
            return []

    apply(batch, stage.name, measure, run.recipe.caps.seconds)


def _bury_condemned(batch: Batch, stage: StageSettings, condemned: Mapping[str, Condemned]) -> None:
    for document in list(batch.active()):
        found = condemned.get(document.id)
        if found is not None and found.stage == stage.name:
            batch.dead.add(document.id)
            batch.letters.append(found.letter(document.id))


def _measure_duplicates(
    document: Document, number: int, verdicts: Verdicts, account: Account
) -> None:
    other, jaccard, exact = verdicts.duplicates.get(number, ("", 0.0, False))
    document.signals["dedup.exact"] = int(exact)
    document.signals["dedup.jaccard"] = round(jaccard, 4)
    document.signals["dedup.duplicates"] = verdicts.clusters.get(number, 0)
    if other:
        document.metadata["duplicate_of"] = other
    elif verdicts.clusters.get(number):
        account.clusters[str(verdicts.clusters[number] + 1)] += 1


def _measure_contamination(
    document: Document, index: BenchmarkIndex, verdicts: Verdicts, account: Account
) -> None:
    hit = best_hit(document.text, index, verdicts.exempt)
    document.signals["decontamination.ngrams"] = hit.ngrams if hit else 0
    if hit:
        document.metadata["contaminated_by"] = f"{hit.benchmark} {hit.item}: {hit.text}"
        row = account.benchmarks.setdefault(hit.benchmark, type(account.counts)())
        row.update({"documents": 1, f"item {hit.item}": 1})


def _evidence(stage: StageSettings, verdicts: Verdicts, document: Document, signal: str) -> str:
    if signal in ("dedup.exact", "dedup.jaccard"):
        return "duplicate of " + document.metadata.get("duplicate_of", "")
    if signal == "decontamination.ngrams":
        return document.metadata.get("contaminated_by", "")
    return evidence_of(stage)(document, signal)


def _write_batch(
    batch: Batch, item: Input, ends: _Ends, run: Run, out: _Tables, account: Account
) -> None:
    letters = {letter.record: letter for letter in batch.letters}
    stages = [stage.name for stage in run.recipe.chain(item.source)]
    kept: list[Document] = []
    rejected: list[Document] = []
    log: list[dict[str, Any]] = []
    known = {document.id for document in batch.documents}
    unread = [
        Document(letter.record, letter.url, item.source)
        for letter in batch.letters
        if letter.record not in known
    ]
    for document in [*batch.documents, *unread]:
        letter = letters.get(document.id)
        decisions = ends.decisions.get(document.id, [])
        removed = None if letter else ends.removed.get(document.id)
        edits = [] if letter else batch.edits.get(document.id, [])
        account.document(document, decisions, removed, edits, letter, stages)
        if letter is None:
            (rejected if removed else kept).append(document)
            log += [tables.decision_row(document, d, removed=d is removed) for d in decisions]
            log += [tables.edit_row(document, edit) for edit in edits]
    dead = [
        _dead_row(letters[d.id], d, item) for d in [*batch.documents, *unread] if d.id in letters
    ]
    tags = {
        name: [d.rule for d in found if d.action == "tag"] for name, found in ends.decisions.items()
    }
    out.write("documents", tables.document_table(kept, tags, out.signals))
    out.write("rejected", tables.document_table(rejected, tags, out.signals, ends.removed))
    out.write("decisions", tables.rows_table(log, tables.DECISIONS))
    out.write("dead", tables.rows_table(dead, tables.DEAD))


def _dead_row(letter: DeadLetter, document: Document, item: Input) -> dict[str, Any]:
    return {
        "id": letter.record,
        "url": document.url or letter.url,
        "source": item.source,
        "input": item.name,
        "stage": letter.stage,
        "error": letter.error,
        "message": letter.message,
    }
