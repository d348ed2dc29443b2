"""Tokenizers and shards made on engines are those of the local runner, on a store as well."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import digests
from engine_runs import download, prism_options, upload
from poisoned import environment

from engines import flink
from engines.store import store


def cidermill(*words: str) -> None:
    """Run a command; what it prints is shown where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *words],
        env=environment("none"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def make(output: str, *options: str) -> None:
    """Train and pack with the same settings everywhere."""
    cidermill("tokenizer", "train", output, "--vocab-size", "900", *options)
    settings = ["--sequence-length", "128", "--shard-tokens", "4000", "--long-tokens", "500"]
    cidermill("pack", output, *settings, *options)


def made(output: Path) -> dict[str, str]:
    return {**digests(output / "tokenizer"), **digests(output / "shards")}


@pytest.fixture(scope="module")
def local(samples_run, tmp_path_factory) -> dict[str, str]:
    output = copy_of(samples_run, tmp_path_factory.mktemp("local"))
    make(str(output))
    return made(output)


def copy_of(run: Path, folder: Path) -> Path:
    ignored = shutil.ignore_patterns("work", "tokenizer", "shards")
    return Path(shutil.copytree(run, folder / "out", ignore=ignored))


def assert_same_on(
    options: Sequence[str], samples_run: Path, local: dict[str, str], tmp_path: Path
):
    output = copy_of(samples_run, tmp_path)
    make(str(output), *options)
    assert made(output) == local


@pytest.mark.needs("prism")
def test_prism(samples_run, local, tmp_path):
    assert_same_on(prism_options(), samples_run, local, tmp_path)


@pytest.mark.needs("flink")
def test_flink_inside_the_job_service(samples_run, local, tmp_path):
    with flink.embedded() as engine:
        assert_same_on(engine.options(), samples_run, local, tmp_path)


@pytest.mark.needs("store", "flink")
def test_a_flink_cluster_on_a_store(samples_run, local, tmp_path):
    with store() as running, flink.cluster(2) as engine:
        upload(running, "corpus", copy_of(samples_run, tmp_path / "run"), "out")
        make("s3://corpus/out", *running.options(), *engine.options())
        download(running, "corpus", "out/", tmp_path / "out")
    assert made(tmp_path / "out") == local
