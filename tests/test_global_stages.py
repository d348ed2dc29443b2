"""Global stages over several inputs: who is a duplicate of whom, what is common usage."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import apache_beam as beam
import numpy as np
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import verdicts, worker
from pipelines.cli import main, parser
from pipelines.command_curate import plan
from pipelines.curate import curate
from pipelines.deduplicate import RemoveExactDuplicates, RemoveNearDuplicates
from pipelines.screen import ScreenInputs
from pipelines.sketch import load_sketches
from pipelines.verdicts import CLUSTER, EXACT, NEAR, VERDICT

RECIPE = """
name: small
stages:
  - read
  - extract
  - duplicates:
      options: {min_shingles: 5}
      rules:
        dedup.exact: {max: 0}
        dedup.jaccard: {max: 0.75}
  - decontamination:
      options: {benchmarks: [INDEX], common_usage: 3}
      rules:
        decontamination.ngrams: {max: 0}
"""

ITEM = "Why does the heron of Wend Valley stand on one leg while the other heron sleeps at noon?"


def words(seed: int, count: int = 60) -> list[str]:
    chance = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnop"))
    return ["".join(row) for row in letters[chance.integers(0, 16, (count, 6))]]


def write(path, texts):
    rows = [json.dumps({"text": t, "url": f"http://{path.stem}.test/{n}"}) for n, t in texts]
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture
def index(tmp_path):
    items = tmp_path / "items.json"
    items.write_text(json.dumps({"benchmark": "herons", "id": "7", "text": ITEM}) + "\n")
    folder = tmp_path / "index"
    assert main(["benchmarks", "build", str(items), "-o", str(folder)]) == 0
    return folder


def run_over(tmp_path, index, files, recipe=RECIPE, **changes):
    """Curate files of numbered texts in one process; gives rows of all tables by URL."""
    for name, texts in files.items():
        write(tmp_path / f"{name}.jsonl", texts)
    path = tmp_path / "small.yaml"
    path.write_text(recipe.replace("INDEX", str(index)))
    output = tmp_path / "out" / "-".join(map(str, changes.values()))
    named = [p for name in files for p in ("--input", str(tmp_path / f"{name}.jsonl"))]
    arguments = parser().parse_args(["curate", "-r", str(path), "-o", str(output), *named])
    run, found = plan(arguments)
    run = dataclasses.replace(run, **changes)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        curate(pipeline, found, run)
    rows = {}
    for table in ("documents", "rejected"):
        for row in ds.dataset(output / table).to_table().to_pylist():
            rows[row["url"]] = row
    return rows


def test_duplicates_across_inputs(tmp_path, index):
    base = words(1)
    near = [*base[:-2], "changed", "end"]
    far = [*base[:20], *words(2, 40)]
    files = {
        "a": [(0, " ".join(base)), (1, " ".join(words(3)))],
        "b": [(0, "  " + "\n".join(base)), (1, " ".join(near)), (2, " ".join(far))],
        "c": [(0, "too short to have a signature"), (1, "too  short to have a signature")],
    }
    rows = run_over(tmp_path, index, files)
    ends = {url: row.get("rejected_rule") for url, row in rows.items()}
    exact = {url for url, rule in ends.items() if rule == "dedup.exact"}
    assert len(exact & {"http://a.test/0", "http://b.test/0"}) == 1
    assert len(exact & {"http://c.test/0", "http://c.test/1"}) == 1
    assert [url for url, rule in ends.items() if rule == "dedup.jaccard"] in (
        ["http://b.test/1"],
        ["http://a.test/0"],
        ["http://b.test/0"],
    )
    assert ends["http://b.test/2"] is None
    assert ends["http://a.test/1"] is None
    kept = [row for url, row in rows.items() if row["signals"]["dedup"]["duplicates"]]
    assert sorted(row["signals"]["dedup"]["duplicates"] for row in kept) == [1, 2] or sorted(
        row["signals"]["dedup"]["duplicates"] for row in kept
    ) == [1, 1, 1]


def test_tagged_duplicates_stay(tmp_path, index):
    recipe = RECIPE.replace("{max: 0}\n        dedup.j", "{max: 0, action: tag}\n        dedup.j")
    text = " ".join(words(1))
    # An exact duplicate has similarity 1, so the rule on similarity still drops it.
    rows = run_over(tmp_path, index, {"a": [(0, text), (1, text)]}, recipe)
    assert sorted(str(row.get("rejected_rule")) for row in rows.values()) == [
        "None",
        "dedup.jaccard",
    ]
    recipe = recipe.replace("{max: 0.75}", "{max: 0.75, action: tag}")
    rows = run_over(tmp_path, index, {"a": [(0, text), (1, text)]}, recipe)
    assert sorted(row["tags"] for row in rows.values()) == [[], ["dedup.exact", "dedup.jaccard"]]


def test_a_tag_does_not_change_what_is_dropped(tmp_path, index):
    base = words(1, 200)
    files = {"a": [(0, " ".join(base)), (1, " ".join([*base[:-3], *words(5, 2)]))]}
    tagged = RECIPE.replace(
        "dedup.jaccard: {max: 0.75}",
        "dedup.jaccard: {max: 0.75}\n        alike: {signal: dedup.jaccard, max: 0.5, action: tag}",
    )
    plain = run_over(tmp_path, index, files)
    marked = run_over(tmp_path, index, files, tagged, seed=1)
    ends = [{u: r.get("rejected_rule") for u, r in rows.items()} for rows in (plain, marked)]
    assert ends[0] == ends[1]
    assert list(ends[0].values()).count("dedup.jaccard") == 1


@pytest.mark.parametrize(("pages", "kept"), [(2, 0), (3, 3)])
def test_common_usage_is_counted_over_distinct_documents(pages, kept, tmp_path, index):
    """The item stands in so many different pages, and in copies of the first that do not count."""
    different = [(n, f"{' '.join(words(n + 10))} {ITEM}") for n in range(pages)]
    copies = [(n + 50, different[0][1]) for n in range(4)]
    rows = run_over(tmp_path, index, {"a": different[:1] + copies, "b": different[1:]})
    ends = [row.get("rejected_rule") for row in rows.values()]
    assert ends.count("dedup.exact") == 4
    assert ends.count(None) == kept
    assert ends.count("decontamination.ngrams") == pages - kept


@pytest.mark.parametrize("partitions", [1, 7, 64])
def test_partitions_change_nothing(partitions, tmp_path, index):
    base = words(1)
    texts = [(n, " ".join([*base[: 60 - n], *words(n + 20, n)])) for n in range(12)]
    files = {"a": texts[:6], "b": [*texts[6:], (20, ITEM)]}
    expected = run_over(tmp_path, index, files, partitions=3)
    assert run_over(tmp_path, index, files, partitions=partitions) == expected


ROWS = st.lists(
    st.tuples(
        st.sampled_from([EXACT, NEAR, CLUSTER]),
        st.integers(0, 99),
        st.binary(min_size=16, max_size=16),
    ),
    max_size=20,
)


@given(ROWS, st.randoms())
def test_merged_verdicts_do_not_depend_on_order(rows, chance):
    table = np.array([(kind, number, other, 1.0) for kind, number, other in rows], dtype=VERDICT)
    blobs = [row.tobytes() for row in table]
    key, merged = verdicts.merge("00", blobs)
    chance.shuffle(blobs)
    assert verdicts.merge("00", blobs) == (key, merged)
    assert len(verdicts.rows(merged)) == len(rows)


# --- components beyond a bound, in the graph ----------------------------------------------------


def removed_near(tmp_path, index, files, partitions, **bounds):
    """Near-duplicates by (input, number), with their verdicts, straight from the composites."""
    for name, texts in files.items():
        write(tmp_path / f"{name}.jsonl", texts)
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE.replace("INDEX", str(index)))
    named = [p for name in files for p in ("--input", str(tmp_path / f"{name}.jsonl"))]
    output = str(tmp_path / "out")
    run, found = plan(parser().parse_args(["curate", "-r", str(path), "-o", output, *named]))
    run = dataclasses.replace(run, partitions=partitions)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create([item.to_json() for item in found]).with_output_types(str)
            | ScreenInputs(run)
            | RemoveExactDuplicates(run)
            | RemoveNearDuplicates(run, **bounds)
            | beam.MapTuple(partial(worker._write_verdicts, run=run))
        )
    rows = {
        (item.name, int(row["number"])): (row["other"].tobytes(), float(row["value"]))
        for item in found
        for row in verdicts.rows(worker._read_verdicts(item.key, run)[1])
        if row["kind"] == NEAR
    }
    sketches = [s for item in found for s in load_sketches(item.key, run)]
    return rows, {identifier.tobytes() for s in sketches for identifier in s.id}


@pytest.mark.parametrize("partitions", [1, 5])
def test_components_beyond_the_bound_are_compared_in_parts(partitions, tmp_path, index):
    base = words(1, 400)
    texts = [(n, " ".join([*base[: n * 9], "changed", *base[n * 9 + 1 :]])) for n in range(30)]
    files = {"a": texts[:20], "b": texts[20:]}
    whole, _ = removed_near(tmp_path, index, files, partitions)
    assert len(whole) == 29
    assert removed_near(tmp_path, index, files, partitions, max_members=30)[0] == whole
    parts, known = removed_near(tmp_path, index, files, partitions, max_members=10)
    # The leaders of three parts are compared once more, so one document is kept here too.
    assert parts.keys() == whole.keys()
    assert 2 < len({other for other, _ in parts.values()}) <= 4
    assert len({other for other, _ in whole.values()}) == 1
    assert all(other in known and value > 0.75 for other, value in parts.values())
    assert parts == removed_near(tmp_path, index, files, 64, max_members=10)[0]
