"""What quantizing costs a model in perplexity, before and after training tables and an adapter,
beside llama.cpp's types of the same model.

    npm pack @node-llama-cpp/linux-x64 && tar xzf node-llama-cpp-linux-x64-*.tgz
    python benchmarks/quantization.py --model out/models/15m --shards out/shards/512 \
        --llama-cpp package/bins/linux-x64

All are judged in one way: their weights are brought back to floats and scored by the trainer on
the documents that the shards set aside. So the figures are those of the weights alone; what 8 bits
of activations, and 8 or 4 of an adapter's factors, add in our runtime is in the lines ``in the
runtime``.
llama.cpp quantizes an export in F16 itself, without an importance matrix, and chooses a type for
each tensor: where rows are no multiple of 256, other types than the name says. Bits are of the
linear maps' weights, scales and tables included; bytes of the whole file, embedding and tokenizer
included. Without ``--llama-cpp`` there are only our lines. Rows of ours take the same windows in
the same order.

A tenth of the loss that tables and adapters are trained with is cross-entropy on the data, which
is further training: a model that was trained on little gains by it beyond what quantizing lost. So
``--shares 0.9 1`` adds lines with divergence from the float model alone, which has none of that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from pipelines import quantizing  # noqa: E402
from pipelines.amounts import parse_count  # noqa: E402
from pipelines.bars import bar  # noqa: E402
from pipelines.quantize_report import Variant, variant_lines  # noqa: E402
from pipelines.resources import cache_folder  # noqa: E402
from pipelines.training_data import held_out_texts  # noqa: E402
from runtime.adapter_files import write_adapter  # noqa: E402
from runtime.adapters import WIDTHS  # noqa: E402
from tokenizer.shard_set import ShardSet  # noqa: E402
from trainer import compute, recover  # noqa: E402
from trainer.export_gguf import export_gguf, tensors  # noqa: E402
from trainer.model import linear_names  # noqa: E402
from trainer.model_files import Model, load_model  # noqa: E402
from trainer.sensitivity import Calibration  # noqa: E402

KINDS = ("Q4_K_M", "Q4_0", "Q3_K_M")
SHARE = quantizing.Settings().teacher_share


class Table:
    """Variants as they are judged; each is printed when it is known."""

    def __init__(self, judge: quantizing.Judge) -> None:
        self.judge = judge
        self.variants: list[Variant] = []

    def add(self, name: str, bits: float, size: int, params: Any) -> None:
        """Judge parameters."""
        self.told(name, bits, size, self.judge(name, params))

    def told(self, name: str, bits: float, size: int, found: Any) -> None:
        """Note what was judged."""
        perplexity = quantizing.perplexity(found)
        self.variants.append(Variant(name, bits, size, perplexity, found.total.per_byte))
        lines = variant_lines(self.variants)
        print("\n".join([lines[0], lines[1]] if len(lines) == 2 else lines[-1:]), flush=True)


def ours(
    table: Table, model: Model, measured: quantizing.Measured, arguments: argparse.Namespace,
    settings: quantizing.Settings, folder: str,
) -> None:  # fmt: skip
    """Lines of one mean of bits: quantized, and for each share of the divergence tuned, in the
    runtime, recovered at each rank."""
    assert settings.bits is not None
    weights = {
        quantizing.EMBEDDING: quantizing.embedding_of(model), **measured.chosen(settings.bits)
    }  # fmt: skip
    path = os.path.join(folder, "m.cider")
    contents = quantizing.write_model(path, model, weights, {})
    bits, size = contents.bits_per_weight(), os.path.getsize(path)
    table.add(f"{settings.bits:g}", bits, size, quantizing.dequantized(model, weights))
    for share in arguments.shares:
        own = replace(settings, teacher_share=share)
        trained(table, model, weights, arguments, own, path, (bits, size))


def trained(
    table: Table, model: Model, weights: quantizing.Weights, arguments: argparse.Namespace,
    settings: quantizing.Settings, path: str, file: tuple[float, int],
) -> None:  # fmt: skip
    """Lines of tables and adapters that are trained with one loss; the model is written anew."""
    bits, size = file
    name = f"{settings.bits:g}"
    loss = "" if settings.teacher_share == SHARE else f", share {settings.teacher_share:g}"
    stream = quantizing.Stream(arguments.shards, model, arguments.length, settings)
    begun = time.process_time()
    tuned = quantizing.tune(model, weights, stream, settings, bar)
    print(f"  tables: {time.process_time() - begun:.0f} s of processor time", file=sys.stderr)
    stored = quantizing.dequantized(model, tuned)
    table.add(f"{name}, tuned{loss}", bits, size, stored)
    base = quantizing.write_model(path, model, tuned, {}).digest
    table.told("  in the runtime", bits, size, table.judge.in_runtime(path))
    for rank in arguments.ranks:
        own = replace(settings, rank=rank)
        stream = quantizing.Stream(arguments.shards, model, arguments.length, own)
        begun = time.process_time()
        factors = quantizing.recovery(model, tuned, stream, own, bar)
        print(f"  adapter: {time.process_time() - begun:.0f} s", file=sys.stderr)
        held = {
            linear: tuple(f.astype(np.float16).astype(np.float32) for f in pair)
            for linear, pair in factors.items()
        }
        added = sum(2 * (a.size + b.size) for a, b in factors.values())
        params = recover.merged(stored, held)
        table.add(f"{name}, rank {rank}{loss}", bits, size + added, params)
        adapter = f"{path}.rank{rank}{loss}"
        write_adapter(adapter, factors, base)
        for width in WIDTHS:
            judged = table.judge.in_runtime(path, adapter, bits=width)
            table.told(f"  in the runtime, {width} bits", bits, size + added, judged)


def theirs(table: Table, model: Model, libraries: str, folder: str) -> None:
    """Lines of llama.cpp's types."""
    from llama_library import LlamaCpp

    llama = LlamaCpp(libraries)
    source = os.path.join(folder, "f16.gguf")
    export_gguf(model, source, "f16")
    for kind in KINDS:
        path = os.path.join(folder, f"{kind}.gguf")
        llama.quantize(source, path, kind)
        params, bits, types = read_gguf(path, model)
        table.add(f"llama.cpp {kind}", bits, os.path.getsize(path), params)
        print(f"  types: {types}", file=sys.stderr)


def read_gguf(path: str, model: Model) -> tuple[dict[str, Any], float, str]:
    """The trainer's parameters, bits of a weight of the linear maps, and which types there are."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    # Which of our names the export gives each of its own: it is asked with numbers for weights.
    ours = sorted(model.params)
    numbers = {name: np.full((1, 1), place) for place, name in enumerate(ours)}
    names = {
        name: ours[int(value[0, 0])]
        for name, value in tensors(replace(model, params=numbers)).items()
    }
    found: dict[str, Any] = {}
    linear = set(linear_names(model.shape))
    weights = bits = 0
    types: dict[str, int] = {}
    for tensor in GGUFReader(path).tensors:
        own, kind = names[tensor.name], tensor.tensor_type
        value = np.asarray(dequantize(tensor.data, kind), np.float32)
        if own in linear:
            weights += value.size
            bits += 8 * int(tensor.n_bytes)
            types[kind.name] = types.get(kind.name, 0) + 1
            value = np.ascontiguousarray(value.T)
        found[own] = value
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(types.items()))
    return found, bits / weights, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a model or of a training run")
    parser.add_argument("--shards", required=True, help="token shards, with documents set aside")
    parser.add_argument("--llama-cpp", metavar="FOLDER", help="with libllama.so")
    parser.add_argument("--bits", type=float, nargs="+", default=[3.5, 3.0])
    parser.add_argument("--ranks", type=int, nargs="*", default=[16])
    parser.add_argument("--shares", type=float, nargs="+", default=[SHARE])
    parser.add_argument("--weights", choices=quantizing.IMPORTANCE, default="energy")
    parser.add_argument("--calibration-tokens", default="8k")
    parser.add_argument("--tune-tokens", default="200k")
    parser.add_argument("--recover-tokens", default="200k")
    parser.add_argument("--validation-tokens", help="every n-th document, about so many tokens")
    parser.add_argument("--json", metavar="FILE", help="write the table there as well")
    arguments = parser.parse_args()
    compute.start(cache_folder())
    model = load_model(arguments.model)
    arguments.length = ShardSet.open(arguments.shards).length
    settings = quantizing.Settings(
        importance=arguments.weights,
        **{
            name: parse_count(getattr(arguments, name), name)
            for name in ("calibration_tokens", "tune_tokens", "recover_tokens")
        },
    )
    most = arguments.validation_tokens
    texts = quantizing.thinned(
        held_out_texts(arguments.shards, model.tokenizer),
        None if most is None else parse_count(most, "--validation-tokens"),
    )
    tokens = sum(len(text.ids) for text in texts)
    print(
        f"{model.shape.parameters} parameters, trained on {model.card.get('tokens')} tokens; "
        f"judged on {len(texts)} documents of {tokens} tokens"
    )
    table = Table(quantizing.Judge(model, texts, arguments.length, bar))
    table.add("float", 32.0, sum(v.nbytes for v in model.params.values()), dict(model.params))
    stream = quantizing.Stream(arguments.shards, model, arguments.length, settings)
    calibration = Calibration(model.params, model.shape, stream.calibration())
    measured = quantizing.measure(model, calibration, settings.importance, bar)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.llama_cpp and model.shape.uniform:
            theirs(table, model, arguments.llama_cpp, folder)
        for bits in arguments.bits:
            ours(table, model, measured, arguments, replace(settings, bits=bits), folder)
    print("\n".join(variant_lines(table.variants)))
    if arguments.json:
        content = {"settings": asdict(settings), "variants": [asdict(v) for v in table.variants]}
        Path(arguments.json).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
