"""Mixtures in YAML: the shipped ones say what AFM's stages are; mistakes are pointed at."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from pipelines.mixtures import load_mixture, parse_mixture, shipped_mixtures
from pipelines.yaml_tree import RecipeError
from tokenizer.mixture import MixtureError, plan

GOOD = """
name: m
sequence_length: 64
components:
  - {name: code, sources: [code], share: 0.1, max_repeats: 2.5}
  - {name: web, sources: "*", share: 0.2}
"""


def test_the_three_stages_are_shipped():
    assert shipped_mixtures() == ("context-lengthening", "continued", "core")
    lengths = {name: load_mixture(name).sequence_length for name in shipped_mixtures()}
    assert lengths == {"core": 4096, "continued": 8192, "context-lengthening": 32768}
    for name in shipped_mixtures():
        assert load_mixture(name).name == name


def test_the_core_takes_everything_as_it_is():
    found = plan(load_mixture("core"), {"web": 7, "code": 3})
    assert [(p.name, p.windows) for p in found.parts] == [("all", 10)]


def test_the_second_stage_has_less_web_and_more_code_than_there_is():
    windows = {"web": 800, "code-py": 150, "math": 50, "books": 100}
    found = {p.name: p.windows for p in plan(load_mixture("continued"), windows, 900).parts}
    assert found == {"code": 225, "math": 180, "licensed": 135, "web": 360}


def test_the_second_stage_needs_code():
    with pytest.raises(MixtureError, match="needs 'code'"):
        plan(load_mixture("continued"), {"web": 10, "math": 10})


def test_the_third_stage_weights_long_documents_up():
    found = plan(load_mixture("context-lengthening"), {"web": 90, "web.long": 10, "code.long": 5})
    shares = {p.name: p.windows / found.windows for p in found.parts}
    assert shares["long"] > 0.6
    assert next(p for p in found.parts if p.name == "long").sources == ("code.long", "web.long")
    assert set(found.absent) == {"code", "math", "licensed"}


def test_shares_are_read_as_they_are_written():
    code, web = parse_mixture(GOOD, "m").components
    assert (code.share, code.max_repeats) == (Fraction(1, 10), Fraction(5, 2))
    assert web.sources == ("*",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: m", "nome: m", "m:2: unknown key 'nome' in a mixture; allowed: components"),
        ("sequence_length: 64\n", "", "a mixture needs 'sequence_length'"),
        (
            "sequence_length: 64",
            "sequence_length: 6.5",
            "m:3: sequence_length must be a whole number",
        ),
        ("sequence_length: 64", "sequence_length: 1", "it must be at least 2"),
        ("share: 0.2", "share: -1", "m:6: the share of 'web' is -1; it must be above 0"),
        ("share: 0.2", "share: .inf", "share must be a number, not inf"),
        ("share: 0.2", "share: much", "share must be a number, not 'much'"),
        (", share: 0.2", "", "give every component a share, or none"),
        ("name: web, ", "", "m:6: a component needs 'name'"),
        ("max_repeats: 2.5", "optional: maybe", "optional must be true or false, not 'maybe'"),
        ("max_repeats: 2.5", "repeats: 2", "unknown key 'repeats' in a component"),
    ],
)
def test_mistakes_are_pointed_at(old, new, message):
    assert old in GOOD
    with pytest.raises(RecipeError, match=re.escape(message)):
        parse_mixture(GOOD.replace(old, new), "m")


def test_a_mixture_that_does_not_exist_names_those_that_do(tmp_path):
    with pytest.raises(RecipeError, match="no mixture 'x': give a YAML file or one of context-"):
        load_mixture("x")
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xff")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_mixture(str(path))
    path.write_text(GOOD)
    assert load_mixture(str(path)).name == "m"
