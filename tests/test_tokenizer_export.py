"""The exported tokenizer.json encodes as the SentencePiece model does."""

from __future__ import annotations

import json

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers_here import ROOT, own_texts, small_tokenizer

from tokenizer import special
from tokenizer.export import merges, tokenizer_config, tokenizer_json


@pytest.fixture(scope="module")
def exported() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(tokenizer_json(small_tokenizer()).decode())


def assert_same(exported: tokenizers.Tokenizer, text: str) -> None:
    found = exported.encode(text)
    assert found.ids == small_tokenizer().encode(text).tolist()
    assert exported.decode(found.ids, skip_special_tokens=False) == text


def test_documents_and_sources_give_the_same_ids(exported):
    held_out = [p.read_text("utf-8") for p in sorted((ROOT / "pipelines").glob("*.py"))]
    for text in [*own_texts(), *held_out]:
        assert_same(exported, text)


RUNS = st.lists(
    st.tuples(st.sampled_from(["a", " ", "-", "=", "0", "ab", "\n", "\t", "#", "é", "🦆"]),
              st.integers(1, 40)), max_size=8,
).map(lambda parts: "".join(piece * count for piece, count in parts))  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(text=RUNS)
@example(text="-" * 77 + " " * 33 + "ab" * 20)
def test_runs_give_the_same_ids(exported, text):
    assert_same(exported, text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@example(text="</s><pad>\u2581 <0x41>\r\n\0")
def test_any_text_gives_the_same_ids(exported, text):
    assert_same(exported, text)


def test_merges_form_known_pieces_in_the_order_they_were_found():
    pieces = small_tokenizer().pieces
    ranks = [pieces.index(left + right) for left, right in merges(small_tokenizer())]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) > 500


def test_the_configuration_names_the_special_pieces():
    config = json.loads(tokenizer_config(small_tokenizer()))
    assert (config["pad_token"], config["eos_token"]) == (special.PAD, special.EOS)
    assert config["split_special_tokens"] is True
    assert config["additional_special_tokens"][0] == "<reserved_0>"
