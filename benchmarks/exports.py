"""Whether exported models compute what ours computes: in transformers, and in llama.cpp.

    python benchmarks/exports.py [--model FOLDER]

Trains a tokenizer and two models of under a million parameters on the project's own documents and
sources, one of equal layers and one layer-wise (or takes a model of `cidermill train`), exports
them and prints for each reader the greatest difference of logits, how often both find the same
token likeliest, and what multiple-choice questions come to. The questions are the project's own
lines: how one goes on, with three other lines' ends as the wrong choices.

llama.cpp comes in by xllamacpp and tells log-probabilities alone, so there they are compared.
Needs torch and transformers for the first reader; what is missing is said, and left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tokenizer import train as tokenizer_training  # noqa: E402
from tokenizer.model import Tokenizer  # noqa: E402
from trainer import optimizer  # noqa: E402
from trainer.choices import Answer, Question, answer, encode_pair, results  # noqa: E402
from trainer.export_gguf import export_gguf  # noqa: E402
from trainer.export_hf import export_hf  # noqa: E402
from trainer.model import Windows, initialise, logits  # noqa: E402
from trainer.model_files import Model, load_model  # noqa: E402
from trainer.optimizer import adamw, schedule_at  # noqa: E402
from trainer.scoring import Scorer  # noqa: E402
from trainer.shape import Layer, Shape, uniform  # noqa: E402
from trainer.step import StepSettings, make_step, to_parts  # noqa: E402

VOCABULARY, STEPS, ROWS, LENGTH = 2048, 150, 8, 64
PLACES, TEXTS, ITEMS, CHOICES = 64, 4, 24, 4
SHAPES = {
    "equal layers (qwen3)": uniform(VOCABULARY, 128, 3, 4, 2, 32, 256),
    "layer-wise (openelm)": Shape(
        VOCABULARY, 128, 32, (Layer(2, 1, 128), Layer(4, 2, 256), Layer(4, 2, 384))
    ),
}


def documents() -> list[str]:
    """The project's own documents and sources."""
    paths = [*sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("[fpt]*/*.py"))]
    return [path.read_text("utf-8") for path in paths]


def train_tokenizer(texts: list[str]) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/segments.txt"
        tokenizer_training.write_segments(texts, path)
        settings = tokenizer_training.Settings(vocab_size=VOCABULARY)
        return Tokenizer(tokenizer_training.train(path, settings))


def train(shape: Shape, tokenizer: Tokenizer, texts: list[str]) -> Model:
    """A model that has learned something, so that its logits are like those of real ones."""
    ids = np.concatenate([tokenizer.encode(text) for text in texts]).astype(np.int32)
    random = np.random.default_rng(0)
    params = {name: jnp.asarray(value) for name, value in initialise(shape, 0).items()}
    state = optimizer.start(params)
    step = make_step(StepSettings(shape, adamw(3e-3)))
    for number in range(STEPS):
        starts = random.integers(0, len(ids) - LENGTH, ROWS)
        batch = {
            "tokens": np.stack([ids[start : start + LENGTH] for start in starts]),
            "segments": np.ones((ROWS, LENGTH), np.int32),
            "positions": np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1)),
        }
        held = {name: jnp.asarray(value) for name, value in to_parts(batch, 1).items()}
        factor = jnp.float32(schedule_at(number, STEPS, 10, 0.1))
        params, state, told = step(params, state, held, factor)
    print(f"trained {shape.parameters:,} parameters, {STEPS} steps: loss {float(told['loss']):.3f}")
    found = {name: np.array(value) for name, value in params.items()}
    for name, value in found.items():
        # Few steps leave norms near 1, where a fault in them would hardly show.
        if value.ndim == 1:
            found[name] = value * random.uniform(0.7, 1.3, value.shape).astype(np.float32)
    return Model(found, shape, tokenizer, {})


def make_questions(texts: list[str]) -> list[Question]:
    lines = [line for text in texts for line in text.split("\n") if 60 <= len(line) <= 100]
    random = np.random.default_rng(1)
    chosen = [lines[n] for n in random.permutation(len(lines))[: ITEMS * CHOICES]]
    cuts = [line.rfind(" ", 0, len(line) * 2 // 3) for line in chosen]
    halves = [(line[:at], line[at:]) for line, at in zip(chosen, cuts, strict=True) if at > 20]
    halves = [(query.rstrip(), " " + end.lstrip()) for query, end in halves]
    found = []
    for number in range(len(halves) // CHOICES):
        own = halves[number * CHOICES : (number + 1) * CHOICES]
        gold = int(random.integers(CHOICES))
        found.append(Question("lines", own[gold][0], tuple(end for _, end in own), gold))
    return found


def our_logits(model: Model, ids: np.ndarray) -> np.ndarray:
    row = jnp.asarray(ids.astype(np.int32))[None]
    windows = Windows(row, jnp.ones_like(row), jnp.arange(row.size)[None])
    params = {name: jnp.asarray(value) for name, value in model.params.items()}
    return np.asarray(jax.jit(logits, static_argnums=1)(params, model.shape, windows)[0])


def log_softmax(found: np.ndarray) -> np.ndarray:
    found = found.astype(np.float64)
    top = found.max(-1, keepdims=True)
    return found - top - np.log(np.exp(found - top).sum(-1, keepdims=True))


Likelihood = Callable[[Question, str], float]


def compare(
    reader: str, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], what: str,
    answers: Sequence[Answer], likelihood: Likelihood,
) -> None:  # fmt: skip
    """Print what another program makes of the model, beside what ours does."""
    a, b = np.concatenate(ours), np.concatenate(theirs)
    same = (a.argmax(-1) == b.argmax(-1)).mean()
    others = [
        Answer(found.question, tuple(likelihood(found.question, c) for c in found.question.choices))
        for found in answers
    ]
    off = max(
        abs(x - y)
        for one, other in zip(answers, others, strict=True)
        for x, y in zip(one.likelihoods, other.likelihoods, strict=True)
    )
    alike = np.mean(
        [
            (x.choice, x.normalised_choice) == (y.choice, y.normalised_choice)
            for x, y in zip(answers, others, strict=True)
        ]
    )
    own, other = results(answers)["lines"], results(others)["lines"]
    print(
        f"  {reader}: max |{what} difference| {np.abs(a - b).max():.2e} (mean "
        f"{np.abs(a - b).mean():.1e}), same argmax {same:.1%} of {len(a)}\n"
        f"    choices: accuracy {other.accuracy:.1%} (ours {own.accuracy:.1%}), normalised "
        f"{other.normalised:.1%} (ours {own.normalised:.1%}), same answers {alike:.1%} of "
        f"{len(answers)}, max |log-likelihood difference| {off:.2e}"
    )


def in_transformers(
    model: Model, texts: list[str], ours: list[np.ndarray], answers: Sequence[Answer]
) -> None:
    missing = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]
    if missing:
        print(f"  transformers: left out, {' and '.join(missing)} not installed")
        return
    if not model.shape.uniform:
        print("  transformers: left out, it has no openelm")
        return
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        export_hf(model, f"{folder}/hf")
        found: Any = AutoModelForCausalLM.from_pretrained(f"{folder}/hf", dtype=torch.float32)
        cut: Any = AutoTokenizer.from_pretrained(f"{folder}/hf")

    def run(ids: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            return found(torch.tensor([list(ids)])).logits[0].numpy()

    def likelihood(question: Question, choice: str) -> float:
        ids, first = encode_pair(model.tokenizer, question.query, choice)
        logs = log_softmax(run(ids.tolist()))
        return float(sum(logs[n - 1, ids[n]] for n in range(first, len(ids))))

    same = all(cut(text)["input_ids"] == model.tokenizer.encode(text).tolist() for text in texts)
    print(f"  transformers: {type(found).__name__}, ids of {len(texts)} texts the same: {same}")
    theirs = [run(model.tokenizer.encode(text)[:PLACES].tolist()) for text in texts]
    compare("transformers", ours, theirs, "logit", answers, likelihood)


def in_llama_cpp(
    model: Model, kind: str, texts: list[str], ours: list[np.ndarray], answers: Sequence[Answer]
) -> None:
    if not importlib.util.find_spec("xllamacpp"):
        print("  llama.cpp: left out, xllamacpp not installed")
        return
    from benchmarks.llama_cpp import LlamaCpp

    with tempfile.TemporaryDirectory() as folder:
        export_gguf(model, f"{folder}/model.gguf", kind)
        llama = LlamaCpp(f"{folder}/model.gguf", model.tokenizer)
        theirs = [llama.each(model.tokenizer.encode(text)[:PLACES]) for text in texts]
        compare(
            f"llama.cpp {kind}", [log_softmax(found) for found in ours], theirs, "log-probability",
            answers, lambda q, c: llama.likelihood(*encode_pair(model.tokenizer, q.query, c)),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", help="folder of a model or of a training run")
    arguments = parser.parse_args()
    texts = documents()
    if arguments.model:
        models = {arguments.model: lambda: load_model(arguments.model)}
    else:
        tokenizer = train_tokenizer(texts)
        models = {
            name: lambda shape=shape: train(shape, tokenizer, texts)  # type: ignore[misc]
            for name, shape in SHAPES.items()
        }
    questions = make_questions(texts)
    for name, make in models.items():
        print(name)
        model = make()
        ours = [our_logits(model, model.tokenizer.encode(t)[:PLACES]) for t in texts[:TEXTS]]
        answers = answer(Scorer(model.params, model.shape, 128), model.tokenizer, questions)
        in_transformers(model, texts[:TEXTS], ours, answers)
        for kind in ("f16", "q8_0"):
            in_llama_cpp(model, kind, texts[:TEXTS], ours, answers)


if __name__ == "__main__":
    main()
