"""The smallest preset from training to its recovery adapter, judged on what was set aside."""

from __future__ import annotations

import json

import pytest

from pipelines.cli import main


@pytest.fixture(scope="module")
def perplexities(packed_run, machine_cache, tmp_path_factory) -> dict[str, float]:
    """What ``cidermill quantize`` tells of a model of the preset ``1m``, by variant."""
    folder = tmp_path_factory.mktemp("recovery")
    shards = str(packed_run / "shards" / "512")
    train = ["--preset", "1m", "--tokens", "60k", "--batch-tokens", "2048", "--rate", "0.02"]
    how = ["--bits", "3", "--calibration-tokens", "1k", "--tune-tokens", "0",
           "--recover-tokens", "40k", "--batch-tokens", "2048"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIDERMILL_CACHE", str(machine_cache))
        words = ["train", str(packed_run), *train, "--target", str(folder / "run")]
        assert main(words) == 0
        words = ["quantize", str(folder / "run"), "--shards", shards, *how]
        assert main([*words, "--to", str(folder / "m.cider")]) == 0
    report = json.loads((folder / "m.quantize.json").read_text())
    return {own["name"]: own["perplexity"] for own in report["variants"]}


def test_what_was_recovered_lies_between_the_float_and_the_quantized_model(perplexities):
    recovered = perplexities["recovered, rank 16"]
    assert perplexities["float"] < recovered < perplexities["quantized"]


def test_so_it_does_as_the_runtime_computes_it(perplexities):
    recovered = perplexities["recovered, in the runtime"]
    assert perplexities["float"] < recovered < perplexities["in the runtime"]
