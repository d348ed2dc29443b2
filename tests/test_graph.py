"""The graph's promises: the same bytes everywhere, nothing done twice, crashes survived."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, digests

from pipelines import local
from pipelines.cli import main
from pipelines.command_curate import plan
from pipelines.local import Pool, Task, WorkerFailed, slices

CRAWL = str(ROOT / "samples" / "crawl.warc.gz")
FORUM = str(ROOT / "samples" / "forum.warc.gz")


def curate(output: Path, *options: str, inputs: tuple[str, ...] = (CRAWL, FORUM)) -> int:
    named = [part for path in inputs for part in ("--input", path)]
    return main(["curate", *named, "--output", str(output), *options])


def measured_files(output: Path) -> dict[str, int]:
    return {
        str(path): path.stat().st_mtime_ns
        for path in (output / "work" / "measured").rglob("*.parquet")
    }


# --- the same bytes -----------------------------------------------------------------------------


def test_one_worker_and_another_order_of_inputs_give_the_same_bytes(samples_run, tmp_path):
    assert curate(tmp_path / "out", "--workers", "1", inputs=(FORUM, CRAWL)) == 0
    assert digests(tmp_path / "out") == digests(samples_run)


def test_the_whole_graph_in_one_process_gives_the_same_bytes(samples_run, tmp_path):
    assert curate(tmp_path / "out", "--runner", "FnApiRunner") == 0
    assert digests(tmp_path / "out") == digests(samples_run)


@contextlib.contextmanager
def worker_pool():
    """Beam's worker pool in a process of its own, as beside a Flink task manager."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"]
    # The pool starts `python` from the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [*command, f"--service_port={port}"],
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_portable_runner_with_a_worker_pool_gives_the_same_bytes(samples_run, tmp_path):
    with worker_pool() as address:
        code = curate(
            tmp_path / "out",
            "--runner=PortableRunner",
            "--job_endpoint=embed",
            "--environment_type=EXTERNAL",
            f"--environment_config={address}",
        )
    assert code == 0
    assert digests(tmp_path / "out") == digests(samples_run)


# --- resume -------------------------------------------------------------------------------------


def test_a_second_run_measures_nothing_again(samples_run, tmp_path):
    shutil.copytree(samples_run, tmp_path / "out")
    before = measured_files(tmp_path / "out")
    assert curate(tmp_path / "out") == 0
    assert measured_files(tmp_path / "out") == before
    assert digests(tmp_path / "out") == digests(samples_run)


def changed_recipe(tmp_path: Path, old: str, new: str) -> str:
    text = (ROOT / "recipes" / "web.yaml").read_text()
    assert old in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new))
    return str(path)


def test_a_changed_bound_decides_anew_without_extracting_anew(samples_run, tmp_path):
    shutil.copytree(samples_run, tmp_path / "out")
    before = measured_files(tmp_path / "out")
    recipe = changed_recipe(tmp_path, "c4.lorem_ipsum: {max: 0}", "c4.lorem_ipsum: {max: 9}")
    assert curate(tmp_path / "out", "--recipe", recipe) == 0
    assert measured_files(tmp_path / "out") == before
    fresh = tmp_path / "fresh"
    assert curate(fresh, "--recipe", recipe) == 0
    assert digests(tmp_path / "out") == digests(fresh)
    assert digests(fresh) != digests(samples_run)


def test_a_rule_before_extraction_is_part_of_what_is_measured(samples_run, tmp_path):
    shutil.copytree(samples_run, tmp_path / "out")
    before = measured_files(tmp_path / "out")
    recipe = changed_recipe(tmp_path, "read.noindex: {max: 0}", "read.noindex: {max: 1}")
    assert curate(tmp_path / "out", "--recipe", recipe) == 0
    assert set(before) < set(measured_files(tmp_path / "out"))


def test_a_new_input_costs_its_own_work_only(samples_run, tmp_path):
    assert curate(tmp_path / "out", inputs=(CRAWL,)) == 0
    before = measured_files(tmp_path / "out")
    assert curate(tmp_path / "out") == 0
    after = measured_files(tmp_path / "out")
    assert before.items() < after.items()
    assert digests(tmp_path / "out") == digests(samples_run)
    # And an input that is taken away takes its tables along.
    assert curate(tmp_path / "out", inputs=(FORUM,)) == 0
    assert len(list((tmp_path / "out" / "documents").iterdir())) == 1


def test_an_input_changed_in_place_is_read_again(tmp_path):
    path = tmp_path / "notes.jsonl"
    line = '{"text": "%s", "url": "http://a.test/"}\n'
    # Beyond the part that the key is taken from, so that only the digest tells.
    filler = line % ("word " * 60_000)
    path.write_text(filler + line % "first" + filler)
    output = tmp_path / "out"
    assert curate(output, inputs=(str(path),)) == 0
    first = digests(output)
    path.write_text(filler + line % "other" + filler)
    os.utime(path, (1, 1))
    assert curate(output, inputs=(str(path),)) == 0
    assert digests(output) != first


def test_batches_of_a_file_that_changed_are_not_taken_over(tmp_path):
    """What a crash leaves: some batches and no markers, and then the file changes."""
    path, output = tmp_path / "notes.jsonl", tmp_path / "out"
    line = '{"text": "%s", "url": "http://a.test/%d"}\n'
    # Alike at both ends, so that the key stays the same.
    same = line % ("x" * 70_000, 0)
    old, new = ("".join(line % (word, n) for n in range(600)) for word in ("old", "new"))
    path.write_text(same + old + same)
    assert curate(output, inputs=(str(path),)) == 0
    for marker in (output / "work").rglob("*.json"):
        if marker.name in ("done.json", "read.json") or marker.parent.name == "finished":
            marker.unlink()
    for batch in sorted((output / "work" / "measured").rglob("*.parquet"))[1:]:
        batch.unlink()
    path.write_text(same + new + same)
    os.utime(path, (1, 1))
    assert curate(output, inputs=(str(path),)) == 0
    fresh = tmp_path / "fresh"
    assert curate(fresh, inputs=(str(path),)) == 0
    assert digests(output) == digests(fresh)


KILLS = 10


def test_a_run_killed_at_ten_random_points_ends_with_the_same_bytes(samples_run, tmp_path):
    """Each attempt is killed once the run has written some more files, so no clock is involved."""
    output = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines", "curate", "--output", str(output)]
    command += ["--workers", "2", "--input", CRAWL, "--input", FORUM]
    chance = random.Random(4)
    for _ in range(KILLS):
        more = chance.randint(0, 3)
        written = sum(path.is_file() for path in output.rglob("*"))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            if sum(path.is_file() for path in output.rglob("*")) > written + more:
                break
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert digests(output) == digests(samples_run)
    assert list(output.rglob("*.tmp")) == []


# --- workers that die ---------------------------------------------------------------------------


def planned(output: Path, *inputs: str):
    from pipelines.cli import parser

    named = [part for path in inputs for part in ("--input", path)]
    arguments = parser().parse_args(["curate", *named, "--output", str(output)])
    return plan(arguments)


def test_a_killed_worker_is_noticed_and_its_slice_run_again(tmp_path):
    run, found = planned(tmp_path / "out", CRAWL)
    events = []

    def listener(event):
        events.append(event["event"])
        if event["event"] == "batch" and "lost" not in events:
            pool._workers[0].process.kill()

    with Pool(run, 1, listener) as pool:
        pool.perform(slices("screen", found, 1))
    assert "lost" in events
    assert events[-1] == "done"


def test_a_slice_that_fails_twice_ends_the_run_with_its_input(tmp_path):
    run, found = planned(tmp_path / "out", CRAWL)

    def listener(event):
        if event["event"] == "ready":
            pool._workers[0].process.kill()

    with (
        pytest.raises(
            WorkerFailed,
            match=r"input .*crawl\.warc\.gz failed 5 times: .*SIGKILL",
        ),
        Pool(run, 1, listener) as pool,
    ):
        pool.perform([Task("screen", found)])


def test_a_silent_worker_is_ended(tmp_path, monkeypatch):
    run, found = planned(tmp_path / "out", CRAWL)
    monkeypatch.setattr(local, "SILENCE_SECONDS", 1.0 - run.recipe.caps.hang_seconds)

    def listener(event):
        if event["event"] == "ready":
            pool._workers[0].process.send_signal(signal.SIGSTOP)

    with (
        pytest.raises(WorkerFailed, match="failed 5 times"),
        Pool(run, 1, listener) as pool,
    ):
        pool.perform([Task("screen", found)])


def test_slices_group_small_inputs_and_start_with_large_ones(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.jsonl").write_text('{"text": "a"}\n' * (1 if number else 900))
    _, found = planned(tmp_path / "out", str(tmp_path / "*.jsonl"))
    tasks = slices("screen", found, 1)
    assert tasks[0].inputs[0].size == max(item.size for item in found)
    assert sum(len(task.inputs) for task in tasks) == 10
    assert len(tasks) < 10
