"""Multiple-choice questions in the usual way: the answer that the model finds likeliest.

As EleutherAI's evaluation harness does it (lm_eval/api/task.py, ``acc`` and ``acc_norm``): each
choice is scored by the log-likelihood of its tokens behind the question's (accuracy), and by the
same a character of the choice, so that long answers are not at a disadvantage (normalised
accuracy). The space that parts it from the question is scored with it, and not counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenizer.model import Tokenizer
from trainer.scoring import Ids, Scorer

MAX_LINE = 1 << 24
MAX_CHOICES = 1 << 10


class TaskError(ValueError):
    """A file that holds no questions as they were asked for; the message names file and line."""


@dataclass(frozen=True)
class Question:
    """A question of a task: ``choices`` go on where ``query`` ends; ``gold`` counts from 0."""

    task: str
    query: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Answer:
    """The log-likelihood of each choice, in nats, and what follows from it."""

    question: Question
    likelihoods: tuple[float, ...]

    @property
    def choice(self) -> int:
        """The likeliest choice."""
        return int(np.argmax(self.likelihoods))

    @property
    def normalised_choice(self) -> int:
        """The likeliest choice a character; a space that it begins with is the delimiter."""
        lengths = [max(1, len(choice.removeprefix(" "))) for choice in self.question.choices]
        return int(np.argmax(np.array(self.likelihoods) / lengths))


@dataclass(frozen=True)
class Result:
    """What a model got right of a task: shares from 0 to 1, and what chance would get."""

    questions: int
    accuracy: float
    normalised: float
    chance: float

    @property
    def error(self) -> float:
        """The standard error of the normalised accuracy."""
        return math.sqrt(self.normalised * (1 - self.normalised) / self.questions)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "questions": self.questions,
            "accuracy": self.accuracy,
            "accuracy_normalised": self.normalised,
            "standard_error": self.error,
            "chance": self.chance,
        }


def read_questions(path: str) -> list[Question]:
    """Questions of a JSONL file: ``query``, ``choices``, ``gold`` (from 0), and ``task`` if any.

    Without ``task`` the file's name is it.

    Raises:
      TaskError: the file cannot be read, or a line is no question.
    """
    name = path.rpartition("/")[2].partition(".")[0]
    found = []
    try:
        with open(path, encoding="utf-8") as handle:
            lines_read = iter(lambda: handle.readline(MAX_LINE + 1), "")
            for number, line in enumerate(lines_read, 1):
                if len(line) > MAX_LINE:
                    raise TaskError(f"{path}:{number}: longer than {MAX_LINE} characters")
                if line.strip():
                    found.append(_question(line, f"{path}:{number}", name))
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: {error}") from None
    if not found:
        raise TaskError(f"{path} holds no question")
    return found


def _question(line: str, place: str, name: str) -> Question:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise TaskError(f"{place}: no JSON") from None
    if not isinstance(row, dict):
        raise TaskError(f"{place}: no object")
    query, choices, gold = row.get("query"), row.get("choices"), row.get("gold")
    if not isinstance(query, str) or not query:
        raise TaskError(f"{place}: 'query' must be text that is not empty")
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= MAX_CHOICES
        or not all(isinstance(choice, str) and choice for choice in choices)
    ):
        raise TaskError(f"{place}: 'choices' must be 2 to {MAX_CHOICES} texts, none empty")
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(choices):
        raise TaskError(f"{place}: 'gold' is {gold!r}; it must be from 0 to {len(choices) - 1}")
    try:
        "".join([query, *choices]).encode()
    except UnicodeEncodeError:
        raise TaskError(f"{place}: half of a surrogate pair, which is no text") from None
    task = row.get("task")
    return Question(name if task is None else str(task), query, tuple(choices), gold)


def joined(question: Question) -> bool:
    """Whether a choice's first letter would touch the question's last one."""
    return question.query[-1].isalnum() and any(c[0].isalnum() for c in question.choices)


def answer(
    scorer: Scorer, tokenizer: Tokenizer, questions: Sequence[Question],
    seen: Callable[[int], None] | None = None,
) -> list[Answer]:  # fmt: skip
    """Score every choice of every question.

    Raises:
      TaskError: a choice and its question are joined in their first token.
    """
    pairs = [encode_pair(tokenizer, q.query, choice) for q in questions for choice in q.choices]
    scored = scorer([ids for ids, _ in pairs], seen)
    sums = [
        -float(found.nats[first - 1 :].sum(dtype="float64"))
        for found, (_, first) in zip(scored, pairs, strict=True)
    ]
    answers = []
    for question in questions:
        own, sums = sums[: len(question.choices)], sums[len(question.choices) :]
        answers.append(Answer(question, tuple(own)))
    return answers


def encode_pair(tokenizer: Tokenizer, query: str, choice: str) -> tuple[Ids, int]:
    """The tokens of a question with a choice, and the first that is scored.

    Spaces that end the question belong to the choice, as tokens begin with theirs. A token that
    joins both belongs to the choice.

    Raises:
      TaskError: that token is the first, so that the model would have nothing to find it behind.
    """
    kept = query.rstrip(" ") or query
    ids = tokenizer.encode(query + choice)
    alone = tokenizer.encode(kept)
    shared = 0
    while shared < min(len(alone), len(ids)) and alone[shared] == ids[shared]:
        shared += 1
    if not shared:
        raise TaskError(
            f"the question {query!r} is one token with the beginning of its choice {choice!r}, "
            "which then has nothing to be scored behind; give a longer question"
        )
    return ids, shared


def results(answers: Iterable[Answer]) -> dict[str, Result]:
    """The result of each task, by name."""
    by_task: dict[str, list[Answer]] = {}
    for found in answers:
        by_task.setdefault(found.question.task, []).append(found)
    return {name: _result(found) for name, found in sorted(by_task.items())}


def _result(found: Sequence[Answer]) -> Result:
    return Result(
        questions=len(found),
        accuracy=float(np.mean([a.choice == a.question.gold for a in found])),
        normalised=float(np.mean([a.normalised_choice == a.question.gold for a in found])),
        chance=float(np.mean([1 / len(a.question.choices) for a in found])),
    )


def lines(found: Mapping[str, Result]) -> list[str]:
    """The results as a table for people."""
    head = f"{'task':<32}{'questions':>10}{'accuracy':>10}{'normalised':>12}{'±':>8}{'chance':>8}"
    return [
        head,
        *(
            f"{name:<32}{r.questions:>10}{r.accuracy:>10.1%}{r.normalised:>12.1%}{r.error:>8.1%}"
            f"{r.chance:>8.1%}"
            for name, r in found.items()
        ),
    ]
