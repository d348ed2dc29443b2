"""A quantized model as a whole: what it computes, draws and gives out."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_here import a_model, float_logits, tokens_computed, write_absurd
from tokenizers_here import ROOT, own_texts, small_tokenizer

from pipelines.cli import main
from runtime import build, native
from runtime.build import NoLibrary
from runtime.file import CiderFileError, read
from runtime.model import Model
from runtime.sampling import FIRST_TEXT, Sampling, candidates, choose
from runtime.streaming import TextStream
from tokenizer.special import EOS_ID

GREEDY = Sampling(temperature=0)
PROMPTS = ["The tide", "Grüße aus", "def f(x):", "The tide is high, and the boats"]


def model(**options):
    return Model.load(a_model(), **{"threads": 1, "context": 256, **options})


@pytest.mark.parametrize(("bits", "bound"), [(16, 0.045), (8, 0.05)])
def test_logits_are_those_of_a_float_model_with_the_same_weights(bits, bound):
    """The bound is what activations of 8 bits cost: the root mean square of the difference over
    that of the logits."""
    contents = read(a_model())
    ids = small_tokenizer().encode(own_texts()[0][:300]).tolist()
    wanted, hidden = float_logits(contents, ids)
    found = model(cache_bits=bits)
    error = found.logits(ids) - wanted
    assert np.sqrt((error**2).mean()) < bound * np.sqrt((wanted**2).mean())
    mean = found.embeddings([small_tokenizer().decode(ids)])[0]
    assert np.abs(mean - hidden.mean(0)).max() < bound * np.abs(hidden).max()
    shifted = wanted - np.log(np.exp(wanted).sum(1, keepdims=True))
    nats = found.score_ids([ids], window=256)[0].nats
    assert abs(nats.mean() + shifted[np.arange(len(ids) - 1), ids[1:]].mean()) < 0.02


def test_greedy_text_is_the_same_for_any_threads_batch_and_cache():
    wanted = model().complete(PROMPTS, tokens=24, sampling=GREEDY)
    assert len(set(wanted)) == len(wanted)
    assert model(threads=2).complete(PROMPTS, tokens=24, sampling=GREEDY) == wanted
    assert model(kernels="numpy").complete(PROMPTS[:2], tokens=24, sampling=GREEDY) == wanted[:2]
    one = model(threads=2)
    for prompt, text in zip(PROMPTS, wanted, strict=True):
        assert one.complete([prompt], tokens=24, sampling=GREEDY) == [text]
    # Once more, with all that was kept; and from the middle of what was said.
    for prompt, text in zip(PROMPTS, wanted, strict=True):
        assert one.complete([prompt], tokens=24, sampling=GREEDY) == [text]


def test_what_was_read_before_is_not_read_again(monkeypatch):
    one = model(keep=2)
    computed = tokens_computed(one, monkeypatch)
    text = own_texts()[0][:400]
    count = len(small_tokenizer().encode(text))
    first = one.complete([text], tokens=2, sampling=GREEDY)
    assert computed == [count, 1]
    assert one.complete([text], tokens=2, sampling=GREEDY) == first
    assert computed == [count, 1, 1, 1]
    longer = small_tokenizer().decode(small_tokenizer().encode(text).tolist()) + "\nmore"
    one.complete([longer], tokens=1, sampling=GREEDY)
    assert computed[-1] <= len(small_tokenizer().encode("\nmore")) + 1
    # What two others have displaced is read anew.
    one.complete(["x"], tokens=1)
    one.complete(["y"], tokens=1)
    one.complete([text], tokens=1)
    assert computed[-1] == count


def test_what_prompts_of_a_batch_share_is_read_once(monkeypatch):
    one, fresh = model(keep=2), model(keep=0)
    computed = tokens_computed(one, monkeypatch)
    text = own_texts()[0]
    prompts = [text[:400], "The tide", text[:400] + "\nmore", text[:300], text[:400], text[50:400]]
    counts = [len(small_tokenizer().encode(prompt)) for prompt in prompts]
    wanted = [fresh.complete([prompt], tokens=4, sampling=GREEDY)[0] for prompt in prompts]
    assert model().complete(prompts, tokens=4, sampling=GREEDY) == wanted
    one.complete(prompts, tokens=1, sampling=GREEDY)
    # The longest but for its last token; then this, what ends the others that begin like it, and
    # all of the two that do not.
    assert computed[0] == counts[2] - 1
    assert counts[1] + counts[5] + 4 <= computed[1] <= counts[1] + counts[5] + 16
    assert len(computed) == 2
    # Beginnings that were kept, or are short, cost no call of their own.
    for again in ([text[:200], text[:210], text[:200]], [text[100:200]] * 2):
        computed.clear()
        one.complete(again, tokens=1, sampling=GREEDY)
        assert len(computed) == 1
    # Two texts begin alike, and of one of them two again.
    computed.clear()
    same, x, y = own_texts()[1][:250], own_texts()[2][:250], own_texts()[3][:250]
    prompts = [same + end for end in (x + "one", y + "one", y + "two", y, x + "two")]
    counts = [len(small_tokenizer().encode(part)) for part in (same, x, y)]
    one.complete(prompts, tokens=1, sampling=GREEDY)
    assert sum(counts) <= sum(computed) <= sum(counts) + 40
    assert len(computed) == 3


def test_what_is_kept_is_not_written_over():
    text, one, fresh = own_texts()[0], model(keep=4), model(keep=0)
    # The second parts from the first within a block, the third goes on with the first.
    for prompt in (text[:300], text[:150] + "another end", text[:330]):
        for both in ([prompt], [prompt, prompt[:-20]]):
            found = one.complete(both, tokens=3, sampling=GREEDY)
            assert found == fresh.complete(both, tokens=3, sampling=GREEDY)


def test_what_was_read_is_kept_where_the_caller_stops_early(monkeypatch):
    one = model()
    computed = tokens_computed(one, monkeypatch)
    first, second = own_texts()[0][:300], own_texts()[1][:300]
    pieces = one.generate([first, second], tokens=9, sampling=GREEDY)
    next(pieces)
    pieces.close()
    computed.clear()
    # A loop that is left throws its generator away, which is the same.
    for text in (first, second):
        for _ in one.generate(text, tokens=9, sampling=GREEDY):
            break
    assert set(computed) == {1}
    assert one.complete(first, tokens=9, sampling=GREEDY) == model(keep=0).complete(
        first, tokens=9, sampling=GREEDY
    )


def test_a_generator_may_be_thrown_away_while_its_model_is_at_work():
    """As the garbage collector does, in whichever thread it runs; a child, as it could not end."""
    code = (
        "import sys\nfrom runtime.model import Model\n"
        "m = Model.load(sys.argv[1], threads=1, context=64)\np = m.generate('The tide')\n"
        "next(p)\nwith m._lock:\n    p.close()\nprint(len(m._kept))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, a_model()], check=True, capture_output=True, text=True,
        timeout=60, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == "1\n"


def test_nats_are_the_same_alone_in_a_batch_and_for_any_threads():
    texts = [text[:700] for text in own_texts()[:4]] + ["", "a", "two words"]
    wanted = model().score(texts, window=64)
    assert [len(s.nats) for s in wanted[4:6]] == [0, 0]
    assert all(s.nats.min() > 0 for s in wanted[:4])
    two = model(threads=2)
    together = two.score(texts, window=64)
    for text, a, b in zip(texts, wanted, together, strict=True):
        alone = two.score([text], window=64)[0]
        assert np.array_equal(a.nats, b.nats)
        assert np.array_equal(a.nats, alone.nats)
        assert np.array_equal(a.first, alone.first)


def test_a_long_text_is_scored_in_windows_that_overlap_by_half():
    ids = small_tokenizer().encode(own_texts()[0])[:100].tolist()
    one = model()
    found = one.score_ids([ids], window=32)[0]
    assert len(found.nats) == 99
    # The first window counts as a whole, the next one from its second half on.
    assert np.array_equal(found.nats[:31], one.score_ids([ids[:32]], window=64)[0].nats)
    assert np.array_equal(found.nats[31:46], one.score_ids([ids[15:47]], window=64)[0].nats[16:])
    assert found.first[0] == (int(one.logits(ids[:1])[0].argmax()) == ids[1])


def test_the_least_window_is_of_a_token_and_the_next():
    one = model()
    found = one.score_ids([[5, 9, 7]], window=2)[0]
    pairs = [one.score_ids([own], window=2)[0].nats for own in ([5, 9], [9, 7])]
    assert np.array_equal(found.nats, np.concatenate(pairs))


def test_what_is_drawn_depends_on_the_seed_alone():
    how = Sampling(seed=5, temperature=1.0, top_p=1)
    first = model().complete(PROMPTS[:2], tokens=12, sampling=how)
    assert model(threads=2).complete(PROMPTS[:2], tokens=12, sampling=how) == first
    assert model().complete(PROMPTS[:1], tokens=12, sampling=how) == first[:1]
    other = Sampling(seed=6, temperature=1.0, top_p=1)
    assert model().complete(PROMPTS[:2], tokens=12, sampling=other) != first
    same = model().complete([PROMPTS[0]] * 2, tokens=12, sampling=how)
    assert same[0] != same[1]


def test_pieces_join_to_the_text_and_say_how_it_ended():
    one = model()
    pieces = list(one.generate(PROMPTS[0], tokens=16, sampling=GREEDY))
    text = "".join(piece.text for piece in pieces)
    assert len(pieces) > 3
    assert [piece.end for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].end == "length"
    assert one.complete([PROMPTS[0]], tokens=16, sampling=GREEDY) == [text]
    stop = text[5:8]
    pieces = list(one.generate(PROMPTS[0], tokens=16, stop=[stop, "never"], sampling=GREEDY))
    assert "".join(piece.text for piece in pieces) == text[: text.index(stop)]
    assert pieces[-1].end == "stop"
    full = list(model(context=32).generate(PROMPTS[0], tokens=500, sampling=GREEDY))
    assert full[-1].end == "length"


def test_options_out_of_bounds_are_refused_before_anything_is_said():
    one = model()
    for says, call in [
        ("a prompt of 0 tokens", lambda: one.generate("")),
        ("a prompt of .* tokens; .* 1 to 255", lambda: one.generate("x y " * 400)),
        ("0 tokens to add", lambda: one.generate("x", tokens=0)),
        ("an empty stop string", lambda: one.generate("x", stop=[""])),
        ("windows of 1 tokens", lambda: one.score(["x"], window=1)),
        ("not of the vocabulary, 0 to 1999", lambda: one.logits([2000])),
        ("not of the vocabulary", lambda: one.logits([-1])),
        ("goes on with no token", lambda: one.logits([])),
        ("300 tokens; the context is 256", lambda: one.logits([70] * 300)),
        ("0 threads", lambda: model(threads=0)),
        ("a cache of 4 bits", lambda: model(cache_bits=4)),
        ("a context of 0", lambda: model(context=0)),
        ("a temperature of -1", lambda: Sampling(temperature=-1)),
        ("a top_p of 0", lambda: Sampling(top_p=0)),
        ("a top_k of -1", lambda: Sampling(top_k=-1)),
        ("a min_p of 2", lambda: Sampling(min_p=2)),
        ("a repetition_penalty of nan", lambda: Sampling(repetition_penalty=float("nan"))),
        ("a repetition_penalty of 1e-310; it must be from 0.01 to 100",
         lambda: Sampling(repetition_penalty=1e-310)),
        ("a repetition_penalty of 101", lambda: Sampling(repetition_penalty=101)),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=says):
            call()
    with pytest.raises(NoLibrary, match="'abacus'"):
        model(kernels="abacus")


def scores_of(probabilities):
    return np.log(np.array(probabilities, np.float64))


@pytest.mark.parametrize(
    ("how", "kept"),
    [({}, [0, 1, 2, 3]), ({"top_k": 2}, [1, 3]), ({"top_p": 0.69}, [1, 3]),
     ({"top_p": 0.71}, [1, 2, 3]), ({"min_p": 0.5}, [1, 2, 3]), ({"min_p": 0.51}, [1, 3]),
     ({"top_k": 3, "top_p": 0.5}, [1, 3]), ({"temperature": 0.1, "top_p": 0.9}, [3])],
)  # fmt: skip
def test_what_the_bounds_leave(how, kept):
    ids, weights = candidates(
        scores_of([0.1, 0.3, 0.2, 0.4]), Sampling(**{"temperature": 1, "top_p": 1, **how})
    )
    assert ids.tolist() == kept
    shares = np.array([0.1, 0.3, 0.2, 0.4])[ids] ** (1 / how.get("temperature", 1))
    np.testing.assert_allclose(weights, shares / shares.max())


@given(
    st.lists(st.integers(-9, 3), min_size=2, max_size=40), st.integers(1, 40),
    st.sampled_from([1e-9, 0.3, 0.9, 0.999, 1 - 2**-53]),
)  # fmt: skip
def test_the_likeliest_are_kept_and_equals_by_id(scores, k, share):
    order = sorted(range(len(scores)), key=lambda number: (-scores[number], number))
    found, _ = candidates(np.array(scores, np.float64), Sampling(top_k=k, top_p=1))
    assert found.tolist() == sorted(order[:k])
    # Shares that fractions can tell: 2 to the power of a score.
    how = Sampling(temperature=1 / math.log(2), top_p=share)
    found, _ = candidates(np.array(scores, np.float64), how)
    assert found.tolist() == sorted(order[: len(found)])
    held = [Fraction(2) ** scores[number] for number in order]
    near = Fraction(share) * sum(held)
    assert sum(held[: len(found)]) >= near * (1 - Fraction(1, 10**12))
    assert sum(held[: len(found) - 1]) < near * (1 + Fraction(1, 10**12))


def test_a_text_alone_is_one_text():
    one = model()
    sampling = Sampling(temperature=0)
    assert one.complete("The old", tokens=4, sampling=sampling) == one.complete(
        ["The old"], tokens=4, sampling=sampling
    )
    (alone,) = one.score("The old", window=64)
    np.testing.assert_array_equal(alone.nats, one.score(["The old"], window=64)[0].nats)
    np.testing.assert_array_equal(one.embeddings("The old"), one.embeddings(["The old"]))
    (text,) = one.complete("The old", tokens=16, sampling=sampling)
    stopped = one.complete("The old", tokens=16, sampling=sampling, stop=text[5:8])
    assert stopped == [text[: text.index(text[5:8])]]


def test_shares_of_what_is_drawn_are_the_probabilities():
    scores = np.full(FIRST_TEXT + 4, -50, np.float32)
    scores[-4:] = scores_of([0.1, 0.3, 0.2, 0.4])
    scores[2] = 99  # no text, never drawn
    random = np.random.Generator(np.random.PCG64(0))
    none: list[int] = []
    how = Sampling(temperature=1, top_p=1)
    drawn = [choose(scores, none, how, random) - FIRST_TEXT for _ in range(4000)]
    assert np.allclose(np.bincount(drawn) / 4000, [0.1, 0.3, 0.2, 0.4], atol=0.03)
    scores[EOS_ID] = 98
    assert choose(scores, none, GREEDY, random) == EOS_ID


def test_the_penalty_makes_what_was_said_less_likely():
    scores = np.full(FIRST_TEXT + 3, -50, np.float32)
    scores[-3:] = [4, 3, -1]
    seen = [FIRST_TEXT, FIRST_TEXT, FIRST_TEXT + 2]
    how = Sampling(temperature=0, repetition_penalty=2)
    assert choose(scores, seen, how, how.stream(0)) == FIRST_TEXT + 1
    scores[-3:] = [-4, -7, -3]
    assert choose(scores, seen, how, how.stream(0)) == FIRST_TEXT + 2


@given(
    logits=st.lists(
        st.sampled_from([-np.inf, np.inf, -3e38, 3e38, -1e-40, 0, 1, 5]), min_size=4, max_size=9
    ),
    penalty=st.sampled_from([0.01, 1, 100]),
    temperature=st.sampled_from([5e-324, 1e-310, 0.8, 100]),
    bounds=st.sampled_from([{}, {"top_k": 2}, {"min_p": 1.0}, {"top_p": 0.01}]),
)
def test_logits_of_any_size_leave_a_token_to_draw(logits, penalty, temperature, bounds):
    scores = np.full(FIRST_TEXT + len(logits), -np.inf, np.float32)
    scores[FIRST_TEXT:] = logits
    seen = [FIRST_TEXT, FIRST_TEXT + 2]
    for how in (
        Sampling(temperature=temperature, repetition_penalty=penalty, **bounds),
        Sampling(temperature=0, repetition_penalty=penalty),
    ):
        drawn = choose(scores, seen, how, how.stream(0))
        assert drawn == EOS_ID or FIRST_TEXT <= drawn < len(scores)
        if penalty == 1 and how.temperature < 1e-300:
            assert scores[drawn] == max(logits)
    scores[FIRST_TEXT] = np.nan
    with pytest.raises(ValueError, match="not numbers"):
        choose(scores, seen, how, how.stream(0))


@given(text=st.text(max_size=30), stops=st.lists(st.text(min_size=1, max_size=3), max_size=2))
def test_a_stream_gives_the_text_up_to_a_stop(text, stops):
    stream = TextStream(small_tokenizer(), stops)
    given_out = "".join(stream.add(int(n)) for n in small_tokenizer().encode(text)) + stream.end()
    assert text.startswith(given_out)
    assert not any(stop in given_out for stop in stops)
    assert stream.stopped == any(stop in text for stop in stops)
    if stream.stopped:
        assert any(text.startswith(stop, len(given_out)) for stop in stops)
    else:
        assert given_out == text


def test_the_stop_that_is_complete_first_ends_a_text():
    stream = TextStream(small_tokenizer(), ["xyz", "y"])
    ids = [int(small_tokenizer().encode(letter)[0]) for letter in "xyz"]
    assert "".join(map(stream.add, ids)) == "x"
    assert stream.stopped


def test_characters_of_many_bytes_come_whole():
    stream = TextStream(small_tokenizer())
    pieces = [stream.add(int(n)) for n in small_tokenizer().encode("\U0001f9ff\U0001f9ff")]
    assert [piece for piece in pieces if piece] == ["\U0001f9ff", "\U0001f9ff"]
    assert stream.end() == ""


def test_a_forked_process_computes_with_threads_of_its_own():
    code = (
        "import os, sys\nfrom runtime.model import Model\n"
        "m = Model.load(sys.argv[1], threads=2, context=64)\n"
        "a = m.logits([70, 71]).tobytes()\n"
        "child = os.fork()\n"
        "if not child: os._exit(m.logits([70, 71]).tobytes() != a)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    subprocess.run([sys.executable, "-c", code, a_model()], check=True, timeout=300, cwd=ROOT)


def test_a_process_that_is_forked_in_the_midst_of_a_call_computes():
    """The thread that computes, and holds the lock, is not there in the child."""
    code = (
        "import os, sys, threading\nfrom runtime.model import Model\n"
        "m = Model.load(sys.argv[1], threads=2, context=64)\n"
        "a = m.logits([70, 71]).tobytes()\n"
        "held, forked = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with m._lock:\n"
        "        held.set(), forked.wait()\n"
        "threading.Thread(target=hold).start()\n"
        "held.wait()\n"
        "child = os.fork()\n"
        "if not child: os._exit(m.logits([70, 71]).tobytes() != a)\n"
        "forked.set()\n"
        "import signal\nsignal.alarm(60)\n"
        "signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    subprocess.run([sys.executable, "-c", code, a_model()], check=True, timeout=300, cwd=ROOT)


@pytest.mark.parametrize("kernels", [None, "numpy"])
def test_a_model_whose_numbers_overflow_says_so(tmp_path, kernels):
    path = write_absurd(str(tmp_path / "m.cider"), {"layers.0.ffn_norm": 3e38})
    bad = Model.load(path, threads=1, context=64, kernels=kernels)
    for call in (
        lambda: bad.logits([70, 71]), lambda: bad.embeddings(["The tide"]),
        lambda: bad.score(["The tide"], window=64), lambda: bad.complete(["The tide"]),
        lambda: bad.complete(["The tide"], sampling=GREEDY),
    ):  # fmt: skip
        with pytest.raises(CiderFileError, match=r"m\.cider: what this model computes is not"):
            call()


def test_without_a_compiler_numpy_computes_and_says_so(tmp_path):
    code = (
        "import sys\nfrom runtime.model import Model\n"
        "m = Model.load(sys.argv[1], threads=1, context=64)\nprint(m.kernels)"
    )
    environment = {**os.environ, "CC": "/no/compiler", "CIDERMILL_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, a_model()], check=True, capture_output=True, text=True,
        env=environment, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == "numpy\n"
    compiling, notice = done.stderr.splitlines()
    assert "compiling the kernels, once" in compiling
    assert "numpy computes instead" in notice


def test_a_library_in_the_cache_that_is_damaged_is_made_anew(tmp_path, monkeypatch, capfd):
    real = native.load()._name
    monkeypatch.setenv("CIDERMILL_CACHE", str(tmp_path))
    made: list[str] = []

    def compiled(folder, flags=build.FLAGS):
        target = folder / build.name_of(flags)
        if not target.exists():
            made.append(target.name)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(real, target)
        return target

    path = tmp_path / "kernels" / build.name_of()
    path.parent.mkdir()
    path.write_bytes(b"junk")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    monkeypatch.setattr(build, "name_of", lambda flags=(): path.name)
    monkeypatch.setattr(build, "compile_to", compiled)
    assert native._open()._name == str(path)
    assert made == [path.name]
    assert path.read_bytes() == open(real, "rb").read()  # noqa: SIM115


def test_a_compiler_that_fails_without_a_word_is_told_in_one(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "false")
    with pytest.raises(NoLibrary, match="^false failed: exit status 1$"):
        build.compile_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_whose_command_cannot_be_read_is_told(monkeypatch):
    monkeypatch.setenv("CC", "gcc 'x")
    with pytest.raises(NoLibrary, match="a quote in it is not closed"):
        build.find_compiler()


def test_the_command_writes_the_text_of_the_model(capsys, monkeypatch):
    own = model().complete(PROMPTS[:2], tokens=8, sampling=GREEDY)
    command = ["generate", "--model", a_model(), "--tokens", "8", "--temperature", "0"]
    assert main([*command, "--prompt", PROMPTS[0]]) == 0
    assert capsys.readouterr().out == f"{PROMPTS[0]}{own[0]}\n"
    assert main([*command, "--prompt", PROMPTS[0], "--prompt", PROMPTS[1]]) == 0
    both = f"{PROMPTS[0]}{own[0]}\n--------\n{PROMPTS[1]}{own[1]}\n"
    assert capsys.readouterr().out == both


def test_a_terminal_that_cannot_hold_the_text_is_one_line():
    command = [sys.executable, "-m", "pipelines", "generate", "--model", a_model()]
    done = subprocess.run(
        [*command, "--prompt", "Grüße", "--tokens", "1"], check=False, capture_output=True,
        text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    # Before it there may be the line that kernels are compiled.
    assert "Traceback" not in done.stderr
    assert "encoding ascii cannot hold U+00FC; set PYTHONIOENCODING=utf-8" in done.stderr


def test_too_little_memory_is_one_line(capsys, monkeypatch):
    def load(*_, **__):
        raise MemoryError("no room for an engine of 1 threads and 1048576 tokens")

    monkeypatch.setattr(Model, "load", load)
    assert main(["generate", "--model", a_model(), "--prompt", "x"]) == 1
    error = capsys.readouterr().err
    assert error == (
        "cidermill: not enough memory: no room for an engine of 1 threads and 1048576 tokens\n"
    )


def test_a_model_whose_numbers_overflow_is_one_line(tmp_path, capsys):
    path = write_absurd(str(tmp_path / "m.cider"), {"norm": 3e38, "embedding": 1e20})
    for many in (["x"], ["x", "y"]):
        prompts = [word for prompt in many for word in ("--prompt", prompt)]
        assert main(["generate", "--model", path, *prompts]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "m.cider: what this model computes is not finite" in error


@pytest.mark.parametrize(
    ("given_options", "says"),
    [([], "nothing to go on from: give --prompt"), (["--prompt", "x", "--top-p", "2"], "top_p"),
     (["--prompt", "x", "--model", f"{ROOT}/README.md"], "no model of `cidermill quantize`"),
     (["--prompt", "x", "--context", "1"], "--context is 1; it must be at least 2"),
     (["--prompt", "-", "--prompt", "-"], "--prompt - is given twice"),
     (["--prompt", "x", "--no"], "unknown option --no; see cidermill generate --help")],
)  # fmt: skip
def test_wrong_use_of_the_command_is_one_line(capsys, given_options, says):
    assert main(["generate", "--model", a_model(), *given_options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
