"""The store of adapters: its budget, its pins, what it counts, and what other policies would."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_here import SHAPE

from runtime.adapter_files import WEIGHTS, AdapterError, write_adapter
from runtime.adapter_store import (
    AdapterStore,
    Counts,
    StoreError,
    belady,
    compare,
    grouped,
    least_recent,
)
from runtime.adapters import LoadedAdapter

BASE = "ab" * 32
NAMES = "abcdef"
traces = st.lists(st.sampled_from(NAMES), max_size=40)


def sized(name: str, halves: int) -> LoadedAdapter:
    return LoadedAdapter({}, {}, 1, BASE, name, 8, 2 * halves)


def store(budget, sizes=None, **options):
    """A store whose adapters have so many bytes; each lies in the folder of its name."""
    sizes = sizes or dict.fromkeys(NAMES, 2)
    return AdapterStore(
        {name: name for name in sizes}, SHAPE, BASE, budget,
        load=lambda name: sized(name, sizes[name] // 2), **options,
    )  # fmt: skip


@given(
    st.lists(st.integers(0, 2), min_size=6, max_size=6), st.integers(4, 12),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["get", "get", "pin", "unpin"])),
             min_size=20, max_size=40),
)  # fmt: skip
def test_the_budget_is_kept_and_what_is_pinned_stays(halves, budget, actions):
    own = store(budget, {name: 2 * n for name, n in zip(NAMES, halves, strict=True)})
    pins = []
    asked = evicted = 0
    for name, action in actions:
        before = set(own.held)
        if action == "unpin":
            if pins:
                pins.pop(0)[1].__exit__(None, None, None)
            continue
        asked += 1
        try:
            if action == "get":
                own.get(name)
            else:
                pin = own.active(name)
                pin.__enter__()
                pins.append((name, pin))
            assert name in own.held
        except StoreError:
            needed = sum(2 * halves[NAMES.index(n)] for n in {*(p for p, _ in pins), name})
            assert needed > budget
            assert set(own.held) == before
        evicted += len(before - set(own.held))
        assert own.nbytes <= budget
        assert {pinned for pinned, _ in pins} <= set(own.held)
    assert own.counts.hits + own.counts.misses == asked
    assert own.counts.evictions == evicted


@given(traces, st.integers(1, 7))
def test_a_store_of_equal_adapters_counts_as_lru_does(trace, slots):
    own = store(2 * slots)
    for name in trace:
        assert own.get(name).sha256 == name
    assert own.counts == least_recent(trace, slots)


def test_the_one_used_longest_ago_goes_first():
    own = store(6)
    for name in "abcad":
        own.get(name)
    assert own.held == ("c", "a", "d")
    assert own.counts == Counts(hits=1, misses=4, evictions=1)
    with own.active("c", "d") as found:
        assert [adapter.sha256 for adapter in found] == ["c", "d"]
        own.get("b")
        assert own.held == ("c", "d", "b")
        with own.active("c"):
            pass
        own.get("a")
        assert set(own.held) == {"c", "d", "a"}
    for name in "be":
        own.get(name)
    assert "d" not in own.held


def test_what_does_not_fit_is_refused_and_pins_nothing():
    own = store(4)
    with pytest.raises(StoreError, match="'c' takes 2 bytes, and 4 of the budget of 4 are pinned"):
        own.active("a", "b", "c").__enter__()
    assert [own.get(name).sha256 for name in "cdef"] == list("cdef")
    with pytest.raises(StoreError, match="'a' takes 2 bytes, and 0 of the budget of 1"):
        store(1).get("a")
    with pytest.raises(StoreError, match="no adapter 'x'; there are a, b"):
        own.get("x")
    with pytest.raises(StoreError, match="a budget of -1"):
        store(-1)


def fewest_misses(trace, slots):
    """By trying every choice."""
    states = {frozenset(): 0}
    for name in trace:
        after: dict[frozenset, int] = {}
        for held, misses in states.items():
            if name in held:
                reached, cost = [held], misses
            elif len(held) < slots:
                reached, cost = [held | {name}], misses + 1
            else:
                reached, cost = [held - {gone} | {name} for gone in held], misses + 1
            for new in reached:
                after[new] = min(cost, after.get(new, cost))
        states = after
    return min(states.values())


@given(traces, st.integers(1, 7))
def test_no_policy_misses_less_than_beladys(trace, slots):
    found = compare(trace, slots)
    assert found["belady"].misses == fewest_misses(trace, slots)
    assert found["belady"].misses <= found["lru"].misses
    assert found["grouped"].misses == len(set(trace)) <= found["belady"].misses
    for counts in found.values():
        assert counts.hits + counts.misses == len(trace)
    for name in ("lru", "belady"):
        assert found[name].evictions == max(0, found[name].misses - slots)


def test_lru_loses_where_a_loop_is_one_too_long():
    trace = list(itertools.islice(itertools.cycle("abc"), 12))
    assert least_recent(trace, 2) == Counts(0, 12, 10)
    assert belady(trace, 2).misses == 7
    assert grouped(trace) == Counts(9, 3, 2)
    with pytest.raises(StoreError, match="0 adapters at a time"):
        belady(trace, 0)


def test_adapters_on_disk_are_read_and_checked(tmp_path):
    folders = {}
    for seed, name in enumerate("ab"):
        rng = np.random.default_rng(seed)
        factors = {"layers.0.q": (rng.random((4, 96)), rng.random((128, 4)))}
        folders[name] = str(tmp_path / name)
        write_adapter(folders[name], factors, BASE)
    size = 16 * (96 + 4) + 128 * 4 + 64  # A has 16 rows, most of them empty; 8 scales of B
    own = AdapterStore(folders, SHAPE, BASE, size)
    first = own.get("a")
    assert (first.nbytes, first.scale) == (size, 1.0)
    own.get("b")
    assert own.get("a").sha256 == first.sha256
    assert own.counts == Counts(0, 3, 2)
    own.get("b")
    (tmp_path / "a" / WEIGHTS).write_bytes((tmp_path / "b" / WEIGHTS).read_bytes())
    with pytest.raises(AdapterError, match="those of 'a' have .* damaged or another"):
        own.get("a")
    assert own.held == ("b",)
    told = AdapterStore(folders, SHAPE, BASE, size, checksums={"b": "0" * 64})
    with pytest.raises(AdapterError, match="those of 'b' have 0000000000000000"):
        told.get("b")
    with pytest.raises(AdapterError, match="is for the base abab"):
        AdapterStore(folders, SHAPE, "cd" * 32, size).get("a")
