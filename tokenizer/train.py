"""Train a vocabulary: SentencePiece BPE as in AFM 2024 (arXiv 2407.21075, section 3.2).

The trainer runs in a process of its own: it can be watched there, its memory goes with it, and a
crash of native code ends it alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizer import model_proto, special
from tokenizer.segments import segments

Progress = Callable[[int], None]
_MERGED = re.compile(rb"Merged: .*\bmerges=(\d+)")
_TOO_HIGH = re.compile(r"Vocabulary size too high .* <= (\d+)")
_TOO_LOW = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")
_SPACE_SIGN = "\u2581"


class TrainingFailed(RuntimeError):
    """No vocabulary could be trained; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """What to train.

    ``vocab_size`` counts all pieces, those in reserve and the bytes included.
    ``character_coverage`` is the share of the text whose characters get a piece; rarer ones are
    written as bytes. ``split_by_whitespace`` keeps pieces within words; AFM's configuration does
    not, so that "of the" can be one piece.
    """

    vocab_size: int
    character_coverage: float = 0.9995
    split_by_whitespace: bool = False

    def __post_init__(self) -> None:
        if not special.FIXED < self.vocab_size <= 1 << 20:
            raise ValueError(
                f"a vocabulary of {self.vocab_size} pieces; it needs more than {special.FIXED}, "
                f"which every vocabulary has, and at most {1 << 20}"
            )
        if not 0.9 <= self.character_coverage <= 1:
            raise ValueError(
                f"a character coverage of {self.character_coverage}; it must be 0.9 to 1"
            )

    def for_sentencepiece(self) -> dict[str, Any]:
        """The options of ``SentencePieceTrainer``; those that AFM's trainer names are as there."""
        return {
            "model_type": "bpe",
            "vocab_size": self.vocab_size,
            "character_coverage": self.character_coverage,
            "split_by_whitespace": self.split_by_whitespace,
            "byte_fallback": True,
            "required_chars": special.REQUIRED,
            "split_digits": True,
            "normalization_rule_name": "identity",
            "allow_whitespace_only_pieces": True,
            "remove_extra_whitespaces": False,
            # A space before the first word would make a text and its continuation differ.
            "add_dummy_prefix": False,
            "shuffle_input_sentence": False,
            # In bytes; segments are far shorter, so that none is left out.
            "max_sentence_length": 1 << 16,
            "pad_id": special.PAD_ID,
            "eos_id": special.EOS_ID,
            "unk_id": special.UNK_ID,
            "bos_id": -1,
            "pad_piece": special.PAD,
            "eos_piece": special.EOS,
            "unk_piece": special.UNK,
            "control_symbols": list(special.CONTROLS),
            "user_defined_symbols": list(special.WHITESPACE),
            "num_threads": 1,
        }


def write_segments(texts: Iterable[str], path: str) -> int:
    """Write the segments of texts, one a line, for ``train``; gives how many there are."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        for text in texts:
            for segment in segments(text):
                handle.write(segment)
                handle.write("\n")
                count += 1
    return count


def train(path: str, settings: Settings, progress: Progress | None = None) -> bytes:
    """Train on a file of segments; gives the bytes of ``tokenizer.model``.

    The same file and settings give the same bytes. ``progress`` gets the number of merges found.

    Raises:
      TrainingFailed: the text is too small for the vocabulary, or the trainer failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "model")
        order = {"input": path, **settings.for_sentencepiece()}
        child = {"parent": os.getpid(), "target": target, "options": order}
        code, last = _run_child(child, progress)
        if code != 0:
            raise TrainingFailed(_reason(code, last, settings))
        with open(target, "rb") as handle:
            return finalize(handle.read())


def _run_child(order: Mapping[str, Any], progress: Progress | None) -> tuple[int, str]:
    """Start the trainer and follow it to its end; gives its exit code and the last line it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tokenizer.train_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
        last = _listen(process.stderr, progress)
        return process.wait(), last
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stderr.close()


def _listen(log: Iterable[bytes], progress: Progress | None) -> str:
    """Follow the trainer's log; gives its last line."""
    last = b""
    for line in log:
        last = line
        found = _MERGED.search(line)
        if found and progress is not None:
            progress(int(found.group(1)))
    return last.decode("utf-8", "replace").strip()


def _reason(code: int, last: str, settings: Settings) -> str:
    if found := _TOO_HIGH.search(last):
        return (
            f"the text holds fewer than {settings.vocab_size} pieces; train on more of it, or ask "
            f"for a vocabulary of at most {found.group(1)}"
        )
    if found := _TOO_LOW.search(last):
        return (
            f"a vocabulary of {settings.vocab_size} cannot hold the characters of the text; ask "
            f"for more than {found.group(1)}, or lower the character coverage"
        )
    if code < 0:
        return f"the trainer was ended by signal {-code}; train on less text if memory ran out"
    return f"SentencePiece: {last[:300]}"


def finalize(content: bytes) -> bytes:
    """Make a trained model lossless and the same on every machine.

    Pieces get spaces for U+2581, and the model is told not to exchange them, so that a text with
    that sign comes back. What tells where and how it was trained is left out.
    """
    model: Any = model_proto.parse(content)
    for piece in model.pieces:
        if model_proto.kind(piece) is model_proto.Kind.NORMAL:
            piece.piece = piece.piece.replace(_SPACE_SIGN, " ")
    model.normalizer_spec.escape_whitespaces = False
    for field in ("input", "model_prefix", "num_threads"):
        model.trainer_spec.ClearField(field)
    return model_proto.serialize(model)


def describe(settings: Settings) -> Mapping[str, Any]:
    """The settings for a record of how a vocabulary came about."""
    options = settings.for_sentencepiece()
    options.pop("num_threads")
    return options
