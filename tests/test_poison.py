"""Pages that take their worker down become dead letters, alone, and the run goes on."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow.dataset as ds
import pytest
from poisoned import KINDS, PAGES, archive, ends, environment, expected, recipe


def curate(output, stage: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines", "curate", "--output", str(output), *options]
    return subprocess.run(
        command, env=environment(stage), capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize("stage", ["extract", "pii"])
def test_each_poisoned_page_is_one_dead_letter(tmp_path, stage):
    """``extract`` runs while an input is measured, ``pii`` while it is finished."""
    output = tmp_path / "out"
    done = curate(
        output, stage,
        "--input", archive(tmp_path / "a.warc.gz"), "--recipe", recipe(tmp_path / "r.yaml"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ends(output) == expected(stage)
    counts = json.loads((output / "manifest.json").read_text())["total"]["counts"]
    assert counts["read"] == PAGES + len(KINDS)
    assert counts["kept"] == PAGES
    assert ds.dataset(output / "documents").count_rows() == PAGES
    assert not list((output / "work").rglob("*attempt-*"))


def test_a_recipe_can_ask_to_fail_instead(tmp_path):
    done = curate(
        tmp_path / "out", "extract",
        "--input", archive(tmp_path / "a.warc.gz", ["crash"]),
        "--recipe", recipe(tmp_path / "r.yaml", ", on_crash: fail"),
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "http://orchard.example.org/poison-crash" in last
    assert "SIGSEGV in stage extract" in last
    assert "on_crash: dead_letter" in last


def test_harmless_pages_under_a_probe_give_the_same_bytes(tmp_path):
    """Attempts that died for reasons of their own make an input suspect and change nothing."""
    path, settings = archive(tmp_path / "a.warc.gz", []), recipe(tmp_path / "r.yaml")
    options = ["--input", path, "--recipe", settings]
    assert curate(tmp_path / "plain", "none", *options).returncode == 0
    assert curate(tmp_path / "probed", "none", *options).returncode == 0
    notes = tmp_path / "probed" / "work" / "attempts"
    for folder in (tmp_path / "probed" / "work" / "measured").glob("*/*"):
        for file in folder.iterdir():
            file.unlink()
        key, state = folder.parts[-2:]
        for number in range(2):
            (notes / f"attempt-{key}-{state}-{number}").write_text("{}")
    for marker in (tmp_path / "probed" / "work" / "finished").glob("*.json"):
        for number in range(2):
            (notes / f"attempt-{marker.stem}-finish-{number}").write_text("{}")
        marker.unlink()
    assert curate(tmp_path / "probed", "none", *options).returncode == 0
    for name in ("documents", "rejected", "decisions", "dead"):
        plain, probed = (sorted((tmp_path / run / name).iterdir()) for run in ("plain", "probed"))
        assert [p.read_bytes() for p in plain] == [p.read_bytes() for p in probed]
