"""The samples: the same bytes again, and a run that does to each record what the table says."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from filters.document import DeadLetter
from pipelines.sources.records import read_records

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
ARCHIVES = ("crawl.warc.gz", "forum.warc.gz")


def expectations():
    with open(SAMPLES / "expected.tsv", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


@pytest.fixture(scope="module")
def ends(samples_run):
    """What happened, by URL: (end, rule or error, tags, edits)."""
    found: dict[str, list[tuple[str, str, set[str], set[str]]]] = {}
    edits: dict[str, set[str]] = {}
    for row in ds.dataset(samples_run / "decisions").to_table().to_pylist():
        if row["action"] == "edit":
            edits.setdefault(row["id"], set()).add(row["rule"])
    for row in ds.dataset(samples_run / "documents").to_table().to_pylist():
        end = ("keep", "", set(row["tags"]), edits.get(row["id"], set()))
        found.setdefault(row["url"], []).append(end)
    for row in ds.dataset(samples_run / "rejected").to_table().to_pylist():
        found.setdefault(row["url"], []).append(("drop", row["rejected_rule"], set(), set()))
    for row in ds.dataset(samples_run / "dead").to_table().to_pylist():
        found.setdefault(row["url"], []).append(("dead", row["error"], set(), set()))
    return found


def test_the_script_writes_the_committed_bytes(tmp_path):
    script = [sys.executable, str(SAMPLES / "make_samples.py"), str(tmp_path)]
    subprocess.run(script, check=True, capture_output=True)
    for name in (*ARCHIVES, "expected.tsv"):
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), name


def test_every_record_is_in_the_table_once(samples_run):
    rows = expectations()
    assert len(rows) >= 80
    assert len({row["record"] for row in rows}) == len(rows)
    total = sum(
        ds.dataset(samples_run / name).count_rows() for name in ("documents", "rejected", "dead")
    )
    assert total == len(rows)


def test_the_reader_gives_the_records_of_the_table_in_order():
    urls, errors = [], []
    for name in ARCHIVES:
        with open(SAMPLES / name, "rb") as stream:
            for item in read_records("warc", stream, name=name, source="samples", identify=str):
                dead = isinstance(item, DeadLetter)
                urls.append(item.url)
                errors += [item.error] if dead else []
    assert urls == [row["url"] for row in expectations()]
    assert errors == ["ExpansionTooLarge", "TruncatedMember"]


@pytest.mark.parametrize("row", expectations(), ids=lambda row: row["record"])
def test_what_must_happen_happens(row, ends):
    found = ends[row["url"]]
    if not row["url"]:
        # Records whose header could not be read have no URL.
        assert (row["expected"], row["rule"]) in {(end, rule) for end, rule, _, _ in found}
        return
    assert len(found) == 1
    end, rule, tags, edits = found[0]
    match row["expected"]:
        case "pair":
            return
        case "keep":
            assert (end, rule) == ("keep", "")
        case "tag":
            assert end == "keep"
            assert row["rule"] in tags
        case "edit":
            assert end == "keep"
            assert row["rule"] in edits
        case other:
            assert end == other
            assert rule == row["rule"]


def test_of_a_pair_exactly_one_is_kept(ends):
    rows = {row["record"]: row for row in expectations()}
    pairs = {tuple(sorted((n, r["note"]))) for n, r in rows.items() if r["expected"] == "pair"}
    assert len(pairs) == 4
    for pair in pairs:
        both = [ends[rows[name]["url"]][0][:2] for name in pair]
        assert sorted(both) == [("drop", "dedup.exact"), ("keep", "")]


def test_every_rule_of_the_table_is_in_the_recipe():
    from pipelines.recipe import load

    known = {rule.name for stage in load("web").stages for rule in stage.rules}
    for row in expectations():
        if row["expected"] in ("drop", "tag", "pair"):
            assert row["rule"] in known, row["record"]


def test_every_stage_with_rules_has_a_record_that_it_drops():
    from pipelines.recipe import load

    shown = {row["rule"] for row in expectations() if row["expected"] in ("drop", "pair")}
    for stage in load("web").stages:
        rules = {rule.name for rule in stage.rules}
        assert not rules or rules & shown, stage.name


def test_kept_pages_have_the_text_that_was_written(samples_run, make_samples):
    """Kept is not enough: a wrong charset or a body half decoded may be kept as well."""
    kept = {
        row["url"]: row["text"]
        for row in ds.dataset(samples_run / "documents").to_table().to_pylist()
    }
    texts = make_samples.texts
    written = {f"article-{name}": section for name, section in texts("english").items()}
    for source in (texts("languages"), texts("more")):
        written |= {f"lang-{name}": section for name, section in source.items()}
    rows = [row for row in expectations() if row["record"] in written and row["expected"] == "keep"]
    assert len(rows) == 24
    for row in rows:
        lines = kept[row["url"]].splitlines()
        for paragraph in written[row["record"]][1:]:
            assert paragraph in lines, row["record"]


@pytest.fixture(scope="module")
def make_samples():
    """The script as a module."""
    sys.path.insert(0, str(SAMPLES))
    try:
        import make_samples
    finally:
        sys.path.remove(str(SAMPLES))
    return make_samples


def test_near_duplicates_share_most_of_their_shingles(make_samples):
    texts, near = make_samples.texts, make_samples.near
    for name in make_samples.NEAR:
        first, second = (shingles(section) for section in (texts("english")[name], near(name)))
        assert first != second
        assert len(first & second) / len(first | second) >= 0.85, name


def shingles(section):
    words = " ".join(section).split()
    return {tuple(words[n : n + 5]) for n in range(len(words) - 4)}


def test_code_that_is_kept_is_kept_whole(samples_run):
    """C4 removes short lines of prose; brackets and calls of one word are short lines of code."""
    rows = ds.dataset(samples_run / "documents").to_table(columns=["url", "text"]).to_pylist()
    text = next(row["text"] for row in rows if row["url"] == "http://docs.example.org/loader")
    for line in ("table.close()", "return -1;", "}", "table_close(t);"):
        assert line in [part.strip() for part in text.splitlines()], line
