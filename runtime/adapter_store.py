"""Adapters in tiers: folders on disk, a bounded number of bytes in memory, those in use pinned.

What is read is kept until others need the room; the one that was used longest ago goes first, a
pinned one never. In a batch whose work is known beforehand an order by adapter needs no such guess:
``grouped`` and ``belady`` tell what it and the best possible policy would load of the same trace,
so that the counts of a store can be judged.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from runtime.adapter_config import AdapterError
from runtime.adapter_files import read_adapter
from runtime.adapters import ADAPTER_BITS, LoadedAdapter, load_adapter
from runtime.lock import Lock
from runtime.shape import Shape, matrices


class StoreError(ValueError):
    """An adapter that the store lacks or has no room for; the message names the bound."""


@dataclass(frozen=True)
class Counts:
    """What a store has done: adapters found in memory, read from disk, and dropped."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


class AdapterStore:
    """Adapters of one quantized model, by name. Threads may share it.

    Args:
      folders: where each adapter lies, as PEFT keeps it.
      base: SHA-256 of the quantized model.
      budget: bytes of factors in memory, as ``LoadedAdapter.nbytes`` counts them.
      checksums: SHA-256 of the weights of each adapter, compared whenever one is read; of those
        that have none, what is read again must be what was read first.
      bits: of the factors in memory, 8 or 4.
      load: reads an adapter from its folder; default: ``read_adapter`` for this model.

    Raises:
      StoreError: a budget below 0.
    """

    def __init__(
        self, folders: Mapping[str, str], shape: Shape, base: str, budget: int, *,
        checksums: Mapping[str, str] | None = None, bits: int = ADAPTER_BITS,
        load: Callable[[str], LoadedAdapter] | None = None,
    ) -> None:  # fmt: skip
        if budget < 0:
            raise StoreError(f"a budget of {budget} bytes; it must be at least 0")
        self.budget = budget
        self._folders, self._shape, self._base, self._bits = dict(folders), shape, base, bits
        self._checksums = dict(checksums or {})
        self._load = load or self._read
        self._held: OrderedDict[str, LoadedAdapter] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self._counts = Counts()
        self._lock = Lock()

    @property
    def counts(self) -> Counts:
        """Since the store was made."""
        return self._counts

    @property
    def held(self) -> tuple[str, ...]:
        """Names in memory, the one used longest ago first."""
        with self._lock:
            return tuple(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        with self._lock:
            return self._size()

    def get(self, name: str) -> LoadedAdapter:
        """An adapter, from memory or else from disk.

        Raises:
          StoreError: none has this name, or there is no room beside those that are pinned.
          AdapterError: it cannot be read, is damaged, changed on disk, or of another base.
        """
        with self._lock:
            return self._get(name)

    @contextmanager
    def active(self, *names: str) -> Iterator[tuple[LoadedAdapter, ...]]:
        """Adapters that stay in memory within the ``with``. Raises as ``get``."""
        pinned: list[str] = []
        try:
            with self._lock:
                found = []
                for name in names:
                    found.append(self._get(name))
                    self._pins[name] += 1
                    pinned.append(name)
            yield tuple(found)
        finally:
            with self._lock:
                self._pins.subtract(pinned)

    def _get(self, name: str) -> LoadedAdapter:
        if name not in self._folders:
            raise StoreError(f"no adapter {name!r}; there are {', '.join(sorted(self._folders))}")
        if name in self._held:
            self._counts = replace(self._counts, hits=self._counts.hits + 1)
            self._held.move_to_end(name)
            return self._held[name]
        self._counts = replace(self._counts, misses=self._counts.misses + 1)
        found = self._load(self._folders[name])
        wanted = self._checksums.setdefault(name, found.sha256)
        if found.sha256 != wanted:
            raise AdapterError(
                f"{self._folders[name]}: weights of SHA-256 {found.sha256[:16]}, and those of "
                f"{name!r} have {wanted[:16]}: it is damaged or another"
            )
        found.check(self._base)
        self._make_room(name, found.nbytes)
        self._held[name] = found
        return found

    def _read(self, folder: str) -> LoadedAdapter:
        found = read_adapter(folder, self._base, matrices(self._shape))
        return load_adapter(found, self._shape, bits=self._bits)

    def _make_room(self, name: str, size: int) -> None:
        pinned = sum(own.nbytes for held, own in self._held.items() if self._pins[held] > 0)
        if pinned + size > self.budget:
            raise StoreError(
                f"{name!r} takes {size} bytes, and {pinned} of the budget of {self.budget} are "
                "pinned; use fewer at a time, or raise the budget"
            )
        for held in tuple(self._held):
            if self._size() + size <= self.budget:
                return
            if self._pins[held] <= 0:
                del self._held[held]
                self._counts = replace(self._counts, evictions=self._counts.evictions + 1)

    def _size(self) -> int:
        return sum(own.nbytes for own in self._held.values())


def grouped(trace: Sequence[str]) -> Counts:
    """Of a trace that is worked off adapter by adapter: each is read once, and one held."""
    misses = len(set(trace))
    return Counts(len(trace) - misses, misses, max(0, misses - 1))


def least_recent(trace: Sequence[str], slots: int) -> Counts:
    """Of a store that holds ``slots`` adapters of one size."""
    _check_slots(slots)
    held: OrderedDict[str, None] = OrderedDict()
    misses = evictions = 0
    for name in trace:
        if name in held:
            held.move_to_end(name)
            continue
        misses += 1
        if len(held) == slots:
            held.popitem(last=False)
            evictions += 1
        held[name] = None
    return Counts(len(trace) - misses, misses, evictions)


def belady(trace: Sequence[str], slots: int) -> Counts:
    """Of the policy that drops what is used again last, which no other beats in misses where all
    adapters are of one size (Belady, IBM Systems Journal 5(2), 1966, the algorithm MIN)."""
    _check_slots(slots)
    following = [len(trace)] * len(trace)
    seen: dict[str, int] = {}
    for place in range(len(trace) - 1, -1, -1):
        following[place] = seen.get(trace[place], len(trace))
        seen[trace[place]] = place
    held: dict[str, int] = {}  # to the place where each is used again
    misses = evictions = 0
    for place, name in enumerate(trace):
        if name not in held:
            misses += 1
            if len(held) == slots:
                # Of several that are never used again the last by name: any gives the same counts.
                del held[max(held, key=lambda own: (held[own], own))]
                evictions += 1
        held[name] = following[place]
    return Counts(len(trace) - misses, misses, evictions)


def compare(trace: Sequence[str], slots: int) -> dict[str, Counts]:
    """LRU beside the optimum and beside work that is grouped by adapter, of the same trace."""
    return {
        "lru": least_recent(trace, slots),
        "belady": belady(trace, slots),
        "grouped": grouped(trace),
    }


def _check_slots(slots: int) -> None:
    if slots < 1:
        raise StoreError(f"{slots} adapters at a time; it must be at least 1")
