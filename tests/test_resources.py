"""Files that a recipe names: digests, staging in the work directory, one copy for each machine."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from pipelines import files, resources
from pipelines.inputs_error import InputError
from pipelines.resources import (
    DamagedResource,
    local_copy,
    resource_digest,
    stage_resources,
)


@pytest.fixture
def index(tmp_path) -> str:
    folder = tmp_path / "index"
    folder.mkdir()
    (folder / "a.npy").write_bytes(b"first")
    (folder / "b.json").write_bytes(b"second")
    return str(folder)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(resources.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def remote(monkeypatch):
    """Paths that begin with remote: lie in a folder, and are no local paths to the code."""
    is_local = files.is_local
    monkeypatch.setattr(files, "is_local", lambda p: is_local(p) and "/remote/" not in p)
    monkeypatch.setattr(files, "exists", os.path.isfile)
    monkeypatch.setattr(files, "open_raw", lambda p: io.BytesIO(Path(p).read_bytes()))


def test_the_digest_is_of_names_and_contents_and_not_of_the_place(index, tmp_path):
    digest = resource_digest(index)
    os.rename(index, tmp_path / "moved")
    assert resource_digest(str(tmp_path / "moved")) == digest
    os.rename(tmp_path / "moved" / "a.npy", tmp_path / "moved" / "c.npy")
    assert resource_digest(str(tmp_path / "moved")) != digest


def test_a_resource_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match=r"the recipe names .*none, which does not exist"):
        resource_digest(str(tmp_path / "none"))


def test_what_is_staged_is_found_by_its_digest_and_not_copied_twice(index, tmp_path, monkeypatch):
    digest = resource_digest(index)
    [(path, target)] = stage_resources({index: digest}, str(tmp_path / "work"))
    assert path == index
    found = local_copy(target, digest)
    assert resource_digest(found) == digest
    monkeypatch.setattr(files, "write_whole", None)
    assert stage_resources({index: digest}, str(tmp_path / "work")) == ((path, target),)


def test_a_local_resource_is_used_where_it_lies(index, cache):
    assert local_copy(index, resource_digest(index)) == index
    assert not cache.exists()


# Processes of their own: a fork of the tests' process has its threads' locks, not its threads.
CHILD = """
import os, sys
from pathlib import Path
from pipelines import files
from pipelines.resources import local_copy

folder, digest = sys.argv[1:]

def open_raw(path):
    if "/remote/" in path:
        print("opened", os.path.basename(path))
    return open(path, "rb")

files.is_local = lambda path: "/remote/" not in path
files.exists = os.path.isfile
files.open_raw = open_raw
files.listing = lambda path: [(str(file), 1, 0.0) for file in Path(folder).iterdir()]
print("ready", flush=True)
sys.stdin.readline()
print(local_copy(folder, digest))
"""


def test_a_machine_fetches_a_resource_once(tmp_path, cache, remote, monkeypatch):
    folder = tmp_path / "remote" / "index"
    folder.mkdir(parents=True)
    (folder / "a.npy").write_bytes(b"first")
    (folder / "b.npy").write_bytes(b"second")
    monkeypatch.setattr(files, "listing", lambda p: [(str(f), 1, 0.0) for f in folder.iterdir()])
    digest = resources.hashlib.sha256(
        "".join(f"{f.name}\0{files.sha256(str(f))}\n" for f in sorted(folder.iterdir())).encode()
    ).hexdigest()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), digest], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 3
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [line for child in children for line in child.communicate(timeout=300)[0].splitlines()]
    assert sorted(told) == sorted(["opened a.npy", "opened b.npy", *[str(cache / digest)] * 3])
    assert sorted(os.listdir(cache / digest)) == ["a.npy", "b.npy"]
    assert sorted(os.listdir(cache)) == [digest, f"{digest}.lock"]
    # Nothing is asked of the store any more.
    monkeypatch.setattr(files, "open_raw", None)
    assert local_copy(str(folder), digest) == str(cache / digest)


def test_a_resource_that_was_changed_since_is_refused_and_not_kept(
    tmp_path, cache, remote, monkeypatch
):
    folder = tmp_path / "remote" / "index"
    folder.mkdir(parents=True)
    (folder / "a.npy").write_bytes(b"other")
    monkeypatch.setattr(files, "listing", lambda p: [(str(f), 1, 0.0) for f in folder.iterdir()])
    with pytest.raises(DamagedResource, match="but the run was planned with 00"):
        local_copy(str(folder), "00")
    assert os.listdir(cache) == ["00.lock"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(resources.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match="name one with CIDERMILL_CACHE"):
        resources.cache_folder()
