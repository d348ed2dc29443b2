"""The same bytes on every engine, counters that agree, and inputs and outputs on a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import digests
from engine_runs import ON_STORE, curate, download, no_leftovers, prism_options, upload_samples

from engines import flink
from engines.store import store

AGREE = "agree with the manifest"


def assert_same(done: subprocess.CompletedProcess[str], output: Path, samples_run: Path) -> None:
    assert done.returncode == 0, done.stderr
    assert AGREE in done.stdout, done.stdout
    assert digests(output) == digests(samples_run)
    assert no_leftovers(output)


@pytest.mark.needs("prism")
def test_prism(samples_run, tmp_path):
    assert_same(curate(str(tmp_path / "out"), *prism_options()), tmp_path / "out", samples_run)


@pytest.mark.needs("flink")
def test_flink_inside_the_job_service(samples_run, tmp_path):
    with flink.embedded() as engine:
        done = curate(str(tmp_path / "out"), *engine.options())
    assert_same(done, tmp_path / "out", samples_run)


@pytest.mark.needs("flink")
def test_a_flink_cluster_of_two_taskmanagers(samples_run, tmp_path):
    with flink.cluster(2) as engine:
        done = curate(str(tmp_path / "out"), *engine.options())
    assert_same(done, tmp_path / "out", samples_run)
    assert done.stderr.count("flink (2 workers)") == 1


@pytest.mark.needs("store")
def test_a_local_run_on_a_store(samples_run, tmp_path):
    with store() as running:
        upload_samples(running)
        done = curate("s3://corpus/out", *ON_STORE, *running.options())
        download(running, "corpus", "out/", tmp_path / "out")
        why = [sys.executable, "-m", "pipelines", "why", "http://village.example.org/lorem"]
        told = subprocess.run(
            [*why, "--output", "s3://corpus/out", *running.options()],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert_same(done, tmp_path / "out", samples_run)
    assert "DROPPED  by c4.lorem_ipsum" in told.stdout


@pytest.mark.needs("store", "flink")
def test_a_flink_cluster_on_a_store(samples_run, tmp_path):
    with store() as running, flink.cluster(2) as engine:
        upload_samples(running)
        done = curate("s3://corpus/out", *ON_STORE, *running.options(), *engine.options())
        download(running, "corpus", "out/", tmp_path / "out")
    assert_same(done, tmp_path / "out", samples_run)
