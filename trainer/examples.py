"""Prompts with their completions: what a task adapter learns from.

A prompt is encoded alone and its completion alone, as when a model generates: what it then goes on
from are the very tokens that it was trained behind. Where a text would have been cut elsewhere as a
whole, such as behind a prompt that ends in a space, the example is marked as ``joined``.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tokenizer.model import Tokenizer, UnencodableText
from tokenizer.reader import Batch
from tokenizer.special import EOS_ID
from tokenizer.texts import TextFileError, read_rows
from tokenizer.windows import share_windows, side_by_side
from trainer.scoring import Ids
from trainer.student import LEARNED

PROMPT, COMPLETION = "prompt", "completion"


class ExampleError(ValueError):
    """A file that holds no examples as they were asked for; the message names file and line."""


@dataclass(frozen=True)
class Example:
    """A prompt and what shall follow it.

    Args:
      ids: of the prompt, the completion, and the end.
      first: the place of the completion's first token in them.
      joined: whether the text as a whole has a token across the two.
    """

    prompt: str
    completion: str
    ids: Ids = field(compare=False)
    first: int
    joined: bool

    def __len__(self) -> int:
        """Tokens, the end among them."""
        return len(self.ids)


def read_examples(
    path: str, tokenizer: Tokenizer, most: int, *,
    prompt: str = PROMPT, completion: str = COMPLETION,
) -> list[Example]:  # fmt: skip
    """The examples of a file of JSONL (plain, ``.gz`` or ``.zst``) or Parquet, all of its rows.

    Args:
      most: tokens that an example may have, its end among them.
      prompt, completion: the names of the fields.

    Raises:
      ExampleError: the file cannot be read or is empty; a row has no prompt or completion, one that
        is empty, or too many tokens.
    """
    found = []
    try:
        for number, (text, beside) in enumerate(read_rows(path, prompt, beside=(completion,)), 1):
            place = f"{path}:{number}"
            wanted = beside.get(completion)
            for name, value in ((prompt, text), (completion, wanted)):
                if not isinstance(value, str) or not value:
                    raise ExampleError(f"{place}: {name!r} must be text that is not empty")
            found.append(_example(place, tokenizer, text, str(wanted), most))
    except TextFileError as error:
        raise ExampleError(str(error)) from None
    if not found:
        raise ExampleError(f"{path} holds no example")
    return found


def _example(place: str, tokenizer: Tokenizer, prompt: str, completion: str, most: int) -> Example:
    try:
        before, after = tokenizer.encode(prompt), tokenizer.encode(completion)
        whole = tokenizer.encode(prompt + completion)
    except UnencodableText as error:
        raise ExampleError(f"{place}: {error}") from None
    ids = np.concatenate([before, after, np.array([EOS_ID], before.dtype)])
    if len(ids) > most:
        raise ExampleError(
            f"{place}: {len(ids)} tokens with the end; the context holds {most}, so cut the prompt"
        )
    joined = not np.array_equal(whole[: len(before)], before)
    return Example(prompt, completion, ids, len(before), joined)


def digest(examples: Sequence[Example]) -> str:
    """The SHA-256 of what some examples say, in their order."""
    found = hashlib.sha256()
    for example in examples:
        for text in (example.prompt, example.completion):
            content = text.encode()
            found.update(len(content).to_bytes(8, "little") + content)
    return found.hexdigest()


def set_aside(
    examples: Sequence[Example], count: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """What is learned from, and about ``count`` examples that are not, both in their order.

    Those whose prompts have the lowest digests: they hang neither on the order of a file nor on its
    other rows. Examples of one prompt stay together, so that no answer is given away; one prompt is
    always learned from.
    """
    sizes = Counter(example.prompt for example in examples)
    prompts = sorted(sizes, key=lambda own: hashlib.sha256(f"{seed} {own}".encode()).digest())
    before = itertools.accumulate((sizes[prompt] for prompt in prompts), initial=0)
    aside = {p for p, n in zip(prompts[:-1], before, strict=False) if n < count}
    learned = [example for example in examples if example.prompt not in aside]
    return learned, [example for example in examples if example.prompt in aside]


def windows_of(examples: Sequence[Example], length: int) -> int:
    """How many windows hold all examples once."""
    return len(share_windows(np.array([len(e) for e in examples], np.int64), length))


def example_batches(
    examples: Sequence[Example], length: int, rows: int, seed: int
) -> Iterator[Batch]:
    """Batches of ``rows`` windows without end: all examples, then all again in another order.

    Each example lies whole in a window, and is a segment of its own; ``LEARNED`` are the tokens of
    completions and their ends.
    """
    lengths = np.array([len(example) for example in examples], np.int64)
    waiting: list[list[Example]] = []
    for epoch in itertools.count():
        chance = np.random.Generator(np.random.PCG64([seed, epoch]))
        order = chance.permutation(len(examples))
        windows = share_windows(lengths[order], length)
        for place in chance.permutation(len(windows)):
            waiting.append([examples[int(order[number])] for number in windows[place]])
            if len(waiting) == rows:
                yield _batch(waiting, length)
                waiting = []


def _batch(rows: Sequence[Sequence[Example]], length: int) -> Batch:
    batch = side_by_side([[example.ids for example in row] for row in rows], length)
    learned = [[np.arange(len(own)) >= own.first for own in row] for row in rows]
    return {**batch, LEARNED: side_by_side(learned, length)["tokens"]}
