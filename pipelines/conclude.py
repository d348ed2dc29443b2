"""Conclude a run: add up the accounts, hold them to the law, write manifest and report.

The manifest is written last. A folder without one holds an unfinished run; the same command
finishes it.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Sequence
from typing import Any

from pipelines import files
from pipelines.account import Account, ConservationError
from pipelines.inputs import Input
from pipelines.report import render_report
from pipelines.run import FORMAT, TABLES, Run, code_hash, library_versions

OUTPUT_NAME = re.compile(r"^[\w.-]+-[0-9a-f]{10}\.parquet$")


def begin(run: Run) -> None:
    """Take away what would make an unfinished folder look finished."""
    files.remove([manifest_file(run.output), report_file(run.output)])


def manifest_file(output: str) -> str:
    """Where a run's manifest lies."""
    return files.join(output, "manifest.json")


def report_file(output: str) -> str:
    """Where a run's report lies."""
    return files.join(output, "report.html")


def conclude(run: Run, inputs: Sequence[Input]) -> dict[str, Any]:
    """Check the whole, remove what earlier runs left for other inputs, and write the manifest.

    Raises:
      ConservationError: an input has no account, or the accounts do not add up.
    """
    total = Account()
    entries = []
    for item in inputs:
        path = run.finished_marker(item.key)
        if not files.exists(path):
            raise ConservationError(f"{item.name} has no account: it was not finished")
        marker = files.read_json(path)
        account = Account.from_dict(marker.pop("account"))
        account.check([s.name for s in run.recipe.chain(item.source)], item.name)
        _check_rows(marker, account, item.name)
        total.add(account)
        marker.pop("state")
        entries.append({**marker, "kind": item.kind, "counts": dict(account.counts)})
    total.check_total("the run")
    total.trim()
    _remove_strangers(run, inputs)
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
        "resources": dict(run.resources),
        "inputs": sorted(entries, key=lambda e: (e["source"], e["name"], e["key"])),
        "total": total.to_dict(),
        "stages": _stage_order(run),
        "rules": _rule_facts(run),
        "signals": _signal_facts(run),
    }
    files.write_bytes(report_file(run.output), render_report(manifest).encode())
    files.write_json(manifest_file(run.output), manifest)
    return manifest


def _check_rows(marker: dict[str, Any], account: Account, where: str) -> None:
    """The tables have as many rows as the account says."""
    expected = {"documents": "kept", "rejected": "rejected", "dead": "dead"}
    for table, end in expected.items():
        if table in marker["files"] and marker["files"][table]["rows"] != account.counts[end]:
            raise ConservationError(
                f"{where}: {table} has {marker['files'][table]['rows']} rows, but "
                f"{account.counts[end]} documents are {end}"
            )


def _remove_strangers(run: Run, inputs: Sequence[Input]) -> None:
    """Remove tables of inputs that belong to an earlier run into this folder, not to this one."""
    wanted = {run.table(table, i.key, i.source) for i in inputs for table in TABLES}
    if not run.recipe.keep_rejected:
        wanted -= {run.table("rejected", i.key, i.source) for i in inputs}
    for table in TABLES:
        found = files.listing(files.join(run.output, table, "*.parquet"))
        strangers = [
            path
            for path, _, _ in found
            if path not in wanted and OUTPUT_NAME.match(path.rpartition("/")[2])
        ]
        files.remove(strangers)


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
