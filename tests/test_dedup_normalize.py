from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup.normalize import (
    COMMON_LENGTH,
    base_powers,
    find_words,
    mix,
    random_words,
)
from filters.dedup.shingles import LONGEST, shingle_hashes


def words(text: str, *, fold_digits: bool = False) -> list[str]:
    found = find_words(text, fold_digits=fold_digits)
    return [found.text(place, 1) for place in range(len(found))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n\t ", []),
        ("... - !? —", []),
        ("The quick - brown fox.", ["the", "quick", "brown", "fox"]),
        ("well-known don't", ["well", "known", "don", "t"]),
        ("snake_case 3.14 x2", ["snake", "case", "3", "14", "x2"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("ﬁne ｗｉｄｅ ②", ["fine", "wide", "2"]),
        ("soft\u00adhyphen zero\u200dwidth", ["softhyphen", "zerowidth"]),
        ("zero\u200bspace", ["zero", "space"]),
        ("❤\ufe0f heart", ["heart"]),
        ("क्षि हिन्दी", ["क्षि", "हिन्दी"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("GPT東京x", ["gpt", "東", "京", "x"]),
        ("東京、大阪", ["東", "京", "大", "阪"]),
        ("เดิน", ["เ", "ดิ", "น"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("a\x00b", ["a", "b"]),
        ("KADIN kadın İzmir", ["kadin", "kadin", "izmir"]),
        ("x²+y²=z²", ["x2", "y2", "z2"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on 12 May 2019", ["on", "0", "may", "0"]),
        ("1234", ["0"]),
        ("b12c345", ["b0c0"]),
        ("3.14", ["0", "0"]),
        ("५६ é", ["0", "é"]),
        ("no digits", ["no", "digits"]),
    ],
)
def test_folded_digits(text: str, expected: list[str]) -> None:
    assert words(text, fold_digits=True) == expected


def test_text_joins_words_by_one_space() -> None:
    assert find_words("One, two;\n three four").text(1, 2) == "two three"


@settings(deadline=None)
@given(st.text())
def test_ascii_and_other_texts_have_the_same_hashes(text: str) -> None:
    plain = text.encode("ascii", "ignore").decode()
    alone = find_words(plain).hashes
    beside = find_words(plain + " é").hashes
    np.testing.assert_array_equal(alone, beside[:-1])


@settings(deadline=None)
@given(st.text(st.characters()), st.booleans())
def test_total_and_consistent(text: str, fold_digits: bool) -> None:
    found = find_words(text, fold_digits=fold_digits)
    assert found.hashes.dtype == np.uint64
    by_word: dict[str, int] = {}
    for place in range(len(found)):
        word = found.text(place, 1)
        assert word
        assert by_word.setdefault(word, int(found.hashes[place])) == int(found.hashes[place])
    assert len(set(by_word.values())) == len(by_word)


@settings(deadline=None)
@given(st.text())
def test_case_composition_and_spacing_do_not_matter(text: str) -> None:
    expected = find_words(text).hashes
    spaced = text.replace(" ", "\n - ")
    np.testing.assert_array_equal(find_words(spaced).hashes, expected)
    decomposed = unicodedata.normalize("NFD", text)
    np.testing.assert_array_equal(find_words(decomposed).hashes, expected)


def test_lone_surrogates_separate() -> None:
    assert words("a\ud800b é") == ["a", "b", "é"]


def test_a_hash_does_not_depend_on_the_place() -> None:
    text = "pomace " * (COMMON_LENGTH // 5)
    assert len(np.unique(find_words(text).hashes)) == 1


def test_a_line_of_a_megabyte() -> None:
    assert len(find_words("x" * 1_000_000)) == 1
    assert len(find_words("東" * 300_000)) == 300_000


def test_powers_and_inverses_cancel() -> None:
    for count in (0, 1, 100, COMMON_LENGTH, COMMON_LENGTH + 1):
        powers, inverses = base_powers(count)
        assert len(powers) == len(inverses) == count
        assert (powers * inverses == 1).all()


def test_no_two_of_a_quarter_million_words_collide() -> None:
    text = " ".join(f"{a:x}z{b:x}" for a in range(500) for b in range(500))
    assert len(np.unique(find_words(text).hashes)) == 250_000


def test_hashes_are_pinned() -> None:
    # A change here makes stored signatures and indexes incomparable: raise their versions.
    assert find_words("cider mill").hashes.tolist() == PINNED
    assert find_words("cider mill é").hashes.tolist()[:2] == PINNED


PINNED = [12699725680033094880, 3529668535366769924]


def test_mix_is_the_murmur_finalizer() -> None:
    assert mix(np.array([0, 1], dtype=np.uint64)).tolist() == [0, 0xB456BCFC34C2CB2C]


def test_random_words_are_splitmix() -> None:
    # The first outputs of SplitMix64 seeded with 0.
    assert random_words(2, seed=0).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_shingles_are_runs_of_words() -> None:
    one = shingle_hashes(find_words("a b c d e f").hashes, 5)
    other = shingle_hashes(find_words("x A, b; c d e").hashes, 5)
    assert len(one) == 2
    assert one[0] == other[1]
    assert len({*one.tolist(), *other.tolist()}) == 3


@pytest.mark.parametrize("place", range(5))
def test_shingles_know_all_their_words(place: int) -> None:
    words = ["a", "b", "c", "d", "e"]
    before = shingle_hashes(find_words(" ".join(words)).hashes, 5)
    words[place] = "x"
    assert before != shingle_hashes(find_words(" ".join(words)).hashes, 5)


def test_shingles_know_the_order_of_words() -> None:
    assert shingle_hashes(find_words("a b").hashes, 2) != shingle_hashes(
        find_words("b a").hashes, 2
    )


@pytest.mark.parametrize(("count", "expected"), [(4, 0), (5, 1), (6, 2)])
def test_number_of_shingles(count: int, expected: int) -> None:
    assert len(shingle_hashes(np.arange(count, dtype=np.uint64), 5)) == expected


@pytest.mark.parametrize("n", [0, LONGEST + 1])
def test_shingles_of_impossible_size(n: int) -> None:
    with pytest.raises(ValueError, match=f"shingles of {n} words: give a number from 1 to 64"):
        shingle_hashes(np.zeros(100, dtype=np.uint64), n)
