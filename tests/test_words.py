"""Words, lines, paragraphs, sentences."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.stop_words import STOP_WORDS
from filters.words import TextView, count_sentences


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, please...", ["Don", "'t", "stop", ",", "please", "..."]),
        ("well-known and/or", ["well", "-", "known", "and", "/", "or"]),
        ("1,000.5 at 12:30", ["1,000.5", "at", "12:30"]),
        ("1.2.3, 4.", ["1.2.3", ",", "4", "."]),
        ("$3.50 or 10%", ["$", "3.50", "or", "10", "%"]),
        ("see https://a.test/x?y=1 now", ["see", "https://a.test/x?y=1", "now"]),
        ("(www.a.test/x,y).", ["(", "www.a.test/x,y", ")", "."]),
        ("Go to https://a.test/x.", ["Go", "to", "https://a.test/x", "."]),
        ("https:// www... awww.a", ["https", ":", "/", "/", "www", "...", "awww.a"]),
        ("见https://a.test/x。天气", ["见", "https://a.test/x", "。", "天气"]),
        ("价格1,000.5元", ["价格", "1,000.5", "元"]),
        ("on 11/10/14, 2007–2008", ["on", "11/10/14", ",", "2007–2008"]),
        ("It's THEY’LL o'clock 's", ["It", "'s", "THEY", "’LL", "o'clock", "'", "s"]),
        ("l'homme d'or", ["l'homme", "d'or"]),
        ("the U.S. of J. Doe. i.e. so", ["the", "U.S.", "of", "J.", "Doe", ".", "i.e.", "so"]),
        ("at@a.test and @name", ["at@a.test", "and", "@name"]),
        ("end.Next foo.py", ["end", ".", "Next", "foo.py"]),
        ("a -- b---c d-e", ["a", "--", "b", "---", "c", "d", "-", "e"]),
        ("snake_case __x", ["snake_case", "_", "_", "x"]),
        ("ภาษาไทย ดี", ["ภาษ", "าไท", "ย", "ดี"]),
        ("ភាសា។", ["ភាសា", "។"]),
        ("カタ・ナ", ["カタ", "・", "ナ"]),
        ("天气很好。", ["天气", "很好", "。"]),
        ("我有3个apple", ["我有", "3", "个", "apple"]),
        ("人々が𠮷野", ["人々", "が𠮷", "野"]),
        ("Ёж и café", ["Ёж", "и", "café"]),
        ("cafe\u0301s l'e\u0301te\u0301", ["cafe\u0301s", "l'e\u0301te\u0301"]),
        ("हिन्दी में है।", ["हिन्दी", "में", "है", "।"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("كَتَبَ", ["كَتَبَ"]),
        ("👩\u200d💻 ❤\ufe0f ok", ["👩", "💻", "❤", "ok"]),
        ("\ufeffBOM co\u00adop ខ្មែរ\u200bខ្មែរ", ["BOM", "co\u00adop", "ខ្មែរ", "ខ្មែរ"]),
        ("བོད་སྐད།", ["བོད", "སྐད", "།"]),
        ("iPhone aB,c", ["iPhone", "aB", ",", "c"]),
        ("a\x00b", ["a", "\x00", "b"]),
        ("", []),
    ],
)
def test_tokens(text, words):
    assert TextView(text).words == words


def test_plain_words_leave_punctuation_out():
    view = TextView("A, b! ... 3 天气 # it's @name • €")
    assert view.plain_words == ["A", "b", "3", "天气", "it", "'s", "@name"]
    assert view.plain_word_count == 7


def test_share_of_unspaced_words():
    assert TextView("all in Latin").unspaced_share == 0
    assert TextView("天气 good").unspaced_share == 0.5


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("One. Two! Three?", 3),
        ("It cost 3.50 e.g. this. Yes.", 2),
        ('He said "no." Then he left.', 2),
        ("no mark", 1),
        ("Wait... What?!", 2),
        ("Yes!!", 1),
        ("今天很好。明天也好。", 2),
        ("真的！！", 1),
        ("他说「好。」然后走了。", 2),
        ("यह है। वह था॥", 2),
        ("یہ ہے۔ وہ تھا۔", 2),
        ("By J. Doe of the U.S. Army. Dr. Roe came. Mr. Poe left.", 3),
        ("first line\n\n  \nsecond line. Third.", 3),
        ("ไปไหนมา ไปตลาด", 2),
        ("ends. small letters", 1),
        ("   ", 0),
    ],
)
def test_sentences(line, count):
    assert count_sentences(line) == count


def test_lines_and_paragraphs():
    view = TextView("one\ntwo\n\n\nthree\n")
    assert view.filled_lines == ["one", "two", "three"]
    assert view.line_blocks == ["one", "two", "three", ""]
    assert view.paragraphs == ["one\ntwo", "three"]
    assert view.sentences == 3


@given(st.text())
def test_any_text_has_words_with_ids_and_lengths(text):
    view = TextView(text)
    assert len(view.word_ids) == len(view.words) == len(view.word_lengths)
    assert all(word in text for word in view.words)
    pairs = set(zip(view.words, view.word_ids.tolist(), strict=True))
    assert len(pairs) == len(dict(pairs)) == len({number for _, number in pairs})
    assert view.word_lengths.tolist() == [len(word) for word in view.words]
    assert [view.vocabulary[number] for number in view.word_ids] == view.words
    assert view.word_counts.sum() == len(view.words)
    assert view.plain_word_count == len(view.plain_words)
    assert 0 <= view.unspaced_share <= 1


TSEK = "\u0f0b\u0f0c"
IGNORED = {"Cf", "Mn"}
PIECES = st.sampled_from(
    ["https://", "www.", "a.", "1,", "'", "\u0301", "天", "。", "」", "_", "...", " ", "\n", "é"]
)


@given(st.lists(PIECES | st.text(max_size=5)).map("".join))
def test_tokens_leave_nothing_out_but_white_space_and_formatting(text):
    def visible(part):
        return [
            c
            for c in part
            if not c.isspace() and c not in TSEK and unicodedata.category(c) not in IGNORED
        ]

    assert visible("".join(TextView(text).words)) == visible(text)


@given(st.lists(PIECES | st.text(max_size=5)).map("".join))
def test_a_line_has_sentences_unless_blank(text):
    line = text.replace("\n", " ")
    assert (count_sentences(line) > 0) is bool(line.strip())


@pytest.mark.parametrize(
    "piece",
    [".", "。", "? ", '."', "[", "1", "1.", "a'", "\u0301", "\x00", "www.", "https://", "天"],
)
def test_time_is_linear_in_one_long_line(piece):
    """Quadratic matching of these 200 kB would take minutes."""
    text = (piece * 200_000)[:200_000]
    begin = time.perf_counter()
    view = TextView(text)
    assert view.words
    assert view.sentences
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize("language", STOP_WORDS)
def test_stop_words_are_lower_case_enough_and_words(language):
    words = STOP_WORDS[language]
    assert len(words) >= 8
    assert all(word == word.lower() for word in words)
    assert all(TextView(word).plain_words == [word] for word in words)
