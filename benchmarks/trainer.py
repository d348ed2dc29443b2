"""The trainer beside a model of nanoGPT's kind on torch: tokens a second, peak memory, as ratios.

    python benchmarks/trainer.py --torch-python PATH [--rounds 9] [--threads 2]

One step of each in turn, in one run, so that the machine's mood hits all alike: the preset ``15m``
in f32 and with bf16 compute, and GPT-2's decoder with the same width, layers, heads, window,
vocabulary and batch (``trainer_torch.py``), all with AdamW. The first third of the rounds does not
count; a figure is the median of the rest, and a ratio the median of the rounds' ratios. On a busy
machine prefer ``--threads 1`` and its CPU seconds: threads that wait for one another in turns are
slowed the most, and those of OpenMP count their waiting as CPU. ``--torch-python`` is the
interpreter of an environment with torch; without it our own rows alone are made.

Torch's products come from MKL, which leaves AVX-512 unused on processors that are not Intel's; ours
use what is there. ``processor`` says which.

Then how long the first step takes, compilation included, in a fresh process: with an empty folder
of compiled programs, and with what that left there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.stepping import Worker, keep_to_cores, serve  # noqa: E402

PRESET, VOCABULARY, LENGTH, BATCH = "15m", 8192, 512, 8
TOKENS = LENGTH * BATCH
FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16")
PEER, OURS, BF16 = "nanoGPT's model, torch, f32", "ours, f32", "ours, bf16 compute"


def work(compute: str, threads: int, cache: str) -> None:
    """Be a worker: our step, as ``trainer.loop`` takes it."""
    keep_to_cores(threads)
    import numpy as np

    from trainer import arrays, optimizer
    from trainer.compute import start
    from trainer.model import initialise
    from trainer.shape import preset
    from trainer.step import StepSettings, make_step, parts_of, to_parts

    start(cache or None)
    shape = preset(PRESET, VOCABULARY)
    params = arrays.put_params(initialise(shape, 0), None)
    state = optimizer.start(params)
    run = make_step(StepSettings(shape, optimizer.adamw(3e-4), compute))
    parts = parts_of(BATCH, LENGTH, None)
    random = np.random.default_rng(0)
    whole = {
        "segments": np.ones((BATCH, LENGTH), np.int32),
        "positions": np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1)),
    }

    def step() -> float:
        nonlocal params, state
        tokens = random.integers(0, VOCABULARY, (BATCH, LENGTH), np.int32)
        batch = arrays.put_batch(to_parts({"tokens": tokens, **whole}, parts), None)
        params, state, told = run(params, state, batch, arrays.put_scalar(np.float32(1), None))
        return float(told["loss"])

    serve(step)


def ours(compute: str, threads: int, cache: str = "") -> Worker:
    words = [sys.executable, __file__, "--worker", compute, "--threads", str(threads)]
    return Worker([*words, "--cache", cache])


def peer(python: str, threads: int) -> Worker:
    from trainer.shape import preset

    shape = preset(PRESET, VOCABULARY)
    sizes = (shape.width, len(shape.layers), shape.layers[0].heads, LENGTH, VOCABULARY, BATCH)
    script = str(ROOT / "benchmarks" / "trainer_torch.py")
    return Worker([python, script, *map(str, (*sizes, threads))])


def take_turns(workers: dict[str, Worker], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """One step of each in each round, those of the first third not counted."""
    for worker in workers.values():
        worker.take(1)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for number in range(rounds):
        for name, worker in workers.items():
            row = worker.take(1)
            if number >= rounds // 3:
                found[name].append(row)
    return found


def report(found: dict[str, list[dict[str, Any]]], base: str) -> None:
    """A line for each worker; ratios of speed are to ``base`` in the same round."""
    heads = ("tokens/s", "ratio", "least", "most", "CPU s/step", "CPU ratio", "peak GB")
    base_cpu = median(row["cpu"] for row in found[base])
    print(" " * 28 + "".join(f"{head:>12}" for head in heads))
    for name, rows in found.items():
        ratios = [b["seconds"] / r["seconds"] for r, b in zip(rows, found[base], strict=True)]
        speed = TOKENS / median(row["seconds"] for row in rows)
        cpu = median(row["cpu"] for row in rows)
        print(
            f"{name:28}{speed:12.0f}{median(ratios):12.2f}{min(ratios):12.2f}{max(ratios):12.2f}"
            f"{cpu:12.2f}{base_cpu / cpu:12.2f}{rows[-1]['peak'] / 1e9:12.2f}"
        )


def first_steps(threads: int) -> None:
    with tempfile.TemporaryDirectory() as cache:
        for name in ("empty", "filled"):
            worker = ours("f32", threads, cache)
            first, second = worker.take(1), worker.take(1)
            worker.close()
            print(
                f"first step with {name} cache: {first['seconds']:.1f} s "
                f"({first['cpu']:.1f} of CPU); a later one {second['seconds']:.1f} s"
            )


def features() -> str:
    """The maker and what of the processor matters here, as Linux names them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    maker = next((line.split()[-1] for line in lines if line.startswith("vendor_id")), "unknown")
    for line in lines:
        if line.lower().startswith(("flags", "features")):
            return " ".join([maker, *(name for name in FEATURES if name in line.split())])
    return maker


def has_torch(python: str | None) -> bool:
    if python is None:
        print(
            "our own rows alone: the peer needs torch; give --torch-python, the interpreter of an "
            "environment that has it"
        )
        return False
    try:
        subprocess.run([python, "-c", "import torch"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{python} cannot import torch ({error}); install it there") from None
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-python", help="interpreter of an environment with torch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.threads, args.cache)
        return
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    print(f"processor: {features()}; {args.threads} threads, {TOKENS} tokens a step")
    workers = {PEER: peer(args.torch_python, args.threads)} if has_torch(args.torch_python) else {}
    workers |= {OURS: ours("f32", args.threads), BF16: ours("bf16", args.threads)}
    found = take_turns(workers, args.rounds)
    for worker in workers.values():
        worker.close()
    report(found, next(iter(workers)))
    first_steps(args.threads)


if __name__ == "__main__":
    main()
