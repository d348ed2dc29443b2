"""Tokenizers and packing beside their peers, on the same text in one run.

    python benchmarks/tokenizer.py --data FOLDER      (or the environment variable CIDERMILL_DATA)

FOLDER holds ``text/*.jsonl.gz`` and ``langid/udhr*.jsonl.gz`` with the field ``text``. Every fifth
text of the first is held out; all of both are encoded and decoded again.

Training: this package (which runs SentencePiece in a process of its own, on segments), plain
SentencePiece with the same options on the lines of the text, and byte-level BPE of Hugging Face
``tokenizers``; all with one thread, for the same number of pieces. Encoding: held-out texts, one
after the other, one thread, in turns; Hugging Face's library also with our exported tokenizer.json,
whose ids are checked to be the same. Packing: the tokens of all texts, beside concatenating and
cutting wherever a window is full, and beside nanochat's way, which fills a row with the largest
buffered document that fits and crops one to fill the rest, whose tail is thrown away.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

# This file has the name of the package, and its folder comes first where imports look.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np  # noqa: E402
import sentencepiece  # noqa: E402
import tokenizers  # noqa: E402
from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: E402

from tokenizer import special  # noqa: E402
from tokenizer.export import tokenizer_json  # noqa: E402
from tokenizer.model import Tokenizer  # noqa: E402
from tokenizer.packing import pack  # noqa: E402
from tokenizer.train import Settings, train, write_segments  # noqa: E402

ROUNDS = 3
BUFFER = 1000
"""Documents that nanochat's loader chooses among."""


def read(folder: Path, megabytes: float) -> tuple[list[str], list[str]]:
    """Texts to train on, up to so many megabytes, and held-out ones."""
    training: list[str] = []
    held_out: list[str] = []
    size = 0
    number = 0
    for path in sorted(folder.glob("text/*.jsonl.gz")):
        with gzip.open(path) as lines:
            for line in lines:
                text = json.loads(line)["text"]
                number += 1
                if number % 5 == 0:
                    held_out.append(text)
                elif size < megabytes * 1e6:
                    training.append(text)
                    size += len(text.encode())
    return training, held_out


def read_all(folder: Path) -> list[str]:
    """Every text of ``text/`` and ``langid/udhr*``, for the round trip."""
    paths = [*sorted(folder.glob("text/*.jsonl.gz")), *sorted(folder.glob("langid/udhr*.jsonl.gz"))]
    return [json.loads(line)["text"] for path in paths for line in gzip.open(path)]


def clocked(work: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


# --- training -----------------------------------------------------------------------------------


def train_ours(texts: Sequence[str], size: int) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "segments.txt")
        write_segments(texts, path)
        return Tokenizer(train(path, Settings(size)))


def train_plain(texts: Sequence[str], size: int) -> sentencepiece.SentencePieceProcessor:
    """The same options on lines, as SentencePiece's manual trains."""
    options = Settings(size).for_sentencepiece()
    lines = (line[:4000] for text in texts for line in text.split("\n") if line)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=lines, model_writer=model, minloglevel=2, **options
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def train_hugging_face(texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[special.PAD, special.EOS],
    )  # fmt: skip
    found.train_from_iterator(texts, trainer)
    return found


# --- packing ------------------------------------------------------------------------------------


def crop_like_nanochat(lengths: np.ndarray, window: int) -> tuple[int, int]:
    """Windows, and tokens thrown away, by best fit over a buffer and a crop to fill each row."""
    waiting = lengths.tolist()[::-1]
    buffer: list[int] = []
    windows = cropped = 0
    room = window
    while waiting or buffer:
        while waiting and len(buffer) < BUFFER:
            buffer.append(waiting.pop())
        fitting = [n for n in range(len(buffer)) if buffer[n] <= room]
        if fitting:
            room -= buffer.pop(max(fitting, key=buffer.__getitem__))
        else:
            shortest = min(range(len(buffer)), key=buffer.__getitem__)
            cropped += buffer.pop(shortest) - room
            room = 0
        if room == 0:
            windows, room = windows + 1, window
    return windows, cropped


def packing_rows(lengths: np.ndarray, window: int) -> list[str]:
    """One line a way: windows, padding, cropped tokens, documents cut though they would fit."""
    total = int(lengths.sum())
    rows = []
    for name, method in (("best fit (ours)", "best-fit"), ("concatenate and cut", "concatenate")):
        seconds, packed = clocked(lambda method=method: pack(lengths, window, method))
        pieces = packed.pieces[packed.pieces["offset"] > 0]["document"]
        fitting = int((lengths[np.unique(pieces)] <= window).sum())
        rows.append(
            f"{name:<24}{packed.windows:>9}{packed.padding / (packed.windows * window):>10.3%}"
            f"{0:>10.3%}{fitting / len(lengths):>16.1%}{len(lengths) / seconds:>16.0f}"
        )
    seconds, (windows, cropped) = clocked(lambda: crop_like_nanochat(lengths, window))
    rows.append(
        f"{'best fit and crop':<24}{windows:>9}{0:>10.3%}{cropped / total:>10.3%}{'':>16}"
        f"{len(lengths) / seconds:>16.0f}"
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA"))
    parser.add_argument("--megabytes", type=float, default=32.0, help="text to train on")
    parser.add_argument("--vocab-size", type=int, default=special.PRESETS["device"])
    arguments = parser.parse_args()
    if not arguments.data or not (Path(arguments.data) / "text").is_dir():
        sys.exit("skipped: --data names no folder with text/*.jsonl.gz")
    training, held_out = read(Path(arguments.data), arguments.megabytes)
    size = sum(len(text.encode()) for text in training) / 1e6
    held = sum(len(text.encode()) for text in held_out) / 1e6
    print(f"training on {size:.1f} MB, {arguments.vocab_size} pieces, one thread")
    trained = {}
    for name, way in (
        ("ours", train_ours),
        ("plain SentencePiece", train_plain),
        ("Hugging Face (byte-level)", train_hugging_face),
    ):
        seconds, trained[name] = clocked(lambda way=way: way(training, arguments.vocab_size))
        print(f"  {name:<28}{seconds:>8.1f} s")

    ours = trained["ours"]
    exported = tokenizers.Tokenizer.from_str(tokenizer_json(ours).decode())
    encoders: dict[str, Callable[[str], Sequence[int]]] = {
        "ours": ours.encode,
        "plain SentencePiece": trained["plain SentencePiece"].EncodeAsIds,
        "Hugging Face, our export": lambda text: exported.encode(text).ids,
        "Hugging Face (byte-level)": lambda text: (
            trained["Hugging Face (byte-level)"].encode(text).ids
        ),
    }
    best = dict.fromkeys(encoders, float("inf"))
    for _ in range(ROUNDS):
        for name, encode in encoders.items():
            seconds, _ = clocked(lambda encode=encode: [encode(text) for text in held_out])
            best[name] = min(best[name], seconds)
    ids = [ours.encode(text) for text in held_out]
    same = sum(exported.encode(t).ids == i.tolist() for t, i in zip(held_out, ids, strict=True))
    everything = read_all(Path(arguments.data))
    back = sum(ours.decode(ours.encode(text)) == text for text in everything)
    print(f"encoding {len(held_out)} held-out texts, {held:.1f} MB, one thread, best of {ROUNDS}")
    for name, seconds in best.items():
        ratio = best["plain SentencePiece"] / seconds
        print(f"  {name:<28}{held / seconds:>8.2f} MB/s{ratio:>8.2f} of plain SentencePiece")
    print(f"  our export gives the same ids for {same} of {len(held_out)} texts")
    print(f"  {back} of all {len(everything)} texts and declarations come back as they were")

    lengths = np.array([len(ours.encode(text)) + 1 for text in (*training, *held_out)], np.int64)
    for window in (2048, 4096):
        print(f"packing {len(lengths)} documents, {lengths.sum()} tokens, windows of {window}")
        print(f"{'':<24}{'windows':>9}{'padding':>10}{'cropped':>10}{'cut though fit':>16}"
              f"{'documents/s':>16}")  # fmt: skip
        print("\n".join(packing_rows(lengths, window)))


if __name__ == "__main__":
    main()
