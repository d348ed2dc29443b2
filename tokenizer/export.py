"""The tokenizer in Hugging Face's layout: ``tokenizer.json`` and ``tokenizer_config.json``.

Encodes to the same ids as the SentencePiece model. Merges follow from the vocabulary: SentencePiece
joins whatever pair forms the piece of the highest score, so each way to cut a piece in two pieces
is a merge, ranked by the piece that it forms.

Control pieces are in the vocabulary and not among the added tokens of ``tokenizer.json``: added,
they would be found in any text that spells them. ``transformers`` adds them itself and is told by
``split_special_tokens`` to leave text alone.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizer import special
from tokenizer.model import Tokenizer
from tokenizer.model_proto import Kind


def tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """``tokenizer.json`` for the ``tokenizers`` library."""
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(tokenizer, piece) for piece in special.WHITESPACE],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": special.UNK,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {piece: number for number, piece in enumerate(tokenizer.pieces)},
            "merges": merges(tokenizer),
        },
    }
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def _added(tokenizer: Tokenizer, piece: str) -> dict[str, Any]:
    return {
        "id": tokenizer.pieces.index(piece),
        "content": piece,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": False,
    }


def merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """All pairs of pieces that join to a piece, the pieces that were found first before others.

    Of two ways to form the same piece at once SentencePiece takes the one further left. Ranks
    cannot say that; they can differ only where both overlap, as in a run of one character, and
    there the way with the longer left part is the one that lies further left.
    """
    normal = [
        piece
        for piece, kind in zip(tokenizer.pieces, tokenizer.kinds, strict=True)
        if kind is Kind.NORMAL
    ]
    known = set(normal)
    return [
        (piece[:cut], piece[cut:])
        for piece in normal
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in known and piece[cut:] in known
    ]


def tokenizer_config(tokenizer: Tokenizer, max_length: int = 1 << 15) -> bytes:
    """``tokenizer_config.json`` for the ``transformers`` library."""
    content = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "pad_token": special.PAD,
        "eos_token": special.EOS,
        "unk_token": special.UNK,
        "mask_token": special.MASK,
        "additional_special_tokens": list(special.RESERVED),
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
    }
    return (json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()
