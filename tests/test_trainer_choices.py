"""Multiple choice: questions, tokens, answers, and those of llama.cpp to the same items."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers_here import small_tokenizer
from training_here import random_model

from tokenizer.overlap import Scored
from trainer import choices
from trainer.choices import (
    Answer,
    Question,
    TaskError,
    answer,
    encode_pair,
    joined,
    read_questions,
    results,
)
from trainer.export_gguf import export_gguf
from trainer.scoring import Scorer
from trainer.shape import Layer, Shape

ITEM = {"query": "The sky is", "choices": [" blue", " green"], "gold": 0}


def line(**changes: object) -> str:
    return json.dumps({**ITEM, **changes})


def test_questions_are_read(tmp_path):
    path = tmp_path / "sky.v2.jsonl"
    path.write_text(f"{line()}\n\n{line(task='colours', gold=1)}\n{line(task=None)}")
    first, second, third = read_questions(str(path))
    assert first == Question("sky", "The sky is", (" blue", " green"), 0)
    assert (second.task, second.gold) == ("colours", 1)
    assert third == first


@pytest.mark.parametrize(
    ("query", "choice", "touches"),
    [("is", "blue", True), ("is", " blue", False), ("is ", "blue", False), ("is:", "blue", False),
     ("is", ".", False)],
)  # fmt: skip
def test_choices_that_touch_the_question_are_found(query, choice, touches):
    assert joined(Question("t", query, (" x", choice), 0)) is touches


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "q.jsonl holds no question"),
        ("\n\n", "q.jsonl holds no question"),
        ("{", "q.jsonl:1: no JSON"),
        ("[" * 100_000, "q.jsonl:1: no JSON"),
        (f"{line()}\n[]", "q.jsonl:2: no object"),
        (line(query=""), "q.jsonl:1: 'query' must be text that is not empty"),
        (line(query=3), "'query' must be text"),
        (line(choices=[" blue"]), "q.jsonl:1: 'choices' must be 2 to 1024 texts, none empty"),
        (line(choices=[" blue"] * 1025), "'choices' must be 2 to 1024"),
        (line(choices=[" blue", ""]), "'choices' must be"),
        (line(choices=[" blue", 1]), "'choices' must be"),
        (line(choices=" blue"), "'choices' must be"),
        (line(gold=2), "q.jsonl:1: 'gold' is 2; it must be from 0 to 1"),
        (line(gold=-1), "'gold' is -1"),
        (line(gold=True), "'gold' is True"),
        (line(gold="0"), "'gold' is '0'"),
        (line(query="\ud800"), "q.jsonl:1: half of a surrogate pair"),
    ],
)
def test_what_is_no_question_is_named(tmp_path, content, message):
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(TaskError) as error:
        read_questions(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(TaskError, match="absent.jsonl: .*No such file"):
        read_questions(str(tmp_path / "absent.jsonl"))
    (tmp_path / "q.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(TaskError, match="q.jsonl: .*can't decode"):
        read_questions(str(tmp_path / "q.jsonl"))
    monkeypatch.setattr(choices, "MAX_LINE", 100)
    (tmp_path / "q.jsonl").write_text(f"{line()}\n{line(query='x' * 101)}")
    with pytest.raises(TaskError, match="q.jsonl:2: longer than 100 characters"):
        read_questions(str(tmp_path / "q.jsonl"))


def cut(query: str, choice: str) -> tuple[str, str]:
    """What is given and what is scored."""
    tokenizer = small_tokenizer()
    ids, first = encode_pair(tokenizer, query, choice)
    return tokenizer.decode(ids[:first]), tokenizer.decode(ids[first:])


# Digits are always tokens of their own, whatever the vocabulary.
def test_spaces_that_end_the_question_belong_to_the_choice():
    assert cut("77", " the") == ("77", " the")
    assert cut("77 ", "the") == ("77", " the")
    assert cut("77  ", "1") == ("77", "  1")
    assert cut("77\n", "the") == ("77\n", "the")


def test_a_token_that_joins_both_belongs_to_the_choice():
    assert " the" in small_tokenizer().pieces
    assert cut("77 t", "he 7") == ("77", " the 7")


def test_a_choice_with_nothing_before_it_is_refused():
    with pytest.raises(TaskError, match="the question ' t' is one token with .* choice 'he 7'"):
        encode_pair(small_tokenizer(), " t", "he 7")
    with pytest.raises(TaskError, match="give a longer question"):
        encode_pair(small_tokenizer(), " ", "the 7")


@given(st.text(min_size=1), st.text(min_size=1))
def test_given_and_scored_are_the_whole_text(query, choice):
    tokenizer = small_tokenizer()
    try:
        ids, first = encode_pair(tokenizer, query, choice)
    except TaskError:
        return
    assert tokenizer.decode(ids) == query + choice
    assert 1 <= first < len(ids)
    # What is given is the question's own beginning, whatever the choice.
    assert ids[:first].tolist() == tokenizer.encode(query.rstrip(" ") or query)[:first].tolist()


class Fixed:
    """A scorer for which each token costs what a table says."""

    def __init__(self, nats: dict[str, float]):
        self.nats = {small_tokenizer().pieces.index(piece): cost for piece, cost in nats.items()}

    def __call__(self, sequences, seen=None):
        return [
            Scored(
                np.array([self.nats.get(int(n), 100.0) for n in ids[1:]], np.float32),
                np.zeros(len(ids) - 1, bool),
            )
            for ids in sequences
        ]


def test_the_likeliest_choice_and_the_likeliest_a_character():
    scorer = Fixed({"1": 2.0, "2": 1.2})
    question = Question("task", "This is 7", ("1", "22"), 1)
    (found,) = answer(scorer, small_tokenizer(), [question])
    assert found.likelihoods == pytest.approx((-2.0, -2.4), abs=1e-6)
    assert (found.choice, found.normalised_choice) == (0, 1)
    (result,) = results([found]).values()
    assert (result.accuracy, result.normalised) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("texts", "likelihoods", "best"),
    [
        # The space that parts them from the question is not counted: -0.95 a character and not -1.
        ((" x", " yy"), (-1.0, -1.9), 1),
        ((" x", "yy"), (-1.0, -2.1), 0),
        (("  x", " yy"), (-2.0, -2.1), 0),
        # Characters and not bytes.
        ((" \u6771\u4eac", " abcde"), (-3.0, -5.0), 1),
        # Nothing else than the space is of one character.
        ((" ", " ab"), (-1.0, -1.9), 1),
    ],
)
def test_lengths_are_those_of_the_evaluation_harness(texts, likelihoods, best):
    assert Answer(Question("t", "q", texts, 0), likelihoods).normalised_choice == best


def test_the_questions_own_tokens_cost_nothing():
    scorer = Fixed({"1": 1.0, "2": 3.0})
    questions = [
        Question("t", "77777", ("12", "1"), 0),
        Question("t", "7", ("2", "22", "1"), 0),
    ]
    first, second = answer(scorer, small_tokenizer(), questions)
    assert first.likelihoods == (-4.0, -1.0)
    assert second.likelihoods == (-3.0, -6.0, -1.0)


def test_results_by_task():
    def of(task: str, gold: int, *likelihoods: float) -> Answer:
        texts = tuple("x" * (n + 1) for n in range(len(likelihoods)))
        return Answer(Question(task, "q", texts, gold), likelihoods)

    found = results(
        [of("b", 0, -1.0, -9.0), of("a", 0, -1.0, -1.5), of("a", 1, -1.0, -1.5),
         of("a", 2, -9.0, -8.0, -1.0, -9.0), of("a", 3, -1.0, -9.0, -9.0, -9.0)]
    )  # fmt: skip
    assert list(found) == ["a", "b"]
    a = found["a"]
    # By characters the second choice is the likelier of the first two questions: -0.75 and not -1.
    assert (a.questions, a.accuracy, a.normalised) == (4, 0.5, 0.5)
    assert a.chance == pytest.approx((1 / 2 + 1 / 2 + 1 / 4 + 1 / 4) / 4)
    assert a.error == pytest.approx(math.sqrt(0.25 / 4))
    assert found["b"].to_dict() == {
        "questions": 1, "accuracy": 1.0, "accuracy_normalised": 1.0, "standard_error": 0.0,
        "chance": 0.5,
    }  # fmt: skip
    table = [row.split() for row in choices.lines(found)]
    assert table == [
        ["task", "questions", "accuracy", "normalised", "±", "chance"],
        ["a", "4", "50.0%", "50.0%", "25.0%", "37.5%"],
        ["b", "1", "100.0%", "100.0%", "0.0%", "50.0%"],
    ]
    assert results([]) == {}


QUESTIONS = [
    Question("words", query, tuple(options), number % len(options))
    for number, (query, options) in enumerate(
        [
            ("The length of a line is", [" given in bytes", " a number", " an error"]),
            ("def f(x):\n    return ", ["x", "x + 1", "None"]),
            ("Grüße aus ", ["Köln", "Paris, été", "東京"]),
            ("Rules are", [" read", " read from the recipe"]),
            ("It is not", [" so", " told", " removed", " kept"]),
        ]
    )
]


def test_llama_cpp_answers_alike(tmp_path):
    pytest.importorskip("xllamacpp", reason="xllamacpp, of the extra `test`, is not installed")
    from benchmarks.llama_cpp import LlamaCpp

    model = random_model(Shape(2000, 32, 8, (Layer(4, 2, 64),) * 2))
    found = answer(Scorer(model.params, model.shape, 64), model.tokenizer, QUESTIONS)
    export_gguf(model, str(tmp_path / "model.gguf"), "f16")
    llama = LlamaCpp(str(tmp_path / "model.gguf"), model.tokenizer, context=256)
    others = []
    for question, ours in zip(QUESTIONS, found, strict=True):
        theirs = tuple(
            llama.likelihood(*encode_pair(model.tokenizer, question.query, choice))
            for choice in question.choices
        )
        assert ours.likelihoods == pytest.approx(theirs, abs=0.05)
        others.append(Answer(question, theirs))
    assert results(found) == results(others)
    assert len({a.choice for a in found} | {a.normalised_choice for a in found}) > 1
