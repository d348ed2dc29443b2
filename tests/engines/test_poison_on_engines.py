"""Pages that take their workers down, on each engine: one dead letter each, and the run ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_runs import curate, no_leftovers, poison_variables, prism_options
from poisoned import KINDS, PAGES, archive, ends, expected, recipe

from engines import flink

STAGE = "extract"


def poisoned_run(folder: Path, options: list[str]) -> None:
    output = folder / "out"
    named = ["--input", archive(folder / "a.warc.gz"), "--recipe", recipe(folder / "r.yaml")]
    done = curate(str(output), *named, *options, stage=STAGE)
    assert done.returncode == 0, done.stderr
    assert ends(output) == expected(STAGE)
    counts = json.loads((output / "manifest.json").read_text())["total"]["counts"]
    assert (counts["read"], counts["kept"]) == (PAGES + len(KINDS), PAGES)
    assert no_leftovers(output)


@pytest.mark.needs("prism")
def test_prism(tmp_path):
    poisoned_run(tmp_path, prism_options())


@pytest.mark.needs("flink")
def test_flink_inside_the_job_service(tmp_path):
    with flink.embedded(environment=poison_variables(STAGE)) as engine:
        poisoned_run(tmp_path, engine.options())


@pytest.mark.needs("flink")
def test_a_flink_cluster(tmp_path):
    with flink.cluster(2, environment=poison_variables(STAGE)) as engine:
        poisoned_run(tmp_path, engine.options())
