"""Faults of a store: writes refused, done and answered with an error, or slow; no bucket."""

from __future__ import annotations

import pytest
from conftest import digests
from engine_runs import ON_STORE, curate, download, upload_samples
from faulty import ANSWERED_WRONG, REFUSED, SLOW, before

from engines.store import store
from pipelines import files


@pytest.mark.needs("store")
def test_a_store_with_faults_gets_the_same_bytes(samples_run, tmp_path):
    with store() as running, before(running.port, every=3) as (address, faulty):
        upload_samples(running)
        done = curate("s3://corpus/out", *ON_STORE, *running.options(address))
        download(running, "corpus", "out/", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "out") == digests(samples_run)
    assert min(faulty.faults[kind] for kind in (REFUSED, ANSWERED_WRONG, SLOW)) >= 3


@pytest.mark.needs("store")
def test_a_bucket_that_is_absent_is_named_in_one_line():
    with store() as running:
        upload_samples(running)
        output = "s3://nowhere/out"
        done = curate(output, *ON_STORE, *running.options())
    assert done.returncode == 1
    assert files.join(output, "work", "token") in done.stderr.strip().splitlines()[-1]
