"""What a training run reads: shards or texts, labels beside them, and documents to validate on."""

from __future__ import annotations

import glob
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.held_out_file import FILE
from pipelines.inputs_error import InputError
from pipelines.mixtures import load_mixture
from tokenizer.mixture import Component, Mixture, MixtureError, Plan, plan
from tokenizer.model import Tokenizer
from tokenizer.reader import Batch, WindowReader, check_plan
from tokenizer.shard_set import ShardSet
from tokenizer.stream import TextStream
from trainer.bits import Text, prepare
from trainer.checkpoint import digest
from trainer.labels import INDEX, open_labels
from trainer.loop import Source
from trainer.stages import Stage

HELD_OUT = ("text", "source", "language")
"""Columns of documents to validate on; the last two may be absent."""

EPOCHS = 4
"""Beyond so many repetitions more of the same is worth little (Muennighoff et al., arXiv
2305.16264, section 5)."""


@dataclass(frozen=True)
class Data:
    """The data of one stage: what identifies it, how to open it, and what to say of it."""

    identity: str
    open: Callable[[], Source]
    notes: tuple[str, ...] = ()


def checked_shards(folder: str) -> ShardSet:
    """Shards whose every file has the digest of the index; a training may last for days.

    Raises:
      ShardError: there are none, or one is damaged.
    """
    shards = ShardSet.open(folder)
    shards.verify()
    return shards


def shard_data(
    folder: str, stage: Stage, tokenizer: Tokenizer, seed: int, *, hosts: int = 1, host: int = 0
) -> Data:
    """Token shards as the data of a stage: its mixture, as many windows as its budget has.

    Raises:
      InputError: they are of another length or tokenizer, or the mixture cannot be had of them.
      ShardError: there are none, or one is damaged.
    """
    shards = checked_shards(folder)
    if shards.length != stage.length:
        raise InputError(
            f"{folder} has windows of {shards.length} tokens, and the stage {stage.name!r} is for "
            f"{stage.length}"
        )
    if shards.index["tokenizer"]["sha256"] != tokenizer.sha256:
        raise InputError(
            f"{folder} was packed with another tokenizer than {tokenizer.sha256[:16]}; give "
            "--tokenizer, or pack again"
        )
    planned, notes = _plan(stage, shards.windows())
    try:
        check_plan(planned, shards)
    except ValueError as error:
        raise InputError(str(error)) from None
    identity = f"{shards.digest} {planned.to_dict()}"
    beside = None
    if stage.labels:
        beside = {"teacher": open_labels(stage.labels, shards)}
        # A folder of this name may come to hold another teacher's.
        identity += f" {digest(os.path.join(stage.labels, INDEX))}"
    per_host = stage.batch // hosts

    def opened() -> Source:
        return WindowReader(
            shards, planned, seed=seed, batch=per_host, host=host, hosts=hosts, beside=beside
        )

    return Data(identity, opened, notes)


def _plan(stage: Stage, windows: Mapping[str, int]) -> tuple[Plan, tuple[str, ...]]:
    """As many windows as a stage's steps take, and what to say of how often they repeat."""
    total = stage.steps * stage.batch
    if stage.mixture is not None:
        try:
            planned = plan(load_mixture(stage.mixture), windows, total)
            return planned, _often(stage.name, planned)
        except MixtureError as error:
            raise InputError(str(error)) from None
    available = sum(windows.values())
    repeats = Fraction(max(1, math.ceil(total / available) + 1))
    components = tuple(Component(name, (name,), None, repeats) for name in sorted(windows))
    notes: tuple[str, ...] = ()
    if total > EPOCHS * available:
        notes = (
            f"{stage.name}: {stage.tokens} tokens are {total / available:.1f} times what the "
            f"shards hold; beyond {EPOCHS} times more of the same teaches little",
        )
    return plan(Mixture("natural", "", stage.length, components), windows, total), notes


def _often(stage: str, planned: Plan) -> tuple[str, ...]:
    """What to say of the components of a mixture that are read over and over."""
    found = [
        f"{part.name!r} {part.repeats:.1f} times"
        for part in planned.parts
        if part.windows > EPOCHS * part.available
    ]
    if not found:
        return ()
    return (
        f"{stage}: the mixture {planned.name!r} takes all of {', '.join(found)}; beyond {EPOCHS} "
        "times more of the same teaches little",
    )


class _OwnRows:
    """One host's rows of a stream that every host reads whole.

    So all hosts come to its end behind the same batch, and a state is a place for all of them. It
    ends with the last whole batch. What each tokenizes for others costs little beside training: a
    core makes some million tokens a second.
    """

    def __init__(self, stream: TextStream, batch: int, host: int, hosts: int) -> None:
        self._stream, self._batch, self._host, self._hosts = stream, batch, host, hosts
        self.costs = stream.costs

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._stream:
            if len(batch["tokens"]) < self._batch:
                return
            yield {name: rows[self._host :: self._hosts] for name, rows in batch.items()}

    def get_state(self) -> dict[str, Any]:
        """The place behind the last batch."""
        return self._stream.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a place. Raises ``StateError``."""
        self._stream.set_state(state)


def text_data(
    patterns: Sequence[str], stage: Stage, tokenizer: Tokenizer, seed: int,
    *, field: str = "text", hosts: int = 1, host: int = 0,
) -> Data:  # fmt: skip
    """JSONL and Parquet files, tokenized while they are read, as the data of a stage.

    Raises:
      InputError: no such file; or the stage asks for a mixture or labels.
    """
    for name in ("mixture", "labels"):
        if getattr(stage, name) is not None:
            raise InputError(
                f"the stage {stage.name!r} has {name}, which are for shards: texts are read one "
                "file after the other; pack them, or leave it out"
            )
    paths = sorted({path for pattern in patterns for path in glob.glob(pattern)})
    if not paths:
        raise InputError(f"no file matches {', '.join(patterns)}")
    names = [f"{os.path.basename(path)} {digest(path)}" for path in paths]
    identity = hashlib.sha256("\n".join([*names, field]).encode()).hexdigest()

    def opened() -> Source:
        stream = TextStream(
            paths, tokenizer, length=stage.length, batch=stage.batch, field=field, seed=seed
        )
        return _OwnRows(stream, stage.batch, host, hosts)

    try:
        opened()
    except ValueError as error:
        raise InputError(str(error)) from None
    return Data(identity, opened)


def held_out_texts(path: str, tokenizer: Tokenizer) -> list[Text]:
    """Documents to validate on: a Parquet file, or the folder of shards that set them aside.

    A row without a text has nothing to be judged on, and is left out.

    Raises:
      InputError: there is no such file, it has no ``text``, or what should be texts are none.
    """
    place = _place(path)
    if os.path.isfile(path) and place != path:
        raise InputError(f"{path} is no Parquet file by its name, and no folder of shards")
    try:
        with pq.ParquetFile(place) as file:
            schema = file.schema_arrow
            _check_texts(place, schema)
            rows: list[dict[str, Any]] = file.read(
                columns=[name for name in HELD_OUT if name in schema.names]
            ).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot read {place}: {str(error).splitlines()[0]}") from None
    empty = dict.fromkeys(HELD_OUT, "")
    return prepare(({**empty, **row} for row in rows if row["text"]), tokenizer)


def _place(path: str) -> str:
    """The file of documents to validate on: this one, or that of a folder of shards."""
    return path if path.endswith(".parquet") else os.path.join(path, FILE)


def check_set_aside(where: str, folders: Iterable[str]) -> bool:
    """Nothing that is validated on may be in the shards of another stage; whether that is known.

    Args:
      where: shards or a Parquet file with the ``id`` of documents; without ids nothing is known.
      folders: shards that are trained on.

    Raises:
      InputError: some hold such documents; it names one.
    """
    with pq.ParquetFile(_place(where)) as file:
        if "id" not in file.schema_arrow.names:
            return False
        aside = file.read(columns=["id"])["id"].combine_chunks()
    for folder in sorted(set(folders)):
        for shard in ShardSet.open(folder).shards:
            known = shard.documents().select(["id", "url"])
            both = known.filter(pc.is_in(known["id"], aside))
            if len(both):
                raise InputError(
                    f"{folder} holds documents that {where} set aside for validation, such as "
                    f"{both['url'][0].as_py()}; pack it with --held-out {where}"
                )
    return True


def _check_texts(place: str, schema: pa.Schema) -> None:
    if "text" not in schema.names:
        raise InputError(f"{place} has no column 'text', but {', '.join(schema.names)}")
    for name in HELD_OUT:
        kind = schema.field(name).type if name in schema.names else pa.string()
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise InputError(f"{place}: the column {name!r} is of {kind} and holds no texts")
