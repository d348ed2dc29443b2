"""What tests share: one run over the samples, and ways to make small runs."""

from __future__ import annotations

import hashlib
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
