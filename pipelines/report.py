"""The report: one HTML page that shows a run, works offline, and needs no script.

Everything in it comes from the manifest, so that it can be written anew at any time and is the
same bytes for the same run.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pipelines import histogram

Manifest = Mapping[str, Any]
TOP_ROWS = 30


def render_report(manifest: Manifest) -> str:
    """The whole page."""
    style = (importlib.resources.files("pipelines") / "data" / "report.css").read_text("utf-8")
    title = f"Cidermill: {manifest['recipe']['name']}"
    sections = [
        _funnel(manifest),
        _rules(manifest),
        _signals(manifest),
        _words(manifest, "languages", "Languages", "language"),
        _words(manifest, "domains", "Domains", "domain"),
        _words(manifest, "sources", "Sources", "source"),
        _duplicates(manifest),
        _contamination(manifest),
        _edits(manifest),
        _dead(manifest),
        _inputs(manifest),
        _origin(manifest),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"{_head(manifest)}\n{body}</main></body></html>\n"
    )


def _number(count: float) -> str:
    return f"{count:,.0f}".replace(",", "\u202f")


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _section(name: str, title: str, content: str, note: str = "") -> str:
    remark = f'<p class="note">{note}</p>' if note else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{remark}{content}</section>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are HTML already. Columns whose head begins with ``#`` are numbers."""
    classes = [' class="n"' if name.startswith("#") else "" for name in head]
    names = [name.removeprefix("#") for name in head]
    top = "".join(f"<th{c}>{escape(n)}</th>" for c, n in zip(classes, names, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(f"<td{c}>{cell}</td>" for c, cell in zip(classes, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{top}</tr>{lines}</table></div>'


def _bar(parts: Sequence[tuple[str, float]], whole: float) -> str:
    """A horizontal bar of coloured shares of ``whole``."""
    pieces = "".join(
        f'<i class="{name}" style="width:{100 * value / whole:.3f}%"></i>'
        for name, value in parts
        if whole and value
    )
    return f'<span class="bar">{pieces}</span>'


def _head(manifest: Manifest) -> str:
    counts = manifest["total"]["counts"]
    read = counts.get("read", 0)
    cards = [
        ("read", "records read"),
        ("kept", "documents kept"),
        ("rejected", "rejected by a rule"),
        ("dead", "dead letters"),
    ]
    boxes = "".join(
        f'<div class="card {name}"><b>{_number(counts.get(name, 0))}</b>{text}'
        f"<small>{_share(counts.get(name, 0), read) if name != 'read' else ''}</small></div>"
        for name, text in cards
    )
    letters = _number(counts.get("characters kept", 0))
    return (
        f"<header><h1>{escape(manifest['recipe']['name'])}</h1>"
        f"<p>{escape(manifest['recipe']['description'])}</p>"
        f'<div class="cards">{boxes}</div>'
        f'<p class="note">read = kept + rejected + dead holds for every input and stage. '
        f"Text kept: {letters} characters.</p></header>"
    )


def _funnel(manifest: Manifest) -> str:
    total = manifest["total"]
    read = total["counts"].get("read", 0)
    rows = []
    for stage in manifest["stages"]:
        row = total["stages"].get(stage["name"], {})
        bar = _bar(
            [("kept", row.get("out", 0)), ("rejected", row.get("dropped", 0)),
             ("dead", row.get("dead", 0))],
            read,
        )  # fmt: skip
        rows.append(
            [
                f'<b title="{escape(stage["summary"])}">{escape(stage["name"])}</b>',
                bar,
                _number(row.get("in", 0)),
                _number(row.get("dropped", 0)),
                _number(row.get("dead", 0)),
                _number(row.get("out", 0)),
            ]
        )
    table = _table(["stage", "", "#in", "#dropped", "#dead", "#out"], rows)
    note = "Green goes on, orange is dropped here, red becomes a dead letter here."
    return _section("funnel", "Funnel", table, note)


def _rules(manifest: Manifest) -> str:
    total = manifest["total"]
    read = total["counts"].get("read", 0)
    rows = []
    for rule in manifest["rules"]:
        name = rule["name"]
        row = total["rules"].get(name, {})
        rows.append(
            [
                f"<code>{escape(name)}</code>{_examples(total['examples'].get(name, []))}",
                escape(rule["stage"]) + _of_sources(manifest, rule),
                escape(rule["bound"])
                + (
                    f" <small>unless {escape(', '.join(rule['unless']))}</small>"
                    if rule["unless"]
                    else ""
                ),
                escape(rule["action"]),
                _number(row.get("removed", 0)),
                _number(row.get("broken", 0)),
                _bar([("rejected", row.get("removed", 0))], read),
            ]
        )
    table = _table(["rule", "stage", "asks for", "action", "#removed", "#broken", ""], rows)
    note = (
        "A document is removed by the first rule it breaks; <i>broken</i> counts all that break "
        "the rule, also those that another rule had removed before."
    )
    return _section("rules", "Rules", table, note)


def _of_sources(manifest: Manifest, rule: Mapping[str, Any]) -> str:
    """The sources a rule is for, where not for all of the run."""
    if len(rule["sources"]) == len({entry["source"] for entry in manifest["inputs"]}):
        return ""
    return f" <small>{escape(', '.join(rule['sources']))}</small>"


def _examples(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    items = "".join(
        f"<li>{escape(url or identifier)} <b>{escape(value)}</b>"
        f"{' <small>' + escape(evidence) + '</small>' if evidence else ''}</li>"
        for identifier, url, value, evidence in rows
    )
    return f"<details><summary>{len(rows)} examples</summary><ul>{items}</ul></details>"


def _signals(manifest: Manifest) -> str:
    total = manifest["total"]
    bounds: dict[str, list[float]] = {}
    for rule in manifest["rules"]:
        ends = [rule[end] for end in ("min", "max") if rule[end] is not None]
        bounds.setdefault(rule["signal"], []).extend(ends)
    ruled: list[str] = []
    others: list[str] = []
    for facts in manifest["signals"]:
        name = facts["name"]
        if name not in total["signals"]:
            continue
        found = total["signals"][name]
        kept = total["kept_signals"].get(name, {})
        if facts["kind"] == "str":
            picture = _word_bars(found, kept)
        else:
            picture = histogram.svg(found, kept, sorted(set(bounds.get(name, []))), name)
        figure = (
            f"<figure><figcaption><code>{escape(name)}</code> <small>{escape(facts['unit'])}"
            f"</small><br><small>{escape(facts['meaning'])}</small></figcaption>{picture}</figure>"
        )
        (ruled if name in bounds else others).append(figure)
    content = f'<div class="grid">{"".join(ruled)}</div>'
    if others:
        content += (
            f"<details><summary>{len(others)} signals without a rule</summary>"
            f'<div class="grid">{"".join(others)}</div></details>'
        )
    note = (
        "All documents in grey, kept ones in green, bounds in red. Heights are square roots of "
        "counts, so that rare values can be seen."
    )
    return _section("signals", "Signals", content, note)


def _word_bars(found: Mapping[str, int], kept: Mapping[str, int]) -> str:
    top = sorted(found.items(), key=lambda row: (-row[1], row[0]))[:8]
    most = top[0][1]
    rows = [
        [
            escape(word),
            _bar([("kept", kept.get(word, 0)), ("all", count - kept.get(word, 0))], most),
            _number(count),
        ]
        for word, count in top
    ]
    return _table(["", "", "#"], rows)


def _words(manifest: Manifest, key: str, title: str, column: str) -> str:
    found = manifest["total"][key]
    rows = sorted(found.items(), key=lambda row: (-row[1].get("read", 0), row[0]))
    if not rows:
        return ""
    most = rows[0][1].get("read", 0)
    lines = [
        [
            escape(name or "(none)"),
            _bar(
                [(end, row.get(end, 0)) for end in ("kept", "rejected", "dead")],
                most,
            ),
            _number(row.get("read", 0)),
            _number(row.get("kept", 0)),
            _share(row.get("kept", 0), row.get("read", 0)),
        ]
        for name, row in rows[:TOP_ROWS]
    ]
    rest = f"and {len(rows) - TOP_ROWS} more" if len(rows) > TOP_ROWS else ""
    return _section(key, title, _table([column, "", "#read", "#kept", "#share"], lines), rest)


def _duplicates(manifest: Manifest) -> str:
    clusters = manifest["total"]["clusters"]
    if not clusters:
        return ""
    rows = [
        [_number(int(size)), _number(count), _bar([("rejected", count)], max(clusters.values()))]
        for size, count in sorted(clusters.items(), key=lambda row: int(row[0]))
    ]
    note = "Documents kept that stand for others as well, by the size of their cluster."
    table = _table(["#size", "#clusters", ""], rows)
    return _section("duplicates", "Duplicate clusters", table, note)


def _contamination(manifest: Manifest) -> str:
    found = manifest["total"]["benchmarks"]
    if not found:
        return ""
    rows = [
        [
            escape(name),
            _number(row.get("documents", 0)),
            escape(", ".join(sorted(k[5:] for k in row if k.startswith("item "))[:10])),
        ]
        for name, row in sorted(found.items())
    ]
    table = _table(["benchmark", "#documents", "items"], rows)
    return _section("contamination", "Contaminated benchmarks", table)


def _edits(manifest: Manifest) -> str:
    found = manifest["total"]["edits"]
    if not found:
        return ""
    rows = [
        [f"<code>{escape(name)}</code>", _number(row["spans"]), _number(row["characters"])]
        for name, row in sorted(found.items())
    ]
    return _section("edits", "Edits", _table(["reason", "#spans", "#characters"], rows))


def _dead(manifest: Manifest) -> str:
    total = manifest["total"]
    if not total["dead"]:
        return ""
    rows = [
        [escape(name) + _examples(total["examples"].get(f"dead: {name}", [])), _number(count)]
        for name, count in sorted(total["dead"].items(), key=lambda row: (-row[1], row[0]))
    ]
    note = "Records that could not be processed. Each is a row of <code>dead/</code>."
    return _section("dead", "Dead letters", _table(["stage: error", "#records"], rows), note)


def _inputs(manifest: Manifest) -> str:
    rows = [
        [
            escape(entry["name"]),
            escape(entry["source"]),
            escape(entry["kind"]),
            _number(entry["size"]),
            _number(entry["counts"].get("read", 0)),
            _number(entry["counts"].get("kept", 0)),
            f"<code>{entry['sha256'][:12]}</code>",
        ]
        for entry in manifest["inputs"][:500]
    ]
    head = ["input", "source", "kind", "#bytes", "#read", "#kept", "sha256"]
    more = len(manifest["inputs"]) - 500
    return _section("inputs", "Inputs", _table(head, rows), f"and {more} more" if more > 0 else "")


def _origin(manifest: Manifest) -> str:
    rows = [
        ["cidermill", escape(manifest["cidermill"])],
        ["recipe", f"<code>{manifest['recipe']['hash']}</code>"],
        ["code", f"<code>{manifest['code']['sha256']}</code>"],
        *([name, escape(version)] for name, version in manifest["libraries"].items()),
        *([name, escape(str(value))] for name, value in manifest["settings"].items()),
    ]
    return _section("origin", "How it was made", _table(["what", "which"], rows))
