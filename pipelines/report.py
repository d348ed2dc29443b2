"""The report: one HTML page that shows a run, works offline, and needs no script.

Everything in it comes from the manifest, so that it can be written anew at any time and is the
same bytes for the same run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipelines import histogram, page

Manifest = Mapping[str, Any]
TOP_ROWS = 30


def render_report(manifest: Manifest) -> str:
    """The whole page."""
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
    return page.document(title, [_head(manifest), *sections])


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
        f'<div class="card {name}"><b>{page.number(counts.get(name, 0))}</b>{text}'
        f"<small>{page.share(counts.get(name, 0), read) if name != 'read' else ''}</small></div>"
        for name, text in cards
    )
    letters = page.number(counts.get("characters kept", 0))
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
        bar = page.bar(
            [("kept", row.get("out", 0)), ("rejected", row.get("dropped", 0)),
             ("dead", row.get("dead", 0))],
            read,
        )  # fmt: skip
        rows.append(
            [
                f'<b title="{escape(stage["summary"])}">{escape(stage["name"])}</b>',
                bar,
                page.number(row.get("in", 0)),
                page.number(row.get("dropped", 0)),
                page.number(row.get("dead", 0)),
                page.number(row.get("out", 0)),
            ]
        )
    table = page.table(["stage", "", "#in", "#dropped", "#dead", "#out"], rows)
    note = "Green goes on, orange is dropped here, red becomes a dead letter here."
    return page.section("funnel", "Funnel", table, note)


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
                page.number(row.get("removed", 0)),
                page.number(row.get("broken", 0)),
                page.bar([("rejected", row.get("removed", 0))], read),
            ]
        )
    table = page.table(["rule", "stage", "asks for", "action", "#removed", "#broken", ""], rows)
    note = (
        "A document is removed by the first rule it breaks; <i>broken</i> counts all that break "
        "the rule, also those that another rule had removed before."
    )
    return page.section("rules", "Rules", table, note)


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
    return page.section("signals", "Signals", content, note)


def _word_bars(found: Mapping[str, int], kept: Mapping[str, int]) -> str:
    top = sorted(found.items(), key=lambda row: (-row[1], row[0]))[:8]
    most = top[0][1]
    rows = [
        [
            escape(word),
            page.bar([("kept", kept.get(word, 0)), ("all", count - kept.get(word, 0))], most),
            page.number(count),
        ]
        for word, count in top
    ]
    return page.table(["", "", "#"], rows)


def _words(manifest: Manifest, key: str, title: str, column: str) -> str:
    found = manifest["total"][key]
    rows = sorted(found.items(), key=lambda row: (-row[1].get("read", 0), row[0]))
    if not rows:
        return ""
    most = rows[0][1].get("read", 0)
    lines = [
        [
            escape(name or "(none)"),
            page.bar(
                [(end, row.get(end, 0)) for end in ("kept", "rejected", "dead")],
                most,
            ),
            page.number(row.get("read", 0)),
            page.number(row.get("kept", 0)),
            page.share(row.get("kept", 0), row.get("read", 0)),
        ]
        for name, row in rows[:TOP_ROWS]
    ]
    rest = f"and {len(rows) - TOP_ROWS} more" if len(rows) > TOP_ROWS else ""
    return page.section(
        key, title, page.table([column, "", "#read", "#kept", "#share"], lines), rest
    )


def _duplicates(manifest: Manifest) -> str:
    clusters = manifest["total"]["clusters"]
    if not clusters:
        return ""
    rows = [
        [
            page.number(int(size)),
            page.number(count),
            page.bar([("rejected", count)], max(clusters.values())),
        ]
        for size, count in sorted(clusters.items(), key=lambda row: int(row[0]))
    ]
    note = "Documents kept that stand for others as well, by the size of their cluster."
    table = page.table(["#size", "#clusters", ""], rows)
    return page.section("duplicates", "Duplicate clusters", table, note)


def _contamination(manifest: Manifest) -> str:
    found = manifest["total"]["benchmarks"]
    if not found:
        return ""
    rows = [
        [
            escape(name),
            page.number(row.get("documents", 0)),
            escape(", ".join(sorted(k[5:] for k in row if k.startswith("item "))[:10])),
        ]
        for name, row in sorted(found.items())
    ]
    table = page.table(["benchmark", "#documents", "items"], rows)
    return page.section("contamination", "Contaminated benchmarks", table)


def _edits(manifest: Manifest) -> str:
    found = manifest["total"]["edits"]
    if not found:
        return ""
    rows = [
        [f"<code>{escape(name)}</code>", page.number(row["spans"]), page.number(row["characters"])]
        for name, row in sorted(found.items())
    ]
    return page.section("edits", "Edits", page.table(["reason", "#spans", "#characters"], rows))


def _dead(manifest: Manifest) -> str:
    total = manifest["total"]
    if not total["dead"]:
        return ""
    rows = [
        [escape(name) + _examples(total["examples"].get(f"dead: {name}", [])), page.number(count)]
        for name, count in sorted(total["dead"].items(), key=lambda row: (-row[1], row[0]))
    ]
    note = "Records that could not be processed. Each is a row of <code>dead/</code>."
    return page.section(
        "dead", "Dead letters", page.table(["stage: error", "#records"], rows), note
    )


def _inputs(manifest: Manifest) -> str:
    rows = [
        [
            escape(entry["name"]),
            escape(entry["source"]),
            escape(entry["kind"]),
            page.number(entry["size"]),
            page.number(entry["counts"].get("read", 0)),
            page.number(entry["counts"].get("kept", 0)),
            f"<code>{entry['sha256'][:12]}</code>",
        ]
        for entry in manifest["inputs"][:500]
    ]
    head = ["input", "source", "kind", "#bytes", "#read", "#kept", "sha256"]
    more = len(manifest["inputs"]) - 500
    return page.section(
        "inputs", "Inputs", page.table(head, rows), f"and {more} more" if more > 0 else ""
    )


def _origin(manifest: Manifest) -> str:
    rows = [
        ["cidermill", escape(manifest["cidermill"])],
        ["recipe", f"<code>{manifest['recipe']['hash']}</code>"],
        ["code", f"<code>{manifest['code']['sha256']}</code>"],
        *([name, escape(version)] for name, version in manifest["libraries"].items()),
        *([name, escape(str(value))] for name, value in manifest["settings"].items()),
    ]
    return page.section("origin", "How it was made", page.table(["what", "which"], rows))
