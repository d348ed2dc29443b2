"""Nats a token: the twin's, whatever the batch and however long the text; and bits per byte."""

from __future__ import annotations

import functools
import math
from itertools import islice

import numpy as np
import numpy_twin as twin
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers_here import own_texts, small_tokenizer
from training_here import random_model

from tokenizer.overlap import Scored, overlapping
from tokenizer.special import EOS_ID
from trainer import bits
from trainer.bits import Bits, Text, judge, prepare, shorten
from trainer.model_files import Model
from trainer.scoring import Scorer

LENGTH = 16


@functools.cache
def model() -> Model:
    return random_model(gain=3.0)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(model().params, model().shape, LENGTH)


def twin_scores(ids: np.ndarray, params: dict | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Nats of a text's tokens from the second on, and whether each was the likeliest."""
    held = {name: twin.T(value) for name, value in (params or model().params).items()}
    row = ids[None].astype(np.int64)
    batch = {
        "tokens": row, "segments": np.ones_like(row), "positions": np.arange(row.size)[None],
    }  # fmt: skip
    found = twin.logits(held, model().shape, batch).data[0, :-1]
    nats = np.log(np.exp(found).sum(-1)) - found[np.arange(row.size - 1), ids[1:]]
    return nats, found.argmax(-1) == ids[1:]


def texts(*lengths: int) -> list[np.ndarray]:
    ids = small_tokenizer().encode(own_texts()[2])
    return [ids[n * 10 : n * 10 + length] for n, length in enumerate(lengths)]


def the_same(found: list[Scored], expected: list[Scored]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.nats, b.nats, atol=2e-5)
        np.testing.assert_array_equal(a.first, b.first)


def test_nats_are_the_twins_alone_and_in_any_batch(scorer):
    given = texts(2, 16, 5, 11, 3, 16, 7, 9)
    expected = [Scored(*twin_scores(ids)) for ids in given]
    the_same(scorer(given), expected)
    the_same(scorer(given[::-1]), expected[::-1])
    the_same([scorer([ids])[0] for ids in given], expected)


def test_whether_a_token_was_the_likeliest(scorer):
    ids = texts(6)[0].copy()
    for place in range(2, 6):
        held = {name: twin.T(value) for name, value in model().params.items()}
        row = ids[None, :place].astype(np.int64)
        batch = {"tokens": row, "segments": row * 0 + 1, "positions": np.arange(place)[None]}
        ids[place] = twin.logits(held, model().shape, batch).data[0, -1].argmax()
        if place == 5:
            ids[place] ^= 1
    assert scorer([ids])[0].first.tolist() == [False, True, True, True, False]


def test_texts_without_a_token_to_predict(scorer):
    assert scorer([]) == []
    found = scorer([*texts(0, 1), texts(4)[0]])
    assert [len(scored.nats) for scored in found] == [0, 0, 3]
    assert [len(scored.first) for scored in found] == [0, 0, 3]
    the_same(found[2:], scorer(texts(4)))


def test_a_long_text_is_scored_with_half_a_window_before_each_token(scorer):
    ids = texts(61)[0]
    found = scorer([*texts(7), ids, *texts(16)])[1]
    # The first window as a whole; from then on seven tokens at a time behind eight others.
    expected = [twin_scores(ids[:16])[0]]
    for first in range(15, 60, 7):
        expected.append(twin_scores(ids[first - 8 : first + 8])[0][8:])
    np.testing.assert_allclose(found.nats, np.concatenate(expected), atol=2e-5)


def test_seen_tells_every_token_of_every_piece(scorer):
    counts: list[int] = []
    scorer(texts(5, 16, 23), counts.append)
    assert sum(counts) == 5 + 16 + 16 + (8 + 8)


def test_other_weights_of_the_same_model():
    other = random_model(seed=4, gain=3.0)
    scorer = Scorer(model().params, model().shape, LENGTH)
    scorer.use(other.params)
    expected = [Scored(*twin_scores(ids, other.params)) for ids in texts(9)]
    the_same(scorer(texts(9)), expected)


@given(st.integers(0, 200), st.integers(2, 40))
@example(3, 2)
@example(4, 3)
def test_pieces_count_each_place_once_and_with_enough_before_it(tokens, length):
    counted = []
    # No more windows than places, or there would be no end of them.
    for start, end, first in islice(overlapping(tokens, length), tokens + 1):
        assert 0 <= start <= first < end <= tokens
        assert end - start <= length
        for place in range(first, end - 1):
            # Half a window before the token that is predicted, or all that there is.
            assert place + 1 - start >= min(place + 1, length // 2)
            counted.append(place)
    assert counted == list(range(max(0, tokens - 1)))


def test_a_window_of_one_token_predicts_nothing():
    with pytest.raises(ValueError, match="windows of 1 tokens; they must have at least 2"):
        Scorer(model().params, model().shape, 1)


@given(st.text())
def test_the_bytes_of_a_texts_tokens_are_the_texts(text):
    sizes = small_tokenizer().byte_lengths
    assert sizes[small_tokenizer().encode(text)].sum() == len(text.encode())


def test_bytes_of_tokens_that_are_no_text():
    tokenizer = small_tokenizer()
    sizes = tokenizer.byte_lengths
    assert sizes.shape == (tokenizer.vocab_size,)
    assert sizes[: EOS_ID + 3].tolist() == [0, 0, 0, 0]  # pad, end, unknown, mask
    assert sizes[tokenizer.pieces.index("<reserved_0>")] == 0
    assert sizes[tokenizer.pieces.index("<0x0A>")] == 1
    assert sizes[tokenizer.pieces.index("\n")] == 1
    assert sizes[tokenizer.pieces.index(" the")] == 4


def rows(*texts: tuple[str, str | None, str | None]) -> list[dict]:
    return [{"text": t, "source": source, "language": code} for t, source, code in texts]


def test_the_first_token_is_given_and_not_counted():
    tokenizer = small_tokenizer()
    text = " the words of a document 漢"
    (found,) = prepare(rows((text, "web", "en")), tokenizer)
    assert found.bytes == len(text.encode()) - len(" the")
    assert found.ids.tolist() == tokenizer.encode(text).tolist()
    # Nothing is left to be judged on, and a source that is not known is none.
    assert prepare(rows(("", "a", "en"), (" the", "a", "en")), tokenizer) == []
    (unknown,) = prepare(rows((text, None, None)), tokenizer)
    assert (unknown.source, unknown.language) == ("", "")


def test_bits_are_summed_by_source_and_language(scorer):
    held = prepare(
        rows(
            ("Words of the first source.", "web", "en"),
            ("Worte der zweiten Quelle, etwas länger.", "books", "de"),
            ("More words of the first source, and more.", "web", "de"),
        ),
        small_tokenizer(),
    )
    found = judge(scorer, held)
    alone = [judge(scorer, [text]).total for text in held]
    assert list(found.sources) == ["books", "web"]
    assert list(found.languages) == ["de", "en"]
    for bits_found, members in (
        (found.total, (0, 1, 2)), (found.sources["web"], (0, 2)), (found.sources["books"], (1,)),
        (found.languages["de"], (1, 2)), (found.languages["en"], (0,)),
    ):  # fmt: skip
        assert bits_found.documents == len(members)
        assert bits_found.bytes == sum(held[n].bytes for n in members)
        assert bits_found.tokens == sum(len(held[n].ids) - 1 for n in members)
        assert bits_found.bits == pytest.approx(sum(alone[n].bits for n in members), abs=1e-3)
        assert bits_found.right == sum(alone[n].right for n in members)
    nats = twin_scores(held[0].ids)[0].sum()
    assert alone[0].per_byte == pytest.approx(nats / math.log(2) / held[0].bytes, abs=1e-5)
    told = found.to_dict()
    assert told["bits_per_byte"] == found.total.per_byte
    assert told["accuracy"] == found.total.right / found.total.tokens
    assert told["sources"]["books"]["documents"] == 1
    assert told["languages"]["de"]["tokens"] == found.languages["de"].tokens


def test_tokens_that_the_model_finds_likeliest_are_counted():
    found = Bits()
    text = Text("web", "en", np.arange(5), 9)
    found.add(text, Scored(np.ones(4, np.float32), np.array([True, False, True, True])))
    assert (found.right, found.tokens, found.accuracy) == (3, 4, 0.75)


def test_no_bytes_have_no_bits_a_byte():
    assert math.isnan(Bits().per_byte)
    assert math.isnan(Bits().accuracy)


def test_the_table_for_people():
    web, none = Bits(2, 80.0, 40, 9, 3), Bits(1, 5.0, 10, 3, 0)
    found = bits.Judgement(Bits(3, 85.0, 50, 12, 3), {"": none, "web": web}, {"": none, "en": web})
    table = [line.split() for line in bits.lines(found)]
    assert table == [
        ["documents", "bytes", "accuracy", "bits/byte"],
        ["?", "1", "10", "0.0%", "0.5000"],
        ["web", "2", "40", "33.3%", "2.0000"],
        ["language", "?", "1", "10", "0.0%", "0.5000"],
        ["language", "en", "2", "40", "33.3%", "2.0000"],
        ["all", "3", "50", "25.0%", "1.7000"],
    ]


def test_shorter_texts_for_a_look_on_the_way():
    tokenizer = small_tokenizer()
    held = [Text(str(n), "en", ids, -1) for n, ids in enumerate(texts(30, 8, 30, 5))]
    found = shorten(held, 10, 28, tokenizer)
    assert [text.ids.tolist() for text in found] == [
        held[n].ids[:10].tolist() for n in (0, 1, 2)
    ]  # fmt: skip
    sizes = tokenizer.byte_lengths
    assert [text.bytes for text in found] == [sizes[text.ids[1:]].sum() for text in found]
    assert [text.source for text in found] == ["0", "1", "2"]
    # One token less, and the third does not fit; the first is there however long it is.
    assert len(shorten(held, 10, 27, tokenizer)) == 2
    assert len(shorten(held, 10, 1, tokenizer)) == 1
