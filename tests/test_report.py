"""The report: complete, self-contained, and the same for the same run."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from pipelines.histogram import BINS, Axis, numbers, svg
from pipelines.report import render_report

VOID = {"meta", "br", "line", "img"}


class Checker(HTMLParser):
    """Collects tags, checks that they nest, and that nothing points outside."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert "src" not in given
        assert "href" not in given
        if "id" in given:
            self.ids.add(given["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def manifest(samples_run):
    return json.loads((samples_run / "manifest.json").read_text())


def test_the_report_is_well_formed_complete_and_reproducible(samples_run, manifest):
    html = (samples_run / "report.html").read_text()
    assert html == render_report(manifest)
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert {
        "funnel", "rules", "signals", "languages", "domains", "duplicates", "contamination",
        "edits", "dead", "inputs", "origin",
    } <= checker.ids  # fmt: skip
    text = " ".join(checker.text)
    for rule in manifest["rules"]:
        assert rule["name"] in text
    assert "orchard-qa" in text
    assert "<script" not in html
    assert "url(" not in html


def test_text_from_pages_is_escaped(manifest):
    changed = json.loads(json.dumps(manifest))
    row = ["00", "http://a.test/<script>alert(1)</script>", "<b>", "<i>"]
    changed["total"]["examples"]["gopher.word_count"] = [row]
    changed["total"]["domains"] = {"<img src=x>": {"read": 1, "kept": 1}}
    html = render_report(changed)
    assert "<script" not in html
    assert "<img" not in html


def test_axis_is_linear_or_logarithmic():
    assert Axis.over([0, 1]) == Axis(0, 1, False)
    assert Axis.over([1, 5000]).log
    assert not Axis.over([1, 900]).log
    assert Axis.over([3]).place(3) == 0.5
    axis = Axis.over([1, 100, 10_000])
    assert axis.place(100) == pytest.approx(0.5)
    assert axis.place(0) == 0
    assert axis.place(10**9) == 1


def test_histogram_draws_counts_and_bounds():
    picture = svg({"0": 5, "1": 3, "nan": 1}, {"0": 5}, [0.5], "words")
    assert picture.count("<rect") == 3
    assert picture.count('class="bound"') == 2
    assert ">0.5</text>" in picture
    assert svg({}, {}, [1], "none") == ""
    assert numbers({"1": 2, "en": 3, "inf": 1}) == {1.0: 2}
    assert BINS > 10
