"""Cards: fertility counted by hand, and pieces that look wrong told from those that do not."""

from __future__ import annotations

import json

import pytest
from tokenizers_here import own_texts, small_tokenizer, train_on

from tokenizer.card import SHOWN, Text, card, measure, script
from tokenizer.model import Tokenizer
from tokenizer.odd_pieces import ODD, oddity


def facts_of(*texts: Text) -> dict:
    return card(small_tokenizer(), measure(small_tokenizer(), texts))


def test_usage_is_counted_as_by_hand():
    usage = facts_of(Text("web", "en", "12 🦆"))["usage"]
    # Two digits, a space, four bytes; or the space is one with nothing, as no piece holds the duck.
    assert usage["tokens"] == 7
    assert usage["byte_tokens"] == 4
    assert (usage["words"], usage["characters"], usage["bytes"]) == (1, 4, 7)
    assert usage["tokens_per_word"] == 7
    assert usage["tokens_per_character"] == 7 / 4
    assert usage["bytes_per_token"] == usage["tokens_per_byte"] == 1
    assert usage["byte_share"] == round(4 / 7, 6)


def test_languages_and_sources_have_rows_of_their_own_largest_first():
    found = facts_of(Text("a", "en", "x"), Text("b", "en", "yy"), Text("b", "", "zzzz"))
    assert [(r["name"], r["bytes"]) for r in found["languages"]] == [("unknown", 4), ("en", 3)]
    assert [(r["name"], r["documents"]) for r in found["sources"]] == [("b", 2), ("a", 1)]
    assert found["usage"]["documents"] == 3


def test_no_text_at_all_gives_zeros():
    usage = facts_of()["usage"]
    assert usage["tokens_per_word"] == usage["byte_share"] == 0


def test_the_vocabulary_adds_up():
    vocabulary = facts_of(Text("web", "en", "the"))["vocabulary"]
    assert sum(vocabulary["kinds"].values()) == vocabulary["size"] == 2000
    assert vocabulary["kinds"]["byte"] == 256
    assert vocabulary["kinds"]["user_defined"] == 2
    assert sum(vocabulary["lengths"].values()) == vocabulary["kinds"]["normal"]
    used = len(set(small_tokenizer().encode("the").tolist()))
    assert vocabulary["not_used"] == vocabulary["kinds"]["normal"] - used


def test_a_card_is_json_and_the_same_each_time():
    texts = [Text("own", "en", text) for text in own_texts()[:3]]
    assert json.dumps(facts_of(*texts)) == json.dumps(facts_of(*texts))


@pytest.mark.parametrize(
    ("piece", "name"),
    [
        ("Ã©", "mojibake"), ("â€™s", "mojibake"), ("\ufffd", "mojibake"),
        ("é", None), ("Âge", None),
        ("@gmail", "e-mail"), ("info@", "e-mail"), ("gmail", "e-mail"), (" @ ", None), ("@", None),
        (" https", "URL"), (".com", "URL"), (" http", "URL"),
        (".common", None), (" community", None),
        ("&nbsp", "markup"), ("</", "markup"), (" < ", None), (" & ", None),
        ("-" * 8, "run"), ("-" * 7, None), (" " * 16, None),
        ("a\u200b", "invisible"), ("\u00ad", "invisible"), ("\u00a0", None),
        (" the", None), ("ing", None), ("привет", None), ("日本", None),
    ],
)  # fmt: skip
def test_what_looks_wrong(piece, name):
    assert oddity(piece) == name


def test_dirt_in_the_text_is_seen_in_the_card(tmp_path):
    dirty = [
        *own_texts(),
        ("don\ufffdt mail info@gmail.com " + "=" * 40 + "\n") * 300,
    ]
    tokenizer = Tokenizer(train_on(dirty, tmp_path))
    found = {row["name"]: row for row in card(tokenizer, measure(tokenizer, []))["odd"]}
    assert list(found) == list(ODD)
    for name in ("mojibake", "e-mail", "run"):
        assert found[name]["pieces"] > 0, name
        assert len(found[name]["listed"]) == min(SHOWN, found[name]["pieces"])


def test_listed_pieces_are_those_used_most():
    found = facts_of(Text("x", "en", "https://a https://b"))["odd"]
    url = next(row for row in found if row["name"] == "URL")
    uses = [entry["uses"] for entry in url["listed"]]
    assert uses == sorted(uses, reverse=True)
    assert url["uses"] == sum(uses)


@pytest.mark.parametrize(
    ("piece", "name"),
    [(" the", "latin"), ("и", "cyrillic"), ("日本", "cjk"), ("7", "digit"), ("--", "other")],
)  # fmt: skip
def test_scripts(piece, name):
    assert script(piece) == name
