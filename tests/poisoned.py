"""Pages that take down their workers, and a recipe with short caps: for tests of every engine."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pyarrow.dataset as ds
from conftest import ROOT

KINDS = ("crash", "hang", "memory")
ENDS = {"crash": "SIGSEGV", "hang": "SIGALRM", "memory": "SIGKILL"}
PAGES = 12
WORDS = "The keeper of the orchard wrote down what every tree had given in the year that ended. "


def record(url: str, body: str) -> bytes:
    """A gzip member with a WARC response."""
    page = f"<html><body><article><p>{body}</p></article></body></html>".encode()
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\n"
        "WARC-Date: 2026-01-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(http)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + http + b"\r\n\r\n", mtime=0)


def archive(path: Path, kinds=KINDS) -> str:
    """A WARC with harmless pages around one poisoned page of each kind."""
    urls = [f"http://orchard.example.org/page-{number}" for number in range(PAGES)]
    for place, kind in enumerate(kinds):
        urls.insert(3 * place + 2, f"http://orchard.example.org/poison-{kind}")
    pages = [record(url, f"{url} " + WORDS * (4 + n)) for n, url in enumerate(urls)]
    path.write_bytes(b"".join(pages))
    return str(path)


def recipe(path: Path, more: str = "") -> str:
    """A small recipe whose caps are short enough for a test."""
    path.write_text(
        "name: poisoned\ndescription: short caps\n"
        f"caps: {{seconds: 2, hang_seconds: 3{more}}}\n"
        "stages: [read, url, extract, language, pii]\n"
    )
    return str(path)


def environment(stage: str) -> dict[str, str]:
    """The environment of a run whose poisoned pages strike in this stage."""
    paths = [str(ROOT / "tests" / "poison"), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "POISON_STAGE": stage}


def ends(output: Path) -> dict[str, tuple[str, str, str]]:
    """Stage, error and message of each dead letter, by the last part of its URL."""
    rows = ds.dataset(output / "dead").to_table().to_pylist()
    return {
        row["url"].rpartition("/")[2]: (row["stage"], row["error"], row["message"]) for row in rows
    }


def expected(stage: str, kinds=KINDS) -> dict[str, tuple[str, str, str]]:
    """What ``ends`` must give."""
    return {
        f"poison-{kind}": (stage, "WorkerEnded", f"ended its worker by {ENDS[kind]}")
        for kind in kinds
    }
