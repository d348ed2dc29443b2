"""Vocabularies: what pieces there are, that no text is lost, and that training is repeatable."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers_here import own_texts, small_tokenizer, train_on

from tokenizer import model_proto, special
from tokenizer.model import Tokenizer, UnencodableText
from tokenizer.model_proto import Kind, ModelFileError
from tokenizer.segments import MAX_CHARACTERS, segments
from tokenizer.train import Settings, TrainingFailed, finalize


def pieces_of(text: str) -> list[str]:
    tokenizer = small_tokenizer()
    return [tokenizer.pieces[number] for number in tokenizer.encode(text)]


# --- golden behaviours --------------------------------------------------------------------------


def test_the_first_pieces():
    tokenizer = small_tokenizer()
    assert tokenizer.pieces[:5] == ("<pad>", "</s>", "<unk>", "<mask>", "<reserved_0>")
    assert tokenizer.pieces[63:66] == ("<reserved_59>", "\n", "\t")
    assert tokenizer.pieces[66] == "<0x00>"
    assert tokenizer.pieces[special.FIXED - 1] == "<0xFF>"
    assert tokenizer.kinds[special.FIXED] is Kind.NORMAL
    assert tokenizer.vocab_size == 2000
    assert "<s>" not in tokenizer.pieces


def test_digits_stand_alone():
    assert pieces_of("2024") == ["2", "0", "2", "4"]
    assert pieces_of("in 1999")[-4:] == ["1", "9", "9", "9"]


def test_digits_have_pieces_even_where_the_text_has_none(tmp_path):
    model = Tokenizer(
        train_on(["no digit here, only words and words " * 50], tmp_path, vocab_size=430)
    )
    assert [model.pieces[number] for number in model.encode("1999")] == ["1", "9", "9", "9"]


@pytest.mark.parametrize("digits", ["४५", "٣٤", "１２", "𝟗𝟗"])
def test_digits_of_other_scripts_are_never_joined(digits):
    assert small_tokenizer().decode(small_tokenizer().encode(digits)) == digits
    joined = [p for p in small_tokenizer().pieces if sum(map(str.isdecimal, p)) > 1]
    assert [p for p in joined if not p.startswith(("<0x", "<reserved"))] == []


def test_an_unseen_emoji_becomes_bytes_and_comes_back():
    assert pieces_of("🦆") == ["<0xF0>", "<0x9F>", "<0xA6>", "<0x86>"]
    assert small_tokenizer().decode(small_tokenizer().encode("🦆")) == "🦆"
    assert small_tokenizer().is_byte[small_tokenizer().encode("🦆")].all()


def test_newlines_and_tabs_are_pieces_of_their_own():
    assert pieces_of("\n\n\t") == ["\n", "\n", "\t"]
    inside = [p for p in small_tokenizer().pieces if p.strip("\n\t") != p and len(p) > 1]
    assert inside == []


@pytest.mark.parametrize(
    "text",
    [
        "a\tb",
        "a\n\nb",
        "a  b",
        "trailing  ",
        " leading",
        "   ",
        "\r\n",
        "a\u00a0b\u3000c",
        "\0",
        "",
    ],
)
def test_whitespace_survives(text):
    assert small_tokenizer().decode(small_tokenizer().encode(text)) == text


def test_no_unicode_normalisation():
    for form in ("NFC", "NFD"):
        text = unicodedata.normalize(form, "é Å ﬁ")
        assert small_tokenizer().decode(small_tokenizer().encode(text)) == text


def test_the_library_s_own_signs_survive():
    text = "a\u2581b \u2581 \u2585 \u2047"
    assert small_tokenizer().decode(small_tokenizer().encode(text)) == text


def test_text_that_spells_a_control_piece_is_text():
    for spelled in (special.EOS, special.PAD, special.MASK, "<unk>", "<0x41>", "<reserved_0>"):
        ids = small_tokenizer().encode(spelled)
        assert ids.min() >= special.FIXED
        assert small_tokenizer().decode(ids) == spelled


def test_control_pieces_decode_to_nothing():
    assert small_tokenizer().decode([special.EOS_ID, special.PAD_ID, special.MASK_ID]) == ""


def test_a_lone_surrogate_is_a_clear_error():
    with pytest.raises(UnencodableText, match=r"lone surrogate U\+D800 at character 2"):
        small_tokenizer().encode("ab\ud800")


def test_an_id_of_another_vocabulary_is_a_clear_error():
    with pytest.raises(ValueError, match="the id 2000 is not of this vocabulary, which has 0 to 1"):
        small_tokenizer().decode([1999, 2000])


@settings(max_examples=10_000, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("\u2581" * 3 + "\t \n")
def test_round_trip_is_the_identity(text):
    assert small_tokenizer().decode(small_tokenizer().encode(text)) == text


def test_ids_take_two_bytes_where_they_fit():
    assert small_tokenizer().encode("abc").dtype == np.dtype("<u2")


# --- segments -----------------------------------------------------------------------------------


@given(st.text(st.sampled_from("ab 12४५\t\n\r\0\u2581\u2585é")))
def test_segments_lose_only_what_has_pieces_anyway(text):
    found = list(segments(text))
    assert all(found)
    dropped = str.maketrans("", "", "\t\n\r\0\u2581\u2585")
    assert "".join(found) == text.translate(dropped)


def test_segments_cut_around_digits_of_other_scripts_only():
    assert list(segments("a12४५b")) == ["a12", "४", "५", "b"]


def test_a_long_segment_is_cut_before_a_space():
    text = "x" * (MAX_CHARACTERS - 2) + " yz"
    assert [len(s) for s in segments(text)] == [MAX_CHARACTERS - 2, 3]
    assert [len(s) for s in segments("x" * (MAX_CHARACTERS + 1))] == [MAX_CHARACTERS, 1]
    assert [len(s) for s in segments("x" * MAX_CHARACTERS)] == [MAX_CHARACTERS]


# --- training -----------------------------------------------------------------------------------


def test_the_same_text_gives_the_same_bytes(tmp_path):
    first = train_on(own_texts(), tmp_path)
    assert first == small_tokenizer().content
    assert str(tmp_path).encode() not in first


def test_a_vocabulary_larger_than_the_text_says_what_is_possible(tmp_path):
    with pytest.raises(TrainingFailed, match=r"ask for a vocabulary of at most \d+"):
        train_on(["a few words only"], tmp_path)


def test_a_vocabulary_too_small_for_the_characters_says_so(tmp_path):
    letters = "".join(chr(0x4E00 + n) for n in range(200))
    with pytest.raises(TrainingFailed, match=r"ask for more than \d+, or lower"):
        train_on([letters], tmp_path, vocab_size=special.FIXED + 150, character_coverage=1.0)


@pytest.mark.parametrize("size", [special.FIXED, (1 << 20) + 1])
def test_sizes_out_of_bounds_are_refused(size):
    with pytest.raises(ValueError, match=f"a vocabulary of {size} pieces"):
        Settings(size)


def test_pieces_can_be_kept_within_words(tmp_path):
    model = Tokenizer(train_on(own_texts(), tmp_path, split_by_whitespace=True))
    assert not [p for p in model.pieces if " " in p.strip(" ")]
    assert [p for p in small_tokenizer().pieces if " " in p.strip(" ")]


def test_coverage_sends_rare_characters_to_bytes(tmp_path):
    rare = [*own_texts(), "ǂ"]
    assert "ǂ" not in Tokenizer(train_on(rare, tmp_path, character_coverage=0.999)).pieces
    assert "ǂ" in Tokenizer(train_on(rare, tmp_path, character_coverage=1.0)).pieces


# --- files --------------------------------------------------------------------------------------


def test_load_reads_what_was_written(tmp_path):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(small_tokenizer().content)
    loaded = Tokenizer.load(str(path))
    assert loaded.sha256 == small_tokenizer().sha256
    assert (loaded.encode("abc 12") == small_tokenizer().encode("abc 12")).all()


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x0a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="tokenizer.model: this is no SentencePiece model"):
        Tokenizer.load(str(path))


def test_every_truncation_is_refused_or_is_whole():
    content = small_tokenizer().content
    for end in range(0, len(content) - 1, 997):
        with pytest.raises(ModelFileError):
            Tokenizer(content[:end])


def test_any_damage_is_refused_or_still_encodes():
    content = small_tokenizer().content
    places = [*range(0, 3000, 7), *range(len(content) - 300, len(content))]
    for place in places:
        for value in (0x00, 0x7F, 0xFF):
            damaged = bytearray(content)
            damaged[place] ^= value
            try:
                model = Tokenizer(bytes(damaged))
            except ModelFileError:
                continue
            model.decode(model.encode("some text, 2024 🦆"))


def test_a_model_of_another_make_is_refused(tmp_path):
    (tmp_path / "t.txt").write_text("some words of some text\n" * 20)
    with open(tmp_path / "m", "wb") as target:
        sentencepiece.SentencePieceTrainer.Train(
            input=str(tmp_path / "t.txt"), model_writer=target, vocab_size=300, model_type="bpe",
            byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
    with pytest.raises(ModelFileError, match="changes text before it encodes"):
        Tokenizer.load(str(tmp_path / "m"))
    with pytest.raises(ModelFileError, match="the first pieces are"):
        model = model_proto.parse((tmp_path / "m").read_bytes())
        model.normalizer_spec.name = "identity"
        model.normalizer_spec.add_dummy_prefix = False
        model.normalizer_spec.remove_extra_whitespaces = False
        Tokenizer(finalize(model_proto.serialize(model)))
