"""Documents set aside: which, that no copy of them is learned from, and what the list says."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import digests

from pipelines import held_out
from pipelines.cli import main
from pipelines.held_out import HeldOut
from pipelines.inputs_error import InputError
from tokenizer.shard_set import ShardSet

LETTERS = "abcdefghij"
# Digits would be folded to one.
WORDS = [f"word{''.join(LETTERS[int(d)] for d in str(number))}" for number in range(6000)]


def text_of(first: int, count: int = 120) -> str:
    return " ".join(WORDS[first : first + count])


def row(name: str, text: str, url: str | None = None) -> dict:
    return {"id": name, "url": url, "source": "web", "language": "en", "text": text}


def test_as_many_as_are_wanted():
    counts = {"tiny": 4, "small": 42, "some": 400, "large": 10_000, "huge": 10**9}
    found = held_out.wanted(counts, 0.01)
    assert found == {"tiny": 0, "small": 4, "some": 16, "large": 100, "huge": 2000}
    assert list(found) == sorted(counts)
    rates = held_out.candidate_rates(counts, 0.01)
    assert rates["some"] == 1.0
    assert rates["large"] == pytest.approx(0.03)


def test_a_document_is_chosen_by_its_id_alone():
    ids = [f"{number:032x}" for number in range(500)]
    rows = [row(name, "text") for name in ids]
    found = held_out.choose(pa.Table.from_pylist(rows, schema=held_out.ROWS), {"web": 20})
    names = found["id"].to_pylist()
    assert len(names) == 20
    assert names == sorted(names)
    turned = pa.Table.from_pylist(rows[::-1], schema=held_out.ROWS)
    assert held_out.choose(turned, {"web": 20}).equals(found)
    # A corpus without one that was not chosen has the same; without one that was, the others.
    gone = next(name for name in ids if name not in names)
    fewer = pa.Table.from_pylist([r for r in rows if r["id"] != gone], schema=held_out.ROWS)
    assert held_out.choose(fewer, {"web": 20})["id"].to_pylist() == names
    assert all(held_out.is_candidate(name, 0.2) for name in names)


@pytest.mark.parametrize(
    ("name", "url", "text", "why"),
    [
        ("a", None, "another text", "itself"),
        ("x", "http://a.example/", "another text", "url"),
        ("x", None, "  " + text_of(0).replace(" ", "\n"), "exact"),
        ("x", None, text_of(0, 118) + " two others", "near"),
        ("x", None, text_of(0, 60) + " " + text_of(200, 60), None),
        ("x", None, "short", None),
        ("x", "http://b.example/", text_of(150), None),
    ],
)
def test_what_is_a_copy(name, url, text, why):
    aside = HeldOut([row("a", text_of(0), "http://a.example/"), row("b", "so short")])
    match = aside.match(name, url, text)
    assert (match.why if match else None) == why
    if match:
        assert match.of == "a"
        assert match.similarity > held_out.BOUND


def test_a_short_document_has_exact_copies_only():
    aside = HeldOut([row("b", "so short")])
    assert aside.match("x", None, "so  short").why == "exact"
    assert aside.match("x", None, "so shorn") is None


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus with copies: each of ten texts three times, near enough, and a hundred others."""
    folder = tmp_path_factory.mktemp("copies")
    rows = []
    for number in range(10):
        text = ". ".join(f"Sentence {w} of text {WORDS[number]}, as told" for w in WORDS[:40])
        rows += [
            {"text": text, "url": f"http://one.example/{number}"},
            {
                "text": text.replace("Sentence wordh ", "Line wordh "),
                "url": f"http://two.example/{number}",
            },
            {"text": text, "url": f"http://three.example/{number}"},
        ]
    for number in range(100):
        rows.append(
            {
                "text": f"Other page {text_of(number * 50, 50)}",
                "url": f"http://other.example/{number}",
            }
        )
    with open(folder / "pages.jsonl", "w") as handle:
        handle.writelines(json.dumps(r) + "\n" for r in rows)
    recipe = folder / "plain.yaml"
    recipe.write_text("name: plain\nstages:\n  - read\n  - extract\n  - language\n")
    output = str(folder / "out")
    words = ["curate", "--input", str(folder / "pages.jsonl"), "--recipe", str(recipe)]
    assert main([*words, "--output", output]) == 0
    assert main(["tokenizer", "train", output, "--vocab-size", "700", "--no-comparison"]) == 0
    return output


def pack(corpus: str, folder, *options: str):
    words = ["pack", corpus, "--sequence-length", "128", "--target", str(folder / "shards")]
    assert main([*words, "--work-dir", str(folder / "work"), *options]) == 0
    return folder / "shards"


def urls_of(shards) -> set[str]:
    return {u for s in ShardSet.open(str(shards)).shards for u in s.documents()["url"].to_pylist()}


def test_no_copy_of_what_is_set_aside_is_learned_from(corpus, tmp_path, capsys):
    shards = pack(corpus, tmp_path, "--held-out", "0.2")
    aside = pq.read_table(shards / "held-out.parquet").to_pylist()
    copies = pq.read_table(shards / "held-out-copies.parquet").to_pylist()
    learned = urls_of(shards)
    assert len(aside) == 26
    assert len(learned) + len(aside) + len(copies) == 130
    texts = {r["url"].rpartition("/")[2] for r in aside if "other" not in r["url"]}
    assert texts
    for number in texts:
        for host in ("one", "two", "three"):
            assert f"http://{host}.example/{number}" not in learned
    assert {r["why"] for r in copies} == {"exact", "near"}
    assert {r["of"] for r in copies} <= {r["id"] for r in aside}
    assert f"{len(copies)} copies removed" in capsys.readouterr().out
    index = json.loads((shards / "index.json").read_text())
    assert len(index["held_out"]) == 64


def test_other_shards_can_keep_the_same_aside(corpus, tmp_path):
    first = pack(corpus, tmp_path / "1", "--held-out", "0.1")
    again = pack(corpus, tmp_path / "2", "--held-out", str(first))
    assert digests(again) == digests(first)
    file = str(first / "held-out.parquet")
    assert digests(pack(corpus, tmp_path / "3", "--held-out", file)) == digests(first)


def test_a_runner_of_beam_sets_the_same_aside(corpus, tmp_path):
    first = pack(corpus, tmp_path / "1", "--held-out", "0.1", "--workers", "1")
    again = pack(corpus, tmp_path / "2", "--held-out", "0.1", "--runner", "FnApiRunner")
    assert digests(again) == digests(first)


def test_nothing_set_aside_and_nothing_left_of_before(corpus, tmp_path):
    shards = pack(corpus, tmp_path, "--held-out", "0.1")
    assert (shards / "held-out.parquet").exists()
    assert pack(corpus, tmp_path, "--held-out", "0") == shards
    assert not list(shards.glob("held-out*"))
    assert len(urls_of(shards)) == 130


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.6", "--held-out is 0.6; a share must be from 0 to 0.5"),
        ("-1", "a share must be from 0 to 0.5"),
        ("nowhere", "cannot read documents set aside from nowhere/held-out.parquet"),
    ],
)
def test_what_cannot_be_set_aside_is_one_line(corpus, tmp_path, capsys, value, message):
    words = ["pack", corpus, "--sequence-length", "128", "--target", str(tmp_path / "s")]
    assert main([*words, f"--held-out={value}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_table_of_something_else_is_refused(tmp_path):
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="has the columns id; documents set aside have"):
        held_out.read(str(tmp_path / "x.parquet"))
