"""SentencePiece's model file, as far as it has to be read and changed.

The message types that come with the library are bound to a version of protobuf that Beam does not
have yet. These few fields are described here by hand; what is not described passes through.
Source: sentencepiece_model.proto.
"""

from __future__ import annotations

import functools
from enum import IntEnum
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "Piece": [
        ("piece", 1, _FIELD.TYPE_STRING),
        ("score", 2, _FIELD.TYPE_FLOAT),
        ("type", 3, _FIELD.TYPE_INT32),
    ],
    "Trainer": [
        ("input", 1, _FIELD.TYPE_STRING),
        ("model_prefix", 2, _FIELD.TYPE_STRING),
        ("num_threads", 16, _FIELD.TYPE_INT32),
    ],
    "Normalizer": [
        ("name", 1, _FIELD.TYPE_STRING),
        ("add_dummy_prefix", 3, _FIELD.TYPE_BOOL),
        ("remove_extra_whitespaces", 4, _FIELD.TYPE_BOOL),
        ("escape_whitespaces", 5, _FIELD.TYPE_BOOL),
    ],
    "Model": [
        ("pieces", 1, "Piece"),
        ("trainer_spec", 2, "Trainer"),
        ("normalizer_spec", 3, "Normalizer"),
    ],
}
_REPEATED = {("Model", "pieces"), ("Trainer", "input")}


class Kind(IntEnum):
    """What a piece is; 0, which the file leaves out, is ``NORMAL`` as well."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ModelFileError(ValueError):
    """A file that is no SentencePiece model, or none that we can use."""


def parse(content: bytes) -> Any:
    """The model in a file's bytes. Raises ``ModelFileError`` where there is none."""
    model = _message_class()()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise ModelFileError("this is no SentencePiece model") from None
    if not model.pieces:
        raise ModelFileError("this is no SentencePiece model: it has no pieces")
    return model


def serialize(model: Any) -> bytes:
    """The bytes of a model; the same model gives the same bytes."""
    return bytes(model.SerializeToString(deterministic=True))


_KINDS = {0: Kind.NORMAL, **{int(own): own for own in Kind}}
"""Looked up, not made: a model has tens of thousands of pieces, and is loaded in milliseconds."""


def kind(piece: Any) -> Kind:
    """What a piece is. Raises ``ModelFileError`` for what SentencePiece does not have."""
    found = _KINDS.get(piece.type)
    if found is None:
        raise ModelFileError(f"a damaged model: a piece of the type {piece.type}")
    return found


def pieces(model: Any) -> list[tuple[str, Kind]]:
    """All pieces of a model, in order of their ids. Raises ``ModelFileError`` for damaged ones."""
    try:
        found = [(piece.piece, kind(piece)) for piece in model.pieces]
    except UnicodeDecodeError:
        found = [(b"", Kind.NORMAL)]
    # Protobuf gives bytes, or raises, where a string is no UTF-8.
    if not all(isinstance(piece, str) for piece, _ in found):
        raise ModelFileError("a damaged model: a piece that is no UTF-8")
    return found


@functools.cache
def _message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="cidermill/sentencepiece.proto", package="cidermill", syntax="proto2"
    )
    for name, fields in _TYPES.items():
        message = file.message_type.add(name=name)
        for field, number, kind_ in fields:
            repeated = (name, field) in _REPEATED
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if isinstance(kind_, str):
                message.field.add(
                    name=field, number=number, label=label,
                    type=_FIELD.TYPE_MESSAGE, type_name=f".cidermill.{kind_}",
                )  # fmt: skip
            else:
                message.field.add(name=field, number=number, label=label, type=kind_)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("cidermill.Model"))
