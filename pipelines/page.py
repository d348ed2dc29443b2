"""Parts of an HTML page that works offline and needs no script: sections, tables, bars."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Sequence
from html import escape


def document(title: str, sections: Sequence[str]) -> str:
    """A whole page; empty sections are left out."""
    style = (importlib.resources.files("pipelines") / "data" / "report.css").read_text("utf-8")
    body = "\n".join(section for section in sections if section)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"{body}</main></body></html>\n"
    )


def number(count: float) -> str:
    return f"{count:,.0f}".replace(",", "\u202f")


def share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""


def section(name: str, title: str, content: str, note: str = "") -> str:
    remark = f'<p class="note">{note}</p>' if note else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{remark}{content}</section>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
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


def bar(parts: Sequence[tuple[str, float]], whole: float) -> str:
    """A horizontal bar of coloured shares of ``whole``."""
    pieces = "".join(
        f'<i class="{name}" style="width:{100 * value / whole:.3f}%"></i>'
        for name, value in parts
        if whole and value
    )
    return f'<span class="bar">{pieces}</span>'
