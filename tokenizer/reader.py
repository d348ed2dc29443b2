"""The stream of windows that a trainer reads: shuffled, mixed, resumable, shared by hosts.

The stream is one for all hosts: its place ``p`` belongs to host ``p mod hosts``. A state is a place
in that stream, so it is the same on every host and holds for another number of hosts or another
batch as well.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.mixture import Plan, natural
from tokenizer.permutation import Permutation
from tokenizer.schedule import Schedule
from tokenizer.shard_set import OpenShard, ShardSet

Batch = dict[str, NDArray[np.int32]]
STATE_VERSION = 1


class StateError(ValueError):
    """A state that does not belong to this stream."""


class _Part:
    """The windows of one component, one epoch after the other, each shuffled anew."""

    def __init__(self, shards: list[OpenShard], key: str) -> None:
        self._shards = shards
        self._ends = np.cumsum([shard.windows for shard in shards]).tolist()
        self._key = key
        self._epoch = -1
        self._order = Permutation(1, "")

    def window(self, number: int) -> tuple[OpenShard, int]:
        """The shard and window that come as this component's ``number``-th."""
        epoch, place = divmod(number, self._ends[-1])
        if epoch != self._epoch:
            self._order = Permutation(self._ends[-1], f"{self._key}/{epoch}")
            self._epoch = epoch
        chosen = self._order[place]
        shard = bisect.bisect_right(self._ends, chosen)
        return self._shards[shard], chosen - (self._ends[shard - 1] if shard else 0)


class WindowReader:
    """Iterates over batches of windows, as ``numpy`` arrays that JAX and PyTorch take as they are.

    A batch is a dict of int32 arrays, each (batch, length): ``tokens``; ``segments``, which count
    the pieces of a window from 1 and are 0 in padding; ``positions``, which begin anew at 0 in each
    piece and are 0 in padding.

    It ends with the plan. Windows at the end that do not fill a batch on every host are left out
    (``dropped`` tells how many) unless ``drop_last`` is false; then hosts may get fewer, or none.
    """

    def __init__(
        self,
        shards: ShardSet,
        plan: Plan | None = None,
        *,
        seed: int = 0,
        batch: int = 1,
        host: int = 0,
        hosts: int = 1,
        drop_last: bool = True,
        beside: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
    ) -> None:
        """Without a plan, every window is read once.

        ``beside`` are further arrays like the tokens, by what batches shall call them and by name
        of shard: (windows, length) each, such as the labels of a teacher.

        Raises:
          ValueError: a batch below 1, a host that is not one of the hosts, a plan that takes
            what these shards do not hold, or an array beside a shard that is not as large.
        """
        if batch < 1:
            raise ValueError(f"a batch of {batch}; it must be at least 1")
        if not 0 <= host < hosts:
            raise ValueError(
                f"host {host} of {hosts}; hosts count from 0 to one less than their number"
            )
        self._shards = shards
        self.plan = plan or natural("natural", shards.windows(), shards.length)
        check_plan(self.plan, shards)
        self._seed, self._batch, self._host, self._hosts = seed, batch, host, hosts
        by_source: dict[str, list[OpenShard]] = {}
        for shard in shards.shards:
            if shard.windows:
                by_source.setdefault(shard.source, []).append(shard)
        self._parts = [
            _Part([shard for source in part.sources for shard in by_source[source]],
                  f"{seed}/{part.name}")
            for part in self.plan.parts
        ]  # fmt: skip
        self._schedule = Schedule([part.windows for part in self.plan.parts])
        self._drop_last = drop_last
        self._beside = dict(beside or {})
        _check_beside(self._beside, shards)

    @property
    def dropped(self) -> int:
        """Windows at the end of the plan that no host gets."""
        return self.plan.windows % (self._batch * self._hosts) if self._drop_last else 0

    def __len__(self) -> int:
        """Batches from the start to the end of the plan, on this host."""
        whole, rest = divmod(self.plan.windows, self._batch * self._hosts)
        return whole + (not self._drop_last and rest > self._host)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the present place on."""
        while True:
            step = self._step()
            if step is None:
                return
            if step:
                yield self._gather(step)

    def _step(self) -> list[tuple[OpenShard, int]] | None:
        """Move past one batch of every host; gives this host's windows, ``None`` at the end."""
        wanted = self._batch * self._hosts
        left = self.plan.windows - sum(self._schedule.taken)
        if left == 0 or (left < wanted and self._drop_last):
            return None
        mine = []
        for turn in range(min(wanted, left)):
            component = self._schedule.next()
            if turn % self._hosts == self._host:
                number = self._schedule.taken[component] - 1
                mine.append(self._parts[component].window(number))
        return mine

    def _gather(self, step: list[tuple[OpenShard, int]]) -> Batch:
        batch = gather(step, len(step), self._shards.length)
        for name, arrays in self._beside.items():
            found = [arrays[shard.name][window] for shard, window in step]
            batch[name] = np.stack(found).astype(np.int32)
        return batch

    # --- state ----------------------------------------------------------------------------------

    def _identity(self) -> str:
        """What the stream depends on."""
        parts = [[p.name, list(p.sources), p.windows] for p in self.plan.parts]
        content = [self._shards.digest, self._seed, parts]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def get_state(self) -> dict[str, Any]:
        """The place in the stream, as JSON can hold it; the same on all hosts after equally many
        batches."""
        return {
            "version": STATE_VERSION,
            "stream": self._identity(),
            "taken": list(self._schedule.taken),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a place: what follows is what would have followed there.

        Raises:
          StateError: the state is of other shards, another seed or another plan, or damaged.
        """
        if state.get("version") != STATE_VERSION or not isinstance(state.get("taken"), list):
            raise StateError("this is no state of a reader of windows, or of another version")
        if state.get("stream") != self._identity():
            raise StateError(
                "this state belongs to another stream: other shards, another seed or another "
                "mixture; give the reader those it was saved with"
            )
        try:
            self._schedule = Schedule([part.windows for part in self.plan.parts], state["taken"])
        except (ValueError, TypeError) as error:
            raise StateError(f"a damaged state: {error}") from None


def gather(windows: Sequence[tuple[OpenShard, int]], rows: int, length: int) -> Batch:
    """A batch of some windows; rows beyond them are padding."""
    batch = {
        name: np.zeros((rows, length), np.int32) for name in ("tokens", "segments", "positions")
    }
    for row, (shard, window) in enumerate(windows):
        lengths = shard.window_pieces(window)["length"].astype(np.int64)
        filled = int(lengths.sum())
        begins = np.cumsum(lengths) - lengths
        batch["tokens"][row] = shard.tokens[window]
        batch["segments"][row, :filled] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
        batch["positions"][row, :filled] = np.arange(filled) - np.repeat(begins, lengths)
    return batch


def _check_beside(beside: Mapping[str, Mapping[str, NDArray[Any]]], shards: ShardSet) -> None:
    for name, arrays in beside.items():
        for shard in shards.shards:
            found = arrays[shard.name].shape if shard.name in arrays else None
            if found != shard.tokens.shape:
                raise ValueError(
                    f"{name!r} beside the shard {shard.name} is of {found}, and its tokens are of "
                    f"{shard.tokens.shape}"
                )


def check_plan(plan: Plan, shards: ShardSet) -> None:
    """Raises ``ValueError`` where a plan was not made for these shards."""
    if plan.sequence_length != shards.length:
        raise ValueError(
            f"the mixture {plan.name!r} is for windows of {plan.sequence_length} tokens, and these "
            f"shards have {shards.length}; pack with --sequence-length {plan.sequence_length}"
        )
    windows = shards.windows()
    for part in plan.parts:
        found = sum(windows.get(source, 0) for source in part.sources)
        if found != part.available or not all(windows.get(source) for source in part.sources):
            raise ValueError(
                f"the plan counts on {part.available} windows of {part.name!r}, and these shards "
                f"hold {found}; make the plan from them"
            )
