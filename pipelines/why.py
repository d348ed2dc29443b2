"""Why: the whole story of one document, found by URL or id in a finished run's tables."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines import files, tables
from pipelines.inputs_error import InputError
from pipelines.run import TABLES


class NotFound(InputError):
    """No record of the run has this URL or id."""


def _table(output: str, name: str) -> ds.Dataset | None:
    """One table of a run, or ``None`` where the run has no such files."""
    paths = [path for path, _, _ in files.listing(files.join(output, name, "*.parquet"))]
    if not paths:
        return None
    if files.is_local(output):
        return ds.dataset(paths, format="parquet")
    return _remote_table(tuple(paths))


@functools.cache
def _remote_table(paths: tuple[str, ...]) -> ds.Dataset:
    """Tables of a store, without their texts, read through Beam's file systems."""
    return ds.dataset([_remote_part(path) for path in paths])


def _remote_part(path: str) -> pa.Table:
    with files.open_raw(path) as handle:
        return tables.read(handle, without="text")


def find(output: str, key: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of every table about a document, by id or by URL.

    A URL without its scheme matches as well. Raises ``NotFound`` with a hint where nothing does.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    wanted = [key, f"http://{key}", f"https://{key}"]
    if not any(_table(output, name) for name in TABLES):
        raise NotFound(f"{output} holds no run; give the folder that `cidermill curate` wrote")
    for name in TABLES:
        table = _table(output, name)
        if table is None:
            continue
        matches = pc.field("id").isin([key.lower()]) | pc.field("url").isin(wanted)
        columns = [c for c in table.schema.names if c != "text"]
        rows = table.to_table(filter=matches, columns=columns).to_pylist()
        found[name] = sorted(rows, key=lambda row: str(row["id"]))
    if not any(found.values()):
        raise NotFound(f"no record with the URL or id {key!r} in {output}{_near(output, key)}")
    return found


def _near(output: str, key: str) -> str:
    """URLs that contain what was asked for, as a hint."""
    urls: list[str] = []
    for name in ("documents", "rejected", "dead"):
        table = _table(output, name)
        if table is None:
            continue
        matches = pc.match_substring(pc.field("url"), key)
        rows: pa.Table = table.to_table(filter=matches, columns=["url"])
        urls += rows.column("url").to_pylist()
    return f"; did you mean {', '.join(sorted(set(urls))[:5])}?" if urls else ""


MAX_CHAIN = 20


def _fate(output: str, identifier: str) -> Iterator[str]:
    """The document that another is a duplicate of, and why that one is gone, if it is."""
    for _ in range(MAX_CHAIN):
        rejected = _table(output, "rejected")
        matches = pc.field("id") == identifier
        columns = ["url", "rejected_rule", "metadata"]
        rows = rejected.to_table(filter=matches, columns=columns).to_pylist() if rejected else []
        yield f"      that is {url_of(output, identifier) or '(no URL)'}" + (
            f", itself dropped by {rows[0]['rejected_rule']}" if rows else ""
        )
        identifier = json.loads(rows[0]["metadata"]).get("duplicate_of", "") if rows else ""
        if not identifier:
            return


def url_of(output: str, identifier: str) -> str:
    """The URL of a document by id, or the empty string."""
    for name in ("documents", "rejected", "dead"):
        table = _table(output, name)
        if table is None:
            continue
        rows = table.to_table(filter=pc.field("id") == identifier, columns=["url"]).to_pylist()
        if rows:
            return str(rows[0]["url"])
    return ""


def explain(output: str, key: str) -> Iterator[str]:
    """The story of each record with this URL or id, line by line."""
    found = find(output, key)
    ids = sorted({row["id"] for rows in found.values() for row in rows})
    if not files.exists(files.join(output, "manifest.json")):
        yield "(this run is not finished: its tables may be those of an earlier one)"
    for number, identifier in enumerate(ids):
        if number:
            yield ""
        yield from _story(output, identifier, found)


def _story(output: str, identifier: str, found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    def mine(name: str) -> list[dict[str, Any]]:
        return [row for row in found.get(name, []) if row["id"] == identifier]

    decisions = mine("decisions")
    documents, rejected, dead = mine("documents"), mine("rejected"), mine("dead")
    row = (documents + rejected + dead + decisions)[0]
    yield f"{row['url'] or '(no URL)'}"
    yield f"  id       {identifier}"
    yield f"  source   {row['source']}" + (
        f", {row['input']}" + (f" at byte {row['offset']}" if row.get("offset") is not None else "")
        if row.get("input")
        else ""
    )
    if dead:
        letter = dead[0]
        yield (
            f"  DEAD     at stage {letter['stage']}: {letter['error']} {letter['message']}"
        ).rstrip()
        return
    removal = next((d for d in decisions if d["removed"]), None)
    if removal is not None:
        yield f"  DROPPED  by {removal['rule']} (stage {removal['stage']})"
    elif documents:
        yield "  KEPT"
    rules = [d for d in decisions if d["action"] != "edit"]
    for d in rules:
        mark = "removed it" if d["removed"] else "tag" if d["action"] == "tag" else "also broken"
        yield f"    {d['rule']}: {_value(d)}, asked {d['bound']}  [{mark}]"
        if d["evidence"]:
            yield f"      {d['evidence']}"
            if d["evidence"].startswith("duplicate of "):
                yield from _fate(output, d["evidence"].split()[-1])
    edits = [d for d in decisions if d["action"] == "edit"]
    if edits:
        yield f"  edited   {len(edits)} spans"
    for d in edits[:20]:
        size = d["end"] - d["start"]
        change = f"replaced by {d['replacement']}" if d["replacement"] else "removed"
        yield f"    {d['rule']}: {size} characters at {d['start']} {change}"
    if len(edits) > 20:
        yield f"    ... and {len(edits) - 20} more"


def _value(decision: dict[str, Any]) -> str:
    if decision["value"] is None or isinstance(decision["value_text"], str):
        return str(decision["value_text"])
    return f"{decision['value']:g}"
