from __future__ import annotations

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup.bands import band_hashes
from filters.dedup.signatures import (
    BLOCK,
    SignatureParams,
    candidate_probability,
    choose_bands,
    content_hash,
    estimate_jaccard,
    minhash,
    permutations,
    shingle_set,
    signature,
)

PARAMS = SignatureParams()


def prose(count: int, first: int = 0) -> str:
    """``count`` different words (digits fold, so words are spelled in letters)."""
    letters = str.maketrans("0123456789", "abcdefghij")
    return " ".join(f"w{number}".translate(letters) for number in range(first, first + count))


def overlapping_sets(
    rng: np.random.Generator, similarity: float, size: int = 600
) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of 32-bit numbers with exactly this Jaccard similarity, up to rounding."""
    common = round(similarity * size)
    every = rng.choice(2**32, size, replace=False).astype(np.uint32)
    half = common + (size - common) // 2
    return every[:half], np.concatenate([every[:common], every[half:]])


# --- content hash -------------------------------------------------------------------------------


def test_content_hash_ignores_whitespace_only() -> None:
    same = content_hash("One two.\nThree")
    assert same == content_hash("  One\ttwo.   Three\n")
    assert same != content_hash("one two.\nThree")
    assert same != content_hash("One two\nThree")
    assert same != content_hash("Onetwo. Three")
    assert len(same) == 16


@settings(deadline=None)
@given(st.text(st.characters()))
def test_content_hash_is_total(text: str) -> None:
    assert content_hash(text) == content_hash(f"\n{text} ")


def test_content_hash_is_pinned() -> None:
    assert content_hash("cider mill").hex() == PINNED_CONTENT


PINNED_CONTENT = "091db78280dafadef7cf4f9d4501629c"
PINNED_SIGNATURE = [15100226, 93679349, 21697392]

# --- shingles -----------------------------------------------------------------------------------


def test_shingle_set_is_a_sorted_set() -> None:
    found = shingle_set("a b c d e " * 10, PARAMS)
    assert len(found) == 5
    assert (found[1:] > found[:-1]).all()


def test_digits_case_and_punctuation_are_folded() -> None:
    one = shingle_set("Page 12: the Mill, opened in 1999!", PARAMS)
    other = shingle_set("page 7 the mill opened in 2024", PARAMS)
    np.testing.assert_array_equal(one, other)
    assert len(one) == 3


# --- signatures ---------------------------------------------------------------------------------


def test_short_documents_have_no_signature() -> None:
    assert signature(prose(23)) is None  # 19 shingles
    assert signature(prose(24)) is not None  # 20
    assert signature("a b c d e " * 100) is None  # 5 different shingles
    assert signature("") is None


def test_min_shingles_is_a_choice() -> None:
    assert signature(prose(5), SignatureParams(min_shingles=1)) is not None
    assert signature(prose(4), SignatureParams(min_shingles=1)) is None


@settings(deadline=None)
@given(st.text(st.characters()))
def test_signature_is_total(text: str) -> None:
    found = signature(text, SignatureParams(min_shingles=1))
    assert found is None or (found.shape == (112,) and found.dtype == np.uint32)


def test_signature_of_a_megabyte() -> None:
    assert signature(prose(150_000)) is not None


def test_signature_is_pinned() -> None:
    found = signature(prose(100))
    assert found is not None
    assert found[:3].tolist() == PINNED_SIGNATURE


@settings(deadline=None)
@given(st.permutations(range(30)), st.integers(1, 3))
def test_order_and_repetition_of_shingles_do_not_matter(order: list[int], times: int) -> None:
    numbers = np.array(order * times, dtype=np.uint32)
    np.testing.assert_array_equal(
        minhash(numbers, PARAMS), minhash(np.arange(30, dtype=np.uint32), PARAMS)
    )


@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_signatures_are_those_of_datasketch(count: int) -> None:
    numbers = np.random.default_rng(count).integers(0, 2**32, count, dtype=np.uint32)
    factors, offsets = permutations(PARAMS)
    oracle = MinHash(
        PARAMS.permutations,
        scheme="affine32",
        permutations=np.stack([factors.ravel(), offsets.ravel()]),
        hashfunc=int,
    )
    oracle.update_batch(numbers.tolist())
    np.testing.assert_array_equal(minhash(numbers, PARAMS), oracle.hashvalues)


def test_no_minimum_of_nothing() -> None:
    with pytest.raises(ValueError, match="no shingles"):
        minhash(np.empty(0, np.uint32), PARAMS)


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95])
def test_estimates_are_unbiased_and_as_close_as_datasketch(similarity: float) -> None:
    rng = np.random.default_rng(7)
    ours, theirs = [], []
    for _ in range(60):
        one, other = overlapping_sets(rng, similarity)
        ours.append(estimate_jaccard(minhash(one, PARAMS), minhash(other, PARAMS)) - similarity)
        sketches = [MinHash(112, hashfunc=int), MinHash(112, hashfunc=int)]
        for sketch, numbers in zip(sketches, (one, other), strict=True):
            sketch.update_batch(numbers.tolist())
        theirs.append(sketches[0].jaccard(sketches[1]) - similarity)
    deviation = np.sqrt(similarity * (1 - similarity) / 112)
    assert abs(np.mean(ours)) < 4 * deviation / np.sqrt(60)
    assert np.std(ours) < 1.35 * deviation
    assert np.mean(np.abs(ours)) < 1.3 * np.mean(np.abs(theirs)) + 0.002


def test_texts_estimate_their_true_similarity() -> None:
    base = prose(1000)
    for changed in (10, 50, 200):
        other = prose(1000 - changed) + " " + prose(changed, first=5000)
        sets = [set(shingle_set(text, PARAMS).tolist()) for text in (base, other)]
        true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        one, two = signature(base), signature(other)
        assert one is not None
        assert two is not None
        assert estimate_jaccard(one, two) == pytest.approx(true, abs=0.15)


@pytest.mark.parametrize("similarity", [0.6, 0.7, 0.75, 0.8, 0.9])
def test_bands_are_shared_as_often_as_the_theory_says(similarity: float) -> None:
    rng = np.random.default_rng(11)
    trials = 300
    met = 0
    for _ in range(trials):
        pair = [minhash(numbers, PARAMS) for numbers in overlapping_sets(rng, similarity, 200)]
        met += bool((band_hashes(pair[0], 14, 8) == band_hashes(pair[1], 14, 8)).any())
    expected = candidate_probability(similarity, 14, 8)
    assert met / trials == pytest.approx(
        expected, abs=4 * np.sqrt(expected * (1 - expected) / trials) + 0.01
    )


def test_signatures_of_different_length_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="signatures of 3 and 4 numbers cannot be compared"):
        estimate_jaccard(np.zeros(3, np.uint32), np.zeros(4, np.uint32))


def test_other_seeds_give_other_functions() -> None:
    numbers = np.arange(100, dtype=np.uint32)
    other = minhash(numbers, SignatureParams(seed=2))
    assert (minhash(numbers, PARAMS) == other).sum() < 10


@pytest.mark.parametrize(
    ("name", "value"),
    [("ngram", 0), ("ngram", 65), ("bands", 0), ("rows", 257), ("min_shingles", 0), ("seed", -1)],
)
def test_impossible_parameters(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}: give a number from"):
        SignatureParams(**{name: value})


# --- bands for a threshold ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bands", "rows", "similarity", "expected"),
    [(14, 8, 0.75, 0.772), (14, 8, 0.8, 0.924), (20, 13, 0.8, 0.677), (20, 5, 0.6, 0.802)],
)
def test_candidate_probability(bands: int, rows: int, similarity: float, expected: float) -> None:
    assert candidate_probability(similarity, bands, rows) == pytest.approx(expected, abs=5e-4)


def test_chosen_bands_turn_at_the_threshold() -> None:
    bands, rows = choose_bands(0.8, 32)
    assert bands * rows <= 32
    assert candidate_probability(0.6, bands, rows) < 0.5 < candidate_probability(0.92, bands, rows)
    more, fewer = choose_bands(0.8, 32, recall_weight=0.9), choose_bands(0.8, 32, recall_weight=0.1)
    assert candidate_probability(0.8, *more) > candidate_probability(0.8, *fewer)


@pytest.mark.parametrize(
    ("threshold", "count", "weight", "message"),
    [
        (0.0, 10, 0.5, "threshold is 0.0"),
        (1.0, 10, 0.5, "threshold is 1.0"),
        (0.5, 0, 0.5, "count is 0"),
        (0.5, 10, 1.5, "recall_weight is 1.5"),
    ],
)
def test_impossible_thresholds(threshold: float, count: int, weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_bands(threshold, count, recall_weight=weight)
