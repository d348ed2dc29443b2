"""What a person sees: a bar on a terminal, lines in a log, the funnel at the end."""

from __future__ import annotations

import io
import re

import pytest

from pipelines import console
from pipelines.console import Console, print_funnel
from pipelines.inputs import Input
from pipelines.metrics import BEGUN, FINISHED, PASSED
from pipelines.recipe import load
from pipelines.run import Run


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(file):
    inputs = [Input(f"{n:010x}", "web", "warc", "a", ("a",), 1000, 0.0) for n in range(2)]
    view = Console(Run(load("web"), "out", "work"), inputs, file)
    view.start("local runner")
    with view:
        view.hear({"event": "phase", "phase": "split", "inputs": 1})
        sizes = {item.key: item.size for item in inputs}
        view.hear({"event": "phase", "phase": "screen", "inputs": sizes})
        batch = {"event": "batch", "input": inputs[0].key, "records": 100, "kept": 25}
        view.hear({**batch, "offset": 500, "seconds": {"extract": 2.0, "url": 1.0}})
        view.hear({"event": "lost", "how": "was ended by signal SIGKILL", "inputs": ["a"]})
        for _ in range(2):
            view.hear({"event": "counters", "counters": {"read": 5}, "shuffled": {"Bands": 7}})
        view.hear({"event": "sealed", "input": inputs[0].key})
        view.hear({"event": "beat"})
    return view


def test_a_log_gets_plain_lines(monkeypatch):
    monkeypatch.setattr(console, "LOG_SECONDS", 0)
    file = io.StringIO()
    view = shown(file)
    lines = file.getvalue().splitlines()
    assert lines[0] == "recipe web, 2 inputs, 2.0 kB; local runner"
    assert lines[1] == "looking for parts of large files"
    assert lines[2].startswith("reading and measuring: 25%, 100 records, ")
    assert "25% kept" in lines[2]
    assert lines[2].endswith(" s left")
    assert lines[3] == "a worker was ended by signal SIGKILL while working on a"
    assert "50%" in lines[4]
    assert re.fullmatch(r"took split \d+\.\d s, screen \d+\.\d s", lines[5])
    assert "\r" not in file.getvalue()
    assert view.counters == {"read": 10}
    assert view.shuffled == {"Bands": 14}


def test_counters_of_an_engine_are_shown_while_it_runs(monkeypatch):
    monkeypatch.setattr(console, "LOG_SECONDS", 0)
    file = io.StringIO()
    view = Console(Run(load("web"), "out", "work"), [], file)
    view.show({"records read": 50, PASSED: 20, "milliseconds in url": 1, "milliseconds in pii": 3})
    view.show({BEGUN: 3, FINISHED: 2})
    first, second = file.getvalue().splitlines()
    assert first.startswith("50 records measured, ")
    assert first.endswith("20 passed the rules on one document; pii 75%, url 25%")
    assert second == "3 inputs and parts begun, 2 finished"


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    file = Terminal()
    shown(file)
    assert "reading and measuring" in file.getvalue()
    assert "%|" in file.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (10**16, "10000.0 TB")],
)
def test_sizes(count, text):
    assert console._bytes(count) == text


def test_the_funnel_names_the_rules_that_removed_most():
    manifest = {
        "stages": [{"name": "gopher", "summary": ""}],
        "rules": [{"name": f"r{n}", "stage": "gopher"} for n in range(5)],
        "total": {
            "counts": {"read": 20, "kept": 5, "rejected": 14, "dead": 1},
            "stages": {"gopher": {"in": 20, "dropped": 14, "dead": 1, "out": 5}},
            "rules": {f"r{n}": {"removed": n + 1, "broken": 9} for n in range(4)},
        },
    }
    file = io.StringIO()
    print_funnel(manifest, "out", {"a": {"extract": 3.0}, "b": {"pii": 1.0}}, file)
    text = file.getvalue()
    assert "r3 4, r2 3, r1 2, 1 more rules" in text
    assert "read 20 = kept 5 (25.0%) + rejected 14 + dead 1" in text
    assert "time     4.0 s in 2 workers: extract 75%, pii 25%" in text
