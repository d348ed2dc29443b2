"""A corpus as later steps see it: units cover every row once; what is not whole is refused."""

from __future__ import annotations

import json
import shutil

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import corpus
from pipelines.corpus import Corpus, Table, Unit
from pipelines.inputs_error import InputError
from pipelines.units import ReadUnits


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4000))
def test_units_cover_every_row_once_in_order(tmp_path, rows, group, unit_bytes):
    path = tmp_path / "t.parquet"
    texts = [f"{n} " * (n % 13) for n in range(rows)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=group)
    table = Table("documents", "t", "t", str(path), 0, "")
    units = list(corpus.cut(table, unit_bytes))
    found = [text for unit in units for text in corpus.read(unit, ["text"])["text"].to_pylist()]
    assert found == texts
    assert len({unit.key for unit in units}) == len(units)
    assert all(unit.size <= unit_bytes or unit.end - unit.first == 1 for unit in units)


def test_a_unit_comes_back_from_json(samples_run):
    table = Corpus.open(str(samples_run)).documents[0]
    for unit in corpus.cut(table):
        assert Unit.from_json(unit.to_json()) == unit


def test_a_finished_run_is_a_corpus(samples_run):
    found = Corpus.open(str(samples_run))
    rows = [pq.read_metadata(table.path).num_rows for table in found.documents]
    manifest = json.loads((samples_run / "manifest.json").read_text())
    assert sum(rows) == manifest["total"]["counts"]["kept"]
    assert found.sources == ("input",)
    assert len(found.rejected) == 2
    assert found.digest == Corpus.open(str(samples_run)).digest


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no finished run; give the folder"):
        Corpus.open(str(tmp_path / "none"))
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match="holds no finished run"):
        Corpus.open(str(tmp_path))


def test_a_table_that_was_changed_or_lost_is_refused(samples_run, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(samples_run, output, ignore=shutil.ignore_patterns("work"))
    path = sorted((output / "documents").glob("*.parquet"))[0]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"bytes, but its manifest says \d+; run the same"):
        Corpus.open(str(output))
    path.unlink()
    with pytest.raises(InputError, match="has no bytes, but its manifest says"):
        Corpus.open(str(output))


def test_a_corpus_that_kept_nothing_says_so(samples_run, tmp_path):
    manifest = json.loads((samples_run / "manifest.json").read_text())
    for entry in manifest["inputs"]:
        entry["files"]["documents"]["rows"] = 0
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="has no document; nothing was kept"):
        Corpus.open(str(tmp_path))


def test_a_damaged_table_is_one_clear_error(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot read .*t.parquet"):
        list(corpus.cut(Table("documents", "t", "t", str(path), 0, "")))


def test_the_graph_does_not_grow_with_the_tables(tmp_path):
    def size(count: int) -> int:
        tables = [
            Table("documents", f"t-{n}", "web", f"/c/t-{n}.parquet", n, "0") for n in range(count)
        ]
        pipeline = beam.Pipeline(runner="FnApiRunner")
        _ = pipeline | ReadUnits(tables, str(tmp_path))
        return len(pipeline.to_runner_api().SerializeToString())

    assert size(900) <= size(3) + 100
    # Two lists more, and nothing else: their names.
    assert size(4000) <= size(2000) + 1000


def test_the_graph_cuts_tables_as_the_submitter_does(samples_run, tmp_path):
    tables = Corpus.open(str(samples_run)).documents
    expected = [unit.to_json() for table in tables for unit in corpus.cut(table)]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        found = pipeline | ReadUnits(tables, str(tmp_path))
        assert_that(found, equal_to(expected))
