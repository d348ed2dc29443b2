"""Adapters at run time: what they compute, that they leave no trace, and several at a time."""

from __future__ import annotations

import ctypes
import weakref

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models_here import SHAPE, a_model, float_logits, tokens_computed
from test_runtime_kernels import SETS, kernels
from tokenizers_here import own_texts, small_tokenizer

from pipelines.cli import main
from runtime import adapters, native
from runtime.adapter_files import Adapter, AdapterError, write_adapter
from runtime.adapters import identity, load_adapter
from runtime.cache import Sequence
from runtime.file import read
from runtime.layout import integers
from runtime.model import Model
from runtime.plain import quantize
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
    """Adapters of several ranks, one of three maps only, of 8 and of 4 bits."""
    some = ("layers.0.k", "layers.0.v", "layers.1.down")
    own = [drawn(1), drawn(2, 5), drawn(3, 1, some, size=2)]
    return [load_adapter(adapter, SHAPE, bits=bits) for bits in (8, 4) for adapter in own]


def model(**options):
    return Model.load(a_model(), **{"threads": 1, "context": 256, **options})


@pytest.mark.parametrize(("rank", "bits", "most"), [(5, 8, 0.045), (16, 8, 0.045), (16, 4, 0.3)])
def test_logits_are_those_of_a_float_model_with_merged_weights(rank, bits, most):
    """The bound of 8 bits is that of the base: what activations of 8 bits cost. In 4 bits what the
    adapter adds is an eighth off, and this one adds half as much as the weights are."""
    ids = small_tokenizer().encode(own_texts()[0][:300]).tolist()
    adapter, one = drawn(4, rank), model()
    wanted, base = (float_logits(one.contents, ids, own)[0] for own in (adapter, None))
    one.use(load_adapter(adapter, SHAPE, bits=bits))
    found = one.logits(ids)

    def apart(a, b):
        return np.sqrt(((a - b) ** 2).mean()) / np.sqrt((wanted**2).mean())

    assert apart(found, wanted) < most
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
    one = model()
    computed = tokens_computed(one, monkeypatch)
    adapters = [*several()[:2], None]
    count = len(small_tokenizer().encode(PROMPTS[3]))
    for tokens in (count, 1):
        for adapter in adapters:
            computed.clear()
            one.complete(PROMPTS[3:], tokens=1, sampling=GREEDY, adapters=[adapter])
            assert computed == [tokens]
    # Nothing but what was read: whoever has loaded an adapter decides how long it is in memory.
    gone = weakref.ref(adapters.pop(0))
    del adapter
    assert gone() is None


def test_each_prompt_names_its_adapter():
    adapters = [*several()[2:5], None]  # of 8 bits and of 4
    one = model()
    wanted = [
        model().complete([prompt], tokens=8, sampling=GREEDY, adapters=[own])[0]
        for prompt, own in zip(PROMPTS, adapters, strict=True)
    ]
    for _ in range(2):
        assert one.complete(PROMPTS, tokens=8, sampling=GREEDY, adapters=adapters) == wanted
    same = one.complete([PROMPTS[0]] * 4, tokens=8, sampling=GREEDY, adapters=adapters)
    assert len(set(same)) == 4
    text = own_texts()[0][:400]
    wanted = [one.complete([text], tokens=4, sampling=GREEDY, adapters=[a])[0] for a in adapters]
    own = model().complete([text] * 8, tokens=4, sampling=GREEDY, adapters=adapters * 2)
    assert own == wanted * 2
    with pytest.raises(ValueError, match="1 adapters for 2 prompts"):
        one.generate(PROMPTS[:2], adapters=[None])


def test_texts_keep_the_adapter_that_they_began_with():
    one, (first, second, *_) = model(), several()
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
        ({"layers.0.q": (np.full((4, 96), 1e30), np.full((128, 4), 1e30))}, "not finite in 32"),
        ({"layers.1.q": (np.zeros((4, 96)), np.full((64, 4), 3.4e38))}, "q: .* not finite in 32"),
    ],
)
def test_factors_that_no_kernel_takes_are_refused(factors, says):
    own = {name: tuple(half.astype(np.float32) for half in pair) for name, pair in factors.items()}
    with pytest.raises(AdapterError, match=says):
        load_adapter(Adapter(own, 4.0, "ab" * 32, "0" * 64), SHAPE)


@pytest.mark.parametrize(("bits", "rank", "most"), [(8, 8, 0.015), (4, 8, 0.16)])
@pytest.mark.parametrize("size", [1e-3, 1, 1e3])
def test_what_is_loaded_is_the_product_to_so_many_bits(size, bits, rank, most):
    """Also where columns of B differ by orders of magnitude, as after a singular value
    decomposition."""
    name = "layers.0.gate"
    a, b = drawn(7, 6, (name,)).factors[name]
    b = b * np.float32(size) ** np.linspace(0, 1, 6, dtype=np.float32)
    one = load_adapter(Adapter({name: (a, b)}, 1.25, "ab" * 32, "0" * 64), SHAPE, bits=bits)
    inner, outer = one.inner[name], one.outer[name]
    assert (inner.packed.rows, outer.rank, outer.first) == (16, rank, 0)
    found_a = integers(inner.packed) * np.float32(1)
    if inner.ranks is not None:
        found_a = 2 * found_a - 127
    found_a *= (inner.packed.affine if inner.ranks is None else inner.ranks)[:, None]
    found_b = outer.integers() * np.repeat(outer.scales, 16)[:, None]
    wanted = 1.25 * b @ a
    error = np.sqrt(((found_b @ found_a[:8] - wanted) ** 2).mean() / (wanted**2).mean())
    assert error < most


def test_four_bits_take_half_the_memory_and_are_another_adapter_to_what_was_kept():
    eight, four = (load_adapter(drawn(1), SHAPE, bits=bits) for bits in (8, 4))
    assert 0.5 <= four.nbytes / eight.nbytes < 0.6
    assert identity(four) != identity(eight)
    with pytest.raises(ValueError, match="factors of 2 bits; they have 8 or 4"):
        load_adapter(drawn(1), SHAPE, bits=2)


def test_the_table_of_four_bits_is_chosen_for_all_ranks(monkeypatch):
    """Also where only some numbers are counted: ranks lie in fours side by side."""
    name = "layers.0.gate"
    a, b = drawn(7, 16, (name,)).factors[name]
    b[:, ::4] = 0
    monkeypatch.setattr(adapters, "COUNTED", b.size // 4)
    own = Adapter({name: (a, b)}, 1.0, "ab" * 32, "0" * 64)
    outer = load_adapter(own, SHAPE, bits=4).outer[name]
    assert len(set(outer.table.tolist())) == 16


@pytest.mark.parametrize("values", [0.0, 1.0])
def test_four_bits_of_factors_that_are_all_the_same(values):
    """Fewer different numbers than a table has: they are held exactly, and zeros stay zeros."""
    name = "layers.0.q"
    a, b = np.full((8, 96), values, np.float32), np.full((128, 8), values, np.float32)
    one = load_adapter(Adapter({name: (a, b)}, 1.0, "ab" * 32, "0" * 64), SHAPE, bits=4)
    outer = one.outer[name]
    assert (outer.integers() * outer.scales[:1] == b).all()


def test_ranks_of_one_input_lie_after_each_other():
    one = loaded(1, 5)
    assert [one.outer[f"layers.0.{part}"].first for part in ("q", "k", "v", "up")] == [0, 8, 16, 8]
    assert [one.inner[f"layers.0.{part}"].packed.rows for part in ("q", "o", "gate")] == [
        32,
        16,
        16,
    ]
    assert set(one.inner) == {f"layers.{n}.{part}" for n in (0, 1) for part in
                              ("q", "o", "gate", "down")}  # fmt: skip
    codes = [own.packed.codes for own in one.inner.values()]
    codes += [own.codes for own in one.outer.values()]
    starts = [own.ctypes.data for own in codes]
    assert {start % 64 for start in starts} == {0}


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 5), st.sampled_from([8, 4]))
@example(0, 16, 1, 8)  # one vector of this rank takes a shorter way
@example(0, 16, 1, 4)
@example(0, 32, 1, 4)
def test_every_set_of_kernels_gives_the_bits_of_numpy(name, seed, rank, vectors, bits):
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn_one = drawn(seed, rank, ("layers.0.k",))
    outer = load_adapter(drawn_one, SHAPE, bits=bits).outer["layers.0.k"]
    y = rng.standard_normal((vectors, 64), np.float32)
    values, scales = quantize(rng.standard_normal((vectors, outer.rank), np.float32))
    wanted = y + values @ outer.integers().T.astype(np.float32) * np.repeat(
        outer.scales, 16
    ) * scales[:, None]  # fmt: skip
    values, found = values.astype(np.int8), y.copy()
    sums = values.sum(1, dtype=np.int32)
    low = native.Activations(
        values.ctypes.data, outer.rank, scales.ctypes.data, sums.ctypes.data
    )  # fmt: skip
    kernels(name).lift(
        native.factor(outer), 1, 3, ctypes.byref(low), vectors, found.ctypes.data, 64
    )  # fmt: skip
    assert np.array_equal(found[:, 16:48], wanted[:, 16:48])
    assert np.array_equal(np.delete(found, np.s_[16:48], 1), np.delete(y, np.s_[16:48], 1))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("b", "rank", -4), ("b", "rank", 3), ("b", "rank", 516), ("b", "first", -4),
     ("b", "first", 4), ("b", "bits", 3), ("b", "bits", 2), ("a", "rows", 0), ("a", "rows", 8),
     ("a", "rows", 1552), ("a", "columns", 128), ("a", "bits", 4), ("a", "bits", 3)],
)  # fmt: skip
def test_ranks_that_no_kernel_takes_are_refused_in_c(part, field, value):
    one, adapter = model(), loaded(1, names=("layers.0.q",))
    one.use(adapter)
    one.logits([70])
    table = one._engine._adapters[adapter]
    setattr(getattr(table[0], part)[0], field, value)
    with pytest.raises(ValueError, match="out of bounds"):
        one.logits([70])


def test_the_command_goes_on_with_an_adapter(tmp_path, capsys):
    own, folder = drawn(1), str(tmp_path / "adapter")
    write_adapter(folder, own.factors, own.base, alpha=20)
    command = ["generate", "--model", a_model(), "--tokens", "8", "--temperature", "0"]
    assert main([*command, "--prompt", PROMPTS[0], "--adapter", folder]) == 0
    one = model()
    one.use(load_adapter(own, SHAPE))
    wanted = one.complete(PROMPTS[:1], tokens=8, sampling=GREEDY)[0]
    assert capsys.readouterr().out == f"{PROMPTS[0]}{wanted}\n"
    four = ["--adapter-bits", "4"]
    assert main([*command, "--prompt", PROMPTS[0], "--adapter", folder, *four]) == 0
    one.use(load_adapter(own, SHAPE, bits=4))
    other = one.complete(PROMPTS[:1], tokens=8, sampling=GREEDY)[0]
    assert capsys.readouterr().out == f"{PROMPTS[0]}{other}\n"
    assert main([*command, "--prompt", "x", *four]) == 2
    assert "give --adapter or --adapters, or leave it out" in capsys.readouterr().err
    write_adapter(folder, own.factors, "cd" * 32)
    assert main([*command, "--prompt", "x", "--adapter", folder]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is for the base cdcdcdcdcdcdcdcd" in error
