"""A teacher's labels beside token shards: for each token what the teacher takes to follow it.

Distillation as in AFM 2024 (arXiv 2407.21075, section 4.1) needs the teacher's first choice alone:
one id a token, computed once and read for as many epochs and students as there are. A label file
lies beside each shard's tokens, of the same dimensions and type.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tokenizer.reader import gather
from tokenizer.shard_set import OpenShard, ShardSet
from trainer.checkpoint import digest
from trainer.headed import read_headed, write_headed
from trainer.loss import from_chunks, logits_of, to_chunks
from trainer.model import Params, Windows, hidden_states
from trainer.model_files import Model
from trainer.shape import Shape

FORMAT = "cidermill-labels"
VERSION = 1
INDEX = "labels.json"
ROWS_TOKENS = 2048
OTHER = {"teacher": "another teacher", "shards": "other shards"}


class LabelError(ValueError):
    """Labels that are not there, are damaged, or belong to other shards."""


def write_labels(
    teacher: Model, shards: ShardSet, folder: str, seen: Callable[[int], None] | None = None,
    *, anew: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Label every window of a set of shards; gives the index, which is written last.

    What is there of the same teacher and whole is kept, so that labelling goes on where it was
    stopped.

    Args:
      anew: keep nothing of what is there, not of another teacher or other shards either.

    Raises:
      LabelError: the teacher's tokenizer is not the shards', or the folder holds labels of another
        teacher or of other shards.
    """
    if teacher.tokenizer.sha256 != shards.index["tokenizer"]["sha256"]:
        raise LabelError(
            "the teacher was trained with another tokenizer than these shards; its labels would "
            "be other words"
        )
    os.makedirs(folder, exist_ok=True)
    identity = {"teacher": teacher.card["weights_sha256"], "shards": shards.digest}
    index_path = os.path.join(folder, INDEX)
    done = {} if anew else _found(index_path, identity, folder)
    if anew:
        # From here on the folder is this teacher's, so that labelling can be gone on with.
        _write_index(index_path, identity, done, complete=False)
    params = {name: jnp.asarray(value) for name, value in teacher.params.items()}
    label = jax.jit(partial(_first_choice, shape=teacher.shape))
    for shard in shards.shards:
        if shard.name not in done:
            labels, agreed, predicted = _label(shard, params, label, seen)
            name = f"{shard.name}.labels.npy"
            path = os.path.join(folder, name)
            np.save(f"{path}.writing.npy", labels, allow_pickle=False)
            os.replace(f"{path}.writing.npy", path)
            done[shard.name] = {
                "file": name, "sha256": digest(path), "agreed": agreed, "predicted": predicted,
            }  # fmt: skip
            _write_index(index_path, identity, done, complete=False)
        elif seen is not None:
            seen(shard.tokens.size)
    return _write_index(index_path, identity, done, complete=True)


def open_labels(folder: str, shards: ShardSet) -> dict[str, NDArray[Any]]:
    """The labels of each shard, (windows, length), mapped into memory.

    Raises:
      LabelError: they are not complete, belong to other shards, or a file is damaged.
    """
    path = os.path.join(folder, INDEX)
    index = _read(path)
    if index is None or not index.get("complete"):
        raise LabelError(f"{folder} holds no complete labels; run `cidermill label` (again)")
    if index.get("shards") != shards.digest:
        raise LabelError(
            f"the labels in {folder} are of other shards than those in {shards.folder}; run "
            "`cidermill label` on these"
        )
    done = index.get("shards_done")
    found = {}
    for shard in shards.shards:
        entry = done.get(shard.name) if isinstance(done, dict) else None
        name = f"{shard.name}.labels.npy"
        place = os.path.join(folder, name)
        if not isinstance(entry, dict) or entry.get("file") != name or not os.path.isfile(place):
            raise LabelError(
                f"{folder} has no labels of the shard {shard.name}; run `cidermill label` again"
            )
        if digest(place) != entry.get("sha256"):
            raise LabelError(
                f"{place} is damaged: its digest is not that of {INDEX}; run `cidermill label` "
                "again"
            )
        try:
            found[shard.name] = np.load(place, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise LabelError(f"{place} cannot be read: {error}") from None
        own = found[shard.name]
        if own.shape != shard.tokens.shape or own.dtype != shard.tokens.dtype:
            raise LabelError(
                f"{place} holds {own.dtype} of {own.shape}, and the shard {shard.name} "
                f"{shard.tokens.dtype} of {shard.tokens.shape}; run `cidermill label` again"
            )
    return found


def _write_index(
    path: str, identity: Mapping[str, str], done: Mapping[str, Any], *, complete: bool
) -> dict[str, Any]:
    index = {**identity, "complete": complete, "shards_done": done}
    write_headed(path, FORMAT, VERSION, index)
    return index


def _label(
    shard: OpenShard, params: Params, label: Callable[..., jax.Array],
    seen: Callable[[int], None] | None,
) -> tuple[NDArray[Any], int, int]:  # fmt: skip
    """Labels of a shard, how many are the data's own next token, and how many could be."""
    labels = np.zeros(shard.tokens.shape, shard.tokens.dtype)
    rows = max(1, ROWS_TOKENS // shard.tokens.shape[1])
    agreed = predicted = 0
    for start in range(0, shard.windows, rows):
        end = min(start + rows, shard.windows)
        batch = gather([(shard, n) for n in range(start, end)], rows, labels.shape[1])
        windows = Windows(**{name: jnp.asarray(value) for name, value in batch.items()})
        found = np.asarray(label(params, windows))[: end - start]
        labels[start:end] = found
        tokens, segments = batch["tokens"][: end - start], batch["segments"][: end - start]
        same = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        agreed += int((same & (found[:, :-1] == tokens[:, 1:])).sum())
        predicted += int(same.sum())
        if seen is not None:
            seen(tokens.size)
    return labels, agreed, predicted


def _first_choice(params: Params, windows: Windows, shape: Shape) -> jax.Array:
    """The likeliest next token at each place: (rows, tokens)."""
    hidden = hidden_states(params, shape, windows)
    chunks = to_chunks(hidden)
    return from_chunks(
        jax.lax.map(lambda h: logits_of(h, params["embedding"]).argmax(-1), chunks),
        hidden.shape[1],
    )


def _found(path: str, identity: Mapping[str, str], folder: str) -> dict[str, Any]:
    """What an earlier run has left of the same teacher and shards, files that are whole alone."""
    index = _read(path)
    if index is None:
        return {}
    for key, value in identity.items():
        if index.get(key) != value:
            raise LabelError(
                f"{folder} holds labels of {OTHER[key]}; give another folder with --to, or "
                "--restart to replace them"
            )
    done = index.get("shards_done")
    return {
        name: entry
        for name, entry in (done.items() if isinstance(done, dict) else ())
        if os.path.isfile(place := os.path.join(folder, f"{name}.labels.npy"))
        and isinstance(entry, dict)
        and digest(place) == entry.get("sha256")
    }


def _read(path: str) -> dict[str, Any] | None:
    if not os.path.isfile(path):
        return None
    return read_headed(path, FORMAT, VERSION, "the index of labels", LabelError)
