"""The smallest preset from training to its recovery adapter.

Judged on the texts that it learned, and recovered by the divergence from the float model alone: the
data's own loss would train so small a model on, past what was lost.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers_here import own_texts, small_tokenizer
from training_here import write_text_shards

from pipelines.cli import main


@pytest.fixture(scope="module")
def perplexities(machine_cache, tmp_path_factory) -> dict[str, float]:
    """What ``cidermill quantize`` tells of a model of the preset ``1m``, by variant."""
    folder = tmp_path_factory.mktemp("recovery")
    shards = write_text_shards(folder / "shards", length=128, texts=40).folder
    learned = str(folder / "learned.parquet")
    pq.write_table(pa.table({"text": [text[:3000] for text in own_texts()[4:44]]}), learned)
    tokenizer = str(folder / "tokenizer.model")
    (folder / "tokenizer.model").write_bytes(small_tokenizer().content)
    train = ["--shards", shards, "--tokenizer", tokenizer, "--preset", "1m", "--tokens", "160k"]
    how = ["--bits", "2.1", "--calibration-tokens", "1k", "--tune-tokens", "0",
           "--recover-tokens", "8k", "--teacher-share", "1"]  # fmt: skip
    step = ["--batch-tokens", "2048", "--validation", learned]
    run, model = str(folder / "run"), str(folder / "m.cider")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIDERMILL_CACHE", str(machine_cache))
        assert main(["train", str(folder), *train, *step, "--target", run]) == 0
        assert main(["quantize", run, "--shards", shards, *how, *step, "--to", model]) == 0
    report = json.loads((folder / "m.quantize.json").read_text())
    return {own["name"]: own["perplexity"] for own in report["variants"]}


def test_what_was_recovered_lies_between_the_float_and_the_quantized_model(perplexities):
    recovered = perplexities["recovered, rank 16"]
    assert perplexities["float"] < recovered < perplexities["quantized"]


def test_so_it_does_as_the_runtime_computes_it(perplexities):
    recovered = perplexities["recovered, in the runtime"]
    assert perplexities["float"] < recovered < perplexities["in the runtime"]
