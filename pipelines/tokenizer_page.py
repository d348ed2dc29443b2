"""The card of a tokenizer as a page: tables and bars, beside one trained on unfiltered text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipelines import page

Card = Mapping[str, Any]
TOP_ROWS = 40


def render_card(facts: Mapping[str, Any]) -> str:
    """The whole page from ``card.json``."""
    cards: dict[str, Card] = facts["cards"]
    own = cards["curated"]
    return page.document(
        f"Tokenizer of {own['vocabulary']['size']} pieces",
        [
            _head(own, facts),
            _comparison(cards),
            _fertility("languages", "By language", cards),
            _fertility("sources", "By source", cards),
            _odd(cards),
            _lengths(own),
            _scripts(own),
            _training(facts),
        ],
    )


def _head(own: Card, facts: Mapping[str, Any]) -> str:
    usage = own["usage"]
    boxes = "".join(
        f'<div class="card"><b>{value}</b>{text}</div>'
        for value, text in (
            (page.number(own["vocabulary"]["size"]), "pieces"),
            (f"{usage['tokens_per_word']:.3f}", "tokens a word"),
            (f"{usage['bytes_per_token']:.2f}", "bytes a token"),
            (f"{usage['byte_share']:.2%}", "tokens that are single bytes"),
        )
    )
    seen = "" if facts["held_out"] else ", which it was also trained on: the corpus is small"
    return (
        f"<header><h1>Tokenizer</h1><div class='cards'>{boxes}</div>"
        f'<p class="note">Measured on {page.number(usage["bytes"])} bytes of '
        f"{page.number(usage['documents'])} documents of the corpus{seen}.</p></header>"
    )


_COMPARED = (
    ("tokens a word", "usage", "tokens_per_word", ".3f"),
    ("tokens a character", "usage", "tokens_per_character", ".3f"),
    ("tokens a byte", "usage", "tokens_per_byte", ".3f"),
    ("bytes a token", "usage", "bytes_per_token", ".3f"),
    ("tokens that are single bytes", "usage", "byte_share", ".2%"),
    ("pieces not used here", "vocabulary", "not_used", ",d"),
    ("pieces that begin with a space", "vocabulary", "begin_with_a_space", ",d"),
    ("pieces that span words", "vocabulary", "span_words", ",d"),
    ("pieces of one character", "vocabulary", "single_characters", ",d"),
)


def _comparison(cards: Mapping[str, Card]) -> str:
    rows = [
        [text, *(format(card[group][key], style) for card in cards.values())]
        for text, group, key, style in _COMPARED
    ]
    for number, row in enumerate(cards["curated"]["odd"]):
        counts = [page.number(card["odd"][number]["pieces"]) for card in cards.values()]
        rows.append([f"pieces that look like: {escape(row['name'])}", *counts])
    note = (
        "The same held-out text, encoded by a tokenizer trained on the curated corpus and, where "
        "there is one, by one trained as long on what was read, rejected documents included."
    )
    return page.section("compared", "Beside unfiltered text", _table(cards, [""], rows), note)


def _table(cards: Mapping[str, Card], first: Sequence[str], rows: list[list[str]]) -> str:
    return page.table([*first, *(f"#{name}" for name in cards)], rows)


def _fertility(key: str, title: str, cards: Mapping[str, Card]) -> str:
    own = cards["curated"][key]
    if not own:
        return ""
    others = {row["name"]: row for row in cards.get("unfiltered", {}).get(key, [])}
    most = max(row["tokens_per_character"] for row in own) or 1
    rows = []
    for row in own[:TOP_ROWS]:
        other = others.get(row["name"])
        rows.append(
            [
                escape(row["name"]),
                page.bar([("kept", row["tokens_per_character"])], most),
                f"{row['tokens_per_character']:.3f}",
                f"{row['tokens_per_word']:.2f}",
                f"{row['bytes_per_token']:.2f}",
                f"{row['byte_share']:.2%}",
                f"{other['tokens_per_character']:.3f}" if other else "",
                page.number(row["bytes"]),
            ]
        )
    head = [
        key.removesuffix("s"), "", "#tokens a character", "#tokens a word", "#bytes a token",
        "#single bytes", "#unfiltered: tokens a character", "#bytes measured",
    ]  # fmt: skip
    return page.section(key, title, page.table(head, rows))


def _odd(cards: Mapping[str, Card]) -> str:
    parts = []
    for name, card in cards.items():
        rows = [
            [
                f"<b>{escape(row['name'])}</b><br><small>{escape(row['meaning'])}</small>",
                page.number(row["pieces"]),
                page.number(row["uses"]),
                " ".join(f"<code>{escape(repr(e['piece']))}</code>" for e in row["listed"]),
            ]
            for row in card["odd"]
        ]
        table = page.table(["looks like", "#pieces", "#uses", "most used"], rows)
        parts.append(f"<h3>{escape(name)}</h3>{table}")
    return page.section("odd", "Pieces that look wrong", "".join(parts))


def _lengths(own: Card) -> str:
    lengths = own["vocabulary"]["lengths"]
    most = max(lengths.values(), default=1)
    rows = [
        [length, page.bar([("all", count)], most), page.number(count)]
        for length, count in lengths.items()
    ]
    return page.section("lengths", "Characters a piece", page.table(["#", "", "#pieces"], rows))


def _scripts(own: Card) -> str:
    scripts = own["vocabulary"]["scripts"]
    most = max(scripts.values(), default=1)
    rows = [
        [escape(name), page.bar([("all", count)], most), page.number(count)]
        for name, count in scripts.items()
    ]
    return page.section("scripts", "Scripts", page.table(["first letter", "", "#pieces"], rows))


def _training(facts: Mapping[str, Any]) -> str:
    rows = [
        [
            escape(name),
            page.number(sample["documents"]),
            page.number(sample["bytes"]),
            escape(", ".join(f"{s} {page.number(n)}" for s, n in sample["sources"].items())),
        ]
        for name, sample in facts["samples"].items()
    ]
    settings = [[escape(key), escape(str(value))] for key, value in facts["settings"].items()]
    content = page.table(["sample", "#documents", "#bytes", "bytes by source"], rows)
    content += page.table(["setting", ""], settings)
    return page.section("training", "How it was trained", content)
