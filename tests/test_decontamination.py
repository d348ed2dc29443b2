from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.decontamination.exemption import count_hits, exempt
from filters.decontamination.hits import HIT, best_hit, find_hits, hit_hashes
from filters.decontamination.index import (
    BenchmarkIndex,
    build_index,
    demo_index,
    index_of,
    open_index,
)
from filters.decontamination.items import Item, demo_items, ngram_size, parse_items
from filters.decontamination.signals import SIGNALS
from filters.decontamination.storage import IndexFormatError
from filters.decontamination.tables import all_ngrams, compile_items, filter_bits, ngram_hashes
from filters.dedup.normalize import find_words
from filters.dedup.shingles import LONGEST

FOX = Item("animals", "fox", "The quick - brown fox!")
LONG = Item(
    "stories",
    "mill",
    "Before the mill wheel turned, nineteen carters argued about whose barrels the river "
    "would carry down to Selwick first.",
    split="test",
)
ITEMS = [FOX, LONG, Item("animals", "owl", "Too short here")]


@pytest.fixture(scope="module")
def index() -> BenchmarkIndex:
    return index_of(ITEMS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_index(ITEMS, str(tmp_path / "index"))
    return tmp_path / "index"


# --- items --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "n"), [(0, None), (3, None), (4, 4), (12, 12), (13, 13), (14, 13), (900, 13)]
)
def test_n_is_the_length_of_short_items_and_13_for_others(words: int, n: int | None) -> None:
    assert ngram_size(words) == n


def test_items_from_json_lines() -> None:
    lines = ['{"benchmark": "b", "id": "1", "text": "t", "split": "dev", "more": 1}', " ", ""]
    assert list(parse_items(lines, "x.jsonl")) == [Item("b", "1", "t", "dev")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "x.jsonl, line 2 is not JSON"),
        ("[]", "x.jsonl, line 2 is not an object: write one item a line"),
        ('{"benchmark": "b", "id": "1"}', "x.jsonl, line 2 needs the field 'text' as a string"),
        (
            '{"benchmark": "b", "id": 1, "text": ""}',
            "x.jsonl, line 2 needs the field 'id' as a string",
        ),
        (
            '{"benchmark": "b", "id": "1", "text": "", "split": 2}',
            "x.jsonl, line 2 needs the field 'split' as a string",
        ),
    ],
)
def test_lines_that_are_no_items(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        list(parse_items(["", line], "x.jsonl"))


def test_the_demo_benchmark_is_found_item_by_item() -> None:
    items = demo_items()
    assert len(items) >= 30
    assert {item.benchmark for item in items} == {"orchard-qa"}
    lengths = [len(find_words(item.text)) for item in items]
    assert min(lengths) >= 4
    assert sum(length <= 12 for length in lengths) >= 10
    for item in items:
        hit = best_hit(f"Then we read: {item.text.upper()} And so on.", demo_index())
        assert hit is not None
        assert hit.item == item.id


# --- hits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "the quick - brown fox",
        "THE QUICK BROWN FOX",
        "He saw the quick,\n\nbrown\tfox run",
        "the “quick” brown—fox",
        "the ｑｕｉｃｋ brown fox",
        "the qu\u00adick brown fox",
    ],
)
def test_case_punctuation_and_wrapping_do_not_hide_an_item(
    text: str, index: BenchmarkIndex
) -> None:
    hit = best_hit(text, index)
    assert hit is not None
    assert (hit.benchmark, hit.split, hit.item) == ("animals", "", "fox")
    assert (hit.ngrams, hit.matched, hit.text) == (1, 1, "the quick brown fox")


@pytest.mark.parametrize(
    "text", ["", "the quick brown", "the quick red fox", "brown fox the quick", "too short here"]
)
def test_what_is_no_hit(text: str, index: BenchmarkIndex) -> None:
    assert best_hit(text, index) is None
    assert len(find_hits(text, index)) == 0
    assert len(index.hashes(text)) == 0


def test_digits_count() -> None:
    index = index_of([Item("sums", "1", "What is 23 minus 34?")])
    assert best_hit("what is 23 minus 34", index) is not None
    assert best_hit("what is 23 minus 35", index) is None


def test_thirteen_words_of_a_long_item_are_a_hit_and_twelve_are_not(
    index: BenchmarkIndex,
) -> None:
    words = LONG.text.split()
    assert best_hit(" ".join(words[2:14]), index) is None
    hit = best_hit("so " + " ".join(words[2:15]), index)
    assert hit is not None
    assert (hit.ngrams, hit.item, hit.split) == (1, "mill", "test")
    assert hit.text == (
        "mill wheel turned nineteen carters argued about whose barrels the river would carry"
    )


def test_a_whole_item_gives_all_its_ngrams_once(index: BenchmarkIndex) -> None:
    hit = best_hit(f"{LONG.text} And again: {LONG.text}", index)
    assert hit is not None
    assert hit.ngrams == hit.matched == 19 - 13 + 1


def test_hits_say_where(index: BenchmarkIndex) -> None:
    hits = find_hits(f"Well, the quick brown fox. {LONG.text} The quick brown fox", index)
    assert hits.dtype == HIT
    assert hits["word"].tolist() == [1, *range(5, 12), 24]
    assert hits["n"].tolist() == [4, *[13] * 7, 4]
    np.testing.assert_array_equal(hit_hashes(hits), np.unique(hits["hash"]))


def test_the_item_with_most_ngrams_is_the_evidence(index: BenchmarkIndex) -> None:
    hit = best_hit(f"The quick brown fox. {LONG.text}", index)
    assert hit is not None
    assert (hit.item, hit.ngrams, hit.matched) == ("mill", 8, 7)


def test_of_equal_items_the_first_is_the_evidence() -> None:
    twins = [Item("b", name, "seven swans swam south") for name in ("z", "m", "q")]
    hit = best_hit("Seven swans swam south.", index_of(twins))
    assert hit is not None
    assert hit.item == "m"


def test_exempt_ngrams_do_not_count(index: BenchmarkIndex) -> None:
    text = f"The quick brown fox. {LONG.text}"
    (fox,) = index.hashes(FOX.text).tolist()
    mill = index.hashes(LONG.text).tolist()
    without_fox = best_hit(text, index, frozenset([fox]))
    assert without_fox is not None
    assert (without_fox.ngrams, without_fox.item) == (7, "mill")
    most = best_hit(text, index, set(mill[1:]))
    assert most is not None
    assert most.ngrams == 2
    assert best_hit(text, index, {fox, *mill}) is None


@settings(deadline=None)
@given(st.text(st.characters()))
def test_any_text_is_looked_up(text: str) -> None:
    index = demo_index()
    assert len(find_hits(text, index)) == len(index.hashes(text)) == 0
    assert best_hit(text, index) is None


def test_a_line_of_a_megabyte(index: BenchmarkIndex) -> None:
    assert best_hit("x" * 1_000_000 + " the quick brown fox", index) is not None


WORDS = st.lists(st.sampled_from(["oak", "ash", "elm", "yew", "fir"]), max_size=24)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=4), WORDS)
def test_hits_are_those_of_plain_search(items: list[list[str]], page: list[str]) -> None:
    grams = set()
    for item in items:
        n = min(13, len(item))
        if n >= 4:
            grams |= {tuple(item[i : i + n]) for i in range(len(item) - n + 1)}
    expected = {
        gram for gram in grams for i in range(len(page)) if tuple(page[i:][: len(gram)]) == gram
    }
    index = index_of(Item("b", str(n), " ".join(item)) for n, item in enumerate(items))
    assert len(index.hashes("; ".join(page))) == len(expected)
    hit = best_hit("\n".join(page), index)
    assert (hit.ngrams if hit else 0) == len(expected)


# --- tables -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(WORDS, st.sets(st.integers(1, 15)))
def test_all_sizes_at_once_are_the_sizes_one_by_one(page: list[str], sizes: set[int]) -> None:
    words = find_words(" ".join(page)).hashes
    hashes, first = all_ngrams(words, tuple(sorted(sizes)))
    alone = [ngram_hashes(words, n) for n in sorted(sizes)]
    np.testing.assert_array_equal(hashes, np.concatenate([*alone, np.empty(0, np.uint64)]))
    assert first.tolist() == [place for part in alone for place in range(len(part))]


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3 4 5",
        "a b c d",
        "a1 b2 c3 d4",
        "97 98 99 10",
        "Q: 3 + 4 = 7?",
        "१ २ ३ ४",
        "1. a 2. b 3. c",
        "b\u0301 c d e",
    ],
)
def test_enumerations_are_not_looked_for(text: str) -> None:
    index = index_of([Item("b", "1", text)])
    assert best_hit(text, index) is None
    assert index.benchmarks() == [("b", 0)]


@pytest.mark.parametrize(
    "text", ["1 2 3 go", "a b c x2y", "a b c 100", "374 + 33 + 21 = 4", "東京大阪", "what is 3 + 4"]
)
def test_one_telling_word_is_enough(text: str) -> None:
    assert best_hit(text, index_of([Item("b", "1", text)])) is not None


def test_enumerations_within_an_item_are_left_out() -> None:
    numbers = " ".join(map(str, range(1, 15)))
    index = index_of([Item("b", "1", f"Count on from {numbers} to the end")])
    assert best_hit(numbers, index) is None
    assert best_hit(f"from {numbers}", index) is not None


def test_ngrams_of_different_size_differ() -> None:
    zero = np.zeros(20, dtype=np.uint64)
    hashes, _ = all_ngrams(zero, tuple(range(1, 14)))
    assert len(np.unique(hashes)) == 13


def test_the_filter_lets_every_hash_through_and_few_others() -> None:
    rng = np.random.default_rng(2)
    drawn = rng.choice(5000, (200, 40))
    items = [Item("b", str(n), " ".join(f"w{w}ord" for w in row)) for n, row in enumerate(drawn)]
    tables = compile_items(items)
    places, rows = tables.find(tables.hashes[::-1].copy())
    assert len(places) == len(tables.hashes)
    assert rows.tolist() == list(range(len(tables.hashes)))[::-1]
    assert 2 ** filter_bits(tables.filter) == 8 * len(tables.filter)
    assert 1 / 32 < np.unpackbits(tables.filter).mean() < 2 / 32
    others = rng.integers(0, 2**64, 10_000, dtype=np.uint64)
    assert len(tables.find(others)[0]) == 0


@settings(max_examples=20, deadline=None)
@given(st.permutations([*demo_items()[:8], *ITEMS, FOX]))
def test_the_order_of_items_does_not_matter(items: list[Item]) -> None:
    assert index_of(items).digest == index_of(reversed(items)).digest


def test_another_item_is_another_digest() -> None:
    assert index_of(ITEMS).digest != index_of(ITEMS[:2]).digest
    assert index_of(ITEMS).digest != index_of([*ITEMS[1:], Item("x", "fox", FOX.text)]).digest


@pytest.mark.parametrize("bounds", [(0, 13), (5, 4), (4, 65)])
def test_impossible_sizes(bounds: tuple[int, int]) -> None:
    assert LONGEST == 64
    with pytest.raises(ValueError, match="words: give a range within 1 to 64"):
        compile_items(ITEMS, *bounds)


# --- storage ------------------------------------------------------------------------------------


def test_a_stored_index_finds_what_it_did(folder: Path, index: BenchmarkIndex) -> None:
    stored = open_index(str(folder))
    assert stored.digest == index.digest
    assert stored.benchmarks() == [("animals", 1), ("stories", 1)]
    text = f"The quick brown fox. {LONG.text}"
    assert best_hit(text, stored) == best_hit(text, index)


def test_what_was_built(tmp_path: Path) -> None:
    summary = build_index([*ITEMS, FOX], str(tmp_path / "deep" / "index"))
    assert (summary.items, summary.skipped, summary.benchmarks, summary.ngrams) == (2, 1, 2, 8)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["index"]


def test_an_empty_index(tmp_path: Path) -> None:
    build_index([], str(tmp_path / "none"))
    stored = open_index(str(tmp_path / "none"))
    assert best_hit("any text at all", stored) is None
    assert stored.benchmarks() == []


def test_no_index_at_all() -> None:
    nothing = open_index()
    assert best_hit("any text at all", nothing) is None
    assert len(nothing.hashes("any text at all")) == 0


def test_nothing_is_overwritten(folder: Path) -> None:
    with pytest.raises(FileExistsError, match="exists: remove it, or choose another folder"):
        build_index(ITEMS, str(folder))


def test_several_indexes_are_one(folder: Path, tmp_path: Path) -> None:
    build_index([Item("swans", "1", "seven swans swam south"), FOX], str(tmp_path / "other"))
    both = open_index(str(folder), str(tmp_path / "other"))
    text = "Seven swans swam south. The quick brown fox."
    hit = best_hit(text, both)
    assert hit is not None
    assert hit.ngrams == len(both.hashes(text)) == 2
    assert (hit.benchmark, hit.item) == ("animals", "fox")
    assert both.benchmarks() == [("animals", 2), ("stories", 1), ("swans", 1)]
    assert both.digest not in {open_index(str(folder)).digest, index_of(ITEMS).digest}


def damaged(folder: Path, message: str) -> None:
    with pytest.raises(IndexFormatError, match=message) as caught:
        open_index(str(folder))
    assert str(folder) in str(caught.value)
    assert "build it again from the items" in str(caught.value)


@pytest.mark.parametrize("name", ["hashes", "sizes", "starts", "owners", "filter"])
def test_a_missing_cut_or_foreign_array(folder: Path, name: str) -> None:
    path = folder / f"{name}.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    damaged(folder, f"{name}.npy cannot be read")
    path.write_bytes(whole[:20])
    damaged(folder, f"{name}.npy cannot be read")
    path.write_bytes(b"")
    damaged(folder, f"{name}.npy cannot be read")
    path.unlink()
    damaged(folder, f"{name}.npy cannot be read")
    np.save(path, np.zeros(3))
    damaged(folder, f"{name}.npy holds float64 of 1 dimensions")
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    damaged(folder, f"{name}.npy")


def test_any_changed_byte_is_noticed(folder: Path) -> None:
    for name in ("hashes", "sizes", "starts", "owners", "filter"):
        path = folder / f"{name}.npy"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        damaged(folder, "is no usable benchmark index")
        path.write_bytes(whole)
    open_index(str(folder))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hashes", lambda a: a[::-1], "hashes.npy is not in rising order"),
        ("hashes", lambda a: a[1:], "its arrays do not have the sizes its header says"),
        ("sizes", lambda a: a[1:], "its arrays do not fit together"),
        ("sizes", lambda a: a * 0, "sizes.npy holds n-grams of impossible length"),
        ("starts", lambda a: a + 1, "starts.npy does not cut owners.npy"),
        ("starts", lambda a: a * 0, "starts.npy does not cut owners.npy"),
        ("starts", lambda a: a[[0, 2, 1, *range(3, len(a))]], "starts.npy does not cut"),
        ("owners", lambda a: a + 3, "owners.npy names items that are not there"),
        ("owners", lambda a: a[:-1], "starts.npy does not cut owners.npy"),
        ("filter", lambda a: a[1:], "filter.npy is no power of two long"),
        ("filter", lambda a: a[:64], "filter.npy is no power of two long"),
        ("filter", lambda a: a * 0, "its content has SHA-256"),
    ],
)
def test_arrays_that_make_no_sense(folder: Path, name: str, change, message: str) -> None:
    path = folder / f"{name}.npy"
    np.save(path, change(np.load(path)))
    damaged(folder, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "header.json cannot be read"),
        ("{", "header.json cannot be read"),
        ("[]", r"its schema is \[\], and this version reads 1"),
        ('{"schema": 99}', "its schema is 99, and this version reads 1"),
        ('{"schema": 1, "ngrams": 8}', "header.json has no 'items'"),
    ],
)
def test_headers(folder: Path, content: str, message: str) -> None:
    (folder / "header.json").write_text(content)
    damaged(folder, message)


def test_items_of_another_kind(folder: Path) -> None:
    path = folder / "items.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["n"]), path)
    damaged(folder, "items.parquet has the columns")
    path.write_bytes(b"PAR1 and then not")
    damaged(folder, "items.parquet cannot be read")
    renamed = pa.array(["other", "stories", "stories"])
    pq.write_table(table.set_column(0, "benchmark", renamed).cast(table.schema), path)
    damaged(folder, "its content has SHA-256")
    shutil.rmtree(folder)
    damaged(folder, "header.json cannot be read")


def test_the_header_says_what_is_there(folder: Path) -> None:
    header = json.loads((folder / "header.json").read_text())
    assert header == {
        "schema": 1,
        "ngrams": 8,
        "items": 3,
        "sha256": open_index(str(folder)).digest,
    }


# --- common usage -------------------------------------------------------------------------------


def pack(*hashes: int) -> bytes:
    return np.array(hashes, dtype="<u8").tobytes()


def test_documents_are_counted() -> None:
    hashes, counts = count_hits([pack(9, 2), pack(2), b"", pack(2**64 - 1)])
    assert hashes.tolist() == [2, 9, 2**64 - 1]
    assert counts.tolist() == [2, 1, 1]
    assert [len(part) for part in count_hits([])] == [0, 0]


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 9)), max_size=9), st.randoms())
def test_counts_do_not_depend_on_order(documents: list[set[int]], rng: random.Random) -> None:
    blobs = [pack(*sorted(document)) for document in documents]
    hashes, counts = count_hits(rng.sample(blobs, len(blobs)))
    for value, count in zip(hashes.tolist(), counts.tolist(), strict=True):
        assert count == sum(value in document for document in documents)


def test_a_blob_that_is_cut_off() -> None:
    with pytest.raises(ValueError, match="a blob of 7 bytes does not hold whole hashes"):
        count_hits([b"1234567", b"8"])


def test_common_usage_begins_at_the_threshold() -> None:
    hashes, counts = np.array([1, 2, 3], np.uint64), np.array([999, 1000, 1001])
    assert exempt(hashes, counts, 10**6).tolist() == [2, 3]
    assert exempt(hashes, counts, 10**6, threshold=999).tolist() == [1, 2, 3]
    assert exempt(hashes, counts, 10**6, threshold=None).tolist() == []


def test_common_usage_by_rate() -> None:
    hashes, counts = np.array([1, 2], np.uint64), np.array([29, 30])
    assert exempt(hashes, counts, 100, threshold=None, rate=0.3).tolist() == [2]
    assert exempt(hashes, counts, 98, threshold=None, rate=0.3).tolist() == [2]
    assert exempt(hashes, counts, 96, threshold=None, rate=0.3).tolist() == [1, 2]
    assert exempt(hashes, counts, 100, threshold=29, rate=0.3).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("threshold", "rate", "message"),
    [(0, None, "threshold is 0"), (5, 0.0, "rate is 0.0"), (5, 1.01, "rate is 1.01")],
)
def test_impossible_thresholds(threshold: int, rate: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exempt(np.empty(0, np.uint64), np.empty(0, np.int64), 1, threshold, rate)


def test_one_ngram_is_too_many_by_default() -> None:
    (signal,) = SIGNALS
    assert signal.default is not None
    assert signal.default.admits(0)
    assert not signal.default.admits(1)
