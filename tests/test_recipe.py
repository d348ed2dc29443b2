"""Recipes: what they mean, and where a mistake is pointed at."""

from __future__ import annotations

import pytest

from filters.signal import Bound
from pipelines import recipe as recipes
from pipelines.recipe import from_text
from pipelines.yaml_tree import RecipeError

GOOD = """\
name: test
stages:
  - read
  - url
  - extract:
      options: {mode: fast}
  - language:
      rules:
        language.score: {min: 0.65}
  - gopher:
      rules:
        gopher.word_count: {min: 50, max: 100}
        few: {signal: gopher.word_count, min: 80, action: tag}
  - duplicates:
      rules:
        dedup.jaccard: {max: 0.75}
"""


def test_rules_and_options():
    recipe = from_text(GOOD)
    assert [s.name for s in recipe.stages] == [
        "read",
        "url",
        "extract",
        "language",
        "gopher",
        "duplicates",
    ]
    assert recipe.stages[2].options.mode == "fast"
    count, few = recipe.stages[4].rules
    assert (count.name, count.signal, count.bound, count.action) == (
        "gopher.word_count",
        "gopher.word_count",
        Bound(min=50, max=100),
        "drop",
    )
    assert (few.name, few.signal, few.action) == ("few", "gopher.word_count", "tag")


def test_hash_is_of_the_meaning():
    same = GOOD.replace("{min: 50, max: 100}", "{max: 100, min: 50}  # a comment")
    assert from_text(GOOD).hash == from_text(same).hash
    assert from_text(GOOD).hash != from_text(GOOD.replace("50", "51")).hash
    spelled = GOOD.replace("  - url\n", "  - url:\n      options: {domains: []}\n")
    assert from_text(GOOD).hash == from_text(spelled).hash


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mode: fast", "mood: fast", r"r:6: unknown key 'mood' in the options of 'extract'; "),
        ("mode: fast", "tables: 3", r"r:6: must be true or false, not 3"),
        ("- gopher:", "- gofer:", r"r:10: unknown stage 'gofer'; known: read, url, extract"),
        ("gopher.word_count: {min", "gopher.words: {min", r"r:12: .*no signal 'gopher.words'; it"),
        ("min: 50", "minimum: 50", r"r:12: unknown key 'minimum' in the rule .*; allowed: action"),
        ("min: 50", "min: fifty", r"r:12: min must be a number, not 'fifty'"),
        ("min: 50", "min: 500", r"r:12: min 500 is above max 100"),
        ("{min: 50, max: 100}", "{}", r"r:12: a rule needs a bound: min, max, one_of or none_of"),
        ("min: 50", "one_of: [a]", r"r:12: 'gopher.word_count' is a number"),
        ("action: tag", "action: flag", r"r:13: action must be drop or tag, not 'flag'"),
        ("  - read\n", "", r"the first stage must be 'read'"),
        ("  - url\n", "  - read\n", r"the stage 'read' stands twice"),
        ("name: test", "title: test", r"r:1: unknown key 'title' in a recipe; allowed: caps,"),
        ("name: test\n", "", r"r: the key 'name' is missing"),
        ("min: 80", "min: 80, unless: [math.is_math]", r"unless: math.is_math, which no stage"),
        ("name: test", "name: [test", r"r:2: "),
        ("name: test", "name: &a test\ndescription: *a", r"aliases"),
        ("name: test", "name: test\nname: test", r"r:2: the key 'name' stands twice"),
        ("stages:\n  - read", "stages:\n  - pii\n  - read", r"the stage 'read' comes too"),
    ],
)
def test_mistakes_are_pointed_at(old, new, message):
    assert old in GOOD
    with pytest.raises(RecipeError, match=message):
        from_text(GOOD.replace(old, new, 1), "r")


def test_words_for_numbers_and_numbers_for_words():
    text = GOOD.replace("language.score: {min: 0.65}", "language.code: {min: 1}")
    with pytest.raises(RecipeError, match="'language.code' is text: bound it with one_of"):
        from_text(text)
    fine = from_text(GOOD.replace("language.score: {min: 0.65}", "language.code: {one_of: en}"))
    assert fine.stages[3].rules[0].bound.one_of == ("en",)


SOURCES = (
    GOOD
    + """\
sources:
  crawl: {kind: warc, input: "*.warc.gz"}
  books:
    kind: jsonl
    input: [a.jsonl, b.jsonl]
    options: {text_field: body}
    stages: [read, extract, language]
"""
)


def test_sources_with_stages_of_their_own():
    recipe = from_text(SOURCES)
    assert [s.name for s in recipe.sources] == ["crawl", "books"]
    assert [s.name for s in recipe.chain("books")] == ["read", "extract", "language"]
    assert recipe.chain("crawl") == recipe.stages
    assert recipe.source("books").options == {"text_field": "body"}


def test_a_source_cannot_bend_a_global_stage():
    text = SOURCES.replace(
        "stages: [read, extract, language]",
        "stages: [read, extract, duplicates: {options: {bands: 2}}]",
    )
    with pytest.raises(RecipeError, match="'duplicates' works across sources"):
        from_text(text)


def test_source_mistakes():
    with pytest.raises(RecipeError, match="unknown kind 'wark'; known: auto, warc"):
        from_text(SOURCES.replace("kind: warc", "kind: wark"))
    with pytest.raises(RecipeError, match="the source 'crawl' names no input"):
        from_text(SOURCES.replace(', input: "*.warc.gz"', ""))


@pytest.mark.parametrize("name", recipes.shipped())
def test_shipped_recipes_are_valid_and_described(name):
    recipe = recipes.load(name)
    assert recipe.name == name
    assert len(recipe.description) > 20


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("crawl:", "../evil:", r"the source name '\.\./evil' becomes part of file names"),
        ("crawl:", "a b:", "the source name 'a b'"),
        ('input: "*.warc.gz"', "input: []", "the source 'crawl' names no input"),
        ("name: test", "name: test\ncaps: {seconds: -1}", r"r:2: the cap seconds is -1\.0"),
        ("min: 50", "min: .nan", "r:12: min is not a number"),
        ("max: 0.75", "max: 5", "needs a max from 0 to 1, not 5"),
        ("language.score: {", "few: {signal: language.score, ", "'few' stands in the stages 'lang"),
        ("  - url\n", "  - url: {rules: {url.blocked: {max: 0, unless: [gopher.word_count]}}}\n",
         "is asked before extraction and cannot have unless: gopher.word_count"),
    ],
)  # fmt: skip
def test_what_would_go_wrong_later_is_refused_at_once(old, new, message):
    assert old in SOURCES
    with pytest.raises(RecipeError, match=message):
        from_text(SOURCES.replace(old, new, 1), "r")


def test_unknown_recipe_names_the_known():
    with pytest.raises(RecipeError, match=r"no recipe 'wob'; shipped: .*web"):
        recipes.load("wob")


def test_what_a_stage_spares_must_be_measured():
    text = GOOD.replace(
        "  - duplicates:", "  - c4: {options: {spare: [code.is_cod]}}\n  - duplicates:"
    )
    with pytest.raises(RecipeError, match="'c4' is to spare code.is_cod, which no stage here"):
        from_text(text)


def test_bounds_of_options_are_checked():
    text = GOOD.replace("- duplicates:", "- duplicates:\n      options: {bands: 0}")
    with pytest.raises(RecipeError, match="bands is 0: give a number from 1"):
        from_text(text)
