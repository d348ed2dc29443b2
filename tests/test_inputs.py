"""Inputs: what a name means, and keys that depend on content alone."""

from __future__ import annotations

import gzip

import pytest

from pipelines import inputs
from pipelines.inputs import Input, find, with_limit, with_unique_keys
from pipelines.inputs_error import InputError


def write(folder, name, content=b"x"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.warc.gz", "warc"),
        ("a.WARC", "warc"),
        ("a.warc.zst", "warc"),
        ("a.arc.gz", "warc"),
        ("a.warc.wet.gz", "wet"),
        ("a.jsonl.zst", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.html", "html"),
        ("a.txt", None),
        ("warc", None),
    ],
)
def test_kind_is_told_by_the_name(name, kind):
    assert inputs.kind_of(name) == kind


def test_key_depends_on_content_not_on_place_or_company(tmp_path):
    first = write(tmp_path / "one", "a.warc", b"alpha")
    second = write(tmp_path / "two", "b.warc", b"alpha")
    alone = with_unique_keys(find("web", [first]))
    moved = with_unique_keys(find("web", [second]))
    assert alone[0].key == moved[0].key
    other = write(tmp_path, "c.warc", b"beta")
    together = with_unique_keys(find("web", [other, first]))
    assert alone[0].key in {item.key for item in together}
    assert with_unique_keys(find("web", [first, other])) == together


def test_equal_files_get_different_keys(tmp_path):
    for name in ("a.warc", "b.warc"):
        write(tmp_path, name, b"same")
    found = with_unique_keys(find("web", [str(tmp_path / "*.warc")]))
    assert len({item.key for item in found}) == 2


def test_key_sees_beginning_end_and_size(tmp_path):
    piece = inputs.FINGERPRINT_PIECE
    base = bytes(3 * piece)
    variants = [base, b"1" + base[1:], base[:-1] + b"1", base + b"0"]
    keys = set()
    for number, content in enumerate(variants):
        path = write(tmp_path, f"{number}.warc", content)
        keys.add(with_unique_keys(find("web", [path]))[0].key)
    assert len(keys) == len(variants)


def test_list_files_with_prefix(tmp_path):
    write(tmp_path / "crawl", "a.warc.gz")
    content = b"# paths\ncrawl/a.warc.gz\n\n"
    listing = write(tmp_path, "warc.paths.gz", gzip.compress(content))
    found = find("web", ["@" + listing], prefix=f"{tmp_path}/")
    assert [item.name for item in found] == ["a.warc.gz"]


def test_folder_is_searched_and_pages_are_grouped(tmp_path):
    for number in range(inputs.HTML_GROUP + 1):
        write(tmp_path, f"site/{number:04d}.html", b"<p>page")
    write(tmp_path, "deep/er/a.jsonl")
    write(tmp_path, "readme.txt")
    found = find("web", [str(tmp_path)])
    assert sorted((i.kind, len(i.paths)) for i in found) == [
        ("html", 1),
        ("html", inputs.HTML_GROUP),
        ("jsonl", 1),
    ]


def test_a_name_is_taken_as_it_stands_even_with_signs_of_a_glob(tmp_path):
    path = write(tmp_path / "br[1]", "x[2].jsonl")
    assert [item.paths for item in find("web", [path])] == [(path,)]
    assert len(find("web", [str(tmp_path / "br[1]")])) == 1


def test_a_file_with_several_names_is_one_input(tmp_path):
    path = write(tmp_path / "deep", "x.jsonl")
    names = [path, str(tmp_path / "deep"), str(tmp_path / "." / "deep" / ".." / "deep" / "x.jsonl")]
    assert len(find("web", names)) == 1


def test_a_named_kind_chooses_the_files_of_a_folder(tmp_path):
    write(tmp_path / "mix", "a.html")
    write(tmp_path / "mix", "b.jsonl")
    write(tmp_path / "bare", "page")
    assert [i.name for i in find("web", [str(tmp_path / "mix")], kind="jsonl")] == ["b.jsonl"]
    assert [i.kind for i in find("web", [str(tmp_path / "bare")], kind="html")] == ["html"]
    write(tmp_path, "c.html")
    found = find("web", [str(tmp_path)], without=[str(tmp_path / "mix")])
    assert [i.name for i in found] == ["c.html"]
    with pytest.raises(InputError, match="names only files in the output or work directory"):
        find("web", [str(tmp_path)], without=[str(tmp_path)])


def test_errors_name_what_was_asked(tmp_path):
    with pytest.raises(InputError, match=r"nothing\*.warc matches no file"):
        find("web", [str(tmp_path / "nothing*.warc")])
    path = write(tmp_path, "a.xyz")
    with pytest.raises(InputError, match=r"cannot tell the kind of .*a\.xyz; name it with --kind"):
        find("web", [path])
    with pytest.raises(InputError, match="unknown kind 'wrc'; known: auto, warc"):
        find("web", [path], kind="wrc")
    with pytest.raises(InputError, match=r"cannot read .*none\.gz: No such file"):
        find("web", ["@" + str(tmp_path / "none.gz")])
    assert find("web", [path], kind="warc")[0].kind == "warc"


@pytest.mark.parametrize(("limit", "shares"), [(7, [3, 2, 2]), (2, [1, 1]), (30, [10, 10, 10])])
def test_limit_is_spread_exactly(limit, shares):
    items = [Input(f"{n:010x}", "web", "warc", "a", ("a",), 1, 0.0) for n in range(3)]
    assert [item.limit for item in with_limit(items, limit)] == shares
    assert with_limit(items, None) == items


def test_input_survives_json():
    item = Input("00000000aa", "web", "html", "a and 1 more", ("a", "b"), 5, 1.5, 3)
    assert Input.from_json(item.to_json()) == item


def test_document_ids_differ_by_key_and_position():
    ids = {inputs.document_id(key, n) for key in ("00", "01") for n in range(100)}
    assert len(ids) == 200
    assert all(len(i) == 16 for i in ids)
