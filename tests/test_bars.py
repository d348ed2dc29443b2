"""Progress of commands: a bar on a terminal, a line elsewhere, and what workers met."""

from __future__ import annotations

import io
import sys

from pipelines.bars import Bars


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_a_phase_is_a_line(capsys):
    with Bars() as bars:
        bars.begin("packing", {"a": 3, "b": 4}, " tokens")
        bars.hear({"event": "sealed", "input": "a"})
    assert capsys.readouterr().err == "packing: 2 tasks\n"


def test_on_a_terminal_a_bar_counts_what_is_done(monkeypatch):
    # Here and not in a fixture: pytest puts its own in place before the test begins.
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Bars() as bars:
        bars.begin("packing", {"a": 30, "b": 70}, " tokens")
        bars.hear({"event": "sealed", "input": "a"})
        assert bars._bar is not None
        assert (bars._bar.n, bars._bar.total) == (30, 100)
        bars.hear({"event": "sealed", "input": "a"})
        assert bars._bar.n == 30
        bars.hear({"event": "sealed", "input": "b"})
        assert bars._bar.n == 100
    assert bars._bar is None
    assert "packing: 100%" in sys.stderr.getvalue()


def test_a_phase_closes_the_bar_of_the_one_before(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Bars() as bars:
        bars.begin("tokenizing", {"a": 1}, "B")
        first = bars._bar
        bars.begin("packing", {"a": 1}, "B")
        assert bars._bar is not first
        assert first is not None
        assert first.disable


def test_what_workers_met_is_told(capsys):
    with Bars() as bars:
        bars.hear({"event": "lost", "how": "exited 3", "inputs": ["a", "b", "c", "d"]})
        bars.hear({"event": "failed", "error": "OSError", "message": "disk"})
        bars.hear({"event": "beat"})
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "a worker exited 3 while working on a, b, c",
        "a task failed: OSError: disk",
    ]
