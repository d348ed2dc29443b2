"""Samples: exact by a plain count, whoever reads what; a larger one holds the smaller."""

from __future__ import annotations

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.hashing import hash64
from pipelines import corpus, sample
from pipelines.corpus import Table
from pipelines.sample import WEIGHED, Draw, Sampling, smallest

WORDS = ("ab", "çde", "東京", "x" * 40, "", "ünï")


def write_table(folder, name: str, source: str, count: int, rows: int = 7) -> Table:
    """A table of documents in row groups of a few rows."""
    texts = [WORDS[n % len(WORDS)] * (n % 5 + 1) for n in range(count)]
    table = pa.table(
        {
            "id": [f"{name}-{n}" for n in range(count)],
            "source": [source] * count,
            "language": ["en" if n % 2 else None for n in range(count)],
            "text": texts,
        }
    )
    path = folder / f"{name}.parquet"
    pq.write_table(table, path, row_group_size=rows)
    return Table("documents", name, source, str(path), path.stat().st_size, "0" * 64)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> list[Table]:
    folder = tmp_path_factory.mktemp("documents")
    return [
        write_table(folder, "web-1", "web", 60),
        write_table(folder, "web-2", "web", 25),
        write_table(folder, "code-1", "code", 30),
    ]


def draw(tables, folder, draws, seed=0, unit_bytes=1) -> list[str]:
    sampling = Sampling(tuple(draws), seed, str(folder))
    units = [unit.to_json() for table in tables for unit in corpus.cut(table, unit_bytes)]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = pipeline | beam.Create(units).with_output_types(str) | sample.SampleTexts(sampling)
    return sorted(str(path) for path in folder.glob("*.parquet"))


def by_hand(tables, sources, budget, seed=0) -> list[str]:
    """The sample by its definition: smallest priorities first, the last text cut."""
    rows = [
        row for table in tables if table.source in sources
        for row in pq.read_table(table.path).to_pylist() if row["text"]
    ]  # fmt: skip
    rows.sort(key=lambda row: hash64(f"{seed}:{row['id']}"))
    found = []
    left = budget
    for row in rows:
        if left <= 0:
            break
        found.append(row["text"].encode()[:left].decode(errors="ignore"))
        left -= len(row["text"].encode())
    return found


def everything(*sources) -> Draw:
    return Draw("d", 10**9, ("documents",), sources)


@pytest.mark.parametrize("budget", [1, 7, 100, 500, 10**6])
@pytest.mark.parametrize("unit_bytes", [1, 10**9])
def test_a_draw_is_what_its_definition_says(tables, tmp_path, budget, unit_bytes):
    draws = [
        Draw("web", budget, ("documents",), ("web",)),
        Draw("all", budget, ("documents",), ("code", "web")),
    ]
    paths = draw(tables, tmp_path, draws, unit_bytes=unit_bytes)
    for one in draws:
        found = sample.read_draw(paths, one.name)
        assert found["text"].to_pylist() == by_hand(tables, one.sources, budget)
        size = sum(len(text.encode()) for text in found["text"].to_pylist())
        assert size <= budget
        whole = sum(len(text.encode()) for text in by_hand(tables, one.sources, 10**9))
        assert size > min(budget, whole) - 4


def test_a_larger_draw_holds_the_smaller(tables, tmp_path):
    paths = draw(tables, tmp_path, [Draw("s", 200, ("documents",), ("web",)),
                                    Draw("l", 400, ("documents",), ("web",))])  # fmt: skip
    small, large = (sample.read_draw(paths, n)["text"].to_pylist() for n in "sl")
    assert small[:-1] == large[: len(small) - 1]
    assert len(large) > len(small)


def test_another_seed_is_another_sample(tables, tmp_path):
    texts = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        paths = draw(tables, tmp_path / str(seed), [Draw("d", 300, ("documents",), ("web",))], seed)
        texts.append(sample.read_draw(paths, "d")["text"].to_pylist())
    assert texts[0] != texts[1]


def test_documents_without_text_are_never_drawn_and_languages_may_be_unknown(tables, tmp_path):
    found = sample.read_draw(draw(tables, tmp_path, [everything("web", "code")]), "d")
    assert "" not in found["text"].to_pylist()
    assert set(found["language"].to_pylist()) == {"en", ""}
    assert found["priority"].to_pylist() == sorted(found["priority"].to_pylist())


def test_folders_and_sources_are_kept_apart(tables, tmp_path):
    rejected = Draw("r", 10**9, ("rejected",), ("web",))
    assert draw(tables, tmp_path, [rejected]) == []
    paths = draw(tables, tmp_path, [everything("code")])
    assert set(sample.read_draw(paths, "d")["source"].to_pylist()) == {"code"}


ROWS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), max_size=40)


@given(ROWS, st.integers(1, 200), st.integers(0, 40))
def test_merging_in_any_parts_is_merging_at_once(rows, budget, cut):
    # Priorities are hashes, so no two are equal.
    rows = [(priority * 64 + n, size) for n, (priority, size) in enumerate(rows)]
    whole = np.array(rows, WEIGHED)
    parts = [smallest(part, budget) for part in (whole[:cut], whole[cut:])]
    assert smallest(np.concatenate(parts), budget).tolist() == smallest(whole, budget).tolist()


@given(ROWS, st.integers(1, 200))
def test_the_smallest_just_reach_the_budget(rows, budget):
    found = smallest(np.array(rows, WEIGHED), budget)["bytes"].tolist()
    total = sum(size for _, size in rows)
    assert sum(found) >= min(budget, total)
    assert sum(found[:-1]) < budget


def test_the_state_names_what_the_sample_depends_on(tables):
    draws = [everything("web")]
    states = {
        sample.state(draws, 0, tables),
        sample.state(draws, 1, tables),
        sample.state([everything("code")], 0, tables),
        sample.state(draws, 0, tables[1:]),
    }
    assert len(states) == 4
    assert sample.state(draws, 0, tables[::-1]) == sample.state(draws, 0, tables)
