"""The samples: the same bytes again, and a run that does to each record what the table says."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest

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


@pytest.mark.parametrize("row", expectations(), ids=lambda row: row["record"])
def test_what_must_happen_happens(row, ends):
    found = ends[row["url"]]
    if not row["url"]:
        # Records that could not be read have no URL; they are told apart by their error.
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


def test_near_duplicates_share_most_of_their_shingles():
    sys.path.insert(0, str(SAMPLES))
    try:
        from make_samples import NEAR, near, texts
    finally:
        sys.path.remove(str(SAMPLES))
    for name in NEAR:
        first, second = (shingles(section) for section in (texts("english")[name], near(name)))
        assert first != second
        assert len(first & second) / len(first | second) >= 0.85, name


def shingles(section):
    words = " ".join(section).split()
    return {tuple(words[n : n + 5]) for n in range(len(words) - 4)}
