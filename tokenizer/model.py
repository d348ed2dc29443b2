"""A trained tokenizer: text to ids and back, without loss.

The model is SentencePiece BPE with one change after training (``tokenizer.train.finalize``): its
pieces hold spaces as spaces. SentencePiece writes U+2581 for a space and turns every U+2581 into
a space again, so that a text with that sign would not come back.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from tokenizer import model_proto, special
from tokenizer.model_proto import Kind, ModelFileError
from tokenizer.shown import shown

MAX_FILE_BYTES = 64 << 20
MAX_VOCABULARY = 1 << 20


class UnencodableText(ValueError):
    """A text that is not Unicode: it holds half of a surrogate pair."""


class Tokenizer:
    """Encodes and decodes with a model that ``tokenizer.train`` has made.

    ``decode(encode(text)) == text`` for every text without lone surrogates.
    """

    def __init__(self, content: bytes) -> None:
        """Take the bytes of a ``tokenizer.model``.

        Raises:
          ModelFileError: they are damaged, too large, or a model of another make.
        """
        if len(content) > MAX_FILE_BYTES:
            raise ModelFileError(
                f"a model of {len(content)} bytes; at most {MAX_FILE_BYTES} are read"
            )
        model = model_proto.parse(content)
        found = model_proto.pieces(model)
        _check(model, found)
        self._processor: Any = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(content)
        except RuntimeError:
            raise ModelFileError("SentencePiece cannot load this model") from None
        self.content = content
        self.pieces: tuple[str, ...] = tuple(piece for piece, _ in found)
        self.kinds: tuple[Kind, ...] = tuple(kind for _, kind in found)

    @classmethod
    def load(cls, path: str) -> Tokenizer:
        """The tokenizer in a local file. Raises ``ModelFileError`` and ``OSError``."""
        with open(path, "rb") as handle:
            content = handle.read(MAX_FILE_BYTES + 1)
        try:
            return cls(content)
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from None

    @functools.cached_property
    def sha256(self) -> str:
        """The digest of the model file, which shards and checkpoints name."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def vocab_size(self) -> int:
        """The number of pieces; ids are 0 to this less one."""
        return len(self.pieces)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type that holds every id: two bytes up to 65,536 pieces."""
        return np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    def encode(self, text: str) -> NDArray[Any]:
        """The ids of a text, without eos, in ``dtype``.

        Raises:
          UnencodableText: the text holds a lone surrogate; the message names its place.
        """
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise UnencodableText(
                f"a lone surrogate U+{ord(text[error.start]):04X} at character {error.start}; "
                "replace it by U+FFFD before encoding"
            ) from None
        ids: NDArray[np.int32] = self._processor.Encode(content, return_type="numpy")
        return ids.astype(self.dtype)

    def decode(self, ids: Iterable[int] | NDArray[Any]) -> str:
        """The text of some ids. Control pieces such as eos give nothing.

        Bytes that are no UTF-8, which only cut or made-up sequences hold, become U+FFFD.

        Raises:
          ValueError: an id is not of this vocabulary.
        """
        numbers = [int(number) for number in ids]
        for number in numbers:
            if not 0 <= number < self.vocab_size:
                raise ValueError(
                    f"the id {number} is not of this vocabulary, which has 0 to "
                    f"{self.vocab_size - 1}"
                )
        return str(self._processor.DecodeIds(numbers))

    @functools.cached_property
    def scores(self) -> list[float]:
        """The score of each piece: of two ways to join, the piece of the higher score is formed."""
        return [float(self._processor.GetScore(number)) for number in range(self.vocab_size)]

    @functools.cached_property
    def is_byte(self) -> NDArray[np.bool_]:
        """For each id whether its piece is one byte of a character that the vocabulary lacks."""
        return np.array([kind is Kind.BYTE for kind in self.kinds])

    @functools.cached_property
    def byte_lengths(self) -> NDArray[np.int64]:
        """The bytes of text that each id stands for: (vocabulary,). Those of a text's ids add up to
        the text's."""
        return np.array(
            [
                1 if kind is Kind.BYTE
                else 0 if kind in (Kind.CONTROL, Kind.UNKNOWN)
                else len(piece.encode())
                for piece, kind in zip(self.pieces, self.kinds, strict=True)
            ],
            np.int64,
        )  # fmt: skip


def _check(model: Any, found: Sequence[tuple[str, Kind]]) -> None:
    """Refuse models whose behaviour would not be what ``Tokenizer`` promises."""
    if len(found) > MAX_VOCABULARY:
        raise ModelFileError(f"{len(found)} pieces; at most {MAX_VOCABULARY} are supported")
    normalizer = model.normalizer_spec
    if (
        normalizer.name != "identity"
        or normalizer.add_dummy_prefix
        or normalizer.remove_extra_whitespaces
        or normalizer.escape_whitespaces
    ):
        raise ModelFileError(
            "this model changes text before it encodes it; use one of `cidermill tokenizer train`"
        )
    if list(found[: len(_FIRST)]) != _FIRST:
        names = ", ".join(piece for piece, _ in found[: len(_FIRST)])
        raise ModelFileError(
            f"the first pieces are {shown(names)}; they must be <pad>, </s>, <unk>, "
            "<mask>: use a model of `cidermill tokenizer train`"
        )
    if {piece for piece, kind in found if kind is Kind.BYTE} != _BYTES:
        raise ModelFileError("the model has no pieces for the 256 bytes, so it would lose text")


_FIRST = [
    (special.PAD, Kind.CONTROL),
    (special.EOS, Kind.CONTROL),
    (special.UNK, Kind.UNKNOWN),
    (special.MASK, Kind.CONTROL),
]
_BYTES = frozenset(f"<0x{number:02X}>" for number in range(special.BYTES))
