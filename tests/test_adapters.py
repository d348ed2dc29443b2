"""Adapters at run time: what they compute, that they leave no trace, and several at a time."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_here import SHAPE, a_model, float_logits
from test_runtime_kernels import SETS, kernels
from tokenizers_here import own_texts, small_tokenizer

from pipelines.cli import main
from runtime.adapter_files import Adapter, AdapterError, write_adapter
from runtime.adapters import load_adapter
from runtime.cache import Sequence
from runtime.file import read
from runtime.model import Model
from runtime.plain import adapt
from runtime.sampling import Sampling
from runtime.shape import matrices

GREEDY = Sampling(temperature=0)
PROMPTS = ["The tide", "Grüße aus", "def f(x):", "The tide is high, and the boats"]
LINEARS = {name: dims for name, dims in matrices(SHAPE).items() if name != "embedding"}


def drawn(seed, rank=16, names=tuple(LINEARS), base=None, size=0.5):
    """An adapter about half as large as the weights, in numbers that 16 bits hold."""
    rng = np.random.Generator(np.random.PCG64(seed))
    factors = {}
    for name in names:
        rows, columns = LINEARS[name]
        a = rng.standard_normal((rank, columns), np.float32) / np.float32(columns**0.5)
        b = rng.standard_normal((rows, rank), np.float32) * np.float32(size / rank**0.5)
        factors[name] = tuple(half.astype(np.float16).astype(np.float32) for half in (a, b))
    return Adapter(factors, 1.25, base or read(a_model()).digest, f"{seed:064x}")


def loaded(*arguments, **options):
    return load_adapter(drawn(*arguments, **options), SHAPE)


def several():
    """Adapters of several ranks, one of two maps only."""
    return [loaded(1), loaded(2, 5), loaded(3, 1, ("layers.0.k", "layers.1.down"), size=2)]


def model(**options):
    return Model.load(a_model(), **{"threads": 1, "context": 256, **options})


@pytest.mark.parametrize("rank", [5, 16])
def test_logits_are_those_of_a_float_model_with_merged_weights(rank):
    """The bound is that of the base: what activations of 8 bits cost."""
    ids = small_tokenizer().encode(own_texts()[0][:300]).tolist()
    adapter, one = drawn(4, rank), model()
    wanted, base = (float_logits(one.contents, ids, own)[0] for own in (adapter, None))
    one.use(load_adapter(adapter, SHAPE))
    found = one.logits(ids)

    def apart(a, b):
        return np.sqrt(((a - b) ** 2).mean()) / np.sqrt((wanted**2).mean())

    assert apart(found, wanted) < 0.045
    assert apart(base, wanted) > 0.4


@pytest.mark.parametrize("count", [1, 40])
def test_c_and_numpy_and_any_threads_give_the_same_bits(count):
    ids = small_tokenizer().encode(own_texts()[0]).tolist()[:count]
    engines = [model(), model(threads=3), model(kernels="scalar"), model(kernels="numpy")]
    for adapter in several():
        for one in engines:
            one.use(adapter)
        wanted, *others = (one.logits(ids) for one in engines)
        assert all(np.array_equal(wanted, found) for found in others)


def test_an_adapter_leaves_no_trace():
    one = model()
    before = one.complete(PROMPTS, tokens=8, sampling=GREEDY)
    logits, scores = one.logits([70, 71, 72]), one.score(PROMPTS, window=64)
    texts = []
    for adapter in several():
        one.use(adapter)
        texts.append(one.complete(PROMPTS, tokens=8, sampling=GREEDY))
        assert not np.array_equal(one.logits([70, 71, 72]), logits)
        assert not np.array_equal(one.score(PROMPTS, window=64)[3].nats, scores[3].nats)
    assert all(text != before for text in texts)
    # With what was kept of this adapter, and of others: its own is gone on with.
    assert one.complete(PROMPTS, tokens=8, sampling=GREEDY) == texts[-1]
    one.use(None)
    assert np.array_equal(one.logits([70, 71, 72]), logits)
    assert one.complete(PROMPTS, tokens=8, sampling=GREEDY) == before
    assert np.array_equal(one.score(PROMPTS, window=64)[3].nats, scores[3].nats)


@pytest.mark.parametrize("kernels_name", [None, "numpy"])
def test_several_adapters_in_one_batch_give_what_each_gives_alone(kernels_name):
    adapters = [*several(), None]
    one = model(threads=2, kernels=kernels_name)
    steps = [(Sequence(SHAPE, 16, adapter=own), [70, 71 + n, 300]) for n, own in
             enumerate(adapters)]  # fmt: skip
    for following in ([70, 71, 300], [5], [9]):
        alone = [
            one._engine.logits([(Sequence(SHAPE, 16, adapter=s.adapter), [*s.ids, *ids])])
            for s, ids in steps
        ]
        together = one._engine.logits(steps)
        assert np.array_equal(together, np.concatenate(alone))
        steps = [(sequence, following) for sequence, _ in steps]


def test_what_was_read_is_kept_for_each_adapter(monkeypatch):
    one, computed = model(), []
    forward = one._engine._forward

    def counted(steps, job):
        computed.append(len(job.ids))
        forward(steps, job)

    monkeypatch.setattr(one._engine, "_forward", counted)
    adapters = [*several()[:2], None]
    count = len(small_tokenizer().encode(PROMPTS[3]))
    for tokens in (count, 1):
        for adapter in adapters:
            computed.clear()
            one.complete(PROMPTS[3:], tokens=1, sampling=GREEDY, adapters=[adapter])
            assert computed == [tokens]


def test_each_prompt_names_its_adapter():
    adapters = [*several(), None]
    one = model()
    wanted = [
        model().complete([prompt], tokens=8, sampling=GREEDY, adapters=[own])[0]
        for prompt, own in zip(PROMPTS, adapters, strict=True)
    ]
    for _ in range(2):
        assert one.complete(PROMPTS, tokens=8, sampling=GREEDY, adapters=adapters) == wanted
    same = one.complete([PROMPTS[0]] * 4, tokens=8, sampling=GREEDY, adapters=adapters)
    assert len(set(same)) == 4
    with pytest.raises(ValueError, match="1 adapters for 2 prompts"):
        one.generate(PROMPTS[:2], adapters=[None])


def test_texts_keep_the_adapter_that_they_began_with():
    one, (first, second, _) = model(), several()
    one.use(first)
    wanted = one.complete(PROMPTS[:1], tokens=8, sampling=GREEDY)[0]
    pieces = one.generate(PROMPTS[0], tokens=8, sampling=GREEDY)
    begun = next(pieces).text
    one.use(second)
    assert begun + "".join(piece.text for piece in pieces) == wanted


def test_another_base_is_refused():
    one, other = model(), loaded(1, base="ab" * 32)
    for call in (
        lambda: one.use(other),
        lambda: one.generate("x", adapters=[other]),
    ):
        with pytest.raises(AdapterError, match="is for the base abababababababab, and this model"):
            call()
    assert one.generate("x", adapters=[None])


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ({"layers.7.q": (np.ones((4, 96)), np.ones((128, 4)))}, r"the model's layers\.7\.q"),
        ({"layers.0.q": (np.ones((4, 95)), np.ones((128, 4)))}, r"factors of \(4, 95\)"),
        ({"layers.0.q": (np.ones((4, 96)), np.full((128, 4), 7e4))}, "not finite in 16 bits"),
    ],
)
def test_factors_that_no_kernel_takes_are_refused(factors, says):
    with pytest.raises(AdapterError, match=says):
        load_adapter(Adapter(factors, 1.0, "ab" * 32, "0" * 64), SHAPE)


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 40), st.sampled_from(sorted(LINEARS)))
def test_every_set_of_kernels_gives_the_bits_of_numpy(name, seed, rank, map_name):
    adapter = loaded(seed, rank, (map_name,))
    rows, columns = LINEARS[map_name]
    rng = np.random.Generator(np.random.PCG64(seed))
    x = rng.standard_normal((1, columns), np.float32)
    y = rng.standard_normal((1, rows), np.float32)
    a, b = adapter.factors[map_name]
    low, found = np.zeros(b.shape[1], np.float32), y.copy()
    own = kernels(name)
    own.lower(
        a.ctypes.data, 0, len(low), x.ctypes.data, columns, adapter.scale, low.ctypes.data
    )  # fmt: skip
    own.lift(b.ctypes.data, len(low), 1, rows // 16, low.ctypes.data, found.ctypes.data)
    adapt([(Sequence(SHAPE, 16, adapter=adapter), [0])], map_name, x, y)
    assert np.array_equal(found[:, 16:], y[:, 16:])
    assert not np.array_equal(found[:, :16], y[:, :16])


def test_ranks_that_no_kernel_takes_are_refused_in_c():
    one, adapter = model(), loaded(1, names=("layers.0.q",))
    one.use(adapter)
    one.logits([70])
    table = one._engine._adapters[adapter]
    for rank in (-4, 3, 516):
        table[0].rank = rank
        with pytest.raises(ValueError, match="out of bounds"):
            one.logits([70])
    assert ctypes.sizeof(table) == 14 * 24


def test_the_command_goes_on_with_an_adapter(tmp_path, capsys):
    own, folder = drawn(1), str(tmp_path / "adapter")
    write_adapter(folder, own.factors, own.base, alpha=20)
    command = ["generate", "--model", a_model(), "--tokens", "8", "--temperature", "0"]
    assert main([*command, "--prompt", PROMPTS[0], "--adapter", folder]) == 0
    one = model()
    one.use(load_adapter(own, SHAPE))
    wanted = one.complete(PROMPTS[:1], tokens=8, sampling=GREEDY)[0]
    assert capsys.readouterr().out == f"{PROMPTS[0]}{wanted}\n"
    write_adapter(folder, own.factors, "cd" * 32)
    assert main([*command, "--prompt", "x", "--adapter", folder]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is for the base cdcdcdcdcdcdcdcd" in error
