"""What tests share: one run over the samples, and ways to make small runs."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

import pipelines.quiet  # noqa: F401 - before Beam is imported
from engines import fetch
from pipelines.cli import main
from pipelines.conclude import TIMING

# A slow machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ENGINE_TESTS = Path(__file__).resolve().parent / "engines"
NEEDS = {
    "prism": fetch.prism_program,
    "store": fetch.store_program,
    "flink": fetch.job_service_classes,
}


def pytest_addoption(parser):
    parser.addoption("--engines", action="store_true", help="also test on real engines")


ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config, items):
    for item in items:
        if ENGINE_TESTS not in item.path.parents:
            continue
        if not config.getoption("--engines"):
            item.add_marker(pytest.mark.skip(reason="engines: run `make test-engines`"))
        for mark in item.iter_markers("needs"):
            for name in mark.args:
                if not NEEDS[name]().exists():
                    reason = f"{name} is absent: run `make engines`"
                    item.add_marker(pytest.mark.skip(reason=reason))


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of every file of a run, but for its work directory and its times."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and "work" not in path.relative_to(output).parts and path.name != TIMING
    }


@pytest.fixture(scope="session")
def samples_run(tmp_path_factory) -> Path:
    """The output of the web recipe over the samples, made once a session."""
    output = tmp_path_factory.mktemp("samples") / "out"
    pattern = str(ROOT / "samples" / "*.warc.gz")
    assert main(["curate", "--input", pattern, "--output", str(output), "--workers", "2"]) == 0
    return output


@pytest.fixture(scope="session")
def packed_run(samples_run, tmp_path_factory) -> Path:
    """The samples with a tokenizer and shards, made once a session."""
    output = tmp_path_factory.mktemp("packed") / "out"
    shutil.copytree(samples_run, output, ignore=shutil.ignore_patterns("work"))
    assert main(["tokenizer", "train", str(output), "--vocab-size", "900"]) == 0
    assert main(["pack", str(output), "--sequence-length", "512"]) == 0
    return output


@pytest.fixture(scope="session")
def machine_cache(tmp_path_factory) -> Path:
    """Where the tests keep compiled programs, and not in the cache of whoever runs them."""
    return tmp_path_factory.mktemp("cache")


TINY = """\
name: tiny
model: {width: 32, layers: 2, heads: 2, kv_heads: 1, head: 16, hidden: 64}
stages:
  - name: core
    sequence_length: 512
    tokens: 24576
    batch_tokens: 1024
    optimizer: {rate: 0.1, mup_width: null}
    warmup: 2
"""
"""A training recipe of 24 steps of a model that compiles in seconds."""


@pytest.fixture(scope="session")
def trained_run(packed_run, machine_cache, tmp_path_factory) -> Path:
    """A run of training on the samples by the recipe ``TINY``, which lies beside it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY)
    words = ["train", str(packed_run), "--recipe", str(folder / "tiny.yaml")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIDERMILL_CACHE", str(machine_cache))
        assert main([*words, "--target", str(folder / "tiny")]) == 0
    return folder / "tiny"
