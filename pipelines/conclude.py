"""Conclude a run: add up the accounts, hold them to the law, write manifest and report.

The manifest is written last. A folder without one holds an unfinished run; the same command
finishes it.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines import files, timing
from pipelines.account import Account, ConservationError
from pipelines.inputs import Input
from pipelines.parts import stored_parts
from pipelines.report import render_report
from pipelines.run import FORMAT, TABLES, Run, code_hash, library_versions

TIMING = "timing.json"
OUTPUT_NAME = re.compile(r"^[\w.-]+-[0-9a-f]{10}\.parquet$")


def begin(run: Run) -> None:
    """Claim the folders, and take away what would make an unfinished one look finished."""
    run.claim()
    files.remove([manifest_file(run.output), report_file(run.output), timing_file(run.output)])


def manifest_file(output: str) -> str:
    """Where a run's manifest lies."""
    return files.join(output, "manifest.json")


def timing_file(output: str) -> str:
    """Where the times of a run lie: beside its manifest, whose bytes must not depend on a clock."""
    return files.join(output, TIMING)


def report_file(output: str) -> str:
    """Where a run's report lies."""
    return files.join(output, "report.html")


def conclude(
    run: Run, inputs: Sequence[Input], shuffled: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Check the whole, remove what earlier runs left for other inputs, and write the manifest.

    ``inputs`` are whole files, as they were planned; their parts are found in the work directory.
    ``shuffled`` is the bytes that each global step sent to a shuffle, for ``timing.json``.

    Raises:
      ConservationError: an input has no account, or the accounts do not add up.
    """
    run.check_current()
    total = Account()
    entries = []
    seconds: timing.Seconds = {}
    parts = [part for item in inputs for part in stored_parts(item, run)]
    sizes = _table_sizes(run)
    for item in parts:
        marker = files.find_json(run.finished_marker(item.key))
        if marker is None:
            raise ConservationError(f"{item.name} has no account: it was not finished")
        account = Account.from_dict(marker.pop("account"))
        account.check([s.name for s in run.recipe.chain(item.source)], item.name)
        _check_files(marker, account, item, run, sizes)
        total.add(account)
        marker.pop("state")
        timing.add(seconds, marker.pop("seconds"))
        part = {"offset": item.offset, "first": item.first} if item.is_part else {}
        entries.append({**marker, "kind": item.kind, **part, "counts": dict(account.counts)})
    total.check_total("the run")
    total.trim()
    _remove_strangers(run, parts, sizes)
    for folder in (run.output, run.work):
        files.remove_temporary(folder)
    manifest = {
        "format": FORMAT,
        "cidermill": importlib.metadata.version("cidermill"),
        "recipe": {
            "name": run.recipe.name,
            "description": run.recipe.description,
            "hash": run.recipe.hash,
            "canonical": run.recipe.canonical(),
        },
        "code": {"sha256": code_hash("filters", "pipelines")},
        "libraries": library_versions(),
        "settings": {"sample": run.sample, "seed": run.seed},
        "timing": TIMING,
        "resources": dict(run.resources),
        "inputs": sorted(entries, key=lambda e: (e["source"], e["name"], e["key"])),
        "total": total.to_dict(),
        "stages": _stage_order(run),
        "rules": _rule_facts(run),
        "signals": _signal_facts(run),
    }
    files.write_bytes(report_file(run.output), render_report(manifest).encode())
    times = {"seconds": seconds, "shuffled": dict(shuffled or {})}
    files.write_json(timing_file(run.output), times)
    files.write_json(manifest_file(run.output), manifest)
    return manifest


def _table_sizes(run: Run) -> dict[str, int]:
    """Path and bytes of every table in the output folder, ours or not."""
    return {
        path: size
        for table in TABLES
        for path, size, _ in files.listing(files.join(run.output, table, "*.parquet"))
    }


def _check_files(
    marker: dict[str, Any], account: Account, item: Input, run: Run, sizes: dict[str, int]
) -> None:
    """The tables are there as they were written, with as many rows as the account says."""
    expected = {"documents": "kept", "rejected": "rejected", "dead": "dead"}
    for table, facts in marker["files"].items():
        path = run.table(table, item.key, item.source)
        if sizes.get(path) != facts["bytes"]:
            raise ConservationError(
                f"{path} has {sizes.get(path, 'no')} bytes, but {facts['bytes']} were written; run "
                "the same command again"
            )
        if table in expected and facts["rows"] != account.counts[expected[table]]:
            raise ConservationError(
                f"{item.name}: {table} has {facts['rows']} rows, but "
                f"{account.counts[expected[table]]} documents are {expected[table]}"
            )


def _remove_strangers(run: Run, parts: Sequence[Input], found: Iterable[str]) -> None:
    """Remove tables of inputs that belong to an earlier run into this folder, not to this one."""
    wanted = {run.table(table, i.key, i.source) for i in parts for table in TABLES}
    if not run.recipe.keep_rejected:
        wanted -= {run.table("rejected", i.key, i.source) for i in parts}
    files.remove([p for p in found if p not in wanted and OUTPUT_NAME.match(p.rpartition("/")[2])])


def _stage_order(run: Run) -> list[dict[str, str]]:
    seen: dict[str, dict[str, str]] = {}
    for source in run.recipe.sources:
        for stage in run.recipe.chain(source.name):
            seen[stage.name] = {"name": stage.name, "summary": stage.spec.summary}
    return list(seen.values())


def _rule_facts(run: Run) -> list[dict[str, Any]]:
    """The rules in order; one that differs between sources has an entry for each meaning."""
    facts: dict[str, dict[str, Any]] = {}
    for source in run.recipe.sources:
        for stage in run.recipe.chain(source.name):
            for rule in stage.rules:
                entry = {
                    "name": rule.name,
                    "stage": rule.stage,
                    "signal": rule.signal,
                    "action": rule.action,
                    "bound": rule.bound.describe(),
                    "min": rule.bound.min,
                    "max": rule.bound.max,
                    "unless": list(rule.unless),
                }
                known = facts.setdefault(json.dumps(entry), {**entry, "sources": []})
                known["sources"].append(source.name)
    return list(facts.values())


def _signal_facts(run: Run) -> list[dict[str, str]]:
    return [
        {"name": s.name, "kind": s.kind, "unit": s.unit, "meaning": s.meaning, "source": s.source}
        for s in run.all_signals()
    ]
