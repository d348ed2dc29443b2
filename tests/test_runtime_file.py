"""The file of a quantized model: what is written comes back, and nothing damaged is taken."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_here import SHAPE, a_model, some_matrix, some_weights, write_model
from tokenizers_here import small_tokenizer

from runtime import file
from runtime.file import MAGIC, PREAMBLE, VERSION, CiderFileError, read, write
from runtime.layout import integers, pack, row, snapped, unpack
from runtime.palette import Palette, RowInt8
from runtime.shape import Shape


@given(
    bits=st.sampled_from((2, 3, 4, 8)), groups=st.integers(1, 3), steps=st.integers(1, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_packed_matrix_comes_back(bits, groups, steps, seed):
    rng = np.random.Generator(np.random.PCG64(seed))
    matrix = some_matrix(rng, groups * 16, steps * 32, bits)
    packed = pack(matrix)
    found = unpack(packed)
    if isinstance(matrix, RowInt8):
        assert np.array_equal(found.values, matrix.values)
        assert np.array_equal(found.scales, matrix.scales)
        assert np.array_equal(row(packed, 3), matrix.dequantized()[3])
        assert np.array_equal(integers(packed), matrix.values)
        return
    assert packed.codes.nbytes == groups * 16 * steps * 32 * bits // 8
    assert np.array_equal(found.indices, matrix.indices)
    # Entries are rounded to one of 128 places between the least and the greatest.
    span = np.ptp(matrix.tables, axis=1, keepdims=True)
    assert (np.abs(found.tables - matrix.tables) <= span / 254 * 1.001).all()
    assert np.array_equal(found.tables, snapped(matrix).tables)
    by_entry = packed.affine[:, :1] * np.float64(integers(packed).reshape(groups, -1))
    restored = (by_entry + packed.affine[:, 1:]).reshape(matrix.shape)
    assert np.allclose(restored, found.dequantized(), atol=1e-6)


def test_a_table_of_equal_entries_keeps_them():
    palette = Palette(np.zeros((16, 32), np.uint8), np.full((1, 4), 0.3, np.float32), 2)
    assert np.array_equal(snapped(palette).tables, palette.tables)


def test_a_file_comes_back(tmp_path):
    given = some_weights(SHAPE, 1, (4, 3, 2, 8))
    path = str(tmp_path / "m.cider")
    write(path, SHAPE, small_tokenizer(), **given, facts={"of": "a test"})
    found = read(path)
    assert found.shape == SHAPE
    assert found.facts == {"of": "a test"}
    assert found.tokenizer.content == small_tokenizer().content
    for name, matrix in given["weights"].items():
        back = unpack(found.matrices[name]).dequantized()
        wanted = snapped(matrix) if isinstance(matrix, Palette) else matrix
        assert np.array_equal(back, wanted.dequantized()), name
    for name, scale in given["scales"].items():
        assert np.array_equal(found.vectors[name], scale)
    assert os.listdir(tmp_path) == ["m.cider"]
    for packed in found.matrices.values():
        assert packed.codes.ctypes.data % 64 == 0
    sizes = sum(s for n, s in found.sizes.items() if n in given["weights"] and n != "embedding")
    weights = sum(m.shape[0] * m.shape[1] for n, m in given["weights"].items() if n != "embedding")
    assert found.bits_per_weight() == sizes * 8 / weights


def test_equal_models_are_equal_files_and_have_one_digest(tmp_path):
    a, b, c = (write_model(str(tmp_path / name), seed=seed) for name, seed in
               (("a", 1), ("b", 1), ("c", 2)))  # fmt: skip
    contents = [Path(path).read_bytes() for path in (a, b, c)]
    assert contents[0] == contents[1] != contents[2]
    assert read(a).digest == read(b).digest != read(c).digest


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = write_model(str(tmp_path / "m.cider"))
    before = Path(path).read_bytes()

    def no_room(_handle):
        raise OSError("no room")

    monkeypatch.setattr(file.os, "fsync", no_room)
    with pytest.raises(OSError, match="no room"):
        write_model(path, seed=9)
    assert Path(path).read_bytes() == before
    assert os.listdir(tmp_path) == ["m.cider"]


def changed(**fields):
    return lambda header: header | fields


def tensor(number, **fields):
    def change(header):
        header["tensors"][number] |= fields
        return header

    return change


def shape(**fields):
    return lambda header: header | {"shape": header["shape"] | fields}


HOSTILE = [
    (changed(shape=[]), "'shape' must be an object"),
    (changed(tensors={}), "'tensors' must be a list of"),
    (changed(tensors=[]), "'tensors' must be a list of"),
    (changed(tokenizer=7), "the entry of tokenizer must be an object"),
    (changed(facts=None), "'facts' must be an object"),
    (changed(more=1), "the header must hold"),
    (shape(width=1 << 40), "width is .*; it must be a whole number from 1 to"),
    (shape(width=100), "multiples of 32"),
    (shape(head=24), "multiples of 16"),
    (shape(vocabulary=2001), "embedding is"),
    (shape(vocabulary=True), "vocabulary is True"),
    (shape(norm_eps=float("1e9")), "norm_eps"),
    (shape(layers=[{}] * 2), "no dimensions"),
    (shape(more=1), "'more' is none of them"),
    (lambda h: {**h, "shape": {"width": 96}}, "'vocabulary' is missing"),
    (tensor(1, more=1), "must be an object of dims, kind, name, offset, sha256, size"),
    (changed(tokenizer={}), "the entry of tokenizer must be an object of offset, sha256, size"),
    (tensor(-1, dims=[96.0]), r"norm is \[96.0\]; it must be \[96\]"),
    (shape(layers="ab"), "'layers' must be a list"),
    (shape(layers=[{"heads": 3, "kv_heads": 2, "hidden": 32}] * 2), "multiple of"),
    (tensor(1, offset=1 << 60), "no place in a file"),
    (tensor(1, offset=-64), "no place in a file"),
    (tensor(1, offset=True), "no place in a file"),
    (tensor(1, offset=0), "does not begin where"),
    (tensor(1, size=64), "has 64 bytes; it must have"),
    (tensor(1, dims=[1 << 30, 96]), "it must be"),
    (tensor(1, kind="palette9"), "of kind 'palette9'"),
    (tensor(0, kind="palette4"), "embedding is of kind"),
    (tensor(-1, kind="int8"), "it must be 'f32'"),
    (tensor(1, name="layers.0.k"), "the header has another tensor"),
    (tensor(1, sha256=None), "has no digest"),
    (tensor(1, sha256="0" * 64), "the digest of layers.0.q is another"),
]  # fmt: skip


def with_header(content: bytes, change) -> bytes:
    """A file whose header is another, with digests that are right for it."""
    length = PREAMBLE.unpack(content[: PREAMBLE.size])[3]
    header = json.loads(content[PREAMBLE.size : PREAMBLE.size + length])
    old = -(-(PREAMBLE.size + length) // 64) * 64
    return assemble(json.dumps(change(header)).encode(), content[old:])


def assemble(header: bytes, sections: bytes) -> bytes:
    start = -(-(PREAMBLE.size + len(header)) // 64) * 64
    digest = hashlib.sha256(header).digest()
    first = PREAMBLE.pack(MAGIC, VERSION, 0, len(header), start + len(sections), digest)
    return (first + header).ljust(start, b"\0") + sections


@pytest.mark.parametrize(("change", "says"), HOSTILE)
def test_a_header_that_lies_is_refused(tmp_path, change, says):
    path = tmp_path / "m.cider"
    path.write_bytes(with_header(Path(a_model()).read_bytes(), change))
    with pytest.raises(CiderFileError, match=says):
        read(str(path))


LONG = "\x1b[2J\n" * 20_000


@pytest.mark.parametrize(
    "change",
    [tensor(1, kind=LONG), tensor(-1, kind=[LONG]), tensor(1, dims=[LONG]), tensor(1, offset=LONG),
     shape(**{LONG: 1}), shape(width=LONG), shape(norm_eps=LONG), shape(layers=[LONG] * 2),
     shape(layers=[{"heads": 1, "kv_heads": 1, "hidden": 32, LONG: 1}] * 2)],
)  # fmt: skip
def test_a_message_shows_little_of_a_file_and_nothing_that_moves_a_terminal(tmp_path, change):
    path = tmp_path / "m.cider"
    path.write_bytes(with_header(Path(a_model()).read_bytes(), change))
    with pytest.raises(CiderFileError) as found:
        read(str(path))
    message = str(found.value)
    assert len(message.removeprefix(str(path))) < 250
    assert message.isprintable()


@pytest.mark.parametrize(
    ("header", "says"),
    [(b"", "a header of 0 bytes"), (b"{", "no JSON"), (b"\xff\xfe", "no JSON"),
     (b"[" * 100_000, "no JSON"), (b"[]", "must hold"), (b"{}", "must hold")],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(tmp_path, header, says):
    path = tmp_path / "m.cider"
    path.write_bytes(assemble(header, b"\0" * 640))
    with pytest.raises(CiderFileError, match=says):
        read(str(path))


@pytest.mark.parametrize(
    ("change", "says"),
    [(lambda c: b"", "no model: 0 bytes"), (lambda c: c[:63], "no model: 63 bytes"),
     (lambda c: b"x" + c[1:], "no model of"), (lambda c: c[:-1], "its header tells"),
     (lambda c: c + b"\0", "its header tells"), (lambda c: c[:8] + b"\2" + c[9:], "of version 2"),
     (lambda c: c[:80] + b"\0" + c[81:], "the digest of its header")],
)  # fmt: skip
def test_a_file_that_is_cut_or_changed_is_refused(tmp_path, change, says):
    path = tmp_path / "m.cider"
    path.write_bytes(change(Path(a_model()).read_bytes()))
    with pytest.raises(CiderFileError, match=says):
        read(str(path))


@settings(max_examples=60)
@given(data=st.data())
def test_no_changed_byte_goes_unseen(tmp_path_factory, data):
    content = bytearray(Path(a_model()).read_bytes())
    used = np.ones(len(content), np.bool_)
    for entry, end in gaps(bytes(content)):
        used[entry:end] = False
    place = data.draw(st.sampled_from(np.flatnonzero(used).tolist()[:: len(content) // 500]))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "changed.cider"
    path.write_bytes(content)
    with pytest.raises(CiderFileError):
        read(str(path))


def gaps(content: bytes):
    """Bytes that only align what follows."""
    length = PREAMBLE.unpack(content[: PREAMBLE.size])[3]
    header = json.loads(content[PREAMBLE.size : PREAMBLE.size + length])
    start = -(-(PREAMBLE.size + length) // 64) * 64
    yield PREAMBLE.size + length, start
    for entry in (header["tokenizer"], *header["tensors"]):
        end = start + entry["offset"] + entry["size"]
        yield end, -(-end // 64) * 64


def edited(name: str, place: int, value: bytes) -> bytes:
    """A file with other bytes in a tensor, and digests that are right for them."""
    content = Path(a_model()).read_bytes()
    length = PREAMBLE.unpack(content[: PREAMBLE.size])[3]
    start = -(-(PREAMBLE.size + length) // 64) * 64
    header = json.loads(content[PREAMBLE.size : PREAMBLE.size + length])
    entry = next(entry for entry in header["tensors"] if entry["name"] == name)
    sections = bytearray(content[start:])
    at = entry["offset"] + place
    sections[at : at + len(value)] = value
    own = bytes(sections[entry["offset"] : entry["offset"] + entry["size"]])
    entry["sha256"] = hashlib.sha256(own).hexdigest()
    return assemble(json.dumps(header).encode(), bytes(sections))


def test_numbers_that_would_spoil_every_sum_are_refused(tmp_path):
    path = tmp_path / "m.cider"
    nan = np.float32(np.nan).tobytes()
    # layers.0.q has 8 tables of 8 entries: 64 bytes, then scales and offsets.
    for name, place, value, says in [
        ("norm", 8, nan, "norm holds numbers that are not finite"),
        ("layers.0.q", 64, nan, "layers.0.q holds numbers that are not finite"),
        ("layers.0.q", 5, b"\xc8", "layers.0.q has a table entry above 127"),
    ]:
        path.write_bytes(edited(name, place, value))
        with pytest.raises(CiderFileError, match=says):
            read(str(path))


def test_weights_that_do_not_fit_are_not_written(tmp_path):
    path = str(tmp_path / "m.cider")
    given = some_weights(SHAPE, 0, (4,))

    def refused(says, **changes):
        with pytest.raises(CiderFileError, match=says):
            write(path, SHAPE, small_tokenizer(), **{**given, **changes}, facts={})
        assert not os.listdir(tmp_path)

    weights, scales = given["weights"], given["scales"]
    short = {k: v for k, v in weights.items() if k != "layers.1.down"}
    refused("not of this model: layers.1.down", weights=short)
    refused("not of this model: more", scales={**scales, "more": scales["norm"]})
    refused(r"norm is \(32,\)", scales={**scales, "norm": scales["norm"][:32]})
    refused("not finite", scales={**scales, "norm": scales["norm"] * np.float32(np.inf)})
    wrong = weights["layers.0.k"]
    refused("layers.0.q is", weights={**weights, "layers.0.q": wrong})
    palette = some_matrix(np.random.default_rng(0), 2000, 96, 4)
    refused("must be of 8 bits", weights={**weights, "embedding": palette})
    other = Shape(1984, 96, 32, SHAPE.layers, 5e5, 1e-6)
    with pytest.raises(CiderFileError, match="a tokenizer of 2000"):
        write(path, other, small_tokenizer(), **some_weights(other, 0, (4,)), facts={})
