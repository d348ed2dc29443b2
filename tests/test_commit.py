"""Attempts at one piece of work, interleaved on purpose: one complete output, or none."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
from conftest import ROOT, digests
from hypothesis import given
from hypothesis import strategies as st

from pipelines import attempts, conclude, files, finish
from pipelines.account import ConservationError
from pipelines.cli import main, parser
from pipelines.command_curate import plan
from pipelines.finish import finish_input
from pipelines.run import Superseded

FORUM = str(ROOT / "samples" / "forum.warc.gz")
RECIPE = "name: small\ndescription: few stages\nstages: [read, extract, duplicates, pii]\n"


@pytest.fixture
def finished(tmp_path):
    """A finished run: (run, input, output)."""
    (tmp_path / "small.yaml").write_text(RECIPE)
    words = ["curate", "--input", FORUM, "--recipe", str(tmp_path / "small.yaml")]
    words += ["--output", str(tmp_path / "out"), "--workers", "1"]
    assert main(words) == 0
    run, [item] = plan(parser().parse_args(words))
    run = dataclasses.replace(run, token="first")
    run.claim()
    return run, item, tmp_path / "out"


def verdicts(run, item) -> bytes:
    return files.read_bytes(run.verdicts_file(item.key)).removeprefix(b"verdicts")


def tables(output: Path) -> dict[str, str]:
    return {name: value for name, value in digests(output).items() if name.endswith(".parquet")}


def test_two_attempts_at_once_leave_one_output(finished, monkeypatch):
    """Each waits for the other at every table that it opens and at the marker."""
    run, item, output = finished
    before = tables(output)
    files.remove([run.finished_marker(item.key)])
    barrier = threading.Barrier(2)
    write_whole = files.write_whole

    def together(path):
        if "attempt-" not in path:
            barrier.wait(timeout=30)
        return write_whole(path)

    monkeypatch.setattr(files, "write_whole", together)
    failures = []

    def work() -> None:
        try:
            finish_input(item.key, verdicts(run, item), run)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert tables(output) == before
    assert files.exists(run.finished_marker(item.key))
    assert not [*output.rglob("*.tmp"), *output.rglob("*attempt-*")]


class Died(BaseException):
    """Stands for the end of a process: nothing behind it is done."""


@pytest.mark.parametrize("survives", range(5))
def test_an_attempt_that_dies_between_any_two_files_leaves_no_marker(
    finished, monkeypatch, survives
):
    """And not the marker of the state that was there before, whose tables are half overwritten."""
    run, item, output = finished
    before = tables(output)
    other = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, keep_rejected=False))
    replace = os.replace
    renamed = []

    def dying(source, target):
        if "attempt-" not in str(target):
            if len(renamed) == survives - (survives > 3):
                raise Died
            renamed.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(Died):
        finish_input(item.key, verdicts(run, item), other)
    monkeypatch.undo()
    assert not files.exists(run.finished_marker(item.key))
    with pytest.raises(ConservationError, match="was not finished"):
        conclude.conclude(run, [item])
    finish_input(item.key, verdicts(run, item), run)
    assert tables(output) == before


def test_a_worker_of_an_earlier_submission_writes_no_tables(finished):
    run, item, output = finished
    before = tables(output)
    later = dataclasses.replace(run, token="later")
    later.claim()
    files.remove([run.finished_marker(item.key)])
    with pytest.raises(Superseded, match="another run into"):
        finish_input(item.key, verdicts(run, item), run)
    assert not files.exists(run.finished_marker(item.key))
    finish_input(item.key, verdicts(run, item), later)
    assert tables(output) == before


def test_a_submission_that_comes_in_between_keeps_the_marker_from_being_written(
    finished, monkeypatch
):
    run, item, _ = finished
    files.remove([run.finished_marker(item.key)])
    close = finish._Tables.close

    def closing(self):
        dataclasses.replace(run, token="later").claim()
        return close(self)

    monkeypatch.setattr(finish._Tables, "close", closing)
    with pytest.raises(Superseded):
        finish_input(item.key, verdicts(run, item), run)
    assert not files.exists(run.finished_marker(item.key))


def test_a_table_that_was_cut_off_is_noticed(finished):
    run, item, output = finished
    table = next((output / "documents").iterdir())
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(ConservationError, match=r"has \d+ bytes, but \d+ were written"):
        conclude.conclude(run, [item])
    finish_input(item.key, verdicts(run, item), run)
    conclude.conclude(run, [item])


# --- notes of attempts --------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=6))
def test_attempts_that_died_are_counted_and_others_are_not(tmp_path_factory, died):
    prefix = f"{tmp_path_factory.mktemp('work')}/"
    for number, dies in enumerate(died):
        with attempts.attempt(prefix) as before:
            assert before == sum(died[:number])
            if dies:
                left = list(Path(prefix).iterdir())
                copies = [(path, path.read_bytes()) for path in left]
        if dies:
            for path, content in copies:
                path.write_bytes(content)
    attempts.forget(prefix)
    assert list(Path(prefix).iterdir()) == []


def test_an_attempt_that_ends_with_an_error_leaves_no_note(tmp_path):
    with pytest.raises(RuntimeError), attempts.attempt(f"{tmp_path}/"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


# --- a full disk --------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'"):
        files.write_bytes(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_run_on_a_disk_that_fills_up_goes_on_with_more_room(samples_run, tmp_path):
    """With a small file system of its own, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=120k none '{disk}' 2>/dev/null") != 0:
        pytest.skip("only root can mount a small file system")
    words = ["curate", "--input", str(ROOT / "samples" / "*.warc.gz"), "--output"]
    try:
        assert main([*words, str(disk / "out")]) == 1
        assert not list(disk.rglob("*.tmp"))
        assert not (disk / "out" / "manifest.json").exists()
        shutil.copytree(disk / "out", tmp_path / "out")
    finally:
        os.system(f"umount '{disk}'")
    assert main([*words, str(tmp_path / "out")]) == 0
    assert digests(tmp_path / "out") == digests(samples_run)
