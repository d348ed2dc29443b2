"""Runs on engines, for the tests in this folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from poisoned import environment

from engines import fetch
from engines.store import Store

ARCHIVES = ("crawl.warc.gz", "forum.warc.gz")


def command(output: str, *options: str) -> list[str]:
    """The command line of a run; inputs are the samples where none is named."""
    words = [sys.executable, "-m", "pipelines", "curate", "--output", output, *options]
    if "--input" not in options:
        for name in ARCHIVES:
            words += ["--input", str(ROOT / "samples" / name)]
    return words


def curate(
    output: str, *options: str, stage: str = "none", seconds: float = 400
) -> subprocess.CompletedProcess[str]:
    """A run in a process of its own."""
    return subprocess.run(
        command(output, *options),
        env=environment(stage),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def poison_variables(stage: str) -> dict[str, str]:
    """What an engine's workers need in their environment for poisoned pages to strike."""
    found = environment(stage)
    return {name: found[name] for name in ("PYTHONPATH", "POISON_STAGE")}


def prism_options() -> list[str]:
    """Options of a run on Prism."""
    return ["--runner", "prism", "--prism_location", str(fetch.prism_program())]


def no_leftovers(work: Path) -> bool:
    """Whether a work directory holds no temporary file and no note of an attempt."""
    return not [*work.rglob("*.tmp"), *work.rglob("*attempt-*")]


# --- on a store ---------------------------------------------------------------------------------

ON_STORE = ("--input", "s3://crawl/in/*.warc.gz")


def download(running: Store, bucket: str, prefix: str, folder: Path) -> None:
    """Copy what lies under a prefix of a bucket to a folder."""
    client = running.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            path = folder / entry["Key"].removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, entry["Key"], str(path))


def upload_samples(running: Store) -> None:
    """Make two buckets, and put the samples into the first."""
    client = running.client()
    for bucket in ("crawl", "corpus"):
        client.create_bucket(Bucket=bucket)
    for name in ARCHIVES:
        client.upload_file(str(ROOT / "samples" / name), "crawl", f"in/{name}")


def upload(running: Store, bucket: str, folder: Path, prefix: str) -> None:
    """Make a bucket, and put a folder into it."""
    client = running.client()
    client.create_bucket(Bucket=bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")
