"""Folders that are replaced whole: killed at any step, by several at once, under a reader."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from runtime import safe_folder
from runtime.safe_folder import exchange, open_together, set_aside, write_folder

NAMES = ("one", "two")
STEPS = ("os.mkdir", "os.fsync", "os.rename", "exchange", "shutil.rmtree")
OLD, NEW, OTHER = (dict.fromkeys(NAMES, text * 3) for text in (b"old", b"new", b"other"))


def read(folder: Path) -> dict[str, bytes]:
    with open_together(str(folder), NAMES) as files:
        return {name: file.read() for name, file in zip(NAMES, files, strict=True)}


class Killed(BaseException):
    """From here on the process does nothing."""


class Steps:
    """Counts the steps of a writer, and kills it before one of a number."""

    def __init__(self, monkeypatch, kill: int = 1 << 30) -> None:
        self.done: list[str] = []
        self.kill = kill
        for name in STEPS:
            holder = {"os": os, "shutil": shutil}.get(name.partition(".")[0], safe_folder)
            own = name.rpartition(".")[2]
            monkeypatch.setattr(holder, own, self._step(own, getattr(holder, own)))

    def _step(self, name, call):
        def step(*arguments, **options):
            if len(self.done) >= self.kill:
                raise Killed
            self.done.append(name)
            return call(*arguments, **options)

        return step


@pytest.fixture(params=[True, False], ids=["exchanges", "sets aside"])
def one_step(request, monkeypatch, tmp_path) -> bool:
    """Whether two folders change places in one step here."""
    if request.param:
        (tmp_path / "probe").mkdir()
        (tmp_path / "other").mkdir()
        if not exchange(str(tmp_path / "probe"), str(tmp_path / "other")):
            pytest.skip("this system or its disk cannot")
        shutil.rmtree(tmp_path / "probe")
        shutil.rmtree(tmp_path / "other")
    else:
        monkeypatch.setattr(safe_folder, "exchange", lambda *_: False)
    return request.param


def test_what_was_written_is_read_and_nothing_is_left_beside(tmp_path, one_step):
    folder = tmp_path / "above" / "a"
    for files in (OLD, NEW):
        write_folder(str(folder) + "/", files)
        assert read(folder) == files
        assert os.listdir(folder.parent) == ["a"]
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777


def test_a_writer_may_be_killed_before_any_step(tmp_path, monkeypatch, one_step):
    seen, number = set(), 0
    while True:
        folder = tmp_path / str(number) / "a"
        write_folder(str(folder), OLD)
        with monkeypatch.context() as patched:
            steps = Steps(patched, number)
            try:
                write_folder(str(folder), NEW)
            except Killed:
                pass
            else:
                break
        if not folder.exists():
            assert not one_step
            assert steps.done[-1] == "rename"
            os.rename(set_aside(str(folder)), folder)
            assert read(folder) == OLD
        assert read(folder) in (OLD, NEW)
        seen.add(read(folder)["one"])
        write_folder(str(folder), OTHER)
        assert read(folder) == OTHER
        number += 1
    assert seen == {OLD["one"], NEW["one"]}
    assert number >= 7


def test_all_is_on_the_disk_before_it_is_seen_and_before_the_earlier_one_goes(
    tmp_path, monkeypatch, one_step
):
    write_folder(str(tmp_path / "a"), OLD)
    with monkeypatch.context() as patched:
        steps = Steps(patched)
        write_folder(str(tmp_path / "a"), NEW)
    done = [step for step in steps.done if step != "mkdir"]
    assert done[:4] == ["fsync", "fsync", "fsync", "rename"]  # two files, their folder
    assert done[-3:] == ["fsync", "rmtree", "rmtree"]
    assert "fsync" not in done[4:-3]


@pytest.mark.parametrize("when", ["exchange", "rename"])
def test_two_writers_at_once_leave_a_whole_folder_and_nothing_else(
    tmp_path, monkeypatch, one_step, when
):
    """The other writes all of its own just before a step of the one."""
    folder, between = tmp_path / "a", []
    write_folder(str(folder), OLD)
    holder = os if when == "rename" else safe_folder
    call = getattr(holder, when)

    def step(*arguments):
        if not between:
            between.append(when)
            write_folder(str(folder), OTHER)
            assert read(folder) == OTHER
        return call(*arguments)

    monkeypatch.setattr(holder, when, step)
    write_folder(str(folder), NEW)
    assert (between, read(folder)) == ([when], NEW)
    assert os.listdir(tmp_path) == ["a"]


def test_another_writer_may_come_where_the_folder_was_set_aside(tmp_path, monkeypatch):
    folder, renamed = tmp_path / "a", []
    write_folder(str(folder), OLD)
    rename = os.rename

    def step(source, target):
        rename(source, target)
        if target.endswith(safe_folder.EARLIER) and not renamed:
            renamed.append(target)
            write_folder(str(folder), OTHER)

    monkeypatch.setattr(safe_folder, "exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", step)
    write_folder(str(folder), NEW)
    assert (len(renamed), read(folder), os.listdir(tmp_path)) == (1, NEW, ["a"])


def test_a_reader_gets_files_of_one_writer(tmp_path, monkeypatch, one_step):
    folder, opened = tmp_path / "a", []
    write_folder(str(folder), OLD)
    own = safe_folder._open_in

    def step(*arguments):
        file = own(*arguments)
        opened.append(arguments[-1])
        if len(opened) == 1:
            write_folder(str(folder), NEW)
        return file

    monkeypatch.setattr(safe_folder, "_open_in", step)
    assert read(folder) == NEW
    assert opened == ["one", "one", "two"]


def test_a_failed_write_leaves_all_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    write_folder(str(folder), OLD)
    rename = os.rename

    def full(source, target):
        if str(source).endswith(safe_folder.WRITING):
            raise OSError(errno.ENOSPC if steps else errno.ENOTEMPTY, "no")
        steps.append(target)
        rename(source, target)

    steps: list[str] = []
    monkeypatch.setattr(safe_folder, "exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="no"):
        write_folder(str(folder), NEW)
    assert len(steps) == 2  # aside and back
    assert (read(folder), os.listdir(tmp_path)) == (OLD, ["a"])


def test_a_link_stays_and_a_file_is_not_replaced(tmp_path):
    write_folder(str(tmp_path / "a"), OLD)
    (tmp_path / "link").symlink_to("a")
    write_folder(str(tmp_path / "link"), NEW)
    assert (tmp_path / "link").is_symlink()
    assert read(tmp_path / "a") == NEW
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(NotADirectoryError):
        write_folder(str(tmp_path / "file"), NEW)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["a", "file", "link"]
