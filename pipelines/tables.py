"""The tables a run writes: their schemas, and rows to Arrow and back.

Public tables (``documents``, ``rejected``, ``decisions``, ``dead``) are Parquet with zstd and open
in pandas, duckdb and Hugging Face datasets. Signals are nested by stage, so that
``SELECT signals.gopher.word_count`` works as it reads. The tables of the work directory hold one
batch each and are ours alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from filters.document import DeadLetter, Decision, Document, Edit, Value
from filters.signal import Signal

ARROW = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}

EDIT = pa.struct(
    [
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("replacement", pa.string()),
        ("evidence", pa.string()),
    ]
)

DECISIONS = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("stage", pa.string()),
        ("rule", pa.string()),
        ("action", pa.string()),
        ("removed", pa.bool_()),
        ("value", pa.float64()),
        ("value_text", pa.string()),
        ("bound", pa.string()),
        ("evidence", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("replacement", pa.string()),
    ]
)

DEAD = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("input", pa.string()),
        ("stage", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
    ]
)


def _signal_column(signal: Signal) -> str:
    return f"signal {signal.name}"


def measured_schema(signals: Sequence[Signal]) -> pa.Schema:
    """One row a record of a batch: a document with all that was measured, or a dead letter."""
    return pa.schema(
        [
            ("id", pa.string()),
            ("url", pa.string()),
            ("source", pa.string()),
            ("language", pa.string()),
            ("text", pa.large_string()),
            ("metadata", pa.string()),
            ("edits", pa.list_(EDIT)),
            ("dead", pa.bool_()),
            ("dead_stage", pa.string()),
            ("dead_error", pa.string()),
            ("dead_message", pa.string()),
            *((_signal_column(s), ARROW[s.kind]) for s in signals),
        ]
    )


def measured_table(
    documents: Sequence[Document],
    letters: Sequence[DeadLetter],
    edits: Mapping[str, Sequence[Edit]],
    signals: Sequence[Signal],
) -> pa.Table:
    """Rows for the records of a batch, documents first, then dead letters of unread records."""
    dead = {letter.record: letter for letter in letters}
    known = {document.id for document in documents}
    ghosts = [
        Document(letter.record, letter.url, "") for letter in letters if letter.record not in known
    ]
    rows = [*documents, *ghosts]
    columns: dict[str, list[Any]] = {
        "id": [d.id for d in rows],
        "url": [d.url for d in rows],
        "source": [d.source for d in rows],
        "language": [d.language for d in rows],
        "text": [_storable(d.text) for d in rows],
        "metadata": [json.dumps(d.metadata, sort_keys=True, ensure_ascii=False) for d in rows],
        "edits": [[_edit_row(e) for e in edits.get(d.id, ())] for d in rows],
        "dead": [d.id in dead for d in rows],
        "dead_stage": [dead[d.id].stage if d.id in dead else None for d in rows],
        "dead_error": [dead[d.id].error if d.id in dead else None for d in rows],
        "dead_message": [dead[d.id].message if d.id in dead else None for d in rows],
    }
    for signal in signals:
        columns[_signal_column(signal)] = [_typed(d.signals.get(signal.name), signal) for d in rows]
    schema = measured_schema(signals)
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def _edit_row(edit: Edit) -> dict[str, Any]:
    return {
        "stage": edit.stage,
        "reason": edit.reason,
        "start": edit.start,
        "end": edit.end,
        "replacement": edit.replacement,
        "evidence": _storable(edit.evidence),
    }


def _storable(text: str) -> str:
    """Parquet holds UTF-8, which has no lone surrogates; they become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _typed(value: Value, signal: Signal) -> Value:
    """The value in the type the signal declares, so that a column never changes its type."""
    if value is None:
        return None
    match signal.kind:
        case "int":
            return int(value)
        case "float":
            return float(value)
        case "bool":
            return bool(value)
    return _storable(str(value))


def read_measured(
    table: pa.Table, signals: Sequence[Signal]
) -> tuple[list[Document], list[DeadLetter], dict[str, list[Edit]]]:
    """The inverse of ``measured_table``; documents among the dead letters come back as well."""
    rows = table.to_pydict()
    documents, letters, edits = [], [], {}
    names = [(s.name, rows[_signal_column(s)]) for s in signals]
    for index, record in enumerate(rows["id"]):
        if rows["dead"][index]:
            letters.append(
                DeadLetter(
                    record,
                    rows["dead_stage"][index],
                    rows["dead_error"][index],
                    rows["dead_message"][index],
                    rows["url"][index],
                )
            )
        document = Document(
            id=record,
            url=rows["url"][index],
            source=rows["source"][index],
            text=rows["text"][index],
            language=rows["language"][index],
            signals={name: column[index] for name, column in names if column[index] is not None},
            metadata=json.loads(rows["metadata"][index]),
        )
        if document.source:
            documents.append(document)
        if rows["edits"][index]:
            edits[record] = [Edit(**edit) for edit in rows["edits"][index]]
    return documents, letters, edits


def signals_type(signals: Iterable[Signal]) -> pa.DataType:
    """Signals nested by stage: ``struct<gopher: struct<word_count: int64, ...>, ...>``."""
    stages: dict[str, list[pa.Field]] = {}
    for signal in signals:
        name = signal.name.partition(".")[2]
        stages.setdefault(signal.stage, []).append(pa.field(name, ARROW[signal.kind]))
    return pa.struct([pa.field(stage, pa.struct(fields)) for stage, fields in stages.items()])


def document_schema(signals: Sequence[Signal], *, rejected: bool = False) -> pa.Schema:
    """The schema of ``documents``, and of ``rejected`` with the reason beside each text."""
    reason = [("rejected_stage", pa.string()), ("rejected_rule", pa.string())] if rejected else []
    return pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.large_string()),
            ("url", pa.string()),
            ("source", pa.string()),
            ("language", pa.string()),
            *reason,
            ("title", pa.string()),
            ("date", pa.string()),
            ("input", pa.string()),
            ("offset", pa.int64()),
            ("signals", signals_type(signals)),
            ("tags", pa.list_(pa.string())),
            ("metadata", pa.string()),
        ]
    )


COLUMNS_FROM_METADATA = ("title", "date", "input", "offset")


def document_table(
    documents: Sequence[Document],
    tags: Mapping[str, Sequence[str]],
    signals: Sequence[Signal],
    reasons: Mapping[str, Decision] | None = None,
) -> pa.Table:
    """Rows of ``documents``; with ``reasons`` (by document id), rows of ``rejected``."""
    schema = document_schema(signals, rejected=reasons is not None)
    columns: dict[str, list[Any]] = {
        "id": [d.id for d in documents],
        "text": [_storable(d.text) for d in documents],
        "url": [d.url for d in documents],
        "source": [d.source for d in documents],
        "language": [d.language for d in documents],
        "title": [d.metadata.get("title") for d in documents],
        "date": [d.metadata.get("date") for d in documents],
        "input": [d.metadata.get("input") for d in documents],
        "offset": [
            int(d.metadata["offset"]) if "offset" in d.metadata else None for d in documents
        ],
        "signals": [_nested(d, signals) for d in documents],
        "tags": [list(tags.get(d.id, ())) for d in documents],
        "metadata": [_rest(d) for d in documents],
    }
    if reasons is not None:
        columns["rejected_stage"] = [reasons[d.id].stage for d in documents]
        columns["rejected_rule"] = [reasons[d.id].rule for d in documents]
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def _nested(document: Document, signals: Sequence[Signal]) -> dict[str, dict[str, Value]]:
    nested: dict[str, dict[str, Value]] = {}
    for signal in signals:
        value = _typed(document.signals.get(signal.name), signal)
        nested.setdefault(signal.stage, {})[signal.name.partition(".")[2]] = value
    return nested


def _rest(document: Document) -> str:
    rest = {k: v for k, v in document.metadata.items() if k not in COLUMNS_FROM_METADATA}
    return json.dumps(rest, sort_keys=True, ensure_ascii=False)


def decision_row(document: Document, decision: Decision, *, removed: bool) -> dict[str, Any]:
    """A row of ``decisions`` for a rule that was not met."""
    number = None if isinstance(decision.value, str) else decision.value
    return {
        "id": document.id,
        "url": document.url,
        "source": document.source,
        "stage": decision.stage,
        "rule": decision.rule,
        "action": decision.action,
        "removed": removed,
        "value": None if number is None else float(number),
        "value_text": None if decision.value is None else _storable(f"{decision.value}"),
        "bound": decision.bound,
        "evidence": _storable(decision.evidence),
        "start": None,
        "end": None,
        "replacement": None,
    }


def edit_row(document: Document, edit: Edit) -> dict[str, Any]:
    """A row of ``decisions`` for an edited span."""
    return {
        "id": document.id,
        "url": document.url,
        "source": document.source,
        "stage": edit.stage,
        "rule": edit.reason,
        "action": "edit",
        "removed": False,
        "value": float(edit.end - edit.start),
        "value_text": None,
        "bound": "",
        "evidence": _storable(edit.evidence),
        "start": edit.start,
        "end": edit.end,
        "replacement": edit.replacement,
    }


def rows_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows of dictionaries as a table of a fixed schema."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def writer(handle: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer with the settings all our tables share; the same rows give the same bytes."""
    return pq.ParquetWriter(
        handle, schema, compression="zstd", compression_level=3, write_statistics=True
    )


def to_bytes(table: pa.Table) -> bytes:
    """A whole table as the bytes of one Parquet file."""
    buffer = io.BytesIO()
    with writer(buffer, table.schema) as out:
        out.write_table(table)
    return buffer.getvalue()


def from_bytes(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """The inverse of ``to_bytes``, for all or some columns."""
    return read(pa.BufferReader(content), columns)


def read(source: Any, columns: list[str] | None = None, without: str | None = None) -> pa.Table:
    """A whole Parquet file that lies behind an object of Python: all or some columns, but for one.

    Everything is read and decoded on the thread that asks. ``pq.read_table`` would leave the end to
    Arrow's own threads, which may still hold Python's bytes when the result is here; where the
    process ends meanwhile, letting go of them aborts it.
    """
    with pq.ParquetFile(source, pre_buffer=False) as file:
        names = [name for name in columns or file.schema_arrow.names if name != without]
        return file.read(columns=names, use_threads=False)
