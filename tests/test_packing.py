"""Packing loses nothing, cuts only what is too long, and fills windows as well as it can."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.packing import METHODS, PIECE, Packed, cut, pack

LENGTHS = st.lists(st.integers(1, 70), max_size=60)


def contents(packed: Packed) -> list[list[tuple[int, int, int]]]:
    """The pieces of each window as plain tuples."""
    bounds = packed.starts.tolist()
    return [packed.pieces[a:b].tolist() for a, b in itertools.pairwise(bounds)]


def assert_whole(packed: Packed, lengths: list[int]) -> None:
    """The pieces partition the documents, and no window holds more than it can."""
    ordered = np.sort(packed.pieces, order=["document", "offset"])
    ends: dict[int, int] = {}
    for document, length, offset in ordered.tolist():
        assert offset == ends.get(document, 0)
        ends[document] = offset + length
    assert ends == dict(enumerate(lengths))
    for window in contents(packed):
        assert window
        assert sum(length for _, length, _ in window) <= packed.length
    assert packed.tokens == sum(lengths)
    assert packed.padding == packed.windows * packed.length - sum(lengths)


@given(LENGTHS, st.integers(2, 40), st.sampled_from(METHODS))
def test_nothing_is_lost(lengths, window, method):
    assert_whole(pack(np.array(lengths, np.int64), window, method), lengths)


@given(LENGTHS, st.integers(2, 40), st.lists(st.integers(1, 70), max_size=20))
def test_nothing_is_lost_at_breaks(lengths, window, places):
    breaks = np.unique(np.array(places, np.int64))
    assert_whole(pack(np.array(lengths, np.int64), window, "best-fit", lambda _: breaks), lengths)


@given(LENGTHS, st.integers(2, 40))
def test_best_fit_never_cuts_what_fits(lengths, window):
    packed = pack(np.array(lengths, np.int64), window)
    whole = {n for n, length in enumerate(lengths) if length <= window}
    pieces = packed.pieces["document"].tolist()
    assert all(pieces.count(number) == 1 for number in whole)
    assert packed.cut_documents == len(lengths) - len(whole)


@given(LENGTHS, st.integers(2, 40))
def test_no_two_windows_would_fit_in_one(lengths, window):
    filled = [sum(n for _, n, _ in w) for w in contents(pack(np.array(lengths, np.int64), window))]
    smallest = sorted(filled)[:2]
    assert len(filled) < 2 or sum(smallest) > window


def test_the_window_with_the_least_room_takes_a_piece():
    # 7 and 6 open windows with room for 3 and 4; 3 goes to the first, though both have room.
    packed = pack(np.array([7, 6, 3, 4]), 10)
    assert contents(packed) == [[(0, 7, 0), (2, 3, 0)], [(1, 6, 0), (3, 4, 0)]]
    assert packed.padding == 0


def test_a_document_of_just_a_window_is_one_piece_and_one_more_token_is_two():
    assert cut(np.array([10, 11]), 10).tolist() == [(0, 10, 0), (1, 10, 0), (1, 1, 10)]


def test_cuts_are_behind_the_last_newline_of_the_last_eighth():
    def pieces(*places):
        return [n for _, n, _ in cut(np.array([100]), 80, lambda _: np.array(places)).tolist()]

    assert pieces() == [80, 20]
    assert pieces(75) == [75, 25]
    assert pieces(71, 73) == [73, 27]
    assert pieces(71) == [71, 29]
    assert pieces(70) == [80, 20]  # Not in the last eighth, which begins behind 70.
    assert pieces(80) == [80, 20]
    assert pieces(81) == [80, 20]


def test_later_windows_of_a_document_look_for_their_own_newline():
    found = cut(np.array([200]), 80, lambda _: np.array([75, 150])).tolist()
    assert [n for _, n, _ in found] == [75, 75, 50]


def test_concatenation_cuts_where_a_window_is_full():
    packed = pack(np.array([6, 7, 9]), 10, "concatenate")
    assert contents(packed) == [[(0, 6, 0), (1, 4, 0)], [(1, 3, 4), (2, 7, 0)], [(2, 2, 7)]]
    assert packed.padding == 8
    assert packed.cut_documents == 2


@given(LENGTHS.filter(bool), st.integers(2, 40))
def test_concatenation_pads_only_the_last_window(lengths, window):
    packed = pack(np.array(lengths), window, "concatenate")
    assert 0 <= packed.padding < window


@pytest.mark.parametrize("method", METHODS)
def test_no_documents_are_no_windows(method):
    packed = pack(np.zeros(0, np.int64), 8, method)
    assert (packed.windows, packed.tokens, packed.padding) == (0, 0, 0)
    assert packed.pieces.dtype == PIECE


def test_the_same_lengths_give_the_same_windows():
    lengths = np.arange(1, 2000) * 7919 % 97 + 1
    assert contents(pack(lengths, 64)) == contents(pack(lengths.copy(), 64))


def test_documents_of_the_web_leave_less_than_a_hundredth_of_padding():
    lengths = np.random.default_rng(1).lognormal(6.2, 1.2, 20_000).astype(np.int64) + 1
    packed = pack(lengths, 4096)
    assert packed.padding / packed.tokens < 0.001


@pytest.mark.parametrize(
    ("lengths", "window", "method", "message"),
    [
        ([1, 0], 8, "best-fit", "document 1 has no tokens"),
        ([1], 1, "best-fit", "a window of 1 tokens; it needs at least 2"),
        ([1], 8, "first-fit", "the method 'first-fit' is unknown; use one of best-fit, conc"),
    ],
)
def test_what_cannot_be_packed_is_told(lengths, window, method, message):
    with pytest.raises(ValueError, match=message):
        pack(np.array(lengths), window, method)
