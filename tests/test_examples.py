"""Examples: nothing dropped, what is learned of them, what is set aside, what is refused."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from examples_here import PAIRS, examples_of, write_rows
from hypothesis import given
from hypothesis import strategies as st
from tokenizers_here import small_tokenizer

from tokenizer.special import EOS_ID
from trainer.completions import judge
from trainer.examples import (
    Example,
    ExampleError,
    digest,
    example_batches,
    read_examples,
    set_aside,
    windows_of,
)
from trainer.scoring import Scored
from trainer.student import LEARNED


def read(path, most=4096, **fields):
    return read_examples(str(path), small_tokenizer(), most, **fields)


# --- reading ------------------------------------------------------------------------------------


def test_every_kind_of_file_gives_the_same_examples(tmp_path):
    plain = read(write_rows(tmp_path / "a.jsonl"))
    content = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(content))
    prompts, completions = map(list, zip(*PAIRS, strict=True))
    pq.write_table(pa.table({"q": prompts, "a": completions}), tmp_path / "a.parquet")
    assert [(e.prompt, e.completion) for e in plain] == PAIRS
    assert read(tmp_path / "a.jsonl.gz") == read(tmp_path / "a.jsonl.zst") == plain
    assert read(tmp_path / "a.parquet", prompt="q", completion="a") == plain


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_prompt_has_the_tokens_that_it_is_generated_from(tmp_path_factory, prompt, completion):
    tokenizer = small_tokenizer()
    (found,) = examples_of(tmp_path_factory.getbasetemp() / "one.jsonl", [(prompt, completion)])
    assert found.ids[: found.first].tolist() == tokenizer.encode(prompt).tolist()
    assert tokenizer.decode(found.ids[found.first :]) == completion
    assert found.ids[-1] == EOS_ID
    # Cut in two, a text has the tokens of the whole unless one of these lies across the cut.
    whole = tokenizer.encode(prompt + completion).tolist()
    assert found.joined == (found.ids[:-1].tolist() != whole)


def test_a_prompt_that_ends_in_a_space_is_joined_with_its_completion(tmp_path):
    pairs = [("The sky is", " blue"), ("The sky is ", "blue"), ("The sky is\n", "blue")]
    assert [own.joined for own in examples_of(tmp_path / "a", pairs)] == [False, True, False]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"}', ":2: 'completion' must be text that is not empty"),
        ('{"completion": "a"}', ":2: no object with the field 'prompt'"),
        ('{"prompt": "", "completion": "a"}', ":2: 'prompt' must be text that is not empty"),
        ('{"prompt": null, "completion": "a"}', ":2: 'prompt' must be text that is not empty"),
        ('{"prompt": "a", "completion": ""}', ":2: 'completion' must be text that is not empty"),
        ('{"prompt": "a", "completion": 5}', ":2: 'completion' must be text that is not empty"),
        ('{"prompt": 5, "completion": "a"}', ":2: 'prompt' is int and no text"),
        ('{"prompt": "a", "completion": "\\ud800"}', ":2: a lone surrogate U+D800"),
        ('["a", "b"]', ":2: no object"),
        ('{"prompt": "a', ":2: no JSON"),
        ("", ":2: no JSON"),
        (
            json.dumps({"prompt": "5" * 10, "completion": "5" * 10}),
            ":2: 21 tokens with the end; the context holds 20, so cut the prompt",
        ),
    ],
)
def test_a_row_that_is_no_example_is_named(tmp_path, line, message):
    good = json.dumps({"prompt": "5" * 10, "completion": "5" * 9})
    (tmp_path / "a.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(ExampleError) as error:
        read(tmp_path / "a.jsonl", most=20)
    assert str(error.value).startswith(f"{tmp_path}/a.jsonl{message}")


def test_files_without_examples_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(ExampleError, match=r"a\.jsonl holds no example"):
        read(tmp_path / "a.jsonl")
    with pytest.raises(ExampleError, match=r"b\.jsonl: .*No such file"):
        read(tmp_path / "b.jsonl")


# --- setting aside ------------------------------------------------------------------------------


def plain(prompt: str, completion: str = "x", length: int = 3) -> Example:
    return Example(prompt, completion, np.arange(5, 5 + length), 1, False)


EXAMPLES = st.lists(
    st.builds(plain, st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=1, max_size=20
)


@given(EXAMPLES, st.integers(0, 12), st.integers(0, 3), st.randoms())
def test_no_prompt_is_on_both_sides_whatever_the_order(examples, count, seed, random):
    learned, aside = set_aside(examples, count, seed)
    assert Counter(learned) + Counter(aside) == Counter(examples)
    assert learned
    assert not {e.prompt for e in learned} & {e.prompt for e in aside}
    most = max(Counter(e.prompt for e in examples).values())
    assert len(aside) < count + most if count else not aside
    assert len(aside) >= count or len({e.prompt for e in learned}) == 1
    again = examples[:]
    random.shuffle(again)
    assert {e.prompt for e in set_aside(again, count, seed)[1]} == {e.prompt for e in aside}


def test_the_seed_and_nothing_else_chooses():
    examples = [plain(str(n)) for n in range(40)]
    first, second = (set_aside(examples, 10, seed)[1] for seed in (0, 1))
    assert len(first) == len(second) == 10
    assert first != second
    # Of more examples, those that were set aside are among the first that are again.
    more = set_aside(examples + [plain(str(n)) for n in range(40, 50)], 20, 0)[1]
    assert set(first) <= set(more)


# --- batches ------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(2, 16), st.integers(1, 15)), min_size=1, max_size=12),
    st.integers(1, 4), st.integers(0, 2),
)  # fmt: skip
def test_each_time_through_every_example_lies_whole_in_one_window(sizes, rows, seed):
    examples = [
        Example(f"{n}", "", np.full(size, n + 1), min(first, size - 1), False)
        for n, (size, first) in enumerate(sizes)
    ]
    windows = windows_of(examples, 16)
    batches = example_batches(examples, 16, rows, seed)
    # So many batches that windows of both times fill them.
    found = [next(batches) for _ in range(2 * windows)]
    joined = {name: np.concatenate([b[name] for b in found]) for name in found[0]}
    for epoch in range(2 * rows):
        own = {name: a[epoch * windows : (epoch + 1) * windows] for name, a in joined.items()}
        segments = set()
        for number, example in enumerate(examples, 1):
            row, places = np.nonzero(own["tokens"] == number)
            assert len(places) == len(example)
            assert len(set(row)) == 1
            assert (np.diff(places) == 1).all()
            assert own["positions"][row, places].tolist() == list(range(len(example)))
            assert len(set(own["segments"][row, places])) == 1
            segments.add((int(row[0]), int(own["segments"][row[0], places[0]])))
            wanted = [n >= example.first for n in range(len(example))]
            assert own[LEARNED][row, places].tolist() == wanted
        assert len(segments) == len(examples)
        assert not own[LEARNED][own["tokens"] == 0].any()


def test_the_order_is_another_each_time_and_the_same_for_a_seed(tmp_path):
    examples = examples_of(tmp_path / "a", [(f"Number {n} is", f" {n * n}") for n in range(60)])
    windows = windows_of(examples, 64)

    def tokens(seed):
        batches = itertools.islice(example_batches(examples, 64, 1, seed), 2 * windows)
        return [batch["tokens"].tobytes() for batch in batches]

    assert tokens(0) == tokens(0)
    assert tokens(0)[:windows] != tokens(0)[windows:]
    assert tokens(0)[:windows] != tokens(1)[:windows]


def test_a_digest_is_of_every_text_and_its_place():
    one, other = plain("ab", "c"), plain("a", "bc")
    assert len({digest(own) for own in ([one], [other], [one, other], [other, one])}) == 4


# --- judging ------------------------------------------------------------------------------------


def test_completions_alone_are_judged_and_their_ends_have_no_bytes():
    examples = [
        Example("a", "été", np.array([9, 8, 5, 6, EOS_ID]), 2, False),
        Example("b", "xy", np.array([9, 7, EOS_ID]), 1, False),
    ]
    nats = [np.array([50.0, 1, 2, 4], "f"), np.array([3.0, 5], "f")]
    right = [np.array([False, True, True, True]), np.array([True, False])]

    def scores(sequences, seen):
        assert [ids.tolist() for ids in sequences] == [e.ids.tolist() for e in examples]
        return [Scored(*own) for own in zip(nats, right, strict=True)]

    known = judge(scores, examples)
    assert (known.examples, known.tokens, known.bytes) == (2, 5, 7)
    assert known.loss == pytest.approx((1 + 2 + 4 + 3 + 5) / 5)
    assert known.bits_per_byte == pytest.approx((1 + 2 + 3) / np.log(2) / 7)
    assert known.exact == 0.5
