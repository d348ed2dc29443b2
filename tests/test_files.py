"""Files appear whole or not at all."""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys

import pytest

from pipelines import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = str(tmp_path / "deep" / "a.bin")
    files.write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="stop"), files.write_whole(path) as handle:
        handle.write(b"half of the n")
        raise RuntimeError("stop")
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"old"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.bin"]


def test_json_is_canonical(tmp_path):
    first, second = str(tmp_path / "1"), str(tmp_path / "2")
    files.write_json(first, {"b": 1, "a": "é"})
    files.write_json(second, {"a": "é", "b": 1})
    assert files.sha256(first) == files.sha256(second)
    assert files.read_json(first) == {"a": "é", "b": 1}


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.read_json(str(tmp_path / "none.json"))
    assert not files.exists(str(tmp_path / "none.json"))
    files.remove([str(tmp_path / "none.json")])


def test_compressed_files_are_opened_raw(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(b"\x1f\x8bnot really gzip")
    with files.open_raw(str(path)) as handle:
        assert handle.read() == b"\x1f\x8bnot really gzip"


def test_listing_gives_path_and_size(tmp_path):
    (tmp_path / "b").write_bytes(b"22")
    (tmp_path / "a").write_bytes(b"1")
    rows = files.listing(str(tmp_path / "*"))
    assert [(path.rpartition("/")[2], size) for path, size, _ in rows] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("taken", [0, 3, 100])
def test_hashing_reader_covers_the_whole_file(taken):
    content = bytes(range(256)) * 20
    reader = files.HashingReader(io.BytesIO(content))
    assert reader.read(taken) == content[:taken]
    assert reader.finish() == hashlib.sha256(content).hexdigest()


# --- a store that fails -------------------------------------------------------------------------


class Answer(Exception):
    """An error of a store's client with an HTTP status."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"status {code}")
        self.code = code


@pytest.fixture
def store(monkeypatch):
    """Operations on s3://b/a end with these errors in turn, and then well."""
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    errors: list[Exception] = []
    calls: list[int] = []

    def operation():
        calls.append(1)
        if errors:
            raise errors.pop(0)
        return "done"

    operation.errors = errors
    operation.calls = calls
    return operation


@pytest.mark.parametrize("code", [500, 503, None])
def test_what_fails_is_tried_again_up_to_a_bound(store, code):
    store.errors += [Answer(code)] * (files.ATTEMPTS - 1)
    assert files._persist("s3://b/a", store) == "done"
    store.errors += [Answer(code)] * files.ATTEMPTS
    with pytest.raises(OSError, match=r"s3://b/a: failed 5 times; the last time: Answer: status"):
        files._persist("s3://b/a", store)


@pytest.mark.parametrize("code", [400, 401, 403])
def test_a_refusal_is_not_tried_again(store, code):
    store.errors.append(Answer(code))
    with pytest.raises(OSError, match="s3://b/a: Answer"):
        files._persist("s3://b/a", store)
    assert len(store.calls) == 1


def test_what_is_not_there_is_not_asked_for_again_unless_it_was_written(store):
    store.errors.append(Answer(404))
    with pytest.raises(FileNotFoundError):
        files._persist("s3://b/a", store)
    store.errors.append(Answer(404))
    assert files._persist("s3://b/a", store, reads=False) == "done"


def test_an_empty_object_is_refused():
    with pytest.raises(ValueError, match="an empty object"):
        files.write_bytes("s3://b/a", b"")


def test_what_travels_to_a_worker_brings_the_options_of_its_stores():
    code = (
        "import pickle, sys; from pipelines import files; "
        "function = pickle.loads(sys.stdin.buffer.read()); "
        "print(files.store_options()['s3_endpoint_url'], function('a', 'b'))"
    )
    before = files.store_options()
    try:
        files.set_options(["--s3_endpoint_url=http://127.0.0.1:1"])
        content = pickle.dumps(files.on_store(files.join))
    finally:
        files.use_store_options(before)
    done = subprocess.run(
        [sys.executable, "-c", code], input=content, capture_output=True, check=True
    )
    assert done.stdout.decode().split() == ["http://127.0.0.1:1", "a/b"]
