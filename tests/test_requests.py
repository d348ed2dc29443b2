"""Requests from a file, each with an adapter of its own, through the command line."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_here import SHAPE, a_model
from test_adapters import drawn
from tokenizers_here import own_texts, small_tokenizer

from pipelines.cli import main
from pipelines.inputs_error import InputError
from pipelines.requests import read_requests
from runtime.adapter_files import write_adapter
from runtime.adapters import load_adapter
from runtime.file import read
from runtime.model import Model
from runtime.native import NativeEngine
from runtime.sampling import Sampling

ROWS = [
    {"prompt": "The tide", "adapter": "a", "id": 7},
    {"prompt": "Grüße aus", "adapter": "b"},
    {"prompt": "def f(x):", "adapter": None},
    {"prompt": "The tide", "adapter": "c"},
    {"prompt": "The tide", "adapter": "a"},
    {"prompt": "The tide"},
    {"prompt": "The boats", "adapter": "b"},
]
GOOD = '{"prompt": "x"}'
SEEDS = {"a": 1, "b": 2, "c": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("requests")
    for name, seed in SEEDS.items():
        own = drawn(seed)
        write_adapter(str(found / "adapters" / name), own.factors, own.base, alpha=20)
    (found / "adapters" / "README").write_text("no adapter")
    own = drawn(0)  # of a writer that was killed
    write_adapter(str(found / "adapters" / ".a.17.0.writing"), own.factors, own.base)
    (found / "requests.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    return found


def run(capsys, folder, *options, rows=None):
    """Exit code, rows of standard output, lines of standard error."""
    path = folder / "requests.jsonl"
    if rows is not None:
        path = folder / "others.jsonl"
        path.write_text("\n".join(rows), errors="surrogateescape")
    command = ["generate", "--model", a_model(), "--requests", str(path), "--tokens", "6",
               "--adapters", str(folder / "adapters"), *map(str, options)]  # fmt: skip
    code = main(command)
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err.splitlines()


def size() -> int:
    return load_adapter(drawn(1), SHAPE).nbytes


def test_each_request_is_answered_with_its_own_adapter(folder, capsys):
    """The store holds two of three adapters; a batch needs two at most."""
    greedy, one = Sampling(temperature=0), Model.load(a_model(), context=256)
    adapters = {name: one.adapter(str(folder / "adapters" / name)) for name in SEEDS}
    memory = ("--adapter-memory", 2 * size() + 100, "--temperature", 0)
    code, rows, told = run(capsys, folder, "--batch", 2, *memory)
    assert code == 0
    assert [{k: v for k, v in row.items() if k not in ("text", "end")} for row in rows] == ROWS
    assert {row["end"] for row in rows} <= {"length", "eos"}
    for row in rows:
        own = adapters.get(row.get("adapter"))
        wanted = one.complete([row["prompt"]], tokens=6, sampling=greedy, adapters=[own])
        assert [row["text"]] == wanted
    assert len({row["text"] for row in rows if row["prompt"] == "The tide"}) == 3
    # a, b; c for a, the one used longest ago; a for b; b for c.
    assert told == [
        f"adapters: 5 uses, 0 hits, 5 misses, 3 evictions; {2 * size()} of {2 * size() + 100} "
        "bytes",
        "read from disk with room for 2 of the largest: least recently used 5, Belady's optimum "
        "4, grouped by adapter 3",
    ]
    code, same, told = run(capsys, folder, "--batch", 3, "--by-adapter", *memory)
    assert same == rows
    assert told[0].startswith("adapters: 4 uses, 1 hits, 3 misses, 1 evictions")


def test_what_is_drawn_depends_on_the_request_alone(folder, capsys):
    _, rows, _ = run(capsys, folder, "--batch", 7, "--seed", 3)
    for options in (("--batch", 2), ("--batch", 1, "--by-adapter"), ("--threads", 1)):
        assert run(capsys, folder, "--seed", 3, *options)[1] == rows
    assert run(capsys, folder, "--seed", 4)[1] != rows


def test_what_an_earlier_batch_has_read_is_not_read_again(folder, capsys, monkeypatch):
    """Each adapter reads a beginning once, also one that has left memory since: b takes its
    place."""
    text, forward, read_tokens = own_texts()[0][:400], NativeEngine._forward, []

    def counted(engine, steps, job):
        read_tokens.append(len(job.ids))
        forward(engine, steps, job)

    monkeypatch.setattr(NativeEngine, "_forward", counted)
    asked = [("one", None), ("two", "a"), ("x", "b"), ("three", None), ("four", "a")]
    rows = [{"prompt": f"{text}\n{end}", "adapter": name} for end, name in asked]
    options = ("--temperature", 0, "--tokens", 1, "--adapter-memory", size(), "--batch", 1)
    _, found, told = run(capsys, folder, *options, rows=map(json.dumps, rows))
    assert told[0].startswith("adapters: 3 uses, 0 hits, 3 misses, 2 evictions")
    counts = [len(small_tokenizer().encode(row["prompt"])) for row in rows]
    assert read_tokens[:3] == counts[:3]
    shared = len(small_tokenizer().encode(text)) - 1
    assert [own <= whole - shared for own, whole in zip(read_tokens, counts, strict=True)] == [
        False, False, False, True, True
    ]  # fmt: skip
    fresh = Model.load(a_model(), keep=0)
    for row in found:
        name = row["adapter"]
        own = None if name is None else fresh.adapter(str(folder / "adapters" / name))
        greedy = Sampling(temperature=0)
        assert [row["text"]] == fresh.complete(
            [row["prompt"]], tokens=1, sampling=greedy, adapters=[own]
        )
    reverse = run(capsys, folder, *options, rows=map(json.dumps, rows[::-1]))[1]
    assert reverse[::-1] == found


def test_what_a_batch_needs_is_not_dropped_for_what_it_needs_as_well(folder, capsys):
    rows = [json.dumps({"prompt": "x", "adapter": name}) for name in "abca"]
    memory = ("--adapter-memory", 2 * size())
    told = run(capsys, folder, "--batch", 2, *memory, rows=rows)[2]
    # a and b; then a is there, and c takes the place of b though a was used longer ago.
    assert told[0].startswith("adapters: 4 uses, 1 hits, 3 misses, 1 evictions")


def test_without_adapters_nothing_is_told_of_them(folder, capsys):
    assert run(capsys, folder, rows=['{"prompt": "x"}'])[2] == []


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (['{"prompt": "x"}', "", '{"prompt": "x", "adapter": "d"}'], [],
         "others.jsonl:3: no adapter 'd'; there are a, b, c"),
        (['{"prompt": "x", "adapter": "../adapters/a"}'], [], "others.jsonl:1: no adapter '../"),
        (['{"prompt": "x", "adapter": 3}'], [], "others.jsonl:1: adapter is 3"),
        (["{"], [], "others.jsonl:1: no JSON"),
        (['{"text": "x"}'], [], "others.jsonl:1: a request is an object with a text as its"),
        (['{"prompt": "x", "end": 1}'], [], "others.jsonl:1: the field 'end'"),
        (['{"prompt": ""}'], [], "others.jsonl:1: a prompt of 0 tokens"),
        ([GOOD, '{"prompt": "a\\ud800b"}'], [],
         "others.jsonl:2: the field 'prompt' holds U+D800, half of a surrogate pair"),
        ([GOOD, '{"prompt": "x", "of": {"by": ["a\\udc00"]}}'], [],
         "others.jsonl:2: the field 'of' holds U+DC00"),
        ([GOOD, '{"prompt": "x", "a\\udc01": 1}'], [],
         "others.jsonl:2: the field 'a\\udc01' holds"),
        ([GOOD, '{"prompt": "x", "id": NaN}'], [],
         "others.jsonl:2: the field 'id' holds a number that is not finite"),
        ([GOOD, '{"prompt": "x", "id": [-Infinity]}'], [], "others.jsonl:2: the field 'id'"),
        ([GOOD, '{"prompt": "x", "id": 1e999}'], [], "others.jsonl:2: the field 'id'"),
        ([GOOD, '{"prompt": "\udcff"}'], [], "others.jsonl:2: the field 'prompt' holds U+DCFF"),
        ([GOOD, "\udcff"], [], "others.jsonl:2: no JSON"),
        ([""], [], "others.jsonl has no request"),
        (None, ["--batch", "0"], "--batch is 0; it must be from 1 to 256"),
        (None, ["--adapter-memory", "much"], "--adapter-memory is 'much'"),
        (None, ["--adapter-memory", "100k", "--batch", "4"],
         "requests.jsonl:1 and what is in its batch: 'c' takes"),
        (None, ["--prompt", "x"], "leave out --prompt and --adapter"),
        (None, ["--adapters", "/no"], "/no cannot be read: No such file"),
        (None, ["--top-p", "2"], "top_p"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_one_line_before_any_answer(folder, capsys, rows, options, says):
    code, out, err = run(capsys, folder, *options, rows=rows)
    assert (code, out, len(err)) == (2, [], 1)
    assert says in err[0]


def test_standard_input_is_checked_like_a_file(capsys, monkeypatch):
    # Some locales read what is no UTF-8 without an error.
    raw = io.BytesIO(b'{"prompt": "x"}\n{"prompt": "a\xff"}\n')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, "latin-1"))
    assert main(["generate", "--model", a_model(), "--requests", "-"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "-:2: the field 'prompt' holds U+DCFF" in err


@given(
    st.recursive(
        st.none() | st.floats() | st.text(st.characters(codec=None), max_size=3),
        lambda own: st.lists(own, max_size=2) | st.dictionaries(st.text(), own),
    )
)
def test_what_is_taken_can_be_written_and_read_again(value):
    line = json.dumps({"prompt": "x", "id": value})
    with contextlib.suppress(InputError):
        (request,) = read_requests(io.StringIO(line), "file")
        written = json.dumps(request.fields, ensure_ascii=False, allow_nan=False).encode()
        assert json.loads(written) == {"prompt": "x", "id": value}


def test_an_adapter_of_another_base_is_named_with_its_request(folder, capsys, tmp_path):
    own = drawn(1)
    write_adapter(str(tmp_path / "other"), own.factors, "cd" * 32)
    write_adapter(str(tmp_path / "mine"), own.factors, read(a_model()).digest)
    rows = [json.dumps({"prompt": "x", "adapter": name}) for name in ("mine", "other")]
    code, out, err = run(capsys, folder, "--adapters", tmp_path, rows=rows)
    assert (code, out, len(err)) == (2, [], 1)
    assert "others.jsonl:2: the adapter in" in err[0]
    assert "is for the base cdcdcdcdcdcdcdcd" in err[0]


@pytest.mark.parametrize(
    "option", [("--adapters", "y"), ("--by-adapter",), ("--batch", "1"), ("--adapter-memory", "1M")]
)
def test_options_of_requests_alone_are_refused_without_them(capsys, option):
    assert main(["generate", "--model", a_model(), "--prompt", "x", *option]) == 2
    err = capsys.readouterr().err
    assert f"{option[0]} " in err
    assert "are for --requests" in err


@given(st.text())
def test_any_text_is_requests_or_an_error_that_names_the_line(text):
    said = "file"
    with contextlib.suppress(InputError):
        try:
            assert read_requests(io.StringIO(text), "file")
        except InputError as error:
            said = str(error)
            raise
    assert said.startswith("file")
