"""Every set of kernels that runs here gives the whole numbers that numpy gives, and its floats."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_here import a_model, some_matrix, write_absurd
from tokenizers_here import ROOT

from runtime import build, native, plain
from runtime.build import FLAGS, SOURCES
from runtime.cache import BITS, Sequence
from runtime.engine import Engine
from runtime.file import CiderFileError, read
from runtime.layout import Packed, integers, pack, padded
from runtime.native import Activations, NativeEngine
from runtime.palette import Palette, RowInt8
from runtime.plain import PlainEngine

SETS = [
    name for name in ("scalar", "avx2", "avxvnni", "avx512", "neon")
    if native.load().cider_kernels(name.encode())
]  # fmt: skip


ARM = {"aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu", "qemu-aarch64": "qemu-user"}
"""Programs, and Debian's packages that have them."""
LACKING = [package for program, package in ARM.items() if shutil.which(program) is None]


def kernels(name):
    return native.load().cider_kernels(name.encode()).contents


def multiply(name, packed, values, scales, *, cut=None, start=None):
    """A set's product; ``cut`` groups only, and added to ``start`` if there is one."""
    rows = padded(packed.rows)
    out = np.full((len(values), rows), 7, np.float32) if start is None else start.copy()
    values = np.ascontiguousarray(values, np.int8)
    sums = values.sum(1, dtype=np.int32)
    x = Activations(values.ctypes.data, values.shape[1], scales.ctypes.data, sums.ctypes.data)
    begin, end = cut or (0, rows // 16)
    kernels(name).multiply(
        native.matrix(packed), begin, end, ctypes.byref(x), len(values), out.ctypes.data, rows,
        int(start is not None),
    )  # fmt: skip
    return out


def whole(packed):
    """The matrix with scales of 1 and no offsets, so that its products are whole numbers."""
    affine = np.ones_like(packed.affine)
    if packed.bits != 8:
        affine[:, 1] = 0
    return Packed(packed.rows, packed.columns, packed.bits, packed.codes, packed.tables, affine)


def draw(seed, bits, rows, columns, vectors):
    rng = np.random.Generator(np.random.PCG64(seed))
    packed = pack(some_matrix(rng, rows, columns, bits))
    values = rng.integers(-127, 128, (vectors, columns)).astype(np.int8)
    return packed, values, rng.uniform(0.01, 2, vectors).astype(np.float32)


shapes = given(
    seed=st.integers(0, 1000), bits=st.sampled_from((2, 3, 4, 8)), groups=st.integers(1, 3),
    steps=st.integers(1, 5), vectors=st.integers(1, 29),
)  # fmt: skip


@pytest.mark.parametrize("name", SETS)
@shapes
def test_products_are_the_whole_numbers_of_numpy(name, seed, bits, groups, steps, vectors):
    packed, values, _ = draw(seed, bits, groups * 16, steps * 32, vectors)
    ones = np.ones(vectors, np.float32)
    wanted = values.astype(np.int64) @ integers(packed).astype(np.int64).T
    assert np.array_equal(multiply(name, whole(packed), values, ones), wanted)


@pytest.mark.parametrize("name", SETS)
@shapes
def test_products_with_scales_are_those_of_numpy_to_the_last_bit(
    name, seed, bits, groups, steps, vectors
):
    packed, values, scales = draw(seed, bits, groups * 16, steps * 32, vectors)
    weights = integers(packed).astype(np.float32).T
    wanted = plain.multiply(packed, weights, values.astype(np.float32), scales)
    assert np.array_equal(multiply(name, packed, values, scales), wanted)
    start = np.full_like(wanted, 0.25)
    assert np.array_equal(multiply(name, packed, values, scales, start=start), start + wanted)
    some = multiply(name, packed, values, scales, cut=(0, groups - 1))
    assert np.array_equal(some[:, : 16 * groups - 16], wanted[:, : 16 * groups - 16])
    assert (some[:, 16 * groups - 16 :] == 7).all()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("vectors", [1, 2, 12, 16])
def test_the_greatest_numbers_do_not_overflow(name, sign, vectors):
    columns = 4096
    values = np.full((vectors, columns), sign * 127, np.int8)
    ones = np.ones(vectors, np.float32)
    for entry in (-128, 127):
        rows = RowInt8(np.full((16, columns), entry, np.int8), np.ones(16, np.float32))
        assert (multiply(name, pack(rows), values, ones) == sign * 127 * entry * columns).all()
    for bits in (2, 3, 4):
        top = (1 << bits) - 1
        palette = Palette(
            np.full((16, columns), top, np.uint8),
            np.linspace(0, 1, 1 << bits, dtype=np.float32)[None], bits,
        )  # fmt: skip
        found = multiply(name, whole(pack(palette)), values, ones)
        assert (found == sign * 127 * 127 * columns).all()


def quantize(name, x):
    values = np.zeros(len(x), np.int8)
    scale, total = np.zeros(1, np.float32), np.zeros(1, np.int32)
    kernels(name).quantize(
        x.ctypes.data, len(x), values.ctypes.data, scale.ctypes.data, total.ctypes.data
    )
    return values, scale[0], total[0]


@pytest.mark.parametrize("name", SETS)
@given(
    x=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=32,
               max_size=32),
)  # fmt: skip
def test_activations_are_quantized_as_in_numpy(name, x):
    x = np.array(x, np.float32)
    values, scale, total = quantize(name, x)
    wanted, scales = plain.quantize(x[None])
    assert np.array_equal(values, wanted[0])
    assert scale == scales[0]
    assert total == values.sum(dtype=np.int64)
    if np.abs(x).max() > 1e-30:
        assert np.abs(values * np.float64(scale) - x).max() <= scale * 0.5001


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e-42])
def test_what_is_no_number_does_no_harm(name, odd):
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    x[5], x[40] = odd, -odd
    values, scale, total = quantize(name, x)
    wanted, scales = plain.quantize(x[None])
    assert np.array_equal(values, wanted[0])
    assert np.array_equal(scale, scales[0], equal_nan=True)
    assert np.isnan(scale) == (not np.isfinite(x).all())
    assert total == values.sum(dtype=np.int64)
    assert values.min() >= -127


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("times", [1e20, 3e38])
@pytest.mark.parametrize(
    "part", ["norm", "layers.0.attention_norm", "layers.0.k_norm", "layers.1.q_norm", "embedding",
             "layers.0.v", "layers.1.down"],
)  # fmt: skip
def test_what_overflows_is_the_same_everywhere_and_is_not_lost(
    tmp_path, monkeypatch, part, times, bits
):
    contents = read(write_absurd(str(tmp_path / "m.cider"), {part: times}))
    options = {"context": 64, "cache_bits": bits}
    ids = [70, 300, 71, 533]
    targets = [[300, 71, 533, -1]]

    def run(engine):
        new = [[(Sequence(contents.shape, bits), ids)] for _ in range(3)]
        logits = engine.logits(new[0], every=True)
        return logits, engine.hidden(new[1]), *engine.nats(new[2], targets)

    plain_engine = PlainEngine(contents, **options)
    if times == 3e38:
        with pytest.raises(CiderFileError, match=r"m\.cider: what this model .* is not finite"):
            run(plain_engine)
    monkeypatch.setattr(Engine, "_finite", lambda _, found: found)
    wanted = run(plain_engine)
    for name in SETS:
        for threads in (1, 2):
            engine = NativeEngine(contents, threads=threads, kernels=name, **options)
            for a, b in zip(run(engine), wanted, strict=True):
                assert np.array_equal(a, b, equal_nan=True), name


@pytest.mark.parametrize("bits", BITS)
def test_a_model_gives_the_same_bits_with_every_set_and_any_number_of_threads(bits):
    contents = read(a_model())
    ids = np.random.default_rng(1).integers(0, 2000, 72).tolist()
    options = {"context": 96, "cache_bits": bits}

    def run(engine, parts):
        sequence, found = Sequence(contents.shape, bits), []
        for count in parts:
            begun = len(sequence)
            found.append(engine.logits([(sequence, ids[begun : begun + count])], every=True))
        return np.concatenate(found)

    wanted = run(PlainEngine(contents, **options), (69, 1, 2))
    assert len(np.unique(wanted.argmax(1))) > 20
    for name in SETS:
        for threads, parts in ((1, (72,)), (2, (69, 1, 2)), (3, (5, 64, 3)), (2, (1,) * 72)):
            engine = NativeEngine(contents, threads=threads, kernels=name, **options)
            assert engine.name == name
            assert np.array_equal(run(engine, parts), wanted), (name, threads, parts)


def test_scores_and_states_are_those_of_numpy():
    contents = read(a_model())
    options = {"context": 64, "cache_bits": 16}
    rng = np.random.default_rng(2)
    texts = [rng.integers(0, 2000, length).tolist() for length in (50, 3, 17)]
    targets = [[*ids[1:], -1] for ids in texts]

    def run(engine):
        new = [(Sequence(contents.shape, 16), ids) for ids in texts]
        states = engine.hidden(new)
        new = [(Sequence(contents.shape, 16), ids) for ids in texts]
        return *engine.nats(new, targets), states

    wanted = run(PlainEngine(contents, **options))
    for name in SETS:
        engine = NativeEngine(contents, threads=2, kernels=name, **options)
        for a, b in zip(run(engine), wanted, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.skipif(
    bool(LACKING), reason=f"NEON is not tested: install {' and '.join(LACKING)} (Debian)"
)
@pytest.mark.parametrize(("processor", "sets"), [("max", "neon\n"), ("cortex-a53", "")])
def test_an_emulated_arm_gives_what_plain_c_gives(tmp_path, processor, sets):
    """An A53 has no dot product, so that it must fall back to plain C."""
    program, (compiler, emulator) = tmp_path / "compare", ARM
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC")]
    sources = [str(ROOT / "tests" / "kernels_compare.c"), *map(str, sorted(SOURCES.glob("*.c")))]
    command = [compiler, *flags, "-static", f"-I{SOURCES}", "-o", str(program), *sources, "-lm"]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [emulator, "-cpu", processor, str(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.stdout, done.returncode) == (sets, 0)


def test_what_compiles_the_kernels_needs_the_standard_library_alone():
    """A wheel is built where nothing else is installed."""
    code = (
        "import sys; from importlib import util\n"
        "spec = util.spec_from_file_location('b', sys.argv[1])\n"
        "found = util.module_from_spec(spec); spec.loader.exec_module(found)\n"
        "print(found.name_of())"
    )
    command = [sys.executable, "-I", "-S", "-c", code, build.__file__]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == build.name_of()
